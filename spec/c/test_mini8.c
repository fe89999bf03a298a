/* test_mini8.c: the embedded benchmark: sizes, balance, families that are in one split alone, the same data on
 * every build, machine and number of threads; damaged sheets; distortions of glyphs. */
#include "data_files.h"

#include "data/mini8.h"

static const char *const tasks[8] = {"digits", "svhn", "fashion", "latin", "kana", "arabic", "hebrew", "texture"};
static const int64_t class_counts[8] = {10, 10, 10, 26, 46, 29, 23, 12};
static const int64_t sizes[3] = {6000, 400, 800};
static const char *const task_sheets[6] = {"handwritten", "digit", "latin", "kana", "arabic", "hebrew"};
static const char *const other_sheets[15] = {"kanji",       "hangul",         "katakana",  "symbols",
                                             "math",        "accented",       "georgian",  "armenian",
                                             "malayalam",   "cyrillic_upper", "thai",      "cyrillic_lower",
                                             "latin_lower", "greek",          "devanagari"};

/* C tests run in the root of the repository. */
static const char *root(void) { return "examples/mini8"; }

static const char *fashion(void) {
    const char *path = getenv("DISTAC_FASHION_MNIST");
    return path ? path : "/usr/share/datasets/fashion-mnist";
}

static bool absent(const char *task) {
    return strcmp(task, "fashion") == 0 && distac_path_kind(fashion()) != 2;
}

static void hash_of(const distac_dataset *d, char out[65]) {
    distac_strings *s = NULL;
    OK(distac_dataset_hash(d, &s));
    memcpy(out, distac_strings_get(s, 0), 65);
    distac_strings_release(s);
}

static void task_hash(distac_context *c, const char *from, const char *task, int split, char out[65]) {
    distac_dataset *d = NULL;
    OK(distac_dataset_mini8(c, from, fashion(), task, split, &d));
    hash_of(d, out);
    distac_dataset_release(d);
}

/* ---- tasks ---- */

static void splits_are_balanced(void **state) {
    (void)state;
    for (int t = 0; t < 8; t++)
        for (int split = 0; split < 3 && !absent(tasks[t]); split++) {
            distac_dataset *d = NULL;
            OK(distac_dataset_mini8(context, root(), fashion(), tasks[t], split, &d));
            int64_t n = sizes[split], classes = class_counts[t], count[64] = {0};
            assert_int_equal(distac_dataset_size(d), n);
            assert_int_equal(distac_dataset_classes(d), classes);
            double shape[3], sum = 0;
            OK(distac_dataset_image_shape(d, 3, shape));
            assert_true(shape[0] == 1 && shape[1] == 28 && shape[2] == 28);
            assert_true(d->mean[0] == 0.45 && d->std[0] == 0.30);
            distac_tensor *labels = NULL;
            OK(distac_dataset_labels(d, 0, n, &labels));
            const int64_t *y = labels->data;
            int runs = 0;
            for (int64_t i = 0; i < n; i++) {
                count[y[i]]++;
                runs += i > 0 && y[i] == y[i - 1];
            }
            assert_in_range(runs, 0, n * 2 / classes); /* in no order: repeats as often as chance has it */
            for (int64_t c = 0; c < classes; c++) {
                assert_in_range(count[c], n / classes, (n + classes - 1) / classes);
                assert_true(strlen(distac_dataset_class_name(d, c)) > 0);
            }
            const uint8_t *pixels = d->samples->pixels->data;
            for (int64_t i = 0; i < n; i++) { /* something is to be seen on every picture */
                int low = 255, high = 0;
                for (int k = 0; k < DI_AREA; k++) {
                    int v = pixels[i * DI_AREA + k];
                    low = v < low ? v : low;
                    high = v > high ? v : high;
                    sum += v;
                }
                assert_true(high - low > 30);
            }
            sum /= (double)n * DI_AREA * 255;
            assert_true(sum > 0.1 && sum < 0.9);
            distac_tensor_release(labels);
            distac_dataset_release(d);
        }
}

/* The data are part of the benchmark: whoever changes them on purpose changes these sums, the heads, the
 * backbone's figures and the suite's data version with them. */
static void data_are_the_same_everywhere(void **state) {
    (void)state;
    static const struct {
        const char *task, *hash;
    } known[] = {{"digits", "115371e5ec9e6665d9c5d133683752a8ae462c5ccdbf705d90dec8a40b2d4370"},
                 {"svhn", "e3cb4e5127a27792878252e19e4aa732da05913a2858067f32fec8f3052f057d"},
                 {"latin", "6b4f1ebc5af7d85db26f13fd2357800f3e4bf13f5da6d842026f3896751a702c"},
                 {"kana", "7e0cba8013dfceede02167f791cf5ca138934c48e7faca12575fb6632974df82"},
                 {"arabic", "d867e13793a58470596ac700d5b1cb79047251e6274b2c2d395ff8319ff257e8"},
                 {"hebrew", "5b3751530c0b24b9b09660b480efed82c2e365578909dfc9d61b55aa11c728a4"},
                 {"texture", "3cd5a6698441dbea38073a2028ae3d5e820d319ac23587068063e2321aa40aad"}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        char hash[65], again[65];
        task_hash(context, root(), known[k].task, 1, hash);
        assert_string_equal(hash, known[k].hash);
        for (int threads = 1; threads <= 8; threads += 7) {
            distac_context *c = open_context(threads);
            task_hash(c, root(), known[k].task, 1, again);
            distac_context_release(c);
            assert_string_equal(hash, again);
        }
    }
}

