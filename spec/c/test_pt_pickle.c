/* test_pt_pickle.c: hostile pickles in PyTorch files, each refused for its own reason, and odd ones that are read.
 * T.. are the rules of a restricted reader: T13-T28 the pickle, T29-T40 the tensors. */
#include "pt_verdicts.h"

typedef struct text_case {
    const char *rule, *text, *reason;
} text_case;

static const text_case refused[] = {
    {"T13 os", "proto c:os:system 'id T1 R .", "the pickle asks for os.system, which no model needs"},
    {"T13 posix", "proto c:posix:system 'id T1 R .", "asks for posix.system"},
    {"T13 nt", "proto c:nt:system .", "asks for nt.system"},
    {"T13 eval", "proto c:builtins:eval '1 T1 R .", "asks for builtins.eval"},
    {"T13 exec", "proto c:__builtin__:exec '1 T1 R .", "asks for __builtin__.exec"},
    {"T13 import", "proto c:builtins:__import__ 'os T1 R .", "asks for builtins.__import__"},
    {"T13 getattr", "proto c:builtins:getattr c:m:C '__class__ T2 R .", "calls builtins.getattr for other things"},
    {"T13 getattr of a module", "proto c:builtins:getattr 'os 'system T2 R .", "calls builtins.getattr for other"},
    {"T13 attribute called", "proto c:builtins:getattr c:m:C 'run T2 R 'id T1 R .", "REDUCE calls an object"},
    {"T13 subprocess", "proto c:subprocess:Popen 'id T1 R .", "asks for subprocess.Popen"},
    {"T13 inside a dictionary", "proto } 'w W s 'x c:os:system 'id T1 R s .", "asks for os.system"},
    {"T13 as a name alone", "proto } 'w W s 'x c:os:system s .", "asks for os.system"},
    {"T13 torch.load", "proto c:torch:load 'x T1 R .", "asks for torch.load"},
    {"T13 torch.hub", "proto c:torch.hub:load 'x T1 R .", "asks for torch.hub.load"},
    {"T13 runpy", "proto c:runpy:run_path 'x T1 R .", "asks for runpy.run_path"},
    {"T13 below os", "proto c:os.path:join .", "asks for os.path.join"},
    {"T13 bytes of tensors", "proto c:torch.storage:_load_from_bytes .",
     "asks for torch.storage._load_from_bytes"},
    {"T13 dots", "proto c:m:a.b .", "\"a.b\" is no class's name"},
    {"T13 dots in the module", "proto c:m..n:a .", "\"m..n\" is no module's name"},
    {"T13 NUL", "proto x:636d000a610a .", "is no module's name"},
    {"T13 line", "proto x:630a0a .", "is no module's name"},
    {"T13 line in a name", "proto x:636d0a610d0a .", "is no class's name"},
    {"T13 unknown function", "proto c:package:run 'id T1 R .", "calls the function package.run: refused"},
    {"T13 function in a module", "proto } 'model c:m:C ) new } 'x c:p:f ) R s b s .", "calls the function p.f"},
    {"T13 record alone", "proto c:m:C 'id T1 R .", "the file holds an object of m.C; a dictionary of tensors"},
    {"T13 record beside nothing", "proto } 'model c:m:Evil ) new s .", "the file holds an object of m.Evil"},
    {"T14 text", "proto 'os ) R .", "REDUCE calls a text"},
    {"T14 dictionary", "proto } ) R .", "REDUCE calls a dictionary"},
    {"T14 OrderedDict", "proto c:collections:OrderedDict ] T1 R .", "made with 1 arguments, wanted none"},
    {"T14 no tuple", "proto c:m:C ] R .", "with a list for arguments"},
    {"T14 NEWOBJ", "proto 'm ) new .", "NEWOBJ of a text"},
    {"T14 NEWOBJ of a function", "proto c:torch._utils:_rebuild_parameter ) new .", "which is no class"},
    {"T14 storage called", "proto c:torch:FloatStorage ) R .", "torch.FloatStorage is called"},
    {"T15 tensor", "proto W } b .", "BUILD on a tensor"},
    {"T15 list", "proto ] } b .", "BUILD on a list"},
    {"T15 dictionary", "proto } #1 b .", "BUILD on a dictionary"},
    {"T15 twice", "proto c:m:C ) new } b } b .", "BUILD a second time"},
    {"T16 tensor", "proto W 'a #1 s .", "SETITEM on a tensor"},
    {"T16 tuple", "proto ) 'a #1 s .", "SETITEM on a tuple"},
    {"T16 text", "proto 't 'a #1 s .", "SETITEM on a text"},
    {"T16 storage", "proto S:FloatStorage:0:4 ( 'a #1 u .", "SETITEMS on a tensor's storage"},
    {"T17 dictionary", "proto } #1 a .", "APPEND to a dictionary"},
    {"T17 tensor", "proto W ( #1 e .", "APPENDS to a tensor"},
    {"T18", "proto } ( 'a #1 'b u .", "SETITEMS with an odd number"},
    {"T19 REDUCE", "proto ) R .", "stack underflow: REDUCE"},
    {"T19 NEWOBJ", "proto ) new .", "stack underflow: NEWOBJ"},
    {"T19 BUILD", "proto } b .", "stack underflow: BUILD"},
    {"T19 SETITEM", "proto } #1 s .", "stack underflow: SETITEM"},
    {"T19 APPEND", "proto ] a .", "stack underflow: APPEND"},
    {"T19 TUPLE1", "proto T1 .", "stack underflow: TUPLE1-3"},
    {"T19 TUPLE3", "proto N N T3 .", "stack underflow: TUPLE1-3"},
    {"T19 BINPUT", "proto put:0 .", "stack underflow: BINPUT"},
    {"T19 BINPERSID", "proto Q .", "stack underflow: BINPERSID"},
    {"T19 TUPLE", "proto t .", "TUPLE needs a MARK"},
    {"T19 SETITEMS", "proto } u .", "SETITEMS needs a MARK"},
    {"T19 APPENDS", "proto ] e .", "APPENDS needs a MARK"},
    {"T19 no dictionary", "proto ( u .", "SETITEMS has no dictionary"},
    {"T19 no list", "proto ( e .", "APPENDS has no list"},
    {"T19 under a mark", "proto } ( 'a #1 s .", "stack underflow: SETITEM"},
    {"T19 list under a mark", "proto ] ( ( #1 e .", "APPENDS has no list below"},
    {"T19 STOP", "proto .", "stops with 0 values"},
    {"T19 open mark", "proto } ( .", "while a MARK is open"},
    {"T19 two values", "proto } } .", "stops with 2 values"},
    {"T19 POP", "proto } } 0 .", "(POP) is not among those"},
    {"not allowed INST", "proto ( x:696f730a73797374656d0a .", "(INST)"},
    {"not allowed OBJ", "proto ( c:m:C o .", "(OBJ)"},
    {"not allowed STACK_GLOBAL", "proto 'os 'system x:93 .", "(STACK_GLOBAL)"},
    {"not allowed EXT1", "proto x:8201 .", "(EXT1)"},
    {"not allowed PERSID", "proto x:50610a .", "(PERSID)"},
    {"not allowed NEXT_BUFFER", "proto x:97 .", "(NEXT_BUFFER)"},
    {"not allowed FRAME", "proto x:950000000000000000 .", "(FRAME)"},
    {"not allowed EMPTY_SET", "proto x:8f .", "(EMPTY_SET)"},
    {"not allowed unknown", "proto x:ff .", "0xFF (unknown)"},
    {"T20 get", "proto get:7 .", "memo entry 7 is read, but was never written"},
    {"T20 get highest", "proto get:4294967295 .", "memo entry 4294967295 is read"},
    {"T20 put highest", "proto } put:4294967295 .", "memo entry 4294967295: more than"},
    {"T23 over the end", "proto x:58ffffff7f .", "claims 2147483647 bytes, but only"},
    {"T23 UTF-8", "proto x:5802000000c328 .", "not valid UTF-8"},
    {"T23 overlong", "proto x:5802000000c0af .", "not valid UTF-8"},
    {"T23 surrogate", "proto x:5803000000eda080 .", "not valid UTF-8"},
    {"T23 short text", "proto x:55ff61 .", "claims 255 bytes"},
    {"T24 255 bytes", "proto x:8aff .", "an integer of 255 bytes"},
    {"T24 nine bytes", "proto x:8a09000000000000000001 .", "an integer of 9 bytes"},
    {"T24 negative size", "proto } 'w W:0:-2:1 s .", "size holds -2"},
    {"T25 list", "proto ] put:0 get:0 a .", "a list holds itself"},
    {"T25 dictionary", "proto } put:0 'a get:0 s .", "a dictionary holds itself"},
    {"T25 in two steps", "proto ] put:0 ] get:0 a a .", "a list holds itself"},
    {"T25 object", "proto c:m:C ) new put:0 } 'parent get:0 s b .", "m.C holds itself"},
    {"T25 beside tensors", "proto } 'state_dict } 'w W s s 'x ] put:0 get:0 a s .", "a list holds itself"},
    {"T26 integer key", "proto } #1 W s .", "a tensor's name is an integer, wanted a text"},
    {"T26 list key", "proto } ] W s .", "key is a list"},
    {"T26 tensor key", "proto } W W s .", "key is a tensor"},
    {"T26 twice", "proto } 'w W s 'w W s .", "has the key \"w\" twice"},
    {"T26 twice inside", "proto } 'model } 'w W s s 'x } #1 N s #1 N s s .", "has the key 1 twice"},
    {"T26 NUL", "proto } x:5802000000006100 .", "not among those"},
    {"T26 empty", "proto } ' W s .", "name is empty"},
    {"T27 STOP", "proto } 'w W s", "ends without STOP"},
    {"T27 behind", "proto } 'w W s . }", "1 bytes follow the pickle's STOP"},
    {"T27 two", "proto } 'w W s . proto } .", "4 bytes follow the pickle's STOP"},
    {"T27 second PROTO", "proto } proto .", "a second PROTO"},
    {"T28 none", "} 'w W s .", "protocol 0 or 1"},
    {"T28 3", "x:8003 } 'w W s .", "a pickle of protocol 3; protocol 2"},
    {"T28 4", "x:8004 } 'w W s .", "a pickle of protocol 4; protocol 2"},
    {"T28 5", "x:8005 } 'w W s .", "save it again with torch.save"},
    {"T29 letters", "proto S:FloatStorage:x:4 .", "key is \"x\", wanted digits"},
    {"T29 path", "proto S:FloatStorage:../0:4 .", "wanted digits"},
    {"T29 absent", "proto S:FloatStorage:9:4 .", "storage \"9\" has no member data/9"},
    {"T29 no storage", "proto 'x Q .", "a persistent id (BINPERSID) is a text"},
    {"T29 other id", "proto ( 'thing c:torch:FloatStorage '0 'cpu #4 t Q .", "that is no storage"},
    {"T29 module", "proto ( 'module c:m:C N N t Q .", "that is no storage"},
    {"T29 view", "proto ( 'storage c:torch:FloatStorage '0 'cpu #4 N t Q .", "that is no storage"},
    {"T30 more", "proto S:FloatStorage:0:5 .", "5 elements of F32, 20 bytes, but its member has 16"},
    {"T30 fewer", "proto S:FloatStorage:0:3 .", "12 bytes, but its member has 16"},
    {"T30 negative", "proto S:FloatStorage:0:-4 .", "a storage of -4 elements"},
    {"T30 overflow", "proto S:DoubleStorage:0:4611686018427387904 .", "a storage of 4611686018427387904 elements"},
    {"T31 offset", "proto } 'w W:1:2,2:2,1 s .", "reaches over its storage of 4 elements"},
    {"T31 offset far", "proto } 'w W:9223372036854775807:2,2:2,1 s .", "reaches over its storage"},
    {"T31 negative offset", "proto } 'w W:-1:2,2:2,1 s .", "begins at element -1"},
    {"T31 stride", "proto } 'w W:0:2,2:3,1 s .", "reaches over its storage"},
    {"T31 negative stride", "proto } 'w W:3:2,2:2,-1 s .", "stride holds -1"},
    {"T31 overflow", "proto } 'w W:0:281474976710655,281474976710655:1,1 s .", "sizes overflows"},
    {"T31 empty outside", "proto } 'w W:5:0:1 s .", "reaches over its storage"},
    {"T31 lengths", "proto } 'w W:0:2,2:1 s .", "2 sizes and 1 strides"},
    {"T31 in an ignored part", "proto } 'model } 'w W s s 'x W:1:4:1 s .", "reaches over its storage"},
    {"T32 wide view", "proto } 'w W:0:1099511627776:0 s .", "take more than"},
    {"T32 overlapping", "proto } 'w W:0:2,20000000:2,0 s .", "take more than"},
    {"T33 rank", "proto } 'w W:0:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 s .",
     "17 dimensions"},
    {"T34 types", "proto } 'w W s 'x S:IntStorage:0:4 s .", "used with two types, F32 and I32"},
    {"T34 sizes", "proto } 'w W s 'x S:FloatStorage:0:2 s .", "used with two sizes, 4 and 2"},
    {"T37 requires_grad",
     "proto c:torch._utils:_rebuild_tensor_v2 ( S:FloatStorage:0:4 #0 #4 T1 #1 T1 #1 c:collections:OrderedDict ) "
     "R t R .",
     "requires_grad is an integer"},
    {"T37 hooks", "proto c:torch._utils:_rebuild_tensor_v2 ( S:FloatStorage:0:4 #0 #4 T1 #1 T1 false 'x t R .",
     "hooks are a text"},
    {"T37 metadata",
     "proto c:torch._utils:_rebuild_tensor_v2 ( S:FloatStorage:0:4 #0 #4 T1 #1 T1 false N 'x t R .",
     "metadata is a text"},
    {"T37 parameter", "proto c:torch._utils:_rebuild_parameter W 'x N T3 R .", "requires_grad is a text"},
    {"T37 parameter's hooks", "proto c:torch._utils:_rebuild_parameter W true #1 T3 R .", "hooks are an integer"},
    {"parameter of a text", "proto c:torch._utils:_rebuild_parameter 'x true N T3 R .", "rebuilt from a text"},
    {"tensor of a text", "proto c:torch._utils:_rebuild_tensor_v2 ( 'x #0 #4 T1 #1 T1 false N t R .",
     "wanted a storage"},
    {"tensor of one value", "proto c:torch._utils:_rebuild_tensor_v2 'x T1 R .", "from 1 values, wanted 6 or 7"},
    {"T39 quantised", "proto c:torch._utils:_rebuild_qtensor ) R .", "quantised, sparse"},
    {"T39 sparse", "proto c:torch._utils:_rebuild_sparse_tensor ) R .", "quantised, sparse"},
    {"T39 subclass", "proto c:torch._tensor:_rebuild_from_type_v2 ) R .", "wrapped and foreign"},
    {"T39 numpy", "proto } 'w c:numpy.core.multiarray:_reconstruct ) R s .", "\"w\" is an object of numpy.core"},
    {"T39 quantised storage", "proto S:QInt8Storage:0:4 .", "a storage of torch.QInt8Storage"},
    {"T39 untyped storage", "proto S:UntypedStorage:0:4 .", "a storage of torch.UntypedStorage"},
    {"T40 list", "proto ] W a .", "the file holds a list"},
    {"T40 tensor", "proto W .", "the file holds a tensor"},
    {"T40 empty", "proto } .", "holds no tensor"},
    {"T40 number", "proto } 'w W s 'epoch #3 s .", "\"epoch\" is an integer, wanted a tensor"},
    {"T40 two levels", "proto } 'model } 'state_dict } 'w W s s s .", "\"state_dict\" is a dictionary"},
    {"T40 two choices", "proto } 'model } 'w W s s 'state_dict } 'w W s s .",
     "both a \"state_dict\" and a \"model\""},
    {"module with a strange child",
     "proto c:m:C ) new } ( '_parameters } '_buffers } '_modules } 'k c:m:D ) new s u b .",
     "\"k\" is an object of m.D, which is no torch.nn.Module"},
    {"module with a strange parameter",
     "proto c:m:C ) new } ( '_parameters } 'p #1 s '_buffers } '_modules } u b .", "\"p\" is an integer"},
    {"module with a dotted part", "proto c:m:C ) new } ( '_parameters } 'a.b W s '_buffers } '_modules } u b .",
     "holds a dot"},
    {"reserved name", "proto } '__metadata__ W s .", "is reserved"},
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        buffer b = archive_of(refused[i].text);
        must_reject(refused[i].rule, &b, refused[i].reason);
    }
}

