/* test_pool.c: the threads of a context: results that do not depend on them, regions, failures in tasks, forks. */
#define _GNU_SOURCE 1 /* RTLD_DEFAULT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static distac_context *open_context(int32_t threads, int64_t limit) {
    distac_context *context = NULL;
    distac_context_desc desc = {.threads = threads, .memory_limit = limit};
    assert_int_equal(distac_context_create(&desc, &context), DISTAC_OK);
    return context;
}

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(openmp_is_limited_inside_tasks_only),
        cmocka_unit_test(short_regions_lose_nothing),
        cmocka_unit_test(a_failure_in_a_task_is_told_to_the_caller),
        cmocka_unit_test(a_forked_child_has_its_own_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
