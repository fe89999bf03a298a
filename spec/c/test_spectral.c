/* test_spectral.c: leading singular triplets, eigenvalues by bisection, and the operators on whole matrices,
 * against LAPACK's decompositions in double and against the definitions written out. */
#include "check.h"
#include "merge/spectral_room.h"
#include "tensor/lapack.h"
#include <string.h>
#include <math.h>

static distac_context *context;

static int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 2};
    if (distac_context_create(&desc, &context) != DISTAC_OK) return -1;
    if (di_lapack_ready() != DISTAC_OK) fail_msg("%s", distac_last_error());
    return 0;
}

static int teardown(void **state) {
    (void)state;
    distac_context_release(context);
    return 0;
}

static double *doubles(int64_t n) {
    double *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    return x;
}

/* |got - want| / |want|; fails on NaN. */
static void close_to(int64_t n, const double *got, const double *want, double tolerance, const char *what) {
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(sqrt(off) <= tolerance * sqrt(size)))
        fail_msg("%s: off by %g, allowed %g", what, sqrt(off / size), tolerance);
}

/* u [p,k], s [k], vt [k,q] of x [p,q]. */
static void svd(int p, int q, const double *x, double *u, double *s, double *vt) {
    int k = p < q ? p : q;
    double *copy = doubles((int64_t)p * q);
    memcpy(copy, x, (size_t)p * (size_t)q * sizeof *x);
    assert_int_equal(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', p, q, copy, p, s, u, p, vt, k), 0);
    free(copy);
}

/* A matrix with singular values i^-power, or of normal numbers where the power is negative. */
static double *matrix(int p, int q, double power, uint64_t seed) {
    int k = p < q ? p : q;
    double *x = doubles((int64_t)p * q), *u = doubles((int64_t)p * k), *vt = doubles((int64_t)k * q),
           *s = doubles(k);
    for (int64_t i = 0; i < (int64_t)p * q; i++) x[i] = di_normal(seed, 1, (uint64_t)i);
    if (power >= 0) {
        svd(p, q, x, u, s, vt);
        for (int j = 0; j < k; j++) cblas_dscal(p, pow(j + 1, -power), u + (int64_t)j * p, 1);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, p, q, k, 1, u, p, vt, k, 0, x, p);
    }
    free(u), free(vt), free(s);
    return x;
}

static void bisection(void **state) {
    (void)state;
    enum { N = 157 };
    double d[N], e[N], e2[N], w[N], want[N], off[N];
    for (int kind = 0; kind < 4; kind++)
        for (int r = 1; r <= N; r += kind == 0 ? 13 : 78) {
            for (int i = 0; i < N; i++) {
                d[i] = kind == 2 ? 1 : kind == 3 ? pow(10, -i / 8.) : di_normal(5, 2, (uint64_t)i);
                e[i] = kind == 1 && i % 7 == 0 ? 0
                       : kind == 2             ? 0
                       : kind == 3             ? d[i] / 3
                                               : di_normal(5, 3, (uint64_t)i);
                want[i] = d[i];
                off[i] = e[i];
            }
            assert_int_equal(LAPACKE_dsterf(N, want, off), 0);
            di_bisect(N, r, d, e, e2, w);
            double size = fmax(fabs(want[0]), fabs(want[N - 1]));
            for (int i = 0; i < r; i++)
                if (!(fabs(w[i] - want[N - r + i]) <= 1e-14 * size * N))
                    fail_msg("kind %d, %d of %d: %.17g, wanted %.17g", kind, i, r, w[i], want[N - r + i]);
        }
}

