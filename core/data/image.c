/* image.c: 8-bit images: making, converting, fitting, turning into tensors. Decoding is in png.c,
 * jpeg.c and pnm.c, resizing in resample.c, boxes in crop.c. */
#include "data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

distac_status di_image_new(distac_context *context, int32_t width, int32_t height, int32_t channels,
                           distac_image **out) {
    if (width < 1 || height < 1 || width > DI_IMAGE_SIDE || height > DI_IMAGE_SIDE ||
        (int64_t)width * height > DI_IMAGE_PIXELS)
        return di_fail(DISTAC_EINVAL, "%d x %d pixels: sides are 1 to %d, pixels in all at most %d", width, height,
                       DI_IMAGE_SIDE, DI_IMAGE_PIXELS);
    if (channels != 1 && channels != 3)
        return di_fail(DISTAC_EINVAL, "channels %d: 1 (grey) or 3 (RGB)", channels);
    distac_image *image = di_new(sizeof *image);
    if (!image) return DISTAC_ENOMEM;
    image->bytes = (size_t)width * (size_t)height * (size_t)channels;
    image->pixels = di_alloc(context, image->bytes);
    if (!image->pixels) {
        free(image);
        return DISTAC_ENOMEM;
    }
    atomic_init(&image->refs, 1);
    image->context = context;
    di_context_retain(context);
    image->width = width;
    image->height = height;
    image->channels = channels;
    *out = image;
    return DISTAC_OK;
}

void distac_image_release(distac_image *image) {
    if (!image || atomic_fetch_sub(&image->refs, 1) != 1) return;
    di_free(image->context, image->pixels, image->bytes);
    distac_context_release(image->context);
    free(image);
}

distac_status di_image_convert(distac_image *image, int32_t channels, distac_image **out) {
    if (image->channels == channels) {
        atomic_fetch_add(&image->refs, 1);
        *out = image;
        return DISTAC_OK;
    }
    distac_image *result = NULL;
    DI_TRY(di_image_new(image->context, image->width, image->height, channels, &result));
    size_t count = (size_t)image->width * (size_t)image->height;
    const uint8_t *src = image->pixels;
    uint8_t *dst = result->pixels;
    if (channels == 3) {
        for (size_t i = 0; i < count; i++) dst[3 * i] = dst[3 * i + 1] = dst[3 * i + 2] = src[i];
    } else { /* ITU-R 601 luma in 16-bit fixed point, rounded */
        for (size_t i = 0; i < count; i++) {
            uint32_t luma = src[3 * i] * 19595u + src[3 * i + 1] * 38470u + src[3 * i + 2] * 7471u + 0x8000u;
            dst[i] = (uint8_t)(luma >> 16);
        }
    }
    *out = result;
    return DISTAC_OK;
}

typedef struct format {
    const char *name, *magic;
    size_t bytes;
    distac_status (*decode)(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out);
} format;

/* In the order in which they are tried; without a decoder: known by name only. */
static const format formats[] = {
    {"JPEG", "\xff\xd8", 2, di_jpeg_decode},
    {"PNG", "\x89PNG\r\n\x1a\n", 8, di_png_decode},
    {"PNM", "P1", 2, di_pnm_decode},
    {"PNM", "P2", 2, di_pnm_decode},
    {"PNM", "P3", 2, di_pnm_decode},
    {"PNM", "P4", 2, di_pnm_decode},
    {"PNM", "P5", 2, di_pnm_decode},
    {"PNM", "P6", 2, di_pnm_decode},
    {"PAM", "P7", 2, di_pnm_decode},
    {"PFM", "PF", 2, di_pnm_decode},
    {"PFM", "Pf", 2, di_pnm_decode},
    {"GIF", "GIF8", 4, NULL},
    {"TIFF", "II*\0", 4, NULL},
    {"TIFF", "MM\0*", 4, NULL},
    {"WebP or another RIFF", "RIFF", 4, NULL},
    {"BMP", "BM", 2, NULL},
    {"JPEG 2000", "\0\0\0\xcjP  ", 8, NULL},
};

distac_status di_image_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                              int32_t channels, distac_image **out) {
    if (count == 0) return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: an empty file", name);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const format *f = &formats[i];
        if (count < f->bytes || memcmp(bytes, f->magic, f->bytes) != 0) continue;
        if (f->decode) return f->decode(context, name, bytes, count, channels, out);
        return di_fail_at(DISTAC_EUNSUPPORTED, "distac_image_load", "%s: a %s file; JPEG, PNG and PNM are read",
                          name, f->name);
    }
    char seen[32] = "";
    for (size_t i = 0; i < count && i < 8; i++) snprintf(seen + 3 * i, 4, " %02x", bytes[i]);
    return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: not a JPEG, PNG or PNM file (it begins with%s)",
                      name, seen);
}

