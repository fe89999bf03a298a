/* pixels.c: the pixels of a data set as they are, and the same samples with other pixels. */
#include "data.h"
#include <stdlib.h>
#include <string.h>

distac_status distac_dataset_pixels(const distac_dataset *dataset, int64_t start, int64_t count,
                                    distac_tensor **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    *out = NULL;
    if (start < 0 || count < 0 || start > dataset->size || count > dataset->size - start)
        return di_fail(DISTAC_EINVAL, "%lld samples from number %lld (the first is 0) of a data set of %lld",
                       (long long)count, (long long)start, (long long)dataset->size);
    const di_samples *s = dataset->samples;
    int64_t shape[4] = {count, s->channels, s->height, s->width};
    distac_tensor *pixels;
    DI_TRY(di_tensor_new(s->context, DISTAC_U8, 4, shape, false, &pixels));
    distac_status status = di_dataset_bytes(dataset, start, count, NULL, pixels->data);
    if (status != DISTAC_OK) {
        distac_tensor_release(pixels);
        return status;
    }
    *out = pixels;
    return DISTAC_OK;
}

/* Labels in the data set's order and the names of the classes. */
static distac_status take_over(const distac_dataset *from, di_samples *to) {
    const di_samples *s = from->samples;
    for (int64_t c = 0; c < s->classes; c++)
        if (s->names[c]) DI_TRY(di_samples_name(to, c, s->names[c]));
    if (!s->labels) return DISTAC_OK;
    to->labels = di_new((size_t)(from->size > 0 ? from->size : 1) * sizeof *to->labels);
    if (!to->labels) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < from->size; i++) to->labels[i] = s->labels[from->order ? from->order[i] : i];
    return DISTAC_OK;
}

distac_status distac_dataset_with_pixels(const distac_dataset *dataset, distac_tensor *pixels,
                                         distac_dataset **out) {
    DI_REQUIRE(dataset && pixels && out, "dataset, pixels and out are needed");
    *out = NULL;
    const di_samples *s = dataset->samples;
    int64_t shape[4] = {dataset->size, s->channels, s->height, s->width};
    DI_TRY(di_tensor_expect(pixels, "pixels", DISTAC_U8, 4, shape));
    di_samples *made;
    DI_TRY(di_samples_new(s->context, dataset->size, s->classes, s->channels, s->height, s->width, &made));
    distac_status status = take_over(dataset, made);
    if (status != DISTAC_OK) {
        di_samples_release(made);
        return status;
    }
    di_tensor_retain(pixels);
    made->pixels = pixels;
    DI_TRY(di_dataset_wrap(made, out));
    memcpy((*out)->mean, dataset->mean, 2 * (size_t)s->channels * sizeof *dataset->mean);
    return DISTAC_OK;
}
