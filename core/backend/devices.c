/* devices.c: which devices there are, the tables and the memory that a context computes with on its own, and the
 * module of the CUDA backend, which is loaded when somebody first asks for another device than the CPU. */
#define _GNU_SOURCE 1 /* dladdr */
#include "backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the module ---- */

#define MODULE "libdistac-cuda.so"
enum { PATH_BYTES = PATH_MAX };

/* Once found it stays. A failure does not: what failed for want of memory or of file descriptors may do next time.
 */
static struct {
    pthread_mutex_t lock;
    _Atomic(const di_backend *) backend; /* NULL: none yet */
} cuda = {.lock = PTHREAD_MUTEX_INITIALIZER};

static distac_status host_fail(distac_status code, const char *function, const char *text) {
    return di_fail_at(code, function, "%s", text);
}

static void host_warn(distac_context *context, const char *text) { di_warn(context, "%s", text); }

static const di_host host = {
    .abi = DI_BACKEND_ABI,
    .context_bytes = sizeof(distac_context),
    .kernels_bytes = sizeof(di_kernels),
    .fail = host_fail,
    .charge = di_memory_charge,
    .discharge = di_memory_discharge,
    .warn = host_warn,
    .make = di_new_at,
};

enum { WHY = 512 }; /* room for why there is none */

/* Loads the module from a folder relative to the one that holds this code: the library's, or the program's if the
 * library is linked into it. ENOTFOUND: there is no such file. */
static distac_status load_from(const char *folder, const char *way, char why[WHY]) {
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, way, MODULE);
    if (length < 0 || length >= (int)sizeof path || access(path, R_OK) != 0) return DISTAC_ENOTFOUND;
    errno = 0;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        distac_status status = errno == ENOMEM ? DISTAC_ENOMEM : DISTAC_EDEVICE;
        const char *text = dlerror();
        snprintf(why, WHY, "the CUDA backend cannot be loaded: %.400s", text ? text : "no reason is given");
        return status;
    }
    void *symbol = dlsym(module, "di_backend_module");
    const di_backend *backend = NULL;
    di_backend_module_fn open;
    if (symbol) {
        memcpy(&open, &symbol, sizeof open);
        backend = open(&host);
    }
    if (!backend) {
        dlclose(module);
        snprintf(why, WHY, "%.400s was built for another version of the engine", path);
        return DISTAC_EDEVICE;
    }
    atomic_store_explicit(&cuda.backend, backend, memory_order_release);
    return DISTAC_OK;
}

static distac_status load(char why[WHY]) {
    static const char *const ways[] = {"/", "/../", "/../lib/", "/../../"};
    char folder[PATH_BYTES] = ".";
    Dl_info info;
    if (dladdr(&cuda, &info) && info.dli_fname && realpath(info.dli_fname, folder)) {
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
    }
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        distac_status status = load_from(folder, ways[i], why);
        if (status != DISTAC_ENOTFOUND) return status;
    }
    snprintf(why, WHY, "there is no CUDA backend (%s) beside the engine", MODULE);
    return DISTAC_EDEVICE;
}

static const di_backend *loaded(void) { return atomic_load_explicit(&cuda.backend, memory_order_acquire); }

/* ENOMEM, EDEVICE: it is not loaded(), and why. */
static distac_status find_cuda(char why[WHY]) {
    if (loaded()) return DISTAC_OK;
    pthread_mutex_lock(&cuda.lock);
    distac_status status = loaded() ? DISTAC_OK : load(why);
    pthread_mutex_unlock(&cuda.lock);
    return status;
}

/* ---- listing ---- */

static int32_t cuda_devices(void) {
    char why[WHY];
    int32_t count = find_cuda(why) == DISTAC_OK ? loaded()->device_count() : 0;
    return count > 0 ? count : 0;
}

int32_t distac_device_count(void) { return di_backend_cpu.device_count() + cuda_devices(); }

distac_status distac_device_get_info(int32_t index, distac_device_info *out) {
    DI_REQUIRE(out, "out is NULL");
    int32_t cpus = di_backend_cpu.device_count(), count = cpus + cuda_devices();
    if (index < 0 || index >= count)
        return di_fail(DISTAC_EINVAL, "index is %d, there are devices 0 to %d", index, count - 1);
    if (index < cpus) return di_backend_cpu.device_info(index, out);
    return loaded()->device_info(index - cpus, out);
}

/* The digits after "cuda:", at most 4; -1: something else. */
static int32_t number(const char *text) {
    int32_t value = 0, digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 5; digits++)
        value = 10 * value + (text[digits] - '0');
    return digits > 0 && digits < 5 && text[digits] == 0 ? value : -1;
}

