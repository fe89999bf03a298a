/* test_device.c: encoder, heads, training and distillation steps on a device
 * beside the same on the CPU, and beside themselves: the same bits in every
 * run, refused steps that change nothing. Skipped where there is no device. */
#include "mini.h"

#include <time.h>

static const distac_vit_config config = {.image = 14, .patch = 7, .channels = 3, .width = 24, .layers = 2,
                                         .heads = 3, .mlp = 40, .dim = 12, .activation = DISTAC_ACT_QUICK_GELU};
enum { BATCH = 6, CLASSES = 5, STEPS = 4 };

/* Small training runs on one device: NULL is the CPU. */
typedef struct bench {
    distac_context *context;
    distac_vit *vit, *teacher;
    distac_head *head;
    distac_optimizer *optimizer, *head_optimizer;
    distac_tensor *images, *labels, *flat;
} bench;

static bool bench_make(bench *b, const char *device, int32_t dtype, const char *products) {
    const distac_context_desc desc = {.threads = 2, .device = device, .products = products};
    *b = (bench){0};
    distac_status status = distac_context_create(&desc, &b->context);
    if (status == DISTAC_EDEVICE && device) {
        print_message("skipped: %s\n", distac_last_error());
        return false;
    }
    OK(status);
    OK(distac_vit_create(b->context, &config, dtype, &b->vit));
    OK(distac_vit_init(b->vit, 3));
    OK(distac_vit_params(b->vit, &b->flat));
    OK(distac_vit_clone(b->vit, &b->teacher));
    OK(distac_vit_init(b->teacher, 4));
    const int64_t weight_shape[2] = {CLASSES, config.dim}, shape[4] = {BATCH, 3, 14, 14};
    distac_tensor *weight = NULL;
    OK(distac_tensor_create(b->context, dtype, 2, weight_shape, &weight));
    OK(distac_tensor_random(weight, 0, 5, 1));
    OK(distac_head_create(weight, 1, &b->head));
    distac_tensor_release(weight);
    b->optimizer = adamw_for(b->context, b->vit, dtype, 1e-3, 0.05);
    const distac_adamw_desc head_desc = {.lr = 1e-2, .clip = 1.0};
    OK(distac_adamw_create(b->context, &head_desc, CLASSES * config.dim, dtype, &b->head_optimizer));
    OK(distac_tensor_create(b->context, dtype, 4, shape, &b->images));
    OK(distac_tensor_random(b->images, 0, 9, 1));
    int64_t truth[BATCH];
    for (int64_t i = 0; i < BATCH; i++) truth[i] = (5 * i + 2) % CLASSES;
    b->labels = labels_of(b->context, BATCH, truth);
    return true;
}

static void bench_free(bench *b) {
    distac_optimizer_release(b->optimizer);
    distac_optimizer_release(b->head_optimizer);
    distac_tensor_release(b->images);
    distac_tensor_release(b->labels);
    distac_tensor_release(b->flat);
    distac_head_release(b->head);
    distac_vit_release(b->vit);
    distac_vit_release(b->teacher);
    distac_context_release(b->context);
}

/* ---- what a run leaves, as numbers ---- */
typedef struct record {
    double *values;
    int64_t count;
} record;

static void add(record *r, const double *values, int64_t n) {
    r->values = realloc(r->values, (size_t)(r->count + n) * sizeof(double));
    assert_non_null(r->values);
    memcpy(r->values + r->count, values, (size_t)n * sizeof(double));
    r->count += n;
}

static void add_tensor(record *r, const distac_tensor *t) {
    double *values = values_of(t);
    add(r, values, distac_tensor_numel(t));
    free(values);
}

/* Parameters without the biases of keys, whose gradient is nothing but roundings, which AdamW makes steps of. */
static void add_params(record *r, const bench *b) {
    double *values = values_of(b->flat);
    forget_key_biases(b->vit, values);
    add(r, values, distac_tensor_numel(b->flat));
    free(values);
}

static void add_stats(record *r, const distac_step_stats *s) {
    const double list[5] = {s->loss, s->anchor, s->grad_norm, s->accuracy, s->entropy};
    add(r, list, 5);
}

