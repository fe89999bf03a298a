/* loader.c: shuffled batches without end. Batch k is a pure function of (seed, k): permutations of epochs are kept
 * only to save time. Also the parallel loop whose error does not depend on threads. */
#include "data.h"
#include <stdlib.h>
#include <string.h>

#define LOADER_STREAM ((uint64_t)0x6c6f6164 << 32) /* keeps epochs away from other uses of the same seed */
#define CROP_STREAM   ((uint64_t)0x63726f70 << 32)
enum { MOST_WORKERS = 256, MOST_AHEAD = 256 };

distac_status distac_loader_create(distac_dataset *dataset, int64_t batch, uint64_t seed, distac_loader **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    if (batch < 1) return di_fail(DISTAC_EINVAL, "batch %lld, wanted at least 1", (long long)batch);
    if (dataset->size < 1) return di_fail(DISTAC_EINVAL, "the data set is empty");
    distac_loader *l = di_new(sizeof *l);
    int64_t *order = l ? di_new(2 * (size_t)dataset->size * sizeof *order) : NULL;
    if (!order) {
        free(l);
        return DISTAC_ENOMEM;
    }
    atomic_init(&l->refs, 1);
    atomic_fetch_add(&dataset->refs, 1);
    l->dataset = dataset;
    l->batch = batch < dataset->size ? batch : dataset->size;
    l->seed = seed;
    l->epoch[0] = l->epoch[1] = -1;
    l->order[0] = order;
    l->order[1] = order + dataset->size;
    *out = l;
    return DISTAC_OK;
}

void distac_loader_release(distac_loader *loader) {
    if (!loader || atomic_fetch_sub(&loader->refs, 1) != 1) return;
    di_prefetch_destroy(loader->prefetch);
    distac_dataset_release(loader->dataset);
    free(loader->order[0]);
    free(loader);
}

/* The positions of batch `step` in the data set, and its epoch. */
static void positions(distac_loader *l, int64_t step, const int64_t **list, int64_t *epoch) {
    int64_t batches = l->dataset->size / l->batch, e = step / batches;
    if (e != l->epoch[e % 2]) { /* two are kept: reading ahead looks past the end of an epoch */
        di_permutation(l->seed, LOADER_STREAM + (uint64_t)e, l->dataset->size, l->order[e % 2]);
        l->epoch[e % 2] = e;
    }
    *list = l->order[e % 2] + step % batches * l->batch;
    *epoch = e;
}

static distac_status checked_positions(distac_loader *l, const char *function, int64_t step, const int64_t **list,
                                       int64_t *epoch) {
    if (step < 0 || step > INT64_MAX - MOST_AHEAD)
        return di_fail_at(DISTAC_EINVAL, function, "step %lld, wanted at least 0", (long long)step);
    positions(l, step, list, epoch);
    return DISTAC_OK;
}

/* ---- crops ---- */

