/* test_merge.c: the merging operators: worked numbers, laws, threads, refusals. */
#include "merge_test.h"

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
    OK(distac_merge_set(merge, "keep", 2, (double[]){.2, .3})); /* one for each model */
    assert_int_equal(distac_merge_set(merge, "lambda", 2, (double[]){.2, .3}), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "wants one number"));
    distac_merge_release(merge);
    merge = method("consensus_ta");
    assert_int_equal(distac_merge_set(merge, "k", 1, (double[]){1.5}), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "whole number"));
    distac_checkpoint *delta;
    assert_int_equal(distac_merge_delta(merge, 0, NULL, &delta), DISTAC_EINVAL);
    distac_merge_release(merge);
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
        cmocka_unit_test(worked_f3),
        cmocka_unit_test(worked_tsvm),
        cmocka_unit_test(registry),
        cmocka_unit_test(laws),
        cmocka_unit_test(threads),
        cmocka_unit_test(refusals),
        cmocka_unit_test(over_an_input),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
