/* merge_test.h: what the tests of merging share: models from numbers and of random numbers, a comparison that NaN
 * fails. */
#ifndef MERGE_TEST_H
#define MERGE_TEST_H

#include "check.h"
#include "io/io.h"
#include <string.h>
#include <math.h>
#include <unistd.h>
#include <lapacke.h>

#define MAYBE __attribute__((unused)) static

/* The methods that all kinds of work paths meet in here; the laws of all others are held to in Lua, over the list.
 */
enum { CORE_METHODS = 5 };

static char folder[64];
static distac_context *context;

MAYBE int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 2};
    strcpy(folder, "/tmp/distac_merge_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return distac_context_create(&desc, &context);
}

MAYBE int teardown(void **state) {
    (void)state;
    char command[128];
    distac_context_release(context);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

MAYBE const char *file_named(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Fails on NaN. */
MAYBE void near(double got, double want, double tolerance, const char *what, int64_t index) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s[%lld]: got %.12g, wanted %.12g (off by %g, allowed %g)", what, (long long)index, got, want,
                 fabs(got - want), tolerance);
}

MAYBE void add(distac_checkpoint *checkpoint, const char *name, int32_t dtype, int32_t rank, const int64_t *shape,
                const double *values) {
    distac_tensor *tensor;
    OK(distac_tensor_create(context, dtype, rank, shape, &tensor));
    OK(distac_tensor_write(tensor, distac_tensor_numel(tensor), values));
    OK(distac_checkpoint_set(checkpoint, name, tensor));
    distac_tensor_release(tensor);
}

MAYBE distac_checkpoint *matrix(int64_t rows, int64_t columns, const double *values) {
    distac_checkpoint *checkpoint;
    OK(distac_checkpoint_create(context, &checkpoint));
    add(checkpoint, "w", DISTAC_F32, 2, (int64_t[]){rows, columns}, values);
    return checkpoint;
}

MAYBE void values_of(const distac_checkpoint *checkpoint, const char *name, int64_t n, double *out) {
    distac_tensor *tensor;
    OK(distac_checkpoint_tensor(checkpoint, distac_checkpoint_find(checkpoint, name), &tensor));
    OK(distac_tensor_read(tensor, n, out));
    distac_tensor_release(tensor);
}

MAYBE distac_merge *method(const char *name) {
    distac_merge *merge;
    OK(distac_merge_create(context, name, &merge));
    return merge;
}

/* D of task vectors, against wanted numbers. */
MAYBE void check_delta(distac_merge *merge, int count, distac_checkpoint *const *taus, const double *want,
                        int64_t n, double tolerance, const char *what) {
    distac_checkpoint *delta;
    double got[16];
    OK(distac_merge_delta(merge, count, taus, &delta));
    values_of(delta, "w", n, got);
    for (int64_t i = 0; i < n; i++) near(got[i], want[i], tolerance, what, i);
    distac_checkpoint_release(delta);
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
MAYBE double uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}
MAYBE double normal(void) {
    return sqrt(-2 * log(1 - uniform())) * cos(2 * 3.14159265358979323846 * uniform());
}

MAYBE distac_checkpoint *random_model(const model *base, int32_t dtype, double size, model *out) {
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

MAYBE void free_model(model *m) {
    for (int k = 0; k < TENSORS; k++) free(m->values[k]);
}

#endif