static void passes(bench *b, record *r) {
    distac_tensor *features = NULL, *again = NULL, *logits = NULL;
    distac_tensor *dlogits = NULL, *dfeatures = NULL, *grads = NULL;
    OK(distac_vit_features(b->vit, b->images, &features));
    add_tensor(r, features);
    OK(distac_vit_forward(b->vit, b->images, &again));
    add_tensor(r, again);
    OK(distac_head_logits(b->head, again, &logits));
    add_tensor(r, logits);
    OK(distac_tensor_cast(logits, distac_tensor_dtype(logits), &dlogits));
    const distac_loss_desc loss = {.label_smoothing = 0.1};
    double value;
    OK(distac_loss(&loss, logits, b->labels, dlogits, &value));
    add(r, &value, 1);
    OK(distac_head_backward(b->head, again, dlogits, NULL, &dfeatures));
    OK(distac_tensor_create_beside(b->flat, distac_tensor_dtype(b->flat), 1,
                                   &(int64_t){distac_tensor_numel(b->flat)}, &grads));
    OK(distac_vit_backward(b->vit, dfeatures, grads));
    add_tensor(r, grads);
    OK(distac_loss_entropy(logits, dlogits, &value));
    add(r, &value, 1);
    distac_tensor_release(features);
    distac_tensor_release(again);
    distac_tensor_release(logits);
    distac_tensor_release(dlogits);
    distac_tensor_release(dfeatures);
    distac_tensor_release(grads);
}

static void trains(bench *b, record *r, const distac_loss_desc *loss, int64_t micro, bool head) {
    distac_trainer *t = NULL;
    distac_step_stats stats;
    OK(distac_trainer_create(b->vit, b->head, b->optimizer, head ? b->head_optimizer : NULL, loss, micro, 17, &t));
    for (int32_t i = 0; i < STEPS; i++) {
        OK(distac_trainer_step(t, b->images, b->labels, 1e-3, &stats));
        add_stats(r, &stats);
    }
    add_params(r, b);
    distac_trainer_release(t);
}

static void plain(bench *b, record *r) { trains(b, r, &(distac_loss_desc){.label_smoothing = 0.1}, 0, false); }
static void mixed(bench *b, record *r) { trains(b, r, &(distac_loss_desc){.mixup = 1.0}, 4, true); }
static void focal(bench *b, record *r) {
    trains(b, r, &(distac_loss_desc){.kind = DISTAC_LOSS_FOCAL, .gamma = 2}, 0, true);
}

/* Steps with a teacher, with batches of other sizes between, and with given logits. */
static void distills(bench *b, record *r) {
    const distac_kd_desc desc = {1.0, 10.0, 0.5, 0};
    distac_kd *kd = NULL;
    distac_step_stats stats;
    distac_tensor *few = NULL, *features = NULL, *logits = NULL;
    OK(distac_kd_create(b->vit, b->teacher, b->head, b->optimizer, &desc, &kd));
    OK(distac_tensor_narrow(b->images, 0, 0, 4, &few));
    OK(distac_vit_features(b->teacher, b->images, &features));
    OK(distac_head_logits(b->head, features, &logits));
    for (int32_t i = 0; i < 8; i++) {
        OK(distac_kd_step(kd, i == 3 ? few : b->images, i > 5 ? logits : NULL, 1e-3 / (i + 1), &stats));
        add_stats(r, &stats);
    }
    add_params(r, b);
    distac_tensor_release(few);
    distac_tensor_release(features);
    distac_tensor_release(logits);
    distac_kd_release(kd);
}

typedef void (*job)(bench *b, record *r);
static const struct {
    const char *name;
    job run;
} jobs[] = {{"passes", passes}, {"plain", plain}, {"mixup", mixed}, {"focal", focal}, {"distillation", distills}};
enum { JOBS = sizeof jobs / sizeof jobs[0] };

static bool run_on(const char *device, int32_t dtype, const char *products, job run, record *r) {
    bench b;
    *r = (record){0};
    if (!bench_make(&b, device, dtype, products)) return false;
    run(&b, r);
    bench_free(&b);
    return true;
}

static void as_on_the_cpu(void **state) {
    (void)state;
    static const struct {
        int32_t dtype;
        const char *products;
        double tolerance;
    } kinds[] = {{DISTAC_F64, "f32", 1e-8}, {DISTAC_F32, "f32", 4e-3}, {DISTAC_F32, "bf16", 8e-2}};
    for (int k = 0; k < 3; k++) {
        for (int q = 0; q < JOBS; q++) {
            record cpu, first, second;
            if (!run_on("cuda", kinds[k].dtype, kinds[k].products, jobs[q].run, &first)) skip();
            assert_true(run_on(NULL, kinds[k].dtype, kinds[k].products, jobs[q].run, &cpu));
            assert_true(run_on("cuda", kinds[k].dtype, kinds[k].products, jobs[q].run, &second));
            assert_int_equal(cpu.count, first.count);
            double apart = 0.0, size = 0.0;
            for (int64_t i = 0; i < cpu.count; i++) {
                double d = first.values[i] - cpu.values[i];
                apart += d * d;
                size += cpu.values[i] * cpu.values[i];
            }
            if (!(sqrt(apart) <= kinds[k].tolerance * sqrt(size)))
                fail_msg("%s in %s, products %s: %g from the CPU's, relative", jobs[q].name,
                         distac_dtype_name(kinds[k].dtype), kinds[k].products, sqrt(apart / size));
            assert_memory_equal(first.values, second.values, (size_t)first.count * sizeof(double));
            free(cpu.values);
            free(first.values);
            free(second.values);
        }
    }
}

