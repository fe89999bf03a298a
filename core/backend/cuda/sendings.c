/* sendings.c: what sets out for the device while it computes: each sending has pinned memory on the host, memory of the
 * same size on the device, and travels on a stream of its own; events keep it and the work that reads it apart. */
#include "cuda.h"

#include <stdlib.h>

typedef struct sending {
    void *there, *here;
    size_t bytes;
    cudaEvent_t arrived, used; /* on the stream of copies; on that of work, after what read the last one */
} sending;

void di_cuda_sending_free(distac_context *c, void *what) {
    di_cuda *cuda = di_cuda_of(c);
    sending *s = what;
    if (!s) return;
    (void)cudaSetDevice(cuda->index);
    if (cuda->copies) (void)cudaStreamSynchronize(cuda->copies);
    if (s->arrived) (void)cudaEventDestroy(s->arrived);
    if (s->used) (void)cudaEventDestroy(s->used);
    di_cuda_free(c, s->there, s->bytes); /* after the work that reads it, which was given before */
    if (s->here) {
        (void)cudaFreeHost(s->here);
        di_cuda_host->discharge(c, s->bytes);
    }
    (void)cudaGetLastError();
    free(s);
}

static distac_status make_parts(distac_context *c, sending *s) {
    static const char what[] = "memory";
    DI_CUDA_BEGIN(c, what);
    if (!cuda->copies) DI_CUDA_TRY(c, what, cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking));
    DI_TRY(di_cuda_alloc(c, s->bytes, &s->there));
    if (!di_cuda_host->charge(c, s->bytes)) return DISTAC_ENOMEM;
    distac_status status = di_cuda_check(c, what, cudaHostAlloc(&s->here, s->bytes, cudaHostAllocDefault));
    if (status != DISTAC_OK) {
        s->here = NULL;
        di_cuda_host->discharge(c, s->bytes);
        return status;
    }
    DI_CUDA_TRY(c, what, cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming));
    DI_CUDA_TRY(c, what, cudaEventCreateWithFlags(&s->used, cudaEventDisableTiming));
    return di_cuda_check(c, what, cudaEventRecord(s->used, cuda->stream)); /* the memory is there by then */
}

distac_status di_cuda_sending_make(distac_context *c, size_t bytes, void **out, void **here) {
    *out = *here = NULL;
    sending *s = di_new(sizeof *s);
    if (!s) return DISTAC_ENOMEM;
    s->bytes = bytes;
    distac_status status = make_parts(c, s);
    if (status != DISTAC_OK) {
        di_cuda_sending_free(c, s);
        return status;
    }
    *out = s;
    *here = s->here;
    return DISTAC_OK;
}

distac_status di_cuda_sending_start(distac_context *c, void *what) {
    sending *s = what;
    DI_CUDA_BEGIN(c, "upload");
    DI_CUDA_TRY(c, "upload", cudaStreamWaitEvent(cuda->copies, s->used, 0));
    DI_CUDA_TRY(c, "upload", cudaMemcpyAsync(s->there, s->here, s->bytes, cudaMemcpyHostToDevice, cuda->copies));
    cudaError_t error = cudaEventRecord(s->arrived, cuda->copies);
    if (error != cudaSuccess) (void)cudaStreamSynchronize(cuda->copies); /* nobody could wait for it */
    return di_cuda_check(c, "upload", error);
}

distac_status di_cuda_sending_left(distac_context *c, void *what) {
    DI_TRY(di_cuda_begin(c, "upload"));
    return di_cuda_check(c, "upload", cudaEventSynchronize(((sending *)what)->arrived));
}

distac_status di_cuda_sending_read(distac_context *c, void *what, const void **there) {
    sending *s = what;
    DI_CUDA_BEGIN(c, "upload");
    *there = s->there;
    return di_cuda_check(c, "upload", cudaStreamWaitEvent(cuda->stream, s->arrived, 0));
}

distac_status di_cuda_sending_done(distac_context *c, void *what) {
    DI_CUDA_BEGIN(c, "upload");
    return di_cuda_check(c, "upload", cudaEventRecord(((sending *)what)->used, cuda->stream));
}
