/* test_loader.c: loaders that crop and read ahead: the same batches for any number of workers, clean ends, errors
 * on the batch that they belong to, forks. */
#include "data_files.h"

#include <fcntl.h>
#include <sys/wait.h>

enum { FILES = 23, SIZE = 12, BATCH = 5 };

/* Pictures of odd sizes with noise in them, in two class folders. */
static void make_files(const char *name) {
    uint32_t seed = 7;
    for (int i = 0; i < FILES; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%d", name, i % 2);
        OK(distac_path_make(in_folder(path)));
        snprintf(path, sizeof path, "%s/%d/%02d.png", name, i % 2, i);
        distac_image *image = NULL;
        OK(di_image_new(context, 13 + i, 40 - i, 3, &image));
        for (size_t k = 0; k < image->bytes; k++) image->pixels[k] = (uint8_t)draw(&seed);
        OK(distac_image_save(image, in_folder(path)));
        distac_image_release(image);
    }
}

static distac_dataset *open_files(distac_context *c, const char *name) {
    distac_dataset *d = NULL;
    OK(di_folder_open(c, in_folder(name), SIZE, 3, 0, &d));
    assert_null(d->samples->pixels);
    return d;
}

static distac_loader *open_loader(distac_dataset *d, bool crops, int32_t workers, int32_t ahead) {
    distac_loader *l = NULL;
    distac_crop_desc desc = {.scale_min = 0.3, .scale_max = 0.8};
    OK(distac_loader_create(d, BATCH, 11, &l));
    if (crops) OK(distac_loader_crops(l, &desc));
    OK(distac_loader_workers(l, workers, ahead));
    return l;
}

static void same_batch(distac_loader *a, distac_loader *b, int64_t step) {
    distac_tensor *x = NULL, *y = NULL;
    OK(distac_loader_images(a, step, &x));
    OK(distac_loader_images(b, step, &y));
    assert_memory_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
    distac_tensor_release(x);
    distac_tensor_release(y);
}

static void workers_change_nothing(void **state) {
    (void)state;
    make_files("loaded");
    distac_dataset *d = open_files(context, "loaded");
    static const int64_t steps[] = {0, 1, 2, 3, 4, 5, 5, 4, 9, 10, 11, 3, 100, 101, 0};
    for (int crops = 0; crops < 2; crops++) {
        for (int32_t workers = 1; workers <= 5; workers += 2) {
            for (int32_t ahead = 1; ahead <= 3; ahead++) {
                distac_loader *plain = open_loader(d, crops, 0, 1), *read = open_loader(d, crops, workers, ahead);
                for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) same_batch(plain, read, steps[i]);
                distac_loader_release(plain);
                distac_loader_release(read); /* in the middle of work */
            }
        }
    }
    distac_dataset_release(d);
}

static void crops_are_of_the_originals(void **state) {
    (void)state;
    distac_dataset *lazy = open_files(context, "loaded"), *kept = NULL;
    OK(distac_dataset_folder(context, in_folder("loaded"), SIZE, 3, &kept));
    assert_non_null(kept->samples->pixels);
    distac_loader *a = open_loader(lazy, true, 0, 1), *b = open_loader(kept, true, 2, 2),
                  *c = open_loader(kept, false, 0, 1);
    for (int64_t step = 0; step < 6; step++) same_batch(a, b, step);
    /* the crop of sample 0 in batch 0 is a random crop of its file */
    distac_tensor *x = NULL, *y = NULL, *indices = NULL;
    OK(distac_loader_images(a, 0, &x));
    OK(distac_loader_images(c, 0, &y));
    assert_memory_not_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
    OK(distac_loader_indices(a, 0, &indices));
    int64_t first = ((int64_t *)indices->data)[0];
    distac_tensor_release(x);
    /* another epoch, another crop of the same sample: found again, pixels differ */
    OK(distac_loader_images(a, 0, &x));
    bool met = false;
    for (int64_t step = FILES / BATCH; step < 2 * (FILES / BATCH) && !met; step++) {
        distac_tensor *later = NULL, *z = NULL;
        OK(distac_loader_indices(a, step, &later));
        OK(distac_loader_images(a, step, &z));
        for (int i = 0; i < BATCH && !met; i++) {
            size_t n = 3 * SIZE * SIZE;
            if (((int64_t *)later->data)[i] != first) continue;
            met = true;
            assert_memory_not_equal(x->data, (float *)z->data + (size_t)i * n, n * sizeof(float));
        }
        distac_tensor_release(later);
        distac_tensor_release(z);
    }
    assert_true(met);
    OK(distac_loader_crops(a, NULL)); /* no longer */
    same_batch(a, c, 0);
    distac_tensor_release(x);
    distac_tensor_release(y);
    distac_tensor_release(indices);
    distac_loader_release(a);
    distac_loader_release(b);
    distac_loader_release(c);
    distac_dataset_release(lazy);
    distac_dataset_release(kept);
}

