/* prefetch.c: batches read ahead by threads of their own. A ring of batches is planned by the thread that asks for
 * them; workers, and the asking thread while it waits, take one sample after the other, the oldest batch first.
 * What a batch holds is a function of its number, so neither the number of threads nor their luck can be seen.
 *
 * Threads start with the first batch, block all signals (they are the host's), end with the
 * object, and are not there after a fork: the child starts its own. Memory: `ahead` batches
 * of bytes, and what each thread needs to decode one image. Where models are computed on a
 * device, batches are decoded into memory that it fetches by itself, and the batch after the
 * one asked for sets out as soon as it is whole: it travels while a step is computed. */
#include "../backend/backend.h"
#include "data.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct slot {
    int64_t step;        /* -1: empty */
    int64_t taken, done; /* samples handed out, finished */
    di_batch batch;
    int32_t *codes; /* [n] */
    uint8_t *planes; /* the sending's, if there is one */
    void *sending;   /* to the device that models are computed on; NULL: none */
    bool sent;
} slot;

struct di_prefetch {
    distac_context *context;
    int32_t workers, ahead;
    int64_t n;
    size_t bytes; /* of one sample */
    di_batch_plan plan;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    pthread_t *thread;
    int32_t threads; /* running */
    pid_t pid;       /* whose they are; 0: not started */
    bool stop;
    slot *slots; /* [ahead]; batch k is in k % ahead */
};

/* ---- one sample ---- */

/* The oldest batch with a sample that no one took. Under the lock. */
static slot *choose(di_prefetch *p) {
    slot *best = NULL;
    for (int32_t i = 0; i < p->ahead; i++) {
        slot *s = &p->slots[i];
        if (s->step >= 0 && s->taken < p->n && (!best || s->step < best->step)) best = s;
    }
    return best;
}

static distac_status decode(di_prefetch *p, slot *s, int64_t i) {
    return di_samples_planes(s->batch.samples, s->batch.positions[i], s->batch.cropped ? &s->batch.crops[i] : NULL,
                             s->planes + (size_t)i * p->bytes);
}

/* Takes one sample of s; the lock is held before and after, not in between. */
static void make_one(di_prefetch *p, slot *s) {
    int64_t i = s->taken++;
    pthread_mutex_unlock(&p->lock);
    int32_t code = decode(p, s, i);
    pthread_mutex_lock(&p->lock);
    s->codes[i] = code;
    s->done++;
    if (s->done == s->taken) pthread_cond_broadcast(&p->ready);
}

