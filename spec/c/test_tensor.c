/* test_tensor.c: conversion of every 16-bit pattern, views, broadcasting, reductions, linear algebra. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static distac_context *context;

static int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 3};
    return distac_context_create(&desc, &context);
}

static int teardown(void **state) {
    (void)state;
    distac_context_info info;
    distac_context_get_info(context, &info);
    distac_context_release(context);
    return info.memory_used == 0 ? 0 : -1; /* every tensor of every test was released */
}

#define OK(call) assert_int_equal((call), DISTAC_OK)
#define DIMS(...) (const int64_t[]){__VA_ARGS__}
#define NUMBERS(...) (const double[]){__VA_ARGS__}

static distac_tensor *make(int32_t dtype, int32_t rank, const int64_t *shape, const double *values) {
    distac_tensor *tensor = NULL;
    OK(distac_tensor_create(context, dtype, rank, shape, &tensor));
    if (values) OK(distac_tensor_write(tensor, tensor->numel, values));
    return tensor;
}

static distac_tensor *counting(int32_t dtype, int32_t rank, const int64_t *shape) {
    distac_tensor *tensor = make(dtype, rank, shape, NULL);
    double *values = malloc((size_t)(tensor->numel + 1) * sizeof *values);
    for (int64_t i = 0; i < tensor->numel; i++) values[i] = (double)i;
    OK(distac_tensor_write(tensor, tensor->numel, values));
    free(values);
    return tensor;
}

/* Fails on NaN where a number is wanted, and on a number where NaN is. */
static void expect(const distac_tensor *tensor, int32_t rank, const int64_t *shape, const double *wanted,
                   double tolerance) {
    assert_non_null(tensor);
    assert_int_equal(tensor->rank, rank);
    for (int32_t i = 0; i < rank; i++) assert_int_equal(tensor->shape[i], shape[i]);
    double *values = calloc((size_t)tensor->numel + 1, sizeof *values);
    OK(distac_tensor_read(tensor, tensor->numel, values));
    for (int64_t i = 0; i < tensor->numel; i++) {
        bool equal = wanted[i] != wanted[i] ? values[i] != values[i]
                     : isinf(wanted[i])     ? values[i] == wanted[i]
                                            : fabs(values[i] - wanted[i]) <= tolerance;
        if (!equal) fail_msg("element %lld is %.17g, wanted %.17g", (long long)i, values[i], wanted[i]);
    }
    free(values);
}

static void expect_item(distac_tensor *tensor, double wanted, double tolerance) {
    expect(tensor, 0, NULL, &wanted, tolerance);
    distac_tensor_release(tensor);
}

/* ---- conversion ---- */

/* Value of a 16-bit float by its definition: slow, and independent of the engine's way. */
static double decode16(uint16_t bits, int exponent_bits) {
    int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

/* The pattern nearest to a finite x >= 0, ties to the even pattern, by search over the (ordered) patterns. */
static uint16_t nearest16(double x, int exponent_bits) {
    uint16_t low = 0, high = (uint16_t)(((1 << exponent_bits) - 1) << (15 - exponent_bits)); /* infinity */
    double step = decode16((uint16_t)(high - 1), exponent_bits) - decode16((uint16_t)(high - 2), exponent_bits);
    while (high - low > 1) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (decode16(middle, exponent_bits) <= x)
            low = middle;
        else
            high = middle;
    }
    double below = decode16(low, exponent_bits), above = decode16(high, exponent_bits);
    if (isinf(above)) above = below + step; /* where the next number would lie */
    double to_below = x - below, to_above = above - x;
    return to_below < to_above || (to_below == to_above && low % 2 == 0) ? low : high;
}

static const struct {
    int32_t dtype;
    int exponent_bits;
} halves[] = {{DISTAC_F16, 5}, {DISTAC_BF16, 8}};

