/* fuzz_idx.c: the IDX reader, plain and gzip, on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_idx.c ...
 * it searches on its own; built without, main damages a few files, the same way every time:
 *   fuzz_idx [ROUNDS] [SEED]
 * The same bytes are read as images and as labels. */
#define NAME "fuzz_idx"
#include "fuzz.h"

#include "data/data.h"
#include <zlib.h>

static void try_one(distac_context *context, const char *images, const char *labels, const uint8_t *data,
                    size_t size) {
    distac_dataset *d = NULL;
    distac_status status = distac_dataset_idx(context, images, labels, &d);
    if (status == DISTAC_OK) {
        const di_samples *s = d->samples;
        int64_t bytes = s->count * s->channels * s->height * s->width;
        if (s->pixels->numel != bytes) broken("pixels of the wrong size");
        if (!labels && data[0] == 0 && (int64_t)size != bytes + 4 + 4 * data[3]) broken("bytes belong to nothing");
        for (int64_t i = 0; labels && i < s->count; i++)
            if (s->labels[i] < 0 || s->labels[i] >= s->classes) broken("a label is no class");
        distac_dataset_release(d);
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT && status != DISTAC_ENOMEM) broken(distac_last_error());
        refused++;
    }
    nothing_held(context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static shelf hostile, whole;
    distac_context *context = the_context();
    static const uint8_t three[16 + 3] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 7, 8, 9};
    if (!whole.path[0]) put_on(&whole, three, sizeof three);
    put_on(&hostile, data, size);
    try_one(context, hostile.path, NULL, data, size);
    try_one(context, whole.path, hostile.path, data, size);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 4096 };

static size_t whole_file(uint8_t *file) {
    static const uint8_t width_of[] = {1, 1, 0, 2, 4, 4, 8};
    bool labels = below(3) == 0;
    size_t type = labels ? (size_t) "\0\1\3\4"[below(4)] : below(8) ? 0 : (size_t) "\1\3\4\5\6"[below(5)];
    size_t rank = labels ? 1 : 3 + below(2), bytes = width_of[type];
    memset(file, 0, 4 + 4 * rank);
    file[2] = (uint8_t)(8 + type);
    file[3] = (uint8_t)rank;
    for (size_t d = 0; d < rank; d++) {
        size_t n = labels ? 3 : 1 + below(5);
        file[7 + 4 * d] = (uint8_t)n;
        bytes *= n;
    }
    for (size_t i = 0; i < bytes; i++) file[4 + 4 * rank + i] = (uint8_t)(below(2) ? 0 : below(256));
    return 4 + 4 * rank + bytes;
}

static size_t zip(uint8_t *file, size_t size) {
    uint8_t packed[MAX_BYTES];
    z_stream z = {.next_in = file, .avail_in = (uInt)size, .next_out = packed, .avail_out = sizeof packed};
    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) broken("zlib");
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) broken("zlib");
    deflateEnd(&z);
    memcpy(file, packed, sizeof packed - z.avail_out);
    return sizeof packed - z.avail_out;
}

static size_t damage(uint8_t *file, size_t size) {
    size_t at = below(size), n = 1 + below(9);
    switch (below(5)) {
    case 0:
        file[at] = (uint8_t)below(256);
        return size;
    case 1:
        file[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 2:
        file[below(size < 20 ? size : 20)] = (uint8_t)(below(2) ? 255 : below(16));
        return size;
    case 3:
        return stutter(file, size, MAX_BYTES / 2, at, n);
    default:
        return below(4) ? size : at + 1;
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 5000);
    static uint8_t file[MAX_BYTES];
    for (long i = 0; i < rounds; i++) {
        size_t size = whole_file(file);
        bool gzip = below(2), inside = below(2); /* damage before or after packing */
        if (i % 16 == 0) inside = true;
        for (size_t k = i % 16 == 0 ? 0 : 1 + below(3); k > 0 && inside; k--) size = damage(file, size);
        if (gzip) size = zip(file, size);
        if (!inside) size = damage(file, size);
        try_copy(file, size);
    }
    return finish(rounds);
}

#endif
