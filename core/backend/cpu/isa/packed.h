/* packed.h: products of float matrices, op(A) [M,K] times op(B) [K,N], from packed operands. Included once per
 * element type, hence no guard. Operands that the kernel can read where they lie are not packed: rows of a float A
 * that is not deep, and both factors of a gradient of weights (unpacked.h).
 *
 * B is packed once for all tiles: panels of NR columns, [units][NR]. A tile of the result packs its rows of A, KC
 * units deep, and multiplies them with one panel of B after the other; MR x NR sums at a time are kept in
 * registers. `finish` gets every piece of sums while it is in the first-level cache, to add, bend and store them.
 *
 * A unit is what one lane multiplies in one instruction: a float, or a pair of bfloat16 that follow each other
 * along K. So one layout and one kernel serve both. A processor without such an instruction multiplies floats that
 * were rounded to bfloat16; the products are the same, only the order of the sums differs.
 *
 * Every sum runs over K in one order: blocks of KC units, equally long, added up. It does not depend on how the
 * result is cut into tiles. */

#include "turn.h"

#ifndef DI_PACKED_SIZES
#define DI_PACKED_SIZES
enum { PRODUCTS_PLAIN, PRODUCTS_ROUNDED, PRODUCTS_PAIRS };
enum {
    MR = VBYTES == 64 ? 14 : 6, /* rows of a block of sums: 28 + 3 of 32 registers, 12 + 3 of 16 */
    KC = 384,
    STRIDE = KC + 16, /* units from row to row of packed A: more, as rows would meet in one cache set */
    PANELS = VBYTES == 64 ? 8 : 16, /* of A in a tile */
    WHOLE_BLOCKS = 4,               /* blocks of KC of A that are packed at a time if these are all, */
    HELD = 2,                       /* and if not: then the sums of a tile need room beside them */
    CHUNK = 64,                     /* units turned around at a time */
    FETCHED = 64,                   /* elements along K that a packed row of B is fetched ahead, */
    ROWS_FETCHED = 12,              /* units, if K goes down the rows */
    BARE = 512,                     /* unpacked: rows of both operands that stay in the second-level cache, */
    BARE_ROWS = 140 / MR,           /* panels of A in a tile, */
    BARE_COLUMNS = 128              /* columns of a tile */
};
#endif
#undef NR
#undef PAIRS
#undef AHEAD
#undef PANEL
#define PAIRS (VBYTES == 64 && DI_REAL == 32)
#define NR (2 * VL)                    /* columns of a block of sums */
#define AHEAD ((MR + VL - 1) / VL * VL) /* MR in whole registers: the width of packed columns of A */
#define PANEL (MR * STRIDE > AHEAD * KC ? MR * STRIDE : AHEAD * KC)

/* sums [rows][NR], of the result's rows from `row` and `columns` columns from `column` on. */
typedef void (*NAME(finish))(const void *arg, int64_t row, int64_t rows, int64_t column, int64_t columns,
                             const T *sums);

typedef struct {
    distac_context *context;
    int products;
    bool trans_a, trans_b, bare; /* bare: A is not packed */
    int64_t M, N, K, lda, ldb;
    const T *A, *B;
    T *panels;
    int64_t units, deep, blocks;    /* of K, of a block of K, blocks */
    int64_t rows, columns, across;  /* of a tile, tiles side by side */
    NAME(finish) finish;
    const void *arg;
    T *result;                      /* or NULL: the sums as they are become the result, without finish */
    int64_t pieces, chunks, chunk;  /* unpacked: pieces of all rows, chunks of K and their depth */
    T *parts;
    const T
        *near[2]; /* what finish reads and writes, [M,N] in rows of ld: fetched while the sums are made; or NULL */
    int64_t ld;
} NAME(packed_job);

#include "packed_units.h"

#include "packed_sums.h"

/* ---- a tile ---- */

/* First row of piece q when `rows` rows are cut into `pieces` pieces, the longer ones first. */
INLINE int64_t NAME(piece)(int64_t rows, int64_t pieces, int64_t q) {
    return q * (rows / pieces) + di_cpu_min(q, rows % pieces);
}

/* Packs rows row … of op(A) that lie across: all pieces of one step along K after the other, as they share cache
 * lines. */
