/* kernel_reference.h: for the tests of the kernels: arrays of either type with guard words around them, and what
 * the kernels compute written down naively, in double. */
#ifndef KERNEL_REFERENCE_H
#define KERNEL_REFERENCE_H

#include "backend/backend.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
/* The call of a kernel: where the table is a device's, the arrays of the case lie there while it runs. */
#define OK(call)                                                                                                \
    do {                                                                                                        \
        to_device();                                                                                            \
        int ok_status = (call);                                                                                 \
        if (ok_status != DISTAC_OK) print_message("%s\n", distac_last_error());                                 \
        assert_int_equal(ok_status, DISTAC_OK);                                                                 \
        from_device();                                                                                          \
    } while (0)

enum { GUARD = 64, MOST_ARRAYS = 64 };

/* `want` is what the array should hold, in double; `data` is what the kernel sees, `host` what the test does: the
 * same but for a device, whose memory is `there`. */
typedef struct array {
    int64_t n;
    double *want;
    unsigned char *memory, *there;
    void *data, *host;
    size_t bytes; /* with guards */
} array;

/* A table under test, the arrays of the running case, and a digest of all its outputs. */
typedef struct world {
    distac_context *context;
    const di_kernels *k;
    bool f64;
    double tolerance;
    const char *what; /* for messages */
    uint64_t digest, seed;
    array arrays[MOST_ARRAYS];
    int count;
} world;
static world *running; /* on a device, else NULL */

static inline void to_device(void) {
    for (int i = 0; running && i < running->count; i++) {
        const array *a = &running->arrays[i];
        assert_int_equal(di_there_put(running->context, a->there, a->memory, a->bytes), DISTAC_OK);
    }
}
static inline void from_device(void) {
    for (int i = 0; running && i < running->count; i++) {
        const array *a = &running->arrays[i];
        assert_int_equal(di_there_get(running->context, a->memory, a->there, a->bytes), DISTAC_OK);
    }
}

static inline double get(const world *w, const array *a, int64_t i) {
    return w->f64 ? ((const double *)a->host)[i] : (double)((const float *)a->host)[i];
}
static inline void put(const world *w, array *a, int64_t i, double value) {
    if (w->f64)
        ((double *)a->host)[i] = value;
    else
        ((float *)a->host)[i] = (float)value;
}
static inline array *make(world *w, int64_t n) {
    assert_true(w->count < MOST_ARRAYS);
    array *a = &w->arrays[w->count++];
    size_t bytes = (size_t)n * (w->f64 ? 8 : 4);
    a->n = n;
    a->want = calloc((size_t)n + 1, sizeof(double));
    a->memory = malloc(bytes + 2 * GUARD);
    assert_non_null(a->want);
    assert_non_null(a->memory);
    memset(a->memory, 0xA5, bytes + 2 * GUARD);
    a->data = a->host = a->memory + GUARD;
    a->bytes = bytes + 2 * GUARD;
    a->there = NULL;
    if (running) {
        a->there = di_there_alloc(w->context, a->bytes);
        assert_non_null(a->there);
        a->data = a->there + GUARD;
    }
    return a;
}
/* Numbers around 0, rounded to the type, so that the reference sees what the kernel sees. */
static inline array *input(world *w, int64_t n) {
    array *a = make(w, n);
    for (int64_t i = 0; i < n; i++) {
        w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
        put(w, a, i, ((double)(w->seed >> 40) / 16777216.0 - 0.5) * 3);
        a->want[i] = get(w, a, i);
    }
    return a;
}
/* To be overwritten: holds NaN. */
static inline array *output(world *w, int64_t n) {
    array *a = make(w, n);
    for (int64_t i = 0; i < n; i++) put(w, a, i, NAN);
    return a;
}
static inline void forget(world *w) {
    for (int i = 0; i < w->count; i++) {
        free(w->arrays[i].want);
        free(w->arrays[i].memory);
        if (running) di_there_free(w->context, w->arrays[i].there, w->arrays[i].bytes);
    }
    w->count = 0;
}
/* All arrays hold what they should, up to tolerance * (1 + |want|) * growth, and their guards are whole. Frees
 * them. */
static inline void check(world *w, double growth) {
    for (int q = 0; q < w->count; q++) {
        const array *a = &w->arrays[q];
        size_t bytes = (size_t)a->n * (w->f64 ? 8 : 4);
        for (size_t i = 0; i < GUARD; i++)
            if (a->memory[i] != 0xA5 || a->memory[GUARD + bytes + i] != 0xA5)
                fail_msg("%s, %s: array %d is written outside", w->k->name, w->what, q);
        for (int64_t i = 0; i < a->n; i++) {
            double error = fabs(get(w, a, i) - a->want[i]);
            if (!(error <= w->tolerance * growth * (1 + fabs(a->want[i]))))
                fail_msg("%s, %s: array %d[%lld of %lld] is %.12g, not %.12g", w->k->name, w->what, q,
                         (long long)i, (long long)a->n, get(w, a, i), a->want[i]);
        }
        for (size_t i = 0; i < bytes; i++) w->digest = (w->digest ^ a->memory[GUARD + i]) * 1099511628211u;
    }
    forget(w);
}