static const text_case accepted[] = {
    {"T35 tied", "proto } 'a W put:1 s 'b get:1 s 'c W s .", "a b c"},
    {"T36 location",
     "proto } 'w c:torch._utils:_rebuild_tensor_v2 ( ( 'storage c:torch:FloatStorage '0 'cuda:99 #4 t Q "
     "#0 #4 T1 #1 T1 false N t R s .",
     "w"},
    {"T24 negative", "proto } 'model } 'w W s s 'seed x:8a05ffffffffff s .", "w"},
    {"integer keys beside", "proto } 'model } 'w W s s 'optimizer } #0 } s s .", "w"},
    {"OrderedDict with state", "proto c:collections:OrderedDict ) R 'w W s } '_metadata } s b .", "w"},
    {"parameter with state", "proto } 'w c:torch._utils:_rebuild_parameter_with_state ( W true N } t R s .", "w"},
    {"a set, a date, a path, an enumeration",
     "proto } 'model } 'w W s s 'x ( c:__builtin__:set ] T1 R c:datetime:date 'x T1 R c:pathlib:PosixPath 'a T1 R "
     "c:builtins:getattr c:m:Mode 'A T2 R c:m:Mode 'a T1 R c:copy_reg:_reconstructor ( c:m:C c:__builtin__:object "
     "N t R "
     "c:functools:partial c:m:f T1 R t s .",
     "w"},
    {"dictionary with a class of its own", "proto } 'model } 'w W s s 'x c:m:Config ) new 'a #1 s ( #1 #2 e s .",
     "w"},
    {"module",
     "proto c:__main__:Net ) new } ( '_parameters } ( 'p W 'none N u '_buffers } ( 'b W 'skip W u "
     "'_non_persistent_buffers_set c:__builtin__:set ] 'skip a T1 R '_modules } ( 'gone N 'k c:m:D ) new } ( "
     "'_parameters } 'q W s '_buffers } '_modules } u b u u b .",
     "b k.q p"},
    {"module before 1.5", "proto c:m:C ) new } ( '_parameters } 'p W s '_buffers } '_modules } u b .", "p"},
    {"shared child",
     "proto c:m:C ) new } ( '_parameters } '_buffers } '_modules } ( 'x c:m:D ) new } ( '_parameters } 'p W s "
     "'_buffers } '_modules } u b put:9 'y get:9 u u b .",
     "x.p y.p"},
    {"empty tensor", "proto } 'w W:4:0,3:3,1 s .", "w"},
    {"one element", "proto } 'w W:3:-:- s .", "w"},
};

