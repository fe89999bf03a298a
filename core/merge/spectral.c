/* spectral.c: singular triplets by eigenproblems of the Gram matrix in double, which is about three times as fast as a
 * singular value decomposition and more exact than one in float. A Gram matrix squares the condition number, so where
 * that would show the decomposition itself is taken. */
#include "spectral_room.h"
#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum { FLOAT_FROM = 256 }; /* below, rounding has no price to save */
enum { GLANCE = 192 };     /* slices that tell whether a spectrum is flat */
/* least ratio of squared singular values a Gram matrix is trusted with */
static const double triplet_floor = 1e-8;
/* A float Gram matrix costs σ1 / 2σr roundings of a vector where a decomposition in float, as others do it, costs about
 * ten: it is taken where the squared singular values wanted differ less than this, and in float's comfortable range. */
static const double float_span = 100, float_least = 1e-18, float_most = 1e18;

distac_status di_decompose(distac_context *context, int64_t p, int64_t q, double *a, double *u, double *s,
                           double *vt) {
    lapack_int M = (lapack_int)p, N = (lapack_int)q, K = M < N ? M : N;
    double best = 0;
    room work, integers;
    lapack_int info =
        LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', M, N, NULL, M, NULL, NULL, M, NULL, K, &best, -1, NULL);
    if (info != 0 || !(best >= 1 && best < INT_MAX))
        return di_fail(DISTAC_ESHAPE, "a matrix of [%lld,%lld] is too large for LAPACK", (long long)p,
                       (long long)q);
    DI_TRY(room_open(&work, context, (int64_t)best));
    distac_status status = room_open(&integers, context, 8 * (int64_t)K);
    if (status == DISTAC_OK) {
        info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', M, N, a, M, s, u, M, vt, K, work.memory,
                                   (lapack_int)best, (lapack_int *)(void *)integers.memory);
        if (info != 0)
            status = di_fail(DISTAC_ENUMERIC, "the singular values do not converge (dgesdd: %d)", (int)info);
    }
    room_close(&integers);
    room_close(&work);
    return status;
}

static distac_status triplets_exact(distac_context *context, const di_slices *a, int64_t r, double *near,
                                    double *values, double *far, bool *finite) {
    int64_t k = a->near, n = a->length;
    room all;
    DI_TRY(room_open(&all, context, 2 * k * n + k + k * k));
    double *x = all.memory, *wide = x + k * n, *s = wide + k * n, *square = s + k;
    distac_status status = DISTAC_OK;
    *finite = a->load(a->arg, 0, n, x);
    if (*finite)
        status = a->turned ? di_decompose(context, n, k, x, wide, s, square)
                           : di_decompose(context, k, n, x, square, s, wide);
    if (*finite && status == DISTAC_OK) {
        double zero = s[0] * DBL_EPSILON * (double)n;
        for (int64_t j = 0; j < r; j++) {
            bool empty = s[j] <= zero;
            values[j] = empty ? 0 : s[j];
            /* The wide factor is u [n,k] when turned, else vt [k,n]; the square one the other. */
            for (int64_t i = 0; i < k; i++) near[j * k + i] = empty ? 0 : square[a->turned ? i * k + j : j * k + i];
            for (int64_t i = 0; i < n; i++) far[j * n + i] = empty ? 0 : wide[a->turned ? j * n + i : i * k + j];
        }
    }
    room_close(&all);
    return status;
}

/* ---- triplets by the Gram matrix of the shorter side ---- */

/* Whether a tridiagonal matrix is in one piece: dstein wants to be told of pieces, which only degenerate matrices
 * fall into. */
static bool connected(int64_t k, const double *d, const double *e) {
    for (int64_t i = 0; i + 1 < k; i++)
        if (!(e[i] * e[i] > fabs(d[i] * d[i + 1]) * DBL_EPSILON * DBL_EPSILON + DBL_MIN)) return false;
    return true;
}

/* Largest r eigenvalues (ascending) and vectors z [k,r] of g [k,k], lower triangle, destroyed. *fine tells whether
 * LAPACK succeeded. */