INLINE void NAME(pack_across)(const NAME(packed_job) *j, int products, int64_t row, int64_t rows, int64_t unit,
                              int64_t units, T *to) {
    int64_t each = products == PRODUCTS_PAIRS ? 2 : 1, pieces = di_cpu_ceil(rows, MR);
    int64_t end = row + rows, safe = j->M - AHEAD; /* from which rows a whole width can be read */
    for (int64_t t = 0; t < units; t++) {
        int64_t k = (unit + t) * each, at = row;
        const T *x = j->A + k * j->lda, *next = each == 2 && k + 1 < j->K ? x + j->lda : NULL;
        NAME(fetch_rows)(j->A + row, (unit + di_cpu_min(t + ROWS_FETCHED, units - 1)) * each, next ? each : 1,
                         j->lda, rows);
        for (int64_t q = 0; q < pieces; q++) {
            T *panel = to + q * PANEL + t * AHEAD;
            int64_t n = rows / pieces + (q < rows % pieces);
            if (at <= safe) {
                for (int64_t i = 0; i < AHEAD; i += VL)
                    NAME(beside)(products, x + at + i, next ? next + at + i : NULL, panel + i);
            } else {
                NAME(pack_beside)(products, 1, next ? 2 : 1, n, end - at, x + at, j->lda, AHEAD, panel);
            }
            at += n;
        }
    }
}

/* Packs rows row … row+rows-1 of op(A), `units` units from `unit` on. */
static void NAME(pack_rows)(const NAME(packed_job) *j, int64_t row, int64_t rows, int64_t unit, int64_t units,
                            T *to) {
    if (j->trans_a) {
        if (j->products == PRODUCTS_PLAIN) NAME(pack_across)(j, PRODUCTS_PLAIN, row, rows, unit, units, to);
        else if (j->products == PRODUCTS_ROUNDED)
            NAME(pack_across)(j, PRODUCTS_ROUNDED, row, rows, unit, units, to);
        else NAME(pack_across)(j, PRODUCTS_PAIRS, row, rows, unit, units, to);
        return;
    }
    int64_t each = j->products == PRODUCTS_PAIRS ? 2 : 1, pieces = di_cpu_ceil(rows, MR);
    int64_t depth = di_cpu_min(units * each, j->K - unit * each);
    for (int64_t q = 0; q < pieces; q++) {
        int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
        const T *x = j->A + (row + first) * j->lda + unit * each;
        for (int64_t i = 0; i < n; i++)
            NAME(along)(j->products, depth, x + i * j->lda, to + q * PANEL + i * STRIDE);
    }
}

INLINE void NAME(fetch)(const NAME(packed_job) *j, int64_t row, int64_t rows, int64_t column) {
    for (int side = 0; side < 2; side++) {
        if (!j->near[side]) continue;
        for (int64_t i = 0; i < rows; i++) {
            const char *at = (const char *)(j->near[side] + (row + i) * j->ld + column);
            __builtin_prefetch(at, 0, 2);
            __builtin_prefetch(at + 64, 0, 2);
        }
    }
}

static distac_status NAME(packed_tile)(void *arg, int64_t index) {
    const NAME(packed_job) *j = arg;
    int64_t row = index / j->across * j->rows, rows = di_cpu_min(j->rows, j->M - row);
    int64_t column = index % j->across * j->columns, columns = di_cpu_min(j->columns, j->N - column);
    int64_t pieces = di_cpu_ceil(rows, MR), wide = di_cpu_ceil(columns, NR), block = MR * NR;
    bool whole = j->blocks <= WHOLE_BLOCKS; /* the rows of A are packed once, and a panel's sums are soon done */
    bool plain = j->result != NULL;
    int64_t held = whole ? j->blocks : HELD;
    size_t left = (size_t)(pieces * held * PANEL);
    size_t bytes = (left + (size_t)((whole ? 1 : wide) * pieces * block)) * sizeof(T);
    T *A = di_alloc(j->context, bytes);
    if (!A) return DISTAC_ENOMEM;
    T *sums = A + left;
    NAME(micro_kernel) micro = NAME(micro_for)(j);
    for (int64_t begin = 0; begin < j->blocks; begin += held) {
        int64_t end = di_cpu_min(j->blocks, begin + held);
        for (int64_t b = begin; b < end && !j->bare; b++)
            NAME(pack_rows)(j, row, rows, b * j->deep, di_cpu_min(j->deep, j->units - b * j->deep),
                            A + (b - begin) * pieces * PANEL);
        for (int64_t p = 0; p < wide; p++) {
            const T *B = j->panels + (column / NR + p) * j->units * NR;
            T *of_panel = whole ? sums : sums + p * pieces * block;
            for (int64_t b = begin; b < end; b++) {
                int64_t unit = b * j->deep, units = di_cpu_min(j->deep, j->units - unit);
                for (int64_t q = 0; q < pieces; q++) {
                    int64_t first = NAME(piece)(rows, pieces, q), n = NAME(piece)(rows, pieces, q + 1) - first;
                    T *out = plain ? j->result + (row + first) * j->ld + column + p * NR : of_panel + q * block;
                    if (b == j->blocks - 1)
                        NAME(fetch)(j, row + first, n, column + p * NR);
                    const T *rows_of = j->bare ? j->A + (row + first) * j->lda + unit
                                               : A + ((b - begin) * pieces + q) * PANEL;
                    micro((int)n, units, rows_of, j->lda, B + unit * NR,
                          B + (unit + units) * NR + q * units * NR / pieces, NR / pieces, b > 0, out,
                          plain ? j->ld : NR);
                    if (plain || b < j->blocks - 1) continue;
                    j->finish(j->arg, row + first, n, column + p * NR, di_cpu_min(NR, columns - p * NR), out);
                }
            }
        }
    }
    di_free(j->context, A, bytes);
    return DISTAC_OK;
}

