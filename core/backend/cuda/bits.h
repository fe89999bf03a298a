/* bits.h: element types on the device, converted to the bit as the host's convert.c does: rounded to the nearest, ties to
 * even; NaN stays NaN with its sign, which the device's own instructions would drop. */
#ifndef DISTAC_CUDA_BITS_H
#define DISTAC_CUDA_BITS_H

#include "../../distac.h"
#include "launch.h"

__device__ static inline float di_half_to_float(unsigned h) {
    unsigned sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    unsigned tiny = __float_as_uint((float)magnitude * 5.9604644775390625e-8f); /* 2^-24 */
    unsigned normal = (magnitude << 13) + ((127u - 15u) << 23);
    if (magnitude >= 0x7c00u) normal += (127u - 15u) << 23;
    return __uint_as_float(sign | (magnitude < 0x0400u ? tiny : normal));
}

__device__ static inline unsigned di_float_to_half(float x) {
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7e00u | (magnitude >> 13 & 0x1ffu);
    if (magnitude >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and more is nearer to 2^16 */
    if (magnitude < 0x38800000u) /* beside 0.5 the addition rounds as a subnormal half wants it */
        return sign | (__float_as_uint(__fadd_rn(__uint_as_float(magnitude), 0.5f)) - __float_as_uint(0.5f));
    return sign | ((magnitude - ((127u - 15u) << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

__device__ static inline unsigned di_float_to_bfloat(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

__device__ static inline float di_double_to_float(double x) {
    if (x == x) return (float)x;
    unsigned long long bits = (unsigned long long)__double_as_longlong(x);
    return __uint_as_float((unsigned)(bits >> 32 & 0x80000000u) | 0x7fc00000u | (unsigned)(bits >> 29 & 0x3fffffu));
}

__device__ static inline double di_float_to_double(float x) {
    if (x == x) return (double)x;
    unsigned long long bits = __float_as_uint(x);
    return __longlong_as_double((long long)((bits & 0x80000000u) << 32 | 0x7ff8000000000000u | (bits & 0x3fffffu) << 29));
}

/* Rounded to odd: rounding that once more to a narrower type gives what rounding x itself would. */
__device__ static inline float di_double_to_odd(double x) {
    float near = di_double_to_float(x);
    if (x != x || (double)near == x) return near;
    unsigned bits = __float_as_uint(near);
    if (fabs((double)near) > fabs(x)) bits--;
    return __uint_as_float(bits | 1u);
}

__device__ static inline float di_eight_to_float(unsigned e, int exponent_bits) {
    int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)((e & 0x7fu) >> mantissa_bits), mantissa = (int)(e & ((1u << mantissa_bits) - 1u));
    unsigned sign = (e & 0x80u) << 24;
    if (exponent_bits == 4 && (e & 0x7fu) == 0x7fu) return __uint_as_float(sign | 0x7fc00000u);
    if (exponent_bits == 5 && exponent == 31)
        return __uint_as_float(sign | (mantissa ? 0x7fc00000u : 0x7f800000u));
    float value = exponent == 0 ? ldexpf((float)mantissa, 1 - bias - mantissa_bits)
                                : ldexpf((float)(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
    return __uint_as_float(sign | __float_as_uint(value));
}

/* Element i as float (F32 and the narrower floats exactly). */
__device__ static inline float di_float_at(int32_t dtype, const void *src, int64_t i) {
    switch (dtype) {
    case DISTAC_F32: return ((const float *)src)[i];
    case DISTAC_F64: return di_double_to_float(((const double *)src)[i]);
    case DISTAC_F16: return di_half_to_float(((const uint16_t *)src)[i]);
    case DISTAC_BF16: return __uint_as_float((unsigned)((const uint16_t *)src)[i] << 16);
    case DISTAC_F8_E4M3: return di_eight_to_float(((const uint8_t *)src)[i], 4);
    case DISTAC_F8_E5M2: return di_eight_to_float(((const uint8_t *)src)[i], 5);
    case DISTAC_I64: return (float)((const int64_t *)src)[i];
    case DISTAC_U64: return (float)((const uint64_t *)src)[i];
    case DISTAC_I32: return (float)((const int32_t *)src)[i];
    case DISTAC_U32: return (float)((const uint32_t *)src)[i];
    case DISTAC_I16: return (float)((const int16_t *)src)[i];
    case DISTAC_U16: return (float)((const uint16_t *)src)[i];
    case DISTAC_I8: return (float)((const int8_t *)src)[i];
    case DISTAC_U8: return (float)((const uint8_t *)src)[i];
    default: return ((const uint8_t *)src)[i] != 0 ? 1.0f : 0.0f;
    }
}

__device__ static inline double di_double_at(int32_t dtype, const void *src, int64_t i) {
    switch (dtype) {
    case DISTAC_F64: return ((const double *)src)[i];
    case DISTAC_I64: return (double)((const int64_t *)src)[i];
    case DISTAC_U64: return (double)((const uint64_t *)src)[i];
    case DISTAC_I32: return (double)((const int32_t *)src)[i];
    case DISTAC_U32: return (double)((const uint32_t *)src)[i];
    default: return di_float_to_double(di_float_at(dtype, src, i));
    }
}

#endif
