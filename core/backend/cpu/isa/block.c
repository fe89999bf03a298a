/* block.c: the two halves of a transformer block, forward, for inference: x += out(between(in(LayerNorm(x)))),
 * where between is an activation or the attention. Both weights are packed first. Then a tile takes some rows all
 * the way: what is between stays in its second-level cache and in the form in which the next product reads it, and
 * only weights pass by. Every number is made as the separate kernels make it, in the same order. */
#ifndef DI_REAL
#define DI_SELF "block.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "layernorm_row.h"
#include "packed.h"
#include "small.h"

#include "heads.h"

#ifndef DI_BLOCK_SIZES
#define DI_BLOCK_SIZES
enum {
    NEAR_BYTES = 640 << 10, /* of a tile's rows: more would push each other out of the second-level cache */
    ASIDE = 16,             /* units between rows, as they would meet in one cache set */
    FEW_ROWS = 56           /* of small images, several make a tile */
};
#endif

typedef struct {
    distac_context *context;
    NAME(packed_job) in, out;
    const T *gamma, *beta, *in_bias, *out_bias;
    T *x;
    int64_t M, W, between, tiles;
    int64_t near, far;          /* from row to row of what enters the two products, in units */
    int32_t act;
    NAME(attention_job) heads;  /* attention: of one image, in a tile's scratch */
    int64_t B;
} NAME(block_job);

static void NAME(block_factor)(NAME(packed_job) *f, distac_context *c, int products, int64_t M, int64_t N,
                               int64_t K, const T *weight) {
    *f = (NAME(packed_job)){.context = c, .products = products, .trans_b = true, .M = M, .N = N, .K = K, .lda = K,
                            .ldb = K, .B = weight};
    NAME(cut_depth)(f);
}
INLINE int64_t NAME(panels_of)(const NAME(packed_job) *f) {
    return di_cpu_ceil(f->N, NR);
}
static distac_status NAME(block_pack)(void *arg, int64_t index) {
    NAME(block_job) *j = arg;
    int64_t first = NAME(panels_of)(&j->in);
    return index < first ? NAME(pack_panel)(&j->in, index) : NAME(pack_panel)(&j->out, index - first);
}

/* sums [pieces][MR][NR] = rows of A, in rows of lda units, times panel p. */
static void NAME(panel_sums)(const NAME(packed_job) *f, int64_t p, int64_t rows, const T *A, int64_t lda,
                             T *sums) {
    int64_t pieces = di_cpu_ceil(rows, MR);
    const T *B = f->panels + p * f->units * NR;
    NAME(micro_kernel) micro = NAME(micro_bare);
#if PAIRS
    if (f->products == PRODUCTS_PAIRS) micro = NAME(micro_pair_bare);
#endif
    for (int64_t unit = 0, b = 0; b < f->blocks; b++) {
        int64_t units = di_cpu_min(f->deep, f->units - unit);
        for (int64_t q = 0; q < pieces; q++) {
            int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
            micro((int)n, units, A + first * lda + unit, lda, B + unit * NR,
                  B + (unit + units) * NR + q * units * NR / pieces, NR / pieces, b > 0, sums + q * MR * NR, NR);
        }
        unit += units;
    }
}

/* LayerNorm of rows of x as units. line [W] is scratch. */
static void NAME(block_enter)(const NAME(block_job) *j, int64_t row, int64_t rows, T *line, T *to) {
    bool plain = j->in.products == PRODUCTS_PLAIN;
    T mean, rstd;
    for (int64_t i = 0; i < rows; i++, to += j->near) {
        NAME(layernorm_row)(j->W, j->x + (row + i) * j->W, j->gamma, j->beta, plain ? to : line, &mean, &rstd);
        if (!plain) NAME(along)(j->in.products, j->W, line, to);
    }
}

/* Sums plus bias, bent, become units of what is between. */
INLINE void NAME(between_ends)(const NAME(block_job) *j, int64_t rows, int64_t column, int64_t columns,
                               const T *sums, T *to) {
    const T *bias = j->in_bias + column;
    to += j->out.products == PRODUCTS_PAIRS ? column / 2 : column;
    for (int64_t i = 0; i < rows; i++, sums += NR, to += j->far) {
        T value[NR];
        if (j->act == DISTAC_ACT_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) value[q] = NAME(gelu)(sums[q] + bias[q]);
        } else {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) value[q] = NAME(quick_gelu)(sums[q] + bias[q]);
        }
        NAME(along)(j->out.products, columns, value, to);
    }
}
INLINE void NAME(out_ends)(const NAME(block_job) *j, int64_t row, int64_t rows, int64_t column, int64_t columns,
                           const T *sums) {
    const T *bias = j->out_bias + column;
    T *x = j->x + row * j->W + column;
    for (int64_t i = 0; i < rows; i++, sums += NR, x += j->W) {
        SIMD for (int64_t q = 0; q < columns; q++) x[q] = sums[q] + bias[q] + x[q];
    }
}

