/* test_script.c: the host library: results, errors, limits, cancelling from another thread, closing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "distac_script.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static distac_status run(distac_script *script, const char *text) {
    return distac_script_run_string(script, text, (int64_t)strlen(text), "=job");
}

static distac_script *opened(const distac_script_desc *desc) {
    distac_script *script = NULL;
    distac_status status = distac_script_open(desc, &script);
    if (status != DISTAC_OK) fail_msg("%s", distac_script_error(NULL));
    assert_non_null(script);
    return script;
}

static void results(void **state) {
    (void)state;
    distac_script *script = opened(NULL);
    const char *json = NULL;
    assert_int_equal(distac_script_set_number(script, "kappa", 0.5), DISTAC_OK);
    assert_int_equal(distac_script_set_string(script, "name", "digits"), DISTAC_OK);
    assert_int_equal(distac_script_set_boolean(script, "yes", 1), DISTAC_OK);
    assert_int_equal(run(script, "return {half = kappa, name = name, list = {1, 2, 3}, yes = yes}"), DISTAC_OK);
    assert_string_equal(distac_script_error(script), "");
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_non_null(strstr(json, "\"half\""));
    assert_non_null(strstr(json, "0.5"));
    assert_non_null(strstr(json, "\"digits\""));
    assert_non_null(strstr(json, "true"));
    assert_int_equal(run(script, "x = 1"), DISTAC_OK);
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_string_equal(json, "null");
    assert_int_equal(run(script, "return print"), DISTAC_OK);
    assert_int_equal(distac_script_result(script, &json), DISTAC_EUNSUPPORTED);
    distac_script_close(script);
}

static void engine(void **state) {
    (void)state;
    distac_context_desc settings = {.threads = 1, .memory_limit = (int64_t)64 << 20, .seed = 7};
    distac_script_desc desc = {.engine = &settings};
    distac_script *script = opened(&desc);
    const char *json = NULL;
    assert_int_equal(run(script, "local distac = require 'distac'\n"
                                 "local t = distac.tensor {1, 2} + 1\n"
                                 "local info = distac.context_info()\n"
                                 "return {t:table(), info.threads, info.memory_limit, info.seed}"),
                     DISTAC_OK);
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_string_equal(json, "[[2,3],1,67108864,7]");
    /* the engine's own status comes through */
    distac_status status = run(script, "return require('distac').load('/nowhere/x.safetensors')");
    assert_true(status == DISTAC_EIO || status == DISTAC_ENOTFOUND);
    assert_non_null(strstr(distac_script_error(script), "/nowhere/x.safetensors"));
    distac_script_close(script);
    settings.threads = -5;
    assert_int_not_equal(distac_script_open(&desc, &script), DISTAC_OK);
    assert_null(script);
    assert_true(strlen(distac_script_error(NULL)) > 0);
}

static void errors(void **state) {
    (void)state;
    distac_script *script = opened(NULL);
    assert_int_equal(run(script, "x = = 1"), DISTAC_EFORMAT);
    assert_non_null(strstr(distac_script_error(script), "job:1:"));
    assert_int_equal(run(script, "local function f() error('broken') end\nf()"), DISTAC_EINVAL);
    assert_non_null(strstr(distac_script_error(script), "broken"));
    assert_non_null(strstr(distac_script_error(script), "traceback"));
    assert_int_equal(run(script, "error({})"), DISTAC_EINVAL);
    assert_int_equal(run(script, "error(setmetatable({}, {__tostring = function() error('again') end}))"),
                     DISTAC_EINVAL);
    assert_int_equal(run(script, "error()"), DISTAC_EINVAL);
    assert_int_equal(distac_script_run_file(script, "/nowhere/job.lua"), DISTAC_EIO);
    assert_int_equal(run(script, "os.exit(3)"), DISTAC_EINVAL);
    assert_int_equal(distac_script_run_file(NULL, "x"), DISTAC_EINVAL);
    assert_int_equal(distac_script_set_number(script, NULL, 1), DISTAC_EINVAL);
    assert_int_equal(run(script, "return 1"), DISTAC_OK);
    distac_script_close(script);
    distac_script_close(NULL);
    distac_script_cancel(NULL);
}

static void missing_files(void **state) {
    (void)state;
    distac_script *script = NULL;
    distac_script_desc desc = {.lua_path = "/nowhere"};
    assert_int_equal(distac_script_open(&desc, &script), DISTAC_ENOTFOUND);
    assert_null(script);
    assert_non_null(strstr(distac_script_error(NULL), "/nowhere"));
    assert_int_equal(distac_script_open(NULL, NULL), DISTAC_EINVAL);
}

