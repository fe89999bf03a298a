/* test_without.c: what needs a library that this build is without says so by name; with it, it works. */
#include "data/data.h"
#include "io/io.h"
#include "tensor/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static distac_context *context;
static char folder[] = "/tmp/distac_without_XXXXXX", path[64];

/* MISSING: ",NAME,NAME," of this build */
static void expect(const char *name, const char *library, distac_status status) {
    char text[64];
    snprintf(text, sizeof text, ",%s,", name);
    if (!strstr(MISSING, text)) {
        if (status != DISTAC_OK) fail_msg("%s is there: %s", name, distac_last_error());
        return;
    }
    assert_int_equal(status, DISTAC_EUNSUPPORTED);
    snprintf(text, sizeof text, "this build is without %s", library);
    if (!strstr(distac_last_error(), text)) fail_msg("no word of %s: %s", library, distac_last_error());
}

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t count) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
}

static void images(void **state) {
    (void)state;
    distac_image *image = NULL;
    assert_int_equal(di_image_new(context, 3, 2, 3, &image), DISTAC_OK);
    expect("PNG", "libpng", distac_image_save(image, in_folder("x.png")));
    distac_image_release(image);
    put("y.png", "\x89PNG\r\n\x1a\n", 8);
    put("y.jpg", "\xff\xd8\xff", 3);
    distac_status broken = distac_image_load(context, in_folder("y.png"), 0, &image);
    assert_int_not_equal(broken, DISTAC_OK);
    if (broken == DISTAC_EUNSUPPORTED) expect("PNG", "libpng", broken);
    broken = distac_image_load(context, in_folder("y.jpg"), 0, &image);
    assert_int_not_equal(broken, DISTAC_OK);
    if (broken == DISTAC_EUNSUPPORTED) expect("JPEG", "libjpeg", broken);
}

static void charts(void **state) {
    (void)state;
    distac_plot *plot = NULL;
    const double values[2] = {1, 2};
    distac_plot_desc desc = {.title = "t"};
    assert_int_equal(distac_plot_create(context, &desc, &plot), DISTAC_OK);
    assert_int_equal(distac_plot_line(plot, "l", 2, values, 2, values, 0, NULL, 0), DISTAC_OK);
    distac_status status = distac_plot_save(plot, in_folder("x.png"));
    bool none = status == DISTAC_EUNSUPPORTED &&
                !strstr(distac_last_error(), "this build"); /* built with, not installed */
    if (!none) expect("CAIRO", "cairo", status);
    distac_plot_release(plot);
}

static void values(void **state) {
    (void)state;
    const int64_t shape[2] = {2, 2};
    distac_tensor *a = NULL, *w = NULL, *v = NULL;
    assert_int_equal(distac_tensor_create(context, DISTAC_F64, 2, shape, &a), DISTAC_OK);
    assert_int_equal(distac_tensor_create(context, DISTAC_F64, 1, shape, &w), DISTAC_OK);
    assert_int_equal(distac_tensor_create(context, DISTAC_F64, 2, shape, &v), DISTAC_OK);
    expect("LAPACK", "LAPACK", distac_tensor_eigh(a, w, v));
    distac_tensor_release(v);
    distac_tensor_release(w);
    distac_tensor_release(a);
}

/* All-zero gzip: it is told by its first bytes. */
static void compressed(void **state) {
    (void)state;
    static const unsigned char empty[20] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3};
    distac_dataset *d = NULL;
    put("t10k-images-idx3-ubyte.gz", empty, sizeof empty);
    put("l.gz", empty, sizeof empty);
    char other[64];
    snprintf(other, sizeof other, "%s/l.gz", folder);
    distac_status status = distac_dataset_idx(context, in_folder("t10k-images-idx3-ubyte.gz"), other, &d);
    assert_int_not_equal(status, DISTAC_OK);
    if (status == DISTAC_EUNSUPPORTED) expect("ZLIB", "zlib", status);
    else assert_null(strstr(MISSING, ",ZLIB,"));
}

static void hashes(void **state) {
    (void)state;
    distac_strings *hash = NULL;
    /* Two blocks, and a length that needs one more; the rest is in test_files.c. */
    assert_int_equal(distac_hash_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, &hash),
                     DISTAC_OK);
    assert_string_equal(distac_strings_get(hash, 0),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    distac_strings_release(hash);
    distac_checkpoint *none = NULL;
    assert_int_equal(distac_checkpoint_create(context, &none), DISTAC_OK);
    expect("XXHASH", "xxHash", distac_checkpoint_fingerprint(none, &hash));
    if (!strstr(MISSING, ",XXHASH,")) distac_strings_release(hash);
    distac_checkpoint_release(none);
}

static int start(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 1};
    return mkdtemp(folder) && distac_context_create(&desc, &context) == DISTAC_OK ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    static const char *const names[] = {"x.png", "y.png", "y.jpg", "l.gz", "t10k-images-idx3-ubyte.gz"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlink(in_folder(names[i]));
    rmdir(folder);
    distac_context_release(context);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(images), cmocka_unit_test(charts),
                                       cmocka_unit_test(values), cmocka_unit_test(compressed),
                                       cmocka_unit_test(hashes)};
    return cmocka_run_group_tests(tests, start, stop);
}
