/* test_pt.c: PyTorch files: what PyTorch wrote is read bit for bit; every hostile container is refused for its own
 * reason. T.. are the rules of a restricted reader: T01-T12 the container; the others are in test_pt_pickle.c. */
#include "pt_verdicts.h"

#ifndef GOLDEN
#define GOLDEN "spec/golden/pickles/"
#endif

/* ---- what PyTorch wrote ---- */

static void same_tensors(const char *file, const char *expected) {
    char a[256], b[256];
    distac_checkpoint *x, *y;
    snprintf(a, sizeof a, GOLDEN "%s", file);
    snprintf(b, sizeof b, GOLDEN "%s", expected);
    if (distac_checkpoint_open(context, a, &x) != DISTAC_OK) fail_msg("%s", distac_last_error());
    if (distac_checkpoint_open(context, b, &y) != DISTAC_OK) fail_msg("%s", distac_last_error());
    assert_int_equal(distac_checkpoint_count(x), distac_checkpoint_count(y));
    for (int64_t i = 0; i < distac_checkpoint_count(y); i++) {
        const di_entry *p = x->entries[i], *q = y->entries[i];
        const uint8_t *m, *n;
        distac_tensor *copy, *other, *tensor;
        assert_string_equal(p->name, q->name);
        assert_string_equal(p->type->name, q->type->name);
        assert_true(di_entry_same_shape(p, q));
        assert_int_equal(p->bytes, q->bytes);
        assert_int_equal(di_entry_bytes(p, &m, &copy), DISTAC_OK);
        assert_int_equal(di_entry_bytes(q, &n, &other), DISTAC_OK);
        assert_memory_equal(m, n, (size_t)q->bytes);
        distac_tensor_release(copy);
        distac_tensor_release(other);
        assert_int_equal(distac_checkpoint_tensor(x, i, &tensor), DISTAC_OK);
        assert_int_equal(tensor->dtype, q->type->dtype);
        distac_tensor_release(tensor);
    }
    distac_checkpoint_release(x);
    distac_checkpoint_release(y);
}

static void test_state_dict(void **state) {
    (void)state;
    same_tensors("tensors.pt", "tensors.safetensors");
    same_tensors("tensors_legacy.pt", "tensors.safetensors");
    same_tensors("training.pt", "module.safetensors");
}

static void test_whole_module(void **state) {
    (void)state;
    same_tensors("module.pt", "module.safetensors");
    same_tensors("module_legacy.pt", "module.safetensors");
    same_tensors("module_wrapped.pt", "module.safetensors");
}

static void test_plain(void **state) {
    (void)state;
    same_tensors("module_plain.pkl", "module.safetensors");
    same_tensors("tensors_plain3.pkl", "tensors.safetensors");
    same_tensors("tensors_plain5.pkl", "tensors.safetensors");
}

/* Dense tensors of an archive stay where they are in the file; only the others are copied. */
static void test_mapped(void **state) {
    (void)state;
    distac_checkpoint *ck;
    distac_tensor *tensor;
    assert_int_equal(distac_checkpoint_open(context, GOLDEN "tensors.pt", &ck), DISTAC_OK);
    int copies = 0;
    for (int64_t i = 0; i < ck->count; i++) {
        const di_entry *e = ck->entries[i];
        assert_true((e->data == NULL) == (e->tensor != NULL));
        copies += e->tensor != NULL;
        assert_int_equal(distac_checkpoint_tensor(ck, i, &tensor), DISTAC_OK);
        if (e->data && e->bytes) assert_ptr_equal(tensor->data, e->data);
        assert_true(di_tensor_is_contiguous(tensor));
        assert_true(tensor->storage->readonly);
        distac_tensor_release(tensor);
    }
    assert_int_equal(copies, 3); /* turned, part, spread */
    /* T35: tensors that share a storage share its bytes. */
    assert_ptr_equal(di_checkpoint_entry(ck, "tied.a")->data, di_checkpoint_entry(ck, "tied.b")->data);
    distac_checkpoint_release(ck);
}

