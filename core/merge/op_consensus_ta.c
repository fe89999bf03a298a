/* op_consensus_ta.c: the multi-task direction where at least k TALL masks agree that it matters. The mask of
 * task t is |tau_t| > tall * |direction - tau_t|. */
#include "direct.h"
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

#ifdef DI_HAVE_WIDE
DI_WIDE_TARGET static int masked_sum(const di_merge_run *run, int64_t n, const di_floats *f, double *base,
                                     double *out) {
    const di_wide zero = {0};
    di_wide tall[DI_FLOATS], tau[DI_FLOATS];
    di_wide_seen seen = {0};
    int64_t k = (int64_t)di_run_param(run, K, 0);
    for (int32_t t = 0; t < run->models; t++) tall[t] = zero + di_run_param(run, TALL, t);
    for (int64_t i = 0; i < n; i += DI_WIDE) {
        di_wide sum = zero, less = zero;
        di_wide_bits votes = {0};
        di_wide_fetch(f, run->models, i);
        if (f->base) {
            less = di_wide_load(f->base + i, &seen);
            memcpy(base + i, &less, sizeof less);
        }
        for (int32_t t = 0; t < run->models; t++) {
            tau[t] = di_wide_load(f->x[t] + i, &seen);
            if (f->base) tau[t] -= less;
            sum += tau[t];
        }
        for (int32_t t = 0; t < run->models; t++) /* a true comparison is -1 */
            votes -= (di_wide_bits)(di_wide_abs(tau[t]) > tall[t] * di_wide_abs(sum - tau[t]));
        sum = (di_wide)((di_wide_bits)sum & (di_wide_bits)(votes >= k));
        memcpy(out + i, &sum, sizeof sum);
    }
    return di_wide_finite(seen) ? DI_DIRECT_DONE : DI_DIRECT_NONFINITE;
}
#endif

static int direct(const di_merge_run *run, const di_at *at, int64_t n, const di_floats *f, double *base, double *out) {
#ifdef DI_HAVE_WIDE
    (void)at;
    return run->state ? DI_DIRECT_ROWS : masked_sum(run, n, f, base, out);
#else
    (void)run, (void)at, (void)n, (void)f, (void)base, (void)out;
    return DI_DIRECT_ROWS;
#endif
}

const di_method di_merge_consensus_ta = {
    .name = "consensus_ta",
    .text = "sum where at least k TALL masks agree (Wang et al. 2024, Consensus TA)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .direct = direct,
};
