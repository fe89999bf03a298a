/* test_image.c: PNG files of every kind, whole and damaged; resizing and fitting against known numbers. */
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

/* ---- images ---- */

static distac_image *image_of(int height, int width, int channels, const uint8_t *bytes) {
    distac_image *image = NULL;
    OK(di_image_new(context, width, height, channels, &image));
    memcpy(image->pixels, bytes, image->bytes);
    return image;
}

static void images_are_saved_and_read_back(void **state) {
    (void)state;
    uint32_t seed = 3;
    for (int channels = 1; channels <= 3; channels += 2) {
        uint8_t bytes[13 * 6 * 3];
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)draw(&seed);
        distac_image *image = image_of(6, 13, channels, bytes), *back = NULL;
        OK(distac_image_save(image, in_folder("saved.png")));
        OK(distac_image_load(context, in_folder("saved.png"), 0, &back));
        assert_int_equal(distac_image_channels(back), channels);
        assert_memory_equal(back->pixels, bytes, image->bytes);
        failed(distac_image_save(image, in_folder("no/such/saved.png")), DISTAC_EIO, "saved.png", NULL);
        distac_image_release(image);
        distac_image_release(back);
    }
}

static void bicubic_has_known_numbers(void **state) {
    (void)state;
    static const uint8_t source[16] = {0, 50, 100, 255, 10, 60, 200, 5, 30, 90, 120, 250, 255, 0, 255, 0};
    static const uint8_t two[4] = {39, 141, 101, 137};
    static const uint8_t six0[6] = {0, 21, 55, 79, 190, 255}, six2[6] = {7, 28, 86, 190, 111, 19},
                         six5[6] = {255, 124, 14, 244, 131, 0};
    distac_image *image = image_of(4, 4, 1, source), *out = NULL;
    OK(distac_image_resize(image, 2, 2, &out));
    assert_memory_equal(out->pixels, two, 4);
    distac_image_release(out);
    OK(distac_image_resize(image, 6, 6, &out));
    assert_memory_equal(out->pixels, six0, 6);
    assert_memory_equal(out->pixels + 12, six2, 6);
    assert_memory_equal(out->pixels + 30, six5, 6);
    distac_image_release(out);
    OK(distac_image_resize(image, 4, 4, &out));
    assert_memory_equal(out->pixels, source, 16);
    distac_image_release(out);
    uint8_t colour[48]; /* channels do not mix: three copies of the picture, two of them inverted */
    for (int i = 0; i < 16; i++) {
        colour[3 * i] = source[i];
        colour[3 * i + 1] = colour[3 * i + 2] = (uint8_t)(255 - source[i]);
    }
    distac_image *three = image_of(4, 4, 3, colour);
    OK(distac_image_resize(three, 2, 2, &out));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(out->pixels[3 * i], two[i]);
        assert_in_range(out->pixels[3 * i + 1], 254 - two[i], 256 - two[i]);
        assert_int_equal(out->pixels[3 * i + 1], out->pixels[3 * i + 2]);
    }
    distac_image_release(out);
    failed(distac_image_resize(image, 0, 2, &out), DISTAC_EINVAL, "0 x 2", NULL);
    failed(distac_image_resize(image, 1000000, 1000000, &out), DISTAC_EINVAL, "1000000", NULL);
    distac_image_release(three);
    distac_image_release(image);
}

