/* launch.h: what the .cu files share: how a kernel is launched and takes shared memory, the element types, sums over a
 * warp and a block. Kernels are written in this dialect, so that they also run on the emulated device of the tests:
 *
 *     template <typename T> __global__ void scale(int64_t n, T a, T *x) { DI_EACH(i, n) x[i] *= a; }
 *     extern "C" int di_cuda_scale_f32(int64_t n, float a, float *x, cudaStream_t s) {
 *         return DI_LAUNCH(scale<float>, di_blocks(n, 256), 256, 0, s, n, a, x);
 *     }
 *
 * Launchers return the error of the launch as an int, cudaSuccess is 0. No atomics on floats: sums are the same from
 * run to run. */
#ifndef DISTAC_CUDA_LAUNCH_H
#define DISTAC_CUDA_LAUNCH_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#if defined(DI_EMULATED)
/* The kernel's name may hold commas in brackets: write it in parentheses then. */
#define DI_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                  \
    ((int)emulated::launch_kernel(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__))
/* T name[count], shared by the threads of a block. */
#define DI_SHARED(T, name, count)                                                                                  \
    static const char name##_key = 0;                                                                              \
    T *const name = (T *)emulated::shared(&name##_key, sizeof(T) * (count))
/* The shared_bytes of the launch. */
#define DI_SHARED_BYTES(T, name) T *const name = (T *)emulated::shared_dynamic()
/* Before a loop whose arrays have to be registers. */
#define DI_UNROLL
#else
#define DI_UNROLL _Pragma("unroll")
#define DI_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                  \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), (int)cudaGetLastError())
#define DI_SHARED(T, name, count) __shared__ T name[count]
#define DI_SHARED_BYTES(T, name)                                                                                   \
    extern __shared__ __align__(16) unsigned char di_shared_bytes[];                                               \
    T *const name = reinterpret_cast<T *>(di_shared_bytes)
#endif

/* i over 0 … n-1, spread over the whole grid. */
#define DI_EACH(i, n)                                                                                              \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i##_step = (int64_t)gridDim.x * blockDim.x;   \
         i < (n); i += i##_step)

/* Blocks for n elements, one each thread and turn; more turns when there are very many. At least 1. */
static inline unsigned di_blocks(int64_t n, int64_t per_block) {
    int64_t blocks = (n + per_block - 1) / per_block;
    return (unsigned)(blocks < 1 ? 1 : blocks > 65535 ? 65535 : blocks);
}

/* ---- element types: stored as T, computed in real<T> ---- */
template <typename T> struct di_real {
    typedef T type;
};
template <> struct di_real<__nv_bfloat16> {
    typedef float type;
};
template <typename T> __device__ static inline typename di_real<T>::type di_load(T value) { return value; }
template <> __device__ inline float di_load<__nv_bfloat16>(__nv_bfloat16 value) { return __bfloat162float(value); }
template <typename T> __device__ static inline T di_store(typename di_real<T>::type value) { return value; }
template <> __device__ inline __nv_bfloat16 di_store<__nv_bfloat16>(float value) { return __float2bfloat16(value); }

__device__ static inline float di_exp(float x) { return expf(x); }
__device__ static inline double di_exp(double x) { return exp(x); }
__device__ static inline float di_log(float x) { return logf(x); }
__device__ static inline double di_log(double x) { return log(x); }
__device__ static inline float di_sqrt(float x) { return sqrtf(x); }
__device__ static inline double di_sqrt(double x) { return sqrt(x); }
__device__ static inline float di_erfc(float x) { return erfcf(x); }
__device__ static inline double di_erfc(double x) { return erfc(x); }

/* ---- sums in a fixed order ---- */
/* Every lane gets the sum, the largest, over the warp's 32 lanes. */
template <typename T> __device__ static inline T di_warp_sum(T value) {
    for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(0xffffffffu, value, bits);
    return value;
}
template <typename T> __device__ static inline T di_warp_max(T value) { /* NaN wins */
    for (int bits = 16; bits > 0; bits /= 2) {
        T other = __shfl_xor_sync(0xffffffffu, value, bits);
        value = other > value || other != other ? other : value;
    }
    return value;
}
/* Every thread gets the sum over the block (whole warps, at most 32). scratch: 33 shared elements. */
template <typename T> __device__ static inline T di_block_sum(T value, T *scratch) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = di_warp_sum(value);
    __syncthreads(); /* the last use of scratch is over */
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    if (warp == 0) {
        T sum = di_warp_sum(lane < warps ? scratch[lane] : T(0));
        if (lane == 0) scratch[32] = sum;
    }
    __syncthreads();
    return scratch[32];
}
template <typename T> __device__ static inline T di_block_max(T value, T *scratch) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = di_warp_max(value);
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    if (warp == 0) {
        T most = di_warp_max(scratch[lane < warps ? lane : 0]);
        if (lane == 0) scratch[32] = most;
    }
    __syncthreads();
    return scratch[32];
}

#endif
