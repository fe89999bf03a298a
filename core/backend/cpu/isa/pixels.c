/* pixels.c: resizing bytes by exact integer sums, and bytes to floats. */
#include "isa.h"

#include "../../pixels.h"

static uint8_t to_byte(int32_t sum) {
    int32_t value = sum >> DI_TAP_BITS; /* arithmetic: rounds towards minus infinity */
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

enum { HALF = 1 << (DI_TAP_BITS - 1) };

static void across(const di_taps *taps, int32_t channels, const uint8_t *row, uint8_t *dst, ptrdiff_t pixel,
                   ptrdiff_t plane) {
    for (int32_t x = 0; x < taps->outputs; x++, dst += pixel) {
        const int32_t *weight = taps->weight + (int64_t)x * taps->length;
        const uint8_t *from = row + (int64_t)taps->first[x] * channels;
        for (int32_t c = 0; c < channels; c++) {
            int32_t sum = HALF;
            for (int32_t k = 0; k < taps->count[x]; k++) sum += weight[k] * from[(int64_t)k * channels + c];
            dst[c * plane] = to_byte(sum);
        }
    }
}

static void down(const int32_t *weight, int32_t n, const uint8_t *src, ptrdiff_t stride, int64_t bytes,
                 uint8_t *dst) {
    enum { STRETCH = 64 };
    for (int64_t start = 0; start < bytes; start += STRETCH) {
        int32_t sums[STRETCH];
        int64_t count = bytes - start < STRETCH ? bytes - start : STRETCH;
        for (int64_t i = 0; i < count; i++) sums[i] = HALF;
        for (int32_t k = 0; k < n; k++) {
            const uint8_t *from = src + k * stride + start;
            for (int64_t i = 0; i < count; i++) sums[i] += weight[k] * from[i];
        }
        for (int64_t i = 0; i < count; i++) dst[start + i] = to_byte(sums[i]);
    }
}

static void floats(const uint8_t *src, int64_t count, float mean, float std, float *dst) {
    SIMD
    for (int64_t i = 0; i < count; i++) dst[i] = ((float)src[i] / 255.0f - mean) / std;
}

#define TABLE_(isa) di_pixels_##isa
#define TABLE(isa)  TABLE_(isa)
const di_pixels TABLE(DI_ISA) = {.across = across, .down = down, .floats = floats};
