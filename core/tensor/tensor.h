/* tensor.h: the body of a tensor, for the rest of core/. A tensor is a shape with strides over a
 * reference-counted storage; views share the storage. */
#ifndef DISTAC_TENSOR_H
#define DISTAC_TENSOR_H

#include "../backend/arrays.h"
#include "../base/base.h"

typedef struct di_storage {
    atomic_int refs;
    distac_context *context; /* retained */
    void *memory;
    size_t bytes;
    bool readonly;
    bool there; /* memory is the context's device's */
    atomic_ullong
        writes; /* counted by di_writable: who keeps something made of the elements sees that it is old */
    void (*release)(void *owner); /* NULL: memory came from di_alloc; else called with owner, memory is foreign */
    void *owner;
} di_storage;

struct distac_tensor {
    atomic_int refs;
    distac_context *context; /* the storage's; not retained twice */
    di_storage *storage;
    void *data; /* first element */
    int32_t dtype, rank;
    int64_t shape[DI_MAX_RANK], stride[DI_MAX_RANK]; /* strides in elements */
    int64_t numel;
};

/* ESTATE for a read-only tensor; counts a write otherwise. Asked before elements are written. */
distac_status di_writable(const char *function, const char *name, const distac_tensor *tensor);
distac_status di_tensor_new(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                            bool zeroed, distac_tensor **out);
/* The same where the context computes: its device, or else the host. */
distac_status di_tensor_new_there(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                                  bool zeroed, distac_tensor **out);
/* The same where another tensor lies; and told where. */
distac_status di_tensor_new_beside(const distac_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *shape,
                                   bool zeroed, distac_tensor **out);
distac_status di_tensor_new_at(distac_context *context, bool there, int32_t dtype, int32_t rank,
                               const int64_t *shape, distac_tensor **out);
/* [new] A contiguous copy on the device (there) or the host; the tensor itself, retained, if it is one already. */
distac_status di_tensor_bring(const distac_tensor *tensor, bool there, distac_tensor **out);
/* Symmetric matrices a [...,N,N] on a device, F64, contiguous, become their eigenvectors, one per row; w [...,N]
 * rises. */
distac_status di_tensor_eigh_there(distac_tensor *a, distac_tensor *w);
/* Whether the context's models, and so what they take and give, lie on a device. */
bool di_models_there(const distac_context *context);
/* A contiguous tensor over foreign memory (a mapped file): release(owner) runs when the last view goes; on
 * failure release has NOT run. */
distac_status di_tensor_foreign(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                                void *memory, bool readonly, void (*release)(void *), void *owner,
                                distac_tensor **out);
/* [view] A contiguous tensor at element `offset` of a contiguous tensor (named views of a flat buffer). */
distac_status di_tensor_slice(const distac_tensor *source, int64_t offset, int32_t rank, const int64_t *shape,
                              distac_tensor **out);
/* Row-major strides of a shape. */
void di_strides(int32_t rank, const int64_t *shape, int64_t *out);
void di_tensor_retain(const distac_tensor *tensor);
bool di_tensor_is_contiguous(const distac_tensor *tensor);
bool di_dtype_is_float(int32_t dtype); /* F64 F32 F16 BF16 */
/* "[2,3]" into buffer, which is returned. */
const char *di_shape_text(int32_t rank, const int64_t *shape, char *buffer, size_t bytes);
/* Fails with ESHAPE unless tensor is contiguous with this dtype, rank and shape (size -1: anything), in host
 * memory; name is the argument's name for the text. */
distac_status di_tensor_expect(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                               const int64_t *shape);

/* The same wherever it lies. */
distac_status di_tensor_expect_anywhere(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                                        const int64_t *shape);
/* EDEVICE unless the tensor is in host memory. */
distac_status di_tensor_expect_here(const char *function, const char *name, const distac_tensor *tensor);

/* ---- element conversion (convert.c): n elements, contiguous, may be unaligned, rounding to nearest even ---- */
void di_to_f32(int32_t dtype, const void *src, float *dst, int64_t n);   /* any float or integer type */
void di_to_f64(int32_t dtype, const void *src, double *dst, int64_t n);
void di_from_f32(int32_t dtype, const float *src, void *dst, int64_t n); /* any float type */
void di_from_f64(int32_t dtype, const double *src, void *dst, int64_t n); /* any type; integers are clamped */

#endif
