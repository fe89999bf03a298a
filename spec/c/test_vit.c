/* test_vit.c: the encoder against worked numbers and its own promises; checkpoints. */
#include "mini.h"

enum { QUICK = DISTAC_ACT_QUICK_GELU, EXACT = DISTAC_ACT_GELU };
#define BLOCK "visual.transformer.resblocks."

/* ---- worked numbers ---- */

static void features_and_logits(void **state) {
    (void)state;
    static const double features[6] = {-0.6339853634, -1.1720998794, -1.5515761754,
                                       -0.5649039328, -1.1348187449, -1.5511411636};
    static const double logits[6] = {-5.6255967402, 6.4180101738, -5.9790916704,
                                     -5.5174915388, 6.3845778358, -6.0267463810};
    static const double gelu[3] = {-5.62436400060, 6.41765802197, -5.97968766869};
    distac_context *c = context_with(2);
    distac_tensor *images = mini_images(c, DISTAC_F64, 2);
    distac_head *head = mini_head(c, DISTAC_F64);
    for (int32_t activation = 0; activation < 2; activation++)
        for (int32_t kept = 0; kept < 2; kept++) {
            distac_vit *vit = mini_vit(c, DISTAC_F64, activation);
            distac_tensor *f = NULL, *z = NULL;
            OK(kept ? distac_vit_forward(vit, images, &f) : distac_vit_features(vit, images, &f));
            OK(distac_head_logits(head, f, &z));
            double *fv = values_of(f), *zv = values_of(z);
            for (int32_t i = 0; activation == QUICK && i < 6; i++) {
                NEAR(fv[i], features[i], 1e-10);
                NEAR(zv[i], logits[i], 1e-10);
            }
            for (int32_t i = 0; activation == EXACT && i < 3; i++) NEAR(zv[i], gelu[i], 1e-10);
            free(fv);
            free(zv);
            distac_tensor_release(f);
            distac_tensor_release(z);
            distac_vit_release(vit);
        }
    distac_head_release(head);
    distac_tensor_release(images);
    distac_context_release(c);
}

/* ---- promises ---- */

static void inference_in_slices_equals_forward(void **state) {
    (void)state;
    distac_context *c = context_with(2);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_tensor *images = mini_images(c, DISTAC_F64, 300), *a = NULL, *b = NULL;
    OK(distac_vit_features(vit, images, &a));
    OK(distac_vit_forward(vit, images, &b));
    double *av = values_of(a), *bv = values_of(b);
    for (int32_t i = 0; i < 900; i++) NEAR(av[i], bv[i], 1e-12);
    free(av);
    free(bv);
    distac_tensor_release(a);
    distac_tensor_release(b);
    distac_tensor_release(images);
    distac_vit_release(vit);
    distac_context_release(c);
}

static int64_t memory_used(distac_context *c) {
    distac_context_info info;
    OK(distac_context_get_info(c, &info));
    return info.memory_used;
}

static void workspace_is_what_is_used(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *vit = mini_vit(c, DISTAC_F32, QUICK);
    distac_tensor *images = mini_images(c, DISTAC_F32, 100), *few = NULL;
    OK(distac_tensor_narrow(images, 0, 0, 20, &few));
    for (int32_t training = 0; training < 2; training++) {
        distac_tensor *f = NULL;
        int64_t before = memory_used(c);
        OK(training ? distac_vit_forward(vit, few, &f) : distac_vit_features(vit, few, &f));
        distac_tensor_release(f);
        int64_t first = memory_used(c);
        assert_int_equal(first - before, distac_vit_workspace(vit, 20, training));
        OK(training ? distac_vit_forward(vit, images, &f) : distac_vit_features(vit, images, &f));
        distac_tensor_release(f);
        int64_t grown = memory_used(c);
        assert_int_equal(grown - before, distac_vit_workspace(vit, 100, training));
        OK(training ? distac_vit_forward(vit, few, &f) : distac_vit_features(vit, few, &f));
        distac_tensor_release(f);
        assert_int_equal(memory_used(c), grown); /* kept, not allocated again */
    }
    assert_true(distac_vit_workspace(vit, 1000, 0) == distac_vit_workspace(vit, 2000, 0)); /* slices */
    distac_tensor_release(few);
    distac_tensor_release(images);
    distac_vit_release(vit);
    assert_int_equal(memory_used(c), 0);
    distac_context_release(c);
}

