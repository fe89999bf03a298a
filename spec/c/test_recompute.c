/* test_recompute.c: recomputation gives the bits of a pass that keeps everything, in the memory that it promises;
 * accumulation over micro-batches gives the mean over the whole batch, whether or not they divide it. */
#include "mini.h"

static const distac_vit_config configs[3] = {
    {.image = 6, .patch = 3, .channels = 2, .width = 12, .layers = 3, .heads = 3, .mlp = 20, .dim = 7},
    {.image = 4, .patch = 2, .channels = 3, .width = 4, .layers = 1, .heads = 2, .mlp = 16, .dim = 3,
     .activation = DISTAC_ACT_QUICK_GELU},
    {.image = 28, .patch = 7, .channels = 1, .width = 64, .layers = 4, .heads = 4, .mlp = 256, .dim = 32,
     .activation = DISTAC_ACT_QUICK_GELU}};
enum { CLASSES = 5, BATCH = 5 };

typedef struct setting {
    distac_context *context;
    distac_vit *vit;
    distac_tensor *flat, *images;
} setting;

static setting make(const distac_vit_config *config, int32_t dtype, int64_t batch, int32_t threads) {
    setting s = {.context = context_with(threads)};
    OK(distac_vit_create(s.context, config, dtype, &s.vit));
    OK(distac_vit_init(s.vit, 7));
    OK(distac_vit_params(s.vit, &s.flat));
    const int64_t shape[4] = {batch, config->channels, config->image, config->image};
    OK(distac_tensor_create(s.context, dtype, 4, shape, &s.images));
    OK(distac_tensor_random(s.images, 0, 3, 1));
    return s;
}

static void drop(setting *s) {
    distac_tensor_release(s->images);
    distac_tensor_release(s->flat);
    distac_vit_release(s->vit);
    distac_context_release(s->context);
}

static size_t bytes_of(const distac_tensor *t) {
    return (size_t)(distac_tensor_numel(t) * distac_dtype_bytes(distac_tensor_dtype(t)));
}

static distac_tensor *like(const setting *s, const distac_tensor *t) {
    distac_tensor *out = NULL;
    const int64_t n = distac_tensor_numel(t);
    OK(distac_tensor_create(s->context, distac_tensor_dtype(t), 1, &n, &out));
    return out;
}

/* Features and gradient of a forward pass and `passes` backward passes; an inference pass comes between them. */
static void run(const setting *s, int32_t on, int32_t passes, distac_tensor **features, distac_tensor **grads) {
    distac_tensor *between = NULL, *dfeatures = NULL;
    const int64_t shape[2] = {distac_tensor_size(s->images, 0), 0};
    OK(distac_vit_set_recompute(s->vit, on));
    assert_int_equal(distac_vit_get_recompute(s->vit), on);
    OK(distac_vit_forward(s->vit, s->images, features));
    OK(distac_vit_features(s->vit, s->images, &between));
    distac_tensor_release(between);
    const int64_t full[2] = {shape[0], distac_tensor_size(*features, 1)};
    OK(distac_tensor_create(s->context, distac_tensor_dtype(*features), 2, full, &dfeatures));
    OK(distac_tensor_random(dfeatures, 0, 9, 1));
    *grads = like(s, s->flat);
    for (int32_t pass = 0; pass < passes; pass++) OK(distac_vit_backward(s->vit, dfeatures, *grads));
    distac_tensor_release(dfeatures);
}

static void same_bits(void **state) {
    (void)state;
    for (size_t which = 0; which < 3; which++)
        for (int32_t single = 0; single < 2; single++)
            for (int64_t batch = 1; batch <= 33; batch += 16)
                for (int32_t passes = 1; passes <= 2; passes++) {
                    setting s = make(&configs[which], single ? DISTAC_F32 : DISTAC_F64, batch, 2);
                    distac_tensor *f[2], *g[2];
                    for (int32_t on = 0; on < 2; on++) run(&s, on, passes, &f[on], &g[on]);
                    assert_true(norm_of(g[0]) > 0.0);
                    assert_memory_equal(distac_tensor_data(f[0]), distac_tensor_data(f[1]), bytes_of(f[0]));
                    assert_memory_equal(distac_tensor_data(g[0]), distac_tensor_data(g[1]), bytes_of(g[0]));
                    for (int32_t on = 0; on < 2; on++) {
                        distac_tensor_release(f[on]);
                        distac_tensor_release(g[on]);
                    }
                    drop(&s);
                }
}

