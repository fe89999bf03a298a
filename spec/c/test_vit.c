/* test_vit.c: the encoder and the head against worked numbers, finite differences and their own promises. */
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

/* Cross-entropy of the head's logits and, with grads, its gradient through the encoder. */
static double loss_of(distac_vit *vit, distac_head *head, const distac_tensor *images, const distac_tensor *labels,
                      distac_tensor *grads) {
    distac_loss_desc desc = {.kind = DISTAC_LOSS_CROSS_ENTROPY};
    distac_tensor *f = NULL, *z = NULL, *dz = NULL, *df = NULL;
    double value;
    OK(grads ? distac_vit_forward(vit, images, &f) : distac_vit_features(vit, images, &f));
    OK(distac_head_logits(head, f, &z));
    OK(distac_tensor_cast(z, distac_tensor_dtype(z), &dz));
    OK(distac_loss(&desc, z, labels, dz, &value));
    if (grads) {
        OK(distac_head_backward(head, f, dz, NULL, &df));
        OK(distac_vit_backward(vit, df, grads));
    }
    distac_tensor_release(f);
    distac_tensor_release(z);
    distac_tensor_release(dz);
    distac_tensor_release(df);
    return value;
}

static distac_tensor *gradient_of(const distac_vit *vit, const distac_tensor *grads, const char *name) {
    distac_tensor *p = NULL, *out = NULL;
    int64_t index = param_index(vit, name), offset = 0;
    for (int64_t i = 0; i <= index; i++) {
        OK(distac_vit_param(vit, i, &p));
        if (i < index) offset += distac_tensor_numel(p);
        else OK(distac_tensor_narrow(grads, 0, offset, distac_tensor_numel(p), &out));
        distac_tensor_release(p);
    }
    return out;
}

static void worked_gradients(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double norm;
    } norms[] = {{"visual.conv1.weight", 0.0119086173},
                 {"visual.class_embedding", 0.7884815025},
                 {"visual.proj", 1.7589062721},
                 {BLOCK "0.attn.in_proj_weight", 0.0302945242},
                 {BLOCK "1.mlp.c_fc.weight", 0.0626845642},
                 {"visual.ln_post.bias", 0.0275818336},
                 {BLOCK "0.ln_1.weight", 0.0031184559}};
    static const struct {
        const char *name;
        double value;
    } firsts[] = {{"visual.conv1.weight", -0.0016145809},
                  {"visual.proj", 0.2880644315},
                  {"visual.class_embedding", 0.6378449412}};
    distac_context *c = context_with(2);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_head *head = mini_head(c, DISTAC_F64);
    distac_tensor *images = mini_images(c, DISTAC_F64, 2), *grads = NULL;
    const int64_t truth[2] = {1, 2}, total = 588;
    distac_tensor *labels = labels_of(c, 2, truth);
    OK(distac_tensor_create(c, DISTAC_F64, 1, &total, &grads));
    NEAR(loss_of(vit, head, images, labels, grads), 6.205672538939, 1e-12);
    NEAR(norm_of(grads), 2.091231382492, 1e-12);
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        distac_tensor *g = gradient_of(vit, grads, norms[i].name);
        NEAR(norm_of(g), norms[i].norm, 1e-10);
        distac_tensor_release(g);
    }
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        distac_tensor *g = gradient_of(vit, grads, firsts[i].name);
        NEAR(((const double *)distac_tensor_data(g))[0], firsts[i].value, 1e-10);
        distac_tensor_release(g);
    }
    distac_tensor_release(grads);
    distac_tensor_release(labels);
    distac_tensor_release(images);
    distac_head_release(head);
    distac_vit_release(vit);
    distac_context_release(c);
}

/* ---- gradients by central differences ---- */

typedef struct problem {
    distac_context *context;
    distac_vit *vit;
    distac_head *head;
    distac_tensor *images, *labels, *grads, *flat;
    double *theta;
} problem;

