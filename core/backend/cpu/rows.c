/* rows.c: rows and planes moved to other places: the class token's rows taken out of a batch of token rows and put
 * back as a gradient, rows in the order of a list, bytes of images as floats. */
#include "../pixels.h"
#include "cpu.h"
#include "general.h"

#include <string.h>

typedef struct job {
    distac_context *context;
    int64_t images, tokens, channels, plane;
    size_t row, element;
    const char *from;
    char *to;
    const int64_t *list;
    const double *mean, *std;
} job;
enum { IMAGES_PER_TASK = 32 };

static int64_t tasks(int64_t images) { return di_cpu_ceil(images, IMAGES_PER_TASK); }

static int64_t last_image(const job *j, int64_t task) {
    return di_cpu_min(j->images, (task + 1) * IMAGES_PER_TASK);
}

static void take(void *arg, int64_t task) {
    const job *j = arg;
    size_t image = j->row * (size_t)j->tokens;
    for (int64_t b = task * IMAGES_PER_TASK; b < last_image(j, task); b++)
        memcpy(j->to + (size_t)b * j->row, j->from + (size_t)b * image, j->row);
}

static void put(void *arg, int64_t task) {
    const job *j = arg;
    size_t image = j->row * (size_t)j->tokens;
    for (int64_t b = task * IMAGES_PER_TASK; b < last_image(j, task); b++) {
        memcpy(j->to + (size_t)b * image, j->from + (size_t)b * j->row, j->row);
        memset(j->to + (size_t)b * image + j->row, 0, image - j->row);
    }
}

static void pick(void *arg, int64_t task) {
    const job *j = arg;
    for (int64_t b = task * IMAGES_PER_TASK; b < last_image(j, task); b++)
        memcpy(j->to + (size_t)b * j->row, j->from + (size_t)j->list[b] * j->row, j->row);
}

static void normalize(void *arg, int64_t image) {
    const job *j = arg;
    const di_pixels *kernels = di_pixels_for(j->context);
    for (int64_t c = 0; c < j->channels; c++) {
        int64_t at = (image * j->channels + c) * j->plane, source = j->list ? j->list[image] : image;
        const uint8_t *from = (const uint8_t *)j->from + (source * j->channels + c) * j->plane;
        if (j->element == sizeof(float)) {
            kernels->floats(from, j->plane, (float)j->mean[c], (float)j->std[c], (float *)(void *)j->to + at);
            continue;
        }
        double *to = (double *)(void *)j->to + at;
        for (int64_t i = 0; i < j->plane; i++) to[i] = ((double)from[i] / 255.0 - j->mean[c]) / j->std[c];
    }
}

#define ENTRIES(suffix, type)                                                                                     \
    distac_status di_cpu_rows_first_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W, const void *x,   \
                                             void *first) {                                                       \
        job j = {.images = B, .tokens = N, .row = (size_t)W * sizeof(type), .from = x, .to = first};              \
        di_parallel(c, tasks(B), take, &j);                                                                       \
        return DISTAC_OK;                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_rows_first_backward_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,         \
                                                      const void *dfirst, void *dx) {                             \
        job j = {.images = B, .tokens = N, .row = (size_t)W * sizeof(type), .from = dfirst, .to = dx};            \
        di_parallel(c, tasks(B), put, &j);                                                                        \
        return DISTAC_OK;                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_gather_##suffix(distac_context *c, int64_t n, int64_t C, const int64_t *list,            \
                                         const void *x, void *y) {                                                \
        job j = {.images = n, .row = (size_t)C * sizeof(type), .from = x, .to = y, .list = list};                 \
        di_parallel(c, tasks(n), pick, &j);                                                                       \
        return DISTAC_OK;                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_pixels_##suffix(distac_context *c, int64_t n, int64_t channels, int64_t plane,           \
                                         const uint8_t *bytes, const int64_t *list, const double *mean,           \
                                         const double *std, void *x) {                                            \
        job j = {.context = c, .channels = channels, .plane = plane, .element = sizeof(type),                     \
                 .from = (const char *)bytes, .to = x, .mean = mean, .std = std, .list = list};                   \
        di_parallel(c, n, normalize, &j);                                                                         \
        return DISTAC_OK;                                                                                         \
    }
ENTRIES(f32, float)
ENTRIES(f64, double)
