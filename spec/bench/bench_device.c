/* bench_device.c: a DisTaC step on a device: teacher forward, student forward and backward, KL, anchor, clip,
 * AdamW. bench_device SIZE PRODUCTS [BATCH [SECONDS [STEPS]]] SIZE: tiny, b32, l14. PRODUCTS: f32, tf32, bf16.
 * STEPS: run so many and tell the whole time; 0: as many as fit into SECONDS. Prints one JSON line: images a
 * second, milliseconds a step, TFLOP/s of the matrix products and their share of the same device's largest
 * measured product, seconds from nothing to the first step's end, bytes at most; flops are those of one image. */
#include "backend/backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(distac_status status) {
    if (status == DISTAC_OK) return;
    fprintf(stderr, "bench_device: %s\n", distac_last_error());
    exit(status == DISTAC_EDEVICE ? 3 : 1);
}

/* Floating-point operations of the products of a forward pass of one image; of the last block's second half the
 * class token's alone. */
static double forward_flops(const distac_vit_config *c) {
    double grid = c->image / c->patch, N = grid * grid + 1, W = c->width, L = c->layers, patch = c->patch;
    double embed = (N - 1) * W * c->channels * patch * patch, attention = 3 * N * W * W + 2 * N * N * W;
    double rest = W * W + 2 * W * c->mlp;
    return 2 * (embed + L * attention + (L - 1) * N * rest + rest + W * c->dim);
}

/* Random numbers at `at`, bytes of them: a device multiplies zeros faster, as they cost less power. */
static void fill(distac_context *c, char *at, size_t bytes, bool narrow) {
    enum { BLOCK = 1 << 20 };
    static float numbers[BLOCK];
    static uint16_t halves[BLOCK]; /* bfloat16 */
    uint32_t state = 1;
    for (int i = 0; i < BLOCK; i++) {
        state = state * 1664525u + 1013904223u;
        numbers[i] = (float)(int32_t)state * 0x1p-31f;
        uint32_t bits;
        memcpy(&bits, &numbers[i], sizeof bits);
        halves[i] = (uint16_t)(bits >> 16);
    }
    size_t block = narrow ? sizeof halves : sizeof numbers;
    for (size_t done = 0; done < bytes; done += block)
        need(di_there_put(c, at + done, narrow ? (void *)halves : (void *)numbers,
                          bytes - done < block ? bytes - done : block));
}

/* TFLOP/s of the largest product tried, factors and result as the context's encoders have them. */
static double peak(distac_context *c) {
    static const int64_t sizes[] = {2048, 4096, 8192};
    const di_kernels *k = di_kernels_for_encoders(c, DISTAC_F32);
    double best = 0.0;
    for (int s = 0; s < 3; s++) {
        int64_t n = sizes[s];
        size_t bytes = (size_t)(n * n) * (k->narrow ? 2 : sizeof(float));
        char *memory = di_there_alloc(c, 3 * bytes);
        if (!memory) break;
        fill(c, memory, 2 * bytes, k->narrow);
        for (int round = 0; round < 4; round++) {
            double start = distac_clock(), seconds;
            int64_t runs = 0;
            float probe;
            do {
                for (int i = 0; i < 8; i++, runs++)
                    need(k->linear(c, n, n, n, memory, memory + bytes, NULL, DI_ACT_NONE, NULL, NULL,
                                   memory + 2 * bytes));
                need(di_there_get(c, &probe, memory + 2 * bytes, sizeof probe)); /* waits */
                seconds = distac_clock() - start;
            } while (seconds < 0.3);
            double rate = 2.0 * (double)n * (double)n * (double)n * (double)runs / seconds / 1e12;
            if (rate > best) best = rate;
        }
        di_there_free(c, memory, 3 * bytes);
    }
    return best;
}

