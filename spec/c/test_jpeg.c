/* test_jpeg.c: JPEG files of every kind that is read, damaged and hostile ones. */
#include "jpeg_files.h"

static size_t find(bytes b, int marker) {
    for (size_t at = 2; at + 4 <= b.count; at += 2 + (size_t)(b.at[at + 2] << 8 | b.at[at + 3])) {
        assert_int_equal(b.at[at], 0xff);
        if (b.at[at + 1] == marker) return at;
        if (b.at[at + 1] == 0xda) break;
    }
    fail_msg("no marker %x", (unsigned)marker);
    return 0;
}

static distac_status load(const uint8_t *at, size_t count, distac_image **out) {
    uint8_t *copy = malloc(count ? count : 1); /* exactly as large, for the sanitizer */
    memcpy(copy, at, count);
    distac_status status = di_image_decode(context, "x.jpg", copy, count, 0, out);
    free(copy);
    return status;
}

/* Is refused with a text that names the file and holds a word. */
static void refused(const uint8_t *at, size_t count, const char *word) {
    distac_image *image = NULL;
    distac_status status = load(at, count, &image);
    if (status == DISTAC_OK) fail_msg("a damaged file was read, wanted \"%s\"", word);
    assert_true(status == DISTAC_EFORMAT || status == DISTAC_EUNSUPPORTED);
    failed(status, status, "x.jpg", word);
}

/* ---- files that are whole ---- */

static void every_kind_is_read(void **state) {
    (void)state;
    static const recipe recipes[] = {
        {50, 37, 3, 1, 1, 0, 0, 0, 0, 0, 0},        {50, 37, 3, 2, 1, 0, 0, 0, 0, 0, 0},
        {50, 37, 3, 2, 2, 0, 0, 0, 0, 0, 0},        {50, 37, 3, 4, 1, 0, 0, 0, 0, 0, 0},
        {50, 37, 3, 1, 2, 0, 0, 0, 0, 0, 0},        {50, 37, 3, 2, 2, 0, 1, 0, 0, 0, 0},
        {50, 37, 1, 1, 1, 0, 0, 0, 0, 0, 0},        {50, 37, 1, 2, 2, 0, 0, 0, 0, 0, 0},
        {50, 37, 3, 1, 1, JCS_RGB, 0, 0, 0, 0, 0},  {50, 37, 4, 1, 1, JCS_CMYK, 0, 0, 0, 1, 0},
        {50, 37, 4, 1, 1, JCS_YCCK, 0, 0, 0, 1, 0}, {50, 37, 4, 2, 2, JCS_YCCK, 1, 0, 3, 1, 0},
        {50, 37, 3, 2, 2, 0, 0, 0, 1, 0, 0},        {1, 1, 3, 2, 2, 0, 0, 0, 0, 0, 0},
        {7, 9, 3, 2, 2, 0, 1, 0, 0, 0, 0},          {17, 1, 3, 2, 1, 0, 0, 0, 0, 0, 0},
        {50, 37, 3, 2, 2, 0, 0, 0, 0xffff, 0, 0},
    };
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        bytes b = make(recipes[i], (uint32_t)i);
        distac_image *image = NULL;
        OK(load(b.at, b.count, &image));
        assert_int_equal(image->width, recipes[i].width);
        assert_int_equal(image->height, recipes[i].height);
        assert_int_equal(image->channels, recipes[i].components == 1 ? 1 : 3);
        distac_image_release(image);
        bytes more = {malloc(b.count + 700), b.count + 700}; /* what follows the end is not looked at */
        memcpy(more.at, b.at, b.count);
        memset(more.at + b.count, 0xd8, 700);
        OK(load(more.at, more.count, &image));
        distac_image_release(image);
        free(more.at);
        free(b.at);
    }
}