static void a_failure_belongs_to_its_batch(void **state) {
    (void)state;
    make_files("broken");
    write_bytes(in_folder("broken/1/05.png"), "broken", 6);
    distac_dataset *d = open_files(context, "broken");
    distac_loader *plain = open_loader(d, true, 0, 1), *read = open_loader(d, true, 3, 4);
    int failures = 0;
    for (int64_t step = 0; step < 12; step++) {
        distac_tensor *x = NULL, *y = NULL;
        distac_status a = distac_loader_images(plain, step, &x);
        distac_status b = distac_loader_images(read, step, &y);
        assert_int_equal(a, b);
        if (a == DISTAC_OK) {
            assert_memory_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
        } else {
            failed(b, DISTAC_EFORMAT, "broken/1/05.png", NULL);
            failures++;
        }
        distac_tensor_release(x);
        distac_tensor_release(y);
    }
    assert_in_range(failures, 2, 3); /* once in an epoch of four batches, unless it is dropped there */
    distac_loader_release(plain);
    distac_loader_release(read);
    distac_dataset_release(d);
}

static void cancel_ends_a_wait(void **state) {
    (void)state;
    distac_context *c = open_context(1);
    distac_dataset *d = open_files(c, "loaded");
    distac_loader *l = open_loader(d, false, 2, 2);
    distac_tensor *x = NULL;
    distac_cancel(c);
    failed(distac_loader_images(l, 0, &x), DISTAC_ECANCELED, "cancel", NULL);
    distac_cancel_clear(c);
    OK(distac_loader_images(l, 0, &x));
    distac_tensor_release(x);
    distac_loader_release(l);
    distac_dataset_release(d);
    distac_context_release(c);
}

static void memory_is_counted(void **state) {
    (void)state;
    distac_dataset *d = open_files(context, "loaded");
    distac_context_info before, after;
    OK(distac_context_get_info(context, &before));
    distac_loader *l = open_loader(d, false, 2, 3);
    OK(distac_context_get_info(context, &after));
    assert_int_equal(after.memory_used - before.memory_used, 3 * BATCH * 3 * SIZE * SIZE);
    failed(distac_loader_workers(l, -1, 2), DISTAC_EINVAL, "-1 workers", NULL);
    failed(distac_loader_workers(l, 1, 0), DISTAC_EINVAL, "0 batches", NULL);
    failed(distac_loader_workers(l, 1000, 2), DISTAC_EINVAL, "1000 workers", NULL);
    distac_crop_desc desc = {.scale_min = -1, .scale_max = 1};
    failed(distac_loader_crops(l, &desc), DISTAC_EINVAL, "scale", NULL);
    distac_loader_release(l);
    distac_dataset_release(d);
}

/* ---- packs ---- */

static void same_pixels(distac_dataset *a, distac_dataset *b) {
    distac_tensor *x = NULL, *y = NULL;
    assert_int_equal(a->size, b->size);
    OK(distac_dataset_images(a, 0, a->size, &x));
    OK(distac_dataset_images(b, 0, b->size, &y));
    assert_memory_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
    distac_tensor_release(x);
    distac_tensor_release(y);
}

/* The one pack in a folder. */
static void pack_path(const char *name, char path[512]) {
    distac_strings *names = NULL;
    OK(distac_path_list(in_folder(name), &names));
    assert_int_equal(distac_strings_count(names), 1);
    snprintf(path, 512, "%s/%s", in_folder(name), distac_strings_get(names, 0));
    distac_strings_release(names);
}

