/* attention_kernels.cu: attention in full precision that never writes its scores: a block takes 32 query rows of a head
 * and goes over the keys 32 at a time, with the largest score and the sum of exponentials so far. A warp takes four rows
 * together, so that what it reads of the others serves all four; a lane a key, then a lane takes columns of the result.
 * What is kept for the gradient is the logarithm of each row's sum. */
#include "kernels.h"
#include "pack.h"

enum { TILE = 32, WARPS = 8, ROWS = TILE / WARPS, THREADS = WARPS * 32 };

/* The tile's rows of one of q, k, v, zeros past the end; `pitch` elements from row to row. */
template <typename T>
__device__ static void load_rows(int64_t first, int64_t N, int size, int64_t step, const T *from, T *to, int pitch) {
    for (int i = (int)threadIdx.x; i < TILE * size; i += THREADS) {
        int row = i / size, d = i % size;
        to[row * pitch + d] = first + row < N ? from[(first + row) * step + d] : T(0);
    }
}
/* The same with rows as columns: element d of the tile's rows lies together, a warp's four in one read. */
template <typename T>
__device__ static void load_columns(int64_t first, int64_t N, int size, int64_t step, const T *from, T *to) {
    for (int i = (int)threadIdx.x; i < TILE * size; i += THREADS) {
        int row = i / size, d = i % size;
        to[d * TILE + row] = first + row < N ? from[(first + row) * step + d] : T(0);
    }
}

