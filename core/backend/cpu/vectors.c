/* vectors.c: passes over flat vectors that no instruction set makes faster: squares summed in double, the search
 * for what is not finite, a base and scaled vectors added in double. */
#include "cpu.h"
#include "general.h"

#include <math.h>

enum { ELEMENTS_PER_TASK = 1 << 14, STEP = 256 };

typedef struct job {
    int64_t n;
    void *g;
    double *out;
    int32_t models;
    const void *const *taus;
    const double *lambdas;
    const void *base;
    void *sum;
} job;

#define ENTRIES(suffix, type)                                                                                     \
    static void square_##suffix(void *arg, int64_t block) {                                                       \
        const job *j = arg;                                                                                       \
        int64_t start = block * ELEMENTS_PER_TASK, end = di_cpu_min(j->n, start + ELEMENTS_PER_TASK);             \
        type *g = j->g;                                                                                           \
        for (int64_t i = start; i < end; i++) {                                                                   \
            j->out[i] += (double)g[i] * (double)g[i];                                                             \
            g[i] = 0;                                                                                             \
        }                                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_square_##suffix(distac_context *c, int64_t n, void *g, double *out) {                    \
        job j = {.n = n, .g = g, .out = out};                                                                     \
        di_parallel(c, di_cpu_ceil(n, ELEMENTS_PER_TASK), square_##suffix, &j);                                   \
        return DISTAC_OK;                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_nonfinite_##suffix(distac_context *c, int64_t n, const void *x, int64_t *first) {        \
        (void)c;                                                                                                  \
        const type *values = x;                                                                                   \
        *first = -1;                                                                                              \
        for (int64_t i = 0; i < n && *first < 0; i++)                                                             \
            if (!isfinite(values[i])) *first = i;                                                                 \
        return DISTAC_OK;                                                                                         \
    }                                                                                                             \
    static void combine_##suffix(void *arg, int64_t block) {                                                      \
        const job *j = arg;                                                                                       \
        int64_t end = di_cpu_min(j->n, (block + 1) * ELEMENTS_PER_TASK);                                          \
        for (int64_t at = block * ELEMENTS_PER_TASK; at < end; at += STEP) {                                      \
            double sum[STEP];                                                                                     \
            int64_t n = di_cpu_min(STEP, end - at);                                                               \
            for (int64_t i = 0; i < n; i++) sum[i] = (double)((const type *)j->base)[at + i];                     \
            for (int32_t t = 0; t < j->models; t++) {                                                             \
                const double lambda = j->lambdas[t];                                                              \
                const type *tau = (const type *)j->taus[t] + at;                                                  \
                if (lambda == 0.0) continue;                                                                      \
                for (int64_t i = 0; i < n; i++) sum[i] += lambda * (double)tau[i];                                \
            }                                                                                                     \
            for (int64_t i = 0; i < n; i++) ((type *)j->sum)[at + i] = (type)sum[i];                              \
        }                                                                                                         \
    }                                                                                                             \
    distac_status di_cpu_combine_##suffix(distac_context *c, int64_t n, int32_t models, const void *const *taus,  \
                                          const double *lambdas, const void *base, void *out) {                   \
        job j = {.n = n, .models = models, .taus = taus, .lambdas = lambdas, .base = base, .sum = out};           \
        di_parallel(c, di_cpu_ceil(n, ELEMENTS_PER_TASK), combine_##suffix, &j);                                  \
        return DISTAC_OK;                                                                                         \
    }
ENTRIES(f32, float)
ENTRIES(f64, double)
