/* copy.c: moving elements: dense copies of views, casts, copies into views, reading, writing and filling. */
#include "../backend/backend.h"
#include "walk.h"

#include <stdlib.h>
#include <string.h>

distac_status di_writable(const char *function, const char *name, const distac_tensor *tensor) {
    if (!tensor) return di_fail_at(DISTAC_EINVAL, function, "%s is NULL", name);
    atomic_fetch_add_explicit(&tensor->storage->writes, 1, memory_order_relaxed);
    if (!tensor->storage->readonly) return DISTAC_OK;
    return di_fail_at(DISTAC_ESTATE, function, "%s is read-only: it lies in a mapped file (cast makes a copy)",
                      name);
}

static bool eight_bit_float(int32_t dtype) { return dtype == DISTAC_F8_E4M3 || dtype == DISTAC_F8_E5M2; }

/* Values can be written into every type but the 8-bit floats, which are only carried. */
static distac_status settable(const char *function, int32_t dtype) {
    if (!eight_bit_float(dtype)) return DISTAC_OK;
    return di_fail_at(DISTAC_EDTYPE, function, "%s is carried from file to file only; nothing is converted to it",
                      distac_dtype_name(dtype));
}

/* ---- contiguous to contiguous ---- */

typedef struct convert_job {
    int32_t from, to;
    const char *src;
    char *dst;
    int64_t n;
} convert_job;

static bool whole_number(int32_t dtype) { return dtype >= DISTAC_I64 && dtype <= DISTAC_U64; }

static int64_t load_integer(int32_t dtype, const char *src) {
    double small; /* types of at most 32 bits pass through double unchanged */
    int64_t value;
    if (dtype == DISTAC_I64 || dtype == DISTAC_U64) {
        memcpy(&value, src, sizeof value);
        return value;
    }
    di_to_f64(dtype, src, &small, 1);
    return (int64_t)small;
}

/* I64 and U64 hold more than a double does, so between integer types it is not the way. */
static void convert_integers(int32_t from, const char *src, int32_t to, char *dst, int64_t n) {
    int64_t in = distac_dtype_bytes(from), out = distac_dtype_bytes(to);
    for (int64_t i = 0; i < n; i++) {
        int64_t value = load_integer(from, src + i * in);
        bool huge = from == DISTAC_U64 && value < 0; /* past INT64_MAX */
        if (to == DISTAC_I64 || to == DISTAC_U64) {
            if (to == DISTAC_I64 && huge) value = INT64_MAX;
            if (to == DISTAC_U64 && !huge && value < 0) value = 0;
            memcpy(dst + i * out, &value, sizeof value);
        } else {
            double x = huge ? 0x1p64 : (double)value; /* clamped, so rounding beyond 2^53 is no matter */
            di_from_f64(to, &x, dst + i * out, 1);
        }
    }
}

static void convert_block(void *arg, int64_t index) {
    enum { PIECE = 512 };
    const convert_job *job = arg;
    int64_t first = index * DI_WALK_BLOCK, n = job->n - first;
    if (n > DI_WALK_BLOCK) n = DI_WALK_BLOCK;
    int64_t in = distac_dtype_bytes(job->from), out = distac_dtype_bytes(job->to);
    const char *src = job->src + first * in;
    char *dst = job->dst + first * out;
    if (job->from == job->to) {
        memcpy(dst, src, (size_t)(n * in));
    } else if (job->to == DISTAC_F64) {
        di_to_f64(job->from, src, (double *)(void *)dst, n);
    } else if (job->to == DISTAC_F32) {
        di_to_f32(job->from, src, (float *)(void *)dst, n);
    } else if (whole_number(job->from) && whole_number(job->to) && job->to != DISTAC_BOOL) {
        convert_integers(job->from, src, job->to, dst, n);
    } else if (di_dtype_is_float(job->from) && job->from != DISTAC_F64 && di_dtype_is_float(job->to)) {
        for (int64_t done = 0; done < n; done += PIECE) {
            float piece[PIECE];
            int64_t m = n - done < PIECE ? n - done : PIECE;
            di_to_f32(job->from, src + done * in, piece, m);
            di_from_f32(job->to, piece, dst + done * out, m);
        }
    } else {
        for (int64_t done = 0; done < n; done += PIECE) {
            double piece[PIECE];
            int64_t m = n - done < PIECE ? n - done : PIECE;
            di_to_f64(job->from, src + done * in, piece, m);
            di_from_f64(job->to, piece, dst + done * out, m);
        }
    }
}

