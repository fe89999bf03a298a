/* test_merge.c: the merging operators: worked numbers, laws, and random models against straightforward code in
 * double that is written here and shares nothing with the engine but LAPACK's dgesdd. */
#include "io/io.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <math.h>
#include <unistd.h>
#include <lapacke.h>
#include <cmocka.h>

/* The methods that all kinds of work paths meet in here; the laws of all others are held to in Lua, over the list. */
enum { CORE_METHODS = 5 };

static char folder[64];
static distac_context *context;

static int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 2};
    strcpy(folder, "/tmp/distac_merge_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return distac_context_create(&desc, &context);
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    distac_context_release(context);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *file_named(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

#define OK(call)                                                                                                  \
    do {                                                                                                          \
        distac_status status_ = (call);                                                                           \
        if (status_ != DISTAC_OK) fail_msg("%s: %s", distac_status_name(status_), distac_last_error());           \
    } while (0)

/* Fails on NaN. */
static void near(double got, double want, double tolerance, const char *what, int64_t index) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s[%lld]: got %.12g, wanted %.12g (off by %g, allowed %g)", what, (long long)index, got, want,
                 fabs(got - want), tolerance);
}

static void add(distac_checkpoint *checkpoint, const char *name, int32_t dtype, int32_t rank, const int64_t *shape,
                const double *values) {
    distac_tensor *tensor;
    OK(distac_tensor_create(context, dtype, rank, shape, &tensor));
    OK(distac_tensor_write(tensor, distac_tensor_numel(tensor), values));
    OK(distac_checkpoint_set(checkpoint, name, tensor));
    distac_tensor_release(tensor);
}

static distac_checkpoint *matrix(int64_t rows, int64_t columns, const double *values) {
    distac_checkpoint *checkpoint;
    OK(distac_checkpoint_create(context, &checkpoint));
    add(checkpoint, "w", DISTAC_F32, 2, (int64_t[]){rows, columns}, values);
    return checkpoint;
}

static void values_of(const distac_checkpoint *checkpoint, const char *name, int64_t n, double *out) {
    distac_tensor *tensor;
    OK(distac_checkpoint_tensor(checkpoint, distac_checkpoint_find(checkpoint, name), &tensor));
    OK(distac_tensor_read(tensor, n, out));
    distac_tensor_release(tensor);
}

static distac_merge *method(const char *name) {
    distac_merge *merge;
    OK(distac_merge_create(context, name, &merge));
    return merge;
}

/* D of task vectors, against wanted numbers. */
static void check_delta(distac_merge *merge, int count, distac_checkpoint *const *taus, const double *want,
                        int64_t n, double tolerance, const char *what) {
    distac_checkpoint *delta;
    double got[16];
    OK(distac_merge_delta(merge, count, taus, &delta));
    values_of(delta, "w", n, got);
    for (int64_t i = 0; i < n; i++) near(got[i], want[i], tolerance, what, i);
    distac_checkpoint_release(delta);
}

/* ---- worked numbers ---- */

static const double f3[3][6] = {{1, 2, -3, .5, -.1, 4}, {-2, 1, -1.5, .3, .2, -5}, {.1, -4, 2, -.6, 0, 1}};

