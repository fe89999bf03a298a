/* fuzz_png.c: the PNG decoder on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_png.c ...
 * it searches on its own; built without, main damages small pictures of every kind, the same way every time, and
 * repairs the checksums of most, so that the damage reaches the decoder:
 *   fuzz_png [ROUNDS] [SEED] */
#include "data/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long accepted, refused;
static volatile uint32_t pixel_sum;

static void broken(const char *what) {
    fprintf(stderr, "fuzz_png: %s\n", what);
    abort();
}

/* What the decoder promises: a whole picture or a reason, and memory that comes back. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static distac_context *context;
    distac_context_desc desc = {.threads = 1, .memory_limit = 64 << 20};
    distac_context_info info;
    distac_image *image = NULL;
    if (!context && distac_context_create(&desc, &context) != DISTAC_OK) broken(distac_last_error());
    int32_t channels = size % 3 == 0 ? 0 : size % 3 == 1 ? 1 : 3;
    distac_status status = di_png_decode(context, "picture.png", data, size, channels, &image);
    if (status == DISTAC_OK) {
        if (image->width < 1 || image->height < 1 || (channels && image->channels != channels))
            broken("an impossible picture");
        if (image->bytes != (size_t)image->width * (size_t)image->height * (size_t)image->channels)
            broken("pixels of the wrong size");
        uint32_t sum = 0;
        for (size_t i = 0; i < image->bytes; i++) sum += image->pixels[i];
        pixel_sum = sum; /* every byte was read, and none of the loop can be left out */
        distac_image_release(image);
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT && status != DISTAC_ENOMEM) broken(distac_last_error());
        if (status == DISTAC_EFORMAT && !strstr(distac_last_error(), "picture.png")) broken(distac_last_error());
        refused++;
    }
    if (distac_context_get_info(context, &info) != DISTAC_OK || info.memory_used != 0)
        broken("memory is still held");
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 8192 };

static uint64_t random_state;
static size_t below(size_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return bound ? (size_t)(random_state >> 11) % bound : 0;
}

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static size_t chunk(uint8_t *file, size_t at, const char *type, const uint8_t *bytes, size_t count) {
    put32(file + at, (uint32_t)count);
    memcpy(file + at + 4, type, 4);
    if (count) memcpy(file + at + 8, bytes, count);
    put32(file + at + 8 + count, (uint32_t)crc32(0, file + at + 4, (uInt)(count + 4)));
    return at + 12 + count;
}

/* A picture of a random kind with random rows; its data are long enough for any interlacing. */
static size_t picture(uint8_t *file) {
    static const uint8_t kinds[15][2] = {{0, 1}, {0, 2}, {0, 4},  {0, 8}, {0, 16}, {3, 1}, {3, 2}, {3, 4},
                                         {3, 8}, {2, 8}, {2, 16}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
    static const uint8_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    const uint8_t *kind = kinds[below(15)];
    uint8_t head[13] = {0}, raw[4096], packed[5000], palette[768];
    size_t width = 1 + below(12), height = 1 + below(12), interlaced = below(2);
    put32(head, (uint32_t)width);
    put32(head + 4, (uint32_t)height);
    head[8] = kind[1];
    head[9] = kind[0];
    head[12] = (uint8_t)interlaced;
    size_t row = (width * kind[1] * samples[kind[0]] + 7) / 8 + 1, count = row * height;
    if (interlaced) { /* rows of the seven passes; all bytes below 5, so that filters are where rows begin */
        static const int x0[] = {0, 4, 0, 2, 0, 1, 0}, y0[] = {0, 0, 4, 0, 2, 0, 1}, dx[] = {8, 8, 4, 4, 2, 2, 1},
                         dy[] = {8, 8, 8, 4, 4, 2, 2};
        count = 0;
        for (int p = 0; p < 7; p++) {
            size_t w = width > (size_t)x0[p] ? (width - (size_t)x0[p] + (size_t)dx[p] - 1) / (size_t)dx[p] : 0;
            size_t h = height > (size_t)y0[p] ? (height - (size_t)y0[p] + (size_t)dy[p] - 1) / (size_t)dy[p] : 0;
            if (w) count += h * ((w * kind[1] * samples[kind[0]] + 7) / 8 + 1);
        }
    }
    for (size_t i = 0; i < count; i++) raw[i] = (uint8_t)(interlaced || below(3) ? below(5) : below(256));
    if (!interlaced)
        for (size_t y = 0; y < height; y++) raw[y * row] = (uint8_t)below(5);
    uLongf length = sizeof packed;
    if (compress2(packed, &length, raw, count, 6) != Z_OK) broken("zlib");
    for (size_t i = 0; i < sizeof palette; i++) palette[i] = (uint8_t)below(256);
    size_t at = 8;
    memcpy(file, "\x89PNG\r\n\x1a\n", 8);
    at = chunk(file, at, "IHDR", head, 13);
    if (below(4) == 0) at = chunk(file, at, "tEXt", (const uint8_t *)"Title\0x", 7);
    if (kind[0] == 3) at = chunk(file, at, "PLTE", palette, 3 * ((size_t)1 << kind[1]));
    if (kind[0] == 3 && below(2)) at = chunk(file, at, "tRNS", palette, 1 + below(2));
    size_t first = below(2) ? below(length) : length; /* in one piece or two */
    at = chunk(file, at, "IDAT", packed, first);
    if (first < length) at = chunk(file, at, "IDAT", packed + first, length - first);
    return chunk(file, at, "IEND", NULL, 0);
}

static void repair(uint8_t *file, size_t size) {
    for (size_t at = 8; at + 12 <= size;) {
        size_t length = get32(file + at);
        if (length > size - at - 12) return;
        put32(file + at + 8 + length, (uint32_t)crc32(0, file + at + 4, (uInt)(length + 4)));
        at += 12 + length;
    }
}

static size_t damage(uint8_t *file, size_t size) {
    size_t at = below(size), n = 1 + below(20), from = below(size);
    switch (below(7)) {
    case 0:
        file[at] = (uint8_t)below(256);
        return size;
    case 1:
        file[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 2:
        put32(file + (at + 4 <= size ? at : 0), below(2) ? 0xffffffffu : (uint32_t)below(70000));
        return size;
    case 3:
        file[8 + 8 + below(13)] = (uint8_t)below(20);
        return size; /* the header */
    case 4:
        if (at + n > size) return size;
        memmove(file + at, file + at + n, size - at - n);
        return size - n;
    case 5:
        if (size + n > MAX_BYTES || from + n > size) return size;
        memmove(file + at + n, file + at, size - at);
        memmove(file + at, file + from, n);
        return size + n;
    default:
        return below(8) ? size : at + 1; /* cut */
    }
}

/* Exactly as large as the picture, so that a sanitizer sees the first byte too many. */
static void try_copy(const uint8_t *file, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) broken("out of memory");
    memcpy(copy, file, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252u;
    static uint8_t file[MAX_BYTES + 64];
    for (long i = 0; i < rounds; i++) {
        size_t size = picture(file);
        long before = accepted;
        if (i % 16 == 0) {
            try_copy(file, size);
            if (accepted == before) broken(distac_last_error()); /* undamaged */
            continue;
        }
        for (size_t k = 1 + below(3); k > 0 && size > 40; k--) size = damage(file, size);
        if (below(4)) repair(file, size);
        try_copy(file, size);
    }
    printf("fuzz_png: %ld rounds, %ld accepted, %ld refused\n", rounds, accepted, refused);
    return accepted > 0 && refused > 0 ? 0 : 1;
}

#endif
