/* stream_crew.c: who works on the slots of a stream (stream.h): as many threads as the context has, the caller
 * being one of them. While the caller computes, the others store and write what it has done and load what comes
 * next; it helps when it has to wait. Threads start with the first slot, block all signals (they are the host's),
 * end with the stream, and are not there after a fork. */
#include "stream.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NANOSECONDS = 30000, RUN = 16 /* slots written in one go */ };

static int64_t nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    for (int i = 0; i < 8; i++) __builtin_ia32_pause();
#endif
}

/* ---- one thing to do; the lock is held before and after, not in between ---- */

static void tell(distac_merge_stream *s) {
    atomic_fetch_add(&s->ticks, 1);
    if (s->sleeping) pthread_cond_signal(&s->work);
    if (s->waiting) pthread_cond_broadcast(&s->ready);
}

/* Bytes that lie one behind the other are written together. */
static distac_status put(distac_merge_stream *s, int64_t from, int64_t to) {
    for (int64_t i = from; i < to;) {
        const uint8_t *bytes = s->bytes + (size_t)(i % s->ring) * s->slot_bytes;
        size_t count = 0;
        for (; i < to && s->bytes + (size_t)(i % s->ring) * s->slot_bytes == bytes + count; i++)
            count += di_stream_slot(s, i)->bytes;
        if (count) DI_TRY(di_output_put(s->written.output, bytes, count));
        for (; i < to && di_stream_slot(s, i)->bytes == 0; i++) {}
    }
    return DISTAC_OK;
}

static bool write_some(distac_merge_stream *s) {
    int64_t from = s->put, to = from;
    if (s->writing || s->write_status != DISTAC_OK) return false;
    while (to < s->planned && to - from < RUN && di_stream_slot(s, to)->state == DI_STORED) to++;
    if (to == from) return false;
    s->writing = true;
    pthread_mutex_unlock(&s->lock);
    distac_status status = put(s, from, to);
    char *text = status == DISTAC_OK ? NULL : di_strdup(distac_last_error());
    pthread_mutex_lock(&s->lock);
    s->writing = false;
    s->write_status = status;
    s->write_text = text;
    s->put = to;
    tell(s);
    return true;
}

static void stored(distac_merge_stream *s, int64_t number, distac_status status) {
    di_slot *c = di_stream_slot(s, number);
    c->state = status == DISTAC_OK ? DI_STORED : DI_BAD;
    s->unfinished--;
    if (status != DISTAC_OK) {
        if (number < s->bad) s->bad = number;
    } else if (c->rows >= 0) {
        s->free_rows[s->free_count++] = c->rows; /* the last used is the first taken: caches may hold it still */
    }
    tell(s);
}

static distac_status store(distac_merge_stream *s, int64_t number) {
    return di_slot_store(s, di_stream_slot(s, number), s->bytes + (size_t)(number % s->ring) * s->slot_bytes);
}

static bool store_one(distac_merge_stream *s) {
    while (s->storing < s->loading && di_stream_slot(s, s->storing)->kind != DI_SHOWN) s->storing++;
    if (s->storing == s->loading || di_stream_slot(s, s->storing)->state != DI_DONE) return false;
    int64_t number = s->storing++;
    di_stream_slot(s, number)->state = DI_STORING;
    pthread_mutex_unlock(&s->lock);
    distac_status status = store(s, number);
    pthread_mutex_lock(&s->lock);
    stored(s, number, status);
    return true;
}

