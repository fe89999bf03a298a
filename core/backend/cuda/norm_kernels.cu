/* norm_kernels.cu: LayerNorm and its gradients. A warp takes a row. Sums for gamma and beta are in two stages: pieces of the
 * rows, whose number depends on the shape alone, then the pieces in a fixed order. */
#include "kernels.h"
#include "pack.h"

enum { WARPS = 8, COLUMNS = 128, GROUPS = 8 };

template <typename A, typename P, int V>
__global__ void layernorm(int64_t M, int64_t C, const A *x, int64_t stride, const P *gamma, const P *beta, A *y,
                          P *mean, P *rstd) {
    typedef typename di_real<A>::type R;
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= M) return;
    const A *from = x + row * stride;
    R sum = 0, square = 0;
    for (int64_t i = lane * V; i < C; i += 32 * V) {
        di_pack<A, V> p = di_get<V>(from + i);
        for (int k = 0; k < V; k++) sum += di_load(p.at[k]);
    }
    R middle = di_warp_sum(sum) / (R)C;
    for (int64_t i = lane * V; i < C; i += 32 * V) {
        di_pack<A, V> p = di_get<V>(from + i);
        for (int k = 0; k < V; k++) {
            R d = di_load(p.at[k]) - middle;
            square += d * d;
        }
    }
    R scale = (R)1 / di_sqrt(di_warp_sum(square) / (R)C + (R)1e-5);
    for (int64_t i = lane * V; i < C; i += 32 * V) {
        di_pack<A, V> p = di_get<V>(from + i), out;
        di_pack<P, V> g = di_get<V>(gamma + i), b = di_get<V>(beta + i);
        for (int k = 0; k < V; k++)
            out.at[k] = di_store<A>((di_load(p.at[k]) - middle) * scale * (R)g.at[k] + (R)b.at[k]);
        di_put<V>(y + row * C + i, out);
    }
    if (lane > 0) return;
    if (mean) mean[row] = (P)middle;
    if (rstd) rstd[row] = (P)scale;
}

template <typename A, typename P, int V>
__global__ void layernorm_backward(int64_t M, int64_t C, const A *x, int64_t stride, const P *gamma, const P *mean,
                                   const P *rstd, const A *dy, int accumulate, A *dx) {
    typedef typename di_real<A>::type R;
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= M) return;
    const A *from = x + row * stride, *d = dy + row * C;
    A *to = dx + row * stride;
    R middle = (R)mean[row], scale = (R)rstd[row], a = 0, b = 0;
    for (int64_t i = lane * V; i < C; i += 32 * V) {
        di_pack<A, V> p = di_get<V>(from + i), q = di_get<V>(d + i);
        di_pack<P, V> g = di_get<V>(gamma + i);
        for (int k = 0; k < V; k++) {
            R dg = di_load(q.at[k]) * (R)g.at[k];
            a += dg;
            b += dg * ((di_load(p.at[k]) - middle) * scale);
        }
    }
    a = di_warp_sum(a) / (R)C;
    b = di_warp_sum(b) / (R)C;
    for (int64_t i = lane * V; i < C; i += 32 * V) {
        di_pack<A, V> p = di_get<V>(from + i), q = di_get<V>(d + i), out;
        di_pack<P, V> g = di_get<V>(gamma + i);
        if (accumulate) out = di_get<V>(to + i);
        for (int k = 0; k < V; k++) {
            R value = scale * (di_load(q.at[k]) * (R)g.at[k] - a - (di_load(p.at[k]) - middle) * scale * b);
            out.at[k] = di_store<A>(accumulate ? di_load(out.at[k]) + value : value);
        }
        di_put<V>(to + i, out);
    }
}

/* parts [pieces][2][C]: sums of dy xhat and dy over a piece of the rows. */
template <typename A, typename P>
__global__ void layernorm_pieces(int64_t M, int64_t C, int64_t rows, const A *x, int64_t stride, const P *mean,
                                 const P *rstd, const A *dy, P *parts) {
    typedef typename di_real<A>::type R;
    int64_t i = (int64_t)blockIdx.x * COLUMNS + threadIdx.x, row = blockIdx.y * rows, end = row + rows;
    if (i >= C) return;
    R a = 0, b = 0;
    for (end = end < M ? end : M; row < end; row++) {
        R d = di_load(dy[row * C + i]);
        a += d * ((di_load(x[row * stride + i]) - (R)mean[row]) * (R)rstd[row]);
        b += d;
    }
    parts[(int64_t)blockIdx.y * 2 * C + i] = (P)a;
    parts[((int64_t)blockIdx.y * 2 + 1) * C + i] = (P)b;
}

