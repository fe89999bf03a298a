/* packed.h: products of float matrices, op(A) [M,K] times op(B) [K,N], from packed operands. Included once per
 * element type, hence no guard. Operands that the kernel can read where they lie are not packed: rows of a float A
 * that is not deep, and both factors of a gradient of weights (unpacked.h).
 *
 * B is packed once for all tiles: panels of NR columns, [units][NR]. A tile of the result packs its rows of A, KC
 * units deep, and multiplies them with one panel of B after the other; MR x NR sums at a time are kept in registers.
 * `finish` gets every piece of sums while it is in the first-level cache, to add, bend and store them.
 *
 * A unit is what one lane multiplies in one instruction: a float, or a pair of bfloat16 that follow each other along
 * K. So one layout and one kernel serve both. A processor without such an instruction multiplies floats that were
 * rounded to bfloat16; the products are the same, only the order of the sums differs.
 *
 * Every sum runs over K in one order: blocks of KC units, equally long, added up. It does not depend on how the
 * result is cut into tiles. */

#include "turn.h"

#ifndef DI_PACKED_SIZES
#define DI_PACKED_SIZES
enum { PRODUCTS_PLAIN, PRODUCTS_ROUNDED, PRODUCTS_PAIRS };
enum {
    MR = VBYTES == 64 ? 14 : 6,     /* rows of a block of sums: 28 + 3 of 32 registers, 12 + 3 of 16 */
    KC = 384,
    STRIDE = KC + 16,               /* units from row to row of packed A: more, as rows would meet in one cache set */
    PANELS = VBYTES == 64 ? 8 : 16, /* of A in a tile */
    WHOLE_BLOCKS = 4,               /* blocks of KC of A that are packed at a time if these are all, */
    HELD = 2,                       /* and if not: then the sums of a tile need room beside them */
    CHUNK = 64,                     /* units turned around at a time */
    FETCHED = 64,                   /* elements along K that a packed row of B is fetched ahead */
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
    const T *near[2]; /* what finish reads and writes, [M,N] in rows of ld: fetched while the sums are made; or NULL */
    int64_t ld;
} NAME(packed_job);

/* ---- units ---- */

#if DI_REAL == 32
/* The bits of x rounded to bfloat16, to the nearest, ties to even; a NaN stays one. */
INLINE uint32_t NAME(rounded)(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t up = (u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u;
    return x != x ? 0x7fc00000u : up;
}
#endif
#if PAIRS
/* Both registers rounded to bfloat16, the low half first, by a processor that multiplies them. It takes numbers below
 * the normal ones for 0, as its products do. */
INLINE V NAME(two)(V low, V high) {
    V both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(low), "v"(high));
    return both;
}
#endif
/* n elements along K to units. */
INLINE void NAME(along)(int products, int64_t n, const T *restrict x, T *restrict out) {
    if (products == PRODUCTS_PLAIN || DI_REAL == 64) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
#if DI_REAL == 32
    if (products == PRODUCTS_ROUNDED) {
        uint32_t *to = (uint32_t *)(void *)out;
        SIMD for (int64_t i = 0; i < n; i++) to[i] = NAME(rounded)(x[i]);
    } else {
        uint16_t *to = (uint16_t *)(void *)out;
#if PAIRS
        for (; n >= 2 * VL; n -= 2 * VL, x += 2 * VL, to += 2 * VL)
            STORE((T *)(void *)to, NAME(two)(LOAD(x), LOAD(x + VL)));
#endif
        SIMD for (int64_t i = 0; i < n; i++) to[i] = (uint16_t)(NAME(rounded)(x[i]) >> 16);
        if (n & 1) to[n] = 0;
    }
#endif
}
/* A register of units from rows of K side by side; next: the second row of a pair, NULL: zeros. */
INLINE void NAME(beside)(int products, const T *x, const T *next, T *out) {
    if (products == PRODUCTS_PLAIN || DI_REAL == 64) {
        STORE(out, LOAD(x));
        return;
    }
#if DI_REAL == 32
    uint32_t *to = (uint32_t *)(void *)out;
    if (products == PRODUCTS_ROUNDED) {
        SIMD for (int64_t i = 0; i < VL; i++) to[i] = NAME(rounded)(x[i]);
#if PAIRS
    } else if (PAIRS) {
        typedef uint16_t W __attribute__((vector_size(VBYTES), may_alias));
        W both = (W)NAME(two)(LOAD(x), next ? LOAD(next) : SPLAT(0));
        *(W *)(void *)to = __builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8,
                                                   24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
    } else if (next) {
        SIMD for (int64_t i = 0; i < VL; i++) to[i] = NAME(rounded)(x[i]) >> 16 | NAME(rounded)(next[i]);
    } else {
        SIMD for (int64_t i = 0; i < VL; i++) to[i] = NAME(rounded)(x[i]) >> 16;
    }
#else
    (void)next;
#endif
}
/* to [units][width] from rows of K [.,n] with row length ld; n up to width, zeros behind; readable elements behind x
 * in its row: `left`, at least n. */