static void test_accepted(void **state) {
    (void)state;
    distac_checkpoint *ck;
    uint8_t *copy;
    buffer twice = archive_of("proto c:m:C ) new } ( '_parameters } 'p W s '_buffers } 'p W s '_modules } u b .");
    assert_int_equal(parse(&twice, &ck, &copy), DISTAC_EFORMAT);
    assert_non_null(strstr(distac_last_error(), "two tensors are named \"p\""));
    distac_checkpoint_release(ck);
    free(copy);
    drop(&twice);
    for (size_t i = 0; i < COUNT(accepted); i++) {
        buffer b = archive_of(accepted[i].text);
        must_read(accepted[i].rule, &b, accepted[i].reason);
    }
}

/* ---- cases of size ---- */

static void reject_pickle(const char *rule, buffer *pickle, const char *reason) {
    buffer b = {0};
    put_archive(&b, pickle->data, pickle->size);
    drop(pickle);
    must_reject(rule, &b, reason);
}

static void test_long_names(void **state) {
    (void)state;
    buffer p = {0};
    put(&p, "\x80\2c", 3);
    for (int i = 0; i < 1 << 20; i++) put(&p, "a", 1);
    put(&p, "\nb\n.", 4);
    reject_pickle("T13 a name of 1 MB", &p, "a name of over 256 bytes");
    put(&p, "\x80\2ca", 4);
    reject_pickle("T13 cut", &p, "ends inside a name");
    char *text = calloc(70000, 1);
    memset(text, 'a', 69999);
    assemble(&p, "proto }");
    put_text(&p, text, 65537);
    assemble(&p, "N s .");
    reject_pickle("T23 64 KiB", &p, "a text of 65537 bytes; at most 65536");
    assemble(&p, "proto }");
    put_text(&p, text, 4097);
    assemble(&p, "W s .");
    reject_pickle("key", &p, "key has 4097 bytes");
    assemble(&p, "proto }");
    put_text(&p, "a\0b", 3);
    assemble(&p, "W s .");
    reject_pickle("T26 NUL", &p, "holds the character NUL");
    free(text);
}