static void leading_triplets(void **state) {
    (void)state;
    static const struct {
        int p, q, r;
        double power, tolerance;
        bool exact;
    } cases[] = {
        {300, 430, 37, -1, 2e-4, false}, {430, 300, 37, -1, 2e-4, false}, /* flat: in float */
        {300, 430, 37, 1, 1e-9, false},  {430, 300, 37, 1, 1e-9, false},  /* in double */
        {300, 300, 200, .5, 1e-9, false}, {40, 70, 5, 1, 1e-9, false},
        {300, 300, 30, 4, 1e-9, false}, {430, 300, 60, 6, 1e-9, false}, /* reaches too far: a few at a time */
        {60, 50, 9, -1, 1e-12, true},    {50, 60, 9, -1, 1e-12, true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int p = cases[c].p, q = cases[c].q, r = cases[c].r, k = p < q ? p : q;
        double *x = matrix(p, q, cases[c].power, 11 + c), *u = doubles((int64_t)p * k), *s = doubles(k);
        double *vt = doubles((int64_t)k * q), *near = doubles((int64_t)p * r + (int64_t)q * r),
               *values = doubles(r);
        double *want = doubles((int64_t)p * q), *got = doubles((int64_t)p * q);
        svd(p, q, x, u, s, vt);
        for (int j = 0; j < r; j++) cblas_dscal(p, s[j], u + (int64_t)j * p, 1);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, p, q, r, 1, u, p, vt, k, 0, want, p);
        di_held held = {x, p, q};
        di_slices a = di_held_slices(&held);
        bool finite = false;
        double *far = near + a.near * r, *left = a.turned ? far : near, *right = a.turned ? near : far;
        OK(di_triplets(context, &a, r, cases[c].exact, near, values, far, &finite));
        assert_true(finite);
        for (int j = 0; j < r; j++) cblas_dscal(p, values[j], left + (int64_t)j * p, 1);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, p, q, r, 1, left, p, right, q, 0, got, p);
        char what[64];
        snprintf(what, sizeof what, "triplets, case %d", (int)c);
        close_to((int64_t)p * q, got, want, cases[c].tolerance, what);
        /* All vectors alike, also those of small values. */
        for (int j = 0; j < r; j++) cblas_dscal(p, 1 / values[j], left + (int64_t)j * p, 1);
        for (int j = 0; j < r; j++) cblas_dscal(p, 1 / s[j], u + (int64_t)j * p, 1);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, p, q, r, 1, u, p, vt, k, 0, want, p);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, p, q, r, 1, left, p, right, q, 0, got, p);
        close_to((int64_t)p * q, got, want, fmax(cases[c].tolerance, 2e-5), what);
        free(x), free(u), free(s), free(vt), free(near), free(values), free(want), free(got);
    }
}

/* ---- operators ---- */

static distac_checkpoint *vector_of(distac_context *owner, int m, int n, const double *x) {
    distac_checkpoint *out;
    distac_tensor *tensor;
    OK(distac_checkpoint_create(owner, &out));
    OK(distac_tensor_create(owner, DISTAC_F64, 2, (int64_t[]){m, n}, &tensor));
    OK(distac_tensor_write(tensor, (int64_t)m * n, x));
    OK(distac_checkpoint_set(out, "w", tensor));
    distac_tensor_release(tensor);
    return out;
}

static void run(distac_context *owner, const char *name, const char *param, double value, int T, int m, int n,
                double *const *x, double *got, int64_t *peak) {
    distac_checkpoint *taus[8], *delta;
    distac_merge *merge;
    distac_tensor *tensor;
    for (int t = 0; t < T; t++) taus[t] = vector_of(owner, m, n, x[t]);
    OK(distac_merge_create(owner, name, &merge));
    if (param) OK(distac_merge_set(merge, param, 1, &value));
    long long before = atomic_load(&owner->memory_used);
    atomic_store(&owner->memory_peak, before);
    OK(distac_merge_delta(merge, T, taus, &delta));
    if (peak) *peak = atomic_load(&owner->memory_peak) - before;
    OK(distac_checkpoint_tensor(delta, 0, &tensor));
    OK(distac_tensor_read(tensor, (int64_t)m * n, got));
    distac_tensor_release(tensor);
    distac_checkpoint_release(delta);
    distac_merge_release(merge);
    for (int t = 0; t < T; t++) distac_checkpoint_release(taus[t]);
}

/* u vt of x [rows,c], rows >= c, in place. */
static void polar(int rows, int c, double *x) {
    double *u = doubles((int64_t)rows * c), *s = doubles(c), *vt = doubles((int64_t)c * c);
    svd(rows, c, x, u, s, vt);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, c, c, 1, u, rows, vt, c, 0, x, rows);
    free(u), free(s), free(vt);
}

