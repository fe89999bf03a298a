/* jpeg_files.h: JPEG files of every kind, made for tests. */
#ifndef JPEG_FILES_H
#define JPEG_FILES_H

#include "data_files.h"

#include <jpeglib.h>

typedef struct recipe {
    int width, height, components;
    int h, v; /* sampling of the first component */
    J_COLOR_SPACE space;
    bool progressive, arithmetic;
    unsigned restart;
    bool adobe;
    bool single; /* progressive, a scan for every coefficient */
} recipe;

typedef struct bytes {
    unsigned char *at;
    unsigned long count;
} bytes;

MAYBE bytes make(recipe r, uint32_t seed) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    bytes b = {NULL, 0};
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &b.at, &b.count);
    c.image_width = (JDIMENSION)r.width;
    c.image_height = (JDIMENSION)r.height;
    c.input_components = r.components;
    c.in_color_space = r.components == 1 ? JCS_GRAYSCALE : r.components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&c);
    if (r.space) jpeg_set_colorspace(&c, r.space);
    jpeg_set_quality(&c, 80, TRUE);
    if (r.h) {
        c.comp_info[0].h_samp_factor = r.h;
        c.comp_info[0].v_samp_factor = r.v;
    }
    if (r.progressive) jpeg_simple_progression(&c);
    static jpeg_scan_info scans[1 + 63 * 3];
    scans[0] = (jpeg_scan_info){r.components, {0, 1, 2}, 0, 0, 0, 0};
    for (int i = 0; i < 63 * 3; i++) scans[1 + i] = (jpeg_scan_info){1, {i / 63}, 1 + i % 63, 1 + i % 63, 0, 0};
    if (r.single) {
        c.scan_info = scans;
        c.num_scans = 1 + 63 * r.components;
    }
    c.arith_code = r.arithmetic;
    c.restart_interval = r.restart;
    if (r.adobe) c.write_Adobe_marker = TRUE;
    jpeg_start_compress(&c, TRUE);
    uint8_t *row = calloc((size_t)r.width, (size_t)r.components);
    for (int y = 0; y < r.height; y++) {
        for (int x = 0; x < r.width; x++)
            for (int k = 0; k < r.components; k++)
                row[x * r.components + k] =
                    (uint8_t)(128 + 100 * sin(0.21 * x + k + 0.01 * seed) * cos(0.17 * y * (k + 1)) +
                              (double)(draw(&seed) % 20));
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    return b;
}

MAYBE const recipe usual = {.width = 50, .height = 37, .components = 3, .h = 2, .v = 2};

#endif
