/* arrays.h: what tensors on a device need beside the kernels of models: elements with strides, types, reductions.
 * The CPU does the same in core/tensor; results agree with it as backend.h says. */
#ifndef DISTAC_ARRAYS_H
#define DISTAC_ARRAYS_H

#include "../base/base.h"
#include "strides.h"

/* Arrays are the device's and aligned; numbers and texts the host's. No entry is called for nothing (numel 0). */
typedef struct di_arrays {
    /* n dense elements of any type but F8 to any type but F8, or of one type; as convert.c rounds them */
    distac_status (*convert)(distac_context *c, int64_t n, int32_t from, const void *src, int32_t to, void *dst);
    /* dst (tensor 0 of the walk) = src (tensor 1), elements of 1, 2, 4 or 8 bytes; no overlap */
    distac_status (*move)(distac_context *c, const di_walk *walk, int64_t size, void *dst, const void *src);
    /* dst (tensor 0) = the low bytes of element */
    distac_status (*fill)(distac_context *c, const di_walk *walk, int64_t size, uint64_t element, void *dst);
    /* out (tensor 0) = a (tensor 1) op b (tensor 2), F32 or F64, op: DISTAC_ADD …; an array that is NULL is the
     * number */
    distac_status (*binary)(distac_context *c, const di_walk *walk, int32_t dtype, int32_t op, const void *a,
                            const void *b, double number, void *out);
    /* out (tensor 0) = op(a) (tensor 1), F32 or F64, op: DISTAC_NEG … */
    distac_status (*unary)(distac_context *c, const di_walk *walk, int32_t dtype, int32_t op, const void *a,
                           void *out);
    /* src [outer,n,inner] dense, F32 or F64, n at least 1, to out [outer,inner] of that type, or I64 for
     * DISTAC_ARGMAX */
    distac_status (*reduce)(distac_context *c, int32_t dtype, int32_t op, int64_t outer, int64_t n, int64_t inner,
                            const void *src, void *out);
    /* Elements of a float type (F8 too) that are not finite: how many, and the first. */
    distac_status (*nonfinite)(distac_context *c, int64_t n, int32_t dtype, const void *src, int64_t *first,
                               int64_t *count);
    /* a [M,N], R the smaller of them: u [M,R], s [R], vt [R,N]; all F64, dense; a is destroyed. */
    distac_status (*svd)(distac_context *c, int64_t M, int64_t N, double *a, double *u, double *s, double *vt);
    /* Symmetric matrices a [batch,N,N] (their lower triangles) become their eigenvectors, one per row; w [batch,N]
     * rises. F64, dense. */
    distac_status (*eigh)(distac_context *c, int64_t batch, int64_t N, double *a, double *w);
} di_arrays;

#endif