static void every_half_survives(void **state) {
    (void)state;
    for (int h = 0; h < 2; h++) {
        for (uint32_t bits = 0; bits < 65536; bits++) {
            uint16_t pattern = (uint16_t)bits, back, back_double;
            float single;
            double wide, wanted = decode16(pattern, halves[h].exponent_bits);
            di_to_f32(halves[h].dtype, &pattern, &single, 1);
            di_to_f64(halves[h].dtype, &pattern, &wide, 1);
            di_from_f32(halves[h].dtype, &single, &back, 1);
            di_from_f64(halves[h].dtype, &wide, &back_double, 1);
            if (wanted != wanted) { /* NaN stays NaN, with its sign */
                assert_true(single != single && wide != wide);
                double again = decode16(back, halves[h].exponent_bits);
                double again_double = decode16(back_double, halves[h].exponent_bits);
                assert_true(again != again && again_double != again_double);
                assert_int_equal(back >> 15, pattern >> 15);
                assert_int_equal(back_double >> 15, pattern >> 15);
            } else {
                assert_true((double)single == wanted && wide == wanted);
                assert_int_equal(back, pattern);
                assert_int_equal(back_double, pattern);
            }
        }
    }
}

static void check_rounding(int h, double x) {
    uint16_t got, wanted = nearest16(fabs(x), halves[h].exponent_bits);
    if (signbit(x)) wanted |= 0x8000;
    di_from_f64(halves[h].dtype, &x, &got, 1);
    if (got != wanted) fail_msg("%a becomes %04x from double, wanted %04x", x, got, wanted);
    float single = (float)x;
    if ((double)single != x) return;
    di_from_f32(halves[h].dtype, &single, &got, 1);
    if (got != wanted) fail_msg("%a becomes %04x from float, wanted %04x", x, got, wanted);
}

static void halves_are_rounded_to_the_nearest(void **state) {
    (void)state;
    for (int h = 0; h < 2; h++) {
        uint16_t infinity = (uint16_t)(((1 << halves[h].exponent_bits) - 1) << (15 - halves[h].exponent_bits));
        for (uint16_t bits = 0; bits < infinity; bits++) {
            double x = decode16(bits, halves[h].exponent_bits);
            double next = decode16((uint16_t)(bits + 1), halves[h].exponent_bits);
            if (isinf(next)) next = x + (x - decode16((uint16_t)(bits - 1), halves[h].exponent_bits));
            double middle = x + (next - x) / 2;
            /* The tie, and its neighbours in both wider types: the double next to a tie becomes the tie itself
             * when it is rounded to float first. */
            double around[] = {middle, nextafter(middle, 0), nextafter(middle, next),
                               (double)nextafterf((float)middle, 0), (double)nextafterf((float)middle, (float)next),
                               x + (next - x) * 0.3, x + (next - x) * 0.8};
            for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
                check_rounding(h, around[i]);
                check_rounding(h, -around[i]);
            }
        }
        check_rounding(h, 1e300);
        check_rounding(h, -1e300);
        check_rounding(h, 5e-324);
        check_rounding(h, (double)1.4e-45f);
        for (uint64_t i = 0; i < 20000; i++) {
            uint64_t bits = (uint64_t)(di_uniform(3, 0, i) * 0x1p62) * 2;
            double x = ldexp(di_uniform(4, 0, i) + 0.5, (int)(bits % 300) - 150);
            check_rounding(h, x);
        }
    }
}

static void integers_are_rounded_and_clamped(void **state) {
    (void)state;
    static const double in[] = {0.5, 1.5, 2.5, -0.5, -1.5, 300, -300, 1e30, -1e30, NAN, INFINITY, -INFINITY};
    int8_t i8[12];
    uint8_t u8[12];
    int64_t i64[12];
    uint64_t u64[12];
    static const int8_t want8[] = {0, 2, 2, 0, -2, 127, -128, 127, -128, 0, 127, -128};
    static const uint8_t wantu8[] = {0, 2, 2, 0, 0, 255, 0, 255, 0, 0, 255, 0};
    di_from_f64(DISTAC_I8, in, i8, 12);
    di_from_f64(DISTAC_U8, in, u8, 12);
    di_from_f64(DISTAC_I64, in, i64, 12);
    di_from_f64(DISTAC_U64, in, u64, 12);
    assert_memory_equal(i8, want8, sizeof i8);
    assert_memory_equal(u8, wantu8, sizeof u8);
    assert_true(i64[5] == 300 && i64[7] == INT64_MAX && i64[8] == INT64_MIN && i64[9] == 0);
    assert_true(u64[5] == 300 && u64[6] == 0 && u64[7] == UINT64_MAX && u64[9] == 0);
    for (int32_t dtype = 0; dtype < DISTAC_F8_E4M3; dtype++) { /* 0, 1 and 100 survive in every type */
        distac_tensor *a = make(dtype, 1, DIMS(3), NUMBERS(0, 1, 100));
        expect(a, 1, DIMS(3), dtype == DISTAC_BOOL ? NUMBERS(0, 1, 1) : NUMBERS(0, 1, 100), 0);
        for (int32_t to = 0; to < DISTAC_F8_E4M3; to++) {
            distac_tensor *b = NULL;
            OK(distac_tensor_cast(a, to, &b));
            bool truth = dtype == DISTAC_BOOL || to == DISTAC_BOOL;
            expect(b, 1, DIMS(3), truth ? NUMBERS(0, 1, 1) : NUMBERS(0, 1, 100), 0);
            distac_tensor_release(b);
        }
        distac_tensor_release(a);
    }
}