static const char *const sets[] = {"scalar", "avx2", "avx512"};

/* False if this processor does not have the instruction set. */
static inline bool open_world(world *w, const char *set, int32_t threads, bool f64) {
    distac_context_desc desc = {.threads = threads, .kernels = set};
    distac_status status = distac_context_create(&desc, &w->context);
    if (status == DISTAC_EUNSUPPORTED) return false;
    OK(status);
    w->k = di_kernels_for(w->context, f64 ? DISTAC_F64 : DISTAC_F32);
    assert_non_null(w->k);
    w->f64 = f64;
    w->tolerance = f64 ? DBL_EPSILON : (double)FLT_EPSILON;
    w->digest = 14695981039346656037u;
    w->seed = 1;
    w->count = 0;
    return true;
}

/* The same for the first CUDA device. */
static inline bool open_device(world *w, bool f64) {
    distac_context_desc desc = {.threads = 2, .device = "cuda"};
    distac_status status = distac_context_create(&desc, &w->context);
    if (status == DISTAC_EDEVICE) return false;
    OK(status);
    w->k = di_kernels_there(w->context, f64 ? DISTAC_F64 : DISTAC_F32);
    assert_non_null(w->k);
    w->f64 = f64;
    w->tolerance = f64 ? DBL_EPSILON : (double)FLT_EPSILON;
    w->digest = 14695981039346656037u;
    w->seed = 1;
    w->count = 0;
    running = w;
    return true;
}
static inline void close_device(world *w) {
    running = NULL;
    distac_context_release(w->context);
}

/* needs: offsets in di_kernels of the entries that the case calls and that a device's table may lack; 0 ends them.
 */
typedef struct kernel_case {
    const char *name;
    void (*run)(world *w);
    size_t needs[6];
} kernel_case;
#define NEEDS(entry) offsetof(di_kernels, entry)
/* Runs the cases for each table this processor has: they must pass, and leave the same bits on any number of
 * threads. */
static inline void run_cases(const kernel_case *cases, int count) {
    static const int32_t threads[] = {1, 2, 3, 8};
    int tables = 0;
    for (int t = 0; t < COUNT(sets) * 2; t++) {
        uint64_t first[16];
        assert_true(count <= COUNT(first));
        for (int n = 0; n < COUNT(threads); n++) {
            world w;
            if (!open_world(&w, sets[t / 2], threads[n], t & 1)) break;
            for (int i = 0; i < count; i++) {
                w.what = cases[i].name;
                w.digest = 14695981039346656037u;
                cases[i].run(&w);
                if (n == 0) first[i] = w.digest;
                if (w.digest != first[i])
                    fail_msg("%s, %s: other bits on %d threads than on 1", w.k->name, w.what, (int)threads[n]);
            }
            tables += n == 0;
            distac_context_release(w.context);
        }
    }
    assert_true(tables >= 2);
}

static inline const char *lacking(const world *w, const kernel_case *c) {
    for (int i = 0; i < COUNT(c->needs) && c->needs[i]; i++) {
        void *entry;
        memcpy(&entry, (const char *)w->k + c->needs[i], sizeof entry);
        if (!entry) return c->name;
    }
    return NULL;
}
/* As run_cases on a CUDA device: the cases must pass, and leave the same bits in every run. */
static inline void run_cases_there(const kernel_case *cases, int count) {
    for (int t = 0; t < 2; t++) {
        uint64_t first[16];
        assert_true(count <= COUNT(first));
        for (int n = 0; n < 2; n++) {
            world w;
            if (!open_device(&w, t)) {
                print_message("skipped: %s\n", distac_last_error());
                skip();
            }
            for (int i = 0; i < count; i++) {
                if (lacking(&w, &cases[i])) {
                    print_message("%s has no kernels for: %s\n", w.k->name, cases[i].name);
                    continue;
                }
                w.what = cases[i].name;
                w.digest = 14695981039346656037u;
                cases[i].run(&w);
                if (n == 0) first[i] = w.digest;
                if (w.digest != first[i]) fail_msg("%s, %s: other bits in the next run", w.k->name, w.what);
            }
            close_device(&w);
        }
    }
}

/* ---- reference ---- */

static inline double act_value(int32_t act, double x) {
    if (act == DISTAC_ACT_GELU) return 0.5 * x * erfc(-x / sqrt(2));
    if (act == DISTAC_ACT_QUICK_GELU) return x / (1 + exp(-1.702 * x));
    return x;
}
static inline double act_slope(int32_t act, double x) {
    double s = 1 / (1 + exp(-1.702 * x));
    if (act == DISTAC_ACT_GELU) return 0.5 * erfc(-x / sqrt(2)) + x * exp(-x * x / 2) / sqrt(2 * acos(-1));
    if (act == DISTAC_ACT_QUICK_GELU) return s + 1.702 * x * s * (1 - s);
    return 1;
}

