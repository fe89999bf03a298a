/* merges.h: what checkpoints on a device are added up and merged with. The CPU does the same in core/io and
 * core/merge, and results have its bits: the same operations on doubles in the same order, nothing fused. */
#ifndef DISTAC_MERGES_H
#define DISTAC_MERGES_H

#include "../base/base.h"
#include "merge_rule.h"

/* Arrays are the device's unless a comment says otherwise. No entry is called for nothing (n 0). *bad becomes 1
 * where something is not finite. */
typedef struct di_merges {
    /* out = alpha a + beta b, or alpha a (b NULL), of any float types in double; out is F32 or F64 */
    distac_status (*blend)(distac_context *c, int64_t n, double alpha, int32_t a_dtype, const void *a, double beta,
                           int32_t b_dtype, const void *b, int32_t dtype, void *out, uint64_t *bad);
    /* out [n] = D in F32 */
    distac_status (*direction)(distac_context *c, int64_t n, const di_merge_rule *rule, float *out, uint64_t *bad);
    /* *lead += elements whose vote is positive less those whose vote is negative, modulo 2^64; TIES */
    distac_status (*lead)(distac_context *c, int64_t n, const di_merge_rule *rule, uint64_t *lead);
    /* counts [models][DI_MERGE_DIGITS] += magnitudes by the digit of `bits` bits above the lowest `shift`, of
     * those whose higher bits are prefixes [models] */
    distac_status (*digits)(distac_context *c, int64_t n, const di_merge_rule *rule, int32_t shift, int32_t bits,
                            const uint64_t *prefixes, uint64_t *counts);
    /* Of the task vectors themselves what TIES leaves before its mean: by `least`, then by the sign of the sum. */
    distac_status (*cut)(distac_context *c, int64_t n, const di_merge_rule *rule);
    /* out [models][runs]: the product of x and each vector over each run of elements, in double. out, runs and the list
     * taus [models] are the host's. */
    distac_status (*dots)(distac_context *c, int32_t models, const void *const *taus, int64_t n_runs,
                          const di_merge_span *runs, int32_t dtype, const void *x, double *out);
} di_merges;

#endif
