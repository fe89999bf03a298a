/* spectral.c: singular triplets and polar factors by eigenproblems of the Gram matrix in double, which is about
 * three times as fast as a singular value decomposition and more exact than one in float. A Gram matrix squares
 * the condition number, so where that would show the decomposition itself is taken. */
#include "spectral.h"
#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum { SMALL = 32 }; /* up to this side the decomposition costs nothing */
static const double triplet_floor =
    1e-8;                                /* least ratio of squared singular values a Gram matrix is trusted with */
static const double polar_floor = 1e-12; /* the same for the polar factor, which is refined … */
static const double polar_refine = 1e-9; /* … below this */
static const double polar_null = 1e-12;  /* singular values below this share of the largest count as zero */

/* Several arrays in one allocation. */
typedef struct room {
    distac_context *context;
    double *memory;
    size_t bytes;
} room;

static distac_status room_open(room *r, distac_context *context, int64_t doubles) {
    *r = (room){context, NULL, (size_t)(doubles > 0 ? doubles : 1) * sizeof(double)};
    r->memory = di_alloc(context, r->bytes);
    return r->memory ? DISTAC_OK : DISTAC_ENOMEM;
}

static void room_close(room *r) {
    if (r->memory) di_free(r->context, r->memory, r->bytes);
}

/* ---- singular value decomposition: a = u diag(s) vt, thin; a is destroyed ---- */

static distac_status decompose(distac_context *context, int64_t p, int64_t q, double *a, double *u, double *s,
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

static distac_status triplets_exact(distac_context *context, int64_t p, int64_t q, int64_t r, double *a,
                                    double *left, double *values, double *right) {
    int64_t k = p < q ? p : q;
    room all;
    DI_TRY(room_open(&all, context, p * k + k + k * q));
    double *u = all.memory, *s = u + p * k, *vt = s + k;
    distac_status status = decompose(context, p, q, a, u, s, vt);
    if (status == DISTAC_OK) {
        double zero = s[0] * DBL_EPSILON * (double)(p > q ? p : q);
        for (int64_t j = 0; j < r; j++) {
            bool empty = s[j] <= zero;
            values[j] = empty ? 0 : s[j];
            for (int64_t i = 0; i < p; i++) left[j * p + i] = empty ? 0 : u[j * p + i];
            for (int64_t i = 0; i < q; i++) right[j * q + i] = empty ? 0 : vt[i * k + j];
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
            *fine = LAPACKE_dstein_work(LAPACK_COL_MAJOR, n, d, e, count, all, block, split, z, n, more, list,
                                        failed) == 0 &&
                    LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, count, g, n, tau, z, n, more,
                                        (WIDTH + 5) * n) == 0;
        }
    }
    room_close(&integers);
    room_close(&work);
    return status;
}

/* *fine false: the caller takes the exact way. a stays. */
static distac_status triplets_gram(distac_context *context, int64_t p, int64_t q, int64_t r, const double *a,
                                   double *left, double *values, double *right, bool *fine) {
    int64_t k = p < q ? p : q, other = p < q ? q : p;
    bool on_left = p <= q;
    double *near = on_left ? left : right, *far = on_left ? right : left;
    room gram;
    DI_TRY(room_open(&gram, context, k * k));
    cblas_dsyrk(CblasColMajor, CblasLower, on_left ? CblasNoTrans : CblasTrans, (int)k, (int)other, 1, a, (int)p,
                0, gram.memory, (int)k);
    distac_status status = leading(context, k, r, gram.memory, values, near, fine);
    room_close(&gram);
    if (status != DISTAC_OK || !*fine) return status;
    *fine = values[0] >= triplet_floor * values[r - 1] && values[0] > DBL_MIN / DBL_EPSILON;
    if (!*fine) return DISTAC_OK;
    cblas_dgemm(CblasColMajor, on_left ? CblasTrans : CblasNoTrans, CblasNoTrans, (int)other, (int)r, (int)k, 1, a,
                (int)p, near, (int)k, 0, far, (int)other);
    for (int64_t j = 0; j < r; j++) {
        values[j] = sqrt(values[j]);
        cblas_dscal((int)other, 1 / values[j], far + j * other, 1);
    }
    return DISTAC_OK;
}