static void test_recognise(void **state) {
    (void)state;
    assert_true(di_pt_recognise((const uint8_t *)"PK\3\4\0\0\10\10\0", 9));
    assert_true(di_pt_recognise((const uint8_t *)"\x80\2\x8a\n....", 8));
    /* Headers of 640 and of 67,324,752 bytes begin with the same bytes. */
    assert_false(di_pt_recognise((const uint8_t *)"\x80\2\0\0\0\0\0\0{", 9));
    assert_false(di_pt_recognise((const uint8_t *)"PK\3\4\0\0\0\0{", 9));
    assert_false(di_pt_recognise((const uint8_t *)"\x10\0\0\0\0\0\0\0{", 9));
    assert_false(di_pt_recognise(NULL, 0));
}

/* ---- T01-T12: the container ---- */

static void reject_zip(const char *rule, const lies *l, const char *reason) {
    buffer pickle = {0}, b = {0};
    float values[4] = {0};
    assemble(&pickle, DICT);
    const member m[] = {{.name = "a/data.pkl", .data = pickle.data, .size = pickle.size},
                        {.name = "a/data/0", .data = values, .size = sizeof values}};
    put_zip(&b, m, 2, l);
    drop(&pickle);
    must_reject(rule, &b, reason);
}

static void reject_member(const char *rule, member second, const char *reason) {
    buffer pickle = {0}, b = {0};
    float values[4] = {0};
    assemble(&pickle, DICT);
    if (!second.data) {
        second.data = values;
        second.size = sizeof values;
    }
    const member m[] = {{.name = "a/data.pkl", .data = pickle.data, .size = pickle.size},
                        {.name = "a/data/0", .data = values, .size = sizeof values},
                        second};
    put_zip(&b, m, 3, NULL);
    drop(&pickle);
    must_reject(rule, &b, reason);
}

static void test_container(void **state) {
    (void)state;
    buffer b = archive_of(DICT);
    must_read("whole", &b, "w");
    reject_zip("T01 prefix", &(lies){.before = "PKx"}, "3 bytes stand before the archive's first member");
    reject_zip("T01 prefix, offsets right", &(lies){.before = "#!/bin/sh\n"},
               "neither a PyTorch file nor a pickle");
    reject_zip("T01 behind", &(lies){.after = "evil"}, "4 bytes follow the archive's end record");
    reject_zip("T02 disks", &(lies){.disk = 1}, "spread over several disks");
    reject_zip("T02 no zip64 record", &(lies){.no_record = true}, "zip64 record, and there is none");
    reject_zip("T02 wrong locator", &(lies){.zip64 = true, .wrong_record = true}, "zip64 end record is not where");
    reject_zip("T02 too many", &(lies){.count_add = 1}, "list is too short for 3 members");
    reject_zip("T02 too few", &(lies){.count_add = 0xFFFF}, "holds more than the end record counts");
    reject_zip("T02 offset", &(lies){.offset_add = 1}, "does not end at the end record");
    reject_zip("no end", &(lies){.no_end = true}, "no end record");
    reject_member("T02 size", (member){.name = "a/data/1", .central_size = 0xFFFFFFFF},
                  "zip64 field, and there is none");
    reject_member("T03 names differ", (member){.name = "a/data/1", .local_name = "a/data/2"},
                  "its own header does not");
    reject_member("T03 methods differ", (member){.name = "a/data/1", .local_method = 8},
                  "disagree on how it is stored");
    reject_member("T03 sizes differ", (member){.name = "a/data/1", .local_size = 15}, "disagree on its size");
    reject_member("T03 twice", (member){.name = "a/data/0"}, "two members are named \"a/data/0\"");
    reject_member("T04 deflate", (member){.name = "a/data/1", .method = 8}, "compressed (deflate)");
    reject_member("T04 lzma", (member){.name = "a/data/1", .method = 14}, "packed by method 14");
    reject_member("T05 encrypted", (member){.name = "a/data/1", .flags = 1}, "is encrypted");
    const member same[] = {{.name = "a/data.pkl", .data = "abc", .size = 3},
                           {.name = "a/data.pkl", .data = "abc", .size = 3, .overlap = true}};
    put_zip(&b, same, 2, NULL);
    must_reject("T06 one header twice", &b, "begins inside the member before it");
    const member into[] = {{.name = "a/data.pkl", .data = "abc", .size = 3, .central_size = 5, .local_size = 5},
                           {.name = "a/data/0", .data = "abc", .size = 3}};
    put_zip(&b, into, 2, NULL);
    must_reject("T06 overlap", &b, "begins inside the member before it, which ends at 45");
    reject_member("T06 outside", (member){.name = "a/data/1", .central_size = 1u << 30, .local_size = 1u << 30},
                  "stand before the list");
    reject_member("T07 checksum", (member){.name = "a/data/1", .crc_xor = 1}, "the file is damaged");
    reject_member("T08 ..", (member){.name = "../data/1"}, "leaves its folder");
    reject_member("T08 .. inside", (member){.name = "a/../data/1"}, "does not belong into a PyTorch archive");
    reject_member("T08 absolute", (member){.name = "/data/1"}, "is absolute");
    reject_member("T08 backslash", (member){.name = "a\\data/1"}, "NUL or a backslash");
    reject_member("T08 NUL", (member){.name = "a\0/data/1", .name_bytes = 9}, "NUL or a backslash");
    reject_member("T08 two folders", (member){.name = "b/data/1"}, "in another folder");
    reject_member("T08 no folder", (member){.name = "version"}, "does not belong");
    reject_member("T08 no digits", (member){.name = "a/data/x"}, "does not belong");
    reject_member("T08 other", (member){.name = "a/readme"}, "does not belong");
    reject_member("T10 big", (member){.name = "a/byteorder", .data = "big", .size = 3}, "byteorder is \"big\"");
    reject_member("T10 long", (member){.name = "a/byteorder", .data = "little   ", .size = 9},
                  "byteorder has 9 bytes");
    reject_member("T11 letters", (member){.name = "a/version", .data = "3a", .size = 2},
                  "version must be 1 to 10");
    reject_member("T11 long", (member){.name = "a/version", .data = "12345678901", .size = 11}, "version must be");
    reject_member("T11 empty", (member){.name = "a/version", .data = "\n", .size = 1}, "version must be");
}

