/* convert_kernels.cu: elements from one type to another, the same bits as on the host. */
#include "arrays_launch.h"
#include "bits.h"

enum { THREADS = 256 };

__device__ static inline bool whole(int32_t dtype) { return dtype >= DISTAC_I64 && dtype <= DISTAC_U64; }
__device__ static inline bool floating(int32_t dtype) { return dtype >= DISTAC_F64 && dtype <= DISTAC_BF16; }

/* Rounded, clamped to least … most (`above` is the first double past them); NaN gives 0. */
template <typename T> __device__ static inline T clamped(double value, T least, T most, double above) {
    double x = rint(value);
    return x >= above ? most : x <= (double)least ? least : x == x ? (T)x : T(0);
}

__device__ static void put_double(int32_t dtype, void *dst, int64_t i, double v) {
    switch (dtype) {
    case DISTAC_F64: ((double *)dst)[i] = v; break;
    case DISTAC_F32: ((float *)dst)[i] = di_double_to_float(v); break;
    case DISTAC_F16: ((uint16_t *)dst)[i] = (uint16_t)di_float_to_half(di_double_to_odd(v)); break;
    case DISTAC_BF16: ((uint16_t *)dst)[i] = (uint16_t)di_float_to_bfloat(di_double_to_odd(v)); break;
    case DISTAC_I64: ((int64_t *)dst)[i] = clamped<int64_t>(v, INT64_MIN, INT64_MAX, 9223372036854775808.0); break;
    case DISTAC_U64: ((uint64_t *)dst)[i] = clamped<uint64_t>(v, 0, UINT64_MAX, 18446744073709551616.0); break;
    case DISTAC_I32: ((int32_t *)dst)[i] = clamped<int32_t>(v, INT32_MIN, INT32_MAX, 2147483648.0); break;
    case DISTAC_U32: ((uint32_t *)dst)[i] = clamped<uint32_t>(v, 0, UINT32_MAX, 4294967296.0); break;
    case DISTAC_I16: ((int16_t *)dst)[i] = clamped<int16_t>(v, INT16_MIN, INT16_MAX, 32768.0); break;
    case DISTAC_U16: ((uint16_t *)dst)[i] = clamped<uint16_t>(v, 0, UINT16_MAX, 65536.0); break;
    case DISTAC_I8: ((int8_t *)dst)[i] = clamped<int8_t>(v, INT8_MIN, INT8_MAX, 128.0); break;
    case DISTAC_U8: ((uint8_t *)dst)[i] = clamped<uint8_t>(v, 0, UINT8_MAX, 256.0); break;
    default: ((uint8_t *)dst)[i] = v != 0; break;
    }
}

/* I64 and U64 hold more than a double does, so between integers it is not the way. */
__device__ static void put_whole(int32_t from, const void *src, int32_t to, void *dst, int64_t i) {
    int64_t value = from == DISTAC_I64 || from == DISTAC_U64 ? ((const int64_t *)src)[i]
                                                             : (int64_t)di_double_at(from, src, i);
    bool huge = from == DISTAC_U64 && value < 0; /* past INT64_MAX */
    if (to == DISTAC_I64) ((int64_t *)dst)[i] = huge ? INT64_MAX : value;
    else if (to == DISTAC_U64) ((int64_t *)dst)[i] = huge || value >= 0 ? value : 0;
    else put_double(to, dst, i, huge ? 18446744073709551616.0 : (double)value);
}

__global__ void convert(int64_t n, int32_t from, const void *src, int32_t to, void *dst) {
    DI_EACH(i, n) {
        if (to == DISTAC_F64) ((double *)dst)[i] = di_double_at(from, src, i);
        else if (to == DISTAC_F32) ((float *)dst)[i] = di_float_at(from, src, i);
        else if (whole(from) && whole(to) && to != DISTAC_BOOL) put_whole(from, src, to, dst, i);
        else if (floating(from) && from != DISTAC_F64 && to == DISTAC_F16)
            ((uint16_t *)dst)[i] = (uint16_t)di_float_to_half(di_float_at(from, src, i));
        else if (floating(from) && from != DISTAC_F64 && to == DISTAC_BF16)
            ((uint16_t *)dst)[i] = (uint16_t)di_float_to_bfloat(di_float_at(from, src, i));
        else put_double(to, dst, i, di_double_at(from, src, i));
    }
}

int di_cuda_launch_convert(int64_t n, int32_t from, const void *src, int32_t to, void *dst, cudaStream_t s) {
    return DI_LAUNCH(convert, di_blocks(n, THREADS), THREADS, 0, s, n, from, src, to, dst);
}
