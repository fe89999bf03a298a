/* lapack.c: loads the matrix libraries (lapack.h), keeps them to one thread, and makes their buffers. */
#define _GNU_SOURCE 1 /* MAP_ANONYMOUS */
#include "lapack.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

di_lapack_table di_lapack;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *blas; /* loaded, and never unloaded */

static distac_status no_room(size_t bytes) {
    return di_fail_at(DISTAC_ENOMEM, "distac_context_create",
                      "out of memory: no room for the %zu MiB of addresses of the matrix library's buffers",
                      bytes >> 20);
}

/* OpenBLAS tries for ever to map what it wants. So it is looked first whether there is room: address space only,
 * pages come with their use. */
static bool has_room(size_t bytes) {
    void *room = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return false;
    munmap(room, bytes);
    return true;
}
static const size_t buffer_bytes = (size_t)128 << 20, stack_bytes = (size_t)8 << 20;

static distac_status load_failed(void) {
    distac_status status = errno == ENOMEM ? DISTAC_ENOMEM : DISTAC_EUNSUPPORTED;
    const char *text = dlerror();
    return di_fail_at(status, "distac_context_create", "the matrix library: %s", text ? text : "not found");
}

/* OpenBLAS starts its threads as it is loaded: each has a stack and a buffer. */
static distac_status load(void) {
    enum { MOST_THREADS = 64 };
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = processors < 1 ? 1 : processors > MOST_THREADS ? MOST_THREADS : (size_t)processors;
    if (!has_room(threads * (buffer_bytes + stack_bytes))) return no_room(threads * (buffer_bytes + stack_bytes));
    (void)dlerror();
    errno = 0;
    di_lapack_table table;
    void *library = dlopen(DISTAC_OPENBLAS, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    void *first = library, *second = NULL;
    void *symbol = library;
#define DI_FIND(name)                                                                                             \
    if (symbol) symbol = dlsym(library, #name);                                                                   \
    if (symbol) memcpy(&table.name##_at, &symbol, sizeof symbol);
    DI_BLAS(DI_FIND)
    if (symbol) symbol = second = library = dlopen(DISTAC_LAPACKE, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    DI_LAPACK(DI_FIND)
#undef DI_FIND
    if (!symbol) {
        distac_status status = load_failed();
        if (second) dlclose(second);
        if (first) dlclose(first);
        return status;
    }
    dlclose(second); /* they stay in memory */
    di_lapack = table;
    blas = first;
    return DISTAC_OK;
}

static void one_thread(void) {
    /* OpenBLAS keeps its number of threads for the whole process, its own threads would fight with ours, and its
     * sums would depend on their number. Only OpenBLAS has this function; other BLASes are left alone. */
    void *symbol = dlsym(blas, "openblas_set_num_threads");
    void (*set)(int);
    if (!symbol) return;
    memcpy(&set, &symbol, sizeof set);
    set(1);
}

distac_status di_lapack_ready(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
    return DISTAC_OK;
}

/* A product inside OpenBLAS takes a buffer of the process, mapped when the first one needs it. What is freed stays
 * with OpenBLAS for the next product. */
static distac_status make_buffers(int32_t threads) {
    enum { MOST = 16 };
    static int32_t made;
    void *symbols[2] = {dlsym(blas, "blas_memory_alloc"), dlsym(blas, "blas_memory_free")}, *buffers[MOST];
    void *(*allocate)(int);
    void (*release)(void *);
    if (!symbols[0] || !symbols[1]) return DISTAC_OK; /* another library */
    memcpy(&allocate, &symbols[0], sizeof allocate);
    memcpy(&release, &symbols[1], sizeof release);
    if (threads > MOST) threads = MOST;
    if (threads <= made) return DISTAC_OK;
    if (!has_room((size_t)threads * buffer_bytes)) return no_room((size_t)threads * buffer_bytes);
    for (int32_t i = 0; i < threads; i++) buffers[i] = allocate(0);
    for (int32_t i = 0; i < threads; i++) release(buffers[i]);
    made = threads;
    return DISTAC_OK;
}

distac_status di_lapack_open(int32_t threads) {
    pthread_mutex_lock(&lock);
    distac_status status = blas ? DISTAC_OK : load();
    if (status == DISTAC_OK) status = make_buffers(threads);
    pthread_mutex_unlock(&lock);
    return status;
}