static void worked_f3(void **state) {
    (void)state;
    distac_checkpoint *taus[3];
    for (int t = 0; t < 3; t++) taus[t] = matrix(2, 3, f3[t]);
    distac_merge *merge = method("average");
    static const double average[] = {-.3, -1 / 3., -2.5 / 3, .2 / 3, .1 / 3, 0};
    check_delta(merge, 3, taus, average, 6, 1e-6, "average");
    distac_merge_release(merge);

    merge = method("task_arithmetic");
    static const double sum[] = {-.9, -1, -2.5, .2, .1, 0};
    check_delta(merge, 3, taus, sum, 6, 1e-6, "task_arithmetic");
    OK(distac_merge_set(merge, "lambda", 1, (double[]){.3}));
    check_delta(merge, 3, taus, sum, 6, 1e-6, "D is before lambda");
    distac_merge_release(merge);

    merge = method("ties");
    static const double top3[] = {-2, -4, -2.25, 0, 0, -5};
    OK(distac_merge_set(merge, "keep", 1, (double[]){.5}));
    check_delta(merge, 3, taus, top3, 6, 1e-6, "ties keep 3 of 6");
    /* Keeping 4 of 6 is what the reference code's 0.5 does. */
    static const double top4[] = {-2, -4, -2.25, -.6, 0, -5};
    OK(distac_merge_set(merge, "keep", 1, (double[]){4 / 6. + 1e-9}));
    check_delta(merge, 3, taus, top4, 6, 1e-6, "ties keep 4 of 6");
    static const double none[6] = {0};
    OK(distac_merge_set(merge, "keep", 1, (double[]){.1}));
    check_delta(merge, 3, taus, none, 6, 0, "ties keeps nothing");
    distac_merge_release(merge);

    merge = method("consensus_ta");
    OK(distac_merge_set(merge, "tall", 1, (double[]){.6}));
    static const double k2[] = {0, -1, -2.5, .2, 0, 0}, k3[] = {0, 0, 0, .2, 0, 0};
    check_delta(merge, 3, taus, k2, 6, 1e-6, "consensus k 2");
    OK(distac_merge_set(merge, "k", 1, (double[]){1}));
    check_delta(merge, 3, taus, sum, 6, 1e-6, "consensus k 1");
    OK(distac_merge_set(merge, "k", 1, (double[]){3}));
    check_delta(merge, 3, taus, k3, 6, 1e-6, "consensus k 3");
    OK(distac_merge_set(merge, "k", 1, (double[]){0}));
    check_delta(merge, 3, taus, sum, 6, 1e-6, "consensus k 0");
    OK(distac_merge_set(merge, "k", 1, (double[]){4}));
    check_delta(merge, 3, taus, none, 6, 0, "consensus k 4");
    /* lambda 1: masks 001100, 101110, 010000; the tie 4 > 4 is false. Counts 1 1 2 2 1 0. */
    static const double tie[] = {0, 0, -2.5, .2, 0, 0};
    OK(distac_merge_set(merge, "k", 1, (double[]){2}));
    OK(distac_merge_set(merge, "tall", 1, (double[]){1}));
    check_delta(merge, 3, taus, tie, 6, 1e-6, "consensus strict");
    /* One number per model: masks of 0.6, 0.4, 1: 011101, 111111, 010000. Counts 1 3 2 2 1 2. */
    static const double list[] = {0, -1, -2.5, .2, 0, 0};
    OK(distac_merge_set(merge, "tall", 3, (double[]){.6, .4, 1}));
    check_delta(merge, 3, taus, list, 6, 1e-6, "consensus list");
    distac_checkpoint *delta;
    OK(distac_merge_set(merge, "tall", 2, (double[]){.6, .4}));
    assert_int_equal(distac_merge_delta(merge, 3, taus, &delta), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "tall has 2 values for 3 models"));
    distac_merge_release(merge);

    /* Two rows, three models: nothing is kept, and that is said. */
    distac_event event;
    merge = method("tsvm");
    while (distac_event_next(context, &event)) {
    }
    check_delta(merge, 3, taus, none, 6, 0, "tsvm, too small");
    bool warned = false;
    while (distac_event_next(context, &event)) warned |= event.kind == 2 && strstr(event.what, "\"w\" [2,3]");
    assert_true(warned);
    distac_merge_release(merge);
    for (int t = 0; t < 3; t++) distac_checkpoint_release(taus[t]);
}

