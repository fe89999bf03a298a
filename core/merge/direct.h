/* direct.h: elements of all models read as they lie, eight to a register, where everything is aligned floats and
 * the processor has AVX-512. Merging is reading, and rows of doubles in between cost half of the time. What is
 * computed is what `chunk` and `visit` compute, bit for bit. */
#ifndef DISTAC_MERGE_DIRECT_H
#define DISTAC_MERGE_DIRECT_H

#include "merge.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define DI_HAVE_WIDE 1
#define DI_WIDE_TARGET __attribute__((target("avx512f,avx512dq,avx512vl")))
#define DI_WIDE_INLINE static inline __attribute__((always_inline, target("avx512f,avx512dq,avx512vl")))

enum { DI_WIDE = 8, DI_WIDE_AHEAD = 64 }; /* numbers in a register; elements that are fetched ahead */
/* Comparisons of such vectors give all ones or all zeros. */
typedef double di_wide __attribute__((vector_size(64)));
typedef int64_t di_wide_bits __attribute__((vector_size(64)));
typedef float di_wide_floats __attribute__((vector_size(32)));
typedef uint32_t di_wide_seen __attribute__((vector_size(32)));

/* Eight floats in double. A number that is not finite leaves its sign bit in *seen. */
DI_WIDE_INLINE di_wide di_wide_load(const float *x, di_wide_seen *seen) {
    di_wide_floats value;
    di_wide_seen bits;
    memcpy(&value, x, sizeof value);
    memcpy(&bits, x, sizeof bits);
    *seen |= (bits & 0x7f800000u) + 0x00800000u;
    return __builtin_convertvector(value, di_wide);
}

DI_WIDE_INLINE di_wide di_wide_abs(di_wide x) { return (di_wide)((di_wide_bits)x & INT64_MAX); }

/* Called for every eight elements: asks for a line of each model ahead. */
DI_WIDE_INLINE void di_wide_fetch(const di_floats *f, int32_t models, int64_t i) {
    if (i % (2 * DI_WIDE)) return;
    for (int32_t t = 0; t < models; t++) __builtin_prefetch(f->x[t] + i + DI_WIDE_AHEAD);
    if (f->base) __builtin_prefetch(f->base + i + DI_WIDE_AHEAD);
}

DI_WIDE_INLINE bool di_wide_finite(di_wide_seen seen) {
    uint32_t any = 0;
    for (int k = 0; k < DI_WIDE; k++) any |= seen[k];
    return any >> 31 == 0;
}

/* ---- di_method.straight: DI_BLOCK_COUNT elements at a time, from floats to floats ---- */

enum { DI_BLOCK = 4, DI_BLOCK_COUNT = DI_BLOCK * DI_WIDE }; /* registers: what is around them is shared */
enum { DI_BLOCK_AHEAD = 256 };                              /* elements that are fetched ahead */

/* Sign bits: a sum of task vectors, or a result, was not finite. So few finite floats have a finite sum in double,
 * and others have none: the inputs need not be looked at one by one. */
typedef struct di_block_seen {
    __m512i sums, results;
} di_block_seen;

DI_WIDE_INLINE __m512d di_block_load(const float *x) { return _mm512_cvtps_pd(_mm256_loadu_ps(x)); }

DI_WIDE_INLINE void di_block_fetch(const float *x) {
    for (int v = 0; v < DI_BLOCK; v += 2)
        _mm_prefetch((const char *)(x + DI_BLOCK_AHEAD + v * DI_WIDE), _MM_HINT_T0);
}

DI_WIDE_INLINE void di_block_look(__m512d sum, di_block_seen *seen) {
    __m512i bits = _mm512_and_si512(_mm512_castpd_si512(sum), _mm512_set1_epi64(INT64_C(0x7ff0000000000000)));
    seen->sums = _mm512_or_si512(seen->sums, _mm512_add_epi64(bits, _mm512_set1_epi64(INT64_C(1) << 52)));
}

/* out = less + lambda d, or lambda d. */
DI_WIDE_INLINE void di_block_put(const __m512d *d, const __m512d *less, double lambda, float *out, bool stream,
                                 di_block_seen *seen) {
    for (int v = 0; v < DI_BLOCK; v += 2) {
        __m256 half[2];
        for (int h = 0; h < 2; h++) {
            __m512d value = _mm512_mul_pd(_mm512_set1_pd(lambda), d[v + h]);
            half[h] = _mm512_cvtpd_ps(less ? _mm512_add_pd(less[v + h], value) : value);
        }
        __m512 both = _mm512_insertf32x8(_mm512_castps256_ps512(half[0]), half[1], 1);
        __m512i bits = _mm512_and_si512(_mm512_castps_si512(both), _mm512_set1_epi32(0x7f800000));
        seen->results = _mm512_or_si512(seen->results, _mm512_add_epi32(bits, _mm512_set1_epi32(0x00800000)));
        if (stream) _mm512_stream_ps(out + v * DI_WIDE, both);
        else _mm512_storeu_ps(out + v * DI_WIDE, both);
    }
}

/* Stores past the caches are seen by others only after this. */
DI_WIDE_INLINE bool di_block_done(const di_block_seen *seen) {
    _mm_sfence();
    return !_mm512_movepi64_mask(seen->sums) && !_mm512_movepi32_mask(seen->results);
}
#endif

/* straight.c: out = lambda (sum of weights[t] tau_t) / divisor,
 * plus the base if there is one, for di_method.straight. */
bool di_straight_sum(const di_merge_run *run, int64_t n, const di_floats *floats, const double *weights,
                     double divisor, double lambda, float *out, bool stream);

#endif
