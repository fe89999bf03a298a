/* linalg.c: matrix products and softmax through the kernel table, singular values and eigenvectors by LAPACK. */
#include "../backend/backend.h"
#include "lapack.h"
#include "walk.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static void give_up(distac_tensor **out) {
    distac_tensor_release(*out);
    *out = NULL;
}

/* ---- products ---- */

/* A matrix as the kernels read it: row-major with a row length, maybe transposed. */
typedef struct matrix {
    distac_tensor *owner; /* what is read: the argument or its copy */
    bool transposed;
    int64_t row;
} matrix;

/* Views whose rows or columns are dense are read as they lie; anything else is copied. */
static distac_status matrix_get(const distac_tensor *tensor, int32_t dtype, matrix *out) {
    int32_t r = tensor->rank;
    int64_t rows = tensor->shape[r - 2], columns = tensor->shape[r - 1];
    int64_t down = tensor->stride[r - 2], across = tensor->stride[r - 1];
    bool usable = tensor->dtype == dtype && (uintptr_t)tensor->data % (uintptr_t)distac_dtype_bytes(dtype) == 0;
    if (rows <= 1) down = columns > 1 ? columns : 1;
    if (columns <= 1) across = 1;
    bool plain = usable && across == 1 && down >= columns;
    bool turned = usable && !plain && tensor->stride[r - 2] == 1 && across >= rows;
    if (!plain && !turned) {
        DI_TRY(distac_tensor_cast(tensor, dtype, &out->owner));
        out->transposed = false;
        out->row = columns;
    } else {
        di_tensor_retain(tensor);
        out->owner = (distac_tensor *)(uintptr_t)tensor;
        out->transposed = turned;
        out->row = turned ? across : down;
    }
    if (out->row < 1) out->row = 1;
    return DISTAC_OK;
}

/* Element offset of batch `index` over the leading dimensions. */
static int64_t batch_offset(const distac_tensor *tensor, int64_t index) {
    int64_t offset = 0;
    for (int32_t i = tensor->rank - 3; i >= 0; i--) {
        offset += index % tensor->shape[i] * tensor->stride[i];
        index /= tensor->shape[i];
    }
    return offset;
}

/* The table for arrays where the tensor lies. */
static const di_kernels *kernels_at(const distac_tensor *tensor, int32_t dtype) {
    if (!tensor->storage->there) return di_kernels_for(tensor->context, dtype);
    const di_device *device = tensor->context->device;
    return dtype == DISTAC_F32 ? device->f32 : dtype == DISTAC_F64 ? device->f64 : NULL;
}

static distac_status multiply(const matrix *a, const matrix *b, int64_t K, distac_tensor *out) {
    const di_kernels *kernels = kernels_at(out, out->dtype);
    int64_t M = out->shape[out->rank - 2], N = out->shape[out->rank - 1];
    int64_t size = distac_dtype_bytes(out->dtype), batches = out->numel / (M * N);
    if (!kernels) return di_fail_at(DISTAC_EUNSUPPORTED, "distac_tensor_matmul", "no kernels for this type");
    for (int64_t i = 0; i < batches; i++) {
        DI_TRY(di_poll(out->context));
        DI_TRY(kernels->gemm(out->context, a->transposed, b->transposed, M, N, K, 1.0,
                             (char *)a->owner->data + batch_offset(a->owner, i) * size, a->row,
                             (char *)b->owner->data + batch_offset(b->owner, i) * size, b->row, 0.0,
                             (char *)out->data + i * M * N * size, N));
    }
    return DISTAC_OK;
}

distac_status distac_tensor_matmul(const distac_tensor *a, const distac_tensor *b, distac_tensor **out) {
    int32_t ta, tb;
    char sa[200], sb[200];
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_TRY(di_compute_dtype(__func__, "a", a, &ta));
    DI_TRY(di_compute_dtype(__func__, "b", b, &tb));
    if (ta != tb)
        return di_fail(DISTAC_EDTYPE, "a is %s, b is %s; cast one of them", distac_dtype_name(a->dtype),
                       distac_dtype_name(b->dtype));
    int32_t r = a->rank;
    bool fits = r >= 2 && b->rank == r && a->shape[r - 1] == b->shape[r - 2];
    for (int32_t i = 0; fits && i < r - 2; i++) fits = a->shape[i] == b->shape[i];
    if (!fits)
        return di_fail(DISTAC_ESHAPE, "a is %s, b is %s; wanted [...,M,K] and [...,K,N]",
                       di_shape_text(r, a->shape, sa, sizeof sa), di_shape_text(b->rank, b->shape, sb, sizeof sb));
    int64_t shape[DI_MAX_RANK], K = a->shape[r - 1];
    memcpy(shape, a->shape, sizeof shape);
    shape[r - 1] = b->shape[r - 1];
    DI_TRY(di_same_place(__func__, "a", a, "b", b));
    DI_TRY(di_tensor_new_beside(a, ta, r, shape, K == 0, out)); /* a sum of nothing is zero */
    if ((*out)->numel == 0 || K == 0) return DISTAC_OK;
    matrix ma = {0}, mb = {0};
    distac_status status = matrix_get(a, ta, &ma);
    if (status == DISTAC_OK) status = matrix_get(b, ta, &mb);
    if (status == DISTAC_OK) status = multiply(&ma, &mb, K, *out);
    distac_tensor_release(mb.owner);
    distac_tensor_release(ma.owner);
    if (status != DISTAC_OK) give_up(out);
    return status;
}

