/* test_pnm.c: the portable bitmap formats: every kind, the traps of their headers, hostile sizes. */
#include "data_files.h"

static distac_status load(const void *bytes, size_t count, distac_image **out) {
    uint8_t *copy = malloc(count ? count : 1); /* exactly as large, for the sanitizer */
    memcpy(copy, bytes, count);
    distac_status status = di_image_decode(context, "x.pnm", copy, count, 0, out);
    free(copy);
    return status;
}

#define READ(text, width, height, ...)                                                                            \
    reads(text, sizeof(text) - 1, width, height, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static void reads(const char *text, size_t count, int width, int height, const uint8_t *want, size_t samples) {
    distac_image *image = NULL;
    OK(load(text, count, &image));
    assert_int_equal(image->width, width);
    assert_int_equal(image->height, height);
    assert_int_equal(image->bytes, samples);
    assert_memory_equal(image->pixels, want, samples);
    distac_image_release(image);
}

#define REFUSE(text, word) refuses(text, sizeof(text) - 1, word)

static void refuses(const char *text, size_t count, const char *word) {
    distac_image *image = NULL;
    distac_status status = load(text, count, &image);
    if (status == DISTAC_OK) fail_msg("read: %.40s", text);
    assert_true(status == DISTAC_EFORMAT || status == DISTAC_EUNSUPPORTED);
    failed(status, status, "x.pnm", word);
}

static void every_kind_is_read(void **state) {
    (void)state;
    READ("P1 3 2 1 0 1\n0 1 0", 3, 2, 0, 255, 0, 255, 0, 255);
    READ("P1\n3 2\n101010", 3, 2, 0, 255, 0, 255, 0, 255);
    READ("P1 2 1 1#c\n0", 2, 1, 0, 255);
    READ("P2 2 2 255 0 1 254 255", 2, 2, 0, 1, 254, 255);
    READ("P3 1 2 255 1 2 3\n4 5 6 7 8 junk", 1, 2, 1, 2, 3, 4, 5, 6);
    READ("P4 9 2\n\xaa\x80\x55\x7f", 9, 2, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255);
    READ("P5 2 1 255\n\x00\xff", 2, 1, 0, 255);
    READ("P6 1 1 255\nabc", 1, 1, 'a', 'b', 'c');
    READ("P6 1 1 255\nabcP6 1 1 255\nxyz", 1, 1, 'a', 'b', 'c'); /* the first picture */
}

static void headers_have_traps(void **state) {
    (void)state;
    READ("P5\n# made by hand\n2 # width\n1\r\n255\nab", 2, 1, 'a', 'b');
    READ("P5\v2\f1\t255 ab", 2, 1, 'a', 'b');
    READ("P5\r2\r1\r255\rab", 2, 1, 'a', 'b');
    READ("P5 2 1 255\n\nb", 2, 1, '\n', 'b'); /* one white space, then pixels */
    READ("P5 2 1 255\r\nb", 2, 1, '\n', 'b'); /* CR ends the header, LF is a pixel */
    READ("P5 2 1 255\n#b", 2, 1, '#', 'b');   /* no comment there */
    READ("P5#c\n2 1#d\n255\nab", 2, 1, 'a', 'b');
    READ("P5 0002 1 00255\nab", 2, 1, 'a', 'b');
    REFUSE("P", "begins with");
    REFUSE("P5", "ends before the width");
    REFUSE("P56 1 1 255\na", "byte 2");
    REFUSE("P0 1 1 255\na", "not a JPEG");
    REFUSE("P7\nWIDTH 1\n", "PAM");
    REFUSE("PF 1 1 1.0\n", "PFM");
    REFUSE("Pf 1 1 1.0\n", "PFM");
    REFUSE("P5 0 1 255\n", "0 x 1");
    REFUSE("P5 1 0 255\n", "1 x 0");
    REFUSE("P5 -1 1 255\na", "width");
    REFUSE("P5 +5 1 255\naaaaa", "width");
    REFUSE("P5 0x5 1 255\naaaaa", "width");
    REFUSE("P5 1", "ends before the height");
    REFUSE("P5 1 1", "ends before the largest value");
    REFUSE("P5 1 1 255", "white space");
    REFUSE("P5 1 1 255#\na", "white space");
    REFUSE("P5 1\0001 1 255\na", "width");
    REFUSE("P5 1 # no end", "comment");
    REFUSE("P5 2# inside\n3 1 255\nab", "largest value is 1"); /* the comment ended the number 2 */
    REFUSE("P5 11111111111111111111 1 255\na", "width");
    REFUSE("P5 65536 65536 255\na", "limit");
    REFUSE("P6 1000000 134 255\na", "need");
    REFUSE("P5 1000001 1 255\na", "width");
    REFUSE("P5 1 1 0\na", "largest value");
    REFUSE("P5 1 1 65536\na", "largest value");
    REFUSE("P5 1 1 4294967296\na", "largest value");
    static char digits[1 << 20];
    memset(digits, '1', sizeof digits);
    memcpy(digits, "P5 ", 3);
    refuses(digits, sizeof digits, "width");
    static char comment[10 << 20];
    memset(comment, '#', sizeof comment);
    memcpy(comment, "P5 ", 3);
    refuses(comment, sizeof comment, "comment");
    memcpy(comment + sizeof comment - 12, "\n1 1 255\nabc", 12);
    distac_image *image = NULL;
    OK(load(comment, sizeof comment, &image));
    assert_int_equal(image->pixels[0], 'a');
    distac_image_release(image);
}

static void missing_samples_are_noticed(void **state) {
    (void)state;
    REFUSE("P5 2 2 255\nabc", "need 4 bytes");
    REFUSE("P5 2 2 256\nabcdefg", "need 8 bytes");
    REFUSE("P6 1 2 255\nabcde", "need 6 bytes");
    REFUSE("P4 9 2\nabc", "need 4 bytes");
    REFUSE("P1 3 1 1 0", "ends before the last");
    REFUSE("P1 3 1 10", "ends before the last");
    REFUSE("P1 9 1 10", "need 9 bytes");
    REFUSE("P1 3 1 1 2 1", "wanted 0 or 1");
    REFUSE("P2 2 1 255 1", "need 3 bytes");
    REFUSE("P2 2 1 255 1  ", "ends before the sample");
    REFUSE("P2 2 1 255 1 x", "sample");
    REFUSE("P2 2 1 255 1 -2", "sample");
    REFUSE("P2 2 1 9 1 10", "largest value is 9");
    REFUSE("P2 1 1 255 99999999999", "sample");
    REFUSE("P5 2 1 9\n\x09\x0a", "largest value is 9");
    REFUSE("P5 1 1 300\n\x01\x2d", "largest value is 300");
}

/* 8-bit values of every largest value: v / maxval * 255, halves to even; 16-bit samples have their high byte
 * first. */
static void samples_are_scaled(void **state) {
    (void)state;
    for (int maxval = 1; maxval < 400; maxval++) {
        uint8_t file[1024];
        size_t at = (size_t)snprintf((char *)file, sizeof file, "P5 %d 1 %d\n", maxval + 1, maxval);
        for (int v = 0; v <= maxval; v++) {
            if (maxval > 255) file[at++] = (uint8_t)(v >> 8);
            file[at++] = (uint8_t)v;
        }
        distac_image *image = NULL;
        OK(load(file, at, &image));
        for (int v = 0; v <= maxval; v++) {
            double exact = v * 255.0 / maxval;
            assert_true(fabs(image->pixels[v] - exact) <= 0.5 + 1e-9);
        }
        assert_int_equal(image->pixels[0], 0);
        assert_int_equal(image->pixels[maxval], 255);
        distac_image_release(image);
    }
    READ("P5 2 1 65535\n\x80\x00\xff\xff", 2, 1, 128, 255);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read),
        cmocka_unit_test(headers_have_traps),
        cmocka_unit_test(missing_samples_are_noticed),
        cmocka_unit_test(samples_are_scaled),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
