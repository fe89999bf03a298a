/* test_safetensors.c: the strict reader of safetensors files. Every must-reject case asserts the reason, so a file
 * refused for the wrong cause fails the test. */
#include "st_files.h"

typedef struct text_case {
    const char *rule, *header;
    size_t data;
    const char *reason;
} text_case;

#define W16                   "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"
#define ENTRY(shape, offsets) "{\"w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define PLAIN                 "\"shape\":[2,2],\"data_offsets\":[0,16]}"

static const text_case refused[] = {
    {"S06 byte FF", "{\"\xff\":{\"dtype\":\"F32\"," PLAIN "}", 16, "UTF-8"},
    {"S06 overlong", "{\"\xC0\xAF\":{\"dtype\":\"F32\"," PLAIN "}", 16, "UTF-8"},
    {"S06 surrogate bytes", "{\"\xED\xA0\x80\":{\"dtype\":\"F32\"," PLAIN "}", 16, "UTF-8"},
    {"S06 cut sequence", "{\"\xE2\x82\":{\"dtype\":\"F32\"," PLAIN "}", 16, "UTF-8"},
    {"S06 in metadata", "{\"__metadata__\":{\"a\":\"\xff\"}}", 0, "UTF-8"},
    {"S06 outside a text", "{\xC3\xA9}", 0, "a quoted name is expected"},
    {"S07 brace alone", "{", 0, "a quoted name is expected, the header ends"},
    {"S07 cut in a name", "{\"w", 0, "ends inside a text"},
    {"S07 cut in a value", "{\"w\":{\"dtype\":\"F32\"", 0, "ends inside a value"},
    {"S07 no value", "{\"w\":}", 0, "a value is missing"},
    {"S07 no colon", "{\"w\"{}}", 0, "':' is expected"},
    {"S07 mismatched brackets", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2},\"data_offsets\":[0,8]]}", 8, "not JSON"},
    {"S08 leading spaces", "  " W16, 16, "must start with '{'"},
    {"S08 leading newline", "\n" W16, 16, "must start with '{'"},
    {"S10 two objects", "{}{}", 0, "only white space may follow"},
    {"S10 trailing letter", W16 "x", 16, "only white space may follow"},
    {"S10 trailing brace", W16 "}", 16, "only white space may follow"},
    {"S11 list", "[]", 0, "must start with '{'"},
    {"S11 text", "\"x\"", 0, "must start with '{'"},
    {"S11 null", "null", 0, "must start with '{'"},
    {"S11 number", "0", 0, "must start with '{'"},
    {"S12 byte-order mark", "\xEF\xBB\xBF" W16, 16, "must start with '{'"},
    {"S12 comment", "{/* c */\"w\":{\"dtype\":\"F32\"," PLAIN "}", 16, "a quoted name is expected, found '/'"},
    {"S12 comment inside",
     "{\"w\":{\"dtype\":\"F32\","
     "/**/" PLAIN "}",
     16, "not JSON"},
    {"S12 trailing comma", "{\"w\":{\"dtype\":\"F32\"," PLAIN ",}", 16, "a quoted name is expected"},
    {"S12 trailing comma inside", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2,],\"data_offsets\":[0,16]}}", 16,
     "not JSON"},
    {"S12 single quotes", "{'w':{\"dtype\":\"F32\"," PLAIN "}", 16, "a quoted name is expected"},
    {"S12 control byte in a text", "{\"w\x01\":{\"dtype\":\"F32\"," PLAIN "}", 16, "control byte 0x01"},
    {"S12 raw newline in a text", "{\"w\n\":{\"dtype\":\"F32\"," PLAIN "}", 16, "control byte 0x0A"},
    {"S12 bad escape", "{\"w\\x\":{\"dtype\":\"F32\"," PLAIN "}", 16, "not JSON"},
    {"S13 same name twice", "{\"w\":{\"dtype\":\"F32\"," PLAIN ",\"w\":{\"dtype\":\"F32\"," PLAIN "}", 16,
     "two tensors are named \"w\""},
    {"S13 other type", "{\"w\":{\"dtype\":\"F32\"," PLAIN ",\"w\":{\"dtype\":\"I32\"," PLAIN "}", 16,
     "two tensors are named \"w\""},
    {"S13 first one invalid", "{\"w\":{\"dtype\":\"F99\"," PLAIN ",\"w\":{\"dtype\":\"F32\"," PLAIN "}", 16,
     "unknown dtype \"F99\""},
    {"S13 after unescaping",
     "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"\\u0077\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, "two tensors are named \"w\""},
    {"S14 metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice"},
    {"S14 metadata twice, escaped", "{\"__metadata__\":{},\"__metadat\\u0061__\":{}}", 0,
     "__metadata__ appears twice"},
    {"S15 metadata key twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "a name appears twice"},
    {"S15 metadata key twice, escaped", "{\"__metadata__\":{\"a\":\"1\",\"\\u0061\":\"2\"}}", 0,
     "a name appears twice"},
    {"S16 dtype twice", "{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\"," PLAIN "}", 16, "a name appears twice"},
    {"S16 shape twice", "{\"w\":{\"dtype\":\"F32\",\"shape\":[4]," PLAIN "}", 16, "a name appears twice"},
    {"S17 unknown field", "{\"w\":{\"dtype\":\"F32\",\"evil\":\"x\"," PLAIN "}", 16, "unknown field \"evil\""},
    {"S17 other case", "{\"w\":{\"dtype\":\"F32\",\"Shape\":[4]," PLAIN "}", 16, "unknown field \"Shape\""},
    {"S18 no dtype", "{\"w\":{" PLAIN "}", 16, "the field \"dtype\" is missing"},
    {"S18 no shape", "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 16, "the field \"shape\" is missing"},
    {"S18 no offsets", "{\"w\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16, "the field \"data_offsets\" is missing"},
    {"S18 entry is a list", "{\"w\":[\"F32\"]}", 0, "must be an object"},
    {"S18 entry is null", "{\"w\":null}", 0, "must be an object"},
    {"S19 F128", "{\"w\":{\"dtype\":\"F128\"," PLAIN "}", 16, "unknown dtype \"F128\""},
    {"S19 lower case", "{\"w\":{\"dtype\":\"f32\"," PLAIN "}", 16, "unknown dtype \"f32\""},
    {"S19 number", "{\"w\":{\"dtype\":1," PLAIN "}", 16, "dtype must be a text"},
    {"S20 negative", ENTRY("[-2,2]", "[0,16]"), 16, "plain non-negative integers; found -2"},
    {"S20 2.0", ENTRY("[2.0,2]", "[0,16]"), 16, "plain non-negative integers; found 2.0"},
    {"S20 2e0", ENTRY("[2e0,2]", "[0,16]"), 16, "plain non-negative integers; found 2e0"},
    {"S20 text", ENTRY("[\"2\",2]", "[0,16]"), 16, "shape must be a list of integers"},
    {"S20 nested", ENTRY("[[2],2]", "[0,16]"), 16, "nest deeper"},
    {"S20 leading zero", ENTRY("[02,2]", "[0,16]"), 16, "plain non-negative integers; found 02"},
    {"S20 plus", ENTRY("[+2,2]", "[0,16]"), 16, "plain non-negative integers; found +2"},
    {"S20 minus zero", ENTRY("[-0]", "[0,0]"), 0, "plain non-negative integers; found -0"},
    {"S20 NaN", ENTRY("[NaN]", "[0,0]"), 0, "found 'N'"},
    {"S20 true", ENTRY("[true]", "[0,4]"), 4, "shape must be a list of integers"},
    {"S20 shape is a number", ENTRY("4", "[0,16]"), 16, "shape must be a list of integers"},
    {"S20 minus zero offset", ENTRY("[0]", "[-0,0]"), 0, "plain non-negative integers; found -0"},
    {"S21 2^64", ENTRY("[18446744073709551616]", "[0,16]"), 16, "does not fit in 63 bits"},
    {"S21 2^63", ENTRY("[9223372036854775808]", "[0,16]"), 16, "does not fit in 63 bits"},
    {"S22 beside a zero", ENTRY("[0,9223372036854775807,9223372036854775807]", "[0,0]"), 0, "over 2^48-1"},
    {"S22 before a zero", ENTRY("[9223372036854775807,0]", "[0,0]"), 0, "over 2^48-1"},
    {"S22 2^48", ENTRY("[0,281474976710656]", "[0,0]"), 0, "over 2^48-1"},
    {"S23 product", ENTRY("[281474976710655,281474976710655]", "[0,16]"), 16,
     "product of its dimensions overflows"},
    {"S23 product beside a zero", ENTRY("[281474976710655,281474976710655,0]", "[0,0]"), 0,
     "product of its dimensions overflows"},
    {"S24 bits", ENTRY("[281474976710655,32000]", "[0,16]"), 16, "size in bits overflows"},
    {"S24 a count that wraps", ENTRY("[140737488355328,65536,1]", "[0,16]"), 16, "overflows"},
    {"S25 17 dimensions", ENTRY("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "17 dimensions, at most 16"},
    {"S26 one offset", ENTRY("[2,2]", "[0]"), 16, "data_offsets must be two integers"},
    {"S26 three offsets", ENTRY("[2,2]", "[0,16,16]"), 16, "data_offsets must be two integers"},
    {"S26 texts", ENTRY("[2,2]", "[\"0\",\"16\"]"), 16, "data_offsets must be two integers"},
    {"S27 backwards", ENTRY("[2,2]", "[16,0]"), 16, "run backwards"},
    {"S28 starts late", ENTRY("[2,2]", "[4,20]"), 20, "holes are not allowed"},
    {"S28 hole",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[8,12]}}",
     12, "holes are not allowed"},
    {"S29 same range",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[0,4]}}",
     4, "must not overlap"},
    {"S29 half",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
     "\"data_offsets\":[4,12]}}",
     12, "must not overlap"},
    {"S30 two bytes short", W16, 14, "but the file holds 14"},
    {"S30 tail", W16, 20, "4 bytes after the last tensor"},
    {"S30 tail, no tensors", "{}", 1, "1 bytes after the last tensor"},
    {"S30 offsets far beyond", ENTRY("[1]", "[9223372036854775800,9223372036854775804]"), 4,
     "holes are not allowed"},
    {"S31 half", ENTRY("[2,2]", "[0,8]"), 8, "need 16 bytes, data_offsets give 8"},
    {"S31 double", ENTRY("[2,2]", "[0,32]"), 32, "need 16 bytes, data_offsets give 32"},
    {"S32 F4", "{\"w\":{\"dtype\":\"F4\",\"shape\":[1,3],\"data_offsets\":[0,2]}}", 2, "whole byte"},
    {"S32 F6", "{\"w\":{\"dtype\":\"F6_E2M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "whole byte"},
    {"S33 empty beyond the data", ENTRY("[0]", "[99,99]"), 0, "holes are not allowed"},
    {"S33 empty inside another",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"F32\",\"shape\":[0],"
     "\"data_offsets\":[8,8]}}",
     16, "must not overlap"},
    {"S34 number", "{\"__metadata__\":{\"a\":1}}", 0, "must map texts to texts"},
    {"S34 object", "{\"__metadata__\":{\"a\":{}}}", 0, "must map texts to texts"},
    {"S34 list", "{\"__metadata__\":{\"a\":[]}}", 0, "must map texts to texts"},
    {"S34 null value", "{\"__metadata__\":{\"a\":null}}", 0, "must map texts to texts"},
    {"S35 null", "{\"__metadata__\":null}", 0, "must be an object of texts"},
    {"S35 text", "{\"__metadata__\":\"x\"}", 0, "must be an object of texts"},
    {"S36 four levels", "{\"__metadata__\":{\"a\":[[]]}}", 0, "nest deeper"},
    {"S37 NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"F32\"," PLAIN "}", 16, "character NUL"},
    {"S37 NUL in a metadata key", "{\"__metadata__\":{\"a\\u0000b\":\"\"}}", 0, "character NUL"},
    {"S37 NUL in a metadata value", "{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0, "character NUL"},
    {"S37 lone surrogate", "{\"\\ud800\":{\"dtype\":\"F32\"," PLAIN "}", 16, "not JSON"},
};

static void reject_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const text_case *c = &refused[i];
        size_t length = strlen(c->header);
        must_reject(c->rule, make(length, c->header, length, c->data), c->reason);
    }
}

