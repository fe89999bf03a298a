/* folder.c: data sets of image files: a folder of class folders (labelled), or a flat folder (unlabelled). What
 * fits is decoded once, by all threads, and kept; larger sets are decoded batch by batch. */
#include "data.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct listing {
    char **files;
    int64_t *labels;
    int64_t count, capacity;
} listing;

static const char *extension(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot + 1 : "";
}

static bool is_image(const char *name) {
    return name[0] != '.' && strcasecmp(extension(name), "png") == 0;
}

/* Images of other formats are named instead of being passed over in silence. */
static bool is_foreign(const char *name) {
    static const char *const known[] = {"jpg", "jpeg", "ppm", "pgm", "pnm", "gif", "bmp", "tif", "tiff", "webp"};
    for (size_t i = 0; i < sizeof known / sizeof *known && name[0] != '.'; i++)
        if (strcasecmp(extension(name), known[i]) == 0) return true;
    return false;
}

static char *join(const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    char *path = di_new(a + b + 2);
    if (!path) return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b);
    return path;
}

/* Takes over path, whatever happens. */
static distac_status add(listing *l, char *path, int64_t label) {
    if (!path) return DISTAC_ENOMEM;
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * (size_t)l->capacity : 256;
        char **files = di_grow(l->files, capacity * sizeof *files);
        if (files) l->files = files;
        int64_t *labels = files ? di_grow(l->labels, capacity * sizeof *labels) : NULL;
        if (!labels) {
            free(path);
            return DISTAC_ENOMEM;
        }
        l->labels = labels;
        l->capacity = (int64_t)capacity;
    }
    l->files[l->count] = path;
    l->labels[l->count++] = label;
    return DISTAC_OK;
}

static distac_status add_images(listing *l, const char *folder, const distac_strings *names, int64_t label) {
    for (int64_t i = 0; i < distac_strings_count(names); i++) {
        const char *name = distac_strings_get(names, i);
        if (is_foreign(name))
            return di_fail_at(DISTAC_EUNSUPPORTED, "distac_dataset_folder", "%s/%s: only PNG images are read",
                              folder, name);
        if (is_image(name)) DI_TRY(add(l, join(folder, name), label));
    }
    return DISTAC_OK;
}

static distac_status add_class(listing *l, const char *path, const char *name, int64_t label) {
    char *folder = join(path, name);
    if (!folder) return DISTAC_ENOMEM;
    distac_strings *names = NULL;
    int64_t before = l->count;
    distac_status status = distac_path_list(folder, &names);
    if (status == DISTAC_OK) status = add_images(l, folder, names, label);
    if (status == DISTAC_OK && l->count == before)
        status =
            di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder", "%s: a class folder without PNG images", folder);
    distac_strings_release(names);
    free(folder);
    return status;
}

/* The sub-folders (classes) and whether images lie beside them. */
static distac_status sort_out(const char *path, const distac_strings *names, distac_strings *classes,
                              bool *images) {
    *images = false;
    for (int64_t i = 0; i < distac_strings_count(names); i++) {
        const char *name = distac_strings_get(names, i);
        if (name[0] == '.') continue;
        char *full = join(path, name);
        if (!full) return DISTAC_ENOMEM;
        int32_t kind = distac_path_kind(full);
        free(full);
        if (kind == 2) DI_TRY(di_strings_add(classes, name));
        if (kind != 2 && (is_image(name) || is_foreign(name))) *images = true;
    }
    return DISTAC_OK;
}

static distac_status list_files(const char *path, distac_strings *names, distac_strings *classes, listing *l) {
    bool images;
    DI_TRY(sort_out(path, names, classes, &images));
    int64_t n = distac_strings_count(classes);
    if (n > 0 && images)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder",
                          "%s holds both images and folders: wanted class folders, or images alone", path);
    for (int64_t c = 0; c < n; c++) DI_TRY(add_class(l, path, distac_strings_get(classes, c), c));
    if (n == 0) DI_TRY(add_images(l, path, names, 0));
    if (l->count == 0) return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder", "%s holds no PNG images", path);
    return DISTAC_OK;
}

distac_status di_folder_decode(const di_samples *samples, int64_t index, uint8_t *planes) {
    const char *path = samples->files[index];
    distac_image *image, *fitted;
    DI_TRY(distac_image_load(samples->context, path, samples->channels, &image));
    distac_status status = distac_image_fit(image, samples->height, &fitted);
    distac_image_release(image);
    if (status == DISTAC_EINVAL) /* an absurd aspect ratio: the file's fault */
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_folder", "%s: an image too long and thin to be fitted",
                          path);
    if (status != DISTAC_OK) return status;
    di_image_planes(fitted, planes);
    distac_image_release(fitted);
    return DISTAC_OK;
}

typedef struct decoding {
    const di_samples *samples;
    uint8_t *pixels;
    size_t bytes;
} decoding;

static distac_status decode_one(void *arg, int64_t i) {
    const decoding *d = arg;
    return di_folder_decode(d->samples, i, d->pixels + (size_t)i * d->bytes);
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
                           int64_t memory, listing *l, di_samples **out) {
    int64_t n = distac_strings_count(classes);
    di_samples *s;
    DI_TRY(di_samples_new(context, l->count, n, channels, size, size, &s));
    s->files = l->files;
    l->files = NULL;
    if (n > 0) {
        s->labels = l->labels;
        l->labels = NULL;
    }
    *out = s;
    for (int64_t c = 0; c < n; c++) DI_TRY(di_samples_name(s, c, distac_strings_get(classes, c)));
    int64_t bytes = (int64_t)channels * size * size;
    return s->count <= memory / bytes ? decode_all(s) : DISTAC_OK;
}

distac_status di_folder_open(distac_context *context, const char *path, int32_t size, int32_t channels,
                             int64_t memory, distac_dataset **out) {
    distac_strings *names = NULL, *classes = di_strings_new();
    listing l = {.count = 0};
    di_samples *samples = NULL;
    distac_status status = classes ? distac_path_list(path, &names) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = list_files(path, names, classes, &l);
    if (status == DISTAC_OK) status = build(context, classes, size, channels, memory, &l, &samples);
    for (int64_t i = 0; l.files && i < l.count; i++) free(l.files[i]);
    free(l.files);
    free(l.labels);
    distac_strings_release(names);
    distac_strings_release(classes);
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    return di_dataset_wrap(samples, out);
}

distac_status distac_dataset_folder(distac_context *context, const char *path, int32_t size, int32_t channels,
                                    distac_dataset **out) {
    DI_REQUIRE(context && path && out, "context, path and out are needed");
    if (size < 1 || size > 4096) return di_fail(DISTAC_EINVAL, "size %d: 1 to 4096", size);
    if (channels != 1 && channels != 3)
        return di_fail(DISTAC_EINVAL, "channels %d: 1 (grey) or 3 (RGB)", channels);
    return di_folder_open(context, path, size, channels, DI_FOLDER_MEMORY, out);
}
