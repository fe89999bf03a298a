/* test_tensor_linear.c: matrix products, softmax, singular values and eigenvectors. */
#include "tensor_test.h"

static void expect_product(const distac_tensor *a, const distac_tensor *b, double tolerance) {
    int64_t M = a->shape[0], K = a->shape[1], N = b->shape[1];
    double *x = malloc((size_t)(M * K + K * N + M * N) * sizeof *x), *y = x + M * K, *wanted = y + K * N;
    OK(distac_tensor_read(a, M * K, x));
    OK(distac_tensor_read(b, K * N, y));
    for (int64_t i = 0; i < M * N; i++) {
        wanted[i] = 0;
        for (int64_t k = 0; k < K; k++) wanted[i] += x[i / N * K + k] * y[k * N + i % N];
    }
    distac_tensor *out;
    OK(distac_tensor_matmul(a, b, &out));
    expect(out, 2, DIMS(M, N), wanted, tolerance);
    distac_tensor_release(out);
    free(x);
}

static void products_of_any_view(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {1, 9, 4}, {6, 1, 5}, {8, 3, 1}, {65, 130, 33}};
    for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_F32; dtype++) {
        double tolerance = dtype == DISTAC_F64 ? 1e-12 : 1e-4;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int64_t M = sizes[i][0], K = sizes[i][1], N = sizes[i][2];
            distac_tensor *a = random_matrix(dtype, M, K, 1), *b = random_matrix(dtype, K, N, 2);
            distac_tensor *at, *bt, *ta, *tb;
            OK(distac_tensor_transpose(a, 0, 1, &ta));
            OK(distac_tensor_transpose(b, 0, 1, &tb));
            OK(distac_tensor_cast(ta, dtype, &at));
            OK(distac_tensor_cast(tb, dtype, &bt));
            distac_tensor *att, *btt;
            OK(distac_tensor_transpose(at, 0, 1, &att)); /* the values of a, stored by columns */
            OK(distac_tensor_transpose(bt, 0, 1, &btt));
            expect_product(a, b, tolerance);
            expect_product(att, b, tolerance);
            expect_product(a, btt, tolerance);
            expect_product(att, btt, tolerance);
            distac_tensor *all[] = {a, b, ta, tb, at, bt, att, btt};
            for (size_t k = 0; k < 8; k++) distac_tensor_release(all[k]);
        }
        distac_tensor *big = random_matrix(dtype, 20, 30, 3), *part, *narrow;
        OK(distac_tensor_narrow(big, 1, 4, 11, &part)); /* rows longer than the matrix */
        OK(distac_tensor_narrow(big, 0, 2, 11, &narrow));
        expect_product(part, narrow, tolerance);
        distac_tensor_release(big);
        distac_tensor_release(part);
        distac_tensor_release(narrow);
    }
    distac_tensor *a = counting(DISTAC_F32, 3, DIMS(2, 2, 3)), *b = counting(DISTAC_F16, 3, DIMS(2, 3, 2)), *out;
    OK(distac_tensor_matmul(a, b, &out));
    expect(out, 3, DIMS(2, 2, 2), NUMBERS(10, 13, 28, 40, 172, 193, 244, 274), 0);
    distac_tensor_release(out);
    distac_tensor *t;
    OK(distac_tensor_transpose(a, 0, 2, &t));
    assert_int_equal(distac_tensor_matmul(t, a, &out), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_matmul(a, a, &out), DISTAC_ESHAPE);
    assert_non_null(strstr(distac_last_error(), "a is [2,2,3], b is [2,2,3]"));
    distac_tensor_release(t);
    distac_tensor_release(a);
    distac_tensor_release(b);
    a = make(DISTAC_F32, 2, DIMS(2, 0), NULL);
    b = make(DISTAC_F32, 2, DIMS(0, 2), NULL);
    OK(distac_tensor_matmul(a, b, &out));
    expect(out, 2, DIMS(2, 2), NUMBERS(0, 0, 0, 0), 0);
    distac_tensor_release(out);
    OK(distac_tensor_matmul(b, a, &out));
    expect(out, 2, DIMS(0, 0), NULL, 0);
    distac_tensor_release(out);
    distac_tensor_release(a);
    distac_tensor_release(b);
}

