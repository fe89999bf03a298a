/* test_merge_random.c: the merging operators on random models against straightforward code in double that is
 * written here and shares nothing with the engine but LAPACK's dgesdd. */
#define _GNU_SOURCE 1 /* RTLD_DEFAULT */
#include "merge_test.h"
#include <dlfcn.h>

/* ---- the reference ---- */

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void reference_ties(int T, const model *tau, double keep, model *out) {
    int64_t d = 0;
    double threshold[MAX_MODELS], majority = 0;
    for (int k = 0; k < TENSORS; k++) d += shapes[k].numel;
    for (int t = 0; t < T; t++) {
        double *all = malloc((size_t)d * sizeof *all);
        int64_t at = 0;
        for (int k = 0; k < TENSORS; k++)
            for (int64_t i = 0; i < shapes[k].numel; i++) all[at++] = fabs(tau[t].values[k][i]);
        qsort(all, (size_t)d, sizeof *all, descending);
        int64_t rank = (int64_t)(keep * (double)d);
        threshold[t] = rank ? all[rank - 1] : INFINITY;
        free(all);
    }
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < TENSORS; k++)
            for (int64_t i = 0; i < shapes[k].numel; i++) {
                double sum = 0, total = 0, count = 0;
                for (int t = 0; t < T; t++)
                    if (fabs(tau[t].values[k][i]) >= threshold[t]) sum += tau[t].values[k][i];
                double sign = (sum > 0) - (sum < 0);
                if (pass == 0) {
                    majority += sign;
                    continue;
                }
                if (sign == 0) sign = (majority > 0) - (majority < 0);
                for (int t = 0; t < T; t++) {
                    double v = tau[t].values[k][i];
                    if (fabs(v) < threshold[t] || v * sign <= 0) continue;
                    total += v;
                    count++;
                }
                out->values[k][i] = count > 0 ? total / count : 0;
            }
}

/* Polar factor P QT of x [rows,c] (by columns). */
static void reference_polar(int rows, int c, double *x) {
    double *u = malloc((size_t)(rows * c) * sizeof *u), *vt = malloc((size_t)(c * c) * sizeof *vt), s[128];
    assert_int_equal(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', rows, c, x, rows, s, u, rows, vt, c), 0);
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++) {
            double sum = 0;
            for (int l = 0; l < c; l++) sum += u[l * rows + i] * vt[j * c + l];
            x[j * rows + i] = sum;
        }
    free(u);
    free(vt);
}

static void reference_tsvm(int T, const model *tau, int k, double *out) {
    int m = (int)shapes[k].shape[0], n = (int)shapes[k].shape[1], least = m < n ? m : n, r = least / T, c = T * r;
    double *left = calloc((size_t)(m * c), sizeof *left), *right = calloc((size_t)(n * c), sizeof *right);
    double *a = malloc((size_t)(m * n) * sizeof *a), *u = malloc((size_t)(m * least) * sizeof *u);
    double *vt = malloc((size_t)(least * n) * sizeof *vt), s[128], kept[128];
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) a[j * m + i] = tau[t].values[k][i * n + j];
        assert_int_equal(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', m, n, a, m, s, u, m, vt, least), 0);
        for (int l = 0; l < r; l++) {
            kept[t * r + l] = s[l];
            for (int i = 0; i < m; i++) left[(t * r + l) * m + i] = u[l * m + i];
            for (int j = 0; j < n; j++) right[(t * r + l) * n + j] = vt[j * least + l];
        }
    }
    reference_polar(m, c, left);
    reference_polar(n, c, right);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < c; l++) sum += left[l * m + i] * kept[l] * right[l * n + j];
            out[i * n + j] = sum;
        }
    free(left);
    free(right);
    free(a);
    free(u);
    free(vt);
}

