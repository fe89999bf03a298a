/* test_base.c: what everything else stands on: errors, contexts, memory, random numbers, events, texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static distac_context *open_context(int32_t threads, int64_t limit) {
    distac_context *context = NULL;
    distac_context_desc desc = {.threads = threads, .memory_limit = limit};
    assert_int_equal(distac_context_create(&desc, &context), DISTAC_OK);
    return context;
}

/* ---- errors ---- */

static void errors_are_named(void **state) {
    (void)state;
    assert_string_equal(distac_status_name(DISTAC_OK), "OK");
    assert_string_equal(distac_status_name(DISTAC_EUNSUPPORTED), "EUNSUPPORTED");
    assert_string_equal(distac_status_name(77), "EUNKNOWN");
    assert_int_equal(di_fail_at(DISTAC_EIO, "f", "a %d", 1), DISTAC_EIO);
    assert_string_equal(distac_last_error(), "f: a 1");
    di_fail_at(DISTAC_EIO, "g", "%s!", distac_last_error()); /* a text may be made of the last one */
    assert_string_equal(distac_last_error(), "g: f: a 1!");
    char *longer = malloc(20000);
    memset(longer, 'x', 19999);
    longer[19999] = 0;
    di_fail_at(DISTAC_EIO, "h", "%s", longer);
    size_t length = strlen(distac_last_error());
    assert_true(length > 1000 && length < 19999);
    assert_string_equal(distac_last_error() + length - 4, " ...");
    free(longer);
}

static void *fails_elsewhere(void *arg) {
    *(int *)arg = distac_last_error()[0] == 0;
    di_fail_at(DISTAC_EINVAL, "there", "x");
    return NULL;
}

static void error_text_belongs_to_the_thread(void **state) {
    (void)state;
    pthread_t thread;
    int empty = 0;
    di_fail_at(DISTAC_EINVAL, "here", "y");
    assert_int_equal(pthread_create(&thread, NULL, fails_elsewhere, &empty), 0);
    pthread_join(thread, NULL);
    assert_int_equal(empty, 1);
    assert_string_equal(distac_last_error(), "here: y");
}

/* ---- context ---- */

static void context_refuses_nonsense(void **state) {
    (void)state;
    distac_context *context;
    distac_context_desc bad[] = {{.threads = -1}, {.threads = 100000}, {.memory_limit = -5}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(distac_context_create(&bad[i], &context), DISTAC_EINVAL);
        assert_null(context);
    }
    distac_context_desc device = {.device = "cuda:7"}, kernels = {.kernels = "avx9"};
    assert_int_equal(distac_context_create(&device, &context), DISTAC_EDEVICE);
    assert_non_null(strstr(distac_last_error(), "cuda:7"));
    assert_int_not_equal(distac_context_create(&kernels, &context), DISTAC_OK);
    assert_int_equal(distac_context_create(NULL, NULL), DISTAC_EINVAL);
    distac_context_release(NULL);
}

static void context_tells_and_cancels(void **state) {
    (void)state;
    distac_context *context = open_context(3, 1 << 20);
    distac_context_info info;
    assert_int_equal(distac_context_get_info(context, &info), DISTAC_OK);
    assert_int_equal(info.threads, 3);
    assert_int_equal(info.memory_limit, 1 << 20);
    assert_int_equal(info.memory_used, 0);
    assert_string_equal(info.device, "cpu");
    assert_int_equal(distac_cancelled(context), 0);
    assert_int_equal(di_poll(context), DISTAC_OK);
    distac_cancel(context);
    assert_int_equal(distac_cancelled(context), 1);
    assert_int_equal(di_poll(context), DISTAC_ECANCELED);
    distac_cancel_clear(context);
    assert_int_equal(di_poll(context), DISTAC_OK);
    distac_device_info device;
    assert_true(distac_device_count() >= 1);
    assert_int_equal(distac_device_get_info(0, &device), DISTAC_OK);
    assert_string_equal(device.name, "cpu");
    assert_int_equal(distac_device_get_info(distac_device_count(), &device), DISTAC_EINVAL);
    distac_context_release(context);
}

/* ---- memory ---- */

