/* there_vectors.c: the first two steps of TIES on task vectors that lie on a device as one vector each. */
#include "there.h"
#include "../backend/backend.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct vectors {
    distac_context *context;
    di_merge_rule rule; /* its lists are the device's */
    int64_t count;
    di_merge_model *each; /* and here */
    uint64_t *lead;
} vectors;

static int64_t all(const void *arg, int64_t i, di_merge_rule *rule) {
    const vectors *v = arg;
    (void)i;
    *rule = v->rule;
    return v->count;
}

static distac_status cut(vectors *v, int64_t rank, double *thresholds) {
    const di_device *device = v->context->device;
    int32_t models = v->rule.models;
    uint64_t word;
    int64_t lead;
    for (int32_t t = 0; t < models; t++) thresholds[t] = (double)INFINITY;
    if (rank >= 1)
        DI_TRY(di_there_rank(v->context, models, rank, v->rule.dtype == DISTAC_F64, 1, all, v, thresholds));
    for (int32_t t = 0; t < models; t++) v->each[t] = (di_merge_model){1, thresholds[t], -1};
    DI_TRY(device->upload(v->context, (void *)(uintptr_t)v->rule.each, v->each, (size_t)models * sizeof *v->each));
    DI_TRY(device->zero(v->context, v->lead, sizeof *v->lead));
    DI_TRY(device->merges->lead(v->context, v->count, &v->rule, v->lead));
    DI_TRY(device->download(v->context, &word, v->lead, sizeof word));
    memcpy(&lead, &word, sizeof lead);
    v->rule.tie = lead > 0 ? 1.0 : lead < 0 ? -1.0 : 0.0;
    return device->merges->cut(v->context, v->count, &v->rule);
}

distac_status di_there_cut(int32_t n_taus, distac_tensor *const *taus, int64_t rank) {
    vectors v = {.context = taus[0]->context, .count = taus[0]->numel};
    const di_device *device = v.context->device;
    size_t models = (size_t)n_taus, pointers = models * sizeof(void *), numbers = models * sizeof *v.each;
    size_t bytes = pointers + numbers + sizeof *v.lead;
    const void **list = di_new(pointers);
    double *thresholds = di_new(models * sizeof *thresholds);
    void *there = NULL;
    if (v.count == 0) rank = 0;
    v.each = di_new(numbers);
    distac_status status =
        list && thresholds && v.each ? device->alloc(v.context, bytes, &there) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        di_merge_model *each = (di_merge_model *)(void *)((const void **)there + models);
        v.rule = (di_merge_rule){.models = n_taus, .dtype = taus[0]->dtype, .taus = there, .each = each, .elects = true};
        v.lead = (uint64_t *)(void *)(each + models);
        for (size_t t = 0; t < models; t++) list[t] = taus[t]->data;
        status = device->upload(v.context, there, list, pointers);
    }
    if (status == DISTAC_OK && v.count > 0) status = cut(&v, rank, thresholds);
    if (there) device->free(v.context, there, bytes);
    free(v.each);
    free(thresholds);
    free(list);
    return status;
}
