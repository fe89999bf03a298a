/* merges.c: what checkpoints on the device are added up and merged with. */
#include "merges_launch.h"
#include "cuda.h"

static distac_status blend(distac_context *c, int64_t n, double alpha, int32_t a_dtype, const void *a, double beta,
                           int32_t b_dtype, const void *b, int32_t dtype, void *out, uint64_t *bad) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_blend(n, alpha, a_dtype, a, beta, b_dtype, b, dtype, out, bad,
                                                          cuda->stream));
}

static distac_status direction(distac_context *c, int64_t n, const di_merge_rule *rule, float *out, uint64_t *bad) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_direction(n, rule, out, bad, cuda->stream));
}

static distac_status lead(distac_context *c, int64_t n, const di_merge_rule *rule, uint64_t *sum) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_lead(n, rule, sum, cuda->stream));
}

static distac_status digits(distac_context *c, int64_t n, const di_merge_rule *rule, int32_t shift, int32_t bits,
                            const uint64_t *prefixes, uint64_t *counts) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_digits(n, rule, shift, bits, prefixes, counts, cuda->stream));
}

static distac_status cut(distac_context *c, int64_t n, const di_merge_rule *rule) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_cut(n, rule, cuda->stream));
}

const di_merges di_cuda_merges = {
    .blend = blend,
    .direction = direction,
    .lead = lead,
    .digits = digits,
    .cut = cut,
};