/* first [C] += the pieces' sums, second likewise; either may be NULL. */
template <typename P> __global__ void add_pieces(int64_t pieces, int64_t C, const P *parts, P *first, P *second) {
    DI_SHARED(P, sums, 2 * GROUPS * 32);
    int64_t i = (int64_t)blockIdx.x * 32 + threadIdx.x % 32, group = threadIdx.x / 32;
    P a = 0, b = 0;
    for (int64_t p = group; p < pieces && i < C; p += GROUPS) {
        a += parts[2 * p * C + i];
        b += parts[(2 * p + 1) * C + i];
    }
    sums[threadIdx.x] = a;
    sums[GROUPS * 32 + threadIdx.x] = b;
    __syncthreads();
    if (group > 0 || i >= C) return;
    a = b = 0;
    for (int g = 0; g < GROUPS; g++) {
        a += sums[g * 32 + threadIdx.x];
        b += sums[(GROUPS + g) * 32 + threadIdx.x];
    }
    if (first) first[i] += a;
    if (second) second[i] += b;
}

extern "C" int64_t di_cuda_norm_pieces(int64_t M) { return M < 64 * 128 ? (M + 63) / 64 : 128; }

#define LAYERNORM(suffix, A, P)                                                                                    \
    extern "C" int di_cuda_launch_layernorm_##suffix(int64_t M, int64_t C, const void *x, int64_t stride,                 \
                                              const void *gamma, const void *beta, void *y, void *mean,            \
                                              void *rstd, cudaStream_t s) {                                        \
        enum { V = di_lanes<A>::count };                                                                           \
        bool wide = C % V == 0 && stride % V == 0 && di_aligned(x) && di_aligned(y) && di_aligned(gamma) &&        \
                    di_aligned(beta);                                                                              \
        auto kernel = wide ? layernorm<A, P, V> : layernorm<A, P, 1>;                                              \
        return DI_LAUNCH(kernel, (unsigned)((M + WARPS - 1) / WARPS), WARPS * 32, 0, s, M, C, (const A *)x,        \
                         stride, (const P *)gamma, (const P *)beta, (A *)y, (P *)mean, (P *)rstd);                 \
    }                                                                                                              \
    extern "C" int di_cuda_launch_layernorm_backward_##suffix(int64_t M, int64_t C, const void *x, int64_t stride,        \
                                                       const void *gamma, const void *mean, const void *rstd,      \
                                                       const void *dy, int accumulate, void *dx, void *parts,      \
                                                       void *dgamma, void *dbeta, cudaStream_t s) {                \
        enum { V = di_lanes<A>::count };                                                                           \
        bool wide = C % V == 0 && stride % V == 0 && di_aligned(x) && di_aligned(dx) && di_aligned(dy) &&          \
                    di_aligned(gamma);                                                                             \
        if (dgamma || dbeta) { /* before dx, which may lie over dy */                                              \
            int64_t pieces = di_cuda_norm_pieces(M), rows = (M + pieces - 1) / pieces;                             \
            dim3 grid((unsigned)((C + COLUMNS - 1) / COLUMNS), (unsigned)pieces);                                  \
            auto sums = layernorm_pieces<A, P>;                                                                    \
            int error = DI_LAUNCH(sums, grid, COLUMNS, 0, s, M, C, rows, (const A *)x, stride, (const P *)mean,    \
                                  (const P *)rstd, (const A *)dy, (P *)parts);                                     \
            if (error) return error;                                                                               \
            error = DI_LAUNCH(add_pieces<P>, (unsigned)((C + 31) / 32), 32 * GROUPS, 0, s, pieces, C,              \
                              (const P *)parts, (P *)dgamma, (P *)dbeta);                                          \
            if (error) return error;                                                                               \
        }                                                                                                          \
        auto kernel = wide ? layernorm_backward<A, P, V> : layernorm_backward<A, P, 1>;                            \
        return DI_LAUNCH(kernel, (unsigned)((M + WARPS - 1) / WARPS), WARPS * 32, 0, s, M, C, (const A *)x,        \
                         stride, (const P *)gamma, (const P *)mean, (const P *)rstd, (const A *)dy, accumulate,    \
                         (A *)dx);                                                                                 \
    }
LAYERNORM(f32, float, float)
LAYERNORM(f64, double, double)
LAYERNORM(narrow, __nv_bfloat16, float)