/* x += the second product. */
static void NAME(block_leave)(const NAME(block_job) *j, int64_t row, int64_t rows, const T *from, int64_t lda,
                              T *sums) {
    int64_t pieces = di_cpu_ceil(rows, MR);
    for (int64_t column = 0; column < j->W; column += NR) {
        int64_t columns = di_cpu_min(NR, j->W - column);
        NAME(fetch)(&j->out, row, rows, column);
        NAME(panel_sums)(&j->out, column / NR, rows, from, lda, sums);
        for (int64_t q = 0; q < pieces; q++) {
            int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
            if (columns == NR) NAME(out_ends)(j, row + first, n, column, NR, sums + q * MR * NR);
            else NAME(out_ends)(j, row + first, n, column, columns, sums + q * MR * NR);
        }
    }
}

static distac_status NAME(mlp_tile)(void *arg, int64_t index) {
    const NAME(block_job) *j = arg;
    int64_t row = NAME(piece)(j->M, j->tiles, index), rows = NAME(piece)(j->M, j->tiles, index + 1) - row;
    int64_t pieces = di_cpu_ceil(rows, MR);
    size_t bytes = (size_t)(rows * (j->near + j->far) + pieces * MR * NR + j->W) * sizeof(T);
    T *enters = di_alloc(j->context, bytes);
    if (!enters) return DISTAC_ENOMEM;
    T *between = enters + rows * j->near, *sums = between + rows * j->far;
    NAME(block_enter)(j, row, rows, sums + pieces * MR * NR, enters);
    for (int64_t column = 0; column < j->between; column += NR) {
        int64_t columns = di_cpu_min(NR, j->between - column);
        NAME(panel_sums)(&j->in, column / NR, rows, enters, j->near, sums);
        for (int64_t q = 0; q < pieces; q++) {
            int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
            T *to = between + first * j->far;
            if (columns == NR) NAME(between_ends)(j, n, column, NR, sums + q * MR * NR, to);
            else NAME(between_ends)(j, n, column, columns, sums + q * MR * NR, to);
        }
    }
    NAME(block_leave)(j, row, rows, between, j->far, sums);
    di_free(j->context, enters, bytes);
    return DISTAC_OK;
}

INLINE void NAME(qkv_ends)(const NAME(block_job) *j, int64_t rows, int64_t column, int64_t columns, const T *sums,
                           T *to) {
    const T *bias = j->in_bias + column;
    for (int64_t i = 0; i < rows; i++, sums += NR, to += j->far) {
        SIMD for (int64_t q = 0; q < columns; q++) to[column + q] = sums[q] + bias[q];
    }
}

/* Some images. */
static distac_status NAME(attend_tile)(void *arg, int64_t index) {
    const NAME(block_job) *j = arg;
    NAME(attention_job) a = j->heads;
    int64_t image = NAME(piece)(j->B, j->tiles, index), images = NAME(piece)(j->B, j->tiles, index + 1) - image;
    int64_t row = image * a.N, rows = images * a.N, pieces = di_cpu_ceil(rows, MR);
    bool plain = j->out.products == PRODUCTS_PLAIN;
    int64_t lines = plain ? j->W : rows * j->W;
    size_t bytes = (size_t)(rows * (j->near + j->far) + pieces * MR * NR + lines) * sizeof(T) + a.scratch;
    T *enters = di_alloc(j->context, bytes);
    if (!enters) return DISTAC_ENOMEM;
    T *qkv = enters + rows * j->near, *sums = qkv + rows * j->far, *line = sums + pieces * MR * NR;
    NAME(block_enter)(j, row, rows, line, enters);
    for (int64_t column = 0; column < 3 * j->W; column += NR) {
        int64_t columns = di_cpu_min(NR, 3 * j->W - column);
        NAME(panel_sums)(&j->in, column / NR, rows, enters, j->near, sums);
        for (int64_t q = 0; q < pieces; q++) {
            int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
            T *to = qkv + first * j->far;
            if (columns == NR) NAME(qkv_ends)(j, n, column, NR, sums + q * MR * NR, to);
            else NAME(qkv_ends)(j, n, column, columns, sums + q * MR * NR, to);
        }
    }
    a.qkv = qkv;
    a.ld = j->far;
    a.out = plain ? enters : line;
    a.to = plain ? j->near : j->W;
    for (int64_t b = 0; b < images; b++)
        for (int64_t h = 0; h < a.heads; h++) NAME(head_forward)(&a, b, h, line + lines);
    for (int64_t i = 0; i < rows && !plain; i++)
        NAME(along)(j->out.products, j->W, line + i * j->W, enters + i * j->near);
    NAME(block_leave)(j, row, rows, enters, j->near, sums);
    di_free(j->context, enters, bytes);
    return DISTAC_OK;
}

