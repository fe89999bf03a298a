/* rows_kernels.cu: rows brought to unit length and the gradient of that, softmax and its logarithm. A warp takes a row. */
#include "kernels.h"
#include "launch.h"

enum { WARPS = 4 };

template <typename T> __global__ void normalize(int64_t M, int64_t C, const T *x, T *y, T *norms) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= M) return;
    double sum = 0;
    for (int64_t i = lane; i < C; i += 32) sum += (double)x[row * C + i] * (double)x[row * C + i];
    double norm = sqrt(di_warp_sum(sum)), inverse = norm == 0 ? 0 : 1 / norm;
    for (int64_t i = lane; i < C; i += 32) y[row * C + i] = (T)((double)x[row * C + i] * inverse);
    if (lane == 0) norms[row] = (T)norm;
}

template <typename T>
__global__ void normalize_backward(int64_t M, int64_t C, const T *y, const T *norms, const T *dy, T *dx) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= M) return;
    double norm = (double)norms[row], inverse = norm == 0 ? 0 : 1 / norm, dot = 0;
    for (int64_t i = lane; i < C; i += 32) dot += (double)y[row * C + i] * (double)dy[row * C + i];
    dot = di_warp_sum(dot);
    for (int64_t i = lane; i < C; i += 32)
        dx[row * C + i] = (T)(((double)dy[row * C + i] - (double)y[row * C + i] * dot) * inverse);
}

/* x and y may be one array: every element is read and written by one lane. */
template <typename T>
__global__ void softmax(int64_t M, int64_t C, T scale, int log_space, const T *x, T *y) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= M) return;
    T top = x[row * C] * scale, sum = 0;
    for (int64_t i = lane; i < C; i += 32) {
        T z = x[row * C + i] * scale;
        top = z > top || z != z ? z : top;
    }
    top = di_warp_max(top);
    for (int64_t i = lane; i < C; i += 32) sum += di_exp(x[row * C + i] * scale - top);
    sum = di_warp_sum(sum);
    T low = log_space ? di_log(sum) : (T)1 / sum;
    for (int64_t i = lane; i < C; i += 32) {
        T z = x[row * C + i] * scale - top;
        y[row * C + i] = log_space ? z - low : di_exp(z) * low;
    }
}

#define ROWS(suffix, T)                                                                                            \
    extern "C" int di_cuda_launch_normalize_##suffix(int64_t M, int64_t C, const void *x, void *y, void *norms,           \
                                              cudaStream_t s) {                                                    \
        return DI_LAUNCH(normalize<T>, (unsigned)((M + WARPS - 1) / WARPS), WARPS * 32, 0, s, M, C, (const T *)x,  \
                         (T *)y, (T *)norms);                                                                      \
    }                                                                                                              \
    extern "C" int di_cuda_launch_normalize_backward_##suffix(int64_t M, int64_t C, const void *y, const void *norms,     \
                                                       const void *dy, void *dx, cudaStream_t s) {                 \
        return DI_LAUNCH(normalize_backward<T>, (unsigned)((M + WARPS - 1) / WARPS), WARPS * 32, 0, s, M, C,       \
                         (const T *)y, (const T *)norms, (const T *)dy, (T *)dx);                                  \
    }                                                                                                              \
    extern "C" int di_cuda_launch_softmax_##suffix(int64_t M, int64_t C, double scale, int log_space, const void *x,      \
                                            void *y, cudaStream_t s) {                                             \
        return DI_LAUNCH(softmax<T>, (unsigned)((M + WARPS - 1) / WARPS), WARPS * 32, 0, s, M, C, (T)scale,        \
                         log_space, (const T *)x, (T *)y);                                                         \
    }
ROWS(f32, float)
ROWS(f64, double)
