/* elementwise.c: arithmetic element by element: two tensors with broadcasting, a tensor and a number, functions
 * of one tensor. In F32 or F64; half types are widened to F32. */
#include "../backend/backend.h"
#include "walk.h"

#include <math.h>

/* ---- two operands ---- */

typedef struct binary_job {
    int32_t op;
    const void *a, *b;
    void *out;
} binary_job;

/* The run of one operation, with the dense cases apart so that the compiler makes vector code of them. */
#define RUN(T, expression)                                                                                      \
    if (sa == 1 && sb == 1) {                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                                       \
            T x = a[i], y = b[i];                                                                               \
            out[i] = (expression);                                                                              \
        }                                                                                                       \
    } else if (sa == 1 && sb == 0) {                                                                            \
        T y = b[0];                                                                                             \
        for (int64_t i = 0; i < n; i++) {                                                                       \
            T x = a[i];                                                                                         \
            out[i] = (expression);                                                                              \
        }                                                                                                       \
    } else {                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                       \
            T x = a[i * sa], y = b[i * sb];                                                                     \
            out[i] = (expression);                                                                              \
        }                                                                                                       \
    }                                                                                                           \
    break

/* NaN in either operand is the larger and the smaller of the two; comparisons with NaN are 0. */
#define BINARY(T, name, power)                                                                                  \
    static void name(void *arg, const di_run *run) {                                                            \
        const binary_job *job = arg;                                                                            \
        int64_t n = run->n, sa = run->stride[1], sb = run->stride[2];                                           \
        T *out = (T *)job->out + run->offset[0];                                                                \
        const T *a = (const T *)job->a + run->offset[1], *b = (const T *)job->b + run->offset[2];               \
        switch (job->op) {                                                                                      \
        case DISTAC_ADD: RUN(T, x + y);                                                                         \
        case DISTAC_SUB: RUN(T, x - y);                                                                         \
        case DISTAC_MUL: RUN(T, x *y);                                                                          \
        case DISTAC_DIV: RUN(T, x / y);                                                                         \
        case DISTAC_POW: RUN(T, power(x, y));                                                                   \
        case DISTAC_MAX: RUN(T, x > y || x != x ? x : y);                                                       \
        case DISTAC_MIN: RUN(T, x < y || x != x ? x : y);                                                       \
        case DISTAC_EQ: RUN(T, (T)(x == y));                                                                    \
        case DISTAC_LT: RUN(T, (T)(x < y));                                                                     \
        default: RUN(T, (T)(x <= y));                                                                           \
        }                                                                                                       \
    }
BINARY(float, binary_f32, powf)
BINARY(double, binary_f64, pow)

static distac_status check_op(const char *function, int32_t op, int32_t last) {
    if (op >= 0 && op <= last) return DISTAC_OK;
    return di_fail_at(DISTAC_EINVAL, function, "op is %d, wanted 0 to %d", op, last);
}

/* Shape of the result, and the strides with which each operand is read. */
static bool broadcast(const distac_tensor *a, const distac_tensor *b, int32_t *rank, int64_t *shape, int64_t *sa,
                      int64_t *sb) {
    *rank = a->rank > b->rank ? a->rank : b->rank;
    for (int32_t i = 0; i < *rank; i++) {
        int32_t ia = i - (*rank - a->rank), ib = i - (*rank - b->rank);
        int64_t na = ia < 0 ? 1 : a->shape[ia], nb = ib < 0 ? 1 : b->shape[ib];
        if (na != nb && na != 1 && nb != 1) return false;
        shape[i] = na == 1 ? nb : na;
        sa[i] = na == 1 ? 0 : a->stride[ia];
        sb[i] = nb == 1 ? 0 : b->stride[ib];
    }
    return true;
}

