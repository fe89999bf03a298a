/* op_tsvm.c: TSV-M. Of each model's delta of a matrix the leading int(min(m,n)/T) singular triplets are kept; the
 * vectors of all models, side by side, are made orthonormal (polar factor), and the merged matrix is put together
 * from them and the singular values. Everything that is not a matrix is averaged.
 *
 * A matrix [m,n] by rows is the matrix [n,m] by columns, which is what LAPACK sees: "left" below is the side of n.
 * The method treats both sides alike, so nothing is turned.
 *
 * Memory for a matrix [m,n] with k = min(m,n), beside the 8 m n bytes of the result: 8 k (m + n + 2 k) bytes of
 * vectors, and per thread at most 32 k^2 + 7000 k bytes; the models' own numbers are read in slices. Where the leading
 * singular values span more than four orders of magnitude, and with precision = exact, a thread holds the matrix and
 * its decomposition instead: 8 (2 m n + 6 k^2) bytes and LAPACK's workspace. */
#include "spectral.h"
#include "../tensor/walk.h"
#include <cblas.h>
#include <string.h>

enum { BLOCK = 128 }; /* columns of the result per task: fixed, so the bits do not depend on the threads */
enum { PRECISION };

static const di_merge_param params[] = {
    DI_CHOICE("precision", "fast: by Gram matrices in double; exact: by singular value decompositions in double", 0, 2,
              "fast exact"),
};

/* The vectors of one side, [rows,T*r]. */
typedef struct side {
    int64_t rows;
    double *vectors;
} side;

typedef struct job {
    di_merge_run *run;
    int64_t entry, p, q, r; /* p = n, q = m; r triplets per model */
    int64_t columns;        /* triplets that are there */
    bool exact, rooted;     /* rooted: the far side's polar factor is far.vectors times root */
    side left, right;       /* of p and of q */
    side *near, *far;       /* the shorter and the longer of the two */
    double *values;         /* [T*r] */
    double *root;           /* [T*r,T*r] */
    double *product;        /* [near,T*r] */
    double *out;
} job;

/* ---- a model's matrix, slice by slice along the longer side ---- */

typedef struct reader {
    const job *job;
    int32_t model;
} reader;

static bool load_run(const reader *r, int64_t first, int64_t n, double *out) {
    return di_whole_load(r->job->run, r->model, r->job->entry, first, n, out);
}

/* The tensor is q runs of p elements: whole runs are slices where q is the longer side, else parts of each. */
static bool load_slices(void *arg, int64_t first, int64_t count, double *out) {
    const reader *r = arg;
    int64_t p = r->job->p, q = r->job->q;
    if (p <= q) return load_run(r, first * p, count * p, out);
    for (int64_t i = 0; i < q; i++)
        if (!load_run(r, i * p + first, count, out + i * count)) return false;
    return true;
}

static distac_status decompose_model(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    job *j = arg;
    reader r = {j, (int32_t)t};
    di_slices a = {j->near->rows, j->far->rows, j->p > j->q, load_slices, &r};
    bool finite;
    DI_TRY(di_triplets(j->run->context, &a, j->r, j->exact, j->near->vectors + t * j->r * a.near,
                       j->values + t * j->r, j->far->vectors + t * j->r * a.length, &finite));
    return finite ? DISTAC_OK : di_run_nonfinite(j->run, j->entry, 0);
}

/* Closes the gaps that empty triplets leave. */
static void compact(job *j) {
    int64_t kept = 0, all = j->r * j->run->models;
    for (int64_t i = 0; i < all; i++) {
        if (j->values[i] <= 0) continue;
        if (kept != i) {
            memcpy(j->left.vectors + kept * j->p, j->left.vectors + i * j->p, (size_t)j->p * sizeof(double));
            memcpy(j->right.vectors + kept * j->q, j->right.vectors + i * j->q, (size_t)j->q * sizeof(double));
            j->values[kept] = j->values[i];
        }
        kept++;
    }
    j->columns = kept;
}

/* The longer side's vectors are many and close to orthogonal: only the root that makes them so is found, and
 * multiplied into the shorter side. */
static distac_status whiten_side(void *arg, int32_t lane, int64_t which) {
    (void)lane;
    job *j = arg;
    distac_context *context = j->run->context;
    if (which == 0) return di_polar(context, j->near->rows, j->columns, j->near->vectors, j->exact);
    if (!j->exact)
        DI_TRY(di_polar_root(context, j->far->rows, j->columns, j->far->vectors, j->root, &j->rooted));
    return j->rooted ? DISTAC_OK : di_polar(context, j->far->rows, j->columns, j->far->vectors, j->exact);
}

/* Rows of the shorter side times root. */
static distac_status root_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t rows = j->near->rows, first = index * BLOCK, n = rows - first < BLOCK ? rows - first : BLOCK;
    cblas_dsymm(CblasColMajor, CblasRight, CblasLower, (int)n, (int)j->columns, 1, j->root, (int)j->columns,
                j->near->vectors + first, (int)rows, 0, j->product + first, (int)rows);
    return DISTAC_OK;
}

static distac_status multiply_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t first = index * BLOCK, n = j->q - first < BLOCK ? j->q - first : BLOCK;
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)n, (int)j->columns, 1, j->left.vectors,
                (int)j->p, j->right.vectors + first, (int)j->q, 0, j->out + first * j->p, (int)j->p);
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
    for (int64_t i = 0; i < j->columns; i++)
        cblas_dscal((int)j->near->rows, j->values[i], j->near->vectors + i * j->near->rows, 1);
    if (j->rooted) {
        DI_TRY(di_run_lanes(j->run, (j->near->rows + BLOCK - 1) / BLOCK, root_block, j));
        j->near->vectors = j->product;
    }
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
    j.exact = di_run_param(run, PRECISION, 0) == 1;
    int64_t columns = j.r * run->models;
    size_t bytes = (size_t)((j.p + j.q + least + columns + 1) * columns) * sizeof(double);
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    j.left = (side){j.p, memory};
    j.right = (side){j.q, memory + j.p * columns};
    j.near = j.p <= j.q ? &j.left : &j.right;
    j.far = j.p <= j.q ? &j.right : &j.left;
    j.product = j.right.vectors + j.q * columns;
    j.root = j.product + least * columns;
    j.values = j.root + columns * columns;
    distac_status status = merge_matrix(&j);
    di_free(run->context, memory, bytes);
    return status;
}

const di_method di_merge_tsvm = {
    .name = "tsvm",
    .text =
        "orthogonalised leading singular vectors of every matrix, mean of the rest (Gargiulo et al. 2025, TSV-M)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = di_whole_mean,
    .takes = di_whole_takes,
    .tensor = tensor,
};
