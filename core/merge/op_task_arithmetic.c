/* op_task_arithmetic.c: D = sum of the task vectors. */
#include "merge.h"

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    (void)at;
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) out[i] += tau[t][i];
}

const di_method di_merge_task_arithmetic = {
    .name = "task_arithmetic",
    .text = "sum of the task vectors (Ilharco et al. 2023)",
    .chunk = chunk,
};