static void splits_differ(void **state) {
    (void)state;
    for (int t = 0; t < 8; t++) {
        if (absent(tasks[t])) continue;
        distac_dataset *d[3];
        for (int split = 0; split < 3; split++)
            OK(distac_dataset_mini8(context, root(), fashion(), tasks[t], split, &d[split]));
        for (int64_t i = 0; i < 400; i++) /* no picture of validation or test is among the first of training */
            for (int64_t k = 0; k < 1000; k++)
                for (int split = 1; split < 3; split++)
                    assert_true(memcmp((uint8_t *)d[split]->samples->pixels->data + i * DI_AREA,
                                       (uint8_t *)d[0]->samples->pixels->data + k * DI_AREA, DI_AREA) != 0);
        for (int split = 0; split < 3; split++) distac_dataset_release(d[split]);
    }
}

static void wrong_requests_are_refused(void **state) {
    (void)state;
    distac_dataset *d = NULL;
    failed(distac_dataset_mini8(context, root(), fashion(), "latn", 0, &d), DISTAC_ENOTFOUND, "latn", "latin");
    failed(distac_dataset_mini8(context, root(), fashion(), "latin", 3, &d), DISTAC_EINVAL, "split 3", NULL);
    failed(distac_dataset_mini8(context, folder, fashion(), "latin", 0, &d), DISTAC_ENOTFOUND, "latin.txt",
           folder);
    failed(distac_dataset_mini8(context, root(), folder, "fashion", 0, &d), DISTAC_ENOTFOUND, "Fashion-MNIST",
           folder);
    failed(distac_dataset_glyphs(context, root(), "klingon", &d), DISTAC_ENOTFOUND, "klingon.txt", NULL);
    failed(distac_dataset_glyphs(context, root(), "", &d), DISTAC_EINVAL, "names of sheets", NULL);
    failed(distac_dataset_glyphs(context, root(), "latin+", &d), DISTAC_EINVAL, "names of sheets", NULL);
    failed(distac_dataset_glyphs(context, root(), "../sheets/latin", &d), DISTAC_EINVAL, "names of sheets", NULL);
}

/* ---- sheets ---- */

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

/* Whatever allocation the limit stops, the call fails cleanly and gives everything back. */
static void memory_limits_are_kept(void **state) {
    (void)state;
    int refused = 0;
    for (int64_t limit = 1 << 12; limit < (int64_t)1 << 26; limit += limit / 2) {
        distac_context *c = open_context(2);
        OK(distac_context_set_memory_limit(c, limit));
        for (int t = 0; t < 8; t++) {
            distac_dataset *d = NULL;
            if (absent(tasks[t])) continue;
            distac_status status = distac_dataset_mini8(c, root(), fashion(), tasks[t], 1, &d);
            if (status != DISTAC_OK) {
                assert_int_equal(status, DISTAC_ENOMEM);
                refused++;
            }
            distac_dataset_release(d);
            distac_context_info info;
            OK(distac_context_get_info(c, &info));
            assert_int_equal(info.memory_used, 0);
            assert_true(info.memory_peak <= limit);
        }
        distac_context_release(c);
    }
    assert_in_range(refused, 30, 1000);
}

/* ---- distortions ---- */

static const distac_augment_desc plain = {.scale_min = 1, .scale_max = 1, .contrast_min = 1, .contrast_max = 1};
static const distac_augment_desc strong = {.rotate = 15,
                                           .scale_min = 0.7,
                                           .scale_max = 1.1,
                                           .shear = 0.2,
                                           .shift = 0.15,
                                           .elastic = 0.03,
                                           .blur = 0.3,
                                           .contrast_min = 0.4,
                                           .contrast_max = 1,
                                           .texture = 0.15,
                                           .noise = 0.08,
                                           .invert = 0.5};

static void distortions_are_pure_functions(void **state) {
    (void)state;
    enum { N = 64 };
    int64_t indices[N];
    uint8_t want[N * DI_AREA];
    for (int i = 0; i < N; i++) indices[i] = 7 * i;
    for (int threads = 1; threads <= 8; threads++) {
        distac_context *c = open_context(threads);
        distac_dataset *d = NULL;
        distac_tensor *t = NULL;
        OK(distac_dataset_glyphs(c, root(), "greek", &d));
        OK(distac_augment_glyphs(d, &strong, 3, 9, N, indices, &t));
        assert_int_equal(t->dtype, DISTAC_U8);
        assert_true(t->rank == 4 && t->shape[0] == N && t->shape[1] == 1 && t->shape[2] == 28 &&
                    t->shape[3] == 28);
        if (threads == 1)
            memcpy(want, t->data, sizeof want);
        else
            assert_memory_equal(t->data, want, sizeof want);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 3, 9, 10, indices, &t)); /* sample j does not see the others */
        assert_memory_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 3, 10, 10, indices, &t));
        assert_memory_not_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 4, 9, 10, indices, &t));
        assert_memory_not_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        distac_dataset_release(d);
        distac_context_release(c);
    }
}