/* T22: the root and 64 lists inside each other are read, 65 are not; however they are reached. */
static void test_depth(void **state) {
    (void)state;
    for (int depth = 64; depth <= 65; depth++) {
        buffer p = {0}, b = {0};
        assemble(&p, "proto } 'model } 'w W s s 'x");
        for (int i = 0; i < depth; i++) put(&p, "]", 1);
        for (int i = 1; i < depth; i++) put(&p, "a", 1);
        assemble(&p, "s .");
        put_archive(&b, p.data, p.size);
        drop(&p);
        if (depth == 64)
            must_read("T22", &b, "w");
        else
            must_reject("T22", &b, "nested more than 64 deep");
    }
    buffer p = {0};
    assemble(&p, "proto");
    for (int i = 0; i < 5000; i++) put(&p, "(", 1);
    reject_pickle("T22 marks", &p, "nested too deep");
    /* A shared value is met at a small depth first. */
    assemble(&p, "proto ] ]");
    for (int i = 1; i < 40; i++) assemble(&p, "]");
    for (int i = 1; i < 40; i++) assemble(&p, "a");
    assemble(&p, "put:1 a");
    for (int i = 0; i < 30; i++) assemble(&p, "]");
    assemble(&p, "get:1 a");
    for (int i = 0; i < 30; i++) assemble(&p, "a");
    assemble(&p, ".");
    reject_pickle("T22 shared", &p, "nested more than 64 deep");
}

