/* walk.h: going over the elements of up to three tensors of one shape in row-major order, whatever their
 * strides (0 where a tensor is broadcast). Private to core/tensor. */
#ifndef DISTAC_WALK_H
#define DISTAC_WALK_H

#include "../backend/arrays.h"
#include "tensor.h"

enum { DI_WALK_BLOCK = 32768 }; /* elements per task: fixed, so results never depend on threads */

/* A run of n elements: where it starts (row-major index and element offsets) and its strides. */
typedef struct di_run {
    int64_t first, n;
    int64_t offset[3], stride[3];
} di_run;
typedef void (*di_run_task)(void *arg, const di_run *run);

/* Neighbouring dimensions are merged where all tensors allow it. */
void di_walk_make(di_walk *walk, int32_t rank, const int64_t *shape, int32_t tensors,
                  const int64_t *const strides[]);
/* Elements first … first+count-1, in order, on this thread. */
void di_walk_part(const di_walk *walk, int64_t first, int64_t count, di_run_task task, void *arg);
/* All elements, in blocks, on the context's threads. */
void di_walk_all(distac_context *context, const di_walk *walk, di_run_task task, void *arg);

/* Contiguous elements of a tensor as dtype (F32 or F64, or its own type): its own memory if that fits, else a
 * converted copy, which di_dense_free gives back. */
typedef struct di_dense {
    distac_context *context;
    const void *data;
    void *copy;
    size_t bytes;
    bool there; /* on the context's device, as the tensor is */
} di_dense;
distac_status di_dense_get(const distac_tensor *tensor, int32_t dtype, di_dense *out);
void di_dense_free(di_dense *dense);

/* F32 or F64 to compute `tensor` in; EDTYPE for other than float types, named by function and argument. */
distac_status di_compute_dtype(const char *function, const char *name, const distac_tensor *tensor, int32_t *out);
/* n elements, any type to any type but F8, contiguous, on the context's threads. */
void di_convert(distac_context *context, int32_t from, const void *src, int32_t to, void *dst, int64_t n);
/* dst = src where one is in host memory, the other on a device; shapes agree, dst's type can be written. */
distac_status di_tensor_carry(distac_tensor *dst, const distac_tensor *src);
/* EDEVICE unless two arguments lie in one place. */
distac_status di_same_place(const char *function, const char *name_a, const distac_tensor *a, const char *name_b,
                            const distac_tensor *b);

#endif
