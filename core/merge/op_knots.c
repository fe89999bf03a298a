/* op_knots.c: KnOTS, for models tuned by low-rank adapters. The task vectors of a matrix, side by side along the
 * inputs, are decomposed together, [tau_1 … tau_T] = U S [V_1 … V_T]; in the common basis U each task is S V_t,
 * and those are merged by TIES within the matrix: trimmed as the authors' code does (whatever reaches the
 * magnitude that is int(keep D) + 1 from the top), signs by the sum, mean of what agrees. What is no matrix is
 * averaged.
 *
 * S V_t is UT tau_t, so only U is needed: eigenvectors of the sum of tau_t tau_tT. A matrix [m,n] by rows is [n,m]
 * by columns here, U is of the side of m. Memory for rank R: beside the result 8 (T R n + R n + m R) bytes and
 * 16 k^2 + 4096 k for k = min(m, T n). */
#include "spectral.h"
#include "../tensor/lapack.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP, FLOOR };
enum { SLICES = 512 };

static const di_merge_param params[] = {
    DI_NUMBER("keep", "share of each task's entries in the common basis that is kept", 0.2, 0, 1),
    DI_NUMBER("floor", "singular values up to this are dropped", 1e-5, 0, 1000),
};

typedef struct job {
    di_merge_run *run;
    int64_t entry, p, q, length, k, rank; /* p = n, q = m, length = T*p, k = min(q, length) */
    double *gram, *w, *block, *basis;     /* [k,k], [k], [k,SLICES], [q,rank] */
    double *tasks, *merged, *out;         /* [p,rank] per task; [p,rank]; [p,q] */
} job;

/* Rows first … first+n-1 of task t: [n,q]. */
static bool load_rows(const job *j, int32_t t, int64_t first, int64_t n, double *out) {
    for (int64_t i = 0; i < j->q; i++)
        if (!di_whole_load(j->run, t, j->entry, i * j->p + first, n, out + i * n)) return false;
    return true;
}

/* The Gram matrix of the shorter side of [tau_1; …; tau_T], [T*p,q]. */
static distac_status gram_of_all(job *j) {
    int q = (int)j->q;
    for (int32_t t = 0; t < j->run->models; t++)
        for (int64_t first = 0; first < j->p; first += SLICES) {
            int64_t n = j->p - first < SLICES ? j->p - first : SLICES;
            if (!load_rows(j, t, first, n, j->block)) return di_run_nonfinite(j->run, j->entry, 0);
            cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, q, (int)n, 1, j->block, (int)n, t > 0 || first > 0,
                        j->gram, q);
        }
    return DISTAC_OK;
}

/* Where all tasks together have fewer inputs than the matrix has outputs: they are held at once, [T*p,q]. */
static distac_status basis_of_few(job *j) {
    size_t bytes = (size_t)(j->length * j->q) * sizeof(double);
    double *all = di_alloc(j->run->context, bytes);
    if (!all) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    for (int32_t t = 0; t < j->run->models && status == DISTAC_OK; t++) {
        if (!load_rows(j, t, 0, j->p, j->out)) status = di_run_nonfinite(j->run, j->entry, 0);
        for (int64_t i = 0; i < j->q; i++)
            memcpy(all + i * j->length + t * j->p, j->out + i * j->p, (size_t)j->p * sizeof *all);
    }
    if (status == DISTAC_OK) {
        cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, (int)j->length, (int)j->q, 1, all, (int)j->length, 0,
                    j->gram, (int)j->length);
        status = di_eigen(j->run->context, j->length, j->gram, j->w);
    }
    double floor = di_run_param(j->run, FLOOR, 0);
    for (int64_t i = j->length - 1; status == DISTAC_OK && i >= 0; i--) {
        if (!(j->w[i] > floor * floor && j->w[i] > 0)) break;
        cblas_dgemv(CblasColMajor, CblasTrans, (int)j->length, (int)j->q, 1 / sqrt(j->w[i]), all, (int)j->length,
                    j->gram + i * j->length, 1, 0, j->basis + j->rank++ * j->q, 1);
    }
    di_free(j->run->context, all, bytes);
    return status;
}

static distac_status find_basis(job *j) {
    if (j->length < j->q) return basis_of_few(j);
    DI_TRY(gram_of_all(j));
    DI_TRY(di_eigen(j->run->context, j->k, j->gram, j->w));
    double floor = di_run_param(j->run, FLOOR, 0);
    for (int64_t i = j->k - 1; i >= 0 && j->w[i] > floor * floor && j->w[i] > 0; i--)
        memcpy(j->basis + j->rank++ * j->q, j->gram + i * j->q, (size_t)j->q * sizeof *j->gram);
    return DISTAC_OK;
}

