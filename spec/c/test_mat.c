/* test_mat.c: the reader of MATLAB 5 files: small files made here, hostile ones, and, where DISTAC_TEST_DATA names
 * a folder of real ones, what scipy reads in them (spec/golden/mat_verdicts.tsv). */
#include "data_files.h"
#include "data/mat.h"
#include "mat_files.h"

/* ---- what scipy reads ---- */

static void put_double(di_sha256 *h, double x) {
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &x, 8);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(bits >> (8 * i));
    di_sha256_update(h, bytes, 8);
}

static void put_array(di_sha256 *h, const di_mat_variable *v,
                      const di_mat_array *a) { /* tests may recurse: 16 deep */
    const char *kind = a->class_id == DI_MAT_CELL     ? "x"
                       : a->class_id == DI_MAT_STRUCT ? "s"
                       : a->class_id == DI_MAT_CHAR   ? "c"
                                                      : "n";
    di_sha256_update(h, kind, 1);
    put_double(h, a->rank);
    for (int d = 0; d < a->rank; d++) put_double(h, (double)di_mat_dim(v, a, d));
    for (int f = 0; f < a->fields; f++) {
        const char *name = (const char *)a->names + (size_t)f * (size_t)a->field_bytes;
        di_sha256_update(h, name, strlen(name) + 1);
    }
    if (*kind == 'x' || *kind == 's') {
        int64_t n = a->count * (*kind == 's' ? a->fields : 1);
        for (int64_t i = 0; i < n; i++) put_array(h, v, &v->arrays[a->first + i]);
    } else if (*kind == 'n') {
        for (int64_t i = 0; i < a->count; i++) put_double(h, di_mat_number(v, a, i));
    } else if (a->stored == DI_MI_UTF8) {
        for (const uint8_t *at = a->data, *end = at + a->data_bytes; at < end;) {
            uint32_t point = *at < 0x80 ? *at : *at < 0xe0 ? *at & 0x1f : *at < 0xf0 ? *at & 0x0f : *at & 7;
            for (at++; at < end && (*at & 0xc0) == 0x80; at++) point = point << 6 | (*at & 0x3f);
            put_double(h, point);
        }
    } else {
        for (int64_t i = 0; i < a->count; i++) put_double(h, di_mat_char(v, a, i));
    }
}

static distac_status hash_file(const char *path, char out[65]) {
    di_mat *m;
    di_mat_variable *v;
    di_sha256 h;
    DI_TRY(di_mat_open(context, path, &m));
    di_sha256_init(&h);
    distac_status status = di_mat_next(m, NULL, &v);
    for (; status == DISTAC_OK && v; status = di_mat_next(m, NULL, &v)) {
        di_sha256_update(&h, v->name, strlen(v->name) + 1);
        put_array(&h, v, v->arrays);
        di_mat_variable_free(v);
    }
    di_mat_close(m);
    di_sha256_hex(&h, out);
    return status;
}

static void reads_what_scipy_reads(void **state) {
    (void)state;
    const char *root = getenv("DISTAC_TEST_DATA");
    if (!root) {
        print_message("DISTAC_TEST_DATA is not set: no real files\n");
        skip();
    }
    FILE *list = fopen("spec/golden/mat_verdicts.tsv", "r");
    if (!list) list = fopen("../spec/golden/mat_verdicts.tsv", "r");
    assert_non_null(list);
    char line[512], file[256], verdict[32], hash[80];
    int wrong = 0, seen = 0;
    while (fgets(line, sizeof line, list)) {
        if (sscanf(line, "%255[^\t]\t%31[^\t]\t%79s", file, verdict, hash) != 3) continue;
        char path[1024], found[65] = "-";
        snprintf(path, sizeof path, "%s/%s", root, file);
        if (distac_path_kind(path) != 1) continue;
        seen++;
        distac_status status = hash_file(path, found);
        bool right = strcmp(verdict, "ok") == 0            ? status == DISTAC_OK && strcmp(found, hash) == 0
                     : strcmp(verdict, "unsupported") == 0 ? status == DISTAC_EUNSUPPORTED
                                                           : status == DISTAC_EFORMAT;
        if (!right) {
            print_message("%s: wanted %s, got %s\n", file, verdict,
                          status == DISTAC_OK ? found : distac_last_error());
            wrong++;
        }
    }
    fclose(list);
    assert_true(seen > 50);
    assert_int_equal(wrong, 0);
}

/* ---- small files made here, in both byte orders, plain and deflated ---- */