/* L: columns of the result per lane, 32 L >= size. qkv [B,N,3W]; grid: heads of all images x tiles. */
template <typename T, int L>
__global__ void __launch_bounds__(THREADS)
    attention(int64_t N, int64_t W, int size, T scale, int causal, const T *qkv, T *lse, T *out) {
    typedef di_pack<T, ROWS> four;
    DI_SHARED_BYTES(T, memory);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, pitch = size + 1;
    T *q = memory, *share = q + TILE * size + warp * TILE * ROWS, *k = q + TILE * size + TILE * TILE, *v = k + TILE * pitch;
    int64_t heads = W / size, b = blockIdx.x / heads, h = blockIdx.x % heads, first = (int64_t)blockIdx.y * TILE;
    const T *base = qkv + b * N * 3 * W + h * size;
    const bool idle = first + warp * ROWS >= N; /* a warp without rows only carries */
    T top[ROWS], sum[ROWS], o[ROWS][L];
    DI_UNROLL
    for (int r = 0; r < ROWS; r++) {
        top[r] = -INFINITY;
        sum[r] = 0;
        DI_UNROLL
        for (int l = 0; l < L; l++) o[r][l] = 0;
    }
    load_columns(first, N, size, 3 * W, base, q);
    for (int64_t start = 0; start < N && !(causal && start >= first + TILE); start += TILE) {
        __syncthreads();
        load_rows(start, N, size, 3 * W, base + W, k, pitch);
        load_rows(start, N, size, 3 * W, base + 2 * W, v, size);
        __syncthreads();
        if (idle) continue;
        T s[ROWS] = {};
        for (int d = 0; d < size; d++) {
            T key = k[lane * pitch + d];
            four rows = di_get<ROWS>(q + d * TILE + warp * ROWS);
            DI_UNROLL
            for (int r = 0; r < ROWS; r++) s[r] += rows.at[r] * key;
        }
        four weights;
        DI_UNROLL
        for (int r = 0; r < ROWS; r++) {
            int64_t i = first + warp * ROWS + r, j = start + lane;
            bool seen = j < N && !(causal && j > i);
            s[r] = seen ? s[r] * scale : -INFINITY;
            T most = di_warp_max(s[r]);
            most = top[r] > most ? top[r] : most;
            T p = seen ? di_exp(s[r] - most) : T(0), keep = di_exp(top[r] - most);
            top[r] = most;
            sum[r] = sum[r] * keep + p;
            weights.at[r] = p;
            DI_UNROLL
            for (int l = 0; l < L; l++) o[r][l] *= keep;
        }
        di_put<ROWS>(share + lane * ROWS, weights);
        __syncwarp();
        for (int t = 0; t < TILE; t++) {
            weights = di_get<ROWS>(share + t * ROWS);
            DI_UNROLL
            for (int l = 0; l < L; l++) {
                T value = lane + 32 * l < size ? v[t * size + lane + 32 * l] : T(0);
                DI_UNROLL
                for (int r = 0; r < ROWS; r++) o[r][l] += weights.at[r] * value;
            }
        }
    }
    if (idle) return;
    DI_UNROLL
    for (int r = 0; r < ROWS; r++) {
        int64_t i = first + warp * ROWS + r;
        T all = di_warp_sum(sum[r]);
        DI_UNROLL
        for (int l = 0; l < L; l++)
            if (i < N && lane + 32 * l < size) out[(b * N + i) * W + h * size + lane + 32 * l] = o[r][l] / all;
        if (lse && lane == 0 && i < N) lse[(int64_t)blockIdx.x * N + i] = top[r] + di_log(all);
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

/* Gradients of 32 rows of q, going over k and v; or, with KEYS, of k and v, going over q and dout. A row's own vectors
 * are a, b, the others' x, y: with p = exp(a . x scale - lse) of the query and ds = p (b . y - delta) scale,
 * one += ds x and, with KEYS, two += p y. */
template <typename T, int L, bool KEYS>
__global__ void __launch_bounds__(THREADS)
    attention_backward(int64_t N, int64_t W, int size, T scale, const T *qkv, const T *lse, const T *delta,
                       const T *dout, T *dqkv) {
    typedef di_pack<T, ROWS> four;
    DI_SHARED_BYTES(T, memory);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, pitch = size + 1;
    T *a = memory, *b = a + TILE * size, *slopes = b + TILE * size + warp * TILE * ROWS, *shares = slopes + TILE * TILE;
    T *x = b + TILE * size + 2 * TILE * TILE, *y = x + TILE * pitch;
    int64_t heads = W / size, image = blockIdx.x / heads, h = blockIdx.x % heads;
    int64_t first = (int64_t)blockIdx.y * TILE, head = (int64_t)blockIdx.x * N;
    const T *q = qkv + image * N * 3 * W + h * size, *k = q + W, *v = k + W, *d = dout + image * N * W + h * size;
    const bool idle = first + warp * ROWS >= N; /* a warp without rows only carries */
    T one[ROWS][L], two[ROWS][L], own_lse[ROWS], own_delta[ROWS];
    DI_UNROLL
    for (int r = 0; r < ROWS; r++) {
        int64_t i = first + warp * ROWS + r;
        own_lse[r] = !KEYS && i < N ? lse[head + i] : T(0);
        own_delta[r] = !KEYS && i < N ? delta[head + i] : T(0);
        DI_UNROLL
        for (int l = 0; l < L; l++) one[r][l] = two[r][l] = 0;
    }
    load_columns(first, N, size, 3 * W, KEYS ? k : q, a);
    load_columns(first, N, size, KEYS ? 3 * W : W, KEYS ? v : d, b);
    for (int64_t start = 0; start < N; start += TILE) {
        __syncthreads();
        load_rows(start, N, size, 3 * W, KEYS ? q : k, x, pitch);
        load_rows(start, N, size, KEYS ? W : 3 * W, KEYS ? d : v, y, pitch);
        __syncthreads();
        if (idle) continue;
        T s[ROWS] = {}, dp[ROWS] = {};
        for (int c = 0; c < size; c++) {
            T to_s = x[lane * pitch + c], to_dp = y[lane * pitch + c];
            four rows_a = di_get<ROWS>(a + c * TILE + warp * ROWS), rows_b = di_get<ROWS>(b + c * TILE + warp * ROWS);
            DI_UNROLL
            for (int r = 0; r < ROWS; r++) {
                s[r] += rows_a.at[r] * to_s;
                dp[r] += rows_b.at[r] * to_dp;
            }
        }
        int64_t j = start + lane;
        T other_lse = KEYS && j < N ? lse[head + j] : T(0), other_delta = KEYS && j < N ? delta[head + j] : T(0);
        four p, ds;
        DI_UNROLL
        for (int r = 0; r < ROWS; r++) {
            p.at[r] = j < N ? di_exp(s[r] * scale - (KEYS ? other_lse : own_lse[r])) : T(0);
            ds.at[r] = j < N ? p.at[r] * (dp[r] - (KEYS ? other_delta : own_delta[r])) * scale : T(0);
        }
        di_put<ROWS>(slopes + lane * ROWS, ds);
        if (KEYS) di_put<ROWS>(shares + lane * ROWS, p);
        __syncwarp();
        for (int t = 0; t < TILE; t++) {
            ds = di_get<ROWS>(slopes + t * ROWS);
            if (KEYS) p = di_get<ROWS>(shares + t * ROWS);
            DI_UNROLL
            for (int l = 0; l < L; l++) {
                int c = lane + 32 * l;
                T to_one = c < size ? x[t * pitch + c] : T(0), to_two = KEYS && c < size ? y[t * pitch + c] : T(0);
                DI_UNROLL
                for (int r = 0; r < ROWS; r++) {
                    one[r][l] += ds.at[r] * to_one;
                    if (KEYS) two[r][l] += p.at[r] * to_two;
                }
            }
        }
    }
    T *to = dqkv + image * N * 3 * W + h * size;
    DI_UNROLL
    for (int r = 0; r < ROWS; r++) {
        int64_t i = first + warp * ROWS + r;
        DI_UNROLL
        for (int l = 0; l < L; l++) {
            int c = lane + 32 * l;
            if (i >= N || c >= size) continue;
            to[i * 3 * W + (KEYS ? W : 0) + c] = one[r][l];
            if (KEYS) to[i * 3 * W + 2 * W + c] = two[r][l];
        }
    }
}

template <typename K> static int allow(K *kernel, size_t shared) {
    if (shared <= 48 << 10) return 0;
    return (int)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}

/* By the columns a lane takes. */
#define PICK(kernel, ...)                                                                                          \
    (size <= 32 ? kernel(1, __VA_ARGS__) : size <= 64 ? kernel(2, __VA_ARGS__)                                      \
     : size <= 128 ? kernel(4, __VA_ARGS__) : kernel(8, __VA_ARGS__))
#define FORWARD(L, T) attention<T, L>
#define BACKWARD(L, T, KEYS) attention_backward<T, L, KEYS>

#define ATTENTION(suffix, T)                                                                                       \
    extern "C" int di_cuda_launch_attention_##suffix(int64_t B, int64_t N, int64_t W, int64_t H, int causal,       \
                                                     const void *qkv, void *lse, void *out, cudaStream_t s) {      \
        int size = (int)(W / H);                                                                                   \
        size_t shared = (size_t)(TILE * (3 * size + 1) + TILE * TILE) * sizeof(T);                                 \
        dim3 grid((unsigned)(B * H), (unsigned)((N + TILE - 1) / TILE));                                           \
        auto kernel = PICK(FORWARD, T);                                                                            \
        int error = allow(kernel, shared);                                                                         \
        if (error) return error;                                                                                   \
        return DI_LAUNCH(kernel, grid, THREADS, shared, s, N, W, size, (T)(1 / sqrt((double)size)), causal,        \
                         (const T *)qkv, (T *)lse, (T *)out);                                                      \
    }                                                                                                              \
    extern "C" int di_cuda_launch_attention_backward_##suffix(                                                     \
        int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv, const void *lse, const void *out,             \
        const void *dout, void *delta, void *dqkv, cudaStream_t s) {                                               \
        int size = (int)(W / H);                                                                                   \
        int64_t rows = B * H * N;                                                                                  \
        size_t shared = (size_t)(TILE * (4 * size + 2) + 2 * TILE * TILE) * sizeof(T);                             \
        dim3 grid((unsigned)(B * H), (unsigned)((N + TILE - 1) / TILE));                                           \
        T scale = (T)(1 / sqrt((double)size));                                                                     \
        auto of_queries = PICK(BACKWARD, T, false);                                                                \
        auto of_keys = PICK(BACKWARD, T, true);                                                                    \
        int error = allow(of_queries, shared);                                                                     \
        if (!error) error = allow(of_keys, shared);                                                                \
        if (!error)                                                                                                \
            error = DI_LAUNCH(attention_delta<T>, (unsigned)((rows + WARPS - 1) / WARPS), THREADS, 0, s, rows, N,  \
                              W, size, (const T *)out, (const T *)dout, (T *)delta);                               \
        if (!error)                                                                                                \
            error = DI_LAUNCH(of_queries, grid, THREADS, shared, s, N, W, size, scale, (const T *)qkv,             \
                              (const T *)lse, (const T *)delta, (const T *)dout, (T *)dqkv);                       \
        if (error) return error;                                                                                   \
        return DI_LAUNCH(of_keys, grid, THREADS, shared, s, N, W, size, scale, (const T *)qkv, (const T *)lse,     \
                         (const T *)delta, (const T *)dout, (T *)dqkv);                                            \
    }
ATTENTION(f32, float)
ATTENTION(f64, double)