static void large_integers_keep_their_bits(void **state) {
    (void)state;
    distac_tensor *a = make(DISTAC_I64, 1, DIMS(3), NULL), *b = NULL, *c = NULL;
    int64_t *values = distac_tensor_data(a);
    values[0] = INT64_MAX;
    values[1] = (INT64_C(1) << 53) + 1;
    values[2] = -1;
    OK(distac_tensor_cast(a, DISTAC_U64, &b));
    uint64_t *positive = distac_tensor_data(b);
    assert_true(positive[0] == INT64_MAX && positive[1] == (UINT64_C(1) << 53) + 1 && positive[2] == 0);
    positive[0] = UINT64_MAX;
    OK(distac_tensor_cast(b, DISTAC_I64, &c));
    assert_true(((int64_t *)distac_tensor_data(c))[0] == INT64_MAX);
    distac_tensor_release(c);
    OK(distac_tensor_cast(b, DISTAC_I8, &c));
    expect(c, 1, DIMS(3), NUMBERS(127, 127, 0), 0);
    distac_tensor_release(a);
    distac_tensor_release(b);
    distac_tensor_release(c);
}

static void eight_bit_floats_are_read_and_carried(void **state) {
    (void)state;
    static const uint8_t four[] = {0x00, 0x80, 0x01, 0x07, 0x08, 0x38, 0x7e, 0x7f, 0xff, 0xc0};
    static const double four_values[] = {0, 0, 0x1p-9, 7 * 0x1p-9, 0x1p-6, 1, 448, NAN, NAN, -2};
    static const uint8_t five[] = {0x00, 0x01, 0x04, 0x3c, 0x7b, 0x7c, 0xfc, 0x7d, 0xc1};
    static const double five_values[] = {0, 0x1p-16, 0x1p-14, 1, 57344, INFINITY, -INFINITY, NAN, -2.5};
    distac_tensor *a = make(DISTAC_F8_E4M3, 1, DIMS(10), NULL), *b = make(DISTAC_F8_E5M2, 1, DIMS(9), NULL), *c;
    memcpy(distac_tensor_data(a), four, sizeof four);
    memcpy(distac_tensor_data(b), five, sizeof five);
    expect(a, 1, DIMS(10), four_values, 0);
    expect(b, 1, DIMS(9), five_values, 0);
    int64_t first, count;
    OK(distac_tensor_nonfinite(a, &first, &count));
    assert_true(first == 7 && count == 2);
    OK(distac_tensor_nonfinite(b, &first, &count));
    assert_true(first == 5 && count == 3);
    assert_int_equal(distac_tensor_cast(a, DISTAC_F8_E5M2, &c), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_fill(a, 1), DISTAC_EDTYPE);
    OK(distac_tensor_cast(a, DISTAC_F8_E4M3, &c));
    assert_memory_equal(distac_tensor_data(c), four, sizeof four);
    distac_tensor_release(a);
    distac_tensor_release(b);
    distac_tensor_release(c);
}

