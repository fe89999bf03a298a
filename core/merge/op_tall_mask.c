/* op_tall_mask.c: the multi-task direction where one task's TALL mask keeps it: a model for that task alone. */
#include "ties.h"
#include <math.h>

enum { TASK, TALL, MULTITASK, KEEP };

/* tall: the middle of the 0.2 … 0.6 that Wang et al. 2024 search per task. */
static const di_merge_param params[] = {
    DI_WHOLE("task", "the model whose mask is applied, from 1 in the order given", 1, 1, 1000000),
    DI_NUMBER("tall", "the task keeps an element if |tau| > tall * |sum - tau|", 0.4, 0, 1000),
    DI_CHOICE("multitask", "what is masked: the sum of the task vectors, or TIES with disjoint sum", 0, 2,
              "sum ties"),
    DI_NUMBER("keep", "share of the elements that multitask = ties keeps per model", 0.2, 0, 1),
};

static distac_status prepare(di_merge_run *run) {
    int32_t task = (int32_t)di_run_param(run, TASK, 0);
    if (task > run->models)
        return di_fail_at(DISTAC_EINVAL, run->function, "tall_mask: task is %d; there are %d models", (int)task,
                          (int)run->models);
    return di_multitask_open(run, (int)di_run_param(run, MULTITASK, 0), di_run_param(run, KEEP, 0));
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    double sum[DI_STEP], tall = di_run_param(run, TALL, 0);
    const double *own = tau[(int32_t)di_run_param(run, TASK, 0) - 1];
    di_multitask_chunk(run, at, n, tau, sum);
    for (int64_t i = 0; i < n; i++) out[i] = fabs(own[i]) > tall * fabs(sum[i] - own[i]) ? sum[i] : 0.0;
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)entry;
    di_multitask_rule(run, out, each);
    out->masked = true;
    out->votes = 1;
    each[(int32_t)di_run_param(run, TASK, 0) - 1].tall = di_run_param(run, TALL, 0);
}

const di_method di_merge_tall_mask = {
    .name = "tall_mask",
    .text = "sum where one task's TALL mask keeps it, a model for that task (Wang et al. 2024, TALL-masks)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .rule = rule,
};