/* What is not shown needs no rows and is stored at once. */
static bool load_one(distac_merge_stream *s) {
    if (s->loading == s->planned) return false;
    di_slot *c = di_stream_slot(s, s->loading);
    if (c->kind == DI_SHOWN && s->free_count == 0) return false;
    int64_t number = s->loading++;
    c->rows = c->kind == DI_SHOWN ? s->free_rows[--s->free_count] : -1;
    c->state = DI_LOADING;
    pthread_mutex_unlock(&s->lock);
    distac_status status = c->kind == DI_SHOWN ? di_slot_load(s, c) : store(s, number);
    pthread_mutex_lock(&s->lock);
    if (c->kind != DI_SHOWN) {
        stored(s, number, status);
        return true;
    }
    c->state = status == DISTAC_OK ? DI_READY : DI_BAD;
    if (status != DISTAC_OK) s->unfinished--;
    tell(s);
    return true;
}

static bool piece_of(distac_merge_stream *s, int32_t lane, di_stream_whole *whole) {
    if (whole->next == whole->pieces) return false;
    int64_t piece = whole->next++;
    pthread_mutex_unlock(&s->lock);
    distac_status status = di_whole_piece(s, lane, whole, piece);
    pthread_mutex_lock(&s->lock);
    if (status != DISTAC_OK && (whole->bad < 0 || piece < whole->bad)) whole->bad = piece;
    if (++whole->done == whole->pieces) tell(s);
    return true;
}

static bool work(distac_merge_stream *s, int32_t lane) {
    if (write_some(s) || store_one(s) || load_one(s)) return true;
    for (int32_t i = 0; i < s->whole_count; i++)
        if (piece_of(s, lane, di_stream_whole_at(s, i))) return true;
    return false;
}

/* ---- the threads ---- */

typedef struct member {
    distac_merge_stream *stream;
    int32_t lane;
} member;

/* Nothing to do: looks on for a while before it sleeps. */
static void rest(distac_merge_stream *s) {
    unsigned seen = atomic_load(&s->ticks);
    pthread_mutex_unlock(&s->lock);
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    while (atomic_load(&s->ticks) == seen && nanoseconds() < until) breathe();
    pthread_mutex_lock(&s->lock);
    if (atomic_load(&s->ticks) != seen || s->stop) return;
    s->sleeping++;
    pthread_cond_wait(&s->work, &s->lock);
    s->sleeping--;
}

