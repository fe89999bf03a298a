/* turn.h: a small matrix turned around, in registers. Included once per element type, hence no guard. */
/* to [m,width] = from [n,m] turned around, zeros in the last register of a row whose width is more
 * than n. Four by four elements at a time: element by element this took as long as the product that needs it. */
LOCAL void NAME(turn)(int64_t n, int64_t m, const T *from, int64_t ld, int64_t width, T *to) {
    typedef T four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
    for (int64_t q = 0; q < m && n < width; q++) STORE(to + q * width + width - VL, SPLAT(0));
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const T *row = from + i * ld;
        T *out = to + i;
        int64_t q = 0;
        for (; q + 4 <= m; q += 4, row += 4, out += 4 * width) {
            four a = *(const four *)row, b = *(const four *)(row + ld), c = *(const four *)(row + 2 * ld);
            four d = *(const four *)(row + 3 * ld);
            four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            *(four *)out = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(out + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            ab = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            *(four *)(out + 2 * width) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(out + 3 * width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        }
        for (; q < m; q++, row++, out += width)
            for (int64_t r = 0; r < 4; r++) out[r] = row[r * ld];
    }
    for (; i < n; i++)
        for (int64_t q = 0; q < m; q++) to[q * width + i] = from[i * ld + q];
}