distac_status di_triplets(distac_context *context, int64_t p, int64_t q, int64_t r, double *a, double *left,
                          double *values, double *right) {
    bool fine = false;
    if (p > INT_MAX || q > INT_MAX)
        return di_fail(DISTAC_ESHAPE, "a matrix of [%lld,%lld] is too large for LAPACK", (long long)p,
                       (long long)q);
    if ((p < q ? p : q) > SMALL) DI_TRY(triplets_gram(context, p, q, r, a, left, values, right, &fine));
    return fine ? DISTAC_OK : triplets_exact(context, p, q, r, a, left, values, right);
}

/* ---- polar factor ---- */

static distac_status polar_exact(distac_context *context, int64_t rows, int64_t c, double *x) {
    room all;
    DI_TRY(room_open(&all, context, rows * c + c + c * c));
    double *u = all.memory, *s = u + rows * c, *vt = s + c;
    distac_status status = decompose(context, rows, c, x, u, s, vt);
    if (status == DISTAC_OK) {
        int64_t rank = 0;
        while (rank < c && s[rank] > polar_null * s[0]) rank++;
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)c, (int)rank, 1, u, (int)rows, vt,
                    (int)c, 0, x, (int)rows);
    }
    room_close(&all);
    return status;
}

/* Eigenvalues w (ascending) and vectors (replacing g) of g [c,c], lower triangle. */
static distac_status eigen(distac_context *context, int64_t c, double *g, double *w, bool *fine) {
    lapack_int n = (lapack_int)c, few = 0;
    double best = 0;
    room work, integers;
    *fine = false;
    lapack_int info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, NULL, n, NULL, &best, -1, &few, -1);
    if (info != 0 || !(best >= 1 && best < INT_MAX) || few < 1) return DISTAC_OK;
    DI_TRY(room_open(&work, context, (int64_t)best));
    distac_status status = room_open(&integers, context, few);
    if (status == DISTAC_OK)
        *fine = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, g, n, w, work.memory, (lapack_int)best,
                                    (lapack_int *)(void *)integers.memory, few) == 0;
    room_close(&integers);
    room_close(&work);
    return status;
}

/* One Newton-Schulz step, x (3 - xT x) / 2: it makes the columns orthonormal again where the Gram matrix has cost
 * digits. gram [c,c] and next [rows,c] are scratch; the result is in x. */
static void refine(int64_t rows, int64_t c, double *x, double *gram, double *next) {
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, -0.5, x, (int)rows, 0, gram, (int)c);
    for (int64_t i = 0; i < c; i++) gram[i * c + i] += 1.5;
    cblas_dsymm(CblasColMajor, CblasRight, CblasLower, (int)rows, (int)c, 1, gram, (int)c, x, (int)rows, 0, next,
                (int)rows);
    memcpy(x, next, (size_t)(rows * c) * sizeof *x);
}

distac_status di_polar(distac_context *context, int64_t rows, int64_t c, double *x) {
    room all;
    bool fine = false;
    if (c == 0) return DISTAC_OK;
    if (c <= SMALL) return polar_exact(context, rows, c, x);
    DI_TRY(room_open(&all, context, 2 * c * c + c + rows * c));
    double *gram = all.memory, *root = gram + c * c, *w = root + c * c, *next = w + c;
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, 1, x, (int)rows, 0, gram, (int)c);
    distac_status status = eigen(context, c, gram, w, &fine);
    fine = fine && w[0] > polar_floor * w[c - 1];
    if (status == DISTAC_OK && fine) {
        bool rough = w[0] < polar_refine * w[c - 1];
        for (int64_t j = 0; j < c; j++) cblas_dscal((int)c, pow(w[j], -0.25), gram + j * c, 1);
        cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, (int)c, (int)c, 1, gram, (int)c, 0, root, (int)c);
        cblas_dsymm(CblasColMajor, CblasRight, CblasLower, (int)rows, (int)c, 1, root, (int)c, x, (int)rows, 0,
                    next, (int)rows);
        memcpy(x, next, (size_t)(rows * c) * sizeof *x);
        if (rough) refine(rows, c, x, gram, next);
    }
    room_close(&all);
    return status != DISTAC_OK || fine ? status : polar_exact(context, rows, c, x);
}