static void fit_rounds_half_to_even(void **state) {
    (void)state;
    static const struct {
        int length, first;
    } cases[] = {{2, 0}, {3, 0}, {4, 1}, {5, 2}, {6, 2}, {7, 2}, {8, 3}, {9, 4}, {11, 4}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int tall = 0; tall < 2; tall++) {
            uint8_t bytes[22];
            int n = cases[k].length;
            for (int i = 0; i < 2 * n; i++) bytes[i] = (uint8_t)(10 * (tall ? i / 2 : i % n));
            distac_image *image = image_of(tall ? n : 2, tall ? 2 : n, 1, bytes), *out = NULL;
            OK(distac_image_fit(image, 2, &out));
            for (int i = 0; i < 4; i++)
                assert_int_equal(out->pixels[i], 10 * (cases[k].first + (tall ? i / 2 : i % 2)));
            distac_image_release(out);
            distac_image_release(image);
        }
    uint8_t bytes[10 * 25] = {0}; /* 10 x 25 to 4: the longer side is cut to int(4 * 25 / 10) = 10, offset 3 */
    distac_image *image = image_of(10, 25, 1, bytes), *out = NULL;
    OK(distac_image_fit(image, 4, &out));
    assert_int_equal(distac_image_width(out), 4);
    assert_int_equal(distac_image_height(out), 4);
    distac_image_release(out);
    failed(distac_image_fit(image, 0, &out), DISTAC_EINVAL, "size 0", NULL);
    distac_image_release(image);
}

static void image_tensors(void **state) {
    (void)state;
    static const uint8_t bytes[12] = {0, 10, 20, 255, 30, 40, 1, 2, 3, 4, 5, 6};
    const double mean[3] = {0.5, 0.25, 0.125}, std[3] = {0.5, 0.25, 2};
    distac_image *image = image_of(2, 2, 3, bytes), *back = NULL;
    distac_tensor *t = NULL, *pixels = NULL;
    OK(distac_image_tensor(image, 3, mean, 3, std, &t));
    const float *v = t->data;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 4; i++) {
            double want = (bytes[3 * i + c] / 255.0 - mean[c]) / std[c];
            assert_true(fabs(v[4 * c + i] - want) <= 1e-6);
        }
    OK(distac_image_pixels(image, &pixels));
    OK(distac_image_from_tensor(pixels, &back));
    assert_memory_equal(back->pixels, bytes, 12);
    failed(distac_image_from_tensor(t, &back), DISTAC_EDTYPE, "f32", NULL);
    failed(distac_image_tensor(image, 1, mean, 1, std, &t), DISTAC_ESHAPE, "3 channels", NULL);
    const double nothing[3] = {1, 0, NAN};
    failed(distac_image_tensor(image, 3, mean, 3, nothing, &t), DISTAC_EINVAL, "deviation", NULL);
    distac_image_release(image);
    distac_image_release(back);
    distac_tensor_release(t);
    distac_tensor_release(pixels);
}

/* ---- real files, where they are at hand ---- */

/* Where ours differs from Pillow's answer, and why. A file that is in none of these rows must be refused by both,
 * or have Pillow's pixels. */
enum verdict { REFUSED = 1, OTHER_PIXELS, READ };
static const struct difference {
    const char *path; /* part of the file's path */
    enum verdict ours;
    const char *why;
} differences[] = {
    {"testimgari.jpg", REFUSED, "arithmetic coding is not read"},
    {"hopper_bad_exif.jpg", REFUSED, "damaged entropy data: Pillow fills up with grey"},
    {"truncated_exif_dpi.jpg", READ, "only EXIF is damaged, and EXIF is not read"},
    {"png_decompression_dos.png", READ, "only text chunks are huge, and they are not inflated"},
    {"empty_ancillary_chunks.png", READ, "ancillary chunks are not read"},
    {"/badpal/regression-palette-8", REFUSED, "palette index beyond the palette: Pillow makes up colours"},
    {"/badpal/small-palette-", REFUSED, "palette index beyond the palette"},
    {"/badpal/test-palette-", REFUSED, "palette index beyond the palette"},
    {"badcrc.png", REFUSED, "a checksum of pixel data is wrong"},
    {"xcsn0g01.png", REFUSED, "a checksum of pixel data is wrong"},
    {"huge_IDAT.png", REFUSED, "the file ends inside a chunk"},
};

