/* dataset.c: what all data sets share: samples, views, normalisation, batches of floats, hashes. */
#include "pack.h"
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

/* ---- samples ---- */

static void free_names(char **names, int64_t count) {
    if (!names) return;
    for (int64_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

distac_status di_samples_new(distac_context *context, int64_t count, int64_t classes, int32_t channels,
                             int32_t height, int32_t width, di_samples **out) {
    if (classes < 0 || classes > DI_CLASSES)
        return di_fail(DISTAC_EINVAL, "%lld classes, wanted 0 to %lld", (long long)classes, (long long)DI_CLASSES);
    di_samples *s = di_new(sizeof *s);
    if (!s) return DISTAC_ENOMEM;
    atomic_init(&s->refs, 1);
    s->context = context;
    di_context_retain(context);
    s->count = count;
    s->classes = classes;
    s->channels = channels;
    s->height = height;
    s->width = width;
    s->names = classes > 0 ? di_new((size_t)classes * sizeof *s->names) : NULL;
    bool whole = classes == 0 || s->names;
    for (int64_t i = 0; i < classes && whole; i++) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)i);
        s->names[i] = di_strdup(text);
        whole = s->names[i] != NULL;
    }
    if (!whole) {
        di_samples_release(s);
        return DISTAC_ENOMEM;
    }
    *out = s;
    return DISTAC_OK;
}

void di_samples_release(di_samples *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    di_samples_forget_there(s);
    distac_tensor_release(s->pixels);
    distac_tensor_release(s->raw);
    for (int i = 0; i < DI_PACK_KINDS; i++) di_pack_close(s->packs[i]);
    free_names(s->files, s->count);
    free_names(s->names, s->classes);
    free(s->labels);
    distac_context_release(s->context);
    free(s);
}

distac_status di_samples_name(di_samples *samples, int64_t class_index, const char *name) {
    char *copy = di_strdup(name);
    if (!copy) return DISTAC_ENOMEM;
    free(samples->names[class_index]);
    samples->names[class_index] = copy;
    return DISTAC_OK;
}

/* ---- data sets ---- */

distac_status di_dataset_wrap(di_samples *samples, distac_dataset **out) {
    distac_dataset *d = di_new(sizeof *d);
    size_t channels = (size_t)samples->channels;
    double *norm = d ? di_new(2 * channels * sizeof *norm) : NULL;
    if (!norm) {
        free(d);
        di_samples_release(samples);
        return DISTAC_ENOMEM;
    }
    atomic_init(&d->refs, 1);
    d->samples = samples;
    d->size = samples->count;
    d->mean = norm;
    d->std = norm + channels;
    for (size_t c = 0; c < channels; c++) d->std[c] = 1;
    *out = d;
    return DISTAC_OK;
}

void distac_dataset_release(distac_dataset *dataset) {
    if (!dataset || atomic_fetch_sub(&dataset->refs, 1) != 1) return;
    di_samples_release(dataset->samples);
    free(dataset->order);
    free(dataset->mean);
    free(dataset);
}

static distac_status copy_labels(const distac_tensor *labels, int64_t n, int64_t classes, int64_t **out) {
    if (labels->dtype != DISTAC_I64)
        return di_fail_at(DISTAC_EDTYPE, "distac_dataset_create", "labels are %s, wanted i64",
                          distac_dtype_name(labels->dtype));
    if (labels->rank != 1 || labels->shape[0] != n) {
        char text[128];
        return di_fail_at(DISTAC_ESHAPE, "distac_dataset_create", "labels have shape %s, wanted [%lld]",
                          di_shape_text(labels->rank, labels->shape, text, sizeof text), (long long)n);
    }
    DI_TRY(di_tensor_expect_here("distac_dataset_create", "labels", labels));
    int64_t *copy = di_new((size_t)(n > 0 ? n : 1) * sizeof *copy);
    if (!copy) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        copy[i] = ((const int64_t *)labels->data)[i * labels->stride[0]];
        if (copy[i] < 0 || copy[i] >= classes) {
            int64_t wrong = copy[i];
            free(copy);
            return di_fail_at(DISTAC_EINVAL, "distac_dataset_create",
                              "label %lld of sample %lld, wanted 0 to %lld", (long long)wrong, (long long)i,
                              (long long)classes - 1);
        }
    }
    *out = copy;
    return DISTAC_OK;
}

