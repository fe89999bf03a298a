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
#include "arrays.h"
#include "merges.h"
#include "step.h"

enum { DI_ACT_NONE = -1 }; /* or DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU */

/* What rows of logits are compared with: labels alone, or two sets of them mixed. The arrays are the device's. */
typedef struct di_targets {
    const int64_t *labels;
    const int64_t *others; /* NULL: not mixed */
    const double *lambda;  /* [1], of labels; 1 - lambda is the weight of others. Not read if not mixed */
} di_targets;

/* Half a transformer block: x += out(between(in(LayerNorm(x)))). in_weight [between,W], out_weight [W,…]. */
typedef struct di_half {
    const void *gamma, *beta, *in_weight, *in_bias, *out_weight, *out_bias;
} di_half;

typedef struct di_kernels {
    const char *name; /* "cpu/avx512/f32" */
    int32_t dtype;
    /* What goes between an encoder's images and its features is bfloat16: activations and
     * their gradients, and weight and bias of linear layers, of which the model keeps
     * copies. T stays the type of the images, of the other parameters, of all parameters'
     * gradients, and of mean, rstd and kept. Such a table is for encoders alone. */
    bool narrow;

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
    /* out [B,N,W]; kept [B,H,N,K] is for the backward pass, NULL: not wanted. scale = 1/sqrt(W/H). With
     * keeps_probs K is N: the weights of all keys; else 1: the logarithm of the sum of a row's exponentials. */
    bool keeps_probs;
    distac_status (*attention)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,
                               void *kept, void *out);
    /* The same where token i sees tokens 0 … i only, for inference. */
    distac_status (*attention_causal)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                      const void *qkv, void *out);
    /* out [B,W]: row 0 of each image's attention, from what the linear layer makes qkv of: x [B,N,W], weight
     * [3W,W], bias [3W]. For inference, in products of the element type; NULL: the backend has no shorter way. */
    distac_status (*attention_first)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *x,
                                     const void *weight, const void *bias, void *out);
    /* dqkv [B,N,3W] is overwritten; kept and out as the forward pass left them. */
    distac_status (*attention_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                        const void *qkv, const void *kept, const void *out, const void *dout,
                                        void *dqkv);

    /* ---- halves of a transformer block in one call, for inference on many rows; the bits of the separate
     * entries. NULL: the backend gains nothing by them ---- */
    /* x [M,W] += out(act(in(LayerNorm(x)))); in_weight [hidden,W], out_weight [W,hidden] */
    distac_status (*mlp)(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act, const di_half *p,
                         void *x);
    /* x [B,N,W] += out(attention(in(LayerNorm(x)))); in_weight [3W,W],
     * out_weight [W,W]. Of use if N W is attend_most at most. */
    distac_status (*attend)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const di_half *p,
                            void *x);
    int64_t attend_most;

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

    /* first [B,W] = row 0 of each x [B,N,W]; and its gradient: dx is dfirst in row 0 and zero elsewhere. */
    distac_status (*rows_first)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *x, void *first);
    distac_status (*rows_first_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *dfirst,
                                         void *dx);
    /* x [n,channels,plane] = (bytes/255 - mean)/std of each channel; image i is image list[i] of bytes (list NULL:
     * i). bytes and list on the device, mean and std on the host. */
    distac_status (*pixels)(distac_context *c, int64_t n, int64_t channels, int64_t plane, const uint8_t *bytes,
                            const int64_t *list, const double *mean, const double *std, void *x);
    /* y [n,C] = row list[i] of x [.,C]; list on the device. */
    distac_status (*gather)(distac_context *c, int64_t n, int64_t C, const int64_t *list, const void *x, void *y);

    /* ---- features to outputs: x [B,W] proj [W,D] -> y [B,D], products never rounded ---- */
    distac_status (*project)(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x, const void *proj,
                             void *y);
    /* dx is overwritten, dproj [W,D] added to. */
    distac_status (*project_backward)(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,
                                      const void *proj, const void *dy, void *dx, void *dproj);

    /* ---- losses of rows of logits [rows,classes]: results [rows], each in double; dlogits, unless NULL, is
     * overwritten with scale times the gradient of a row's loss ---- */
    distac_status (*loss)(distac_context *c, const distac_loss_desc *desc, int64_t rows, int64_t classes,
                          const void *logits, const di_targets *targets, double scale, void *dlogits,
                          di_row *results);
    /* t_teacher t_student KL(teacher || student) of the tempered
     * predictions; the entropy is the student's at T = 1. */
    distac_status (*loss_kd)(distac_context *c, int64_t rows, int64_t classes, const void *teacher,
                             const void *student, double t_teacher, double t_student, double scale,
                             void *dstudent, di_row *results);
    /* The entropy of the prediction. */
    distac_status (*loss_entropy)(distac_context *c, int64_t rows, int64_t classes, const void *logits,
                                  double scale, void *dlogits, di_row *results);

    /* ---- a training step; the order of the calls is that of the lines, step is on the device ---- */
    distac_status (*step_begin)(distac_context *c, const di_step *start, di_step *step); /* *step = *start */
    /* total = the results added in order. */
    distac_status (*step_rows)(distac_context *c, int64_t rows, const di_row *results, di_step *step);
    /* sumsq[which] = |g|^2; if beta is above 0, g += 2 beta
     * (theta - theta0) before, anchor = beta |theta-theta0|^2. */
    distac_status (*step_gradient)(distac_context *c, int32_t which, int64_t n, double beta, const void *theta,
                                   const void *theta0, void *g, di_step *step);
    /* factor and refused; rules [vectors], on the host. */
    distac_status (*step_decide)(distac_context *c, int32_t vectors, const di_adamw *rules, di_step *step);
    /* AdamW, unless the step is refused. copy [n], where the
     * table is narrow, becomes theta in bfloat16; else NULL. */
    distac_status (*step_update)(distac_context *c, int32_t which, int64_t n, const di_adamw *rule, const void *g,
                                 void *m, void *v, void *theta, void *copy, const di_step *step);

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
    /* y = a x + b y */
    distac_status (*axpby)(distac_context *c, int64_t n, double a, const void *x, double b, void *y);
    /* In double; NaN stays. */
    distac_status (*sumsq)(distac_context *c, int64_t n, const void *x, double *out);
    distac_status (*dot)(distac_context *c, int64_t n, const void *x, const void *y, double *out);
    /* g += 2 beta (theta - theta0); *anchor = beta |theta-theta0|^2;
     * *sumsq = |g|^2 after the addition: one pass. */
    distac_status (*anchor)(distac_context *c, int64_t n, double beta, const void *theta, const void *theta0,
                            void *g, double *anchor, double *sumsq);
    /* AdamW, step t (1-based): g' = g*grad_scale (+ wd*theta if coupled); m, v updated;
     * theta = theta*(1 - lr*wd) - lr * mhat/(sqrt(vhat)+eps). */
    distac_status (*adamw)(distac_context *c, int64_t n, int64_t t, double lr, double beta1, double beta2,
                           double eps, double weight_decay, bool coupled, double grad_scale, const void *g,
                           void *m, void *v, void *theta);
    /* Index of the first element that is NaN or infinite, -1 if none is. */
    distac_status (*nonfinite)(distac_context *c, int64_t n, const void *x, int64_t *first);
    /* out += g^2 in double, then g = 0. */
    distac_status (*square)(distac_context *c, int64_t n, void *g, double *out);
    /* out = base + sum of lambdas[t] taus[t], in double; out may be base. The lists are the host's. */
    distac_status (*combine)(distac_context *c, int64_t n, int32_t models, const void *const *taus,
                             const double *lambdas, const void *base, void *out);
} di_kernels;