/* T21: lists of ten references to the list before, eight times: 10^8 values out of a few bytes. */
static void test_laughs(void **state) {
    (void)state;
    buffer p = {0};
    char word[32];
    assemble(&p, "proto ] 'lol a put:0");
    for (int level = 1; level <= 8; level++) {
        assemble(&p, "] (");
        snprintf(word, sizeof word, "get:%d", level - 1);
        for (int i = 0; i < 10; i++) assemble(&p, word);
        snprintf(word, sizeof word, "e put:%d", level);
        assemble(&p, word);
    }
    buffer list = {0};
    assemble(&list, "proto ] (");
    put(&list, p.data + 2, p.size - 2);
    drop(&p);
    /* Everything but the last list lies on the stack: put it all into one. */
    assemble(&list, "e .");
    reject_pickle("T21", &list, "references to shared values grow to more than");
    /* The same with modules, each the two children of the next. */
    assemble(&p, "proto c:m:C ) new } ( '_parameters } 'p W s '_buffers } '_modules } u b put:0");
    for (int level = 1; level <= 20; level++) {
        snprintf(word, sizeof word, "get:%d", level - 1);
        assemble(&p, "c:m:C ) new } ( '_parameters } '_buffers } '_modules } ( 'a");
        assemble(&p, word);
        assemble(&p, "'b");
        assemble(&p, word);
        snprintf(word, sizeof word, "u u b put:%d", level);
        assemble(&p, word);
    }
    buffer all = {0};
    assemble(&all, "proto ] (");
    put(&all, p.data + 2, p.size - 2);
    drop(&p);
    assemble(&all, "e .");
    reject_pickle("T21 modules", &all, "references to shared values grow to more than");
}

