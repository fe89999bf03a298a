/* small.h: the product of small matrices that stay in the first-level cache, the core of attention, of all double
 * products and of the scalar table. Included once per element type, hence no guard.
 *
 * out [m,n] = scale * A B, or += when add. A's element (i,t) is at A[i*row + t*col], so that a transposed A costs
 * nothing. B's row t starts at B + t*ldb and has n readable elements, n a multiple of VL; so has every row of out.
 */

/* R rows by C registers of the result are kept in registers while the sum runs. */
INLINE void NAME(block)(int R, int C, int64_t k, const T *A, int64_t row, int64_t col, const T *B, int64_t ldb,
                        T scale, bool add, T *out, int64_t ldo) {
    V s[8][2];
    UNROLL(8) for (int i = 0; i < R; i++) {
        UNROLL(2) for (int j = 0; j < C; j++) s[i][j] = SPLAT(0);
    }
    for (int64_t t = 0; t < k; t++) {
        V b[2];
        UNROLL(2) for (int j = 0; j < C; j++) b[j] = LOAD(B + t * ldb + j * VL);
        UNROLL(8) for (int i = 0; i < R; i++) {
            V a = SPLAT(A[i * row + t * col]);
            UNROLL(2) for (int j = 0; j < C; j++) s[i][j] += a * b[j];
        }
    }
    UNROLL(8) for (int i = 0; i < R; i++) {
        UNROLL(2) for (int j = 0; j < C; j++) {
            T *o = out + i * ldo + j * VL;
            V v = scale * s[i][j];
            if (add) v += LOAD(o);
            STORE(o, v);
        }
    }
}

LOCAL void NAME(small)(int64_t m, int64_t n, int64_t k, const T *A, int64_t row, int64_t col, const T *B,
                       int64_t ldb, T scale, bool add, T *out, int64_t ldo) {
    /* Rows are cut evenly (17 into 6, 6, 5): a short last block would wait for its own sums. */
    int64_t blocks = di_cpu_ceil(m, VBYTES == 16 ? 4 : 8), i = 0;
    for (int64_t q = 0; q < blocks; q++) {
        int64_t rows = m / blocks + (q < m % blocks);
        const T *a = A + i * row;
        T *o = out + i * ldo;
        for (int64_t j = 0; j < n; j += 2 * VL) {
#define CASE(R)                                                                                                   \
    case R:                                                                                                       \
        if (n - j >= 2 * VL)                                                                                      \
            NAME(block)(R, 2, k, a, row, col, B + j, ldb, scale, add, o + j, ldo);                                \
        else                                                                                                      \
            NAME(block)(R, 1, k, a, row, col, B + j, ldb, scale, add, o + j, ldo);                                \
        break;
            switch (rows) {
                CASE(1)
                CASE(2)
                CASE(3)
                CASE(4)
#if VBYTES > 16
                CASE(5)
                CASE(6)
                CASE(7)
                CASE(8)
#endif
            default:
                break;
            }
#undef CASE
        }
        i += rows;
    }
}
