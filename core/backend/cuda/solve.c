/* solve.c: eigenproblems and singular values by cuSOLVER, in double. Its matrices lie by columns, ours by rows: it sees
 * them turned. */
#include "arrays_launch.h"
#include "cuda.h"

#include <cusolverDn.h>
#include <limits.h>
#include <stdlib.h>

struct di_cuda_solver {
    cusolverDnHandle_t handle;
    cusolverDnParams_t params; /* what the functions of 64 bits want, as it is made */
};

#define SOLVER(call)                                                                                               \
    do {                                                                                                           \
        cusolverStatus_t solver_ = (call);                                                                         \
        if (solver_ != CUSOLVER_STATUS_SUCCESS) return failed(c, what, (int)solver_);                              \
    } while (0)

static distac_status failed(distac_context *c, const char *what, int status) {
    int error = (int)cudaPeekAtLastError();
    if (error != 0) return di_cuda_check(c, what, error);
    return di_fail_at(status == CUSOLVER_STATUS_ALLOC_FAILED ? DISTAC_ENOMEM : DISTAC_EDEVICE, what,
                      "%s: the solver's library says %d", di_cuda_of(c)->device.name, status);
}

static distac_status solver_get(distac_context *c, const char *what, cusolverDnHandle_t *out) {
    di_cuda *cuda = di_cuda_of(c);
    if (!cuda->solver) {
        cuda->solver = di_new(sizeof *cuda->solver);
        if (!cuda->solver) return DISTAC_ENOMEM;
    }
    if (!cuda->solver->handle) {
        SOLVER(cusolverDnCreate(&cuda->solver->handle));
        SOLVER(cusolverDnSetStream(cuda->solver->handle, cuda->stream));
    }
    if (!cuda->solver->params) SOLVER(cusolverDnCreateParams(&cuda->solver->params));
    *out = cuda->solver->handle;
    return DISTAC_OK;
}

void di_cuda_solver_close(di_cuda *cuda) {
    if (cuda->solver && cuda->solver->params) (void)cusolverDnDestroyParams(cuda->solver->params);
    if (cuda->solver && cuda->solver->handle) (void)cusolverDnDestroy(cuda->solver->handle);
    free(cuda->solver);
    cuda->solver = NULL;
}

/* Memory of one call: what the solver works in, its verdict, and a matrix of our own. */
typedef struct room {
    void *memory;
    size_t bytes;
    double *work, *extra, *extra_2;
    int *info;
} room;

static size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

static distac_status room_take(distac_context *c, int64_t work, int64_t extra, int64_t extra_2, room *out) {
    size_t a = rounded((size_t)work * 8), b = rounded((size_t)extra * 8), d = rounded((size_t)extra_2 * 8);
    out->bytes = a + b + d + 256;
    DI_TRY(di_cuda_alloc(c, out->bytes, &out->memory));
    char *base = out->memory;
    out->work = (double *)(void *)base;
    out->extra = (double *)(void *)(base + a);
    out->extra_2 = (double *)(void *)(base + a + b);
    out->info = (int *)(void *)(base + a + b + d);
    return DISTAC_OK;
}

static distac_status verdict(distac_context *c, const char *what, const room *r) {
    int info = 0;
    DI_TRY(di_cuda_download(c, &info, r->info, sizeof info));
    if (info == 0) return DISTAC_OK;
    return di_fail_at(DISTAC_ENUMERIC, what, "no convergence (the solver says %d)", info);
}

static distac_status check_size(const char *what, int64_t M, int64_t N) {
    if (M <= INT_MAX && N <= INT_MAX) return DISTAC_OK;
    return di_fail_at(DISTAC_ESHAPE, what, "a is [%lld,%lld], too large for the solver", (long long)M, (long long)N);
}

/* ---- symmetric ---- */

/* Our lower triangle is its upper one; its eigenvectors by columns are ours by rows. */
#define OURS CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER

static distac_status one_by_one(distac_context *c, const char *what, cusolverDnHandle_t handle, int64_t batch, int N,
                                double *a, double *w) {
    int work = 0;
    room r;
    SOLVER(cusolverDnDsyevd_bufferSize(handle, OURS, N, a, N, w, &work));
    DI_TRY(room_take(c, work, 0, 0, &r));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < batch && status == DISTAC_OK; i++) {
        int solved = (int)cusolverDnDsyevd(handle, OURS, N, a + i * N * N, N, w + i * N, r.work, work, r.info);
        status = solved == CUSOLVER_STATUS_SUCCESS ? verdict(c, what, &r) : failed(c, what, solved);
    }
    di_cuda_free(c, r.memory, r.bytes);
    return status;
}

#if CUDART_VERSION >= 13000
/* All at once, which keeps the device busy where one problem does not. *done false: the library does not take so many of
 * such a size, or there is no memory for it; nothing was done. */
