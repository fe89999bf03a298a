/* ties.h: trimming and disjoint merging, shared by TIES and the methods that merge with it. */
#ifndef DISTAC_TIES_H
#define DISTAC_TIES_H

#include "merge.h"

/* How the sign of an element is elected: everything counts, the sign of the sum, the more frequent sign. */
enum { DI_ELECT_ALL, DI_ELECT_SUM, DI_ELECT_COUNT };
/* What becomes of the entries that agree with it. */
enum { DI_COMBINE_MEAN, DI_COMBINE_SUM, DI_COMBINE_MAX };

typedef struct di_election {
    int elect, combine;
    double tie; /* the sign where the vote is zero: -1, 1, or 0, which keeps nothing */
    /* By which the entries have been multiplied: a mean divides by theirs. NULL: 1 each. */
    const di_values *weights;
} di_election;

/* ---- elect.c ---- */
/* The disjoint merge of n <= DI_STEP elements; an entry counts unless it is zero. */
void di_elect(const di_election *election, int32_t models, int64_t n, const double *const *tau, double *out);

/* ---- ties.c ---- */
enum { DI_TIES_PAPER, DI_TIES_AUTHORS, DI_TIES_MERGEKIT, DI_TIES_DISTAC };

typedef struct di_ties_desc {
    double keep;
    int dialect, elect, combine;
    int64_t frozen; /* zeros that count as elements of every model: the distac dialect's */
    bool late;      /* the method has `settle` and calls di_ties_settle there */
    const di_values *keeps;   /* instead of keep, one for all models or one each; NULL: keep */
    const di_values *weights; /* of what is left of each model, as of di_election; NULL: 1 each */
} di_ties_desc;

/* TIES ready to be asked for chunks: the thresholds and the sign of tied votes are known. One block of memory. */
typedef struct di_ties di_ties;
distac_status di_ties_open(di_merge_run *run, const di_ties_desc *desc, di_ties **out);
void di_ties_chunk(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                   const double *const *tau, double *out);
/* For di_method.direct. */
int di_ties_direct(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                   const di_floats *floats, double *base, double *out);
/* For di_method.rule, in all dialects but mergekit's. */
void di_ties_rule(const di_ties *ties, const di_merge_run *run, di_merge_rule *rule, di_merge_model *each);
/* For di_method.settle: the majority is known now; whether there are votes that it decides. */
bool di_ties_settle(di_ties *ties, const di_merge_run *run, int dialect);

/* ---- multitask.c ---- */
/* The multi-task direction of the TALL methods: the sum, or TIES with disjoint sum (authors' dialect). */
enum { DI_MULTITASK_SUM, DI_MULTITASK_TIES };
distac_status di_multitask_open(di_merge_run *run, int kind, double keep); /* into run->state */
void di_multitask_chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                        double *out);
/* For di_method.rule: what is masked. */
void di_multitask_rule(const di_merge_run *run, di_merge_rule *rule, di_merge_model *each);

/* ---- rank.c ---- */
/* The rank-th largest magnitude of one tensor of task vector t, 1 <= rank <= numel, and the element before which
 * those equal to it belong to the `rank` largest (of equal magnitudes the first come first). One lane's work. */
distac_status di_rank_entry(di_merge_run *run, int32_t lane, int32_t t, int64_t entry, int64_t rank,
                            double *threshold, int64_t *cut);

#endif
