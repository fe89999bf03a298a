/* bench_merge_memory.c: where the time of a merge in memory goes: task vectors of a ViT-B/32's shapes to the
 * merged one, beside what no merge can do without: reading all inputs once. Measured in turn, as the speed of
 * memory drifts.
 *
 *   ninja -C build bench_merge_memory && build/spec/bench_merge_memory [THREADS [MODELS [ROUNDS [METHOD...]]]]
 * Defaults: 2 8 7 task_arithmetic consensus_ta. Prints medians, the best, and the medians beside reading's. */
#include "bench.h"
#include "merge/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 12, SHAPES = 6, MOST = 16, MOST_ROUNDS = 64 };

static distac_context *context;
static distac_checkpoint *taus[MOST];
static int32_t models = 8;

/* ---- inputs ---- */

static void add(distac_checkpoint *checkpoint, const char *name, const int64_t *shape, uint32_t seed) {
    distac_tensor *tensor;
    need(distac_tensor_create(context, DISTAC_F32, 2, shape, &tensor));
    float *x = distac_tensor_data(tensor);
    for (int64_t i = 0; i < shape[0] * shape[1]; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) * 0x1p-24f - 0.5f) * 0.02f;
    }
    need(distac_checkpoint_set(checkpoint, name, tensor));
    distac_tensor_release(tensor);
}

static distac_checkpoint *vector(uint32_t seed) {
    static const int64_t shapes[SHAPES][2] = {{2304, 768}, {768, 768}, {3072, 768},
                                              {768, 3072}, {9, 768},   {6, 768}};
    static const int64_t patches[] = {768, 3072}, projection[] = {512, 768};
    distac_checkpoint *made;
    char name[32];
    need(distac_checkpoint_create(context, &made));
    for (int i = 0; i < LAYERS * SHAPES; i++) {
        snprintf(name, sizeof name, "layer.%d.%d", i / SHAPES, i % SHAPES);
        add(made, name, shapes[i % SHAPES], seed + (uint32_t)i);
    }
    add(made, "patches", patches, seed + 1000);
    add(made, "projection", projection, seed + 1001);
    return made;
}

/* ---- reading ---- */

enum { RUN = 1024, WIDTH = 64 }; /* elements of one model at a time, and of them side by side */
static float seen[256];          /* so that reading is not optimised away */

DI_CLONES static float sum_of(const float *const *x, int64_t n) {
    float sum[WIDTH] = {0}, total = 0;
    for (int64_t i = 0; i + RUN <= n; i += RUN)
        for (int32_t t = 0; t < models; t++)
            for (int64_t k = i; k < i + RUN; k += WIDTH)
                for (int l = 0; l < WIDTH; l++) sum[l] += x[t][k + l];
    for (int l = 0; l < WIDTH; l++) total += sum[l];
    return total;
}

static void read_tensor(void *arg, int64_t index) {
    const float *x[MOST];
    (void)arg;
    for (int32_t t = 0; t < models; t++) x[t] = distac_tensor_data(taus[t]->entries[index]->tensor);
    seen[index % 256] = sum_of(x, taus[0]->entries[index]->numel);
}

static double reading(void) {
    double begin = now();
    di_parallel(context, taus[0]->count, read_tensor, NULL);
    return now() - begin;
}

static double merging(const distac_merge *merge) {
    distac_checkpoint *out;
    double begin = now();
    need(distac_merge_delta(merge, models, taus, &out));
    double took = now() - begin;
    distac_checkpoint_release(out);
    return took;
}

static int by_size(const void *a, const void *b) {
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static char *defaults[] = {"task_arithmetic", "consensus_ta"};
    static double times[MOST][MOST_ROUNDS];
    distac_merge *merges[MOST];
    int threads = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 3 ? atoi(argv[3]) : 7;
    int count = argc > 4 ? argc - 4 : 2;
    char **names = argc > 4 ? argv + 4 : defaults;
    models = argc > 2 ? atoi(argv[2]) : 8;
    if (models < 1 || models > MOST || rounds < 1 || rounds > MOST_ROUNDS || count >= MOST) return 2;
    need(distac_context_create(NULL, &context));
    need(distac_context_set_threads(context, threads));
    for (int i = 0; i < count; i++) need(distac_merge_create(context, names[i], &merges[i]));
    for (int32_t t = 0; t < models; t++) taus[t] = vector((uint32_t)t * 7919u);
    for (int r = -1; r < rounds; r++) /* the first is for the memory, which is touched and then kept */
        for (int i = 0; i <= count; i++) {
            double took = i == 0 ? reading() : merging(merges[i - 1]);
            if (r >= 0) times[i][r] = took;
        }
    int64_t elements = 0;
    for (int64_t i = 0; i < taus[0]->count; i++) elements += taus[0]->entries[i]->numel;
    printf("%d task vectors of %.1f M elements, %d threads, %d rounds in turn\n", (int)models,
           (double)elements / 1e6, threads, rounds);
    printf("%-18s%10s%10s%10s%10s\n", "", "median ms", "best ms", "GB/s", "x reading");
    for (int i = 0; i <= count; i++) {
        qsort(times[i], (size_t)rounds, sizeof times[i][0], by_size);
        double median = times[i][rounds / 2], bytes = 4.0 * (double)elements * (models + (i > 0));
        printf("%-18s%10.1f%10.1f%10.1f%10.2f\n", i ? names[i - 1] : "reading", 1e3 * median, 1e3 * times[i][0],
               bytes / median / 1e9, median / times[0][rounds / 2]);
    }
    for (int32_t t = 0; t < models; t++) distac_checkpoint_release(taus[t]);
    for (int i = 0; i < count; i++) distac_merge_release(merges[i]);
    distac_context_release(context);
    return 0;
}
