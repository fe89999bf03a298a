/* test_merge_straight.c: what is merged from floats to floats has the bits of what
 * goes through rows of doubles, in memory and to a file, for any number of models,
 * threads and elements; and finds what is not finite, wherever it stands. */
#include "check.h"
#include "io/io.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

enum { TENSORS = 6, MOST = 24 };
/* Around a block, a step, a piece and several. */
static const int64_t sizes[TENSORS] = {1, 63, 64, 1000, 16384 + 65, 50000};
static const struct way {
    int32_t threads;
    const char *kernels;
} ways[] = {{2, "scalar"}, {1, NULL}, {2, NULL}, {7, NULL}};
enum { WAYS = sizeof ways / sizeof ways[0] };

static char path[96];

static int setup(void **state) {
    (void)state;
    strcpy(path, "/tmp/distac_straight_XXXXXX");
    int file = mkstemp(path);
    return file < 0 ? -1 : close(file);
}

static int teardown(void **state) {
    (void)state;
    return unlink(path);
}

static distac_context *open_context(struct way way) {
    distac_context *context;
    distac_context_desc desc = {.threads = way.threads, .kernels = way.kernels};
    OK(distac_context_create(&desc, &context));
    return context;
}

/* Zeros of both signs among the numbers, and now and then equal ones. */
static float number(int model, int tensor, int64_t i) {
    double x = di_normal(11, (uint64_t)(100 * (model + 1) + tensor), (uint64_t)i);
    if (i % 7 == 3) return model % 2 ? 0.0f : -0.0f;
    return (float)(i % 5 == 0 ? rint(2 * x) : x);
}

static distac_checkpoint *numbers(distac_context *context, int model, double scale) {
    distac_checkpoint *made;
    OK(distac_checkpoint_create(context, &made));
    for (int k = 0; k < TENSORS; k++) {
        distac_tensor *tensor;
        char name[8];
        snprintf(name, sizeof name, "t%d", k);
        OK(distac_tensor_create(context, DISTAC_F32, 1, &sizes[k], &tensor));
        float *x = distac_tensor_data(tensor);
        for (int64_t i = 0; i < sizes[k]; i++) x[i] = (float)scale * number(model, k, i);
        OK(distac_checkpoint_set(made, name, tensor));
        distac_tensor_release(tensor);
    }
    return made;
}

static float *element(distac_checkpoint *checkpoint, int tensor, int64_t i) {
    return (float *)distac_tensor_data(checkpoint->entries[tensor]->tensor) + i;
}

static void set(distac_merge *merge, const char *name, double value) {
    OK(distac_merge_set(merge, name, 1, &value));
}

static distac_merge *method(distac_context *context, const char *name, int models) {
    distac_merge *merge;
    double list[MOST];
    OK(distac_merge_create(context, name, &merge));
    for (int t = 0; t < models; t++) list[t] = 0.2 + 0.05 * t;
    if (strcmp(name, "consensus_ta") == 0) {
        OK(distac_merge_set(merge, "tall", models, list));
        set(merge, "k", models > 2 ? 3 : 1);
    } else {
        OK(distac_merge_set(merge, "weights", models, list));
    }
    if (strcmp(name, "average") != 0) set(merge, "lambda", -0.7);
    return merge;
}

static void same_bits(void **state) {
    (void)state;
    static const char *const names[] = {"average", "task_arithmetic", "consensus_ta"};
    static const int counts[] = {1, 2, 3, 8, MOST};
    for (int m = 0; m < 3; m++)
        for (int c = 0; c < 5; c++) {
            int models = counts[c];
            float *first = NULL;
            uint8_t *file = NULL;
            size_t file_size = 0, all = 0;
            for (int k = 0; k < TENSORS; k++) all += (size_t)sizes[k];
            for (int w = 0; w < WAYS; w++) {
                distac_context *context = open_context(ways[w]);
                distac_checkpoint *base = numbers(context, -1, 1), *inputs[MOST], *delta;
                distac_merge *merge = method(context, names[m], models);
                float *got = malloc(all * sizeof *got), *at = got;
                size_t size;
                for (int t = 0; t < models; t++) inputs[t] = numbers(context, t, 0.1);
                OK(distac_merge_delta(merge, models, inputs, &delta));
                for (int k = 0; k < TENSORS; at += sizes[k++])
                    memcpy(at, element(delta, k, 0), (size_t)sizes[k] * sizeof *at);
                OK(distac_merge_files(merge, base, models, inputs, path, -1, NULL));
                uint8_t *bytes = file_bytes(path, &size);
                if (w == 0) {
                    first = got;
                    file = bytes;
                    file_size = size;
                } else {
                    assert_memory_equal(got, first, all * sizeof *got);
                    assert_int_equal(size, file_size);
                    assert_memory_equal(bytes, file, size);
                    free(got);
                    free(bytes);
                }
                distac_checkpoint_release(delta);
                distac_checkpoint_release(base);
                for (int t = 0; t < models; t++) distac_checkpoint_release(inputs[t]);
                distac_merge_release(merge);
                distac_context_release(context);
            }
            free(first);
            free(file);
        }
}

/* One bad number at a time: an input's, the base's, or a result that is too large for a float. */
static void not_finite(void **state) {
    (void)state;
    enum { MODELS = 3, BIG = TENSORS - 1 };
    static const char *const names[] = {"average", "task_arithmetic", "consensus_ta"};
    static const int64_t places[] = {0, 31, 16383, 16384, 49983, 49984, 49999};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int w = 0; w < WAYS; w++)
        for (int m = 0; m < 3; m++) {
            distac_context *context = open_context(ways[w]);
            distac_checkpoint *base = numbers(context, -1, 1), *inputs[MODELS], *delta;
            distac_merge *merge;
            OK(distac_merge_create(context, names[m], &merge));
            for (int t = 0; t < MODELS; t++) inputs[t] = numbers(context, t, 0.1);
            for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
                float *at = element(inputs[p % MODELS], BIG, places[p]), kept = *at;
                char where[64];
                snprintf(where, sizeof where, "\"t%d\", element %lld is", BIG, (long long)places[p]);
                *at = bad[p % 3];
                assert_int_equal(distac_merge_delta(merge, MODELS, inputs, &delta), DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), where));
                assert_int_equal(distac_merge_files(merge, base, MODELS, inputs, path, -1, NULL), DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), where));
                *at = kept;
                at = element(base, BIG, places[p]);
                kept = *at;
                *at = bad[p % 3];
                assert_int_equal(distac_merge_files(merge, base, MODELS, inputs, path, -1, NULL), DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), where));
                *at = kept;
            }
            OK(distac_merge_delta(merge, MODELS, inputs, &delta));
            distac_checkpoint_release(delta);
            if (m > 0) { /* a mean is never too large */
                for (int t = 0; t < MODELS; t++) *element(inputs[t], BIG, 640) = 3e38f;
                assert_int_equal(distac_merge_delta(merge, MODELS, inputs, &delta), DISTAC_ENUMERIC);
                assert_non_null(strstr(distac_last_error(), "\"t5\""));
            }
            for (int t = 0; t < MODELS; t++) distac_checkpoint_release(inputs[t]);
            distac_checkpoint_release(base);
            distac_merge_release(merge);
            distac_context_release(context);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
