/* test_faults.c: every allocation of a small whole job fails in turn: ours and those of libpng, libjpeg, zlib and
 * the C library. What is demanded: sweep.h. DISTAC_FAULTS=all takes every call instead of a sample. */
#include "engine_life.h"

#include <errno.h>

static distac_status whole_job(void *arg, char *digest, char text[512]) {
    (void)arg;
    life one = {.number = 1, .threads = 2};
    live(&one);
    snprintf(digest, 65, "%s", one.digest);
    snprintf(text, 512, "%s", one.text);
    return one.status;
}

static void memory_of_a_job(void **state) {
    (void)state;
    swept((work){.name = "memory of a job", .run = whole_job, .folder = root, .kinds = FAULT_MEMORY | FAULT_MAP,
                 .expected = DISTAC_ENOMEM}, 4);
}

/* ---- threads that cannot be made, a disk that fails */

static void threads_of_a_job(void **state) {
    (void)state;
    swept((work){.name = "threads of a job", .run = whole_job, .folder = root, .kinds = FAULT_THREAD,
                 .expected = DISTAC_ENOMEM}, 2);
}

/* What writes: `out` keeps what it had unless it is whole and new. */
typedef struct writing {
    const char *name, *out;
    distac_status (*write)(distac_context *context, const char *path);
} writing;

static distac_status write_merge(distac_context *context, const char *out) {
    distac_status status;
    char path[256];
    distac_checkpoint *base = NULL, *models[2] = {NULL, NULL};
    distac_merge *merge = NULL;
    STEP(distac_checkpoint_open(context, in_root(path, "base.safetensors"), &base));
    STEP(distac_checkpoint_open(context, in_root(path, "m1.safetensors"), &models[0]));
    STEP(distac_checkpoint_open(context, in_root(path, "m2.safetensors"), &models[1]));
    STEP(distac_merge_create(context, "ties", &merge));
    STEP(distac_merge_files(merge, base, 2, models, out, -1, NULL));
out:
    distac_merge_release(merge);
    distac_checkpoint_release(base);
    distac_checkpoint_release(models[0]);
    distac_checkpoint_release(models[1]);
    return status;
}

static distac_status write_model(distac_context *context, const char *out) {
    distac_status status;
    char path[256];
    distac_checkpoint *base = NULL;
    STEP(distac_checkpoint_open(context, in_root(path, "base.safetensors"), &base));
    STEP(distac_checkpoint_save(base, out, DISTAC_BF16));
out:
    distac_checkpoint_release(base);
    return status;
}

static distac_status write_image(distac_context *context, const char *out) {
    distac_status status;
    distac_image *image = NULL;
    STEP(distac_image_load(context, "spec/golden/images/rgb8.png", 3, &image));
    STEP(distac_image_save(image, out));
out:
    distac_image_release(image);
    return status;
}

static distac_status write_text(distac_context *context, const char *out) {
    static char text[200000];
    (void)context;
    memset(text, 'x', sizeof text);
    return distac_path_write(out, text, sizeof text);
}

static distac_status rename_folder(distac_context *context, const char *out) {
    char path[256];
    distac_status status;
    (void)context;
    STEP(distac_path_make(in_root(path, "new/deep")));
    STEP(distac_path_write(in_root(path, "new/deep/file"), "x", 1));
    STEP(distac_path_rename(in_root(path, "new/deep/file"), out));
out:
    return status;
}

static distac_status write_once(void *arg, char *digest, char text[512]) {
    const writing *w = arg;
    char out[256], before[65] = "", after[65] = "";
    const distac_context_desc settings = {.threads = 2};
    distac_context *context = NULL;
    in_root(out, w->out);
    bool there = distac_path_kind(out) == 1;
    if (there && digest_file(out, before) != DISTAC_OK) return DISTAC_ESTATE;
    distac_status status = distac_context_create(&settings, &context);
    if (status == DISTAC_OK) status = w->write(context, out);
    keep_text(status, text);
    distac_context_release(context);
    faults_end(NULL);
    bool still = distac_path_kind(out) == 1;
    if (still && digest_file(out, after) != DISTAC_OK) return DISTAC_ESTATE;
    snprintf(digest, 65, "%s", after);
    if (status != DISTAC_OK && strcmp(before, after) != 0 && strstr(text, "durable") == NULL) {
        snprintf(text, 512, "the file changed from '%s' to '%s' although: %s", before, after, distac_last_error());
        return DISTAC_ESTATE;
    }
    return status;
}

/* Each file is written over an older one that differs from it. */
static distac_status over_older(void *arg, char *digest, char text[512]) {
    const writing *w = arg;
    char out[256];
    FILE *file = fopen(in_root(out, w->out), "w");
    if (file) {
        fputs("older", file);
        fclose(file);
    }
    return write_once(arg, digest, text);
}

static void failing_disk(void **state) {
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT, EFBIG, EROFS, -1};
    static writing writers[] = {{"merge", "merged.safetensors", write_merge},
                                {"model", "model.safetensors", write_model},
                                {"image", "image.png", write_image},
                                {"text", "text.txt", write_text},
                                {"renaming", "renamed", rename_folder}};
    int bad = 0;
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++)
            for (int onward = 0; onward < 2; onward++) {
                char name[64];
                snprintf(name, sizeof name, "%s, %s", writers[i].name,
                         errors[e] < 0 ? "short writes" : strerror(errors[e]));
                work w = {.name = name, .run = over_older, .arg = &writers[i], .folder = root, .kinds = FAULT_DISK,
                          .error = errors[e], .onward = onward == 1, .expected = DISTAC_EIO};
                bad += sweep(&w, 0);
            }
    assert_int_equal(bad, 0);
}

/* ---- the sweep sees what it is there for */

typedef enum { RIGHT, LEAKS, CRASHES, WRONG_CODE, WRONG_RESULT, LEAVES_A_FILE, NO_TEXT } mistake;

static distac_status planted(void *arg, char *digest, char text[512]) {
    mistake m = *(const mistake *)arg;
    distac_status status = DISTAC_OK;
    char path[256];
    void *volatile a = malloc(100), *volatile b = malloc(200);
    strcpy(digest, "same");
    if (!a || !b) {
        status = DISTAC_ENOMEM;
        strcpy(text, m == NO_TEXT ? "" : "planted: no memory");
        if (m == CRASHES && !b) *(volatile char *)b = 1;
        if (m == WRONG_CODE) status = DISTAC_EIO;
        if (m == WRONG_RESULT) {
            status = DISTAC_OK;
            strcpy(digest, "other");
        }
        if (m == LEAVES_A_FILE) fclose(fopen(in_root(path, ".x.1.0.distac-tmp"), "w"));
    }
    if (m != LEAKS || b) free(a);
    free(b);
    return status;
}

static void planted_mistakes(void **state) {
    (void)state;
    printf("  (the next lines are planted mistakes)\n");
    for (mistake m = RIGHT; m <= NO_TEXT; m++) {
        work w = {.name = "planted", .run = planted, .arg = &m, .folder = root, .kinds = FAULT_MEMORY,
                  .expected = DISTAC_ENOMEM};
        int bad = sweep(&w, 0);
        if ((bad > 0) != (m != RIGHT)) fail_msg("mistake %d: %d bad outcomes", (int)m, bad);
        char path[256];
        unlink(in_root(path, ".x.1.0.distac-tmp"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_mistakes),
        cmocka_unit_test(memory_of_a_job),
        cmocka_unit_test(threads_of_a_job),
        cmocka_unit_test(failing_disk),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
