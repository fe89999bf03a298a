/* inverse.c: eigenvectors of a symmetric tridiagonal matrix for eigenvalues that are known, by inverse iteration
 * in many places at once: a processor's vectors solve LANES systems in the time of one, as in bisect.c.
 *
 * Systems are solved by elimination with row exchanges, as LAPACK's dlagtf does. Every eigenvalue has its vector
 * found on its own. Those of neighbours are then as far from orthogonal as the rounding errors of a vector, over
 * the gap; if that is little all are made orthonormal together, and if not (eigenvalues that are equal but for the
 * last digits) the caller is told to take another way. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { LANES = 16, ROUNDS = 3 };
static const double apart = 0.1; /* the most that products of two vectors may add up to */

/* Row i of the upper triangle of an eliminated matrix, how row i+1 was eliminated, and whether the two were
 * exchanged before (1 or 0). All [LANES]. */
typedef struct row {
    double diagonal[LANES], first[LANES], second[LANES], factor[LANES], exchanged[LANES];
} row;

DI_CLONES static void eliminate(int64_t n, const double *restrict d, const double *restrict e,
                                const double *restrict w, double tiny, row *restrict rows) {
    double a[LANES], b[LANES]; /* the row at hand: its diagonal and what stands right of it */
    for (int l = 0; l < LANES; l++) {
        a[l] = d[0] - w[l];
        b[l] = n > 1 ? e[0] : 0;
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        double below = e[i], next = d[i + 1], after = i + 2 < n ? e[i + 1] : 0;
        row *r = &rows[i];
        for (int l = 0; l < LANES; l++) {
            double c = next - w[l];
            double swap = fabs(below) > fabs(a[l]) ? 1.0 : 0.0;
            double top = swap != 0 ? below : a[l], bottom = swap != 0 ? a[l] : below;
            double right = swap != 0 ? c : b[l], under = swap != 0 ? b[l] : c;
            double far = swap != 0 ? after : 0.0, rest = swap != 0 ? 0.0 : after;
            top = fabs(top) < tiny ? tiny : top;
            double factor = bottom / top;
            r->diagonal[l] = top;
            r->first[l] = right;
            r->second[l] = far;
            r->factor[l] = factor;
            r->exchanged[l] = swap;
            a[l] = under - factor * right;
            b[l] = rest - factor * far;
        }
    }
    for (int l = 0; l < LANES; l++) {
        rows[n - 1].diagonal[l] = fabs(a[l]) < tiny ? tiny : a[l];
        rows[n - 1].first[l] = rows[n - 1].second[l] = 0;
    }
}

/* x [n][LANES] = the solutions for the right sides x. forward: eliminate them first. */
DI_CLONES static void solve(int64_t n, const row *restrict rows, bool forward, double *restrict x) {
    for (int64_t i = 0; forward && i + 1 < n; i++) {
        const row *r = &rows[i];
        double *here = x + i * LANES, *next = here + LANES;
        for (int l = 0; l < LANES; l++) {
            double upper = r->exchanged[l] != 0 ? next[l] : here[l],
                   lower = r->exchanged[l] != 0 ? here[l] : next[l];
            here[l] = upper;
            next[l] = lower - r->factor[l] * upper;
        }
    }
    double one[LANES] = {0}, two[LANES] = {0}; /* the two solved before */
    for (int64_t i = n - 1; i >= 0; i--) {
        const row *r = &rows[i];
        double *here = x + i * LANES;
        for (int l = 0; l < LANES; l++) {
            double value = (here[l] - r->first[l] * one[l] - r->second[l] * two[l]) / r->diagonal[l];
            two[l] = one[l];
            one[l] = value;
            here[l] = value;
        }
    }
}

/* A number in -0.5 … 0.5 that has nothing to do with its neighbours. */
static double start_of(int64_t vector, int64_t i) {
    uint64_t bits = (uint64_t)(vector * 1000003 + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (double)(bits >> 11) * 0x1p-53 - 0.5;
}

/* Lengths 1; the least factor by which the last solution had grown. */
static double shorten(int64_t n, double *x) {
    double squares[LANES] = {0}, least = INFINITY;
    for (int64_t i = 0; i < n; i++)
        for (int l = 0; l < LANES; l++) squares[l] += x[i * LANES + l] * x[i * LANES + l];
    for (int l = 0; l < LANES; l++) {
        squares[l] = sqrt(squares[l]);
        least = squares[l] < least || !isfinite(squares[l]) ? squares[l] : least;
        squares[l] = 1 / squares[l];
    }
    for (int64_t i = 0; i < n; i++)
        for (int l = 0; l < LANES; l++) x[i * LANES + l] *= squares[l];
    return least;
}

/* z [n,r] = z inverse(R), products zT z = RT R. False if they are too far from the unit matrix. */
static bool orthonormal(int64_t n, int64_t r, double *z, double *products) {
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, (int)r, (int)n, 1, z, (int)n, 0, products, (int)r);
    for (int64_t j = 0; j < r; j++) {
        double sum = 0;
        for (int64_t i = 0; i < j; i++) sum += fabs(products[j * r + i]);
        if (!(sum < apart)) return false;
    }
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (int)r, products, (int)r) != 0) return false;
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, (int)n, (int)r, 1, products,
                (int)r, z, (int)n);
    return true;
}

int64_t di_tridiagonal_room(int64_t n, int64_t r) {
    return n * (int64_t)(sizeof(row) / sizeof(double)) + n * LANES + r * r;
}

distac_status di_tridiagonal_vectors(distac_context *context, int64_t n, int64_t r, const double *d,
                                     const double *e, const double *w, double *z, bool *fine) {
    room all;
    double size = 0;
    for (int64_t i = 0; i < n; i++)
        size = fmax(size, fabs(d[i]) + (i > 0 ? fabs(e[i - 1]) : 0) + (i + 1 < n ? fabs(e[i]) : 0));
    double tiny = fmax(size * DBL_EPSILON, DBL_MIN), enough = 1 / (100 * (double)n * tiny);
    DI_TRY(room_open(&all, context, di_tridiagonal_room(n, r)));
    row *rows = (row *)(void *)all.memory;
    double *x = all.memory + n * (int64_t)(sizeof(row) / sizeof(double)), *products = x + n * LANES, at[LANES];
    *fine = isfinite(size) && size > DBL_MIN / DBL_EPSILON;
    for (int64_t first = 0; first < r && *fine; first += LANES) {
        int64_t count = r - first < LANES ? r - first : LANES;
        double grown = 0;
        for (int64_t l = 0; l < LANES; l++) at[l] = w[first + (l < count ? l : count - 1)];
        eliminate(n, d, e, at, tiny, rows);
        for (int64_t i = 0; i < n; i++)
            for (int64_t l = 0; l < LANES; l++) x[i * LANES + l] = start_of(first + l, i);
        for (int round = 0; round < ROUNDS; round++) {
            solve(n, rows, round > 0, x);
            grown = shorten(n, x);
        }
        *fine = grown > enough;
        for (int64_t l = 0; l < count; l++)
            for (int64_t i = 0; i < n; i++) z[(first + l) * n + i] = x[i * LANES + l];
    }
    /* Twice is enough: what is left of a tenth is its square. */
    *fine = *fine && orthonormal(n, r, z, products) && orthonormal(n, r, z, products);
    room_close(&all);
    return DISTAC_OK;
}
