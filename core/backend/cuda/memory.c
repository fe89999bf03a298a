/* memory.c: memory on the device in the order of the stream, and what goes between it and the host. */
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

/* ---- allocation ---- */

static cudaError_t raw_alloc(di_cuda *cuda, void **out, size_t bytes) {
    if (cuda->pool) return cudaMallocFromPoolAsync(out, bytes, cuda->pool, cuda->stream);
    return cudaMalloc(out, bytes);
}

static void raw_free(di_cuda *cuda, void *memory) {
    if (!memory || cuda->lost) return; /* the memory went with the device */
    if (cuda->pool && cudaFreeAsync(memory, cuda->stream) == cudaSuccess) return;
    (void)cudaStreamSynchronize(cuda->stream);
    (void)cudaFree(memory); /* which frees what pools gave, too */
    (void)cudaGetLastError();
}

distac_status di_cuda_alloc(distac_context *c, size_t bytes, void **out) {
    *out = NULL;
    DI_CUDA_BEGIN(c, "memory");
    if (!di_cuda_host->charge(c, bytes)) return DISTAC_ENOMEM;
    size_t wanted = bytes ? bytes : 1;
    cudaError_t error = raw_alloc(cuda, out, wanted);
    if (error == cudaErrorMemoryAllocation) { /* what the pool keeps for later is given back first */
        (void)cudaGetLastError();
        error = cudaStreamSynchronize(cuda->stream);
        if (error == cudaSuccess && cuda->pool) error = cudaMemPoolTrimTo(cuda->pool, 0);
        if (error == cudaSuccess) error = raw_alloc(cuda, out, wanted);
    }
    if (error == cudaSuccess) return DISTAC_OK;
    di_cuda_host->discharge(c, bytes);
    *out = NULL;
    if (error != cudaErrorMemoryAllocation) return di_cuda_check(c, "memory", error);
    (void)cudaGetLastError();
    size_t left = 0, all = 0;
    if (cudaMemGetInfo(&left, &all) != cudaSuccess) (void)cudaGetLastError();
    return di_fail_at(DISTAC_ENOMEM, "memory", "%s has no %zu bytes left: %zu of %zu are free", cuda->device.name,
                      bytes, left, all);
}

void di_cuda_free(distac_context *c, void *memory, size_t bytes) {
    di_cuda *cuda = di_cuda_of(c);
    if (!memory) return;
    (void)cudaSetDevice(cuda->index);
    raw_free(cuda, memory);
    di_cuda_host->discharge(c, bytes);
}

distac_status di_cuda_scratch(distac_context *c, size_t bytes, void **out) {
    di_cuda *cuda = di_cuda_of(c);
    *out = cuda->scratch;
    if (bytes <= cuda->scratch_bytes) return DISTAC_OK;
    size_t wanted = (bytes + (1 << 20) - 1) >> 20 << 20;
    void *memory;
    DI_TRY(di_cuda_alloc(c, wanted, &memory));
    di_cuda_free(c, cuda->scratch, cuda->scratch_bytes);
    cuda->scratch = *out = memory;
    cuda->scratch_bytes = wanted;
    return DISTAC_OK;
}

/* ---- filling and copying ---- */

distac_status di_cuda_zero(distac_context *c, void *dst, size_t bytes) {
    DI_CUDA_BEGIN(c, "memory");
    if (bytes == 0) return DISTAC_OK;
    return di_cuda_check(c, "memory", cudaMemsetAsync(dst, 0, bytes, cuda->stream));
}

distac_status di_cuda_copy(distac_context *c, void *dst, const void *src, size_t bytes) {
    DI_CUDA_BEGIN(c, "memory");
    if (bytes == 0) return DISTAC_OK;
    return di_cuda_check(c, "memory", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda->stream));
}

/* Copies of pageable memory crawl, as the driver moves them through a small buffer of its own. Big ones go through two
 * pinned buffers here: while one travels, the other is filled or emptied. */
enum { PIECE = 8 << 20, SMALL = 256 << 10 };
struct di_cuda_stage {
    char *buffer[2];
    cudaEvent_t travelled[2];
};

static distac_status stage_get(distac_context *c, struct di_cuda_stage **out) {
    di_cuda *cuda = di_cuda_of(c);
    if (!cuda->stage) {
        cuda->stage = di_new(sizeof *cuda->stage);
        if (!cuda->stage) return DISTAC_ENOMEM;
    }
    struct di_cuda_stage *s = cuda->stage;
    for (int i = 0; i < 2; i++) {
        if (!s->buffer[i])
            DI_CUDA_TRY(c, "memory", cudaHostAlloc((void **)&s->buffer[i], PIECE, cudaHostAllocDefault));
        if (!s->travelled[i])
            DI_CUDA_TRY(c, "memory", cudaEventCreateWithFlags(&s->travelled[i], cudaEventDisableTiming));
    }
    *out = s;
    return DISTAC_OK;
}

