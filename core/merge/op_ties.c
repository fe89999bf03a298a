/* op_ties.c: TIES merging: trim each task vector to its largest magnitudes over all tensors together, elect a
 * sign per element, average the entries that agree with it. Two looks at everything come first: the exact
 * thresholds, and the majority of the elected signs, which decides where the trimmed sum is zero. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>

enum { KEEP };

static const di_merge_param params[] = {
    DI_NUMBER("keep", "share of the elements kept per model: those with the largest magnitudes", 0.2, 0, 1),
};

typedef struct ties {
    double majority;     /* -1, 0 or 1 */
    double thresholds[]; /* one per model */
} ties;

/* The sum of what is left of each element after trimming. */
DI_CLONES static void trimmed_sum(const di_merge_run *run, const double *thresholds, int64_t n,
                                  const double *const *tau, double *sum) {
    for (int64_t i = 0; i < n; i++) sum[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        double threshold = thresholds[t];
        for (int64_t i = 0; i < n; i++) sum[i] += fabs(tau[t][i]) >= threshold ? tau[t][i] : 0.0;
    }
}

typedef struct ballot {
    const di_merge_run *run;
    const double *thresholds;
    int64_t *lead; /* positive minus negative signs, one per lane */
} ballot;

DI_CLONES static void count_signs(void *arg, int32_t lane, const di_at *at, int64_t n,
                                  const double *const *tau) {
    (void)at;
    ballot *b = arg;
    double sum[DI_STEP];
    int64_t lead = 0;
    trimmed_sum(b->run, b->thresholds, n, tau, sum);
    for (int64_t i = 0; i < n; i++) lead += (sum[i] > 0) - (sum[i] < 0);
    b->lead[lane] += lead;
}

static distac_status elect_majority(di_merge_run *run, ties *state) {
    ballot b = {run, state->thresholds, di_new((size_t)run->lanes * sizeof *b.lead)};
    int64_t lead = 0;
    if (!b.lead) return DISTAC_ENOMEM;
    distac_status status = di_run_visit(run, count_signs, &b);
    for (int32_t i = 0; i < run->lanes; i++) lead += b.lead[i];
    free(b.lead);
    state->majority = lead > 0 ? 1 : lead < 0 ? -1 : 0;
    return status;
}

static distac_status prepare(di_merge_run *run) {
    ties *state = di_new(sizeof *state + (size_t)run->models * sizeof state->thresholds[0]);
    if (!state) return DISTAC_ENOMEM;
    run->state = state;
    int64_t rank = (int64_t)(di_run_param(run, KEEP, 0) * (double)run->elements);
    if (rank > run->elements) rank = run->elements;
    if (rank < 1) {
        for (int32_t t = 0; t < run->models; t++) state->thresholds[t] = INFINITY;
        return DISTAC_OK;
    }
    DI_TRY(di_select(run, rank, state->thresholds));
    return elect_majority(run, state);
}

/* Written without branches, so that it runs on vectors. */
DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    const ties *state = run->state;
    double sign[DI_STEP], count[DI_STEP] = {0}, sum[DI_STEP] = {0}, majority = state->majority;
    trimmed_sum(run, state->thresholds, n, tau, sign);
    for (int64_t i = 0; i < n; i++) {
        double elected = (sign[i] > 0 ? 1.0 : 0.0) - (sign[i] < 0 ? 1.0 : 0.0);
        sign[i] = elected + (sign[i] == 0 ? majority : 0.0);
    }
    for (int32_t t = 0; t < run->models; t++) {
        double threshold = state->thresholds[t];
        for (int64_t i = 0; i < n; i++) {
            double kept = fabs(tau[t][i]) >= threshold ? tau[t][i] : 0.0;
            double agreeing = kept * sign[i] > 0 ? kept : 0.0;
            sum[i] += agreeing;
            count[i] += agreeing != 0 ? 1.0 : 0.0;
        }
    }
    for (int64_t i = 0; i < n; i++) out[i] = sum[i] / (count[i] > 0 ? count[i] : 1.0);
}

const di_method di_merge_ties = {
    .name = "ties",
    .text = "trim, elect signs, mean of what agrees (Yadav et al. 2023, TIES-Merging)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
};