static void types_have_names(void **state) {
    (void)state;
    for (int32_t i = 0; i < DISTAC_DTYPE_COUNT; i++) {
        assert_int_equal(distac_dtype_from_name(distac_dtype_name(i)), i);
        assert_true(distac_dtype_bytes(i) >= 1);
    }
    assert_int_equal(distac_dtype_from_name("float32"), DISTAC_F32);
    assert_int_equal(distac_dtype_from_name("BF16"), DISTAC_BF16);
    assert_int_equal(distac_dtype_from_name("f3"), -1);
    assert_int_equal(distac_dtype_from_name("f32x"), -1);
    assert_int_equal(distac_dtype_from_name(NULL), -1);
    assert_null(distac_dtype_name(-1));
    assert_null(distac_dtype_name(DISTAC_DTYPE_COUNT));
}

/* ---- objects and views ---- */

static void shapes_are_checked(void **state) {
    (void)state;
    distac_tensor *tensor;
    int64_t many[17] = {0};
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 17, many, &tensor), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 1, DIMS(-1), &tensor), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_create(context, 99, 1, DIMS(1), &tensor), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 3, DIMS(INT64_MAX, 2, 2), &tensor), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 2, DIMS(INT64_C(1) << 32, INT64_C(1) << 32), &tensor),
                     DISTAC_ESHAPE);
    assert_null(tensor);
    assert_int_equal(distac_tensor_create(NULL, DISTAC_F32, 0, NULL, &tensor), DISTAC_EINVAL);
    tensor = make(DISTAC_F32, 3, DIMS(INT64_MAX, 0, INT64_MAX), NULL); /* empty, whatever the others say */
    assert_int_equal(distac_tensor_numel(tensor), 0);
    distac_tensor *out;
    OK(distac_tensor_fill(tensor, 1));
    OK(distac_tensor_binary(DISTAC_ADD, tensor, tensor, &out));
    distac_tensor_release(out);
    OK(distac_tensor_reduce(DISTAC_SUM, tensor, 0, 0, &out));
    expect(out, 2, DIMS(0, INT64_MAX), NULL, 0);
    distac_tensor_release(out);
    assert_int_equal(distac_tensor_reduce(DISTAC_SUM, tensor, 1, 0, &out), DISTAC_ESHAPE);
    OK(distac_tensor_transpose(tensor, 0, 1, &out));
    distac_tensor *copy;
    OK(distac_tensor_cast(out, DISTAC_F16, &copy));
    distac_tensor_release(copy);
    distac_tensor_release(out);
    distac_tensor_release(tensor);
    distac_tensor_release(NULL);
    assert_int_equal(distac_tensor_numel(NULL), -1);
    assert_int_equal(distac_tensor_size(NULL, 0), -1);
    assert_null(distac_tensor_data(NULL));
}

static void views_share_elements(void **state) {
    (void)state;
    distac_tensor *a = counting(DISTAC_F32, 3, DIMS(2, 3, 4)), *t, *n, *s, *r, *c;
    OK(distac_tensor_transpose(a, 0, 2, &t));
    assert_int_equal(distac_tensor_contiguous(t), 0);
    expect(t, 3, DIMS(4, 3, 2), NUMBERS(0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22, 3, 15, 7, 19,
                                        11, 23), 0);
    OK(distac_tensor_narrow(t, 1, 1, 2, &n));
    OK(distac_tensor_select(n, 0, 3, &s));
    expect(s, 2, DIMS(2, 2), NUMBERS(7, 19, 11, 23), 0);
    OK(distac_tensor_fill(s, -1));
    OK(distac_tensor_reshape(a, 2, DIMS(6, -1), &r));
    expect(r, 2, DIMS(6, 4), NUMBERS(0, 1, 2, 3, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14, 15, 16, 17, 18, -1, 20, 21, 22,
                                     -1), 0);
    assert_int_equal(distac_tensor_reshape(t, 1, DIMS(24), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 2, DIMS(5, -1), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 2, DIMS(-1, -1), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 1, DIMS(23), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_narrow(a, 0, 1, 2, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_narrow(a, 0, 1, INT64_MAX, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_select(a, 1, 3, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_transpose(a, 0, 3, &c), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "distac_tensor_transpose: dim1 is 3, the tensor is [2,3,4]"));
    distac_tensor_release(a); /* views outlive their source */
    OK(distac_tensor_write(s, 4, NUMBERS(1, 2, 3, 4)));
    expect(s, 2, DIMS(2, 2), NUMBERS(1, 2, 3, 4), 0);
    OK(distac_tensor_cast(s, DISTAC_F16, &c));
    assert_int_equal(distac_tensor_contiguous(c), 1);
    expect(c, 2, DIMS(2, 2), NUMBERS(1, 2, 3, 4), 0);
    distac_tensor_release(c);
    distac_tensor_release(r);
    distac_tensor_release(s);
    distac_tensor_release(n);
    distac_tensor_release(t);
}

static void copies_may_overlap(void **state) {
    (void)state;
    distac_tensor *a = counting(DISTAC_F64, 2, DIMS(3, 3)), *t, *to, *from;
    OK(distac_tensor_transpose(a, 0, 1, &t));
    OK(distac_tensor_copy(a, t));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 1, 4, 7, 2, 5, 8), 0);
    OK(distac_tensor_narrow(a, 0, 0, 2, &from));
    OK(distac_tensor_narrow(a, 0, 1, 2, &to));
    OK(distac_tensor_copy(to, from));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 0, 3, 6, 1, 4, 7), 0);
    distac_tensor *half = counting(DISTAC_BF16, 2, DIMS(2, 3));
    OK(distac_tensor_copy(to, half));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 0, 1, 2, 3, 4, 5), 0);
    assert_int_equal(distac_tensor_copy(a, half), DISTAC_ESHAPE);
    assert_non_null(strstr(distac_last_error(), "dst is [3,3], src is [2,3]"));
    distac_tensor_release(half);
    distac_tensor_release(to);
    distac_tensor_release(from);
    distac_tensor_release(t);
    distac_tensor_release(a);
}

