/* tensor.c: tensors as objects: making them, views, reference counts, and what they tell of themselves. */
#include "../backend/backend.h"
#include "tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names of types ---- */

static const struct {
    const char *name, *long_name;
    int64_t bytes;
} types[DISTAC_DTYPE_COUNT] = {
    [DISTAC_F64] = {"f64", "float64", 8},
    [DISTAC_F32] = {"f32", "float32", 4},
    [DISTAC_F16] = {"f16", "float16", 2},
    [DISTAC_BF16] = {"bf16", "bfloat16", 2},
    [DISTAC_I64] = {"i64", "int64", 8},
    [DISTAC_I32] = {"i32", "int32", 4},
    [DISTAC_I16] = {"i16", "int16", 2},
    [DISTAC_I8] = {"i8", "int8", 1},
    [DISTAC_U8] = {"u8", "uint8", 1},
    [DISTAC_BOOL] = {"bool", "bool", 1},
    [DISTAC_U16] = {"u16", "uint16", 2},
    [DISTAC_U32] = {"u32", "uint32", 4},
    [DISTAC_U64] = {"u64", "uint64", 8},
    [DISTAC_F8_E4M3] = {"f8_e4m3", "float8_e4m3fn", 1},
    [DISTAC_F8_E5M2] = {"f8_e5m2", "float8_e5m2", 1},
};

static bool known(int32_t dtype) { return dtype >= 0 && dtype < DISTAC_DTYPE_COUNT; }

const char *distac_dtype_name(int32_t dtype) { return known(dtype) ? types[dtype].name : NULL; }

int64_t distac_dtype_bytes(int32_t dtype) { return known(dtype) ? types[dtype].bytes : -1; }

static bool same_name(const char *a, const char *b) { /* ASCII case does not matter: files write "F32" */
    for (; *a && *b; a++, b++) {
        char x = *a >= 'A' && *a <= 'Z' ? (char)(*a - 'A' + 'a') : *a;
        if (x != *b) return false;
    }
    return *a == *b;
}

int32_t distac_dtype_from_name(const char *name) {
    if (!name) return -1;
    for (int32_t i = 0; i < DISTAC_DTYPE_COUNT; i++)
        if (same_name(name, types[i].name) || same_name(name, types[i].long_name)) return i;
    return -1;
}

bool di_dtype_is_float(int32_t dtype) { return dtype >= DISTAC_F64 && dtype <= DISTAC_BF16; }

/* ---- making ---- */

const char *di_shape_text(int32_t rank, const int64_t *shape, char *buffer, size_t bytes) {
    size_t used = 0;
    if (bytes == 0) return buffer;
    buffer[0] = 0;
    for (int32_t i = 0; i <= rank && used < bytes; i++) {
        int n = i < rank ? snprintf(buffer + used, bytes - used, "%s%lld", i ? "," : "[", (long long)shape[i])
                         : snprintf(buffer + used, bytes - used, rank ? "]" : "[]");
        if (n < 0) break;
        used += (size_t)n;
    }
    return buffer;
}

/* Number of elements and bytes of a shape; the names in the texts are those of the callers. */
static distac_status measure(const char *function, int32_t dtype, int32_t rank, const int64_t *shape,
                             int64_t *numel, size_t *bytes) {
    char text[256];
    if (!known(dtype)) return di_fail_at(DISTAC_EDTYPE, function, "dtype is %d, which is no element type", dtype);
    if (rank < 0 || rank > DI_MAX_RANK)
        return di_fail_at(DISTAC_ESHAPE, function, "shape has %d sizes, wanted 0 to %d", rank, DI_MAX_RANK);
    if (rank > 0 && !shape) return di_fail_at(DISTAC_EINVAL, function, "shape is NULL");
    bool empty = false;
    for (int32_t i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return di_fail_at(DISTAC_ESHAPE, function, "shape is %s, sizes are 0 or more",
                              di_shape_text(rank, shape, text, sizeof text));
        empty = empty || shape[i] == 0;
    }
    int64_t count = empty ? 0 : 1, total = 0;
    bool fits = true;
    for (int32_t i = 0; i < rank && fits && !empty; i++) fits = !__builtin_mul_overflow(count, shape[i], &count);
    if (!fits || __builtin_mul_overflow(count, types[dtype].bytes, &total) || (uint64_t)total > PTRDIFF_MAX)
        return di_fail_at(DISTAC_ESHAPE, function, "shape is %s, too many elements",
                          di_shape_text(rank, shape, text, sizeof text));
    *numel = count;
    *bytes = (size_t)total;
    return DISTAC_OK;
}