/* An inverted CMYK pixel (c, m, y, k) is (255-c)(255-k)/255 and so on. Without loss: one colour everywhere. */
static void inks_become_light(void **state) {
    (void)state;
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    bytes b = {NULL, 0};
    uint8_t row[8 * 4];
    for (int x = 0; x < 8; x++) {
        row[4 * x] = 200; /* as stored: 255 - ink */
        row[4 * x + 1] = 100;
        row[4 * x + 2] = 0;
        row[4 * x + 3] = 128;
    }
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &b.at, &b.count);
    c.image_width = c.image_height = 8;
    c.input_components = 4;
    c.in_color_space = JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 100, TRUE);
    jpeg_start_compress(&c, TRUE);
    JSAMPROW rows[1] = {row};
    for (int y = 0; y < 8; y++) jpeg_write_scanlines(&c, rows, 1);
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    distac_image *image = NULL;
    OK(load(b.at, b.count, &image));
    static const int want[3] = {100, 50, 0}; /* 200 * 128 / 255 and so on */
    for (int k = 0; k < 3; k++) assert_in_range(image->pixels[k] + 1, want[k], want[k] + 2);
    distac_image_release(image);
    free(b.at);
}

/* ---- files that are not ---- */

static void cut_files_are_refused(void **state) {
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        recipe r = usual;
        r.progressive = progressive;
        bytes b = make(r, 3);
        for (size_t cut = 0; cut < b.count; cut += cut < 8 || cut + 8 > b.count ? 1 : b.count / 64)
            refused(b.at, cut, cut == 0 ? "empty" : "");
        refused(b.at, b.count - 2, "too early"); /* all pixels are there, the end marker is not */
        refused(b.at, b.count - 1, "too early");
        /* also when the window that is wanted ends above the cut */
        di_sample_plan plan = {.size = 8, .channels = 3, .crop = true, .desc = {0.1, 0.1, 1, 1}};
        uint8_t planes[3 * 64];
        for (uint64_t stream = 0; stream < 8; stream++) {
            plan.stream = stream;
            failed(di_image_sample(context, "x.jpg", b.at, b.count - 30, &plan, planes), DISTAC_EFORMAT, "x.jpg",
                   NULL);
            OK(di_image_sample(context, "x.jpg", b.at, b.count, &plan, planes));
        }
        free(b.at);
    }
}

/* One byte of a whole file set to another value. */
static void patched(int marker, size_t offset, int value, const char *word) {
    bytes b = make(usual, 5);
    b.at[find(b, marker) + offset] = (uint8_t)value;
    refused(b.at, b.count, word);
    free(b.at);
}

