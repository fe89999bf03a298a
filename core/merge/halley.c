/* halley.c: orthogonal polar factors by Halley's iteration with weights for the interval that the singular values
 * lie in (Nakatsukasa, Bai, Gygi 2010), X (b/c I + (a - b/c) (I + c XT X)^-1), by Cholesky factors. One step in
 * double takes a condition of 1e5 to about 20; what follows is done in float, whose roundings then cost no more
 * than a few of themselves. That is products and triangular solves all the way, where an eigenproblem of the Gram
 * matrix in double takes longer, and a decomposition in float loses the condition's digits.
 *
 * The last step is one of Newton and Schulz, whose residual |I - XT X| is what the caller is told by: *fine. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <math.h>
#include <string.h>

/* Below, the Gram matrix has lost the digits wanted. Its roundings are multiplied by the first step's c, about
 * l^-4/3, and the least singular value comes to about l^1/3: at 2e-7 a thousandth of that one direction is lost.
 * Where a Cholesky factor of the Gram matrix itself is kept, they are multiplied by l^-2. */
static const double least_condition = 2e-7, least_factored = 1e-6;
static const double double_until = 0.02;    /* singular values from here to 1 are left to float */
static const double halley_until = 0.7;     /* and from here Newton-Schulz is as good */
static const double near_enough = 2e-3;     /* |I - XT X| after which one step of Newton-Schulz leaves roundings */
enum { MOST_STEPS = 12, LOOKS = 12 };

/* Weights of a step for singular values in [l,1], and what becomes of l. */
typedef struct weights {
    double a, b, c, l;
} weights;

static weights weights_of(double l) {
    double d = cbrt(4 * (1 - l * l) / (l * l * l * l)), root = sqrt(1 + d);
    double a = root + 0.5 * sqrt(fmax(0, 8 - 4 * d + 8 * (2 - l * l) / (l * l * root)));
    double b = (a - 1) * (a - 1) / 4, c = a + b - 1;
    return (weights){a, b, c, fmin(1, l * (a + b * l * l) / (1 + c * l * l))};
}

/* A number that is not below the largest eigenvalue of g, lower triangle. sums [c] is room. */
static double most_of(int64_t c, const double *g, double *sums) {
    double most = 0;
    memset(sums, 0, (size_t)c * sizeof *sums);
    for (int64_t j = 0; j < c; j++)
        for (int64_t i = j; i < c; i++) {
            sums[j] += fabs(g[j * c + i]);
            if (i > j) sums[i] += fabs(g[j * c + i]);
        }
    for (int64_t j = 0; j < c; j++) most = fmax(most, sums[j]);
    return most;
}

/* About the largest eigenvalue of g: by powers, from a start
 * that is no eigenvector of anything. x, y [c] are room. */
static double largest(int64_t c, const double *g, double *x, double *y) {
    double value = 0;
    for (int64_t i = 0; i < c; i++) x[i] = 1 + 0.5 * sin((double)(i * i));
    for (int step = 0; step < LOOKS; step++) {
        cblas_dsymv(CblasColMajor, CblasLower, (int)c, 1, g, (int)c, x, 1, 0, y, 1);
        double length = cblas_dnrm2((int)c, x, 1);
        value = cblas_dnrm2((int)c, y, 1) / (length > 0 ? length : 1);
        if (!(value > 0)) return 0;
        for (int64_t i = 0; i < c; i++) x[i] = y[i] / (value * length);
    }
    return value;
}

