/* select.h: the search for a magnitude of given rank, in the two ways of select.c. */
#ifndef DISTAC_SELECT_H
#define DISTAC_SELECT_H

#include "merge.h"

/* At most so many keys are collected, of all models together: with many each has fewer, so that memory is flat. */
enum { DI_KEYS_ALL = 1 << 24 };

/* What is looked for in one model. */
typedef struct di_search {
    double *threshold; /* where the answer goes */
    bool found;
    int64_t rank; /* among what is searched, from the largest */
    /* first way */
    double low, high; /* the wanted magnitude lies in low … high, both included */
    /* second way */
    uint64_t prefix; /* the digits known */
    bool collect;
    /* what is collected */
    uint64_t *keys;
    int64_t capacity; /* there is room for */
    atomic_llong key_count;
} di_search;

/* Room for keys, none of them there yet. ENOMEM. */
distac_status di_keys_open(distac_context *context, di_search *at, int64_t capacity);
/* No keys are fine. */
void di_keys_close(distac_context *context, di_search *at);

/* ---- select_sample.c: the first way. A search that it leaves alone, or that its sample misled, is not found. */
distac_status di_select_by_sample(di_merge_run *run, di_search *searches);
/* ---- select_digits.c: the second way, for searches that have not been found yet. */
distac_status di_select_by_digits(di_merge_run *run, di_search *searches);

#endif
