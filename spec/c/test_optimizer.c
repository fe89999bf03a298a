/* test_optimizer.c: optimizer and schedule: worked numbers, scaled and refused gradients. */
#include "mini.h"

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

/* Scaled before it is clipped: as if the gradient had been that many times longer. */
static void scaled_gradients(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    static const double start[3] = {1.0, -2.0, 0.5}, base[3] = {0.03, -0.02, 0.01};
    static const double clips[3] = {0.0, 1.0, 0.2}; /* off, not reached, reached */
    for (int32_t clip = 0; clip < 3; clip++) {
        double weights[2][3], norms[2];
        for (int32_t scaled = 0; scaled < 2; scaled++) {
            const distac_adamw_desc desc = {.lr = 0.1, .eps = 0.5, .clip = clips[clip],
                                            .scale = scaled ? 16.0 : 0.0};
            double g[3];
            for (int32_t i = 0; i < 3; i++) g[i] = scaled ? base[i] : 16.0 * base[i];
            distac_optimizer *o = NULL;
            OK(distac_adamw_create(c, &desc, 3, DISTAC_F64, &o));
            distac_tensor *theta = tensor2(c, DISTAC_F64, 1, 3, start), *grads = tensor2(c, DISTAC_F64, 1, 3, g);
            OK(distac_optimizer_step(o, theta, grads, -1.0, &norms[scaled]));
            OK(distac_tensor_read(theta, 3, weights[scaled]));
            distac_tensor_release(theta);
            distac_tensor_release(grads);
            distac_optimizer_release(o);
        }
        for (int32_t i = 0; i < 3; i++) NEAR(weights[0][i], weights[1][i], 1e-15);
        NEAR(norms[0], 16.0 * norms[1], 1e-14); /* what is told is the gradient's own */
    }
    distac_optimizer *o = NULL;
    const distac_adamw_desc strange = {.lr = 0.1, .scale = -1.0};
    assert_int_equal(distac_adamw_create(c, &strange, 3, DISTAC_F64, &o), DISTAC_EINVAL);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_adamw),
        cmocka_unit_test(scaled_gradients),
        cmocka_unit_test(optimizer_refuses_bad_gradients),
        cmocka_unit_test(worked_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
