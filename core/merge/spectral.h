/* spectral.h: leading singular triplets and polar factors in double, columns in memory (as LAPACK has them). All
 * of it runs on the calling thread, so it may be called from parallel tasks. What operators on whole matrices
 * share stands below: reading, sums, the mean of what is no matrix. */
#ifndef DISTAC_SPECTRAL_H
#define DISTAC_SPECTRAL_H

#include "merge.h"

/* A matrix that is read slice by slice along its longer side and never held whole: near <= length. */
typedef struct di_slices {
    int64_t near, length;
    bool turned; /* count slices come as [count,near] instead of [near,count] */
    /* Slices first … first+count-1; false if a number is not finite. */
    bool (*load)(void *arg, int64_t first, int64_t count, double *out);
    void *arg;
} di_slices;

/* The r leading singular triplets of a: near [near,r], values [r] (any order), far [length,r]. A triplet whose
 * value is zero to working precision has value 0 and zero vectors. exact: by a singular value decomposition,
 * always. *finite false: a has a number that is not finite, nothing is returned. */
distac_status di_triplets(distac_context *context, const di_slices *a, int64_t r, bool exact, double *near,
                          double *values, double *far, bool *finite);
/* The most that di_triplets holds, of a matrix that needs no longer way than usual. */
int64_t di_triplets_bytes(int64_t near, int64_t length, int64_t r, bool exact);
/* The r largest eigenvalues, ascending, of the tridiagonal matrix with diagonal d [n] and off-diagonal e [n-1], to
 * working precision of the largest; e2 [n] is room. All finite. (bisect.c) */
void di_bisect(int64_t n, int64_t r, const double *d, const double *e, double *e2, double *w);
/* Their vectors z [n,r], orthonormal, w as di_bisect leaves
 * it (inverse.c). *fine false: eigenvalues lie too close. */
distac_status di_tridiagonal_vectors(distac_context *context, int64_t n, int64_t r, const double *d,
                                     const double *e, const double *w, double *z, bool *fine);
/* The orthogonal polar factor of x [rows,c], rows >= c, replaces x. Directions in which x vanishes to working
 * precision are left out. exact: by a singular value decomposition, always. */
distac_status di_polar(distac_context *context, int64_t rows, int64_t c, double *x, bool exact);
int64_t di_polar_bytes(int64_t rows, int64_t c, bool exact);
/* The same to float's precision, by products (halley.c). *fine false: x is too far from orthogonal. */
distac_status di_polar_float(distac_context *context, int64_t rows, int64_t c, const double *x, float *out,
                             bool *fine);
int64_t di_polar_float_bytes(int64_t rows, int64_t c);
/* The polar factor of x in parts: x inverse(lowerT) factor, by its Gram matrix [c,c] = lower lowerT, lower
 * triangle, which is destroyed; above lower's diagonal stands anything. floor: the least ratio of x's singular
 * values that the Gram matrix is trusted with. */
distac_status di_polar_parts(distac_context *context, int64_t c, double *gram, double floor, double *lower,
                             float *factor, bool *fine);
int64_t di_polar_parts_bytes(int64_t c);
/* Eigenvalues w [c], ascending, and vectors, replacing g [c,c], lower triangle. */
distac_status di_eigen(distac_context *context, int64_t c, double *g, double *w);
int64_t di_eigen_bytes(int64_t c);

/* ---- whole.c ---- */
bool di_whole_takes(const di_merge_run *run, const di_entry *entry); /* matrices */
void di_whole_mean(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out);
/* For di_method.rule: the same. */
void di_whole_mean_rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each);
/* Elements first … first+n-1 of model t's task vector, on any thread; false if one is not finite. */
bool di_whole_load(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *out);
/* The sum of all task vectors, on all lanes. */
distac_status di_whole_sum(di_merge_run *run, int64_t entry, double *out);
/* Slices of a matrix in memory, which has to stay as long as they are read. */
typedef struct di_held {
    const double *x; /* [p,q] */
    int64_t p, q;
} di_held;
di_slices di_held_slices(di_held *held);
/* y [q,p] = the transpose of x [p,q]. */
void di_transpose(int64_t p, int64_t q, const double *x, double *y);

#endif