INLINE void NAME(pack_beside)(int products, int64_t units, int64_t K, int64_t n, int64_t left, const T *x,
                              int64_t ld, int64_t width, T *to) {
    int64_t each = products == PRODUCTS_PAIRS ? 2 : 1;
    for (int64_t t = 0; t < units; t++, to += width) {
        const T *row = x + t * each * ld, *next = each == 2 && t * 2 + 1 < K ? row + ld : NULL;
        for (int64_t q = 0; q < width; q += VL) {
            if (q + VL <= left) {
                NAME(beside)(products, row + q, next ? next + q : NULL, to + q);
            } else {
                T a[VBYTES / sizeof(T)] = {0}, b[VBYTES / sizeof(T)] = {0};
                for (int64_t i = 0; q + i < n; i++) a[i] = row[q + i];
                for (int64_t i = 0; q + i < n && next; i++) b[i] = next[q + i];
                NAME(beside)(products, a, b, to + q);
            }
        }
    }
}

/* ---- packing B ---- */
/* A whole panel of B stored [N,K], as many units as fill squares of registers; returns how many. What the next square
 * of the same rows needs is fetched meanwhile: weights come from memory. */
INLINE int64_t NAME(pack_squares_of)(int products, int64_t units, int64_t elements, const T *B, int64_t ldb, T *to) {
    int64_t each = products == PRODUCTS_PAIRS ? 2 : 1, t = 0;
    for (; t + VL <= units && (t + VL) * each <= elements; t += VL) {
        for (int64_t half = 0; half < NR; half += VL) {
            const T *from = B + half * ldb + t * each;
            V r[SQUARE];
            UNROLL(16) for (int64_t i = 0; i < VL; i++) {
                const T *x = from + i * ldb;
                for (int64_t ahead = 0; ahead < each * VBYTES; ahead += 64)
                    __builtin_prefetch((const char *)(x + FETCHED) + ahead);
#if PAIRS
                if (products == PRODUCTS_PAIRS) {
                    r[i] = NAME(two)(LOAD(x), LOAD(x + VL));
                    continue;
                }
#endif
                r[i] = LOAD(x);
            }
            NAME(turn_square)(r);
            UNROLL(16) for (int64_t i = 0; i < VL; i++) STORE(to + (t + i) * NR + half, r[i]);
        }
    }
    return t;
}
static int64_t NAME(pack_squares)(const NAME(packed_job) *j, const T *B, T *to) {
    if (j->products == PRODUCTS_PLAIN) return NAME(pack_squares_of)(PRODUCTS_PLAIN, j->units, j->K, B, j->ldb, to);
#if PAIRS
    if (j->products == PRODUCTS_PAIRS) return NAME(pack_squares_of)(PRODUCTS_PAIRS, j->units, j->K, B, j->ldb, to);
#endif
    return 0;
}
static distac_status NAME(pack_panel)(void *arg, int64_t index) {
    const NAME(packed_job) *j = arg;
    int64_t first = index * NR, n = di_cpu_min(NR, j->N - first), each = j->products == PRODUCTS_PAIRS ? 2 : 1;
    T *to = j->panels + index * j->units * NR;
    if (!j->trans_b) {
        const T *x = j->B + first;
        switch (j->products) {
        case PRODUCTS_PLAIN:
            NAME(pack_beside)(PRODUCTS_PLAIN, j->units, j->K, n, j->N - first, x, j->ldb, NR, to);
            break;
        case PRODUCTS_ROUNDED:
            NAME(pack_beside)(PRODUCTS_ROUNDED, j->units, j->K, n, j->N - first, x, j->ldb, NR, to);
            break;
        default:
            NAME(pack_beside)(PRODUCTS_PAIRS, j->units, j->K, n, j->N - first, x, j->ldb, NR, to);
        }
        return DISTAC_OK;
    }
    int64_t done = n < NR ? 0 : NAME(pack_squares)(j, j->B + first * j->ldb, to);
    if (n < NR) memset(to, 0, (size_t)(j->units * NR) * sizeof *to);
    _Alignas(64) T rows[NR * CHUNK];
    for (int64_t t = done; t < j->units; t += CHUNK) {
        int64_t units = di_cpu_min(CHUNK, j->units - t), left = di_cpu_min(units * each, j->K - t * each);
        const T *from = j->B + first * j->ldb + t * each;
        int64_t ld = j->ldb;
        if (j->products != PRODUCTS_PLAIN) {
            for (int64_t i = 0; i < n; i++) NAME(along)(j->products, left, from + i * ld, rows + i * CHUNK);
            from = rows;
            ld = CHUNK;
        }
        NAME(turn)(n, units, from, ld, NR, to + t * NR);
    }
    return DISTAC_OK;
}