/* The operand as dtype, still with its strides if it has that type already. */
static distac_status operand(const distac_tensor *tensor, int32_t dtype, distac_tensor **out) {
    if (tensor->dtype == dtype && (uintptr_t)tensor->data % (uintptr_t)distac_dtype_bytes(dtype) == 0) {
        di_tensor_retain(tensor);
        *out = (distac_tensor *)(uintptr_t)tensor;
        return DISTAC_OK;
    }
    return distac_tensor_cast(tensor, dtype, out);
}

static distac_status compute_there(int32_t op, int32_t dtype, const di_walk *walk, const distac_tensor *a,
                                   const distac_tensor *b, double number, distac_tensor **out) {
    distac_context *context = (*out)->context;
    if (walk->numel == 0) return DISTAC_OK;
    distac_status status = context->device->arrays->binary(context, walk, dtype, op, a->data, b->data, number,
                                                           (*out)->data);
    if (status == DISTAC_OK) return status;
    distac_tensor_release(*out);
    *out = NULL;
    return status;
}

/* On a device, where no host memory can be read, an operand that is a number has no data. */
static distac_status compute(int32_t op, int32_t dtype, const distac_tensor *a, const distac_tensor *b,
                             double number, distac_tensor **out) {
    int32_t rank;
    int64_t shape[DI_MAX_RANK], sa[DI_MAX_RANK], sb[DI_MAX_RANK];
    char ta[200], tb[200];
    if (!broadcast(a, b, &rank, shape, sa, sb))
        return di_fail_at(DISTAC_ESHAPE, "distac_tensor_binary",
                          "a is %s, b is %s; wanted sizes that are equal, counted from the last, or 1",
                          di_shape_text(a->rank, a->shape, ta, sizeof ta),
                          di_shape_text(b->rank, b->shape, tb, sizeof tb));
    const distac_tensor *real = a->data ? a : b; /* the other may be a number */
    DI_TRY(di_poll(real->context));
    DI_TRY(di_tensor_new_beside(real, dtype, rank, shape, false, out));
    di_walk walk;
    const int64_t *strides[] = {(*out)->stride, sa, sb};
    di_walk_make(&walk, rank, shape, 3, strides);
    if (real->storage->there) return compute_there(op, dtype, &walk, a, b, number, out);
    binary_job job = {op, a->data, b->data, (*out)->data};
    di_walk_all(a->context, &walk, dtype == DISTAC_F64 ? binary_f64 : binary_f32, &job);
    return DISTAC_OK;
}

distac_status distac_tensor_binary(int32_t op, const distac_tensor *a, const distac_tensor *b,
                                   distac_tensor **out) {
    int32_t ta, tb;
    distac_tensor *wide_a, *wide_b = NULL;
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_TRY(check_op(__func__, op, DISTAC_LE));
    DI_TRY(di_compute_dtype(__func__, "a", a, &ta));
    DI_TRY(di_compute_dtype(__func__, "b", b, &tb));
    if (ta != tb)
        return di_fail(DISTAC_EDTYPE, "a is %s, b is %s; cast one of them", distac_dtype_name(a->dtype),
                       distac_dtype_name(b->dtype));
    DI_TRY(di_same_place(__func__, "a", a, "b", b));
    DI_TRY(operand(a, ta, &wide_a));
    distac_status status = operand(b, ta, &wide_b);
    if (status == DISTAC_OK) status = compute(op, ta, wide_a, wide_b, 0, out);
    distac_tensor_release(wide_b);
    distac_tensor_release(wide_a);
    return status;
}

distac_status distac_tensor_binary_scalar(int32_t op, const distac_tensor *a, double value, int32_t swapped,
                                          distac_tensor **out) {
    int32_t dtype;
    distac_tensor *wide;
    float single = (float)value;
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_TRY(check_op(__func__, op, DISTAC_LE));
    DI_TRY(di_compute_dtype(__func__, "a", a, &dtype));
    DI_TRY(operand(a, dtype, &wide));
    distac_tensor number = {.context = a->context, .storage = a->storage, .dtype = dtype, .numel = 1};
    number.data = a->storage->there ? NULL : dtype == DISTAC_F64 ? (void *)&value : (void *)&single;
    distac_status status = swapped ? compute(op, dtype, &number, wide, value, out)
                                   : compute(op, dtype, wide, &number, value, out);
    distac_tensor_release(wide);
    return status;
}

