/* straight.c: weighted sums of floats in memory, straight to floats: what task arithmetic and the mean share. */
#include "direct.h"

#ifdef DI_HAVE_WIDE
DI_WIDE_INLINE void sum_block(const di_floats *f, int32_t models, const double *weights, double divisor,
                              double lambda, int64_t i, bool has_base, float *out, bool stream,
                              di_block_seen *seen) {
    __m512d less[DI_BLOCK], sum[DI_BLOCK];
    if (has_base) di_block_fetch(f->base + i);
    for (int v = 0; v < DI_BLOCK; v++) {
        sum[v] = _mm512_setzero_pd();
        less[v] = has_base ? di_block_load(f->base + i + v * DI_WIDE) : sum[v];
    }
    for (int32_t t = 0; t < models; t++) {
        const float *x = f->x[t] + i;
        di_block_fetch(x);
        for (int v = 0; v < DI_BLOCK; v++) {
            __m512d tau = di_block_load(x + v * DI_WIDE);
            if (has_base) tau = _mm512_sub_pd(tau, less[v]);
            sum[v] = _mm512_add_pd(sum[v], _mm512_mul_pd(_mm512_set1_pd(weights[t]), tau));
        }
    }
    for (int v = 0; v < DI_BLOCK; v++) {
        di_block_look(sum[v], seen);
        if (divisor != 1) sum[v] = _mm512_div_pd(sum[v], _mm512_set1_pd(divisor));
    }
    di_block_put(sum, has_base ? less : NULL, lambda, out + i, stream, seen);
}

DI_WIDE_TARGET static bool sum_all(const di_floats *f, int32_t models, int64_t n, const double *weights,
                                   double divisor, double lambda, float *out, bool stream) {
    di_block_seen seen = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (f->base)
        for (int64_t i = 0; i < n; i += DI_BLOCK_COUNT)
            sum_block(f, models, weights, divisor, lambda, i, true, out, stream, &seen);
    else
        for (int64_t i = 0; i < n; i += DI_BLOCK_COUNT)
            sum_block(f, models, weights, divisor, lambda, i, false, out, stream, &seen);
    return di_block_done(&seen);
}
#endif

bool di_straight_sum(const di_merge_run *run, int64_t n, const di_floats *floats, const double *weights,
                     double divisor, double lambda, float *out, bool stream) {
#ifdef DI_HAVE_WIDE
    return sum_all(floats, run->models, n, weights, divisor, lambda, out, stream);
#else
    (void)run, (void)n, (void)floats, (void)weights, (void)divisor, (void)lambda, (void)out, (void)stream;
    return false;
#endif
}
