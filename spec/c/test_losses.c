/* test_losses.c: losses and what gradients start from: worked
 * numbers, finite differences, extremes and refusals. */
#include "mini.h"
#include "train/train.h"

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

/* Entropy of rows, its gradient against differences; rows that are certain have neither. */
static void entropy_and_its_gradient(void **state) {
    (void)state;
    distac_context *c = context_with(2);
    const double sure[6] = {900.0, 0.0, -900.0, 1.0, 1.0, 1.0};
    distac_tensor *z = tensor2(c, DISTAC_F64, 2, 3, logits_values), *dz = tensor2(c, DISTAC_F64, 2, 3, NULL);
    double *values = distac_tensor_data(z), value, g[6], up, down;
    distac_metrics m;
    OK(distac_loss_entropy(z, dz, &value));
    OK(distac_tensor_read(dz, 6, g));
    OK(distac_logits_metrics(z, NULL, &m));
    NEAR(value, m.entropy, 1e-13);
    for (int32_t i = 0; i < 6; i++) {
        double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        OK(distac_loss_entropy(z, NULL, &up));
        values[i] = kept - h;
        OK(distac_loss_entropy(z, NULL, &down));
        values[i] = kept;
        NEAR((up - down) / (2.0 * h), g[i], 1e-9);
    }
    memcpy(values, sure, sizeof sure);
    OK(distac_loss_entropy(z, dz, &value));
    OK(distac_tensor_read(dz, 6, g));
    NEAR(value, log(3.0) / 2.0, 1e-13);
    for (int32_t i = 0; i < 6; i++) NEAR(g[i], 0.0, 1e-13);
    values[0] = NAN;
    OK(distac_loss_entropy(z, dz, &value));
    OK(distac_tensor_read(dz, 6, g));
    assert_true(isnan(value) && isnan(g[0]) && isnan(g[2]) && !isnan(g[3]));
    distac_tensor_release(dz);
    distac_tensor_release(z);
    distac_context_release(c);
}

