/* test_tensor_math.c: arithmetic, reductions and random numbers. */
#include "tensor_test.h"

static void operands_are_broadcast(void **state) {
    (void)state;
    distac_tensor *a = counting(DISTAC_F32, 3, DIMS(2, 1, 3)), *b = counting(DISTAC_F32, 2, DIMS(2, 1)), *out;
    OK(distac_tensor_binary(DISTAC_SUB, a, b, &out));
    expect(out, 3, DIMS(2, 2, 3), NUMBERS(0, 1, 2, -1, 0, 1, 3, 4, 5, 2, 3, 4), 0);
    distac_tensor_release(out);
    OK(distac_tensor_binary(DISTAC_SUB, b, a, &out));
    expect(out, 3, DIMS(2, 2, 3), NUMBERS(0, -1, -2, 1, 0, -1, -3, -4, -5, -2, -3, -4), 0);
    distac_tensor_release(out);
    distac_tensor *c = counting(DISTAC_F32, 2, DIMS(2, 3)), *d = counting(DISTAC_F32, 2, DIMS(2, 4));
    assert_int_equal(distac_tensor_binary(DISTAC_ADD, c, d, &out), DISTAC_ESHAPE);
    assert_string_equal(distac_last_error(), "distac_tensor_binary: a is [2,3], b is [2,4]; wanted sizes that are "
                                             "equal, counted from the last, or 1");
    distac_tensor *e = counting(DISTAC_F64, 2, DIMS(2, 3)), *h = counting(DISTAC_F16, 2, DIMS(2, 3));
    distac_tensor *i = counting(DISTAC_I32, 2, DIMS(2, 3));
    assert_int_equal(distac_tensor_binary(DISTAC_ADD, c, e, &out), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_binary(DISTAC_ADD, c, i, &out), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_binary(DISTAC_ADD, c, NULL, &out), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_binary(99, c, c, &out), DISTAC_EINVAL);
    OK(distac_tensor_binary(DISTAC_MUL, h, c, &out));
    assert_int_equal(distac_tensor_dtype(out), DISTAC_F32);
    expect(out, 2, DIMS(2, 3), NUMBERS(0, 1, 4, 9, 16, 25), 0);
    distac_tensor_release(out);
    distac_tensor *all[] = {a, b, c, d, e, h, i};
    for (size_t k = 0; k < 7; k++) distac_tensor_release(all[k]);
}

static double reference_binary(int32_t op, double x, double y) {
    switch (op) {
    case DISTAC_ADD: return x + y;
    case DISTAC_SUB: return x - y;
    case DISTAC_MUL: return x * y;
    case DISTAC_DIV: return x / y;
    case DISTAC_POW: return pow(x, y);
    case DISTAC_MAX: return x != x || y != y ? (double)NAN : x > y ? x : y;
    case DISTAC_MIN: return x != x || y != y ? (double)NAN : x < y ? x : y;
    case DISTAC_EQ: return x == y;
    case DISTAC_LT: return x < y;
    default: return x <= y;
    }
}

