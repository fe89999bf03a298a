/* polar.c: orthogonal polar factors by the eigenproblem of the Gram matrix, refined where that has cost digits; by
 * a singular value decomposition where it has cost too many. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <limits.h>
#include <math.h>
#include <string.h>

/* Squared singular values, the least over the largest, from which a Gram matrix is trusted; above it a factor is
 * refined up to polar_refine. */
static const double polar_floor = 1e-12, polar_refine = 1e-9;
static const double polar_null = 1e-12;   /* singular values below this share of the largest count as zero */

static distac_status polar_exact(distac_context *context, int64_t rows, int64_t c, double *x) {
    room all;
    DI_TRY(room_open(&all, context, rows * c + c + c * c));
    double *u = all.memory, *s = u + rows * c, *vt = s + c;
    distac_status status = di_decompose(context, rows, c, x, u, s, vt);
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

int64_t di_eigen_bytes(int64_t c) { return (1 + 6 * c + 2 * c * c + 5 * c + 3) * (int64_t)sizeof(double); }

distac_status di_eigen(distac_context *context, int64_t c, double *g, double *w) {
    bool fine;
    if (c > INT_MAX / 2)
        return di_fail(DISTAC_ESHAPE, "a matrix of [%lld,%lld] is too large for LAPACK", (long long)c,
                       (long long)c);
    DI_TRY(eigen(context, c, g, w, &fine));
    return fine ? DISTAC_OK : di_fail(DISTAC_ENUMERIC, "the eigenvalues do not converge (dsyevd)");
}

/* x [rows,c] = x m, m symmetric, lower triangle. */
static distac_status times(distac_context *context, int64_t rows, int64_t c, double *x, const double *m) {
    room part;
    int64_t some = rows < SLICES ? rows : SLICES;
    DI_TRY(room_open(&part, context, some * c));
    for (int64_t first = 0; first < rows; first += some) {
        int64_t n = rows - first < some ? rows - first : some;
        cblas_dsymm(CblasColMajor, CblasRight, CblasLower, (int)n, (int)c, 1, m, (int)c, x + first, (int)rows, 0,
                    part.memory, (int)n);
        for (int64_t j = 0; j < c; j++)
            memcpy(x + first + j * rows, part.memory + j * n, (size_t)n * sizeof *x);
    }
    room_close(&part);
    return DISTAC_OK;
}

/* One Newton-Schulz step, x (3 - xT x) / 2: it makes the columns orthonormal again where the Gram matrix has cost
 * digits. gram [c,c] is scratch. */
static distac_status refine(distac_context *context, int64_t rows, int64_t c, double *x, double *gram) {
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, -0.5, x, (int)rows, 0, gram, (int)c);
    for (int64_t i = 0; i < c; i++) gram[i * c + i] += 1.5;
    return times(context, rows, c, x, gram);
}

/* root [c,c], lower triangle, of x: scratch gram [c,c], w [c] its eigenvalues. *fine false: below the floor. */
static distac_status inverse_root(distac_context *context, int64_t rows, int64_t c, const double *x, double floor,
                                  double *gram, double *w, double *root, bool *fine) {
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, 1, x, (int)rows, 0, gram, (int)c);
    DI_TRY(eigen(context, c, gram, w, fine));
    *fine = *fine && w[0] > floor * w[c - 1];
    if (!*fine) return DISTAC_OK;
    for (int64_t j = 0; j < c; j++) cblas_dscal((int)c, pow(w[j], -0.25), gram + j * c, 1);
    cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, (int)c, (int)c, 1, gram, (int)c, 0, root, (int)c);
    return DISTAC_OK;
}

distac_status di_polar(distac_context *context, int64_t rows, int64_t c, double *x, bool exact) {
    room all;
    bool fine = false;
    if (c == 0) return DISTAC_OK;
    if (exact || c <= SMALL) return polar_exact(context, rows, c, x);
    DI_TRY(room_open(&all, context, 2 * c * c + c));
    double *gram = all.memory, *root = gram + c * c, *w = root + c * c;
    distac_status status = inverse_root(context, rows, c, x, polar_floor, gram, w, root, &fine);
    if (status == DISTAC_OK && fine) status = times(context, rows, c, x, root);
    if (status == DISTAC_OK && fine && w[0] < polar_refine * w[c - 1]) status = refine(context, rows, c, x, gram);
    room_close(&all);
    return status != DISTAC_OK || fine ? status : polar_exact(context, rows, c, x);
}

int64_t di_polar_bytes(int64_t rows, int64_t c, bool exact) {
    int64_t some = rows < SLICES ? rows : SLICES;
    if (exact || c <= SMALL) return (rows * c + c + c * c) * (int64_t)sizeof(double) + di_decompose_bytes(rows, c);
    int64_t eigen_bytes = di_eigen_bytes(c), part = some * c * (int64_t)sizeof(double);
    return (2 * c * c + c) * (int64_t)sizeof(double) + (eigen_bytes > part ? eigen_bytes : part);
}
