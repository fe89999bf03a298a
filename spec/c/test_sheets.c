/* test_sheets.c: the glyphs that the embedded benchmark is made of: families that are in one split alone, sheets
 * that are whole and sheets that are damaged. */
#include "mini8_files.h"

static const char *const task_sheets[6] = {"handwritten", "digit", "latin", "kana", "arabic", "hebrew"};
static const char *const other_sheets[15] = {"kanji",       "hangul",         "katakana",  "symbols",
                                             "math",        "accented",       "georgian",  "armenian",
                                             "malayalam",   "cyrillic_upper", "thai",      "cyrillic_lower",
                                             "latin_lower", "greek",          "devanagari"};

static di_sheet *open_sheet(const char *name) {
    di_sheet *s = NULL;
    OK(di_sheet_open(context, root(), name, &s));
    return s;
}

static void families_are_in_one_split(void **state) {
    (void)state;
    for (int t = 0; t < 6; t++) {
        di_sheet *s = open_sheet(task_sheets[t]);
        for (int64_t a = 0; a < s->glyphs; a++)
            for (int64_t b = a + 1; b < s->glyphs; b++)
                if (s->family[a] == s->family[b]) assert_int_equal(s->split[a], s->split[b]);
        for (int64_t c = 0; c < s->classes; c++) {
            int families[3] = {0};
            uint32_t last = 0;
            for (int64_t g = 0; g < s->glyphs; g++)
                if (s->label[g] == c && (families[s->split[g]] == 0 || s->family[g] != last)) {
                    families[s->split[g]]++;
                    last = s->family[g];
                }
            bool writing = strcmp(task_sheets[t], "handwritten") == 0;
            assert_in_range(families[0], writing ? 1 : 20, 1000);
            assert_in_range(families[1], writing ? 1 : 5, 1000);
            assert_in_range(families[2], writing ? 1 : 8, 1000);
        }
        di_sheet_close(s);
    }
}

/* Blackens every cell of a sheet that is not of this split, in a copy of the sheets. */
static void keep_one_split(const char *name, int split) {
    char from[1200], to[1200], png[64];
    di_sheet *s = open_sheet(name);
    snprintf(from, sizeof from, "%s/sheets/%s.txt", root(), name);
    snprintf(png, sizeof png, "%s.txt", name);
    snprintf(to, sizeof to, "%s", in_folder(png));
    uint8_t *text;
    size_t count;
    OK(di_read_file(context, from, 1 << 24, &text, &count));
    write_bytes(to, text, count);
    di_free(context, text, count);
    snprintf(from, sizeof from, "%s/sheets/%s.png", root(), name);
    snprintf(png, sizeof png, "%s.png", name);
    distac_image *image = NULL;
    OK(distac_image_load(context, from, 1, &image));
    int cell = strcmp(name, "handwritten") == 0 ? 8 : DI_CELL, columns = image->width / cell;
    for (int64_t g = 0; g < s->glyphs; g++)
        for (int y = 0; y < cell && s->split[g] != split; y++)
            memset(image->pixels + (g / columns * cell + y) * image->width + g % columns * cell, 0, (size_t)cell);
    OK(distac_image_save(image, in_folder(png)));
    distac_image_release(image);
    di_sheet_close(s);
}

static void a_split_shows_its_own_families_alone(void **state) {
    (void)state;
    static const char *const by_sheet[6] = {"digits", "svhn", "latin", "kana", "arabic", "hebrew"};
    for (int t = 0; t < 6; t++)
        for (int split = 1; split < 3; split++) { /* without the other splits' glyphs nothing changes */
            char whole[65], alone[65], starved[65];
            keep_one_split(task_sheets[t], split);
            task_hash(context, root(), by_sheet[t], split, whole);
            task_hash(context, folder, by_sheet[t], split, alone);
            assert_string_equal(whole, alone);
            task_hash(context, root(), by_sheet[t], 3 - split, whole);
            task_hash(context, folder, by_sheet[t], 3 - split, starved);
            assert_string_not_equal(whole, starved);
        }
}

static void sheets_are_whole(void **state) {
    (void)state;
    int64_t bytes = 0;
    for (int k = 0; k < 21; k++) {
        const char *name = k < 6 ? task_sheets[k] : other_sheets[k - 6];
        char path[1200];
        for (int png = 0; png < 2; png++) {
            snprintf(path, sizeof path, "%s/sheets/%s.%s", root(), name, png ? "png" : "txt");
            bytes += distac_path_bytes(path);
        }
        di_sheet *s = open_sheet(name);
        for (int64_t g = 0; g < s->glyphs; g++) { /* ink in the middle, none at the rim */
            const uint8_t *p = s->pixels + g * DI_CELL * DI_CELL;
            int ink = 0;
            for (int y = 0; y < DI_CELL; y++)
                for (int x = 0; x < DI_CELL; x++) {
                    bool rim = x < 3 || y < 3 || x >= DI_CELL - 3 || y >= DI_CELL - 3;
                    if (rim) assert_int_equal(p[y * DI_CELL + x], 0);
                    ink += p[y * DI_CELL + x];
                }
            assert_true(ink > 255 * 4);
        }
        if (k >= 6)
            for (int64_t c = 0; c < s->classes; c++) { /* at least eight families a class */
                int families = 0;
                uint32_t last = 0;
                for (int64_t g = 0; g < s->glyphs; g++)
                    if (s->label[g] == c && (families == 0 || s->family[g] != last)) {
                        families++;
                        last = s->family[g];
                    }
                assert_in_range(families, 8, 1000);
            }
        di_sheet_close(s);
    }
    assert_in_range(bytes, 1 << 20, 8 << 20);
}

