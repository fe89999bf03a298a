/* test_png.c: PNG files of every kind, whole and damaged. */
#include "data_files.h"

#include <png.h>
#include <zlib.h>

/* ---- PNG: every kind ---- */

static const struct kind {
    int colour, depth;
} kinds[] = {{PNG_COLOR_TYPE_GRAY, 1},        {PNG_COLOR_TYPE_GRAY, 2},      {PNG_COLOR_TYPE_GRAY, 4},
             {PNG_COLOR_TYPE_GRAY, 8},        {PNG_COLOR_TYPE_GRAY, 16},     {PNG_COLOR_TYPE_PALETTE, 1},
             {PNG_COLOR_TYPE_PALETTE, 2},     {PNG_COLOR_TYPE_PALETTE, 4},   {PNG_COLOR_TYPE_PALETTE, 8},
             {PNG_COLOR_TYPE_RGB, 8},         {PNG_COLOR_TYPE_RGB, 16},      {PNG_COLOR_TYPE_GRAY_ALPHA, 8},
             {PNG_COLOR_TYPE_GRAY_ALPHA, 16}, {PNG_COLOR_TYPE_RGB_ALPHA, 8}, {PNG_COLOR_TYPE_RGB_ALPHA, 16}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int samples_of(int colour) {
    return colour == PNG_COLOR_TYPE_RGB          ? 3
           : colour == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
           : colour == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                 : 1;
}

static png_color palette_entry(int i) {
    return (png_color){(png_byte)(i * 7), (png_byte)(255 - i), (png_byte)(i * i)};
}

/* Writes random samples with libpng's low-level writer; expect receives RGB bytes by our policy. colours: entries
 * of the palette. */
static void write_png(const char *path, struct kind k, int width, int height, bool interlaced, int colours,
                      uint32_t seed, uint8_t *expect) {
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(file);
    assert_non_null(info);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, k.depth, k.colour,
                 interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_color palette[256];
    png_byte alpha[256];
    png_color_16 transparent = {.gray = 1};
    for (int i = 0; i < 256; i++) {
        palette[i] = palette_entry(i);
        alpha[i] = (png_byte)(i * 5);
    }
    if (k.colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, colours);
        png_set_tRNS(png, info, alpha, colours, NULL);
    } else if (k.colour == PNG_COLOR_TYPE_GRAY) {
        png_set_tRNS(png, info, NULL, 0, &transparent);
    }
    png_write_info(png, info);
    int n = samples_of(k.colour), bits = k.depth * n;
    size_t row = ((size_t)width * (size_t)bits + 7) / 8;
    uint8_t *raw = calloc(row, (size_t)height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t seen[4] = {0};
            for (int s = 0; s < n; s++) {
                uint32_t value = draw(&seed) & ((1u << k.depth) - 1);
                if (k.colour == PNG_COLOR_TYPE_PALETTE) value %= (uint32_t)colours;
                size_t bit = (size_t)(x * n + s) * (size_t)k.depth;
                uint8_t *at = raw + (size_t)y * row + bit / 8;
                if (k.depth == 16) {
                    at[0] = (uint8_t)(value >> 8);
                    at[1] = (uint8_t)value;
                } else {
                    *at = (uint8_t)(*at | value << (8 - k.depth - (int)(bit % 8)));
                }
                seen[s] = (uint8_t)(k.depth == 16 ? value >> 8 : value);
                if (k.depth < 8 && k.colour == PNG_COLOR_TYPE_GRAY)
                    seen[s] = (uint8_t)(value * 255 / ((1u << k.depth) - 1));
            }
            uint8_t *out = expect + 3 * (y * width + x);
            if (k.colour == PNG_COLOR_TYPE_PALETTE) {
                png_color c = palette_entry(seen[0]);
                out[0] = c.red;
                out[1] = c.green;
                out[2] = c.blue;
            } else {
                for (int c = 0; c < 3; c++) out[c] = n >= 3 ? seen[c] : seen[0];
            }
        }
    int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < height; y++) png_write_row(png, raw + (size_t)y * row);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    fclose(file);
    free(raw);
}

