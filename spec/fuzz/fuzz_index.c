/* fuzz_index.c: the reader of index files (models in several files) on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_index.c ...
 * it searches on its own; built without, main mutates a few seeds, the same way every time:
 *   fuzz_index [ROUNDS] [SEED] */
#define NAME "fuzz_index"
#include "fuzz.h"

#include "io/index.h"

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

static size_t mutate(uint8_t *file, size_t size) {
    size_t at = below(size + 1), count = below(16);
    if (count > size - at) count = size - at;
    switch (below(4)) {
    case 0:
        if (at < size) file[at] = (uint8_t)below(256);
        return size;
    case 1:
        return cut_out(file, size, at, count);
    default: {
        const char *word = words[below(sizeof words / sizeof words[0])];
        return insert(file, size, MAX_BYTES, at, word, strlen(word));
    }
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 200000);
    for (long round = 0; round < rounds; round++) {
        uint8_t body[MAX_BYTES];
        size_t which = below(sizeof seeds / sizeof seeds[0]), size = strlen(seeds[which]);
        memcpy(body, seeds[which], size);
        for (size_t n = round < 3 ? 0 : 1 + below(4); n > 0; n--) size = mutate(body, size);
        try_copy(body, size);
    }
    return finish(rounds);
}

#endif