static void every_operation_on_every_kind_of_number(void **state) {
    (void)state;
    static const double special[] = {0, -0.0, 1, -1, 2.5, -3, INFINITY, -INFINITY, NAN};
    double x[81], y[81], wanted[81];
    for (int i = 0; i < 81; i++) {
        x[i] = special[i / 9];
        y[i] = special[i % 9];
    }
    for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_F32; dtype++) {
        distac_tensor *a = make(dtype, 2, DIMS(9, 9), x), *b = make(dtype, 2, DIMS(9, 9), y), *out;
        distac_tensor *column = make(dtype, 2, DIMS(9, 1), special), *row = make(dtype, 1, DIMS(9), special);
        for (int32_t op = DISTAC_ADD; op <= DISTAC_LE; op++) {
            for (int i = 0; i < 81; i++) wanted[i] = reference_binary(op, x[i], y[i]);
            OK(distac_tensor_binary(op, a, b, &out));
            expect(out, 2, DIMS(9, 9), wanted, 1e-5);
            distac_tensor_release(out);
            OK(distac_tensor_binary(op, column, row, &out));
            expect(out, 2, DIMS(9, 9), wanted, 1e-5);
            distac_tensor_release(out);
            for (int k = 0; k < 9; k++) {
                double column_wanted[9];
                for (int i = 0; i < 9; i++) column_wanted[i] = reference_binary(op, special[i], special[k]);
                OK(distac_tensor_binary_scalar(op, row, special[k], 0, &out));
                expect(out, 1, DIMS(9), column_wanted, 1e-5);
                distac_tensor_release(out);
                for (int i = 0; i < 9; i++) column_wanted[i] = reference_binary(op, special[k], special[i]);
                OK(distac_tensor_binary_scalar(op, row, special[k], 1, &out));
                expect(out, 1, DIMS(9), column_wanted, 1e-5);
                distac_tensor_release(out);
            }
        }
        distac_tensor *all[] = {a, b, column, row};
        for (size_t k = 0; k < 4; k++) distac_tensor_release(all[k]);
    }
}

static double reference_unary(int32_t op, double x) {
    switch (op) {
    case DISTAC_NEG: return -x;
    case DISTAC_ABS: return fabs(x);
    case DISTAC_SQRT: return sqrt(x);
    case DISTAC_EXP: return exp(x);
    case DISTAC_LOG: return log(x);
    case DISTAC_TANH: return tanh(x);
    case DISTAC_SIGN: return x != x ? x : (x > 0) - (x < 0);
    case DISTAC_SIGMOID: return 1 / (1 + exp(-x));
    case DISTAC_ERF: return erf(x);
    case DISTAC_GELU: return x * 0.5 * (1 + erf(x / sqrt(2)));
    case DISTAC_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default: return isfinite(x) ? 1 : 0;
    }
}

static void functions_of_one_number(void **state) {
    (void)state;
    static const double in[] = {0, 1, -1, 0.25, -0.75, 3, -4, 20, -30, 80, -80, INFINITY, NAN};
    double wanted[13];
    for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_BF16; dtype++) {
        distac_tensor *a = make(dtype, 1, DIMS(13), in), *out;
        for (int32_t op = DISTAC_NEG; op <= DISTAC_ISFINITE; op++) {
            OK(distac_tensor_unary(op, a, &out));
            double values[13];
            OK(distac_tensor_read(out, 13, values));
            for (int i = 0; i < 13; i++) {
                wanted[i] = reference_unary(op, in[i]);
                double tolerance = (dtype == DISTAC_F64 ? 1e-14 : 2e-6) * fmax(1, fabs(wanted[i]));
                bool equal = wanted[i] != wanted[i] ? values[i] != values[i]
                             : isinf(wanted[i])     ? values[i] == wanted[i]
                                                    : fabs(values[i] - wanted[i]) <= tolerance;
                if (!equal) fail_msg("op %d of %g is %.17g, wanted %.17g", op, in[i], values[i], wanted[i]);
            }
            distac_tensor_release(out);
        }
        assert_int_equal(distac_tensor_unary(-1, a, &out), DISTAC_EINVAL);
        distac_tensor_release(a);
    }
}

/* ---- reductions ---- */

