/* test_metrics.c: metrics of logits, reliability bins and temperature against worked numbers. */
#include "mini.h"

#include "eval/eval.h"

static void entropy_and_likelihood(void **state) {
    (void)state;
    static const double rows[2][3] = {{2.0, 0.5, -1.0}, {0.1, 0.2, 3.0}};
    static const double entropies[2] = {0.6215846047, 0.4051971585};
    distac_context *c = context_with(1);
    distac_metrics m;
    for (int32_t i = 0; i < 2; i++) {
        distac_tensor *z = tensor2(c, DISTAC_F64, 1, 3, rows[i]);
        OK(distac_logits_metrics(z, NULL, &m));
        NEAR(m.entropy, entropies[i], 1e-10);
        assert_int_equal(m.count, 1);
        distac_tensor_release(z);
    }
    const int64_t truth[2] = {0, 1};
    distac_tensor *z = tensor2(c, DISTAC_F64, 2, 3, rows[0]), *labels = labels_of(c, 2, truth);
    OK(distac_logits_metrics(z, labels, &m));
    NEAR(m.nll, 1.5754563806, 1e-10);
    NEAR(m.accuracy, 0.5, 0.0);
    assert_int_equal(m.correct, 1);
    NEAR(m.entropy, 0.5 * (entropies[0] + entropies[1]), 1e-10);
    distac_tensor_release(z);
    distac_tensor_release(labels);
    distac_context_release(c);
}

static void ties_and_bad_numbers(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double equal[6] = {1.0, 1.0, 1.0, 0.0, 2.0, 2.0};
    const int64_t truth[2] = {0, 1}, outside[2] = {0, -1};
    distac_tensor *z = tensor2(c, DISTAC_F32, 2, 3, equal), *labels = labels_of(c, 2, truth);
    distac_metrics m;
    double t;
    OK(distac_logits_metrics(z, labels, &m)); /* the first of equal logits wins */
    assert_int_equal(m.correct, 2);
    ((float *)distac_tensor_data(z))[4] = (float)NAN;
    assert_int_equal(distac_logits_metrics(z, labels, &m), DISTAC_ENUMERIC);
    assert_non_null(strstr(distac_last_error(), "logit 1 of sample 1"));
    assert_int_equal(distac_logits_temperature(z, labels, &t), DISTAC_ENUMERIC);
    ((float *)distac_tensor_data(z))[4] = 0.0F;
    distac_tensor *bad = labels_of(c, 2, outside);
    assert_int_equal(distac_logits_metrics(z, bad, &m), DISTAC_EINVAL);
    distac_tensor_release(bad);
    distac_tensor_release(z);
    distac_tensor_release(labels);
    distac_context_release(c);
}

static void calibration_error(void **state) {
    (void)state;
    static const double confidence[8] = {0.95, 0.9, 0.85, 0.6, 0.55, 0.3, 1.0, 0.6667};
    static const bool correct[8] = {true, true, false, true, false, false, true, true};
    static const struct {
        int64_t bins;
        double ece;
    } wanted[3] = {{5, 0.1854125}, {10, 0.1979125}, {15, 0.2229125}};
    for (int32_t w = 0; w < 3; w++) {
        di_bin bins[15] = {0};
        int64_t total = 0;
        for (int32_t i = 0; i < 8; i++) di_bin_add(bins, wanted[w].bins, confidence[i], correct[i]);
        for (int64_t b = 0; b < wanted[w].bins; b++) total += bins[b].count;
        assert_int_equal(total, 8);
        NEAR(di_bins_ece(bins, wanted[w].bins, 8), wanted[w].ece, 1e-12);
    }
    di_bin edge[10] = {0};
    di_bin_add(edge, 10, 0.9, true); /* an edge belongs to the bin below it */
    assert_int_equal(edge[8].count, 1);
    di_bin_add(edge, 10, 0.0, true); /* and zero to none */
    assert_int_equal(edge[0].count, 0);
    for (int64_t m = 1; m <= 40; m++) { /* every edge of every division */
        for (int64_t b = 1; b <= m; b++) {
            di_bin bins[40] = {0};
            di_bin_add(bins, m, (double)b / (double)m, true);
            assert_int_equal(bins[b - 1].count, 1);
        }
    }
}

