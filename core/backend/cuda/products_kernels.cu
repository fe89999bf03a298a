/* products_kernels.cu: what goes on around matrix products: activations, sums of columns, rounding to bfloat16. */
#include "products.h"
#include "functions.h"

enum { THREADS = 256, TILE = 32, ROWS_PER_PART = 512 };

template <typename T>
__global__ void finish(int64_t n, int64_t N, const T *bias, int act, T *pre, T *y) {
    DI_EACH(i, n) {
        T v = y[i] + (bias ? bias[i % N] : T(0));
        if (pre) pre[i] = v;
        y[i] = di_act(act, v);
    }
}

template <typename T> __global__ void slope(int64_t n, int act, const T *pre, T *dx) {
    DI_EACH(i, n) dx[i] *= di_act_slope(act, pre[i]);
}

/* A block sums TILE columns over the rows of one part: threadIdx.y takes every 8th row, then the 8 sums are added in
 * order. */
template <typename T> __global__ void column_parts(int64_t M, int64_t N, const T *x, double *parts) {
    DI_SHARED(double, sums, TILE * 8);
    int64_t column = (int64_t)blockIdx.x * TILE + threadIdx.x, first = (int64_t)blockIdx.y * ROWS_PER_PART;
    int64_t end = first + ROWS_PER_PART < M ? first + ROWS_PER_PART : M;
    double sum = 0;
    if (column < N)
        for (int64_t row = first + threadIdx.y; row < end; row += 8) sum += (double)x[row * N + column];
    sums[threadIdx.y * TILE + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < N) {
        for (int i = 1; i < 8; i++) sum += sums[i * TILE + threadIdx.x];
        parts[(int64_t)blockIdx.y * N + column] = sum;
    }
}
template <typename T> __global__ void column_sums(int64_t count, int64_t N, const double *parts, T *out) {
    DI_EACH(i, N) {
        double sum = 0;
        for (int64_t p = 0; p < count; p++) sum += parts[p * N + i];
        out[i] += (T)sum;
    }
}

template <typename T> __global__ void scale(int64_t n, int64_t N, T beta, T *y, int64_t ldy) {
    DI_EACH(i, n) {
        T *at = &y[i / N * ldy + i % N];
        *at = beta == T(0) ? T(0) : beta * *at;
    }
}

__global__ void to_bf16(int64_t n, int64_t N, const float *x, int64_t ldx, __nv_bfloat16 *y, int64_t ldy) {
    DI_EACH(i, n) {
        int64_t row = i / ldy, column = i % ldy;
        y[i] = __float2bfloat16(column < N ? x[row * ldx + column] : 0.0f);
    }
}

/* Dense rows, four at a time: what almost all are. */
__global__ void to_bf16_dense(int64_t quads, const float4 *x, ushort4 *y) {
    DI_EACH(i, quads) {
        float4 v = x[i];
        y[i] = make_ushort4(
            __bfloat16_as_ushort(__float2bfloat16(v.x)), __bfloat16_as_ushort(__float2bfloat16(v.y)),
            __bfloat16_as_ushort(__float2bfloat16(v.z)), __bfloat16_as_ushort(__float2bfloat16(v.w)));
    }
}

#define EITHER(f64, call) ((f64) ? call(double) : call(float))

int di_cuda_launch_finish(int f64, int64_t M, int64_t N, const void *bias, int act, void *pre, void *y,
                          cudaStream_t s) {
#define CALL(T)                                                                                                    \
    DI_LAUNCH(finish<T>, di_blocks(M *N, THREADS), THREADS, 0, s, M *N, N, (const T *)bias, act, (T *)pre, (T *)y)
    return EITHER(f64, CALL);
#undef CALL
}

int di_cuda_launch_slope(int f64, int64_t n, int act, const void *pre, void *dx, cudaStream_t s) {
#define CALL(T) DI_LAUNCH(slope<T>, di_blocks(n, THREADS), THREADS, 0, s, n, act, (const T *)pre, (T *)dx)
    return EITHER(f64, CALL);
#undef CALL
}

int64_t di_cuda_column_parts(int64_t M) { return (M + ROWS_PER_PART - 1) / ROWS_PER_PART; }

int di_cuda_launch_columns(int f64, int64_t M, int64_t N, const void *x, double *parts, void *sums, cudaStream_t s) {
    int64_t count = di_cuda_column_parts(M);
    dim3 grid((unsigned)((N + TILE - 1) / TILE), (unsigned)count), block(TILE, 8);
#define CALL(T) DI_LAUNCH(column_parts<T>, grid, block, 0, s, M, N, (const T *)x, parts)
    int error = EITHER(f64, CALL);
#undef CALL
    if (error) return error;
#define CALL(T) DI_LAUNCH(column_sums<T>, di_blocks(N, THREADS), THREADS, 0, s, count, N, parts, (T *)sums)
    return EITHER(f64, CALL);
#undef CALL
}

int di_cuda_launch_scale(int f64, int64_t M, int64_t N, double beta, void *y, int64_t ldy, cudaStream_t s) {
#define CALL(T) DI_LAUNCH(scale<T>, di_blocks(M *N, THREADS), THREADS, 0, s, M *N, N, (T)beta, (T *)y, ldy)
    return EITHER(f64, CALL);
#undef CALL
}

int di_cuda_launch_to_bf16(int64_t M, int64_t N, const float *x, int64_t ldx, void *y, int64_t ldy, cudaStream_t s) {
    int64_t n = M * ldy;
    if (ldx == N && ldy == N && n % 4 == 0 && (uintptr_t)x % 16 == 0 && (uintptr_t)y % 8 == 0)
        return DI_LAUNCH(to_bf16_dense, di_blocks(n / 4, THREADS), THREADS, 0, s, n / 4, (const float4 *)x,
                         (ushort4 *)y);
    return DI_LAUNCH(to_bf16, di_blocks(n, THREADS), THREADS, 0, s, n, N, x, ldx, (__nv_bfloat16 *)y, ldy);
}