static void backward_needs_a_forward(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_tensor *df = tensor2(c, DISTAC_F64, 2, 3, NULL), *grads = NULL, *images = mini_images(c, DISTAC_F64, 2);
    const int64_t total = 588;
    OK(distac_tensor_create(c, DISTAC_F64, 1, &total, &grads));
    assert_int_equal(distac_vit_backward(vit, df, grads), DISTAC_ESTATE);
    distac_tensor *f = NULL;
    OK(distac_vit_features(vit, images, &f)); /* inference keeps nothing */
    distac_tensor_release(f);
    assert_int_equal(distac_vit_backward(vit, df, grads), DISTAC_ESTATE);
    OK(distac_vit_forward(vit, images, &f));
    distac_tensor_release(f);
    OK(distac_vit_backward(vit, df, grads));
    distac_tensor *wrong = tensor2(c, DISTAC_F64, 3, 3, NULL);
    assert_int_equal(distac_vit_backward(vit, wrong, grads), DISTAC_ESHAPE);
    distac_tensor_release(wrong);
    distac_tensor_release(images);
    distac_tensor_release(grads);
    distac_tensor_release(df);
    distac_vit_release(vit);
    distac_context_release(c);
}

static void clone_shares_nothing(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *a = mini_vit(c, DISTAC_F64, QUICK), *b = NULL;
    distac_tensor *pa = NULL, *pb = NULL;
    OK(distac_vit_clone(a, &b));
    OK(distac_vit_params(a, &pa));
    OK(distac_vit_params(b, &pb));
    assert_memory_equal(distac_tensor_data(pa), distac_tensor_data(pb), 588 * sizeof(double));
    OK(distac_tensor_fill(pa, 2.0));
    NEAR(((double *)distac_tensor_data(pb))[0], 0.5 * sin(0.37), 1e-15);
    distac_tensor_release(pa);
    distac_vit_release(a);
    NEAR(((double *)distac_tensor_data(pb))[587], 0.5 * sin(0.37 * 588), 1e-15);
    distac_tensor_release(pb);
    distac_vit_release(b);
    distac_context_release(c);
}

static void initialisation(void **state) {
    (void)state;
    distac_context *c = context_with(2);
    const distac_vit_config config = {.image = 28,
                                      .patch = 7,
                                      .channels = 1,
                                      .width = 128,
                                      .layers = 4,
                                      .heads = 4,
                                      .mlp = 512,
                                      .dim = 64,
                                      .activation = EXACT};
    distac_vit *a = NULL, *b = NULL;
    OK(distac_vit_create(c, &config, DISTAC_F32, &a));
    OK(distac_vit_create(c, &config, DISTAC_F32, &b));
    OK(distac_vit_init(a, 5));
    OK(distac_vit_init(b, 5));
    distac_tensor *pa = NULL, *pb = NULL;
    OK(distac_vit_params(a, &pa));
    OK(distac_vit_params(b, &pb));
    size_t bytes = (size_t)distac_tensor_numel(pa) * sizeof(float);
    assert_memory_equal(distac_tensor_data(pa), distac_tensor_data(pb), bytes);
    OK(distac_vit_init(b, 6));
    assert_memory_not_equal(distac_tensor_data(pa), distac_tensor_data(pb), bytes);
    static const struct {
        const char *name;
        double deviation;
    } wanted[] = {{"visual.conv1.weight", 1.0 / 7.0},
                  {"visual.positional_embedding", 0.02},
                  {"visual.proj", 0.08838834764831845},
                  {BLOCK "1.attn.in_proj_weight", 0.08838834764831845},
                  {BLOCK "2.attn.out_proj.weight", 0.03125},
                  {BLOCK "3.mlp.c_fc.weight", 0.08838834764831845},
                  {BLOCK "0.mlp.c_proj.weight", 0.015625},
                  {BLOCK "0.mlp.c_proj.bias", 0.0},
                  {"visual.ln_post.weight", 1.0}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        distac_tensor *p = NULL;
        OK(distac_vit_param(a, param_index(a, wanted[i].name), &p));
        double root = norm_of(p) / sqrt((double)distac_tensor_numel(p));
        NEAR(root, wanted[i].deviation, 0.06 * wanted[i].deviation);
        distac_tensor_release(p);
    }
    distac_tensor_release(pa);
    distac_tensor_release(pb);
    distac_vit_release(a);
    distac_vit_release(b);
    distac_context_release(c);
}