static void problem_make(problem *p, const distac_vit_config *config, int64_t batch, int32_t activation) {
    memset(p, 0, sizeof *p);
    distac_vit_config chosen = *config;
    chosen.activation = activation;
    p->context = context_with(2);
    OK(distac_vit_create(p->context, &chosen, DISTAC_F64, &p->vit));
    OK(distac_vit_init(p->vit, 7));
    OK(distac_vit_params(p->vit, &p->flat));
    /* Every tensor gets a nudge, so that no bias is exactly zero and no LayerNorm exactly one. */
    p->theta = values_of(p->flat);
    for (int64_t i = 0; i < distac_tensor_numel(p->flat); i++) p->theta[i] += 0.05 * sin(1.7 * (double)i + 0.3);
    OK(distac_tensor_write(p->flat, distac_tensor_numel(p->flat), p->theta));
    const int64_t shape[4] = {batch, config->channels, config->image, config->image};
    OK(distac_tensor_create(p->context, DISTAC_F64, 4, shape, &p->images));
    OK(distac_tensor_random(p->images, 0, 3, 1));
    const int64_t classes = 5, weight_shape[2] = {classes, config->dim}, total = distac_tensor_numel(p->flat);
    distac_tensor *weight = NULL;
    OK(distac_tensor_create(p->context, DISTAC_F64, 2, weight_shape, &weight));
    OK(distac_tensor_random(weight, 0, 5, 1));
    OK(distac_head_create(weight, 1, &p->head));
    distac_tensor_release(weight);
    int64_t truth[16];
    for (int64_t i = 0; i < batch; i++) truth[i] = (i * 3 + 1) % classes;
    p->labels = labels_of(p->context, batch, truth);
    OK(distac_tensor_create(p->context, DISTAC_F64, 1, &total, &p->grads));
    (void)loss_of(p->vit, p->head, p->images, p->labels, p->grads);
}

static void problem_free(problem *p) {
    free(p->theta);
    distac_tensor_release(p->grads);
    distac_tensor_release(p->flat);
    distac_tensor_release(p->labels);
    distac_tensor_release(p->images);
    distac_head_release(p->head);
    distac_vit_release(p->vit);
    distac_context_release(p->context);
}

static double moved(problem *p, const double *direction, double step) {
    double *theta = distac_tensor_data(p->flat);
    for (int64_t i = 0; i < distac_tensor_numel(p->flat); i++) theta[i] = p->theta[i] + step * direction[i];
    double loss = loss_of(p->vit, p->head, p->images, p->labels, NULL);
    memcpy(theta, p->theta, (size_t)distac_tensor_numel(p->flat) * sizeof *theta);
    return loss;
}

/* Central difference of fourth order. */
static double difference(problem *p, const double *direction, double h) {
    double near = moved(p, direction, h) - moved(p, direction, -h);
    double far = moved(p, direction, 2.0 * h) - moved(p, direction, -2.0 * h);
    return (8.0 * near - far) / (12.0 * h);
}

static const distac_vit_config odd_config = {.image = 6, .patch = 3, .channels = 2, .width = 12, .layers = 3,
                                             .heads = 3, .mlp = 20, .dim = 7};

static void gradient_along_directions(void **state) {
    (void)state;
    const distac_vit_config *configs[2] = {&mini_config, &odd_config};
    for (int32_t which = 0; which < 2; which++)
        for (int32_t activation = 0; activation < 2; activation++) {
            problem p;
            problem_make(&p, configs[which], 3, activation);
            int64_t n = distac_tensor_numel(p.flat);
            double *direction = malloc((size_t)n * sizeof *direction);
            assert_non_null(direction);
            const double *g = distac_tensor_data(p.grads);
            for (int32_t trial = 0; trial < 4; trial++) {
                distac_rng *rng = NULL;
                OK(distac_rng_create(11, (uint64_t)trial, &rng));
                double exact = 0.0, length = 0.0;
                for (int64_t i = 0; i < n; i++) direction[i] = distac_rng_normal(rng), length += direction[i] * direction[i];
                for (int64_t i = 0; i < n; i++) direction[i] /= sqrt(length), exact += g[i] * direction[i];
                distac_rng_release(rng);
                NEAR(difference(&p, direction, 1e-3) / exact, 1.0, 1e-6);
            }
            free(direction);
            problem_free(&p);
        }
}