distac_status distac_dataset_create(const distac_tensor *images, const distac_tensor *labels, int64_t classes,
                                    distac_dataset **out) {
    DI_REQUIRE(images && out, "images and out are needed");
    DI_TRY(di_tensor_expect_here(__func__, "images", images));
    if (images->dtype != DISTAC_U8)
        return di_fail(DISTAC_EDTYPE, "images are %s, wanted u8", distac_dtype_name(images->dtype));
    bool fits = images->rank == 4;
    for (int d = 1; d < 4 && fits; d++) fits = images->shape[d] > 0 && images->shape[d] <= DI_IMAGE_SIDE;
    if (!fits) {
        char text[128];
        return di_fail(DISTAC_ESHAPE, "images have shape %s, wanted [N,C,H,W]",
                       di_shape_text(images->rank, images->shape, text, sizeof text));
    }
    di_samples *s;
    DI_TRY(di_samples_new(images->context, images->shape[0], classes, (int32_t)images->shape[1],
                          (int32_t)images->shape[2], (int32_t)images->shape[3], &s));
    /* a copy: later changes of the tensor must not change batches or hashes */
    distac_status status = distac_tensor_cast(images, DISTAC_U8, &s->pixels);
    if (status == DISTAC_OK && labels) status = copy_labels(labels, s->count, classes, &s->labels);
    if (status != DISTAC_OK) {
        di_samples_release(s);
        return status;
    }
    return di_dataset_wrap(s, out);
}

int64_t distac_dataset_size(const distac_dataset *dataset) {
    return dataset ? dataset->size : 0;
}

int64_t distac_dataset_classes(const distac_dataset *dataset) {
    return dataset ? dataset->samples->classes : 0;
}

int32_t distac_dataset_labelled(const distac_dataset *dataset) {
    return dataset && dataset->samples->labels ? 1 : 0;
}

const char *distac_dataset_class_name(const distac_dataset *dataset, int64_t index) {
    if (!dataset || index < 0 || index >= dataset->samples->classes) return NULL;
    return dataset->samples->names[index];
}

distac_status distac_dataset_image_shape(const distac_dataset *dataset, int64_t n_values, double *values) {
    DI_REQUIRE(dataset && values, "dataset and values are needed");
    if (n_values != 3)
        return di_fail(DISTAC_ESHAPE, "%lld values, wanted 3: channels, height, width", (long long)n_values);
    values[0] = dataset->samples->channels;
    values[1] = dataset->samples->height;
    values[2] = dataset->samples->width;
    return DISTAC_OK;
}

distac_status distac_dataset_normalize(distac_dataset *dataset, int32_t n_mean, const double *mean, int32_t n_std,
                                       const double *std) {
    DI_REQUIRE(dataset && mean && std, "dataset, mean and std are needed");
    int32_t channels = dataset->samples->channels;
    if (n_mean != channels || n_std != channels)
        return di_fail(DISTAC_ESHAPE, "%d means and %d deviations for images of %d channels", n_mean, n_std,
                       channels);
    for (int32_t c = 0; c < channels; c++)
        if (!(mean[c] - mean[c] == 0) || !(std[c] - std[c] == 0) || !(std[c] > 0))
            return di_fail(DISTAC_EINVAL, "channel %d: mean %g and deviation %g; wanted finite, deviation above 0",
                           c, mean[c], std[c]);
    memcpy(dataset->mean, mean, (size_t)channels * sizeof *mean);
    memcpy(dataset->std, std, (size_t)channels * sizeof *std);
    return DISTAC_OK;
}

