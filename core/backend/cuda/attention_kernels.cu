/* attention_kernels.cu: attention in full precision that never writes its scores: a block takes 32 query rows of a head
 * and goes over the keys 32 at a time, with the largest score and the sum of exponentials so far. A warp takes a row, a
 * lane a key, then a lane takes columns of the result. What is kept for the gradient is the logarithm of each row's
 * sum. */
#include "kernels.h"
#include "launch.h"

enum { TILE = 32, WARPS = 8, ROWS = TILE / WARPS };

/* The tile's rows of one of q, k, v, zeros past the end; `pitch` elements from row to row. */
template <typename T>
__device__ static void load_rows(int64_t first, int64_t N, int64_t size, int64_t step, const T *from, T *to,
                                 int64_t pitch) {
    for (int64_t i = threadIdx.x; i < TILE * size; i += WARPS * 32) {
        int64_t row = i / size, d = i % size;
        to[row * pitch + d] = first + row < N ? from[(first + row) * step + d] : T(0);
    }
}

/* L: columns of the result per lane, 32 L >= size. qkv [B,N,3W]; grid: heads of all images x tiles. */
template <typename T, int L>
__global__ void attention(int64_t N, int64_t W, int64_t size, T scale, int causal, const T *qkv, T *lse, T *out) {
    DI_SHARED_BYTES(T, memory);
    T *q = memory, *k = q + TILE * size, *v = k + TILE * (size + 1);
    int64_t heads = W / size, b = blockIdx.x / heads, h = blockIdx.x % heads, first = (int64_t)blockIdx.y * TILE;
    int64_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const T *base = qkv + b * N * 3 * W + h * size;
    T top[ROWS], sum[ROWS], o[ROWS][L];
    for (int r = 0; r < ROWS; r++) {
        top[r] = -INFINITY;
        sum[r] = 0;
        for (int l = 0; l < L; l++) o[r][l] = 0;
    }
    load_rows(first, N, size, 3 * W, base, q, size);
    for (int64_t start = 0; start < N && !(causal && start >= first + TILE); start += TILE) {
        __syncthreads();
        load_rows(start, N, size, 3 * W, base + W, k, size + 1);
        load_rows(start, N, size, 3 * W, base + 2 * W, v, size);
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            int64_t row = warp * ROWS + r, i = first + row, j = start + lane;
            if (i >= N || (causal && start > i)) continue;
            bool seen = j < N && !(causal && j > i);
            T s = 0;
            for (int64_t d = 0; d < size; d++) s += q[row * size + d] * k[lane * (size + 1) + d];
            s = seen ? s * scale : -INFINITY;
            T most = di_warp_max(s);
            most = top[r] > most ? top[r] : most;
            T p = seen ? di_exp(s - most) : T(0), keep = di_exp(top[r] - most);
            top[r] = most;
            sum[r] = sum[r] * keep + p;
            for (int l = 0; l < L; l++) o[r][l] *= keep;
            for (int t = 0; t < TILE; t++) {
                T weight = __shfl_sync(0xffffffffu, p, t);
                for (int l = 0; l < L; l++)
                    if (lane + 32 * l < size) o[r][l] += weight * v[t * size + lane + 32 * l];
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        int64_t i = first + warp * ROWS + r;
        if (i >= N) continue;
        T all = di_warp_sum(sum[r]);
        for (int l = 0; l < L; l++)
            if (lane + 32 * l < size) out[(b * N + i) * W + h * size + lane + 32 * l] = o[r][l] / all;
        if (lse && lane == 0) lse[(int64_t)blockIdx.x * N + i] = top[r] + di_log(all);
    }
}

/* delta [B,H,N]: products of each row of out and dout. A warp takes a row of a head. */
template <typename T>
__global__ void attention_delta(int64_t rows, int64_t N, int64_t W, int64_t size, const T *out, const T *dout,
                                T *delta) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    int64_t heads = W / size, i = row % N, h = row / N % heads, b = row / (N * heads);
    int64_t at = (b * N + i) * W + h * size;
    T sum = 0;
    for (int64_t d = lane; d < size; d += 32) sum += out[at + d] * dout[at + d];
    sum = di_warp_sum(sum);
    if (lane == 0) delta[row] = sum;
}

/* Gradients of 32 rows of q (mine), going over k and v; or, with keys, of k and v, going over q and dout. A row's own
 * vectors are a, b, the others' x, y: with p = exp(a . x scale - lse) of the query and ds = p (b . y - delta) scale,
 * first += ds x and, with keys, second += p y. */
