/* pool.c: the context's threads.
 *
 * A training step has about a hundred parallel regions of 20 to 500 microseconds, so opening and closing one has
 * to be cheap, also on a machine whose processors others use as well. A region is one word of state: its upper
 * half counts openings and closings (odd: open), its lower half the workers inside. A worker enters by adding one
 * while the region is open; the caller closes the region when all tasks are handed out and waits for those inside
 * alone. A worker that the system has not scheduled in time is not waited for: it finds the region closed.
 *
 * Tasks are handed out by a counter. Which thread runs a task must not matter, so results cannot depend on the
 * number of threads.
 *
 * Threads start at first use, block all signals (they are the host's), and are not there after a fork: the child
 * starts its own. */
#define _GNU_SOURCE 1 /* RTLD_DEFAULT */
#include "base.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A worker looks for the next region this long before it sleeps: longer than the serial pieces between two
 * regions of a step, shorter than anyone would notice. */
enum { SPIN_NANOSECONDS = 30000 };

struct di_pool {
    _Alignas(64) atomic_ullong state;
    _Alignas(64) atomic_llong next; /* next task to hand out */
    _Alignas(64) atomic_int sleepers;
    atomic_int caller_sleeps, stop, busy;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    /* The region; written while it is closed and empty. */
    di_task task;
    void *arg;
    int64_t count;
    /* The failure with the lowest task index, under lock. */
    int64_t failed_index;
    char *failed_text; /* NULL: none */
    int32_t threads;   /* workers running */
    pid_t pid;         /* whose workers they are */
    pthread_t *worker;
    void (*omp_set)(int); /* OpenMP's run-time library if the host has loaded one */
    int (*omp_get)(void);
};

static _Thread_local int inside; /* in a task: nested calls run serially */

static bool is_open(unsigned long long state) { return state >> 32 & 1; }

static void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- running tasks ---- */