static void softmax_of_extreme_logits(void **state) {
    (void)state;
    distac_tensor *out;
    distac_tensor *a = make(DISTAC_F64, 2, DIMS(3, 3), NUMBERS(0, 0, 0, 1000, 0, -1000, -1e4, -1e4 + 1, -1e4));
    double e = exp(1) / (2 + exp(1)), f = 1 / (2 + exp(1));
    OK(distac_tensor_softmax(a, 0, &out));
    expect(out, 2, DIMS(3, 3), NUMBERS(1.0 / 3, 1.0 / 3, 1.0 / 3, 1, 0, 0, f, e, f), 1e-15);
    distac_tensor_release(out);
    OK(distac_tensor_softmax(a, 1, &out));
    expect(out, 2, DIMS(3, 3), NUMBERS(-log(3), -log(3), -log(3), 0, -1000, -2000, log(f), log(e), log(f)), 1e-13);
    distac_tensor_release(out);
    distac_tensor *t;
    OK(distac_tensor_transpose(a, 0, 1, &t));
    OK(distac_tensor_softmax(t, 0, &out));
    double values[9];
    OK(distac_tensor_read(out, 9, values));
    for (int i = 0; i < 3; i++)
        assert_true(fabs(values[3 * i] + values[3 * i + 1] + values[3 * i + 2] - 1) < 1e-14);
    distac_tensor_release(out);
    distac_tensor_release(t);
    distac_tensor_release(a);
}

static double largest_difference(const distac_tensor *a, const distac_tensor *b) {
    distac_tensor *difference, *size, *most;
    double value;
    OK(distac_tensor_binary(DISTAC_SUB, a, b, &difference));
    OK(distac_tensor_unary(DISTAC_ABS, difference, &size));
    OK(distac_tensor_reduce(DISTAC_RMAX, size, -1, 0, &most));
    OK(distac_tensor_item(most, &value));
    distac_tensor_release(difference);
    distac_tensor_release(size);
    distac_tensor_release(most);
    return value; /* NaN if any element is */
}

/* x transposed times x, or x times x transposed, is the identity. */
static void expect_orthogonal(const distac_tensor *x, bool columns, double tolerance) {
    distac_tensor *t, *product;
    OK(distac_tensor_transpose(x, 0, 1, &t));
    OK(distac_tensor_matmul(columns ? t : x, columns ? x : t, &product));
    int64_t n = product->shape[0];
    double *identity = calloc((size_t)(n * n), sizeof *identity);
    for (int64_t i = 0; i < n; i++) identity[i * n + i] = 1;
    expect(product, 2, DIMS(n, n), identity, tolerance);
    free(identity);
    distac_tensor_release(t);
    distac_tensor_release(product);
}

