/* direct.h: elements of all models read as they lie, eight in a register, where everything is aligned floats and the
 * processor has AVX-512. Merging is reading, and rows of doubles in between cost half of the time. What is computed is
 * what `chunk` and `visit` compute, bit for bit. */
#ifndef DISTAC_MERGE_DIRECT_H
#define DISTAC_MERGE_DIRECT_H

#include "merge.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
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
#endif

#endif