static void without_distortion_glyphs_stay(void **state) {
    (void)state;
    distac_dataset *d = NULL;
    distac_tensor *t = NULL;
    int64_t indices[20];
    for (int i = 0; i < 20; i++) indices[i] = 31 * i;
    OK(distac_dataset_glyphs(context, root(), "greek", &d));
    OK(distac_augment_glyphs(d, &plain, 0, 0, 20, indices, &t));
    for (int i = 0; i < 20; i++) { /* the same share of ink, bilinearly 32 -> 28 */
        const uint8_t *from = (const uint8_t *)d->samples->pixels->data + indices[i] * DI_CELL * DI_CELL;
        const uint8_t *to = (const uint8_t *)t->data + i * DI_AREA;
        double before = 0, after = 0;
        for (int k = 0; k < DI_CELL * DI_CELL; k++) before += from[k] / 255.0 / (DI_CELL * DI_CELL);
        for (int k = 0; k < DI_AREA; k++) after += to[k] / 255.0 / DI_AREA;
        assert_true(fabs(before - after) < 0.02);
        assert_int_equal(to[0], 0);
    }
    distac_tensor_release(t);
    distac_augment_desc inverted = plain;
    inverted.invert = 1;
    distac_tensor *u = NULL;
    OK(distac_augment_glyphs(d, &plain, 0, 0, 20, indices, &t));
    OK(distac_augment_glyphs(d, &inverted, 0, 0, 20, indices, &u));
    for (int k = 0; k < 20 * DI_AREA; k++)
        assert_int_equal(((uint8_t *)t->data)[k] + ((uint8_t *)u->data)[k], 255);
    distac_tensor_release(t);
    distac_tensor_release(u);
    OK(distac_augment_glyphs(d, &plain, 0, 0, 0, NULL, &t));
    assert_int_equal(t->numel, 0);
    distac_tensor_release(t);
    distac_dataset_release(d);
}

static void wrong_distortions_are_refused(void **state) {
    (void)state;
    distac_dataset *d = NULL, *pictures = NULL;
    distac_tensor *t = NULL;
    const int64_t index = 0, beyond = 1 << 30;
    OK(distac_dataset_glyphs(context, root(), "greek", &d));
    distac_augment_desc wrong = strong;
    wrong.rotate = NAN;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "rotate", "nan");
    wrong = strong;
    wrong.invert = 1.5;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "invert", "1.5");
    wrong = strong;
    wrong.scale_min = 2;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "wrong order", NULL);
    failed(distac_augment_glyphs(d, &strong, 0, 0, 1, &beyond, &t), DISTAC_EINVAL, "1073741824", NULL);
    OK(distac_dataset_mini8(context, root(), fashion(), "texture", 1, &pictures));
    failed(distac_augment_glyphs(pictures, &strong, 0, 0, 1, &index, &t), DISTAC_ESHAPE, "28", NULL);
    distac_dataset_release(pictures);
    distac_dataset_release(d);
}

/* The random numbers of a sample are what they claim to be. */
static void dice_are_fair(void **state) {
    (void)state;
    double sum = 0, square = 0, uniform = 0;
    int count[6] = {0}, chance = 0;
    enum { N = 20000 };
    di_dice dice = di_dice_for(1, 2, 3);
    for (int i = 0; i < N; i++) {
        double v = di_dice_normal(&dice);
        sum += v;
        square += v * v;
        uniform += di_dice_uniform(&dice, -1, 3);
        count[di_dice_below(&dice, 6)]++;
        chance += di_dice_chance(&dice, 0.25f);
    }
    assert_true(fabs(sum / N) < 0.03 && fabs(square / N - 1) < 0.04 && fabs(uniform / N - 1) < 0.04);
    assert_true(abs(chance - N / 4) < 300);
    for (int k = 0; k < 6; k++) assert_true(abs(count[k] - N / 6) < 250);
    for (int k = -40; k < 40; k++)
        assert_true(fabs(di_sine((float)k / 16) - sin(6.283185307179586 * k / 16)) < 2e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_are_balanced),
        cmocka_unit_test(data_are_the_same_everywhere),
        cmocka_unit_test(splits_differ),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(families_are_in_one_split),
        cmocka_unit_test(a_split_shows_its_own_families_alone),
        cmocka_unit_test(sheets_are_whole),
        cmocka_unit_test(sheets_stack),
        cmocka_unit_test(damaged_sheets_are_refused),
        cmocka_unit_test(memory_limits_are_kept),
        cmocka_unit_test(distortions_are_pure_functions),
        cmocka_unit_test(without_distortion_glyphs_stay),
        cmocka_unit_test(wrong_distortions_are_refused),
        cmocka_unit_test(dice_are_fair),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
