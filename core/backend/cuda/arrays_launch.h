/* arrays_launch.h: the launchers of convert_kernels.cu, arrays_kernels.cu and reduce_kernels.cu, as arrays.c calls them. */
#ifndef DISTAC_CUDA_ARRAYS_LAUNCH_H
#define DISTAC_CUDA_ARRAYS_LAUNCH_H

#include "../strides.h"

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif
int di_cuda_launch_convert(int64_t n, int32_t from, const void *src, int32_t to, void *dst, cudaStream_t stream);
int di_cuda_launch_move(const di_walk *walk, int64_t size, void *dst, const void *src, cudaStream_t stream);
int di_cuda_launch_fill(const di_walk *walk, int64_t size, uint64_t element, void *dst, cudaStream_t stream);
int di_cuda_launch_binary(const di_walk *walk, int f64, int32_t op, const void *a, const void *b, double number,
                          void *out, cudaStream_t stream);
int di_cuda_launch_unary(const di_walk *walk, int f64, int32_t op, const void *a, void *out, cudaStream_t stream);

/* Parts along n; values and indices: scratch of outer * parts * inner each. largest: scratch of outer * inner, or NULL;
 * with it the norm of numbers beyond the range of their squares is right. */
int64_t di_cuda_reduce_parts(int64_t outer, int64_t n, int64_t inner);
int di_cuda_launch_reduce(int f64, int32_t op, int64_t outer, int64_t n, int64_t inner, const void *src,
                          double *values, int64_t *indices, double *largest, void *out, cudaStream_t stream);
/* found [2]: the first (or n), how many; scratch [2 * di_cuda_reduce_parts(1, n, 1)] */
int di_cuda_launch_nonfinite(int64_t n, int32_t dtype, const void *src, int64_t *scratch, int64_t *found,
                             cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
