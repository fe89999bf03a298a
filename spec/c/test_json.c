/* test_json.c: the JSON reader: what it gives, what it refuses and where, and what it does without memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static void values(void **state) {
    (void)state;
    static const char text[] =
        " {\"a\": [1, -2, 3.5, 1e-05, true, false, null, \"x\\u00e9\\ud83d\\ude00\\n\\/\"],\n"
        "\"b\": {}, \"c\": [], \"\": 9223372036854775807, \"d\": -9223372036854775808} ";
    di_json_document document;
    size_t at;
    const char *rule;
    assert_int_equal(di_json_read(text, sizeof text - 1, &document, &at, &rule), DISTAC_OK);
    const di_json *root = document.root, *item = di_json_get(root, "a");
    assert_int_equal(root->kind, DI_JSON_OBJECT);
    assert_int_equal(root->count, 5);
    assert_int_equal(item->count, 8);
    item = item->first;
    assert_int_equal(item->kind, DI_JSON_INTEGER);
    assert_int_equal(item->integer, 1);
    item = item->next;
    assert_int_equal(item->integer, -2);
    item = item->next;
    assert_int_equal(item->kind, DI_JSON_REAL);
    assert_true(item->real == 3.5);
    item = item->next;
    assert_true(item->real == 1e-5);
    item = item->next;
    assert_int_equal(item->kind, DI_JSON_TRUE);
    item = item->next;
    assert_int_equal(item->kind, DI_JSON_FALSE);
    item = item->next;
    assert_int_equal(item->kind, DI_JSON_NULL);
    item = item->next;
    assert_string_equal(item->text, "x\xc3\xa9\xf0\x9f\x98\x80\n/");
    assert_int_equal(item->count, strlen(item->text));
    assert_null(item->next);
    assert_int_equal(di_json_get(root, "b")->kind, DI_JSON_OBJECT);
    assert_int_equal(di_json_get(root, "c")->count, 0);
    assert_int_equal(di_json_get(root, "")->integer, INT64_MAX);
    assert_int_equal(di_json_get(root, "d")->integer, INT64_MIN);
    assert_null(di_json_get(root, "e"));
    assert_null(di_json_get(di_json_get(root, "c"), "a"));
    assert_null(di_json_text(di_json_get(root, "c")));
    di_json_free(&document);
}

static void numbers(void **state) {
    (void)state;
    static const char *const texts[] = {
        "0",      "-0",     "0.1",   "1e22",  "1e23",     "123456789.123456789",      "2.5E+3",
        "1e-400", "5e-324", "1e308", "0.3e1", "17.0e-01", "10000000000000000000000.5"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        di_json_document document;
        size_t at;
        const char *rule;
        double wanted = strtod(texts[i], NULL);
        assert_int_equal(di_json_read(texts[i], strlen(texts[i]), &document, &at, &rule), DISTAC_OK);
        assert_true(fabs(document.root->real - wanted) <= fabs(wanted) * 0x1p-52);
        di_json_free(&document);
    }
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
        const char *rule;
    } cases[] = {
        {"", 0, "ends where a value"},
        {"   ", 3, "ends where a value"},
        {"{", 1, "quoted name"},
        {"[1,]", 3, "a value is expected"},
        {"[1 2]", 3, "','"},
        {"{\"a\" 1}", 5, "':'"},
        {"{\"a\":1,}", 7, "quoted name"},
        {"{a:1}", 1, "quoted name"},
        {"{\"a\":1} x", 8, "follows the value"},
        {"{\"a\":1,\"b\":2,\"a\":3}", 13, "twice"},
        {"{\"a\":1,\"\\u0061\":3}", 7, "twice"},
        {"{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"c\":1,\"a\":2}", 55, "twice"},
        {"\"abc", 0, "does not end"},
        {"\"abc\\", 0, "does not end"},
        {"\"abc\\\"", 0, "does not end"},
        {"\"\\x\"", 1, "unknown escape"},
        {"\"\\u12\"", 1, "hexadecimal"},
        {"\"\\u12g4\"", 1, "hexadecimal"},
        {"\"\\u0000\"", 1, "NUL"},
        {"\"\\ud83d\"", 1, "surrogate"},
        {"\"\\ud83dxx\"", 1, "surrogate"},
        {"\"\\ud83d\\u0041\"", 1, "surrogate"},
        {"\"\\ude00\"", 1, "surrogate"},
        {"\"a\nb\"", 2, "control byte"},
        {"\"\xff\"", 1, "UTF-8"},
        {"\"\xc0\x80\"", 1, "UTF-8"},
        {"\"a\xed\xa0\x80\"", 2, "UTF-8"},
        {"\xef\xbb\xbf{}", 0, "a value is expected"},
        {"\xff{}", 0, "UTF-8"},
        {"01", 0, "not a number"},
        {"-", 0, "not a number"},
        {"1.", 0, "not a number"},
        {".5", 0, "a value is expected"},
        {"+1", 0, "a value is expected"},
        {"1e", 0, "not a number"},
        {"0x1", 1, "follows the value"},
        {"NaN", 0, "a value is expected"},
        {"Infinity", 0, "a value is expected"},
        {"1e309", 0, "too large"},
        {"9223372036854775808", 0, "64 bits"},
        {"-9223372036854775809", 0, "64 bits"},
        {"99999999999999999999999", 0, "64 bits"},
        {"tru", 0, "a value is expected"},
        {"nullx", 4, "follows the value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        di_json_document document;
        size_t at = 12345, bytes = strlen(cases[i].text);
        const char *rule = "";
        char *exact = malloc(bytes + 1); /* nothing behind the text may be looked at */
        memcpy(exact, cases[i].text, bytes);
        exact = realloc(exact, bytes ? bytes : 1);
        if (di_json_read(exact, bytes, &document, &at, &rule) != DISTAC_EFORMAT)
            fail_msg("%s: read", cases[i].text);
        if (at != cases[i].at || !strstr(rule, cases[i].rule))
            fail_msg("%s: byte %zu: %s", cases[i].text, at, rule);
        free(exact);
    }
}

static void nesting_and_prefixes(void **state) {
    (void)state;
    di_json_document document;
    size_t at;
    const char *rule;
    char deep[400];
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    assert_int_equal(di_json_read(deep + 136, 128, &document, &at, &rule), DISTAC_OK);
    di_json_free(&document);
    assert_int_equal(di_json_read(deep, 400, &document, &at, &rule), DISTAC_EFORMAT);
    assert_int_equal(at, 64);
    static const char text[] = "{\"weight_map\":{\"a\\n\":\"\\u00e9\",\"b\":[1.5e3,null,true]}}";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char *exact = malloc(i ? i : 1);
        memcpy(exact, text, i);
        assert_int_equal(di_json_read(exact, i, &document, &at, &rule), DISTAC_EFORMAT);
        assert_true(at <= i);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(numbers),
        cmocka_unit_test(refusals),
        cmocka_unit_test(nesting_and_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
