/* narrow.c: entries of the table in bfloat16 that are more than one kernel: attention, whose heads may be none for the
 * tensor cores, and the features' way out, where everything is float again. */
#include "arrays_launch.h"
#include "entries.h"
#include "kernels.h"

#define LAUNCH(what, call) di_cuda_check(c, what, (call))

enum { FLOAT = (int)sizeof(float) };

/* Rows of floats in scratch, for arrays that wait in bfloat16. */
static distac_status widen(distac_context *c, const char *what, int64_t n, const void *from, float *to) {
    return LAUNCH(what, di_cuda_launch_convert(n, DISTAC_BF16, from, DISTAC_F32, to, di_cuda_of(c)->stream));
}
static distac_status round_off(distac_context *c, const char *what, int64_t n, const float *from, void *to) {
    return LAUNCH(what, di_cuda_launch_convert(n, DISTAC_F32, from, DISTAC_BF16, to, di_cuda_of(c)->stream));
}

static distac_status room(distac_context *c, int64_t floats, float **out) {
    void *memory;
    DI_TRY(di_cuda_scratch(c, (size_t)floats * FLOAT, &memory));
    *out = memory;
    return DISTAC_OK;
}

static distac_status check_head(const char *what, int64_t W, int64_t H) {
    enum { WIDEST = 256 };
    if (W / H <= WIDEST) return DISTAC_OK;
    return di_fail_at(DISTAC_EUNSUPPORTED, what, "attention heads are %lld wide, on a CUDA device the most is %d",
                      (long long)(W / H), WIDEST);
}

distac_status di_cuda_attention_narrow(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,
                                       void *kept, void *out) {
    static const char what[] = "attention";
    DI_CUDA_BEGIN(c, what);
    if (B * N == 0) return DISTAC_OK;
    if (di_cuda_attention_fits_narrow(N, W, H))
        return LAUNCH(what, di_cuda_launch_attention_narrow(B, N, W, H, 0, qkv, kept, out, cuda->stream));
    float *wide, *result;
    int64_t n = B * N * W;
    DI_TRY(check_head(what, W, H));
    DI_TRY(room(c, 4 * n, &wide));
    result = wide + 3 * n;
    DI_TRY(widen(c, what, 3 * n, qkv, wide));
    DI_TRY(LAUNCH(what, di_cuda_launch_attention_f32(B, N, W, H, 0, wide, kept, result, cuda->stream)));
    return round_off(c, what, n, result, out);
}

distac_status di_cuda_attention_backward_narrow(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                                const void *qkv, const void *kept, const void *out, const void *dout,
                                                void *dqkv) {
    static const char what[] = "attention_backward";
    DI_CUDA_BEGIN(c, what);
    if (B * N == 0) return DISTAC_OK;
    float *delta, *wide;
    int64_t n = B * N * W;
    bool fits = di_cuda_attention_fits_narrow(N, W, H);
    if (!fits) DI_TRY(check_head(what, W, H));
    DI_TRY(room(c, (fits ? 0 : 8 * n) + B * H * N, &wide));
    delta = wide + (fits ? 0 : 8 * n);
    if (fits)
        return LAUNCH(what, di_cuda_launch_attention_backward_narrow(B, N, W, H, qkv, kept, out, dout, delta, dqkv,
                                                                     cuda->stream));
    float *wide_out = wide + 3 * n, *wide_dout = wide + 4 * n, *result = wide + 5 * n;
    DI_TRY(widen(c, what, 3 * n, qkv, wide));
    DI_TRY(widen(c, what, n, out, wide_out));
    DI_TRY(widen(c, what, n, dout, wide_dout));
    DI_TRY(LAUNCH(what, di_cuda_launch_attention_backward_f32(B, N, W, H, wide, kept, wide_out, wide_dout, delta,
                                                              result, cuda->stream)));
    return round_off(c, what, 3 * n, result, dqkv);
}

distac_status di_cuda_project_narrow(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,
                                     const void *proj, void *y) {
    float *wide;
    DI_TRY(di_cuda_begin(c, "project"));
    if (B == 0) return DISTAC_OK;
    DI_TRY(room(c, B * W, &wide));
    DI_TRY(widen(c, "project", B * W, x, wide));
    return di_cuda_project_f32(c, B, D, W, wide, proj, y);
}

distac_status di_cuda_project_backward_narrow(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,
                                              const void *proj, const void *dy, void *dx, void *dproj) {
    float *wide;
    DI_TRY(di_cuda_begin(c, "project"));
    if (B == 0) return DISTAC_OK;
    DI_TRY(room(c, 2 * B * W, &wide));
    DI_TRY(widen(c, "project", B * W, x, wide));
    DI_TRY(di_cuda_project_backward_f32(c, B, D, W, wide, proj, dy, wide + B * W, dproj));
    return round_off(c, "project", B * W, wide + B * W, dx);
}
