/* bench_tsvm.c: where the time of a TSVM merge of matrices in memory goes: every step and every routine of BLAS
 * and LAPACK below it, in processor seconds of all threads, what a step calls not counted again. The matrices are
 * those of tsvm.py.
 *
 *   ninja -C build bench_tsvm && build/spec/bench_tsvm FOLDER [THREADS [MODELS [ROUNDS]]]
 * Merges FOLDER/1.safetensors … MODELS.safetensors: the second and later of 1 + ROUNDS rounds count. Defaults: 2
 * 8 2. */
#include "bench.h"
#include "merge/spectral_room.h"
#include "tensor/lapack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what was measured ---- */

enum { ROWS = 64, DEEP = 16 };
static struct row {
    const char *where, *what;
    double seconds, flops;
    long calls;
} row[ROWS];
static int used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local struct frame {
    const char *where;
    double since, inner;
} stack[DEEP];
static _Thread_local int depth;

static const char *around(void) { return depth > 0 ? stack[depth - 1].where : "merge"; }

static void enter(const char *where) { stack[depth++] = (struct frame){where, now(), 0}; }

static void leave(const char *where, const char *what, double flops) {
    const struct frame *frame = &stack[--depth];
    double took = now() - frame->since;
    if (depth > 0) stack[depth - 1].inner += took;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < used && (strcmp(row[i].where, where) != 0 || strcmp(row[i].what, what) != 0)) i++;
    if (i == used && used < ROWS) row[used++] = (struct row){where, what, 0, 0, 0};
    if (i < used) {
        row[i].seconds += took - frame->inner;
        row[i].flops += flops;
        row[i].calls++;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- BLAS and LAPACK: the table's entries are replaced by these ---- */

static di_lapack_table real;

#define ROUTINE(name, T, parameters, arguments, count)                                                            \
    static T timed_##name parameters {                                                                            \
        const char *where = around();                                                                             \
        enter(where);                                                                                             \
        T result = real.name##_at arguments;                                                                      \
        leave(where, #name, count);                                                                               \
        return result;                                                                                            \
    }
#define PLAIN(name, parameters, arguments, count)                                                                 \
    static void timed_##name parameters {                                                                         \
        const char *where = around();                                                                             \
        enter(where);                                                                                             \
        real.name##_at arguments;                                                                                 \
        leave(where, #name, count);                                                                               \
    }
#define L enum CBLAS_ORDER order
#define P(a) enum CBLAS_TRANSPOSE a
#define PRODUCTS(letter, T)                                                                                       \
    PLAIN(cblas_##letter##gemm,                                                                                   \
          (L, P(p), P(q), int m, int n, int k, T a, const T *x, int lx, const T *y, int ly, T b, T *z, int lz),   \
          (order, p, q, m, n, k, a, x, lx, y, ly, b, z, lz), 2.0 * m * n * k)                                     \
    PLAIN(cblas_##letter##syrk,                                                                                   \
          (L, enum CBLAS_UPLO u, P(p), int n, int k, T a, const T *x, int lx, T b, T *z, int lz),                 \
          (order, u, p, n, k, a, x, lx, b, z, lz), 1.0 * n * n * k)                                               \
    PLAIN(cblas_##letter##symm,                                                                                   \
          (L, enum CBLAS_SIDE s, enum CBLAS_UPLO u, int m, int n, T a, const T *x, int lx, const T *y, int ly,    \
           T b, T *z, int lz),                                                                                    \
          (order, s, u, m, n, a, x, lx, y, ly, b, z, lz), 2.0 * m * n * (s == CblasLeft ? m : n))                 \
    PLAIN(cblas_##letter##trsm,                                                                                   \
          (L, enum CBLAS_SIDE s, enum CBLAS_UPLO u, P(p), enum CBLAS_DIAG d, int m, int n, T a, const T *x,       \
           int lx, T *y, int ly),                                                                                 \
          (order, s, u, p, d, m, n, a, x, lx, y, ly), 1.0 * m * n * (s == CblasLeft ? m : n))                     \
    ROUTINE(LAPACKE_##letter##potrf_work, lapack_int, (int order, char u, lapack_int n, T *x, lapack_int lx),     \
            (order, u, n, x, lx), 1.0 * n * n * n / 3)                                                            \
    ROUTINE(LAPACKE_##letter##sytrd_work, lapack_int,                                                             \
            (int order, char u, lapack_int n, T *x, lapack_int lx, T *d, T *e, T *t, T *w, lapack_int lw),        \
            (order, u, n, x, lx, d, e, t, w, lw), 4.0 * n * n * n / 3)
PRODUCTS(s, float)
PRODUCTS(d, double)
ROUTINE(LAPACKE_sormtr_work, lapack_int,
        (int order, char s, char u, char p, lapack_int m, lapack_int n, const float *x, lapack_int lx,
         const float *t, float *y, lapack_int ly, float *w, lapack_int lw),
        (order, s, u, p, m, n, x, lx, t, y, ly, w, lw), 2.0 * m * m * n)
ROUTINE(LAPACKE_dstein_work, lapack_int,
        (int order, lapack_int n, const double *d, const double *e, lapack_int m, const double *w,
         const lapack_int *b, const lapack_int *s, double *z, lapack_int lz, double *k, lapack_int *i,
         lapack_int *f),
        (order, n, d, e, m, w, b, s, z, lz, k, i, f), 0)

static void replace(void) {
    real = di_lapack;
#define TAKE(name) di_lapack.name##_at = timed_##name;
#define BOTH(letter)                                                                                              \
    TAKE(cblas_##letter##gemm)                                                                                    \
    TAKE(cblas_##letter##syrk) TAKE(cblas_##letter##symm) TAKE(cblas_##letter##trsm)                              \
        TAKE(LAPACKE_##letter##potrf_work) TAKE(LAPACKE_##letter##sytrd_work)
    BOTH(s)
    BOTH(d)
    TAKE(LAPACKE_sormtr_work)
    TAKE(LAPACKE_dstein_work)
}

/* ---- the engine's own steps: the linker puts these before them (--wrap) ---- */

#define STEP(name, T, where, count, parameters, arguments)                                                        \
    T __real_##name parameters;                                                                                   \
    T __wrap_##name parameters;                                                                                   \
    T __wrap_##name parameters {                                                                                  \
        enter(where);                                                                                             \
        T result = __real_##name arguments;                                                                       \
        leave(where, #name, count);                                                                               \
        return result;                                                                                            \
    }
#define QUIET(name, where, count, parameters, arguments)                                                          \
    void __real_##name parameters;                                                                                \
    void __wrap_##name parameters;                                                                                \
    void __wrap_##name parameters {                                                                               \
        enter(where);                                                                                             \
        __real_##name arguments;                                                                                  \
        leave(where, #name, count);                                                                               \
    }
#define C distac_context *c
STEP(di_triplets, distac_status, "triplets", 0,
     (C, const di_slices *a, int64_t r, bool exact, double *near, double *values, double *far, bool *finite),
     (c, a, r, exact, near, values, far, finite))
QUIET(di_square, "triplets", (double)count *(double)a->near *(double)a->near,
      (C, const di_slices *a, const double *block, int64_t count, bool add, double *g, double *panels),
      (c, a, block, count, add, g, panels))
QUIET(di_square_float, "triplets", (double)count *(double)a->near *(double)a->near,
      (C, const di_slices *a, const double *block, int64_t count, bool add, float *g, float *panels),
      (c, a, block, count, add, g, panels))
QUIET(di_bisect, "triplets", 0, (int64_t n, int64_t r, const double *d, const double *e, double *e2, double *w),
      (n, r, d, e, e2, w))
STEP(di_tridiagonal_vectors, distac_status, "triplets", 0,
     (C, int64_t n, int64_t r, const double *d, const double *e, const double *w, double *z, bool *fine),
     (c, n, r, d, e, w, z, fine))
STEP(di_polar, distac_status, "polar", 0, (C, int64_t rows, int64_t n, double *x, bool exact),
     (c, rows, n, x, exact))
STEP(di_polar_float, distac_status, "polar", 0,
     (C, int64_t rows, int64_t n, const double *x, float *out, bool *fine), (c, rows, n, x, out, fine))
STEP(di_polar_parts, distac_status, "polar, parts", 0,
     (C, int64_t n, double *gram, double floor, double *lower, float *factor, bool *fine),
     (c, n, gram, floor, lower, factor, fine))

#define WRAPPED(name, flops, parameters, arguments)                                                               \
    void __real_##name parameters;                                                                                \
    void __wrap_##name parameters;                                                                                \
    void __wrap_##name parameters {                                                                               \
        const char *where = around();                                                                             \
        enter(where);                                                                                             \
        __real_##name arguments;                                                                                  \
        leave(where, #name, flops);                                                                               \
    }
#define SAME(suffix, T)                                                                                           \
    WRAPPED(di_product##suffix, 2.0 * (double)m * (double)n * (double)k,                                          \
            (C, bool p, bool q, int64_t m, int64_t n, int64_t k, T alpha, const T *x, int64_t lx, const T *y,     \
             int64_t ly, bool add, T *z, int64_t lz, T *panels),                                                  \
            (c, p, q, m, n, k, alpha, x, lx, y, ly, add, z, lz, panels))                                          \
    WRAPPED(di_solve##suffix, (double)rows *(double)n *(double)n,                                                 \
            (C, bool p, int64_t rows, int64_t n, const T *l, int64_t ll, T *x, int64_t lx, T *panels),            \
            (c, p, rows, n, l, ll, x, lx, panels))                                                                \
    WRAPPED(di_gram##suffix, (double)rows *(double)n *(double)n,                                                  \
            (C, int64_t rows, int64_t n, const T *x, T *g, T *panels), (c, rows, n, x, g, panels))
WRAPPED(di_back, 2.0 * (double)n * (double)n * (double)count,
        (C, int64_t n, int64_t count, const double *a, const double *tau, double *z, double *memory,
         double *panels),
        (c, n, count, a, tau, z, memory, panels))
SAME(, double)
SAME(_float, float)

/* ---- */

static int longest_first(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

int main(int argc, char **argv) {
    enum { MOST = 64 };
    int threads = argc > 2 ? atoi(argv[2]) : 2, models = argc > 3 ? atoi(argv[3]) : 8,
        rounds = argc > 4 ? atoi(argv[4]) : 2;
    if (argc < 2 || threads < 1 || models < 1 || models > MOST || rounds < 1) {
        fprintf(stderr, "usage: bench_tsvm FOLDER [THREADS [MODELS [ROUNDS]]]\n");
        return 2;
    }
    distac_context *context;
    distac_checkpoint *taus[MOST], *merged;
    distac_merge *merge;
    need(distac_context_create(NULL, &context));
    need(distac_context_set_threads(context, threads));
    need(distac_merge_create(context, "tsvm", &merge));
    for (int t = 0; t < models; t++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.safetensors", argv[1], t + 1);
        need(distac_checkpoint_open(context, path, &taus[t]));
    }
    replace();
    double begin = 0, wall, all = 0;
    for (int r = 0; r <= rounds; r++) {
        if (r == 1) {
            used = 0;
            begin = now();
        }
        need(distac_merge_delta(merge, models, taus, &merged));
        distac_checkpoint_release(merged);
    }
    wall = (now() - begin) / rounds;
    qsort(row, (size_t)used, sizeof *row, longest_first);
    for (int i = 0; i < used; i++) all += row[i].seconds / rounds;
    printf("%s: %.3f s by the clock, %.3f s of %d threads in these:\n", argv[1], wall, all, threads);
    printf("%-14s%-26s%9s%8s%8s%9s\n", "step", "routine", "ms", "%", "calls", "GF/s");
    for (int i = 0; i < used; i++) {
        const struct row *at = &row[i];
        printf("%-14s%-26s%9.1f%8.1f%8ld", at->where, at->what, 1e3 * at->seconds / rounds,
               100 * at->seconds / rounds / (wall * threads), at->calls / rounds);
        if (at->flops > 0) printf("%9.1f", at->flops / at->seconds / 1e9);
        printf("\n");
    }
    for (int t = 0; t < models; t++) distac_checkpoint_release(taus[t]);
    distac_merge_release(merge);
    distac_context_release(context);
    return 0;
}
