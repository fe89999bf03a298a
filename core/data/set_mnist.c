/* set_mnist.c: MNIST, four IDX files, plain or gzip, as torchvision keeps them (MNIST/raw) or beside each other.
 * The digits are resized as grey pictures and copied to three channels afterwards: the same numbers, a third of
 * the work. */
#include "sets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const folders[] = {"MNIST", NULL};

static char *find_file(const char *home, const char *stem, const char *kind) {
    static const char *const shapes[] = {"raw/%s-%s-ubyte", "raw/%s-%s-ubyte.gz", "%s-%s-ubyte", "%s-%s-ubyte.gz"};
    static const char dots[] = {'-', '.'}; /* train-images-idx3-ubyte, or train-images.idx3-ubyte */
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        char name[64];
        snprintf(name, sizeof name, shapes[i / 2], stem, kind);
        char *dot = strstr(name, "-idx");
        if (dot) *dot = dots[i % 2];
        char *found = di_find(home, name, 1);
        if (found) return found;
    }
    return NULL;
}

/* Takes pixels and labels out of what the IDX reader made. */
static distac_status from_idx(distac_context *context, const char *images, distac_dataset *d, int32_t size,
                              di_samples **out) {
    di_samples *s = d->samples;
    if (s->channels != 1 || s->classes > 10)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                          "%s: %d channels and labels up to %lld; MNIST has grey digits 0 to 9", images,
                          s->channels, (long long)s->classes - 1);
    distac_tensor *raw; /* one channel: [N,1,h,w] and [N,h,w,1] are the same bytes */
    DI_TRY(distac_tensor_reshape(s->pixels, 4, (const int64_t[4]){s->count, s->height, s->width, 1}, &raw));
    int64_t *labels = s->labels;
    s->labels = NULL;
    return di_set_arrays(context, raw, labels, 10, size, out);
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    const char *stem = part == DI_PART_TEST ? "t10k" : "train";
    char *images = find_file(home, stem, "images-idx3"), *labels = find_file(home, stem, "labels-idx1");
    distac_dataset *d = NULL;
    distac_status status = DISTAC_ENOTFOUND;
    if (images && labels) status = distac_dataset_idx(context, images, labels, &d);
    if (d) status = from_idx(context, images, d, size, out);
    distac_dataset_release(d);
    free(images);
    free(labels);
    return status;
}

const di_set di_set_mnist = {
    .name = "mnist",
    .folders = folders,
    .layout = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz, with or without raw/",
    .classes = 10,
    .train = 60000,
    .test = 10000,
    .names = di_set_digits,
    .open = open_files, /* class names: the numbers that all samples begin with */
};