static void reliability(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    /* Two classes: confidence of row i is 1/(1+exp(-gap)). */
    static const double z[8] = {3.0, 0.0, 0.0, 3.1, 0.5, 0.0, 0.0, 0.4};
    const int64_t truth[4] = {0, 1, 1, 1};
    distac_tensor *logits = tensor2(c, DISTAC_F64, 4, 2, z), *labels = labels_of(c, 4, truth);
    double values[30];
    OK(distac_logits_reliability(logits, labels, 30, values));
    double total = 0.0, ece = 0.0;
    for (int32_t b = 0; b < 10; b++)
        total += values[3 * b], ece += values[3 * b] * fabs(values[3 * b + 1] - values[3 * b + 2]);
    NEAR(total, 4.0, 0.0);
    NEAR(values[27], 2.0, 0.0);
    NEAR(values[28], 0.5 * (1.0 / (1.0 + exp(-3.0)) + 1.0 / (1.0 + exp(-3.1))), 1e-15);
    NEAR(values[29], 1.0, 0.0);
    NEAR(values[18], 1.0, 0.0); /* exp(0.5) gives 0.62, which is wrong */
    NEAR(values[20], 0.0, 0.0);
    double fine[45];
    OK(distac_logits_reliability(logits, labels, 45, fine));
    ece = 0.0;
    for (int32_t b = 0; b < 15; b++) ece += fine[3 * b] * fabs(fine[3 * b + 1] - fine[3 * b + 2]) / 4.0;
    distac_metrics m;
    OK(distac_logits_metrics(logits, labels, &m));
    NEAR(m.ece, ece, 1e-15);
    assert_int_equal(distac_logits_reliability(logits, labels, 10, values), DISTAC_EINVAL);
    distac_tensor_release(logits);
    distac_tensor_release(labels);
    distac_context_release(c);
}

static double nll_at(distac_context *c, const double *z, int64_t rows, const int64_t *truth, double t) {
    double scaled[64];
    for (int64_t i = 0; i < 3 * rows; i++) scaled[i] = z[i] / t;
    distac_tensor *logits = tensor2(c, DISTAC_F64, rows, 3, scaled), *labels = labels_of(c, rows, truth);
    distac_metrics m;
    OK(distac_logits_metrics(logits, labels, &m));
    distac_tensor_release(logits);
    distac_tensor_release(labels);
    return m.nll;
}

static void temperature(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double z[18] = {4.0, 1.0, 0.0, 3.0, 2.5, 0.0, 0.0, 5.0, 1.0,
                                 2.0, 0.0, 3.0, 6.0, 0.0, 0.0, 1.0, 0.0, 0.5};
    const int64_t truth[6] = {0, 1, 1, 0, 0, 2}, right[6] = {0, 0, 1, 2, 0, 0}, wrong[6] = {2, 2, 0, 1, 1, 1};
    distac_tensor *logits = tensor2(c, DISTAC_F64, 6, 3, z), *labels = labels_of(c, 6, truth);
    double t;
    OK(distac_logits_temperature(logits, labels, &t));
    NEAR(t, 1.28743, 5e-6);
    NEAR(nll_at(c, z, 6, truth, t), 0.59085118, 5e-9);
    NEAR(nll_at(c, z, 6, truth, 1.0), 0.60490881, 5e-9);
    assert_true(nll_at(c, z, 6, truth, t) < nll_at(c, z, 6, truth, t * 1.0001));
    assert_true(nll_at(c, z, 6, truth, t) < nll_at(c, z, 6, truth, t / 1.0001));
    double scaled[18], hot;
    for (int32_t i = 0; i < 18; i++) scaled[i] = 50.0 * z[i]; /* the best temperature scales with the logits */
    OK(distac_tensor_write(logits, 18, scaled));
    OK(distac_logits_temperature(logits, labels, &hot));
    NEAR(hot / (50.0 * t), 1.0, 1e-10);
    for (int32_t i = 0; i < 18; i++) scaled[i] = 0.02 * z[i];
    OK(distac_tensor_write(logits, 18, scaled));
    OK(distac_logits_temperature(logits, labels, &hot));
    NEAR(hot / (0.02 * t), 1.0, 1e-10);
    distac_tensor_release(labels);
    labels = labels_of(c, 6, right); /* all right: the colder the better, down to the end of the range */
    OK(distac_logits_temperature(logits, labels, &t));
    assert_true(t > 0.0 && t <= 1e-3);
    distac_tensor_release(labels);
    labels = labels_of(c, 6, wrong); /* all wrong: the hotter the better */
    OK(distac_logits_temperature(logits, labels, &t));
    assert_true(t >= 1e3 && isfinite(t));
    distac_tensor_release(labels);
    distac_tensor_release(logits);
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entropy_and_likelihood), cmocka_unit_test(ties_and_bad_numbers),
        cmocka_unit_test(calibration_error),      cmocka_unit_test(reliability),
        cmocka_unit_test(temperature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