/* T02, T05: what PyTorch writes for big files is read. */
static void test_container_accepts(void **state) {
    (void)state;
    buffer pickle = {0}, b = {0};
    float values[4] = {0};
    assemble(&pickle, DICT);
    const member m[] = {{.name = "a/data.pkl", .data = pickle.data, .size = pickle.size, .flags = 0x808},
                        {.name = "a/data/0", .data = values, .size = sizeof values, .zip64 = true},
                        {.name = "a/.data/serialization_id", .data = "1", .size = 1},
                        {.name = "a/.format_version", .data = "1", .size = 1},
                        {.name = "a/.storage_alignment", .data = "64", .size = 2}};
    put_zip(&b, m, 5, &(lies){.zip64 = true});
    must_read("zip64", &b, "w");
    put_zip(&b, m, 1, NULL);
    must_reject("T29 no member", &b, "storage \"0\" has no member");
    put_zip(&b, m + 1, 2, NULL);
    must_reject("no pickle", &b, "no data.pkl");
    drop(&pickle);
}

static void test_other_formats(void **state) {
    (void)state;
    buffer b = {0};
    reject_member("T09 code", (member){.name = "a/code/__torch__.py", .method = 8}, "torch.jit.load");
    reject_member("T09 constants", (member){.name = "a/constants.pkl"}, "TorchScript");
    reject_member("T09 mar", (member){.name = "MAR-INF/MANIFEST.json"}, "TorchServe");
    put(&b, "PK\5\6", 4);
    put_number(&b, 0, 18);
    must_reject("empty archive", &b, "the archive is empty");
    char block[1024] = "sys_info";
    memcpy(block + 257, "ustar", 5);
    put(&b, block, sizeof block);
    must_reject("T09 tar", &b, "a tar archive");
    put(&b, "\x1f\x8b\x08\0\0\0", 6);
    must_reject("gzip", &b, "packed by gzip");
    assemble(&b, DICT);
    must_reject("plain pickle", &b, "a persistent id (BINPERSID) in a plain pickle");
    put(&b, "PK\3\4", 4);
    must_reject("short", &b, "no end record");
    /* T12 */
    buffer many = {0};
    member *m = calloc(100001, sizeof *m);
    char(*names)[24] = calloc(100001, sizeof *names);
    for (int i = 0; i < 100001; i++) {
        snprintf(names[i], sizeof names[i], "a/data/%d", i);
        m[i] = (member){.name = names[i], .data = ""};
    }
    put_zip(&many, m, 100001, &(lies){.zip64 = true});
    must_reject("T12 entries", &many, "lists 100001 members, at most 100000");
    free(names);
    free(m);
    put(&b, "PK\3\4", 4);
    put_number(&b, 0x06054b50, 4);
    for (int i = 0; i < 70000; i++) put(&b, "", 1);
    must_reject("T12 search", &b, "no end record");
}