static void every_kind_of_png(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 9}, {3, 5}, {8, 8}, {9, 7}, {33, 17}};
    static uint8_t expect[33 * 17 * 3];
    for (int k = 0; k < KINDS; k++)
        for (int s = 0; s < 6; s++)
            for (int interlaced = 0; interlaced < 2; interlaced++) {
                int width = sizes[s][0], height = sizes[s][1];
                int colours = kinds[k].depth > 8 ? 256 : 1 << kinds[k].depth;
                const char *path = in_folder("kind.png");
                write_png(path, kinds[k], width, height, interlaced, colours, (uint32_t)(k * 100 + s), expect);
                distac_image *rgb = NULL, *own = NULL, *grey = NULL;
                OK(distac_image_load(context, path, 3, &rgb));
                OK(distac_image_load(context, path, 0, &own));
                OK(distac_image_load(context, path, 1, &grey));
                assert_int_equal(distac_image_width(rgb), width);
                assert_int_equal(distac_image_height(rgb), height);
                bool colour = kinds[k].colour & (PNG_COLOR_MASK_COLOR | PNG_COLOR_MASK_PALETTE);
                assert_int_equal(distac_image_channels(own), colour ? 3 : 1);
                assert_int_equal(distac_image_channels(grey), 1);
                assert_memory_equal(rgb->pixels, expect, (size_t)(width * height * 3));
                for (int i = 0; i < width * height; i++) {
                    const uint8_t *p = expect + 3 * i;
                    double luma = (p[0] * 19595.0 + p[1] * 38470.0 + p[2] * 7471.0) / 65536;
                    assert_int_equal(grey->pixels[i], (int)floor(luma + 0.5));
                    if (!colour) assert_int_equal(own->pixels[i], p[0]);
                }
                distac_image_release(rgb);
                distac_image_release(own);
                distac_image_release(grey);
            }
}

/* ---- PNG: damaged ---- */

static void damaged_pngs_are_refused(void **state) {
    (void)state;
    static uint8_t expect[20 * 11 * 3], bytes[8192], copy[8192];
    write_png(in_folder("good.png"), (struct kind){PNG_COLOR_TYPE_RGB, 8}, 20, 11, true, 0, 5, expect);
    size_t n = read_back(in_folder("good.png"), bytes, sizeof bytes);
    assert_in_range(n, 100, sizeof bytes - 1);
    const char *path = in_folder("bad.png");
    distac_image *image = NULL;
    for (size_t cut = 0; cut < n; cut++) { /* the last chunk is checked too: a cut file is never taken for whole */
        write_bytes(path, bytes, cut);
        failed(distac_image_load(context, path, 0, &image), DISTAC_EFORMAT, "bad.png", NULL);
    }
    for (size_t at = 0; at < n; at++) /* all chunks are critical ones: every flipped bit breaks a checksum */
        for (int bit = 0; bit < 8; bit += 3) {
            memcpy(copy, bytes, n);
            copy[at] = (uint8_t)(copy[at] ^ 1 << bit);
            write_bytes(path, copy, n);
            failed(distac_image_load(context, path, 0, &image), DISTAC_EFORMAT, "bad.png", NULL);
        }
    memcpy(copy, bytes, n);
    memset(copy + n, 'x', 100); /* what follows the end is not ours */
    write_bytes(path, copy, n + 100);
    OK(distac_image_load(context, path, 0, &image));
    distac_image_release(image);
}

/* A PNG whose header says what is asked for, with the right checksum, and 30 bytes of data. */
static void write_header(const char *path, uint32_t width, uint32_t height, int depth, int colour, int interlace) {
    uint8_t b[128] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R'};
    put32(b + 16, width);
    put32(b + 20, height);
    b[24] = (uint8_t)depth;
    b[25] = (uint8_t)colour;
    b[28] = (uint8_t)interlace;
    put32(b + 29, (uint32_t)crc32(0, b + 12, 17));
    put32(b + 33, 30);
    memcpy(b + 37, "IDAT", 4);
    put32(b + 71, (uint32_t)crc32(0, b + 37, 34));
    memcpy(b + 79, "IEND", 4);
    put32(b + 83, (uint32_t)crc32(0, b + 79, 4));
    write_bytes(path, b, 87);
}

