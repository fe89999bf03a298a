/* st_files.h: what the tests of safetensors files share: a
 * folder, files made of bytes, what must be refused and why. */
#ifndef ST_FILES_H
#define ST_FILES_H

#include "io/io.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>
#include <math.h>
#include <cmocka.h>

#define UNUSED __attribute__((unused))

static char folder[64];
static distac_context *context;

UNUSED static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/distac_st_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    distac_context_desc desc = {.threads = 2};
    return distac_context_create(&desc, &context);
}

UNUSED static int teardown(void **state) {
    (void)state;
    char command[128];
    distac_context_release(context);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

UNUSED static const char *file_named(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

UNUSED static void write_bytes(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

UNUSED static uint8_t *read_bytes(const char *path, size_t *count) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *count = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*count + 1);
    assert_int_equal(fread(bytes, 1, *count, file), *count);
    fclose(file);
    return bytes;
}

/* A file of a claimed header length, a header and data bytes 0, 1, 2, ... */
UNUSED static const char *make(uint64_t claimed, const void *header, size_t length, size_t data) {
    const char *path = file_named("case.safetensors");
    uint8_t *bytes = malloc(8 + length + data);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(claimed >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) bytes[8 + length + i] = (uint8_t)i;
    write_bytes(path, bytes, 8 + length + data);
    free(bytes);
    return path;
}

/* For other programs' tests: DISTAC_KEEP_FILES names a folder for the
 * files of these tests and, beside each that is refused, the reason. */
UNUSED static void keep(const char *path, const char *reason) {
    const char *to = getenv("DISTAC_KEEP_FILES");
    static int count;
    struct stat info;
    if (!to || count >= 150 || (reason && strchr(reason, '/'))) return; /* not every cut and every round trip */
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > 1 << 22) return;
    char name[512];
    size_t bytes;
    uint8_t *content = read_bytes(path, &bytes);
    snprintf(name, sizeof name, "%s/%s-%03d.safetensors", to, reason ? "refused" : "accepted", count);
    write_bytes(name, content, bytes);
    free(content);
    if (reason) {
        snprintf(name, sizeof name, "%s/refused-%03d.reason", to, count);
        write_bytes(name, reason, strlen(reason));
    }
    count++;
}

UNUSED static void must_reject(const char *what, const char *path, const char *reason) {
    distac_checkpoint *checkpoint = NULL;
    distac_status status = distac_checkpoint_open(context, path, &checkpoint);
    if (status != DISTAC_EFORMAT || !strstr(distac_last_error(), reason) || !strstr(distac_last_error(), path))
        fail_msg("%s: expected a refusal with \"%s\", got %s: %s", what, reason, distac_status_name(status),
                 status == DISTAC_OK ? "" : distac_last_error());
    assert_null(checkpoint);
    keep(path, reason);
}

UNUSED static distac_checkpoint *must_open(const char *what, const char *path) {
    distac_checkpoint *checkpoint = NULL;
    if (distac_checkpoint_open(context, path, &checkpoint) != DISTAC_OK)
        fail_msg("%s: expected to open, got %s", what, distac_last_error());
    keep(path, NULL);
    return checkpoint;
}

#endif