/* ---- sums ---- */
INLINE V NAME(broadcast)(const T *unit) {
#if DI_REAL == 32 /* as an integer: a pair of bfloat16 must not pass through float arithmetic */
    typedef uint32_t U __attribute__((vector_size(VBYTES), may_alias));
    uint32_t u;
    memcpy(&u, unit, sizeof u);
    return (V)(u - (U){0});
#else
    return SPLAT(*unit);
#endif
}
INLINE void NAME(multiply)(int products, V *sum, V a, V b) {
#if PAIRS
    if (products == PRODUCTS_PAIRS) { /* as text: one file for processors with and without it */
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
        return;
    }
#endif
    (void)products;
    *sum += a * b;
}
/* out [R][NR], in rows of ldo, = (out +) the sums over `units` units; A's row i, unit t at A[i*row + t*step], B's unit
 * t at B + t*ldb. Meanwhile what the next panel of B needs is fetched to the second-level cache, `lead` elements with
 * each unit, from `next` on: without it the first rows of a tile wait for every panel. */
INLINE void NAME(micro)(int R, int products, int64_t units, const T *A, int64_t row, int64_t step,
                        const T *B, int64_t ldb, const T *next, int64_t lead, bool add, T *out,
                        int64_t ldo) {
    V s[MR][2];
    UNROLL(16) for (int i = 0; i < R; i++) s[i][0] = s[i][1] = SPLAT(0);
    for (int64_t t = 0; t < units; t++, A += step, B += ldb) {
        V b0 = LOAD(B), b1 = LOAD(B + VL);
        __builtin_prefetch(next + t * lead, 0, 2);
        UNROLL(16) for (int i = 0; i < R; i++) {
            V a = NAME(broadcast)(A + i * row);
            NAME(multiply)(products, &s[i][0], a, b0);
            NAME(multiply)(products, &s[i][1], a, b1);
        }
    }
    UNROLL(16) for (int i = 0; i < R; i++) {
        T *o = out + i * ldo;
        if (add) {
            s[i][0] += LOAD(o);
            s[i][1] += LOAD(o + VL);
        }
        STORE(o, s[i][0]);
        STORE(o + VL, s[i][1]);
    }
}
#define CASE(R)                                                                                                   \
    case R:                                                                                                       \
        NAME(micro)(R, products, units, A, row, step, B, ldb, next, lead, add, out, ldo);                             \
        break;