void di_strides(int32_t rank, const int64_t *shape, int64_t *out) {
    int64_t step = 1;
    for (int32_t i = rank - 1; i >= 0; i--) {
        out[i] = step;
        if (shape[i] > 1 && __builtin_mul_overflow(step, shape[i], &step)) step = INT64_MAX; /* empty, so unused */
    }
}

static void storage_release(di_storage *storage) {
    if (atomic_fetch_sub_explicit(&storage->refs, 1, memory_order_acq_rel) != 1) return;
    distac_context *context = storage->context;
    if (storage->release)
        storage->release(storage->owner);
    else if (storage->there)
        context->device->free(context, storage->memory, storage->bytes);
    else
        di_free(context, storage->memory, storage->bytes);
    free(storage);
    distac_context_release(context); /* last: the memory goes back to it */
}

/* A tensor over `storage`, whose reference it takes over unless it fails. */
static distac_status wrap(di_storage *storage, int32_t dtype, int32_t rank, const int64_t *shape, int64_t numel,
                          distac_tensor **out) {
    distac_tensor *tensor = di_new(sizeof *tensor);
    if (!tensor) return DISTAC_ENOMEM;
    atomic_init(&tensor->refs, 1);
    tensor->context = storage->context;
    tensor->storage = storage;
    tensor->data = storage->memory;
    tensor->dtype = dtype;
    tensor->rank = rank;
    tensor->numel = numel;
    if (rank > 0) memcpy(tensor->shape, shape, (size_t)rank * sizeof *shape);
    di_strides(rank, tensor->shape, tensor->stride);
    *out = tensor;
    return DISTAC_OK;
}

static di_storage *storage_new(distac_context *context, void *memory, size_t bytes) {
    di_storage *storage = di_new(sizeof *storage);
    if (!storage) return NULL;
    atomic_init(&storage->refs, 1);
    storage->context = context;
    storage->memory = memory;
    storage->bytes = bytes;
    di_context_retain(context);
    return storage;
}

static distac_status make(const char *function, distac_context *context, bool there, int32_t dtype, int32_t rank,
                          const int64_t *shape, bool zeroed, distac_tensor **out) {
    int64_t numel;
    size_t bytes;
    *out = NULL;
    DI_TRY(measure(function, dtype, rank, shape, &numel, &bytes));
    void *memory = NULL;
    if (there) DI_TRY(context->device->alloc(context, bytes, &memory));
    else memory = zeroed ? di_alloc_zeroed(context, bytes) : di_alloc(context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    di_storage *storage = storage_new(context, memory, bytes);
    if (!storage) {
        if (there) context->device->free(context, memory, bytes);
        else di_free(context, memory, bytes);
        return DISTAC_ENOMEM;
    }
    storage->there = there;
    distac_status status = wrap(storage, dtype, rank, shape, numel, out);
    if (status != DISTAC_OK) {
        storage_release(storage);
        return status;
    }
    if (there && zeroed) status = context->device->zero(context, memory, bytes);
    if (status != DISTAC_OK) {
        distac_tensor_release(*out);
        *out = NULL;
    }
    return status;
}

distac_status di_tensor_new(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                            bool zeroed, distac_tensor **out) {
    return make("tensor", context, false, dtype, rank, shape, zeroed, out);
}

bool di_models_there(const distac_context *context) { return context->there; }

distac_status di_tensor_new_there(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                                  bool zeroed, distac_tensor **out) {
    return make("tensor", context, context->there, dtype, rank, shape, zeroed, out);
}

distac_status di_tensor_new_beside(const distac_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *shape,
                                   bool zeroed, distac_tensor **out) {
    return make("tensor", tensor->context, tensor->storage->there, dtype, rank, shape, zeroed, out);
}

distac_status di_tensor_new_at(distac_context *context, bool there, int32_t dtype, int32_t rank,
                               const int64_t *shape, distac_tensor **out) {
    return make("tensor", context, there, dtype, rank, shape, false, out);
}

distac_status distac_tensor_create(distac_context *context, int32_t dtype, int32_t n_shape, const int64_t *shape,
                                   distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(context, "context is NULL");
    return make(__func__, context, false, dtype, n_shape, shape, true, out);
}

distac_status distac_tensor_create_beside(const distac_tensor *tensor, int32_t dtype, int32_t n_shape,
                                          const int64_t *shape, distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    return make(__func__, tensor->context, tensor->storage->there, dtype, n_shape, shape, true, out);
}

distac_status di_tensor_foreign(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape,
                                void *memory, bool readonly, void (*release)(void *), void *owner,
                                distac_tensor **out) {
    int64_t numel;
    size_t bytes;
    *out = NULL;
    DI_TRY(measure("tensor", dtype, rank, shape, &numel, &bytes));
    di_storage *storage = storage_new(context, memory, bytes);
    if (!storage) return DISTAC_ENOMEM;
    distac_status status = wrap(storage, dtype, rank, shape, numel, out);
    if (status != DISTAC_OK) {
        free(storage);
        distac_context_release(context);
        return status;
    }
    storage->readonly = readonly;
    storage->release = release;
    storage->owner = owner;
    return DISTAC_OK;
}

void di_tensor_retain(const distac_tensor *tensor) {
    atomic_fetch_add_explicit(&((distac_tensor *)tensor)->refs, 1, memory_order_relaxed);
}

void distac_tensor_release(distac_tensor *tensor) {
    if (!tensor || atomic_fetch_sub_explicit(&tensor->refs, 1, memory_order_acq_rel) != 1) return;
    storage_release(tensor->storage);
    free(tensor);
}

/* ---- getters: a NULL tensor has no dimension, no elements, no data ---- */

int32_t distac_tensor_dtype(const distac_tensor *tensor) { return tensor ? tensor->dtype : -1; }

int32_t distac_tensor_rank(const distac_tensor *tensor) { return tensor ? tensor->rank : -1; }

int64_t distac_tensor_size(const distac_tensor *tensor, int32_t dim) {
    return tensor && dim >= 0 && dim < tensor->rank ? tensor->shape[dim] : -1;
}

int64_t distac_tensor_stride(const distac_tensor *tensor, int32_t dim) {
    return tensor && dim >= 0 && dim < tensor->rank ? tensor->stride[dim] : -1;
}

int64_t distac_tensor_numel(const distac_tensor *tensor) { return tensor ? tensor->numel : -1; }

bool di_tensor_is_contiguous(const distac_tensor *tensor) {
    int64_t step = 1;
    if (tensor->numel <= 1) return true;
    for (int32_t i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->shape[i] == 1) continue; /* nothing ever steps along it */
        if (tensor->stride[i] != step) return false;
        step *= tensor->shape[i];
    }
    return true;
}

