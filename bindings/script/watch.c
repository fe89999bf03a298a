/* watch.c: the contexts of one Lua state, kept so that another thread or a signal can cancel their work.
 *
 * The binding drops a context here before it releases it, so what the list holds is alive: under the lock for
 * other threads, by program order for a signal handler on the same thread. */
#include "vm.h"

static void add(distac_watch *base, void *context) {
    ds_watch *watch = (ds_watch *)(void *)base;
    if (watch->allocator.allocate)
        distac_context_set_allocator(context, &watch->allocator); /* a new one holds nothing */
    pthread_mutex_lock(&watch->lock);
    for (int i = 0; i < DS_CONTEXTS; i++) {
        if (!atomic_load(&watch->contexts[i])) {
            atomic_store(&watch->contexts[i], (distac_context *)context);
            break;
        }
    }
    if (atomic_load(&watch->cancelled)) distac_cancel(context);
    pthread_mutex_unlock(&watch->lock);
}

static void drop(distac_watch *base, void *context) {
    ds_watch *watch = (ds_watch *)(void *)base;
    pthread_mutex_lock(&watch->lock);
    for (int i = 0; i < DS_CONTEXTS; i++) {
        if (atomic_load(&watch->contexts[i]) == context) {
            atomic_store(&watch->contexts[i], NULL);
            break;
        }
    }
    pthread_mutex_unlock(&watch->lock);
}

void ds_watch_init(ds_watch *watch) {
    watch->base.add = add;
    watch->base.drop = drop;
    pthread_mutex_init(&watch->lock, NULL);
    for (int i = 0; i < DS_CONTEXTS; i++) atomic_init(&watch->contexts[i], NULL);
    atomic_init(&watch->cancelled, 0);
}

void ds_watch_destroy(ds_watch *watch) {
    pthread_mutex_destroy(&watch->lock);
}

void ds_watch_cancel_signal(ds_watch *watch) {
    atomic_store(&watch->cancelled, 1);
    for (int i = 0; i < DS_CONTEXTS; i++) {
        distac_context *context = atomic_load(&watch->contexts[i]);
        if (context) distac_cancel(context);
    }
}

void ds_watch_cancel(ds_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    ds_watch_cancel_signal(watch);
    pthread_mutex_unlock(&watch->lock);
}

void ds_watch_clear(ds_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    atomic_store(&watch->cancelled, 0);
    for (int i = 0; i < DS_CONTEXTS; i++) {
        distac_context *context = atomic_load(&watch->contexts[i]);
        if (context) distac_cancel_clear(context);
    }
    pthread_mutex_unlock(&watch->lock);
}
