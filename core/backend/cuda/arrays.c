/* arrays.c: what tensors on the device are computed with. */
#include "arrays_launch.h"
#include "cuda.h"

static size_t bytes_of(int32_t dtype) {
    switch (dtype) {
    case DISTAC_F64: case DISTAC_I64: case DISTAC_U64: return 8;
    case DISTAC_F32: case DISTAC_I32: case DISTAC_U32: return 4;
    case DISTAC_F16: case DISTAC_BF16: case DISTAC_I16: case DISTAC_U16: return 2;
    default: return 1;
    }
}

static distac_status convert(distac_context *c, int64_t n, int32_t from, const void *src, int32_t to, void *dst) {
    DI_CUDA_BEGIN(c, "cast");
    if (from == to) return di_cuda_copy(c, dst, src, (size_t)n * bytes_of(from));
    return di_cuda_check(c, "cast", di_cuda_launch_convert(n, from, src, to, dst, cuda->stream));
}

static distac_status move(distac_context *c, const di_walk *walk, int64_t size, void *dst, const void *src) {
    DI_CUDA_BEGIN(c, "copy");
    return di_cuda_check(c, "copy", di_cuda_launch_move(walk, size, dst, src, cuda->stream));
}

static distac_status fill(distac_context *c, const di_walk *walk, int64_t size, uint64_t element, void *dst) {
    DI_CUDA_BEGIN(c, "fill");
    return di_cuda_check(c, "fill", di_cuda_launch_fill(walk, size, element, dst, cuda->stream));
}

static distac_status binary(distac_context *c, const di_walk *walk, int32_t dtype, int32_t op, const void *a,
                            const void *b, double number, void *out) {
    DI_CUDA_BEGIN(c, "arithmetic");
    return di_cuda_check(c, "arithmetic", di_cuda_launch_binary(walk, dtype == DISTAC_F64, op, a, b, number, out,
                                                                cuda->stream));
}

static distac_status unary(distac_context *c, const di_walk *walk, int32_t dtype, int32_t op, const void *a,
                           void *out) {
    DI_CUDA_BEGIN(c, "arithmetic");
    return di_cuda_check(c, "arithmetic",
                         di_cuda_launch_unary(walk, dtype == DISTAC_F64, op, a, out, cuda->stream));
}

static distac_status reduce(distac_context *c, int32_t dtype, int32_t op, int64_t outer, int64_t n, int64_t inner,
                            const void *src, void *out) {
    DI_CUDA_BEGIN(c, "reduction");
    int64_t slots = outer * di_cuda_reduce_parts(outer, n, inner) * inner;
    bool f64 = dtype == DISTAC_F64, careful = f64 && op == DISTAC_NORM;
    char *scratch;
    size_t each = (size_t)slots * 8;
    DI_TRY(di_cuda_scratch(c, 2 * each + (careful ? (size_t)(outer * inner) * 8 : 0), (void **)&scratch));
    return di_cuda_check(c, "reduction",
                         di_cuda_launch_reduce(f64, op, outer, n, inner, src, (double *)(void *)scratch,
                                               (int64_t *)(void *)(scratch + each),
                                               careful ? (double *)(void *)(scratch + 2 * each) : NULL, out,
                                               cuda->stream));
}

static distac_status nonfinite(distac_context *c, int64_t n, int32_t dtype, const void *src, int64_t *first,
                               int64_t *count) {
    DI_CUDA_BEGIN(c, "nonfinite");
    int64_t *scratch, parts = di_cuda_reduce_parts(1, n, 1), found[2];
    DI_TRY(di_cuda_scratch(c, (size_t)(2 * parts + 2) * sizeof *scratch, (void **)&scratch));
    DI_CUDA_TRY(c, "nonfinite",
                di_cuda_launch_nonfinite(n, dtype, src, scratch, scratch + 2 * parts, cuda->stream));
    DI_TRY(di_cuda_download(c, found, scratch + 2 * parts, sizeof found));
    *first = found[1] > 0 ? found[0] : -1;
    *count = found[1];
    return DISTAC_OK;
}

const di_arrays di_cuda_arrays = {
    .convert = convert,
    .move = move,
    .fill = fill,
    .binary = binary,
    .unary = unary,
    .reduce = reduce,
    .nonfinite = nonfinite,
    .svd = di_cuda_svd,
    .eigh = di_cuda_eigh,
};
