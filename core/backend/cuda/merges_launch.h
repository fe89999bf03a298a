/* merges_launch.h: the launchers of merges_kernels.cu, as merges.c calls them. */
#ifndef DISTAC_CUDA_MERGES_LAUNCH_H
#define DISTAC_CUDA_MERGES_LAUNCH_H

#include "../merge_rule.h"

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif
int di_cuda_launch_blend(int64_t n, double alpha, int32_t a_dtype, const void *a, double beta, int32_t b_dtype,
                         const void *b, int32_t dtype, void *out, uint64_t *bad, cudaStream_t stream);
int di_cuda_launch_direction(int64_t n, const di_merge_rule *rule, float *out, uint64_t *bad, cudaStream_t stream);
int di_cuda_launch_lead(int64_t n, const di_merge_rule *rule, uint64_t *lead, cudaStream_t stream);
int di_cuda_launch_digits(int64_t n, const di_merge_rule *rule, int32_t shift, int32_t bits, const uint64_t *prefixes,
                          uint64_t *counts, cudaStream_t stream);
int di_cuda_launch_cut(int64_t n, const di_merge_rule *rule, cudaStream_t stream);

/* Products over runs, in pieces of at most DI_DOT_PIECE elements that each lie in one run. */
enum { DI_DOT_PIECE = 8192 };
/* parts [models][count]; out [models][runs]: of run r the pieces begin[r] … begin[r+1]-1. All the device's. */
int di_cuda_launch_dots(int32_t models, const void *const *taus, int64_t count, const di_merge_span *pieces, int64_t runs,
                        const int64_t *begin, int32_t dtype, const void *x, double *parts, double *out,
                        cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