distac_status distac_dataset_subset(const distac_dataset *dataset, int64_t n_indices, const int64_t *indices,
                                    distac_dataset **out) {
    DI_REQUIRE(dataset && out && n_indices >= 0 && (indices || n_indices == 0),
               "dataset, indices and out are needed");
    for (int64_t i = 0; i < n_indices; i++)
        if (indices[i] < 0 || indices[i] >= dataset->size)
            return di_fail(DISTAC_EINVAL, "index %lld at position %lld, wanted 0 to %lld", (long long)indices[i],
                           (long long)i, (long long)dataset->size - 1);
    int64_t *order = di_new((size_t)(n_indices > 0 ? n_indices : 1) * sizeof *order);
    if (!order) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < n_indices; i++) order[i] = dataset->order ? dataset->order[indices[i]] : indices[i];
    atomic_fetch_add(&dataset->samples->refs, 1);
    distac_status status = di_dataset_wrap(dataset->samples, out);
    if (status != DISTAC_OK) {
        free(order);
        return status;
    }
    (*out)->order = order;
    (*out)->size = n_indices;
    memcpy((*out)->mean, dataset->mean, 2 * (size_t)dataset->samples->channels * sizeof *dataset->mean);
    return DISTAC_OK;
}

/* ---- pixels ---- */

/* Position in samples of entry i of a request. */
static int64_t position(const distac_dataset *d, int64_t start, const int64_t *list, int64_t i) {
    int64_t at = list ? list[i] : start + i;
    return d->order ? d->order[at] : at;
}

typedef struct fetch {
    const distac_dataset *dataset;
    int64_t start;
    const int64_t *list;
    const di_sample_crop *crops;
    size_t bytes; /* of one image */
    float *floats;
    const uint8_t *in;
    uint8_t *out;
} fetch;

size_t di_samples_bytes(const di_samples *s) {
    return (size_t)s->channels * (size_t)s->height * (size_t)s->width;
}

static distac_status fetch_bytes(void *arg, int64_t i) {
    const fetch *f = arg;
    int64_t at = position(f->dataset, f->start, f->list, i);
    return di_samples_planes(f->dataset->samples, at, NULL, f->out + (size_t)i * f->bytes);
}

static distac_status normalize_one(void *arg, int64_t i) {
    const fetch *f = arg;
    const di_samples *s = f->dataset->samples;
    const di_pixels *kernels = di_pixels_for(s->context);
    size_t plane = (size_t)s->height * (size_t)s->width;
    for (int32_t c = 0; c < s->channels; c++) {
        size_t at = (size_t)i * f->bytes + (size_t)c * plane;
        kernels->floats(f->in + at, (int64_t)plane, (float)f->dataset->mean[c], (float)f->dataset->std[c],
                        f->floats + at);
    }
    return DISTAC_OK;
}

static distac_status fetch_floats(void *arg, int64_t i) {
    const fetch *f = arg;
    const di_samples *s = f->dataset->samples;
    int64_t at = position(f->dataset, f->start, f->list, i);
    fetch one = *f;
    one.floats = f->floats + (size_t)i * f->bytes;
    if (s->pixels && !f->crops) {
        one.in = (const uint8_t *)s->pixels->data + (size_t)at * f->bytes;
        return normalize_one(&one, 0);
    }
    uint8_t *decoded = di_alloc(s->context, f->bytes);
    if (!decoded) return DISTAC_ENOMEM;
    distac_status status = di_samples_planes(s, at, f->crops ? &f->crops[i] : NULL, decoded);
    one.in = decoded;
    if (status == DISTAC_OK) status = normalize_one(&one, 0);
    di_free(s->context, decoded, f->bytes);
    return status;
}

distac_status di_dataset_bytes(const distac_dataset *dataset, int64_t start, int64_t n, const int64_t *list,
                               uint8_t *out) {
    fetch f = {
        .dataset = dataset, .start = start, .list = list, .bytes = di_samples_bytes(dataset->samples), .out = out};
    return di_parallel_try(dataset->samples->context, NULL, n, fetch_bytes, &f);
}

distac_status di_dataset_floats(const distac_dataset *dataset, int64_t start, int64_t n, const int64_t *list,
                                const di_sample_crop *crops, float *out) {
    fetch f = {.dataset = dataset,
               .start = start,
               .list = list,
               .crops = crops,
               .bytes = di_samples_bytes(dataset->samples),
               .floats = out};
    return di_parallel_try(dataset->samples->context, NULL, n, fetch_floats, &f);
}

