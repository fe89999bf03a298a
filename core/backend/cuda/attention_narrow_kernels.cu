/* attention_narrow_kernels.cu: attention and its gradients in bfloat16 on tensor cores, scores never written: a block of
 * four warps takes 64 rows of a head, a warp 16 of them, and goes over the other side 64 rows at a time while the next
 * ones are on their way. Scores, exponentials, sums and what is kept are float. Heads are up to 64 wide in eights;
 * narrower ones are filled up with zeros. */
#include "kernels.h"
#include "pack.h"
#include "warp_matrix.h"

typedef __nv_bfloat16 narrow;
enum { THREADS = 128, STEPS = DI_TILE / 16, PARTS = DI_TILE / 8, TILE_ELEMENTS = DI_TILE * DI_TILE };

/* A head's rows `first` … of one of q, k, v, out: `pitch` elements from row to row; zeros past the end and the width. */
__device__ static void send_tile(narrow *tile, const narrow *from, int64_t pitch, int first, int N, int size) {
    for (int i = (int)threadIdx.x; i < DI_TILE * PARTS; i += THREADS) {
        int row = i / PARTS, piece = i % PARTS;
        bool there = first + row < N && piece * 8 < size;
        di_send(tile + di_tile_at(row, piece), there ? from + (first + row) * pitch + piece * 8 : from, there);
    }
}

/* The warp's 16 rows of `sums`, times what each row's factor is, to rows of `pitch` elements. */
__device__ static void write_rows(narrow *to, int64_t pitch, int row, int N, int size, const di_part_c sums[PARTS],
                                  const float factor[2]) {
    int lane = (int)threadIdx.x % 32;
    for (int r = 0; r < 2; r++) {
        int i = row + lane / 4 + 8 * r;
        if (i >= N) continue;
        DI_UNROLL
        for (int p = 0; p < PARTS; p++) {
            int column = 8 * p + 2 * (lane % 4);
            unsigned word = di_two(sums[p].x[2 * r] * factor[r], sums[p].x[2 * r + 1] * factor[r]);
            if (column < size) *reinterpret_cast<unsigned *>(to + i * pitch + column) = word;
        }
    }
}

__device__ static inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ static inline float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Scores of the warp's rows against `count` rows of the tile; -infinity past them. */
__device__ static void score_tile(di_part_c s[PARTS], const di_part_a q[STEPS], const narrow *k, int count) {
    int lane = (int)threadIdx.x % 32;
    DI_UNROLL
    for (int part = 0; part < PARTS; part += 2) {
        s[part] = s[part + 1] = {{0, 0, 0, 0}};
        if (8 * part < count) /* the same in all lanes */
            DI_UNROLL
            for (int step = 0; step < STEPS; step++) {
                di_part_b b[2];
                di_tile_b(b, k, 8 * part, step, false);
                di_multiply(s[part], q[step], b[0]);
                di_multiply(s[part + 1], q[step], b[1]);
            }
        DI_UNROLL
        for (int e = 0; e < 8; e++)
            if (8 * (part + e / 4) + 2 * (lane % 4) + e % 2 >= count) s[part + e / 4].x[e % 4] = -INFINITY;
    }
}

