/* view.c: tensors that share the storage of another: reshape, narrow, select, transpose, slice. */
#include "tensor.h"

#include <stdlib.h>
#include <string.h>

/* A copy of the tensor object with the storage shared; the caller changes shape and position. */
static distac_status share(const distac_tensor *source, distac_tensor **out) {
    distac_tensor *tensor = di_new(sizeof *tensor);
    if (!tensor) return DISTAC_ENOMEM;
    atomic_init(&tensor->refs, 1);
    tensor->context = source->context;
    tensor->storage = source->storage;
    tensor->data = source->data;
    tensor->dtype = source->dtype;
    tensor->rank = source->rank;
    tensor->numel = source->numel;
    memcpy(tensor->shape, source->shape, sizeof tensor->shape);
    memcpy(tensor->stride, source->stride, sizeof tensor->stride);
    atomic_fetch_add_explicit(&source->storage->refs, 1, memory_order_relaxed);
    *out = tensor;
    return DISTAC_OK;
}

static void set_shape(distac_tensor *tensor, int32_t rank, const int64_t *shape, int64_t numel) {
    tensor->rank = rank;
    tensor->numel = numel;
    for (int32_t i = 0; i < rank; i++) tensor->shape[i] = shape[i];
    di_strides(rank, shape, tensor->stride);
}

static void move(distac_tensor *tensor, int64_t elements) {
    if (tensor->data) tensor->data = (char *)tensor->data + elements * distac_dtype_bytes(tensor->dtype);
}

static distac_status check_dim(const char *function, const char *name, const distac_tensor *tensor, int32_t dim) {
    char text[200];
    if (dim >= 0 && dim < tensor->rank) return DISTAC_OK;
    return di_fail_at(DISTAC_EINVAL, function, "%s is %d, the tensor is %s", name, dim,
                      di_shape_text(tensor->rank, tensor->shape, text, sizeof text));
}

/* Product of the sizes; false if it does not fit or a size is negative. */
static bool product(int32_t rank, const int64_t *shape, int64_t *out) {
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++)
        if (shape[i] < 0 || (count != 0 && __builtin_mul_overflow(count, shape[i], &count))) return false;
    *out = count;
    return true;
}

distac_status distac_tensor_reshape(const distac_tensor *tensor, int32_t n_shape, const int64_t *shape,
                                    distac_tensor **out) {
    char from[200], to[200];
    int64_t sizes[DI_MAX_RANK], numel = 0;
    int32_t free_dim = -1;
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_REQUIRE(shape || n_shape <= 0, "shape is NULL");
    if (n_shape < 0 || n_shape > DI_MAX_RANK)
        return di_fail(DISTAC_ESHAPE, "shape has %d sizes, wanted 0 to %d", n_shape, DI_MAX_RANK);
    if (!di_tensor_is_contiguous(tensor))
        return di_fail(DISTAC_ESHAPE, "tensor is a strided view %s; cast makes a contiguous copy",
                       di_shape_text(tensor->rank, tensor->shape, from, sizeof from));
    bool fits = true;
    for (int32_t i = 0; i < n_shape; i++) {
        sizes[i] = shape[i];
        if (shape[i] != -1) continue;
        if (free_dim >= 0) return di_fail(DISTAC_ESHAPE, "shape is %s, only one size may be -1",
                                          di_shape_text(n_shape, shape, to, sizeof to));
        free_dim = i;
        sizes[i] = 1;
    }
    fits = product(n_shape, sizes, &numel);
    if (fits && free_dim >= 0 && numel > 0 && tensor->numel % numel == 0) {
        sizes[free_dim] = tensor->numel / numel;
        numel = tensor->numel;
    }
    if (!fits || numel != tensor->numel)
        return di_fail(DISTAC_ESHAPE, "tensor is %s with %lld elements, shape is %s",
                       di_shape_text(tensor->rank, tensor->shape, from, sizeof from), (long long)tensor->numel,
                       di_shape_text(n_shape, shape, to, sizeof to));
    DI_TRY(share(tensor, out));
    set_shape(*out, n_shape, sizes, numel);
    return DISTAC_OK;
}

distac_status distac_tensor_narrow(const distac_tensor *tensor, int32_t dim, int64_t start, int64_t length,
                                   distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_TRY(check_dim(__func__, "dim", tensor, dim));
    int64_t size = tensor->shape[dim];
    if (start < 0 || start > size || length < 0 || length > size - start)
        return di_fail(DISTAC_EINVAL, "start %lld, length %lld, but dimension %d has size %lld", (long long)start,
                       (long long)length, dim, (long long)size);
    DI_TRY(share(tensor, out));
    distac_tensor *view = *out;
    view->numel = size ? tensor->numel / size * length : 0;
    view->shape[dim] = length;
    if (view->numel) move(view, start * tensor->stride[dim]);
    return DISTAC_OK;
}

distac_status distac_tensor_select(const distac_tensor *tensor, int32_t dim, int64_t index, distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_TRY(check_dim(__func__, "dim", tensor, dim));
    int64_t size = tensor->shape[dim];
    if (index < 0 || index >= size)
        return di_fail(DISTAC_EINVAL, "index is %lld, but dimension %d has size %lld", (long long)index, dim,
                       (long long)size);
    DI_TRY(share(tensor, out));
    distac_tensor *view = *out;
    view->numel = tensor->numel / size;
    if (view->numel) move(view, index * tensor->stride[dim]);
    view->rank--;
    for (int32_t i = dim; i < view->rank; i++) {
        view->shape[i] = tensor->shape[i + 1];
        view->stride[i] = tensor->stride[i + 1];
    }
    return DISTAC_OK;
}

distac_status distac_tensor_transpose(const distac_tensor *tensor, int32_t dim0, int32_t dim1,
                                      distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_TRY(check_dim(__func__, "dim0", tensor, dim0));
    DI_TRY(check_dim(__func__, "dim1", tensor, dim1));
    DI_TRY(share(tensor, out));
    distac_tensor *view = *out;
    view->shape[dim0] = tensor->shape[dim1];
    view->shape[dim1] = tensor->shape[dim0];
    view->stride[dim0] = tensor->stride[dim1];
    view->stride[dim1] = tensor->stride[dim0];
    return DISTAC_OK;
}

distac_status di_tensor_slice(const distac_tensor *source, int64_t offset, int32_t rank, const int64_t *shape,
                              distac_tensor **out) {
    char text[200];
    int64_t numel = 0;
    *out = NULL;
    if (rank < 0 || rank > DI_MAX_RANK || !product(rank, shape, &numel) || !di_tensor_is_contiguous(source) ||
        offset < 0 || offset > source->numel || numel > source->numel - offset)
        return di_fail(DISTAC_ESHAPE, "%s at element %lld of %lld",
                       di_shape_text(rank < 0 || rank > DI_MAX_RANK ? 0 : rank, shape, text, sizeof text),
                       (long long)offset, (long long)source->numel);
    DI_TRY(share(source, out));
    set_shape(*out, rank, shape, numel);
    if (numel) move(*out, offset);
    return DISTAC_OK;
}
