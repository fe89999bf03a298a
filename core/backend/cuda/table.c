/* table.c: the tables of the CUDA backend. */
#include "entries.h"

#define PRODUCTS(linears, gemms)                                                                                   \
    .gemm = di_cuda_gemm_##gemms,                                                                                  \
    .linear = di_cuda_linear_##linears,                                                                            \
    .linear_backward_input = di_cuda_linear_backward_input_##linears,                                              \
    .linear_backward_weight = di_cuda_linear_backward_weight_##linears,
#define FLAT(suffix) .axpby = di_cuda_axpby_##suffix,
#define ATTENTION(suffix) .attention = di_cuda_attention_##suffix, .attention_backward = di_cuda_attention_backward_##suffix,
#define LAYERS(suffix)                                                                                             \
    .layernorm = di_cuda_layernorm_##suffix, .layernorm_backward = di_cuda_layernorm_backward_##suffix,            \
    .patches = di_cuda_patches_##suffix,                                                                           \
    .tokens = di_cuda_tokens_##suffix, .tokens_backward = di_cuda_tokens_backward_##suffix,                        \
    .rows_first = di_cuda_rows_first_##suffix, .rows_first_backward = di_cuda_rows_first_backward_##suffix,
#define HEADS(suffix)                                                                                              \
    .pixels = di_cuda_pixels_##suffix, .gather = di_cuda_gather_##suffix,                                          \
    .normalize = di_cuda_normalize_##suffix, .normalize_backward = di_cuda_normalize_backward_##suffix,            \
    .softmax = di_cuda_softmax_##suffix, .loss = di_cuda_loss_##suffix, .loss_kd = di_cuda_loss_kd_##suffix,       \
    .loss_entropy = di_cuda_loss_entropy_##suffix,
#define VECTORS(suffix)                                                                                            \
    .step_begin = di_cuda_step_begin, .step_rows = di_cuda_step_rows, .step_decide = di_cuda_step_decide,          \
    .sumsq = di_cuda_sumsq_##suffix, .dot = di_cuda_dot_##suffix, .anchor = di_cuda_anchor_##suffix,               \
    .step_gradient = di_cuda_step_gradient_##suffix, .step_update = di_cuda_step_update_##suffix,                  \
    .adamw = di_cuda_adamw_##suffix, .nonfinite = di_cuda_nonfinite_##suffix, .square = di_cuda_square_##suffix,   \
    .combine = di_cuda_combine_##suffix,
#define PROJECT(suffix) .project = di_cuda_project_##suffix, .project_backward = di_cuda_project_backward_##suffix,
#define COMMON(suffix)                                                                                             \
    FLAT(suffix) LAYERS(suffix) ATTENTION(suffix) .attention_causal = di_cuda_attention_causal_##suffix,           \
        HEADS(suffix) VECTORS(suffix) PROJECT(suffix)

const di_kernels di_cuda_kernels_f32 = {.name = "cuda/f32", .dtype = DISTAC_F32, PRODUCTS(f32, f32) COMMON(f32)};
const di_kernels di_cuda_kernels_f64 = {.name = "cuda/f64", .dtype = DISTAC_F64, PRODUCTS(f64, f64) COMMON(f64)};
/* The products follow the context: full, TF32 or of bfloat16 factors. */
const di_kernels di_cuda_kernels_model_f32 = {.name = "cuda/f32 model", .dtype = DISTAC_F32,
                                              PRODUCTS(model, f32) COMMON(f32)};
/* Encoders in bfloat16. */
const di_kernels di_cuda_kernels_narrow = {.name = "cuda/bf16", .dtype = DISTAC_F32, .narrow = true,
                                           PRODUCTS(narrow, f32) LAYERS(narrow) ATTENTION(narrow) PROJECT(narrow)
                                           FLAT(f32) HEADS(f32) VECTORS(f32)};
