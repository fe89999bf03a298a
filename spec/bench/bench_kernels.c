/* bench_kernels.c: how fast each float kernel is, beside what the processor can do in the same run: products and
 * attention against a loop of fused multiply-adds, the rest against a copy of the same number of bytes.
 *
 *   ninja -C build bench_kernels && build/spec/bench_kernels --peak [--bf16]   the limit alone
 *   bench_kernels [--bf16] [THREADS [KERNELS [WIDTH HEADS TOKENS BATCH]]]    defaults: 0 auto 128 4 17 128
 * --bf16: products of bfloat16, against pairs of them instead of multiply-adds.
 */
#include "bench.h"
#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static distac_context *context;
static const di_kernels *k;

/* ---- limits ---- */

typedef float lanes __attribute__((vector_size(64)));
#if defined(__clang__) /* takes the width from the vectors */
#define WIDE "avx512f"
#else
#define WIDE "avx512f,prefer-vector-width=512"
#endif
#if defined(__x86_64__)
#define BODY(name, isa)                                                                                           \
    __attribute__((target(isa), noinline)) static double name(int64_t turns) {                                    \
        lanes s[12], a = {0}, b = {0};                                                                            \
        for (int l = 0; l < 16; l++) a[l] = 1 + 1e-9f, b[l] = 1e-9f;                                              \
        for (int i = 0; i < 12; i++) s[i] = a;                                                                    \
        __asm__ volatile("" : "+v"(a), "+v"(b)); /* not constants to the compiler */                              \
        for (int64_t t = 0; t < turns; t++)                                                                       \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) s[i] = s[i] * a + b;                            \
        double sum = 0;                                                                                           \
        for (int i = 0; i < 12; i++)                                                                              \
            for (int l = 0; l < 16; l++) sum += (double)s[i][l];                                                  \
        return sum;                                                                                               \
    }
BODY(fma_avx512, WIDE)
#endif

static bool bf16;
#if defined(__x86_64__)
#define PAIR(i) __asm__("vdpbf16ps %1, %1, %0" : "+v"(s##i) : "v"(a));
__attribute__((target(WIDE), noinline)) static double pairs_avx512(int64_t turns) {
    lanes a = {0}, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a,
          s11 = a;
    for (int64_t t = 0; t < turns; t++) {
        PAIR(0) PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7) PAIR(8) PAIR(9) PAIR(10) PAIR(11)
    }
    lanes all = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
    return (double)all[0];
}
#endif

static volatile double sink;
static void peak_task(void *arg, int64_t i) {
    (void)i;
#if defined(__x86_64__)
    if (bf16 && __builtin_cpu_supports("avx512bf16")) sink = pairs_avx512(*(int64_t *)arg);
    else if (__builtin_cpu_supports("avx512f")) sink = fma_avx512(*(int64_t *)arg);
#else
    (void)arg;
#endif
}
/* Fused multiply-adds a second, in GF/s, over all threads: the best of half a second. */
static double peak(int32_t threads) {
    int64_t turns = 20000, tasks = 16 * (int64_t)threads; /* many: a thread that comes late is not missed */
    double best = 1e9, begin = now();
    while (now() - begin < 0.5) {
        double t = now();
        di_parallel(context, tasks, peak_task, &turns);
        t = now() - t;
        if (t < best) best = t;
    }
    return (double)tasks * (double)turns * 12 * 16 * (bf16 ? 4 : 2) / best / 1e9;
}

typedef struct copy_job {
    const char *from;
    char *to;
    size_t bytes;
} copy_job;
static void copy_task(void *arg, int64_t i) {
    const copy_job *j = arg;
    size_t first = (size_t)i * 65536, n = j->bytes - first < 65536 ? j->bytes - first : 65536;
    memcpy(j->to + first, j->from + first, n);
}

/* ---- measuring ---- */

enum { MOST = 16 };
static float *operand[MOST];
static int64_t held;

static float *fresh(int64_t n, float scale) {
    float *x = di_alloc(context, (size_t)n * sizeof *x);
    if (!x) exit(1);
    for (int64_t i = 0; i < n; i++) x[i] = scale * (float)((i * 7919) % 2003 - 1001) / 1001;
    operand[held++ % MOST] = x;
    return x;
}

typedef void (*action)(void);
static double seconds(action run) {
    double best = 1e9, begin = now();
    run();
    int64_t turns = 1;
    double once = now() - begin;
    while ((double)turns * once < 2e-3) turns *= 2;
    for (int r = 0; r < 12; r++) {
        double t = now();
        for (int64_t i = 0; i < turns; i++) run();
        t = (now() - t) / (double)turns;
        if (t < best) best = t;
    }
    return best;
}