static int released;
static void release_owner(void *owner) { released += *(int *)owner; }

static void foreign_memory_may_be_unaligned_and_read_only(void **state) {
    (void)state;
    int one = 1;
    char bytes[1 + 4 * sizeof(float)];
    float values[] = {1, 2, 3, 4};
    memcpy(bytes + 1, values, sizeof values);
    distac_tensor *a, *t, *sum, *part;
    released = 0;
    OK(di_tensor_foreign(context, DISTAC_F32, 2, DIMS(2, 2), bytes + 1, true, release_owner, &one, &a));
    assert_int_equal(distac_tensor_readonly(a), 1);
    OK(distac_tensor_transpose(a, 0, 1, &t));
    expect(t, 2, DIMS(2, 2), NUMBERS(1, 3, 2, 4), 0);
    OK(distac_tensor_binary(DISTAC_ADD, a, t, &sum));
    expect(sum, 2, DIMS(2, 2), NUMBERS(2, 5, 5, 8), 0);
    assert_int_equal(distac_tensor_fill(t, 1), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_write(a, 4, NUMBERS(1, 2, 3, 4)), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_copy(a, sum), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_random(a, 0, 1, 1), DISTAC_ESTATE);
    OK(di_tensor_slice(a, 1, 1, DIMS(3), &part));
    expect(part, 1, DIMS(3), NUMBERS(2, 3, 4), 0);
    distac_tensor_release(a);
    distac_tensor_release(t);
    assert_int_equal(released, 0);
    distac_tensor_release(part);
    assert_int_equal(released, 1);
    assert_int_equal(di_tensor_slice(sum, 2, 1, DIMS(3), &part), DISTAC_ESHAPE);
    distac_tensor_release(sum);
}

