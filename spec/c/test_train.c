/* test_train.c: short training runs: bad numbers, cancels, threads, micro-batches and saved states change nothing
 * that they must not change. */
#include "mini.h"

#include <pthread.h>
#include <time.h>

/* ---- a bench of small random training runs ---- */

typedef struct run {
    distac_context *context;
    distac_vit *vit, *teacher;
    distac_head *head;
    distac_optimizer *optimizer, *head_optimizer;
    distac_trainer *trainer;
    distac_kd *kd;
    distac_tensor *images, *labels, *flat;
} run;

static const distac_vit_config run_config = {.image = 14, .patch = 7, .channels = 1, .width = 48, .layers = 3,
                                             .heads = 3, .mlp = 96, .dim = 32};
enum { BATCH = 70, CLASSES = 11 };

typedef struct options {
    int32_t dtype, threads;
    int64_t micro;
    distac_loss_desc loss;
    bool train_head;
} options;

static run run_make(const options *o) {
    run r = {.context = context_with(o->threads)};
    OK(distac_vit_create(r.context, &run_config, o->dtype, &r.vit));
    OK(distac_vit_init(r.vit, 3));
    OK(distac_vit_params(r.vit, &r.flat));
    OK(distac_vit_clone(r.vit, &r.teacher));
    OK(distac_vit_init(r.teacher, 4));
    const int64_t weight_shape[2] = {CLASSES, run_config.dim}, image_shape[4] = {BATCH, 1, 14, 14};
    distac_tensor *weight = NULL;
    OK(distac_tensor_create(r.context, o->dtype, 2, weight_shape, &weight));
    OK(distac_tensor_random(weight, 0, 5, 1));
    OK(distac_head_create(weight, 1, &r.head));
    distac_tensor_release(weight);
    r.optimizer = adamw_for(r.context, r.vit, o->dtype, 1e-3, 0.05);
    if (o->train_head) {
        const distac_adamw_desc desc = {.lr = 1e-2, .clip = 1.0};
        OK(distac_adamw_create(r.context, &desc, CLASSES * run_config.dim, o->dtype, &r.head_optimizer));
    }
    OK(distac_tensor_create(r.context, o->dtype, 4, image_shape, &r.images));
    OK(distac_tensor_random(r.images, 0, 9, 1));
    int64_t truth[BATCH];
    for (int64_t i = 0; i < BATCH; i++) truth[i] = (5 * i + 2) % CLASSES;
    r.labels = labels_of(r.context, BATCH, truth);
    OK(distac_trainer_create(r.vit, r.head, r.optimizer, r.head_optimizer, &o->loss, o->micro, 17, &r.trainer));
    const distac_kd_desc desc = {1.0, 10.0, 0.5, o->micro};
    OK(distac_kd_create(r.vit, r.teacher, r.head, r.optimizer, &desc, &r.kd));
    return r;
}

static void run_free(run *r) {
    distac_trainer_release(r->trainer);
    distac_kd_release(r->kd);
    distac_optimizer_release(r->optimizer);
    distac_optimizer_release(r->head_optimizer);
    distac_tensor_release(r->images);
    distac_tensor_release(r->labels);
    distac_tensor_release(r->flat);
    distac_head_release(r->head);
    distac_vit_release(r->vit);
    distac_vit_release(r->teacher);
    distac_context_info info;
    OK(distac_context_get_info(r->context, &info));
    assert_int_equal(info.memory_used, 0);
    distac_context_release(r->context);
}

static distac_step_stats train(run *r, int32_t steps, bool kd) {
    distac_step_stats stats = {0};
    for (int32_t i = 0; i < steps; i++) {
        if (kd) OK(distac_kd_step(r->kd, r->images, NULL, 1e-3, &stats));
        else OK(distac_trainer_step(r->trainer, r->images, r->labels, 1e-3, &stats));
    }
    return stats;
}