void di_convert(distac_context *context, int32_t from, const void *src, int32_t to, void *dst, int64_t n) {
    convert_job job = {from, to, src, dst, n};
    int64_t blocks = (n + DI_WALK_BLOCK - 1) / DI_WALK_BLOCK;
    if (blocks == 1)
        convert_block(&job, 0);
    else
        di_parallel(context, blocks, convert_block, &job);
}

/* ---- strided ---- */

typedef struct move_job {
    char *dst;
    const char *src;
    int64_t size;
} move_job;

/* memcpy, because data mapped from a file may be unaligned for its type. */
#define MOVE(type)                                                                                              \
    for (int64_t i = 0; i < run->n; i++) {                                                                      \
        type v;                                                                                                 \
        memcpy(&v, src + i * s * (int64_t)sizeof v, sizeof v);                                                  \
        memcpy(dst + i * d * (int64_t)sizeof v, &v, sizeof v);                                                  \
    }                                                                                                           \
    break

static void move_run(void *arg, const di_run *run) {
    const move_job *job = arg;
    char *dst = job->dst + run->offset[0] * job->size;
    const char *src = job->src + run->offset[1] * job->size;
    int64_t d = run->stride[0], s = run->stride[1];
    if (d == 1 && s == 1) {
        memcpy(dst, src, (size_t)(run->n * job->size));
        return;
    }
    switch (job->size) {
    case 1: MOVE(uint8_t);
    case 2: MOVE(uint16_t);
    case 4: MOVE(uint32_t);
    default: MOVE(uint64_t);
    }
}

/* dst[...] = src[...], same type; the two do not overlap. */
static void move_elements(distac_context *context, int32_t dtype, int32_t rank, const int64_t *shape, void *dst,
                          const int64_t *dst_stride, const void *src, const int64_t *src_stride) {
    di_walk walk;
    const int64_t *strides[] = {dst_stride, src_stride};
    move_job job = {dst, src, distac_dtype_bytes(dtype)};
    di_walk_make(&walk, rank, shape, 2, strides);
    di_walk_all(context, &walk, move_run, &job);
}

/* ---- the same wherever the elements lie ---- */

static distac_status convert(distac_context *context, bool there, int32_t from, const void *src, int32_t to,
                             void *dst, int64_t n) {
    if (n == 0) return DISTAC_OK;
    if (there) return context->device->arrays->convert(context, n, from, src, to, dst);
    di_convert(context, from, src, to, dst, n);
    return DISTAC_OK;
}

static distac_status move(distac_context *context, bool there, int32_t dtype, int32_t rank, const int64_t *shape,
                          void *dst, const int64_t *dst_stride, const void *src, const int64_t *src_stride) {
    if (!there) {
        move_elements(context, dtype, rank, shape, dst, dst_stride, src, src_stride);
        return DISTAC_OK;
    }
    di_walk walk;
    const int64_t *strides[] = {dst_stride, src_stride};
    di_walk_make(&walk, rank, shape, 2, strides);
    if (walk.numel == 0) return DISTAC_OK;
    return context->device->arrays->move(context, &walk, distac_dtype_bytes(dtype), dst, src);
}

void di_dense_free(di_dense *dense) {
    if (dense->copy && dense->there) dense->context->device->free(dense->context, dense->copy, dense->bytes);
    else if (dense->copy) di_free(dense->context, dense->copy, dense->bytes);
    dense->copy = NULL;
}

static distac_status dense_alloc(di_dense *dense, int32_t dtype, int64_t n) {
    dense->bytes = (size_t)(n * distac_dtype_bytes(dtype));
    if (dense->there) DI_TRY(dense->context->device->alloc(dense->context, dense->bytes, &dense->copy));
    else dense->copy = di_alloc(dense->context, dense->bytes);
    dense->data = dense->copy;
    return dense->copy ? DISTAC_OK : DISTAC_ENOMEM;
}

static bool aligned(const distac_tensor *tensor) {
    return (uintptr_t)tensor->data % (uintptr_t)distac_dtype_bytes(tensor->dtype) == 0;
}

