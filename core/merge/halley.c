/* halley.c: orthogonal polar factors by Halley's iteration with weights for the interval that the singular values lie
 * in (Nakatsukasa, Bai, Gygi 2010), X (b/c I + (a - b/c) (I + c XT X)^-1), by Cholesky factors. One step in double takes
 * a condition of 1e5 to about 20; what follows is done in float, whose roundings then cost no more than a few of
 * themselves. That is products and triangular solves all the way, where an eigenproblem of the Gram matrix in double
 * takes longer, and a decomposition in float loses the condition's digits.
 *
 * The last step is one of Newton and Schulz, whose residual |I - XT X| is what the caller is told by: *fine. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <math.h>
#include <string.h>

static const double least_condition = 1e-6; /* below, the Gram matrix' Cholesky factor has lost the digits wanted */
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

/* About the largest eigenvalue of g: by powers, from a start that is no eigenvector of anything. x, y [c] are room. */
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

/* x [rows,c] and its Gram matrix g, lower triangle, which is destroyed, to out. scale: x times it has singular values
 * in [l,1]. y [rows,c], z [c,c] are room. */
static bool step_double(int64_t rows, int64_t c, double *x, double *g, double scale, weights w, double *y, double *z) {
    int n = (int)c, m = (int)rows;
    unit_plus(c, w.c * scale * scale, g, z);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, z, n) != 0) return false;
    memcpy(y, x, (size_t)(rows * c) * sizeof *y);
    cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, m, n, 1, z, n, y, m);
    cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, m, n, 1, z, n, y, m);
    double keep = scale * w.b / w.c, add = scale * (w.a - w.b / w.c);
    for (int64_t i = 0; i < rows * c; i++) x[i] = keep * x[i] + add * y[i];
    return true;
}

