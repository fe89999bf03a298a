/* cuda.h: what the files of the CUDA backend share on the host side: a context's state on its device, and how errors
 * become the engine's. C and C++; private to core/backend/cuda/. */
#ifndef DISTAC_CUDA_H
#define DISTAC_CUDA_H

#include "../backend.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

/* What a context has on its device. */
typedef struct di_cuda {
    di_device device; /* first: context->device points here */
    int index, processors;
    cudaStream_t stream; /* all work of the context, in order */
    cudaStream_t copies; /* sendings beside it; NULL: there was none yet */
    cudaMemPool_t pool;  /* NULL: the device has none, memory comes from cudaMalloc */
    cublasLtHandle_t lt;
    void *workspace;             /* for cuBLASLt, always the same: its sums do not depend on chance */
    void *scratch;               /* di_cuda_scratch */
    size_t scratch_bytes;
    double *sums;                /* [DI_CUDA_SUMS] on the device, and where they are read: pinned */
    double *sums_read;
    struct di_cuda_stage *stage; /* pinned memory between host and device (memory.c) */
    struct di_cuda_plans *plans; /* products that were looked up before (plans.c) */
    struct di_cuda_solver *solver; /* cuSOLVER, made at its first use (solve.c) */
    int lost;                    /* the error after which the device answers nothing; 0: all is well */
} di_cuda;
enum { DI_CUDA_SUMS = 16, DI_CUDA_WORKSPACE = 32 << 20 };

static inline di_cuda *di_cuda_of(distac_context *c) { return (di_cuda *)(void *)c->device; }

/* ---- module.c ---- */
extern const di_host *di_cuda_host;

/* ---- error.c ---- */
/* Makes the context's device this thread's, and fails if it is lost or the work was cancelled. */
distac_status di_cuda_begin(distac_context *c, const char *what);
/* Turns a CUDA error (0 is good) into a status with its text: out of memory is ENOMEM and the device goes on, the rest
 * EDEVICE; what ends the device is remembered. `what` failed. */
distac_status di_cuda_check_error(distac_context *c, const char *what, int error);
#define di_cuda_check(c, what, error) di_cuda_check_error((c), (what), (int)(error)) /* of a call or a launcher */
distac_status di_cuda_check_blas(distac_context *c, const char *what, int status);

/* The state behind c, ready for work; leaves the function with the status if it is not. */
#define DI_CUDA_BEGIN(c, what)                                                                                     \
    di_cuda *cuda = di_cuda_of(c);                                                                                 \
    DI_TRY(di_cuda_begin((c), (what)))
#define DI_CUDA_TRY(c, what, call) DI_TRY(di_cuda_check((c), (what), (int)(call)))

/* ---- memory.c ---- */
distac_status di_cuda_alloc(distac_context *c, size_t bytes, void **out);
void di_cuda_free(distac_context *c, void *memory, size_t bytes);
distac_status di_cuda_zero(distac_context *c, void *dst, size_t bytes);
distac_status di_cuda_copy(distac_context *c, void *dst, const void *src, size_t bytes);
distac_status di_cuda_upload(distac_context *c, void *dst, const void *src, size_t bytes);
distac_status di_cuda_download(distac_context *c, void *dst, const void *src, size_t bytes);
distac_status di_cuda_wait(distac_context *c);
/* Scratch of the stream for one kernel entry: at least so many bytes, valid until the next entry asks. Grows by
 * reallocation: entries that run inside a captured graph ask for the same sizes as outside. */
distac_status di_cuda_scratch(distac_context *c, size_t bytes, void **out);
/* The first n of cuda->sums on the host; waits. */
distac_status di_cuda_read_sums(distac_context *c, int n, double *out);
distac_status di_cuda_memory_open(distac_context *c, di_cuda *cuda);
void di_cuda_memory_close(distac_context *c, di_cuda *cuda);

/* ---- sendings.c ---- */
distac_status di_cuda_sending_make(distac_context *c, size_t bytes, void **sending, void **here);
distac_status di_cuda_sending_start(distac_context *c, void *sending);
distac_status di_cuda_sending_left(distac_context *c, void *sending);
distac_status di_cuda_sending_read(distac_context *c, void *sending, const void **there);
distac_status di_cuda_sending_done(distac_context *c, void *sending);
void di_cuda_sending_free(distac_context *c, void *sending);

/* ---- products.c, plans.c ---- */
void di_cuda_plans_free(di_cuda *cuda);
distac_status di_cuda_products_open(distac_context *c, di_cuda *cuda, const char *products);
void di_cuda_products_close(distac_context *c, di_cuda *cuda);

/* ---- solve.c ---- */
distac_status di_cuda_svd(distac_context *c, int64_t M, int64_t N, double *a, double *u, double *s, double *vt);
distac_status di_cuda_eigh(distac_context *c, int64_t batch, int64_t N, double *a, double *w);
void di_cuda_solver_close(di_cuda *cuda);

/* ---- arrays.c ---- */
extern const di_arrays di_cuda_arrays;

/* ---- merges.c ---- */
extern const di_merges di_cuda_merges;

/* ---- graph.c ---- */
distac_status di_cuda_record_begin(distac_context *c);
distac_status di_cuda_record_end(distac_context *c, bool keep, void **recording);
bool di_cuda_recording_holds(distac_context *c, const void *recording);
distac_status di_cuda_replay(distac_context *c, const void *recording);
void di_cuda_recording_free(distac_context *c, void *recording);

/* ---- table.c ---- */
extern const di_kernels di_cuda_kernels_f32, di_cuda_kernels_f64, di_cuda_kernels_model_f32,
    di_cuda_kernels_narrow;

#endif
