/* products_kernels.cu: what goes on around matrix products: activations, sums of columns, rounding to bfloat16. */
#include "products.h"
#include "functions.h"
#include "pack.h"

enum { THREADS = 256, TILE = 32, ROWS_PER_PART = 512 };

/* V elements a thread and turn. */
template <typename A, int V>
__global__ void finish(int64_t n, int64_t N, const A *x, const A *bias, int act, A *pre, A *y) {
    typedef typename di_real<A>::type R;
    DI_EACH(i, n / V) {
        di_pack<A, V> v = di_get<V>(x + i * V), b = {}, out;
        if (bias) b = di_get<V>(bias + i * V % N);
        for (int k = 0; k < V; k++) {
            if (bias) v.at[k] = di_store<A>(di_load(v.at[k]) + di_load(b.at[k]));
            out.at[k] = di_store<A>(di_act_as<A>(act, (R)di_load(v.at[k])));
        }
        if (pre) di_put<V>(pre + i * V, v);
        di_put<V>(y + i * V, out);
    }
}

template <typename A, int V> __global__ void slope(int64_t n, int act, const A *pre, A *dx) {
    typedef typename di_real<A>::type R;
    DI_EACH(i, n / V) {
        di_pack<A, V> p = di_get<V>(pre + i * V), d = di_get<V>(dx + i * V);
        for (int k = 0; k < V; k++)
            d.at[k] = di_store<A>(di_load(d.at[k]) * di_act_slope_as<A>(act, (R)di_load(p.at[k])));
        di_put<V>(dx + i * V, d);
    }
}

/* A block sums V TILE columns over the rows of one part: threadIdx.y takes every 8th row, then the 8 sums are added in
 * order. */
template <typename A, int V> __global__ void column_parts(int64_t M, int64_t N, const A *x, double *parts) {
    DI_SHARED(double, sums, V * TILE * 8);
    int64_t column = ((int64_t)blockIdx.x * TILE + threadIdx.x) * V, first = (int64_t)blockIdx.y * ROWS_PER_PART;
    int64_t end = first + ROWS_PER_PART < M ? first + ROWS_PER_PART : M;
    double sum[V] = {};
    if (column < N)
        for (int64_t row = first + threadIdx.y; row < end; row += 8) {
            di_pack<A, V> values = di_get<V>(x + row * N + column);
            for (int k = 0; k < V; k++) sum[k] += (double)di_load(values.at[k]);
        }
    for (int k = 0; k < V; k++) sums[(threadIdx.y * V + k) * TILE + threadIdx.x] = sum[k];
    __syncthreads();
    if (threadIdx.y > 0 || column >= N) return;
    for (int k = 0; k < V; k++) {
        for (int i = 1; i < 8; i++) sum[k] += sums[(i * V + k) * TILE + threadIdx.x];
        parts[(int64_t)blockIdx.y * N + column + k] = sum[k];
    }
}
template <typename T> __global__ void column_sums(int64_t count, int64_t N, const double *parts, T *out) {
    DI_EACH(i, N) {
        double sum = 0;
        for (int64_t p = 0; p < count; p++) sum += parts[p * N + i];
        out[i] += (T)sum;
    }
}

template <typename A>
__global__ void scale(int64_t n, int64_t N, typename di_real<A>::type beta, A *y, int64_t ldy) {
    DI_EACH(i, n) {
        A *at = &y[i / N * ldy + i % N];
        *at = di_store<A>(beta == 0 ? 0 : beta * di_load(*at));
    }
}