static void small_files_are_read(void **state) {
    (void)state;
    static mat_file m;
    for (int way = 0; way < 4; way++) {
        mat_start(&m, way & 1);
        mat_array(&m, 6, "halves", 3, 2, 3, (const int[]){-7, 0, 300}); /* doubles stored as int16 */
        if (way & 2) mat_deflate(&m, 128);
        size_t at = m.size;
        mat_rows(&m, "annotations", 3);
        if (way & 2) mat_deflate(&m, at);
        at = m.size;
        mat_names(&m, "class_names", 4);
        if (way & 2) mat_deflate(&m, at);
        write_bytes(in_folder("small.mat"), m.bytes, m.size);
        const char *path = in_folder("small.mat");
        di_mat_variable *v = NULL;
        OK(di_mat_variable_read(context, path, "halves", &v));
        assert_int_equal(v->arrays->count, 3);
        assert_true(di_mat_number(v, v->arrays, 0) == -7 && di_mat_number(v, v->arrays, 2) == 300);
        di_mat_variable_free(v);
        OK(di_mat_variable_read(context, path, "annotations", &v));
        char *text = NULL;
        OK(di_mat_text(v, di_mat_field(v, v->arrays, 2, "fname"), &text));
        assert_string_equal(text, "2.jpg");
        free(text);
        assert_true(di_mat_number(v, di_mat_field(v, v->arrays, 2, "class"), 0) == 2);
        assert_null(di_mat_field(v, v->arrays, 2, "bbox"));
        di_mat_variable_free(v);
        OK(di_mat_variable_read(context, path, "class_names", &v));
        OK(di_mat_text(v, di_mat_cell(v, v->arrays, 1), &text));
        assert_string_equal(text, "bbcde");
        free(text);
        di_mat_variable_free(v);
        failed(di_mat_variable_read(context, path, "absent", &v), DISTAC_EFORMAT, "no variable 'absent'",
               "halves, annotations, class_names");
    }
}

/* ---- hostile ones ---- */

static void refused(const mat_file *m, distac_status wanted, const char *word) {
    char hash[65];
    write_bytes(in_folder("bad.mat"), m->bytes, m->size);
    failed(hash_file(in_folder("bad.mat"), hash), wanted, "bad.mat", word);
}

static void headers_are_checked(void **state) {
    (void)state;
    static mat_file m;
    mat_start(&m, false);
    m.size = 127;
    refused(&m, DISTAC_EFORMAT, "127 bytes");
    mat_start(&m, false);
    m.bytes[126] = 'X';
    refused(&m, DISTAC_EFORMAT, "bytes 126 and 127");
    mat_start(&m, false);
    m.bytes[125] = 3;
    refused(&m, DISTAC_EFORMAT, "version 0x0300");
    mat_start(&m, true);
    m.bytes[124] = 2;
    m.bytes[125] = 0;
    refused(&m, DISTAC_EUNSUPPORTED, "7.3");
    mat_start(&m, false);
    memcpy(m.bytes, "\x89HDF\r\n\x1a\n", 8);
    refused(&m, DISTAC_EUNSUPPORTED, "HDF5");
    mat_start(&m, false);
    memset(m.bytes, 0, 20);
    refused(&m, DISTAC_EUNSUPPORTED, "MATLAB 4");
    mat_start(&m, false);
    memset(m.bytes, 0x1b, 116); /* escape codes in the text: ignored, never printed */
    char hash[65];
    write_bytes(in_folder("text.mat"), m.bytes, m.size);
    OK(hash_file(in_folder("text.mat"), hash));
}