static void memory_is_counted_and_limited(void **state) {
    (void)state;
    static const size_t sizes[] = {0,     1,      63,      64,            1000,    65535,
                                   65536, 100000, 1 << 20, (1 << 21) - 1, 1 << 21, 5000000};
    distac_context *context = open_context(1, 0);
    distac_context_info info;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *memory = di_alloc(context, sizes[i]);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        memset(memory, 0xAA, sizes[i]);
        distac_context_get_info(context, &info);
        assert_int_equal(info.memory_used, sizes[i]);
        di_free(context, memory, sizes[i]);
        char *again = di_alloc_zeroed(context, sizes[i]); /* likely the block just dirtied */
        assert_non_null(again);
        for (size_t k = 0; k < sizes[i]; k++)
            if (again[k]) fail_msg("byte %zu of %zu is not zero", k, sizes[i]);
        di_free(context, again, sizes[i]);
    }
    distac_context_get_info(context, &info);
    assert_int_equal(info.memory_used, 0);
    assert_int_equal(info.memory_peak, 5000000);
    distac_context_reset_peak(context);
    distac_context_get_info(context, &info);
    assert_int_equal(info.memory_peak, 0);

    assert_int_equal(distac_context_set_memory_limit(context, 1000), DISTAC_OK);
    void *most = di_alloc(context, 900);
    assert_non_null(most);
    assert_null(di_alloc(context, 101));
    assert_non_null(strstr(distac_last_error(), "101"));
    assert_non_null(strstr(distac_last_error(), "1000"));
    void *rest = di_alloc(context, 100);
    assert_non_null(rest);
    di_free(context, rest, 100);
    di_free(context, most, 900);
    distac_context_set_memory_limit(context, 0);
    assert_null(di_alloc(context, SIZE_MAX));
    assert_null(di_alloc(context, (size_t)1 << 62));
    distac_context_get_info(context, &info);
    assert_int_equal(info.memory_used, 0);
    di_free(context, NULL, 10);
    distac_context_release(context);
}

/* With a limit, blocks kept for reuse must make room for others: this loop would pass 64 MiB of them. */
static void kept_blocks_yield_to_the_limit(void **state) {
    (void)state;
    distac_context *context = open_context(1, 64 << 20);
    for (size_t mib = 1; mib <= 60; mib++) {
        char *memory = di_alloc(context, mib << 20);
        assert_non_null(memory);
        memory[0] = memory[(mib << 20) - 1] = 1;
        di_free(context, memory, mib << 20);
    }
    void *all = di_alloc(context, 64 << 20);
    assert_non_null(all);
    di_free(context, all, 64 << 20);
    distac_context_release(context);
}

typedef struct alloc_job {
    distac_context *context;
    atomic_int refused;
} alloc_job;

static void alloc_some(void *arg, int64_t index) {
    alloc_job *job = arg;
    size_t bytes = (size_t)(1 + index * 7919 % 300000);
    unsigned char *memory = di_alloc(job->context, bytes);
    if (!memory) {
        atomic_fetch_add(&job->refused, 1);
        return;
    }
    memset(memory, (int)index, bytes);
    for (size_t i = 0; i < bytes; i += 4096)
        if (memory[i] != (unsigned char)index) atomic_fetch_add(&job->refused, 1);
    di_free(job->context, memory, bytes);
}

static void memory_is_shared_by_threads(void **state) {
    (void)state;
    distac_context *context = open_context(4, 0);
    alloc_job job = {.context = context};
    atomic_init(&job.refused, 0);
    di_parallel(context, 2000, alloc_some, &job);
    distac_context_info info;
    distac_context_get_info(context, &info);
    assert_int_equal(atomic_load(&job.refused), 0);
    assert_int_equal(info.memory_used, 0);
    distac_context_release(context);
}

/* ---- random numbers ---- */

