/* rows.c: the class token's rows taken out of a batch of token rows, and put back as a gradient. */
#include "nn.h"
#include <string.h>

typedef struct job {
    int64_t images, tokens;
    size_t row;
    const char *from;
    char *to;
} job;
enum { IMAGES_PER_TASK = 32 };

static int64_t tasks(int64_t images) { return (images + IMAGES_PER_TASK - 1) / IMAGES_PER_TASK; }

static int64_t last_image(const job *j, int64_t task) {
    int64_t end = (task + 1) * IMAGES_PER_TASK;
    return end < j->images ? end : j->images;
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

void di_rows_first(distac_context *c, int64_t B, int64_t N, int64_t W, size_t element, const void *x,
                   void *first) {
    job j = {B, N, (size_t)W * element, x, first};
    di_parallel(c, tasks(B), take, &j);
}

void di_rows_first_backward(distac_context *c, int64_t B, int64_t N, int64_t W, size_t element,
                            const void *dfirst, void *dx) {
    job j = {B, N, (size_t)W * element, dfirst, dx};
    di_parallel(c, tasks(B), put, &j);
}
