/* op_wudi.c: WUDI. Of every matrix the M that disturbs the task vectors least, in the sense of
 * sum_t |(M - tau_t) tau_tT|^2 / |tau_t|^2, from their sum on: a number of Adam steps, few on purpose (stopping
 * early is part of the method), or the minimum itself. With C = sum_t tau_tT tau_t / |tau_t|^2 and B = sum_t tau_t
 * (tau_tT tau_t) / |tau_t|^2 the gradient is 2 (M C - B), and each row of M goes its own way.
 *
 * Memory for [m,n]: beside the result 8 (m n + 3 n^2 + n) bytes, per thread 8 m n while C and B are made and 40 n
 * bytes times 64 rows later. */
#include "spectral.h"
#include "../tensor/lapack.h"
#include <math.h>
#include <string.h>

enum { SOLVE, STEPS, LR, REST };
enum { ROWS = 64 };

static const di_merge_param params[] = {
    DI_CHOICE("solve", "steps: Adam from the sum; closed: the minimum", 0, 2, "steps closed"),
    DI_WHOLE("steps", "steps of Adam", 300, 0, 1000000),
    DI_NUMBER("lr", "their rate", 1e-5, 0, 1000),
    DI_CHOICE("rest", "what becomes of tensors that are no matrices", 0, 2, "average base"),
};

typedef struct job {
    di_merge_run *run;
    int64_t entry, m, n;
    double *c, *b, *part, *w, *out; /* [n,n], [m,n], [n,n], [n]; by rows as the tensor is, c symmetric */
} job;

/* C and B, one task after the other: their order is part of the result's bits. */
static distac_status gather(job *j) {
    int64_t numel = j->m * j->n;
    int m = (int)j->m, n = (int)j->n;
    size_t bytes = (size_t)numel * sizeof(double);
    double *x = di_alloc(j->run->context, bytes);
    if (!x) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    memset(j->c, 0, (size_t)(j->n * j->n) * sizeof *x);
    memset(j->b, 0, bytes);
    for (int32_t t = 0; t < j->run->models && status == DISTAC_OK; t++) {
        if (!di_whole_load(j->run, t, j->entry, 0, numel, x)) {
            status = di_run_nonfinite(j->run, j->entry, 0);
            break;
        }
        double norm = 0;
        for (int64_t i = 0; i < numel; i++) norm += x[i] * x[i];
        if (norm > 0 && isfinite(1 / norm)) {
            cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, n, m, 1 / norm, x, n, 0, j->part, n);
            cblas_dsymm(CblasRowMajor, CblasRight, CblasUpper, m, n, 1, j->part, n, x, n, 1, j->b, n);
            for (int64_t i = 0; i < j->n; i++)
                for (int64_t k = i; k < j->n; k++) j->c[i * j->n + k] += j->part[i * j->n + k];
        }
        status = di_poll(j->run->context);
    }
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = i + 1; k < j->n; k++) j->c[k * j->n + i] = j->c[i * j->n + k];
    di_free(j->run->context, x, bytes);
    return status;
}

static void adam(int64_t count, double lr, int64_t step, const double *gradient, double *first, double *second,
                 double *x) {
    double fix1 = 1 - pow(0.9, (double)step), fix2 = sqrt(1 - pow(0.999, (double)step));
    for (int64_t i = 0; i < count; i++) {
        first[i] = 0.9 * first[i] + 0.1 * gradient[i];
        second[i] = 0.999 * second[i] + 0.001 * gradient[i] * gradient[i];
        x[i] -= lr / fix1 * first[i] / (sqrt(second[i]) / fix2 + 1e-8);
    }
}