static void *run(void *arg) {
    member *m = arg;
    distac_merge_stream *s = m->stream;
    int32_t lane = m->lane;
    free(m);
    pthread_mutex_lock(&s->lock);
    while (!s->stop)
        if (!work(s, lane)) rest(s);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Fewer threads than wanted, even none, give the same result. */
static void start(distac_merge_stream *s) {
    sigset_t all, before;
    s->pid = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (s->threads < s->run.lanes - 1) {
        member *m = di_new(sizeof *m);
        if (!m) break;
        *m = (member){s, s->threads + 1};
        if (pthread_create(&s->thread[s->threads], NULL, run, m) != 0) {
            free(m);
            break;
        }
        s->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

distac_status di_crew_open(distac_merge_stream *s) {
    pthread_condattr_t monotonic;
    if (pthread_mutex_init(&s->lock, NULL) != 0) return di_fail_at(DISTAC_ENOMEM, s->run.function, "no mutex");
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    s->locks = pthread_cond_init(&s->work, NULL) == 0 && pthread_cond_init(&s->ready, &monotonic) == 0;
    pthread_condattr_destroy(&monotonic);
    if (!s->locks) return di_fail_at(DISTAC_ENOMEM, s->run.function, "no condition");
    s->bad = INT64_MAX;
    s->slot = di_new((size_t)s->ring * sizeof *s->slot);
    s->free_rows = di_new((size_t)s->slots * sizeof *s->free_rows);
    s->thread = di_new((size_t)s->run.lanes * sizeof *s->thread);
    if (!s->slot || !s->free_rows || !s->thread) return DISTAC_ENOMEM;
    for (int64_t i = s->slots; i > 0; i--) s->free_rows[s->free_count++] = i - 1;
    return DISTAC_OK;
}

void di_crew_close(distac_merge_stream *s) {
    if (s->pid && s->pid == getpid()) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        atomic_fetch_add(&s->ticks, 1);
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->lock);
        for (int32_t i = 0; i < s->threads; i++) pthread_join(s->thread[i], NULL);
    }
    if (s->locks && (!s->pid || s->pid == getpid())) { /* after a fork they are in an unknown state */
        pthread_cond_destroy(&s->work);
        pthread_cond_destroy(&s->ready);
        pthread_mutex_destroy(&s->lock);
    }
    free(s->write_text);
    free(s->slot);
    free(s->free_rows);
    free(s->thread);
}

/* ---- the caller ---- */

static distac_status begin(distac_merge_stream *s) {
    if (s->pid == 0) start(s);
    if (s->pid != getpid()) return di_fail_at(DISTAC_ESTATE, s->run.function, "the merge was begun before a fork");
    return DISTAC_OK;
}

void di_crew_plan(distac_merge_stream *s, int64_t count) {
    pthread_mutex_lock(&s->lock);
    s->planned += count;
    s->unfinished += count;
    tell(s);
    pthread_mutex_unlock(&s->lock);
}

/* Until somebody has finished something. Under the lock. */
static distac_status wait(distac_merge_stream *s) {
    struct timespec until;
    unsigned seen = atomic_load(&s->ticks);
    pthread_mutex_unlock(&s->lock);
    int64_t end = nanoseconds() + SPIN_NANOSECONDS;
    while (atomic_load(&s->ticks) == seen && nanoseconds() < end) breathe();
    distac_status status = di_poll(s->run.context);
    pthread_mutex_lock(&s->lock);
    if (status != DISTAC_OK || atomic_load(&s->ticks) != seen) return status;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 50000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    s->waiting++;
    pthread_cond_timedwait(&s->ready, &s->lock, &until);
    s->waiting--;
    return DISTAC_OK;
}

typedef struct again {
    distac_merge_stream *s;
    int64_t number;
    const di_stream_whole *whole; /* NULL: a slot */
} again;

static distac_status do_again(void *arg, int32_t lane, int64_t index) {
    again *a = arg;
    (void)index;
    if (a->whole) return di_whole_piece(a->s, lane, a->whole, a->number);
    const di_slot *c = di_stream_slot(a->s, a->number);
    return c->kind == DI_SHOWN && c->state == DI_BAD && a->number >= a->s->storing ? di_slot_load(a->s, c)
                                                                                : store(a->s, a->number);
}

/* The text of a failure belongs to the thread that failed: it is repeated here to get it. */
static distac_status repeat(distac_merge_stream *s, int64_t number, const di_stream_whole *whole) {
    again a = {s, number, whole};
    distac_status status = di_run_lanes(&s->run, 1, do_again, &a);
    return status != DISTAC_OK ? status
                               : di_fail_at(DISTAC_ESTATE, s->run.function, "a failure did not come again");
}

/* Until all slots before `number` are stored, as far as they can be. Under the lock. */
static distac_status settle(distac_merge_stream *s, int64_t number) {
    distac_status status = DISTAC_OK;
    for (int64_t i = s->put; i < number && status == DISTAC_OK;) {
        di_slot_state state = di_stream_slot(s, i)->state;
        if (state == DI_STORED || state == DI_BAD) i++;
        else if (!store_one(s) && !load_one(s)) status = wait(s);
    }
    return status;
}

/* What has failed among the slots that the caller is done with: the first of them, whoever met which first. Under
 * the lock, which is given back in case of a failure. */
static distac_status look(distac_merge_stream *s) {
    distac_status status = DISTAC_OK;
    if (s->write_status != DISTAC_OK) {
        di_error_restore(s->write_text ? s->write_text : "distac_merge_stream: out of memory");
        status = s->write_status;
    } else if (s->bad < s->looked) {
        status = settle(s, s->bad);
        int64_t number = s->bad;
        pthread_mutex_unlock(&s->lock);
        return status != DISTAC_OK ? status : repeat(s, number, NULL);
    }
    if (status != DISTAC_OK) pthread_mutex_unlock(&s->lock);
    return status;
}

distac_status di_crew_pass(distac_merge_stream *s, int64_t number) {
    pthread_mutex_lock(&s->lock);
    for (; s->looked < number; s->looked++) {
        di_slot *c = di_stream_slot(s, s->looked);
        if (c->kind == DI_SHOWN && c->state == DI_READY) c->state = DI_DONE;
    }
    tell(s);
    DI_TRY(look(s));
    pthread_mutex_unlock(&s->lock);
    return DISTAC_OK;
}

distac_status di_crew_ready(distac_merge_stream *s, int64_t number) {
    DI_TRY(begin(s));
    pthread_mutex_lock(&s->lock);
    const di_slot *c = di_stream_slot(s, number);
    while (c->state != DI_READY && c->state != DI_BAD) {
        if (load_one(s) || store_one(s)) continue; /* also while another loads it: there is the one after */
        distac_status status = wait(s);
        if (status == DISTAC_OK) continue;
        pthread_mutex_unlock(&s->lock);
        return status;
    }
    distac_status status = DISTAC_OK;
    if (c->state == DI_BAD) {
        status = settle(s, number);
        if (status == DISTAC_OK) DI_TRY(look(s));
        pthread_mutex_unlock(&s->lock);
        return status != DISTAC_OK ? status : repeat(s, number, NULL);
    }
    DI_TRY(look(s));
    pthread_mutex_unlock(&s->lock);
    return DISTAC_OK;
}

distac_status di_crew_finish(distac_merge_stream *s, bool written) {
    DI_TRY(begin(s));
    pthread_mutex_lock(&s->lock);
    while (s->unfinished > 0 ||
           (written && s->put < s->planned && s->bad == INT64_MAX && s->write_status == DISTAC_OK)) {
        if (written ? work(s, 0) : store_one(s) || load_one(s)) continue;
        distac_status status = wait(s);
        if (status == DISTAC_OK) continue;
        pthread_mutex_unlock(&s->lock);
        return status;
    }
    DI_TRY(look(s));
    pthread_mutex_unlock(&s->lock);
    return DISTAC_OK;
}

distac_status di_crew_help(distac_merge_stream *s) {
    DI_TRY(begin(s));
    pthread_mutex_lock(&s->lock);
    DI_TRY(look(s));
    distac_status status = work(s, 0) ? DISTAC_OK : wait(s);
    pthread_mutex_unlock(&s->lock);
    return status;
}

void di_crew_offer(distac_merge_stream *s) {
    pthread_mutex_lock(&s->lock);
    di_stream_whole *whole = di_stream_whole_at(s, s->whole_count++);
    whole->pieces = (s->run.base->entries[whole->entry]->numel + DI_PIECE - 1) / DI_PIECE;
    whole->next = whole->done = 0;
    whole->bad = -1;
    tell(s);
    pthread_mutex_unlock(&s->lock);
}

distac_status di_crew_whole(distac_merge_stream *s, bool wanted) {
    DI_TRY(begin(s));
    distac_status status = DISTAC_OK;
    di_stream_whole *whole = di_stream_whole_at(s, 0);
    pthread_mutex_lock(&s->lock);
    while (whole->done < whole->pieces && status == DISTAC_OK)
        if (!piece_of(s, 0, whole)) status = wait(s);
    int64_t bad = whole->bad;
    pthread_mutex_unlock(&s->lock);
    return status != DISTAC_OK || bad < 0 || !wanted ? status : repeat(s, bad, whole);
}

void di_crew_drop(distac_merge_stream *s) {
    pthread_mutex_lock(&s->lock);
    s->whole_first = (s->whole_first + 1) % DI_STREAM_WHOLES;
    s->whole_count--;
    pthread_mutex_unlock(&s->lock);
}
