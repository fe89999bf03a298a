/* test_train.c: losses, optimizer, training and distillation steps: worked numbers, finite differences, and that
 * bad numbers, threads, micro-batches and saved states change nothing they must not change. */
#include "mini.h"

#include <pthread.h>
#include <time.h>

enum { QUICK = DISTAC_ACT_QUICK_GELU };

/* ---- losses ---- */

static const double logits_values[6] = {2.0, 0.5, -1.0, 0.1, 0.2, 3.0};
static const double teacher_values[6] = {4.0, 1.0, -2.0, 0.0, 5.0, 1.0};

static double loss_value(distac_context *c, distac_loss_desc desc, const int64_t *truth, double *gradient) {
    distac_tensor *z = tensor2(c, DISTAC_F64, 2, 3, logits_values), *dz = tensor2(c, DISTAC_F64, 2, 3, NULL);
    distac_tensor *labels = labels_of(c, 2, truth);
    double value;
    OK(distac_loss(&desc, z, labels, gradient ? dz : NULL, &value));
    if (gradient) OK(distac_tensor_read(dz, 6, gradient));
    distac_tensor_release(z);
    distac_tensor_release(dz);
    distac_tensor_release(labels);
    return value;
}

static void worked_losses(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    const int64_t y[2] = {0, 1}, other[2] = {1, 0};
    const distac_loss_desc plain = {0}, smooth = {.label_smoothing = 0.1};
    const distac_loss_desc focal2 = {.kind = DISTAC_LOSS_FOCAL, .gamma = 2.0};
    const distac_loss_desc focal10 = {.kind = DISTAC_LOSS_FOCAL, .gamma = 10.0};
    static const double smooth_row0[3] = {-0.0738681494, 0.0709785294, 0.0028896200};
    static const double focal_row1[3] = {0.0376878037, -0.7226314260, 0.6849436224};
    double g[6];
    NEAR(loss_value(c, plain, y, NULL), 1.5754563806, 1e-10);
    NEAR(loss_value(c, smooth, y, g), 1.6054563806, 1e-10);
    for (int32_t j = 0; j < 3; j++) NEAR(g[j], smooth_row0[j], 1e-10);
    NEAR(loss_value(c, focal2, y, NULL), 1.3061019791, 1e-10);
    NEAR(loss_value(c, focal10, y, g), 0.8306739533, 1e-10);
    for (int32_t j = 0; j < 3; j++) NEAR(g[3 + j], focal_row1[j], 1e-10);
    NEAR(0.3 * loss_value(c, plain, y, NULL) + 0.7 * loss_value(c, plain, other, NULL), 2.1354563806, 1e-10);
    distac_context_release(c);
}

static double kd_value(distac_context *c, double tt, double ts, double *gradient) {
    distac_tensor *zt = tensor2(c, DISTAC_F64, 2, 3, teacher_values), *zs = tensor2(c, DISTAC_F64, 2, 3, logits_values);
    distac_tensor *dz = tensor2(c, DISTAC_F64, 2, 3, NULL);
    double value;
    OK(distac_loss_kd(zt, zs, tt, ts, gradient ? dz : NULL, &value));
    if (gradient) OK(distac_tensor_read(dz, 6, gradient));
    distac_tensor_release(zt);
    distac_tensor_release(zs);
    distac_tensor_release(dz);
    return value;
}

static void worked_distillation_losses(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double row0[3] = {-0.2829702317, 0.1417665836, 0.1412036481};
    double g[6];
    NEAR(kd_value(c, 10.0, 10.0, NULL), 2.5827052476, 1e-10);
    NEAR(kd_value(c, 1.0, 10.0, g), 9.1038398392, 1e-10);
    for (int32_t j = 0; j < 3; j++) NEAR(g[j], row0[j], 1e-10);
    NEAR(kd_value(c, 1.0, 1.0, NULL), 1.4217363546, 1e-10);
    NEAR(kd_value(c, 2.0, 5.0, NULL), 4.7548450670, 1e-10);
    distac_context_release(c);
}

