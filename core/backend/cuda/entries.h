/* entries.h: what the files of entries give to table.c: the functions of backend.h's table, for both element types. */
#ifndef DISTAC_CUDA_ENTRIES_H
#define DISTAC_CUDA_ENTRIES_H

#include "cuda.h"

#define DI_ENTRIES(suffix)                                                                                         \
    /* flat.c */                                                                                                   \
    distac_status di_cuda_axpby_##suffix(distac_context *c, int64_t n, double a, const void *x, double b, void *y);
DI_ENTRIES(f32)
DI_ENTRIES(f64)
#undef DI_ENTRIES

/* products.c; `model`: F32 with products as the context asks for them */
#define DI_ENTRIES(suffix)                                                                                         \
    distac_status di_cuda_linear_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,       \
                                          const void *weight, const void *bias, int32_t act, void *pre,            \
                                          const void *residual, void *y);                                          \
    distac_status di_cuda_linear_backward_input_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K,       \
                                                         const void *dy, const void *weight, int32_t act,          \
                                                         const void *pre, bool accumulate, void *dx);              \
    distac_status di_cuda_linear_backward_weight_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K,      \
                                                          const void *x, const void *dy, void *dweight,            \
                                                          void *dbias);
DI_ENTRIES(f32)
DI_ENTRIES(f64)
DI_ENTRIES(model)
#undef DI_ENTRIES
#define DI_ENTRIES(suffix)                                                                                         \
    distac_status di_cuda_gemm_##suffix(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N,       \
                                        int64_t K, double alpha, const void *A, int64_t lda, const void *B,        \
                                        int64_t ldb, double beta, void *C, int64_t ldc);
DI_ENTRIES(f32)
DI_ENTRIES(f64)
#undef DI_ENTRIES

#endif
