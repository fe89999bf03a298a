/* table.c: the tables of the CUDA backend. */
#include "entries.h"

#define PRODUCTS(linears, gemms)                                                                                   \
    .gemm = di_cuda_gemm_##gemms,                                                                                  \
    .linear = di_cuda_linear_##linears,                                                                            \
    .linear_backward_input = di_cuda_linear_backward_input_##linears,                                              \
    .linear_backward_weight = di_cuda_linear_backward_weight_##linears,
#define FLAT(suffix) .axpby = di_cuda_axpby_##suffix,

const di_kernels di_cuda_kernels_f32 = {.name = "cuda/f32", .dtype = DISTAC_F32, PRODUCTS(f32, f32) FLAT(f32)};
const di_kernels di_cuda_kernels_f64 = {.name = "cuda/f64", .dtype = DISTAC_F64, PRODUCTS(f64, f64) FLAT(f64)};
/* The products follow the context: full, TF32 or of bfloat16 factors. */
const di_kernels di_cuda_kernels_model_f32 = {.name = "cuda/f32 model", .dtype = DISTAC_F32,
                                              PRODUCTS(model, f32) FLAT(f32)};