static distac_status step_rows(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t first = index * ROWS, rows = j->m - first < ROWS ? j->m - first : ROWS, count = rows * j->n;
    int64_t steps = (int64_t)di_run_param(j->run, STEPS, 0);
    size_t bytes = (size_t)(3 * count) * sizeof(double);
    double *memory = di_alloc_zeroed(j->run->context, bytes), *x = j->out + first * j->n;
    if (!memory) return DISTAC_ENOMEM;
    double *gradient = memory + 2 * count;
    distac_status status = DISTAC_OK;
    for (int64_t step = 1; step <= steps && status == DISTAC_OK; step++) {
        memcpy(gradient, j->b + first * j->n, (size_t)count * sizeof *x);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)j->n, (int)j->n, 2, x, (int)j->n,
                    j->c, (int)j->n, -2, gradient, (int)j->n);
        adam(count, di_run_param(j->run, LR, 0), step, gradient, memory, memory + count, x);
        status = di_poll(j->run->context);
    }
    di_free(j->run->context, memory, bytes);
    return status;
}

/* M = B C^-1. Where no task vector has anything, M has nothing: the smallest of the minima. */
static distac_status closed(job *j) {
    int m = (int)j->m, n = (int)j->n;
    int64_t zero = 0;
    DI_TRY(di_eigen(j->run->context, j->n, j->c, j->w));
    while (zero < j->n && !(j->w[zero] > 1e-13 * j->w[j->n - 1])) zero++;
    int rank = (int)(j->n - zero);
    memset(j->out, 0, (size_t)(j->m * j->n) * sizeof *j->out);
    if (rank == 0) return DISTAC_OK;
    for (int64_t i = zero; i < j->n; i++) { /* an eigenvector is a row of ours */
        memcpy(j->part + i * j->n, j->c + i * j->n, (size_t)j->n * sizeof *j->c);
        cblas_dscal(n, 1 / j->w[i], j->part + i * j->n, 1);
    }
    double *product = j->b + j->m * j->n;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, rank, n, 1, j->b, n, j->part + zero * j->n, n, 0,
                product, n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, rank, 1, product, n, j->c + zero * j->n, n, 0,
                j->out, n);
    return DISTAC_OK;
}

static int64_t held(const di_merge_run *run, const di_entry *at) {
    int64_t n = at->shape[1], times = di_run_param(run, SOLVE, 0) == 1 ? 2 : 1;
    return (times * at->numel + 2 * n * n + n) * (int64_t)sizeof(double);
}

static int64_t need(const di_merge_run *run, const di_entry *at) {
    int64_t matrix = (int64_t)di_run_whole_bytes(at), more = di_eigen_bytes(at->shape[1]);
    if (di_run_param(run, SOLVE, 0) == 0) more = run->lanes * 3 * ROWS * at->shape[1] * (int64_t)sizeof(double);
    return held(run, at) + (matrix > more ? matrix : more);
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    job j = {.run = run, .entry = entry, .m = at->shape[0], .n = at->shape[1], .out = out};
    bool is_closed = di_run_param(run, SOLVE, 0) == 1;
    size_t bytes = (size_t)held(run, at);
    DI_TRY(di_lapack_ready());
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    j.c = memory;
    j.part = j.c + j.n * j.n;
    j.w = j.part + j.n * j.n;
    j.b = j.w + j.n;
    distac_status status = gather(&j);
    if (status == DISTAC_OK && is_closed) {
        status = closed(&j);
    } else if (status == DISTAC_OK) {
        status = di_whole_sum(run, entry, out);
        if (status == DISTAC_OK) status = di_run_lanes(run, (j.m + ROWS - 1) / ROWS, step_rows, &j);
    }
    di_free(run->context, memory, bytes);
    return status;
}

static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    if (di_run_param(run, REST, 0) == 1) memset(out, 0, (size_t)n * sizeof *out);
    else di_whole_mean(run, at, n, tau, out);
}

const di_method di_merge_wudi = {
    .name = "wudi",
    .text = "the matrix that disturbs the task vectors least, mean of the rest (Cheng et al. 2025, WUDI-Merging)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = chunk,
    .takes = di_whole_takes,
    .tensor = tensor,
    .need = need,
};