static void *run(void *arg) {
    di_prefetch *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        slot *s = choose(p);
        if (s)
            make_one(p, s);
        else
            pthread_cond_wait(&p->work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- life ---- */

static bool make_locks(di_prefetch *p) {
    pthread_condattr_t monotonic;
    if (pthread_mutex_init(&p->lock, NULL) != 0) return false;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    bool made = pthread_cond_init(&p->work, NULL) == 0 && pthread_cond_init(&p->ready, &monotonic) == 0;
    pthread_condattr_destroy(&monotonic);
    return made;
}

/* Without one batches travel when they are asked for. */
static distac_status make_sending(distac_context *c, size_t bytes, slot *s) {
    void *planes;
    DI_TRY(c->device->sending_make(c, bytes, &s->sending, &planes));
    s->planes = planes;
    return DISTAC_OK;
}

distac_status di_prefetch_create(distac_context *context, int32_t workers, int32_t ahead, int64_t n, size_t bytes,
                                 di_batch_plan plan, void *arg, di_prefetch **out) {
    di_prefetch *p = di_new(sizeof *p);
    if (!p) return DISTAC_ENOMEM;
    *p = (di_prefetch){
        .context = context, .workers = workers, .ahead = ahead, .n = n, .bytes = bytes, .plan = plan, .arg = arg};
    if (!make_locks(p)) {
        free(p);
        return di_fail_at(DISTAC_ENOMEM, "distac_loader_workers", "cannot make a lock");
    }
    p->slots = di_new((size_t)ahead * sizeof *p->slots);
    p->thread = di_new((size_t)workers * sizeof *p->thread);
    bool whole = p->slots && p->thread;
    for (int32_t i = 0; i < ahead && whole; i++) {
        slot *s = &p->slots[i];
        s->step = -1;
        s->batch.positions = di_new((size_t)n * sizeof *s->batch.positions);
        s->batch.crops = di_new((size_t)n * sizeof *s->batch.crops);
        s->codes = di_new((size_t)n * sizeof *s->codes);
        if (di_models_there(context)) (void)make_sending(context, (size_t)n * bytes, s);
        if (!s->sending) s->planes = di_alloc(context, (size_t)n * bytes);
        whole = s->batch.positions && s->batch.crops && s->codes && s->planes;
    }
    if (!whole) {
        di_prefetch_destroy(p);
        return DISTAC_ENOMEM;
    }
    *out = p;
    return DISTAC_OK;
}

static void start(di_prefetch *p) {
    sigset_t all, before;
    p->pid = getpid();
    p->stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    p->threads = 0; /* fewer than wanted, even none, give the same batches */
    while (p->threads < p->workers && pthread_create(&p->thread[p->threads], NULL, run, p) == 0) p->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Makes a slot empty: no more of its samples are handed out, and those in work are waited for. Under the lock. */
static void empty(di_prefetch *p, slot *s) {
    if (s->step < 0) return;
    s->step = -1;
    while (s->done < s->taken) pthread_cond_wait(&p->ready, &p->lock);
    di_samples_release(s->batch.samples);
    s->batch.samples = NULL;
}

static void forget(di_prefetch *p) {
    for (int32_t i = 0; p->slots && i < p->ahead; i++) empty(p, &p->slots[i]);
}

static void stop(di_prefetch *p) {
    if (p->pid == 0) return;
    if (p->pid == getpid()) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
        for (int32_t i = 0; i < p->threads; i++) pthread_join(p->thread[i], NULL);
    } else { /* after a fork: the locks are in an unknown state, and no one is inside */
        make_locks(p);
        for (int32_t i = 0; i < p->ahead; i++) p->slots[i].done = p->slots[i].taken;
    }
    p->threads = 0;
    p->pid = 0;
}

void di_prefetch_reset(di_prefetch *p) {
    if (!p) return;
    stop(p);
    pthread_mutex_lock(&p->lock);
    forget(p);
    pthread_mutex_unlock(&p->lock);
}

void di_prefetch_destroy(di_prefetch *p) {
    if (!p) return;
    di_prefetch_reset(p);
    for (int32_t i = 0; p->slots && i < p->ahead; i++) {
        slot *s = &p->slots[i];
        free(s->batch.positions);
        free(s->batch.crops);
        free(s->codes);
        if (s->sending) p->context->device->sending_free(p->context, s->sending);
        else di_free(p->context, s->planes, (size_t)p->n * p->bytes);
    }
    free(p->slots);
    free(p->thread);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->ready);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- batches ---- */

/* Puts batch `step` into its slot. Under the lock. */
static distac_status load(di_prefetch *p, int64_t step) {
    slot *s = &p->slots[step % p->ahead];
    if (s->step == step) return DISTAC_OK;
    empty(p, s);
    if (s->sending) DI_TRY(p->context->device->sending_left(p->context, s->sending));
    DI_TRY(p->plan(p->arg, step, &s->batch));
    s->taken = s->done = 0;
    s->sent = false;
    s->step = step;
    return DISTAC_OK;
}

/* Until all samples of s are there; a cancel of the context ends it. Under the lock. */
static distac_status wait_for(di_prefetch *p, slot *s) {
    while (s->done < p->n) {
        DI_TRY(di_poll(p->context));
        if (s->taken < p->n) {
            make_one(p, s);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 50000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&p->ready, &p->lock, &until);
    }
    return DISTAC_OK;
}

distac_status di_prefetch_get(di_prefetch *p, int64_t step, const uint8_t **planes) {
    if (p->pid != getpid()) { /* the first batch, or the first one after a fork */
        di_prefetch_reset(p);
        start(p);
    }
    slot *s = &p->slots[step % p->ahead];
    pthread_mutex_lock(&p->lock);
    distac_status status = DISTAC_OK;
    for (int64_t k = step; k < step + p->ahead && status == DISTAC_OK; k++) status = load(p, k);
    pthread_cond_broadcast(&p->work);
    if (status == DISTAC_OK) status = wait_for(p, s);
    pthread_mutex_unlock(&p->lock);
    if (status != DISTAC_OK) return status;
    /* The text of a failure belongs to the thread that failed: the first one is repeated here to get it. */
    for (int64_t i = 0; i < p->n; i++) {
        if (s->codes[i] == DISTAC_OK) continue;
        DI_TRY(decode(p, s, i));
        s->codes[i] = DISTAC_OK;
    }
    *planes = s->planes;
    return DISTAC_OK;
}

static distac_status send(di_prefetch *p, slot *s) {
    if (s->sent) return DISTAC_OK;
    DI_TRY(p->context->device->sending_start(p->context, s->sending));
    s->sent = true;
    return DISTAC_OK;
}

distac_status di_prefetch_sending(di_prefetch *p, int64_t step, void **sending) {
    slot *s = &p->slots[step % p->ahead], *next = &p->slots[(step + 1) % p->ahead];
    *sending = s->sending;
    if (!s->sending) return DISTAC_OK;
    DI_TRY(send(p, s));
    if (!next->sending || next == s) return DISTAC_OK;
    pthread_mutex_lock(&p->lock);
    bool whole = next->step == step + 1 && next->done == p->n;
    for (int64_t i = 0; i < p->n && whole; i++) whole = next->codes[i] == DISTAC_OK;
    pthread_mutex_unlock(&p->lock);
    return whole ? send(p, next) : DISTAC_OK;
}
