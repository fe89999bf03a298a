/* test_tensor_types.c: what element types hold: halves, integers, 8-bit floats, their conversion. */
#include "tensor_test.h"

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
            double around[] = {middle,
                               nextafter(middle, 0),
                               nextafter(middle, next),
                               (double)nextafterf((float)middle, 0),
                               (double)nextafterf((float)middle, (float)next),
                               x + (next - x) * 0.3,
                               x + (next - x) * 0.8};
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives),
        cmocka_unit_test(halves_are_rounded_to_the_nearest),
        cmocka_unit_test(integers_are_rounded_and_clamped),
        cmocka_unit_test(large_integers_keep_their_bits),
        cmocka_unit_test(eight_bit_floats_are_read_and_carried),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