/* Polar factors by products of matrices whose singular values go down to `least`, in logarithmic steps. Below a
 * condition of some 1e6 they are refused. */
static void polar_factors(void **state) {
    (void)state;
    static const int shapes[][2] = {{300, 300}, {410, 150}};
    static const struct { double least, tolerance; bool fine;
    } cases[] = {{1, 3e-6, true},    {1e-3, 3e-6, true}, {1e-5, 1e-5, true},
                 {6e-7, 1e-4, true}, {1e-8, 0, false},   {0, 0, false}};
    for (size_t s = 0; s < 2; s++) {
        int rows = shapes[s][0], c = shapes[s][1];
        int64_t n = (int64_t)rows * c;
        double *random = matrix(rows, c, -1, 400), *u = doubles(n), *values = doubles(c),
               *vt = doubles((int64_t)c * c);
        double *x = doubles(n), *want = doubles(n), *got = doubles(n);
        float *out = malloc((size_t)n * sizeof *out);
        svd(rows, c, random, u, values, vt);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, c, c, 1, u, rows, vt, c, 0, want, rows);
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            char what[64];
            bool fine;
            double *scaled = doubles(n);
            for (int j = 0; j < c; j++)
                for (int i = 0; i < rows; i++)
                    scaled[j * rows + i] = u[j * rows + i] * 7 * pow(cases[k].least, (double)j / (c - 1));
            cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, c, c, 1, scaled, rows, vt, c, 0, x, rows);
            OK(di_polar_float(context, rows, c, x, out, &fine));
            if (fine != cases[k].fine) fail_msg("[%d,%d] to %g: fine is %d", rows, c, cases[k].least, fine);
            for (int64_t i = 0; i < n && fine; i++) got[i] = (double)out[i];
            snprintf(what, sizeof what, "polar [%d,%d] to %g", rows, c, cases[k].least);
            if (fine) close_to(n, got, want, cases[k].tolerance, what);
            free(scaled);
        }
        free(random), free(u), free(values), free(vt), free(x), free(want), free(got), free(out);
    }
}

/* Products and solutions by columns, in strips and at their ends. */
static void products(void **state) {
    (void)state;
    enum { ROWS = 150, C = 301, LD = 310 };
    double *x = matrix(LD, C, -1, 410), *want = doubles(LD * C), *got = doubles(LD * C),
           *lower = matrix(LD, C, -1, 411);
    double *gram = doubles(C * C), *square = doubles(C * C), *panels = doubles(di_product_room(LD, C));
    for (int j = 0; j < C; j++) lower[j * LD + j] = 30 + j % 7;
    for (int transposed = 0; transposed < 2; transposed++) {
        memcpy(want, x, (size_t)LD * C * sizeof *x);
        memcpy(got, x, (size_t)LD * C * sizeof *x);
        cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit,
                    ROWS, C, 1, lower, LD, want, LD);
        di_solve(context, transposed, ROWS, C, lower, LD, got, LD, panels);
        close_to(LD * C, got, want, 1e-12, "solve");
        for (int other = 0; other < 2; other++) {
            di_product(context, transposed, other, C, C, C, -0.5, x, LD, lower, LD, other, gram, C, panels);
            cblas_dgemm(CblasColMajor, transposed ? CblasTrans : CblasNoTrans, other ? CblasTrans : CblasNoTrans,
                        C, C, C, -0.5, x, LD, lower, LD, other, square, C);
            close_to(C * C, gram, square, 1e-13, "product");
        }
    }
    di_gram(context, LD, C, x, gram, panels);
    cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, C, LD, 1, x, LD, 0, square, C);
    for (int j = 0; j < C; j++)
        for (int i = 0; i < j; i++) gram[j * C + i] = square[j * C + i] = 0;
    close_to(C * C, gram, square, 1e-13, "gram");
    free(x), free(want), free(got), free(lower), free(gram), free(square), free(panels);
}

/* Iso-CTS as its authors state it; [m,n] by rows is [n,m] here, so their left side is the side of m. */
/* The fast way beside the exact one: flat, steep and correlated spectra, deltas of low rank whose remaining values
 * are the roundings of float, zeros; matrices of every shape that takes another way. */