/* Parameters and tensors of the published image towers; the memory is never touched. */
static void published_sizes(void **state) {
    (void)state;
    static const struct {
        int32_t patch, width, layers, dim;
        int64_t elements, tensors, tokens;
    } towers[3] = {{32, 768, 12, 512, 87849216, 152, 50}, {16, 768, 12, 512, 86192640, 152, 197},
                   {14, 1024, 24, 768, 303966208, 296, 257}};
    for (int32_t i = 0; i < 3; i++) {
        distac_context *c = context_with(1);
        const distac_vit_config config = {.image = 224, .patch = towers[i].patch, .channels = 3,
                                          .width = towers[i].width, .layers = towers[i].layers,
                                          .heads = towers[i].width / 64, .mlp = 4 * towers[i].width,
                                          .dim = towers[i].dim, .activation = QUICK};
        distac_vit *vit = NULL;
        distac_tensor *flat = NULL, *position = NULL;
        OK(distac_vit_create(c, &config, DISTAC_F32, &vit));
        OK(distac_vit_params(vit, &flat));
        assert_int_equal(distac_tensor_numel(flat), towers[i].elements);
        assert_int_equal(distac_vit_param_count(vit), towers[i].tensors);
        OK(distac_vit_param(vit, param_index(vit, "visual.positional_embedding"), &position));
        assert_int_equal(distac_tensor_size(position, 0), towers[i].tokens);
        distac_tensor_release(position);
        distac_tensor_release(flat);
        distac_vit_release(vit);
        distac_context_release(c);
    }
}

