/* module.c: the backend as the engine sees it: its entry point, the devices it lists, and a context's life on one. */
#include "cuda.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const di_host *di_cuda_host;

/* ---- what the sources use of the engine, done by what it handed over ---- */

distac_status di_fail_at(distac_status code, const char *function, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return di_cuda_host->fail(code, function, text);
}

void *di_new_at(const char *function, size_t bytes) { return di_cuda_host->make(function, bytes); }

distac_status di_poll(distac_context *c) {
    if (!atomic_load_explicit(&c->cancel, memory_order_relaxed)) return DISTAC_OK;
    return di_fail_at(DISTAC_ECANCELED, "distac", "cancelled");
}

/* ---- devices ---- */

enum { MOST_DEVICES = 16, OLDEST = 8 /* compute capability: what the kernels are compiled for */ };

static struct {
    int32_t count;
    int index[MOST_DEVICES]; /* CUDA's */
    struct {
        char name[16], text[128];
        int64_t memory;
        int32_t units;
    } list[MOST_DEVICES];
    char why_none[256];
} found;

/* Devices that cannot run the kernels are left out, so numbers count those that can. */
static void look(void) {
    int count = 0, old = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        if (error == cudaErrorInsufficientDriver)
            snprintf(found.why_none, sizeof found.why_none, "no CUDA device: the driver was not found or is too old");
        else if (error == cudaErrorNoDevice)
            snprintf(found.why_none, sizeof found.why_none, "no CUDA device: the driver finds none");
        else
            snprintf(found.why_none, sizeof found.why_none, "no CUDA device: %.150s (CUDA error %d)",
                     cudaGetErrorString(error), (int)error);
        return;
    }
    for (int i = 0; i < count && found.count < MOST_DEVICES; i++) {
        struct cudaDeviceProp p;
        if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
        if (p.major < OLDEST) {
            old++;
            continue;
        }
        int32_t k = found.count++;
        found.index[k] = i;
        snprintf(found.list[k].name, sizeof found.list[k].name, "cuda:%d", (int)k);
        snprintf(found.list[k].text, sizeof found.list[k].text, "%.80s, compute capability %d.%d", p.name, p.major,
                 p.minor);
        found.list[k].memory = (int64_t)p.totalGlobalMem;
        found.list[k].units = (int32_t)p.multiProcessorCount;
    }
    if (old)
        snprintf(found.why_none, sizeof found.why_none,
                 "no CUDA device: the %d there are have a compute capability below %d.0", old, OLDEST);
    else
        snprintf(found.why_none, sizeof found.why_none, "no CUDA device: the driver lists none");
}

static int32_t device_count(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, look);
    return found.count;
}

static const char *why_none(void) {
    device_count();
    return found.why_none;
}

static distac_status device_info(int32_t index, distac_device_info *out) {
    if (index < 0 || index >= device_count())
        return di_fail(DISTAC_EINVAL, "CUDA device %d wanted, there are %d", (int)index, (int)device_count());
    memset(out, 0, sizeof *out);
    out->name = found.list[index].name;
    out->text = found.list[index].text;
    out->memory = found.list[index].memory;
    out->units = found.list[index].units;
    return DISTAC_OK;
}

/* ---- a context's life ---- */

static void close_device(distac_context *c) {
    di_cuda *cuda = di_cuda_of(c);
    cudaSetDevice(cuda->index);
    if (cuda->stream) cudaStreamSynchronize(cuda->stream);
    di_cuda_solver_close(cuda);
    di_cuda_products_close(c, cuda);
    di_cuda_memory_close(c, cuda);
    if (cuda->copies) cudaStreamDestroy(cuda->copies);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    (void)cudaGetLastError();
    c->device = NULL;
    free(cuda);
}

static distac_status open_parts(distac_context *c, const char *products) {
    DI_CUDA_BEGIN(c, "distac_context_create");
    DI_CUDA_TRY(c, "distac_context_create", cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    DI_CUDA_TRY(c, "distac_context_create",
                cudaDeviceGetAttribute(&cuda->processors, cudaDevAttrMultiProcessorCount, cuda->index));
    DI_TRY(di_cuda_memory_open(c, cuda));
    return di_cuda_products_open(c, cuda, products);
}

static distac_status open_device(distac_context *c, int32_t index, const char *kernels, const char *products) {
    (void)kernels; /* the CPU's */
    if (index < 0 || index >= device_count())
        return di_fail(DISTAC_EDEVICE, "CUDA device %d wanted, there are %d", (int)index, (int)device_count());
    di_cuda *cuda = di_new(sizeof *cuda);
    if (!cuda) return DISTAC_ENOMEM;
    cuda->index = found.index[index];
    cuda->device = (di_device){
        .f32 = &di_cuda_kernels_f32,
        .f64 = &di_cuda_kernels_f64,
        .model = &di_cuda_kernels_model_f32,
        .arrays = &di_cuda_arrays,
        .merges = &di_cuda_merges,
        .alloc = di_cuda_alloc,
        .free = di_cuda_free,
        .zero = di_cuda_zero,
        .copy = di_cuda_copy,
        .upload = di_cuda_upload,
        .download = di_cuda_download,
        .wait = di_cuda_wait,
        .sending_make = di_cuda_sending_make,
        .sending_start = di_cuda_sending_start,
        .sending_left = di_cuda_sending_left,
        .sending_read = di_cuda_sending_read,
        .sending_done = di_cuda_sending_done,
        .sending_free = di_cuda_sending_free,
        .record_begin = di_cuda_record_begin,
        .record_end = di_cuda_record_end,
        .recording_holds = di_cuda_recording_holds,
        .replay = di_cuda_replay,
        .recording_free = di_cuda_recording_free,
        .close = close_device,
    };
    memcpy(cuda->device.name, found.list[index].name, sizeof cuda->device.name);
    c->device = &cuda->device;
    distac_status status = open_parts(c, products);
    if (status != DISTAC_OK) close_device(c);
    return status;
}

static const di_backend backend = {"cuda", device_count, device_info, open_device, why_none};

__attribute__((visibility("default"))) const di_backend *di_backend_module(const di_host *host);

const di_backend *di_backend_module(const di_host *host) {
    if (host->abi != DI_BACKEND_ABI || host->context_bytes != sizeof(distac_context) ||
        host->kernels_bytes != sizeof(di_kernels))
        return NULL;
    di_cuda_host = host;
    return &backend;
}
