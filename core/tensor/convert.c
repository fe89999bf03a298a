/* convert.c: elements from one type to another: exact where the type can hold the value, else rounded to the
 * nearest, ties to even; NaN stays NaN with its sign. All loads and stores go through memcpy: file data may lie
 * at any address. */
#include "tensor.h"

#include <math.h>
#include <string.h>

/* Elements converted at a time where two steps are needed: it stays in the first cache. */
enum { PIECE = 512 };

/* ---- bits ---- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    /* Subnormal: the mantissa counts units of 2^-24, exactly a float. Else the exponent moves from bias 15 to
     * bias 127, and once more by as much for infinity and NaN. */
    uint32_t tiny = bits_of((float)magnitude * 0x1p-24f);
    uint32_t normal = (magnitude << 13) + ((127u - 15u) << 23);
    normal += magnitude >= 0x7c00 ? (127u - 15u) << 23 : 0;
    return float_of(sign | (magnitude < 0x0400 ? tiny : normal));
}

static uint16_t float_to_half(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    /* Beside 0.5, whose last place is 2^-24, the addition rounds as a subnormal half wants it. */
    uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t normal = (magnitude - ((127u - 15u) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x1ff);
    uint32_t half = magnitude < 0x38800000 ? tiny : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half; /* 65520 and more is nearer to 2^16 */
    half = magnitude > 0x7f800000 ? nan : half;
    return (uint16_t)(sign | half);
}

static float bfloat_to_float(uint16_t b) { return float_of((uint32_t)b << 16); }

static uint16_t float_to_bfloat(float x) {
    uint32_t bits = bits_of(x);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}

/* The float next to x with its last bit set unless x is a float ("rounded to odd"): rounding that once more to a
 * narrower type gives what rounding x itself would. */
static float double_to_odd(double x) {
    float near = (float)x;
    uint32_t bits = bits_of(near);
    if ((double)near == x || x != x) return near;
    if (fabs((double)near) > fabs(x)) bits--;
    return float_of(bits | 1);
}

static float eight_to_float(uint8_t e, int exponent_bits) {
    int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (e & 0x7f) >> mantissa_bits, mantissa = e & ((1 << mantissa_bits) - 1);
    float sign = e & 0x80 ? -1.0f : 1.0f;
    if (exponent_bits == 4 && (e & 0x7f) == 0x7f) return copysignf(NAN, sign); /* E4M3 has no infinity */
    if (exponent_bits == 5 && exponent == 31) return mantissa ? copysignf(NAN, sign) : sign * INFINITY;
    if (exponent == 0) return sign * ldexpf((float)mantissa, 1 - bias - mantissa_bits);
    return sign * ldexpf((float)(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
}

/* ---- to float and double ---- */

#define EACH(source, expression)                                                                                \
    for (int64_t i = 0; i < n; i++) {                                                                           \
        source v;                                                                                               \
        memcpy(&v, bytes + (size_t)i * sizeof v, sizeof v);                                                     \
        dst[i] = (expression);                                                                                  \
    }                                                                                                           \
    return

/* The same table of types for both targets T. */
#define TO_TYPE(T)                                                                                              \
    const char *bytes = src;                                                                                    \
    switch (dtype) {                                                                                            \
    case DISTAC_F64: EACH(double, (T)v);                                                                        \
    case DISTAC_F32: EACH(float, (T)v);                                                                         \
    case DISTAC_F16: EACH(uint16_t, (T)half_to_float(v));                                                       \
    case DISTAC_BF16: EACH(uint16_t, (T)bfloat_to_float(v));                                                    \
    case DISTAC_I64: EACH(int64_t, (T)v);                                                                       \
    case DISTAC_I32: EACH(int32_t, (T)v);                                                                       \
    case DISTAC_I16: EACH(int16_t, (T)v);                                                                       \
    case DISTAC_I8: EACH(int8_t, (T)v);                                                                         \
    case DISTAC_U8: EACH(uint8_t, (T)v);                                                                        \
    case DISTAC_BOOL: EACH(uint8_t, (T)(v != 0));                                                               \
    case DISTAC_U16: EACH(uint16_t, (T)v);                                                                      \
    case DISTAC_U32: EACH(uint32_t, (T)v);                                                                      \
    case DISTAC_U64: EACH(uint64_t, (T)v);                                                                      \
    case DISTAC_F8_E4M3: EACH(uint8_t, (T)eight_to_float(v, 4));                                                \
    case DISTAC_F8_E5M2: EACH(uint8_t, (T)eight_to_float(v, 5));                                                \
    default: return;                                                                                            \
    }

void di_to_f32(int32_t dtype, const void *src, float *dst, int64_t n) {
    if (dtype == DISTAC_F32) {
        if (n > 0) memmove(dst, src, (size_t)n * sizeof *dst); /* signalling NaN included */
        return;
    }
    TO_TYPE(float)
}

DI_CLONES void di_to_f64(int32_t dtype, const void *src, double *dst, int64_t n) {
    if (dtype == DISTAC_F64) {
        if (n > 0) memmove(dst, src, (size_t)n * sizeof *dst);
        return;
    }
    TO_TYPE(double)
}

/* ---- from float and double ---- */

#define PUT(target, expression)                                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                                           \
        target v = (target)(expression);                                                                        \
        memcpy(bytes + (size_t)i * sizeof v, &v, sizeof v);                                                     \
    }                                                                                                           \
    return

void di_from_f32(int32_t dtype, const float *src, void *dst, int64_t n) {
    char *bytes = dst;
    switch (dtype) {
    case DISTAC_F64: PUT(double, src[i]);
    case DISTAC_F32:
        if (n > 0) memmove(dst, src, (size_t)n * sizeof *src);
        return;
    case DISTAC_F16: PUT(uint16_t, float_to_half(src[i]));
    case DISTAC_BF16: PUT(uint16_t, float_to_bfloat(src[i]));
    default: break;
    }
    double piece[PIECE]; /* integers: by way of double, which holds every float */
    for (int64_t done = 0; done < n; done += PIECE) {
        int64_t m = n - done < PIECE ? n - done : PIECE;
        for (int64_t i = 0; i < m; i++) piece[i] = src[done + i];
        di_from_f64(dtype, piece, bytes + done * distac_dtype_bytes(dtype), m);
    }
}

/* Rounded to the nearest, ties to even, clamped; NaN gives 0. `above` is the first double past the range. */
#define CLAMP(target, least, most, above)                                                                         \
    PUT(target, (x = rint(src[i]), x >= (above)           ? (most)                                                \
                                   : x <= (double)(least) ? (least)                                               \
                                   : x == x               ? (target)x                                             \
                                                          : 0))

DI_CLONES void di_from_f64(int32_t dtype, const double *src, void *dst, int64_t n) {
    char *bytes = dst;
    double x;
    switch (dtype) {
    case DISTAC_F64:
        if (n > 0) memmove(dst, src, (size_t)n * sizeof *src);
        return;
    case DISTAC_F32: PUT(float, src[i]);
    case DISTAC_F16: PUT(uint16_t, float_to_half(double_to_odd(src[i])));
    case DISTAC_BF16: PUT(uint16_t, float_to_bfloat(double_to_odd(src[i])));
    case DISTAC_I64: CLAMP(int64_t, INT64_MIN, INT64_MAX, 0x1p63);
    case DISTAC_I32: CLAMP(int32_t, INT32_MIN, INT32_MAX, 0x1p31);
    case DISTAC_I16: CLAMP(int16_t, INT16_MIN, INT16_MAX, 0x1p15);
    case DISTAC_I8: CLAMP(int8_t, INT8_MIN, INT8_MAX, 0x1p7);
    case DISTAC_U8: CLAMP(uint8_t, 0, UINT8_MAX, 0x1p8);
    case DISTAC_BOOL: PUT(uint8_t, src[i] != 0);
    case DISTAC_U16: CLAMP(uint16_t, 0, UINT16_MAX, 0x1p16);
    case DISTAC_U32: CLAMP(uint32_t, 0, UINT32_MAX, 0x1p32);
    case DISTAC_U64: CLAMP(uint64_t, 0, UINT64_MAX, 0x1p64);
    default: return;
    }
}
