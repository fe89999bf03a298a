/* crop.c: which part of an image is kept: resizing the whole, CLIP's fit of evaluation, boxes, the random crops of
 * training. This file is compiled without contraction of products and sums (see CMakeLists), so that the same
 * draws give the same box on every machine. */
#include "data.h"
#include <math.h>
#include <string.h>

/* ---- geometry ---- */

/* Half of an odd excess is rounded to the even number, as the reference preprocessing does. */
static int64_t centre(int64_t excess) {
    int64_t half = excess / 2;
    return excess % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

distac_status di_fit_geometry(int32_t width, int32_t height, int32_t size, di_geometry *out) {
    if (size < 1 || size > 16384)
        return di_fail_at(DISTAC_EINVAL, "distac_image_fit", "size %d: 1 to 16384", size);
    bool wide = width > height;
    int64_t shorter = wide ? height : width, longer = wide ? width : height;
    int64_t stretched = (int64_t)size * longer / shorter;
    if (stretched > DI_IMAGE_SIDE || stretched * size > DI_IMAGE_PIXELS)
        return di_fail_at(DISTAC_EINVAL, "distac_image_fit",
                          "an image of %d x %d cannot be fitted to %d: its longer side would be %lld", width,
                          height, size, (long long)stretched);
    int32_t offset = (int32_t)centre(stretched - size);
    *out = (di_geometry){.box_width = width,
                         .box_height = height,
                         .width = wide ? (int32_t)stretched : size,
                         .height = wide ? size : (int32_t)stretched,
                         .left = wide ? offset : 0,
                         .top = wide ? 0 : offset,
                         .window_width = size,
                         .window_height = size};
    return DISTAC_OK;
}

/* CLIP's values where a pair is 0, 0. */
static distac_status complete(const distac_crop_desc *given, distac_crop_desc *desc) {
    *desc = *given;
    if (desc->scale_min == 0 && desc->scale_max == 0) {
        desc->scale_min = 0.9;
        desc->scale_max = 1.0;
    }
    if (desc->ratio_min == 0 && desc->ratio_max == 0) {
        desc->ratio_min = 3.0 / 4.0;
        desc->ratio_max = 4.0 / 3.0;
    }
    if (!(desc->scale_min > 0 && desc->scale_min <= desc->scale_max && desc->scale_max <= 1))
        return di_fail_at(DISTAC_EINVAL, "distac_crop_box", "scale %g to %g: wanted 0 < min <= max <= 1",
                          di_shown(desc->scale_min), di_shown(desc->scale_max));
    if (!(desc->ratio_min >= 1e-3 && desc->ratio_min <= desc->ratio_max && desc->ratio_max <= 1e3))
        return di_fail_at(DISTAC_EINVAL, "distac_crop_box", "ratio %g to %g: wanted 0.001 <= min <= max <= 1000",
                          di_shown(desc->ratio_min), di_shown(desc->ratio_max));
    return DISTAC_OK;
}

/* A whole number 0 … most from a uniform one; most + 1 < 2^21, so every value has its share to within 2^-32. */
static int32_t place(double uniform, int32_t most) {
    return (int32_t)(uniform * (most + 1));
}

/* The largest centred box whose ratio is within bounds. */
static void fall_back(int32_t width, int32_t height, const distac_crop_desc *desc, di_geometry *g) {
    double ratio = (double)width / height;
    double w = width, h = height;
    if (ratio < desc->ratio_min)
        h = nearbyint(w / desc->ratio_min);
    else if (ratio > desc->ratio_max)
        w = nearbyint(h * desc->ratio_max);
    g->box_width = w < 1 ? 1 : w > width ? width : (int32_t)w;
    g->box_height = h < 1 ? 1 : h > height ? height : (int32_t)h;
    g->x = (width - g->box_width) / 2;
    g->y = (height - g->box_height) / 2;
}

distac_status di_crop_geometry(int32_t width, int32_t height, const distac_crop_desc *given, uint64_t seed,
                               uint64_t stream, int32_t size, di_geometry *out) {
    distac_crop_desc desc;
    if (width < 1 || height < 1 || width > DI_IMAGE_SIDE || height > DI_IMAGE_SIDE)
        return di_fail_at(DISTAC_EINVAL, "distac_crop_box", "an image of %d x %d pixels; sides are 1 to %d", width,
                          height, DI_IMAGE_SIDE);
    if (size < 1 || size > 8192)
        return di_fail_at(DISTAC_EINVAL, "distac_image_random_crop", "size %d: 1 to 8192", size);
    DI_TRY(complete(given, &desc));
    *out = (di_geometry){.width = size, .height = size, .window_width = size, .window_height = size};
    double low = log(desc.ratio_min), high = log(desc.ratio_max), area = (double)width * height;
    for (uint64_t i = 0; i < 10; i++) {
        double share = desc.scale_min + (desc.scale_max - desc.scale_min) * di_uniform(seed, stream, 4 * i);
        double ratio = exp(low + (high - low) * di_uniform(seed, stream, 4 * i + 1));
        double w = nearbyint(sqrt(area * share * ratio)), h = nearbyint(sqrt(area * share / ratio));
        if (!(w >= 1 && w <= width && h >= 1 && h <= height)) continue;
        out->box_width = (int32_t)w;
        out->box_height = (int32_t)h;
        out->y = place(di_uniform(seed, stream, 4 * i + 2), height - out->box_height);
        out->x = place(di_uniform(seed, stream, 4 * i + 3), width - out->box_width);
        return DISTAC_OK;
    }
    fall_back(width, height, &desc, out);
    return DISTAC_OK;
}

distac_status distac_crop_box(int32_t width, int32_t height, const distac_crop_desc *desc, uint64_t seed,
                              uint64_t stream, int32_t *box_x, int32_t *box_y, int32_t *box_width,
                              int32_t *box_height) {
    DI_REQUIRE(desc && box_x && box_y && box_width && box_height, "desc and the results are needed");
    di_geometry g;
    DI_TRY(di_crop_geometry(width, height, desc, seed, stream, 1, &g));
    *box_x = g.x;
    *box_y = g.y;
    *box_width = g.box_width;
    *box_height = g.box_height;
    return DISTAC_OK;
}

/* ---- images ---- */

static distac_status render(const distac_image *image, const di_geometry *g, distac_image **out) {
    distac_image *result = NULL;
    DI_TRY(di_image_new(image->context, g->window_width, g->window_height, image->channels, &result));
    distac_status status = di_resample(image->context, image->channels, image->width, image->height, image->pixels,
                                       g, false, result->pixels);
    if (status != DISTAC_OK) {
        distac_image_release(result);
        return status;
    }
    *out = result;
    return DISTAC_OK;
}

distac_status distac_image_resize(const distac_image *image, int32_t width, int32_t height, distac_image **out) {
    DI_REQUIRE(image && out, "image and out are needed");
    if (width < 1 || height < 1 || width > DI_IMAGE_SIDE || height > DI_IMAGE_SIDE)
        return di_fail(DISTAC_EINVAL, "to %d x %d pixels: sides are 1 to %d", width, height, DI_IMAGE_SIDE);
    di_geometry g = {.box_width = image->width,
                     .box_height = image->height,
                     .width = width,
                     .height = height,
                     .window_width = width,
                     .window_height = height};
    return render(image, &g, out);
}

distac_status distac_image_fit(const distac_image *image, int32_t size, distac_image **out) {
    DI_REQUIRE(image && out, "image and out are needed");
    di_geometry g;
    DI_TRY(di_fit_geometry(image->width, image->height, size, &g));
    return render(image, &g, out);
}

distac_status distac_image_crop(const distac_image *image, int32_t x, int32_t y, int32_t width, int32_t height,
                                distac_image **out) {
    DI_REQUIRE(image && out, "image and out are needed");
    if (x < 0 || y < 0 || width < 1 || height < 1 || x > image->width - width || y > image->height - height)
        return di_fail(DISTAC_EINVAL, "a box of %d x %d at (%d, %d) is not inside an image of %d x %d", width,
                       height, x, y, image->width, image->height);
    distac_image *result;
    DI_TRY(di_image_new(image->context, width, height, image->channels, &result));
    size_t pixel = (size_t)image->channels, row = (size_t)width * pixel;
    for (int32_t i = 0; i < height; i++)
        memcpy(result->pixels + (size_t)i * row,
               image->pixels + ((size_t)(y + i) * (size_t)image->width + (size_t)x) * pixel, row);
    *out = result;
    return DISTAC_OK;
}

distac_status distac_image_random_crop(const distac_image *image, const distac_crop_desc *desc, uint64_t seed,
                                       uint64_t stream, int32_t size, distac_image **out) {
    DI_REQUIRE(image && desc && out, "image, desc and out are needed");
    di_geometry g;
    DI_TRY(di_crop_geometry(image->width, image->height, desc, seed, stream, size, &g));
    return render(image, &g, out);
}
