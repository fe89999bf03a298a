/* pixels.h: the integer kernels of image resizing and the conversion of bytes to floats, one table per instruction
 * set. The sums are exact integers, so every table gives the same bits. */
#ifndef DISTAC_PIXELS_H
#define DISTAC_PIXELS_H

#include "../base/base.h"
#include <stddef.h>

#define DI_TAP_BITS 22 /* after the point of a weight: 32 - 8 for the byte - 2 for the overshoot of the kernel */
#define DI_TAP_PAD  16 /* weights behind the last of an output that can be read, all 0 */
#define DI_ROW_PAD  64 /* bytes behind a source row that must be readable */

/* Weighted sums that make outputs from inputs along one side. */
typedef struct di_taps {
    int32_t outputs, length; /* length: weights reserved per output */
    int32_t *first, *count;  /* [outputs] first input, inputs used */
    int32_t *weight;         /* [outputs][length], 0 from count on */
    size_t bytes;            /* of the one allocation, which starts at first */
} di_taps;

typedef struct di_pixels {
    /* One row of interleaved channels (1 or 3) to taps->outputs pixels; channel c of pixel x goes to
     * dst[x * pixel + c * plane]. */
    void (*across)(const di_taps *taps, int32_t channels, const uint8_t *row, uint8_t *dst, ptrdiff_t pixel,
                   ptrdiff_t plane);
    /* One row of bytes from n rows that are stride apart. */
    void (*down)(const int32_t *weight, int32_t n, const uint8_t *src, ptrdiff_t stride, int64_t bytes,
                 uint8_t *dst);
    /* dst = (src / 255 - mean) / std in single precision, each operation rounded. */
    void (*floats)(const uint8_t *src, int64_t count, float mean, float std, float *dst);
} di_pixels;

extern const di_pixels di_pixels_scalar;
#if defined(__x86_64__)
extern const di_pixels di_pixels_avx2, di_pixels_avx512;
#endif
const di_pixels *di_pixels_for(const distac_context *context);

#endif
