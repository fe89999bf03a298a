/* reduce.c: sums, means, extremes and norms over one dimension or all, and the search for non-finite elements.
 *
 * The tensor is seen as [outer, n, inner] with n reduced. Sums run in double over fixed blocks that are added in
 * a fixed order, so the bits do not depend on threads. */
#include "../backend/backend.h"
#include "walk.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 16384, LANES = 8, COLUMNS = 256 };

typedef struct reduce_job {
    int32_t op, dtype;
    int64_t outer, n, inner, pieces; /* pieces: blocks of n (inner 1) or of inner */
    const void *src;
    double *value;  /* [outer, pieces] (inner 1) or [outer, inner] */
    int64_t *index; /* the same, for ARGMAX */
} reduce_job;

static bool is_sum(int32_t op) { return op == DISTAC_SUM || op == DISTAC_MEAN || op == DISTAC_NORM; }

/* Does x take the place of best? NaN beats numbers and is never beaten; of equals the first stays. */
static bool better(int32_t op, double x, double best) {
    if (best != best) return false;
    if (x != x) return true;
    return op == DISTAC_RMIN ? x < best : x > best;
}

/* ---- contiguous runs ---- */

/* Eight running sums keep the processor busy and their error small; the order of additions is fixed. */
#define SUM_RUN(T, name)                                                                                        \
    static double name(const T *x, int64_t n, bool squares) {                                                   \
        double sum[LANES] = {0}, total = 0;                                                                     \
        int64_t i = 0;                                                                                          \
        if (squares) {                                                                                          \
            for (; i + LANES <= n; i += LANES)                                                                  \
                for (int k = 0; k < LANES; k++) sum[k] += (double)x[i + k] * (double)x[i + k];                  \
            for (; i < n; i++) sum[0] += (double)x[i] * (double)x[i];                                           \
        } else {                                                                                                \
            for (; i + LANES <= n; i += LANES)                                                                  \
                for (int k = 0; k < LANES; k++) sum[k] += (double)x[i + k];                                     \
            for (; i < n; i++) sum[0] += (double)x[i];                                                          \
        }                                                                                                       \
        for (int k = 0; k < LANES; k++) total += sum[k];                                                        \
        return total;                                                                                           \
    }
SUM_RUN(float, sum_f32)
SUM_RUN(double, sum_f64)

static double load(int32_t dtype, const void *src, int64_t i) {
    return dtype == DISTAC_F64 ? ((const double *)src)[i] : (double)((const float *)src)[i];
}

static void reduce_run(void *arg, int64_t task) {
    const reduce_job *job = arg;
    int64_t row = task / job->pieces, piece = task % job->pieces;
    int64_t first = row * job->n + piece * BLOCK, n = job->n - piece * BLOCK;
    if (n > BLOCK) n = BLOCK;
    if (is_sum(job->op)) {
        bool squares = job->op == DISTAC_NORM;
        job->value[task] = job->dtype == DISTAC_F64 ? sum_f64((const double *)job->src + first, n, squares)
                                                    : sum_f32((const float *)job->src + first, n, squares);
        return;
    }
    double best = load(job->dtype, job->src, first);
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++) {
        double x = load(job->dtype, job->src, first + i);
        if (!better(job->op, x, best)) continue;
        best = x;
        at = i;
    }
    job->value[task] = best;
    job->index[task] = piece * BLOCK + at;
}

/* ---- along a dimension that is not the last: columns side by side ---- */

static void reduce_columns(void *arg, int64_t task) {
    const reduce_job *job = arg;
    int64_t row = task / job->pieces, first = task % job->pieces * COLUMNS;
    int64_t width = job->inner - first < COLUMNS ? job->inner - first : COLUMNS;
    double *value = job->value + row * job->inner + first;
    int64_t *index = job->index + row * job->inner + first;
    for (int64_t i = 0; i < job->n; i++) {
        int64_t at = (row * job->n + i) * job->inner + first;
        for (int64_t k = 0; k < width; k++) {
            double x = load(job->dtype, job->src, at + k);
            if (job->op == DISTAC_NORM) {
                value[k] = i ? value[k] + x * x : x * x;
            } else if (is_sum(job->op)) {
                value[k] = i ? value[k] + x : x;
            } else if (i == 0 || better(job->op, x, value[k])) {
                value[k] = x;
                index[k] = i;
            }
        }
    }
}

/* ---- together ---- */

