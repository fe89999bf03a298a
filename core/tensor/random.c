/* random.c: tensors of random numbers; element i is a pure function of (seed, stream, i) and of the type only by
 * its rounding. */
#include "walk.h"

enum { NORMAL = 0, UNIFORM = 1, PIECE = 512 };

typedef struct random_job {
    distac_tensor *tensor;
    int32_t kind;
    uint64_t seed, stream;
} random_job;

/* Rounding up could make 1 of a number just below: the digits that the type has no room for are cut instead. */
static double cut(int32_t dtype, double u) {
    double places = dtype == DISTAC_F32 ? 0x1p24 : dtype == DISTAC_F16 ? 0x1p11 : dtype == DISTAC_BF16 ? 0x1p8 : 0;
    return places == 0 ? u : (double)(int64_t)(u * places) / places;
}

static void random_run(void *arg, const di_run *run) {
    const random_job *job = arg;
    int32_t dtype = job->tensor->dtype;
    int64_t bytes = distac_dtype_bytes(dtype), step = run->stride[0];
    char *data = (char *)job->tensor->data + run->offset[0] * bytes;
    double piece[PIECE];
    for (int64_t done = 0; done < run->n && !distac_cancelled(job->tensor->context); done += PIECE) {
        int64_t m = run->n - done < PIECE ? run->n - done : PIECE;
        for (int64_t i = 0; i < m; i++) {
            uint64_t index = (uint64_t)(run->first + done + i);
            piece[i] = job->kind == NORMAL ? di_normal(job->seed, job->stream, index)
                                           : cut(dtype, di_uniform(job->seed, job->stream, index));
        }
        if (step == 1)
            di_from_f64(dtype, piece, data + done * bytes, m);
        else
            for (int64_t i = 0; i < m; i++) di_from_f64(dtype, piece + i, data + (done + i) * step * bytes, 1);
    }
}

distac_status distac_tensor_random(distac_tensor *tensor, int32_t kind, uint64_t seed, uint64_t stream) {
    DI_TRY(di_writable(__func__, "tensor", tensor));
    if (kind != NORMAL && kind != UNIFORM)
        return di_fail(DISTAC_EINVAL, "kind is %d, wanted 0 (normal) or 1 (uniform)", kind);
    if (!di_dtype_is_float(tensor->dtype))
        return di_fail(DISTAC_EDTYPE, "tensor is %s, wanted a float type", distac_dtype_name(tensor->dtype));
    if (tensor->storage->there) { /* the same numbers as on the host */
        distac_tensor *here;
        DI_TRY(di_tensor_new(tensor->context, tensor->dtype, tensor->rank, tensor->shape, false, &here));
        distac_status status = distac_tensor_random(here, kind, seed, stream);
        if (status == DISTAC_OK) status = distac_tensor_copy(tensor, here);
        distac_tensor_release(here);
        return status;
    }
    random_job job = {tensor, kind, seed, stream};
    di_walk walk;
    const int64_t *strides[] = {tensor->stride};
    di_walk_make(&walk, tensor->rank, tensor->shape, 1, strides);
    di_walk_all(tensor->context, &walk, random_run, &job);
    return di_poll(tensor->context);
}
