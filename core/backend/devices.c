/* devices.c: which devices there are, the tables and the memory that a context computes with on its own, and the module
 * of the CUDA backend, which is loaded when somebody first asks for another device than the CPU. */
#define _GNU_SOURCE 1 /* dladdr */
#include "backend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the module ---- */

#define MODULE "libdistac-cuda.so"
enum { PATH_BYTES = 4096 };

static struct {
    const di_backend *backend; /* NULL: there is none, why_not says it */
    char why_not[512];
} cuda;

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

/* Loads the module from a folder relative to the one that holds this code: the library's, or the program's if the
 * library is linked into it. False: there is no such file. */
static bool load_from(const char *folder, const char *way) {
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, way, MODULE);
    if (length < 0 || length >= (int)sizeof path) return false;
    FILE *file = fopen(path, "re");
    if (!file) return false;
    fclose(file);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        snprintf(cuda.why_not, sizeof cuda.why_not, "the CUDA backend cannot be loaded: %.400s", dlerror());
        return true;
    }
    void *symbol = dlsym(module, "di_backend_module");
    di_backend_module_fn open;
    if (symbol) {
        memcpy(&open, &symbol, sizeof open);
        cuda.backend = open(&host);
    }
    if (!cuda.backend)
        snprintf(cuda.why_not, sizeof cuda.why_not, "%.400s was built for another version of the engine", path);
    return true;
}

static void load(void) {
    static const char *const ways[] = {"/", "/../", "/../lib/", "/../../"};
    char folder[PATH_BYTES] = ".";
    Dl_info info;
    if (dladdr(&cuda, &info) && info.dli_fname) {
        char *real = realpath(info.dli_fname, NULL);
        if (real && strlen(real) < sizeof folder) {
            snprintf(folder, sizeof folder, "%.4095s", real);
            char *slash = strrchr(folder, '/');
            if (slash) *slash = 0;
        }
        free(real);
    }
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (load_from(folder, ways[i])) return;
    snprintf(cuda.why_not, sizeof cuda.why_not, "there is no CUDA backend (%s) beside the engine", MODULE);
}

/* NULL: there is none. */
static const di_backend *cuda_backend(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return cuda.backend;
}

/* ---- listing ---- */

static int32_t cuda_devices(void) {
    const di_backend *backend = cuda_backend();
    int32_t count = backend ? backend->device_count() : 0;
    return count > 0 ? count : 0;
}

int32_t distac_device_count(void) { return di_backend_cpu.device_count() + cuda_devices(); }

distac_status distac_device_get_info(int32_t index, distac_device_info *out) {
    DI_REQUIRE(out, "out is NULL");
    int32_t cpus = di_backend_cpu.device_count(), count = cpus + cuda_devices();
    if (index < 0 || index >= count)
        return di_fail(DISTAC_EINVAL, "index is %d, there are devices 0 to %d", index, count - 1);
    if (index < cpus) return di_backend_cpu.device_info(index, out);
    return cuda.backend->device_info(index - cpus, out);
}

/* The digits after "cuda:", at most 4; -1: something else. */
static int32_t number(const char *text) {
    int32_t value = 0, digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 5; digits++) value = 10 * value + (text[digits] - '0');
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
                          near ? "; did you mean '" : ", and 'cuda' or 'cuda:N' on machines with a GPU", near ? near : "",
                          near ? "'?" : "");
    }
    int32_t count = cuda_devices();
    if (wanted < count) {
        *backend = cuda.backend;
        *index = wanted;
        return DISTAC_OK;
    }
    if (count > 0)
        return di_fail_at(DISTAC_EDEVICE, function, "no such device '%.40s': there is 'cpu' and 'cuda:0' to 'cuda:%d'",
                          name, count - 1);
    const char *why = cuda.backend ? cuda.backend->why_none() : cuda.why_not;
    return di_fail_at(DISTAC_EDEVICE, function, "no such device '%.40s': there is 'cpu' (%s)", name, why);
}

distac_status di_device_attach(distac_context *context, const char *name) {
    const di_backend *backend;
    int32_t index;
    DI_TRY(di_device_find(name, &backend, &index));
    if (backend == &di_backend_cpu || (context->device && strcmp(name, context->device->name) == 0)) return DISTAC_OK;
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