/* Compiled code is refused wherever it comes from. */
static void bytecode(void **state) {
    (void)state;
    distac_script *script = opened(NULL);
    const char *json = NULL;
    assert_int_equal(distac_script_run_string(script, "\x1bLua", 4, "=job"), DISTAC_EFORMAT);
    assert_int_equal(run(script, "local code = string.dump(function() return 1 end)\n"
                                 "local a = load(code, 'x', 'b') == nil\n"
                                 "local b = load(code) == nil\n"
                                 "local c = (loadstring or load)(code) == nil\n"
                                 "local d = load('return 5')() == 5\n"
                                 "local e = load('return y', 'x', 't', {y = 6})() == 6\n"
                                 "return {a, b, c, d, e}"),
                     DISTAC_OK);
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_string_equal(json, "[true,true,true,true,true]");
    distac_script_close(script);
}

static void output(void **state) {
    (void)state;
    distac_script *script = opened(NULL);
    assert_string_equal(distac_script_output(script), "");
    assert_int_equal(run(script, "print('a', 1, nil) print() print(true)"), DISTAC_OK);
    assert_string_equal(distac_script_output(script), "a\t1\tnil\n\ntrue\n");
    assert_string_equal(distac_script_output(script), "");
    assert_int_equal(run(script, "for i = 1, 100000 do print('0123456789012345678901234567890123456789') end"),
                     DISTAC_OK);
    assert_true(strlen(distac_script_output(script)) <= 1 << 20);
    distac_script_close(script);
}

static void memory_limit(void **state) {
    (void)state;
    distac_script_desc desc = {.memory_limit = 8 << 20};
    distac_script *script = opened(&desc);
    assert_int_equal(run(script, "local t = {} for i = 1, 1e8 do t[i] = {i} end"), DISTAC_ENOMEM);
    assert_true(strlen(distac_script_error(script)) > 0);
    assert_int_equal(run(script, "return string.rep('x', 1e8)"), DISTAC_ENOMEM);
    assert_int_equal(run(script, "return 1"), DISTAC_OK);
    distac_script_close(script);
    /* every limit from nothing on: opening works or fails cleanly */
    for (int64_t limit = 1; limit < 400000; limit = limit * 3 / 2 + 1) {
        desc.memory_limit = limit;
        if (distac_script_open(&desc, &script) == DISTAC_OK) {
            run(script, "require 'distac'");
            distac_script_close(script);
        } else {
            assert_null(script);
        }
    }
}

static void instruction_limit(void **state) {
    (void)state;
    distac_script_desc desc = {.instruction_limit = 1000000};
    distac_script *script = opened(&desc);
    assert_int_equal(run(script, "while true do end"), DISTAC_ECANCELED);
    assert_non_null(strstr(distac_script_error(script), "limit of 1000000 instructions"));
    assert_int_equal(run(script, "while true do pcall(function() while true do end end) end"), DISTAC_ECANCELED);
    assert_int_equal(run(script, "local x = 0 for i = 1, 1000 do x = x + i end return x"), DISTAC_OK);
    distac_script_close(script);
}

static void *cancel_soon(void *script) {
    usleep(50000);
    distac_script_cancel(script);
    return NULL;
}

static void cancel(void **state) {
    (void)state;
    static const char *const endless[] = {
        "local m = require 'distac' local t = m.tensor {1} while true do t = t + 0 end",
        "local m = require 'distac' local t = m.tensor {1} while true do pcall(function() t = t + 0 end) end",
    };
    distac_script *script = opened(NULL);
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, script), 0);
        assert_int_equal(run(script, endless[i]), DISTAC_ECANCELED);
        pthread_join(thread, NULL);
        assert_int_equal(run(script, "return require('distac').tensor({1}):item()"), DISTAC_OK);
    }
    distac_script_close(script);
}

static void *whole_life(void *result) {
    distac_script *script = NULL;
    const char *json = NULL;
    *(int *)result = 0;
    if (distac_script_open(NULL, &script) != DISTAC_OK) return NULL;
    if (run(script, "local d = require 'distac' local s = 0 for i = 1, 200 do s = s + d.tensor({i}):item() end "
                    "return s") == DISTAC_OK &&
        distac_script_result(script, &json) == DISTAC_OK && strcmp(json, "20100") == 0) {
        *(int *)result = 1;
    }
    distac_script_close(script);
    return NULL;
}

static void two_at_once(void **state) {
    (void)state;
    pthread_t threads[2];
    int good[2] = {0, 0};
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, whole_life, &good[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(good[0], 1);
    assert_int_equal(good[1], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results),      cmocka_unit_test(engine),
        cmocka_unit_test(errors),       cmocka_unit_test(missing_files),
        cmocka_unit_test(bytecode),     cmocka_unit_test(output),
        cmocka_unit_test(memory_limit), cmocka_unit_test(instruction_limit),
        cmocka_unit_test(cancel),       cmocka_unit_test(two_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