static enum verdict compare(const char *root, char *fields[7]) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", root, fields[0]);
    distac_image *image = NULL;
    bool theirs = strcmp(fields[1], "ok") == 0;
    distac_status status = distac_image_load(context, path, 3, &image);
    if (status != DISTAC_OK) {
        assert_true(status == DISTAC_EFORMAT || status == DISTAC_EUNSUPPORTED);
        assert_non_null(strstr(distac_last_error(), path));
        return theirs ? REFUSED : 0;
    }
    di_sha256 hash;
    char hex[65];
    di_sha256_init(&hash);
    di_sha256_update(&hash, image->pixels, image->bytes);
    di_sha256_hex(&hash, hex);
    distac_image_release(image);
    return !theirs ? READ : strcmp(hex, fields[6]) != 0 ? OTHER_PIXELS : 0;
}

static void conformance(void **state) {
    (void)state;
    const char *root = getenv("DISTAC_TEST_DATA");
    if (!root) skip();
    char name[1024];
    snprintf(name, sizeof name, "%s/conformance/PIL_DECODE.tsv", root);
    FILE *list = fopen(name, "r");
    if (!list) skip();
    static char line[8192];
    int same = 0, unexpected = 0;
    while (fgets(line, sizeof line, list)) {
        char *fields[7] = {NULL}, *rest = line;
        for (int i = 0; i < 7; i++) fields[i] = strtok_r(rest, "\t\n", &rest);
        if (!fields[6] || strcmp(fields[0], "file") == 0) continue;
        enum verdict ours = compare(root, fields), known = 0;
        if (strcmp(fields[3], "I") == 0) { /* 16-bit grey: Pillow cuts at 255, ours keeps the high byte */
            assert_int_equal(ours, OTHER_PIXELS);
            continue;
        }
        for (size_t i = 0; i < sizeof differences / sizeof *differences; i++)
            if (strstr(fields[0], differences[i].path)) known = differences[i].ours;
        if (ours == known) {
            same += ours == 0;
            continue;
        }
        print_message("%s (mode %s): %s%s\n", fields[0], fields[3],
                      ours == REFUSED        ? "refused: "
                      : ours == OTHER_PIXELS ? "other pixels"
                      : ours == READ         ? "read, Pillow refuses"
                                             : "like Pillow",
                      ours == REFUSED ? distac_last_error() : "");
        unexpected++;
    }
    fclose(list);
    assert_int_equal(unexpected, 0);
    assert_true(same >= 600);
}

/* Made PNM files with their verdicts: what is to be accepted or refused is. */
static void made_verdicts(void **state) {
    (void)state;
    const char *root = getenv("DISTAC_TEST_DATA");
    if (!root) skip();
    char name[1024];
    snprintf(name, sizeof name, "%s/conformance/MADE_VERDICTS.tsv", root);
    FILE *list = fopen(name, "r");
    if (!list) skip();
    char line[1024];
    int seen = 0;
    while (fgets(line, sizeof line, list)) {
        char *rest = line, *file = strtok_r(rest, "\t\n", &rest), *verdict = NULL;
        strtok_r(rest, "\t\n", &rest);
        verdict = strtok_r(rest, "\t\n", &rest);
        if (!verdict || strncmp(file, "pnm/", 4) != 0) continue;
        snprintf(name, sizeof name, "%s/conformance/%s", root, file);
        distac_image *image = NULL;
        bool read = distac_image_load(context, name, 0, &image) == DISTAC_OK;
        distac_image_release(image);
        if (read != (strcmp(verdict, "accept") == 0))
            fail_msg("%s: %s", name, read ? "read" : distac_last_error());
        seen++;
    }
    fclose(list);
    assert_true(seen >= 19);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_png),
        cmocka_unit_test(damaged_pngs_are_refused),
        cmocka_unit_test(impossible_headers_cost_nothing),
        cmocka_unit_test(palette_indices_are_checked),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(images_are_saved_and_read_back),
        cmocka_unit_test(bicubic_has_known_numbers),
        cmocka_unit_test(fit_rounds_half_to_even),
        cmocka_unit_test(image_tensors),
        cmocka_unit_test(conformance),
        cmocka_unit_test(made_verdicts),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