static void reject_lengths(void **state) {
    (void)state;
    static const struct {
        size_t bytes;
        const char *reason;
    } small[] = {{0, "0 bytes"}, {1, "1 bytes"}, {7, "7 bytes"}};
    for (int i = 0; i < 3; i++) {
        write_bytes(file_named("case.safetensors"), "\2\0\0\0\0\0\0\0", small[i].bytes);
        must_reject("S01 short file", file_named("case.safetensors"), small[i].reason);
    }
    static const struct {
        const char *rule;
        uint64_t claimed;
        const char *reason;
    } claims[] = {
        {"S02 longer than the file", 1000, "only 57 follow"},
        {"S02 by one", 58, "only 57 follow"},
        {"S03 2^64-1", UINT64_MAX, "at most 100000000"},
        {"S03 2^64-8", UINT64_MAX - 7, "at most 100000000"},
        {"S04 100,000,001", 100000001, "at most 100000000"},
        {"S05 zero", 0, "the header is empty"},
        {"S39 swapped bytes", UINT64_C(0x3900000000000000), "at most 100000000"},
        {"S39 swapped low half", UINT64_C(0x39000000), "at most 100000000"},
        {"S47 zip", UINT64_C(0x04034b50), "only 57 follow"},
        {"S47 zlib", UINT64_C(0x9c78), "only 57 follow"},
        {"S47 pickle", UINT64_C(0x0280), "only 57 follow"},
    };
    assert_int_equal(strlen(ENTRY("[]", "[0,4]")) + 4, 57);
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++)
        must_reject(claims[i].rule, make(claims[i].claimed, ENTRY("[]", "[0,4]"), 53, 4), claims[i].reason);
    must_reject("S09 NUL padding", make(sizeof "{}", "{}", sizeof "{}", 0), "only white space may follow");
    must_reject("S12 NUL byte", make(4, "{\0 }", 4, 0), "found byte 0x00");
}

