/* test_products.c: products of factors rounded to bfloat16, by every instruction set that this processor runs:
 * each equals the product of the rounded factors, in double, up to the rounding of a float sum; rounding is to the
 * nearest, ties to even; what is not finite stays so; the number of threads changes no bit. */
#include "check.h"
#include "backend/backend.h"

#include <math.h>
#include <string.h>

static distac_context *open_context(const char *kernels, int32_t threads) {
    distac_context_desc desc = {.threads = threads, .kernels = kernels, .products = "bf16"};
    distac_context *context = NULL;
    distac_status status = distac_context_create(&desc, &context);
    if (status == DISTAC_EUNSUPPORTED) return NULL;
    assert_int_equal(status, DISTAC_OK);
    return context;
}

static float *numbers(int64_t n, uint32_t seed) {
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)(seed >> 4) % 100003) / 70000.0f;
    }
    return x;
}

/* By arithmetic instead of bits: the nearest multiple of 2^(e-8), ties to even as rint does it. */
static double rounded(double x) {
    if (x == 0 || !isfinite(x)) return x;
    int exponent;
    frexp(x, &exponent);
    return ldexp(rint(ldexp(x, 8 - exponent)), exponent - 8);
}

/* want [M,N] += op(A) op(B) of rounded factors, size [M,N] += the same of magnitudes */
static void reference(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float *A, const float *B,
                      double *want, double *size) {
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            for (int64_t t = 0; t < K; t++) {
                double p = rounded((double)A[ta ? t * M + i : i * K + t]) *
                           rounded((double)B[tb ? j * K + t : t * N + j]);
                want[i * N + j] += p;
                size[i * N + j] += fabs(p);
            }
}

static void compare(const char *what, const char *kernels, int64_t n, const float *got, const double *want,
                    const double *size) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-6 * size[i] + 1e-30))
            fail_msg("%s, %s: element %lld is %.9g, not %.9g", kernels, what, (long long)i, (double)got[i],
                     want[i]);
}

static void one_shape(const char *kernels, int64_t M, int64_t N, int64_t K) {
    float *x = numbers(M * K, 1), *weight = numbers(N * K, 2), *dy = numbers(M * N, 3);
    int64_t counts[3] = {M * N, M * K, N * K};
    const char *names[3] = {"linear", "gradient of the input", "gradient of the weight"};
    for (int what = 0; what < 3; what++) {
        size_t n = (size_t)counts[what];
        double *want = calloc(n, sizeof *want), *size = calloc(n, sizeof *size);
        float *first = NULL;
        if (what == 0) reference(false, true, M, N, K, x, weight, want, size);
        if (what == 1) reference(false, false, M, K, N, dy, weight, want, size);
        if (what == 2) reference(true, false, N, K, M, dy, x, want, size);
        for (int32_t threads = 1; threads <= 3; threads++) {
            distac_context *c = open_context(kernels, threads);
            const di_kernels *k = di_kernels_for_models(c, DISTAC_F32);
            float *got = calloc(n, sizeof *got);
            if (what == 0) OK(k->linear(c, M, N, K, x, weight, NULL, DI_ACT_NONE, NULL, NULL, got));
            if (what == 1) OK(k->linear_backward_input(c, M, N, K, dy, weight, DI_ACT_NONE, NULL, false, got));
            if (what == 2) OK(k->linear_backward_weight(c, M, N, K, x, dy, got, NULL));
            compare(names[what], kernels, counts[what], got, want, size);
            if (first) assert_memory_equal(first, got, n * sizeof *got);
            if (!first) first = got;
            else free(got);
            distac_context_release(c);
        }
        free(first), free(want), free(size);
    }
    free(x), free(weight), free(dy);
}

static const char *const tables[] = {"scalar", "avx2", "avx512"};

