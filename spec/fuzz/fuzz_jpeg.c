/* fuzz_jpeg.c: the JPEG decoder on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_jpeg.c ...
 * it searches on its own; built without, main damages small pictures of every kind, the same way every time:
 *   fuzz_jpeg [ROUNDS] [SEED] */
#define NAME   "fuzz_jpeg"
#define DECODE di_jpeg_decode
#define LEAST  400
#include "fuzz_image.h"

#include <jpeglib.h>

#ifndef DISTAC_LIBFUZZER

static size_t picture(uint8_t *file) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    static const int components[] = {1, 3, 4};
    unsigned char *memory = NULL;
    unsigned long count = 0;
    uint8_t row[40 * 4];
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &memory, &count);
    c.image_width = (JDIMENSION)(1 + below(40));
    c.image_height = (JDIMENSION)(1 + below(40));
    c.input_components = components[below(3)];
    c.in_color_space = c.input_components == 1 ? JCS_GRAYSCALE : c.input_components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&c);
    if (c.input_components == 4 && below(2)) jpeg_set_colorspace(&c, JCS_YCCK);
    jpeg_set_quality(&c, 20 + (int)below(80), TRUE);
    c.comp_info[0].h_samp_factor = 1 + (int)below(2);
    c.comp_info[0].v_samp_factor = 1 + (int)below(2);
    if (below(2)) jpeg_simple_progression(&c);
    c.restart_interval = below(3) ? 0 : 1 + (unsigned)below(4);
    jpeg_start_compress(&c, TRUE);
    JSAMPROW rows[1] = {row};
    for (size_t y = 0; y < c.image_height; y++) {
        for (size_t i = 0; i < sizeof row; i++) row[i] = (uint8_t)(i * 5 + y * 3 + below(30));
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    if (count > MAX_BYTES) broken("a picture that is too large");
    memcpy(file, memory, count);
    free(memory);
    return count;
}

/* No checksums; the frame keeps a size that is worth decoding. */
static void mend(uint8_t *file, size_t size) {
    memcpy(file, "\xff\xd8", 2);
    for (size_t at = 2; at + 9 < size && file[at] == 0xff;
         at += 2 + (size_t)(file[at + 2] << 8 | file[at + 3])) {
        if ((file[at + 1] & 0xf0) != 0xc0 || file[at + 1] == 0xc4 || file[at + 1] == 0xcc) continue;
        file[at + 5] = file[at + 7] = 0;
        return;
    }
}

#endif