/* Where things are in the first variable of a file: its tag at 128, flags 136, size 152, name 168, data 176. */
static void elements_are_checked(void **state) {
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
        const char *word;
    } cases[] = {
        {128, 0, "element of type 0"},
        {128, 8, "element of type 8"},
        {128, 19, "element of type 19"},
        {132, 0xffffffff, "the file ends"},
        {132, 0xfffffff8, "the file ends"},
        {132, 1 << 20, "the file ends"},
        {136, 5, "array flags"},
        {140, 4, "array flags"},
        {144, 0, "unknown class"},
        {144, 18, "unknown class"},
        {144, 250, "unknown class"},
        {152, 9, "a size that is not"},
        {156, 4, "a size that is not"},
        {156, 0, "ASCII"},
        {160, 0x80000001u, "negative size"},
        {164, 0xffffffff, "negative size"},
        {160, 2, "another number"},
        {164, 0x7fffffff, "another number"},
        {168, 2u << 16 | 9, "small element"},
        {168, 9u << 16 | 1, "more than 4 bytes"},
        {168, 5u << 16 | 1, "more than 4 bytes"},
        {172, 0x01010101, "ASCII"},
        {176, 10, "unknown type"},
        {176, 0xffff, "unknown type"},
        {180, 23, "another number"},
        {180, 25, "longer than what holds"},
        {176, 15, "compressed data inside"},
        {180, 0xfffffff8, "longer than what holds"},
    };
    static mat_file m;
    for (int big = 0; big < 2; big++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            mat_start(&m, big);
            mat_array(&m, 6, "x", 9, 8, 3, (const int[]){1, 2, 3});
            assert_int_equal(m.size, 208);
            mat_u32_at(&m, cases[i].at, cases[i].value);
            refused(&m, DISTAC_EFORMAT, cases[i].word);
        }
        for (int kind = 3; kind <= 16; kind++) {
            if (kind != 3 && kind != 5 && kind != 16) continue;
            mat_start(&m, big);
            mat_array(&m, kind, "x", 9, 8, 3, (const int[]){1, 2, 3});
            refused(&m, DISTAC_EUNSUPPORTED, "only real numbers");
        }
        mat_start(&m, big);
        size_t at = mat_open(&m, 6, 0x800, "x", 1, 1);
        mat_element(&m, 9, 8, 1, (const int[]){1});
        mat_close(&m, at);
        refused(&m, DISTAC_EUNSUPPORTED, "complex");
        for (int slack = 8; slack <= 16; slack += 8) { /* longer than what is in it */
            mat_start(&m, big);
            at = mat_open(&m, 6, 0, "x", 1, 1);
            mat_element(&m, 9, 8, 1, (const int[]){1});
            m.size += (size_t)slack;
            mat_close(&m, at);
            refused(&m, DISTAC_EFORMAT, "belong to nothing");
        }
        mat_start(&m, big);
        mat_array(&m, 6, "x", 9, 8, 1, (const int[]){1});
        mat_array(&m, 6, "x", 9, 8, 1, (const int[]){1});
        refused(&m, DISTAC_EFORMAT, "two variables 'x'");
        mat_start(&m, big);
        mat_array(&m, 6, "", 9, 8, 1, (const int[]){1});
        refused(&m, DISTAC_EFORMAT, "without a name");
    }
}

static void values_must_fit_their_class(void **state) {
    (void)state;
    static mat_file m;
    static const struct {
        int class_id, value;
        bool fits;
    } cases[] = {{8, 127, true},     {8, 128, false},           {8, -128, true},   {8, -129, false},
                 {9, 255, true},     {9, 256, false},           {9, -1, false},    {10, 32767, true},
                 {10, 32768, false}, {10, -32768, true},        {11, 65535, true}, {11, 65536, false},
                 {13, -1, false},    {15, -1, false},           {15, 7, true},     {14, -7, true},
                 {7, 1 << 24, true}, {7, (1 << 24) + 1, false}, {6, -5, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int as_double = 0; as_double < 2; as_double++) {
            if (cases[i].class_id == 7 && as_double) continue; /* a double rounds to a single */
            mat_start(&m, i % 2);
            mat_array(&m, cases[i].class_id, "x", as_double ? 9 : 5, as_double ? 8 : 4, 1, &cases[i].value);
            char hash[65];
            write_bytes(in_folder("fits.mat"), m.bytes, m.size);
            if (cases[i].fits)
                OK(hash_file(in_folder("fits.mat"), hash));
            else
                failed(hash_file(in_folder("fits.mat"), hash), DISTAC_EFORMAT, "its class cannot hold", NULL);
        }
    }
    /* NaN and infinity stored for whole numbers */
    static const uint64_t bits[] = {0x7ff8000000000000u, 0x7ff0000000000000u, 0xfff0000000000000u};
    for (int i = 0; i < 3; i++) {
        mat_start(&m, false);
        mat_array(&m, 9, "x", 9, 8, 1, (const int[]){1});
        m.size = 184;
        mat_number(&m, bits[i], 8);
        refused(&m, DISTAC_EFORMAT, "its class cannot hold");
    }
    mat_start(&m, false); /* a logical value of 2 */
    size_t at = mat_open(&m, 9, 0x200, "x", 1, 1);
    mat_element(&m, 2, 1, 1, (const int[]){2});
    mat_close(&m, at);
    refused(&m, DISTAC_EFORMAT, "not 0 or 1");
}