static distac_status together(distac_context *c, const char *what, cusolverDnHandle_t handle, int64_t batch, int64_t N,
                              double *a, double *w, bool *done) {
    size_t there = 0, here = 0, infos = rounded((size_t)batch * sizeof(int));
    cusolverDnParams_t params = di_cuda_of(c)->solver->params;
    *done = false;
    if (cusolverDnXsyevBatched_bufferSize(handle, params, OURS, N, CUDA_R_64F, a, N, CUDA_R_64F, w, CUDA_R_64F, &there,
                                          &here, batch) != CUSOLVER_STATUS_SUCCESS)
        return DISTAC_OK;
    here = rounded(here);
    void *memory;
    char *host = di_new(here + infos); /* what the solver uses, then its verdicts */
    if (!host) return DISTAC_ENOMEM;
    int *info = (int *)(void *)(host + here);
    distac_status status = di_cuda_alloc(c, infos + there, &memory);
    *done = status != DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        int solved = (int)cusolverDnXsyevBatched(handle, params, OURS, N, CUDA_R_64F, a, N, CUDA_R_64F, w, CUDA_R_64F,
                                                 (char *)memory + infos, there, host, here, memory, batch);
        status = solved == CUSOLVER_STATUS_SUCCESS ? DISTAC_OK : failed(c, what, solved);
        if (status == DISTAC_OK) status = di_cuda_download(c, info, memory, (size_t)batch * sizeof(int));
        for (int64_t i = 0; status == DISTAC_OK && i < batch; i++)
            if (info[i] != 0)
                status = di_fail_at(DISTAC_ENUMERIC, what, "no convergence (the solver says %d)", info[i]);
        di_cuda_free(c, memory, infos + there);
    }
    free(host);
    return *done ? status : DISTAC_OK;
}
#endif

distac_status di_cuda_eigh(distac_context *c, int64_t batch, int64_t N, double *a, double *w) {
    static const char what[] = "distac_tensor_eigh";
    DI_TRY(di_cuda_begin(c, what));
    DI_TRY(check_size(what, N, N));
    cusolverDnHandle_t handle = NULL;
    DI_TRY(solver_get(c, what, &handle));
#if CUDART_VERSION >= 13000
    bool done = false;
    if (batch > 1) DI_TRY(together(c, what, handle, batch, N, a, w, &done));
    if (done) return DISTAC_OK;
#endif
    return one_by_one(c, what, handle, batch, (int)N, a, w);
}

/* ---- singular values ---- */

static distac_status turn(distac_context *c, const char *what, int64_t rows, int64_t columns, double *to,
                          const double *from) { /* to [columns,rows] = from [rows,columns] turned */
    di_walk walk = {.tensors = 2, .rank = 2, .shape = {columns, rows}, .numel = rows * columns,
                    .stride = {{rows, 1}, {1, columns}}};
    return di_cuda_check(c, what, di_cuda_launch_move(&walk, 8, to, from, di_cuda_of(c)->stream));
}

/* The solver takes matrices with at least as many rows as columns; what lies by rows as [M,N] is one of N rows to it. */
static distac_status svd_in(distac_context *c, const char *what, cusolverDnHandle_t handle, int M, int N, double *a,
                            double *u, double *s, double *vt, int work, const room *r) {
    if (M <= N) {
        SOLVER(cusolverDnDgesvd(handle, 'S', 'S', N, M, a, N, s, vt, N, u, M, r->work, work, NULL, r->info));
        return verdict(c, what, r);
    }
    DI_TRY(turn(c, what, M, N, r->extra, a)); /* by columns: a itself */
    SOLVER(cusolverDnDgesvd(handle, 'S', 'S', M, N, r->extra, M, s, a, M, r->extra_2, N, r->work, work, NULL,
                            r->info));
    DI_TRY(turn(c, what, N, M, u, a));
    DI_TRY(turn(c, what, N, N, vt, r->extra_2));
    return verdict(c, what, r);
}

distac_status di_cuda_svd(distac_context *c, int64_t M, int64_t N, double *a, double *u, double *s, double *vt) {
    static const char what[] = "distac_tensor_svd";
    DI_TRY(di_cuda_begin(c, what));
    DI_TRY(check_size(what, M, N));
    cusolverDnHandle_t handle = NULL;
    DI_TRY(solver_get(c, what, &handle));
    int work = 0, most = (int)(M > N ? M : N), least = (int)(M > N ? N : M);
    room r;
    SOLVER(cusolverDnDgesvd_bufferSize(handle, most, least, &work));
    DI_TRY(room_take(c, work, M > N ? M * N : 0, M > N ? N * N : 0, &r));
    distac_status status = svd_in(c, what, handle, (int)M, (int)N, a, u, s, vt, work, &r);
    di_cuda_free(c, r.memory, r.bytes);
    return status;
}