/* Batches of a data set, whole and shuffled, with and without threads that read ahead: the CPU's. */
static void images_as_on_the_cpu(void **state) {
    (void)state;
    enum { IMAGES = 21, BYTES = IMAGES * 3 * 5 * 5 };
    const char *const devices[2] = {"cuda", NULL}; /* first what may not be there */
    double *values[2][4];
    for (int d = 0; d < 2; d++) {
        bench b;
        if (!bench_make(&b, devices[d], DISTAC_F32, "f32")) skip();
        const int64_t shape[4] = {IMAGES, 3, 5, 5};
        distac_tensor *pixels = NULL, *batch = NULL;
        distac_dataset *whole = NULL, *part = NULL;
        distac_loader *loader = NULL;
        OK(distac_tensor_create(b.context, DISTAC_U8, 4, shape, &pixels));
        for (int i = 0; i < BYTES; i++) ((uint8_t *)distac_tensor_data(pixels))[i] = (uint8_t)(i * 37 % 251);
        OK(distac_dataset_create(pixels, NULL, 0, &whole));
        OK(distac_dataset_subset(whole, 9, (const int64_t[]){20, 3, 4, 11, 0, 19, 7, 8, 2}, &part));
        for (int q = 0; q < 4; q++) {
            if (q == 0) OK(distac_dataset_images(part, 1, 6, &batch));
            if (q == 1) OK(distac_loader_create(part, 4, 7, &loader));
            if (q == 3) OK(distac_loader_workers(loader, 2, 2));
            if (q > 0) OK(distac_loader_images(loader, q + 2, &batch));
            assert_string_equal(distac_tensor_device(batch), d ? "cpu" : "cuda:0");
            values[d][q] = values_of(batch);
            if (d == 1)
                for (int64_t i = 0; i < distac_tensor_numel(batch); i++)
                    NEAR(values[1][q][i], values[0][q][i], 1e-6);
            distac_tensor_release(batch);
        }
        distac_loader_release(loader);
        distac_dataset_release(part);
        distac_dataset_release(whole);
        distac_tensor_release(pixels);
        bench_free(&b);
    }
    for (int q = 0; q < 8; q++) free(values[q / 4][q % 4]);
}

/* Batches that are read ahead set out before they are asked for: the same as the CPU's, in order, out of it and
 * twice, while steps are computed between them. */
static void batches_sent_ahead(void **state) {
    (void)state;
    enum { IMAGES = 23, PIXELS = 3 * 14 * 14, TAKEN = 14 };
    static const int64_t order[TAKEN] = {0, 1, 2, 3, 4, 4, 5, 9, 8, 8, 9, 10, 30, 31};
    const char *const devices[2] = {"cuda", NULL};
    record values[2] = {{0}, {0}};
    for (int d = 0; d < 2; d++) {
        bench b;
        if (!bench_make(&b, devices[d], DISTAC_F32, "f32")) skip();
        const int64_t shape[4] = {IMAGES, 3, 14, 14};
        distac_tensor *pixels = NULL, *batch = NULL;
        distac_dataset *set = NULL;
        distac_loader *loader = NULL;
        distac_trainer *trainer = NULL;
        distac_step_stats stats;
        OK(distac_tensor_create(b.context, DISTAC_U8, 4, shape, &pixels));
        for (int i = 0; i < IMAGES * PIXELS; i++)
            ((uint8_t *)distac_tensor_data(pixels))[i] = (uint8_t)(i * 37 % 251);
        OK(distac_dataset_create(pixels, NULL, 0, &set));
        OK(distac_loader_create(set, BATCH, 7, &loader));
        OK(distac_loader_workers(loader, 2, 3));
        OK(distac_trainer_create(b.vit, b.head, b.optimizer, NULL, &(distac_loss_desc){0}, 0, 17, &trainer));
        for (int i = 0; i < TAKEN; i++) {
            OK(distac_loader_images(loader, order[i], &batch));
            OK(distac_trainer_step(trainer, batch, b.labels, 1e-4, &stats));
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* the next ones are decoded by then */
            add_tensor(&values[d], batch);
            add(&values[d], &stats.loss, 1);
            distac_tensor_release(batch);
        }
        distac_trainer_release(trainer);
        distac_loader_release(loader);
        distac_dataset_release(set);
        distac_tensor_release(pixels);
        bench_free(&b);
    }
    assert_int_equal(values[0].count, values[1].count);
    for (int64_t i = 0; i < values[0].count; i++) NEAR(values[0].values[i], values[1].values[i], 1e-4);
    free(values[0].values);
    free(values[1].values);
}