static void threads_give_the_same_bits(void **state) {
    (void)state;
    static const int32_t counts[4] = {1, 2, 3, 8};
    for (int32_t kd = 0; kd < 2; kd++) {
        float *wanted = NULL;
        for (int32_t i = 0; i < 4; i++) {
            const options o = {
                .dtype = DISTAC_F32, .threads = counts[i], .loss = {.mixup = 1.0}, .train_head = true};
            run r = run_make(&o);
            size_t bytes = (size_t)distac_tensor_numel(r.flat) * sizeof(float);
            if (!wanted) {
                float *before = distac_tensor_data(r.flat);
                wanted = malloc(bytes);
                assert_non_null(wanted);
                memcpy(wanted, before, bytes);
                (void)train(&r, 20, kd);
                assert_memory_not_equal(wanted, before, bytes);
                memcpy(wanted, before, bytes);
            } else {
                (void)train(&r, 20, kd);
                assert_memory_equal(distac_tensor_data(r.flat), wanted, bytes);
            }
            run_free(&r);
        }
        free(wanted);
    }
}

static void micro_batches_equal_the_whole(void **state) {
    (void)state;
    static const int64_t sizes[4] = {BATCH, 0, 7, 64};
    for (int32_t kd = 0; kd < 2; kd++) {
        double *wanted = NULL, loss = 0.0, accuracy = 0.0, entropy = 0.0;
        for (int32_t i = 0; i < 4; i++) {
            const options o = {.dtype = DISTAC_F64, .threads = 2, .micro = sizes[i], .loss = {.mixup = 1.0},
                               .train_head = true};
            run r = run_make(&o);
            distac_step_stats stats = train(&r, 3, kd);
            double *values = values_of(r.flat);
            forget_key_biases(r.vit, values);
            if (!wanted) {
                wanted = values;
                loss = stats.loss, accuracy = stats.accuracy, entropy = stats.entropy;
            } else {
                for (int64_t j = 0; j < distac_tensor_numel(r.flat); j++) NEAR(values[j], wanted[j], 1e-9);
                NEAR(stats.loss, loss, 1e-11);
                NEAR(stats.accuracy, accuracy, 1e-14);
                NEAR(stats.entropy, entropy, 1e-11);
                free(values);
            }
            run_free(&r);
        }
        free(wanted);
    }
}

/* Everything a step may change, as one array of bytes. */
static char *snapshot(run *r, size_t *bytes) {
    distac_tensor *parts[6] = {r->flat};
    OK(distac_optimizer_moment(r->optimizer, 0, &parts[1]));
    OK(distac_optimizer_moment(r->optimizer, 1, &parts[2]));
    OK(distac_head_weight(r->head, &parts[3]));
    if (r->head_optimizer) OK(distac_optimizer_moment(r->head_optimizer, 0, &parts[4]));
    if (r->head_optimizer) OK(distac_optimizer_moment(r->head_optimizer, 1, &parts[5]));
    char *out = NULL;
    *bytes = 0;
    for (int32_t i = 0; i < 6; i++) {
        if (!parts[i]) continue;
        size_t size = (size_t)(distac_tensor_numel(parts[i]) * distac_dtype_bytes(distac_tensor_dtype(parts[i])));
        out = realloc(out, *bytes + size);
        assert_non_null(out);
        memcpy(out + *bytes, distac_tensor_data(parts[i]), size);
        *bytes += size;
        if (i > 0) distac_tensor_release(parts[i]);
    }
    return out;
}

static void bad_numbers_change_nothing(void **state) {
    (void)state;
    static const float poisons[2] = {(float)NAN, (float)INFINITY};
    for (int32_t kd = 0; kd < 2; kd++)
        for (int32_t poison = 0; poison < 2; poison++) {
            const options o = {.dtype = DISTAC_F32, .threads = 2, .micro = 32, .train_head = true};
            run r = run_make(&o);
            (void)train(&r, 2, kd);
            size_t bytes, again_bytes;
            char *before = snapshot(&r, &bytes);
            float *image = distac_tensor_data(r.images), kept = image[14 * 14 * 40 + 3];
            image[14 * 14 * 40 + 3] = poisons[poison];
            for (int32_t trial = 0; trial < 2; trial++) { /* a guard must not go blind */
                distac_step_stats stats;
                distac_status status = kd ? distac_kd_step(r.kd, r.images, NULL, 1e-3, &stats)
                                          : distac_trainer_step(r.trainer, r.images, r.labels, 1e-3, &stats);
                assert_int_equal(status, DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), "nothing was changed"));
                char *after = snapshot(&r, &again_bytes);
                assert_int_equal(bytes, again_bytes);
                assert_memory_equal(before, after, bytes);
                free(after);
                assert_int_equal(distac_optimizer_steps(r.optimizer), 2);
            }
            image[14 * 14 * 40 + 3] = kept;
            distac_step_stats stats = train(&r, 1, kd); /* and the run goes on as if nothing had been */
            options clean_options = o;
            run clean = run_make(&clean_options);
            distac_step_stats wanted = train(&clean, 3, kd);
            NEAR(stats.loss, wanted.loss, 0.0);
            assert_memory_equal(distac_tensor_data(r.flat), distac_tensor_data(clean.flat),
                                (size_t)distac_tensor_numel(r.flat) * sizeof(float));
            free(before);
            run_free(&clean);
            run_free(&r);
        }
}

