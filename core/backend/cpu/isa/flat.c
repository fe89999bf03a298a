/* flat.c: passes over long flat vectors: sums, scaled additions, the pull to the anchor, AdamW. Bound by memory.
 *
 * Sums are in double over blocks of 4096 elements, the blocks' sums are added in order. */
#ifndef DI_REAL
#define DI_SELF "flat.c"
#include "both.h"
#else
#include "kernels.h"

#ifndef DI_FLAT_SIZES
#define DI_FLAT_SIZES
enum { BLOCK = 4096, TILE = 8 * BLOCK, FEW = 64 };
#endif

typedef struct {
    int64_t n;
    T a, b;
    const T *x, *theta, *theta0;
    T *y;
    double *sums; /* two for each tile */
} NAME(flat_job);

static distac_status NAME(axpby_tile)(void *arg, int64_t index) {
    const NAME(flat_job) *j = arg;
    int64_t first = index * TILE, n = di_cpu_min(TILE, j->n - first);
    T a = j->a, b = j->b, *y = j->y + first;
    const T *x = j->x ? j->x + first : NULL;
    if (a == 0 && b == 0) {
        memset(y, 0, (size_t)n * sizeof(T));
    } else if (a == 0) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = b * y[i];
    } else if (b == 0) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = a * x[i];
    } else if (b == 1) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
    } else {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = a * x[i] + b * y[i];
    }
    return DISTAC_OK;
}

/* A factor that is 0 hides its vector, NaN and all; x may then be NULL. */
distac_status NAME(axpby)(distac_context *c, int64_t n, double a, const void *x, double b, void *y) {
    NAME(flat_job) j = {.n = n, .a = (T)a, .b = (T)b, .x = x, .y = y};
    return di_cpu_run(c, "axpby", di_cpu_ceil(n, TILE), NAME(axpby_tile), &j);
}

/* Runs a tile that leaves two sums, and adds them up in order. */
static distac_status NAME(reduce)(distac_context *c, const char *kernel, di_cpu_tile tile, NAME(flat_job) *j,
                                  double *first, double *second) {
    double few[2 * FEW];
    int64_t tiles = di_cpu_ceil(j->n, TILE);
    size_t bytes = (size_t)tiles * 2 * sizeof(double);
    j->sums = tiles <= FEW ? few : di_alloc(c, bytes);
    if (!j->sums) return DISTAC_ENOMEM;
    distac_status status = di_cpu_run(c, kernel, tiles, tile, j);
    double a = 0, b = 0;
    for (int64_t i = 0; i < tiles && status == DISTAC_OK; i++) {
        a += j->sums[2 * i];
        b += j->sums[2 * i + 1];
    }
    if (j->sums != few) di_free(c, j->sums, bytes);
    if (status != DISTAC_OK) return status;
    if (first) *first = a;
    if (second) *second = b;
    return DISTAC_OK;
}

static distac_status NAME(dot_tile)(void *arg, int64_t index) {
    const NAME(flat_job) *j = arg;
    int64_t end = di_cpu_min(j->n, (index + 1) * TILE);
    double sum = 0;
    for (int64_t i = index * TILE; i < end; i += BLOCK)
        sum += NAME(dot_double)(di_cpu_min(BLOCK, end - i), j->x + i, j->theta + i);
    j->sums[2 * index] = sum;
    j->sums[2 * index + 1] = 0;
    return DISTAC_OK;
}
static distac_status NAME(sumsq_tile)(void *arg, int64_t index) {
    const NAME(flat_job) *j = arg;
    int64_t end = di_cpu_min(j->n, (index + 1) * TILE);
    double sum = 0;
    for (int64_t i = index * TILE; i < end; i += BLOCK)
        sum += NAME(dot_double)(di_cpu_min(BLOCK, end - i), j->x + i, j->x + i);
    j->sums[2 * index] = sum;
    j->sums[2 * index + 1] = 0;
    return DISTAC_OK;
}

distac_status NAME(sumsq)(distac_context *c, int64_t n, const void *x, double *out) {
    NAME(flat_job) j = {.n = n, .x = x};
    return NAME(reduce)(c, "sumsq", NAME(sumsq_tile), &j, out, NULL);
}
distac_status NAME(dot)(distac_context *c, int64_t n, const void *x, const void *y, double *out) {
    NAME(flat_job) j = {.n = n, .x = x, .theta = y};
    return NAME(reduce)(c, "dot", NAME(dot_tile), &j, out, NULL);
}