distac_status distac_tensor_softmax(const distac_tensor *a, int32_t log_space, distac_tensor **out) {
    int32_t dtype;
    di_dense dense;
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_TRY(di_compute_dtype(__func__, "a", a, &dtype));
    const di_kernels *kernels = kernels_at(a, dtype);
    if (!kernels || !kernels->softmax)
        return di_fail(DISTAC_EUNSUPPORTED, "no kernels for %s", distac_dtype_name(dtype));
    DI_TRY(di_tensor_new_beside(a, dtype, a->rank, a->shape, false, out));
    if (a->numel == 0) return DISTAC_OK;
    int64_t columns = a->rank ? a->shape[a->rank - 1] : 1;
    distac_status status = di_dense_get(a, dtype, &dense);
    if (status == DISTAC_OK) {
        status = kernels->softmax(a->context, a->numel / columns, columns, 1.0, log_space != 0, dense.data,
                                  (*out)->data);
        di_dense_free(&dense);
    }
    if (status != DISTAC_OK) give_up(out);
    return status;
}

/* ---- LAPACK ---- */

/* A float tensor [rows, columns] that may be written. */
static distac_status check_result(const char *function, const char *name, const distac_tensor *tensor,
                                  int32_t rank, int64_t rows, int64_t columns) {
    char came[200], wanted[64];
    int64_t shape[] = {rows, columns};
    DI_TRY(di_writable(function, name, tensor));
    if (!di_dtype_is_float(tensor->dtype))
        return di_fail_at(DISTAC_EDTYPE, function, "%s is %s, wanted a float type", name,
                          distac_dtype_name(tensor->dtype));
    if (tensor->rank == rank && tensor->shape[0] == rows && (rank < 2 || tensor->shape[1] == columns))
        return DISTAC_OK;
    return di_fail_at(DISTAC_ESHAPE, function, "%s is %s, wanted %s", name,
                      di_shape_text(tensor->rank, tensor->shape, came, sizeof came),
                      di_shape_text(rank, shape, wanted, sizeof wanted));
}

static distac_status check_matrix(const char *function, const distac_tensor *a, bool square) {
    char text[200];
    int32_t dtype;
    int64_t first, count;
    DI_TRY(di_compute_dtype(function, "a", a, &dtype));
    if (a->rank != 2 || (square && a->shape[0] != a->shape[1]) || a->shape[0] > INT_MAX || a->shape[1] > INT_MAX)
        return di_fail_at(DISTAC_ESHAPE, function, "a is %s, wanted a %smatrix",
                          di_shape_text(a->rank, a->shape, text, sizeof text), square ? "square " : "");
    DI_TRY(distac_tensor_nonfinite(a, &first, &count));
    if (count == 0) return DISTAC_OK;
    return di_fail_at(DISTAC_ENUMERIC, function, "a has %lld non-finite elements, the first at index %lld",
                      (long long)count, (long long)first);
}

/* New F64 tensor [rows, columns] (rank 2) or [rows] (rank 1) beside another. */
static distac_status temporary(const distac_tensor *beside, int32_t rank, int64_t rows, int64_t columns,
                               distac_tensor **out) {
    int64_t shape[] = {rows, columns};
    return di_tensor_new_beside(beside, DISTAC_F64, rank, shape, false, out);
}

/* LAPACK reads by columns what lies in rows, so it sees the transposed matrix: a = u s vt seen so is v s ut, and
 * its "u" lies in memory as our vt, its "vt" as our u. Nothing needs turning. `a` is destroyed. */
static distac_status svd_double(distac_tensor *a, distac_tensor *u, distac_tensor *s, distac_tensor *vt) {
    lapack_int M = (lapack_int)a->shape[0], N = (lapack_int)a->shape[1], R = M < N ? M : N;
    distac_tensor *work = NULL, *integers = NULL;
    int64_t n_integers = 8 * (int64_t)R;
    double best = 0;
    lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', N, M, NULL, N, NULL, NULL, N, NULL, R, &best, -1,
                                          NULL);
    if (info != 0 || !(best >= 1 && best <= INT_MAX))
        return di_fail_at(DISTAC_ESHAPE, "distac_tensor_svd", "a is [%d,%d], too large for LAPACK", (int)M,
                          (int)N);
    DI_TRY(temporary(a, 1, (int64_t)best, 0, &work));
    distac_status status = di_tensor_new(a->context, DISTAC_I32, 1, &n_integers, false, &integers);
    if (status == DISTAC_OK) {
        info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', N, M, a->data, N, s->data, vt->data, N, u->data, R,
                                   work->data, (lapack_int)best, integers->data);
        if (info != 0)
            status = di_fail_at(DISTAC_ENUMERIC, "distac_tensor_svd", "no convergence (dgesdd: %d)", (int)info);
    }
    distac_tensor_release(integers);
    distac_tensor_release(work);
    return status;
}

