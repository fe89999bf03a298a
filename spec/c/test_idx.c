/* test_idx.c: IDX files, plain and gzip, whole and damaged in every way of the format. */
#include "data_files.h"

#include <zlib.h>

/* ---- IDX ---- */

static size_t idx_header(uint8_t *b, int type, int rank, const uint32_t *sizes) {
    b[0] = b[1] = 0;
    b[2] = (uint8_t)type;
    b[3] = (uint8_t)rank;
    for (int d = 0; d < rank; d++) put32(b + 4 + 4 * d, sizes[d]);
    return 4 + 4 * (size_t)rank;
}

static void write_gzip(const char *path, const uint8_t *bytes, size_t count, const char *mode) {
    gzFile file = gzopen(path, mode);
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)count), (int)count);
    gzclose(file);
}

static void idx_files_are_read(void **state) {
    (void)state;
    uint8_t images[16 + 60], labels[8 + 5] = {0}, wide[8 + 20] = {0};
    idx_header(images, 8, 3, (uint32_t[]){5, 3, 4});
    for (int i = 0; i < 60; i++) images[16 + i] = (uint8_t)(i * 4);
    idx_header(labels, 8, 1, (uint32_t[]){5});
    idx_header(wide, 12, 1, (uint32_t[]){5});
    for (int i = 0; i < 5; i++) {
        labels[8 + i] = (uint8_t)(4 - i);
        put32(wide + 8 + 4 * i, (uint32_t)(4 - i));
    }
    write_bytes(in_folder("images.idx"), images, sizeof images);
    write_bytes(in_folder("labels.idx"), labels, sizeof labels);
    write_bytes(in_folder("wide.idx"), wide, sizeof wide);
    write_gzip(in_folder("images.idx.gz"), images, sizeof images, "wb");
    write_gzip(in_folder("members.idx.gz"), images, 30, "wb"); /* two members are one stream */
    write_gzip(in_folder("members.idx.gz"), images + 30, sizeof images - 30, "ab");
    static const char *const files[] = {"images.idx", "images.idx.gz", "members.idx.gz"};
    for (int f = 0; f < 3; f++)
        for (int w = 0; w < 3; w++) {
            distac_dataset *d = NULL;
            OK(distac_dataset_idx(context, in_folder(files[f]),
                                  w == 2 ? NULL : in_folder(w ? "wide.idx" : "labels.idx"), &d));
            double shape[3];
            OK(distac_dataset_image_shape(d, 3, shape));
            assert_true(shape[0] == 1 && shape[1] == 3 && shape[2] == 4);
            assert_int_equal(distac_dataset_size(d), 5);
            assert_int_equal(distac_dataset_labelled(d), w != 2);
            assert_int_equal(distac_dataset_classes(d), w == 2 ? 0 : 5);
            distac_tensor *t = NULL;
            OK(distac_dataset_images(d, 1, 4, &t));
            for (int i = 0; i < 48; i++)
                assert_true(fabs(((float *)t->data)[i] - (float)images[28 + i] / 255.0f) <= 1e-7);
            distac_tensor_release(t);
            if (w == 2) {
                failed(distac_dataset_labels(d, 0, 5, &t), DISTAC_ESTATE, "no labels", NULL);
            } else {
                OK(distac_dataset_labels(d, 0, 5, &t));
                for (int i = 0; i < 5; i++) assert_int_equal(((int64_t *)t->data)[i], 4 - i);
                distac_tensor_release(t);
                assert_string_equal(distac_dataset_class_name(d, 3), "3");
                assert_null(distac_dataset_class_name(d, 5));
            }
            distac_dataset_release(d);
        }
}

static void refuse_idx(const uint8_t *bytes, size_t count, bool gzip, const char *why) {
    distac_dataset *d = NULL;
    const char *path = in_folder("refused.idx");
    if (gzip)
        write_gzip(path, bytes, count, "wb");
    else
        write_bytes(path, bytes, count);
    failed(distac_dataset_idx(context, path, NULL, &d), DISTAC_EFORMAT, "refused.idx", why);
}

static void damaged_idx_files_are_refused(void **state) {
    (void)state;
    static const uint32_t many[16] = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    uint8_t b[4096] = {0};
    OK(distac_context_reset_peak(context));
    for (int gzip = 0; gzip < 2; gzip++) {
        size_t n = idx_header(b, 8, 3, (uint32_t[]){2, 3, 4}) + 24;
        for (size_t cut = 0; cut < n; cut++) refuse_idx(b, cut, gzip, cut < 4 ? "header" : NULL);
        refuse_idx(b, n + 1, gzip, gzip ? "follow" : "promises");
        b[0] = 1;
        refuse_idx(b, n, gzip, "not an IDX file");
        for (int type = 0; type < 256; type++) {
            idx_header(b, type, 3, (uint32_t[]){2, 3, 4});
            if (type < 8 || type > 14 || type == 10) refuse_idx(b, n, gzip, "element type");
            if (type == 9 || (type > 10 && type < 15)) refuse_idx(b, n, gzip, NULL);
        }
        for (int rank = 0; rank < 256; rank++) {
            idx_header(b, 8, 3, (uint32_t[]){2, 3, 4});
            b[3] = (uint8_t)rank;
            if (rank == 0 || rank > 8) refuse_idx(b, n, gzip, "rank");
            if (rank != 3) refuse_idx(b, n, gzip, NULL);
        }
        refuse_idx(b, idx_header(b, 8, 4, many), gzip, "overflow");                                 /* 2^128 */
        refuse_idx(b, idx_header(b, 14, 3, (uint32_t[]){1u << 31, 1u << 30, 2}), gzip, "overflow"); /* times 8 */
        refuse_idx(b, idx_header(b, 8, 3, (uint32_t[]){65536, 65536, 1}), gzip, NULL);              /* 2^32 */
        refuse_idx(b, idx_header(b, 8, 3, (uint32_t[]){1u << 31, 1, 1}), gzip, NULL);
        refuse_idx(b, idx_header(b, 8, 3, (uint32_t[]){0x02000000, 0x03000000, 0x04000000}), gzip, NULL); /* LE */
        refuse_idx(b, idx_header(b, 8, 3, (uint32_t[]){0, 3, 4}) + 1, gzip, NULL);
        refuse_idx(b, idx_header(b, 8, 3, (uint32_t[]){2, 0, 4}), gzip, "0 x 4");
    }
    distac_context_info info;
    OK(distac_context_get_info(context, &info));
    assert_in_range(info.memory_peak, 0, 1 << 20); /* nothing was asked for on the word of a header */
    distac_dataset *empty = NULL;
    write_bytes(in_folder("empty.idx"), b, idx_header(b, 8, 3, (uint32_t[]){0, 3, 4}));
    OK(distac_dataset_idx(context, in_folder("empty.idx"), NULL, &empty));
    assert_int_equal(distac_dataset_size(empty), 0);
    distac_dataset_release(empty);
}

