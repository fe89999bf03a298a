/* spectral_room.h: what triplets (spectral.c) and polar factors (polar.c) share: scratch memory, the decomposition. */
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
distac_status di_decompose(distac_context *context, int64_t p, int64_t q, double *a, double *u, double *s, double *vt);

/* Doubles that di_tridiagonal_vectors holds. (inverse.c) */
int64_t di_tridiagonal_room(int64_t n, int64_t r);
int64_t di_decompose_bytes(int64_t p, int64_t q);

/* g [near,near], lower triangle, = or += the products of `count` slices in block, as di_slices.load gives them; above
 * the diagonal stands anything. panels: di_square_room numbers of the result's type. (square.c) */
int64_t di_square_room(int64_t k);
void di_square(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add, double *g,
               double *panels);
void di_square_float(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
                     float *g, float *panels);

#endif