static void reference(const char *name, int T, const model *tau, const double *tall, model *out) {
    if (strcmp(name, "ties") == 0) {
        reference_ties(T, tau, .2, out);
        return;
    }
    for (int k = 0; k < TENSORS; k++) {
        if (strcmp(name, "tsvm") == 0 && shapes[k].rank == 2) {
            reference_tsvm(T, tau, k, out->values[k]);
            continue;
        }
        for (int64_t i = 0; i < shapes[k].numel; i++) {
            double sum = 0;
            int votes = 0;
            for (int t = 0; t < T; t++) sum += tau[t].values[k][i];
            for (int t = 0; t < T; t++)
                votes += fabs(tau[t].values[k][i]) > tall[t] * fabs(sum - tau[t].values[k][i]);
            if (strcmp(name, "average") == 0 || strcmp(name, "tsvm") == 0) sum /= T;
            if (strcmp(name, "consensus_ta") == 0 && votes < 2) sum = 0;
            out->values[k][i] = sum;
        }
    }
}

/* Half a unit in the last place of an f32 or bf16 number. */
static double rounding(double value, int32_t dtype) {
    int exponent;
    frexp(value, &exponent);
    return ldexp(1.0, exponent - (dtype == DISTAC_BF16 ? 8 : 24) - 1);
}

static void against_reference(const char *name, int T, int32_t dtype) {
    model base, tuned[MAX_MODELS], tau[MAX_MODELS], want;
    distac_checkpoint *models[MAX_MODELS], *base_checkpoint = random_model(NULL, dtype, 0.5, &base), *merged;
    double tall[MAX_MODELS];
    const double lambda = 0.7;
    for (int t = 0; t < T; t++) {
        models[t] = random_model(&base, dtype, 0.02, &tuned[t]);
        tall[t] = 0.3 + 0.05 * t;
        for (int k = 0; k < TENSORS; k++) {
            tau[t].values[k] = malloc((size_t)shapes[k].numel * sizeof(double));
            for (int64_t i = 0; i < shapes[k].numel; i++)
                tau[t].values[k][i] = tuned[t].values[k][i] - base.values[k][i];
        }
    }
    for (int k = 0; k < TENSORS; k++) want.values[k] = calloc((size_t)shapes[k].numel, sizeof(double));
    reference(name, T, tau, tall, &want);

    distac_merge *merge = method(name);
    OK(distac_merge_set(merge, "lambda", 1, &lambda));
    if (strcmp(name, "consensus_ta") == 0) OK(distac_merge_set(merge, "tall", T, tall));
    distac_checkpoint *notes;
    OK(distac_checkpoint_create(context, &notes));
    OK(distac_checkpoint_set_metadata(notes, "from", name));
    OK(distac_merge_files(merge, base_checkpoint, T, models, file_named("merged.safetensors"), -1, notes));
    OK(distac_checkpoint_open(context, file_named("merged.safetensors"), &merged));
    assert_string_equal(distac_checkpoint_metadata(merged, "from"), name);
    assert_int_equal(distac_checkpoint_count(merged), TENSORS + 1);
    double share = strcmp(name, "tsvm") == 0 ? 1e-4 : 1e-6;
    for (int k = 0; k < TENSORS; k++) {
        int64_t n = shapes[k].numel;
        double *got = malloc((size_t)n * sizeof *got), largest = 0;
        values_of(merged, shapes[k].name, n, got);
        for (int64_t i = 0; i < n; i++) largest = fmax(largest, lambda * fabs(want.values[k][i]));
        for (int64_t i = 0; i < n; i++) {
            double exact = base.values[k][i] + lambda * want.values[k][i];
            near(got[i], exact, share * largest + rounding(exact, dtype), shapes[k].name, i);
        }
        free(got);
    }
    double steps[2];
    values_of(merged, "steps", 2, steps);
    assert_true(steps[0] == 1234567 && steps[1] == -5);

    /* The direction of task vectors in memory, where inputs are not rounded a second time. */
    if (dtype == DISTAC_F32) {
        distac_checkpoint *taus[MAX_MODELS], *delta;
        for (int t = 0; t < T; t++) OK(distac_checkpoint_combine(1, models[t], -1, base_checkpoint, &taus[t]));
        OK(distac_merge_delta(merge, T, taus, &delta));
        assert_int_equal(distac_checkpoint_count(delta), TENSORS);
        for (int k = 0; k < TENSORS; k++) {
            int64_t n = shapes[k].numel;
            double *got = malloc((size_t)n * sizeof *got), largest = 0;
            values_of(delta, shapes[k].name, n, got);
            for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(want.values[k][i]));
            for (int64_t i = 0; i < n; i++) near(got[i], want.values[k][i], share * largest, shapes[k].name, i);
            free(got);
        }
        distac_checkpoint_release(delta);
        for (int t = 0; t < T; t++) distac_checkpoint_release(taus[t]);
    }
    distac_checkpoint_release(merged);
    distac_checkpoint_release(notes);
    distac_checkpoint_release(base_checkpoint);
    distac_merge_release(merge);
    free_model(&base);
    free_model(&want);
    for (int t = 0; t < T; t++) {
        distac_checkpoint_release(models[t]);
        free_model(&tuned[t]);
        free_model(&tau[t]);
    }
}

