/* bench_pass.c: where the time of a pass of CLIP's ViT-B/32 at batch 32 goes: every kernel at every shape, its
 * share of the pass and what it reaches of the processor's peak of multiply-adds, measured inside passes, with
 * weights that come from memory and activations that the kernel before has left.
 *
 *   ninja -C build bench_pass && build/spec/bench_pass [--bf16] [--train] [THREADS [KERNELS [PASSES]]]
 * Defaults: 0 auto 8. --train: forward with everything kept, and backward.
 */
#include "bench.h"
#include "nn/nn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what was measured ---- */

enum { ROWS = 64 };
static struct row {
    char name[72];
    double seconds, flops;
    int64_t calls;
} row[ROWS]; /* of the pass under way */
static int used;

static void note(double begin, double flops, const char *name, int64_t M, int64_t N, int64_t K) {
    double t = now() - begin;
    char text[72];
    if (K) snprintf(text, sizeof text, "%s %lldx%lldx%lld", name, (long long)M, (long long)N, (long long)K);
    else snprintf(text, sizeof text, "%s %lldx%lld", name, (long long)M, (long long)N);
    int i = 0;
    while (i < used && strcmp(row[i].name, text) != 0) i++;
    if (i == ROWS) return;
    if (i == used) row[used++] = (struct row){.calls = 0}, memcpy(row[i].name, text, sizeof text);
    row[i].seconds += t;
    row[i].flops += flops;
    row[i].calls++;
}

/* ---- the table whose entries take the time ---- */

static const di_kernels *k;

#define TIMED(call, flops, name, M, N, K)                                                                         \
    double begin = now();                                                                                         \
    distac_status status = k->call;                                                                               \
    note(begin, flops, name, M, N, K);                                                                            \
    return status

static double product(int64_t M, int64_t N, int64_t K) { return 2.0 * (double)M * (double)N * (double)K; }

static distac_status gemm(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
                          void *C, int64_t ldc) {
    TIMED(gemm(c, trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc), product(M, N, K), "product", M,
          N, K);
}
static distac_status linear(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x, const void *weight,
                            const void *bias, int32_t act, void *pre, const void *residual, void *y) {
    const char *name = act != DI_ACT_NONE ? "linear, activation" : residual ? "linear, residual" : "linear";
    TIMED(linear(c, M, N, K, x, weight, bias, act, pre, residual, y), product(M, N, K), name, M, N, K);
}
static distac_status linear_input(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                  const void *weight, int32_t act, const void *pre, bool accumulate, void *dx) {
    TIMED(linear_backward_input(c, M, N, K, dy, weight, act, pre, accumulate, dx), product(M, N, K),
          "gradient of input", M, N, K);
}
static distac_status linear_weight(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                   const void *dy, void *dweight, void *dbias) {
    TIMED(linear_backward_weight(c, M, N, K, x, dy, dweight, dbias), product(M, N, K), "gradient of weight", M, N,
          K);
}
static distac_status layernorm(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                               const void *gamma, const void *beta, void *y, void *mean, void *rstd) {
    TIMED(layernorm(c, M, C, x, x_stride, gamma, beta, y, mean, rstd), 0, "LayerNorm", M, C, 0);
}
static distac_status layernorm_backward(distac_context *c, int64_t M, int64_t C, const void *x, int64_t x_stride,
                                        const void *gamma, const void *mean, const void *rstd, const void *dy,
                                        bool accumulate, void *dx, void *dgamma, void *dbeta) {
    TIMED(layernorm_backward(c, M, C, x, x_stride, gamma, mean, rstd, dy, accumulate, dx, dgamma, dbeta), 0,
          "gradient of LayerNorm", M, C, 0);
}
static distac_status attention(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *qkv,
                               void *probs, void *out) {
    TIMED(attention(c, B, N, W, H, qkv, probs, out), 2 * product(B * N, N, W), "attention", B, N, W);
}
static distac_status attention_first(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const void *x,
                                     const void *weight, const void *bias, void *out) {
    TIMED(attention_first(c, B, N, W, H, x, weight, bias, out), 0, "attention of class tokens", B, W, 0);
}
static distac_status attention_backward(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H,
                                        const void *qkv, const void *kept, const void *out, const void *dout,
                                        void *dqkv) {
    TIMED(attention_backward(c, B, N, W, H, qkv, kept, out, dout, dqkv), 4 * product(B * N, N, W),
          "gradient of attention", B, N, W);
}
static distac_status mlp(distac_context *c, int64_t M, int64_t W, int64_t hidden, int32_t act, const di_half *p,
                         void *x) {
    TIMED(mlp(c, M, W, hidden, act, p, x), 2 * product(M, W, hidden), "MLP with LayerNorm and residual", M, hidden,
          W);
}
static distac_status attend(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t H, const di_half *p,
                            void *x) {
    TIMED(attend(c, B, N, W, H, p, x), product(B * N, 4 * W, W) + 2 * product(B * N, N, W), "attention, all of it",
          B, N, W);
}
static distac_status patches(distac_context *c, int64_t B, int64_t C, int64_t S, int64_t p, const void *images,
                             void *out) {
    TIMED(patches(c, B, C, S, p, images, out), 0, "patches", B, C * S * S, 0);
}
static distac_status tokens(distac_context *c, int64_t B, int64_t N, int64_t W, const void *embedded,
                            const void *cls, const void *pos, void *x) {
    TIMED(tokens(c, B, N, W, embedded, cls, pos, x), 0, "tokens", B * N, W, 0);
}
static distac_status tokens_backward(distac_context *c, int64_t B, int64_t N, int64_t W, const void *dx,
                                     void *dembedded, void *dcls, void *dpos) {
    TIMED(tokens_backward(c, B, N, W, dx, dembedded, dcls, dpos), 0, "gradient of tokens", B * N, W, 0);
}

