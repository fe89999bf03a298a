/* fuzz.h: what the fuzz targets share: the engine that they ask, a file that they write, random numbers that are
 * the same every time, edits of bytes, and what a run says. A target defines NAME before it includes this, counts
 * what its reader took and did not, and has a main of its own unless DISTAC_LIBFUZZER is defined. */
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE 1 /* memfd_create */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long accepted, refused;

static inline void broken(const char *what) {
    fprintf(stderr, "%s: %s\n", NAME, what);
    abort();
}

static inline distac_context *the_context(void) {
    static distac_context *context;
    distac_context_desc desc = {.threads = 1, .memory_limit = 64 << 20};
    if (!context && distac_context_create(&desc, &context) != DISTAC_OK) broken(distac_last_error());
    return context;
}

/* Whatever was read has been released. */
static inline void nothing_held(distac_context *context) {
    distac_context_info info;
    if (distac_context_get_info(context, &info) != DISTAC_OK || info.memory_used != 0)
        broken("memory is still held");
}

/* An open file in memory (one on disk would be flushed in every round) and the path that opens it again. */
typedef struct shelf {
    int file;
    char path[64];
} shelf;

static inline void put_on(shelf *s, const uint8_t *data, size_t size) {
    if (!s->path[0]) {
        s->file = memfd_create(NAME, MFD_CLOEXEC);
        if (s->file < 0) broken("no file in memory");
        snprintf(s->path, sizeof s->path, "/proc/self/fd/%d", s->file);
    }
    if (ftruncate(s->file, 0) != 0 || pwrite(s->file, data, size, 0) != (ssize_t)size)
        broken("the file in memory cannot be written");
}

#ifndef DISTAC_LIBFUZZER

static uint64_t random_state;

static inline size_t below(size_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return bound ? (size_t)(random_state >> 11) % bound : 0;
}

/* [ROUNDS] [SEED] of a main; the rounds. */
static inline long begin(int argc, char **argv, long rounds) {
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252u;
    return argc > 1 ? strtol(argv[1], NULL, 10) : rounds;
}

/* The status of a main. A run that took everything, or nothing, has tried nothing. */
static inline int finish(long rounds) {
    printf("%s: %ld rounds, %ld accepted, %ld refused\n", NAME, rounds, accepted, refused);
    if (rounds > 1000 && (accepted == 0 || refused == 0)) broken("one side was never seen");
    return 0;
}

/* The three edits below give the new size. What would not fit is not inserted. */
static inline size_t insert(uint8_t *file, size_t size, size_t room, size_t at, const void *bytes, size_t count) {
    if (size + count > room) return size;
    memmove(file + at + count, file + at, size - at);
    memcpy(file + at, bytes, count);
    return size + count;
}

static inline size_t cut_out(uint8_t *file, size_t size, size_t at, size_t count) {
    memmove(file + at, file + at + count, size - at - count);
    return size - count;
}

/* A few bytes twice. */
static inline size_t stutter(uint8_t *file, size_t size, size_t room, size_t at, size_t count) {
    if (size + count > room) return size;
    memmove(file + at + count, file + at, size - at);
    return size + count;
}

/* A file exactly as large as its bytes, so that a sanitizer sees the first byte too many. */
static inline void try_copy(const uint8_t *file, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) broken("out of memory");
    memcpy(copy, file, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

#endif
#endif