/* Every loss's gradient by central differences of its value. */
static void loss_gradients(void **state) {
    (void)state;
    distac_context *c = context_with(2);
    static const distac_loss_desc descs[] = {{0}, {.label_smoothing = 0.25}, {.kind = DISTAC_LOSS_FOCAL},
                                             {.kind = DISTAC_LOSS_FOCAL, .gamma = 0.5},
                                             {.kind = DISTAC_LOSS_FOCAL, .gamma = 3.0}};
    static const double temperatures[][2] = {{10.0, 10.0}, {1.0, 10.0}, {2.0, 0.5}};
    enum { ROWS = 20, CLASSES = 7, KINDS = 8 };
    const int64_t shape[2] = {ROWS, CLASSES};
    distac_tensor *z = NULL, *zt = NULL, *dz = NULL;
    OK(distac_tensor_create(c, DISTAC_F64, 2, shape, &z));
    OK(distac_tensor_create(c, DISTAC_F64, 2, shape, &zt));
    OK(distac_tensor_create(c, DISTAC_F64, 2, shape, &dz));
    OK(distac_tensor_random(z, 0, 1, 1));
    OK(distac_tensor_random(zt, 0, 1, 2));
    int64_t truth[ROWS];
    for (int64_t i = 0; i < ROWS; i++) truth[i] = (3 * i + 1) % CLASSES;
    distac_tensor *labels = labels_of(c, ROWS, truth);
    double *x = distac_tensor_data(z);
    const double h = 1e-5;
    for (int32_t kind = 0; kind < KINDS; kind++) {
        double side[3];
        for (int64_t at = 0; at < ROWS * CLASSES; at += 3) {
            double kept = x[at], gradient = 0.0;
            for (int32_t s = 0; s < 3; s++) {
                x[at] = kept + (s == 0 ? -h : s == 1 ? h : 0.0);
                distac_tensor *d = s == 2 ? dz : NULL;
                if (kind < 5) OK(distac_loss(&descs[kind], z, labels, d, &side[s]));
                else OK(distac_loss_kd(zt, z, temperatures[kind - 5][0], temperatures[kind - 5][1], d, &side[s]));
            }
            gradient = ((double *)distac_tensor_data(dz))[at];
            NEAR((side[1] - side[0]) / (2.0 * h), gradient, 1e-8);
        }
    }
    distac_tensor_release(z);
    distac_tensor_release(zt);
    distac_tensor_release(dz);
    distac_tensor_release(labels);
    distac_context_release(c);
}

static void losses_at_the_extremes(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    const double values[6] = {2000.0, -2000.0, 0.0, -1e30, 1e30, 0.0};
    const int64_t right[2] = {0, 1}, wrong[2] = {1, 0};
    distac_tensor *z = tensor2(c, DISTAC_F64, 2, 3, values), *dz = tensor2(c, DISTAC_F64, 2, 3, NULL);
    distac_tensor *good = labels_of(c, 2, right), *bad = labels_of(c, 2, wrong);
    const distac_loss_desc plain = {0}, focal = {.kind = DISTAC_LOSS_FOCAL, .gamma = 0.5};
    double value, g[6];
    OK(distac_loss(&focal, z, good, dz, &value));
    NEAR(value, 0.0, 0.0);
    OK(distac_tensor_read(dz, 6, g));
    for (int32_t i = 0; i < 6; i++) NEAR(g[i], 0.0, 0.0);
    OK(distac_loss(&plain, z, bad, dz, &value));
    assert_true(isfinite(value) && value > 1e29);
    OK(distac_tensor_read(dz, 6, g));
    NEAR(g[0], 0.5, 1e-15);
    NEAR(g[1], -0.5, 1e-15);
    OK(distac_loss_kd(z, z, 1.0, 1.0, dz, &value)); /* probabilities of zero contribute nothing */
    NEAR(value, 0.0, 0.0);
    assert_int_equal(distac_loss_kd(z, z, 0.0, 1.0, dz, &value), DISTAC_EINVAL);
    assert_int_equal(distac_loss_kd(z, z, 1.0, (double)NAN, dz, &value), DISTAC_EINVAL);
    const int64_t outside[2] = {0, 3};
    distac_tensor *out_of_range = labels_of(c, 2, outside);
    assert_int_equal(distac_loss(&plain, z, out_of_range, dz, &value), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "label 3 of sample 1"));
    const distac_loss_desc strange = {.label_smoothing = 1.0};
    assert_int_equal(distac_loss(&strange, z, good, dz, &value), DISTAC_EINVAL);
    distac_tensor_release(out_of_range);
    distac_tensor_release(z);
    distac_tensor_release(dz);
    distac_tensor_release(good);
    distac_tensor_release(bad);
    distac_context_release(c);
}