template <typename T, int L>
__global__ void attention_backward(int64_t N, int64_t W, int64_t size, T scale, int keys, const T *qkv, const T *lse,
                                   const T *delta, const T *dout, T *dqkv) {
    DI_SHARED_BYTES(T, memory);
    T *a = memory, *b = a + TILE * size, *x = b + TILE * size, *y = x + TILE * (size + 1);
    int64_t heads = W / size, image = blockIdx.x / heads, h = blockIdx.x % heads;
    int64_t first = (int64_t)blockIdx.y * TILE, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int64_t head = (int64_t)blockIdx.x * N;
    const T *q = qkv + image * N * 3 * W + h * size, *k = q + W, *v = k + W, *d = dout + image * N * W + h * size;
    T one[ROWS][L], two[ROWS][L];
    for (int r = 0; r < ROWS; r++)
        for (int l = 0; l < L; l++) one[r][l] = two[r][l] = 0;
    load_rows(first, N, size, 3 * W, keys ? k : q, a, size);
    load_rows(first, N, size, keys ? 3 * W : W, keys ? v : d, b, size);
    for (int64_t start = 0; start < N; start += TILE) {
        __syncthreads();
        load_rows(start, N, size, 3 * W, keys ? q : k, x, size + 1);
        load_rows(start, N, size, keys ? W : 3 * W, keys ? d : v, y, size + 1);
        __syncthreads();
        int64_t j = start + lane;
        for (int r = 0; r < ROWS; r++) {
            int64_t row = warp * ROWS + r, i = first + row;
            if (i >= N) continue;
            int64_t query = keys ? j : i;
            T s = 0, dp = 0, p = 0, ds = 0;
            for (int64_t c = 0; c < size; c++) {
                s += a[row * size + c] * x[lane * (size + 1) + c];
                dp += b[row * size + c] * y[lane * (size + 1) + c];
            }
            if (j < N) {
                p = di_exp(s * scale - lse[head + query]);
                ds = p * (dp - delta[head + query]) * scale;
            }
            for (int t = 0; t < TILE; t++) {
                T weight = __shfl_sync(0xffffffffu, ds, t), share = keys ? __shfl_sync(0xffffffffu, p, t) : T(0);
                for (int l = 0; l < L; l++) {
                    int64_t c = lane + 32 * l;
                    if (c >= size) continue;
                    one[r][l] += weight * x[t * (size + 1) + c];
                    if (keys) two[r][l] += share * y[t * (size + 1) + c];
                }
            }
        }
    }
    T *to = dqkv + image * N * 3 * W + h * size;
    for (int r = 0; r < ROWS; r++) {
        int64_t i = first + warp * ROWS + r;
        if (i >= N) continue;
        for (int l = 0; l < L; l++) {
            int64_t c = lane + 32 * l;
            if (c >= size) continue;
            to[i * 3 * W + (keys ? W : 0) + c] = one[r][l];
            if (keys) to[i * 3 * W + 2 * W + c] = two[r][l];
        }
    }
}

template <typename K> static int allow(K *kernel, size_t shared) {
    if (shared <= 48 << 10) return 0;
    return (int)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}

#define PICK(kernel, T) (size <= 32 ? kernel<T, 1> : size <= 64 ? kernel<T, 2> : size <= 128 ? kernel<T, 4> : kernel<T, 8>)

#define ATTENTION(suffix, T)                                                                                       \
    extern "C" int di_cuda_launch_attention_##suffix(int64_t B, int64_t N, int64_t W, int64_t H, int causal,       \
                                                     const void *qkv, void *lse, void *out, cudaStream_t s) {      \
        int64_t size = W / H;                                                                                      \
        size_t shared = (size_t)(TILE * (3 * size + 1)) * sizeof(T);                                               \
        dim3 grid((unsigned)(B * H), (unsigned)((N + TILE - 1) / TILE));                                           \
        auto kernel = PICK(attention, T);                                                                          \
        int error = allow(kernel, shared);                                                                         \
        if (error) return error;                                                                                   \
        return DI_LAUNCH(kernel, grid, WARPS * 32, shared, s, N, W, size, (T)(1 / sqrt((double)size)), causal,     \
                         (const T *)qkv, (T *)lse, (T *)out);                                                      \
    }                                                                                                              \
    extern "C" int di_cuda_launch_attention_backward_##suffix(                                                     \
        int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv, const void *lse, const void *out,             \
        const void *dout, void *delta, void *dqkv, cudaStream_t s) {                                               \
        int64_t size = W / H, rows = B * H * N;                                                                    \
        size_t shared = (size_t)(TILE * (4 * size + 2)) * sizeof(T);                                               \
        dim3 grid((unsigned)(B * H), (unsigned)((N + TILE - 1) / TILE));                                           \
        auto kernel = PICK(attention_backward, T);                                                                 \
        int error = allow(kernel, shared);                                                                         \
        if (!error)                                                                                                \
            error = DI_LAUNCH(attention_delta<T>, (unsigned)((rows + WARPS - 1) / WARPS), WARPS * 32, 0, s, rows,  \
                              N, W, size, (const T *)out, (const T *)dout, (T *)delta);                            \
        for (int keys = 0; keys < 2 && !error; keys++)                                                             \
            error = DI_LAUNCH(kernel, grid, WARPS * 32, shared, s, N, W, size, (T)(1 / sqrt((double)size)), keys,  \
                              (const T *)qkv, (const T *)lse, (const T *)delta, (const T *)dout, (T *)dqkv);       \
        return error;                                                                                              \
    }
ATTENTION(f32, float)
ATTENTION(f64, double)
