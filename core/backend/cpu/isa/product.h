/* product.h: one tile of a matrix product on the calling thread. Included once per element type, hence no guard.
 */
#include "small.h"

#if DI_REAL == 32 && FAST_PRODUCTS
#include <oneapi/dnnl/dnnl.h>
#endif

/* C [m,n] = beta C; beta 0 does not read C. */
LOCAL void NAME(scale_tile)(int64_t m, int64_t n, T beta, T *C, int64_t ldc) {
    if (beta == (T)1) return;
    for (int64_t i = 0; i < m; i++) {
        T *row = C + i * ldc;
        if (beta == 0)
            memset(row, 0, (size_t)n * sizeof(T));
        else
            for (int64_t j = 0; j < n; j++) row[j] *= beta;
    }
}

#if DI_REAL == 32 && FAST_PRODUCTS
static __attribute__((unused))
distac_status NAME(product)(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                            const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C,
                            int64_t ldc) {
    if (m == 0 || n == 0) return DISTAC_OK;
    if (k == 0 || alpha == 0) {
        NAME(scale_tile)(m, n, beta, C, ldc);
        return DISTAC_OK;
    }
    dnnl_status_t status =
        dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
    if (status == dnnl_success) return DISTAC_OK;
    return status == dnnl_out_of_memory ? DISTAC_ENOMEM : DISTAC_EDEVICE;
}
#else
/* Panels of B, two registers wide, are copied so that their rows are dense and padded; the sums of a block of
 * rows stay on the stack until all of k is in. */
enum { NAME(DEPTH) = 256, NAME(ROWS) = 128, NAME(WIDTH) = 2 * VBYTES / sizeof(T) };

static __attribute__((unused))
distac_status NAME(product)(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T *A,
                            int64_t lda, const T *B, int64_t ldb, T beta, T *C, int64_t ldc) {
    _Alignas(64) T panel[NAME(DEPTH) *NAME(WIDTH)], sums[NAME(ROWS) *NAME(WIDTH)];
    int64_t row = trans_a ? 1 : lda, col = trans_a ? lda : 1, width = NAME(WIDTH);
    int64_t brow = trans_b ? 1 : ldb, bcol = trans_b ? ldb : 1;
    if (k == 0 || alpha == 0) {
        NAME(scale_tile)(m, n, beta, C, ldc);
        return DISTAC_OK;
    }
    for (int64_t j = 0; j < n; j += width) {
        int64_t nb = di_cpu_min(width, n - j), padded = di_cpu_ceil(nb, VL) * VL;
        for (int64_t i = 0; i < m; i += NAME(ROWS)) {
            int64_t mb = di_cpu_min(NAME(ROWS), m - i);
            for (int64_t t = 0; t < k; t += NAME(DEPTH)) {
                int64_t kb = di_cpu_min(NAME(DEPTH), k - t);
                for (int64_t r = 0; r < kb; r++) {
                    const T *from = B + (t + r) * brow + j * bcol;
                    T *to = panel + r * width;
                    for (int64_t q = 0; q < nb; q++) to[q] = from[q * bcol];
                    for (int64_t q = nb; q < padded; q++) to[q] = 0;
                }
                NAME(small)(mb, padded, kb, A + i * row + t * col, row, col, panel, width, 1, t > 0, sums, width);
            }
            for (int64_t r = 0; r < mb; r++) {
                T *to = C + (i + r) * ldc + j;
                const T *from = sums + r * width;
                if (beta == 0)
                    for (int64_t q = 0; q < nb; q++) to[q] = alpha * from[q];
                else
                    for (int64_t q = 0; q < nb; q++) to[q] = alpha * from[q] + beta * to[q];
            }
        }
    }
    return DISTAC_OK;
}
#endif
