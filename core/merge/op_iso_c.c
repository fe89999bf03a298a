/* op_iso_c.c: Iso-C. The sum of the task vectors of every matrix gets equal singular values, their mean; what is
 * no matrix is averaged. With S = U diag(s) VT that is mean(s) U VT, and U VT is the polar factor of S, so no
 * decomposition is needed: the sum of s is the product of S and U VT, element by element.
 *
 * Directions in which the sum vanishes to working precision are left out: there U VT is anyone's choice. Memory:
 * 16 numel bytes beside the result, 32 k^2 for k = min(m,n). */
#include "spectral.h"
#include "../tensor/lapack.h"
#include <string.h>

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    int64_t p = at->shape[1], q = at->shape[0], k = p < q ? p : q;
    size_t bytes = (size_t)(2 * at->numel) * sizeof(double);
    DI_TRY(di_lapack_ready());
    double *sum = di_alloc(run->context, bytes);
    if (!sum) return DISTAC_ENOMEM;
    double *factor = sum + at->numel;
    distac_status status = di_whole_sum(run, entry, sum);
    if (status == DISTAC_OK) {
        if (p >= q) memcpy(factor, sum, (size_t)at->numel * sizeof *sum);
        else di_transpose(p, q, sum, factor);
        status = di_polar(run->context, p >= q ? p : q, k, factor, false);
    }
    if (status == DISTAC_OK) {
        if (p >= q) memcpy(out, factor, (size_t)at->numel * sizeof *sum);
        else di_transpose(q, p, factor, out);
        double total = 0;
        for (int64_t i = 0; i < at->numel; i++) total += out[i] * sum[i];
        for (int64_t i = 0; i < at->numel; i++) out[i] *= total / (double)k;
    }
    di_free(run->context, sum, bytes);
    return status;
}

static int64_t need(const di_merge_run *run, const di_entry *entry) {
    int64_t p = entry->shape[1], q = entry->shape[0];
    (void)run;
    return 2 * (int64_t)di_run_whole_bytes(entry) + di_polar_bytes(p >= q ? p : q, p < q ? p : q, false);
}

const di_method di_merge_iso_c = {
    .name = "iso_c",
    .text = "sum with equal singular values for matrices, mean of the rest (Marczak et al. 2025, Iso-C)",
    .chunk = di_whole_mean,
    .takes = di_whole_takes,
    .tensor = tensor,
    .need = need,
};