/* Headers too large to be written out above. */
static void reject_large(void **state) {
    (void)state;
    char *text = malloc(4 << 20);
    size_t at = 0;
    at += (size_t)sprintf(text, "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4],\"shape\":[1");
    for (int i = 1; i < 1000000; i++) {
        text[at++] = ',';
        text[at++] = '1';
    }
    at += (size_t)sprintf(text + at, "]}}");
    must_reject("S25 a million dimensions", make(at, text, at, 4), "1000000 dimensions, at most 16");

    for (int levels = 200; levels <= 100000; levels *= 500) {
        at = (size_t)sprintf(text, "{\"__metadata__\":");
        memset(text + at, '[', (size_t)levels);
        memset(text + at + levels, ']', (size_t)levels);
        at += 2 * (size_t)levels;
        text[at++] = '}';
        must_reject("S36 deep", make(at, text, at, 0), "nest deeper than 3");
    }

    for (size_t length = 4097; length <= 1 << 20; length += (1 << 20) - 4097) {
        at = (size_t)sprintf(text, "{\"");
        memset(text + at, 'n', length);
        at += length;
        at += (size_t)sprintf(text + at, "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        must_reject("S37 long name", make(at, text, at, 4), "at most 4096");
    }

    at = 0;
    text[at++] = '{';
    for (int i = 0; i < 50000; i++)
        at += (size_t)sprintf(text + at, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}",
                              i ? "," : "", i);
    text[at++] = '}';
    must_reject("S29 many on one range", make(at, text, at, 1), "must not overlap");
    free(text);
}

