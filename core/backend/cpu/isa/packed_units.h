/* packed_units.h: units of packed operands, and the packing of B into panels of them. Part of packed.h, which says
 * what a unit is; included once per element type, hence no guard. */

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
/* Both registers rounded to bfloat16, the low half first, by a processor that multiplies them. It takes numbers
 * below the normal ones for 0, as its products do. */
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
        *(W *)(void *)to =
            __builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9,
                                    25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
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
/* Fetches `elements` of `rows` rows from row k on: short pieces of long rows, which no prefetcher foresees. */
INLINE void NAME(fetch_rows)(const T *x, int64_t k, int64_t rows, int64_t ld, int64_t elements) {
    for (int64_t r = 0; r < rows; r++) {
        const char *at = (const char *)(x + (k + r) * ld);
        for (int64_t ahead = 0; ahead < elements * (int64_t)sizeof(T); ahead += 64) __builtin_prefetch(at + ahead);
    }
}
/* to [units][width] from rows of K [.,n] with row length ld; n up to width, zeros behind; readable elements behind
 * x in its row: `left`, at least n. */
INLINE void NAME(pack_beside)(int products, int64_t units, int64_t K, int64_t n, int64_t left, const T *x,
                              int64_t ld, int64_t width, T *to) {
    int64_t each = products == PRODUCTS_PAIRS ? 2 : 1;
    for (int64_t t = 0; t < units; t++, to += width) {
        const T *row = x + t * each * ld, *next = each == 2 && t * 2 + 1 < K ? row + ld : NULL;
        NAME(fetch_rows)(x, di_cpu_min(t + ROWS_FETCHED, units - 1) * each, next ? each : 1, ld, n);
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
/* A whole panel of B stored [N,K], as many units as fill squares of registers; returns how many. What the next
 * square of the same rows needs is fetched meanwhile: weights come from memory. */
INLINE int64_t NAME(pack_squares_of)(int products, int64_t units, int64_t elements, const T *B, int64_t ldb,
                                     T *to) {
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
