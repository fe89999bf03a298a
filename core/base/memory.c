/* memory.c: memory of tensors and workspaces: aligned, counted against the context's limit, and kept for reuse.
 *
 * The first touch of a fresh page costs about ten times its later use, and a training step asks for the same
 * sizes again and again. So big blocks go to a cache when they are freed, and come from it when one of the same
 * capacity is wanted. Capacities are rounded up so that sizes which differ little share blocks; they follow from
 * the size alone, so di_free needs to be told no more than the size. */
#include "base.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* Under AddressSanitizer every block is the library's own, exactly as long as asked for, so that an access past
 * its end or after its life is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define EXACT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXACT 1
#endif
#endif
#ifndef EXACT
#define EXACT 0
#endif

enum { ALIGNMENT = 64, CACHE_BLOCKS = 64 };
#define CACHE_FROM ((size_t)64 << 10)  /* smaller blocks are libc's business */
#define CACHE_BYTES ((size_t)512 << 20) /* held at most */
/* No machine has more; beyond, sums of sizes could pass the range (and AddressSanitizer ends the process). */
#define MOST ((size_t)1 << (EXACT ? 39 : 47))

struct di_cache {
    pthread_mutex_t lock;
    pid_t pid; /* whose lock it is */
    distac_allocator host; /* where blocks come from; without functions: the system */
    int count;
    size_t bytes;
    struct {
        void *memory;
        size_t capacity;
    } block[CACHE_BLOCKS]; /* oldest first */
};

/* ---- blocks from the system ---- */

/* Bytes behind a request: a multiple of 64, from CACHE_FROM on of an eighth of the power of two below (at most
 * 12.5 % more), from 2 MiB on of whole huge pages. 0: too large. */
static size_t capacity_of(size_t bytes) {
    size_t unit = ALIGNMENT;
    if (!EXACT && bytes >= CACHE_FROM) {
        unit = CACHE_FROM / 8;
        while (unit < bytes / 16) unit *= 2;
        if (bytes >= HUGE_PAGE && unit < HUGE_PAGE) unit = HUGE_PAGE;
    }
    if (bytes > MOST) return 0;
    return bytes == 0 ? unit : (bytes + unit - 1) / unit * unit;
}

/* *zeroed tells that the pages are fresh, so zero without being touched. */
static void *system_alloc(const di_cache *cache, size_t capacity, bool *zeroed) {
    *zeroed = false;
    if (cache->host.allocate) return cache->host.allocate(cache->host.user, capacity, ALIGNMENT);
    if (EXACT || capacity < HUGE_PAGE) return aligned_alloc(ALIGNMENT, capacity);
    /* Huge pages need their alignment: one more is mapped, and what juts out on both sides is given back. */
    size_t mapped = capacity + HUGE_PAGE;
    char *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
    size_t after = mapped - before - capacity;
    if (before) munmap(start, before);
    if (after) munmap(start + before + capacity, after);
    madvise(start + before, capacity, MADV_HUGEPAGE); /* advice only: a kernel without it says EINVAL */
    *zeroed = true;
    return start + before;
}

static void system_free(const di_cache *cache, void *memory, size_t capacity) {
    if (cache->host.allocate)
        cache->host.release(cache->host.user, memory, capacity, ALIGNMENT);
    else if (EXACT || capacity < HUGE_PAGE)
        free(memory);
    else
        munmap(memory, capacity);
}

/* ---- cache ---- */

di_cache *di_cache_create(void) {
    di_cache *cache = di_new(sizeof *cache);
    if (!cache) return NULL;
    if (pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        di_fail_at(DISTAC_ENOMEM, "memory", "cannot make a lock");
        return NULL;
    }
    cache->pid = getpid();
    return cache;
}

/* A thread that reads ahead may have held the lock while another one forked. The child, which has one thread,
 * begins with an empty cache and a lock of its own; what the blocks hold is lost to it. */
static void cache_lock(di_cache *cache) {
    pid_t pid = getpid();
    if (cache->pid != pid) {
        pthread_mutex_init(&cache->lock, NULL);
        cache->count = 0;
        cache->bytes = 0;
        cache->pid = pid;
    }
    pthread_mutex_lock(&cache->lock);
}

static void drop_oldest(di_cache *cache) {
    system_free(cache, cache->block[0].memory, cache->block[0].capacity);
    cache->bytes -= cache->block[0].capacity;
    cache->count--;
    memmove(&cache->block[0], &cache->block[1], (size_t)cache->count * sizeof cache->block[0]);
}

void di_cache_trim(di_cache *cache, size_t keep) {
    cache_lock(cache);
    while (cache->count > 0 && cache->bytes > keep) drop_oldest(cache);
    pthread_mutex_unlock(&cache->lock);
}

