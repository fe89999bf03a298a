/* fuzz_index.c: the reader of index files (models in several files) on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_index.c ...
 * it searches on its own; built without, main mutates a few seeds, the same way every time:
 *   fuzz_index [ROUNDS] [SEED] */
#include "io/index.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long accepted, refused;

static void broken(const char *what) {
    fprintf(stderr, "fuzz_index: %s\n", what);
    abort();
}

/* What the reader promises about an index that it accepts: its file names cannot leave the folder. */
static void check(const di_index *index) {
    if (index->count < 1 || index->shard_count < 1) broken("an empty index");
    if (index->total < -1) broken("a negative size");
    for (int64_t i = 0; i < index->count; i++) {
        if (index->items[i].shard < 0 || index->items[i].shard >= index->shard_count)
            broken("a shard out of range");
        if (i > 0 && strcmp(index->items[i - 1].name, index->items[i].name) >= 0) broken("names are not sorted");
    }
    for (int32_t i = 0; i < index->shard_count; i++) {
        const char *name = index->shards[i];
        size_t length = strlen(name);
        if (length > DI_SHARD_NAME || strchr(name, '/') || strchr(name, '\\') || name[0] == '.')
            broken("a file name that is none");
        if (length < 12 || strcmp(name + length - 12, ".safetensors") != 0) broken("another ending");
        if (i > 0 && strcmp(index->shards[i - 1], name) >= 0) broken("files are not sorted");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    di_index index;
    distac_status status = di_index_parse("fuzz.json", data, size, ".safetensors", &index);
    if (status == DISTAC_OK) {
        check(&index);
        di_index_close(&index);
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT || !strstr(distac_last_error(), "fuzz.json")) broken(distac_last_error());
        refused++;
    }
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 4096 };

static const char *const seeds[] = {
    "{\"weight_map\":{\"a\":\"m.safetensors\"}}",
    "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}",
    ("{\"weight_map\":{\"\\u00e9\":\"x.safetensors\",\"a.b\":\"x.safetensors\"},\"metadata\":{\"total_size\":1.0,"
     "\"k\":[]}}"),
};

static const char *const words[] = {"{",
                                    "}",
                                    "[",
                                    "]",
                                    "\"",
                                    ":",
                                    ",",
                                    "../",
                                    "/",
                                    "\\\\",
                                    ".",
                                    "\\u0000",
                                    "\\u002f",
                                    ".safetensors",
                                    "\"weight_map\":",
                                    "\"metadata\":{}",
                                    "\"total_size\":",
                                    "-1",
                                    "1e308",
                                    "9223372036854775807",
                                    "null",
                                    "\"a\":\"m.safetensors\",",
                                    "\xff",
                                    "\xC3\xA9",
                                    "\\n",
                                    " "};

static uint64_t random_state;
static size_t below(size_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return bound ? (size_t)(random_state >> 11) % bound : 0;
}

static size_t mutate(uint8_t *file, size_t size) {
    size_t at = below(size + 1), count = below(16);
    if (count > size - at) count = size - at;
    switch (below(4)) {
    case 0:
        if (at < size) file[at] = (uint8_t)below(256);
        return size;
    case 1:
        memmove(file + at, file + at + count, size - at - count);
        return size - count;
    default: {
        const char *word = words[below(sizeof words / sizeof words[0])];
        size_t n = strlen(word);
        if (size + n > MAX_BYTES) return size;
        memmove(file + at + n, file + at, size - at);
        memcpy(file + at, word, n);
        return size + n;
    }
    }
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 200000;
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252u;
    for (long round = 0; round < rounds; round++) {
        uint8_t body[MAX_BYTES];
        size_t which = below(sizeof seeds / sizeof seeds[0]), size = strlen(seeds[which]);
        memcpy(body, seeds[which], size);
        for (size_t n = round < 3 ? 0 : 1 + below(4); n > 0; n--) size = mutate(body, size);
        /* Exactly as large as the file, so that a sanitizer sees the first byte too many. */
        uint8_t *file = malloc(size ? size : 1);
        if (!file) broken("out of memory");
        memcpy(file, body, size);
        LLVMFuzzerTestOneInput(file, size);
        free(file);
    }
    printf("%ld files: %ld accepted, %ld refused\n", rounds, accepted, refused);
    if (rounds > 1000 && (accepted == 0 || refused == 0)) broken("one side was never seen");
    return 0;
}

#endif