static void reject_not_a_file(void **state) {
    (void)state;
    distac_checkpoint *checkpoint = NULL;
    assert_int_not_equal(distac_checkpoint_open(context, folder, &checkpoint), DISTAC_OK);
    assert_int_not_equal(distac_checkpoint_open(context, "/dev/zero", &checkpoint), DISTAC_OK);
    assert_int_not_equal(distac_checkpoint_open(context, file_named("absent"), &checkpoint), DISTAC_OK);
    assert_int_equal(mkfifo(file_named("fifo"), 0600), 0);
    assert_int_not_equal(distac_checkpoint_open(context, file_named("fifo"), &checkpoint), DISTAC_OK);
    assert_null(checkpoint);
    /* A sparse giant costs nothing: its header is refused by its own claim. */
    write_bytes(file_named("sparse"), "", 0);
    assert_int_equal(truncate(file_named("sparse"), (off_t)1 << 36), 0);
    must_reject("sparse", file_named("sparse"), "the header is empty");
}

static const text_case accepted[] = {
    {"plain", W16, 16, "w"},
    {"S09 trailing space", W16 " \t\n\r  ", 16, "w"},
    {"spaces inside",
     "{ \"w\" :\n{ \"dtype\" : \"F32\" , \"shape\" : [ 2 , 2 ] , \"data_offsets\" : [ 0 , 16 ] } }", 16, "w"},
    {"no tensors", "{}", 0, NULL},
    {"empty metadata", "{\"__metadata__\":{}}", 0, NULL},
    {"metadata last", "{\"w\":{\"dtype\":\"F32\"," PLAIN ",\"__metadata__\":{\"a\":\"b\"}}", 16, "w"},
    {"scalar", ENTRY("[]", "[0,4]"), 4, "w"},
    {"16 dimensions", ENTRY("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "w"},
    {"empty tensor", ENTRY("[0]", "[0,0]"), 0, "w"},
    {"empty, large other dimension", ENTRY("[281474976710655,0]", "[0,0]"), 0, "w"},
    {"empty between others",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"e\":{\"dtype\":\"F32\",\"shape\":[0],"
     "\"data_offsets\":[4,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8, "e"},
    {"S44 offsets in another order",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[0,4]}}",
     8, "a"},
    {"S38 a name like a path", "{\"../../etc/passwd\":{\"dtype\":\"F32\"," PLAIN "}", 16, "../../etc/passwd"},
    {"S46 composed and decomposed",
     "{\"\xC3\xA9\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"e\xCC\x81\":{\"dtype\":\"U8\","
     "\"shape\":[1],"
     "\"data_offsets\":[1,2]}}",
     2, "e\xCC\x81"},
    {"escaped name", "{\"\\u0077\\ud83d\\ude00\":{\"dtype\":\"F32\"," PLAIN "}", 16, "w\xF0\x9F\x98\x80"},
    {"S42 BOOL bytes other than 0 and 1", "{\"w\":{\"dtype\":\"BOOL\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "w"},
    {"F4", "{\"w\":{\"dtype\":\"F4\",\"shape\":[1,4],\"data_offsets\":[0,2]}}", 2, "w"},
    {"F6", "{\"w\":{\"dtype\":\"F6_E3M2\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, "w"},
    {"C64", "{\"w\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "w"},
    {"F8", "{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "w"},
    {"E8M0", "{\"w\":{\"dtype\":\"F8_E8M0\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "w"},
};

/* What is accepted can be touched, saved, and read back with the same bytes. */
static void accept_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        const text_case *c = &accepted[i];
        size_t length = strlen(c->header), first, second;
        distac_checkpoint *one = must_open(c->rule, make(length, c->header, length, c->data));
        if (c->reason) assert_true(distac_checkpoint_find(one, c->reason) >= 0);
        for (int64_t k = 0; k < distac_checkpoint_count(one); k++) {
            distac_tensor *tensor;
            assert_int_equal(distac_checkpoint_tensor(one, k, &tensor), DISTAC_OK);
            assert_true(distac_tensor_readonly(tensor));
            distac_tensor_release(tensor);
        }
        assert_int_equal(distac_checkpoint_save(one, file_named("a"), -1), DISTAC_OK);
        distac_checkpoint *two = must_open(c->rule, file_named("a"));
        assert_int_equal(distac_checkpoint_save(two, file_named("b"), -1), DISTAC_OK);
        assert_int_equal(distac_checkpoint_count(one), distac_checkpoint_count(two));
        for (int64_t k = 0; k < distac_checkpoint_count(one); k++) {
            const di_entry *x = one->entries[k], *y = two->entries[k];
            assert_string_equal(x->name, y->name);
            assert_ptr_equal(x->type, y->type);
            assert_true(di_entry_same_shape(x, y));
            assert_memory_equal(x->data, y->data, (size_t)x->bytes);
        }
        uint8_t *a = read_bytes(file_named("a"), &first), *b = read_bytes(file_named("b"), &second);
        assert_int_equal(first, second);
        assert_memory_equal(a, b, first);
        free(a);
        free(b);
        distac_checkpoint_release(one);
        distac_checkpoint_release(two);
    }
}

/* Data that starts at an odd byte is handed out aligned (the sanitizer build watches). */
static void unaligned(void **state) {
    (void)state;
    const char *header = "{\"abcde\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    for (size_t pad = 0; pad < 8; pad++) {
        char text[128];
        size_t length = (size_t)sprintf(text, "%s%.*s", header, (int)pad, "        ");
        distac_checkpoint *checkpoint = must_open("S43", make(length, text, length, 8));
        distac_tensor *tensor;
        assert_int_equal(distac_checkpoint_tensor(checkpoint, 0, &tensor), DISTAC_OK);
        assert_int_equal((uintptr_t)distac_tensor_data(tensor) % 4, 0);
        float got[2], want[2];
        memcpy(want, "\0\1\2\3\4\5\6\7", 8);
        double read[2], norm;
        assert_int_equal(distac_tensor_read(tensor, 2, read), DISTAC_OK);
        for (int i = 0; i < 2; i++) got[i] = (float)read[i];
        assert_memory_equal(got, want, 8);
        assert_int_equal(distac_checkpoint_norm(checkpoint, &norm), DISTAC_OK);
        assert_true(norm >= 0);
        /* The tensor outlives its checkpoint. */
        distac_checkpoint_release(checkpoint);
        assert_int_equal(distac_tensor_read(tensor, 2, read), DISTAC_OK);
        distac_tensor_release(tensor);
    }
}

static void truncations(void **state) {
    (void)state;
    const char *header =
        "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[12,17]}}";
    size_t total;
    distac_checkpoint *checkpoint = must_open("whole", make(strlen(header), header, strlen(header), 17));
    distac_checkpoint_release(checkpoint);
    uint8_t *bytes = read_bytes(file_named("case.safetensors"), &total);
    for (size_t cut = 0; cut < total; cut++) {
        write_bytes(file_named("cut"), bytes, cut);
        must_reject("cut", file_named("cut"), file_named("cut"));
        assert_non_null(strstr(distac_last_error(), "byte "));
    }
    free(bytes);
}

/* S40: many tensors, in an order that is not sorted. */
static void many_tensors(void **state) {
    (void)state;
    enum { MANY = 100000 };
    char *text = malloc((size_t)MANY * 80);
    size_t at = 0;
    text[at++] = '{';
    for (int i = 0; i < MANY; i++)
        at += (size_t)sprintf(text + at, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                              i ? "," : "", (i * 7919) % MANY, i, i + 1);
    text[at++] = '}';
    const char *path = make(at, text, at, MANY);
    double start = distac_clock();
    distac_checkpoint *checkpoint = must_open("S40", path);
    double seconds = distac_clock() - start;
    print_message("100,000 entries: %.3f s\n", seconds);
    assert_int_equal(distac_checkpoint_count(checkpoint), MANY);
    for (int i = 0; i < MANY; i += 997) {
        char name[16];
        sprintf(name, "t%d", (i * 7919) % MANY);
        int64_t index = distac_checkpoint_find(checkpoint, name);
        assert_true(index >= 0);
        assert_int_equal(*checkpoint->entries[index]->data, (uint8_t)i);
    }
    assert_true(seconds < 5); /* loose: sanitizer builds and busy machines run this too */
    distac_checkpoint_release(checkpoint);
    free(text);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reject_headers),
        cmocka_unit_test(reject_lengths),
        cmocka_unit_test(reject_large),
        cmocka_unit_test(reject_not_a_file),
        cmocka_unit_test(accept_headers),
        cmocka_unit_test(unaligned),
        cmocka_unit_test(truncations),
        cmocka_unit_test(many_tensors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
