/* turn.h: a small matrix turned around, in registers. Included once per element type, hence no guard. */

/* VL registers of VL elements: element j of register i goes to element i of register j. Each of log2 VL rounds
 * lays register i and the one half of all further on into each other like two halves of a pack of cards. */
#undef ROUNDS
#undef LOW
#undef HIGH
#if VBYTES / (DI_REAL / 8) == 16
#define ROUNDS 4
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif VBYTES / (DI_REAL / 8) == 8
#define ROUNDS 3
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif VBYTES / (DI_REAL / 8) == 4
#define ROUNDS 2
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define ROUNDS 1
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 2)
#define HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif
#undef SQUARE
#define SQUARE (VBYTES / (DI_REAL / 8))
INLINE void NAME(turn_square)(V r[SQUARE]) {
    UNROLL(4) for (int round = 0; round < ROUNDS; round++) {
        V next[SQUARE];
        UNROLL(8) for (int i = 0; i < SQUARE / 2; i++) {
            next[2 * i] = LOW(r[i], r[i + SQUARE / 2]);
            next[2 * i + 1] = HIGH(r[i], r[i + SQUARE / 2]);
        }
        UNROLL(16) for (int i = 0; i < SQUARE; i++) r[i] = next[i];
    }
}

/* to [m,width] = from [n,m] turned around, zeros in the last register of a row whose width is more
 * than n. In squares: element by element this took as long as the product that needs it. */
LOCAL void NAME(turn)(int64_t n, int64_t m, const T *from, int64_t ld, int64_t width, T *to) {
    for (int64_t q = 0; q < m && n < width; q++) STORE(to + q * width + width - VL, SPLAT(0));
    int64_t i = 0;
    for (; i + SQUARE <= n; i += SQUARE) {
        const T *row = from + i * ld;
        T *out = to + i;
        int64_t q = 0;
        for (; q + SQUARE <= m; q += SQUARE, row += SQUARE, out += SQUARE * width) {
            V r[SQUARE];
            UNROLL(16) for (int l = 0; l < SQUARE; l++) r[l] = LOAD(row + l * ld);
            NAME(turn_square)(r);
            UNROLL(16) for (int l = 0; l < SQUARE; l++) STORE(out + l * width, r[l]);
        }
        for (; q < m; q++, row++, out += width)
            for (int64_t l = 0; l < SQUARE; l++) out[l] = row[l * ld];
    }
    for (; i < n; i++)
        for (int64_t q = 0; q < m; q++) to[q * width + i] = from[i * ld + q];
}