/* ---- stacked pickles ---- */

static void legacy_case(const char *rule, const char *object, const char *keys, uint64_t count, size_t cut,
                        const char *reason) {
    buffer b = {0};
    put_legacy(&b, object, keys, count);
    b.size -= cut;
    must_reject(rule, &b, reason);
}

#define LEGACY_W                                                                                                  \
    "c:torch._utils:_rebuild_tensor_v2 ( ( 'storage c:torch:FloatStorage '0 'cpu #4 N t Q #0 #4 T1 #1 T1 false "  \
    "N t R"
#define LEGACY_DICT "proto } 'w " LEGACY_W " s ."

static void test_legacy(void **state) {
    (void)state;
    buffer b = {0};
    put_legacy(&b, LEGACY_DICT, "proto ] '0 a .", 4);
    must_read("whole", &b, "w");
    legacy_case("no list", LEGACY_DICT, "proto } .", 4, 0, "keys are a dictionary, wanted a list");
    legacy_case("unknown key", LEGACY_DICT, "proto ] ( '0 '1 e .", 4, 0, "no tensor uses the storage \"1\"");
    legacy_case("key twice", LEGACY_DICT, "proto ] ( '0 '0 e .", 4, 0, "listed twice");
    legacy_case("key absent", LEGACY_DICT, "proto ] .", 4, 24, "storage \"0\" is not in the file");
    legacy_case("T30 count", LEGACY_DICT, "proto ] '0 a .", 5, 0, "has 5 elements here, but 4 in the pickle");
    legacy_case("cut", LEGACY_DICT, "proto ] '0 a .", 4, 1, "only 15 bytes follow");
    legacy_case("cut before", LEGACY_DICT, "proto ] '0 a .", 4, 20, "ends before the storage");
    legacy_case("key is a number", LEGACY_DICT, "proto ] #0 a .", 4, 0, "key is an integer");
    legacy_case("view", "proto } 'w ( 'storage c:torch:FloatStorage '0 'cpu #4 ( 't #0 #4 t t Q s .",
                "proto ] '0 a .", 4, 0, "a view of another");
    legacy_case("T13", "proto c:os:system 'id T1 R .", "proto ] .", 4, 0, "asks for os.system");
    legacy_case("module's class", "proto ( 'module 'os 'a 'b t Q .", "proto ] .", 4, 0,
                "a module's class is a text");
    put_legacy(&b, LEGACY_DICT, "proto ] '0 a .", 4);
    put(&b, "x", 1);
    must_reject("behind", &b, "1 bytes follow the last storage");
    assemble(&b, "proto x:8a0a6cfc9c46f9206aa85019 . proto x:4de803 .");
    must_reject("version", &b, "protocol version");
    assemble(&b, "proto x:8a0a6cfc9c46f9206aa85019 . proto x:4de903 . proto } 'little_endian false s .");
    must_reject("T10 big", &b, "little-endian");
    assemble(&b, "x:8004");
    must_reject("cut", &b, "the pickle ends without STOP");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_dict),    cmocka_unit_test(test_whole_module),
        cmocka_unit_test(test_mapped),        cmocka_unit_test(test_recognise),
        cmocka_unit_test(test_container),     cmocka_unit_test(test_container_accepts),
        cmocka_unit_test(test_other_formats), cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
