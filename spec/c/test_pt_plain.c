/* test_pt_plain.c: hostile files by pickle.dump, each refused for its own reason: opcodes of protocols 3 to 5, and
 * the files of stacked pickles that storages are inside. What PyTorch wrote is read in test_pt.c. */
#include "pt_verdicts.h"

#define STORAGE "proto ( 'storage c:torch:FloatStorage '7 'cpu #4 N t Q ."
#define KEYS    "proto ] '7 a ."
#define BEFORE  "x:8004 } 'w c:torch._utils:_rebuild_tensor_v2 ( c:torch.storage:_load_from_bytes"
#define AFTER   "T1 R #0 ( #2 #2 t ( #2 #1 t false c:collections:OrderedDict ) R t R s ."

static void plain_case(const char *rule, const char *text, const char *reason) {
    buffer b = {0};
    assemble(&b, text);
    must_reject(rule, &b, reason);
}

/* A dictionary of one tensor whose storage is these stacked
 * pickles, as BINBYTES of so many bytes more or fewer. */
static buffer nested(const char *object, const char *keys, uint64_t count, int cut, int claim) {
    buffer inner = {0}, b = {0};
    put_legacy(&inner, object, keys, count);
    inner.size -= (size_t)cut;
    assemble(&b, BEFORE);
    put(&b, "B", 1);
    put_number(&b, inner.size + (size_t)claim, 4);
    put(&b, inner.data, inner.size);
    assemble(&b, AFTER);
    drop(&inner);
    return b;
}

static void nested_case(const char *rule, const char *object, const char *keys, uint64_t count, int cut,
                        const char *reason) {
    buffer b = nested(object, keys, count, cut, 0);
    must_reject(rule, &b, reason);
}

static void test_storages(void **state) {
    (void)state;
    buffer b = nested(STORAGE, KEYS, 4, 0, 0);
    must_read("whole", &b, "w");
    nested_case("no storage", "proto } .", KEYS, 4, 0, "hold a dictionary, wanted a storage alone");
    nested_case("os inside", "proto c:os:system 'id T1 R .", KEYS, 4, 0, "asks for os.system");
    nested_case("bytes inside bytes", "proto c:torch.storage:_load_from_bytes .", KEYS, 4, 0,
                "asks for torch.storage._load_from_bytes");
    nested_case("opcodes of protocol 4 inside", "proto x:8f .", KEYS, 4, 0, "(EMPTY_SET) is not among those");
    nested_case("other key", STORAGE, "proto ] '8 a .", 4, 0, "do not list this storage alone");
    nested_case("two keys", STORAGE, "proto ] ( '7 '8 e .", 4, 0, "do not list this storage alone");
    nested_case("no list", STORAGE, "proto '7 .", 4, 0, "do not list this storage alone");
    nested_case("empty list", STORAGE, "proto ] .", 4, 0, "do not list this storage alone");
    nested_case("count", STORAGE, KEYS, 5, 0, "has 5 elements here, but 4 in its pickle");
    nested_case("cut", STORAGE, KEYS, 4, 1, "has 4 elements of 4 bytes, but 15 bytes follow");
    nested_case("cut in the count", STORAGE, KEYS, 4, 20, "end before its elements");
    nested_case("cut in the pickle", STORAGE, KEYS, 4, 60, "the pickle ends");
    nested_case("too few", "proto ( 'storage c:torch:FloatStorage '7 'cpu #3 N t Q .", KEYS, 3, 0,
                "has 3 elements of 4 bytes, but 16 bytes follow");
    nested_case("huge", "proto ( 'storage c:torch:FloatStorage '7 'cpu #4611686018427387905 N t Q .", KEYS,
                UINT64_C(4611686018427387905), 0, "elements of 4 bytes, but 16 bytes follow");
    nested_case("class", "proto ( 'storage c:m:FloatStorage '7 'cpu #4 N t Q .", KEYS, 4, 0,
                "a storage of m.FloatStorage");
    b = nested(STORAGE, KEYS, 4, 0, 1 << 20);
    must_reject("bytes claimed", &b, "bytes claim to be");
    plain_case("no bytes", BEFORE " 'abc T1 R .", "loaded from a text, wanted bytes");
    plain_case("protocol 2's bytes", BEFORE " c:_codecs:encode ( 'a 'latin1 t R T1 R .", "protocol 3 or later");
    plain_case("two arguments", BEFORE " ( N N t R .", "with 2 arguments, wanted one");
    plain_case("no stack of pickles", BEFORE " x:4303616263 T1 R .", "protocol version");
    plain_case("empty bytes", BEFORE " x:4300 T1 R .", "protocol version");
}

static void test_opcodes(void **state) {
    (void)state;
    plain_case("proto 6", "x:8006 } .", "a pickle of protocol 6");
    plain_case("proto 1", "x:8001 } .", "a pickle of protocol 1");
    plain_case("os", "x:8004 'os 'system x:93 'id T1 R .", "asks for os.system");
    plain_case("eval", "x:8004 'builtins 'eval x:93 .", "asks for builtins.eval");
    plain_case("dots", "x:8004 'm 'a.b x:93 .", "\"a.b\" is no class's name");
    plain_case("line in a name", "x:8004 x:5803000000610a62 'c x:93 .", "is no module's name");
    plain_case("names that are none", "x:8004 #1 'c x:93 .", "STACK_GLOBAL of an integer and a text");
    plain_case("STACK_GLOBAL", "x:8004 'm x:93 .", "stack underflow: STACK_GLOBAL");
    plain_case("MEMOIZE", "x:8004 x:94 .", "stack underflow: MEMOIZE");
    plain_case("ADDITEMS", "x:8004 x:8f x:90 .", "ADDITEMS needs a MARK");
    plain_case("ADDITEMS to a list", "x:8004 ] ( #1 x:90 .", "only sets are added to");
    plain_case("ADDITEMS to nothing", "x:8004 ( #1 x:90 .", "ADDITEMS has no set");
    plain_case("set of itself", "x:8004 x:8f ( get:0 x:90 .", "never written");
    plain_case("set in itself", "x:8004 x:8f put:0 ( get:0 x:90 .", "holds itself");
    plain_case("frame", "x:8004 x:95ffffffffffffff7f } .", "a frame claims");
    plain_case("frame cut", "x:8004 x:9500", "needs 8 more bytes");
    plain_case("bytes of 2^63", "x:8004 x:8effffffffffffffff .", "bytes claim to be 18446744073709551615");
    plain_case("text of 2^63", "x:8004 x:8dffffffffffffffff .", "a text claims 18446744073709551615");
    plain_case("text", "x:8004 x:8c0461 .", "a text claims 4 bytes, but only 2 follow");
    plain_case("persistent id", "x:8004 W .", "a persistent id (BINPERSID) in a plain pickle");
    plain_case("bytes as a key", "x:8004 } x:430161 N s .", "a dictionary's key is bytes");
    plain_case("BYTEARRAY8", "x:8005 x:960000000000000000 .", "(BYTEARRAY8) is not among those");
    plain_case("NEWOBJ_EX", "x:8004 'm 'C x:93 ) } x:92 .", "(NEWOBJ_EX) is not among those");
    plain_case("behind", "x:8004 } . }", "1 bytes follow the pickle's STOP");
    plain_case("no tensor", "x:8004 } .", "the file holds no tensor");
    plain_case("function", "x:8004 'package 'run x:93 'id T1 R .", "calls the function package.run: refused");
    plain_case("nothing", "x:8004", "ends without STOP");
    plain_case("no pickle", "'abc", "neither a PyTorch file nor a pickle");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_storages), cmocka_unit_test(test_opcodes)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
