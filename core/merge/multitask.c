/* multitask.c: the direction in which TALL masks cut: the sum of the task vectors, or TIES with disjoint sum. */
#include "ties.h"

distac_status di_multitask_open(di_merge_run *run, int kind, double keep) {
    const di_ties_desc desc = {
        .keep = keep, .dialect = DI_TIES_AUTHORS, .elect = DI_ELECT_SUM, .combine = DI_COMBINE_SUM};
    if (kind == DI_MULTITASK_SUM) return DISTAC_OK;
    di_ties *ties = NULL;
    distac_status status = di_ties_open(run, &desc, &ties);
    run->state = ties;
    return status;
}

void di_multitask_rule(const di_merge_run *run, di_merge_rule *rule, di_merge_model *each) {
    if (run->state) di_ties_rule(run->state, run, rule, each);
}

DI_CLONES void di_multitask_chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                                  double *out) {
    if (run->state) {
        di_ties_chunk(run->state, run, at, n, tau, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) out[i] += tau[t][i];
}