static void worked_tsvm(void **state) {
    (void)state;
    distac_merge *merge = method("tsvm");
    distac_checkpoint *pair[2] = {matrix(2, 2, (double[]){3, 0, 0, 1}),
                                  matrix(2, 2, (double[]){0, sqrt(2), 0, sqrt(2)})};
    static const double want[] = {2.77163860, .76536686, -1.14805030, 1.84775907};
    check_delta(merge, 2, pair, want, 4, 1e-6, "tsvm 2x2");
    distac_checkpoint *swapped[2] = {pair[1], pair[0]};
    check_delta(merge, 2, swapped, want, 4, 1e-6, "tsvm 2x2, other order");
    distac_checkpoint *f2[2] = {matrix(2, 3, (double[]){2, 1, 0, 0, 1, 1}),
                                matrix(2, 3, (double[]){0, 1, -1, 1, 0, 3})};
    static const double want2[] = {1.62850785, 1.45516602, -1.02781683, 1.08008542, -.18832331, 3.04545104};
    check_delta(merge, 2, f2, want2, 6, 1e-6, "tsvm F2");
    /* Twice the same matrix: its leading half. */
    distac_checkpoint *same[2] = {pair[0], pair[0]};
    check_delta(merge, 2, same, (double[]){3, 0, 0, 0}, 4, 1e-6, "tsvm of equal models");
    /* A model that changed nothing adds nothing. */
    distac_checkpoint *zero[2] = {pair[0], matrix(2, 2, (double[4]){0})};
    check_delta(merge, 2, zero, (double[]){3, 0, 0, 0}, 4, 1e-6, "tsvm with a zero model");
    distac_checkpoint *zeros[2] = {zero[1], zero[1]};
    check_delta(merge, 2, zeros, (double[4]){0}, 4, 0, "tsvm of zero models");
    for (int t = 0; t < 2; t++) {
        distac_checkpoint_release(pair[t]);
        distac_checkpoint_release(f2[t]);
    }
    distac_checkpoint_release(zero[1]);
    distac_merge_release(merge);
}

static void registry(void **state) {
    (void)state;
    static const char *const names[] = {"average", "task_arithmetic", "ties", "consensus_ta", "tsvm"};
    distac_merge_param info;
    distac_merge *merge = NULL;
    assert_true(distac_merge_method_count() >= 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(distac_merge_method_name(i), names[i]);
        assert_true(strlen(distac_merge_method_text(i)) > 10);
        int32_t last = distac_merge_param_count(i) - 1;
        OK(distac_merge_param_info(i, last, &info));
        assert_string_equal(info.name, "lambda");
        assert_true(info.value == 1 && info.list == 0);
        assert_int_equal(distac_merge_param_info(i, last + 1, &info), DISTAC_EINVAL);
    }
    assert_null(distac_merge_method_name(-1));
    assert_null(distac_merge_method_name(distac_merge_method_count()));
    assert_int_equal(distac_merge_create(context, "tie", &merge), DISTAC_ENOTFOUND);
    assert_non_null(strstr(distac_last_error(), "did you mean \"ties\""));
    assert_null(merge);
    merge = method("ties");
    assert_int_equal(distac_merge_set(merge, "kepe", 1, (double[]){.2}), DISTAC_ENOTFOUND);
    assert_non_null(strstr(distac_last_error(), "did you mean \"keep\""));
    assert_int_equal(distac_merge_set(merge, "keep", 1, (double[]){1.5}), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "1.5"));
    assert_int_equal(distac_merge_set(merge, "keep", 1, (double[]){NAN}), DISTAC_EINVAL);
    assert_int_equal(distac_merge_set(merge, "keep", 2, (double[]){.2, .3}), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "wants one number"));
    distac_merge_release(merge);
    merge = method("consensus_ta");
    assert_int_equal(distac_merge_set(merge, "k", 1, (double[]){1.5}), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "whole number"));
    distac_checkpoint *delta;
    assert_int_equal(distac_merge_delta(merge, 0, NULL, &delta), DISTAC_EINVAL);
    distac_merge_release(merge);
}

/* ---- random models ---- */

enum { TENSORS = 7, MAX_MODELS = 8 };
typedef struct shape_of {
    const char *name;
    int32_t rank;
    int64_t shape[4], numel;
} shape_of;
static const shape_of shapes[TENSORS] = {
    {"a.bias", 1, {37}, 37},       {"b.conv", 4, {6, 3, 4, 4}, 288}, {"c.tall", 2, {96, 40}, 3840},
    {"d.wide", 2, {24, 80}, 1920}, {"e.square", 2, {48, 48}, 2304},  {"f.scalar", 0, {0}, 1},
    {"g.long", 1, {40000}, 40000},
};
typedef struct model {
    double *values[TENSORS]; /* as stored */
} model;

static uint64_t random_state = 99;
static double uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}
static double normal(void) {
    return sqrt(-2 * log(1 - uniform())) * cos(2 * 3.14159265358979323846 * uniform());
}