static void products_of_rounded_factors(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {3, 5, 7},     {15, 33, 31}, {29, 64, 770},
                                        {64, 96, 65}, {130, 70, 48}, {1, 40, 801}, {230, 130, 18}};
    for (int t = 0; t < 3; t++) {
        distac_context *c = open_context(tables[t], 1);
        if (!c) continue;
        assert_string_not_equal(di_kernels_for_models(c, DISTAC_F32)->name, di_kernels_for(c, DISTAC_F32)->name);
        assert_ptr_equal(di_kernels_for_models(c, DISTAC_F64), di_kernels_for(c, DISTAC_F64));
        distac_context_release(c);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            one_shape(tables[t], shapes[s][0], shapes[s][1], shapes[s][2]);
    }
}

/* 1 times x, in either place: the rounding itself. */
static void rounding(void **state) {
    (void)state;
    const float x[] = {1.0f,         1.00390625f, 1.01171875f, 1.0039064f, -1.00390625f, 3.3895314e38f, 3.4e38f,
                       -3.4028235e38f, INFINITY,  -INFINITY,   NAN,        1.5e-38f,     0.0f,          -2.75f};
    const float want[] = {1.0f,      1.0f,      1.015625f, 1.0078125f, -1.0f,     3.3895314e38f, INFINITY,
                          -INFINITY, INFINITY, -INFINITY, NAN,        1.5e-38f, 0.0f,          -2.75f};
    enum { N = sizeof x / sizeof *x };
    float one = 1, got[N];
    uint32_t signalling = 0x7f800001u; /* a NaN whose upper half alone would be infinity */
    for (int t = 0; t < 3; t++) {
        distac_context *c = open_context(tables[t], 1);
        if (!c) continue;
        const di_kernels *k = di_kernels_for_models(c, DISTAC_F32);
        for (int side = 0; side < 3; side++) {
            if (side == 0) OK(k->linear(c, N, 1, 1, x, &one, NULL, DI_ACT_NONE, NULL, NULL, got));
            if (side == 1) OK(k->linear(c, 1, N, 1, &one, x, NULL, DI_ACT_NONE, NULL, NULL, got));
            if (side == 2) OK(k->linear_backward_input(c, 1, 1, N, &one, x, DI_ACT_NONE, NULL, false, got));
            for (int i = 0; i < N; i++) {
                if (isnan(want[i])) assert_true(isnan(got[i]));
                else if (isinf(want[i])) assert_true(got[i] == want[i]);
                else if (!(fabs((double)got[i] - (double)want[i]) <= 0.004 * fabs((double)want[i]) &&
                           (fabsf(want[i]) < 1e-30f || got[i] == want[i])))
                    fail_msg("%s: %.9g became %.9g", tables[t], (double)x[i], (double)got[i]);
            }
        }
        float bad;
        memcpy(&bad, &signalling, sizeof bad);
        OK(k->linear(c, 1, 1, 1, &bad, &one, NULL, DI_ACT_NONE, NULL, NULL, got));
        assert_true(isnan(got[0]));
        distac_context_release(c);
    }
}

static void unknown_products_are_refused(void **state) {
    (void)state;
    distac_context_desc desc = {.products = "fp8"};
    distac_context *context = NULL;
    assert_int_equal(distac_context_create(&desc, &context), DISTAC_EINVAL);
    assert_null(context);
    assert_non_null(strstr(distac_last_error(), "choose f32 or bf16"));
    distac_context_info info;
    context = open_context("scalar", 1);
    OK(distac_context_get_info(context, &info));
    assert_string_equal(info.products, "bf16 (emulated)");
    distac_context_release(context);
    OK(distac_context_create(NULL, &context));
    OK(distac_context_get_info(context, &info));
    assert_string_equal(info.products, "f32");
    assert_ptr_equal(di_kernels_for_models(context, DISTAC_F32), di_kernels_for(context, DISTAC_F32));
    distac_context_release(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_rounded_factors),
        cmocka_unit_test(rounding),
        cmocka_unit_test(unknown_products_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