static void nesting_ends_at_sixteen(void **state) {
    (void)state;
    static mat_file m;
    for (int depth = 15; depth <= 40; depth += depth == 16 ? 1 : depth == 15 ? 1 : 23) {
        size_t open[48];
        mat_start(&m, false);
        for (int i = 0; i < depth; i++) open[i] = mat_open(&m, 1, 0, i ? "" : "x", 1, 1);
        mat_array(&m, 6, "", 9, 8, 1, (const int[]){1});
        for (int i = depth - 1; i >= 0; i--) mat_close(&m, open[i]);
        char hash[65];
        write_bytes(in_folder("deep.mat"), m.bytes, m.size);
        if (depth <= 16)
            OK(hash_file(in_folder("deep.mat"), hash));
        else
            failed(hash_file(in_folder("deep.mat"), hash), DISTAC_EFORMAT, "more than 16", NULL);
    }
    mat_start(&m, false); /* more cells than bytes */
    size_t at = mat_open(&m, 1, 0, "x", 1 << 20, 1 << 10);
    mat_close(&m, at);
    refused(&m, DISTAC_EFORMAT, "more elements than bytes");
}

static void streams_are_checked(void **state) {
    (void)state;
    static mat_file m, whole;
    mat_start(&whole, false);
    mat_array(&whole, 6, "first", 9, 8, 20, (const int[20]){1, 2, 3});
    mat_deflate(&whole, 128);
    size_t end = whole.size;
    m = whole; /* a wrong checksum */
    m.bytes[end - 1] ^= 1;
    refused(&m, DISTAC_EFORMAT, "incorrect data check");
    m = whole; /* a wrong header */
    m.bytes[136] = 0x79;
    refused(&m, DISTAC_EFORMAT, "deflated variable at byte 136");
    m = whole; /* a dictionary is wanted */
    m.bytes[136] = 0x78;
    m.bytes[137] = 0xbb;
    refused(&m, DISTAC_EFORMAT, "dictionary");
    m = whole; /* cut inside the element */
    mat_u32_at(&m, 132, (uint32_t)(end - 136 - 6));
    m.size -= 6;
    refused(&m, DISTAC_EFORMAT, "the stream is cut");
    m = whole; /* bytes after the stream */
    mat_u32_at(&m, 132, (uint32_t)(end - 136 + 3));
    m.size += 3;
    refused(&m, DISTAC_EFORMAT, "bytes follow the stream");
    m = whole; /* deflated twice */
    mat_deflate(&m, 128);
    refused(&m, DISTAC_EFORMAT, "deflated twice");
    for (int more = -8; more <= 8; more += 16) { /* the inner tag lies */
        mat_start(&m, false);
        mat_array(&m, 6, "first", 9, 8, 20, (const int[20]){1, 2, 3});
        mat_u32_at(&m, 132, (uint32_t)((int)(m.size - 136) + more));
        mat_deflate(&m, 128);
        refused(&m, DISTAC_EFORMAT, more > 0 ? "shorter than" : "longer than");
    }
    mat_start(&m, false); /* a bomb: its claim cannot come out of it */
    mat_array(&m, 6, "first", 9, 8, 20, (const int[20]){1, 2, 3});
    mat_u32_at(&m, 132, 1u << 30);
    mat_deflate(&m, 128);
    refused(&m, DISTAC_EFORMAT, "promises more");
    /* the second variable is broken: the first can be read */
    m = whole;
    mat_array(&m, 6, "second", 9, 8, 3, (const int[]){1, 2, 3});
    m.size -= 4;
    write_bytes(in_folder("half.mat"), m.bytes, m.size);
    di_mat_variable *v = NULL;
    OK(di_mat_variable_read(context, in_folder("half.mat"), "first", &v));
    assert_true(di_mat_number(v, v->arrays, 2) == 3);
    di_mat_variable_free(v);
    failed(di_mat_variable_read(context, in_folder("half.mat"), "second", &v), DISTAC_EFORMAT, "half.mat",
           "the file ends");
}

static void texts_are_checked(void **state) {
    (void)state;
    static mat_file m;
    static const struct {
        uint32_t type;
        int width, count, letters[4];
        const char *word;
    } cases[] = {
        {16, 1, 2, {0xc3, 0x28}, "not UTF-8"},         {16, 1, 1, {0xc3}, "not UTF-8"},
        {17, 2, 2, {0xd800, 'a'}, "half a character"}, {17, 2, 2, {0xdc00, 'a'}, "half a character"},
        {18, 4, 1, {0x110000}, "half a character"},    {9, 8, 1, {65}, "unknown type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mat_start(&m, i % 2);
        size_t at = mat_open(&m, 4, 0, "x", 1, cases[i].count);
        mat_element(&m, cases[i].type, cases[i].width, cases[i].count, cases[i].letters);
        mat_close(&m, at);
        refused(&m, DISTAC_EFORMAT, cases[i].word);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_scipy_reads),
        cmocka_unit_test(small_files_are_read),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(elements_are_checked),
        cmocka_unit_test(values_must_fit_their_class),
        cmocka_unit_test(nesting_ends_at_sixteen),
        cmocka_unit_test(streams_are_checked),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