/* Squares of very large or very small numbers leave the range of double: once more, scaled by the largest. */
static double careful_norm(const reduce_job *job, int64_t row, int64_t column, double squares) {
    double largest = 0, sum = 0;
    if (!(squares < 1e-290 || squares > 1e290) || job->dtype == DISTAC_F32) return sqrt(squares);
    for (int64_t i = 0; i < job->n; i++)
        largest = fmax(largest, fabs(load(job->dtype, job->src, (row * job->n + i) * job->inner + column)));
    if (largest == 0 || !isfinite(largest) || squares != squares) return sqrt(squares);
    for (int64_t i = 0; i < job->n; i++) {
        double x = load(job->dtype, job->src, (row * job->n + i) * job->inner + column) / largest;
        sum += x * x;
    }
    return largest * sqrt(sum);
}

/* Adds the pieces of a row and leaves the finished result of (row, column) in *value, *index. */
static void finish(const reduce_job *job, int64_t row, int64_t column, double *value, int64_t *index) {
    int64_t at = job->inner == 1 ? row * job->pieces : row * job->inner + column;
    int64_t pieces = job->inner == 1 ? job->pieces : 1;
    double x = job->n ? job->value[at] : 0;
    *index = job->index[at];
    for (int64_t p = 1; p < pieces; p++) {
        if (is_sum(job->op)) {
            x += job->value[at + p];
        } else if (better(job->op, job->value[at + p], x)) {
            x = job->value[at + p];
            *index = job->index[at + p];
        }
    }
    if (job->op == DISTAC_MEAN) x /= (double)job->n;
    if (job->op == DISTAC_NORM) x = careful_norm(job, row, column, x);
    *value = x;
}

static void store(const reduce_job *job, distac_tensor *out) {
    for (int64_t row = 0; row < job->outer; row++) {
        for (int64_t column = 0; column < job->inner; column++) {
            int64_t to = row * job->inner + column, index;
            double value;
            finish(job, row, column, &value, &index);
            if (job->op == DISTAC_ARGMAX)
                ((int64_t *)out->data)[to] = index;
            else if (job->dtype == DISTAC_F64)
                ((double *)out->data)[to] = value;
            else
                ((float *)out->data)[to] = (float)value;
        }
    }
}

static distac_status run(reduce_job *job, distac_context *context, distac_tensor *out) {
    int64_t block = job->inner == 1 ? BLOCK : COLUMNS, along = job->inner == 1 ? job->n : job->inner;
    job->pieces = along > block ? (along + block - 1) / block : 1;
    int64_t slots = job->outer * (job->inner == 1 ? job->pieces : job->inner);
    size_t bytes = (size_t)slots * sizeof(double);
    DI_TRY(di_poll(context));
    job->value = di_alloc_zeroed(context, bytes);
    if (!job->value) return DISTAC_ENOMEM;
    job->index = di_alloc_zeroed(context, bytes);
    if (!job->index) {
        di_free(context, job->value, bytes);
        return DISTAC_ENOMEM;
    }
    if (job->n > 0) {
        int64_t tasks = job->outer * job->pieces;
        if (tasks == 1 || job->outer * job->n * job->inner <= BLOCK)
            for (int64_t i = 0; i < tasks; i++) (job->inner == 1 ? reduce_run : reduce_columns)(job, i);
        else
            di_parallel(context, tasks, job->inner == 1 ? reduce_run : reduce_columns, job);
    }
    store(job, out);
    di_free(context, job->index, bytes);
    di_free(context, job->value, bytes);
    return DISTAC_OK;
}