static void cancelling_changes_nothing(void **state) {
    (void)state;
    for (int32_t kd = 0; kd < 2; kd++) {
        const options o = {.dtype = DISTAC_F32, .threads = 2};
        run r = run_make(&o);
        (void)train(&r, 1, kd);
        size_t bytes, again_bytes;
        char *before = snapshot(&r, &bytes);
        distac_cancel(r.context);
        distac_step_stats stats;
        distac_status status = kd ? distac_kd_step(r.kd, r.images, NULL, 1e-3, &stats)
                                  : distac_trainer_step(r.trainer, r.images, r.labels, 1e-3, &stats);
        assert_int_equal(status, DISTAC_ECANCELED);
        distac_cancel_clear(r.context);
        char *after = snapshot(&r, &again_bytes);
        assert_int_equal(bytes, again_bytes);
        assert_memory_equal(before, after, bytes);
        assert_int_equal(distac_optimizer_steps(r.optimizer), 1);
        (void)train(&r, 1, kd);
        free(before);
        free(after);
        run_free(&r);
    }
}

/* A cancel at any moment leaves a step undone or done whole. */
static void *cancel_after(void *arg) {
    distac_context *c = ((void **)arg)[0];
    const struct timespec wait = {0, *(long *)((void **)arg)[1]};
    nanosleep(&wait, NULL);
    distac_cancel(c);
    return NULL;
}

static void cancelling_at_any_moment(void **state) {
    (void)state;
    const options o = {.dtype = DISTAC_F32, .threads = 2, .train_head = true};
    run r = run_make(&o);
    double begin = distac_clock();
    (void)train(&r, 5, false);
    double step_time = (distac_clock() - begin) / 5.0 * 1e9;
    int32_t undone = 0, done = 0;
    for (int32_t trial = 0; trial < 60; trial++) {
        long nanoseconds = (long)(step_time * (0.05 + 0.02 * trial));
        void *arg[2] = {r.context, &nanoseconds};
        size_t bytes;
        char *before = snapshot(&r, &bytes);
        int64_t steps = distac_optimizer_steps(r.optimizer);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_after, arg), 0);
        distac_step_stats stats;
        distac_status status = distac_trainer_step(r.trainer, r.images, r.labels, 1e-3, &stats);
        assert_int_equal(pthread_join(thread, NULL), 0);
        distac_cancel_clear(r.context);
        char *after = snapshot(&r, &bytes);
        if (status == DISTAC_ECANCELED) {
            undone++;
            assert_memory_equal(before, after, bytes);
            assert_int_equal(distac_optimizer_steps(r.optimizer), steps);
        } else {
            done++;
            assert_int_equal(status, DISTAC_OK);
            assert_memory_not_equal(before, after, bytes);
            assert_int_equal(distac_optimizer_steps(r.optimizer), steps + 1);
        }
        free(before);
        free(after);
    }
    assert_true(undone > 0);
    (void)done;
    run_free(&r);
}

static void copy_moments(distac_optimizer *to, const distac_optimizer *from) {
    for (int32_t i = 0; i < 2; i++) {
        distac_tensor *a = NULL, *b = NULL;
        OK(distac_optimizer_moment(from, i, &a));
        OK(distac_optimizer_moment(to, i, &b));
        OK(distac_tensor_copy(b, a));
        distac_tensor_release(a);
        distac_tensor_release(b);
    }
    OK(distac_optimizer_set_steps(to, distac_optimizer_steps(from)));
}