distac_status di_dataset_normalized(const distac_dataset *dataset, int64_t n, const uint8_t *planes, float *out) {
    fetch f = {.dataset = dataset, .bytes = di_samples_bytes(dataset->samples), .in = planes, .floats = out};
    return di_parallel_try(dataset->samples->context, NULL, n, normalize_one, &f);
}

static distac_status check_range(const distac_dataset *d, const char *function, int64_t start, int64_t count) {
    if (start < 0 || count < 0 || start > d->size || count > d->size - start)
        return di_fail_at(DISTAC_EINVAL, function,
                          "%lld samples from number %lld (the first is 0) of a data set of %lld", (long long)count,
                          (long long)start, (long long)d->size);
    return DISTAC_OK;
}

distac_status distac_dataset_images(const distac_dataset *dataset, int64_t start, int64_t count,
                                    distac_tensor **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    DI_TRY(check_range(dataset, __func__, start, count));
    const di_samples *s = dataset->samples;
    int64_t shape[4] = {count, s->channels, s->height, s->width};
    distac_tensor *images;
    DI_TRY(di_images_held(dataset, start, count, NULL, out));
    if (*out) return DISTAC_OK;
    DI_TRY(di_tensor_new(s->context, DISTAC_F32, 4, shape, false, &images));
    distac_status status = di_dataset_floats(dataset, start, count, NULL, NULL, images->data);
    if (status != DISTAC_OK) {
        distac_tensor_release(images);
        return status;
    }
    *out = images;
    return DISTAC_OK;
}

distac_status distac_dataset_labels(const distac_dataset *dataset, int64_t start, int64_t count,
                                    distac_tensor **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    DI_TRY(check_range(dataset, __func__, start, count));
    const di_samples *s = dataset->samples;
    if (!s->labels) return di_fail(DISTAC_ESTATE, "the data set has no labels");
    DI_TRY(di_tensor_new(s->context, DISTAC_I64, 1, &count, false, out));
    for (int64_t i = 0; i < count; i++)
        ((int64_t *)(*out)->data)[i] = s->labels[position(dataset, start, NULL, i)];
    return DISTAC_OK;
}

/* ---- hash ---- */

static distac_status hash_pixels(const distac_dataset *d, di_sha256 *hash) {
    const di_samples *s = d->samples;
    size_t bytes = di_samples_bytes(s);
    int64_t piece = (int64_t)((size_t)(1 << 22) / bytes) + 1;
    uint8_t *buffer = di_alloc(s->context, (size_t)piece * bytes);
    if (!buffer) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < d->size && status == DISTAC_OK; i += piece) {
        int64_t n = d->size - i < piece ? d->size - i : piece;
        status = di_dataset_bytes(d, i, n, NULL, buffer);
        if (status == DISTAC_OK) di_sha256_update(hash, buffer, (size_t)n * bytes);
    }
    di_free(s->context, buffer, (size_t)piece * bytes);
    return status;
}

void di_dataset_hash_form(const distac_dataset *dataset, di_sha256 *hash) {
    const di_samples *s = dataset->samples;
    char text[160];
    int n = snprintf(text, sizeof text, "%lld %lld %d %d %d %d\n", (long long)dataset->size, (long long)s->classes,
                     s->channels, s->height, s->width, s->labels ? 1 : 0);
    di_sha256_update(hash, text, (size_t)n);
    for (int32_t c = 0; c < s->channels; c++) {
        n = snprintf(text, sizeof text, "%a %a\n", dataset->mean[c], dataset->std[c]);
        di_sha256_update(hash, text, (size_t)n);
    }
}

distac_status distac_dataset_hash(const distac_dataset *dataset, distac_strings **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    const di_samples *s = dataset->samples;
    di_sha256 hash;
    di_sha256_init(&hash);
    di_dataset_hash_form(dataset, &hash);
    char text[32];
    for (int64_t i = 0; s->labels && i < dataset->size; i++) {
        int n = snprintf(text, sizeof text, "%lld\n", (long long)s->labels[position(dataset, 0, NULL, i)]);
        di_sha256_update(&hash, text, (size_t)n);
    }
    DI_TRY(hash_pixels(dataset, &hash));
    return di_sha256_strings(&hash, out);
}