static distac_status leading(distac_context *context, int64_t k, int64_t r, double *g, double *w, double *z,
                             bool *fine) {
    enum { WIDTH = 64 }; /* of LAPACK's blocks */
    lapack_int n = (lapack_int)k, count = (lapack_int)r;
    room work, integers;
    *fine = false;
    DI_TRY(room_open(&work, context, (WIDTH + 5 + 5) * k));
    distac_status status = room_open(&integers, context, 3 * k + r);
    if (status == DISTAC_OK) {
        double *d = work.memory, *e = d + k, *tau = e + k, *e2 = tau + k, *all = e2 + k, *more = all + k;
        lapack_int *block = (lapack_int *)(void *)integers.memory, *split = block + k, *list = split + k;
        lapack_int *failed = list + k;
        *fine = LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', n, g, n, d, e, tau, more, (WIDTH + 5) * n) == 0 &&
                connected(k, d, e);
        if (*fine) {
            di_bisect(k, r, d, e, e2, all);
            memcpy(w, all, (size_t)r * sizeof *w);
            for (int64_t i = 0; i < k; i++) block[i] = 1;
            split[0] = n;
            status = di_tridiagonal_vectors(context, k, r, d, e, all, z, fine);
            *fine = *fine || LAPACKE_dstein_work(LAPACK_COL_MAJOR, n, d, e, count, all, block, split, z, n, more, list,
                                                 failed) == 0;
            *fine = *fine && status == DISTAC_OK &&
                    LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, count, g, n, tau, z, n, more,
                                        (WIDTH + 5) * n) == 0;
        }
    }
    room_close(&integers);
    room_close(&work);
    return status;
}

/* g = a aT, lower triangle; block holds SLICES slices. False if a number is not finite. */
static bool gram_of(distac_context *context, const di_slices *a, double *g, double *block, double *panels) {
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        if (!a->load(a->arg, first, count, block)) return false;
        di_square(context, a, block, count, first > 0, g, panels);
    }
    return true;
}

/* far = aT near diag(1/values). */
static bool other_side(const di_slices *a, int64_t r, const double *near, const double *values, double *far,
                       double *block) {
    int k = (int)a->near;
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        if (!a->load(a->arg, first, count, block)) return false;
        cblas_dgemm(CblasColMajor, a->turned ? CblasNoTrans : CblasTrans, CblasNoTrans, (int)count, (int)r, k, 1,
                    block, a->turned ? (int)count : k, near, k, 0, far + first, (int)a->length);
    }
    for (int64_t j = 0; j < r; j++) cblas_dscal((int)a->length, 1 / values[j], far + j * a->length, 1);
    return true;
}

/* *fine false: the caller takes the exact way. */
static distac_status triplets_gram(distac_context *context, const di_slices *a, int64_t r, double *near,
                                   double *values, double *far, bool *finite, bool *fine) {
    int64_t k = a->near;
    room all;
    DI_TRY(room_open(&all, context, k * k + k * SLICES + di_square_room(k)));
    double *gram = all.memory, *block = gram + k * k, *panels = block + k * SLICES;
    distac_status status = DISTAC_OK;
    *fine = false;
    *finite = gram_of(context, a, gram, block, panels);
    if (*finite) status = leading(context, k, r, gram, values, near, fine);
    if (status == DISTAC_OK && *fine) {
        *fine = values[0] >= triplet_floor * values[r - 1] && values[0] > DBL_MIN / DBL_EPSILON &&
                isfinite(values[r - 1]);
        for (int64_t j = 0; j < r; j++) values[j] = sqrt(values[j]);
        if (*fine) *finite = other_side(a, r, near, values, far, block);
    }
    room_close(&all);
    return status;
}

/* ---- the same in float, where the spectrum is flat enough ---- */

/* Whether the leading r eigenvalues can be near each other, by the Gram matrix of the first slices: (sum of the
 * eigenvalues)^2 / sum of their squares counts how many matter. A guess that saves time; what decides comes later. */
static bool looks_flat(int64_t k, int64_t r, const float *g) {
    double trace = 0, squares = 0;
    for (int64_t j = 0; j < k; j++) {
        trace += (double)g[j * k + j];
        squares += (double)g[j * k + j] * (double)g[j * k + j];
        for (int64_t i = j + 1; i < k; i++) squares += 2 * (double)g[j * k + i] * (double)g[j * k + i];
    }
    return trace > float_least && trace < float_most && trace * trace > 0.25 * (double)r * squares;
}

static bool load_float(const di_slices *a, int64_t first, int64_t count, double *block, float *out) {
    if (!a->load(a->arg, first, count, block)) return false;
    for (int64_t i = 0; i < count * a->near; i++) out[i] = (float)block[i];
    return true;
}

typedef struct float_room {
    float *gram, *block, *vectors, *tau, *work;
    double *wide, *d, *e, *e2, *all, *more;
} float_room;

enum { FLOAT_WORK = 80 };