static distac_checkpoint *random_model(const model *base, int32_t dtype, double size, model *out) {
    distac_checkpoint *checkpoint;
    OK(distac_checkpoint_create(context, &checkpoint));
    for (int k = 0; k < TENSORS; k++) {
        int64_t n = shapes[k].numel;
        out->values[k] = malloc((size_t)n * sizeof(double));
        for (int64_t i = 0; i < n; i++) out->values[k][i] = (base ? base->values[k][i] : 0) + size * normal();
        add(checkpoint, shapes[k].name, dtype, shapes[k].rank, shapes[k].shape, out->values[k]);
        values_of(checkpoint, shapes[k].name, n, out->values[k]); /* rounded to the type */
    }
    int64_t two = 2;
    add(checkpoint, "steps", DISTAC_I64, 1, &two, (double[]){base ? 1 : 1234567, -5});
    return checkpoint;
}

static void free_model(model *m) {
    for (int k = 0; k < TENSORS; k++) free(m->values[k]);
}

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

/* One model alone gives itself; models in another order give the same but for rounding. */
static void laws(void **state) {
    (void)state;
    model base, tuned[3];
    distac_checkpoint *from = random_model(NULL, DISTAC_F32, 0.5, &base), *models[3], *merged, *other;
    for (int t = 0; t < 3; t++) models[t] = random_model(&base, DISTAC_F32, 0.02, &tuned[t]);
    for (int32_t m = 0; m < CORE_METHODS; m++) {
        const char *name = distac_merge_method_name(m);
        distac_merge *merge = method(name);
        if (strcmp(name, "ties") == 0) OK(distac_merge_set(merge, "keep", 1, (double[]){1}));
        if (strcmp(name, "consensus_ta") == 0) OK(distac_merge_set(merge, "k", 1, (double[]){1}));
        OK(distac_merge_files(merge, from, 1, models, file_named("one"), -1, NULL));
        OK(distac_checkpoint_open(context, file_named("one"), &merged));
        for (int k = 0; k < TENSORS; k++) {
            double *got = malloc((size_t)shapes[k].numel * sizeof *got);
            values_of(merged, shapes[k].name, shapes[k].numel, got);
            for (int64_t i = 0; i < shapes[k].numel; i++)
                near(got[i], tuned[0].values[k][i], strcmp(name, "tsvm") == 0 ? 1e-6 : 0, name, i);
            free(got);
        }
        distac_checkpoint_release(merged);
        distac_checkpoint *turned[3] = {models[2], models[0], models[1]};
        OK(distac_merge_files(merge, from, 3, models, file_named("one"), -1, NULL));
        OK(distac_merge_files(merge, from, 3, turned, file_named("two"), -1, NULL));
        OK(distac_checkpoint_open(context, file_named("one"), &merged));
        OK(distac_checkpoint_open(context, file_named("two"), &other));
        for (int k = 0; k < TENSORS; k++) {
            double *a = malloc((size_t)shapes[k].numel * sizeof *a),
                   *b = malloc((size_t)shapes[k].numel * sizeof *b);
            values_of(merged, shapes[k].name, shapes[k].numel, a);
            values_of(other, shapes[k].name, shapes[k].numel, b);
            for (int64_t i = 0; i < shapes[k].numel; i++) near(a[i], b[i], 3e-7, name, i);
            free(a);
            free(b);
        }
        distac_checkpoint_release(merged);
        distac_checkpoint_release(other);
        /* Lambda 0 is the base; a base merged with itself is the base. */
        OK(distac_merge_set(merge, "lambda", 1, (double[]){0}));
        OK(distac_merge_files(merge, from, 3, models, file_named("one"), -1, NULL));
        OK(distac_merge_set(merge, "lambda", 1, (double[]){1}));
        distac_checkpoint *same[3] = {from, from, from};
        OK(distac_merge_files(merge, from, 3, same, file_named("two"), -1, NULL));
        for (int f = 0; f < 2; f++) {
            OK(distac_checkpoint_open(context, file_named(f ? "two" : "one"), &merged));
            for (int k = 0; k < TENSORS; k++) {
                double *got = malloc((size_t)shapes[k].numel * sizeof *got);
                values_of(merged, shapes[k].name, shapes[k].numel, got);
                for (int64_t i = 0; i < shapes[k].numel; i++) near(got[i], base.values[k][i], 0, name, i);
                free(got);
            }
            distac_checkpoint_release(merged);
        }
        distac_merge_release(merge);
    }
    free_model(&base);
    distac_checkpoint_release(from);
    for (int t = 0; t < 3; t++) {
        free_model(&tuned[t]);
        distac_checkpoint_release(models[t]);
    }
}