static int falling(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Task t in the common basis, trimmed. */
static distac_status task(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    job *j = arg;
    int64_t count = j->p * j->rank, numel = j->p * j->q, most = count > numel ? count : numel;
    size_t bytes = (size_t)most * sizeof(double);
    double *x = di_alloc(j->run->context, bytes), *mine = j->tasks + t * count;
    if (!x) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    if (!di_whole_load(j->run, (int32_t)t, j->entry, 0, numel, x)) {
        status = di_run_nonfinite(j->run, j->entry, 0);
    } else {
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)j->p, (int)j->rank, (int)j->q, 1, x, (int)j->p,
                    j->basis, (int)j->q, 0, mine, (int)j->p);
        for (int64_t i = 0; i < count; i++) x[i] = fabs(mine[i]);
        qsort(x, (size_t)count, sizeof *x, falling);
        int64_t kept = (int64_t)(di_run_param(j->run, KEEP, 0) * (double)count);
        double threshold = x[kept < count ? kept : count - 1];
        for (int64_t i = 0; i < count; i++)
            if (!(fabs(mine[i]) >= threshold)) mine[i] = 0;
    }
    di_free(j->run->context, x, bytes);
    return status;
}

static void elect(job *j) {
    int64_t count = j->p * j->rank, lead = 0;
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int32_t t = 0; t < j->run->models; t++) sum += j->tasks[t * count + i];
        j->merged[i] = sum;
        lead += (sum > 0) - (sum < 0);
    }
    for (int64_t i = 0; i < count; i++) {
        double sign = j->merged[i] != 0 ? j->merged[i] : (double)lead, sum = 0;
        int64_t agreeing = 0;
        for (int32_t t = 0; t < j->run->models; t++) {
            double x = j->tasks[t * count + i];
            if (!((x > 0 && sign > 0) || (x < 0 && sign < 0))) continue;
            sum += x;
            agreeing++;
        }
        j->merged[i] = agreeing ? sum / (double)agreeing : 0;
    }
}

enum { RANK = 16 }; /* of an adapter, as a rule */

/* What the tasks hold in the basis, and those being made. */
static int64_t tasks_bytes(const di_merge_run *run, int64_t p, int64_t q, int64_t rank) {
    int64_t lanes = run->lanes < run->models ? run->lanes : run->models;
    return ((run->models + 1) * p * rank + lanes * p * (rank > q ? rank : q)) * (int64_t)sizeof(double);
}

static distac_status merge_matrix(job *j) {
    DI_TRY(find_basis(j));
    memset(j->out, 0, (size_t)(j->p * j->q) * sizeof *j->out);
    if (j->rank == 0) return DISTAC_OK;
    size_t bytes = (size_t)((j->run->models + 1) * j->p * j->rank) * sizeof(double);
    char rank[48];
    (void)snprintf(rank, sizeof rank, ", of rank %lld,", (long long)j->rank);
    DI_TRY(di_run_room(j->run, j->entry, tasks_bytes(j->run, j->p, j->q, j->rank), rank));
    j->tasks = di_alloc(j->run->context, bytes);
    if (!j->tasks) return DISTAC_ENOMEM;
    j->merged = j->tasks + j->run->models * j->p * j->rank;
    distac_status status = di_run_lanes(j->run, j->run->models, task, j);
    if (status == DISTAC_OK) {
        elect(j);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)j->q, (int)j->rank, 1, j->merged,
                    (int)j->p, j->basis, (int)j->q, 0, j->out, (int)j->p);
    }
    di_free(j->run->context, j->tasks, bytes);
    return status;
}

static int64_t held(int64_t q, int64_t k) {
    return (k * k + k + (q + k) * (k > SLICES ? k : SLICES)) * (int64_t)sizeof(double);
}

/* The rank is not known yet: once it is, it is asked again. */
static int64_t need(const di_merge_run *run, const di_entry *entry) {
    int64_t p = entry->shape[1], q = entry->shape[0], length = p * run->models, k = q < length ? q : length;
    int64_t basis = di_eigen_bytes(k) + (length < q ? length * q * (int64_t)sizeof(double) : 0);
    int64_t tasks = tasks_bytes(run, p, q, k < RANK * run->models ? k : RANK * run->models);
    return held(q, k) + (basis > tasks ? basis : tasks);
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    job j = {.run = run, .entry = entry, .p = at->shape[1], .q = at->shape[0], .out = out};
    DI_TRY(di_lapack_ready());
    j.length = j.p * run->models;
    j.k = j.q < j.length ? j.q : j.length;
    size_t bytes = (size_t)held(j.q, j.k);
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    j.gram = memory;
    j.w = j.gram + j.k * j.k;
    j.block = j.w + j.k;
    j.basis = j.block + j.k * SLICES;
    distac_status status = merge_matrix(&j);
    di_free(run->context, memory, bytes);
    return status;
}

const di_method di_merge_knots = {
    .name = "knots",
    .text = "TIES per matrix in the common basis of all task vectors, for low-rank adapters; mean of the rest "
            "(Stoica et al. 2025, KnOTS)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = di_whole_mean,
    .takes = di_whole_takes,
    .tensor = tensor,
    .need = need,
};
