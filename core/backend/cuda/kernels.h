/* kernels.h: the launchers of the .cu files, for these and for the files of entries. They return the error of the
 * launch, 0 is good; pointers are the device's unless a comment says otherwise. C and C++. */
#ifndef DISTAC_CUDA_KERNELS_H
#define DISTAC_CUDA_KERNELS_H

#include "../../distac.h"
#include "../step.h"

#include <cuda_runtime.h>

enum { DI_CUDA_CHANNELS = 16 }; /* most channels of an image */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- norm_kernels.cu, embedding_kernels.cu ---- */
int64_t di_cuda_norm_pieces(int64_t M);
#define DI_ACTIVATIONS(suffix)                                                                                     \
    int di_cuda_launch_layernorm_##suffix(int64_t M, int64_t C, const void *x, int64_t stride, const void *gamma,  \
                                          const void *beta, void *y, void *mean, void *rstd, cudaStream_t s);      \
    /* parts: 2 C di_cuda_norm_pieces(M) parameters, unless dgamma and dbeta are NULL */                           \
    int di_cuda_launch_layernorm_backward_##suffix(                                                                \
        int64_t M, int64_t C, const void *x, int64_t stride, const void *gamma, const void *mean,                  \
        const void *rstd, const void *dy, int accumulate, void *dx, void *parts, void *dgamma, void *dbeta,        \
        cudaStream_t s);                                                                                           \
    int di_cuda_launch_patches_##suffix(int64_t B, int64_t C, int64_t S, int64_t p, const void *images,            \
                                        void *patches, cudaStream_t s);                                            \
    int di_cuda_launch_tokens_##suffix(int64_t B, int64_t N, int64_t W, const void *embedded, const void *cls,     \
                                       const void *pos, void *x, cudaStream_t s);                                  \
    int di_cuda_launch_tokens_backward_##suffix(int64_t B, int64_t N, int64_t W, const void *dx, void *dembedded,  \
                                                void *dcls, void *dpos, cudaStream_t s);                           \
    int di_cuda_launch_rows_first_##suffix(int64_t B, int64_t N, int64_t W, const void *x, void *first,            \
                                           cudaStream_t s);                                                        \
    int di_cuda_launch_rows_first_backward_##suffix(int64_t B, int64_t N, int64_t W, const void *dfirst, void *dx, \
                                                    cudaStream_t s);                                               \
    /* attention_kernels.cu: lse [B,H,N] parameters, NULL: not wanted */             \
    int di_cuda_launch_attention_##suffix(int64_t B, int64_t N, int64_t W, int64_t H, int causal, const void *qkv, \
                                          void *lse, void *out, cudaStream_t s);                                   \
    /* delta: scratch [B,H,N] parameters */                                                                        \
    int di_cuda_launch_attention_backward_##suffix(int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,    \
                                                   const void *lse, const void *out, const void *dout,             \
                                                   void *delta, void *dqkv, cudaStream_t s);
DI_ACTIVATIONS(f32)
DI_ACTIVATIONS(f64)
DI_ACTIVATIONS(narrow) /* bfloat16; parameters and what is kept are float. Attention: attention_narrow_kernels.cu */
#undef DI_ACTIVATIONS

/* Whether the tensor cores take such heads; arrays are aligned to 16 bytes then, and causal is not taken. */
int di_cuda_attention_fits_narrow(int64_t N, int64_t W, int64_t H);

#define DI_NUMBERS(suffix)                                                                                         \
    /* embedding_kernels.cu; mean and std are the host's */                                                        \
    int di_cuda_launch_gather_##suffix(int64_t n, int64_t C, const int64_t *list, const void *x, void *y,          \
                                       cudaStream_t s);                                                            \
    int di_cuda_launch_pixels_##suffix(int64_t n, int64_t channels, int64_t plane, const unsigned char *bytes,     \
                                       const int64_t *list, const double *mean, const double *std, void *x,        \
                                       cudaStream_t s);                                                            \
    /* rows_kernels.cu */                                                                                          \
    int di_cuda_launch_normalize_##suffix(int64_t M, int64_t C, const void *x, void *y, void *norms,               \
                                          cudaStream_t s);                                                         \
    int di_cuda_launch_normalize_backward_##suffix(int64_t M, int64_t C, const void *y, const void *norms,         \
                                                   const void *dy, void *dx, cudaStream_t s);                      \
    int di_cuda_launch_softmax_##suffix(int64_t M, int64_t C, double scale, int log_space, const void *x, void *y, \
                                        cudaStream_t s);                                                           \
    /* losses_kernels.cu; desc is the host's */                                                                    \
    int di_cuda_launch_loss_##suffix(const distac_loss_desc *desc, int64_t rows, int64_t classes,                  \
                                     const void *logits, const int64_t *labels, const int64_t *others,             \
                                     const double *lambda, double scale, void *gradient, di_row *results,          \
                                     cudaStream_t s);                                                              \
    int di_cuda_launch_loss_kd_##suffix(int64_t rows, int64_t classes, const void *teacher, const void *student,   \
                                        double t_teacher, double t_student, double scale, void *gradient,          \
                                        di_row *results, cudaStream_t s);                                          \
    int di_cuda_launch_loss_entropy_##suffix(int64_t rows, int64_t classes, const void *logits, double scale,      \
                                             void *gradient, di_row *results, cudaStream_t s);                     \
    /* vector_kernels.cu; rules are the host's. parts: 2 di_cuda_vector_pieces(n) doubles: first |theta -         \
     * theta0|^2 (and g += a (theta - theta0)) or 0, then |g|^2, or theta . g where theta0 alone is NULL */        \
    int di_cuda_launch_pieces_##suffix(int64_t n, double a, const void *theta, const void *theta0, void *g,        \
                                       double *parts, cudaStream_t s);                                             \
    int di_cuda_launch_adamw_##suffix(int64_t n, int64_t update, double rate, const di_adamw *rule, double factor, \
                                      const void *g, void *m, void *v, void *theta, cudaStream_t s);               \
    int di_cuda_launch_step_update_##suffix(int which, int64_t n, const di_adamw *rule, const void *g, void *m,    \
                                            void *v, void *theta, void *copy, const di_step *step,                 \
                                            cudaStream_t s);                                                       \
    int di_cuda_launch_nonfinite_##suffix(int64_t n, const void *x, unsigned long long *first, cudaStream_t s);    \
    int di_cuda_launch_square_##suffix(int64_t n, void *g, double *out, cudaStream_t s);                           \
    int di_cuda_launch_combine_##suffix(int64_t n, int models, const void *const *taus, const double *lambdas,     \
                                        const void *base, void *out, cudaStream_t s);
DI_NUMBERS(f32)
DI_NUMBERS(f64)
#undef DI_NUMBERS

/* vector_kernels.cu; start and rules are the host's */
int64_t di_cuda_vector_pieces(int64_t n);
int di_cuda_launch_sum_pieces(int64_t n, const double *parts, double factor, double *first, double *second,
                              cudaStream_t s);
int di_cuda_launch_step_begin(const di_step *start, di_step *step, cudaStream_t s);
int di_cuda_launch_step_rows(int64_t rows, const di_row *results, di_step *step, cudaStream_t s);
int di_cuda_launch_step_decide(int vectors, const di_adamw *rules, di_step *step, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