distac_status distac_tensor_svd(const distac_tensor *a, distac_tensor *u, distac_tensor *s, distac_tensor *vt) {
    distac_tensor *wide = NULL, *wide_u = NULL, *wide_s = NULL, *wide_vt = NULL;
    DI_TRY(check_matrix(__func__, a, false));
    int64_t M = a->shape[0], N = a->shape[1], R = M < N ? M : N;
    DI_TRY(check_result(__func__, "u", u, 2, M, R));
    DI_TRY(check_result(__func__, "s", s, 1, R, 0));
    DI_TRY(check_result(__func__, "vt", vt, 2, R, N));
    if (R == 0) return DISTAC_OK;
    DI_TRY(di_poll(a->context)); /* LAPACK, once begun, is not stopped */
    if (!a->storage->there) DI_TRY(di_lapack_ready());
    distac_status status = distac_tensor_cast(a, DISTAC_F64, &wide);
    if (status == DISTAC_OK) status = temporary(a, 2, M, R, &wide_u);
    if (status == DISTAC_OK) status = temporary(a, 1, R, 0, &wide_s);
    if (status == DISTAC_OK) status = temporary(a, 2, R, N, &wide_vt);
    if (status == DISTAC_OK && a->storage->there)
        status = a->context->device->arrays->svd(a->context, M, N, wide->data, wide_u->data, wide_s->data,
                                                 wide_vt->data);
    else if (status == DISTAC_OK)
        status = svd_double(wide, wide_u, wide_s, wide_vt);
    if (status == DISTAC_OK) status = distac_tensor_copy(u, wide_u);
    if (status == DISTAC_OK) status = distac_tensor_copy(s, wide_s);
    if (status == DISTAC_OK) status = distac_tensor_copy(vt, wide_vt);
    distac_tensor_release(wide_vt);
    distac_tensor_release(wide_s);
    distac_tensor_release(wide_u);
    distac_tensor_release(wide);
    return status;
}

/* Our lower triangle is LAPACK's upper one. The eigenvectors replace a, one per row of ours. */
static distac_status eigh_double(distac_tensor *a, distac_tensor *w) {
    lapack_int N = (lapack_int)a->shape[0], few = 0;
    double best = 0;
    distac_tensor *work = NULL, *integers = NULL;
    lapack_int info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', N, NULL, N, NULL, &best, -1, &few, -1);
    if (info != 0 || !(best >= 1 && best <= INT_MAX) || few < 1)
        return di_fail_at(DISTAC_ESHAPE, "distac_tensor_eigh", "a is [%d,%d], too large for LAPACK", (int)N,
                          (int)N);
    int64_t n_integers = few;
    DI_TRY(temporary(a, 1, (int64_t)best, 0, &work));
    distac_status status = di_tensor_new(a->context, DISTAC_I32, 1, &n_integers, false, &integers);
    if (status == DISTAC_OK) {
        info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', N, a->data, N, w->data, work->data,
                                   (lapack_int)best, integers->data, few);
        if (info != 0)
            status = di_fail_at(DISTAC_ENUMERIC, "distac_tensor_eigh", "no convergence (dsyevd: %d)", (int)info);
    }
    distac_tensor_release(integers);
    distac_tensor_release(work);
    return status;
}

distac_status di_tensor_eigh_there(distac_tensor *a, distac_tensor *w) {
    int64_t N = a->shape[a->rank - 1];
    if (a->numel == 0) return DISTAC_OK;
    return a->context->device->arrays->eigh(a->context, a->numel / (N * N), N, a->data, w->data);
}

distac_status distac_tensor_eigh(const distac_tensor *a, distac_tensor *w, distac_tensor *v) {
    distac_tensor *wide = NULL, *wide_w = NULL, *turned = NULL;
    DI_TRY(check_matrix(__func__, a, true));
    int64_t N = a->shape[0];
    DI_TRY(check_result(__func__, "w", w, 1, N, 0));
    DI_TRY(check_result(__func__, "v", v, 2, N, N));
    if (N == 0) return DISTAC_OK;
    DI_TRY(di_poll(a->context)); /* as above */
    if (!a->storage->there) DI_TRY(di_lapack_ready());
    distac_status status = distac_tensor_cast(a, DISTAC_F64, &wide);
    if (status == DISTAC_OK) status = temporary(a, 1, N, 0, &wide_w);
    if (status == DISTAC_OK && a->storage->there)
        status = a->context->device->arrays->eigh(a->context, 1, N, wide->data, wide_w->data);
    else if (status == DISTAC_OK)
        status = eigh_double(wide, wide_w);
    if (status == DISTAC_OK) status = distac_tensor_copy(w, wide_w);
    if (status == DISTAC_OK) status = distac_tensor_transpose(wide, 0, 1, &turned);
    if (status == DISTAC_OK) status = distac_tensor_copy(v, turned);
    distac_tensor_release(turned);
    distac_tensor_release(wide_w);
    distac_tensor_release(wide);
    return status;
}
