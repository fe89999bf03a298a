/* test_image_verdicts.c: files of other people's test suites, where they
 * are at hand: read as Pillow reads them, or as their makers say. */
#include "data_files.h"

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
        cmocka_unit_test(conformance),
        cmocka_unit_test(made_verdicts),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
