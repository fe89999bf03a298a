/* test_device_life.c: a context's life on a CUDA device: memory, transfers, failures
 * at any call, a device that is lost. What needs a device that fails when it is told
 * to runs on the emulated one alone; without any device all is skipped. */
#define _GNU_SOURCE 1
#include "backend/backend.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LOST = 700, NO_MEMORY = 2, OTHER = 1 }; /* CUDA's numbers */

static distac_status open_context(int64_t limit, distac_context **out) {
    distac_context_desc desc = {.threads = 2, .device = "cuda", .memory_limit = limit};
    return distac_context_create(&desc, out);
}

static distac_context *device(void) {
    distac_context *c;
    distac_status status = open_context(0, &c);
    if (status == DISTAC_EDEVICE && strstr(distac_last_error(), "no such device")) {
        print_message("skipped: %s\n", distac_last_error());
        skip();
    }
    assert_int_equal(status, DISTAC_OK);
    return c;
}

/* What the emulated device lets tests set (spec/cuda/device.cpp); skips on a real one. */
static long long set(const char *what, long long value) {
    static long long (*control)(const char *, long long);
    if (!control) {
        static const char *const names[] = {"./libdistac-cuda.so", "../libdistac-cuda.so", NULL};
        Dl_info info;
        void *module = NULL, *symbol = NULL;
        char path[4096];
        dladdr((void *)(uintptr_t)set, &info);
        for (int i = 0; names[i] && !module; i++) {
            char folder[2048];
            snprintf(folder, sizeof folder, "%.2000s", info.dli_fname);
            char *slash = strrchr(folder, '/');
            if (slash) *slash = 0;
            snprintf(path, sizeof path, "%s/%s", slash ? folder : ".", names[i]);
            module = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
        }
        if (module) symbol = dlsym(module, "emulated_cuda");
        if (!symbol) {
            print_message("skipped: only the emulated device fails when it is told to\n");
            skip();
        }
        memcpy(&control, &symbol, sizeof control);
    }
    return control(what, value);
}

/* ---- memory ---- */

static void bytes_travel(void **state) {
    static const size_t sizes[] = {1, 3, 4096, 262144, 262145, 8 << 20, (8 << 20) + 1, (24 << 20) + 12345};
    distac_context *c = device();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *a = malloc(n), *b = malloc(n);
        unsigned char *x = di_there_alloc(c, n), *y = di_there_alloc(c, n);
        assert_true(a && b && x && y);
        for (size_t k = 0; k < n; k++) /* without a period: pieces of megabytes differ */
            a[k] = (unsigned char)((k * 2654435761u >> 13) + (k >> 20) * 37);
        assert_int_equal(di_there_put(c, x, a, n), DISTAC_OK);
        memset(b, 0, n);
        assert_int_equal(di_there_copy(c, y, x, n), DISTAC_OK);
        assert_int_equal(di_there_zero(c, x, n), DISTAC_OK);
        assert_int_equal(di_there_get(c, b, y, n), DISTAC_OK);
        assert_memory_equal(a, b, n);
        assert_int_equal(di_there_get(c, b, x, n), DISTAC_OK);
        for (size_t k = 0; k < n; k++) assert_int_equal(b[k], 0);
        di_there_free(c, x, n);
        di_there_free(c, y, n);
        free(a);
        free(b);
    }
    distac_context_release(c);
    (void)state;
}

static void memory_is_counted_and_limited(void **state) {
    distac_context *c = device();
    distac_context_info info;
    distac_context_get_info(c, &info);
    assert_string_equal(info.device, "cuda:0");
    int64_t before = info.memory_used;
    void *a = di_there_alloc(c, 1 << 20);
    assert_non_null(a);
    distac_context_get_info(c, &info);
    assert_true(info.memory_used == before + (1 << 20));
    assert_int_equal(distac_context_set_memory_limit(c, before + (2 << 20)), DISTAC_OK);
    assert_null(di_there_alloc(c, 2 << 20));
    assert_non_null(strstr(distac_last_error(), "limit"));
    void *b = di_there_alloc(c, 1 << 20);
    assert_non_null(b);
    di_there_free(c, a, 1 << 20);
    di_there_free(c, b, 1 << 20);
    distac_context_get_info(c, &info);
    assert_true(info.memory_used == before);
    distac_context_release(c);
    (void)state;
}

