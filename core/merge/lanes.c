/* lanes.c: parallel strands of a merge. Which one does what is chance; results and errors do not show it. */
#include "merge.h"
#include <pthread.h>

typedef struct lanes {
    di_merge_run *run;
    atomic_llong next;
    int64_t count;
    di_lane_work work;
    void *arg;
    pthread_mutex_t lock;
    int64_t failed; /* lowest index that failed, -1: none */
    distac_status status;
} lanes;

static void lane_task(void *arg, int64_t lane) {
    lanes *l = arg;
    for (;;) {
        int64_t index = atomic_fetch_add(&l->next, 1);
        if (index >= l->count || atomic_load(&l->run->context->cancel)) return;
        distac_status status = l->work(l->arg, (int32_t)lane, index);
        if (status == DISTAC_OK) continue;
        pthread_mutex_lock(&l->lock);
        if (l->failed < 0 || index < l->failed) {
            l->failed = index;
            l->status = status;
        }
        pthread_mutex_unlock(&l->lock);
    }
}

distac_status di_run_lanes(di_merge_run *run, int64_t count, di_lane_work work, void *arg) {
    lanes l = {.run = run, .count = count, .work = work, .arg = arg, .failed = -1, .status = DISTAC_OK};
    atomic_init(&l.next, 0);
    if (pthread_mutex_init(&l.lock, NULL)) return di_fail_at(DISTAC_ENOMEM, run->function, "no mutex");
    di_parallel(run->context, run->lanes, lane_task, &l);
    pthread_mutex_destroy(&l.lock);
    DI_TRY(di_poll(run->context));
    if (l.failed < 0) return DISTAC_OK;
    /* Which lane met the failure first is chance: the lowest index is asked again, for its text. */
    atomic_store(&run->bad_entry, 0);
    distac_status status = l.work(l.arg, 0, l.failed);
    /* It fails anyway, so there is time to tell all of them. */
    if (status == DISTAC_ENUMERIC && atomic_load(&run->bad_entry) > 0) status = di_run_nonfinite_all(run);
    return status != DISTAC_OK ? status : l.status;
}
