/* attention.c: multi-head self-attention and its gradient. One image's head is worked off by one thread: copies
 * that the products need (keys and values turned around, rows padded to whole registers) and a block of rows of
 * the scores live in scratch, on the stack as long as they fit. */
#ifndef DI_REAL
#define DI_SELF "attention.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "small.h"
#include "turn.h"

#include "heads.h"

static void NAME(head_backward)(const NAME(attention_job) *j, int64_t b, int64_t h, T *scratch) {
    int64_t N = j->N, W = j->W, size = j->size, wide = j->wide, deep = j->deep, ld = 3 * W, block = N * deep;
    const T *q = j->qkv + b * N * ld + h * size, *k = q + W, *v = k + W;
    const T *dout = j->dout + b * N * W + h * size, *probs = j->saved + (b * j->heads + h) * N * N;
    T *dq = j->dqkv + b * N * ld + h * size, *dk = dq + W, *dv = dk + W;
    T *turned = scratch, *scores = turned + size * wide, *copies = scores + j->rows * wide;
    bool direct = deep == size && N <= WHOLE;
    const T *qb = q, *kb = k, *db = dout; /* operands with whole rows, results likewise */
    T *dqo = dq, *dko = dk, *dvo = dv;
    int64_t qld = ld, dld = W, old = ld;
    NAME(turn)(N, size, v, ld, wide, turned);
    if (!direct) {
        NAME(pad)(N, size, q, ld, deep, copies);
        NAME(pad)(N, size, k, ld, deep, copies + block);
        NAME(pad)(N, size, dout, W, deep, copies + 2 * block);
        qb = copies, kb = copies + block, db = copies + 2 * block;
        dqo = copies + 3 * block, dko = copies + 4 * block, dvo = copies + 5 * block;
        qld = dld = old = deep;
    }
    for (int64_t r = 0; r < N; r += j->rows) {
        int64_t rows = di_cpu_min(j->rows, N - r);
        NAME(small)(rows, wide, size, dout + r * W, W, 1, turned, wide, 1, false, scores, wide);
        for (int64_t i = 0; i < rows; i++) { /* dS = P (dP - P . dP) */
            const T *p = probs + (r + i) * N;
            T *s = scores + i * wide, dot = NAME(inner)(N, p, s);
            SIMD for (int64_t t = 0; t < N; t++) s[t] = p[t] * (s[t] - dot);
        }
        NAME(small)(rows, deep, N, scores, wide, 1, kb, qld, j->scale, false, dqo + r * old, old);
        NAME(small)(N, deep, rows, scores, 1, wide, qb + r * qld, qld, j->scale, r > 0, dko, old);
        NAME(small)(N, deep, rows, probs + r * N, 1, N, db + r * dld, dld, 1, r > 0, dvo, old);
    }
    if (!direct) {
        NAME(unpad)(N, size, dqo, deep, dq, ld);
        NAME(unpad)(N, size, dko, deep, dk, ld);
        NAME(unpad)(N, size, dvo, deep, dv, ld);
    }
}

static distac_status NAME(attention_tile)(void *arg, int64_t index) {
    const NAME(attention_job) *j = arg;
    _Alignas(64) unsigned char stack[STACK_BYTES];
    void *scratch = stack, *allocated = NULL;
    if (j->scratch > STACK_BYTES) {
        scratch = allocated = di_alloc(j->context, j->scratch);
        if (!allocated) return DISTAC_ENOMEM;
    }
    int64_t b = index / j->groups, first = index % j->groups * j->group;
    int64_t last = di_cpu_min(j->heads, first + j->group);
    for (int64_t h = first; h < last; h++) {
        if (j->dqkv)
            NAME(head_backward)(j, b, h, scratch);
        else
            NAME(head_forward)(j, b, h, scratch);
    }
    di_free(j->context, allocated, j->scratch);
    return DISTAC_OK;
}

static distac_status NAME(attention_run)(distac_context *c, const char *kernel, int64_t B,
                                         NAME(attention_job) *j) {
    int64_t N = j->N;
    if (B == 0 || N == 0 || j->W == 0) return DISTAC_OK;
    j->context = c;
    NAME(attention_sizes)(j);
    /* a tile has enough to do to be worth handing out */
    j->group = di_cpu_min(j->heads, di_cpu_ceil(262144, N * N * j->size));
    j->groups = di_cpu_ceil(j->heads, j->group);
    return di_cpu_run(c, kernel, B * j->groups, NAME(attention_tile), j);
}

distac_status NAME(attention)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads, const void *qkv,
                              void *probs, void *out) {
    NAME(attention_job) j = {.N = N, .W = W, .heads = heads, .ld = 3 * W, .to = W, .qkv = qkv, .probs = probs,
                             .out = out};
    return NAME(attention_run)(c, "attention", B, &j);
}

distac_status NAME(attention_causal)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                     const void *qkv, void *out) {
    NAME(attention_job) j = {.N = N, .W = W, .heads = heads, .ld = 3 * W, .to = W, .causal = true, .qkv = qkv,
                             .out = out};
    return NAME(attention_run)(c, "attention_causal", B, &j);
}

distac_status NAME(attention_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                       const void *qkv, const void *probs, const void *out, const void *dout,
                                       void *dqkv) {
    (void)out;
    NAME(attention_job) j = {
        .N = N, .W = W, .heads = heads, .qkv = qkv, .saved = probs, .dout = dout, .dqkv = dqkv};
    return NAME(attention_run)(c, "attention_backward", B, &j);
}
#endif