static void impossible_headers_cost_nothing(void **state) {
    (void)state;
    static const struct {
        uint32_t width, height;
        int depth, colour, interlace;
        const char *why;
    } cases[] = {{65500, 65500, 1, 0, 0, "limit"}, {0, 5, 8, 0, 0, "IHDR"},
                 {5, 0, 8, 0, 0, "IHDR"},          {0x80000000u, 5, 8, 0, 0, ""},
                 {0x7fffffff, 1, 16, 6, 0, ""},    {999999, 134, 16, 6, 0, "cannot come out"},
                 {4, 4, 3, 0, 0, "IHDR"},          {4, 4, 99, 0, 0, "IHDR"},
                 {4, 4, 8, 1, 0, "IHDR"},          {4, 4, 8, 5, 0, "IHDR"},
                 {4, 4, 4, 2, 0, "IHDR"},          {4, 4, 8, 0, 2, "IHDR"},
                 {4, 4, 8, 3, 0, "PLTE"},          {4, 4, 8, 0, 0, ""}};
    OK(distac_context_reset_peak(context));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        distac_image *image = NULL;
        write_header(in_folder("header.png"), cases[i].width, cases[i].height, cases[i].depth, cases[i].colour,
                     cases[i].interlace);
        failed(distac_image_load(context, in_folder("header.png"), 0, &image), DISTAC_EFORMAT, "header.png",
               cases[i].why);
    }
    distac_context_info info;
    OK(distac_context_get_info(context, &info));
    assert_in_range(info.memory_peak, 0, 1 << 16);
    assert_int_equal(info.memory_used, 0);
}

static void palette_indices_are_checked(void **state) {
    (void)state;
    static uint8_t expect[64 * 3];
    const char *path = in_folder("palette.png");
    distac_image *image = NULL;
    static uint8_t bytes[2048];
    write_png(path, (struct kind){PNG_COLOR_TYPE_PALETTE, 8}, 8, 8, false, 200, 9, expect);
    OK(distac_image_load(context, path, 3, &image));
    assert_memory_equal(image->pixels, expect, sizeof expect);
    distac_image_release(image);
    size_t n = read_back(path, bytes, sizeof bytes), at = 0;
    while (memcmp(bytes + at, "PLTE", 4) != 0) at++;
    uint8_t cut[2048]; /* the same file with two entries fewer than it uses */
    size_t length = 3 * 100;
    memcpy(cut, bytes, at + 4 + length);
    put32(cut + at - 4, (uint32_t)length);
    put32(cut + at + 4 + length, (uint32_t)crc32(0, cut + at, (uInt)(4 + length)));
    size_t rest = at + 4 + 600 + 4, to = at + 4 + length + 4;
    size_t trns = rest; /* tRNS is longer than the palette now: leave it out */
    if (memcmp(bytes + rest + 4, "tRNS", 4) == 0) trns = rest + 12 + 200;
    memcpy(cut + to, bytes + trns, n - trns);
    write_bytes(path, cut, to + n - trns);
    failed(distac_image_load(context, path, 3, &image), DISTAC_EFORMAT, "palette index", "palette.png");
}

static void only_regular_files_are_read(void **state) {
    (void)state;
    distac_image *image = NULL;
    failed(distac_image_load(context, in_folder("none.png"), 0, &image), DISTAC_ENOTFOUND, "none.png", NULL);
    failed(distac_image_load(context, folder, 0, &image), DISTAC_EIO, folder, "regular");
    failed(distac_image_load(context, "/dev/zero", 0, &image), DISTAC_EIO, "/dev/zero", "regular");
    assert_int_equal(mkfifo(in_folder("pipe.png"), 0600), 0);
    failed(distac_image_load(context, in_folder("pipe.png"), 0, &image), DISTAC_EIO, "pipe.png", "regular");
    failed(distac_image_load(context, in_folder("good.png"), 2, &image), DISTAC_EINVAL, "channels 2", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_png),
        cmocka_unit_test(damaged_pngs_are_refused),
        cmocka_unit_test(impossible_headers_cost_nothing),
        cmocka_unit_test(palette_indices_are_checked),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