static double kd_value(distac_context *c, double tt, double ts, double *gradient) {
    distac_tensor *zt = tensor2(c, DISTAC_F64, 2, 3, teacher_values),
                  *zs = tensor2(c, DISTAC_F64, 2, 3, logits_values);
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

/* Mixup's loss and gradient as a training step has them: both labels of every row, weighted. */
static void worked_mixup(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    const int64_t y[2] = {0, 1}, other[2] = {1, 0};
    const distac_loss_desc plain = {0};
    const double share = 0.3;
    const di_targets mixed = {y, other, &share};
    di_row results[2];
    double gradient[6], first[6], second[6];
    const di_kernels *k = di_kernels_for(c, DISTAC_F64);
    di_step step;
    OK(k->loss(c, &plain, 2, 3, logits_values, &mixed, 0.5, gradient, results));
    OK(k->step_rows(c, 2, results, &step));
    NEAR(step.total.loss / 2.0, 2.1354563806, 1e-10);
    (void)loss_value(c, plain, y, first);
    (void)loss_value(c, plain, other, second);
    for (int32_t j = 0; j < 6; j++) NEAR(gradient[j], 0.3 * first[j] + 0.7 * second[j], 1e-15);
    distac_context_release(c);
}

/* theta (1,2), theta0 (0.5,2.5), beta 0.5: the anchor's value 0.25 and gradient (0.5,-0.5). */
static void worked_anchor(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double theta[2] = {1.0, 2.0}, theta0[2] = {0.5, 2.5};
    double g[2] = {0.0, 0.0}, anchor, sumsq;
    OK(di_kernels_for(c, DISTAC_F64)->anchor(c, 2, 0.5, theta, theta0, g, &anchor, &sumsq));
    NEAR(anchor, 0.25, 0.0);
    NEAR(g[0], 0.5, 0.0);
    NEAR(g[1], -0.5, 0.0);
    NEAR(sumsq, 0.5, 0.0);
    distac_context_release(c);
}

/* Logits as far apart as a head of scale 100 makes them, in both types, against long double. */
static void distillation_at_large_logits(void **state) {
    (void)state;
    enum { ROWS = 6, CLASSES = 10 };
    static const double pairs[4][2] = {{1.0, 10.0}, {10.0, 10.0}, {10.0, 1.0}, {1.0, 1.0}};
    distac_context *c = context_with(2);
    for (int32_t dtype = 0; dtype < 2; dtype++) {
        const bool f64 = dtype == 1;
        double zt[ROWS * CLASSES], zs[ROWS * CLASSES], got[ROWS * CLASSES];
        for (int32_t i = 0; i < ROWS * CLASSES; i++) {
            zt[i] = 100.0 * sin(1.3 * i + 0.2), zs[i] = 100.0 * cos(0.9 * i);
            if (i / CLASSES == 1) zs[i] = zt[i]; /* a student that agrees */
            if (i / CLASSES == 2) zs[i] = -zt[i];
            if (!f64) zt[i] = (double)(float)zt[i], zs[i] = (double)(float)zs[i];
        }
        distac_tensor *t = tensor2(c, f64 ? DISTAC_F64 : DISTAC_F32, ROWS, CLASSES, zt);
        distac_tensor *s = tensor2(c, f64 ? DISTAC_F64 : DISTAC_F32, ROWS, CLASSES, zs);
        distac_tensor *ds = tensor2(c, f64 ? DISTAC_F64 : DISTAC_F32, ROWS, CLASSES, NULL);
        for (int32_t p = 0; p < 4; p++) {
            const long double tt = pairs[p][0], ts = pairs[p][1];
            long double loss = 0.0L, want[ROWS * CLASSES];
            for (int32_t r = 0; r < ROWS; r++) {
                const double *a = zt + r * CLASSES, *b = zs + r * CLASSES;
                long double ta = a[0], tb = b[0], sa = 0.0L, sb = 0.0L;
                for (int32_t j = 1; j < CLASSES; j++) ta = fmaxl(ta, a[j]), tb = fmaxl(tb, b[j]);
                for (int32_t j = 0; j < CLASSES; j++) sa += expl((a[j] - ta) / tt), sb += expl((b[j] - tb) / ts);
                for (int32_t j = 0; j < CLASSES; j++) {
                    long double la = (a[j] - ta) / tt - logl(sa), lb = (b[j] - tb) / ts - logl(sb);
                    loss += tt * ts * expl(la) * (la - lb) / ROWS;
                    want[r * CLASSES + j] = tt * (expl(lb) - expl(la)) / ROWS;
                }
            }
            double value;
            OK(distac_loss_kd(t, s, pairs[p][0], pairs[p][1], ds, &value));
            NEAR(value, (double)loss, 1e-13 * (double)loss);
            OK(distac_tensor_read(ds, ROWS * CLASSES, got));
            for (int32_t i = 0; i < ROWS * CLASSES; i++)
                NEAR(got[i], (double)want[i], (f64 ? 1e-14 : 1e-7) * pairs[p][0]);
        }
        distac_tensor_release(t);
        distac_tensor_release(s);
        distac_tensor_release(ds);
    }
    distac_context_release(c);
}

/* Two classes, the label ahead by a margin: p = 1/(1+exp(-margin)) from 1-1e-5 to 1 itself. */
static void focal_near_certainty(void **state) {
    (void)state;
    static const double margins[8] = {0.0, 5.0, 12.0, 20.0, 30.0, 36.0, 40.0, 800.0};
    static const double gammas[5] = {0.0, 0.5, 1.0, 2.0, 10.0};
    distac_context *c = context_with(1);
    const int64_t truth[1] = {0};
    distac_tensor *labels = labels_of(c, 1, truth), *dz = tensor2(c, DISTAC_F64, 1, 2, NULL);
    for (int32_t m = 0; m < 8; m++)
        for (int32_t k = 0; k < 5; k++) {
            const double values[2] = {margins[m], 0.0}, gamma = gammas[k];
            const distac_loss_desc desc = {.kind = DISTAC_LOSS_FOCAL, .gamma = gamma};
            distac_tensor *z = tensor2(c, DISTAC_F64, 1, 2, values);
            double value, g[2];
            OK(distac_loss(&desc, z, labels, dz, &value));
            OK(distac_tensor_read(dz, 2, g));
            long double q = expl(-margins[m]) / (1.0L + expl(-margins[m])), l = -log1pl(expl(-margins[m]));
            long double want = -powl(q, gamma) * l;
            long double slope = -powl(q, gamma);
            if (gamma > 0.0) slope += gamma * (1.0L - q) * powl(q, gamma - 1.0L) * l;
            /* log p is known to the last place of 1, and (1-p)^(1/2) turns that into its root */
            double allowed = gamma == 0.5 ? 3e-8 : 4e-16;
            if (margins[m] < 30.0) allowed = fmax(4e-16, 1e-7 * (double)fabsl(slope * q));
            NEAR(value, (double)want, allowed);
            NEAR(g[0], (double)(slope * q), allowed);
            NEAR(g[0] + g[1], 0.0, 4e-16);
            distac_tensor_release(z);
        }
    distac_tensor_release(labels);
    distac_tensor_release(dz);
    distac_context_release(c);
}

/* A feature vector of zeros has no direction: its logits are zero, and so is its gradient, through any loss. */
static void zero_features(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    for (int32_t dtype = 0; dtype < 2; dtype++) {
        const double features[6] = {0.0, 0.0, 0.0, 3.0, 0.0, 4.0}, up[4] = {1.0, -2.0, 0.5, 0.25};
        const double weight[6] = {1.0, 2.0, 3.0, -1.0, 0.5, 2.0};
        const int32_t type = dtype ? DISTAC_F64 : DISTAC_F32;
        distac_tensor *f = tensor2(c, type, 2, 3, features), *w = tensor2(c, type, 2, 3, weight), *z = NULL;
        distac_tensor *dz = tensor2(c, type, 2, 2, up), *dw = tensor2(c, type, 2, 3, NULL), *df = NULL;
        distac_head *head = NULL;
        OK(distac_head_create(w, 1, &head));
        OK(distac_head_logits(head, f, &z));
        OK(distac_head_backward(head, f, dz, dw, &df));
        double *logits = values_of(z), *gradient = values_of(df), *weights = values_of(dw);
        NEAR(logits[0], 0.0, 0.0);
        NEAR(logits[1], 0.0, 0.0);
        NEAR(logits[2], 3.0, 1e-6);
        for (int32_t i = 0; i < 3; i++) NEAR(gradient[i], 0.0, 0.0);
        NEAR(0.6 * gradient[3] + 0.8 * gradient[5], 0.0, 1e-6); /* across the feature, never along it */
        for (int32_t i = 0; i < 6; i++) NEAR(weights[i], up[2 + i / 3] * features[3 + i % 3] / 5.0, 1e-6);
        free(logits);
        free(gradient);
        free(weights);
        distac_tensor_release(f);
        distac_tensor_release(w);
        distac_tensor_release(z);
        distac_tensor_release(dz);
        distac_tensor_release(dw);
        distac_tensor_release(df);
        distac_head_release(head);
    }
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_losses),
        cmocka_unit_test(entropy_and_its_gradient),
        cmocka_unit_test(worked_distillation_losses),
        cmocka_unit_test(loss_gradients),
        cmocka_unit_test(losses_at_the_extremes),
        cmocka_unit_test(worked_mixup),
        cmocka_unit_test(worked_anchor),
        cmocka_unit_test(distillation_at_large_logits),
        cmocka_unit_test(focal_near_certainty),
        cmocka_unit_test(zero_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