static void threads(void **state) {
    (void)state;
    model base, tuned[4];
    distac_checkpoint *from = random_model(NULL, DISTAC_F32, 0.5, &base), *models[4];
    for (int t = 0; t < 4; t++) models[t] = random_model(&base, DISTAC_F32, 0.02, &tuned[t]);
    static const int counts[] = {1, 2, 8};
    for (int32_t m = 0; m < CORE_METHODS; m++) {
        char first[65] = "";
        for (int i = 0; i < 3; i++) {
            distac_strings *hash;
            distac_merge *merge = method(distac_merge_method_name(m));
            OK(distac_context_set_threads(context, counts[i]));
            OK(distac_merge_files(merge, from, 4, models, file_named("one"), -1, NULL));
            OK(distac_hash_file(file_named("one"), &hash));
            if (i == 0) strcpy(first, distac_strings_get(hash, 0));
            assert_string_equal(distac_strings_get(hash, 0), first);
            distac_strings_release(hash);
            distac_merge_release(merge);
        }
    }
    OK(distac_context_set_threads(context, 2));
    free_model(&base);
    distac_checkpoint_release(from);
    for (int t = 0; t < 4; t++) {
        free_model(&tuned[t]);
        distac_checkpoint_release(models[t]);
    }
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

static void refusals(void **state) {
    (void)state;
    model base, tuned[2];
    distac_checkpoint *from = random_model(NULL, DISTAC_F32, 0.5, &base), *models[2], *delta;
    for (int t = 0; t < 2; t++) models[t] = random_model(&base, DISTAC_F32, 0.02, &tuned[t]);
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int32_t m = 0; m < CORE_METHODS; m++)
        for (int b = 0; b < 3; b++)
            for (int k = 0; k < TENSORS; k += 2) {
                distac_merge *merge = method(distac_merge_method_name(m));
                int64_t at = shapes[k].numel / 2;
                double *values = malloc((size_t)shapes[k].numel * sizeof *values);
                char text[64];
                memcpy(values, tuned[1].values[k], (size_t)shapes[k].numel * sizeof *values);
                values[at] = bad[b];
                values[shapes[k].numel - 1] = bad[b];
                add(models[1], shapes[k].name, DISTAC_F32, shapes[k].rank, shapes[k].shape, values);
                assert_int_equal(distac_merge_files(merge, from, 2, models, file_named("bad"), -1, NULL),
                                 DISTAC_ENUMERIC);
                snprintf(text, sizeof text, "model 2: tensor \"%s\", element %lld is", shapes[k].name,
                         (long long)at);
                assert_non_null(strstr(distac_last_error(), text));
                assert_int_equal(distac_path_kind(file_named("bad")), 0);
                assert_int_equal(distac_merge_delta(merge, 2, models, &delta), DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), "task vector 2"));
                add(models[1], shapes[k].name, DISTAC_F32, shapes[k].rank, shapes[k].shape, tuned[1].values[k]);
                distac_merge_release(merge);
                free(values);
            }
    distac_strings *left;
    OK(distac_path_list(folder, &left));
    for (int64_t i = 0; i < distac_strings_count(left); i++)
        assert_null(strstr(distac_strings_get(left, i), "bad"));
    distac_strings_release(left);

    /* Everything that does not fit is told at once. */
    distac_merge *merge = method("average");
    distac_checkpoint *odd;
    int64_t n = 40000, short_n = 36, extra = 1;
    OK(distac_checkpoint_create(context, &odd));
    add(odd, "a.bias", DISTAC_F32, 1, &short_n, tuned[0].values[6]);
    add(odd, "g.lnog", DISTAC_F32, 1, &n, tuned[0].values[6]);
    add(odd, "extra", DISTAC_F32, 1, &extra, tuned[0].values[6]);
    distac_checkpoint *pair[2] = {models[0], odd};
    assert_int_equal(distac_merge_files(merge, from, 2, pair, file_named("bad"), -1, NULL), DISTAC_ENOTFOUND);
    static const char *const parts[] = {
        "\"g.long\" (nearest: \"g.lnog\")", "\"c.tall\"", "\"extra\"", "[37]", "[36]", "model 2"};
    for (int i = 0; i < 6; i++)
        if (!strstr(distac_last_error(), parts[i])) fail_msg("%s is not in: %s", parts[i], distac_last_error());

    /* A result that does not fit the output type. */
    distac_checkpoint *large[1] = {matrix(1, 2, (double[]){1, 60000})}, *ground = matrix(1, 2, (double[]){1, 1});
    OK(distac_merge_set(merge, "lambda", 1, (double[]){2}));
    assert_int_equal(distac_merge_files(merge, ground, 1, large, file_named("bad"), DISTAC_F16, NULL),
                     DISTAC_ENUMERIC);
    assert_non_null(strstr(distac_last_error(), "tensor \"w\", element 1: 119999"));
    assert_int_equal(distac_merge_files(merge, ground, 1, large, file_named("bad"), DISTAC_I32, NULL),
                     DISTAC_EINVAL);
    OK(distac_merge_files(merge, ground, 1, large, file_named("good"), DISTAC_BF16, NULL));
    distac_cancel(context);
    assert_int_equal(distac_merge_files(merge, ground, 1, large, file_named("bad"), -1, NULL), DISTAC_ECANCELED);
    distac_cancel_clear(context);
    assert_int_equal(distac_path_kind(file_named("bad")), 0);
    distac_checkpoint *all[] = {from, models[0], models[1], odd, large[0], ground};
    for (int i = 0; i < 6; i++) distac_checkpoint_release(all[i]);
    distac_merge_release(merge);
    free_model(&base);
    free_model(&tuned[0]);
    free_model(&tuned[1]);
}