static uint64_t mix(uint64_t x) { /* splitmix64's finisher */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* A sample's crop is a function of (seed, epoch, sample) alone. */
static di_sample_crop crop_of(const distac_loader *l, int64_t epoch, int64_t sample) {
    return (di_sample_crop){
        .desc = l->crops, .seed = l->seed, .stream = mix(mix(CROP_STREAM + (uint64_t)epoch) + (uint64_t)sample)};
}

distac_status distac_loader_crops(distac_loader *loader, const distac_crop_desc *desc) {
    DI_REQUIRE(loader, "loader is needed");
    const di_samples *s = loader->dataset->samples;
    int32_t box[4];
    if (desc && s->width != s->height)
        return di_fail(DISTAC_ESHAPE, "crops are square, the images are %d x %d", s->width, s->height);
    if (desc) DI_TRY(distac_crop_box(s->width, s->height, desc, 0, 0, &box[0], &box[1], &box[2], &box[3]));
    loader->cropped = desc != NULL;
    if (desc) loader->crops = *desc;
    di_prefetch_reset(loader->prefetch);
    return DISTAC_OK;
}

/* ---- reading ahead ---- */

static distac_status plan_batch(void *arg, int64_t step, di_batch *batch) {
    distac_loader *l = arg;
    const distac_dataset *d = l->dataset;
    const int64_t *list;
    int64_t epoch = 0;
    positions(l, step, &list, &epoch);
    atomic_fetch_add(&d->samples->refs, 1);
    batch->samples = d->samples;
    batch->cropped = l->cropped;
    for (int64_t i = 0; i < l->batch; i++) {
        batch->positions[i] = d->order ? d->order[list[i]] : list[i];
        if (l->cropped) batch->crops[i] = crop_of(l, epoch, list[i]);
    }
    return DISTAC_OK;
}

distac_status distac_loader_workers(distac_loader *loader, int32_t workers, int32_t ahead) {
    DI_REQUIRE(loader, "loader is needed");
    if (workers < 0 || workers > MOST_WORKERS)
        return di_fail(DISTAC_EINVAL, "%d workers, wanted 0 to %d", workers, MOST_WORKERS);
    if (ahead < 1 || ahead > MOST_AHEAD)
        return di_fail(DISTAC_EINVAL, "%d batches ahead, wanted 1 to %d", ahead, MOST_AHEAD);
    di_prefetch *made = NULL;
    const di_samples *s = loader->dataset->samples;
    if (workers > 0)
        DI_TRY(di_prefetch_create(s->context, workers, ahead, loader->batch, di_samples_bytes(s), plan_batch,
                                  loader, &made));
    di_prefetch_destroy(loader->prefetch);
    loader->prefetch = made;
    return DISTAC_OK;
}

/* ---- batches ---- */

/* planes: what was read ahead, or NULL. */
static distac_status make_images(const distac_loader *l, const uint8_t *planes, const int64_t *list, int64_t epoch,
                                 float *out) {
    if (planes) return di_dataset_normalized(l->dataset, l->batch, planes, out);
    di_sample_crop *crops = NULL;
    if (l->cropped) {
        crops = di_new((size_t)l->batch * sizeof *crops);
        if (!crops) return DISTAC_ENOMEM;
        for (int64_t i = 0; i < l->batch; i++) crops[i] = crop_of(l, epoch, list[i]);
    }
    distac_status status = di_dataset_floats(l->dataset, 0, l->batch, list, crops, out);
    free(crops);
    return status;
}

distac_status distac_loader_images(distac_loader *loader, int64_t step, distac_tensor **out) {
    DI_REQUIRE(loader && out, "loader and out are needed");
    *out = NULL;
    const int64_t *list = NULL;
    int64_t epoch = 0;
    DI_TRY(checked_positions(loader, __func__, step, &list, &epoch));
    const di_samples *s = loader->dataset->samples;
    const uint8_t *planes = NULL;
    if (loader->prefetch) {
        void *sending;
        DI_TRY(di_prefetch_get(loader->prefetch, step, &planes));
        DI_TRY(di_prefetch_sending(loader->prefetch, step, &sending));
        if (sending) DI_TRY(di_images_sent(loader->dataset, loader->batch, sending, out));
        else DI_TRY(di_images_of_planes(loader->dataset, loader->batch, planes, out));
    }
    if (!loader->prefetch && !loader->cropped)
        DI_TRY(di_images_held(loader->dataset, 0, loader->batch, list, out));
    if (*out) return DISTAC_OK;
    int64_t shape[4] = {loader->batch, s->channels, s->height, s->width};
    distac_tensor *images;
    DI_TRY(di_tensor_new(s->context, DISTAC_F32, 4, shape, false, &images));
    distac_status status = make_images(loader, planes, list, epoch, images->data);
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
    int64_t epoch = 0;
    DI_TRY(checked_positions(loader, __func__, step, &list, &epoch));
    DI_TRY(di_tensor_new(d->samples->context, DISTAC_I64, 1, &loader->batch, false, out));
    int64_t *labels = (*out)->data;
    for (int64_t i = 0; i < loader->batch; i++)
        labels[i] = d->samples->labels[d->order ? d->order[list[i]] : list[i]];
    return DISTAC_OK;
}

distac_status distac_loader_indices(distac_loader *loader, int64_t step, distac_tensor **out) {
    DI_REQUIRE(loader && out, "loader and out are needed");
    const int64_t *list = NULL;
    int64_t epoch = 0;
    DI_TRY(checked_positions(loader, __func__, step, &list, &epoch));
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
