/* spectral.h: leading singular triplets and polar factors in double, columns in memory (as LAPACK has them). All
 * of it runs on the calling thread, so it may be called from parallel tasks. */
#ifndef DISTAC_SPECTRAL_H
#define DISTAC_SPECTRAL_H

#include "../tensor/tensor.h"

/* A matrix that is read slice by slice along its longer side and never held whole: near <= length. */
typedef struct di_slices {
    int64_t near, length;
    bool turned; /* count slices come as [count,near] instead of [near,count] */
    /* Slices first … first+count-1; false if a number is not finite. */
    bool (*load)(void *arg, int64_t first, int64_t count, double *out);
    void *arg;
} di_slices;

/* The r leading singular triplets of a: near [near,r], values [r] (any order), far [length,r]. A triplet whose value
 * is zero to working precision has value 0 and zero vectors. exact: by a singular value decomposition, always.
 * *finite false: a has a number that is not finite, nothing is returned. */
distac_status di_triplets(distac_context *context, const di_slices *a, int64_t r, bool exact, double *near,
                          double *values, double *far, bool *finite);
/* The r largest eigenvalues, ascending, of the tridiagonal matrix with diagonal d [n] and off-diagonal e [n-1], to
 * working precision of the largest; e2 [n] is room. All finite. (bisect.c) */
void di_bisect(int64_t n, int64_t r, const double *d, const double *e, double *e2, double *w);
/* The orthogonal polar factor of x [rows,c], rows >= c, replaces x. Directions in which x vanishes to working
 * precision are left out. exact: by a singular value decomposition, always. */
distac_status di_polar(distac_context *context, int64_t rows, int64_t c, double *x, bool exact);
/* root [c,c], lower triangle: x root is the polar factor. *fine false: x is too far from orthogonal for that; take
 * di_polar. */
distac_status di_polar_root(distac_context *context, int64_t rows, int64_t c, const double *x, double *root,
                            bool *fine);

#endif