/* About the smallest eigenvalue of g = L LT. */
static double smallest(int64_t c, const double *lower, double *x) {
    double grown = 1;
    for (int64_t i = 0; i < c; i++) x[i] = 1 + 0.5 * sin((double)(i * i));
    for (int step = 0; step < LOOKS; step++) {
        cblas_dscal((int)c, 1 / cblas_dnrm2((int)c, x, 1), x, 1);
        cblas_dtrsv(CblasColMajor, CblasLower, CblasNoTrans, CblasNonUnit, (int)c, lower, (int)c, x, 1);
        cblas_dtrsv(CblasColMajor, CblasLower, CblasTrans, CblasNonUnit, (int)c, lower, (int)c, x, 1);
        grown = cblas_dnrm2((int)c, x, 1);
        if (!isfinite(grown)) return 0;
    }
    return 1 / grown;
}

static void unit_plus(int64_t c, double factor, const double *g, double *z) {
    for (int64_t j = 0; j < c; j++) {
        for (int64_t i = j; i < c; i++) z[j * c + i] = factor * g[j * c + i];
        z[j * c + j] += 1;
    }
}

/* What the steps on x [rows,c] work with. */
typedef struct work {
    distac_context *context;
    int64_t rows, c;
    double *y, *z, *panels; /* [rows,c], [c,c]; for products */
} work;

static int64_t work_room(int64_t rows, int64_t c) { return rows * c + c * c + di_product_room(rows, c); }

/* x and its Gram matrix g, lower triangle, which is destroyed. scale: x times it has singular values in [l,1]. */
static bool step_double(const work *k, double *x, double *g, double scale, weights w) {
    int64_t rows = k->rows, c = k->c;
    unit_plus(c, w.c * scale * scale, g, k->z);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', (int)c, k->z, (int)c) != 0) return false;
    memcpy(k->y, x, (size_t)(rows * c) * sizeof *x);
    di_solve(k->context, true, rows, c, k->z, c, k->y, rows, k->panels);
    di_solve(k->context, false, rows, c, k->z, c, k->y, rows, k->panels);
    double keep = scale * w.b / w.c, add = scale * (w.a - w.b / w.c);
    for (int64_t i = 0; i < rows * c; i++) x[i] = keep * x[i] + add * k->y[i];
    return true;
}

