/* table.c: the tables of the CUDA backend. */
#include "entries.h"

/* One line each, in the order of backend.h. */
#define FLAT(suffix) .axpby = di_cuda_axpby_##suffix,

const di_kernels di_cuda_kernels_f32 = {.name = "cuda/f32", .dtype = DISTAC_F32, FLAT(f32)};
const di_kernels di_cuda_kernels_f64 = {.name = "cuda/f64", .dtype = DISTAC_F64, FLAT(f64)};
/* The products follow the context: full, TF32 or of bfloat16 factors. */
const di_kernels di_cuda_kernels_model_f32 = {.name = "cuda/f32 model", .dtype = DISTAC_F32, FLAT(f32)};