/* ---- optimizer and schedule ---- */

static void worked_adamw(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double start[3] = {1.0, -2.0, 0.5}, g1[3] = {0.1, -0.2, 0.0}, g2[3] = {0.3, 0.1, 0.0};
    static const double after1[3] = {0.89000001, -1.880000005, 0.495};
    static const double after2[3] = {0.7893219021, -1.8345663027, 0.49005};
    static const double coupled1[3] = {0.900000005, -1.9000000025, 0.40000002};
    for (int32_t coupled = 0; coupled < 2; coupled++) {
        const distac_adamw_desc desc = {.lr = 0.1, .weight_decay = 0.1, .coupled = coupled};
        distac_optimizer *o = NULL;
        OK(distac_adamw_create(c, &desc, 3, DISTAC_F64, &o));
        distac_tensor *theta = tensor2(c, DISTAC_F64, 1, 3, start), *g = tensor2(c, DISTAC_F64, 1, 3, g1);
        double norm, values[3];
        OK(distac_optimizer_step(o, theta, g, -1.0, &norm));
        NEAR(norm, sqrt(0.05), 1e-15);
        OK(distac_tensor_read(theta, 3, values));
        for (int32_t i = 0; i < 3; i++) NEAR(values[i], coupled ? coupled1[i] : after1[i], 1e-9);
        OK(distac_tensor_write(g, 3, g2));
        OK(distac_optimizer_step(o, theta, g, 0.1, &norm));
        OK(distac_tensor_read(theta, 3, values));
        for (int32_t i = 0; !coupled && i < 3; i++) NEAR(values[i], after2[i], 1e-9);
        assert_int_equal(distac_optimizer_steps(o), 2);
        distac_tensor_release(theta);
        distac_tensor_release(g);
        distac_optimizer_release(o);
    }
    distac_context_release(c);
}

static void optimizer_refuses_bad_gradients(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double start[3] = {1.0, -2.0, 0.5};
    const double bad[3][3] = {{0.1, (double)NAN, 0.2}, {0.1, 0.2, (double)INFINITY}, {1e200, 0.0, 0.0}};
    const distac_adamw_desc desc = {.lr = 0.1};
    distac_optimizer *o = NULL;
    OK(distac_adamw_create(c, &desc, 3, DISTAC_F64, &o));
    distac_tensor *theta = tensor2(c, DISTAC_F64, 1, 3, start), *g = tensor2(c, DISTAC_F64, 1, 3, NULL), *m = NULL;
    OK(distac_optimizer_moment(o, 1, &m));
    double norm, values[3];
    for (int32_t trial = 0; trial < 6; trial++) { /* every case twice in a row */
        OK(distac_tensor_write(g, 3, bad[trial / 2]));
        assert_int_equal(distac_optimizer_step(o, theta, g, -1.0, &norm), DISTAC_ENUMERIC);
        assert_int_equal(distac_optimizer_steps(o), 0);
        OK(distac_tensor_read(theta, 3, values));
        assert_memory_equal(values, start, sizeof values);
        NEAR(norm_of(m), 0.0, 0.0);
    }
    assert_int_equal(distac_optimizer_step(o, theta, g, (double)NAN, &norm), DISTAC_EINVAL);
    distac_tensor_release(m);
    distac_tensor_release(theta);
    distac_tensor_release(g);
    distac_optimizer_release(o);
    const distac_adamw_desc strange = {.lr = 0.1, .beta1 = 1.0};
    assert_int_equal(distac_adamw_create(c, &strange, 3, DISTAC_F64, &o), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "beta1 is 1"));
    distac_context_release(c);
}

