/* there.h: merging task vectors that lie on the context's device. */
#ifndef DISTAC_MERGE_THERE_H
#define DISTAC_MERGE_THERE_H

#include "merge.h"

/* ---- there.c ---- */
/* Whether all float tensors of these lie on the merge's device. */
bool di_there_all(const distac_merge *merge, int32_t n_taus, distac_checkpoint *const *taus);
/* Whether the method merges them there. */
bool di_there_goes(const distac_merge *merge);
/* [new] D on the device; *bad: a number is not finite, and there is no D. */
distac_status di_there_delta(const distac_merge *merge, const char *function, int32_t n_taus,
                             distac_checkpoint *const *taus, bool *bad, distac_checkpoint **out);

/* For methods, in a run whose task vectors lie there (run->there). */
/* As di_select. */
distac_status di_there_select(di_merge_run *run, int64_t rank, double *thresholds);
/* Elements with positive votes less those with negative ones, by a rule's
 * `counts` and each model's weight and least. */
distac_status di_there_lead(di_merge_run *run, bool counts, const di_merge_model *each, int64_t *lead);
/* A task vector's tensor, dense. */
const distac_tensor *di_there_tensor(const di_merge_run *run, int32_t t, int64_t entry);

/* ---- there_rank.c ---- */
/* The rank-th largest magnitude of each of `models` vectors on the device; rank >= 1. They lie in parts: part(arg,
 * i, rule) gives the length of part i and fills in the rule's taus and dtype. wide: one of them is F64. */
typedef int64_t (*di_there_part)(const void *arg, int64_t i, di_merge_rule *rule);
distac_status di_there_rank(distac_context *context, int32_t models, int64_t rank, bool wide, int64_t parts,
                            di_there_part part, const void *arg, double *thresholds);

/* ---- there_vectors.c ---- */
/* distac_ties_vectors where all of them lie on one device: `rank` magnitudes of each are kept. */
distac_status di_there_cut(int32_t n_taus, distac_tensor *const *taus, int64_t rank);

#endif
