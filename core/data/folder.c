/* folder.c: data sets of image files: a folder of class folders (labelled), or a flat folder (unlabelled). What
 * fits is decoded once, by all threads, and kept; larger sets are decoded batch by batch. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>

static distac_status add_class(di_listing *l, const char *path, const char *name, int64_t label) {
    char *folder = di_join(path, name);
    if (!folder) return DISTAC_ENOMEM;
    int64_t before = l->count;
    distac_status status = di_listing_walk(l, folder, label);
    if (status == DISTAC_OK && l->count == before)
        status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder",
                            "%s: a class folder without PNG, JPEG or PNM images", folder);
    free(folder);
    return status;
}

/* Do images lie beside the class folders? */
static distac_status images_beside(const char *path, bool *images) {
    distac_strings *names;
    *images = false;
    DI_TRY(distac_path_list(path, &names));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < distac_strings_count(names) && status == DISTAC_OK; i++) {
        const char *name = distac_strings_get(names, i);
        if (!di_is_image(name) && !di_is_foreign_image(name)) continue;
        char *full = di_join(path, name);
        if (!full) status = DISTAC_ENOMEM;
        if (full && distac_path_kind(full) != 2) *images = true;
        free(full);
    }
    distac_strings_release(names);
    return status;
}

static distac_status list_files(const char *path, const distac_strings *classes, di_listing *l) {
    bool images;
    DI_TRY(images_beside(path, &images));
    int64_t n = distac_strings_count(classes);
    if (n > 0 && images)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder",
                          "%s holds both images and folders: wanted class folders, or images alone", path);
    for (int64_t c = 0; c < n; c++) DI_TRY(add_class(l, path, distac_strings_get(classes, c), c));
    if (n == 0) DI_TRY(di_listing_walk(l, path, 0));
    if (l->count == 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder", "%s holds no PNG, JPEG or PNM images", path);
    return DISTAC_OK;
}

typedef struct decoding {
    const di_samples *samples;
    uint8_t *pixels;
    size_t bytes;
} decoding;

static distac_status decode_one(void *arg, int64_t i) {
    const decoding *d = arg;
    return di_samples_planes(d->samples, i, NULL, d->pixels + (size_t)i * d->bytes);
}

static distac_status decode_all(di_samples *s) {
    int64_t shape[4] = {s->count, s->channels, s->height, s->width};
    distac_tensor *pixels;
    DI_TRY(di_tensor_new(s->context, DISTAC_U8, 4, shape, false, &pixels));
    decoding d = {
        .samples = s, .pixels = pixels->data, .bytes = (size_t)s->channels * (size_t)s->height * (size_t)s->width};
    distac_status status = di_parallel_try(s->context, "decoding images", s->count, decode_one, &d);
    if (status == DISTAC_OK)
        s->pixels = pixels;
    else
        distac_tensor_release(pixels);
    return status;
}

static distac_status build(distac_context *context, const distac_strings *classes, int32_t size, int32_t channels,
                           int64_t memory, di_listing *l, di_samples **out) {
    int64_t n = distac_strings_count(classes);
    di_samples *s;
    DI_TRY(di_samples_new(context, l->count, n, channels, size, size, &s));
    s->files = l->files;
    s->labels = n > 0 ? l->labels : NULL;
    if (n == 0) free(l->labels);
    *l = (di_listing){0};
    *out = s;
    for (int64_t c = 0; c < n; c++) DI_TRY(di_samples_name(s, c, distac_strings_get(classes, c)));
    int64_t bytes = (int64_t)channels * size * size;
    return s->count <= memory / bytes ? decode_all(s) : DISTAC_OK;
}

distac_status di_folder_open(distac_context *context, const char *path, int32_t size, int32_t channels,
                             int64_t memory, distac_dataset **out) {
    distac_strings *classes = NULL;
    di_listing l = {.count = 0};
    di_samples *samples = NULL;
    distac_status status = di_subfolders(path, &classes);
    if (status == DISTAC_OK) status = list_files(path, classes, &l);
    if (status == DISTAC_OK) status = build(context, classes, size, channels, memory, &l, &samples);
    di_listing_free(&l);
    distac_strings_release(classes);
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    return di_dataset_wrap(samples, out);
}

static distac_status check_and_open(const char *function, distac_context *context, const char *path, int32_t size,
                                    int32_t channels, int64_t memory, distac_dataset **out) {
    if (!context || !path || !out) return di_fail_at(DISTAC_EINVAL, function, "context, path and out are needed");
    if (size < 1 || size > 4096) return di_fail_at(DISTAC_EINVAL, function, "size %d: 1 to 4096", size);
    if (channels != 1 && channels != 3)
        return di_fail_at(DISTAC_EINVAL, function, "channels %d: 1 (grey) or 3 (RGB)", channels);
    return di_folder_open(context, path, size, channels, memory, out);
}

distac_status distac_dataset_folder(distac_context *context, const char *path, int32_t size, int32_t channels,
                                    distac_dataset **out) {
    return check_and_open(__func__, context, path, size, channels, DI_FOLDER_MEMORY, out);
}

distac_status distac_dataset_files(distac_context *context, const char *path, int32_t size, int32_t channels,
                                   distac_dataset **out) {
    return check_and_open(__func__, context, path, size, channels, 0, out);
}