distac_status di_cuda_upload(distac_context *c, void *dst, const void *src, size_t bytes) {
    DI_CUDA_BEGIN(c, "upload");
    if (bytes == 0) return DISTAC_OK;
    if (bytes <= SMALL)
        return di_cuda_check(c, "upload", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, cuda->stream));
    struct di_cuda_stage *s;
    DI_TRY(stage_get(c, &s));
    for (size_t at = 0, turn = 0; at < bytes; at += PIECE, turn ^= 1) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        DI_TRY(di_poll(c));
        DI_CUDA_TRY(c, "upload", cudaEventSynchronize(s->travelled[turn]));
        memcpy(s->buffer[turn], (const char *)src + at, n);
        DI_CUDA_TRY(c, "upload", cudaMemcpyAsync((char *)dst + at, s->buffer[turn], n, cudaMemcpyHostToDevice,
                                                 cuda->stream));
        DI_CUDA_TRY(c, "upload", cudaEventRecord(s->travelled[turn], cuda->stream));
    }
    return DISTAC_OK;
}

distac_status di_cuda_download(distac_context *c, void *dst, const void *src, size_t bytes) {
    DI_CUDA_BEGIN(c, "download");
    if (bytes == 0) return DISTAC_OK;
    if (bytes <= SMALL) {
        DI_CUDA_TRY(c, "download", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, cuda->stream));
        return di_cuda_check(c, "download", cudaStreamSynchronize(cuda->stream));
    }
    struct di_cuda_stage *s;
    DI_TRY(stage_get(c, &s));
    size_t pieces = (bytes + PIECE - 1) / PIECE;
    for (size_t i = 0; i <= pieces; i++) { /* piece i sets out while piece i - 1 is read */
        if (i < pieces) {
            size_t n = i + 1 < pieces ? PIECE : bytes - i * PIECE;
            DI_CUDA_TRY(c, "download", cudaMemcpyAsync(s->buffer[i & 1], (const char *)src + i * PIECE, n,
                                                       cudaMemcpyDeviceToHost, cuda->stream));
            DI_CUDA_TRY(c, "download", cudaEventRecord(s->travelled[i & 1], cuda->stream));
        }
        if (i == 0) continue;
        size_t n = i < pieces ? PIECE : bytes - (i - 1) * PIECE;
        DI_CUDA_TRY(c, "download", cudaEventSynchronize(s->travelled[(i - 1) & 1]));
        memcpy((char *)dst + (i - 1) * PIECE, s->buffer[(i - 1) & 1], n);
    }
    return DISTAC_OK;
}

distac_status di_cuda_wait(distac_context *c) {
    DI_CUDA_BEGIN(c, "device");
    return di_cuda_check(c, "device", cudaStreamSynchronize(cuda->stream));
}

distac_status di_cuda_read_sums(distac_context *c, int n, double *out) {
    di_cuda *cuda = di_cuda_of(c);
    size_t bytes = (size_t)n * sizeof *out;
    DI_CUDA_TRY(c, "sums", cudaMemcpyAsync(cuda->sums_read, cuda->sums, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    DI_CUDA_TRY(c, "sums", cudaStreamSynchronize(cuda->stream));
    memcpy(out, cuda->sums_read, bytes);
    return DISTAC_OK;
}

/* ---- with the context ---- */

distac_status di_cuda_memory_open(distac_context *c, di_cuda *cuda) {
    static const char what[] = "distac_context_create";
    int pools = 0;
    DI_CUDA_TRY(c, what, cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, cuda->index));
    if (pools) {
        struct cudaMemPoolProps props = {.allocType = cudaMemAllocationTypePinned,
                                         .location = {.type = cudaMemLocationTypeDevice, .id = cuda->index}};
        uint64_t keep = UINT64_MAX; /* freed memory stays for the next step */
        DI_CUDA_TRY(c, what, cudaMemPoolCreate(&cuda->pool, &props));
        DI_CUDA_TRY(c, what, cudaMemPoolSetAttribute(cuda->pool, cudaMemPoolAttrReleaseThreshold, &keep));
    }
    DI_TRY(di_cuda_alloc(c, DI_CUDA_SUMS * sizeof(double), (void **)&cuda->sums));
    return di_cuda_check(c, what, cudaHostAlloc((void **)&cuda->sums_read, DI_CUDA_SUMS * sizeof(double),
                                                cudaHostAllocDefault));
}

void di_cuda_memory_close(distac_context *c, di_cuda *cuda) {
    di_cuda_free(c, cuda->scratch, cuda->scratch_bytes);
    di_cuda_free(c, cuda->sums, DI_CUDA_SUMS * sizeof(double));
    if (cuda->sums_read) (void)cudaFreeHost(cuda->sums_read);
    for (int i = 0; cuda->stage && i < 2; i++) {
        if (cuda->stage->buffer[i]) (void)cudaFreeHost(cuda->stage->buffer[i]);
        if (cuda->stage->travelled[i]) (void)cudaEventDestroy(cuda->stage->travelled[i]);
    }
    free(cuda->stage);
    if (cuda->stream) (void)cudaStreamSynchronize(cuda->stream);
    if (cuda->pool) (void)cudaMemPoolDestroy(cuda->pool);
}