/* The bound that distac.h states, in bytes. */
static int64_t stated_bound(const distac_vit_config *c, int64_t B, int64_t element, bool recompute) {
    int64_t grid = c->image / c->patch, N = grid * grid + 1, W = c->width, F = c->mlp, L = c->layers;
    int64_t X = 3 * W > F ? 3 * W : F, p = (int64_t)c->channels * c->patch * c->patch;
    int64_t I = 7 * W + 2 * F + c->heads * N + 4, buffers = 16 + 15 * L;
    return 64 * buffers + element * (B * N * (p + 4 * W + X + 2) + B * (5 * W + 2) + L * B * N * W +
                                     B * N * I * (recompute ? 1 : L));
}

static void memory_is_what_is_promised(void **state) {
    (void)state;
    enum { THREADS = 2, IMAGES = 129 };
    for (size_t which = 0; which < 3; which++) {
        const distac_vit_config *config = &configs[which];
        int64_t took[2], held[2], grid = config->image / config->patch, rows = IMAGES * (grid * grid + 1);
        int64_t widest = 3 * config->width > config->mlp ? 3 * config->width : config->mlp;
        int64_t patch = (int64_t)config->channels * config->patch * config->patch;
        if (patch > widest) widest = patch;
        const int64_t scratch = 4 * rows * (widest + 64) + THREADS * (1 << 20);
        setting s = make(config, DISTAC_F32, IMAGES, THREADS);
        distac_tensor *grads = like(&s, s.flat);
        for (int32_t on = 0; on < 2; on++) {
            distac_context_info before, after;
            distac_tensor *f = NULL;
            OK(distac_vit_set_recompute(s.vit, on)); /* frees what the other setting held */
            OK(distac_context_get_info(s.context, &before));
            OK(distac_context_reset_peak(s.context));
            OK(distac_vit_forward(s.vit, s.images, &f));
            OK(distac_vit_backward(s.vit, f, grads)); /* any gradient will do, the features' own values too */
            OK(distac_context_get_info(s.context, &after));
            int64_t workspace = distac_vit_workspace(s.vit, IMAGES, 1);
            held[on] = workspace + (int64_t)bytes_of(f);
            took[on] = after.memory_peak - before.memory_used;
            assert_int_equal(after.memory_used - before.memory_used, held[on]);
            /* scratch depends on how many threads came to work at once */
            assert_true(took[on] >= held[on] && took[on] <= held[on] + scratch);
            assert_true(workspace <= stated_bound(config, IMAGES, 4, on));
            distac_tensor_release(f);
        }
        if (config->layers == 4) assert_true(took[0] > 2 * took[1] && took[0] - took[1] > 2 * scratch);
        if (config->layers == 1) assert_int_equal(held[0], held[1]);
        distac_tensor_release(grads);
        drop(&s);
    }
}

/* With the layers, tokens and proportions of ViT-B/32 the saving is most of the memory: counted, not allocated. */
static void saving_of_twelve_layers(void **state) {
    (void)state;
    static const distac_vit_config config = {.image = 56, .patch = 8, .channels = 3, .width = 192, .layers = 12,
                                             .heads = 3, .mlp = 768, .dim = 128};
    setting s = make(&config, DISTAC_F32, 1, 1);
    double all = (double)distac_vit_workspace(s.vit, 32, 1);
    OK(distac_vit_set_recompute(s.vit, 1));
    assert_true(all >= 5.0 * (double)distac_vit_workspace(s.vit, 32, 1));
    assert_true(distac_vit_workspace(s.vit, 32, 1) <= stated_bound(&config, 32, 4, true));
    drop(&s);
}

static void setting_it(void **state) {
    (void)state;
    setting s = make(&configs[0], DISTAC_F64, 2, 1);
    assert_int_equal(distac_vit_get_recompute(s.vit), 0);
    assert_int_equal(distac_vit_get_recompute(NULL), 0);
    assert_int_equal(distac_vit_set_recompute(s.vit, 2), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "on is 2"));
    assert_int_equal(distac_vit_set_recompute(NULL, 1), DISTAC_EINVAL);
    distac_tensor *f = NULL, *grads = like(&s, s.flat);
    OK(distac_vit_forward(s.vit, s.images, &f));
    OK(distac_vit_set_recompute(s.vit, 0)); /* no change: the pass is still there */
    OK(distac_vit_backward(s.vit, f, grads));
    OK(distac_vit_set_recompute(s.vit, 1));
    assert_int_equal(distac_vit_backward(s.vit, f, grads), DISTAC_ESTATE);
    distac_vit *copy = NULL;
    OK(distac_vit_clone(s.vit, &copy));
    assert_int_equal(distac_vit_get_recompute(copy), 1);
    distac_vit_release(copy);
    distac_tensor_release(f);
    distac_tensor_release(grads);
    drop(&s);
}

typedef struct step_result {
    double *weights;
    distac_step_stats stats;
} step_result;

