/* layernorm_row.h: LayerNorm of one row. The variance is taken in a second pass over it, which is in the
 * first-level cache by then, so that a large mean does not cancel. Included once per element type, hence no guard.
 */
LOCAL void NAME(layernorm_row)(int64_t C, const T *x, const T *gamma, const T *beta, T *y, T *row_mean,
                               T *row_rstd) {
    T mean = NAME(sum)(C, x) / (T)C, shift;
    T variance = NAME(spread)(C, x, mean, &shift) / (T)C;
    shift /= (T)C; /* what the first sum lost: much of a row that is far from zero and nearly constant */
    mean += shift;
    variance -= shift * shift;
    if (variance < 0) variance = 0;
    T rstd = (T)(1 / sqrt((double)variance + 1e-5));
    SIMD for (int64_t i = 0; i < C; i++) y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    *row_mean = mean;
    *row_rstd = rstd;
}