/* C = alpha op(A) op(B) + beta C */
static inline void ref_gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, double alpha, const double *A,
                            int64_t lda, const double *B, int64_t ldb, double beta, double *C, int64_t ldc) {
    for (int64_t i = 0; i < M; i++) {
        for (int64_t j = 0; j < N; j++) {
            double s = 0;
            for (int64_t t = 0; t < K; t++)
                s += A[ta ? t * lda + i : i * lda + t] * B[tb ? j * ldb + t : t * ldb + j];
            C[i * ldc + j] = alpha * s + (beta == 0 ? 0 : beta * C[i * ldc + j]);
        }
    }
}

static inline void ref_layernorm(int64_t M, int64_t C, const double *x, int64_t stride, const double *gamma,
                                 const double *beta, double *y, double *mean, double *rstd) {
    for (int64_t r = 0; r < M; r++) {
        double m = 0, v = 0;
        for (int64_t i = 0; i < C; i++) m += x[r * stride + i] / (double)C;
        for (int64_t i = 0; i < C; i++) v += pow(x[r * stride + i] - m, 2) / (double)C;
        mean[r] = m;
        rstd[r] = 1 / sqrt(v + 1e-5);
        for (int64_t i = 0; i < C; i++) y[r * C + i] = (x[r * stride + i] - m) * rstd[r] * gamma[i] + beta[i];
    }
}

static inline void ref_softmax(int64_t M, int64_t C, double scale, bool log_space, const double *x, double *y) {
    for (int64_t r = 0; r < M; r++) {
        double top = -INFINITY, s = 0;
        for (int64_t i = 0; i < C; i++) top = fmax(top, x[r * C + i] * scale);
        for (int64_t i = 0; i < C; i++) s += exp(x[r * C + i] * scale - top);
        for (int64_t i = 0; i < C; i++) {
            double z = x[r * C + i] * scale - top;
            y[r * C + i] = log_space ? z - log(s) : exp(z) / s;
        }
    }
}

static inline void ref_attention(int64_t B, int64_t N, int64_t W, int64_t H, const double *qkv, double *probs,
                                 double *out) {
    int64_t size = W / H;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t h = 0; h < H; h++) {
            const double *q = qkv + b * N * 3 * W + h * size, *k = q + W, *v = k + W;
            double *p = probs + (b * H + h) * N * N;
            ref_gemm(false, true, N, N, size, 1 / sqrt((double)size), q, 3 * W, k, 3 * W, 0, p, N);
            ref_softmax(N, N, 1, false, p, p);
            ref_gemm(false, false, N, size, N, 1, p, N, v, 3 * W, 0, out + b * N * W + h * size, W);
        }
    }
}

/* Logarithms of the sums of exponentials of the scores, [B,H,N]. */
static inline void ref_lse(int64_t B, int64_t N, int64_t W, int64_t H, const double *qkv, double *lse) {
    int64_t size = W / H;
    for (int64_t r = 0; r < B * H * N; r++) {
        const double *image = qkv + r / (H * N) * N * 3 * W + r / N % H * size, *q = image + r % N * 3 * W;
        double sum = 0;
        for (int64_t j = 0; j < N; j++) {
            double score = 0;
            for (int64_t d = 0; d < size; d++) score += q[d] * image[j * 3 * W + W + d];
            sum += exp(score / sqrt((double)size));
        }
        lse[r] = log(sum);
    }
}

static inline void ref_attention_backward(int64_t B, int64_t N, int64_t W, int64_t H, const double *qkv,
                                          const double *probs, const double *dout, double *dqkv) {
    int64_t size = W / H, ld = 3 * W;
    double *ds = malloc((size_t)(N * N) * sizeof *ds), scale = 1 / sqrt((double)size);
    assert_non_null(ds);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t h = 0; h < H; h++) {
            const double *q = qkv + b * N * ld + h * size, *k = q + W, *v = k + W,
                         *d = dout + b * N * W + h * size;
            const double *p = probs + (b * H + h) * N * N;
            double *dq = dqkv + b * N * ld + h * size, *dk = dq + W, *dv = dk + W;
            ref_gemm(false, true, N, N, size, 1, d, W, v, ld, 0, ds, N);
            for (int64_t i = 0; i < N; i++) {
                double dot = 0;
                for (int64_t j = 0; j < N; j++) dot += p[i * N + j] * ds[i * N + j];
                for (int64_t j = 0; j < N; j++) ds[i * N + j] = p[i * N + j] * (ds[i * N + j] - dot);
            }
            ref_gemm(false, false, N, size, N, scale, ds, N, k, ld, 0, dq, ld);
            ref_gemm(true, false, N, size, N, scale, ds, N, q, ld, 0, dk, ld);
            ref_gemm(true, false, N, size, N, 1, p, N, d, W, 0, dv, ld);
        }
    }
    free(ds);
}

#endif