/* ---- the peak ---- */

#if defined(__x86_64__)
typedef float lanes __attribute__((vector_size(64)));
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define ADD(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(s##i) : "v"(a));
#define PAIR(i) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(s##i) : "v"(a));
#define BODY(name, ONE)                                                                                           \
    __attribute__((target("avx512f"), noinline)) static void name(int64_t turns) {                                \
        lanes a = {0}, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a,   \
              s11 = a;                                                                                            \
        for (int64_t t = 0; t < turns; t++) {                                                                     \
            TWELVE(ONE)                                                                                           \
        }                                                                                                         \
    }
BODY(adds, ADD)
BODY(pairs, PAIR)
#endif
static bool bf16;
static void peak_task(void *arg, int64_t i) {
    (void)i, (void)arg;
#if defined(__x86_64__)
    if (bf16) pairs(*(int64_t *)arg);
    else adds(*(int64_t *)arg);
#endif
}
/* Multiply-adds of 64-byte registers in GF/s over all threads; 0: this processor has none. */
static double peak(distac_context *context, int32_t threads) {
    double best = 1e9, begin = now();
    int64_t turns = 20000, tasks = 16 * (int64_t)threads;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx512f") || (bf16 && !__builtin_cpu_supports("avx512bf16"))) return 0;
#else
    return 0;
#endif
    while (now() - begin < 0.5) {
        double t = now();
        di_parallel(context, tasks, peak_task, &turns);
        t = now() - t;
        if (t < best) best = t;
    }
    return (double)tasks * (double)turns * 12 * 16 * (bf16 ? 4 : 2) / best / 1e9;
}

int main(int argc, char **argv) {
    bool train = false;
    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (strcmp(argv[1], "--bf16") == 0) bf16 = true;
        else if (strcmp(argv[1], "--train") == 0) train = true;
        else return fprintf(stderr, "there is no %s, choose --bf16 or --train\n", argv[1]), 2;
    }
    distac_context *context;
    distac_vit *vit;
    const distac_vit_config config = {.image = 224, .patch = 32, .channels = 3, .width = 768, .layers = 12,
                                      .heads = 12, .mlp = 3072, .dim = 512, .activation = DISTAC_ACT_QUICK_GELU};
    distac_context_desc desc = {.threads = argc > 1 ? atoi(argv[1]) : 0, .kernels = argc > 2 ? argv[2] : "auto",
                                .products = bf16 ? "bf16" : "f32"};
    int passes = argc > 3 ? atoi(argv[3]) : 8;
    if (distac_context_create(&desc, &context) != DISTAC_OK ||
        distac_vit_create(context, &config, DISTAC_F32, &vit) != DISTAC_OK || distac_vit_init(vit, 1) != DISTAC_OK)
        return fprintf(stderr, "%s\n", distac_last_error()), 1;
    const int64_t B = 32, pixels = B * 3 * 224 * 224, count = di_vit_params_total(vit);
    float *images = di_alloc(context, (size_t)pixels * 4), *features = di_alloc(context, (size_t)B * 512 * 4);
    float *grads = di_alloc_zeroed(context, (size_t)count * 4);
    if (!images || !features || !grads) return 1;
    for (int64_t i = 0; i < pixels; i++) images[i] = (float)((i * 7919) % 2003 - 1001) / 600;

    k = vit->kernels;
    di_kernels timed = *k;
    timed.gemm = gemm, timed.linear = linear, timed.linear_backward_input = linear_input;
    timed.linear_backward_weight = linear_weight, timed.layernorm = layernorm;
    timed.layernorm_backward = layernorm_backward, timed.attention = attention;
    if (k->attention_first) timed.attention_first = attention_first;
    if (k->mlp) timed.mlp = mlp;
    if (k->attend) timed.attend = attend;
    timed.attention_backward = attention_backward, timed.patches = patches, timed.tokens = tokens;
    timed.tokens_backward = tokens_backward;
    vit->kernels = &timed;

    distac_context_info info;
    distac_context_get_info(context, &info);
    double limit = peak(context, info.threads), least = 1e9, work = 0, named = 0;
    struct row best[ROWS];
    int best_used = 0;
    for (int pass = -1; pass < passes; pass++) { /* the quickest pass is shown, the first one warms up */
        used = 0;
        double begin = now();
        distac_status status =
            train ? di_vit_forward(vit, B, images, features) : di_vit_infer(vit, B, images, features);
        if (train && status == DISTAC_OK) status = di_vit_backward(vit, features, grads);
        double t = now() - begin;
        if (status != DISTAC_OK) return fprintf(stderr, "%s\n", distac_last_error()), 1;
        if (pass < 0 || t >= least) continue;
        least = t, best_used = used;
        memcpy(best, row, sizeof row);
    }
    printf("%s, %d threads, ViT-B/32, batch 32, %s: %.1f ms, peak %.0f GF/s\n", k->name, (int)info.threads,
           train ? "forward and backward" : "forward", least * 1e3, limit);
    printf("%-44s %5s %9s %7s %9s %7s\n", "", "calls", "ms", "share", "GF/s", "of peak");
    for (int i = 0; i < best_used; i++) {
        const struct row *r = &best[i];
        named += r->seconds, work += r->flops;
        printf("%-44s %5lld %9.2f %5.1f %%", r->name, (long long)r->calls, r->seconds * 1e3,
               100 * r->seconds / least);
        if (r->flops > 0)
            printf(" %9.1f %5.1f %%", r->flops / r->seconds / 1e9, 100 * r->flops / r->seconds / 1e9 / limit);
        printf("\n");
    }
    printf("%-44s %5s %9.2f %5.1f %%\n", "between the kernels", "", (least - named) * 1e3,
           100 * (least - named) / least);
    printf("%-44s %5s %9.2f %5.1f %% %9.1f %5.1f %%\n", "all", "", least * 1e3, 100.0, work / least / 1e9,
           100 * work / least / 1e9 / limit);
    di_free(context, images, (size_t)pixels * 4);
    di_free(context, features, (size_t)B * 512 * 4);
    di_free(context, grads, (size_t)count * 4);
    vit->kernels = k;
    distac_vit_release(vit);
    distac_context_release(context);
    return 0;
}