static distac_status leading_float(distac_context *context, int64_t k, int64_t r, const float_room *m,
                                   lapack_int *list, bool *fine) {
    lapack_int n = (lapack_int)k, count = (lapack_int)r;
    lapack_int *block = list, *split = block + k, *more = split + k, *failed = more + k;
    float *d = m->tau + k, *e = d + k;
    *fine = LAPACKE_ssytrd_work(LAPACK_COL_MAJOR, 'L', n, m->gram, n, d, e, m->tau, m->work, FLOAT_WORK * n) == 0;
    for (int64_t i = 0; i < k; i++) {
        m->d[i] = (double)d[i];
        m->e[i] = i + 1 < k ? (double)e[i] : 0;
        block[i] = 1;
    }
    split[0] = n;
    *fine = *fine && connected(k, m->d, m->e);
    if (!*fine) return DISTAC_OK;
    di_bisect(k, r, m->d, m->e, m->e2, m->all);
    *fine = m->all[0] * float_span > m->all[r - 1];
    if (!*fine) return DISTAC_OK;
    DI_TRY(di_tridiagonal_vectors(context, k, r, m->d, m->e, m->all, m->wide, fine));
    *fine = *fine || LAPACKE_dstein_work(LAPACK_COL_MAJOR, n, m->d, m->e, count, m->all, block, split, m->wide, n,
                                         m->more, more, failed) == 0;
    if (!*fine) return DISTAC_OK;
    for (int64_t i = 0; i < k * r; i++) m->vectors[i] = (float)m->wide[i];
    *fine = LAPACKE_sormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, count, m->gram, n, m->tau, m->vectors, n,
                                m->work, FLOAT_WORK * n) == 0;
    return DISTAC_OK;
}

/* far = aT near, its columns' lengths are the values. */
static bool other_side_float(const di_slices *a, int64_t r, const float_room *m, double *values, double *far,
                             float *product) {
    int k = (int)a->near;
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        if (!load_float(a, first, count, m->wide, m->block)) return false;
        cblas_sgemm(CblasColMajor, a->turned ? CblasNoTrans : CblasTrans, CblasNoTrans, (int)count, (int)r, k, 1,
                    m->block, a->turned ? (int)count : k, m->vectors, k, 0, product, (int)count);
        for (int64_t j = 0; j < r; j++)
            for (int64_t i = 0; i < count; i++) far[j * a->length + first + i] = (double)product[j * count + i];
    }
    for (int64_t j = 0; j < r; j++) {
        values[j] = cblas_dnrm2((int)a->length, far + j * a->length, 1);
        cblas_dscal((int)a->length, 1 / values[j], far + j * a->length, 1);
    }
    return true;
}

static distac_status triplets_float(distac_context *context, const di_slices *a, int64_t r, double *near,
                                    double *values, double *far, bool *finite, bool *fine) {
    int64_t k = a->near, most = r > SLICES ? r : SLICES;
    room all, floats, integers;
    *fine = false;
    DI_TRY(room_open(&all, context, k * most + 10 * k));
    distac_status status = room_open(&floats, context, (k * k + k * SLICES + most * k + (3 + FLOAT_WORK) * k) / 2 + 1);
    if (status == DISTAC_OK) {
        status = room_open(&integers, context, 4 * k);
        if (status == DISTAC_OK) {
            float_room m = {.gram = (float *)(void *)floats.memory, .wide = all.memory, .d = all.memory + k * most};
            m.block = m.gram + k * k;
            m.vectors = m.block + k * SLICES;
            m.tau = m.vectors + most * k;
            m.work = m.tau + 3 * k;
            m.e = m.d + k;
            m.e2 = m.e + k;
            m.all = m.e2 + k;
            m.more = m.all + k;
            bool flat = true;
            for (int64_t first = 0, count = GLANCE; first < a->length && *finite && flat; first += count, count = SLICES) {
                if (count > a->length - first) count = a->length - first;
                *finite = a->load(a->arg, first, count, m.wide);
                if (!*finite) break;
                di_square_float(context, a, m.wide, count, first > 0, m.gram, m.block);
                if (first == 0) flat = looks_flat(k, r, m.gram);
            }
            if (*finite && flat)
                status = leading_float(context, k, r, &m, (lapack_int *)(void *)integers.memory, fine);
            if (status == DISTAC_OK && *fine) {
                *finite = other_side_float(a, r, &m, values, far, m.gram);
                for (int64_t i = 0; i < k * r; i++) near[i] = (double)m.vectors[i];
            }
            room_close(&integers);
        }
        room_close(&floats);
    }
    room_close(&all);
    return status;
}

distac_status di_triplets(distac_context *context, const di_slices *a, int64_t r, bool exact, double *near,
                          double *values, double *far, bool *finite) {
    bool fine = false;
    if (a->length > INT_MAX / 2)
        return di_fail(DISTAC_ESHAPE, "a matrix of [%lld,%lld] is too large for LAPACK", (long long)a->near,
                       (long long)a->length);
    *finite = true;
    if (!exact && a->near > FLOAT_FROM && 2 * r <= a->near)
        DI_TRY(triplets_float(context, a, r, near, values, far, finite, &fine));
    if (!exact && !fine && *finite && a->near > SMALL)
        DI_TRY(triplets_gram(context, a, r, near, values, far, finite, &fine));
    return fine || !*finite ? DISTAC_OK : triplets_exact(context, a, r, near, values, far, finite);
}