template <typename A>
__global__ void to_bf16(int64_t n, int64_t N, const A *x, int64_t ldx, __nv_bfloat16 *y, int64_t ldy) {
    DI_EACH(i, n) {
        int64_t row = i / ldy, column = i % ldy;
        y[i] = __float2bfloat16(column < N ? (float)di_load(x[row * ldx + column]) : 0.0f);
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

typedef __nv_bfloat16 narrow;
#define TYPED(type, call) ((type) == DISTAC_F64 ? call(double) : (type) == DISTAC_BF16 ? call(narrow) : call(float))
/* Whether rows of N of the type are read in whole words of 16 bytes. */
static bool wide(int32_t type, int64_t N, const void *a, const void *b, const void *c, const void *d) {
    return N % (type == DISTAC_F64 ? 2 : type == DISTAC_BF16 ? 8 : 4) == 0 && di_aligned(a) && di_aligned(b) &&
           di_aligned(c) && di_aligned(d);
}
#define KERNEL(kernel, T) (whole ? kernel<T, di_lanes<T>::count> : kernel<T, 1>)

int di_cuda_launch_finish(int32_t type, int64_t M, int64_t N, const void *x, const void *bias, int act, void *pre,
                          void *y, cudaStream_t s) {
    bool whole = wide(type, N, x, bias, pre, y);
#define CALL(T)                                                                                                    \
    DI_LAUNCH(KERNEL(finish, T), di_blocks(M *N, 4 * THREADS), THREADS, 0, s, M *N, N, (const T *)x,               \
              (const T *)bias, act, (T *)pre, (T *)y)
    return TYPED(type, CALL);
#undef CALL
}

int di_cuda_launch_slope(int32_t type, int64_t n, int act, const void *pre, void *dx, cudaStream_t s) {
    bool whole = wide(type, n, pre, dx, NULL, NULL);
#define CALL(T)                                                                                                    \
    DI_LAUNCH(KERNEL(slope, T), di_blocks(n, 4 * THREADS), THREADS, 0, s, n, act, (const T *)pre, (T *)dx)
    return TYPED(type, CALL);
#undef CALL
}

int64_t di_cuda_column_parts(int64_t M) { return (M + ROWS_PER_PART - 1) / ROWS_PER_PART; }

int di_cuda_launch_columns(int32_t type, int64_t M, int64_t N, const void *x, double *parts, void *sums,
                           cudaStream_t s) {
    int64_t count = di_cuda_column_parts(M);
    bool pairs = type == DISTAC_BF16 && N % 2 == 0 && (uintptr_t)x % 4 == 0;
    int64_t columns = pairs ? 2 * TILE : TILE;
    dim3 grid((unsigned)((N + columns - 1) / columns), (unsigned)count), block(TILE, 8);
    auto halves = pairs ? column_parts<narrow, 2> : column_parts<narrow, 1>;
    auto floats = column_parts<float, 1>;
    auto doubles = column_parts<double, 1>;
    int error = type == DISTAC_F64   ? DI_LAUNCH(doubles, grid, block, 0, s, M, N, (const double *)x, parts)
                : type == DISTAC_F32 ? DI_LAUNCH(floats, grid, block, 0, s, M, N, (const float *)x, parts)
                                     : DI_LAUNCH(halves, grid, block, 0, s, M, N, (const narrow *)x, parts);
    if (error) return error;
    if (type == DISTAC_F64)
        return DI_LAUNCH(column_sums<double>, di_blocks(N, THREADS), THREADS, 0, s, count, N, parts, (double *)sums);
    return DI_LAUNCH(column_sums<float>, di_blocks(N, THREADS), THREADS, 0, s, count, N, parts, (float *)sums);
}

int di_cuda_launch_scale(int32_t type, int64_t M, int64_t N, double beta, void *y, int64_t ldy, cudaStream_t s) {
#define CALL(T)                                                                                                    \
    DI_LAUNCH(scale<T>, di_blocks(M *N, THREADS), THREADS, 0, s, M *N, N, (typename di_real<T>::type)beta, (T *)y, ldy)
    return TYPED(type, CALL);
#undef CALL
}

int di_cuda_launch_to_bf16(int32_t type, int64_t M, int64_t N, const void *x, int64_t ldx, void *y, int64_t ldy,
                           cudaStream_t s) {
    int64_t n = M * ldy;
    if (type == DISTAC_BF16)
        return DI_LAUNCH(to_bf16<narrow>, di_blocks(n, THREADS), THREADS, 0, s, n, N, (const narrow *)x, ldx,
                         (narrow *)y, ldy);
    if (ldx == N && ldy == N && n % 4 == 0 && (uintptr_t)x % 16 == 0 && (uintptr_t)y % 8 == 0)
        return DI_LAUNCH(to_bf16_dense, di_blocks(n / 4, THREADS), THREADS, 0, s, n / 4, (const float4 *)x,
                         (ushort4 *)y);
    return DI_LAUNCH(to_bf16<float>, di_blocks(n, THREADS), THREADS, 0, s, n, N, (const float *)x, ldx, (narrow *)y, ldy);
}
