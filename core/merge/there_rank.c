/* there_rank.c: the exact rank-th largest magnitude of vectors on a device: their bits as doubles are
 * counted digit by digit from the top, each look among what matches the digits known so far. Three
 * looks where all is float, whose last 29 bits are zero, else six; a look reads everything once and
 * moves some kilobytes per model between host and device. */
#include "there.h"
#include "../backend/backend.h"
#include <stdlib.h>
#include <string.h>

enum { KEY = 63, LOWEST_FLOAT = 29 }; /* bits of a magnitude; of them zero in a float's */

typedef struct ranking {
    distac_context *context;
    int32_t models;
    int64_t *ranks;              /* among what matches the prefix */
    uint64_t *prefixes, *counts; /* [models], [models][DI_MERGE_DIGITS], and where the device has them: */
    uint64_t *there_prefixes, *there_counts;
} ranking;

static size_t prefix_bytes(int32_t models) { return (size_t)models * sizeof(uint64_t); }
static size_t count_bytes(int32_t models) { return prefix_bytes(models) * DI_MERGE_DIGITS; }

/* One more digit of every prefix. A rank behind the last magnitude ends at the smallest digit. */
static void advance(ranking *r, int32_t bits) {
    for (int32_t t = 0; t < r->models; t++) {
        const uint64_t *counts = r->counts + (int64_t)t * DI_MERGE_DIGITS;
        uint64_t digit = ((uint64_t)1 << bits) - 1;
        while (digit > 0 && r->ranks[t] > (int64_t)counts[digit]) r->ranks[t] -= (int64_t)counts[digit--];
        r->prefixes[t] = r->prefixes[t] << bits | digit;
    }
}

static distac_status look(ranking *r, int32_t shift, int32_t bits, int64_t parts, di_there_part part,
                          const void *arg) {
    const di_device *device = r->context->device;
    DI_TRY(device->upload(r->context, r->there_prefixes, r->prefixes, prefix_bytes(r->models)));
    DI_TRY(device->zero(r->context, r->there_counts, count_bytes(r->models)));
    for (int64_t i = 0; i < parts; i++) {
        di_merge_rule rule = {.models = r->models};
        int64_t n = part(arg, i, &rule);
        if (n > 0)
            DI_TRY(device->merges->digits(r->context, n, &rule, shift, bits, r->there_prefixes, r->there_counts));
    }
    return device->download(r->context, r->counts, r->there_counts, count_bytes(r->models));
}

distac_status di_there_rank(distac_context *context, int32_t models, int64_t rank, bool wide, int64_t parts,
                            di_there_part part, const void *arg, double *thresholds) {
    const di_device *device = context->device;
    size_t prefixes = prefix_bytes(models), bytes = prefixes + count_bytes(models);
    ranking r = {.context = context, .models = models};
    void *there = NULL;
    r.ranks = di_new((size_t)models * sizeof *r.ranks);
    r.prefixes = di_new(prefixes);
    r.counts = di_new(count_bytes(models));
    distac_status status = r.ranks && r.prefixes && r.counts ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = device->alloc(context, bytes, &there);
    r.there_prefixes = there;
    r.there_counts = (uint64_t *)there + (there ? models : 0);
    for (int32_t t = 0; status == DISTAC_OK && t < models; t++) r.ranks[t] = rank;
    int32_t lowest = wide ? 0 : LOWEST_FLOAT;
    for (int32_t shift = KEY; status == DISTAC_OK && shift > lowest;) {
        int32_t bits = shift - lowest < DI_MERGE_DIGIT ? shift - lowest : DI_MERGE_DIGIT;
        shift -= bits;
        status = look(&r, shift, bits, parts, part, arg);
        if (status == DISTAC_OK) advance(&r, bits);
    }
    for (int32_t t = 0; status == DISTAC_OK && t < models; t++) {
        uint64_t key = r.prefixes[t] << lowest;
        memcpy(&thresholds[t], &key, sizeof key);
    }
    if (there) device->free(context, there, bytes);
    free(r.counts);
    free(r.prefixes);
    free(r.ranks);
    return status;
}