static void damaged_headers_are_refused(void **state) {
    (void)state;
    static const uint8_t nothing[] = {0xff, 0xd8, 0xff, 0xd9}, fill[] = {0xff, 0xd8, 0xff, 0xff, 0xff, 0xff};
    refused(nothing, sizeof nothing, "");
    refused(fill, sizeof fill, "too early");
    patched(0xdb, 2, 0xff, "");                 /* a segment longer than the file */
    patched(0xdb, 3, 1, "");                    /* shorter than itself */
    patched(0xc0, 1, 0xc3, "Unsupported JPEG"); /* lossless */
    patched(0xc0, 1, 0xc5, "Unsupported JPEG"); /* hierarchical */
    patched(0xc0, 1, 0xcb, "Unsupported JPEG"); /* lossless, arithmetic */
    patched(0xc0, 1, 0xc9, "arithmetic");       /* a header that says so */
    patched(0xc0, 4, 12, "precision");          /* bits */
    patched(0xc0, 9, 2, "");                    /* components that do not fit the length */
    patched(0xc0, 9, 255, "");
    patched(0xc0, 11, 0x02, "sampling");
    patched(0xc0, 11, 0x52, "sampling");
    patched(0xc0, 11, 0xff, "sampling");
    patched(0xc0, 12, 3, "Quantization table"); /* one that is not there */
    patched(0xdb, 4, 0x0f, "DQT");
    patched(0xc4, 4, 0x2f, "DHT");
    patched(0xc4, 5, 255, "Huffman"); /* too many codes of length 1 */
    patched(0xda, 4, 0, "");          /* no components in the scan */
    patched(0xda, 4, 4, "");
    patched(0xda, 5, 77, "");        /* a component that is not there */
    patched(0xda, 6, 0x33, "table"); /* tables that are not there */
    recipe arithmetic = usual;
    arithmetic.arithmetic = true;
    bytes b = make(arithmetic, 1);
    refused(b.at, b.count, "arithmetic");
    free(b.at);
    b = make(usual, 5);
    size_t sof = find(b, 0xc0);
    memset(b.at + sof + 5, 0, 2); /* height 0 */
    refused(b.at, b.count, "");
    memset(b.at + sof + 5, 0xff, 4); /* 65535 x 65535 */
    refused(b.at, b.count, "");
    b.at[sof + 5] = b.at[sof + 7] = 0x20; /* 8447 x 8447 in 2 KB */
    refused(b.at, b.count, "cannot come out");
    free(b.at);
    b = make(usual, 5);
    bytes twice = {malloc(b.count + 19), b.count + 19}; /* a second SOF */
    sof = find(b, 0xc0);
    memcpy(twice.at, b.at, sof + 19);
    memcpy(twice.at + sof + 19, b.at + sof, b.count - sof);
    refused(twice.at, twice.count, "SOF");
    memmove(twice.at + sof, b.at + sof + 19, b.count - sof - 19); /* and none */
    refused(twice.at, b.count - 19, "SOS before SOF");
    free(twice.at);
    free(b.at);
}

static void two_components_are_refused(void **state) {
    (void)state;
    static const uint8_t head[] = {0xff, 0xd8, 0xff, 0xc0, 0, 14, 8, 0, 8, 0, 8, 2, 1,  0x11, 0, 2,
                                   0x11, 0,    0xff, 0xda, 0, 10, 2, 1, 0, 2, 0, 0, 63, 0,    0, 0};
    refused(head, sizeof head, "2 components");
}

static void scan_bombs_are_stopped(void **state) {
    (void)state;
    recipe r = {.width = 40, .height = 30, .components = 1, .single = true};
    bytes b = make(r, 2);
    distac_image *image = NULL;
    OK(load(b.at, b.count, &image)); /* 64 scans */
    distac_image_release(image);
    free(b.at);
    r.components = 3;
    b = make(r, 2);
    refused(b.at, b.count, "more than 100 scans"); /* 190 */
    size_t first = find(b, 0xda), at = first;
    uint8_t *bomb = malloc(first + 1000 * 10 + 2);
    memcpy(bomb, b.at, first);
    for (int i = 0; i < 1000; i++, at += 10) memcpy(bomb + at, "\xff\xda\0\x08\1\1\0\1\1\0", 10);
    memcpy(bomb + at, "\xff\xd9", 2);
    refused(bomb, at + 2, ""); /* scans without data, before the first one */
    free(bomb);
    free(b.at);
}

static void damaged_data_are_refused(void **state) {
    (void)state;
    recipe r = usual;
    r.restart = 2;
    bytes b = make(r, 9);
    size_t at = find(b, 0xda) + 14;
    int markers = 0;
    for (; at + 1 < b.count - 2; at++)
        if (b.at[at] == 0xff && (b.at[at + 1] & 0xf8) == 0xd0 && ++markers == 2) break;
    assert_int_equal(markers, 2);
    uint8_t kept = b.at[at + 1];
    b.at[at + 1] = (uint8_t)(0xd0 | ((kept + 1) & 7)); /* restart markers in a wrong order */
    refused(b.at, b.count, "");
    b.at[at + 1] = 0xd9; /* an end marker among the data */
    refused(b.at, b.count, "");
    b.at[at + 1] = 0xc4; /* another marker */
    refused(b.at, b.count, "");
    memmove(b.at + at, b.at + at + 2, b.count - at - 2); /* none */
    refused(b.at, b.count - 2, "");
    free(b.at);
    b = make(usual, 9);
    distac_image *image = NULL;
    int caught = 0;
    for (size_t k = find(b, 0xda) + 14; k < b.count - 2; k += 7) { /* never a crash; often noticed */
        uint8_t was = b.at[k];
        b.at[k] = (uint8_t)~was;
        if (load(b.at, b.count, &image) == DISTAC_OK)
            distac_image_release(image);
        else
            caught++;
        b.at[k] = was;
    }
    assert_true(caught > 0);
    free(b.at);
}