/* ---- one operand ---- */

typedef struct unary_job {
    int32_t op;
    const void *a;
    void *out;
} unary_job;

#define MAP(T, expression)                                                                                      \
    for (int64_t i = 0; i < n; i++) {                                                                           \
        T x = a[i * s];                                                                                         \
        out[i] = (expression);                                                                                  \
    }                                                                                                           \
    break

/* The sigmoid never takes exp of a large number, so it neither overflows nor loses small results. */
#define UNARY(T, suffix, name)                                                                                  \
    static T sigmoid##suffix(T x) {                                                                             \
        T e = exp##suffix(-fabs##suffix(x));                                                                    \
        return (x >= 0 ? (T)1 : x == x ? e : x) / ((T)1 + e);                                                   \
    }                                                                                                           \
    static void name(void *arg, const di_run *run) {                                                            \
        const unary_job *job = arg;                                                                             \
        int64_t n = run->n, s = run->stride[1];                                                                 \
        T *out = (T *)job->out + run->offset[0];                                                                \
        const T *a = (const T *)job->a + run->offset[1];                                                        \
        switch (job->op) {                                                                                      \
        case DISTAC_NEG: MAP(T, -x);                                                                            \
        case DISTAC_ABS: MAP(T, fabs##suffix(x));                                                               \
        case DISTAC_SQRT: MAP(T, sqrt##suffix(x));                                                              \
        case DISTAC_EXP: MAP(T, exp##suffix(x));                                                                \
        case DISTAC_LOG: MAP(T, log##suffix(x));                                                                \
        case DISTAC_TANH: MAP(T, tanh##suffix(x));                                                              \
        case DISTAC_SIGN: MAP(T, x != x ? x : (T)((x > 0) - (x < 0)));                                          \
        case DISTAC_SIGMOID: MAP(T, sigmoid##suffix(x));                                                        \
        case DISTAC_ERF: MAP(T, erf##suffix(x));                                                                \
        /* 1 + erf(z) written as erfc(-z): exact in the negative tail too. */                                   \
        case DISTAC_GELU: MAP(T, (T)0.5 * x * erfc##suffix(-x * (T)0.70710678118654752440));                    \
        case DISTAC_QUICK_GELU: MAP(T, x *sigmoid##suffix((T)1.702 * x));                                       \
        default: MAP(T, (T)(x - x == 0));                                                                       \
        }                                                                                                       \
    }
UNARY(float, f, unary_f32)
UNARY(double, , unary_f64)

distac_status distac_tensor_unary(int32_t op, const distac_tensor *a, distac_tensor **out) {
    int32_t dtype;
    distac_tensor *wide;
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_TRY(check_op(__func__, op, DISTAC_ISFINITE));
    DI_TRY(di_compute_dtype(__func__, "a", a, &dtype));
    DI_TRY(di_poll(a->context));
    DI_TRY(operand(a, dtype, &wide));
    distac_status status = di_tensor_new_beside(a, dtype, a->rank, a->shape, false, out);
    if (status == DISTAC_OK) {
        di_walk walk;
        const int64_t *strides[] = {(*out)->stride, wide->stride};
        di_walk_make(&walk, a->rank, a->shape, 2, strides);
        unary_job job = {op, wide->data, (*out)->data};
        if (!a->storage->there)
            di_walk_all(a->context, &walk, dtype == DISTAC_F64 ? unary_f64 : unary_f32, &job);
        else if (walk.numel > 0)
            status = a->context->device->arrays->unary(a->context, &walk, dtype, op, job.a, job.out);
    }
    if (status != DISTAC_OK) {
        distac_tensor_release(*out);
        *out = NULL;
    }
    distac_tensor_release(wide);
    return status;
}
