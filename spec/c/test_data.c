/* test_data.c: folders of images, data sets, their views and hashes, loaders. */
#include "data_files.h"

/* ---- folders ---- */

static void save_grey(const char *name, uint8_t value, int width, int height) {
    distac_image *image = NULL;
    OK(di_image_new(context, width, height, 1, &image));
    memset(image->pixels, value, image->bytes);
    OK(distac_image_save(image, in_folder(name)));
    distac_image_release(image);
}

static void folders_become_classes(void **state) {
    (void)state;
    static const char *const classes[] = {"set/b", "set/a", "set/c"};
    for (int c = 0; c < 3; c++) {
        OK(distac_path_make(in_folder(classes[c])));
        for (int i = 0; i < 4; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s/%d.%s", classes[c], i, i % 2 ? "PNG" : "png");
            save_grey(name, (uint8_t)(50 * c + i), 9 + i, 12);
        }
    }
    write_bytes(in_folder("set/readme.txt"), "x", 1);
    write_bytes(in_folder("set/a/.hidden.png"), "x", 1);
    distac_dataset *kept = NULL, *lazy = NULL;
    OK(distac_dataset_folder(context, in_folder("set"), 6, 3, &kept));
    OK(di_folder_open(context, in_folder("set"), 6, 3, 100, &lazy));
    assert_non_null(kept->samples->pixels);
    assert_null(lazy->samples->pixels);
    assert_int_equal(distac_dataset_size(kept), 12);
    assert_int_equal(distac_dataset_classes(kept), 3);
    assert_string_equal(distac_dataset_class_name(kept, 0), "a");
    assert_string_equal(distac_dataset_class_name(kept, 2), "c");
    distac_tensor *x = NULL, *y = NULL, *labels = NULL;
    OK(distac_dataset_images(kept, 0, 12, &x));
    OK(distac_dataset_images(lazy, 0, 12, &y));
    assert_memory_equal(x->data, y->data, 12 * 3 * 36 * sizeof(float));
    OK(distac_dataset_labels(kept, 0, 12, &labels));
    for (int i = 0; i < 12; i++) {
        static const int order[] = {1, 0, 2};
        assert_int_equal(((int64_t *)labels->data)[i], i / 4);
        assert_true(fabs(((float *)x->data)[i * 108] - (float)(50 * order[i / 4] + i % 4) / 255.0f) <= 1e-7);
    }
    distac_strings *a = NULL, *b = NULL;
    OK(distac_dataset_hash(kept, &a));
    OK(distac_dataset_hash(lazy, &b));
    assert_string_equal(distac_strings_get(a, 0), distac_strings_get(b, 0));
    distac_strings_release(a);
    distac_strings_release(b);
    distac_tensor_release(x);
    distac_tensor_release(y);
    distac_tensor_release(labels);
    distac_dataset_release(kept);
    distac_dataset_release(lazy);
    OK(distac_dataset_folder(context, in_folder("set/b"), 4, 1, &kept)); /* flat: no labels */
    assert_int_equal(distac_dataset_labelled(kept), 0);
    assert_int_equal(distac_dataset_size(kept), 4);
    distac_dataset_release(kept);
}

static void folder_mistakes_are_named(void **state) {
    (void)state;
    distac_dataset *d = NULL;
    failed(distac_dataset_folder(context, in_folder("absent"), 4, 1, &d), DISTAC_EIO, "absent", NULL);
    failed(distac_dataset_folder(context, in_folder("set"), 0, 1, &d), DISTAC_EINVAL, "size 0", NULL);
    failed(distac_dataset_folder(context, in_folder("set"), 4, 2, &d), DISTAC_EINVAL, "channels 2", NULL);
    OK(distac_path_make(in_folder("none/void")));
    failed(distac_dataset_folder(context, in_folder("none"), 4, 1, &d), DISTAC_EFORMAT, "none/void", NULL);
    failed(distac_dataset_folder(context, in_folder("none/void"), 4, 1, &d), DISTAC_EFORMAT, "no PNG, JPEG", NULL);
    save_grey("none/beside.png", 1, 4, 4);
    failed(distac_dataset_folder(context, in_folder("none"), 4, 1, &d), DISTAC_EFORMAT, "both images and folders",
           NULL);
    write_bytes(in_folder("set/c/photo.webp"), "x", 1);
    failed(distac_dataset_folder(context, in_folder("set"), 4, 1, &d), DISTAC_EUNSUPPORTED, "photo.webp", NULL);
    remove(in_folder("set/c/photo.webp"));
    write_bytes(in_folder("set/b/1.PNG"), "broken", 6);
    write_bytes(in_folder("set/c/3.PNG"), "broken", 6);
    for (int threads = 1; threads <= 8; threads++) { /* the first broken file is named, whoever meets one first */
        distac_context *c = open_context(threads);
        failed(distac_dataset_folder(c, in_folder("set"), 4, 1, &d), DISTAC_EFORMAT, "set/b/1.PNG", NULL);
        distac_context_release(c);
    }
}

