/* layers.c: the entries of the table that make up an encoder besides its products: LayerNorm, attention, embedding. */
#include "entries.h"
#include "kernels.h"

/* A launch as a status. */
#define LAUNCH(what, call) di_cuda_check(c, what, (call))

/* Heads may be as wide as the shared memory of a block allows. */
static distac_status check_head(const char *what, int64_t W, int64_t H, int64_t widest) {
    if (W / H <= widest) return DISTAC_OK;
    return di_fail_at(DISTAC_EUNSUPPORTED, what, "attention heads are %lld wide, on a CUDA device the most is %lld",
                      (long long)(W / H), (long long)widest);
}

#define ENTRIES(suffix, P)                                                                                         \
    distac_status di_cuda_layernorm_##suffix(distac_context *c, int64_t M, int64_t C, const void *x,               \
                                             int64_t x_stride, const void *gamma, const void *beta, void *y,       \
                                             void *mean, void *rstd) {                                             \
        DI_CUDA_BEGIN(c, "layernorm");                                                                             \
        if (M == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("layernorm", di_cuda_launch_layernorm_##suffix(M, C, x, x_stride, gamma, beta, y, mean,      \
                                                                     rstd, cuda->stream));                         \
    }                                                                                                              \
    distac_status di_cuda_layernorm_backward_##suffix(                                                             \
        distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride, const void *gamma,               \
        const void *mean, const void *rstd, const void *dy, bool accumulate, void *dx, void *dgamma,               \
        void *dbeta) {                                                                                             \
        DI_CUDA_BEGIN(c, "layernorm_backward");                                                                    \
        void *parts = NULL;                                                                                        \
        if (M == 0) return DISTAC_OK;                                                                              \
        if (dgamma || dbeta)                                                                                       \
            DI_TRY(di_cuda_scratch(c, (size_t)(2 * C * di_cuda_norm_pieces(M)) * sizeof(P), &parts));              \
        return LAUNCH("layernorm_backward",                                                                        \
                      di_cuda_launch_layernorm_backward_##suffix(M, C, x, x_stride, gamma, mean, rstd, dy,         \
                                                                 accumulate, dx, parts, dgamma, dbeta,             \
                                                                 cuda->stream));                                   \
    }                                                                                                              \
    distac_status di_cuda_patches_##suffix(distac_context *c, int64_t B, int64_t C, int64_t S, int64_t p,          \
                                           const void *images, void *patches) {                                    \
        DI_CUDA_BEGIN(c, "patches");                                                                               \
        if (B == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("patches", di_cuda_launch_patches_##suffix(B, C, S, p, images, patches, cuda->stream));      \
    }                                                                                                              \
    distac_status di_cuda_tokens_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,                      \
                                          const void *embedded, const void *cls, const void *pos, void *x) {       \
        DI_CUDA_BEGIN(c, "tokens");                                                                                \
        if (B == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("tokens", di_cuda_launch_tokens_##suffix(B, N, W, embedded, cls, pos, x, cuda->stream));     \
    }                                                                                                              \
    distac_status di_cuda_tokens_backward_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,             \
                                                   const void *dx, void *dembedded, void *dcls, void *dpos) {      \
        DI_CUDA_BEGIN(c, "tokens_backward");                                                                       \
        return LAUNCH("tokens_backward", di_cuda_launch_tokens_backward_##suffix(B, N, W, dx, dembedded, dcls,     \
                                                                                 dpos, cuda->stream));             \
    }                                                                                                              \
    distac_status di_cuda_rows_first_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W, const void *x,   \
                                              void *first) {                                                       \
        DI_CUDA_BEGIN(c, "rows_first");                                                                            \
        if (B == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("rows_first", di_cuda_launch_rows_first_##suffix(B, N, W, x, first, cuda->stream));          \
    }                                                                                                              \
    distac_status di_cuda_rows_first_backward_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,         \
                                                       const void *dfirst, void *dx) {                             \
        DI_CUDA_BEGIN(c, "rows_first_backward");                                                                   \
        if (B == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("rows_first_backward",                                                                       \
                      di_cuda_launch_rows_first_backward_##suffix(B, N, W, dfirst, dx, cuda->stream));             \
    }
ENTRIES(f32, float)
ENTRIES(f64, double)
ENTRIES(narrow, float)

#define ATTENTION(suffix, P, widest)                                                                               \
    distac_status di_cuda_attention_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,        \
                                             const void *qkv, void *kept, void *out) {                             \
        DI_CUDA_BEGIN(c, "attention");                                                                             \
        DI_TRY(check_head("attention", W, H, widest));                                                             \
        if (B * N == 0) return DISTAC_OK;                                                                          \
        return LAUNCH("attention",                                                                                 \
                      di_cuda_launch_attention_##suffix(B, N, W, H, 0, qkv, kept, out, cuda->stream));             \
    }                                                                                                              \
    distac_status di_cuda_attention_causal_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, \
                                                    const void *qkv, void *out) {                                  \
        DI_CUDA_BEGIN(c, "attention_causal");                                                                      \
        DI_TRY(check_head("attention_causal", W, H, widest));                                                      \
        if (B * N == 0) return DISTAC_OK;                                                                          \
        return LAUNCH("attention_causal",                                                                          \
                      di_cuda_launch_attention_##suffix(B, N, W, H, 1, qkv, NULL, out, cuda->stream));             \
    }                                                                                                              \
    distac_status di_cuda_attention_backward_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,          \
                                                      int64_t H, const void *qkv, const void *kept,                \
                                                      const void *out, const void *dout, void *dqkv) {             \
        DI_CUDA_BEGIN(c, "attention_backward");                                                                    \
        void *delta;                                                                                               \
        DI_TRY(check_head("attention_backward", W, H, widest));                                                    \
        if (B * N == 0) return DISTAC_OK;                                                                          \
        DI_TRY(di_cuda_scratch(c, (size_t)(B * H * N) * sizeof(P), &delta));                                       \
        return LAUNCH("attention_backward",                                                                        \
                      di_cuda_launch_attention_backward_##suffix(B, N, W, H, qkv, kept, out, dout, delta, dqkv,    \
                                                                 cuda->stream));                                   \
    }
ATTENTION(f32, float, 256)
ATTENTION(f64, double, 128)
