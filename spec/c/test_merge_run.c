/* test_merge_run.c: what the executor promises beside the numbers: votes that are settled late, the same bits for
 * any instruction set and number of threads, bounded memory, whatever the number and the size of the models. */
#include "check.h"
#include "io/io.h"
#include <string.h>
#include <math.h>
#include <unistd.h>

static char folder[64];

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/distac_merge_run_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *file_named(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static distac_context *open_context(int32_t threads, const char *kernels) {
    distac_context *context;
    distac_context_desc desc = {.threads = threads, .kernels = kernels};
    OK(distac_context_create(&desc, &context));
    return context;
}

static void add(distac_context *context, distac_checkpoint *to, const char *name, int32_t dtype, int64_t n,
                const double *values) {
    distac_tensor *tensor;
    OK(distac_tensor_create(context, dtype, 1, &n, &tensor));
    OK(distac_tensor_write(tensor, n, values));
    OK(distac_checkpoint_set(to, name, tensor));
    distac_tensor_release(tensor);
}

/* Numbers on a coarse grid, so that kept entries cancel often; a share of the models' changes is zero. */
static distac_checkpoint *coarse(distac_context *context, int model, int64_t n, double step, int32_t dtype) {
    distac_checkpoint *checkpoint;
    double *values = malloc((size_t)n * sizeof *values);
    OK(distac_checkpoint_create(context, &checkpoint));
    for (int tensor = 0; tensor < 3; tensor++) {
        char name[16];
        int64_t count = n / (1 + 3 * tensor) + tensor;
        for (int64_t i = 0; i < count; i++) {
            double change = model < 0 ? 0 : rint(4 * di_normal(7, (uint64_t)(10 * model + tensor), (uint64_t)i));
            values[i] = 0.25 + step * change;
        }
        snprintf(name, sizeof name, "t%d", tensor);
        add(context, checkpoint, name, dtype, count, values);
    }
    free(values);
    return checkpoint;
}

/* The merged tensor t0 in doubles, straightforwardly; `late` counts the votes that the majority decided. */
static void plain_ties(int models, int64_t n, double step, double keep, double *out, int64_t *late) {
    int64_t all = 0, rank;
    double *tau[8], *sorted, lead = 0;
    for (int tensor = 0; tensor < 3; tensor++) all += n / (1 + 3 * tensor) + tensor;
    sorted = malloc((size_t)all * sizeof *sorted);
    double threshold[8];
    rank = (int64_t)(keep * (double)all);
    for (int t = 0; t < models; t++) {
        int64_t at = 0, counts[256] = {0}, left = rank;
        tau[t] = malloc((size_t)all * sizeof **tau);
        for (int tensor = 0; tensor < 3; tensor++)
            for (int64_t i = 0; i < n / (1 + 3 * tensor) + tensor; i++) {
                double change = rint(4 * di_normal(7, (uint64_t)(10 * t + tensor), (uint64_t)i));
                counts[(int)fabs(change)]++;
                tau[t][at++] = change;
            }
        int digit = 255;
        while (left > counts[digit]) left -= counts[digit--];
        threshold[t] = digit;
    }
    for (int64_t i = 0; i < all; i++) {
        double sum = 0;
        for (int t = 0; t < models; t++) sum += fabs(tau[t][i]) >= threshold[t] ? tau[t][i] : 0;
        sorted[i] = sum;
        lead += (sum > 0) - (sum < 0);
    }
    *late = 0;
    for (int64_t i = 0; i < n; i++) {
        double sign = sorted[i] != 0 ? sorted[i] : lead, total = 0, count = 0;
        for (int t = 0; t < models; t++) {
            double kept = fabs(tau[t][i]) >= threshold[t] ? tau[t][i] : 0;
            if (kept * sign <= 0) continue;
            total += kept;
            count++;
        }
        *late += sorted[i] == 0 && count > 0;
        out[i] = 0.25 + step * (count > 0 ? total / count : 0);
    }
    for (int t = 0; t < models; t++) free(tau[t]);
    free(sorted);
}

/* Votes tied by exact cancelling: decided by a majority that is known only when everything was looked at. */
static void late_votes(void **state) {
    (void)state;
    enum { N = 100000, MODELS = 4 };
    static const struct {
        int32_t threads;
        const char *kernels;
    } ways[] = {{1, NULL}, {2, NULL}, {7, NULL}, {2, "scalar"}};
    uint8_t *first = NULL;
    size_t first_size = 0;
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        distac_context *context = open_context(ways[way].threads, ways[way].kernels);
        distac_checkpoint *base = coarse(context, -1, N, 0x1p-10, DISTAC_F32), *models[MODELS], *merged;
        for (int t = 0; t < MODELS; t++) models[t] = coarse(context, t, N, 0x1p-10, DISTAC_F32);
        distac_merge *merge;
        OK(distac_merge_create(context, "ties", &merge));
        OK(distac_merge_files(merge, base, MODELS, models, file_named("late.safetensors"), -1, NULL));
        size_t size;
        uint8_t *bytes = file_bytes(file_named("late.safetensors"), &size);
        if (first) {
            assert_int_equal(size, first_size);
            assert_memory_equal(bytes, first, size);
            free(bytes);
        } else {
            first = bytes;
            first_size = size;
            double *want = malloc(N * sizeof *want), *got = malloc(N * sizeof *got);
            int64_t late;
            plain_ties(MODELS, N, 0x1p-10, 0.2, want, &late);
            assert_true(late > 50);
            OK(distac_checkpoint_open(context, file_named("late.safetensors"), &merged));
            distac_tensor *tensor;
            OK(distac_checkpoint_tensor(merged, distac_checkpoint_find(merged, "t0"), &tensor));
            OK(distac_tensor_read(tensor, N, got));
            for (int64_t i = 0; i < N; i++)
                if (!(fabs(got[i] - want[i]) <= 4e-8))
                    fail_msg("[%lld]: %.9g, wanted %.9g", (long long)i, got[i], want[i]);
            distac_tensor_release(tensor);
            distac_checkpoint_release(merged);
            free(want);
            free(got);
        }
        distac_merge_release(merge);
        for (int t = 0; t < MODELS; t++) distac_checkpoint_release(models[t]);
        distac_checkpoint_release(base);
        distac_context_release(context);
    }
    free(first);
}