static void packs_hold_the_same_pixels(void **state) {
    (void)state;
    distac_dataset *plain = open_files(context, "loaded");
    for (int originals = 0; originals < 2; originals++) {
        const char *folder_name = originals ? "packs/originals" : "packs/fitted";
        distac_cache_desc desc = {.originals = originals};
        for (int run = 0; run < 3; run++) {
            distac_dataset *d = open_files(context, "loaded");
            distac_cache_info info;
            distac_strings *before = NULL, *after = NULL;
            OK(distac_dataset_fingerprint(d, &before));
            OK(distac_dataset_cache(d, in_folder(folder_name), &desc, &info));
            OK(distac_dataset_fingerprint(d, &after));
            assert_string_equal(distac_strings_get(before, 0), distac_strings_get(after, 0));
            distac_strings_release(before);
            distac_strings_release(after);
            assert_int_equal(info.samples, FILES);
            assert_int_equal(info.reused, run > 0);
            if (!originals) assert_int_equal(info.bytes, 16 + FILES * (3 * SIZE * SIZE + 24) + 64);
            assert_non_null(d->samples->packs[originals]);
            same_pixels(plain, d);
            distac_loader *a = open_loader(plain, true, 0, 1), *b = open_loader(d, true, 2, 2);
            for (int64_t step = 0; step < 5; step++) same_batch(a, b, step);
            distac_loader_release(a);
            distac_loader_release(b);
            distac_dataset_release(d);
        }
    }
    distac_dataset_release(plain);
}

static void packed_images_are_not_decoded_again(void **state) {
    (void)state;
    make_files("vanish");
    distac_dataset *plain = open_files(context, "vanish"), *d = NULL, *part = NULL;
    distac_cache_info info;
    distac_tensor *x = NULL, *y = NULL;
    OK(distac_dataset_subset(plain, 4, (int64_t[]){20, 3, 3, 11}, &d));
    OK(distac_dataset_cache(d, in_folder("packs/part"), NULL, &info));
    assert_int_equal(info.samples, 4);
    OK(distac_dataset_images(plain, 3, 1, &x));
    remove_all(in_folder("vanish")); /* no file is there any more */
    OK(distac_dataset_images(d, 2, 1, &y));
    assert_memory_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
    distac_tensor_release(y);
    OK(distac_dataset_subset(d, 1, (int64_t[]){1}, &part)); /* views share the pack */
    OK(distac_dataset_images(part, 0, 1, &y));
    assert_memory_equal(x->data, y->data, (size_t)x->numel * sizeof(float));
    distac_tensor_release(y);
    failed(distac_dataset_images(plain, 3, 1, &y), DISTAC_ENOTFOUND, "vanish", NULL);
    distac_tensor_release(x);
    distac_dataset_release(part);
    distac_dataset_release(d);
    distac_dataset_release(plain);
}

static void damaged_packs_are_made_again(void **state) {
    (void)state;
    static uint8_t bytes[65536], changed[65536];
    char path[512];
    distac_dataset *plain = open_files(context, "loaded");
    pack_path("packs/fitted", path);
    size_t n = read_back(path, bytes, sizeof bytes);
    size_t index = 16 + FILES * 3 * SIZE * SIZE;
    const size_t places[] = {0, 15, index, index + 9, index + 23, n - 64, n - 40, n - 1}; /* not pixels */
    for (size_t k = 0; k < 3 + sizeof places / sizeof *places; k++) {
        size_t length = k == 0 ? 0 : k == 1 ? 70 : k == 2 ? n - 1 : n;
        memcpy(changed, bytes, n);
        if (k >= 3) changed[places[k - 3]] ^= 0x10;
        write_bytes(path, changed, length);
        distac_dataset *d = open_files(context, "loaded");
        distac_cache_info info;
        OK(distac_dataset_cache(d, in_folder("packs/fitted"), NULL, &info));
        assert_int_equal(info.reused, 0);
        same_pixels(plain, d);
        distac_dataset_release(d);
        assert_int_equal(read_back(path, changed, sizeof changed), n);
        assert_memory_equal(bytes, changed, n); /* byte for byte as before */
    }
    bytes[16 + 100] ^= 1; /* damaged pixels are seen when they are used: the file is decoded */
    write_bytes(path, bytes, n);
    distac_dataset *d = open_files(context, "loaded");
    distac_cache_info info;
    OK(distac_dataset_cache(d, in_folder("packs/fitted"), NULL, &info));
    assert_int_equal(info.reused, 1);
    same_pixels(plain, d);
    distac_dataset_release(d);
    distac_dataset_release(plain);
}