/* T38: a tensor of 1 MiB under very many names. */
static void test_many_views(void **state) {
    (void)state;
    buffer p = {0}, b = {0};
    float *values = calloc(1 << 18, 4);
    char word[64];
    assemble(
        &p,
        "proto } ( 'a c:torch._utils:_rebuild_tensor_v2 ( S:FloatStorage:0:262144 #0 #262144 T1 #1 T1 false N t R "
        "put:0");
    for (int i = 0; i < 300; i++) {
        snprintf(word, sizeof word, "'n%d get:0", i);
        assemble(&p, word);
    }
    assemble(&p, "u .");
    const member m[] = {{.name = "a/data.pkl", .data = p.data, .size = p.size},
                        {.name = "a/data/0", .data = values, .size = 4 << 18}};
    put_zip(&b, m, 2, NULL);
    drop(&p);
    free(values);
    must_reject("T38", &b, "take more than");
}

/* T20: a memo index is a name, not a size. */
static void test_memo(void **state) {
    (void)state;
    buffer b = archive_of("proto } put:4000000000 'w W s 'v W put:1 s .");
    must_read("T20", &b, "v w");
    buffer p = {0};
    assemble(&p, "proto }");
    for (uint32_t i = 0; i < 1000001; i++) {
        put(&p, "r", 1);
        put_number(&p, i, 4);
    }
    reject_pickle("T20 a million", &p, "more than 1000000 entries");
    assemble(&p, "proto }");
    for (uint32_t i = 0; i < 4000; i++) {
        put(&p, "r", 1);
        put_number(&p, (uint64_t)i << 20, 4);
    }
    reject_pickle("T20 collisions", &p, "chosen to make reading slow");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_accepted), cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_depth),   cmocka_unit_test(test_laughs),   cmocka_unit_test(test_many_views),
        cmocka_unit_test(test_memo),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