distac_status di_device_find(const char *name, const di_backend **backend, int32_t *index) {
    static const char *const kinds[] = {"cpu", "cuda"};
    *backend = &di_backend_cpu;
    *index = 0;
    if (!name || strcmp(name, "cpu") == 0) return DISTAC_OK;
    const char *function = "distac_context_create";
    bool plain = strcmp(name, "cuda") == 0;
    int32_t wanted = plain ? 0 : strncmp(name, "cuda:", 5) == 0 ? number(name + 5) : -1;
    if (wanted < 0) {
        char word[16];
        snprintf(word, sizeof word, "%.15s", name);
        word[strcspn(word, ":")] = 0;
        const char *near = strcmp(word, "gpu") == 0 ? "cuda" : di_nearest(word, 2, kinds);
        return di_fail_at(DISTAC_EDEVICE, function, "no such device '%.40s': there is 'cpu'%s%s%s", name,
                          near ? "; did you mean '" : ", and 'cuda' or 'cuda:N' on machines with a GPU",
                          near ? near : "", near ? "'?" : "");
    }
    char why[WHY];
    distac_status status = find_cuda(why);
    int32_t count = status == DISTAC_OK ? loaded()->device_count() : 0;
    if (wanted < count) {
        *backend = loaded();
        *index = wanted;
        return DISTAC_OK;
    }
    if (count > 0)
        return di_fail_at(DISTAC_EDEVICE, function,
                          "no such device '%.40s': there is 'cpu' and 'cuda:0' to 'cuda:%d'", name, count - 1);
    if (status == DISTAC_ENOMEM) return di_fail_at(status, function, "%s", why);
    return di_fail_at(DISTAC_EDEVICE, function, "no such device '%.40s': there is 'cpu' (%s)", name,
                      status == DISTAC_OK ? loaded()->why_none() : why);
}

distac_status di_device_attach(distac_context *context, const char *name) {
    const di_backend *backend;
    int32_t index;
    DI_TRY(di_device_find(name, &backend, &index));
    if (backend == &di_backend_cpu || (context->device && strcmp(name, context->device->name) == 0))
        return DISTAC_OK;
    if (!context->device) return backend->open(context, index, "auto", "f32");
    if (strcmp(name, "cuda") == 0) return DISTAC_OK; /* the one that the context has */
    return di_fail_at(DISTAC_EUNSUPPORTED, "distac_tensor_to", "this context uses %s; %.40s needs one of its own",
                      context->device->name, name);
}

/* ---- what a context computes with ---- */

const di_kernels *di_kernels_for(const distac_context *context, int32_t dtype) {
    if (dtype == DISTAC_F32) return context->kernels_f32;
    if (dtype == DISTAC_F64) return context->kernels_f64;
    return NULL;
}

const di_kernels *di_kernels_there(const distac_context *context, int32_t dtype) {
    if (!context->there) return di_kernels_for(context, dtype);
    return dtype == DISTAC_F32 ? context->device->f32 : dtype == DISTAC_F64 ? context->device->f64 : NULL;
}

const di_kernels *di_kernels_for_models(const distac_context *context, int32_t dtype) {
    if (dtype != DISTAC_F32) return di_kernels_there(context, dtype);
    return context->there ? context->device->model : context->kernels_model;
}

const di_kernels *di_kernels_for_encoders(const distac_context *context, int32_t dtype) {
    if (dtype == DISTAC_F32 && context->there && context->device->narrow) return context->device->narrow;
    return di_kernels_for_models(context, dtype);
}

void *di_there_alloc(distac_context *c, size_t bytes) {
    void *memory = NULL;
    if (!c->there) return di_alloc(c, bytes);
    return c->device->alloc(c, bytes, &memory) == DISTAC_OK ? memory : NULL;
}

void di_there_free(distac_context *c, void *memory, size_t bytes) {
    if (memory && c->there)
        c->device->free(c, memory, bytes);
    else
        di_free(c, memory, bytes);
}

distac_status di_there_zero(distac_context *c, void *dst, size_t bytes) {
    if (c->there) return c->device->zero(c, dst, bytes);
    if (bytes) memset(dst, 0, bytes);
    return DISTAC_OK;
}

static distac_status host_copy(void *dst, const void *src, size_t bytes) {
    if (bytes) memcpy(dst, src, bytes);
    return DISTAC_OK;
}

distac_status di_there_copy(distac_context *c, void *dst, const void *src, size_t bytes) {
    return c->there ? c->device->copy(c, dst, src, bytes) : host_copy(dst, src, bytes);
}

distac_status di_there_put(distac_context *c, void *dst, const void *src, size_t bytes) {
    return c->there ? c->device->upload(c, dst, src, bytes) : host_copy(dst, src, bytes);
}

distac_status di_there_get(distac_context *c, void *dst, const void *src, size_t bytes) {
    return c->there ? c->device->download(c, dst, src, bytes) : host_copy(dst, src, bytes);
}
