/* fuzz_pnm.c: the PNM decoder on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_pnm.c ...
 * it searches on its own; built without, main damages small pictures of every kind, the same way every time:
 *   fuzz_pnm [ROUNDS] [SEED] */
#define NAME   "fuzz_pnm"
#define DECODE di_pnm_decode
#define LEAST  12
#include "fuzz_image.h"

#ifndef DISTAC_LIBFUZZER

static size_t picture(uint8_t *file) {
    static const int tops[] = {1, 9, 255, 256, 65535};
    int kind = 1 + (int)below(6), top = kind == 1 || kind == 4 ? 1 : tops[below(5)];
    size_t width = 1 + below(12), height = 1 + below(12);
    size_t samples = width * height * (kind == 3 || kind == 6 ? 3 : 1);
    int at =
        snprintf((char *)file, MAX_BYTES, "P%d%s%zu %zu", kind, below(4) ? "\n" : " # a comment\n", width, height);
    if (kind != 1 && kind != 4) at += snprintf((char *)file + at, 32, "\n%d", top);
    file[at++] = '\n';
    size_t count = (size_t)at;
    if (kind == 4) samples = (width + 7) / 8 * height;
    for (size_t i = 0; i < samples; i++) {
        size_t value = kind == 4 ? below(256) : below((size_t)top + 1);
        if (kind < 4) {
            count += (size_t)snprintf((char *)file + count, 8, "%zu%s", value, below(9) ? " " : "\n");
        } else {
            if (top > 255) file[count++] = (uint8_t)(value >> 8);
            file[count++] = (uint8_t)value;
        }
    }
    return count;
}

static void mend(uint8_t *file, size_t size) {
    (void)size; /* no checksums; the first bytes, so that the decoder reads on */
    file[0] = 'P';
    file[1] = (uint8_t)('1' + below(6));
}

#endif