distac_status distac_image_load(distac_context *context, const char *path, int32_t channels, distac_image **out) {
    DI_REQUIRE(context && path && out, "context, path and out are needed");
    if (channels != 0 && channels != 1 && channels != 3)
        return di_fail(DISTAC_EINVAL, "channels %d: 0 (as the file), 1 (grey) or 3 (RGB)", channels);
    uint8_t *bytes;
    size_t count;
    DI_TRY(di_read_file(context, path, DI_IMAGE_FILE, &bytes, &count));
    distac_status status = di_image_decode(context, path, bytes, count, channels, out);
    di_free(context, bytes, count);
    return status;
}

distac_status distac_image_from_tensor(const distac_tensor *pixels, distac_image **out) {
    DI_REQUIRE(pixels && out, "pixels and out are needed");
    DI_TRY(di_tensor_expect_here(__func__, "pixels", pixels));
    if (pixels->dtype != DISTAC_U8)
        return di_fail(DISTAC_EDTYPE, "pixels are %s, wanted u8", distac_dtype_name(pixels->dtype));
    char text[128];
    bool planar = pixels->rank == 2;
    if ((!planar && pixels->rank != 3) || (!planar && pixels->shape[2] != 1 && pixels->shape[2] != 3))
        return di_fail(DISTAC_ESHAPE, "pixels have shape %s, wanted [H,W], [H,W,1] or [H,W,3]",
                       di_shape_text(pixels->rank, pixels->shape, text, sizeof text));
    if (pixels->shape[0] > DI_IMAGE_SIDE || pixels->shape[1] > DI_IMAGE_SIDE)
        return di_fail(DISTAC_ESHAPE, "pixels have shape %s, a side is at most %d",
                       di_shape_text(pixels->rank, pixels->shape, text, sizeof text), DI_IMAGE_SIDE);
    int32_t channels = planar ? 1 : (int32_t)pixels->shape[2];
    distac_image *image;
    DI_TRY(di_image_new(pixels->context, (int32_t)pixels->shape[1], (int32_t)pixels->shape[0], channels, &image));
    uint8_t *dst = image->pixels;
    const uint8_t *src = pixels->data;
    for (int64_t y = 0; y < image->height; y++)
        for (int64_t x = 0; x < image->width; x++)
            for (int64_t c = 0; c < channels; c++)
                *dst++ = src[y * pixels->stride[0] + x * pixels->stride[1] + (planar ? 0 : c * pixels->stride[2])];
    *out = image;
    return DISTAC_OK;
}

int32_t distac_image_width(const distac_image *image) {
    return image ? image->width : 0;
}

int32_t distac_image_height(const distac_image *image) {
    return image ? image->height : 0;
}

int32_t distac_image_channels(const distac_image *image) {
    return image ? image->channels : 0;
}

distac_status distac_image_pixels(const distac_image *image, distac_tensor **out) {
    DI_REQUIRE(image && out, "image and out are needed");
    int64_t shape[3] = {image->height, image->width, image->channels};
    DI_TRY(di_tensor_new(image->context, DISTAC_U8, 3, shape, false, out));
    memcpy((*out)->data, image->pixels, image->bytes);
    return DISTAC_OK;
}

distac_status distac_image_tensor(const distac_image *image, int32_t n_mean, const double *mean, int32_t n_std,
                                  const double *std, distac_tensor **out) {
    DI_REQUIRE(image && mean && std && out, "image, mean, std and out are needed");
    if (n_mean != image->channels || n_std != image->channels)
        return di_fail(DISTAC_ESHAPE, "%d means and %d deviations for an image of %d channels", n_mean, n_std,
                       image->channels);
    for (int32_t c = 0; c < n_std; c++)
        if (!(std[c] > 0) || !(mean[c] - mean[c] == 0) || !(std[c] - std[c] == 0))
            return di_fail(DISTAC_EINVAL, "channel %d: mean %g and deviation %g; wanted finite, deviation above 0",
                           c, mean[c], std[c]);
    int64_t shape[3] = {image->channels, image->height, image->width};
    DI_TRY(di_tensor_new(image->context, DISTAC_F32, 3, shape, false, out));
    float *dst = (*out)->data;
    const di_pixels *kernels = di_pixels_for(image->context);
    size_t count = (size_t)image->width * (size_t)image->height, channels = (size_t)image->channels;
    uint8_t piece[1024]; /* of one channel */
    for (size_t c = 0; c < channels; c++)
        for (size_t first = 0; first < count; first += sizeof piece) {
            size_t n = count - first < sizeof piece ? count - first : sizeof piece;
            for (size_t i = 0; i < n; i++) piece[i] = image->pixels[(first + i) * channels + c];
            kernels->floats(piece, (int64_t)n, (float)mean[c], (float)std[c], dst + c * count + first);
        }
    return DISTAC_OK;
}