static void saved_state_continues_bit_for_bit(void **state) {
    (void)state;
    for (int32_t kd = 0; kd < 2; kd++) {
        const options o = {.dtype = DISTAC_F32, .threads = 2, .loss = {.label_smoothing = 0.1, .mixup = 1.0},
                           .train_head = true};
        run whole = run_make(&o), first = run_make(&o), second = run_make(&o);
        (void)train(&whole, 10, kd);
        (void)train(&first, 4, kd);
        distac_tensor *a = NULL, *b = NULL;
        OK(distac_tensor_copy(second.flat, first.flat));
        OK(distac_head_weight(first.head, &a));
        OK(distac_head_weight(second.head, &b));
        OK(distac_tensor_copy(b, a));
        distac_tensor_release(a);
        distac_tensor_release(b);
        copy_moments(second.optimizer, first.optimizer);
        copy_moments(second.head_optimizer, first.head_optimizer);
        OK(distac_kd_anchor(first.kd, &a));
        OK(distac_kd_anchor(second.kd, &b));
        OK(distac_tensor_copy(b, a));
        distac_tensor_release(a);
        distac_tensor_release(b);
        (void)train(&second, 6, kd);
        size_t bytes, second_bytes;
        char *wanted = snapshot(&whole, &bytes), *got = snapshot(&second, &second_bytes);
        assert_int_equal(bytes, second_bytes);
        assert_memory_equal(wanted, got, bytes);
        free(wanted);
        free(got);
        run_free(&whole);
        run_free(&first);
        run_free(&second);
    }
}

static void steps_allocate_once(void **state) {
    (void)state;
    const options o = {.dtype = DISTAC_F32, .threads = 2, .loss = {.mixup = 1.0}, .train_head = true};
    run r = run_make(&o);
    distac_context_info info;
    (void)train(&r, 1, false);
    (void)train(&r, 1, true);
    OK(distac_context_get_info(r.context, &info));
    int64_t used = info.memory_used;
    OK(distac_context_reset_peak(r.context));
    (void)train(&r, 3, false);
    (void)train(&r, 3, true);
    OK(distac_context_get_info(r.context, &info));
    assert_int_equal(info.memory_used, used);
    assert_true(info.memory_peak <= used + (1 << 20)); /* the kernels' own scratch comes and goes */
    run_free(&r);
}

static void training_learns(void **state) {
    (void)state;
    const options o = {.dtype = DISTAC_F32, .threads = 2, .train_head = true};
    run r = run_make(&o);
    distac_step_stats first = train(&r, 1, false), last = train(&r, 60, false);
    assert_true(first.loss > 1.0 && last.loss < 0.5 * first.loss);
    assert_true(last.accuracy > first.accuracy);
    run_free(&r);
}

static void mixup_depends_on_seed_and_step(void **state) {
    (void)state;
    const options o = {.dtype = DISTAC_F64, .threads = 1, .loss = {.mixup = 1.0}};
    double losses[3];
    for (int32_t i = 0; i < 3; i++) {
        run r = run_make(&o);
        distac_trainer *other = NULL;
        OK(distac_trainer_create(r.vit, r.head, r.optimizer, NULL, &o.loss, 0, i == 2 ? 18 : 17, &other));
        distac_step_stats stats;
        OK(distac_trainer_step(other, r.images, r.labels, 0.0, &stats));
        losses[i] = stats.loss;
        /* A rate of zero leaves the weights: the next step differs by its mixture alone. */
        OK(distac_trainer_step(other, r.images, r.labels, 0.0, &stats));
        assert_true(fabs(stats.loss - losses[i]) > 1e-9);
        distac_trainer_release(other);
        run_free(&r);
    }
    NEAR(losses[0], losses[1], 0.0);
    assert_true(fabs(losses[2] - losses[0]) > 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_give_the_same_bits),
        cmocka_unit_test(micro_batches_equal_the_whole),
        cmocka_unit_test(bad_numbers_change_nothing),
        cmocka_unit_test(cancelling_changes_nothing),
        cmocka_unit_test(cancelling_at_any_moment),
        cmocka_unit_test(saved_state_continues_bit_for_bit),
        cmocka_unit_test(steps_allocate_once),
        cmocka_unit_test(training_learns),
        cmocka_unit_test(mixup_depends_on_seed_and_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