static void fast_and_exact(void **state) {
    (void)state;
    enum { T = 4, KINDS = 5 };
    static const int sides[][2] = {{300, 430}, {430, 300}, {300, 300}, {1300, 300}};
    static const char *const kinds[KINDS] = {"flat", "steep", "correlated", "low rank", "some zero"};
    for (size_t s = 0; s < 4; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int m = sides[s][0], n = sides[s][1];
            int64_t numel = (int64_t)m * n;
            double *x[T], *common = matrix(n, m, 1, 300), *fast = doubles(numel), *exact = doubles(numel);
            for (int t = 0; t < T; t++) {
                x[t] = matrix(n, m, kind == 0 ? -1 : kind == 3 ? 8 : 1, 200 + (uint64_t)t);
                for (int64_t i = 0; i < numel; i++) {
                    if (kind == 2) x[t][i] = 0.6 * common[i] + 0.4 * x[t][i];
                    if (kind == 3) x[t][i] = (double)(float)x[t][i];
                    if (kind == 4 && t % 2) x[t][i] = 0;
                }
            }
            run(context, "tsvm", "precision", 0, T, m, n, x, fast, NULL);
            run(context, "tsvm", "precision", 1, T, m, n, x, exact, NULL);
            char what[80];
            snprintf(what, sizeof what, "tsvm of [%d,%d], %s", m, n, kinds[kind]);
            close_to(numel, fast, exact, 1e-4, what);
            for (int t = 0; t < T; t++) free(x[t]);
            free(common), free(fast), free(exact);
        }
}

static void iso_cts(void **state) {
    (void)state;
    enum { T = 3, M = 41, N = 57, K = 41, EACH = 3, S = K - T * EACH }; /* int(0.8 * 41) = 32; round(9 / 3) = 3 */
    double *x[T], *sum = doubles(M * N), *u = doubles(N * K), *s = doubles(K), *vt = doubles(K * M);
    double *left = doubles(M * K), *right = doubles(N * K), *want = doubles(M * N), *got = doubles(M * N),
           mean = 0;
    for (int t = 0; t < T; t++) {
        x[t] = matrix(N, M, .5, 100 + (uint64_t)t);
        for (int i = 0; i < M * N; i++) sum[i] += x[t][i];
    }
    svd(N, M, sum, u, s, vt);
    for (int j = 0; j < S; j++) {
        int at = T * EACH + j;
        mean += s[j] / K;
        memcpy(right + at * N, u + j * N, N * sizeof(double));
        for (int i = 0; i < M; i++) left[at * M + i] = vt[i * K + j];
    }
    for (int t = 0; t < T; t++) {
        double *rest = doubles(M * N), *part = doubles(N * S), *common = left + T * EACH * M;
        memcpy(rest, x[t], M * N * sizeof(double));
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, N, S, M, 1, x[t], N, common, M, 0, part, N);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, N, M, S, -1, part, N, common, M, 1, rest, N);
        svd(N, M, rest, u, s, vt);
        for (int j = 0; j < EACH; j++) {
            int at = t * EACH + j;
            mean += s[j] / K;
            memcpy(right + at * N, u + j * N, N * sizeof(double));
            for (int i = 0; i < M; i++) left[at * M + i] = vt[i * K + j];
        }
        free(rest), free(part);
    }
    polar(M, K, left);
    polar(N, K, right);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, N, M, K, mean, right, N, left, M, 0, want, N);
    run(context, "iso_cts", NULL, 0, T, M, N, x, got, NULL);
    close_to(M * N, got, want, 1e-6, "iso_cts");
    for (int t = 0; t < T; t++) free(x[t]);
    free(sum), free(u), free(s), free(vt), free(left), free(right), free(want), free(got);
}