/* Packs both weights, then runs the tiles. */
static distac_status NAME(block_run)(distac_context *c, const char *kernel, NAME(block_job) *j, di_cpu_tile tile) {
    int64_t in = NAME(panels_of)(&j->in), out = NAME(panels_of)(&j->out), units = in * j->in.units * NR;
    size_t bytes = (size_t)(units + out * j->out.units * NR) * sizeof(T);
    T *panels = di_alloc(c, bytes);
    if (!panels) return DISTAC_ENOMEM;
    j->in.panels = panels;
    j->out.panels = panels + units;
    distac_status status = di_cpu_run(c, kernel, in + out, NAME(block_pack), j);
    if (status == DISTAC_OK) status = di_cpu_run(c, kernel, j->tiles, tile, j);
    di_free(c, panels, bytes);
    return status;
}

/* Units from row to row, and no two rows in one cache set. */
static int64_t NAME(apart)(int64_t units) {
    return di_cpu_ceil(units, ASIDE) * ASIDE + ASIDE;
}

static distac_status NAME(mlp_of)(distac_context *c, int products, int64_t M, int64_t W, int64_t hidden,
                                  int32_t act, const di_half *p, void *x) {
    if (M == 0) return DISTAC_OK;
    NAME(block_job) j = {.context = c, .gamma = p->gamma, .beta = p->beta, .in_bias = p->in_bias,
                         .out_bias = p->out_bias, .x = x, .M = M, .W = W, .between = hidden, .act = act};
    NAME(block_factor)(&j.in, c, products, M, hidden, W, p->in_weight);
    NAME(block_factor)(&j.out, c, products, M, W, hidden, p->out_weight);
    j.out.near[0] = x;
    j.out.ld = W;
    j.near = NAME(apart)(j.in.units);
    j.far = NAME(apart)(j.out.units);
    int64_t most = NEAR_BYTES / ((j.near + j.far) * (int64_t)sizeof(T)) / MR * MR;
    most = most < 2 * MR ? 2 * MR : di_cpu_min(most, PANELS * MR);
    j.tiles = di_cpu_ceil(M, most);
    if (M > 4 * MR) j.tiles = di_cpu_ceil(j.tiles, 4) * 4; /* so that threads end together */
    return NAME(block_run)(c, "mlp", &j, NAME(mlp_tile));
}
static distac_status NAME(attend_of)(distac_context *c, int products, int64_t B, int64_t N, int64_t W,
                                     int64_t heads, const di_half *p, void *x) {
    if (B == 0 || N == 0) return DISTAC_OK;
    NAME(block_job) j = {.context = c, .gamma = p->gamma, .beta = p->beta, .in_bias = p->in_bias,
                         .out_bias = p->out_bias, .x = x, .M = B * N, .W = W, .B = B,
                         .heads = {.context = c, .N = N, .W = W, .heads = heads}};
    NAME(attention_sizes)(&j.heads);
    NAME(block_factor)(&j.in, c, products, B * N, 3 * W, W, p->in_weight);
    NAME(block_factor)(&j.out, c, products, B * N, W, W, p->out_weight);
    j.out.near[0] = x;
    j.out.ld = W;
    j.near = NAME(apart)(j.in.units);
    j.far = NAME(apart)(3 * W);
    j.tiles = di_cpu_ceil(B, N < FEW_ROWS ? FEW_ROWS / N : 1);
    if (j.tiles > 4) j.tiles = di_cpu_min(B, di_cpu_ceil(j.tiles, 4) * 4);
    return NAME(block_run)(c, "attend", &j, NAME(attend_tile));
}
distac_status NAME(mlp)(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act, const di_half *p,
                        void *x) {
    return NAME(mlp_of)(c, PRODUCTS_PLAIN, M, W, hidden, act, p, x);
}
distac_status NAME(attend)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads, const di_half *p,
                           void *x) {
    return NAME(attend_of)(c, PRODUCTS_PLAIN, B, N, W, heads, p, x);
}
#if DI_REAL == 32
static int NAME(bf16)(void) {
    return PAIRS && di_cpu_multiplies_bf16() ? PRODUCTS_PAIRS : PRODUCTS_ROUNDED;
}
distac_status NAME(mlp_bf16)(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act,
                             const di_half *p, void *x) {
    return NAME(mlp_of)(c, NAME(bf16)(), M, W, hidden, act, p, x);
}
distac_status NAME(attend_bf16)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                const di_half *p, void *x) {
    return NAME(attend_of)(c, NAME(bf16)(), B, N, W, heads, p, x);
}
#endif
#endif