static void devices_are_listed(void **state) {
    distac_context *c = device();
    distac_device_info info;
    assert_true(distac_device_count() >= 2);
    assert_int_equal(distac_device_get_info(1, &info), DISTAC_OK);
    assert_string_equal(info.name, "cuda:0");
    assert_true(info.memory > 0 && info.units > 0);
    assert_int_equal(distac_device_get_info(99, &info), DISTAC_EINVAL);
    distac_context_release(c);
    distac_context_desc desc = {.device = "cuda", .products = "int4"};
    assert_int_equal(distac_context_create(&desc, &c), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "tf32"));
    (void)state;
}

/* ---- failures ---- */

static distac_status matrix(distac_context *c, int64_t n, distac_tensor **out) {
    int64_t shape[] = {n, n};
    distac_tensor *here;
    DI_TRY(distac_tensor_create(c, DISTAC_F32, 2, shape, &here));
    distac_status status = distac_tensor_fill(here, 0.5);
    if (status == DISTAC_OK) status = distac_tensor_to(here, "cuda", out);
    distac_tensor_release(here);
    return status;
}

/* Bytes that travel beside the work, twice. */
static distac_status travel(distac_context *c, void *sending, unsigned char *here) {
    enum { N = 5000 };
    unsigned char back[N];
    const void *there;
    for (int turn = 0; turn < 2; turn++) {
        DI_TRY(c->device->sending_left(c, sending));
        for (int i = 0; i < N; i++) here[i] = (unsigned char)(i * (turn + 3));
        DI_TRY(c->device->sending_start(c, sending));
        DI_TRY(c->device->sending_read(c, sending, &there));
        DI_TRY(di_there_get(c, back, there, N));
        DI_TRY(c->device->sending_done(c, sending));
        for (int i = 0; i < N; i++)
            if (back[i] != (unsigned char)(i * (turn + 3))) return DISTAC_ENUMERIC;
    }
    return DISTAC_OK;
}

/* Nobody waits between two journeys: the second must not overtake what still reads the first. */
static void what_sets_out_waits_for_its_readers(void **state) {
    enum { N = 300000 };
    for (int eager = 0; eager < 2; eager++) {
        if (eager) setenv("EMULATED_CUDA_EAGER", "1", 1);
        distac_context *c = device();
        void *sending, *here, *copies[3];
        const void *there;
        unsigned char *back = malloc(N);
        assert_non_null(back);
        assert_int_equal(c->device->sending_make(c, N, &sending, &here), DISTAC_OK);
        for (int turn = 0; turn < 3; turn++) {
            copies[turn] = di_there_alloc(c, N);
            assert_non_null(copies[turn]);
            assert_int_equal(c->device->sending_left(c, sending), DISTAC_OK);
            for (int i = 0; i < N; i++) ((unsigned char *)here)[i] = (unsigned char)(i * (2 * turn + 3));
            assert_int_equal(c->device->sending_start(c, sending), DISTAC_OK);
            assert_int_equal(c->device->sending_read(c, sending, &there), DISTAC_OK);
            assert_int_equal(di_there_copy(c, copies[turn], there, N), DISTAC_OK);
            assert_int_equal(c->device->sending_done(c, sending), DISTAC_OK);
        }
        for (int turn = 0; turn < 3; turn++) {
            assert_int_equal(di_there_get(c, back, copies[turn], N), DISTAC_OK);
            for (int i = 0; i < N; i++) assert_int_equal(back[i], (unsigned char)(i * (2 * turn + 3)));
            di_there_free(c, copies[turn], N);
        }
        c->device->sending_free(c, sending);
        free(back);
        distac_context_release(c);
        unsetenv("EMULATED_CUDA_EAGER");
    }
    (void)state;
}

/* The emulated tensor cores are those of the instruction set's description. */
static void fragments_lie_as_on_a_device(void **state) {
    distac_context *c = device();
    long long wrong = set("layout", 0);
    distac_context_release(c);
    assert_int_equal(wrong, 0);
    (void)state;
}