static void reductions_over_each_dimension(void **state) {
    (void)state;
    static const int64_t shape[] = {3, 4, 5};
    double values[60];
    for (uint64_t i = 0; i < 60; i++) values[i] = floor(di_uniform(1, 1, i) * 9) - 4; /* with equal values */
    for (int turned = 0; turned < 2; turned++) {
        distac_tensor *a = make(DISTAC_F32, 3, shape, values), *view = NULL;
        int64_t size[] = {3, 4, 5}, step[] = {20, 5, 1};
        if (turned) {
            OK(distac_tensor_transpose(a, 0, 2, &view));
            size[0] = 5, size[2] = 3, step[0] = 1, step[2] = 20;
        } else {
            di_tensor_retain(a);
            view = a;
        }
        for (int32_t dim = 0; dim < 3; dim++) {
            int64_t other[2] = {size[dim == 0 ? 1 : 0], size[dim == 2 ? 1 : 2]};
            int64_t other_step[2] = {step[dim == 0 ? 1 : 0], step[dim == 2 ? 1 : 2]};
            for (int32_t op = DISTAC_SUM; op <= DISTAC_NORM; op++) {
                double wanted[20];
                for (int64_t i = 0; i < other[0] * other[1]; i++) {
                    const double *x = values + i / other[1] * other_step[0] + i % other[1] * other_step[1];
                    double sum = 0, squares = 0, best = x[0];
                    int64_t at = 0;
                    for (int64_t k = 0; k < size[dim]; k++) {
                        double v = x[k * step[dim]];
                        sum += v;
                        squares += v * v;
                        if (op == DISTAC_RMIN ? v < best : v > best) best = v, at = k;
                    }
                    wanted[i] = op == DISTAC_SUM    ? sum
                                : op == DISTAC_MEAN ? sum / (double)size[dim]
                                : op == DISTAC_NORM ? sqrt(squares)
                                : op == DISTAC_ARGMAX ? (double)at
                                                      : best;
                }
                distac_tensor *out, *kept;
                OK(distac_tensor_reduce(op, view, dim, 0, &out));
                assert_int_equal(distac_tensor_dtype(out), op == DISTAC_ARGMAX ? DISTAC_I64 : DISTAC_F32);
                expect(out, 2, other, wanted, 1e-5);
                OK(distac_tensor_reduce(op, view, dim, 1, &kept));
                int64_t kept_shape[] = {size[0], size[1], size[2]};
                kept_shape[dim] = 1;
                expect(kept, 3, kept_shape, wanted, 1e-5);
                distac_tensor_release(out);
                distac_tensor_release(kept);
            }
        }
        distac_tensor *out;
        assert_int_equal(distac_tensor_reduce(DISTAC_SUM, view, 3, 0, &out), DISTAC_EINVAL);
        assert_int_equal(distac_tensor_reduce(DISTAC_SUM, view, -2, 0, &out), DISTAC_EINVAL);
        distac_tensor_release(view);
        distac_tensor_release(a);
    }
}

static void long_sums_are_exact_and_do_not_depend_on_threads(void **state) {
    (void)state;
    enum { N = 300007 };
    distac_tensor *a = make(DISTAC_F32, 1, DIMS(N), NULL), *out;
    OK(distac_tensor_fill(a, 0.1));
    OK(distac_tensor_reduce(DISTAC_SUM, a, -1, 0, &out));
    expect_item(out, (double)(float)(N * (double)0.1f), 0);
    OK(distac_tensor_random(a, 0, 5, 0));
    distac_tensor *wide;
    OK(distac_tensor_cast(a, DISTAC_F64, &wide));
    double first[3] = {0};
    static const int32_t ops[] = {DISTAC_SUM, DISTAC_NORM, DISTAC_ARGMAX};
    for (int32_t threads = 1; threads <= 8; threads++) {
        OK(distac_context_set_threads(context, threads));
        for (int k = 0; k < 3; k++) {
            double value;
            OK(distac_tensor_reduce(ops[k], wide, -1, 0, &out));
            OK(distac_tensor_item(out, &value));
            distac_tensor_release(out);
            if (threads == 1) first[k] = value;
            assert_memory_equal(&value, &first[k], sizeof value);
        }
    }
    OK(distac_context_set_threads(context, 3));
    assert_true(fabs(first[1] / sqrt(N) - 1) < 0.01);
    distac_tensor_release(a);
    distac_tensor_release(wide);
}