static void scalars_and_empty_tensors_work(void **state) {
    (void)state;
    distac_tensor *scalar = make(DISTAC_F32, 0, NULL, NUMBERS(3)), *empty = make(DISTAC_F32, 2, DIMS(0, 3), NULL);
    distac_tensor *out;
    double value;
    OK(distac_tensor_item(scalar, &value));
    assert_true(value == 3);
    assert_int_equal(distac_tensor_item(empty, &value), DISTAC_ESHAPE);
    OK(distac_tensor_binary(DISTAC_MUL, scalar, scalar, &out));
    expect_item(out, 9, 0);
    OK(distac_tensor_binary(DISTAC_ADD, empty, scalar, &out));
    expect(out, 2, DIMS(0, 3), NULL, 0);
    distac_tensor_release(out);
    OK(distac_tensor_unary(DISTAC_NEG, scalar, &out));
    expect_item(out, -3, 0);
    OK(distac_tensor_unary(DISTAC_EXP, empty, &out));
    distac_tensor_release(out);
    OK(distac_tensor_cast(empty, DISTAC_F16, &out));
    distac_tensor_release(out);
    OK(distac_tensor_fill(empty, 1));
    OK(distac_tensor_random(empty, 0, 1, 2));
    OK(distac_tensor_write(empty, 0, NULL));
    OK(distac_tensor_reduce(DISTAC_SUM, scalar, -1, 0, &out));
    expect_item(out, 3, 0);
    OK(distac_tensor_reduce(DISTAC_SUM, empty, -1, 0, &out));
    expect_item(out, 0, 0);
    OK(distac_tensor_reduce(DISTAC_MEAN, empty, -1, 0, &out));
    expect_item(out, NAN, 0);
    OK(distac_tensor_reduce(DISTAC_SUM, empty, 0, 0, &out));
    expect(out, 1, DIMS(3), NUMBERS(0, 0, 0), 0);
    distac_tensor_release(out);
    OK(distac_tensor_reduce(DISTAC_RMAX, empty, 1, 0, &out));
    expect(out, 1, DIMS(0), NULL, 0);
    distac_tensor_release(out);
    assert_int_equal(distac_tensor_reduce(DISTAC_RMAX, empty, 0, 0, &out), DISTAC_ESHAPE);
    assert_null(out);
    OK(distac_tensor_softmax(scalar, 0, &out));
    expect_item(out, 1, 0);
    OK(distac_tensor_softmax(empty, 0, &out));
    distac_tensor_release(out);
    distac_tensor_release(scalar);
    distac_tensor_release(empty);
}

/* ---- arithmetic ---- */

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
    assert_string_equal(distac_last_error(), "distac_tensor_binary: a is [2,3], b is [2,4]");
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
    distac_tensor *a = make(DISTAC_F64, 2, DIMS(300, 400), NULL), *b = make(DISTAC_F64, 2, DIMS(400, 300), NULL), *t;
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

/* ---- linear algebra ---- */

static distac_tensor *random_matrix(int32_t dtype, int64_t rows, int64_t columns, uint64_t seed) {
    distac_tensor *a = make(dtype, 2, DIMS(rows, columns), NULL);
    OK(distac_tensor_random(a, 0, seed, 0));
    return a;
}

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
            distac_tensor *a = random_matrix(dtype, M, K, 1), *b = random_matrix(dtype, K, N, 2), *at, *bt, *ta, *tb;
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
    distac_tensor *a = make(DISTAC_F64, 2, DIMS(3, 3), NUMBERS(0, 0, 0, 1000, 0, -1000, -1e4, -1e4 + 1, -1e4)), *out;
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
    for (int i = 0; i < 3; i++) assert_true(fabs(values[3 * i] + values[3 * i + 1] + values[3 * i + 2] - 1) < 1e-14);
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
        distac_tensor *w = make(DISTAC_F64, 1, DIMS(n), NULL), *v = make(DISTAC_F64, 2, DIMS(n, n), NULL), *av, *vw;
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

static void out_of_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    distac_tensor *a = random_matrix(DISTAC_F32, 64, 48, 1), *h, *t, *u = make(DISTAC_F32, 2, DIMS(64, 48), NULL);
    distac_tensor *s = make(DISTAC_F32, 1, DIMS(48), NULL), *vt = make(DISTAC_F32, 2, DIMS(48, 48), NULL);
    OK(distac_tensor_cast(a, DISTAC_F16, &h));
    OK(distac_tensor_transpose(h, 0, 1, &t));
    distac_context_info info;
    distac_context_get_info(context, &info);
    int64_t used = info.memory_used;
    for (int which = 0; which < 7; which++) {
        int failures = 0;
        for (int64_t extra = 1;; extra += extra < 64 ? 63 : extra / 4) { /* a little more until it succeeds */
            distac_tensor *out = NULL;
            distac_status status = DISTAC_OK;
            OK(distac_context_set_memory_limit(context, used + extra));
            switch (which) {
            case 0: status = distac_tensor_cast(t, DISTAC_F64, &out); break;
            case 1: status = distac_tensor_binary(DISTAC_ADD, h, h, &out); break;
            case 2: status = distac_tensor_unary(DISTAC_EXP, t, &out); break;
            case 3: status = distac_tensor_reduce(DISTAC_SUM, t, 0, 0, &out); break;
            case 4: status = distac_tensor_matmul(h, t, &out); break;
            case 5: status = distac_tensor_softmax(t, 0, &out); break;
            default: status = distac_tensor_svd(h, u, s, vt); break;
            }
            if (status != DISTAC_OK) {
                assert_int_equal(status, DISTAC_ENOMEM);
                assert_null(out);
                failures++;
            }
            distac_tensor_release(out);
            distac_context_get_info(context, &info);
            assert_int_equal(info.memory_used, used);
            if (status == DISTAC_OK) break;
        }
        assert_true(failures > 0);
        OK(distac_context_set_memory_limit(context, 0));
    }
    distac_tensor *all[] = {a, h, t, u, s, vt};
    for (size_t k = 0; k < 6; k++) distac_tensor_release(all[k]);
}

