/* select.c: the exact rank-th largest magnitude of every task vector, without sorting or keeping them. A
 * magnitude's bits order like the number.
 *
 * First way: a sample tells between which two magnitudes the wanted one lies; one look at all elements counts
 * those above and collects the few between. The counts prove the answer or show that the sample misled. Second
 * way, for small inputs and for those: digit by digit, each look counting one digit of what matches the digits
 * known so far, until few enough are left to be collected. All models share the looks. Task vectors on a device
 * have a way of their own (there_rank.c). */
#include "select.h"
#include "there.h"
#include <stdlib.h>

uint64_t di_pick(uint64_t *keys, int64_t n, int64_t rank) {
    for (int shift = 56; shift >= 0 && n > 1; shift -= 8) {
        int64_t counts[256] = {0}, kept = 0;
        for (int64_t i = 0; i < n; i++) counts[keys[i] >> shift & 255]++;
        uint64_t digit = 255;
        while (rank > counts[digit]) rank -= counts[digit--];
        for (int64_t i = 0; i < n; i++)
            if ((keys[i] >> shift & 255) == digit) keys[kept++] = keys[i];
        n = kept;
    }
    return keys[0];
}

distac_status di_keys_open(distac_context *context, di_search *at, int64_t capacity) {
    at->keys = di_alloc(context, (size_t)capacity * sizeof *at->keys);
    at->capacity = capacity;
    atomic_store(&at->key_count, 0);
    return at->keys ? DISTAC_OK : DISTAC_ENOMEM;
}

void di_keys_close(distac_context *context, di_search *at) {
    if (at->keys) di_free(context, at->keys, (size_t)at->capacity * sizeof *at->keys);
    at->keys = NULL;
}

distac_status di_select(di_merge_run *run, int64_t rank, double *thresholds) {
    if (run->there) return di_there_select(run, rank, thresholds);
    di_search *searches = di_new((size_t)run->models * sizeof *searches);
    if (!searches) return DISTAC_ENOMEM;
    for (int32_t t = 0; t < run->models; t++) {
        searches[t].rank = rank;
        searches[t].threshold = &thresholds[t];
    }
    distac_status status = di_select_by_sample(run, searches);
    if (status == DISTAC_OK) status = di_select_by_digits(run, searches);
    for (int32_t t = 0; t < run->models; t++) di_keys_close(run->context, &searches[t]);
    free(searches);
    return status;
}
