/* rows.c: what the head does to rows: unit length and its gradient, softmax and its logarithm. */
#ifndef DI_REAL
#define DI_SELF "rows.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"

typedef struct {
    int64_t M, C, rows;
    const T *x, *dy, *saved;
    T *y, *norms;
    T scale;
    bool log_space;
} NAME(rows_job);

static distac_status NAME(normalize_tile)(void *arg, int64_t index) {
    const NAME(rows_job) *j = arg;
    int64_t C = j->C, end = di_cpu_min(j->M, (index + 1) * j->rows);
    for (int64_t r = index * j->rows; r < end; r++) {
        const T *x = j->x + r * C;
        T *y = j->y + r * C;
        double norm = sqrt(NAME(dot_double)(C, x, x)), inverse = norm == 0 ? 0 : 1 / norm;
        SIMD for (int64_t i = 0; i < C; i++) y[i] = (T)((double)x[i] * inverse);
        j->norms[r] = (T)norm;
    }
    return DISTAC_OK;
}

distac_status NAME(normalize)(distac_context *c, int64_t M, int64_t C, const void *x, void *y, void *norms) {
    NAME(rows_job) j = {.M = M, .C = C, .x = x, .y = y, .norms = norms, .rows = di_cpu_piece(M, 64, 16, 1)};
    return di_cpu_run(c, "normalize", di_cpu_ceil(M, j.rows), NAME(normalize_tile), &j);
}

static distac_status NAME(normalize_backward_tile)(void *arg, int64_t index) {
    const NAME(rows_job) *j = arg;
    int64_t C = j->C, end = di_cpu_min(j->M, (index + 1) * j->rows);
    for (int64_t r = index * j->rows; r < end; r++) {
        const T *y = j->x + r * C, *dy = j->dy + r * C;
        T *dx = j->y + r * C;
        double norm = (double)j->saved[r], inverse = norm == 0 ? 0 : 1 / norm, dot = NAME(dot_double)(C, y, dy);
        SIMD for (int64_t i = 0; i < C; i++) dx[i] = (T)(((double)dy[i] - (double)y[i] * dot) * inverse);
    }
    return DISTAC_OK;
}

distac_status NAME(normalize_backward)(distac_context *c, int64_t M, int64_t C, const void *y, const void *norms,
                                       const void *dy, void *dx) {
    NAME(rows_job) j = {
        .M = M, .C = C, .x = y, .saved = norms, .dy = dy, .y = dx, .rows = di_cpu_piece(M, 64, 16, 1)};
    return di_cpu_run(c, "normalize_backward", di_cpu_ceil(M, j.rows), NAME(normalize_backward_tile), &j);
}

/* sum exp(x - top), 256 at a time */
static double NAME(sum_exp)(int64_t n, const T *x, T top) {
    T e[256];
    double sum = 0;
    for (int64_t i = 0; i < n; i += 256) {
        int64_t m = di_cpu_min(256, n - i);
        SIMD_FUNCTIONS for (int64_t q = 0; q < m; q++) e[q] = NAME(exp)(x[i + q] - top);
        sum += (double)NAME(sum)(m, e);
    }
    return sum;
}

static distac_status NAME(softmax_tile)(void *arg, int64_t index) {
    const NAME(rows_job) *j = arg;
    int64_t C = j->C, end = di_cpu_min(j->M, (index + 1) * j->rows);
    T scale = j->scale;
    for (int64_t r = index * j->rows; r < end; r++) {
        const T *x = j->x + r * C;
        T *y = j->y + r * C;
        SIMD for (int64_t i = 0; i < C; i++) y[i] = x[i] * scale;
        T top = C > 0 ? NAME(max)(C, y) : 0;
        if (j->log_space) {
            T low = (T)log(NAME(sum_exp)(C, y, top));
            SIMD for (int64_t i = 0; i < C; i++) y[i] = (y[i] - top) - low;
        } else {
            SIMD_FUNCTIONS for (int64_t i = 0; i < C; i++) y[i] = NAME(exp)(y[i] - top);
            T inverse = (T)1 / NAME(sum)(C, y);
            SIMD for (int64_t i = 0; i < C; i++) y[i] *= inverse;
        }
    }
    return DISTAC_OK;
}

distac_status NAME(softmax)(distac_context *c, int64_t M, int64_t C, double scale, bool log_space, const void *x,
                            void *y) {
    NAME(rows_job) j = {.M = M,
                        .C = C,
                        .x = x,
                        .y = y,
                        .scale = (T)scale,
                        .log_space = log_space,
                        .rows = di_cpu_piece(M, 64, 16, 1)};
    return di_cpu_run(c, "softmax", di_cpu_ceil(M, j.rows), NAME(softmax_tile), &j);
}
#endif
