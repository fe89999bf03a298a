/* select.c: the exact rank-th largest magnitude of every task vector, without sorting or keeping them. A
 * magnitude's bits order like the number, so it is found digit by digit: each look at all elements counts one
 * digit of those that match the digits known so far. As soon as few enough are left they are collected and
 * sorted. All models share the looks. */
#include "merge.h"
#include <stdlib.h>
#include <string.h>

enum { DIGIT = 16, BUCKETS = 1 << DIGIT, LEVELS = 4, COLLECT = 1 << 16 };

typedef struct search {
    uint64_t prefix;  /* the digits known: key >> shift_above */
    int64_t rank;     /* among the keys with this prefix, from the largest */
    int64_t matching; /* keys with this prefix */
    bool collect, found;
    uint64_t *keys; /* collected */
    atomic_llong key_count;
} search;

typedef struct selector {
    di_merge_run *run;
    int32_t level;
    search *searches;  /* one per model */
    uint64_t *buckets; /* [lanes][models][BUCKETS] */
} selector;

static uint64_t key_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & (UINT64_MAX >> 1);
}

static double value_of(uint64_t key) {
    double value;
    memcpy(&value, &key, sizeof value);
    return value;
}

static void count_digits(void *arg, int32_t lane, int64_t n, const double *const *tau) {
    selector *s = arg;
    int shift = 64 - DIGIT * (s->level + 1);
    for (int32_t t = 0; t < s->run->models; t++) {
        search *at = &s->searches[t];
        uint64_t *buckets = s->buckets + ((int64_t)lane * s->run->models + t) * BUCKETS;
        if (at->found) continue;
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = key_of(tau[t][i]);
            if (s->level && key >> (shift + DIGIT) != at->prefix) continue;
            if (at->collect)
                at->keys[atomic_fetch_add(&at->key_count, 1)] = key;
            else
                buckets[key >> shift & (BUCKETS - 1)]++;
        }
    }
}

static int compare_keys(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0; /* largest first */
}

/* After a look: one more digit of a model's threshold is known, or all of it. */
static distac_status advance(selector *s, int32_t t, double *threshold) {
    search *at = &s->searches[t];
    const di_merge_run *run = s->run;
    if (at->found) return DISTAC_OK;
    if (at->collect) {
        qsort(at->keys, (size_t)at->matching, sizeof *at->keys, compare_keys);
        *threshold = value_of(at->keys[at->rank - 1]);
        at->found = true;
        return DISTAC_OK;
    }
    int64_t digit = BUCKETS - 1, count = 0;
    for (;; digit--) {
        count = 0;
        for (int32_t lane = 0; lane < run->lanes; lane++)
            count += (int64_t)s->buckets[((int64_t)lane * run->models + t) * BUCKETS + digit];
        if (at->rank <= count || digit == 0) break;
        at->rank -= count;
    }
    at->prefix = at->prefix << DIGIT | (uint64_t)digit;
    at->matching = count;
    if (s->level == LEVELS - 1) {
        *threshold = value_of(at->prefix);
        at->found = true;
    } else if (count <= COLLECT) {
        at->collect = true;
        at->keys = di_new((size_t)count * sizeof *at->keys);
        if (!at->keys) return DISTAC_ENOMEM;
    }
    return DISTAC_OK;
}

static distac_status search_all(selector *s, double *thresholds, size_t bucket_bytes) {
    bool done = false;
    for (s->level = 0; s->level < LEVELS && !done; s->level++) {
        memset(s->buckets, 0, bucket_bytes);
        DI_TRY(di_run_visit(s->run, count_digits, s));
        done = true;
        for (int32_t t = 0; t < s->run->models; t++) {
            DI_TRY(advance(s, t, &thresholds[t]));
            done = done && s->searches[t].found;
        }
    }
    return DISTAC_OK;
}

distac_status di_select(di_merge_run *run, int64_t rank, double *thresholds) {
    size_t bytes = (size_t)run->lanes * (size_t)run->models * BUCKETS * sizeof(uint64_t);
    selector s = {.run = run};
    distac_status status = DISTAC_ENOMEM;
    s.searches = di_new((size_t)run->models * sizeof *s.searches);
    if (s.searches) s.buckets = di_alloc(run->context, bytes);
    if (s.buckets) {
        for (int32_t t = 0; t < run->models; t++) s.searches[t].rank = rank;
        status = search_all(&s, thresholds, bytes);
    }
    for (int32_t t = 0; s.searches && t < run->models; t++) free(s.searches[t].keys);
    if (s.buckets) di_free(run->context, s.buckets, bytes);
    free(s.searches);
    return status;
}