/* ---- data sets ---- */

/* n samples of 1 x 2 x 2: sample i has the pixels i, i+1, i+2, i+3 and the label i modulo classes. */
static distac_dataset *numbered(distac_context *c, int64_t n, int64_t classes) {
    distac_tensor *images = NULL, *labels = NULL;
    distac_dataset *d = NULL;
    OK(distac_tensor_create(c, DISTAC_U8, 4, (int64_t[]){n, 1, 2, 2}, &images));
    OK(distac_tensor_create(c, DISTAC_I64, 1, &n, &labels));
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++) ((uint8_t *)images->data)[4 * i + k] = (uint8_t)(i + k);
        ((int64_t *)labels->data)[i] = i % classes;
    }
    OK(distac_dataset_create(images, labels, classes, &d));
    memset(images->data, 0, (size_t)n * 4); /* the data set has its own copy */
    distac_tensor_release(images);
    distac_tensor_release(labels);
    return d;
}

static void hash_of(const distac_dataset *d, char out[65]) {
    distac_strings *s = NULL;
    OK(distac_dataset_hash(d, &s));
    assert_int_equal(strlen(distac_strings_get(s, 0)), 64);
    memcpy(out, distac_strings_get(s, 0), 65);
    distac_strings_release(s);
}

static void views_share_pixels(void **state) {
    (void)state;
    distac_dataset *d = numbered(context, 50, 7), *part = NULL, *half = NULL;
    const double mean = 0.5, std = 0.25;
    OK(distac_dataset_normalize(d, 1, &mean, 1, &std));
    OK(distac_dataset_subset(d, 4, (int64_t[]){49, 3, 3, 10}, &part));
    OK(distac_dataset_subset(part, 2, (int64_t[]){3, 0}, &half)); /* a view of a view */
    distac_dataset_release(d);
    distac_tensor *x = NULL, *y = NULL;
    OK(distac_dataset_images(half, 0, 2, &x));
    OK(distac_dataset_labels(half, 0, 2, &y));
    static const int from[] = {10, 49};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(((int64_t *)y->data)[i], from[i] % 7);
        for (int k = 0; k < 4; k++)
            assert_true(fabs(((float *)x->data)[4 * i + k] - ((from[i] + k) / 255.0 - 0.5) / 0.25) <= 1e-6);
    }
    distac_tensor_release(x);
    distac_tensor_release(y);
    failed(distac_dataset_subset(part, 1, (int64_t[]){4}, &d), DISTAC_EINVAL, "index 4", NULL);
    failed(distac_dataset_images(part, 2, 3, &x), DISTAC_EINVAL, "data set of 4", NULL);
    failed(distac_dataset_images(part, INT64_MAX, 2, &x), DISTAC_EINVAL, "data set of 4", NULL);
    failed(distac_dataset_labels(part, -1, 2, &x), DISTAC_EINVAL, "data set of 4", NULL);
    failed(distac_dataset_normalize(part, 1, &mean, 1, (double[]){0}), DISTAC_EINVAL, "deviation", NULL);
    failed(distac_dataset_normalize(part, 1, (double[]){NAN}, 1, &std), DISTAC_EINVAL, "nan", NULL);
    failed(distac_dataset_normalize(part, 2, &mean, 1, &std), DISTAC_ESHAPE, "1 channels", NULL);
    distac_dataset_release(part);
    distac_dataset_release(half);
}

static void hashes_see_everything(void **state) {
    (void)state;
    distac_dataset *d = numbered(context, 20, 5), *same = numbered(context, 20, 5),
                   *other = numbered(context, 20, 4);
    distac_dataset *part = NULL;
    char a[65], b[65];
    hash_of(d, a);
    hash_of(same, b);
    assert_string_equal(a, b);
    hash_of(other, b);
    assert_string_not_equal(a, b);
    OK(distac_dataset_subset(
        d, 20, (int64_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 18}, &part));
    hash_of(part, b);
    assert_string_not_equal(a, b);
    OK(distac_dataset_normalize(same, 1, (double[]){0.25}, 1, (double[]){1}));
    hash_of(same, b);
    assert_string_not_equal(a, b);
    distac_dataset_release(d);
    distac_dataset_release(same);
    distac_dataset_release(other);
    distac_dataset_release(part);
}

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    distac_tensor *images = NULL, *labels = NULL, *floats = NULL;
    distac_dataset *d = NULL;
    OK(distac_tensor_create(context, DISTAC_U8, 4, (int64_t[]){3, 1, 2, 2}, &images));
    OK(distac_tensor_create(context, DISTAC_F32, 4, (int64_t[]){3, 1, 2, 2}, &floats));
    OK(distac_tensor_create(context, DISTAC_I64, 1, (int64_t[]){3}, &labels));
    failed(distac_dataset_create(floats, labels, 2, &d), DISTAC_EDTYPE, "f32", NULL);
    failed(distac_dataset_create(images, floats, 2, &d), DISTAC_EDTYPE, "labels", NULL);
    failed(distac_dataset_create(labels, labels, 2, &d), DISTAC_EDTYPE, "i64", NULL);
    ((int64_t *)labels->data)[1] = 2;
    failed(distac_dataset_create(images, labels, 2, &d), DISTAC_EINVAL, "label 2 of sample 1", NULL);
    failed(distac_dataset_create(images, labels, -1, &d), DISTAC_EINVAL, "-1 classes", NULL);
    distac_tensor *two = NULL;
    OK(distac_tensor_create(context, DISTAC_I64, 1, (int64_t[]){2}, &two));
    failed(distac_dataset_create(images, two, 2, &d), DISTAC_ESHAPE, "[2]", "[3]");
    distac_tensor_release(two);
    distac_tensor_release(images);
    distac_tensor_release(labels);
    distac_tensor_release(floats);
}

