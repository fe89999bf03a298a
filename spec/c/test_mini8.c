/* test_mini8.c: the tasks of the embedded benchmark: sizes, balance, the same data on every build, machine and
 * number of threads, within any limit of memory. */
#include "mini8_files.h"

static const char *const tasks[8] = {"digits", "svhn", "fashion", "latin", "kana", "arabic", "hebrew", "texture"};
static const int64_t class_counts[8] = {10, 10, 10, 26, 46, 29, 23, 12};
static const int64_t sizes[3] = {6000, 400, 800};

static void splits_are_balanced(void **state) {
    (void)state;
    for (int t = 0; t < 8; t++)
        for (int split = 0; split < 3 && !absent(tasks[t]); split++) {
            distac_dataset *d = NULL;
            OK(distac_dataset_mini8(context, root(), fashion(), tasks[t], split, &d));
            int64_t n = sizes[split], classes = class_counts[t], count[64] = {0};
            assert_int_equal(distac_dataset_size(d), n);
            assert_int_equal(distac_dataset_classes(d), classes);
            double shape[3], sum = 0;
            OK(distac_dataset_image_shape(d, 3, shape));
            assert_true(shape[0] == 1 && shape[1] == 28 && shape[2] == 28);
            assert_true(d->mean[0] == 0.45 && d->std[0] == 0.30);
            distac_tensor *labels = NULL;
            OK(distac_dataset_labels(d, 0, n, &labels));
            const int64_t *y = labels->data;
            int runs = 0;
            for (int64_t i = 0; i < n; i++) {
                count[y[i]]++;
                runs += i > 0 && y[i] == y[i - 1];
            }
            assert_in_range(runs, 0, n * 2 / classes); /* in no order: repeats as often as chance has it */
            for (int64_t c = 0; c < classes; c++) {
                assert_in_range(count[c], n / classes, (n + classes - 1) / classes);
                assert_true(strlen(distac_dataset_class_name(d, c)) > 0);
            }
            const uint8_t *pixels = d->samples->pixels->data;
            for (int64_t i = 0; i < n; i++) { /* something is to be seen on every picture */
                int low = 255, high = 0;
                for (int k = 0; k < DI_AREA; k++) {
                    int v = pixels[i * DI_AREA + k];
                    low = v < low ? v : low;
                    high = v > high ? v : high;
                    sum += v;
                }
                assert_true(high - low > 30);
            }
            sum /= (double)n * DI_AREA * 255;
            assert_true(sum > 0.1 && sum < 0.9);
            distac_tensor_release(labels);
            distac_dataset_release(d);
        }
}

/* The data are part of the benchmark: whoever changes them on purpose changes these sums, the heads, the
 * backbone's figures and the suite's data version with them. */
static void data_are_the_same_everywhere(void **state) {
    (void)state;
    static const struct {
        const char *task, *hash;
    } known[] = {{"digits", "115371e5ec9e6665d9c5d133683752a8ae462c5ccdbf705d90dec8a40b2d4370"},
                 {"svhn", "e3cb4e5127a27792878252e19e4aa732da05913a2858067f32fec8f3052f057d"},
                 {"latin", "6b4f1ebc5af7d85db26f13fd2357800f3e4bf13f5da6d842026f3896751a702c"},
                 {"kana", "7e0cba8013dfceede02167f791cf5ca138934c48e7faca12575fb6632974df82"},
                 {"arabic", "d867e13793a58470596ac700d5b1cb79047251e6274b2c2d395ff8319ff257e8"},
                 {"hebrew", "5b3751530c0b24b9b09660b480efed82c2e365578909dfc9d61b55aa11c728a4"},
                 {"texture", "3cd5a6698441dbea38073a2028ae3d5e820d319ac23587068063e2321aa40aad"}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        char hash[65], again[65];
        task_hash(context, root(), known[k].task, 1, hash);
        assert_string_equal(hash, known[k].hash);
        for (int threads = 1; threads <= 8; threads += 7) {
            distac_context *c = open_context(threads);
            task_hash(c, root(), known[k].task, 1, again);
            distac_context_release(c);
            assert_string_equal(hash, again);
        }
    }
}

static void splits_differ(void **state) {
    (void)state;
    for (int t = 0; t < 8; t++) {
        if (absent(tasks[t])) continue;
        distac_dataset *d[3];
        for (int split = 0; split < 3; split++)
            OK(distac_dataset_mini8(context, root(), fashion(), tasks[t], split, &d[split]));
        for (int64_t i = 0; i < 400; i++) /* no picture of validation or test is among the first of training */
            for (int64_t k = 0; k < 1000; k++)
                for (int split = 1; split < 3; split++)
                    assert_true(memcmp((uint8_t *)d[split]->samples->pixels->data + i * DI_AREA,
                                       (uint8_t *)d[0]->samples->pixels->data + k * DI_AREA, DI_AREA) != 0);
        for (int split = 0; split < 3; split++) distac_dataset_release(d[split]);
    }
}

static void wrong_requests_are_refused(void **state) {
    (void)state;
    distac_dataset *d = NULL;
    failed(distac_dataset_mini8(context, root(), fashion(), "latn", 0, &d), DISTAC_ENOTFOUND, "latn", "latin");
    failed(distac_dataset_mini8(context, root(), fashion(), "latin", 3, &d), DISTAC_EINVAL, "split 3", NULL);
    failed(distac_dataset_mini8(context, folder, fashion(), "latin", 0, &d), DISTAC_ENOTFOUND, "latin.txt",
           folder);
    failed(distac_dataset_mini8(context, root(), folder, "fashion", 0, &d), DISTAC_ENOTFOUND, "Fashion-MNIST",
           folder);
    failed(distac_dataset_glyphs(context, root(), "klingon", &d), DISTAC_ENOTFOUND, "klingon.txt", NULL);
    failed(distac_dataset_glyphs(context, root(), "", &d), DISTAC_EINVAL, "names of sheets", NULL);
    failed(distac_dataset_glyphs(context, root(), "latin+", &d), DISTAC_EINVAL, "names of sheets", NULL);
    failed(distac_dataset_glyphs(context, root(), "../sheets/latin", &d), DISTAC_EINVAL, "names of sheets", NULL);
}

/* Whatever allocation the limit stops, the call fails cleanly and gives everything back. */
static void memory_limits_are_kept(void **state) {
    (void)state;
    int refused = 0;
    for (int64_t limit = 1 << 12; limit < (int64_t)1 << 26; limit += limit / 2) {
        distac_context *c = open_context(2);
        OK(distac_context_set_memory_limit(c, limit));
        for (int t = 0; t < 8; t++) {
            distac_dataset *d = NULL;
            if (absent(tasks[t])) continue;
            distac_status status = distac_dataset_mini8(c, root(), fashion(), tasks[t], 1, &d);
            if (status != DISTAC_OK) {
                assert_int_equal(status, DISTAC_ENOMEM);
                refused++;
            }
            distac_dataset_release(d);
            distac_context_info info;
            OK(distac_context_get_info(c, &info));
            assert_int_equal(info.memory_used, 0);
            assert_true(info.memory_peak <= limit);
        }
        distac_context_release(c);
    }
    assert_in_range(refused, 30, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_are_balanced),
        cmocka_unit_test(data_are_the_same_everywhere),
        cmocka_unit_test(splits_differ),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(memory_limits_are_kept),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
