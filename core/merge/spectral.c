/* spectral.c: singular triplets by eigenproblems of the Gram matrix in double, which is
 * about three times as fast as a singular value decomposition and more exact than one in
 * float. A Gram matrix squares the condition number, so where that would show the
 * triplets are taken a few at a time, each time from what the ones before leave over. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum { FLOAT_FROM = 256 }; /* below, rounding has no price to save */
enum { LEVELS = 8 };       /* at most: each one takes two and a half digits of the singular values */
/* least ratio of squared singular values a Gram matrix is trusted with */
static const double triplet_floor = 1e-8;
/* where they reach further: the same for what is taken at once, lower as the rest must not feel its roundings */
static const double deflate_floor = 1e-5;

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

int64_t di_decompose_bytes(int64_t p, int64_t q) {
    lapack_int M = (lapack_int)p, N = (lapack_int)q, K = M < N ? M : N;
    double best = 0;
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', M, N, NULL, M, NULL, NULL, M, NULL, K, &best, -1, NULL);
    return ((int64_t)best + 8 * (int64_t)K) * (int64_t)sizeof(double);
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
            for (int64_t i = 0; i < k; i++)
                near[j * k + i] = empty ? 0 : square[a->turned ? i * k + j : j * k + i];
            for (int64_t i = 0; i < n; i++) far[j * n + i] = empty ? 0 : wide[a->turned ? j * n + i : i * k + j];
        }
    }
    room_close(&all);
    return status;
}

/* ---- triplets by the Gram matrix of the shorter side ---- */

/* Whether a tridiagonal matrix is in one piece: dstein wants to be told of pieces, which only degenerate matrices
 * fall into. */
bool di_connected(int64_t k, const double *d, const double *e) {
    for (int64_t i = 0; i + 1 < k; i++)
        if (!(e[i] * e[i] > fabs(d[i] * d[i + 1]) * DBL_EPSILON * DBL_EPSILON + DBL_MIN)) return false;
    return true;
}

/* How many of the r largest eigenvalues w (ascending) a Gram matrix tells well enough: all of them, or if they
 * reach too far those that are far above its roundings. */
static int64_t trusted(int64_t r, const double *w) {
    int64_t count = r;
    if (w[0] >= triplet_floor * w[r - 1]) return r;
    while (count > 0 && !(w[r - count] >= deflate_floor * w[r - 1])) count--;
    return count;
}

/* Largest eigenvalues (ascending) and vectors z [k,*count] of g [k,k], lower triangle, destroyed: r of them or
 * those that are to be trusted. *fine tells whether LAPACK succeeded. memory, panels: triplets_gram's. */
static distac_status leading(distac_context *context, int64_t k, int64_t r, double *g, double *w, double *z,
                             int64_t *count, double *memory, double *panels, bool *fine) {
    enum { WIDTH = 64 }; /* of LAPACK's blocks */
    lapack_int n = (lapack_int)k;
    room work, integers;
    *fine = false;
    DI_TRY(room_open(&work, context, (WIDTH + 5 + 5) * k));
    distac_status status = room_open(&integers, context, 3 * k + r);
    if (status == DISTAC_OK) {
        double *d = work.memory, *e = d + k, *tau = e + k, *e2 = tau + k, *all = e2 + k, *more = all + k;
        lapack_int *block = (lapack_int *)(void *)integers.memory, *split = block + k, *list = split + k;
        lapack_int *failed = list + k;
        *fine = LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', n, g, n, d, e, tau, more, (WIDTH + 5) * n) == 0;
        if (*fine) {
            di_bisect(k, r, d, e, e2, all);
            *count = trusted(r, all);
            memcpy(w, all + (r - *count), (size_t)*count * sizeof *w);
            memmove(all, all + (r - *count), (size_t)*count * sizeof *all);
            for (int64_t i = 0; i < k; i++) block[i] = 1;
            split[0] = n;
            status = di_tridiagonal_vectors(context, k, *count, d, e, all, z, fine);
            *fine = *fine || (di_connected(k, d, e) &&
                              LAPACKE_dstein_work(LAPACK_COL_MAJOR, n, d, e, (lapack_int)*count, all, block, split,
                                                  z, n, more, list, failed) == 0);
            *fine = *fine && *count > 0 && status == DISTAC_OK;
            if (*fine) di_back(context, k, *count, g, tau, z, memory, panels);
        }
    }
    room_close(&integers);
    room_close(&work);
    return status;
}

/* A matrix less what its first triplets make of it: slices minus their projection onto near [k,found]. */
typedef struct rest {
    const di_slices *a;
    int64_t found;
    const double *near;
    double *part; /* [found,SLICES] */
} rest;

static bool load_rest(void *arg, int64_t first, int64_t count, double *out) {
    const rest *l = arg;
    int k = (int)l->a->near, n = (int)count, f = (int)l->found;
    if (!l->a->load(l->a->arg, first, count, out)) return false;
    if (f == 0) return true;
    if (l->a->turned) {
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, f, k, 1, out, n, l->near, k, 0, l->part, n);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, n, k, f, -1, l->part, n, l->near, k, 1, out, n);
    } else {
        cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, f, n, k, 1, l->near, k, out, k, 0, l->part, f);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, n, f, -1, l->near, k, l->part, f, 1, out, k);
    }
    return true;
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