static void note_failure(di_pool *pool, int64_t index) {
    pthread_mutex_lock(&pool->lock);
    if (!pool->failed_text || index < pool->failed_index) {
        char *text = strdup(distac_last_error()); /* without memory the text stays with this thread */
        if (text) {
            free(pool->failed_text);
            pool->failed_text = text;
            pool->failed_index = index;
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

static void run_tasks(di_pool *pool) {
    int64_t count = pool->count, index;
    inside++;
    while ((index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < count) {
        unsigned before = di_error_count();
        pool->task(pool->arg, index);
        if (di_error_count() != before) note_failure(pool, index);
    }
    inside--;
}

static void leave(di_pool *pool) {
    unsigned long long state = atomic_fetch_sub(&pool->state, 1) - 1;
    if (!is_open(state) && (uint32_t)state == 0 && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Waits for a region other than the one of `seen`, and enters it. False: the pool stops. */
static bool enter(di_pool *pool, unsigned long long *seen) {
    int64_t until = 0;
    for (unsigned turn = 0;; turn++) {
        unsigned long long state = atomic_load(&pool->state);
        if (is_open(state) && state >> 32 != *seen) {
            if (atomic_compare_exchange_weak(&pool->state, &state, state + 1)) {
                *seen = state >> 32;
                return true;
            }
            continue;
        }
        if (atomic_load(&pool->stop)) return false;
        breathe();
        if (turn % 32 != 31) continue;
        int64_t now = nanoseconds();
        if (until == 0) until = now + SPIN_NANOSECONDS;
        if (now < until) continue;
        /* The caller opens a region first and then looks for sleepers; a worker becomes a sleeper first and
         * then looks for a region. So one of the two sees the other. */
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers, 1);
        for (;;) {
            state = atomic_load(&pool->state);
            if ((is_open(state) && state >> 32 != *seen) || atomic_load(&pool->stop)) break;
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
        until = 0;
    }
}

static void *work(void *arg) {
    di_pool *pool = arg;
    unsigned long long seen = 0;
    if (pool->omp_set) pool->omp_set(1);
    while (enter(pool, &seen)) {
        run_tasks(pool);
        leave(pool);
    }
    return NULL;
}

/* ---- life ---- */

di_pool *di_pool_create(void) {
    di_pool *pool = aligned_alloc(_Alignof(di_pool), sizeof *pool);
    if (!pool) {
        di_fail_at(DISTAC_ENOMEM, "threads", "no memory for the pool");
        return NULL;
    }
    memset(pool, 0, sizeof *pool);
    if (pthread_mutex_init(&pool->lock, NULL) != 0 || pthread_cond_init(&pool->wake, NULL) != 0 ||
        pthread_cond_init(&pool->done, NULL) != 0) {
        free(pool);
        di_fail_at(DISTAC_ENOMEM, "threads", "cannot make a lock");
        return NULL;
    }
    return pool;
}

static void start(di_pool *pool, int32_t threads) {
    sigset_t all, before;
    pool->pid = getpid();
    /* Looked up at run time: whether and which OpenMP is in the process is the host's choice. */
    if (!pool->omp_set) {
        void *set = dlsym(RTLD_DEFAULT, "omp_set_num_threads"), *get = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
        if (set && get) {
            memcpy(&pool->omp_set, &set, sizeof set);
            memcpy(&pool->omp_get, &get, sizeof get);
        }
    }
    atomic_store(&pool->stop, 0);
    if (threads <= 1) return;
    pool->worker = calloc((size_t)threads - 1, sizeof *pool->worker);
    if (!pool->worker) return; /* the caller alone is enough for every result */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->threads < threads - 1 &&
           pthread_create(&pool->worker[pool->threads], NULL, work, pool) == 0)
        pool->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void di_pool_stop(di_pool *pool) {
    if (pool->pid == getpid()) {
        atomic_store(&pool->stop, 1);
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int32_t i = 0; i < pool->threads; i++) pthread_join(pool->worker[i], NULL);
    } else if (pool->pid) { /* after a fork: their locks are in an unknown state, and no one waits at them */
        pthread_mutex_init(&pool->lock, NULL);
        pthread_cond_init(&pool->wake, NULL);
        pthread_cond_init(&pool->done, NULL);
        atomic_store(&pool->state, 0);
        atomic_store(&pool->sleepers, 0);
    }
    free(pool->worker);
    pool->worker = NULL;
    pool->threads = 0;
    pool->pid = 0;
}

void di_pool_destroy(di_pool *pool) {
    if (!pool) return;
    di_pool_stop(pool);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->failed_text);
    free(pool);
}

/* ---- a region ---- */

static void open_region(di_pool *pool, int64_t count, di_task task, void *arg) {
    pool->task = task;
    pool->arg = arg;
    pool->count = count;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    if (count < 2 || pool->threads == 0) return; /* nobody is to come */
    atomic_fetch_add(&pool->state, 1ULL << 32);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    if (count - 1 >= pool->threads) {
        pthread_cond_broadcast(&pool->wake);
    } else {
        for (int64_t i = 1; i < count; i++) pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void close_region(di_pool *pool) {
    if (!is_open(atomic_load(&pool->state))) return;
    unsigned long long state = atomic_fetch_add(&pool->state, 1ULL << 32) + (1ULL << 32);
    if ((uint32_t)state == 0) return;
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    for (unsigned turn = 1; (uint32_t)atomic_load(&pool->state) != 0; turn++) {
        breathe();
        if (turn % 32 || nanoseconds() < until) continue;
        pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->caller_sleeps, 1);
        while ((uint32_t)atomic_load(&pool->state) != 0) pthread_cond_wait(&pool->done, &pool->lock);
        atomic_store(&pool->caller_sleeps, 0);
        pthread_mutex_unlock(&pool->lock);
    }
}

void di_parallel(distac_context *context, int64_t count, di_task task, void *arg) {
    di_pool *pool = context->pool;
    if (count <= 0) return;
    if (inside || atomic_exchange(&pool->busy, 1)) { /* nested, or a second thread on the same context */
        for (int64_t i = 0; i < count; i++) task(arg, i);
        return;
    }
    if (pool->pid != getpid()) {
        di_pool_stop(pool);
        start(pool, context->threads);
    }
    /* The caller is a worker too: OpenMP inside its tasks gets one thread, and afterwards what it had. */
    int omp = pool->omp_get ? pool->omp_get() : 1;
    if (omp != 1) pool->omp_set(1);
    open_region(pool, count, task, arg);
    run_tasks(pool);
    close_region(pool);
    if (omp != 1) pool->omp_set(omp);
    if (pool->failed_text) {
        di_error_restore(pool->failed_text);
        free(pool->failed_text);
        pool->failed_text = NULL;
    }
    atomic_store(&pool->busy, 0);
}
