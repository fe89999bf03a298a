/* op_tsvm.c: TSV-M. Of each model's delta of a matrix the leading int(min(m,n)/T) singular triplets are kept; the
 * vectors of all models, side by side, are made orthonormal (polar factor), and the merged matrix is put together
 * from them and the singular values. Everything that is not a matrix is averaged.
 *
 * A matrix [m,n] by rows is the matrix [n,m] by columns, which is what LAPACK sees: "left" below is the side of n.
 * The method treats both sides alike, so nothing is turned. */
#include "merge.h"
#include "spectral.h"
#include "../tensor/walk.h"
#include <cblas.h>
#include <string.h>

enum { BLOCK = 128 }; /* columns of the result per task: fixed, so the bits do not depend on the threads */

static bool takes(const di_merge_run *run, const di_entry *entry) {
    (void)run;
    return entry->rank == 2;
}

typedef struct job {
    di_merge_run *run;
    int64_t entry, p, q, r; /* p = n, q = m; r triplets per model */
    int64_t columns;        /* triplets that are there */
    const double *base;     /* the base's elements, NULL for task vectors */
    double *left, *right;   /* [p,T*r], [q,T*r] */
    double *values;         /* [T*r] */
    double *out;
} job;

static distac_status decompose_model(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    job *j = arg;
    distac_context *context = j->run->context;
    int64_t numel = j->p * j->q;
    double *a = di_alloc(context, (size_t)numel * sizeof *a);
    if (!a) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    if (!di_run_load(j->run, (int32_t)t, j->entry, 0, numel, j->base, a))
        status = di_run_nonfinite(j->run, j->entry, 0);
    else
        status = di_triplets(context, j->p, j->q, j->r, a, j->left + t * j->r * j->p, j->values + t * j->r,
                             j->right + t * j->r * j->q);
    di_free(context, a, (size_t)numel * sizeof *a);
    return status;
}

/* Closes the gaps that empty triplets leave. */
static void compact(job *j) {
    int64_t kept = 0, all = j->r * j->run->models;
    for (int64_t i = 0; i < all; i++) {
        if (j->values[i] <= 0) continue;
        if (kept != i) {
            memcpy(j->left + kept * j->p, j->left + i * j->p, (size_t)j->p * sizeof(double));
            memcpy(j->right + kept * j->q, j->right + i * j->q, (size_t)j->q * sizeof(double));
            j->values[kept] = j->values[i];
        }
        kept++;
    }
    j->columns = kept;
}

static distac_status whiten_side(void *arg, int32_t lane, int64_t side) {
    (void)lane;
    job *j = arg;
    return side == 0 ? di_polar(j->run->context, j->p, j->columns, j->left)
                     : di_polar(j->run->context, j->q, j->columns, j->right);
}

static distac_status multiply_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t first = index * BLOCK, n = j->q - first < BLOCK ? j->q - first : BLOCK;
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)n, (int)j->columns, 1, j->left, (int)j->p,
                j->right + first, (int)j->q, 0, j->out + first * j->p, (int)j->p);
    return DISTAC_OK;
}

static distac_status merge_matrix(job *j) {
    DI_TRY(di_run_lanes(j->run, j->run->models, decompose_model, j));
    compact(j);
    if (j->columns == 0) {
        memset(j->out, 0, (size_t)(j->p * j->q) * sizeof *j->out);
        return DISTAC_OK;
    }
    DI_TRY(di_run_lanes(j->run, 2, whiten_side, j));
    for (int64_t i = 0; i < j->columns; i++) cblas_dscal((int)j->p, j->values[i], j->left + i * j->p, 1);
    return di_run_lanes(j->run, (j->q + BLOCK - 1) / BLOCK, multiply_block, j);
}

/* A matrix too small for the number of models: nothing is kept, but its inputs are still looked at. */
static distac_status nothing(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    double *const *rows = di_run_rows(run, 0);
    char shape[64];
    for (int64_t first = 0; first < at->numel; first += DI_STEP) {
        int64_t n = at->numel - first < DI_STEP ? at->numel - first : DI_STEP;
        if (!di_run_step(run, entry, first, n, rows)) return di_run_nonfinite(run, entry, first);
    }
    memset(out, 0, (size_t)at->numel * sizeof *out);
    di_warn(run->context, "tsvm: \"%s\" %s has a side smaller than the %d models and contributes nothing",
            at->name, di_shape_text(at->rank, at->shape, shape, sizeof shape), (int)run->models);
    return DISTAC_OK;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    job j = {.run = run, .entry = entry, .p = at->shape[1], .q = at->shape[0], .out = out};
    int64_t least = j.p < j.q ? j.p : j.q;
    j.r = least / run->models;
    if (j.r == 0) return nothing(run, entry, out);
    di_lapack_ready();
    int64_t columns = j.r * run->models, base = run->whole ? at->numel : 0;
    size_t bytes = (size_t)(base + (j.p + j.q + 1) * columns) * sizeof(double);
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    if (run->whole) {
        di_run_base(run, entry, 0, at->numel, memory);
        j.base = memory;
    }
    j.left = memory + base;
    j.right = j.left + j.p * columns;
    j.values = j.right + j.q * columns;
    distac_status status = merge_matrix(&j);
    di_free(run->context, memory, bytes);
    return status;
}

/* Vectors, kernels and scalars: the mean. */
static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    di_merge_average.chunk(run, at, n, tau, out);
}

const di_method di_merge_tsvm = {
    .name = "tsvm",
    .text =
        "orthogonalised leading singular vectors of every matrix, mean of the rest (Gargiulo et al. 2025, TSV-M)",
    .chunk = chunk,
    .takes = takes,
    .tensor = tensor,
};
