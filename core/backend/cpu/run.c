/* run.c: runs the tiles of a kernel on the context's threads and turns what went wrong into one error. */
#include "cpu.h"

typedef struct job {
    distac_context *context;
    di_cpu_tile tile;
    void *arg;
    atomic_int status;
} job;

static void run_one(void *arg, int64_t index) {
    job *j = arg;
    if (atomic_load_explicit(&j->context->cancel, memory_order_relaxed)) return;
    if (atomic_load_explicit(&j->status, memory_order_relaxed) != DISTAC_OK) return;
    distac_status status = j->tile(j->arg, index);
    if (status != DISTAC_OK) atomic_store_explicit(&j->status, status, memory_order_relaxed);
}

distac_status di_cpu_run(distac_context *context, const char *kernel, int64_t count, di_cpu_tile tile, void *arg) {
    job j = {.context = context, .tile = tile, .arg = arg};
    atomic_init(&j.status, DISTAC_OK);
    if (count > 0) di_parallel(context, count, run_one, &j);
    distac_status status = atomic_load(&j.status);
    if (status == DISTAC_ENOMEM) return di_fail_at(status, kernel, "no memory for a tile's scratch");
    if (status != DISTAC_OK) return di_fail_at(status, kernel, "the matrix product library refused a product");
    return di_poll(context);
}
