/* layernorm.c: LayerNorm over rows and its gradients. */
#ifndef DI_REAL
#define DI_SELF "layernorm.c"
#include "both.h"
#else
#include "kernels.h"
#include "layernorm_row.h"

typedef struct {
    int64_t M, C, x_stride, rows; /* rows of a tile */
    const T *x, *gamma, *beta, *dy, *saved_mean, *saved_rstd;
    T *y, *mean, *rstd, *dx;
    T *partial; /* tiles x (dgamma, dbeta), or NULL */
    bool accumulate;
} NAME(layernorm_job);

static distac_status NAME(layernorm_tile)(void *arg, int64_t index) {
    const NAME(layernorm_job) *j = arg;
    int64_t C = j->C, end = di_cpu_min(j->M, (index + 1) * j->rows);
    const T *gamma = j->gamma, *beta = j->beta;
    for (int64_t r = index * j->rows; r < end; r++) {
        T mean, rstd;
        NAME(layernorm_row)(C, j->x + r * j->x_stride, gamma, beta, j->y + r * C, &mean, &rstd);
        if (j->mean) j->mean[r] = mean;
        if (j->rstd) j->rstd[r] = rstd;
    }
    return DISTAC_OK;
}

distac_status NAME(layernorm)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                              const void *gamma, const void *beta, void *y, void *mean, void *rstd) {
    NAME(layernorm_job) j = {.M = M,
                             .C = C,
                             .x_stride = x_stride,
                             .x = x,
                             .gamma = gamma,
                             .beta = beta,
                             .y = y,
                             .mean = mean,
                             .rstd = rstd,
                             .rows = di_cpu_piece(M, 64, 16, 1)};
    return di_cpu_run(c, "layernorm", di_cpu_ceil(M, j.rows), NAME(layernorm_tile), &j);
}

/* The two sums of a row that its gradient needs: *a = sum g dy, *b = sum g dy xhat. */
INLINE void NAME(row_sums)(int64_t n, const T *x, const T *dy, const T *gamma, T mean, T rstd, T *a, T *b) {
    V sa[LANES] = {{0}}, sb[LANES] = {{0}}, center = SPLAT(mean);
    int64_t i = 0;
    for (; i + LANES * VL <= n; i += LANES * VL) {
        UNROLL(8) for (int l = 0; l < LANES; l++) {
            V g = LOAD(dy + i + l * VL) * LOAD(gamma + i + l * VL);
            sa[l] += g;
            sb[l] += g * (LOAD(x + i + l * VL) - center);
        }
    }
    T ra = 0, rb = 0;
    for (; i < n; i++) {
        T g = dy[i] * gamma[i];
        ra += g;
        rb += g * (x[i] - mean);
    }
    *a = NAME(fold)(sa) + ra;
    *b = (NAME(fold)(sb) + rb) * rstd;
}

static distac_status NAME(layernorm_backward_tile)(void *arg, int64_t index) {
    const NAME(layernorm_job) *j = arg;
    int64_t C = j->C, end = di_cpu_min(j->M, (index + 1) * j->rows);
    const T *gamma = j->gamma;
    T *dgamma = j->partial ? j->partial + 2 * index * C : NULL, *dbeta = dgamma ? dgamma + C : NULL;
    if (dgamma) memset(dgamma, 0, (size_t)(2 * C) * sizeof(T));
    for (int64_t r = index * j->rows; r < end; r++) {
        const T *x = j->x + r * j->x_stride, *dy = j->dy + r * C;
        T *dx = j->dx + r * j->x_stride;
        T mean = j->saved_mean[r], rstd = j->saved_rstd[r], a, b;
        NAME(row_sums)(C, x, dy, gamma, mean, rstd, &a, &b);
        /* dx = rstd (g dy - mean(g dy) - xhat mean(g dy xhat)) */
        T offset = a / (T)C, slope = b / (T)C;
        if (dgamma) {
            SIMD for (int64_t i = 0; i < C; i++) {
                dgamma[i] += dy[i] * ((x[i] - mean) * rstd);
                dbeta[i] += dy[i];
            }
        }
        if (j->accumulate) {
            SIMD for (int64_t i = 0; i < C; i++) {
                dx[i] += rstd * (gamma[i] * dy[i] - offset - (x[i] - mean) * rstd * slope);
            }
        } else {
            SIMD for (int64_t i = 0; i < C; i++) {
                dx[i] = rstd * (gamma[i] * dy[i] - offset - (x[i] - mean) * rstd * slope);
            }
        }
    }
    return DISTAC_OK;
}

distac_status NAME(layernorm_backward)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                                       const void *gamma, const void *mean, const void *rstd, const void *dy,
                                       bool accumulate, void *dx, void *dgamma, void *dbeta) {
    NAME(layernorm_job) j = {.M = M,
                             .C = C,
                             .x_stride = x_stride,
                             .x = x,
                             .gamma = gamma,
                             .saved_mean = mean,
                             .saved_rstd = rstd,
                             .dy = dy,
                             .accumulate = accumulate,
                             .dx = dx,
                             .rows = di_cpu_piece(M, 32, 16, 1)};
    int64_t tiles = di_cpu_ceil(M, j.rows);
    size_t bytes = (size_t)(tiles * 2 * C) * sizeof(T);
    if (dgamma || dbeta) {
        j.partial = di_alloc(c, bytes);
        if (!j.partial) return DISTAC_ENOMEM;
    }
    distac_status status = di_cpu_run(c, "layernorm_backward", tiles, NAME(layernorm_backward_tile), &j);
    for (int side = 0; side < 2 && status == DISTAC_OK && j.partial; side++) {
        T *to = side == 0 ? dgamma : dbeta, *total = j.partial + side * C;
        if (!to || tiles == 0) continue;
        for (int64_t t = 1; t < tiles; t++) {
            const T *from = j.partial + 2 * t * C + side * C;
            SIMD for (int64_t i = 0; i < C; i++) total[i] += from[i];
        }
        SIMD for (int64_t i = 0; i < C; i++) to[i] += total[i];
    }
    di_free(c, j.partial, bytes);
    return status;
}
#endif
