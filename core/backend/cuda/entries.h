/* entries.h: what the files of entries give to table.c: functions of the types that backend.h's table has, for both
 * element types. */
#ifndef DISTAC_CUDA_ENTRIES_H
#define DISTAC_CUDA_ENTRIES_H

#include "cuda.h"

#define DI_ENTRY(name, symbol) __typeof__(*((di_kernels *)NULL)->name) symbol;
#define DI_BOTH(name) DI_ENTRY(name, di_cuda_##name##_f32) DI_ENTRY(name, di_cuda_##name##_f64)
/* flat.c */
DI_BOTH(axpby)
/* products.c; `model`: F32 with products as the context asks for them */
DI_BOTH(gemm) DI_BOTH(linear) DI_BOTH(linear_backward_input) DI_BOTH(linear_backward_weight)
DI_ENTRY(linear, di_cuda_linear_model)
DI_ENTRY(linear_backward_input, di_cuda_linear_backward_input_model)
DI_ENTRY(linear_backward_weight, di_cuda_linear_backward_weight_model)
DI_ENTRY(linear, di_cuda_linear_narrow)
DI_ENTRY(linear_backward_input, di_cuda_linear_backward_input_narrow)
DI_ENTRY(linear_backward_weight, di_cuda_linear_backward_weight_narrow)
/* layers.c; `narrow`: F32 with what backend.h says of narrow tables */
#define DI_NARROW(name) DI_ENTRY(name, di_cuda_##name##_narrow)
DI_NARROW(layernorm) DI_NARROW(layernorm_backward) DI_NARROW(patches) DI_NARROW(tokens) DI_NARROW(tokens_backward)
DI_NARROW(rows_first) DI_NARROW(rows_first_backward)
DI_BOTH(layernorm) DI_BOTH(layernorm_backward) DI_BOTH(attention) DI_BOTH(attention_causal)
DI_BOTH(attention_backward) DI_BOTH(patches) DI_BOTH(tokens) DI_BOTH(tokens_backward) DI_BOTH(rows_first)
DI_BOTH(rows_first_backward)
/* narrow.c */
DI_NARROW(attention) DI_NARROW(attention_backward) DI_NARROW(project) DI_NARROW(project_backward)
/* heads.c */
DI_BOTH(pixels) DI_BOTH(gather) DI_BOTH(normalize) DI_BOTH(normalize_backward) DI_BOTH(softmax) DI_BOTH(loss)
DI_BOTH(loss_kd) DI_BOTH(loss_entropy)
/* vectors.c */
DI_BOTH(sumsq) DI_BOTH(dot) DI_BOTH(anchor) DI_BOTH(step_gradient) DI_BOTH(step_update) DI_BOTH(adamw)
DI_BOTH(nonfinite) DI_BOTH(square) DI_BOTH(combine) DI_BOTH(project) DI_BOTH(project_backward)
DI_ENTRY(step_begin, di_cuda_step_begin)
DI_ENTRY(step_rows, di_cuda_step_rows)
DI_ENTRY(step_decide, di_cuda_step_decide)

#endif
