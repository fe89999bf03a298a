/* op_average.c: D = (1/T) sum of the task vectors. */
#include "merge.h"

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    double count = (double)run->models;
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) out[i] += tau[t][i];
    for (int64_t i = 0; i < n; i++) out[i] /= count;
}

const di_method di_merge_average = {
    .name = "average",
    .text = "mean of the models (Wortsman et al. 2022, model soups)",
    .chunk = chunk,
};
