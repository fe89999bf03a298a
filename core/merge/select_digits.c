/* select_digits.c: the exact rank-th largest magnitude, digit by digit of the keys: each look counts one digit of
 * what matches the digits known so far, until few enough elements are left to be collected. */
#include "select.h"
#include <string.h>

enum { COLLECT = 1 << 16 };            /* keys collected per model */
#define BUCKETS_ALL                                                                                               \
    ((size_t)16 << 20) /* counters of all lanes and models; if they were more, digits are smaller */

typedef struct counting {
    di_merge_run *run;
    di_search *searches;  /* one per model */
    int32_t level, digit; /* bits of a digit: 16 or 8 */
    uint64_t *buckets;    /* [lanes][models][1 << digit] */
} counting;

static void count_digits(void *arg, int32_t lane, const di_at *place, int64_t n, const double *const *tau) {
    (void)place;
    counting *s = arg;
    int shift = 64 - s->digit * (s->level + 1);
    uint64_t count = (uint64_t)1 << s->digit;
    for (int32_t t = 0; t < s->run->models; t++) {
        di_search *at = &s->searches[t];
        uint64_t *buckets = s->buckets + ((int64_t)lane * s->run->models + t) * (int64_t)count;
        if (at->found) continue;
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = di_key(tau[t][i]);
            if (s->level && key >> (shift + s->digit) != at->prefix) continue;
            if (!at->collect) {
                buckets[key >> shift & (count - 1)]++;
                continue;
            }
            int64_t slot = atomic_fetch_add(&at->key_count, 1);
            if (slot < at->capacity) at->keys[slot] = key;
        }
    }
}

/* After a look: one more digit of a model's threshold is known, or all of it. */
static distac_status advance(counting *s, int32_t t) {
    di_search *at = &s->searches[t];
    const di_merge_run *run = s->run;
    if (at->found) return DISTAC_OK;
    if (at->collect) {
        if (atomic_load(&at->key_count) != at->capacity || at->rank > at->capacity)
            return di_fail_at(DISTAC_EIO, run->function, "the inputs changed while they were read");
        *at->threshold = di_key_value(di_pick(at->keys, at->capacity, at->rank));
        at->found = true;
        return DISTAC_OK;
    }
    int64_t buckets = INT64_C(1) << s->digit, digit = buckets - 1, count = 0;
    for (;; digit--) {
        count = 0;
        for (int32_t lane = 0; lane < run->lanes; lane++)
            count += (int64_t)s->buckets[((int64_t)lane * run->models + t) * buckets + digit];
        if (at->rank <= count || digit == 0) break;
        at->rank -= count;
    }
    at->prefix = at->prefix << s->digit | (uint64_t)digit;
    if (s->level == 64 / s->digit - 1) {
        *at->threshold = di_key_value(at->prefix);
        at->found = true;
    } else if (count <= (COLLECT < DI_KEYS_ALL / run->models ? COLLECT : DI_KEYS_ALL / run->models)) {
        at->collect = true;
        return di_keys_open(s->run->context, at, count);
    }
    return DISTAC_OK;
}

static bool all_found(const counting *s) {
    for (int32_t t = 0; t < s->run->models; t++)
        if (!s->searches[t].found) return false;
    return true;
}

distac_status di_select_by_digits(di_merge_run *run, di_search *searches) {
    size_t counters = (size_t)run->lanes * (size_t)run->models;
    counting s = {.run = run, .searches = searches, .digit = counters << 16 <= BUCKETS_ALL ? 16 : 8};
    size_t bytes = (counters << s.digit) * sizeof *s.buckets;
    distac_status status = DISTAC_OK;
    if (all_found(&s)) return DISTAC_OK;
    s.buckets = di_alloc(run->context, bytes);
    if (!s.buckets) return DISTAC_ENOMEM;
    for (; s.level < 64 / s.digit && status == DISTAC_OK && !all_found(&s); s.level++) {
        memset(s.buckets, 0, bytes);
        status = di_run_visit(run, count_digits, &s);
        for (int32_t t = 0; status == DISTAC_OK && t < run->models; t++) status = advance(&s, t);
    }
    di_free(run->context, s.buckets, bytes);
    return status;
}