int32_t distac_tensor_contiguous(const distac_tensor *tensor) { return tensor && di_tensor_is_contiguous(tensor); }

int32_t distac_tensor_readonly(const distac_tensor *tensor) { return tensor && tensor->storage->readonly; }

const char *distac_tensor_device(const distac_tensor *tensor) {
    if (!tensor) return NULL;
    return tensor->storage->there ? tensor->context->device->name : "cpu";
}

void *distac_tensor_data(const distac_tensor *tensor) {
    return tensor && !tensor->storage->there ? tensor->data : NULL;
}

distac_status di_tensor_expect_here(const char *function, const char *name, const distac_tensor *tensor) {
    if (!tensor || !tensor->storage->there) return DISTAC_OK;
    return di_fail_at(DISTAC_EDEVICE, function, "%s is on %s, wanted on cpu", name, tensor->context->device->name);
}

distac_status di_tensor_expect(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                               const int64_t *shape) {
    if (tensor && tensor->storage->there)
        return di_fail_at(DISTAC_EDEVICE, name, "is on %s, wanted on cpu", tensor->context->device->name);
    return di_tensor_expect_anywhere(tensor, name, dtype, rank, shape);
}

distac_status di_tensor_expect_anywhere(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                               const int64_t *shape) {
    char came[200], wanted[200];
    bool fits = tensor && tensor->dtype == dtype && tensor->rank == rank && di_tensor_is_contiguous(tensor);
    for (int32_t i = 0; fits && i < rank; i++) fits = shape[i] == -1 || shape[i] == tensor->shape[i];
    if (fits) return DISTAC_OK;
    if (!tensor) return di_fail_at(DISTAC_EINVAL, name, "is NULL");
    return di_fail_at(tensor->dtype == dtype ? DISTAC_ESHAPE : DISTAC_EDTYPE, name,
                      "is %s %s%s, wanted a contiguous %s %s (-1: any size)", distac_dtype_name(tensor->dtype),
                      di_shape_text(tensor->rank, tensor->shape, came, sizeof came),
                      di_tensor_is_contiguous(tensor) ? "" : " (a strided view)", distac_dtype_name(dtype),
                      di_shape_text(rank, shape, wanted, sizeof wanted));
}