#include "unpacked.h"

LOCAL void NAME(cut_depth)(NAME(packed_job) *j) {
    int64_t K = j->K;
    j->units = j->products == PRODUCTS_PAIRS ? di_cpu_ceil(K, 2) : K;
    j->deep = K == 0 ? 1 : di_cpu_ceil(j->units, di_cpu_ceil(j->units, KC));
    j->blocks = K == 0 ? 1 : di_cpu_ceil(j->units, j->deep); /* a block of nothing gives zeros */
}

/* All of it. */
LOCAL distac_status NAME(packed)(distac_context *c, const char *kernel, int products, bool trans_a, bool trans_b,
                                  int64_t M, int64_t N, int64_t K, const T *A, int64_t lda, const T *B,
                                  int64_t ldb, NAME(finish) finish, const void *arg, const T *reads,
                                  T *writes, bool plain, int64_t ld) {
    if (M == 0 || N == 0) return DISTAC_OK;
    NAME(packed_job) j = {.context = c, .products = products, .trans_a = trans_a, .trans_b = trans_b, .M = M,
                          .N = N, .K = K, .lda = lda, .ldb = ldb, .A = A, .B = B, .finish = finish, .arg = arg,
                          .result = plain && N % NR == 0 ? writes : NULL, .near = {reads, writes}, .ld = ld};
    if (K == 0) j.trans_a = j.trans_b = false; /* no element is read */
    if (products == PRODUCTS_PLAIN && trans_a && !trans_b && N % NR == 0 && K >= 256)
        return NAME(unpacked)(c, kernel, &j);
    NAME(cut_depth)(&j);
    j.bare = products == PRODUCTS_PLAIN && !j.trans_a && j.blocks <= 2 && K > 0;
    int64_t panels = di_cpu_ceil(N, NR), tall = MR * PANELS;
    /* A packed B that stays in the second-level cache costs little to run through again, packing rows of A twice
     * more: then rows are cut, otherwise columns. */
    bool small = (size_t)(panels * j.units * NR) * sizeof(T) <= (size_t)5 << 18;
    if (small && (double)M * (double)N * (double)K > 1e6)
        tall = di_cpu_min(tall, di_cpu_ceil(di_cpu_ceil(M, 28), 2 * MR) * 2 * MR);
    int64_t down = di_cpu_ceil(M, tall);
    j.rows = di_cpu_ceil(M, down);
    /* 28 tiles or more, so that no thread waits long for the last one, of two panels or more; small results in
     * one. */
    int64_t across = 1;
    if ((double)M * (double)N * (double)K > 1e6)
        across = panels < 4 ? 1 : di_cpu_min(di_cpu_ceil(small ? 8 : 28, down), panels / 2);
    j.columns = di_cpu_ceil(panels, across) * NR;
    if (j.blocks > WHOLE_BLOCKS) j.columns = di_cpu_min(768, j.columns);
    j.across = di_cpu_ceil(N, j.columns);
    size_t bytes = (size_t)(panels * j.units * NR) * sizeof(T);
    j.panels = di_alloc(c, bytes);
    if (!j.panels) return DISTAC_ENOMEM;
    distac_status status = di_cpu_run(c, kernel, panels, NAME(pack_panel), &j);
    if (status == DISTAC_OK)
        status = di_cpu_run(c, kernel, di_cpu_ceil(M, j.rows) * j.across, NAME(packed_tile), &j);
    di_free(c, j.panels, bytes);
    return status;
}