static void singular_values_rebuild_the_matrix(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {5, 3}, {3, 5}, {40, 40}, {1, 6}, {70, 20}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_F32; dtype++) {
            double tolerance = dtype == DISTAC_F64 ? 1e-12 : 1e-5;
            int64_t M = sizes[i][0], N = sizes[i][1], R = M < N ? M : N;
            distac_tensor *stored = random_matrix(dtype, N, M, 4), *a;
            OK(distac_tensor_transpose(stored, 0, 1, &a)); /* a strided argument */
            distac_tensor *u = make(dtype, 2, DIMS(M, R), NULL), *s = make(dtype, 1, DIMS(R), NULL);
            distac_tensor *vt = make(dtype, 2, DIMS(R, N), NULL), *us, *again;
            OK(distac_tensor_svd(a, u, s, vt));
            OK(distac_tensor_binary(DISTAC_MUL, u, s, &us));
            OK(distac_tensor_matmul(us, vt, &again));
            assert_true(largest_difference(again, a) <= tolerance);
            expect_orthogonal(u, true, tolerance);
            expect_orthogonal(vt, false, tolerance);
            double values[40];
            OK(distac_tensor_read(s, R, values));
            for (int64_t k = 0; k < R; k++) assert_true(values[k] >= 0 && (k == 0 || values[k] <= values[k - 1]));
            distac_tensor *all[] = {stored, a, u, s, vt, us, again};
            for (size_t k = 0; k < 7; k++) distac_tensor_release(all[k]);
        }
    }
    distac_tensor *a = random_matrix(DISTAC_F32, 3, 2, 1), *u = make(DISTAC_F32, 2, DIMS(3, 2), NULL);
    distac_tensor *s = make(DISTAC_F32, 1, DIMS(2), NULL), *vt = make(DISTAC_F32, 2, DIMS(2, 2), NULL);
    assert_int_equal(distac_tensor_svd(a, vt, s, vt), DISTAC_ESHAPE);
    assert_non_null(strstr(distac_last_error(), "distac_tensor_svd: u is [2,2], wanted [3,2]"));
    assert_int_equal(distac_tensor_svd(s, u, s, vt), DISTAC_ESHAPE);
    OK(distac_tensor_write(a, 6, NUMBERS(1, 2, 3, NAN, 5, 6)));
    assert_int_equal(distac_tensor_svd(a, u, s, vt), DISTAC_ENUMERIC);
    assert_non_null(strstr(distac_last_error(), "index 3"));
    distac_tensor *all[] = {a, u, s, vt};
    for (size_t k = 0; k < 4; k++) distac_tensor_release(all[k]);
}

static void eigenvectors_diagonalise(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 50};
    for (size_t i = 0; i < 4; i++) {
        int64_t n = sizes[i];
        distac_tensor *x = random_matrix(DISTAC_F64, n, n, 6), *t, *a, *lower;
        OK(distac_tensor_transpose(x, 0, 1, &t));
        OK(distac_tensor_binary(DISTAC_ADD, x, t, &a));
        OK(distac_tensor_cast(a, DISTAC_F64, &lower)); /* NaN is not allowed above, but other numbers are */
        for (int64_t k = 0; k < n * n; k++)
            if (k % n > k / n) ((double *)lower->data)[k] = 1e6;
        distac_tensor *w = make(DISTAC_F64, 1, DIMS(n), NULL), *v = make(DISTAC_F64, 2, DIMS(n, n), NULL);
        distac_tensor *av, *vw;
        OK(distac_tensor_eigh(lower, w, v));
        OK(distac_tensor_matmul(a, v, &av));
        OK(distac_tensor_binary(DISTAC_MUL, v, w, &vw));
        assert_true(largest_difference(av, vw) <= 1e-11);
        expect_orthogonal(v, true, 1e-12);
        for (int64_t k = 1; k < n; k++) assert_true(((double *)w->data)[k] >= ((double *)w->data)[k - 1]);
        distac_tensor *all[] = {x, t, a, lower, w, v, av, vw};
        for (size_t k = 0; k < 8; k++) distac_tensor_release(all[k]);
    }
    distac_tensor *a = random_matrix(DISTAC_F32, 3, 2, 1), *w = make(DISTAC_F32, 1, DIMS(3), NULL);
    distac_tensor *v = make(DISTAC_F32, 2, DIMS(3, 3), NULL);
    assert_int_equal(distac_tensor_eigh(a, w, v), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_eigh(v, v, v), DISTAC_ESHAPE);
    distac_tensor *all[] = {a, w, v};
    for (size_t k = 0; k < 3; k++) distac_tensor_release(all[k]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_any_view),
        cmocka_unit_test(softmax_of_extreme_logits),
        cmocka_unit_test(singular_values_rebuild_the_matrix),
        cmocka_unit_test(eigenvectors_diagonalise),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