/* ---- which table ---- */
/* The CPU's table for F32 or F64, for arrays in host memory; NULL for other types. */
const di_kernels *di_kernels_for(const distac_context *context, int32_t dtype);

/* The table for models of this type, for arrays where the context computes (below): its matrix products are of the
 * kind that the context asks for. */
const di_kernels *di_kernels_for_models(const distac_context *context, int32_t dtype);

/* As for models, narrow where the device computes encoders so. */
const di_kernels *di_kernels_for_encoders(const distac_context *context, int32_t dtype);

/* As for models, with full products: heads, and what else is computed outside of models but lies with them. */
const di_kernels *di_kernels_there(const distac_context *context, int32_t dtype);

/* ---- devices other than the CPU ---- */
/* A context that has a device keeps its models, gradients and activations in the device's
 * memory. Calls are given work in order and may return before it is done; results that
 * come back to the host (download, sums written through double pointers) are waited for.
 * A device that is lost (its process has to end) answers EDEVICE from then on. */
typedef struct di_device {
    char name[16];        /* "cuda:0" */
    const char *products; /* "f32", "tf32", "bf16" */
    const di_kernels *f32, *f64, *model;
    const di_kernels *narrow; /* NULL: encoders are computed by model */
    const di_arrays *arrays;
    const di_merges *merges;

    /* 256-byte aligned, counted against the context's limit, not zeroed. Out of memory, the device goes on. Freed
     * memory may be in use by work given before: it is let go in order. */
    distac_status (*alloc)(distac_context *c, size_t bytes, void **out);
    void (*free)(distac_context *c, void *memory, size_t bytes);
    distac_status (*zero)(distac_context *c, void *dst, size_t bytes);
    distac_status (*copy)(distac_context *c, void *dst, const void *src, size_t bytes); /* no overlap */
    /* src is read on return. */
    distac_status (*upload)(distac_context *c, void *dst, const void *src, size_t bytes);
    distac_status (*download)(distac_context *c, void *dst, const void *src, size_t bytes);
    distac_status (*wait)(distac_context *c); /* all work is done, or its error is told */
    /* Transfers beside the work. A sending is memory of the host, at *here, whose contents go to memory of the
     * device of its own while other work is done; one thread at a time calls these. */
    distac_status (*sending_make)(distac_context *c, size_t bytes, void **sending, void **here);
    /* Sets out, as soon as what reads the last contents is done;
     * the host's memory is not written until sending_left. */
    distac_status (*sending_start)(distac_context *c, void *sending);
    distac_status (*sending_left)(distac_context *c, void *sending);
    /* Work given between these two reads what was started last at *there. */
    distac_status (*sending_read)(distac_context *c, void *sending, const void **there);
    distac_status (*sending_done)(distac_context *c, void *sending);
    void (*sending_free)(distac_context *c, void *sending); /* NULL is fine */
    /* Between record_begin and record_end work is recorded instead of done; keep
     * false: thrown away. replay gives a recording to the device as one piece of
     * work, as long as it holds: memory of the backend it points to may move. */
    distac_status (*record_begin)(distac_context *c);
    distac_status (*record_end)(distac_context *c, bool keep, void **recording);
    bool (*recording_holds)(distac_context *c, const void *recording);
    distac_status (*replay)(distac_context *c, const void *recording);
    void (*recording_free)(distac_context *c, void *recording); /* NULL is fine */
    void (*close)(distac_context *c);         /* the context ends */
} di_device;