static bool step_float(const work *k, float *x, weights w) {
    int64_t rows = k->rows, c = k->c;
    float *y = (float *)(void *)k->y, *g = (float *)(void *)k->z, *panels = (float *)(void *)k->panels;
    di_gram_float(k->context, rows, c, x, g, panels);
    for (int64_t j = 0; j < c; j++) {
        for (int64_t i = j; i < c; i++) g[j * c + i] *= (float)w.c;
        g[j * c + j] += 1;
    }
    if (LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', (int)c, g, (int)c) != 0) return false;
    memcpy(y, x, (size_t)(rows * c) * sizeof *x);
    di_solve_float(k->context, true, rows, c, g, c, y, rows, panels);
    di_solve_float(k->context, false, rows, c, g, c, y, rows, panels);
    float keep = (float)(w.b / w.c), add = (float)(w.a - w.b / w.c);
    for (int64_t i = 0; i < rows * c; i++) x[i] = keep * x[i] + add * y[i];
    return true;
}

/* x (3 - xT x) / 2 until one more step leaves roundings only. Returns |I - xT x| before the last. */
static double finish_float(const work *k, float *x) {
    int64_t rows = k->rows, c = k->c;
    float *y = (float *)(void *)k->y, *g = (float *)(void *)k->z, *panels = (float *)(void *)k->panels;
    double residual = 1;
    for (int step = 0; step < MOST_STEPS; step++) {
        double total = 0;
        di_gram_float(k->context, rows, c, x, g, panels);
        for (int64_t j = 0; j < c; j++)
            for (int64_t i = j; i < c; i++) {
                float rest = (i > j ? 0.0f : 1.0f) - g[j * c + i];
                total += (i > j ? 2.0 : 1.0) * (double)rest * (double)rest;
                g[j * c + i] = g[i * c + j] = (i > j ? 0.0f : 1.0f) + 0.5f * rest;
            }
        residual = sqrt(total);
        if (!(residual < sqrt((double)c))) break;
        di_product_float(k->context, false, false, rows, c, c, 1, x, rows, g, c, false, y, rows, panels);
        memcpy(x, y, (size_t)(rows * c) * sizeof *x);
        if (residual < near_enough) break;
    }
    return residual;
}

/* Where the singular values of x lie by its Gram matrix: scale
 * times them in [l,1]. lower: L of gram = L LT. v [2c] is room. */
static void interval(int64_t c, const double *gram, double *lower, double *v, double *scale, double *l) {
    double most = fmin(most_of(c, gram, v), 1.05 * largest(c, gram, v, v + c)), least = 0;
    memcpy(lower, gram, (size_t)(c * c) * sizeof *lower);
    if (most > 0 && isfinite(most) && LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', (int)c, lower, (int)c) == 0)
        least = smallest(c, lower, v);
    *scale = most > 0 ? 1 / sqrt(most) : 0;
    *l = most > 0 ? 0.7 * sqrt(least / most) : 0;
}

/* The polar factor of scale times x, whose singular values lie in [l,1],
 * to out; x and gram [c,c] are lost. False if that was not reached. */
static bool iterate(const work *k, double *x, double *gram, double scale, double l, float *out) {
    for (int step = 0; l < double_until; step++, scale = 1) {
        weights w = weights_of(l);
        if (step == MOST_STEPS) return false;
        if (step) di_gram(k->context, k->rows, k->c, x, gram, k->panels);
        if (!step_double(k, x, gram, scale, w)) return false;
        l = w.l;
    }
    for (int64_t i = 0; i < k->rows * k->c; i++) out[i] = (float)(scale * x[i]);
    for (int step = 0; l < halley_until; step++) {
        weights w = weights_of(l);
        if (step == MOST_STEPS || !step_float(k, out, w)) return false;
        l = w.l;
    }
    return finish_float(k, out) < near_enough;
}

distac_status di_polar_float(distac_context *context, int64_t rows, int64_t c, const double *x, float *out,
                             bool *fine) {
    room all;
    double scale, l;
    DI_TRY(room_open(&all, context, work_room(rows, c) + rows * c + c * c + 2 * c));
    double *y = all.memory, *z = y + rows * c, *copy = z + c * c, *gram = copy + rows * c, *v = gram + c * c;
    const work k = {context, rows, c, y, z, v + 2 * c};
    di_gram(context, rows, c, x, gram, k.panels);
    interval(c, gram, z, v, &scale, &l);
    *fine = l > least_condition;
    if (*fine) {
        memcpy(copy, x, (size_t)(rows * c) * sizeof *x);
        *fine = iterate(&k, copy, gram, scale, l, out);
    }
    room_close(&all);
    return DISTAC_OK;
}

distac_status di_polar_parts(distac_context *context, int64_t c, double *gram, double floor, double *lower,
                             float *factor, bool *fine) {
    room all;
    double scale, l;
    DI_TRY(room_open(&all, context, work_room(c, c) + c * c + 2 * c));
    double *y = all.memory, *z = y + c * c, *x = z + c * c, *v = x + c * c;
    const work k = {context, c, c, y, z, v + 2 * c};
    interval(c, gram, lower, v, &scale, &l);
    *fine = l > least_factored && l >= floor;
    if (*fine) {
        for (int64_t j = 0; j < c; j++)
            for (int64_t i = 0; i < c; i++) x[j * c + i] = i <= j ? lower[i * c + j] : 0;
        *fine = iterate(&k, x, gram, scale, l, factor);
    }
    room_close(&all);
    return DISTAC_OK;
}

int64_t di_polar_float_bytes(int64_t rows, int64_t c) {
    return (work_room(rows, c) + rows * c + c * c + 2 * c) * (int64_t)sizeof(double);
}

int64_t di_polar_parts_bytes(int64_t c) {
    return (work_room(c, c) + c * c + 2 * c) * (int64_t)sizeof(double);
}
