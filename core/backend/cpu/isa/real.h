/* real.h: vectors of T and the sums over them. Included once per element type, hence no guard.
 *
 * Sums run over 128 bytes of lanes (32 floats) whatever the instruction set, each lane in order, then the lanes
 * are added pairwise: short dependency chains, small rounding errors, one fixed order. */
#define V NAME(v)       /* a register of T */
#define VU NAME(vu)     /* the same in memory, at any address of a T */
#define MASK NAME(mask) /* as many integers: what comparing gives */
#define D NAME(d)       /* a register of double */
#define H NAME(h)       /* as many T in memory as D has elements */
typedef T V __attribute__((vector_size(VBYTES), may_alias));
typedef T VU __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));
#if DI_REAL == 32
typedef int32_t MASK __attribute__((vector_size(VBYTES), may_alias));
#else
typedef int64_t MASK __attribute__((vector_size(VBYTES), may_alias));
#endif
typedef double D __attribute__((vector_size(VBYTES), may_alias));
typedef T H __attribute__((vector_size(VBYTES / 8 * sizeof(T)), aligned(sizeof(T)), may_alias));
#undef VL
#undef DL
#undef LANES
#define VL ((int64_t)(VBYTES / sizeof(T)))
#define DL ((int64_t)(VBYTES / 8))
#define LANES (128 / VBYTES) /* registers of lanes */

INLINE V NAME(load)(const T *p) {
    return *(const VU *)p;
}
INLINE void NAME(store)(T *p, V v) {
    *(VU *)p = v;
}
INLINE V NAME(splat)(T x) {
    return x - (V){0};
}
#define LOAD NAME(load)
#define STORE NAME(store)
#define SPLAT NAME(splat)

/* STEP(v with its halves exchanged), then with the halves of the halves exchanged, … down to neighbours: what adds
 * these to v ends with the sum of all its elements in each. */
#undef SWAPS
#undef SWAP2
#undef SWAP4
#undef SWAP8
#define SWAP2(a, b) __builtin_shufflevector(v, v, a, b)
#define SWAP4(a, b, c, d) __builtin_shufflevector(v, v, a, b, c, d)
#define SWAP8(a, b, c, d, e, f, g, h) __builtin_shufflevector(v, v, a, b, c, d, e, f, g, h)
#if VBYTES == 64 && DI_REAL == 32
#define SWAPS(STEP)                                                                                               \
    STEP(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7))                     \
    STEP(__builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11))                     \
    STEP(__builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13))                     \
    STEP(__builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14))
#elif VBYTES / (DI_REAL / 8) == 8
#define SWAPS(STEP)                                                                                               \
    STEP(SWAP8(4, 5, 6, 7, 0, 1, 2, 3)) STEP(SWAP8(2, 3, 0, 1, 6, 7, 4, 5)) STEP(SWAP8(1, 0, 3, 2, 5, 4, 7, 6))
#elif VBYTES / (DI_REAL / 8) == 4
#define SWAPS(STEP) STEP(SWAP4(2, 3, 0, 1)) STEP(SWAP4(1, 0, 3, 2))
#else
#define SWAPS(STEP) STEP(SWAP2(1, 0))
#endif

INLINE T NAME(fold_one)(V v) {
#define STEP(swapped) v += swapped;
    SWAPS(STEP)
#undef STEP
    return v[0];
}
INLINE T NAME(fold)(const V lanes[LANES]) {
    V all[LANES];
    UNROLL(8) for (int i = 0; i < LANES; i++) all[i] = lanes[i];
    UNROLL(3) for (int w = LANES / 2; w >= 1; w /= 2) {
        UNROLL(4) for (int i = 0; i < w; i++) all[i] += all[i + w];
    }
    return NAME(fold_one)(all[0]);
}

/* The larger of each pair; where they do not compare (NaN), b. */
INLINE V NAME(larger)(V a, V b) {
    MASK mask = a > b;
    return (V)((mask & (MASK)a) | (~mask & (MASK)b));
}
INLINE T NAME(fold_max)(V v) {
#define STEP(swapped) v = NAME(larger)(swapped, v);
    SWAPS(STEP)
#undef STEP
    return v[0];
}
/* max x, n > 0; NaN is not seen. By hand: compilers refuse to reorder comparisons of numbers that may be NaN. */
INLINE T NAME(max)(int64_t n, const T *x) {
    V v = SPLAT(x[0]);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v = NAME(larger)(LOAD(x + i), v);
    T top = NAME(fold_max)(v);
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

/* sum x */
INLINE T NAME(sum)(int64_t n, const T *x) {
    V s[LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES * VL <= n; i += LANES * VL) {
        UNROLL(8) for (int l = 0; l < LANES; l++) s[l] += LOAD(x + i + l * VL);
    }
    for (; i + VL <= n; i += VL) s[0] += LOAD(x + i);
    T rest = 0;
    for (; i < n; i++) rest += x[i];
    return NAME(fold)(s) + rest;
}

/* sum x y */
INLINE T NAME(inner)(int64_t n, const T *x, const T *y) {
    V s[LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES * VL <= n; i += LANES * VL) {
        UNROLL(8) for (int l = 0; l < LANES; l++) s[l] += LOAD(x + i + l * VL) * LOAD(y + i + l * VL);
    }
    for (; i + VL <= n; i += VL) s[0] += LOAD(x + i) * LOAD(y + i);
    T rest = 0;
    for (; i < n; i++) rest += x[i] * y[i];
    return NAME(fold)(s) + rest;
}

/* sum (x - c)^2; *shift = sum (x - c) */
INLINE T NAME(spread)(int64_t n, const T *x, T c, T *shift) {
    V s[LANES] = {{0}}, t[LANES] = {{0}}, center = SPLAT(c);
    int64_t i = 0;
    for (; i + LANES * VL <= n; i += LANES * VL) {
        UNROLL(8) for (int l = 0; l < LANES; l++) {
            V d = LOAD(x + i + l * VL) - center;
            s[l] += d * d;
            t[l] += d;
        }
    }
    for (; i + VL <= n; i += VL) {
        V d = LOAD(x + i) - center;
        s[0] += d * d;
        t[0] += d;
    }
    T rest = 0, far = 0;
    for (; i < n; i++) rest += (x[i] - c) * (x[i] - c), far += x[i] - c;
    *shift = NAME(fold)(t) + far;
    return NAME(fold)(s) + rest;
}

INLINE D NAME(load_double)(const T *p) {
    return __builtin_convertvector(*(const H *)p, D);
}
INLINE double NAME(fold_double)(const D s[4]) {
    double one[VBYTES / 8];
    D all = (s[0] + s[1]) + (s[2] + s[3]);
    memcpy(one, &all, sizeof one);
    for (int w = (int)DL / 2; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) one[i] += one[i + w];
    return one[0];
}

/* sum x y in double; x and y may be the same. */
INLINE double NAME(dot_double)(int64_t n, const T *x, const T *y) {
    D s[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * DL <= n; i += 4 * DL) {
        UNROLL(4)
        for (int l = 0; l < 4; l++) s[l] += NAME(load_double)(x + i + l * DL) * NAME(load_double)(y + i + l * DL);
    }
    double rest = 0;
    for (; i < n; i++) rest += (double)x[i] * (double)y[i];
    return NAME(fold_double)(s) + rest;
}