/* The gradient is written out, 2 (M - tau) tauT tau / |tau|^2, and the optimiser is PyTorch's. */
static void wudi(void **state) {
    (void)state;
    enum { T = 2, M = 7, N = 5, STEPS = 300 };
    double *x[T], want[M * N] = {0}, got[M * N], first[M * N] = {0}, second[M * N] = {0};
    for (int t = 0; t < T; t++) {
        x[t] = matrix(M, N, -1, 40 + (uint64_t)t);
        for (int i = 0; i < M * N; i++) want[i] += x[t][i];
    }
    for (int step = 1; step <= STEPS; step++) {
        double gradient[M * N] = {0};
        for (int t = 0; t < T; t++) {
            double norm = cblas_ddot(M * N, x[t], 1, x[t], 1), square[N * N], off[M * N];
            cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, N, N, M, 2 / norm, x[t], N, x[t], N, 0, square,
                        N);
            for (int i = 0; i < M * N; i++) off[i] = want[i] - x[t][i];
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, N, 1, off, N, square, N, 1, gradient, N);
        }
        for (int i = 0; i < M * N; i++) {
            first[i] += .1 * (gradient[i] - first[i]);
            second[i] = .999 * second[i] + .001 * gradient[i] * gradient[i];
            want[i] -= .01 * (first[i] / (1 - pow(.9, step))) / (sqrt(second[i] / (1 - pow(.999, step))) + 1e-8);
        }
    }
    run(context, "wudi", "lr", .01, T, M, N, x, got, NULL);
    close_to(M * N, got, want, 1e-6, "wudi");
    for (int t = 0; t < T; t++) free(x[t]);
}

static void threads(void **state) {
    (void)state;
    enum { T = 4 };
    static const char *const names[] = {"tsvm", "iso_c", "iso_cts", "knots", "wudi"};
    static const int sides[][2] = {{290, 410}, {410, 290}, {70, 70}};
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            int m = sides[s][0], n = sides[s][1];
            double *x[T], *one = doubles((int64_t)m * n), *many = doubles((int64_t)m * n);
            for (int t = 0; t < T; t++) x[t] = matrix(n, m, t % 2 ? -1 : 1, 70 + (uint64_t)t);
            bool is_wudi = strcmp(names[i], "wudi") == 0;
            run(context, names[i], is_wudi ? "steps" : NULL, 3, T, m, n, x, one, NULL);
            for (int count = 1; count <= 5; count += 4) {
                distac_context_desc desc = {.threads = count};
                distac_context *other;
                OK(distac_context_create(&desc, &other));
                run(other, names[i], is_wudi ? "steps" : NULL, 3, T, m, n, x, many, NULL);
                distac_context_release(other);
                if (memcmp(one, many, (size_t)m * (size_t)n * sizeof *one))
                    fail_msg("%s [%d,%d]: other bits with %d threads", names[i], m, n, count);
            }
            for (int t = 0; t < T; t++) free(x[t]);
            free(one), free(many);
        }
}

/* What op_tsvm.c promises, the result in double and in float, and the executor's rows. */
static void memory(void **state) {
    (void)state;
    enum { T = 4, THREADS = 2 };
    static const int64_t sides[][2] = {{2500, 300}, {300, 2500}, {400, 400}};
    for (size_t s = 0; s < 3; s++)
        for (int kind = 0; kind < 2; kind++) {
            int64_t m = sides[s][0], n = sides[s][1], k = m < n ? m : n, peak = 0;
            double *x[T], *got = doubles(m * n);
            for (int t = 0; t < T; t++) x[t] = matrix((int)n, (int)m, kind ? 1 : -1, 90 + (uint64_t)t);
            run(context, "tsvm", NULL, 0, T, (int)m, (int)n, x, got, &peak);
            int64_t vectors = 12 * k * (m + n) + 16 * k * k, lane = 40 * k * k + 7000 * k + 8 * (T + 2) * 256;
            int64_t bound = 12 * m * n + vectors + THREADS * lane;
            if (peak > bound)
                fail_msg("[%d,%d]: peak %lld, promised %lld", (int)m, (int)n, (long long)peak, (long long)bound);
            assert_true(peak > 12 * m * n);
            for (int t = 0; t < T; t++) free(x[t]);
            free(got);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bisection), cmocka_unit_test(leading_triplets), cmocka_unit_test(iso_cts),
        cmocka_unit_test(fast_and_exact), cmocka_unit_test(polar_factors), cmocka_unit_test(products),
        cmocka_unit_test(wudi),      cmocka_unit_test(threads),          cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