/* Task vectors on the device, merged there, then cut in place. */
static distac_status merge_two(distac_context *c) {
    const int64_t shape = 300;
    distac_checkpoint *taus[2] = {NULL, NULL}, *here = NULL, *merged = NULL;
    distac_tensor *vectors[2] = {NULL, NULL};
    distac_merge *ties = NULL;
    distac_status status = distac_merge_create(c, "ties", &ties);
    for (int t = 0; t < 2 && status == DISTAC_OK; t++) {
        distac_tensor *w = NULL;
        status = distac_tensor_create(c, DISTAC_F32, 1, &shape, &w);
        if (status == DISTAC_OK) status = distac_tensor_random(w, 0, (uint64_t)t, 1);
        if (status == DISTAC_OK) status = distac_checkpoint_create(c, &here);
        if (status == DISTAC_OK) status = distac_checkpoint_set(here, "w", w);
        if (status == DISTAC_OK) status = distac_checkpoint_to(here, "cuda", &taus[t]);
        if (status == DISTAC_OK) status = distac_tensor_to(w, "cuda", &vectors[t]);
        distac_checkpoint_release(here);
        here = NULL;
        distac_tensor_release(w);
    }
    if (status == DISTAC_OK) status = distac_merge_delta(ties, 2, taus, &merged);
    if (status == DISTAC_OK) status = distac_checkpoint_combine(1, taus[0], 0.5, merged, &here);
    if (status == DISTAC_OK) status = distac_ties_vectors(2, vectors, 0.2);
    distac_checkpoint_release(here);
    distac_checkpoint_release(merged);
    for (int t = 0; t < 2; t++) {
        distac_checkpoint_release(taus[t]);
        distac_tensor_release(vectors[t]);
    }
    distac_merge_release(ties);
    return status;
}

/* A little of everything; gives back all that it takes. */
static distac_status work(distac_context *c) {
    distac_tensor *a = NULL, *b = NULL, *d = NULL, *e = NULL;
    double value = 0;
    void *sending, *here;
    DI_TRY(c->device->sending_make(c, 5000, &sending, &here));
    distac_status status = travel(c, sending, here);
    c->device->sending_free(c, sending);
    if (status == DISTAC_OK) status = matrix(c, 40, &a);
    if (status == DISTAC_OK) status = distac_tensor_binary_scalar(DISTAC_MUL, a, 2.0, 0, &b);
    if (status == DISTAC_OK) status = distac_tensor_matmul(a, b, &d);
    if (status == DISTAC_OK) status = distac_tensor_reduce(DISTAC_SUM, d, -1, 0, &e);
    if (status == DISTAC_OK) status = distac_tensor_item(e, &value);
    if (status == DISTAC_OK && value != 32000.0) status = DISTAC_ENUMERIC;
    distac_tensor_release(e);
    distac_tensor_release(d);
    distac_tensor_release(b);
    distac_tensor_release(a);
    return status;
}

/* Every call of CUDA fails once: without memory, or for another
 * reason. The context works again after it, and nothing is lost. */
static void any_call_may_fail(void **state) {
    static const int errors[] = {NO_MEMORY, OTHER};
    distac_context *c = device();
    set("calls", 0);
    for (int e = 0; e < 2; e++) {
        assert_int_equal(work(c), DISTAC_OK); /* what is made once is there */
        long long used = set("used", 0), pinned = set("pinned", 0);
        distac_context_info before, after;
        distac_context_get_info(c, &before);
        int failures = 0;
        for (long long at = 1;; at++) {
            set("fail_with", errors[e]);
            set("fail_at", at);
            distac_status status = work(c);
            bool reached = set("calls", 0) >= at;
            set("fail_at", 0);
            if (status != DISTAC_OK) {
                failures++;
                assert_true(status == DISTAC_ENOMEM || status == DISTAC_EDEVICE);
                assert_non_null(strstr(distac_last_error(), "cuda:0"));
            }
            assert_int_equal(work(c), DISTAC_OK);
            if (!reached) break;
        }
        assert_true(failures > 20);
        c->device->wait(c);
        distac_context_get_info(c, &after);
        assert_true(after.memory_used == before.memory_used);
        assert_true(set("used", 0) <= used && set("pinned", 0) == pinned);
    }
    distac_context_release(c);
    (void)state;
}

/* The same of merging, at one in five of its many calls. */
static void merging_may_fail(void **state) {
    distac_context *c = device();
    distac_context_info before, after;
    assert_int_equal(merge_two(c), DISTAC_OK);
    distac_context_get_info(c, &before);
    int failures = 0;
    bool reached = true;
    for (long long at = 1; reached; at += 5) {
        set("fail_with", at % 2 ? NO_MEMORY : OTHER);
        set("fail_at", at);
        distac_status status = merge_two(c);
        reached = set("calls", 0) >= at;
        set("fail_at", 0);
        if (status == DISTAC_OK) continue;
        failures++;
        assert_true(status == DISTAC_ENOMEM || status == DISTAC_EDEVICE);
        assert_non_null(strstr(distac_last_error(), "cuda:0"));
    }
    assert_true(failures > 5);
    assert_int_equal(merge_two(c), DISTAC_OK);
    distac_context_get_info(c, &after);
    assert_true(after.memory_used == before.memory_used);
    distac_context_release(c);
    (void)state;
}

