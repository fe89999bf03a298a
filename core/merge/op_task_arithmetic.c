/* op_task_arithmetic.c: D = sum of the weighted task vectors. */
#include "direct.h"

enum { WEIGHTS };

static const di_merge_param params[] = {
    DI_NUMBERS("weights", "factor of each model's task vector", 1, -1000, 1000),
    DI_CHOICE("dialect", "whose implementation; they agree", 0, 3, "paper authors mergekit"),
};

/* Other methods may use this chunk; they have no weights. */
static double weight_of(const di_merge_run *run, int32_t t) {
    return run->merge->method == &di_merge_task_arithmetic ? di_run_param(run, WEIGHTS, t) : 1;
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        double weight = weight_of(run, t);
        for (int64_t i = 0; i < n; i++) out[i] += weight * tau[t][i];
    }
}

static bool straight(const di_merge_run *run, int64_t n, const di_floats *f, double lambda, float *out,
                     bool stream) {
    double weights[DI_FLOATS];
    for (int32_t t = 0; t < run->models; t++) weights[t] = weight_of(run, t);
    return di_straight_sum(run, n, f, weights, 1, lambda, out, stream);
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)entry, (void)out;
    for (int32_t t = 0; t < run->models; t++) each[t].weight = weight_of(run, t);
}

const di_method di_merge_task_arithmetic = {
    .name = "task_arithmetic",
    .text = "sum of the task vectors (Ilharco et al. 2023)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = chunk,
    .straight = straight,
    .rule = rule,
};
