/* products.h: matrix products of the CUDA backend: the way from a product to cuBLASLt (plans.c) and the kernels around it
 * (products_kernels.cu), as products.c calls them. */
#ifndef DISTAC_CUDA_PRODUCTS_H
#define DISTAC_CUDA_PRODUCTS_H

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#else
#include "cuda.h"

/* D [M,N] = alpha op(A) op(B) + beta C (+ bias [N] in each row), all row-major; C and D have the same rows. Types of the
 * factors: F32, F64, BF16; of the rest: F64 where the factors are, F32, or BF16 where the factors are. */
typedef struct di_product {
    bool trans_a, trans_b;
    int32_t factors, rest; /* DISTAC_F32, … */
    bool tf32;
    int64_t M, N, K, lda, ldb, ldc;
    double alpha, beta;
    const void *A, *B, *C, *bias; /* bias NULL: none */
    void *D;
} di_product;
/* *done false: the library does not add a bias to such a product; nothing was done. */
distac_status di_cuda_multiply(distac_context *c, const char *what, const di_product *product, bool *done);
#endif

/* Arrays of `type` F32, F64 or BF16. */
/* y = act(x + bias), pre (or NULL) = what act sees; [M,N], bias NULL: none; y and pre may be x. */
int di_cuda_launch_finish(int32_t type, int64_t M, int64_t N, const void *x, const void *bias, int act, void *pre,
                          void *y, cudaStream_t stream);
/* dx *= act'(pre), n elements. */
int di_cuda_launch_slope(int32_t type, int64_t n, int act, const void *pre, void *dx, cudaStream_t stream);
/* sums [N], F64 or else F32, += the sums of the columns of x [M,N]; parts [di_cuda_column_parts(M), N] is scratch. */
int64_t di_cuda_column_parts(int64_t M);
int di_cuda_launch_columns(int32_t type, int64_t M, int64_t N, const void *x, double *parts, void *sums,
                           cudaStream_t stream);
/* y = beta y where M rows of N elements are ldy apart; beta 0 does not read. */
int di_cuda_launch_scale(int32_t type, int64_t M, int64_t N, double beta, void *y, int64_t ldy, cudaStream_t stream);
/* x [M,N], F32 or BF16, with rows ldx apart, rounded to bfloat16, rows ldy apart; what lies between is 0. */
int di_cuda_launch_to_bf16(int32_t type, int64_t M, int64_t N, const void *x, int64_t ldx, void *y, int64_t ldy,
                           cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
