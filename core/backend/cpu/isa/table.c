/* table.c: the tables of this instruction set. */
#ifndef DI_REAL
#define DI_SELF "table.c"
#include "both.h"
#else
#include "../general.h"
#include "kernels.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

#define DI_CPU_GENERAL_(suffix) DI_CPU_GENERAL(suffix)
#define COMMON                                                                                                    \
    .layernorm = NAME(layernorm),                                                                                 \
    .layernorm_backward = NAME(layernorm_backward),                                                               \
    .attend_most = 196608 / (int64_t)sizeof(T),                                                                   \
    .keeps_probs = true,                                                                                          \
    .attention = NAME(attention),                                                                                 \
    .attention_causal = NAME(attention_causal),                                                                   \
    .attention_first = NAME(attention_first),                                                                     \
    .attention_backward = NAME(attention_backward),                                                               \
    .patches = NAME(patches),                                                                                     \
    .tokens = NAME(tokens),                                                                                       \
    .tokens_backward = NAME(tokens_backward),                                                                     \
    .normalize = NAME(normalize),                                                                                 \
    .normalize_backward = NAME(normalize_backward),                                                               \
    .softmax = NAME(softmax),                                                                                     \
    .axpby = NAME(axpby),                                                                                         \
    .sumsq = NAME(sumsq),                                                                                         \
    .dot = NAME(dot),                                                                                             \
    .anchor = NAME(anchor),                                                                                       \
    .adamw = NAME(adamw),                                                                                         \
    DI_CPU_GENERAL_(DI_SUFFIX)

const di_kernels NAME(kernels) = {
    .name = "cpu/" TEXT(DI_ISA) "/" TEXT(DI_SUFFIX),
    .dtype = DI_REAL == 32 ? DISTAC_F32 : DISTAC_F64,
    .gemm = NAME(gemm),
    .linear = NAME(linear),
    .mlp = NAME(mlp),
    .attend = NAME(attend),
    .linear_backward_input = NAME(linear_backward_input),
    .linear_backward_weight = NAME(linear_backward_weight),
    COMMON};
#if DI_REAL == 32
const di_kernels PASTE3(di_kernels, bf16, DI_ISA) = {
    .name = "cpu/" TEXT(DI_ISA) "/bf16",
    .dtype = DISTAC_F32,
    .gemm = NAME(gemm),
    .linear = NAME(linear_bf16),
    .mlp = NAME(mlp_bf16),
    .attend = NAME(attend_bf16),
    .linear_backward_input = NAME(linear_backward_input_bf16),
    .linear_backward_weight = NAME(linear_backward_weight_bf16),
    COMMON};
#endif
#undef COMMON
#undef DI_CPU_GENERAL_
#undef TEXT
#undef TEXT_
#endif