int main(int count, char **list) {
    const char *size = count > 1 ? list[1] : "", *products = count > 2 ? list[2] : "bf16";
    int64_t batch = count > 3 ? atoll(list[3]) : 128, steps = count > 5 ? atoll(list[5]) : 0, done = 0;
    double seconds = count > 4 ? atof(list[4]) : 20.0;
    distac_vit_config config = {.channels = 3, .activation = DISTAC_ACT_QUICK_GELU};
    int32_t shape[7] = {28, 14, 32, 2, 2, 64, 16};
    if (strcmp(size, "b32") == 0) memcpy(shape, (int32_t[]){224, 32, 768, 12, 12, 3072, 512}, sizeof shape);
    else if (strcmp(size, "l14") == 0) memcpy(shape, (int32_t[]){224, 14, 1024, 24, 16, 4096, 768}, sizeof shape);
    else if (strcmp(size, "tiny") != 0) {
        fprintf(stderr, "usage: bench_device tiny|b32|l14 f32|tf32|bf16 [BATCH [SECONDS [STEPS]]]\n");
        return 2;
    }
    config.image = shape[0], config.patch = shape[1], config.width = shape[2], config.layers = shape[3];
    config.heads = shape[4], config.mlp = shape[5], config.dim = shape[6];
    enum { CLASSES = 100 };
    double begin = distac_clock();
    const distac_context_desc desc = {.device = "cuda", .products = products};
    distac_context *c;
    distac_vit *student, *teacher;
    distac_head *head;
    distac_optimizer *optimizer;
    distac_kd *kd;
    distac_tensor *weight, *images, *there, *flat;
    distac_step_stats stats;
    need(distac_context_create(&desc, &c));
    double opened = distac_clock();
    need(distac_vit_create(c, &config, DISTAC_F32, &teacher));
    need(distac_vit_init(teacher, 1));
    need(distac_vit_clone(teacher, &student));
    need(distac_vit_params(student, &flat));
    need(distac_tensor_create(c, DISTAC_F32, 2, (int64_t[]){CLASSES, config.dim}, &weight));
    need(distac_tensor_random(weight, 0, 2, 1));
    need(distac_head_create(weight, 1, &head));
    const distac_adamw_desc adamw = {.lr = 1e-5, .clip = 1.0};
    need(distac_adamw_create(c, &adamw, distac_tensor_numel(flat), DISTAC_F32, &optimizer));
    const distac_kd_desc kd_desc = {1.0, 10.0, 0.5, batch};
    need(distac_kd_create(student, teacher, head, optimizer, &kd_desc, &kd));
    need(distac_tensor_create(c, DISTAC_F32, 4, (int64_t[]){batch, 3, config.image, config.image}, &images));
    need(distac_tensor_random(images, 0, 3, 1));
    need(distac_tensor_to(images, "cuda", &there));
    double ready = distac_clock();
    need(distac_kd_step(kd, there, NULL, -1.0, &stats));
    double first = distac_clock();
    for (int i = 0; i < 3; i++) need(distac_kd_step(kd, there, NULL, -1.0, &stats));
    double start = distac_clock(), end;
    do {
        need(distac_kd_step(kd, there, NULL, -1.0, &stats));
        done++;
        end = distac_clock();
    } while (steps > 0 ? done < steps : end - start < seconds);
    distac_context_info info;
    need(distac_context_get_info(c, &info));
    double flops = 4.0 * forward_flops(&config) * (double)batch * (double)done / (end - start) / 1e12;
    distac_kd_release(kd);
    distac_optimizer_release(optimizer);
    distac_head_release(head);
    distac_vit_release(student);
    distac_vit_release(teacher);
    double most = strcmp(size, "tiny") == 0 ? INFINITY : peak(c); /* tiny is for start-up */
    printf(
        "{\"who\":\"distac\",\"size\":\"%s\",\"products\":\"%s\",\"batch\":%lld,\"steps\":%lld,\"seconds\":%.3f,"
        "\"images_per_s\":%.1f,\"ms_per_step\":%.3f,\"flops_image\":%.6g,\"tflops\":%.2f,\"peak_tflops\":%.2f,"
        "\"share\":%.3f,"
        "\"open_s\":%.3f,\"models_s\":%.3f,\"first_step_s\":%.3f,\"memory_peak\":%lld,\"loss\":%.6g}\n",
        size, products, (long long)batch, (long long)done, end - start, (double)(batch * done) / (end - start),
        (end - start) * 1e3 / (double)done, 4.0 * forward_flops(&config), flops, isfinite(most) ? most : 0.0,
        isfinite(most) ? flops / most : 0.0, opened - begin, ready - opened, first - ready,
        (long long)info.memory_peak, stats.loss);
    distac_tensor_release(weight);
    distac_tensor_release(images);
    distac_tensor_release(there);
    distac_tensor_release(flat);
    distac_context_release(c);
    return 0;
}
