/* kernels.h: the kernels of one instruction set and one element type, for table.c. The comments are in
 * backend.h. Included once per element type, hence no guard. */
distac_status NAME(gemm)(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                         double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
                         void *C, int64_t ldc);
distac_status NAME(linear)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x, const void *weight,
                           const void *bias, int32_t act, void *pre, const void *residual, void *y);
distac_status NAME(linear_backward_input)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                          const void *weight, int32_t act, const void *pre, bool accumulate,
                                          void *dx);
distac_status NAME(linear_backward_weight)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                           const void *dy, void *dweight, void *dbias);
#if DI_REAL == 32 /* factors rounded to bfloat16 */
distac_status NAME(linear_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                const void *weight, const void *bias, int32_t act, void *pre, const void *residual,
                                void *y);
distac_status NAME(linear_backward_input_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                          const void *weight, int32_t act, const void *pre, bool accumulate,
                                          void *dx);
distac_status NAME(linear_backward_weight_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                           const void *dy, void *dweight, void *dbias);
#endif
distac_status NAME(layernorm)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                              const void *gamma, const void *beta, void *y, void *mean, void *rstd);
distac_status NAME(layernorm_backward)(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                                       const void *gamma, const void *mean, const void *rstd, const void *dy,
                                       bool accumulate, void *dx, void *dgamma, void *dbeta);
distac_status NAME(attention)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads, const void *qkv,
                              void *probs, void *out);
distac_status NAME(attention_causal)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                     const void *qkv, void *out);
distac_status NAME(attention_first)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                    const void *x, const void *weight, const void *bias, void *out);
distac_status NAME(attention_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                       const void *qkv, const void *probs, const void *out, const void *dout,
                                       void *dqkv);
distac_status NAME(patches)(distac_context *c, int64_t B, int64_t C, int64_t S, int64_t p, const void *images,
                            void *patches);
distac_status NAME(tokens)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *embedded,
                           const void *cls, const void *pos, void *x);
distac_status NAME(tokens_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, const void *dx,
                                    void *dembedded, void *dcls, void *dpos);
distac_status NAME(normalize)(distac_context *c, int64_t M, int64_t C, const void *x, void *y, void *norms);
distac_status NAME(normalize_backward)(distac_context *c, int64_t M, int64_t C, const void *y, const void *norms,
                                       const void *dy, void *dx);
distac_status NAME(softmax)(distac_context *c, int64_t M, int64_t C, double scale, bool log_space, const void *x,
                            void *y);
distac_status NAME(axpby)(distac_context *c, int64_t n, double a, const void *x, double b, void *y);
distac_status NAME(sumsq)(distac_context *c, int64_t n, const void *x, double *out);
distac_status NAME(dot)(distac_context *c, int64_t n, const void *x, const void *y, double *out);
distac_status NAME(anchor)(distac_context *c, int64_t n, double beta, const void *theta, const void *theta0,
                           void *g, double *anchor, double *sumsq);
distac_status NAME(adamw)(distac_context *c, int64_t n, int64_t t, double lr, double beta1, double beta2,
                          double eps, double weight_decay, bool coupled, double grad_scale, const void *g, void *m,
                          void *v, void *theta);
distac_status NAME(attend)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads, const di_half *p,
                           void *x);
distac_status NAME(mlp)(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act, const di_half *p,
                        void *x);
#if DI_REAL == 32
distac_status NAME(attend_bf16)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                const di_half *p, void *x);
distac_status NAME(mlp_bf16)(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act,
                             const di_half *p, void *x);
#endif
