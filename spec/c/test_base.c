/* test_base.c: what everything else stands on: errors, memory, threads, random numbers, events, files, hashes. */
#define _GNU_SOURCE 1 /* RTLD_DEFAULT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

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
    static const size_t sizes[] = {0, 1, 63, 64, 1000, 65535, 65536, 100000, 1 << 20, (1 << 21) - 1, 1 << 21, 5000000};
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

/* ---- threads ---- */

typedef struct sum_job {
    distac_context *context;
    double part[257];
    atomic_int runs[257];
} sum_job;

static void nested_part(void *arg, int64_t index) { ((double *)arg)[index] = sqrt((double)(index + 1)); }

static void sum_part(void *arg, int64_t index) {
    sum_job *job = arg;
    double inner[33], sum = 0;
    atomic_fetch_add(&job->runs[index], 1);
    di_parallel(job->context, 33, nested_part, inner); /* serial here */
    for (int i = 0; i < 33; i++) sum += inner[i] * sin((double)index);
    job->part[index] = sum;
}

static void results_do_not_depend_on_threads(void **state) {
    (void)state;
    sum_job *first = calloc(1, sizeof *first), *job = calloc(1, sizeof *job);
    for (int32_t threads = 1; threads <= 8; threads++) {
        distac_context *context = open_context(threads, 0);
        for (int64_t count = 0; count <= 257; count += count < 5 ? 1 : 63) {
            memset(job, 0, sizeof *job);
            memset(first, 0, sizeof *first);
            job->context = first->context = context;
            for (int64_t i = 0; i < count; i++) sum_part(first, i);
            di_parallel(context, count, sum_part, job);
            for (int64_t i = 0; i < 257; i++) assert_int_equal(atomic_load(&job->runs[i]), i < count);
            assert_memory_equal(job->part, first->part, sizeof first->part);
        }
        distac_context_release(context);
    }
    free(first);
    free(job);
}

typedef struct omp_job {
    int (*get)(void);
    atomic_int not_one;
} omp_job;

static void look_at_openmp(void *arg, int64_t index) {
    omp_job *job = arg;
    (void)index;
    if (job->get() != 1) atomic_fetch_add(&job->not_one, 1);
}

/* A BLAS may work with OpenMP: one thread inside our tasks, and the host's setting is as before afterwards. */
static void openmp_is_limited_inside_tasks_only(void **state) {
    (void)state;
    omp_job job = {NULL, 0};
    void (*set)(int) = NULL;
    void *get_symbol = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    void *set_symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (!get_symbol || !set_symbol) skip(); /* no OpenMP in this process */
    memcpy(&job.get, &get_symbol, sizeof get_symbol);
    memcpy(&set, &set_symbol, sizeof set_symbol);
    int before = job.get();
    for (int32_t threads = 1; threads <= 3; threads++) {
        distac_context *context = open_context(threads, 0);
        set(5);
        for (int i = 0; i < 20; i++) di_parallel(context, 50, look_at_openmp, &job);
        di_parallel(context, 1, look_at_openmp, &job);
        assert_int_equal(job.get(), 5);
        assert_int_equal(atomic_load(&job.not_one), 0);
        distac_context_release(context);
    }
    set(before);
}

static void add_one(void *arg, int64_t index) {
    (void)index;
    atomic_fetch_add((atomic_llong *)arg, 1);
}

/* Many short regions, with pauses in which workers fall asleep: every task runs exactly once. */
static void short_regions_lose_nothing(void **state) {
    (void)state;
    atomic_llong sum;
    long long wanted = 0;
    atomic_init(&sum, 0);
    distac_context *context = open_context(4, 0);
    for (int i = 0; i < 5000; i++) {
        int64_t count = i % 7;
        di_parallel(context, count, add_one, &sum);
        wanted += count;
        assert_int_equal(atomic_load(&sum), wanted);
        if (i % 500 == 0) usleep(300);
        if (i % 1000 == 0) assert_int_equal(distac_context_set_threads(context, 1 + i / 1000), DISTAC_OK);
    }
    distac_context_release(context);
}

static void fail_odd(void *arg, int64_t index) {
    (void)arg;
    if (index % 2) di_fail_at(DISTAC_ENUMERIC, "task", "index %d", (int)index);
}

static void a_failure_in_a_task_is_told_to_the_caller(void **state) {
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads += 3) {
        distac_context *context = open_context(threads, 0);
        for (int i = 0; i < 50; i++) {
            di_fail_at(DISTAC_EINVAL, "before", "it");
            di_parallel(context, 40, fail_odd, NULL);
            assert_string_equal(distac_last_error(), "task: index 1");
        }
        distac_context_release(context);
    }
}

#if defined(__SANITIZE_THREAD__)
#define RACE_DETECTOR 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACE_DETECTOR 1
#endif
#endif