distac_status di_dense_get(const distac_tensor *tensor, int32_t dtype, di_dense *out) {
    distac_context *context = tensor->context;
    bool dense = di_tensor_is_contiguous(tensor), there = tensor->storage->there;
    *out = (di_dense){.context = context, .data = tensor->data, .there = there};
    if (dense && tensor->dtype == dtype && aligned(tensor)) return DISTAC_OK;
    distac_status status = dense_alloc(out, dense ? dtype : tensor->dtype, tensor->numel);
    if (status == DISTAC_OK && dense) {
        status = convert(context, there, tensor->dtype, tensor->data, dtype, out->copy, tensor->numel);
    } else if (status == DISTAC_OK) {
        int64_t strides[DI_MAX_RANK];
        di_strides(tensor->rank, tensor->shape, strides);
        status = move(context, there, tensor->dtype, tensor->rank, tensor->shape, out->copy, strides, tensor->data,
                      tensor->stride);
    }
    if (status == DISTAC_OK && !dense && tensor->dtype != dtype) {
        di_dense wide = {.context = context, .there = there};
        status = dense_alloc(&wide, dtype, tensor->numel);
        if (status == DISTAC_OK)
            status = convert(context, there, tensor->dtype, out->copy, dtype, wide.copy, tensor->numel);
        if (status != DISTAC_OK) di_dense_free(&wide);
        di_dense_free(out);
        if (status == DISTAC_OK) *out = wide;
    }
    if (status != DISTAC_OK) di_dense_free(out);
    return status;
}

distac_status di_compute_dtype(const char *function, const char *name, const distac_tensor *tensor, int32_t *out) {
    if (!tensor) return di_fail_at(DISTAC_EINVAL, function, "%s is NULL", name);
    if (!di_dtype_is_float(tensor->dtype))
        return di_fail_at(DISTAC_EDTYPE, function, "%s is %s, wanted f32 or f64 (f16 and bf16 are widened)", name,
                          distac_dtype_name(tensor->dtype));
    *out = tensor->dtype == DISTAC_F64 ? DISTAC_F64 : DISTAC_F32;
    return DISTAC_OK;
}

/* ---- public ---- */

/* Contiguous src of dst's type, beside it, into dst. */
static distac_status scatter(distac_tensor *dst, const void *src) {
    int64_t strides[DI_MAX_RANK];
    di_strides(dst->rank, dst->shape, strides);
    return move(dst->context, dst->storage->there, dst->dtype, dst->rank, dst->shape, dst->data, dst->stride, src,
                strides);
}

distac_status di_same_place(const char *function, const char *name_a, const distac_tensor *a, const char *name_b,
                            const distac_tensor *b) {
    if (a->storage->there == b->storage->there && (!a->storage->there || a->context == b->context))
        return DISTAC_OK;
    return di_fail_at(DISTAC_EDEVICE, function, "%s is on %s, %s on %s; move one of them", name_a,
                      distac_tensor_device(a), name_b, distac_tensor_device(b));
}

distac_status distac_tensor_cast(const distac_tensor *tensor, int32_t dtype, distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    if (!distac_dtype_name(dtype)) return di_fail(DISTAC_EDTYPE, "dtype is %d, which is no element type", dtype);
    if (dtype != tensor->dtype) DI_TRY(settable(__func__, dtype));
    di_dense dense;
    DI_TRY(di_tensor_new_beside(tensor, dtype, tensor->rank, tensor->shape, false, out));
    distac_status status = di_dense_get(tensor, tensor->dtype, &dense);
    if (status == DISTAC_OK) {
        status = convert(tensor->context, tensor->storage->there, tensor->dtype, dense.data, dtype, (*out)->data,
                         tensor->numel);
        di_dense_free(&dense);
    }
    if (status != DISTAC_OK) {
        distac_tensor_release(*out);
        *out = NULL;
    }
    return status;
}

/* Do two dense tensors share bytes? */
static bool overlap(const distac_tensor *a, const distac_tensor *b) {
    uintptr_t x = (uintptr_t)a->data, y = (uintptr_t)b->data;
    uintptr_t n = (uintptr_t)(a->numel * distac_dtype_bytes(a->dtype));
    uintptr_t m = (uintptr_t)(b->numel * distac_dtype_bytes(b->dtype));
    return x < y + m && y < x + n;
}