static void worked_schedule(void **state) {
    (void)state;
    static const struct {
        int64_t step;
        double lr, tolerance;
    } points[] = {{0, 5e-8, 1e-20},   {99, 5e-6, 1e-18},         {199, 1e-5, 1e-18},
                  {200, 1e-5, 1e-18}, {650, 8.535534e-6, 1e-12}, {1100, 5e-6, 1e-18},
                  {1550, 1.464466e-6, 1e-12}, {1999, 7.6154e-12, 1e-16}, {2000, 0.0, 0.0}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        NEAR(distac_schedule_cosine(1e-5, points[i].step, 200, 2000), points[i].lr, points[i].tolerance);
    NEAR(distac_schedule_cosine(1.0, 0, 0, 10), 1.0, 0.0);
    NEAR(distac_schedule_cosine(1.0, 5, 10, 5), 0.6, 1e-15); /* a warm-up longer than the run */
}

/* ---- steps: worked numbers ---- */

static distac_optimizer *adamw_for(distac_context *c, const distac_vit *vit, int32_t dtype, double lr,
                                   double weight_decay) {
    const distac_adamw_desc desc = {.lr = lr, .weight_decay = weight_decay, .clip = 1.0};
    distac_optimizer *o = NULL;
    distac_tensor *flat = NULL;
    OK(distac_vit_params(vit, &flat));
    OK(distac_adamw_create(c, &desc, distac_tensor_numel(flat), dtype, &o));
    distac_tensor_release(flat);
    return o;
}

static double param_value(const distac_vit *vit, const char *name, int64_t at) {
    distac_tensor *p = NULL;
    OK(distac_vit_param(vit, param_index(vit, name), &p));
    double *values = values_of(p), value = values[at];
    free(values);
    distac_tensor_release(p);
    return value;
}

static void worked_training_step(void **state) {
    (void)state;
    static const double conv[3] = {0.4517927883, 0.4994621863, 0.4796666935};
    static const double post[4] = {0.1562168205, -0.0240404662, -0.2029086391, -0.3541787373};
    distac_context *c = context_with(2);
    for (int64_t micro = 0; micro < 3; micro++) {
        distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
        distac_head *head = mini_head(c, DISTAC_F64);
        distac_optimizer *o = adamw_for(c, vit, DISTAC_F64, 1e-3, 0.1);
        const distac_loss_desc desc = {0};
        distac_trainer *t = NULL;
        OK(distac_trainer_create(vit, head, o, NULL, &desc, micro, 1, &t));
        const int64_t truth[2] = {1, 2};
        distac_tensor *images = mini_images(c, DISTAC_F64, 2), *labels = labels_of(c, 2, truth);
        distac_step_stats stats;
        OK(distac_trainer_step(t, images, labels, -1.0, &stats));
        NEAR(stats.loss, 6.205672538939, 1e-11);
        NEAR(stats.grad_norm, 2.091231382492, 1e-11);
        NEAR(stats.accuracy, 0.5, 0.0);
        NEAR(stats.anchor, 0.0, 0.0);
        for (int64_t i = 0; i < 3; i++) NEAR(param_value(vit, "visual.conv1.weight", i), conv[i], 1e-9);
        for (int64_t i = 0; i < 4; i++) NEAR(param_value(vit, "visual.ln_post.bias", i), post[i], 1e-9);
        assert_int_equal(distac_optimizer_steps(o), 1);
        distac_tensor_release(images);
        distac_tensor_release(labels);
        distac_trainer_release(t);
        distac_optimizer_release(o);
        distac_head_release(head);
        distac_vit_release(vit);
    }
    distac_context_release(c);
}

typedef struct kd_case {
    double kappa, t_teacher, t_student;
    double loss[3], anchor[3], norm[3], distance;
} kd_case;
static const kd_case kd_cases[2] = {
    {0.5, 10.0, 10.0, {0.0154851426, 0.0023578127, 0.0015125025}, {0.0, 2.899710671e-4, 8.329633336e-4},
     {3.5644791817, 1.5904855583, 1.4706213905}, 0.427079743028},
    {1.0, 1.0, 10.0, {4.823524777036, 4.752578630508, 4.696772466336}, {0.0, 2.899414306e-4, 1.0648492376e-3},
     {15.6841296001, 12.5753216385, 9.9085005398}, 0.853125062830}};

/* |theta - theta_pre|, with or without the key biases. */
static double distance_to_start(distac_context *c, const distac_vit *vit, bool key_biases) {
    distac_vit *start = mini_vit(c, DISTAC_F64, QUICK);
    distac_tensor *a = NULL, *b = NULL, *difference = NULL;
    OK(distac_vit_params(vit, &a));
    OK(distac_vit_params(start, &b));
    OK(distac_tensor_binary(DISTAC_SUB, a, b, &difference));
    if (!key_biases) forget_key_biases(vit, distac_tensor_data(difference));
    double norm = norm_of(difference);
    distac_tensor_release(a);
    distac_tensor_release(b);
    distac_tensor_release(difference);
    distac_vit_release(start);
    return norm;
}

static double entropy_of(distac_vit *vit, distac_head *head, const distac_tensor *images) {
    distac_tensor *f = NULL, *z = NULL;
    distac_metrics m;
    OK(distac_vit_features(vit, images, &f));
    OK(distac_head_logits(head, f, &z));
    OK(distac_logits_metrics(z, NULL, &m));
    distac_tensor_release(f);
    distac_tensor_release(z);
    return m.entropy;
}

/* Three steps, with the teacher in the step (given 0) or its logits handed in (given 1). */
static void worked_distillation_steps(void **state) {
    (void)state;
    static const double proj[3] = {0.1084932734, -0.0860966583, -0.2743336408};
    for (int32_t which = 0; which < 2; which++)
        for (int32_t given = 0; given < 2; given++) {
            const kd_case *k = &kd_cases[which];
            distac_context *c = context_with(2);
            distac_vit *teacher = mini_vit(c, DISTAC_F64, QUICK), *student = mini_vit(c, DISTAC_F64, QUICK);
            mini_add_tau(teacher, 1.0);
            mini_add_tau(student, k->kappa);
            double tau = distance_to_start(c, teacher, true);
            NEAR(tau, 0.857662939, 1e-9);
            distac_head *head = mini_head(c, DISTAC_F64);
            distac_optimizer *o = adamw_for(c, student, DISTAC_F64, 1e-3, 0.0);
            distac_tensor *images = mini_images(c, DISTAC_F64, 2), *f = NULL, *zt = NULL;
            OK(distac_vit_features(teacher, images, &f));
            OK(distac_head_logits(head, f, &zt));
            distac_kd *kd = NULL;
            const distac_kd_desc desc = {k->t_teacher, k->t_student, 0.5, given};
            OK(distac_kd_create(student, given ? NULL : teacher, head, o, &desc, &kd));
            if (which == 1) NEAR(entropy_of(teacher, head, images), 2.3807587e-4, 1e-10);
            for (int32_t step = 0; step < 3; step++) {
                distac_step_stats stats;
                if (given) assert_int_equal(distac_kd_step(kd, images, NULL, -1.0, &stats), DISTAC_ESTATE);
                OK(distac_kd_step(kd, images, given ? zt : NULL, -1.0, &stats));
                NEAR(stats.loss, k->loss[step], 1e-10);
                NEAR(stats.grad_norm, k->norm[step], 1e-9);
                NEAR(stats.anchor, k->anchor[step], 1e-11);
            }
            NEAR(distance_to_start(c, student, false), k->distance, 1e-10);
            if (which == 0) {
                NEAR(distance_to_start(c, student, true) / (k->kappa * tau), 1.0042, 1e-4);
                for (int64_t i = 0; i < 3; i++) NEAR(param_value(student, "visual.proj", i), proj[i], 1e-10);
            } else {
                NEAR(entropy_of(student, head, images), 1.4209629e-4, 1e-10);
            }
            distac_tensor_release(f);
            distac_tensor_release(zt);
            distac_tensor_release(images);
            distac_kd_release(kd);
            distac_optimizer_release(o);
            distac_head_release(head);
            distac_vit_release(teacher);
            distac_vit_release(student);
            distac_context_release(c);
        }
}

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
            const options o = {.dtype = DISTAC_F32, .threads = counts[i], .loss = {.mixup = 1.0}, .train_head = true};
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
    assert_true(info.memory_peak <= used + (1 << 16)); /* the kernels' own scratch comes and goes */
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

static void parts_that_do_not_fit(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_head *head = mini_head(c, DISTAC_F64), *narrow = mini_head(c, DISTAC_F32);
    distac_optimizer *o = adamw_for(c, vit, DISTAC_F64, 1e-3, 0.0), *small = NULL;
    const distac_adamw_desc desc = {.lr = 1e-3};
    OK(distac_adamw_create(c, &desc, 10, DISTAC_F64, &small));
    const distac_loss_desc loss = {0}, strange = {.kind = 7};
    distac_trainer *t = NULL;
    distac_kd *kd = NULL;
    assert_int_equal(distac_trainer_create(vit, head, small, NULL, &loss, 0, 1, &t), DISTAC_ESHAPE);
    assert_int_equal(distac_trainer_create(vit, narrow, o, NULL, &loss, 0, 1, &t), DISTAC_EDTYPE);
    assert_int_equal(distac_trainer_create(vit, head, o, o, &loss, 0, 1, &t), DISTAC_EINVAL);
    assert_int_equal(distac_trainer_create(vit, head, o, small, &loss, 0, 1, &t), DISTAC_ESHAPE);
    assert_int_equal(distac_trainer_create(vit, head, o, NULL, &strange, 0, 1, &t), DISTAC_EINVAL);
    assert_int_equal(distac_trainer_create(vit, head, o, NULL, &loss, -1, 1, &t), DISTAC_EINVAL);
    const distac_kd_desc cold = {0.0, 1.0, 0.5, 0}, fine = {1.0, 1.0, 0.5, 0};
    assert_int_equal(distac_kd_create(vit, NULL, head, o, &cold, &kd), DISTAC_EINVAL);
    assert_int_equal(distac_kd_create(vit, vit, head, o, &fine, &kd), DISTAC_EINVAL);
    assert_null(t);
    assert_null(kd);
    distac_optimizer_release(small);
    distac_optimizer_release(o);
    distac_head_release(head);
    distac_head_release(narrow);
    distac_vit_release(vit);
    distac_context_info info;
    OK(distac_context_get_info(c, &info));
    assert_int_equal(info.memory_used, 0);
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_losses),
        cmocka_unit_test(worked_distillation_losses),
        cmocka_unit_test(loss_gradients),
        cmocka_unit_test(losses_at_the_extremes),
        cmocka_unit_test(worked_adamw),
        cmocka_unit_test(optimizer_refuses_bad_gradients),
        cmocka_unit_test(worked_schedule),
        cmocka_unit_test(worked_training_step),
        cmocka_unit_test(worked_distillation_steps),
        cmocka_unit_test(threads_give_the_same_bits),
        cmocka_unit_test(micro_batches_equal_the_whole),
        cmocka_unit_test(bad_numbers_change_nothing),
        cmocka_unit_test(cancelling_changes_nothing),
        cmocka_unit_test(cancelling_at_any_moment),
        cmocka_unit_test(saved_state_continues_bit_for_bit),
        cmocka_unit_test(steps_allocate_once),
        cmocka_unit_test(training_learns),
        cmocka_unit_test(mixup_depends_on_seed_and_step),
        cmocka_unit_test(parts_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