static void nan_is_never_lost(void **state) {
    (void)state;
    static const double values[] = {1, NAN, 3, 2, -INFINITY, NAN};
    distac_tensor *a = make(DISTAC_F32, 1, DIMS(6), values), *out;
    static const int32_t ops[] = {DISTAC_SUM, DISTAC_MEAN, DISTAC_RMAX, DISTAC_RMIN, DISTAC_NORM};
    for (int i = 0; i < 5; i++) {
        OK(distac_tensor_reduce(ops[i], a, -1, 0, &out));
        expect_item(out, NAN, 0);
    }
    OK(distac_tensor_reduce(DISTAC_ARGMAX, a, -1, 0, &out));
    expect_item(out, 1, 0);
    distac_tensor_release(a);
    for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_BF16; dtype++) {
        int64_t first, count;
        a = make(dtype, 2, DIMS(300, 300), NULL);
        OK(distac_tensor_nonfinite(a, &first, &count));
        assert_true(first == -1 && count == 0);
        distac_tensor *row;
        OK(distac_tensor_select(a, 1, 7, &row));
        OK(distac_tensor_fill(row, -INFINITY));
        OK(distac_tensor_nonfinite(a, &first, &count));
        assert_true(first == 7 && count == 300);
        OK(distac_tensor_nonfinite(row, &first, &count));
        assert_true(first == 0 && count == 300);
        distac_tensor_release(row);
        distac_tensor_release(a);
    }
    a = make(DISTAC_F64, 1, DIMS(2), NUMBERS(3e200, 4e200));
    OK(distac_tensor_reduce(DISTAC_NORM, a, -1, 0, &out)); /* the squares do not fit into a double */
    expect_item(out, 5e200, 1e185);
    OK(distac_tensor_write(a, 2, NUMBERS(3e-200, 4e-200)));
    OK(distac_tensor_reduce(DISTAC_NORM, a, -1, 0, &out));
    expect_item(out, 5e-200, 1e-215);
    distac_tensor_release(a);
}

/* ---- random fill ---- */

static void random_fill_is_a_function_of_the_index(void **state) {
    (void)state;
    distac_tensor *a = make(DISTAC_F64, 2, DIMS(300, 400), NULL), *t;
    distac_tensor *b = make(DISTAC_F64, 2, DIMS(400, 300), NULL);
    OK(distac_tensor_random(a, 0, 42, 7));
    const double *x = distac_tensor_data(a);
    for (int64_t i = 0; i < a->numel; i += 997) assert_true(x[i] == di_normal(42, 7, (uint64_t)i));
    OK(distac_tensor_transpose(b, 0, 1, &t)); /* row-major order of the view, not of its storage */
    OK(distac_tensor_random(t, 0, 42, 7));
    double *y = malloc(120000 * sizeof *y);
    OK(distac_tensor_read(t, 120000, y));
    assert_memory_equal(x, y, 120000 * sizeof *y);
    free(y);
    for (int32_t dtype = DISTAC_F64; dtype <= DISTAC_BF16; dtype++) {
        distac_tensor *u = make(dtype, 1, DIMS(100000), NULL), *out;
        double value;
        OK(distac_tensor_random(u, 1, 1, 2));
        OK(distac_tensor_reduce(DISTAC_RMAX, u, -1, 0, &out));
        OK(distac_tensor_item(out, &value));
        assert_true(value < 1 && value > 0.99); /* never rounded up to 1 */
        distac_tensor_release(out);
        distac_tensor_release(u);
    }
    distac_tensor *integers = make(DISTAC_I32, 1, DIMS(3), NULL);
    assert_int_equal(distac_tensor_random(integers, 0, 1, 1), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_random(a, 2, 1, 1), DISTAC_EINVAL);
    distac_tensor *all[] = {a, b, t, integers};
    for (size_t k = 0; k < 4; k++) distac_tensor_release(all[k]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_are_broadcast),
        cmocka_unit_test(every_operation_on_every_kind_of_number),
        cmocka_unit_test(functions_of_one_number),
        cmocka_unit_test(reductions_over_each_dimension),
        cmocka_unit_test(long_sums_are_exact_and_do_not_depend_on_threads),
        cmocka_unit_test(nan_is_never_lost),
        cmocka_unit_test(random_fill_is_a_function_of_the_index),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
