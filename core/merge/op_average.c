/* op_average.c: D = sum of the weighted task vectors / sum of the weights. */
#include "direct.h"
#include <math.h>

enum { WEIGHTS };

static const di_merge_param params[] = {
    DI_NUMBERS("weights", "weight of each model; they are divided by their sum", 1, -1000, 1000),
    DI_CHOICE("dialect", "whose implementation; they agree", 0, 3, "paper authors mergekit"),
};

/* Other methods give what they do not treat to this chunk: they have no weights, every model counts the same. */
static double weight_of(const di_merge_run *run, int32_t t) {
    return run->merge->method == &di_merge_average ? di_run_param(run, WEIGHTS, t) : 1;
}

static double weight_sum(const di_merge_run *run) {
    double sum = 0;
    for (int32_t t = 0; t < run->models; t++) sum += weight_of(run, t);
    return sum;
}

static distac_status prepare(di_merge_run *run) {
    double sum = weight_sum(run);
    if (fabs(sum) < 1e-8)
        return di_fail_at(DISTAC_EINVAL, run->function, "average: the weights sum to %g; they are divided by it",
                          sum);
    return DISTAC_OK;
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    double sum = weight_sum(run);
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        double weight = weight_of(run, t);
        for (int64_t i = 0; i < n; i++) out[i] += weight * tau[t][i];
    }
    for (int64_t i = 0; i < n; i++) out[i] /= sum;
}

static bool straight(const di_merge_run *run, int64_t n, const di_floats *f, double lambda, float *out,
                     bool stream) {
    double weights[DI_FLOATS];
    for (int32_t t = 0; t < run->models; t++) weights[t] = weight_of(run, t);
    return di_straight_sum(run, n, f, weights, weight_sum(run), lambda, out, stream);
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)entry;
    out->divisor = weight_sum(run);
    for (int32_t t = 0; t < run->models; t++) each[t].weight = weight_of(run, t);
}

const di_method di_merge_average = {
    .name = "average",
    .text = "mean of the models (Wortsman et al. 2022, model soups)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .straight = straight,
    .rule = rule,
};