INLINE void NAME(micro_any)(int R, int products, int64_t units, const T *A, int64_t row, int64_t step,
                            const T *B, int64_t ldb, const T *next, int64_t lead, bool add, T *out,
                        int64_t ldo) {
    switch (R) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
#if VBYTES == 64
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
        CASE(13)
        CASE(14)
#endif
    default:
        break;
    }
}
#undef CASE
/* Of A as it lies, in rows of lda. */
static void NAME(micro_bare)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    NAME(micro_any)(R, PRODUCTS_PLAIN, units, A, lda, 1, B, NR, next, lead, add, out, ldo);
}
static void NAME(micro_rows)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    (void)lda;
    NAME(micro_any)(R, PRODUCTS_PLAIN, units, A, STRIDE, 1, B, NR, next, lead, add, out, ldo);
}
static void NAME(micro_columns)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    (void)lda;
    NAME(micro_any)(R, PRODUCTS_PLAIN, units, A, 1, AHEAD, B, NR, next, lead, add, out, ldo);
}
#if PAIRS
static void NAME(micro_pair_rows)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    (void)lda;
    NAME(micro_any)(R, PRODUCTS_PAIRS, units, A, STRIDE, 1, B, NR, next, lead, add, out, ldo);
}
static void NAME(micro_pair_columns)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    (void)lda;
    NAME(micro_any)(R, PRODUCTS_PAIRS, units, A, 1, AHEAD, B, NR, next, lead, add, out, ldo);
}
#endif
#if PAIRS
LOCAL void NAME(micro_pair_bare)(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                     int64_t lead, bool add, T *out, int64_t ldo) {
    NAME(micro_any)(R, PRODUCTS_PAIRS, units, A, lda, 1, B, NR, next, lead, add, out, ldo);
}
#endif
static void NAME(micro_unpacked)(int R, int64_t units, const T *A, int64_t lda, const T *B, int64_t ldb,
                                 const T *next, bool add, T *out) {
    NAME(micro_any)(R, PRODUCTS_PLAIN, units, A, 1, lda, B, ldb, next, ldb, add, out, NR);
}
typedef void (*NAME(micro_kernel))(int R, int64_t units, const T *A, int64_t lda, const T *B, const T *next,
                                   int64_t lead, bool add, T *out, int64_t ldo);

static NAME(micro_kernel) NAME(micro_for)(const NAME(packed_job) *j) {
#if PAIRS
    if (j->products == PRODUCTS_PAIRS) return j->trans_a ? NAME(micro_pair_columns) : NAME(micro_pair_rows);
#endif
    if (j->bare) return NAME(micro_bare);
    return j->trans_a ? NAME(micro_columns) : NAME(micro_rows);
}

/* ---- a tile ---- */

/* First row of piece q when `rows` rows are cut into `pieces` pieces, the longer ones first. */
INLINE int64_t NAME(piece)(int64_t rows, int64_t pieces, int64_t q) {
    return q * (rows / pieces) + di_cpu_min(q, rows % pieces);
}

/* Packs rows row … of op(A) that lie across: all pieces of one step along K after the other, as they share cache lines. */
INLINE void NAME(pack_across)(const NAME(packed_job) *j, int products, int64_t row, int64_t rows, int64_t unit,
                              int64_t units, T *to) {
    int64_t each = products == PRODUCTS_PAIRS ? 2 : 1, pieces = di_cpu_ceil(rows, MR);
    int64_t end = row + rows, safe = j->M - AHEAD; /* from which rows a whole width can be read */
    for (int64_t t = 0; t < units; t++) {
        int64_t k = (unit + t) * each, at = row;
        const T *x = j->A + k * j->lda, *next = each == 2 && k + 1 < j->K ? x + j->lda : NULL;
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
        else if (j->products == PRODUCTS_ROUNDED) NAME(pack_across)(j, PRODUCTS_ROUNDED, row, rows, unit, units, to);
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
    /* A packed B that stays in the second-level cache costs little to run through again, packing rows of A twice more:
     * then rows are cut, otherwise columns. */
    bool small = (size_t)(panels * j.units * NR) * sizeof(T) <= (size_t)5 << 18;
    if (small && (double)M * (double)N * (double)K > 1e6)
        tall = di_cpu_min(tall, di_cpu_ceil(di_cpu_ceil(M, 28), 2 * MR) * 2 * MR);
    int64_t down = di_cpu_ceil(M, tall);
    j.rows = di_cpu_ceil(M, down);
    /* 28 tiles or more, so that no thread waits long for the last one, of two panels or more; small results in one. */
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
