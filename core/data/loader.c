/* loader.c: shuffled batches without end. Batch k is a pure function of (seed, k): the permutation of an epoch is
 * kept only to save time. Also the parallel loop whose error does not depend on threads. */
#include "data.h"
#include <stdlib.h>
#include <string.h>

#define LOADER_STREAM ((uint64_t)0x6c6f6164 << 32) /* keeps epochs away from other uses of the same seed */

distac_status distac_loader_create(distac_dataset *dataset, int64_t batch, uint64_t seed, distac_loader **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    if (batch < 1) return di_fail(DISTAC_EINVAL, "batch %lld, wanted at least 1", (long long)batch);
    if (dataset->size < 1) return di_fail(DISTAC_EINVAL, "the data set is empty");
    distac_loader *l = di_new(sizeof *l);
    int64_t *order = l ? di_new((size_t)dataset->size * sizeof *order) : NULL;
    if (!order) {
        free(l);
        return DISTAC_ENOMEM;
    }
    atomic_init(&l->refs, 1);
    atomic_fetch_add(&dataset->refs, 1);
    l->dataset = dataset;
    l->batch = batch < dataset->size ? batch : dataset->size;
    l->seed = seed;
    l->epoch = -1;
    l->order = order;
    *out = l;
    return DISTAC_OK;
}

void distac_loader_release(distac_loader *loader) {
    if (!loader || atomic_fetch_sub(&loader->refs, 1) != 1) return;
    distac_dataset_release(loader->dataset);
    free(loader->order);
    free(loader);
}

/* The positions of batch `step` in the data set. */
static distac_status positions(distac_loader *l, const char *function, int64_t step, const int64_t **out) {
    if (step < 0) return di_fail_at(DISTAC_EINVAL, function, "step %lld, wanted at least 0", (long long)step);
    int64_t batches = l->dataset->size / l->batch, epoch = step / batches;
    if (epoch != l->epoch) {
        di_permutation(l->seed, LOADER_STREAM + (uint64_t)epoch, l->dataset->size, l->order);
        l->epoch = epoch;
    }
    *out = l->order + step % batches * l->batch;
    return DISTAC_OK;
}

distac_status distac_loader_images(distac_loader *loader, int64_t step, distac_tensor **out) {
    DI_REQUIRE(loader && out, "loader and out are needed");
    const int64_t *list = NULL;
    DI_TRY(positions(loader, __func__, step, &list));
    const di_samples *s = loader->dataset->samples;
    int64_t shape[4] = {loader->batch, s->channels, s->height, s->width};
    distac_tensor *images;
    DI_TRY(di_tensor_new(s->context, DISTAC_F32, 4, shape, false, &images));
    distac_status status = di_dataset_floats(loader->dataset, 0, loader->batch, list, images->data);
    if (status != DISTAC_OK) {
        distac_tensor_release(images);
        return status;
    }
    *out = images;
    return DISTAC_OK;
}

distac_status distac_loader_labels(distac_loader *loader, int64_t step, distac_tensor **out) {
    DI_REQUIRE(loader && out, "loader and out are needed");
    const distac_dataset *d = loader->dataset;
    if (!d->samples->labels) return di_fail(DISTAC_ESTATE, "the data set has no labels");
    const int64_t *list = NULL;
    DI_TRY(positions(loader, __func__, step, &list));
    DI_TRY(di_tensor_new(d->samples->context, DISTAC_I64, 1, &loader->batch, false, out));
    int64_t *labels = (*out)->data;
    for (int64_t i = 0; i < loader->batch; i++)
        labels[i] = d->samples->labels[d->order ? d->order[list[i]] : list[i]];
    return DISTAC_OK;
}

distac_status distac_loader_indices(distac_loader *loader, int64_t step, distac_tensor **out) {
    DI_REQUIRE(loader && out, "loader and out are needed");
    const int64_t *list = NULL;
    DI_TRY(positions(loader, __func__, step, &list));
    DI_TRY(di_tensor_new(loader->dataset->samples->context, DISTAC_I64, 1, &loader->batch, false, out));
    memcpy((*out)->data, list, (size_t)loader->batch * sizeof *list);
    return DISTAC_OK;
}

/* ---- parallel work that can fail ---- */

typedef struct attempt {
    di_work work;
    void *arg;
    int64_t start;
    int32_t *status;
} attempt;

static void try_one(void *arg, int64_t i) {
    attempt *a = arg;
    a->status[i] = a->work(a->arg, a->start + i);
}

distac_status di_parallel_try(distac_context *context, const char *what, int64_t n, di_work work, void *arg) {
    enum { PIECE = 1024 };
    int32_t codes[PIECE];
    attempt a = {.work = work, .arg = arg, .status = codes};
    for (a.start = 0; a.start < n; a.start += PIECE) {
        DI_TRY(di_poll(context));
        if (what) di_progress(context, what, a.start, n);
        int64_t count = n - a.start < PIECE ? n - a.start : PIECE;
        di_parallel(context, count, try_one, &a);
        /* The text of a failure belongs to the thread that failed: the first one is repeated here to get it. */
        for (int64_t i = 0; i < count; i++)
            if (codes[i] != DISTAC_OK) DI_TRY(work(arg, a.start + i));
    }
    if (what) di_progress(context, what, n, n);
    return DISTAC_OK;
}