static void sheets_stack(void **state) {
    (void)state;
    distac_dataset *both = NULL, *thai = NULL, *greek = NULL;
    OK(distac_dataset_glyphs(context, root(), "thai+greek", &both));
    OK(distac_dataset_glyphs(context, root(), "thai", &thai));
    OK(distac_dataset_glyphs(context, root(), "greek", &greek));
    assert_int_equal(distac_dataset_size(both), distac_dataset_size(thai) + distac_dataset_size(greek));
    assert_int_equal(distac_dataset_classes(both), distac_dataset_classes(thai) + distac_dataset_classes(greek));
    assert_string_equal(distac_dataset_class_name(both, distac_dataset_classes(thai)),
                        distac_dataset_class_name(greek, 0));
    int64_t n = distac_dataset_size(thai);
    assert_int_equal(both->samples->labels[n + 5], distac_dataset_classes(thai) + greek->samples->labels[5]);
    assert_memory_equal((uint8_t *)both->samples->pixels->data + n * DI_CELL * DI_CELL,
                        greek->samples->pixels->data, (size_t)distac_dataset_size(greek) * DI_CELL * DI_CELL);
    distac_dataset_release(both);
    distac_dataset_release(thai);
    distac_dataset_release(greek);
}

static void damaged_sheets_are_refused(void **state) {
    (void)state;
    static const char *const good = "sheet s cell 8 columns 2 glyphs 3 classes 2\nclass a\nclass b\n"
                                    "family 0000000a 0 Name of it\nface 0-1\nfamily 0000000b 2 Other\nface 1\n";
    static const char *const bad[][2] = {
        {"", "empty"},
        {"sheet s cell 8 columns 2 glyphs 3\n", "line 1"},
        {"sheet s cell 33 columns 2 glyphs 3 classes 2\n", "out of range"},
        {"sheet s cell 8 columns 2 glyphs 99999999999999999999 classes 2\n", "line 1"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 2\nclass a\nfamily 0000000a 0 N\nface 0 0 0\n", "fewer"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nclass b\n", "line 3"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nface 0 0 0\n", "before the first family"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nfamily 0000000a 3 N\n", "line 3"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nfamily 0000000A 0 N\n", "line 3"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nfamily 0000000a 0 N\nface 0 0 0 0\n",
         "more glyphs"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nfamily 0000000a 0 N\nface 0-1\n", "line 4"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nfamily 0000000a 0 N\nface 0-\n", "line 4"},
        {"sheet s cell 8 columns 2 glyphs 3 classes 1\nclass a\nnonsense\n", "line 3"},
    };
    distac_dataset *d = NULL;
    distac_image *image = NULL;
    OK(di_image_new(context, 16, 16, 1, &image));
    memset(image->pixels, 77, image->bytes);
    OK(distac_image_save(image, in_folder("s.png")));
    write_bytes(in_folder("s.txt"), good, strlen(good));
    OK(distac_dataset_glyphs(context, folder, "s", &d));
    assert_int_equal(distac_dataset_size(d), 3);
    assert_string_equal(distac_dataset_class_name(d, 1), "b");
    distac_dataset_release(d);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(in_folder("s.txt"), bad[i][0], strlen(bad[i][0]));
        failed(distac_dataset_glyphs(context, folder, "s", &d), DISTAC_EFORMAT, bad[i][1], "s.txt");
    }
    for (size_t cut = 0; cut + 1 < strlen(good); cut++) { /* every beginning is incomplete */
        write_bytes(in_folder("s.txt"), good, cut);
        failed(distac_dataset_glyphs(context, folder, "s", &d), DISTAC_EFORMAT, "s.txt", NULL);
    }
    write_bytes(in_folder("s.txt"), good, strlen(good));
    image->height = 8; /* a row of cells is missing */
    OK(distac_image_save(image, in_folder("s.png")));
    failed(distac_dataset_glyphs(context, folder, "s", &d), DISTAC_EFORMAT, "16 x 8", "s.png");
    distac_image_release(image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_in_one_split),
        cmocka_unit_test(a_split_shows_its_own_families_alone),
        cmocka_unit_test(sheets_are_whole),
        cmocka_unit_test(sheets_stack),
        cmocka_unit_test(damaged_sheets_are_refused),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
