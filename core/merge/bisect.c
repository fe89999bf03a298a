/* bisect.c: the largest eigenvalues of a symmetric tridiagonal matrix, by counting signs in many places at once.
 *
 * The count of eigenvalues below x is a chain of divisions, one after the other; a processor's vectors follow
 * LANES chains in the time of one. That makes plain bisection an order of magnitude faster than LAPACK's dstebz,
 * which alone took as long as everything else that the leading eigenvectors need. */
#include "merge.h"
#include "spectral.h"
#include <float.h>
#include <math.h>

enum { LANES = 32, STEPS = 128 };

/* below[l] = how many eigenvalues are smaller than x[l]. */
DI_CLONES static void count_below(int64_t n, const double *restrict d, const double *restrict e2, double least,
                                  const double *restrict x, int64_t *restrict below) {
    double q[LANES], seen[LANES];
    for (int l = 0; l < LANES; l++) {
        q[l] = 1;
        seen[l] = 0;
    }
    for (int64_t i = 0; i < n; i++) {
        double di = d[i], ei = e2[i];
        for (int l = 0; l < LANES; l++) {
            double next = di - x[l] - ei / q[l];
            q[l] = fabs(next) < least ? -least : next;
            seen[l] += q[l] < 0 ? 1.0 : 0.0;
        }
    }
    for (int l = 0; l < LANES; l++) below[l] = (int64_t)seen[l];
}

void di_bisect(int64_t n, int64_t r, const double *d, const double *e, double *e2, double *w) {
    double low = INFINITY, high = -INFINITY, most = DBL_MIN;
    for (int64_t i = 0; i < n; i++) { /* circles around the diagonal that hold all eigenvalues */
        double radius = (i > 0 ? fabs(e[i - 1]) : 0) + (i + 1 < n ? fabs(e[i]) : 0);
        low = fmin(low, d[i] - radius);
        high = fmax(high, d[i] + radius);
        e2[i] = i > 0 ? e[i - 1] * e[i - 1] : 0;
        most = fmax(most, e2[i]);
    }
    double size = fmax(fabs(low), fabs(high)), slack = size * DBL_EPSILON * (double)n + DBL_MIN;
    for (int64_t first = 0; first < r; first += LANES) {
        double from[LANES], to[LANES], middle[LANES];
        int64_t below[LANES], count = r - first < LANES ? r - first : LANES;
        for (int l = 0; l < LANES; l++) {
            from[l] = low - slack;
            to[l] = high + slack;
        }
        for (int step = 0; step < STEPS; step++) {
            double widest = 0;
            for (int l = 0; l < LANES; l++) middle[l] = from[l] + (to[l] - from[l]) / 2;
            count_below(n, d, e2, most * DBL_MIN, middle, below);
            for (int l = 0; l < LANES; l++) {
                int64_t index = n - r + first + (l < count ? l : count - 1); /* the index-th smallest is wanted */
                if (below[l] > index) to[l] = middle[l];
                else from[l] = middle[l];
                widest = fmax(widest, (to[l] - from[l]) - 4 * DBL_EPSILON * fmax(fabs(from[l]), fabs(to[l])));
            }
            if (!(widest > DBL_EPSILON * size * 0x1p-10)) break;
        }
        for (int64_t l = 0; l < count; l++) w[first + l] = from[l] + (to[l] - from[l]) / 2;
    }
}
