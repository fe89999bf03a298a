/* error.c: errors of CUDA and its libraries as errors of the engine. */
#include "cuda.h"

/* After these nothing on the device can be trusted, and CUDA answers every call in this process with them. */
static bool is_lost(int error) {
    switch (error) {
    case 214: /* uncorrectable memory error */
    case 220: case 226: case 227: /* links between devices */
    case 700: /* illegal address */
    case 702: /* launch timed out */
    case 709: /* the context was destroyed */
    case 710: /* assertion */
    case 714: case 715: case 716: case 717: case 718: case 719: /* the program on the device went astray */
    case 721: case 999: return true;
    default: return false;
    }
}

static distac_status tell_lost(const di_cuda *cuda, const char *what) {
    cudaError_t error = (cudaError_t)cuda->lost;
    return di_fail_at(DISTAC_EDEVICE, what, "%s is lost (%s): this process cannot use it any more; the CPU goes on",
                      cuda->device.name, cudaGetErrorString(error));
}

distac_status di_cuda_begin(distac_context *c, const char *what) {
    di_cuda *cuda = di_cuda_of(c);
    if (cuda->lost) return tell_lost(cuda, what);
    if (atomic_load_explicit(&c->cancel, memory_order_relaxed))
        return di_fail_at(DISTAC_ECANCELED, "distac", "cancelled");
    return di_cuda_check(c, what, cudaSetDevice(cuda->index));
}

distac_status di_cuda_check_error(distac_context *c, const char *what, int error) {
    di_cuda *cuda = di_cuda_of(c);
    if (error == 0) return DISTAC_OK;
    (void)cudaGetLastError(); /* told here; the next call begins clean */
    if (is_lost(error)) {
        cuda->lost = error;
        return tell_lost(cuda, what);
    }
    const char *text = cudaGetErrorString((cudaError_t)error);
    if (error == cudaErrorMemoryAllocation)
        return di_fail_at(DISTAC_ENOMEM, what, "%s is out of memory", cuda->device.name);
    return di_fail_at(DISTAC_EDEVICE, what, "%s: %s (CUDA error %d)", cuda->device.name, text, error);
}

distac_status di_cuda_check_blas(distac_context *c, const char *what, int status) {
    if (status == 0) return DISTAC_OK;
    /* The library reports what the device said before as a failure of its own. */
    int error = (int)cudaPeekAtLastError();
    if (error != 0) return di_cuda_check(c, what, error);
    return di_fail_at(status == CUBLAS_STATUS_ALLOC_FAILED ? DISTAC_ENOMEM : DISTAC_EDEVICE, what,
                      "%s: the matrix library says %s", di_cuda_of(c)->device.name,
                      cublasLtGetStatusString((cublasStatus_t)status));
}