/* Whether there is nothing but zeros: products of tiny numbers are zeros too. */
static bool all_zero(const di_slices *a, double *block) {
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        a->load(a->arg, first, count, block);
        for (int64_t i = 0; i < count * a->near; i++)
            if (block[i] != 0) return false;
    }
    return true;
}

/* far = aT near diag(1/values). */
static bool other_side(distac_context *context, const di_slices *a, int64_t r, const double *near,
                                const double *values, double *far, double *block, double *panels) {
    int64_t k = a->near;
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        if (!a->load(a->arg, first, count, block)) return false;
        di_product(context, !a->turned, false, count, r, k, 1, block, a->turned ? count : k, near, k, false,
                   far + first, a->length, panels);
    }
    for (int64_t j = 0; j < r; j++) cblas_dscal((int)a->length, 1 / values[j], far + j * a->length, 1);
    return true;
}

/* Columns behind the first `found` of x [n,found+more] lose what they have of those, and get length 1 again. */
static void separate(int64_t n, int64_t found, int64_t more, double *x, double *part) {
    int N = (int)n, f = (int)found, m = (int)more;
    double *y = x + found * n;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, f, m, N, 1, x, N, y, N, 0, part, f);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, N, m, f, -1, x, N, part, f, 1, y, N);
    for (int64_t j = 0; j < more; j++) cblas_dscal(N, 1 / cblas_dnrm2(N, y + j * n, 1), y + j * n, 1);
}

static void nothing_more(const di_slices *a, int64_t found, int64_t r, double *near, double *values, double *far) {
    memset(near + found * a->near, 0, (size_t)((r - found) * a->near) * sizeof *near);
    memset(far + found * a->length, 0, (size_t)((r - found) * a->length) * sizeof *far);
    memset(values + found, 0, (size_t)(r - found) * sizeof *values);
}

static int64_t panels_room(int64_t k, int64_t r) {
    int64_t square = di_square_room(k), product = di_product_room(k > SLICES ? k : SLICES, r);
    return square > product ? square : product;
}

static int64_t gram_room(int64_t k, int64_t r) { /* the slices' is enough for di_back */
    return k * k + k * SLICES + panels_room(k, r) + r * (SLICES > r ? SLICES : r);
}

/* The leading triplets in one go, or where they reach too far for a Gram matrix, which squares them, in several:
 * those at the top, then those of what these leave over. *fine false: the caller takes the exact way. */
static distac_status triplets_gram(distac_context *context, const di_slices *a, int64_t r, double *near,
                                   double *values, double *far, bool *finite, bool *fine) {
    int64_t k = a->near, found = 0;
    double zero = 0, trace;
    room all;
    DI_TRY(room_open(&all, context, gram_room(k, r)));
    double *gram = all.memory, *block = gram + k * k, *panels = block + k * SLICES;
    rest remaining = {a, 0, near, panels + panels_room(k, r)};
    di_slices seen = {a->near, a->length, a->turned, load_rest, &remaining};
    distac_status status = DISTAC_OK;
    *fine = true;
    for (int level = 0; status == DISTAC_OK && *fine && found < r; level++) {
        int64_t count = 0;
        remaining.found = found;
        *finite = gram_of(context, &seen, gram, block, panels);
        if (!*finite) break;
        trace = 0;
        for (int64_t j = 0; j < k; j++) trace += gram[j * k + j];
        if (level == 0) zero = sqrt(trace) * DBL_EPSILON * (double)a->length;
        if (level > 0 ? sqrt(trace) <= zero : trace == 0 && all_zero(a, block)) {
            nothing_more(a, found, r, near, values, far);
            break;
        }
        *fine = level < LEVELS && trace > DBL_MIN / DBL_EPSILON && isfinite(trace);
        if (*fine)
            status = leading(context, k, r - found, gram, values + found, near + found * k, &count, block, panels,
                             fine);
        if (status != DISTAC_OK || !*fine) break;
        for (int64_t j = found; j < found + count; j++) values[j] = sqrt(values[j]);
        if (found > 0) separate(k, found, count, near, remaining.part);
        *finite = other_side(context, &seen, count, near + found * k, values + found, far + found * a->length,
                             block, panels);
        if (!*finite) break;
        if (found > 0) separate(a->length, found, count, far, remaining.part);
        found += count;
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
        DI_TRY(di_triplets_float(context, a, r, near, values, far, finite, &fine));
    if (!exact && !fine && *finite && a->near > SMALL)
        DI_TRY(triplets_gram(context, a, r, near, values, far, finite, &fine));
    return fine || !*finite ? DISTAC_OK : triplets_exact(context, a, r, near, values, far, finite);
}

/* The rooms that are opened on the way, those in float count half. */
int64_t di_triplets_bytes(int64_t k, int64_t n, int64_t r, bool exact) {
    int64_t most = r > SLICES ? r : SLICES, vectors = di_tridiagonal_room(k, r);
    if (exact || k <= SMALL)
        return (2 * k * n + k + k * k) * (int64_t)sizeof(double) + di_decompose_bytes(k, n);
    int64_t gram = gram_room(k, r) + 78 * k + r + vectors;
    int64_t floats = k * most + 10 * k + di_triplets_float_room(k, r) + 4 * k + vectors;
    return (gram > floats || k <= FLOAT_FROM || 2 * r > k ? gram : floats) * (int64_t)sizeof(double);
}
