/* sample.c: the pixels of one sample, from wherever they are: fitted in memory, of their own size in memory, or in
 * a file. */
#include "pack.h"
#include <string.h>

static distac_status geometry_of(const di_samples *s, int32_t width, int32_t height, const di_sample_crop *crop,
                                 di_geometry *g) {
    if (crop) return di_crop_geometry(width, height, &crop->desc, crop->seed, crop->stream, s->height, g);
    return di_fit_geometry(width, height, s->height, g);
}

/* An image with interleaved channels. Grey ones are resized as grey, then copied to every channel. */
static distac_status from_pixels(const di_samples *s, int32_t width, int32_t height, int32_t channels,
                                 const uint8_t *pixels, const di_sample_crop *crop, uint8_t *planes) {
    di_geometry g;
    DI_TRY(geometry_of(s, width, height, crop, &g));
    DI_TRY(di_resample(s->context, channels, width, height, pixels, &g, true, planes));
    size_t plane = (size_t)s->height * (size_t)s->width;
    for (int32_t c = 1; channels == 1 && c < s->channels; c++) memcpy(planes + (size_t)c * plane, planes, plane);
    return DISTAC_OK;
}

static distac_status from_raw(const di_samples *s, int64_t index, const di_sample_crop *crop, uint8_t *planes) {
    const int64_t *shape = s->raw->shape; /* [N,h,w,c] */
    const uint8_t *pixels = (const uint8_t *)s->raw->data + index * shape[1] * shape[2] * shape[3];
    return from_pixels(s, (int32_t)shape[2], (int32_t)shape[1], (int32_t)shape[3], pixels, crop, planes);
}

/* Crops of images that are kept at the data set's size, plane by plane. */
static distac_status from_planes(const di_samples *s, int64_t index, const di_sample_crop *crop, uint8_t *planes) {
    di_geometry g;
    size_t plane = (size_t)s->height * (size_t)s->width;
    const uint8_t *src = (const uint8_t *)s->pixels->data + (size_t)index * di_samples_bytes(s);
    DI_TRY(geometry_of(s, s->width, s->height, crop, &g));
    for (int32_t c = 0; c < s->channels; c++)
        DI_TRY(di_resample(s->context, 1, s->width, s->height, src + (size_t)c * plane, &g, true,
                           planes + (size_t)c * plane));
    return DISTAC_OK;
}

static distac_status from_file(const di_samples *s, int64_t index, const di_sample_crop *crop, uint8_t *planes) {
    uint8_t *bytes;
    size_t count;
    di_sample_plan plan = {.size = s->height, .channels = s->channels, .crop = crop != NULL};
    if (crop) {
        plan.desc = crop->desc;
        plan.seed = crop->seed;
        plan.stream = crop->stream;
    }
    DI_TRY(di_read_file(s->context, s->files[index], DI_IMAGE_FILE, &bytes, &count));
    distac_status status = di_image_sample(s->context, s->files[index], bytes, count, &plan, planes);
    di_free(s->context, bytes, count);
    return status;
}

distac_status di_samples_planes(const di_samples *s, int64_t index, const di_sample_crop *crop, uint8_t *planes) {
    if (s->pixels && !crop) {
        memcpy(planes, (const uint8_t *)s->pixels->data + (size_t)index * di_samples_bytes(s),
               di_samples_bytes(s));
        return DISTAC_OK;
    }
    int32_t width, height;
    const uint8_t *packed = crop || !s->packs[DI_PACK_FITTED]
                                ? NULL
                                : di_pack_pixels(s->packs[DI_PACK_FITTED], index, &width, &height);
    if (packed) {
        memcpy(planes, packed, di_samples_bytes(s));
        return DISTAC_OK;
    }
    if (s->packs[DI_PACK_ORIGINALS]) packed = di_pack_pixels(s->packs[DI_PACK_ORIGINALS], index, &width, &height);
    if (packed) return from_pixels(s, width, height, s->channels, packed, crop, planes);
    if (s->files) return from_file(s, index, crop, planes); /* kept pixels are fitted: crops are of the original */
    return s->raw ? from_raw(s, index, crop, planes) : from_planes(s, index, crop, planes);
}
