/* context.c: the context: its options, its life, cancelling, and the list of devices. */
#define _GNU_SOURCE 1 /* CPU sets */
#include "../backend/backend.h"
#include "../tensor/lapack.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 1024 };

/* Processors this process may use: what a container or taskset allows, not what the machine has. */
static int32_t processors(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    if (count <= 0) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (count <= 0) count = 1;
    return count < THREADS_MAX ? count : THREADS_MAX;
}

static distac_status check_threads(const char *function, int32_t threads) {
    if (threads >= 0 && threads <= THREADS_MAX) return DISTAC_OK;
    return di_fail_at(DISTAC_EINVAL, function, "threads is %d, wanted 0 (one per core) to %d", threads,
                      THREADS_MAX);
}

static distac_status check_limit(const char *function, int64_t bytes) {
    if (bytes >= 0) return DISTAC_OK;
    return di_fail_at(DISTAC_EINVAL, function, "memory limit is %lld bytes, wanted 0 (none) or more",
                      (long long)bytes);
}

static void destroy(distac_context *context) {
    if (context->device) context->device->close(context);
    di_pool_destroy(context->pool);
    di_cache_destroy(context->cache);
    di_events_destroy(context->events);
    free(context);
}

distac_status distac_context_create(const distac_context_desc *desc, distac_context **out) {
    static const distac_context_desc defaults = {0};
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    if (!desc) desc = &defaults;
    int32_t index = 0;
    const di_backend *backend = NULL;
    DI_TRY(check_threads(__func__, desc->threads));
    DI_TRY(check_limit(__func__, desc->memory_limit));
    DI_TRY(di_device_find(desc->device, &backend, &index));

    distac_context *context = di_new(sizeof *context);
    if (!context) return DISTAC_ENOMEM;
    atomic_init(&context->refs, 1);
    atomic_init(&context->cancel, 0);
    atomic_init(&context->memory_limit, desc->memory_limit);
    atomic_init(&context->memory_used, 0);
    atomic_init(&context->memory_peak, 0);
    context->threads = desc->threads ? desc->threads : processors();
    context->seed = desc->seed;
    context->pool = di_pool_create();
    context->cache = di_cache_create();
    context->events = di_events_create();
    distac_status status = DISTAC_ENOMEM; /* whoever could not be made has set the text */
    const char *kernels = desc->kernels ? desc->kernels : "auto";
    const char *products = desc->products ? desc->products : "f32";
    /* Every context has the CPU; products are the device's own, if it has one. */
    bool cpu = backend == &di_backend_cpu;
    if (context->pool && context->cache && context->events)
        status = di_backend_cpu.open(context, cpu ? index : 0, kernels, cpu ? products : "f32");
    if (status == DISTAC_OK) status = di_lapack_open(context->threads);
    if (status == DISTAC_OK && !cpu) status = backend->open(context, index, kernels, products);
    context->there = status == DISTAC_OK && !cpu;
    if (status != DISTAC_OK) {
        destroy(context);
        return status;
    }
    *out = context;
    return DISTAC_OK;
}

void di_context_retain(distac_context *context) {
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
}

void distac_context_release(distac_context *context) {
    if (context && atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) == 1) destroy(context);
}

distac_status distac_context_get_info(distac_context *context, distac_context_info *out) {
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = (distac_context_info){
        .threads = context->threads,
        .memory_limit = atomic_load(&context->memory_limit),
        .memory_used = atomic_load(&context->memory_used),
        .memory_peak = atomic_load(&context->memory_peak),
        .seed = context->seed,
        .device = context->there ? context->device->name : "cpu",
        .kernels = context->isa ? context->isa : "scalar",
        .products = context->there ? context->device->products : context->products,
    };
    return DISTAC_OK;
}

distac_status distac_context_reset_peak(distac_context *context) {
    DI_REQUIRE(context, "context is NULL");
    atomic_store(&context->memory_peak, atomic_load(&context->memory_used));
    return DISTAC_OK;
}

distac_status distac_context_set_threads(distac_context *context, int32_t threads) {
    DI_REQUIRE(context, "context is NULL");
    DI_TRY(check_threads(__func__, threads));
    if (threads == 0) threads = processors();
    DI_TRY(di_lapack_open(threads));
    if (threads != context->threads) di_pool_stop(context->pool); /* started again, in its new size, when needed */
    context->threads = threads;
    return DISTAC_OK;
}

distac_status distac_context_set_memory_limit(distac_context *context, int64_t bytes) {
    DI_REQUIRE(context, "context is NULL");
    DI_TRY(check_limit(__func__, bytes));
    atomic_store(&context->memory_limit, bytes);
    if (bytes > 0) di_cache_trim(context->cache, 0);
    return DISTAC_OK;
}

void distac_cancel(distac_context *context) {
    if (context) atomic_store(&context->cancel, 1);
}

void distac_cancel_clear(distac_context *context) {
    if (context) atomic_store(&context->cancel, 0);
}

int32_t distac_cancelled(distac_context *context) { return context ? atomic_load(&context->cancel) : 0; }

distac_status di_poll(distac_context *context) {
    if (!atomic_load_explicit(&context->cancel, memory_order_relaxed)) return DISTAC_OK;
    return di_fail_at(DISTAC_ECANCELED, "distac", "cancelled");
}
