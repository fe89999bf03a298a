/* fuzz_png.c: the PNG decoder on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_png.c ...
 * it searches on its own; built without, main damages small pictures of every kind, the same way every time, and
 * repairs the checksums of most, so that the damage reaches the decoder:
 *   fuzz_png [ROUNDS] [SEED] */
#define NAME   "fuzz_png"
#define DECODE di_png_decode
#define LEAST  40
#include "fuzz_image.h"
#include <zlib.h>

#ifndef DISTAC_LIBFUZZER

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

static void mend(uint8_t *file, size_t size) {
    for (size_t at = 8; at + 12 <= size;) {
        size_t length = get32(file + at);
        if (length > size - at - 12) return;
        put32(file + at + 8 + length, (uint32_t)crc32(0, file + at + 4, (uInt)(length + 4)));
        at += 12 + length;
    }
}

#endif