/* Thresholds by a sample and its bounds (more than a million elements): the same bits for all instruction sets;
 * memory does not grow with the models, and the plan's bound holds. */
static void bounded(void **state) {
    (void)state;
    enum { N = 800000, MODELS = 24 };
    static const struct { int32_t threads; const char *kernels; int models; } ways[] = {
        {2, NULL, 2}, {2, "scalar", 2}, {2, NULL, MODELS}};
    uint8_t *first = NULL;
    size_t first_size = 0;
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        distac_context *context = open_context(ways[way].threads, ways[way].kernels);
        distac_checkpoint *base = coarse(context, -1, N, 0x1p-10, DISTAC_BF16), *models[MODELS];
        for (int t = 0; t < ways[way].models; t++)
            models[t] = t < 2 ? coarse(context, t, N, 0x1p-10, DISTAC_F32) : models[t - 2];
        distac_merge *merge;
        distac_context_info before, after;
        distac_merge_estimate plan;
        OK(distac_merge_create(context, "ties", &merge));
        OK(distac_merge_plan(merge, base, ways[way].models, models, -1, &plan));
        assert_int_equal(plan.tensors, 3);
        assert_int_equal(plan.merged, 3);
        assert_int_equal(plan.output_bytes, 2 * plan.elements);
        OK(distac_context_reset_peak(context));
        OK(distac_context_get_info(context, &before));
        OK(distac_merge_files(merge, base, ways[way].models, models, file_named("bounded.safetensors"), -1, NULL));
        OK(distac_context_get_info(context, &after));
        assert_true(after.memory_peak - before.memory_used <= plan.memory_bytes);
        assert_true(plan.memory_bytes < INT64_C(512) << 20);
        size_t size;
        uint8_t *bytes = file_bytes(file_named("bounded.safetensors"), &size);
        if (!first) {
            first = bytes;
            first_size = size;
        } else {
            assert_int_equal(size, first_size);
            if (ways[way].models == 2) assert_memory_equal(bytes, first, size);
            free(bytes);
        }
        distac_merge_release(merge);
        for (int t = 0; t < ways[way].models && t < 2; t++) distac_checkpoint_release(models[t]);
        distac_checkpoint_release(base);
        distac_context_release(context);
    }
    free(first);
}

/* Tensors so small that the share of the sample of each is none: the same thresholds as for one large tensor. */
static void small_tensors(void **state) {
    (void)state;
    enum { TENSORS = 6000, EACH = 200, N = TENSORS * EACH };
    distac_context *context = open_context(2, NULL);
    double *values = malloc(N * sizeof *values), *want = malloc(N * sizeof *want);
    distac_checkpoint *small[2], *large[2], *of_small, *of_large;
    distac_tensor *tensor;
    distac_merge *merge;
    for (int t = 0; t < 2; t++) {
        OK(distac_checkpoint_create(context, &small[t]));
        OK(distac_checkpoint_create(context, &large[t]));
        for (int64_t i = 0; i < N; i++) values[i] = di_normal(3, (uint64_t)t, (uint64_t)i);
        add(context, large[t], "all", DISTAC_F32, N, values);
        for (int k = 0; k < TENSORS; k++) {
            char name[16];
            snprintf(name, sizeof name, "t%05d", k);
            add(context, small[t], name, DISTAC_F32, EACH, values + k * EACH);
        }
    }
    OK(distac_merge_create(context, "ties", &merge));
    OK(distac_merge_delta(merge, 2, large, &of_large));
    OK(distac_merge_delta(merge, 2, small, &of_small));
    OK(distac_checkpoint_tensor(of_large, 0, &tensor));
    OK(distac_tensor_read(tensor, N, want));
    distac_tensor_release(tensor);
    for (int k = 0; k < TENSORS; k++) {
        OK(distac_checkpoint_tensor(of_small, k, &tensor));
        OK(distac_tensor_read(tensor, EACH, values));
        distac_tensor_release(tensor);
        for (int i = 0; i < EACH; i++)
            if (!(values[i] == want[k * EACH + i]))
                fail_msg("[%d]: %.9g, wanted %.9g", i, values[i], want[k * EACH + i]);
    }
    distac_checkpoint_release(of_small);
    distac_checkpoint_release(of_large);
    for (int t = 0; t < 2; t++) {
        distac_checkpoint_release(small[t]);
        distac_checkpoint_release(large[t]);
    }
    distac_merge_release(merge);
    distac_context_release(context);
    free(values);
    free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_votes),
        cmocka_unit_test(bounded),
        cmocka_unit_test(small_tensors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