static void packs_stay_within_their_limit(void **state) {
    (void)state;
    distac_dataset *plain = open_files(context, "loaded"), *d = open_files(context, "loaded");
    for (int originals = 0; originals < 2; originals++) {
        distac_cache_desc desc = {.originals = originals, .limit = 4000};
        distac_cache_info info;
        OK(distac_dataset_cache(d, in_folder("packs/small"), &desc, &info));
        assert_true(info.bytes <= 4000 && info.samples > 0 && info.samples < FILES);
        same_pixels(plain, d);
    }
    /* a changed file is another pack */
    distac_cache_info info;
    char path[600];
    OK(distac_dataset_cache(d, in_folder("packs/times"), NULL, &info));
    snprintf(path, sizeof path, "%s/0/00.png", in_folder("loaded"));
    struct stat was;
    assert_int_equal(stat(path, &was), 0);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = was.st_mtim.tv_sec - 5}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    OK(distac_dataset_cache(d, in_folder("packs/times"), NULL, &info));
    assert_int_equal(info.reused, 0);
    distac_dataset_release(plain);
    distac_dataset_release(d);
}

static void unreadable_files_are_named(void **state) {
    (void)state;
    distac_dataset *d = open_files(context, "broken"); /* 1/05.png is six letters */
    uint8_t bytes[16384];
    char path[600];
    snprintf(path, sizeof path, "%s/0/10.png", in_folder("broken"));
    size_t n = read_back(path, bytes, sizeof bytes);
    write_bytes(path, bytes, n - 30); /* cut */
    snprintf(path, sizeof path, "%s/0/12.png", in_folder("broken"));
    n = read_back(path, bytes, sizeof bytes);
    bytes[n / 2] ^= 0xff; /* only decoding sees it */
    write_bytes(path, bytes, n);
    for (int decode = 0; decode < 2; decode++) {
        distac_strings *list = NULL;
        int64_t unreadable = -1;
        OK(distac_dataset_verify(d, decode, 10, &list, &unreadable));
        assert_int_equal(unreadable, decode ? 3 : 2);
        assert_int_equal(distac_strings_count(list), unreadable);
        assert_non_null(strstr(distac_strings_get(list, 0), "0/10.png"));
        assert_non_null(strstr(distac_strings_get(list, unreadable - 1), "1/05.png"));
        distac_strings_release(list);
        OK(distac_dataset_verify(d, decode, 1, &list, &unreadable));
        assert_int_equal(distac_strings_count(list), 1);
        distac_strings_release(list);
    }
    assert_non_null(strstr(distac_dataset_file(d, 0), "broken/0/00.png"));
    assert_null(distac_dataset_file(d, FILES));
    distac_dataset_release(d);
}

/* The sanitizers cannot fork a process with threads: the thread sanitizer does not follow, the address sanitizer's
 * allocator stays locked in the child where a thread was in it. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define FORKS
static void a_child_reads_on(void **state) {
    (void)state;
    distac_dataset *d = open_files(context, "loaded");
    distac_loader *plain = open_loader(d, true, 0, 1), *read = open_loader(d, true, 3, 3);
    for (int round = 0; round < 10; round++) {
        same_batch(plain, read, round);
        pid_t child = fork();
        if (child == 0) {
            alarm(20); /* a child that hangs ends, and is seen */
            for (int64_t step = round; step < round + 3; step++) {
                distac_tensor *x = NULL, *y = NULL;
                if (distac_loader_images(plain, step, &x) || distac_loader_images(read, step, &y) ||
                    memcmp(x->data, y->data, (size_t)x->numel * sizeof(float)) != 0)
                    _exit(1);
                distac_tensor_release(x);
                distac_tensor_release(y);
            }
            distac_loader_release(read);
            _exit(0);
        }
        int status = -1;
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    distac_loader_release(plain);
    distac_loader_release(read);
    distac_dataset_release(d);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_change_nothing),
        cmocka_unit_test(crops_are_of_the_originals),
        cmocka_unit_test(a_failure_belongs_to_its_batch),
        cmocka_unit_test(cancel_ends_a_wait),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(packs_hold_the_same_pixels),
        cmocka_unit_test(packed_images_are_not_decoded_again),
        cmocka_unit_test(damaged_packs_are_made_again),
        cmocka_unit_test(packs_stay_within_their_limit),
        cmocka_unit_test(unreadable_files_are_named),
#if defined(FORKS)
        cmocka_unit_test(a_child_reads_on),
#endif
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