/* The output may be an input that is open and mapped; types without arithmetic are carried bit for bit. */
static void over_an_input(void **state) {
    (void)state;
    const char *header = "{\"f4\":{\"dtype\":\"F4\",\"shape\":[2,2],\"data_offsets\":[8,10]},"
                         "\"b\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[10,11]},"
                         "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    size_t length = strlen(header);
    uint8_t bytes[256] = {0};
    float values[2] = {1, 2};
    bytes[0] = (uint8_t)length;
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, values, 8);
    memcpy(bytes + 16 + length, "\x5a\xc3\x01", 3);
    OK(distac_path_write(file_named("base"), (const char *)bytes, (int64_t)(8 + length + 11)));
    distac_checkpoint *base, *model_one, *back;
    OK(distac_checkpoint_open(context, file_named("base"), &base));
    OK(distac_checkpoint_create(context, &model_one));
    add(model_one, "w", DISTAC_F32, 1, (int64_t[]){2}, (double[]){3, 5});
    distac_merge *merge = method("task_arithmetic");
    OK(distac_merge_set(merge, "lambda", 1, (double[]){.5}));
    OK(distac_merge_files(merge, base, 1, &model_one, file_named("base"), -1, NULL));
    OK(distac_checkpoint_open(context, file_named("base"), &back));
    double got[2];
    values_of(base, "w", 2, got);
    assert_true(got[0] == 1 && got[1] == 2);
    values_of(back, "w", 2, got);
    assert_true(got[0] == 2 && got[1] == 3.5);
    const di_entry *f4 = di_checkpoint_entry(back, "f4"), *b = di_checkpoint_entry(back, "b");
    assert_string_equal(f4->type->name, "F4");
    assert_int_equal(f4->rank, 2);
    assert_memory_equal(f4->data, "\x5a\xc3", 2);
    assert_memory_equal(b->data, "\x01", 1);
    distac_checkpoint *all[] = {base, model_one, back};
    for (int i = 0; i < 3; i++) distac_checkpoint_release(all[i]);
    distac_merge_release(merge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_f3),          cmocka_unit_test(worked_tsvm),   cmocka_unit_test(registry),
        cmocka_unit_test(random_models),      cmocka_unit_test(laws),          cmocka_unit_test(equal_magnitudes),
        cmocka_unit_test(sampled_thresholds), cmocka_unit_test(threads),       cmocka_unit_test(large_matrices),
        cmocka_unit_test(refusals),           cmocka_unit_test(over_an_input),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