static void gradient_of_every_tensor(void **state) {
    (void)state;
    for (int32_t activation = 0; activation < 2; activation++) {
        problem p;
        problem_make(&p, &odd_config, 2, activation);
        int64_t n = distac_tensor_numel(p.flat), offset = 0;
        double *direction = calloc((size_t)n, sizeof *direction), worst = 0.0;
        assert_non_null(direction);
        const double *g = distac_tensor_data(p.grads);
        double scale = norm_of(p.grads) / sqrt((double)n);
        for (int64_t i = 0; i < distac_vit_param_count(p.vit); i++) {
            distac_tensor *t = NULL;
            OK(distac_vit_param(p.vit, i, &t));
            int64_t count = distac_tensor_numel(t);
            for (int64_t sample = 0; sample < 6; sample++) {
                int64_t at = offset + (sample * 97 + 5) % count;
                direction[at] = 1.0;
                double numeric = difference(&p, direction, 1e-3);
                direction[at] = 0.0;
                worst = fmax(worst, fabs(numeric - g[at]));
                NEAR(numeric, g[at], 1e-6 * (fabs(g[at]) + scale));
            }
            offset += count;
            distac_tensor_release(t);
        }
        assert_true(worst > 0.0); /* the differences were taken */
        free(direction);
        problem_free(&p);
    }
}

static void head_gradients(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    for (int32_t normalize = 0; normalize < 2; normalize++) {
        double wv[12], fv[8], dv[6];
        for (int32_t i = 0; i < 12; i++) wv[i] = sin(1.1 * i + 0.2);
        for (int32_t i = 0; i < 8; i++) fv[i] = cos(0.9 * i) + 0.1;
        for (int32_t i = 0; i < 6; i++) dv[i] = sin(0.4 * i + 1.0);
        distac_tensor *w = tensor2(c, DISTAC_F64, 3, 4, wv), *f = tensor2(c, DISTAC_F64, 2, 4, fv);
        distac_tensor *dz = tensor2(c, DISTAC_F64, 2, 3, dv), *dw = tensor2(c, DISTAC_F64, 3, 4, NULL);
        distac_tensor *df = NULL, *weight = NULL;
        distac_head *head = NULL;
        OK(distac_tensor_fill(dw, 1.0)); /* added to, not overwritten */
        OK(distac_head_create(w, normalize, &head));
        OK(distac_head_backward(head, f, dz, dw, &df));
        OK(distac_head_weight(head, &weight));
        double *gw = values_of(dw), *gf = values_of(df), *at_f = distac_tensor_data(f), *at_w = distac_tensor_data(weight);
        const double h = 1e-5;
        for (int32_t i = 0; i < 20; i++) {
            double *x = i < 12 ? &at_w[i] : &at_f[i - 12], kept = *x, side[2];
            for (int32_t s = 0; s < 2; s++) {
                distac_tensor *z = NULL;
                *x = kept + (s ? h : -h);
                OK(distac_head_logits(head, f, &z));
                const double *zv = distac_tensor_data(z);
                side[s] = 0.0;
                for (int32_t j = 0; j < 6; j++) side[s] += zv[j] * dv[j];
                distac_tensor_release(z);
            }
            *x = kept;
            NEAR((side[1] - side[0]) / (2.0 * h), i < 12 ? gw[i] - 1.0 : gf[i - 12], 1e-8);
        }
        free(gw);
        free(gf);
        distac_tensor_release(df);
        distac_tensor_release(dw);
        distac_tensor_release(dz);
        distac_tensor_release(f);
        distac_tensor_release(w);
        distac_tensor_release(weight);
        distac_head_release(head);
    }
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
    const distac_vit_config config = {.image = 28, .patch = 7, .channels = 1, .width = 128, .layers = 4, .heads = 4,
                                      .mlp = 512, .dim = 64, .activation = EXACT};
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
        cmocka_unit_test(worked_gradients),
        cmocka_unit_test(gradient_along_directions),
        cmocka_unit_test(gradient_of_every_tensor),
        cmocka_unit_test(head_gradients),
        cmocka_unit_test(inference_in_slices_equals_forward),
        cmocka_unit_test(workspace_is_what_is_used),
        cmocka_unit_test(backward_needs_a_forward),
        cmocka_unit_test(clone_shares_nothing),
        cmocka_unit_test(initialisation),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(checkpoint_round_trip),
        cmocka_unit_test(misfits_are_listed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
