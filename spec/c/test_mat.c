/* test_mat.c: the reader of MATLAB 5 files: small files made here, hostile ones, and, where DISTAC_TEST_DATA names
 * a folder of real ones, what scipy reads in them (spec/golden/mat_verdicts.tsv). */
#include "data_files.h"
#include "data/mat.h"

#include <zlib.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_scipy_reads),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
