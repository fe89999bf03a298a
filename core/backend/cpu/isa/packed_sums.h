/* packed_sums.h: the innermost loops, MR x NR sums at a time from packed and bare operands. Part of packed.h;
 * included once per element type, hence no guard. */

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
/* out [R][NR], in rows of ldo, = (out +) the sums over `units` units; A's row i, unit t at A[i*row + t*step], B's
 * unit t at B + t*ldb. Meanwhile what the next panel of B needs is fetched to the second-level cache, `lead`
 * elements with each unit, from `next` on: without it the first rows of a tile wait for every panel. */
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
        NAME(micro)(R, products, units, A, row, step, B, ldb, next, lead, add, out, ldo);                         \
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