/* Two steps of fine-tuning (kd 0) or distillation (kd 1) of a batch of five, in micro-batches. */
static step_result steps(const distac_vit_config *config, int32_t dtype, bool kd, int64_t micro, int32_t on,
                         double mixup) {
    setting s = make(config, dtype, BATCH, 2);
    OK(distac_vit_set_recompute(s.vit, on));
    distac_vit *teacher = NULL;
    OK(distac_vit_clone(s.vit, &teacher));
    OK(distac_vit_init(teacher, 8));
    const int64_t shape[2] = {CLASSES, config->dim}, truth[BATCH] = {4, 0, 3, 1, 2};
    distac_tensor *weight = NULL, *labels = labels_of(s.context, BATCH, truth);
    OK(distac_tensor_create(s.context, dtype, 2, shape, &weight));
    OK(distac_tensor_random(weight, 0, 5, 1));
    distac_head *head = NULL;
    OK(distac_head_create(weight, 1, &head));
    distac_optimizer *o = adamw_for(s.context, s.vit, dtype, 1e-3, 0.1);
    const distac_loss_desc loss = {.label_smoothing = 0.1, .mixup = mixup};
    const distac_kd_desc desc = {1.0, 10.0, 0.5, micro};
    distac_trainer *trainer = NULL;
    distac_kd *distiller = NULL;
    step_result out;
    if (kd) OK(distac_kd_create(s.vit, teacher, head, o, &desc, &distiller));
    else OK(distac_trainer_create(s.vit, head, o, NULL, &loss, micro, 1, &trainer));
    for (int32_t step = 0; step < 2; step++) {
        if (kd) OK(distac_kd_step(distiller, s.images, NULL, -1.0, &out.stats));
        else OK(distac_trainer_step(trainer, s.images, labels, -1.0, &out.stats));
    }
    out.weights = values_of(s.flat);
    if (dtype == DISTAC_F64) forget_key_biases(s.vit, out.weights);
    distac_kd_release(distiller);
    distac_trainer_release(trainer);
    distac_optimizer_release(o);
    distac_head_release(head);
    distac_tensor_release(weight);
    distac_tensor_release(labels);
    distac_vit_release(teacher);
    drop(&s);
    return out;
}

static int64_t weights_of(const distac_vit_config *config) {
    setting s = make(config, DISTAC_F64, 1, 1);
    int64_t n = distac_tensor_numel(s.flat);
    drop(&s);
    return n;
}

static void training_steps_have_the_same_bits(void **state) {
    (void)state;
    size_t bytes = (size_t)weights_of(&configs[2]) * sizeof(double);
    for (int32_t kd = 0; kd < 2; kd++)
        for (int64_t micro = 0; micro < 3; micro++) {
            step_result kept = steps(&configs[2], DISTAC_F32, kd, micro, 0, 0.0);
            step_result again = steps(&configs[2], DISTAC_F32, kd, micro, 1, 0.0);
            assert_memory_equal(kept.weights, again.weights, bytes);
            assert_memory_equal(&kept.stats, &again.stats, sizeof kept.stats);
            free(kept.weights);
            free(again.weights);
        }
}

/* 5 images in pieces of 1, 2 (2+2+1), 3 (3+2), 4 (4+1), 5 and 9: the mean is over all five each time. */
static void any_micro_batch_gives_the_mean_of_the_batch(void **state) {
    (void)state;
    static const int64_t micros[6] = {1, 2, 3, 4, 5, 9};
    int64_t n = weights_of(&configs[0]);
    for (int32_t which = 0; which < 3; which++) { /* cross-entropy, Mixup, distillation */
        step_result whole = steps(&configs[0], DISTAC_F64, which == 2, 0, 0, which == 1);
        for (size_t i = 0; i < 6; i++) {
            step_result parts = steps(&configs[0], DISTAC_F64, which == 2, micros[i], 0, which == 1);
            NEAR(parts.stats.loss, whole.stats.loss, 1e-12 * whole.stats.loss);
            NEAR(parts.stats.grad_norm, whole.stats.grad_norm, 1e-11 * whole.stats.grad_norm);
            NEAR(parts.stats.entropy, whole.stats.entropy, 1e-12);
            NEAR(parts.stats.accuracy, whole.stats.accuracy, 1e-12);
            for (int64_t j = 0; j < n; j++) NEAR(parts.weights[j], whole.weights[j], 1e-8);
            free(parts.weights);
        }
        free(whole.weights);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits),
        cmocka_unit_test(memory_is_what_is_promised),
        cmocka_unit_test(saving_of_twelve_layers),
        cmocka_unit_test(setting_it),
        cmocka_unit_test(training_steps_have_the_same_bits),
        cmocka_unit_test(any_micro_batch_gives_the_mean_of_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