static copy_job job;
static void copy(void) {
    di_parallel(context, (int64_t)((job.bytes + 65535) / 65536), copy_task, &job);
}
/* GB/s read and written by a copy that moves `bytes` in all. */
static double copy_speed(double bytes) {
    job.bytes = (size_t)bytes / 2 / 64 * 64 + 64;
    char *memory = di_alloc(context, 2 * job.bytes);
    if (!memory) exit(1);
    memset(memory, 1, 2 * job.bytes);
    job.from = memory;
    job.to = memory + job.bytes;
    double t = seconds(copy);
    di_free(context, memory, 2 * job.bytes);
    return (double)job.bytes * 2 / t / 1e9;
}

static double limit;
static void flops(const char *name, double count, action run) {
    double t = seconds(run);
    printf("%-34s %9.1f us %8.1f GF/s %6.1f %% of multiply-adds\n", name, t * 1e6, count / t / 1e9,
           100 * count / t / 1e9 / limit);
}
static void bytes(const char *name, double count, action run) {
    double t = seconds(run), c = copy_speed(count);
    printf("%-34s %9.1f us %8.1f GB/s %6.1f %% of a copy (%.1f GB/s)\n", name, t * 1e6, count / t / 1e9,
           100 * count / t / 1e9 / c, c);
}

/* ---- kernels ---- */

static int64_t W = 128, H = 4, N = 17, B = 128, M, n;
static float *x, *y, *z, *weight, *bias, *pre, *probs, *qkv, *dqkv, *mean, *rstd, *g, *m, *v;
static int64_t rows, columns, depth;
static double result, result2;

static void run_linear(void) {
    k->linear(context, rows, columns, depth, x, weight, bias, DI_ACT_NONE, NULL, NULL, y);
}
static void run_residual(void) {
    k->linear(context, rows, columns, depth, x, weight, bias, DI_ACT_NONE, NULL, y, y);
}
static void run_gelu(void) {
    k->linear(context, rows, columns, depth, x, weight, bias, DISTAC_ACT_GELU, pre, NULL, y);
}
static void run_quick(void) {
    k->linear(context, rows, columns, depth, x, weight, bias, DISTAC_ACT_QUICK_GELU, pre, NULL, y);
}
static void run_input(void) {
    k->linear_backward_input(context, rows, columns, depth, y, weight, DI_ACT_NONE, NULL, false, x);
}
static void run_input_gelu(void) {
    k->linear_backward_input(context, rows, columns, depth, y, weight, DISTAC_ACT_GELU, pre, false, x);
}
static void run_input_quick(void) {
    k->linear_backward_input(context, rows, columns, depth, y, weight, DISTAC_ACT_QUICK_GELU, pre, false, x);
}
static void run_weight(void) {
    k->linear_backward_weight(context, rows, columns, depth, x, y, weight, bias);
}
static void run_layernorm(void) {
    k->layernorm(context, M, W, x, W, weight, bias, y, mean, rstd);
}
static void run_layernorm_backward(void) {
    k->layernorm_backward(context, M, W, x, W, weight, mean, rstd, y, true, z, bias, pre);
}
static void run_attention(void) {
    k->attention(context, B, N, W, H, qkv, probs, y);
}
static void run_attention_infer(void) {
    k->attention(context, B, N, W, H, qkv, NULL, y);
}
static void run_attention_backward(void) {
    k->attention_backward(context, B, N, W, H, qkv, probs, y, y, dqkv);
}
static void run_patches(void) {
    k->patches(context, B, 3, 28, 7, x, y);
}
static void run_tokens(void) {
    k->tokens(context, B, N, W, x, weight, pre, y);
}
static void run_tokens_backward(void) {
    k->tokens_backward(context, B, N, W, y, x, weight, pre);
}
static void run_softmax(void) {
    k->softmax(context, M, 100, 1, false, x, y);
}
static void run_log_softmax(void) {
    k->softmax(context, M, 100, 1, true, x, y);
}
static void run_normalize(void) {
    k->normalize(context, M, W, x, y, mean);
}
static void run_axpby(void) {
    k->axpby(context, n, 0.5, x, 0.5, g);
}
static void run_sumsq(void) {
    k->sumsq(context, n, g, &result);
}
static void run_dot(void) {
    k->dot(context, n, g, x, &result);
}
static void run_anchor(void) {
    k->anchor(context, n, 1e-9, x, z, g, &result, &result2);
}
static void run_adamw(void) {
    k->adamw(context, n, 10, 1e-5, 0.9, 0.999, 1e-8, 0.1, false, 1, g, m, v, x);
}
static void run_nothing_task(void *arg, int64_t i) {
    (void)arg, (void)i;
}
static void run_nothing(void) {
    di_parallel(context, 34, run_nothing_task, NULL);
}