static void damaged_gzip_is_refused(void **state) {
    (void)state;
    static uint8_t raw[16 + 30 * 30 * 4], zipped[8192], copy[8192];
    uint32_t seed = 1;
    idx_header(raw, 8, 3, (uint32_t[]){4, 30, 30});
    for (size_t i = 16; i < sizeof raw; i++) raw[i] = (uint8_t)(draw(&seed) & 15);
    write_gzip(in_folder("whole.gz"), raw, sizeof raw, "wb");
    size_t n = read_back(in_folder("whole.gz"), zipped, sizeof zipped);
    distac_dataset *d = NULL;
    const char *path = in_folder("cut.gz");
    for (size_t cut = 0; cut<n; cut += cut> 40 && cut + 40 < n ? 37 : 1) {
        write_bytes(path, zipped, cut);
        failed(distac_dataset_idx(context, path, NULL, &d), DISTAC_EFORMAT, "cut.gz", NULL);
    }
    for (size_t at = 10; at < n; at += at + 20 < n ? 13 : 1) { /* data and checksums; the header has free bits */
        if (at == n - 9) continue;                             /* and so has the last byte of the data */
        memcpy(copy, zipped, n);
        copy[at] = (uint8_t)(copy[at] ^ 0x10);
        write_bytes(path, copy, n);
        failed(distac_dataset_idx(context, path, NULL, &d), DISTAC_EFORMAT, "cut.gz", NULL);
    }
    memcpy(copy, zipped, n);
    copy[n] = 0; /* rubbish after the stream */
    write_bytes(path, copy, n + 1);
    failed(distac_dataset_idx(context, path, NULL, &d), DISTAC_EFORMAT, "cut.gz", NULL);
    uint8_t *bomb = calloc(1, 50000000); /* small header, much behind it: inflating stops at what was promised */
    idx_header(bomb, 8, 3, (uint32_t[]){1, 2, 2});
    write_gzip(path, bomb, 50000000, "wb9");
    free(bomb);
    OK(distac_context_reset_peak(context));
    double start = distac_clock();
    failed(distac_dataset_idx(context, path, NULL, &d), DISTAC_EFORMAT, "follow", NULL);
    assert_true(distac_clock() - start < 0.02);
}

static void labels_must_fit(void **state) {
    (void)state;
    uint8_t images[16 + 12] = {0}, labels[8 + 12] = {0};
    idx_header(images, 8, 3, (uint32_t[]){3, 2, 2});
    write_bytes(in_folder("three.idx"), images, sizeof images);
    distac_dataset *d = NULL;
    idx_header(labels, 8, 1, (uint32_t[]){4});
    write_bytes(in_folder("four.idx"), labels, 12);
    failed(distac_dataset_idx(context, in_folder("three.idx"), in_folder("four.idx"), &d), DISTAC_EFORMAT,
           "4 labels for 3 images", NULL);
    idx_header(labels, 9, 1, (uint32_t[]){3});
    labels[9] = 0xff;
    write_bytes(in_folder("negative.idx"), labels, 11);
    failed(distac_dataset_idx(context, in_folder("three.idx"), in_folder("negative.idx"), &d), DISTAC_EFORMAT,
           "label -1 of sample 1", NULL);
    idx_header(labels, 12, 1, (uint32_t[]){3});
    labels[9] = 0;
    put32(labels + 16, 0x7fffffff);
    write_bytes(in_folder("huge.idx"), labels, 20);
    failed(distac_dataset_idx(context, in_folder("three.idx"), in_folder("huge.idx"), &d), DISTAC_EFORMAT,
           "2147483647", NULL);
    idx_header(labels, 13, 1, (uint32_t[]){3});
    write_bytes(in_folder("float.idx"), labels, 20);
    failed(distac_dataset_idx(context, in_folder("three.idx"), in_folder("float.idx"), &d), DISTAC_EFORMAT,
           "integers", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_files_are_read),      cmocka_unit_test(damaged_idx_files_are_refused),
        cmocka_unit_test(damaged_gzip_is_refused), cmocka_unit_test(labels_must_fit),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