/* grid: heads of all images x tiles of rows. `scale` is that of the scores times the logarithm of e to 2. */
__global__ void __launch_bounds__(THREADS)
    attention_narrow(int N, int64_t W, int size, float scale, const narrow *qkv, float *lse, narrow *out) {
    DI_SHARED(uint4, memory, 4 * TILE_ELEMENTS / 8);
    narrow *tiles = reinterpret_cast<narrow *>(memory); /* k and v of this turn, k and v of the next */
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, first = (int)blockIdx.y * DI_TILE;
    int64_t heads = W / size, b = blockIdx.x / heads, h = blockIdx.x % heads;
    const narrow *base = qkv + b * N * 3 * W + h * size;
    di_part_a q[STEPS];
    di_part_c o[PARTS] = {};
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    send_tile(tiles + 2 * TILE_ELEMENTS, base, 3 * W, first, N, size);
    di_send_group();
    send_tile(tiles, base + W, 3 * W, 0, N, size);
    send_tile(tiles + TILE_ELEMENTS, base + 2 * W, 3 * W, 0, N, size);
    di_send_group();
    di_await_groups<1>();
    __syncthreads();
    DI_UNROLL
    for (int step = 0; step < STEPS; step++) q[step] = di_tile_a(tiles + 2 * TILE_ELEMENTS, 16 * warp, step);
    for (int start = 0, turn = 0; start < N; start += DI_TILE, turn ^= 1) {
        narrow *k = tiles + turn * 2 * TILE_ELEMENTS, *v = k + TILE_ELEMENTS;
        __syncthreads(); /* what lay in the other half is used up */
        if (start + DI_TILE < N) {
            narrow *next = tiles + (turn ^ 1) * 2 * TILE_ELEMENTS;
            send_tile(next, base + W, 3 * W, start + DI_TILE, N, size);
            send_tile(next + TILE_ELEMENTS, base + 2 * W, 3 * W, start + DI_TILE, N, size);
        }
        di_send_group();
        di_await_groups<1>();
        __syncthreads();
        int count = N - start < DI_TILE ? N - start : DI_TILE;
        if (first + 16 * warp >= N) continue; /* a warp without rows only carries */
        di_part_c s[PARTS];
        score_tile(s, q, k, count);
        DI_UNROLL
        for (int r = 0; r < 2; r++) {
            float most = top[r];
            DI_UNROLL
            for (int p = 0; p < PARTS; p++) most = fmaxf(most, fmaxf(s[p].x[2 * r], s[p].x[2 * r + 1]));
            most = quad_max(most);
            float keep = exp2f((top[r] - most) * scale), all = 0;
            top[r] = most;
            DI_UNROLL
            for (int p = 0; p < PARTS; p++) {
                for (int e = 2 * r; e < 2 * r + 2; e++) {
                    s[p].x[e] = exp2f((s[p].x[e] - most) * scale);
                    all += s[p].x[e];
                    o[p].x[e] *= keep;
                }
            }
            sum[r] = sum[r] * keep + all;
        }
        DI_UNROLL
        for (int part = 0; part < PARTS; part += 2) {
            if (8 * part >= count) break;
            di_part_a weights = di_as_factor(s[part], s[part + 1]);
            DI_UNROLL
            for (int column = 0; column < STEPS; column++) {
                di_part_b values[2];
                di_tile_b(values, v, 8 * part, column, true);
                di_multiply(o[2 * column], weights, values[0]);
                di_multiply(o[2 * column + 1], weights, values[1]);
            }
        }
    }
    if (first + 16 * warp >= N) return;
    float share[2];
    for (int r = 0; r < 2; r++) {
        int i = first + 16 * warp + lane / 4 + 8 * r;
        float all = quad_sum(sum[r]);
        share[r] = 1.0f / all;
        if (lse && lane % 4 == 0 && i < N)
            lse[(int64_t)blockIdx.x * N + i] = top[r] * scale * 0.693147180559945309f + logf(all);
    }
    write_rows(out + b * N * W + h * size, W, first + 16 * warp, N, size, o, share);
}