static void layer(const char *name, int64_t out, int64_t in) {
    char text[64];
    double count = 2.0 * (double)M * (double)out * (double)in;
    rows = M, columns = out, depth = in;
    snprintf(text, sizeof text, "%s %lldx%lldx%lld", name, (long long)M, (long long)out, (long long)in);
    flops(text, count, run_linear);
    if (out == W) flops("  with residual", count, run_residual);
    if (out > 3 * W) flops("  with GELU", count, run_gelu), flops("  with QuickGELU", count, run_quick);
    memset(y, 0, (size_t)(M * out) * 4); /* gradients that do not grow from run to run */
    flops("  input gradient", count, run_input);
    if (in > W) flops("  with GELU", count, run_input_gelu), flops("  with QuickGELU", count, run_input_quick);
    flops("  weight gradient", count, run_weight);
    for (int64_t i = 0; i < M * in; i++) x[i] = (float)(i % 17 - 8) / 8;
    for (int64_t i = 0; i < out * in; i++) weight[i] = (float)(i % 13 - 6) / 60;
}

int main(int argc, char **argv) {
    bool only_peak = argc > 1 && strcmp(argv[1], "--peak") == 0;
    if (only_peak) argc--, argv++;
    bf16 = argc > 1 && strcmp(argv[1], "--bf16") == 0;
    if (bf16) argc--, argv++;
    distac_context_desc desc = {.threads = argc > 1 ? atoi(argv[1]) : 0, .kernels = argc > 2 ? argv[2] : "auto",
                                .products = bf16 ? "bf16" : "f32"};
    if (distac_context_create(&desc, &context) != DISTAC_OK)
        return fprintf(stderr, "%s\n", distac_last_error()), 1;
    if (argc > 6) W = atoll(argv[3]), H = atoll(argv[4]), N = atoll(argv[5]), B = atoll(argv[6]);
    k = di_kernels_for_models(context, DISTAC_F32);
    distac_context_info info;
    distac_context_get_info(context, &info);
    limit = peak(info.threads);
    M = B * N;
    n = 12 * W * W * 4;
    printf("%s, %d threads, width %lld, heads %lld, tokens %lld, batch %lld\n", k->name, (int)info.threads,
           (long long)W, (long long)H, (long long)N, (long long)B);
    printf("%-34s %21.1f GF/s\n", bf16 ? "multiply-adds (AVX-512, bfloat16)" : "multiply-adds (AVX-512)", limit);
    if (only_peak) return distac_context_release(context), 0;
    printf("%-34s %9.2f us\n", "34 empty tiles", seconds(run_nothing) * 1e6);
    int64_t big = M * 4 * W > n ? M * 4 * W : n;
    x = fresh(big, 1), y = fresh(big, 1), z = fresh(big, 1), pre = fresh(big, 2), g = fresh(big, 1);
    m = fresh(n, 1e-3f), v = fresh(n, 0), weight = fresh(4 * W * W, 0.1f), bias = fresh(4 * W, 0.1f);
    qkv = fresh(M * 3 * W, 1), dqkv = fresh(M * 3 * W, 1), probs = fresh(B * H * N * N, 1);
    mean = fresh(M, 1), rstd = fresh(M, 1);
    for (int64_t i = 0; i < n; i++) v[i] = 1e-4f;

    layer("qkv", 3 * W, W);
    layer("projection", W, W);
    layer("up", 4 * W, W);
    layer("down", W, 4 * W);
    double a = 4.0 * (double)B * (double)N * (double)N * (double)W, rw = (double)M * (double)W * 4;
    flops("attention", a, run_attention);
    flops("  without keeping probabilities", a, run_attention_infer);
    run_attention();
    flops("  gradient", 2 * a, run_attention_backward);
    bytes("LayerNorm", 2 * rw, run_layernorm);
    bytes("  gradient", 4 * rw, run_layernorm_backward);
    bytes("tokens", 2 * rw, run_tokens);
    bytes("  gradient", 2 * rw, run_tokens_backward);
    if (M * 4 * W >= B * 3 * 28 * 28) bytes("patches 3x28x28 by 7", (double)B * 3 * 28 * 28 * 8, run_patches);
    bytes("normalize", 2 * rw, run_normalize);
    bytes("softmax, 100 columns", (double)M * 800, run_softmax);
    bytes("  logarithm", (double)M * 800, run_log_softmax);
    double e = (double)n * 4;
    bytes("axpby", 3 * e, run_axpby);
    bytes("sumsq", e, run_sumsq);
    bytes("dot", 2 * e, run_dot);
    bytes("anchor", 4 * e, run_anchor);
    bytes("AdamW", 7 * e, run_adamw);
    (void)operand;
    distac_context_release(context);
    return 0;
}