static void bad_configurations(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const struct {
        distac_vit_config config;
        const char *says;
    } cases[] = {{{4, 2, 3, 0, 2, 2, 16, 3, 1}, "width"}, {{4, 3, 3, 4, 2, 2, 16, 3, 1}, "patch is 3"},
                 {{4, 2, 3, 4, 2, 3, 16, 3, 1}, "heads is 3"}, {{4, 2, 3, 4, -1, 2, 16, 3, 1}, "layers is -1"},
                 {{4, 2, 3, 4, 2, 2, 0, 3, 1}, "mlp"}, {{4, 2, 3, 4, 2, 2, 16, 3, 2}, "activation is 2"},
                 {{4, 2, 0, 4, 2, 2, 16, 3, 1}, "channels"}, {{4, 2, 3, 4, 2, 2, 16, 0, 1}, "dim"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        distac_vit *vit = NULL;
        assert_int_equal(distac_vit_create(c, &cases[i].config, DISTAC_F32, &vit), DISTAC_EINVAL);
        assert_null(vit);
        assert_non_null(strstr(distac_last_error(), cases[i].says));
    }
    distac_vit *vit = NULL;
    assert_int_equal(distac_vit_create(c, &mini_config, DISTAC_F16, &vit), DISTAC_EDTYPE);
    vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_tensor *images = mini_images(c, DISTAC_F32, 2), *f = NULL;
    assert_int_equal(distac_vit_features(vit, images, &f), DISTAC_EDTYPE);
    distac_tensor_release(images);
    const int64_t shape[4] = {0, 3, 4, 4};
    OK(distac_tensor_create(c, DISTAC_F64, 4, shape, &images));
    assert_int_equal(distac_vit_features(vit, images, &f), DISTAC_ESHAPE);
    distac_tensor_release(images);
    distac_vit_release(vit);
    distac_context_release(c);
}

/* ---- checkpoints ---- */

static void checkpoint_round_trip(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *a = mini_vit(c, DISTAC_F64, QUICK), *b = NULL;
    distac_checkpoint *copy = NULL, *views = NULL;
    OK(distac_vit_checkpoint(a, 1, &copy));
    OK(distac_vit_checkpoint(a, 0, &views));
    assert_int_equal(distac_checkpoint_count(copy), distac_vit_param_count(a));
    assert_string_equal(distac_checkpoint_metadata(copy, "vit.heads"), "2");
    assert_string_equal(distac_checkpoint_metadata(copy, "vit.activation"), "quick_gelu");
    OK(distac_vit_open(c, copy, -1, 0, DISTAC_F64, &b));
    distac_vit_config config;
    OK(distac_vit_get_config(b, &config));
    assert_memory_equal(&config, &mini_config, sizeof config);
    distac_tensor *pa = NULL, *pb = NULL;
    OK(distac_vit_params(a, &pa));
    OK(distac_vit_params(b, &pb));
    assert_memory_equal(distac_tensor_data(pa), distac_tensor_data(pb), 588 * sizeof(double));
    OK(distac_tensor_fill(pa, 3.0)); /* the views follow, the copy stays */
    OK(distac_vit_load(b, views));
    NEAR(((double *)distac_tensor_data(pb))[100], 3.0, 0.0);
    OK(distac_vit_load(b, copy));
    NEAR(((double *)distac_tensor_data(pb))[0], 0.5 * sin(0.37), 1e-15);
    distac_tensor_release(pa);
    distac_tensor_release(pb);
    distac_vit_release(b);
    OK(distac_checkpoint_set_metadata(copy, "vit.activation", NULL));
    assert_int_equal(distac_vit_open(c, copy, -1, 0, DISTAC_F64, &b), DISTAC_EINVAL); /* never a guess */
    assert_non_null(strstr(distac_last_error(), "vit.activation"));
    OK(distac_checkpoint_set_metadata(copy, "vit.heads", NULL));
    assert_int_equal(distac_vit_open(c, copy, EXACT, 0, DISTAC_F64, &b), DISTAC_EINVAL);
    OK(distac_vit_open(c, copy, EXACT, 4, DISTAC_F32, &b));
    OK(distac_vit_get_config(b, &config));
    assert_int_equal(config.heads, 4);
    assert_int_equal(config.activation, EXACT);
    distac_vit_release(b);
    distac_checkpoint_release(copy);
    distac_checkpoint_release(views);
    distac_vit_release(a);
    distac_context_release(c);
}

static void misfits_are_listed_at_once(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_checkpoint *whole = NULL, *bad = NULL;
    OK(distac_vit_checkpoint(vit, 1, &whole));
    OK(distac_checkpoint_create(c, &bad));
    for (int64_t i = 0; i < distac_checkpoint_count(whole); i++) {
        const char *name = distac_checkpoint_name(whole, i);
        distac_tensor *t = NULL;
        OK(distac_checkpoint_tensor(whole, i, &t));
        if (strcmp(name, "visual.ln_pre.bias") == 0) name = "visual.ln_pre.bais";
        if (strcmp(name, "visual.proj") == 0) {
            distac_tensor_release(t);
            t = tensor2(c, DISTAC_F64, 3, 4, NULL);
        }
        OK(distac_checkpoint_set(bad, name, t));
        distac_tensor_release(t);
    }
    distac_tensor *text = tensor2(c, DISTAC_F32, 2, 2, NULL);
    OK(distac_checkpoint_set(bad, "transformer.resblocks.0.ln_1.weight", text)); /* the text part is not ours */
    distac_tensor_release(text);
    distac_tensor *flat = NULL;
    OK(distac_vit_params(vit, &flat));
    double before = norm_of(flat);
    assert_int_not_equal(distac_vit_load(vit, bad), DISTAC_OK);
    const char *error = distac_last_error();
    assert_non_null(strstr(error, "\"visual.ln_pre.bias\" is missing (nearest: \"visual.ln_pre.bais\")"));
    assert_non_null(strstr(error, "\"visual.proj\" has shape [3,4], wanted [4,3]"));
    assert_non_null(strstr(error, "\"visual.ln_pre.bais\" has no place"));
    assert_null(strstr(error, "\"transformer.resblocks"));
    NEAR(norm_of(flat), before, 0.0);
    distac_tensor_release(flat);
    distac_checkpoint_release(bad);
    distac_checkpoint_release(whole);
    distac_vit_release(vit);
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_and_logits),
        cmocka_unit_test(inference_in_slices_equals_forward),
        cmocka_unit_test(workspace_is_what_is_used),
        cmocka_unit_test(backward_needs_a_forward),
        cmocka_unit_test(clone_shares_nothing),
        cmocka_unit_test(initialisation),
        cmocka_unit_test(published_sizes),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(checkpoint_round_trip),
        cmocka_unit_test(misfits_are_listed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