/* delta [B,H,N]: products of each row of out and dout, in float. Eight lanes take a row of a head. */
__global__ void delta_narrow(int64_t rows, int64_t N, int64_t W, int size, const narrow *out, const narrow *dout,
                             float *delta) {
    int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 8, heads = W / size;
    int piece = (int)threadIdx.x % 8;
    float sum = 0;
    if (row < rows && piece * 8 < size) { /* rows in the order of memory: heads of a token side by side */
        int64_t at = row / heads * W + row % heads * size + piece * 8;
        di_pack<narrow, 8> x = di_get<8>(out + at), y = di_get<8>(dout + at);
        for (int i = 0; i < 8; i++) sum += di_load(x.at[i]) * di_load(y.at[i]);
    }
    for (int bits = 4; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (row < rows && piece == 0) delta[(row / heads / N * heads + row % heads) * N + row / heads % N] = sum;
}

/* Gradients of the block's rows of q, going over k and v; or, with KEYS, of k and v, going over q and dout. A row's own
 * vectors are a, b, the others' x, y: with p = exp(a . x scale - lse) of the query and ds = p (b . y - delta) scale,
 * one += ds x and, with KEYS, two += p y. */
template <bool KEYS>
__device__ static void gradients(narrow *tiles, int N, int64_t W, int size, float scale, const narrow *qkv,
                                 const float *lse, const float *delta, const narrow *dout, narrow *dqkv) {
    const float log2e = 1.44269504088896341f;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, first = (int)blockIdx.y * DI_TILE;
    int64_t heads = W / size, image = blockIdx.x / heads, h = blockIdx.x % heads;
    const narrow *q = qkv + image * N * 3 * W + h * size, *k = q + W, *v = k + W;
    const narrow *d = dout + image * N * W + h * size;
    const narrow *from_a = KEYS ? k : q, *from_b = KEYS ? v : d, *from_x = KEYS ? q : k, *from_y = KEYS ? d : v;
    const int64_t pitch_b = KEYS ? 3 * W : W, pitch_y = KEYS ? W : 3 * W;
    lse += (int64_t)blockIdx.x * N;
    delta += (int64_t)blockIdx.x * N;
    di_part_a a[STEPS], b[STEPS];
    di_part_c one[PARTS] = {}, two[PARTS] = {};
    narrow *own = tiles + 2 * TILE_ELEMENTS;
    send_tile(own, from_a, 3 * W, first, N, size);
    send_tile(own + TILE_ELEMENTS, from_b, pitch_b, first, N, size);
    di_send_group();
    send_tile(tiles, from_x, 3 * W, 0, N, size);
    send_tile(tiles + TILE_ELEMENTS, from_y, pitch_y, 0, N, size);
    di_send_group();
    di_await_groups<1>();
    __syncthreads();
    DI_UNROLL
    for (int step = 0; step < STEPS; step++) {
        a[step] = di_tile_a(own, 16 * warp, step);
        b[step] = di_tile_a(own + TILE_ELEMENTS, 16 * warp, step);
    }
    float row_lse[2] = {0, 0}, row_delta[2] = {0, 0};
    for (int r = 0; r < 2 && !KEYS; r++) {
        int i = first + 16 * warp + lane / 4 + 8 * r;
        if (i < N) row_lse[r] = lse[i] * log2e, row_delta[r] = delta[i];
    }
    for (int start = 0, turn = 0; start < N; start += DI_TILE, turn ^= 1) {
        const narrow *x = tiles + turn * 2 * TILE_ELEMENTS, *y = x + TILE_ELEMENTS;
        __syncthreads(); /* what lay in the other half is used up */
        if (start + DI_TILE < N) {
            narrow *next = tiles + (turn ^ 1) * 2 * TILE_ELEMENTS;
            send_tile(next, from_x, 3 * W, start + DI_TILE, N, size);
            send_tile(next + TILE_ELEMENTS, from_y, pitch_y, start + DI_TILE, N, size);
        }
        di_send_group();
        di_await_groups<1>();
        __syncthreads();
        int count = N - start < DI_TILE ? N - start : DI_TILE;
        if (first + 16 * warp >= N) continue; /* a warp without rows only carries */
        for (int others = 0; others < count; others += 16) {
            di_part_c s[2] = {}, ds[2] = {};
            DI_UNROLL
            for (int step = 0; step < STEPS; step++) {
                di_part_b f[2];
                di_tile_b(f, x, others, step, false);
                di_multiply(s[0], a[step], f[0]);
                di_multiply(s[1], a[step], f[1]);
                di_tile_b(f, y, others, step, false);
                di_multiply(ds[0], b[step], f[0]);
                di_multiply(ds[1], b[step], f[1]);
            }
            DI_UNROLL
            for (int e = 0; e < 8; e++) {
                int r = e % 4 / 2, column = others + e / 4 * 8 + 2 * (lane % 4) + e % 2;
                bool there = column < count;
                float l = row_lse[r], D = row_delta[r];
                if (KEYS) l = there ? lse[start + column] * log2e : 0.0f, D = there ? delta[start + column] : 0.0f;
                float p = there ? exp2f(s[e / 4].x[e % 4] * (scale * log2e) - l) : 0.0f;
                s[e / 4].x[e % 4] = p;
                ds[e / 4].x[e % 4] = there ? p * (ds[e / 4].x[e % 4] - D) * scale : 0.0f;
            }
            di_part_a slope = di_as_factor(ds[0], ds[1]), weight = di_as_factor(s[0], s[1]);
            DI_UNROLL
            for (int column = 0; column < STEPS; column++) {
                di_part_b f[2];
                di_tile_b(f, x, others, column, true);
                di_multiply(one[2 * column], slope, f[0]);
                di_multiply(one[2 * column + 1], slope, f[1]);
                if (KEYS) {
                    di_tile_b(f, y, others, column, true);
                    di_multiply(two[2 * column], weight, f[0]);
                    di_multiply(two[2 * column + 1], weight, f[1]);
                }
            }
        }
    }
    const float as_it_is[2] = {1, 1};
    narrow *to = dqkv + image * N * 3 * W + h * size;
    if (first + 16 * warp >= N) return;
    write_rows(to + (KEYS ? W : 0), 3 * W, first + 16 * warp, N, size, one, as_it_is);
    if (KEYS) write_rows(to + 2 * W, 3 * W, first + 16 * warp, N, size, two, as_it_is);
}

/* grid: heads of all images x tiles of rows x queries, keys. */
__global__ void __launch_bounds__(THREADS)
    attention_backward_narrow(int N, int64_t W, int size, float scale, const narrow *qkv, const float *lse,
                              const float *delta, const narrow *dout, narrow *dqkv) {
    DI_SHARED(uint4, memory, 4 * TILE_ELEMENTS / 8);
    narrow *tiles = reinterpret_cast<narrow *>(memory);
    if (blockIdx.z == 0) gradients<false>(tiles, N, W, size, scale, qkv, lse, delta, dout, dqkv);
    else gradients<true>(tiles, N, W, size, scale, qkv, lse, delta, dout, dqkv);
}

extern "C" int di_cuda_attention_fits_narrow(int64_t N, int64_t W, int64_t H) {
    return W / H <= DI_TILE && W / H % 8 == 0 && N <= 65535 * DI_TILE;
}

extern "C" int di_cuda_launch_attention_narrow(int64_t B, int64_t N, int64_t W, int64_t H, int causal,
                                               const void *qkv, void *lse, void *out, cudaStream_t s) {
    (void)causal;
    int size = (int)(W / H);
    dim3 grid((unsigned)(B * H), (unsigned)((N + DI_TILE - 1) / DI_TILE));
    float scale = (float)(1.44269504088896341 / sqrt((double)size));
    return DI_LAUNCH(attention_narrow, grid, THREADS, 0, s, (int)N, W, size, scale, (const narrow *)qkv,
                     (float *)lse, (narrow *)out);
}

extern "C" int di_cuda_launch_attention_backward_narrow(int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,
                                                        const void *lse, const void *out, const void *dout,
                                                        void *delta, void *dqkv, cudaStream_t s) {
    int size = (int)(W / H);
    int64_t rows = B * H * N;
    dim3 grid((unsigned)(B * H), (unsigned)((N + DI_TILE - 1) / DI_TILE), 2);
    int error = DI_LAUNCH(delta_narrow, (unsigned)((rows * 8 + THREADS - 1) / THREADS), THREADS, 0, s, rows, N, W, size,
                          (const narrow *)out, (const narrow *)dout, (float *)delta);
    if (error) return error;
    return DI_LAUNCH(attention_backward_narrow, grid, THREADS, 0, s, (int)N, W, size,
                     (float)(1 / sqrt((double)size)), (const narrow *)qkv, (const float *)lse, (const float *)delta,
                     (const narrow *)dout, (narrow *)dqkv);
}