distac_status distac_tensor_copy(distac_tensor *dst, const distac_tensor *src) {
    char to[200], from[200];
    DI_TRY(di_writable(__func__, "dst", dst));
    DI_REQUIRE(src, "src is NULL");
    bool same = dst->rank == src->rank;
    for (int32_t i = 0; i < dst->rank && same; i++) same = dst->shape[i] == src->shape[i];
    if (!same)
        return di_fail(DISTAC_ESHAPE, "dst is %s, src is %s",
                       di_shape_text(dst->rank, dst->shape, to, sizeof to),
                       di_shape_text(src->rank, src->shape, from, sizeof from));
    if (dst->dtype != src->dtype) DI_TRY(settable(__func__, dst->dtype));
    if (dst->numel == 0 || dst == src) return DISTAC_OK;
    bool there = dst->storage->there;
    if (there != src->storage->there) return di_tensor_carry(dst, src);
    bool dense = di_tensor_is_contiguous(dst) && di_tensor_is_contiguous(src);
    bool apart = dst->storage != src->storage || (dense && !overlap(dst, src));
    if (apart && dense) {
        return convert(dst->context, there, src->dtype, src->data, dst->dtype, dst->data, dst->numel);
    }
    if (apart && dst->dtype == src->dtype && aligned(src)) {
        return move(dst->context, there, dst->dtype, dst->rank, dst->shape, dst->data, dst->stride, src->data,
                    src->stride);
    }
    distac_tensor *copy; /* they may overlap: all is read before any is written */
    DI_TRY(distac_tensor_cast(src, dst->dtype, &copy));
    distac_status status = scatter(dst, copy->data);
    distac_tensor_release(copy);
    return status;
}

distac_status distac_tensor_read(const distac_tensor *tensor, int64_t n_values, double *values) {
    di_dense dense;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_REQUIRE(values || n_values == 0, "values is NULL");
    if (n_values != tensor->numel)
        return di_fail(DISTAC_ESHAPE, "%lld values wanted of a tensor with %lld elements", (long long)n_values,
                       (long long)tensor->numel);
    if (tensor->storage->there) {
        distac_tensor *here;
        DI_TRY(di_tensor_bring(tensor, false, &here));
        di_convert(tensor->context, tensor->dtype, here->data, DISTAC_F64, values, n_values);
        distac_tensor_release(here);
        return DISTAC_OK;
    }
    DI_TRY(di_dense_get(tensor, tensor->dtype, &dense));
    di_convert(tensor->context, tensor->dtype, dense.data, DISTAC_F64, values, n_values);
    di_dense_free(&dense);
    return DISTAC_OK;
}

distac_status distac_tensor_write(distac_tensor *tensor, int64_t n_values, const double *values) {
    DI_TRY(di_writable(__func__, "tensor", tensor));
    DI_REQUIRE(values || n_values == 0, "values is NULL");
    DI_TRY(settable(__func__, tensor->dtype));
    if (n_values != tensor->numel)
        return di_fail(DISTAC_ESHAPE, "%lld values for a tensor with %lld elements", (long long)n_values,
                       (long long)tensor->numel);
    if (tensor->storage->there) {
        distac_tensor *here;
        DI_TRY(di_tensor_new(tensor->context, tensor->dtype, tensor->rank, tensor->shape, false, &here));
        di_convert(tensor->context, DISTAC_F64, values, tensor->dtype, here->data, n_values);
        distac_status status = distac_tensor_copy(tensor, here);
        distac_tensor_release(here);
        return status;
    }
    if (di_tensor_is_contiguous(tensor)) {
        di_convert(tensor->context, DISTAC_F64, values, tensor->dtype, tensor->data, n_values);
        return DISTAC_OK;
    }
    di_dense dense = {.context = tensor->context};
    DI_TRY(dense_alloc(&dense, tensor->dtype, n_values));
    di_convert(tensor->context, DISTAC_F64, values, tensor->dtype, dense.copy, n_values);
    distac_status status = scatter(tensor, dense.copy);
    di_dense_free(&dense);
    return status;
}

distac_status distac_tensor_item(const distac_tensor *tensor, double *out) {
    char text[200];
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (tensor->numel != 1)
        return di_fail(DISTAC_ESHAPE, "tensor is %s, wanted one element",
                       di_shape_text(tensor->rank, tensor->shape, text, sizeof text));
    return distac_tensor_read(tensor, 1, out);
}

distac_status distac_tensor_fill(distac_tensor *tensor, double value) {
    static const int64_t none[DI_MAX_RANK] = {0}; /* one element, everywhere */
    uint64_t element = 0;
    DI_TRY(di_writable(__func__, "tensor", tensor));
    DI_TRY(settable(__func__, tensor->dtype));
    di_from_f64(tensor->dtype, &value, &element, 1);
    if (tensor->storage->there) {
        di_walk walk;
        const int64_t *strides[] = {tensor->stride};
        di_walk_make(&walk, tensor->rank, tensor->shape, 1, strides);
        if (walk.numel == 0) return DISTAC_OK;
        return tensor->context->device->arrays->fill(tensor->context, &walk, distac_dtype_bytes(tensor->dtype),
                                                     element, tensor->data);
    }
    move_elements(tensor->context, tensor->dtype, tensor->rank, tensor->shape, tensor->data, tensor->stride,
                  &element, none);
    return DISTAC_OK;
}
