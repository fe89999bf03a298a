/* sample.c: the pixels of one sample, from wherever they are: fitted in memory, of their own size in memory, or in
 * a file. */
#include "data.h"
#include <string.h>

/* An image with interleaved channels of planes [c,h,w]. */
static distac_status from_planes(distac_context *context, const distac_tensor *raw, int64_t index,
                                 distac_image **out) {
    int64_t channels = raw->shape[1], height = raw->shape[2], width = raw->shape[3], plane = height * width;
    DI_TRY(di_image_new(context, (int32_t)width, (int32_t)height, (int32_t)channels, out));
    const uint8_t *src = (const uint8_t *)raw->data + index * channels * plane;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < plane; i++) (*out)->pixels[i * channels + c] = src[c * plane + i];
    return DISTAC_OK;
}

static distac_status fit(const di_samples *s, int64_t index, const distac_image *image, uint8_t *planes) {
    distac_image *fitted;
    distac_status status = distac_image_fit(image, s->height, &fitted);
    if (status == DISTAC_EINVAL && s->files) /* an absurd aspect ratio: the file's fault */
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder", "%s: an image too long and thin to be fitted",
                          s->files[index]);
    if (status != DISTAC_OK) return status;
    size_t plane = (size_t)s->height * (size_t)s->width;
    di_image_planes(fitted, planes);
    if (fitted->channels == 1) /* grey ones are resized as grey, then copied to every channel */
        for (int32_t c = 1; c < s->channels; c++) memcpy(planes + (size_t)c * plane, planes, plane);
    distac_image_release(fitted);
    return DISTAC_OK;
}

distac_status di_samples_planes(const di_samples *s, int64_t index, uint8_t *planes) {
    size_t bytes = (size_t)s->channels * (size_t)s->height * (size_t)s->width;
    if (s->pixels) {
        memcpy(planes, (const uint8_t *)s->pixels->data + (size_t)index * bytes, bytes);
        return DISTAC_OK;
    }
    distac_image *image;
    if (s->raw)
        DI_TRY(from_planes(s->context, s->raw, index, &image));
    else
        DI_TRY(distac_image_load(s->context, s->files[index], s->channels, &image));
    distac_status status = fit(s, index, image, planes);
    distac_image_release(image);
    return status;
}