/* Segments whose content is none of our business. */
static void foreign_segments_are_skipped(void **state) {
    (void)state;
    static const uint8_t exif[] = {0xff, 0xe1, 0, 22, 'E', 'x', 'i',  'f',  0,    0,    'I', 'I',
                                   42,   0,    8, 0,  0,   0,   0xff, 0xff, 0xff, 0xff, 9,   9};
    static const uint8_t adobe[] = {0xff, 0xee, 0, 4, 'A', 'd'},
                         icc[] = {0xff, 0xe2, 0, 8, 'I', 'C', 'C', '_', 9, 9};
    static const uint8_t jfif[] = {0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F', 0, 9, 9, 0, 0, 1, 0, 1, 200, 200};
    const struct {
        const uint8_t *at;
        size_t count;
    } segments[] = {{exif, sizeof exif}, {adobe, sizeof adobe}, {icc, sizeof icc}, {jfif, sizeof jfif}};
    bytes b = make(usual, 11);
    distac_image *plain = NULL, *image = NULL;
    OK(load(b.at, b.count, &plain));
    for (size_t i = 0; i < 4; i++) {
        uint8_t *more = malloc(b.count + 64);
        memcpy(more, b.at, 2);
        memcpy(more + 2, segments[i].at, segments[i].count);
        memcpy(more + 2 + segments[i].count, b.at + 2, b.count - 2);
        OK(load(more, b.count + segments[i].count, &image));
        assert_memory_equal(image->pixels, plain->pixels, plain->bytes);
        distac_image_release(image);
        free(more);
    }
    size_t comment = 65535, total = b.count + 200 * (comment + 2); /* 13 MB of comments */
    uint8_t *big = calloc(total, 1);
    memcpy(big, b.at, 2);
    for (size_t i = 0; i < 200; i++) memcpy(big + 2 + i * (comment + 2), "\xff\xfe\xff\xff", 4);
    memcpy(big + 2 + 200 * (comment + 2), b.at + 2, b.count - 2);
    OK(load(big, total, &image));
    assert_memory_equal(image->pixels, plain->pixels, plain->bytes);
    distac_image_release(image);
    distac_image_release(plain);
    free(big);
    free(b.at);
}

static void memory_is_limited(void **state) {
    (void)state;
    distac_context *small = NULL;
    distac_context_desc desc = {.threads = 1, .memory_limit = 3 << 20};
    OK(distac_context_create(&desc, &small));
    bytes b =
        make((recipe){.width = 1200, .height = 900, .components = 3, .h = 1, .v = 1, .progressive = true}, 1);
    uint8_t planes[3 * 32 * 32];
    di_sample_plan plan = {.size = 32, .channels = 3};
    /* 6.5 MB of coefficients */
    failed(di_image_sample(small, "x.jpg", b.at, b.count, &plan, planes), DISTAC_ENOMEM, "x.jpg", NULL);
    OK(di_image_sample(context, "x.jpg", b.at, b.count, &plan, planes));
    free(b.at);
    distac_context_release(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read),         cmocka_unit_test(inks_become_light),
        cmocka_unit_test(cut_files_are_refused),      cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(two_components_are_refused), cmocka_unit_test(scan_bombs_are_stopped),
        cmocka_unit_test(damaged_data_are_refused),   cmocka_unit_test(foreign_segments_are_skipped),
        cmocka_unit_test(memory_is_limited),          cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