/* Memory where the context's models are computed: the device's, or else the host's. The same calls for both; alloc
 * gives NULL with the error set. */
void *di_there_alloc(distac_context *c, size_t bytes);
void di_there_free(distac_context *c, void *memory, size_t bytes); /* NULL is fine */
distac_status di_there_zero(distac_context *c, void *dst, size_t bytes);
distac_status di_there_copy(distac_context *c, void *dst, const void *src, size_t bytes);
distac_status di_there_put(distac_context *c, void *dst, const void *host, size_t bytes);
distac_status di_there_get(distac_context *c, void *host, const void *src, size_t bytes);

/* ---- backends: one folder each; this is all that base/context.c knows of them ---- */
typedef struct di_backend {
    const char *name; /* "cpu" */
    int32_t (*device_count)(void);
    distac_status (*device_info)(int32_t index, distac_device_info *out);
    /* The CPU fills context->kernels_*, isa and products; kernels: "auto" or an instruction set; products: "f32"
     * or "bf16", where a device is opened too also what that knows. Others set context->device. */
    distac_status (*open)(distac_context *context, int32_t index, const char *kernels, const char *products);
    /* Why there is no device, for a message; NULL: not known. */
    const char *(*why_none)(void);
} di_backend;
extern const di_backend di_backend_cpu;

/* A backend may live in a module that is loaded when its devices are asked for, so that the engine does not depend
 * on what it is linked with. The engine exports nothing for it: the module is handed what it needs. */
#define DI_BACKEND_ABI 2
typedef struct di_host {
    uint32_t abi;
    size_t context_bytes, kernels_bytes; /* sizes of structures that both must see alike */
    distac_status (*fail)(distac_status code, const char *function, const char *text);
    /* Counts bytes against the limit; false with the error set if they do not fit. */
    bool (*charge)(distac_context *context, size_t bytes);
    void (*discharge)(distac_context *context, size_t bytes);
    void (*warn)(distac_context *context, const char *text);
    void *(*make)(const char *function, size_t bytes); /* di_new_at */
} di_host;
/* What a module exports, as di_backend_module; NULL if host is not what it was built for. */
typedef const di_backend *(*di_backend_module_fn)(const di_host *host);

/* ---- devices.c ---- */
/* The backend and index behind "cpu", "cuda", "cuda:1" (NULL: the CPU); EDEVICE names what there is instead. */
distac_status di_device_find(const char *name, const di_backend **backend, int32_t *index);
/* Opens the device for tensors of a context that has none; models stay where they are computed. */
distac_status di_device_attach(distac_context *context, const char *name);

#endif
