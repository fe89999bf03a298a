/* spectral.h: leading singular triplets and polar factors in double, columns in memory (as LAPACK has them). All
 * of it runs on the calling thread, so it may be called from parallel tasks. */
#ifndef DISTAC_SPECTRAL_H
#define DISTAC_SPECTRAL_H

#include "../tensor/tensor.h"

/* The r leading singular triplets of a [p,q]: left [p,r], values [r] (any order), right [q,r]. A triplet whose
 * value is zero to working precision has value 0 and zero vectors. a is destroyed. */
distac_status di_triplets(distac_context *context, int64_t p, int64_t q, int64_t r, double *a, double *left,
                          double *values, double *right);
/* The r largest eigenvalues, ascending, of the tridiagonal matrix with diagonal d [n] and off-diagonal e [n-1], to
 * working precision of the largest; e2 [n] is room. All finite. (bisect.c) */
void di_bisect(int64_t n, int64_t r, const double *d, const double *e, double *e2, double *w);
/* The orthogonal polar factor of x [rows,c], rows >= c, replaces x. Directions in which x vanishes to working
 * precision are left out. */
distac_status di_polar(distac_context *context, int64_t rows, int64_t c, double *x);

#endif
