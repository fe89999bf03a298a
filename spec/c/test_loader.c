/* test_loader.c: loaders that crop and read ahead: the same batches for any number of workers, clean ends, errors
 * on the batch that they belong to, forks. */
#include "data_files.h"

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

/* The thread sanitizer does not follow a fork of a process with threads. */
#if !defined(__SANITIZE_THREAD__)
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
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_child_reads_on),
#endif
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