static void opening_may_fail(void **state) {
    distac_context *c = device(), *other = NULL;
    long long used = set("used", 0), pinned = set("pinned", 0);
    static const int errors[] = {NO_MEMORY, OTHER};
    for (int e = 0; e < 2; e++) {
        int failures = 0;
        for (long long at = 1;; at++) {
            set("fail_with", errors[e]);
            set("fail_at", at);
            distac_status status = open_context(0, &other);
            bool reached = set("calls", 0) >= at;
            set("fail_at", 0);
            if (status != DISTAC_OK) failures++;
            else distac_context_release(other);
            assert_true(set("used", 0) == used && set("pinned", 0) == pinned);
            if (!reached) break;
        }
        assert_true(failures > 4);
    }
    distac_context_release(c);
    (void)state;
}

static void a_full_device_goes_on(void **state) {
    distac_context *c = device();
    long long total = set("memory", set("used", 0) + (1 << 20));
    void *a = di_there_alloc(c, 2 << 20);
    assert_null(a);
    assert_non_null(strstr(distac_last_error(), "2097152 bytes"));
    a = di_there_alloc(c, 1 << 19);
    assert_non_null(a);
    di_there_free(c, a, 1 << 19);
    set("memory", total);
    assert_int_equal(work(c), DISTAC_OK);
    distac_context_release(c);
    (void)state;
}

/* Lost at whatever call: every later one says so, with the same
 * code; the CPU goes on, and the context can be closed. */
static void a_lost_device_stays_lost(void **state) {
    distac_context_release(device());
    for (long long at = 1; at < 60; at += 3) {
        distac_context *c = device(), *cpu = NULL;
        set("fail_with", LOST);
        set("fail_at", at);
        distac_status status = work(c);
        if (status != DISTAC_OK) {
            assert_int_equal(status, DISTAC_EDEVICE);
            for (int i = 0; i < 3; i++) {
                assert_int_equal(work(c), DISTAC_EDEVICE);
                assert_non_null(strstr(distac_last_error(), "cuda:0 is lost"));
                assert_int_equal(c->device->wait(c), DISTAC_EDEVICE);
            }
            int64_t two = 2;
            distac_tensor *t;
            assert_int_equal(distac_context_create(NULL, &cpu), DISTAC_OK);
            assert_int_equal(distac_tensor_create(cpu, DISTAC_F32, 1, &two, &t), DISTAC_OK);
            assert_int_equal(distac_tensor_fill(t, 1), DISTAC_OK);
            distac_tensor_release(t);
            distac_context_release(cpu);
        }
        distac_context_release(c);
        set("revive", 0);
    }
    (void)state;
}

static void a_cancelled_context_refuses(void **state) {
    distac_context *c = device();
    distac_cancel(c);
    assert_int_equal(work(c), DISTAC_ECANCELED);
    distac_cancel_clear(c);
    assert_int_equal(work(c), DISTAC_OK);
    distac_context_release(c);
    (void)state;
}

/* The emulated device's own promises: the host cannot touch its memory. */
static void the_host_cannot_reach_in(void **state) {
    distac_context *c = device();
    set("calls", 0);
    volatile char *memory = di_there_alloc(c, 64);
    assert_non_null((void *)(uintptr_t)memory);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not the test program's way with it */
        *memory = 1;
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    di_there_free(c, (void *)(uintptr_t)memory, 64);
    distac_context_release(c);
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_travel),
        cmocka_unit_test(memory_is_counted_and_limited),
        cmocka_unit_test(devices_are_listed),
        cmocka_unit_test(what_sets_out_waits_for_its_readers),
        cmocka_unit_test(fragments_lie_as_on_a_device),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(merging_may_fail),
        cmocka_unit_test(opening_may_fail),
        cmocka_unit_test(a_full_device_goes_on),
        cmocka_unit_test(a_lost_device_stays_lost),
        cmocka_unit_test(a_cancelled_context_refuses),
        cmocka_unit_test(the_host_cannot_reach_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