/* ---- loaders ---- */

static void epochs_visit_everything_once(void **state) {
    (void)state;
    distac_dataset *d = numbered(context, 103, 10);
    distac_loader *l = NULL;
    OK(distac_loader_create(d, 10, 77, &l));
    int same_place = 0;
    int64_t first[100];
    for (int64_t epoch = 0; epoch < 5; epoch++) {
        int seen[103] = {0};
        for (int64_t k = 0; k < 10; k++) {
            distac_tensor *t = NULL, *x = NULL, *y = NULL;
            OK(distac_loader_indices(l, epoch * 10 + k, &t));
            OK(distac_loader_images(l, epoch * 10 + k, &x));
            OK(distac_loader_labels(l, epoch * 10 + k, &y));
            for (int i = 0; i < 10; i++) {
                int64_t at = ((int64_t *)t->data)[i];
                assert_in_range(at, 0, 102);
                assert_int_equal(seen[at]++, 0);
                assert_int_equal(((int64_t *)y->data)[i], at % 10);
                assert_true(fabs(((float *)x->data)[4 * i] - (float)at / 255.0f) <= 1e-7);
                if (epoch == 0) first[k * 10 + i] = at;
                if (epoch == 1 && first[k * 10 + i] == at) same_place++;
            }
            distac_tensor_release(t);
            distac_tensor_release(x);
            distac_tensor_release(y);
        }
    }
    assert_in_range(same_place, 0, 10); /* about 1 of 100 by chance: epochs are shuffled anew */
    failed(distac_loader_indices(l, -1, NULL), DISTAC_EINVAL, "", NULL);
    distac_loader_release(l);
    OK(distac_loader_create(d, 1000, 77, &l)); /* more than there are */
    distac_tensor *t = NULL;
    OK(distac_loader_indices(l, 3, &t));
    assert_int_equal(distac_tensor_numel(t), 103);
    distac_tensor_release(t);
    distac_loader_release(l);
    failed(distac_loader_create(d, 0, 1, &l), DISTAC_EINVAL, "batch 0", NULL);
    distac_dataset_release(d);
}

static void batches_depend_on_seed_and_step_alone(void **state) {
    (void)state;
    float want[6][16 * 4];
    for (int threads = 1; threads <= 8; threads++) {
        distac_context *c = open_context(threads);
        distac_dataset *d = numbered(c, 100, 10);
        distac_loader *l = NULL;
        OK(distac_loader_create(d, 16, 5, &l));
        for (int k = 0; k < 6; k++) {
            static const int64_t steps[] = {0, 7, 6, 1000000007, 5, 0};
            int at = threads % 2 ? k : 5 - k; /* in another order */
            distac_tensor *x = NULL;
            OK(distac_loader_images(l, steps[at], &x));
            if (threads == 1)
                memcpy(want[at], x->data, sizeof want[at]);
            else
                assert_memory_equal(want[at], x->data, sizeof want[at]);
            distac_tensor_release(x);
        }
        distac_loader_release(l);
        distac_dataset_release(d);
        distac_context_release(c);
    }
    assert_memory_equal(want[0], want[5], sizeof want[0]);
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    distac_dataset *d = numbered(context, 100, 10);
    distac_loader *l = NULL;
    distac_tensor *x = NULL;
    OK(distac_loader_create(d, 16, 6, &l));
    OK(distac_loader_images(l, 0, &x));
    assert_memory_not_equal(want[0], x->data, sizeof want[0]); /* another seed */
    distac_tensor_release(x);
    distac_loader_release(l);
    distac_dataset_release(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_become_classes),
        cmocka_unit_test(folder_mistakes_are_named),
        cmocka_unit_test(views_share_pixels),
        cmocka_unit_test(hashes_see_everything),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(epochs_visit_everything_once),
        cmocka_unit_test(batches_depend_on_seed_and_step_alone),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