distac_status distac_tensor_reduce(int32_t op, const distac_tensor *a, int32_t dim, int32_t keep,
                                   distac_tensor **out) {
    reduce_job job = {.op = op, .outer = 1, .n = 1, .inner = 1};
    int64_t shape[DI_MAX_RANK];
    int32_t rank = 0;
    char text[200];
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    if (op < 0 || op > DISTAC_NORM) return di_fail(DISTAC_EINVAL, "op is %d, wanted 0 to %d", op, DISTAC_NORM);
    DI_TRY(di_compute_dtype(__func__, "a", a, &job.dtype));
    di_shape_text(a->rank, a->shape, text, sizeof text);
    if (dim < -1 || dim >= a->rank)
        return di_fail(DISTAC_EINVAL, "dim is %d, a is %s; -1 reduces everything", dim, text);
    for (int32_t i = 0; i < a->rank; i++) {
        bool reduced = dim == -1 || i == dim;
        int64_t *part = reduced ? &job.n : i < dim ? &job.outer : &job.inner;
        if (__builtin_mul_overflow(*part, a->shape[i], part)) /* an empty tensor may have any other size */
            return di_fail(DISTAC_ESHAPE, "a is %s, too large", text);
        if (!reduced || keep) shape[rank++] = reduced ? 1 : a->shape[i];
    }
    if (!is_sum(op) && job.n == 0 && job.outer > 0 && job.inner > 0)
        return di_fail(DISTAC_ESHAPE, "a is %s: there is no largest or smallest of no elements", text);
    di_dense dense;
    DI_TRY(di_tensor_new_beside(a, op == DISTAC_ARGMAX ? DISTAC_I64 : job.dtype, rank, shape, job.n == 0, out));
    distac_status status = di_dense_get(a, job.dtype, &dense);
    if (status == DISTAC_OK) {
        job.src = dense.data;
        if ((*out)->numel > 0 && !a->storage->there)
            status = run(&job, a->context, *out);
        else if ((*out)->numel > 0 && job.n > 0)
            status = a->context->device->arrays->reduce(a->context, job.dtype, op, job.outer, job.n, job.inner,
                                                        job.src, (*out)->data);
        else if ((*out)->numel > 0 && op == DISTAC_MEAN)
            status = distac_tensor_fill(*out, NAN); /* of nothing */
        di_dense_free(&dense);
    }
    if (status != DISTAC_OK) {
        distac_tensor_release(*out);
        *out = NULL;
    }
    return status;
}

/* ---- non-finite elements ---- */

typedef struct finite_job {
    const distac_tensor *tensor;
    atomic_llong count, first; /* first: numel while none is known */
} finite_job;

/* An exponent of all ones is infinity or NaN; E4M3 has NaN alone, with all bits set. */
static bool nonfinite(int32_t dtype, const void *data, int64_t i) {
    switch (dtype) {
    case DISTAC_F64: return (~((const uint64_t *)data)[i] & 0x7ff0000000000000u) == 0;
    case DISTAC_F32: return (~((const uint32_t *)data)[i] & 0x7f800000u) == 0;
    case DISTAC_F16: return (~((const uint16_t *)data)[i] & 0x7c00u) == 0;
    case DISTAC_BF16: return (~((const uint16_t *)data)[i] & 0x7f80u) == 0;
    case DISTAC_F8_E4M3: return (~((const uint8_t *)data)[i] & 0x7fu) == 0;
    case DISTAC_F8_E5M2: return (~((const uint8_t *)data)[i] & 0x7cu) == 0;
    default: return false;
    }
}

static void finite_block(void *arg, int64_t index) {
    finite_job *job = arg;
    int64_t from = index * BLOCK, to = from + BLOCK < job->tensor->numel ? from + BLOCK : job->tensor->numel;
    long long count = 0, first = -1;
    for (int64_t i = from; i < to; i++) {
        if (!nonfinite(job->tensor->dtype, job->tensor->data, i)) continue;
        if (count++ == 0) first = i;
    }
    if (count == 0) return;
    atomic_fetch_add(&job->count, count);
    long long known = atomic_load(&job->first);
    while (first < known && !atomic_compare_exchange_weak(&job->first, &known, first)) continue;
}

distac_status distac_tensor_nonfinite(const distac_tensor *tensor, int64_t *first, int64_t *out) {
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_REQUIRE(first, "first is NULL");
    DI_REQUIRE(out, "out is NULL");
    *first = -1;
    *out = 0;
    bool eight = tensor->dtype == DISTAC_F8_E4M3 || tensor->dtype == DISTAC_F8_E5M2;
    if (!di_dtype_is_float(tensor->dtype) && !eight) return DISTAC_OK;
    di_dense dense;
    DI_TRY(di_dense_get(tensor, tensor->dtype, &dense));
    if (tensor->storage->there) {
        distac_status status = DISTAC_OK;
        if (tensor->numel > 0)
            status = tensor->context->device->arrays->nonfinite(tensor->context, tensor->numel, tensor->dtype,
                                                                dense.data, first, out);
        di_dense_free(&dense);
        return status;
    }
    distac_tensor flat = {.dtype = tensor->dtype, .numel = tensor->numel, .data = (void *)(uintptr_t)dense.data};
    finite_job job = {.tensor = &flat};
    atomic_init(&job.count, 0);
    atomic_init(&job.first, tensor->numel);
    di_parallel(tensor->context, (tensor->numel + BLOCK - 1) / BLOCK, finite_block, &job);
    di_dense_free(&dense);
    *out = atomic_load(&job.count);
    if (*out > 0) *first = atomic_load(&job.first);
    return DISTAC_OK;
}
