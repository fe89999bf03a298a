/* spectral_room.h: what triplets (spectral.c) and polar factors (polar.c)
 * share: scratch memory, the decomposition. */
#ifndef DISTAC_SPECTRAL_ROOM_H
#define DISTAC_SPECTRAL_ROOM_H

#include "spectral.h"

enum { SMALL = 32 };   /* up to this side the decomposition costs nothing */
enum { SLICES = 384 }; /* read at a time: fixed, so the bits depend on nothing else */

/* Several arrays in one allocation. */
typedef struct room {
    distac_context *context;
    double *memory;
    size_t bytes;
} room;

static inline distac_status room_open(room *r, distac_context *context, int64_t doubles) {
    *r = (room){context, NULL, (size_t)(doubles > 0 ? doubles : 1) * sizeof(double)};
    r->memory = di_alloc(context, r->bytes);
    return r->memory ? DISTAC_OK : DISTAC_ENOMEM;
}

static inline void room_close(room *r) {
    if (r->memory) di_free(r->context, r->memory, r->bytes);
}

/* The thin singular value decomposition a = u diag(s) vt of a [p,q], which is destroyed. (spectral.c) */
distac_status di_decompose(distac_context *context, int64_t p, int64_t q, double *a, double *u, double *s,
                           double *vt);

/* Whether a tridiagonal matrix is in one piece: no element beside the diagonal is negligible. (spectral.c) */
bool di_connected(int64_t k, const double *d, const double *e);
/* di_triplets in float; *fine false: the spectrum is not flat enough, and another way has to be taken. The room is
 * in doubles. (spectral_float.c) */
distac_status di_triplets_float(distac_context *context, const di_slices *a, int64_t r, double *near,
                                double *values, double *far, bool *finite, bool *fine);
int64_t di_triplets_float_room(int64_t k, int64_t r);

/* Doubles that di_tridiagonal_vectors holds. (inverse.c) */
int64_t di_tridiagonal_room(int64_t n, int64_t r);
int64_t di_decompose_bytes(int64_t p, int64_t q);

/* z [n,count] = the product of dsytrd's reflections, which stand below a's diagonal, times z. memory:
 * 64 (n + 2 count + 128) doubles, panels: di_product_room(n, count). (back.c) */
void di_back(distac_context *context, int64_t n, int64_t count, const double *a, const double *tau, double *z,
             double *memory, double *panels);

/* ---- products.c: on the calling thread; panels: room for so many numbers of the result's type ---- */
int64_t di_square_room(int64_t k);
int64_t di_product_room(int64_t m, int64_t n); /* of a solve: of its rows and c */
/* g [near,near], lower triangle, = or += the products of `count` slices in block, as di_slices.load gives them;
 * above the diagonal stands anything. */
void di_square(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
               double *g, double *panels);
void di_square_float(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
                     float *g, float *panels);
/* g [c,c], lower triangle, = xT x of x [rows,c]. */
void di_gram(distac_context *context, int64_t rows, int64_t c, const double *x, double *g, double *panels);
void di_gram_float(distac_context *context, int64_t rows, int64_t c, const float *x, float *g, float *panels);
/* c [m,n] = or += alpha op(a) op(b) */
void di_product(distac_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha,
                const double *a, int64_t lda, const double *b, int64_t ldb, bool add, double *c, int64_t ldc,
                double *panels);
void di_product_float(distac_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                      float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, bool add, float *c,
                      int64_t ldc, float *panels);
/* x [rows,c] times the inverse of lower, a lower triangle [c,c], or of its transpose, replaces x. */
void di_solve(distac_context *context, bool transposed, int64_t rows, int64_t c, const double *lower, int64_t ldl,
              double *x, int64_t ldx, double *panels);
void di_solve_float(distac_context *context, bool transposed, int64_t rows, int64_t c, const float *lower,
                    int64_t ldl, float *x, int64_t ldx, float *panels);

#endif
