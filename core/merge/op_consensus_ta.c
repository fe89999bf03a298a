/* op_consensus_ta.c: the sum of the task vectors where at least k TALL masks agree that it matters. The mask of
 * task t is |tau_t| > tall * |sum - tau_t|. */
#include "merge.h"
#include <math.h>

enum { TALL, K };

static const di_merge_param params[] = {
    DI_NUMBERS("tall", "mask threshold: a task keeps an element if |tau| > tall * |sum - tau|", 0.4, 0, 1000),
    DI_WHOLE("k", "masks that must agree; 0: plain task arithmetic", 2, 0, 1000000),
};

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    double sum[DI_STEP], votes[DI_STEP] = {0}, k = di_run_param(run, K, 0);
    for (int64_t i = 0; i < n; i++) sum[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) sum[i] += tau[t][i];
    for (int32_t t = 0; t < run->models; t++) {
        double tall = di_run_param(run, TALL, t);
        for (int64_t i = 0; i < n; i++) votes[i] += fabs(tau[t][i]) > tall * fabs(sum[i] - tau[t][i]) ? 1.0 : 0.0;
    }
    for (int64_t i = 0; i < n; i++) out[i] = votes[i] >= k ? sum[i] : 0.0;
}

const di_method di_merge_consensus_ta = {
    .name = "consensus_ta",
    .text = "sum where at least k TALL masks agree (Wang et al. 2024, Consensus TA)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = chunk,
};