static void random_models(void **state) {
    (void)state;
    static const char *const names[] = {"average", "task_arithmetic", "ties", "consensus_ta", "tsvm"};
    for (int m = 0; m < 5; m++)
        for (int T = 3; T <= 8; T++) {
            against_reference(names[m], T, DISTAC_F32);
            against_reference(names[m], T, DISTAC_BF16);
        }
}

/* Many equal magnitudes, more than are collected: every one of the last group is kept. */
static void equal_magnitudes(void **state) {
    (void)state;
    int64_t n = 300000;
    double *values = malloc((size_t)n * sizeof *values), *got = malloc((size_t)n * sizeof *got);
    for (int64_t i = 0; i < n; i++) values[i] = i % 3 == 0 ? 2 : i % 3 == 1 ? -1 : 0.5;
    distac_checkpoint *tau, *delta;
    OK(distac_checkpoint_create(context, &tau));
    add(tau, "w", DISTAC_F32, 1, &n, values);
    distac_merge *merge = method("ties");
    OK(distac_merge_set(merge, "keep", 1, (double[]){0.5}));
    OK(distac_merge_delta(merge, 1, &tau, &delta));
    values_of(delta, "w", n, got);
    for (int64_t i = 0; i < n; i++) near(got[i], i % 3 == 2 ? 0 : values[i], 0, "ties", i);
    distac_checkpoint_release(delta);
    OK(distac_merge_set(merge, "keep", 1, (double[]){1}));
    OK(distac_merge_delta(merge, 1, &tau, &delta));
    values_of(delta, "w", n, got);
    for (int64_t i = 0; i < n; i++) near(got[i], values[i], 0, "ties", i);
    distac_checkpoint_release(delta);
    distac_checkpoint_release(tau);
    distac_merge_release(merge);
    free(values);
    free(got);
}

/* Enough elements for the threshold to be found by a sample: random ones, a few distinct values, and an order that
 * misleads the sample. Compared with a sort. */
static void sampled_thresholds(void **state) {
    (void)state;
    int64_t n = 1500000;
    double *values = malloc((size_t)n * sizeof *values), *sorted = malloc((size_t)n * sizeof *sorted);
    double *got = malloc((size_t)n * sizeof *got);
    distac_merge *merge = method("ties");
    for (int kind = 0; kind < 4; kind++) {
        for (int64_t i = 0; i < n; i++) {
            double x = normal();
            values[i] = (float)(kind == 0   ? x
                                : kind == 1 ? floor(8 * x) / 8
                                : kind == 2 ? floor(2048 * x) / 2048
                                            : x);
            if (kind == 3 && i % 16384 >= 8192) values[i] = (float)(values[i] * 100);
            sorted[i] = fabs(values[i]);
        }
        qsort(sorted, (size_t)n, sizeof *sorted, descending);
        distac_checkpoint *tau, *delta;
        OK(distac_checkpoint_create(context, &tau));
        add(tau, "w", DISTAC_F32, 1, &n, values);
        static const double keeps[] = {1e-6, .01, .2, .7, 1};
        for (int k = 0; k < 5; k++) {
            double threshold = sorted[(int64_t)(keeps[k] * (double)n) - 1];
            OK(distac_merge_set(merge, "keep", 1, &keeps[k]));
            OK(distac_merge_delta(merge, 1, &tau, &delta));
            values_of(delta, "w", n, got);
            for (int64_t i = 0; i < n; i++)
                if (got[i] != (fabs(values[i]) >= threshold ? values[i] : 0))
                    fail_msg("kind %d, keep %g, element %lld: %g of %g, threshold %g", kind, keeps[k],
                             (long long)i, got[i], values[i], threshold);
            distac_checkpoint_release(delta);
        }
        distac_checkpoint_release(tau);
    }
    distac_merge_release(merge);
    free(values);
    free(sorted);
    free(got);
}