static void a_forked_child_has_its_own_threads(void **state) {
    (void)state;
#ifdef RACE_DETECTOR
    skip(); /* it ends a forked child that starts threads */
#endif
    atomic_llong sum;
    atomic_init(&sum, 0);
    distac_context *context = open_context(3, 0);
    di_parallel(context, 100, add_one, &sum);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        atomic_store(&sum, 0);
        for (int i = 0; i < 100; i++) di_parallel(context, 100, add_one, &sum);
        _exit(atomic_load(&sum) == 10000 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    di_parallel(context, 100, add_one, &sum);
    assert_int_equal(atomic_load(&sum), 200);
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
        {0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
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
    } cases[] = {{"tsvn", "tsvm"},      {"teis", "ties"},          {"TIES", "ties"},  {"averge", "average"},
                 {"consensus", "consensus_ta"}, {"task_arithmatic", "task_arithmetic"}, {"arithmetic", "task_arithmetic"},
                 {"zzzzzz", NULL},      {"", NULL},                {"x", NULL}};
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

/* ---- files ---- */

static char folder[] = "/tmp/distac-test-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in_folder(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int remove_folder(void **state) {
    (void)state;
    distac_strings *names = NULL;
    if (distac_path_list(folder, &names)) return -1;
    for (int64_t i = 0; i < distac_strings_count(names); i++)
        distac_path_remove(in_folder(distac_strings_get(names, i)));
    distac_strings_release(names);
    return distac_path_remove(folder);
}

static int64_t entries(void) {
    distac_strings *names = NULL;
    assert_int_equal(distac_path_list(folder, &names), DISTAC_OK);
    int64_t count = distac_strings_count(names);
    distac_strings_release(names);
    return count;
}

static void expect_content(const char *path, const char *wanted) {
    di_map map;
    assert_int_equal(di_map_open(path, &map), DISTAC_OK);
    assert_int_equal(map.bytes, strlen(wanted));
    if (map.bytes) assert_memory_equal(map.data, wanted, map.bytes);
    di_map_close(&map);
}

static void a_file_appears_when_whole(void **state) {
    (void)state;
    const char *path = in_folder("model");
    di_writer *writer = NULL;
    assert_int_equal(distac_path_write(path, "old", 3), DISTAC_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(di_writer_open(path, &writer), DISTAC_OK);
    char *piece = malloc(100000);
    memset(piece, 'n', 100000);
    for (int i = 0; i < 5; i++) assert_int_equal(di_writer_put(writer, piece, 20000 * (size_t)(i + 1)), DISTAC_OK);
    expect_content(path, "old");
    di_writer_abort(writer);
    expect_content(path, "old");
    assert_int_equal(entries(), 1);
    assert_int_equal(di_writer_open(path, &writer), DISTAC_OK);
    assert_int_equal(di_writer_put(writer, "new", 3), DISTAC_OK);
    assert_int_equal(di_writer_put(writer, piece, 70000), DISTAC_OK);
    assert_int_equal(di_writer_commit(writer), DISTAC_OK);
    assert_int_equal(distac_path_bytes(path), 70003);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(entries(), 1);
    di_writer_abort(NULL);
    free(piece);
    assert_int_equal(distac_path_write(path, "", 0), DISTAC_OK);
    expect_content(path, "");
    assert_int_equal(distac_path_remove(path), DISTAC_OK);
    assert_int_equal(distac_path_remove(path), DISTAC_OK);
}

static void a_failed_write_leaves_the_old_file(void **state) {
    (void)state;
    const char *path = in_folder("limited");
    assert_int_equal(distac_path_write(path, "old", 3), DISTAC_OK);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) { /* a file may not grow beyond 1000 bytes here */
        struct rlimit limit = {1000, 1000};
        char big[5000] = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(2);
        distac_status status = distac_path_write(path, big, sizeof big);
        _exit(status == DISTAC_EIO && strstr(distac_last_error(), path) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    expect_content(path, "old");
    assert_int_equal(entries(), 1);
    distac_path_remove(path);
}

static void leftovers_of_killed_writers_go(void **state) {
    (void)state;
    const char *path = in_folder("left");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        di_writer *writer;
        if (di_writer_open(path, &writer)) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(entries(), 1);
    assert_int_equal(distac_path_kind(path), 0);
    di_writer *one = NULL, *two = NULL;
    assert_int_equal(di_writer_open(path, &one), DISTAC_OK);
    assert_int_equal(entries(), 1); /* the leftover is gone, the new temporary is there */
    assert_int_equal(di_writer_open(path, &two), DISTAC_OK);
    assert_int_equal(entries(), 2); /* a living writer's is not taken for one */
    assert_int_equal(di_writer_put(one, "1", 1), DISTAC_OK);
    assert_int_equal(di_writer_put(two, "2", 1), DISTAC_OK);
    assert_int_equal(di_writer_commit(two), DISTAC_OK);
    assert_int_equal(di_writer_commit(one), DISTAC_OK);
    expect_content(path, "1");
    assert_int_equal(entries(), 1);
    distac_path_remove(path);
}

static void only_regular_files_are_mapped(void **state) {
    (void)state;
    di_map map;
    const char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(20); /* opening it must not wait for a writer */
    assert_int_equal(di_map_open(fifo, &map), DISTAC_EIO);
    assert_int_equal(distac_path_kind(fifo), 3);
    assert_int_equal(distac_path_write(fifo, "x", 1), DISTAC_EIO);
    alarm(0);
    assert_int_equal(di_map_open(folder, &map), DISTAC_EIO);
    assert_non_null(strstr(distac_last_error(), "folder"));
    assert_int_equal(di_map_open("/dev/zero", &map), DISTAC_EIO);
    assert_int_equal(di_map_open(in_folder("missing"), &map), DISTAC_EIO);
    assert_int_equal(distac_path_write(folder, "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_write(in_folder("no/such"), "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_write("", "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_remove(fifo), DISTAC_OK);
}

static void paths_are_made_listed_and_named(void **state) {
    (void)state;
    assert_int_equal(distac_path_make(in_folder("a/b//c/")), DISTAC_OK);
    assert_int_equal(distac_path_make(in_folder("a/b/c")), DISTAC_OK);
    assert_int_equal(distac_path_kind(in_folder("a/b/c")), 2);
    assert_int_equal(distac_path_write(in_folder("a/z"), "1", 1), DISTAC_OK);
    assert_int_equal(distac_path_make(in_folder("a/z/y")), DISTAC_EIO);
    assert_int_equal(distac_path_make(""), DISTAC_EIO);
    assert_int_equal(distac_path_write(in_folder("a/B"), "1", 1), DISTAC_OK);
    distac_strings *names = NULL;
    assert_int_equal(distac_path_list(in_folder("a"), &names), DISTAC_OK);
    assert_int_equal(distac_strings_count(names), 3);
    assert_string_equal(distac_strings_get(names, 0), "B");
    assert_string_equal(distac_strings_get(names, 1), "b");
    assert_string_equal(distac_strings_get(names, 2), "z");
    assert_null(distac_strings_get(names, 3));
    assert_null(distac_strings_get(names, -1));
    distac_strings_release(names);
    assert_int_equal(distac_path_list(in_folder("a/z"), &names), DISTAC_EIO);
    assert_int_equal(distac_path_remove(in_folder("a")), DISTAC_EIO); /* not empty */
    assert_int_equal(distac_path_absolute(in_folder("a/../new"), &names), DISTAC_OK);
    assert_string_equal(distac_strings_get(names, 0), in_folder("new"));
    distac_strings_release(names);
    static const char *const gone[] = {"a/b/c", "a/b", "a/z", "a/B", "a"};
    for (int i = 0; i < 5; i++) assert_int_equal(distac_path_remove(in_folder(gone[i])), DISTAC_OK);
}

static void a_link_stays_and_its_target_is_replaced(void **state) {
    (void)state;
    const char *real = in_folder("real"), *link = in_folder("link");
    assert_int_equal(distac_path_write(real, "old", 3), DISTAC_OK);
    assert_int_equal(symlink("real", link), 0);
    assert_int_equal(distac_path_write(link, "new", 3), DISTAC_OK);
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    expect_content(real, "new");
    assert_int_equal(distac_path_remove(link), DISTAC_OK);
    assert_int_equal(distac_path_kind(real), 1);
    assert_int_equal(distac_path_remove(real), DISTAC_OK);
}

static void hashes_are_sha256(void **state) {
    (void)state;
    distac_strings *hex = NULL;
    assert_int_equal(distac_hash_text("abc", 3, &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    distac_strings_release(hex);
    assert_int_equal(distac_hash_text("", 0, &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    distac_strings_release(hex);
    assert_int_equal(distac_path_write(in_folder("h"), "abc", 3), DISTAC_OK);
    assert_int_equal(distac_hash_file(in_folder("h"), &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    distac_strings_release(hex);
    assert_int_equal(distac_hash_file(folder, &hex), DISTAC_EIO);
    assert_int_equal(distac_hash_text("abc", -1, &hex), DISTAC_EINVAL);
    distac_path_remove(in_folder("h"));
    double before = distac_clock();
    usleep(2000);
    assert_true(distac_clock() - before >= 0.002);
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
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(openmp_is_limited_inside_tasks_only),
        cmocka_unit_test(short_regions_lose_nothing),
        cmocka_unit_test(a_failure_in_a_task_is_told_to_the_caller),
        cmocka_unit_test(a_forked_child_has_its_own_threads),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(random_numbers_are_distributed_as_said),
        cmocka_unit_test(permutations_and_generators_repeat),
        cmocka_unit_test(events_wait_in_order),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(texts_grow),
        cmocka_unit_test(a_file_appears_when_whole),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(leftovers_of_killed_writers_go),
        cmocka_unit_test(only_regular_files_are_mapped),
        cmocka_unit_test(paths_are_made_listed_and_named),
        cmocka_unit_test(a_link_stays_and_its_target_is_replaced),
        cmocka_unit_test(hashes_are_sha256),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
