/* events.c: what the engine has to say while it works. The host polls; nothing is printed or called back. Texts
 * lie in the queue itself, so reporting never fails for want of memory. */
#include "base.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE = 256, TEXT_BYTES = 400, PROGRESS = 0, WARNING = 2 };

typedef struct entry {
    int32_t kind;
    int64_t done, total;
    char what[TEXT_BYTES];
} entry;

struct di_events {
    pthread_mutex_t lock;
    int first, count;
    entry ring[QUEUE];
    char taken[TEXT_BYTES]; /* the text of the event handed out last */
};

struct di_events *di_events_create(void) {
    struct di_events *events = di_new(sizeof *events);
    if (!events) return NULL;
    if (pthread_mutex_init(&events->lock, NULL) != 0) {
        free(events);
        di_fail_at(DISTAC_ENOMEM, "events", "cannot make a lock");
        return NULL;
    }
    return events;
}

void di_events_destroy(struct di_events *events) {
    if (!events) return;
    pthread_mutex_destroy(&events->lock);
    free(events);
}

static void copy_text(char *to, const char *from) {
    size_t length = strnlen(from, TEXT_BYTES - 1);
    memcpy(to, from, length);
    to[length] = 0;
}

static entry *at(struct di_events *events, int index) { return &events->ring[(events->first + index) % QUEUE]; }

static void put(struct di_events *events, int32_t kind, int64_t done, int64_t total, const char *what) {
    pthread_mutex_lock(&events->lock);
    entry *slot = NULL;
    char text[TEXT_BYTES];
    copy_text(text, what);
    for (int i = events->count - 1; kind == PROGRESS && i >= 0 && !slot; i--) {
        entry *old = at(events, i);
        if (old->kind == PROGRESS && strcmp(old->what, text) == 0) slot = old;
    }
    if (!slot) {
        if (events->count == QUEUE) { /* the newest are kept */
            events->first = (events->first + 1) % QUEUE;
            events->count--;
        }
        slot = at(events, events->count++);
        copy_text(slot->what, text);
    }
    slot->kind = kind;
    slot->done = done;
    slot->total = total;
    pthread_mutex_unlock(&events->lock);
}

void di_progress(distac_context *context, const char *what, int64_t done, int64_t total) {
    put(context->events, PROGRESS, done, total, what);
}

void di_warn(distac_context *context, const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(context->events, WARNING, 0, 0, text);
}

int32_t distac_event_next(distac_context *context, distac_event *event) {
    if (!context || !event) return 0;
    struct di_events *events = context->events;
    pthread_mutex_lock(&events->lock);
    int32_t found = events->count > 0;
    if (found) {
        entry *oldest = at(events, 0);
        memcpy(events->taken, oldest->what, sizeof events->taken);
        *event = (distac_event){oldest->kind, oldest->done, oldest->total, events->taken};
        events->first = (events->first + 1) % QUEUE;
        events->count--;
    }
    pthread_mutex_unlock(&events->lock);
    return found;
}
