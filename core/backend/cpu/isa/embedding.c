/* embedding.c: images to patches, patches to tokens, and the gradient of the latter. Copies, mostly. */
#ifndef DI_REAL
#define DI_SELF "embedding.c"
#include "both.h"
#else
#include "kernels.h"

typedef struct {
    int64_t B, C, S, p, N, W;
    const T *from, *cls, *pos;
    T *to, *dcls, *dpos;
} NAME(embedding_job);

/* One image. */
static distac_status NAME(patches_tile)(void *arg, int64_t b) {
    const NAME(embedding_job) *j = arg;
    int64_t C = j->C, S = j->S, p = j->p, G = S / p, K = C * p * p;
    for (int64_t c = 0; c < C; c++) {
        for (int64_t y = 0; y < G * p; y++) {
            const T *row = j->from + ((b * C + c) * S + y) * S;
            T *to = j->to + (b * G + y / p) * G * K + (c * p + y % p) * p;
            for (int64_t g = 0; g < G; g++) {
                for (int64_t i = 0; i < p; i++) to[g * K + i] = row[g * p + i];
            }
        }
    }
    return DISTAC_OK;
}

distac_status NAME(patches)(distac_context *c, int64_t B, int64_t C, int64_t S, int64_t p, const void *images,
                            void *patches) {
    NAME(embedding_job) j = {.B = B, .C = C, .S = S, .p = p, .from = images, .to = patches};
    return di_cpu_run(c, "patches", B, NAME(patches_tile), &j);
}

/* One image. */
static distac_status NAME(tokens_tile)(void *arg, int64_t b) {
    const NAME(embedding_job) *j = arg;
    int64_t N = j->N, W = j->W;
    T *x = j->to + b * N * W;
    const T *patches = j->from + b * (N - 1) * W;
    for (int64_t n = 0; n < N; n++) {
        const T *token = n == 0 ? j->cls : patches + (n - 1) * W, *pos = j->pos + n * W;
        SIMD for (int64_t i = 0; i < W; i++) x[n * W + i] = token[i] + pos[i];
    }
    return DISTAC_OK;
}

distac_status NAME(tokens)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *embedded,
                           const void *cls, const void *pos, void *x) {
    NAME(embedding_job) j = {.B = B, .N = N, .W = W, .from = embedded, .cls = cls, .pos = pos, .to = x};
    return di_cpu_run(c, "tokens", B, NAME(tokens_tile), &j);
}

/* One position of all images: its gradient is the sum over images, added in blocks of 16, 256 columns at a time.
 */
static distac_status NAME(tokens_backward_tile)(void *arg, int64_t n) {
    const NAME(embedding_job) *j = arg;
    int64_t N = j->N, W = j->W;
    T block[256], total[256];
    for (int64_t q = 0; q < W; q += 256) {
        int64_t width = di_cpu_min(256, W - q);
        memset(total, 0, sizeof total);
        for (int64_t first = 0; first < j->B; first += 16) {
            int64_t last = di_cpu_min(j->B, first + 16);
            memset(block, 0, sizeof block);
            for (int64_t b = first; b < last; b++) {
                const T *dx = j->from + (b * N + n) * W + q;
                SIMD for (int64_t i = 0; i < width; i++) block[i] += dx[i];
                if (n > 0 && j->to) memcpy(j->to + (b * (N - 1) + n - 1) * W + q, dx, (size_t)width * sizeof(T));
            }
            SIMD for (int64_t i = 0; i < width; i++) total[i] += block[i];
        }
        if (j->dpos) {
            for (int64_t i = 0; i < width; i++) j->dpos[n * W + q + i] += total[i];
        }
        if (n == 0 && j->dcls) {
            for (int64_t i = 0; i < width; i++) j->dcls[q + i] += total[i];
        }
    }
    return DISTAC_OK;
}

distac_status NAME(tokens_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *dx,
                                    void *dembedded, void *dcls, void *dpos) {
    NAME(embedding_job) j = {.B = B, .N = N, .W = W, .from = dx, .to = dembedded, .dcls = dcls, .dpos = dpos};
    return di_cpu_run(c, "tokens_backward", N, NAME(tokens_backward_tile), &j);
}
#endif
