/* backend.h: the table of kernels that a backend fills in. The rest of core/ computes through it alone.
 *
 * One table serves one element type: T below is float or double. Pointers are the device's; all arrays are
 * dense and row-major; nobody checks shapes here, the callers have. Every entry returns a status (a device
 * error, or ECANCELED between tiles).
 *
 * Gradient contract: activation gradients are overwritten unless `accumulate` says otherwise; parameter
 * gradients (dweight, dbias, dgamma, …) are added to; a NULL parameter gradient means "not wanted".
 *
 * Determinism contract: work is cut into tiles whose sizes depend on shapes only, each output element is
 * written by one tile, and reductions over rows use fixed blocks summed in a fixed order. So the bits do
 * not depend on the number of threads. */
#ifndef DISTAC_BACKEND_H
#define DISTAC_BACKEND_H

#include "../base/base.h"

enum { DI_ACT_NONE = -1 }; /* or DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU */

typedef struct di_kernels {
    const char *name; /* "cpu/avx512/f32" */
    int32_t dtype;

    /* C [M,N] = alpha * op(A) op(B) + beta * C. op(A) is A [M,K], or A stored [K,M] when trans_a; op(B) is
     * B [K,N], or stored [N,K] when trans_b. lda, ldb, ldc: elements from row to row as stored. */
    distac_status (*gemm)(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
                          void *C, int64_t ldc);

    /* ---- linear layer: x [M,K], weight [N,K], bias [N] or NULL ---- */
    /* y [M,N] = act(x weightT + bias). With an activation, pre [M,N] (may be NULL) keeps the value before it. If
     * residual [M,N] is given (and no activation) it is added; it may be y itself. */
    distac_status (*linear)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x, const void *weight,
                            const void *bias, int32_t act, void *pre, const void *residual, void *y);
    /* dx [M,K] = dy weight (+ dx if accumulate). With act, the result is multiplied by act'(pre [M,K]): the
     * gradient goes on through the activation that made x. */
    distac_status (*linear_backward_input)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                           const void *weight, int32_t act, const void *pre, bool accumulate,
                                           void *dx);
    /* dweight [N,K] += dyT x; dbias [N] += column sums of dy. Either may be NULL. */
    distac_status (*linear_backward_weight)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                            const void *dy, void *dweight, void *dbias);

    /* ---- LayerNorm over the last dimension: x, y [M,C], gamma, beta [C], eps 1e-5, biased variance ---- */
    /* mean, rstd [M] are written for the backward pass; NULL: not wanted. x has row stride x_stride elements. */
    distac_status (*layernorm)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                               const void *gamma, const void *beta, void *y, void *mean, void *rstd);
    /* dx rows have stride x_stride too; accumulate: dx += . */
    distac_status (*layernorm_backward)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                                        const void *gamma, const void *mean, const void *rstd, const void *dy,
                                        bool accumulate, void *dx, void *dgamma, void *dbeta);

    /* ---- multi-head self-attention on qkv [B,N,3*W] (q, k, v side by side; head h uses columns h*W/H …) ---- */
    /* out [B,N,W]; probs [B,H,N,N] is kept for the backward pass, NULL: not wanted. scale = 1/sqrt(W/H). */
    distac_status (*attention)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,
                               void *probs, void *out);
    /* The same where token i sees tokens 0 … i only, for inference. */
    distac_status (*attention_causal)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                      const void *qkv, void *out);
    /* dqkv [B,N,3W] is overwritten. */
    distac_status (*attention_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                        const void *qkv, const void *probs, const void *dout, void *dqkv);

    /* ---- embedding ---- */
    /* images [B,C,S,S] -> patches [B*G*G, C*p*p], G = S/p, order (channel, ky, kx). */
    distac_status (*patches)(distac_context *c, int64_t B, int64_t C, int64_t S, int64_t p, const void *images,
                             void *patches);
    /* x [B,N,W]: row 0 = cls + pos[0], row 1+g = embedded[b*(N-1)+g] + pos[1+g]. embedded [B*(N-1),W]. */
    distac_status (*tokens)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *embedded,
                            const void *cls, const void *pos, void *x);
    /* dembedded is overwritten; dcls [W], dpos [N,W] are added to. */
    distac_status (*tokens_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *dx,
                                     void *dembedded, void *dcls, void *dpos);

    /* ---- head pieces ---- */
    /* y = x / |x| per row, x, y [M,C]; norms [M]. A zero row gives zeros. */
    distac_status (*normalize)(distac_context *c, int64_t M, int64_t C, const void *x, void *y, void *norms);
    /* dx = (dy - y (y . dy)) / norm. */
    distac_status (*normalize_backward)(distac_context *c, int64_t M, int64_t C, const void *y, const void *norms,
                                        const void *dy, void *dx);
    /* y = softmax(x * scale) per row, or its logarithm; x, y [M,C], y may be x. */
    distac_status (*softmax)(distac_context *c, int64_t M, int64_t C, double scale, bool log_space, const void *x,
                             void *y);

    /* ---- flat vectors ---- */
    distac_status (*axpby)(distac_context *c, int64_t n, double a, const void *x, double b, void *y); /* y = a x + b y */
    distac_status (*sumsq)(distac_context *c, int64_t n, const void *x, double *out);      /* in double; NaN stays */
    distac_status (*dot)(distac_context *c, int64_t n, const void *x, const void *y, double *out);
    /* g += 2 beta (theta - theta0); *anchor = beta |theta-theta0|^2; *sumsq = |g|^2 after the addition: one pass. */
    distac_status (*anchor)(distac_context *c, int64_t n, double beta, const void *theta, const void *theta0,
                            void *g, double *anchor, double *sumsq);
    /* AdamW, step t (1-based): g' = g*grad_scale (+ wd*theta if coupled); m, v updated;
     * theta = theta*(1 - lr*wd) - lr * mhat/(sqrt(vhat)+eps). */
    distac_status (*adamw)(distac_context *c, int64_t n, int64_t t, double lr, double beta1, double beta2,
                           double eps, double weight_decay, bool coupled, double grad_scale, const void *g,
                           void *m, void *v, void *theta);
} di_kernels;

/* The table for F32 or F64 on the context's device; NULL for other types. */
const di_kernels *di_kernels_for(const distac_context *context, int32_t dtype);

/* The table for models of this type: its matrix products are of the kind that the context asks for. What is computed
 * outside of models (merging, heads) takes di_kernels_for. */
const di_kernels *di_kernels_for_models(const distac_context *context, int32_t dtype);

/* ---- backends: one folder each; this is all that base/context.c knows of them ---- */
typedef struct di_backend {
    const char *name; /* "cpu" */
    int32_t (*device_count)(void);
    distac_status (*device_info)(int32_t index, distac_device_info *out);
    /* Fills context->kernels_*, isa and products for device `index`; kernels: "auto" or an instruction set; products:
     * "f32" or "bf16". */
    distac_status (*open)(distac_context *context, int32_t index, const char *kernels, const char *products);
} di_backend;
extern const di_backend di_backend_cpu;

#endif