/* An image that is not a number: the step names a parameter tensor
 * and nothing moves; the next one is as if it had not been. */
static void refused_steps_change_nothing(void **state) {
    (void)state;
    bench b;
    if (!bench_make(&b, "cuda", DISTAC_F32, "f32")) skip();
    const distac_kd_desc desc = {1.0, 10.0, 0.5, 0};
    distac_kd *kd = NULL;
    distac_step_stats stats;
    OK(distac_kd_create(b.vit, b.teacher, b.head, b.optimizer, &desc, &kd));
    for (int32_t i = 0; i < 3; i++) OK(distac_kd_step(kd, b.images, NULL, -1.0, &stats));
    double *before = values_of(b.flat);
    distac_tensor *bad = NULL;
    OK(distac_tensor_cast(b.images, DISTAC_F32, &bad));
    OK(distac_tensor_fill(bad, NAN));
    assert_int_equal(distac_kd_step(kd, bad, NULL, -1.0, &stats), DISTAC_ENUMERIC);
    assert_non_null(strstr(distac_last_error(), "nothing was changed"));
    assert_int_equal(distac_optimizer_steps(b.optimizer), 3);
    double *after = values_of(b.flat);
    assert_memory_equal(before, after, (size_t)distac_tensor_numel(b.flat) * sizeof(double));
    OK(distac_kd_step(kd, b.images, NULL, -1.0, &stats));
    assert_int_equal(distac_optimizer_steps(b.optimizer), 4);
    free(before);
    free(after);
    distac_tensor_release(bad);
    distac_kd_release(kd);
    bench_free(&b);
}

/* Encoders in bfloat16 read copies of their parameters: after every way to change these, features are those of a
 * new encoder with the same parameters. */
static void copies_follow_the_parameters(void **state) {
    (void)state;
    bench b;
    if (!bench_make(&b, "cuda", DISTAC_F32, "bf16")) skip();
    const int64_t n = distac_tensor_numel(b.flat), one[2] = {1, 1};
    distac_tensor *tau = NULL, *grads = NULL, *lambdas = NULL;
    OK(distac_tensor_create_beside(b.flat, DISTAC_F32, 1, &n, &tau));
    OK(distac_tensor_random(tau, 0, 11, 1));
    OK(distac_tensor_cast(tau, DISTAC_F32, &grads));
    OK(distac_tensor_create(b.context, DISTAC_F64, 2, one, &lambdas));
    OK(distac_tensor_fill(lambdas, 0.01));
    double *before = NULL;
    for (int way = 0; way < 7; way++) {
        record run = {0};
        double norm;
        distac_tensor *features = NULL, *expected = NULL, *part = NULL;
        distac_vit *other = NULL;
        if (way == 1) OK(distac_tensor_copy(b.flat, tau));
        if (way == 2) OK(distac_vit_combine(b.vit, tau, 1, &tau, lambdas));
        if (way == 3) OK(distac_vit_init(b.vit, 8));
        if (way == 4) OK(distac_optimizer_step(b.optimizer, b.flat, grads, 0.1, &norm));
        if (way == 5) distills(&b, &run);
        if (way == 6) OK(distac_vit_param(b.vit, 3, &part));
        if (way == 6) OK(distac_tensor_fill(part, 0.03));
        OK(distac_vit_features(b.vit, b.images, &features));
        OK(distac_vit_clone(b.vit, &other));
        OK(distac_vit_features(other, b.images, &expected));
        double *came = values_of(features), *wanted = values_of(expected);
        assert_memory_equal(came, wanted, (size_t)distac_tensor_numel(features) * sizeof(double));
        if (before) assert_memory_not_equal(came, before, (size_t)distac_tensor_numel(features) * sizeof(double));
        free(before);
        free(wanted);
        free(run.values);
        before = came;
        distac_tensor_release(part);
        distac_tensor_release(features);
        distac_tensor_release(expected);
        distac_vit_release(other);
    }
    free(before);
    distac_tensor_release(tau);
    distac_tensor_release(grads);
    distac_tensor_release(lambdas);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_on_the_cpu),
        cmocka_unit_test(copies_follow_the_parameters),
        cmocka_unit_test(images_as_on_the_cpu),
        cmocka_unit_test(batches_sent_ahead),
        cmocka_unit_test(refused_steps_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
