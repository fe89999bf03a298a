/* op_iso_cts.c: Iso-CTS. Of every matrix the leading singular triplets of the sum (the common part) are joined by
 * the leading triplets of each task vector outside the common part's output directions; both sides' vectors are
 * made orthonormal, and all values become their mean. What is no matrix is averaged.
 *
 * A matrix [m,n] by rows is [p,q] = [n,m] by columns here, so the output directions are the side of q. Memory:
 * beside the result 8 (numel + k (m + n)) bytes, per thread 8 numel and what spectral.c wants. */
#include "spectral.h"
#include "../tensor/lapack.h"
#include <math.h>
#include <string.h>

enum { COMMON };
enum { BLOCK = 256 };

static const di_merge_param params[] = {
    DI_NUMBER("common", "share of the singular triplets that come from the sum of the task vectors", 0.8, 0, 1),
};

typedef struct job {
    di_merge_run *run;
    int64_t entry, p, q, s, each; /* s common triplets, `each` of every task */
    int64_t columns;
    double *sum, *left, *right, *values, *out; /* [p,q], [p,k], [q,k], [k] */
} job;

static distac_status triplets(const job *j, double *x, int64_t r, int64_t first) {
    di_held held = {x, j->p, j->q};
    di_slices a = di_held_slices(&held);
    bool finite;
    double *left = j->left + first * j->p, *right = j->right + first * j->q;
    return di_triplets(j->run->context, &a, r, false, a.turned ? right : left, j->values + first,
                       a.turned ? left : right, &finite);
}

/* The task vector less what lies in the common output directions. */
static distac_status task_part(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    job *j = arg;
    const double *common = j->right + (j->columns - j->s) * j->q;
    int64_t numel = j->p * j->q;
    size_t bytes = (size_t)(numel + j->p * j->s) * sizeof(double);
    double *x = di_alloc(j->run->context, bytes);
    if (!x) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    if (!di_whole_load(j->run, (int32_t)t, j->entry, 0, numel, x)) {
        status = di_run_nonfinite(j->run, j->entry, 0);
    } else {
        if (j->s > 0) {
            cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)j->p, (int)j->s, (int)j->q, 1, x,
                        (int)j->p, common, (int)j->q, 0, x + numel, (int)j->p);
            cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)j->q, (int)j->s, -1, x + numel,
                        (int)j->p, common, (int)j->q, 1, x, (int)j->p);
        }
        status = triplets(j, x, j->each, t * j->each);
    }
    di_free(j->run->context, x, bytes);
    return status;
}

static distac_status whiten(void *arg, int32_t lane, int64_t side) {
    (void)lane;
    job *j = arg;
    return side == 0 ? di_polar(j->run->context, j->p, j->columns, j->left, false)
                     : di_polar(j->run->context, j->q, j->columns, j->right, false);
}

static distac_status multiply_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t first = index * BLOCK, n = j->q - first < BLOCK ? j->q - first : BLOCK;
    double mean = 0;
    for (int64_t i = 0; i < j->columns; i++) mean += j->values[i];
    mean /= (double)j->columns;
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)n, (int)j->columns, mean, j->left,
                (int)j->p, j->right + first, (int)j->q, 0, j->out + first * j->p, (int)j->p);
    return DISTAC_OK;
}

static distac_status merge_matrix(job *j) {
    DI_TRY(di_whole_sum(j->run, j->entry, j->sum));
    if (j->s > 0) DI_TRY(triplets(j, j->sum, j->s, j->columns - j->s));
    if (j->each > 0) DI_TRY(di_run_lanes(j->run, j->run->models, task_part, j));
    DI_TRY(di_run_lanes(j->run, 2, whiten, j));
    return di_run_lanes(j->run, (j->q + BLOCK - 1) / BLOCK, multiply_block, j);
}

static job job_of(di_merge_run *run, const di_entry *at) {
    job j = {.run = run, .p = at->shape[1], .q = at->shape[0]};
    int64_t k = j.p < j.q ? j.p : j.q, s = (int64_t)(di_run_param(run, COMMON, 0) * (double)k);
    /* As the authors' code rounds: ties go to the even number. */
    j.each = (int64_t)nearbyint((double)(k - s) / (double)run->models);
    if (j.each * run->models > k) j.each = k / run->models;
    j.s = k - j.each * run->models;
    j.columns = k;
    return j;
}

static int64_t held(const job *j) {
    return (j->p * j->q + (j->p + j->q + 1) * j->columns) * (int64_t)sizeof(double);
}

static int64_t need(const di_merge_run *run, const di_entry *entry) {
    const job j = job_of((di_merge_run *)(uintptr_t)run, entry);
    int64_t k = j.columns, n = j.p < j.q ? j.q : j.p, lanes = run->lanes < run->models ? run->lanes : run->models;
    int64_t common = di_triplets_bytes(k, n, j.s, false);
    int64_t task = (j.p * j.q + j.p * j.s) * (int64_t)sizeof(double) + di_triplets_bytes(k, n, j.each, false);
    int64_t tasks = lanes * task;
    int64_t sides = (run->lanes > 1) * di_polar_bytes(k, k, false) + di_polar_bytes(n, k, false);
    int64_t most = common > tasks ? common : tasks;
    return held(&j) + (most > sides ? most : sides);
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    job j = job_of(run, at);
    int64_t k = j.columns;
    DI_TRY(di_lapack_ready());
    j.entry = entry;
    j.out = out;
    size_t bytes = (size_t)held(&j);
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    j.sum = memory;
    j.left = j.sum + at->numel;
    j.right = j.left + j.p * k;
    j.values = j.right + j.q * k;
    distac_status status = merge_matrix(&j);
    di_free(run->context, memory, bytes);
    return status;
}

const di_method di_merge_iso_cts = {
    .name = "iso_cts",
    .text = "common and task-specific directions with equal singular values, mean of the rest "
            "(Marczak et al. 2025, Iso-CTS)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = di_whole_mean,
    .takes = di_whole_takes,
    .tensor = tensor,
    .need = need,
};
