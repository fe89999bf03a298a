/* table.c: the tables of this instruction set. */
#ifndef DI_REAL
#define DI_SELF "table.c"
#include "both.h"
#else
#include "kernels.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const di_kernels NAME(kernels) = {
    .name = "cpu/" TEXT(DI_ISA) "/" TEXT(DI_SUFFIX),
    .dtype = DI_REAL == 32 ? DISTAC_F32 : DISTAC_F64,
    .gemm = NAME(gemm),
    .linear = NAME(linear),
    .linear_backward_input = NAME(linear_backward_input),
    .linear_backward_weight = NAME(linear_backward_weight),
    .layernorm = NAME(layernorm),
    .layernorm_backward = NAME(layernorm_backward),
    .attention = NAME(attention),
    .attention_causal = NAME(attention_causal),
    .attention_backward = NAME(attention_backward),
    .patches = NAME(patches),
    .tokens = NAME(tokens),
    .tokens_backward = NAME(tokens_backward),
    .normalize = NAME(normalize),
    .normalize_backward = NAME(normalize_backward),
    .softmax = NAME(softmax),
    .axpby = NAME(axpby),
    .sumsq = NAME(sumsq),
    .dot = NAME(dot),
    .anchor = NAME(anchor),
    .adamw = NAME(adamw),
};
#undef TEXT
#undef TEXT_
#endif
