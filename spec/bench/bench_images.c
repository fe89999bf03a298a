/* bench_images.c: JPEG files in memory to normalised float tensors [3,224,224], on one core: images per second and
 * where the time goes.
 *   bench_images SECONDS FILE... */
#include "bench.h"
#include "data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 224, AREA = SIDE * SIDE, MOST = 4096 };

typedef struct file {
    const char *path;
    uint8_t *bytes;
    size_t count;
} file;

static void nothing(void *arg, int32_t y, const uint8_t *row) {
    (void)y;
    *(unsigned *)arg += row[0];
}

int main(int argc, char **argv) {
    static file files[MOST];
    static uint8_t planes[3 * AREA];
    static float tensor[3 * AREA];
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    double budget = argc > 2 ? strtod(argv[1], NULL) : 0;
    int n = argc - 2 < MOST ? argc - 2 : MOST;
    if (n < 1 || !(budget > 0)) {
        fprintf(stderr, "usage: bench_images SECONDS FILE...\n");
        return 2;
    }
    distac_context *context;
    distac_context_desc desc = {.threads = 1};
    need(distac_context_create(&desc, &context));
    for (int i = 0; i < n; i++) {
        files[i].path = argv[i + 2];
        need(di_read_file(context, files[i].path, DI_IMAGE_FILE, &files[i].bytes, &files[i].count));
    }
    const di_pixels *kernels = di_pixels_for(context);
    di_sample_plan plan = {.size = SIDE, .channels = 3};
    double sampling = 0, floats = 0, whole = 0, training = 0;
    long done = 0;
    unsigned sum = 0;
    for (double start = now(); now() - start < budget;) {
        for (int i = 0; i < n; i++) {
            const file *f = &files[i];
            double t0 = now();
            plan.crop = false;
            need(di_image_sample(context, f->path, f->bytes, f->count, &plan, planes));
            double t1 = now();
            for (int c = 0; c < 3; c++)
                kernels->floats(planes + c * AREA, AREA, mean[c], std[c], tensor + c * AREA);
            double t2 = now();
            di_jpeg *jpeg;
            need(di_jpeg_open(context, f->path, f->bytes, f->count, &jpeg));
            need(di_jpeg_rows(jpeg, 0, di_jpeg_width(jpeg), 0, di_jpeg_height(jpeg), nothing, &sum));
            di_jpeg_close(jpeg);
            double t3 = now();
            plan.crop = true;
            plan.stream = (uint64_t)done;
            need(di_image_sample(context, f->path, f->bytes, f->count, &plan, planes));
            double t4 = now();
            sampling += t1 - t0;
            floats += t2 - t1;
            whole += t3 - t2;
            training += t4 - t3;
            done++;
        }
    }
    double k = 1e3 / (double)done;
    printf("distac %ld images, %s: %.0f images/s; ms each: bytes to planes %.3f, to floats %.3f; "
           "decoding alone, whole picture %.3f; training crop %.3f\n",
           done, context->isa, (double)done / (sampling + floats), sampling * k, floats * k, whole * k,
           training * k);
    for (int i = 0; i < n; i++) di_free(context, files[i].bytes, files[i].count);
    distac_context_release(context);
    return sum == 1 && tensor[0] == 1;
}
