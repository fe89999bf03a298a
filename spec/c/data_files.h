/* data_files.h: what the tests of the data room share: a context, a temporary folder, files of bytes, failures
 * whose text is looked at. */
#ifndef DATA_FILES_H
#define DATA_FILES_H

#include "check.h"
#include "data/data.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAYBE __attribute__((unused)) static

static distac_context *context;
static char folder[] = "/tmp/distac-data-XXXXXX";

MAYBE distac_context *open_context(int32_t threads) {
    distac_context *c = NULL;
    distac_context_desc desc = {.threads = threads};
    OK(distac_context_create(&desc, &c));
    return c;
}

/* A path in the temporary folder; four may be in use at once. */
MAYBE const char *in_folder(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 512, "%s/%s", folder, name);
    return path;
}

MAYBE void write_bytes(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

MAYBE void remove_all(const char *path) {
    distac_strings *names = NULL;
    OK(distac_path_list(path, &names));
    for (int64_t i = 0; i < distac_strings_count(names); i++) {
        char full[1024];
        snprintf(full, sizeof full, "%s/%s", path, distac_strings_get(names, i));
        struct stat info;
        if (lstat(full, &info) == 0 && S_ISDIR(info.st_mode)) remove_all(full);
        remove(full);
    }
    distac_strings_release(names);
    rmdir(path);
}

/* The call failed with this status, and its text names every word. */
MAYBE void failed(distac_status status, distac_status wanted, const char *word, const char *second) {
    assert_int_equal(status, wanted);
    if (!strstr(distac_last_error(), word)) fail_msg("no \"%s\" in: %s", word, distac_last_error());
    if (second && !strstr(distac_last_error(), second)) fail_msg("no \"%s\" in: %s", second, distac_last_error());
}

MAYBE uint32_t draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

MAYBE size_t read_back(const char *path, uint8_t *bytes, size_t room) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, room, file);
    fclose(file);
    return n;
}

MAYBE void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

MAYBE void nothing_leaked(void **state) {
    (void)state;
    distac_context_info info;
    OK(distac_context_get_info(context, &info));
    assert_int_equal(info.memory_used, 0);
}

MAYBE int start(void **state) {
    (void)state;
    context = open_context(2);
    return mkdtemp(folder) ? 0 : -1;
}

MAYBE int stop(void **state) {
    (void)state;
    remove_all(folder);
    distac_context_release(context);
    return 0;
}

#endif