/* Larger matrices, where Gram matrices are used, also with deltas of low rank and a steep spectrum. */
static void large_matrices(void **state) {
    (void)state;
    enum { M = 96, N = 72, T = 3 };
    for (int kind = 0; kind < 3; kind++) {
        distac_checkpoint *taus[T], *delta;
        double *a = malloc(M * N * sizeof *a), *u = malloc(M * N * sizeof *u), *vt = malloc(N * N * sizeof *vt),
               s[N];
        double left[M * N] = {0}, right[N * N] = {0}, kept[N] = {0}, got[M * N];
        int r = N / T, c = T * r;
        for (int t = 0; t < T; t++) {
            double rows[M * 8], columns[8 * N];
            for (int i = 0; i < M * 8; i++) rows[i] = normal();
            for (int i = 0; i < 8 * N; i++) columns[i] = normal();
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                    double value = 0;
                    for (int l = 0; l < 8; l++) value += rows[i * 8 + l] * columns[l * N + j];
                    if (kind == 0) value = normal();
                    if (kind == 1) value += 1e-3 * normal(); /* steep */
                    a[i * N + j] = (float)value;             /* kind 2: rank 8 but for rounding */
                }
            taus[t] = matrix(M, N, a);
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) u[j * M + i] = a[i * N + j];
            double *copy = malloc(M * N * sizeof *copy), *uu = malloc(M * N * sizeof *uu);
            memcpy(copy, u, M * N * sizeof *copy);
            assert_int_equal(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', M, N, copy, M, s, uu, M, vt, N), 0);
            for (int l = 0; l < r; l++) {
                kept[t * r + l] = s[l];
                memcpy(left + (t * r + l) * M, uu + l * M, M * sizeof *left);
                for (int j = 0; j < N; j++) right[(t * r + l) * N + j] = vt[j * N + l];
            }
            free(copy);
            free(uu);
        }
        reference_polar(M, c, left);
        reference_polar(N, c, right);
        distac_merge *merge = method("tsvm");
        OK(distac_merge_delta(merge, T, taus, &delta));
        values_of(delta, "w", M * N, got);
        double off = 0, size = 0;
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double want = 0;
                for (int l = 0; l < c; l++) want += left[l * M + i] * kept[l] * right[l * N + j];
                off += (got[i * N + j] - want) * (got[i * N + j] - want);
                size += want * want;
            }
        if (!(sqrt(off / size) <= 2e-6)) fail_msg("kind %d: relative error %g", kind, sqrt(off / size));
        distac_merge_release(merge);
        distac_checkpoint_release(delta);
        for (int t = 0; t < T; t++) distac_checkpoint_release(taus[t]);
        free(a);
        free(u);
        free(vt);
    }
}

/* The reference, too, keeps OpenBLAS to one thread: how its own
 * threads wait for one another is hidden from the thread sanitizer. */
static int setup_alone(void **state) {
    void *symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
    void (*set)(int);
    memcpy(&set, &symbol, sizeof set);
    if (symbol) set(1);
    return setup(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_models),
        cmocka_unit_test(equal_magnitudes),
        cmocka_unit_test(sampled_thresholds),
        cmocka_unit_test(large_matrices),
    };
    return cmocka_run_group_tests(tests, setup_alone, teardown);
}