static bool step_float(int64_t rows, int64_t c, float *x, float *g, weights w, float *y) {
    int n = (int)c, m = (int)rows;
    cblas_ssyrk(CblasColMajor, CblasLower, CblasTrans, n, m, (float)w.c, x, m, 0, g, n);
    for (int64_t j = 0; j < c; j++) g[j * c + j] += 1;
    if (LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', n, g, n) != 0) return false;
    memcpy(y, x, (size_t)(rows * c) * sizeof *y);
    cblas_strsm(CblasColMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, m, n, 1, g, n, y, m);
    cblas_strsm(CblasColMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, m, n, 1, g, n, y, m);
    float keep = (float)(w.b / w.c), add = (float)(w.a - w.b / w.c);
    for (int64_t i = 0; i < rows * c; i++) x[i] = keep * x[i] + add * y[i];
    return true;
}

/* x (3 - xT x) / 2 until one more step leaves roundings only; *residual: of I - xT x before the last. */
static void finish_float(int64_t rows, int64_t c, float *x, float *g, float *y, double *residual) {
    int n = (int)c, m = (int)rows;
    for (int step = 0; step < MOST_STEPS; step++) {
        double total = 0;
        cblas_ssyrk(CblasColMajor, CblasLower, CblasTrans, n, m, -0.5f, x, m, 0, g, n);
        for (int64_t j = 0; j < c; j++) {
            g[j * c + j] += 0.5f; /* half of the residual first */
            for (int64_t i = j; i < c; i++) total += (i > j ? 8.0 : 4.0) * (double)g[j * c + i] * (double)g[j * c + i];
            g[j * c + j] += 1;
        }
        *residual = sqrt(total);
        if (!(*residual < sqrt((double)c))) return;
        cblas_ssymm(CblasColMajor, CblasRight, CblasLower, m, n, 1, g, n, x, m, 0, y, m);
        memcpy(x, y, (size_t)(rows * c) * sizeof *x);
        if (*residual < near_enough) return;
    }
}

/* Where the singular values of x lie by its Gram matrix: scale times them in [l,1]. lower: L of gram = L LT. False if
 * they reach too far. v [2c] is room. */
static bool interval(int64_t c, const double *gram, double *lower, double *v, double *scale, double *l) {
    double most = fmin(most_of(c, gram, v), 1.05 * largest(c, gram, v, v + c)), least = 0;
    memcpy(lower, gram, (size_t)(c * c) * sizeof *lower);
    if (most > 0 && isfinite(most) && LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', (int)c, lower, (int)c) == 0)
        least = smallest(c, lower, v);
    *scale = most > 0 ? 1 / sqrt(most) : 0;
    *l = most > 0 ? 0.7 * sqrt(least / most) : 0;
    return *l > least_condition;
}

/* The polar factor of scale times x, whose singular values lie in [l,1], to out. x, gram, z [c,c] and y [rows,c] are
 * lost. */
static distac_status iterate(distac_context *context, int64_t rows, int64_t c, double *x, double *gram, double scale,
                             double l, double *y, double *z, float *out, bool *fine) {
    room floats;
    *fine = true;
    for (int step = 0; *fine && l < double_until; step++, scale = 1) {
        weights w = weights_of(l);
        if (step)
            cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, 1, x, (int)rows, 0, gram, (int)c);
        *fine = step < MOST_STEPS && step_double(rows, c, x, gram, scale, w, y, z);
        l = w.l;
    }
    if (!*fine) return DISTAC_OK;
    for (int64_t i = 0; i < rows * c; i++) out[i] = (float)(scale * x[i]);
    DI_TRY(room_open(&floats, context, (rows * c + c * c) / 2 + 1));
    float *half = (float *)(void *)floats.memory, *g = half + rows * c;
    for (int step = 0; *fine && l < halley_until; step++) {
        weights w = weights_of(l);
        *fine = step < MOST_STEPS && step_float(rows, c, out, g, w, half);
        l = w.l;
    }
    double residual = 1;
    if (*fine) finish_float(rows, c, out, g, half, &residual);
    *fine = *fine && residual < near_enough;
    room_close(&floats);
    return DISTAC_OK;
}

distac_status di_polar_float(distac_context *context, int64_t rows, int64_t c, const double *x, float *out,
                             bool *fine) {
    room all;
    double scale, l;
    DI_TRY(room_open(&all, context, 2 * rows * c + 2 * c * c + 2 * c));
    double *copy = all.memory, *y = copy + rows * c, *gram = y + rows * c, *z = gram + c * c;
    distac_status status = DISTAC_OK;
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, 1, x, (int)rows, 0, gram, (int)c);
    *fine = interval(c, gram, z, z + c * c, &scale, &l);
    if (*fine) {
        memcpy(copy, x, (size_t)(rows * c) * sizeof *x);
        status = iterate(context, rows, c, copy, gram, scale, l, y, z, out, fine);
    }
    room_close(&all);
    return status;
}

distac_status di_polar_parts(distac_context *context, int64_t c, double *gram, double floor, double *lower,
                             float *factor, bool *fine) {
    room all;
    double scale, l;
    DI_TRY(room_open(&all, context, 3 * c * c + 2 * c));
    double *x = all.memory, *y = x + c * c, *z = y + c * c;
    distac_status status = DISTAC_OK;
    *fine = interval(c, gram, lower, z + c * c, &scale, &l) && l >= floor;
    if (*fine) {
        for (int64_t j = 0; j < c; j++)
            for (int64_t i = 0; i < c; i++) x[j * c + i] = i <= j ? lower[i * c + j] : 0;
        status = iterate(context, c, c, x, gram, scale, l, y, z, factor, fine);
    }
    room_close(&all);
    return status;
}

static int64_t iterate_bytes(int64_t rows, int64_t c) {
    return ((rows * c + c * c) / 2 + 1) * (int64_t)sizeof(double);
}

int64_t di_polar_float_bytes(int64_t rows, int64_t c) {
    return (2 * rows * c + 2 * c * c + 2 * c) * (int64_t)sizeof(double) + iterate_bytes(rows, c);
}

int64_t di_polar_parts_bytes(int64_t c) {
    return (3 * c * c + 2 * c) * (int64_t)sizeof(double) + iterate_bytes(c, c);
}