static void philox_known_answers(void **state) {
    (void)state;
    /* Published test vectors of Philox 4x32 with 10 rounds: counter, key, result. */
    static const struct {
        uint64_t counter, stream, seed;
        uint32_t out[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        di_philox(known[i].seed, known[i].stream, known[i].counter, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void random_numbers_are_distributed_as_said(void **state) {
    (void)state;
    enum { N = 200000 };
    double sum = 0, squares = 0, fourth = 0, uniform = 0, product = 0;
    int64_t counts[7] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double x = di_normal(7, 3, i), u = di_uniform(7, 3, i);
        uint64_t k = di_below(7, 3, i, 7);
        assert_true(u >= 0 && u < 1 && isfinite(x) && k < 7);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        uniform += u;
        product += x * (u - 0.5);
        counts[k]++;
    }
    /* Five standard errors each. */
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(uniform / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(product / N) < 5 * sqrt(1.0 / 12 / N));
    for (int k = 0; k < 7; k++) assert_true(fabs((double)counts[k] - N / 7.0) < 5 * sqrt(N / 7.0));
    assert_int_equal(di_below(1, 1, 1, 0), 0);
    assert_int_equal(di_below(1, 1, 1, 1), 0);
    uint64_t bound = ((uint64_t)1 << 63) + 1; /* about half of all words are rejected */
    for (uint64_t i = 0; i < 1000; i++) assert_true(di_below(5, 0, i, bound) < bound);
}

static void permutations_and_generators_repeat(void **state) {
    (void)state;
    int64_t a[100], b[100];
    char seen[100] = {0};
    di_permutation(9, 1, 100, a);
    di_permutation(9, 1, 100, b);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 100; i++) {
        assert_in_range(a[i], 0, 99);
        assert_int_equal(seen[a[i]]++, 0);
    }
    di_permutation(10, 1, 100, b);
    assert_memory_not_equal(a, b, sizeof a);
    distac_rng *rng = NULL;
    assert_int_equal(distac_rng_create(11, 2, &rng), DISTAC_OK);
    assert_true(distac_rng_uniform(rng) == di_uniform(11, 2, 0));
    assert_true(distac_rng_normal(rng) == di_normal(11, 2, 1));
    assert_int_equal(distac_rng_below(rng, 1000), di_below(11, 2, 2, 1000));
    assert_int_equal(distac_rng_below(rng, -3), 0);
    assert_true(distac_rng_uniform(rng) == di_uniform(11, 2, 4));
    distac_rng_release(rng);
}

/* ---- events ---- */

static void events_wait_in_order(void **state) {
    (void)state;
    distac_context *context = open_context(1, 0);
    distac_event event;
    assert_int_equal(distac_event_next(context, &event), 0);
    di_progress(context, "train", 1, 10);
    di_warn(context, "odd %d", 3);
    di_progress(context, "train", 2, 10);
    assert_int_equal(distac_event_next(context, &event), 1);
    assert_int_equal(event.kind, 0);
    assert_int_equal(event.done, 2);
    assert_int_equal(event.total, 10);
    assert_string_equal(event.what, "train");
    assert_int_equal(distac_event_next(context, &event), 1);
    assert_int_equal(event.kind, 2);
    assert_string_equal(event.what, "odd 3");
    assert_int_equal(distac_event_next(context, &event), 0);
    for (int i = 0; i < 300; i++) di_warn(context, "w%d", i);
    for (int i = 44; i < 300; i++) { /* the newest 256 */
        char text[16];
        snprintf(text, sizeof text, "w%d", i);
        assert_int_equal(distac_event_next(context, &event), 1);
        assert_string_equal(event.what, text);
    }
    assert_int_equal(distac_event_next(context, &event), 0);
    distac_context_release(context);
}

/* ---- texts ---- */

static void nearest_names(void **state) {
    (void)state;
    static const char *const names[] = {"average", "task_arithmetic", "ties", "consensus_ta", "tsvm"};
    static const struct {
        const char *name, *nearest;
    } cases[] = {{"tsvn", "tsvm"},
                 {"teis", "ties"},
                 {"TIES", "ties"},
                 {"averge", "average"},
                 {"consensus", "consensus_ta"},
                 {"task_arithmatic", "task_arithmetic"},
                 {"arithmetic", "task_arithmetic"},
                 {"zzzzzz", NULL},
                 {"", NULL},
                 {"x", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *found = di_nearest(cases[i].name, 5, names);
        if (!cases[i].nearest)
            assert_null(found);
        else
            assert_string_equal(found ? found : "(none)", cases[i].nearest);
    }
    assert_null(di_nearest("a", 0, NULL));
    char *huge = calloc(1, 5000);
    memset(huge, 'q', 4999);
    assert_null(di_nearest(huge, 5, names));
    free(huge);
}

static void texts_grow(void **state) {
    (void)state;
    di_text text = {0};
    for (int i = 0; i < 1000; i++) di_text_add(&text, "%d,", i);
    assert_false(text.failed);
    assert_int_equal(text.length, strlen(text.bytes));
    assert_string_equal(text.bytes + text.length - 8, "998,999,");
    di_text_free(&text);
    assert_null(text.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_named),
        cmocka_unit_test(error_text_belongs_to_the_thread),
        cmocka_unit_test(context_refuses_nonsense),
        cmocka_unit_test(context_tells_and_cancels),
        cmocka_unit_test(memory_is_counted_and_limited),
        cmocka_unit_test(kept_blocks_yield_to_the_limit),
        cmocka_unit_test(memory_is_shared_by_threads),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(random_numbers_are_distributed_as_said),
        cmocka_unit_test(permutations_and_generators_repeat),
        cmocka_unit_test(events_wait_in_order),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(texts_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
