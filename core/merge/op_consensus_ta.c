/* op_consensus_ta.c: the multi-task direction where at least k TALL masks agree that it matters. The mask of
 * task t is |tau_t| > tall * |direction - tau_t|. */
#include "ties.h"
#include <math.h>

enum { TALL, K, MULTITASK, KEEP };

/* tall: the middle of the 0.2 … 0.6 that Wang et al. 2024 search per task; k: their section 4.3. */
static const di_merge_param params[] = {
    DI_NUMBERS("tall", "mask threshold: a task keeps an element if |tau| > tall * |sum - tau|", 0.4, 0, 1000),
    DI_WHOLE("k", "masks that must agree; 0: plain task arithmetic", 2, 0, 1000000),
    DI_CHOICE("multitask", "what is masked: the sum of the task vectors, or TIES with disjoint sum", 0, 2,
              "sum ties"),
    DI_NUMBER("keep", "share of the elements that multitask = ties keeps per model", 0.2, 0, 1),
};

static distac_status prepare(di_merge_run *run) {
    return di_multitask_open(run, (int)di_run_param(run, MULTITASK, 0), di_run_param(run, KEEP, 0));
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    double sum[DI_STEP], votes[DI_STEP] = {0}, k = di_run_param(run, K, 0);
    di_multitask_chunk(run, at, n, tau, sum);
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
    .prepare = prepare,
    .chunk = chunk,
};
