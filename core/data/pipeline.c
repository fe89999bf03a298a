/* pipeline.c: from the bytes of an image file straight to the planes of a sample. Rows of a JPEG are resized as
 * they are decoded, and columns and rows that the sample does not need are not looked at. */
#include "data.h"
#include <string.h>

static distac_status geometry_of(const char *name, int32_t width, int32_t height, const di_sample_plan *plan,
                                 di_geometry *g) {
    if (plan->crop) return di_crop_geometry(width, height, &plan->desc, plan->seed, plan->stream, plan->size, g);
    distac_status status = di_fit_geometry(width, height, plan->size, g);
    if (status == DISTAC_EINVAL && plan->size >= 1 && plan->size <= 16384) /* the file's fault */
        return di_fail_at(DISTAC_EFORMAT, "distac_image_fit",
                          "%s: an image of %d x %d is too long and thin to be fitted", name, width, height);
    return status;
}

static distac_status sample_jpeg(di_jpeg *jpeg, distac_context *context, const char *name,
                                 const di_sample_plan *plan, uint8_t *planes) {
    di_geometry g;
    di_resizer r;
    DI_TRY(geometry_of(name, di_jpeg_width(jpeg), di_jpeg_height(jpeg), plan, &g));
    DI_TRY(di_resizer_open(context, di_jpeg_channels(jpeg), &g, true, &r));
    distac_status status = di_jpeg_rows(jpeg, r.x0, r.x1, r.y0, r.y1, di_resizer_row, &r);
    if (status == DISTAC_OK) di_resizer_finish(&r, planes);
    di_resizer_close(&r);
    return status;
}

static distac_status sample_image(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                                  const di_sample_plan *plan, uint8_t *planes) {
    di_geometry g;
    distac_image *image;
    DI_TRY(di_image_decode(context, name, bytes, count, plan->channels, &image));
    distac_status status = geometry_of(name, image->width, image->height, plan, &g);
    if (status == DISTAC_OK)
        status =
            di_resample(context, image->channels, image->width, image->height, image->pixels, &g, true, planes);
    distac_image_release(image);
    return status;
}

distac_status di_image_sample(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                              const di_sample_plan *plan, uint8_t *planes) {
    if (plan->channels != 1 && plan->channels != 3)
        return di_fail_at(DISTAC_EINVAL, "distac_dataset", "channels %d: 1 (grey) or 3 (RGB)", plan->channels);
    if (count < 2 || bytes[0] != 0xff || bytes[1] != 0xd8)
        return sample_image(context, name, bytes, count, plan, planes);
    di_jpeg *jpeg;
    DI_TRY(di_jpeg_open(context, name, bytes, count, &jpeg));
    int32_t channels = di_jpeg_channels(jpeg);
    if (channels == 3 && plan->channels == 1) { /* grey is made before the resizing, which rounds */
        di_jpeg_close(jpeg);
        return sample_image(context, name, bytes, count, plan, planes);
    }
    distac_status status = sample_jpeg(jpeg, context, name, plan, planes);
    di_jpeg_close(jpeg);
    size_t plane = (size_t)plan->size * (size_t)plan->size;
    for (int32_t c = 1; status == DISTAC_OK && channels == 1 && c < plan->channels; c++)
        memcpy(planes + (size_t)c * plane, planes, plane);
    return status;
}
