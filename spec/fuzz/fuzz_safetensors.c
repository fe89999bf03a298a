/* fuzz_safetensors.c: the safetensors reader on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_safetensors.c ...
 * it searches on its own; built without, main mutates a few seeds, the same way every time:
 *   fuzz_safetensors [ROUNDS] [SEED] */
#define NAME "fuzz_safetensors"
#include "fuzz.h"

#include "io/io.h"

/* What the reader promises about a file that it accepts. */
static void check(const distac_checkpoint *checkpoint, const uint8_t *data, size_t size) {
    int64_t total = 0;
    for (int64_t i = 0; i < checkpoint->count; i++) {
        const di_entry *entry = checkpoint->entries[i];
        double values[256];
        if (i > 0 && strcmp(checkpoint->entries[i - 1]->name, entry->name) >= 0) broken("names are not sorted");
        if (entry->data < data || entry->bytes < 0 || (size_t)(entry->data - data) > size ||
            (size_t)entry->bytes > size - (size_t)(entry->data - data))
            broken("a tensor lies outside the file");
        if (di_type_bytes(entry->type, entry->numel) != entry->bytes) broken("a tensor has the wrong size");
        if (strlen(entry->name) > DI_ST_MAX_NAME) broken("a name is too long");
        total += entry->bytes;
        /* Every byte can be read, at any alignment. */
        int64_t width = entry->type->bits / 8;
        for (int64_t at = 0; di_entry_is_float(entry) && at < entry->numel; at += 256)
            di_to_f64(entry->type->dtype, entry->data + at * width, values,
                      entry->numel - at < 256 ? entry->numel - at : 256);
    }
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
    if ((uint64_t)total != size - 8 - header) broken("bytes belong to no tensor");
    for (int64_t i = 1; i < checkpoint->pair_count; i++)
        if (strcmp(checkpoint->pairs[i - 1].key, checkpoint->pairs[i].key) >= 0) broken("metadata is not sorted");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    distac_context *context = the_context();
    distac_checkpoint *checkpoint;
    if (distac_checkpoint_create(context, &checkpoint) != DISTAC_OK) broken(distac_last_error());
    distac_status status = di_st_parse(checkpoint, data, size);
    if (status == DISTAC_OK) {
        check(checkpoint, data, size);
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT || !strstr(distac_last_error(), "byte ")) broken(distac_last_error());
        refused++;
    }
    distac_checkpoint_release(checkpoint);
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 4096 };

static const char *const seeds[] = {
    "{}",
    "{\"__metadata__\":{\"a\":\"b\",\"c\":\"\\u00e9\"}}  ",
    "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}",
    "{\"a\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]},\"b\":{\"dtype\":\"F4\",\"shape\":[1,4],"
    "\"data_offsets\":[6,8]},\"e\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[8,8]},\"__metadata__\":{}}",
    "{\"x.y\":{\"shape\":[],\"data_offsets\":[0,8],\"dtype\":\"F64\"},\"\\u0077\":{\"dtype\":\"F16\",\"shape\":[1,"
    "2,1],"
    "\"data_offsets\":[8,12]}}",
};
static const size_t seed_data[] = {0, 0, 16, 8, 12};

static const char *const words[] = {"{",
                                    "}",
                                    "[",
                                    "]",
                                    "\"",
                                    ":",
                                    ",",
                                    "0",
                                    "-0",
                                    "1e3",
                                    "null",
                                    "true",
                                    "\\",
                                    "\\u0000",
                                    "\\ud800",
                                    "9223372036854775807",
                                    "281474976710656",
                                    "\"__metadata__\":{}",
                                    "\"w\":",
                                    "\"dtype\":\"F32\"",
                                    "\"shape\":[1]",
                                    "\"data_offsets\":[0,4]",
                                    "\xff",
                                    "\xC3\xA9",
                                    " ",
                                    "\t",
                                    "F8_E8M0",
                                    "C64"};

static size_t mutate(uint8_t *file, size_t size) {
    uint8_t copy[64];
    size_t at = below(size + 1), count = below(24);
    if (count > size - at) count = size - at;
    switch (below(6)) {
    case 0:
        if (at < size) file[at] = (uint8_t)below(256);
        return size;
    case 1:
        if (at < size) file[at] = (uint8_t)(file[at] ^ 1u << below(8));
        return size;
    case 2:
        return cut_out(file, size, at, count);
    case 3:
        memcpy(copy, file + at, count);
        return insert(file, size, MAX_BYTES, below(size + 1), copy, count);
    default: {
        const char *word = words[below(sizeof words / sizeof words[0])];
        return insert(file, size, MAX_BYTES, at, word, strlen(word));
    }
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 200000);
    for (long round = 0; round < rounds; round++) {
        uint8_t file[8 + MAX_BYTES + 32], *body = file + 8;
        size_t which = below(sizeof seeds / sizeof seeds[0]), header = strlen(seeds[which]), size = header;
        memcpy(body, seeds[which], header);
        for (size_t n = round < 5 ? 0 : 1 + below(4); n > 0; n--) size = mutate(body, size);
        uint64_t claimed = below(16) ? size : below(2 * size + 1);
        size_t data = below(16) ? seed_data[which] : below(32);
        for (int i = 0; i < 8; i++) file[i] = (uint8_t)(claimed >> (8 * i));
        memset(body + size, 0x3f, data);
        try_copy(file, below(64) ? 8 + size + data : below(8 + size + data));
    }
    return finish(rounds);
}

#endif
