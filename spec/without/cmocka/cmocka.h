/* cmocka.h, where cmocka is not installed: as much of it as our tests use, with the same lines of output. A
 * program has one group of tests. */
#ifndef DISTAC_WITHOUT_CMOCKA_H
#define DISTAC_WITHOUT_CMOCKA_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*CMFixtureFunction)(void **state);
struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    CMFixtureFunction setup, teardown;
    void *state;
};

enum { CM_OK, CM_FAILED, CM_SKIPPED };
static jmp_buf cm_back;

#define print_message printf
#define print_error printf
__attribute__((noreturn)) static inline void _fail(const char *file, int line) {
    printf("%s:%d: error: Failure!\n", file, line);
    longjmp(cm_back, CM_FAILED);
}
#define fail() _fail(__FILE__, __LINE__)
#define fail_msg(...) (printf(__VA_ARGS__), printf("\n"), fail())
#define skip() longjmp(cm_back, CM_SKIPPED)

static inline void cm_check(int holds, const char *what, const char *file, int line) {
    if (holds) return;
    printf("[  ERROR   ] --- %s\n", what);
    _fail(file, line);
}
#define CM_CHECK(holds, what) cm_check((holds) ? 1 : 0, what, __FILE__, __LINE__)
#define assert_true(x) CM_CHECK(x, #x)
#define assert_false(x) CM_CHECK(!(x), "not " #x)
#define assert_null(x) CM_CHECK(!(x), #x " is NULL")
#define assert_non_null(x) CM_CHECK(x, #x " is not NULL")
#define assert_ptr_equal(a, b) CM_CHECK((const void *)(a) == (const void *)(b), #a " == " #b)

static inline void cm_numbers(uintmax_t a, uintmax_t b, int same, const char *what, const char *file, int line) {
    if ((a == b) == same) return;
    printf("[  ERROR   ] --- %s: %#jx, %#jx\n", what, a, b);
    _fail(file, line);
}
#define CM_WIDE(x) ((uintmax_t)(x))
#define assert_int_equal(a, b) cm_numbers(CM_WIDE(a), CM_WIDE(b), 1, #a " == " #b, __FILE__, __LINE__)
#define assert_int_not_equal(a, b) cm_numbers(CM_WIDE(a), CM_WIDE(b), 0, #a " != " #b, __FILE__, __LINE__)
static inline void cm_range(uintmax_t x, uintmax_t low, uintmax_t high, const char *file, int line) {
    if (x >= low && x <= high) return;
    printf("[  ERROR   ] --- %ju is not in %ju to %ju\n", x, low, high);
    _fail(file, line);
}
#define assert_in_range(x, low, high) cm_range(CM_WIDE(x), CM_WIDE(low), CM_WIDE(high), __FILE__, __LINE__)

static inline void cm_strings(const char *a, const char *b, int same, const char *file, int line) {
    if ((strcmp(a, b) == 0) == same) return;
    printf("[  ERROR   ] --- \"%s\" %s \"%s\"\n", a, same ? "!=" : "==", b);
    _fail(file, line);
}
#define assert_string_equal(a, b) cm_strings(a, b, 1, __FILE__, __LINE__)
#define assert_string_not_equal(a, b) cm_strings(a, b, 0, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n) CM_CHECK(memcmp(a, b, n) == 0, #n " bytes at " #a " and " #b " are the same")
#define assert_memory_not_equal(a, b, n) CM_CHECK(memcmp(a, b, n) != 0, #n " bytes at " #a " and " #b " differ")

#define cmocka_unit_test(f) {#f, f, NULL, NULL, NULL}
#define cmocka_unit_test_setup_teardown(f, setup, teardown) {#f, f, setup, teardown, NULL}

static inline int cm_one(const struct CMUnitTest *test, void **shared) {
    void *own = shared ? *shared : NULL;
    int end = setjmp(cm_back);
    if (end == CM_OK && test->setup && test->setup(&own) != 0) end = CM_FAILED;
    else if (end == CM_OK) test->test(&own);
    if (test->teardown && test->teardown(&own) != 0) end = CM_FAILED;
    return end;
}

static inline int cm_run(const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup,
                         CMFixtureFunction teardown) {
    static const char *const words[] = {"[       OK ]", "[  FAILED  ]", "[  SKIPPED ]"};
    int ended[3] = {0, 0, 0};
    void *state = NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("[==========] Running %zu test(s).\n", count);
    if (setjmp(cm_back) != 0 || (setup && setup(&state) != 0)) {
        printf("[  FAILED  ] GROUP SETUP\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        printf("[ RUN      ] %s\n", tests[i].name);
        int end = cm_one(&tests[i], &state);
        ended[end]++;
        printf("%s %s\n", words[end], tests[i].name);
    }
    if (setjmp(cm_back) != 0 || (teardown && teardown(&state) != 0)) {
        printf("[  FAILED  ] GROUP TEARDOWN\n");
        return 1;
    }
    printf("[  PASSED  ] %d test(s); %d failed, %d skipped\n", ended[CM_OK], ended[CM_FAILED], ended[CM_SKIPPED]);
    return ended[CM_FAILED];
}
#define cmocka_run_group_tests(tests, setup, teardown)                                                            \
    cm_run(tests, sizeof tests / sizeof tests[0], setup, teardown)

#endif