static void test_adopted_memory(void **state) {
    (void)state;
    float memory[6] = {1, 2, 3, 4, 5, 6};
    distac_context_info before, after;
    OK(distac_context_get_info(context, &before));
    distac_tensor *whole = NULL, *row = NULL;
    OK(distac_tensor_adopt(context, DISTAC_F32, 2, DIMS(2, 3), memory, sizeof memory, 0, &whole));
    assert_ptr_equal(distac_tensor_data(whole), memory);
    OK(distac_context_get_info(context, &after));
    assert_int_equal(after.memory_used, before.memory_used); /* not the engine's memory */
    assert_int_equal(distac_tensor_sharers(whole), 1);
    OK(distac_tensor_select(whole, 0, 1, &row));
    assert_ptr_equal(distac_tensor_data(row), memory + 3);
    assert_int_equal(distac_tensor_sharers(whole), 2);
    OK(distac_tensor_fill(row, 7));
    assert_true(memory[2] == 3 && memory[3] == 7 && memory[5] == 7);
    distac_tensor_release(whole);
    assert_int_equal(distac_tensor_sharers(row), 1);
    distac_tensor_release(row);
    memory[0] = 8; /* still the caller's */

    distac_tensor *bad = NULL;
    OK(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(6), memory, sizeof memory, 1, &bad));
    assert_int_equal(distac_tensor_fill(bad, 0), DISTAC_ESTATE);
    distac_tensor_release(bad);
    bad = NULL;
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(7), memory, sizeof memory, 0, &bad),
                     DISTAC_ESHAPE);
    assert_null(bad);
    assert_string_equal(distac_last_error(), "distac_tensor_adopt: shape [7] of f32 takes 28 bytes, data has 24");
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), (char *)memory + 1, 8, 0, &bad),
                     DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), memory, -1, 0, &bad), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), NULL, 8, 0, &bad), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, 99, 1, DIMS(1), memory, 8, 0, &bad), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_sharers(NULL), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adopted_memory),
        cmocka_unit_test(every_half_survives),
        cmocka_unit_test(halves_are_rounded_to_the_nearest),
        cmocka_unit_test(integers_are_rounded_and_clamped),
        cmocka_unit_test(large_integers_keep_their_bits),
        cmocka_unit_test(eight_bit_floats_are_read_and_carried),
        cmocka_unit_test(types_have_names),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(views_share_elements),
        cmocka_unit_test(copies_may_overlap),
        cmocka_unit_test(foreign_memory_may_be_unaligned_and_read_only),
        cmocka_unit_test(scalars_and_empty_tensors_work),
        cmocka_unit_test(operands_are_broadcast),
        cmocka_unit_test(every_operation_on_every_kind_of_number),
        cmocka_unit_test(functions_of_one_number),
        cmocka_unit_test(reductions_over_each_dimension),
        cmocka_unit_test(long_sums_are_exact_and_do_not_depend_on_threads),
        cmocka_unit_test(nan_is_never_lost),
        cmocka_unit_test(random_fill_is_a_function_of_the_index),
        cmocka_unit_test(products_of_any_view),
        cmocka_unit_test(softmax_of_extreme_logits),
        cmocka_unit_test(singular_values_rebuild_the_matrix),
        cmocka_unit_test(eigenvectors_diagonalise),
        cmocka_unit_test(out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