void di_cache_destroy(di_cache *cache) {
    if (!cache) return;
    di_cache_trim(cache, 0);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static void *cache_take(di_cache *cache, size_t capacity) {
    void *memory = NULL;
    cache_lock(cache);
    for (int i = cache->count - 1; i >= 0 && !memory; i--) { /* the newest may still be in the processor's cache */
        if (cache->block[i].capacity != capacity) continue;
        memory = cache->block[i].memory;
        cache->bytes -= capacity;
        cache->count--;
        memmove(&cache->block[i], &cache->block[i + 1], (size_t)(cache->count - i) * sizeof cache->block[0]);
    }
    pthread_mutex_unlock(&cache->lock);
    return memory;
}

static bool cache_give(di_cache *cache, void *memory, size_t capacity) {
    if (capacity > CACHE_BYTES) return false;
    cache_lock(cache);
    while (cache->count > 0 && (cache->count == CACHE_BLOCKS || cache->bytes > CACHE_BYTES - capacity))
        drop_oldest(cache);
    cache->block[cache->count].memory = memory;
    cache->block[cache->count].capacity = capacity;
    cache->count++;
    cache->bytes += capacity;
    pthread_mutex_unlock(&cache->lock);
    return true;
}

static size_t cache_bytes(di_cache *cache) {
    cache_lock(cache);
    size_t bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
    return bytes;
}

/* ---- counting ---- */

static void refused(const char *function, size_t bytes) {
    di_fail_at(DISTAC_ENOMEM, function, "out of memory: the system has no %zu bytes left", bytes);
}

/* Adds bytes to what is used unless that passes the limit. */
static bool charge(distac_context *context, size_t bytes) {
    long long limit = atomic_load(&context->memory_limit);
    long long used = atomic_load(&context->memory_used), want;
    do {
        if (__builtin_add_overflow(used, (long long)bytes, &want)) return false;
        if (limit > 0 && want > limit && bytes > 0) return false;
    } while (!atomic_compare_exchange_weak(&context->memory_used, &used, want));
    long long peak = atomic_load(&context->memory_peak);
    while (want > peak && !atomic_compare_exchange_weak(&context->memory_peak, &peak, want)) continue;
    return true;
}

static void over_limit(const char *function, distac_context *context, size_t bytes) {
    di_fail_at(DISTAC_ENOMEM, function, "out of memory: %zu bytes wanted, %lld in use, limit %lld (0: none)",
               bytes, (long long)atomic_load(&context->memory_used),
               (long long)atomic_load(&context->memory_limit));
}

bool di_memory_charge(distac_context *context, size_t bytes) {
    if (bytes <= MOST && charge(context, bytes)) return true;
    over_limit("memory", context, bytes);
    return false;
}

void di_memory_discharge(distac_context *context, size_t bytes) {
    atomic_fetch_sub(&context->memory_used, (long long)bytes);
}

static void *allocate(const char *function, distac_context *context, size_t bytes, bool *zeroed) {
    *zeroed = false;
    size_t capacity = capacity_of(bytes);
    if (capacity == 0 || !charge(context, bytes)) {
        over_limit(function, context, bytes);
        return NULL;
    }
    void *memory = NULL;
    if (!EXACT && capacity >= CACHE_FROM) {
        memory = cache_take(context->cache, capacity);
        /* Cached blocks are memory too: used and cached together stay below the limit. */
        long long limit = atomic_load(&context->memory_limit);
        if (!memory && limit > 0) {
            long long room = limit - atomic_load(&context->memory_used);
            size_t keep = room > 0 ? (size_t)room : 0;
            if (cache_bytes(context->cache) > keep) di_cache_trim(context->cache, keep);
        }
    }
    if (!memory) memory = system_alloc(context->cache, capacity, zeroed);
    if (!memory) {
        di_cache_trim(context->cache, 0);
        memory = system_alloc(context->cache, capacity, zeroed);
    }
    if (!memory) {
        atomic_fetch_sub(&context->memory_used, (long long)bytes);
        if (context->cache->host.allocate)
            di_fail_at(DISTAC_ENOMEM, function, "out of memory: the host gives no %zu bytes", capacity);
        else
            refused(function, bytes);
    }
    return memory;
}

distac_status distac_context_set_allocator(distac_context *context, const distac_allocator *allocator) {
    static const distac_allocator none = {0};
    DI_REQUIRE(context, "context is NULL");
    if (!allocator) allocator = &none;
    if (allocator != &none) {
        DI_REQUIRE(allocator->allocate, "allocate is NULL");
        DI_REQUIRE(allocator->release, "release is NULL");
    }
    long long used = atomic_load(&context->memory_used);
    if (used != 0)
        return di_fail(DISTAC_ESTATE, "the context holds %lld bytes already: they would be given back elsewhere",
                       used);
    di_cache_trim(context->cache, 0);
    context->cache->host = *allocator;
    return DISTAC_OK;
}

void *di_alloc_at(const char *function, distac_context *context, size_t bytes) {
    bool zeroed;
    return allocate(function, context, bytes, &zeroed);
}

void *di_alloc_zeroed_at(const char *function, distac_context *context, size_t bytes) {
    bool zeroed;
    void *memory = allocate(function, context, bytes, &zeroed);
    if (memory && !zeroed) memset(memory, 0, bytes);
    return memory;
}

void di_free(distac_context *context, void *memory, size_t bytes) {
    if (!memory) return;
    size_t capacity = capacity_of(bytes);
    atomic_fetch_sub(&context->memory_used, (long long)bytes);
    if (EXACT || capacity < CACHE_FROM || !cache_give(context->cache, memory, capacity))
        system_free(context->cache, memory, capacity);
}

/* ---- small bookkeeping ---- */

void *di_new_at(const char *function, size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) refused(function, bytes);
    return memory;
}

void *di_grow_at(const char *function, void *list, size_t bytes) {
    void *memory = realloc(list, bytes ? bytes : 1);
    if (!memory) refused(function, bytes);
    return memory;
}

char *di_strdup_at(const char *function, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = di_new_at(function, bytes);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}