/* g += a (theta - theta0); *distance = |theta - theta0|^2, *square = |g|^2, over one block */
static void NAME(anchor_block)(int64_t n, T a, const T *theta, const T *theta0, T *g, double *distance,
                               double *square) {
    D sd[4] = {{0}}, sg[4] = {{0}};
    double rd = 0, rg = 0;
    int64_t i = 0;
    for (; i + 4 * DL <= n; i += 4 * DL) {
        UNROLL(4) for (int l = 0; l < 4; l++) {
            H *at = (H *)(g + i + l * DL);
            H difference = *(const H *)(theta + i + l * DL) - *(const H *)(theta0 + i + l * DL);
            H sum = *at + a * difference;
            *at = sum;
            D dd = __builtin_convertvector(difference, D), dg = __builtin_convertvector(sum, D);
            sd[l] += dd * dd;
            sg[l] += dg * dg;
        }
    }
    for (; i < n; i++) {
        T difference = theta[i] - theta0[i];
        g[i] += a * difference;
        rd += (double)difference * (double)difference;
        rg += (double)g[i] * (double)g[i];
    }
    *distance += NAME(fold_double)(sd) + rd;
    *square += NAME(fold_double)(sg) + rg;
}

static distac_status NAME(anchor_tile)(void *arg, int64_t index) {
    const NAME(flat_job) *j = arg;
    int64_t end = di_cpu_min(j->n, (index + 1) * TILE);
    double *sums = j->sums + 2 * index;
    sums[0] = sums[1] = 0;
    for (int64_t i = index * TILE; i < end; i += BLOCK)
        NAME(anchor_block)(di_cpu_min(BLOCK, end - i), j->a, j->theta + i, j->theta0 + i, j->y + i, sums,
                           sums + 1);
    return DISTAC_OK;
}

distac_status NAME(anchor)(distac_context *c, int64_t n, double beta, const void *theta, const void *theta0,
                           void *g, double *anchor, double *sumsq) {
    NAME(flat_job) j = {.n = n, .a = (T)(2 * beta), .theta = theta, .theta0 = theta0, .y = g};
    double distance, square;
    DI_TRY(NAME(reduce)(c, "anchor", NAME(anchor_tile), &j, &distance, &square));
    if (anchor) *anchor = beta * distance;
    if (sumsq) *sumsq = square;
    return DISTAC_OK;
}

typedef struct {
    int64_t n;
    T beta1, beta2, rest1, rest2, step, eps, keep, add, grad_scale, correction;
    const T *g;
    T *m, *v, *theta;
} NAME(adamw_job);

static void NAME(adamw_tile)(void *arg, int64_t index) {
    const NAME(adamw_job) j = *(const NAME(adamw_job) *)arg;
    int64_t first = index * TILE, n = di_cpu_min(TILE, j.n - first);
    const T *restrict g = j.g + first;
    T *restrict m = j.m + first, *restrict v = j.v + first, *restrict theta = j.theta + first;
    SIMD for (int64_t i = 0; i < n; i++) {
        T gi = g[i] * j.grad_scale + j.add * theta[i];
        T mi = j.beta1 * m[i] + j.rest1 * gi;
        T vi = j.beta2 * v[i] + j.rest2 * (gi * gi);
        m[i] = mi;
        v[i] = vi;
#if DI_REAL == 32
        T root = sqrtf(vi);
#else
        T root = sqrt(vi);
#endif
        theta[i] = j.keep * theta[i] - j.step * mi / (root * j.correction + j.eps);
    }
}

distac_status NAME(adamw)(distac_context *c, int64_t n, int64_t t, double lr, double beta1, double beta2,
                          double eps, double weight_decay, bool coupled, double grad_scale, const void *g, void *m,
                          void *v, void *theta) {
    double first = 1 - pow(beta1, (double)t), second = 1 - pow(beta2, (double)t);
    NAME(adamw_job) j = {.n = n,
                         .beta1 = (T)beta1,
                         .beta2 = (T)beta2,
                         .rest1 = (T)(1 - beta1),
                         .rest2 = (T)(1 - beta2),
                         .step = (T)(lr / first),
                         .eps = (T)eps,
                         .keep = (T)(coupled ? 1 : 1 - lr * weight_decay),
                         .add = (T)(coupled ? weight_decay : 0),
                         .grad_scale = (T)grad_scale,
                         .correction = (T)(1 / sqrt(second)),
                         .g = g,
                         .m = m,
                         .v = v,
                         .theta = theta};
    /* Not through di_cpu_run: a cancel must not leave an update half done. */
    di_parallel(c, di_cpu_ceil(n, TILE), NAME(adamw_tile), &j);
    return DISTAC_OK;
}
#endif
