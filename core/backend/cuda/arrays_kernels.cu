/* arrays_kernels.cu: arithmetic and moves over arrays with strides. */
#include "arrays_launch.h"
#include "functions.h"

enum { THREADS = 256 };

/* Offsets of element i in the arrays of the walk, as many as the kernel has: what counts them is known to the compiler,
 * so that they are registers. */
template <int ARRAYS> __device__ static inline void place(const di_walk &w, int64_t i, int64_t (&offset)[ARRAYS]) {
    DI_UNROLL
    for (int t = 0; t < ARRAYS; t++) offset[t] = 0;
    for (int d = w.rank - 1; d > 0; d--) {
        int64_t at = i % w.shape[d];
        i /= w.shape[d];
        DI_UNROLL
        for (int t = 0; t < ARRAYS; t++) offset[t] += at * w.stride[t][d];
    }
    DI_UNROLL
    for (int t = 0; t < ARRAYS; t++) offset[t] += i * w.stride[t][0];
}

template <typename T> __global__ void move(di_walk w, T *dst, const T *src) {
    DI_EACH(i, w.numel) {
        int64_t o[2];
        place(w, i, o);
        dst[o[0]] = src[o[1]];
    }
}

template <typename T> __global__ void fill(di_walk w, T element, T *dst) {
    DI_EACH(i, w.numel) {
        int64_t o[1];
        place(w, i, o);
        dst[o[0]] = element;
    }
}

__device__ static inline float power(float x, float y) { return powf(x, y); }
__device__ static inline double power(double x, double y) { return pow(x, y); }

/* NaN in either operand is the larger and the smaller of the two; comparisons with NaN are 0. */
template <typename T> __device__ static inline T two(int32_t op, T x, T y) {
    switch (op) {
    case DISTAC_ADD: return x + y;
    case DISTAC_SUB: return x - y;
    case DISTAC_MUL: return x * y;
    case DISTAC_DIV: return x / y;
    case DISTAC_POW: return power(x, y);
    case DISTAC_MAX: return x > y || x != x ? x : y;
    case DISTAC_MIN: return x < y || x != x ? x : y;
    case DISTAC_EQ: return (T)(x == y);
    case DISTAC_LT: return (T)(x < y);
    default: return (T)(x <= y);
    }
}

template <typename T> __global__ void binary(di_walk w, int32_t op, const T *a, const T *b, T number, T *out) {
    DI_EACH(i, w.numel) {
        int64_t o[3];
        place(w, i, o);
        out[o[0]] = two(op, a ? a[o[1]] : number, b ? b[o[2]] : number);
    }
}

__device__ static inline float magnitude(float x) { return fabsf(x); }
__device__ static inline double magnitude(double x) { return fabs(x); }
__device__ static inline float tangent(float x) { return tanhf(x); }
__device__ static inline double tangent(double x) { return tanh(x); }
__device__ static inline float error_function(float x) { return erff(x); }
__device__ static inline double error_function(double x) { return erf(x); }

template <typename T> __device__ static inline T one(int32_t op, T x) {
    T value, slope;
    switch (op) {
    case DISTAC_NEG: return -x;
    case DISTAC_ABS: return magnitude(x);
    case DISTAC_SQRT: return di_sqrt(x);
    case DISTAC_EXP: return di_exp(x);
    case DISTAC_LOG: return di_log(x);
    case DISTAC_TANH: return tangent(x);
    case DISTAC_SIGN: return x != x ? x : (T)((x > 0) - (x < 0));
    case DISTAC_SIGMOID: di_logistic(x, &value, &slope); return value;
    case DISTAC_ERF: return error_function(x);
    case DISTAC_GELU: return di_act((int)DISTAC_ACT_GELU, x);
    case DISTAC_QUICK_GELU: return di_act((int)DISTAC_ACT_QUICK_GELU, x);
    default: return (T)(x - x == 0);
    }
}

template <typename T> __global__ void unary(di_walk w, int32_t op, const T *a, T *out) {
    DI_EACH(i, w.numel) {
        int64_t o[2];
        place(w, i, o);
        out[o[0]] = one(op, a[o[1]]);
    }
}

int di_cuda_launch_move(const di_walk *walk, int64_t size, void *dst, const void *src, cudaStream_t s) {
#define CASE(T) return DI_LAUNCH(move<T>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, (T *)dst, (const T *)src)
    switch (size) {
    case 1: CASE(uint8_t);
    case 2: CASE(uint16_t);
    case 4: CASE(uint32_t);
    default: CASE(uint64_t);
    }
#undef CASE
}

int di_cuda_launch_fill(const di_walk *walk, int64_t size, uint64_t element, void *dst, cudaStream_t s) {
#define CASE(T) return DI_LAUNCH(fill<T>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, (T)element, (T *)dst)
    switch (size) {
    case 1: CASE(uint8_t);
    case 2: CASE(uint16_t);
    case 4: CASE(uint32_t);
    default: CASE(uint64_t);
    }
#undef CASE
}

int di_cuda_launch_binary(const di_walk *walk, int f64, int32_t op, const void *a, const void *b, double number,
                          void *out, cudaStream_t s) {
    if (f64)
        return DI_LAUNCH(binary<double>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, op, (const double *)a, (const double *)b, number,
                         (double *)out);
    return DI_LAUNCH(binary<float>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, op, (const float *)a, (const float *)b, (float)number,
                     (float *)out);
}

int di_cuda_launch_unary(const di_walk *walk, int f64, int32_t op, const void *a, void *out, cudaStream_t s) {
    if (f64) return DI_LAUNCH(unary<double>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, op, (const double *)a, (double *)out);
    return DI_LAUNCH(unary<float>, di_blocks(walk->numel, THREADS), THREADS, 0, s, *walk, op, (const float *)a, (float *)out);
}
