/* resample.c: bicubic resizing with the bits of Pillow: two separable passes, horizontal first, weights in 22-bit
 * fixed point, rounding to bytes in between. Shrinking widens the kernel, which removes aliasing. */
#include "data.h"
#include <math.h>
#include <string.h>

#define FRACTION 22 /* bits after the point: 32 - 8 for the byte - 2 for the overshoot of the kernel */

typedef struct taps {
    int32_t length;  /* weights reserved per output */
    int32_t *first;  /* [outputs] first input */
    int32_t *count;  /* [outputs] inputs used */
    int32_t *weight; /* [outputs][length] */
    size_t bytes;    /* of the one allocation, which starts at first */
} taps;

static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static distac_status make_taps(distac_context *context, int32_t in, int32_t out, taps *t) {
    double scale = (double)in / out, widen = scale > 1 ? scale : 1, support = 2 * widen;
    int64_t length = (int64_t)ceil(support) * 2 + 1;
    size_t rows = (size_t)out, words;
    if (__builtin_mul_overflow(rows, (size_t)length + 2, &words) || words > SIZE_MAX / sizeof(int32_t))
        return di_fail(DISTAC_ENOMEM, "resizing %d to %d pixels needs too many weights", in, out);
    t->bytes = words * sizeof(int32_t);
    t->first = di_alloc(context, t->bytes);
    if (!t->first) return DISTAC_ENOMEM;
    t->count = t->first + out;
    t->weight = t->count + out;
    t->length = (int32_t)length;
    double inverse = 1.0 / widen;
    for (int32_t i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale, sum = 0;
        int32_t from = (int32_t)(centre - support + 0.5), to = (int32_t)(centre + support + 0.5);
        if (from < 0) from = 0;
        if (to > in) to = in;
        int32_t n = to - from, *weight = t->weight + (int64_t)i * length;
        for (int32_t k = 0; k < n; k++) sum += cubic((k + from - centre + 0.5) * inverse);
        for (int32_t k = 0; k < n; k++) {
            double w = cubic((k + from - centre + 0.5) * inverse) / sum * (double)(1 << FRACTION);
            weight[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        t->first[i] = from;
        t->count[i] = n;
    }
    return DISTAC_OK;
}

static uint8_t to_byte(int32_t sum) {
    int32_t value = sum >> FRACTION; /* arithmetic: rounds towards minus infinity */
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Rows stay, columns are resized. */
static void horizontal(const taps *t, int32_t channels, int32_t in, int32_t out, int32_t rows, const uint8_t *src,
                       uint8_t *dst) {
    for (int32_t y = 0; y < rows; y++) {
        const uint8_t *row = src + (int64_t)y * in * channels;
        for (int32_t x = 0; x < out; x++) {
            const int32_t *weight = t->weight + (int64_t)x * t->length;
            const uint8_t *from = row + (int64_t)t->first[x] * channels;
            for (int32_t c = 0; c < channels; c++) {
                int32_t sum = 1 << (FRACTION - 1);
                for (int32_t k = 0; k < t->count[x]; k++) sum += weight[k] * from[(int64_t)k * channels + c];
                *dst++ = to_byte(sum);
            }
        }
    }
}

/* Columns stay, rows are resized. row is the bytes of one row; sums are gathered a stretch of columns at a time,
 * so that the inner loop runs along memory. */
static void vertical(const taps *t, int64_t row, int32_t out, const uint8_t *src, uint8_t *dst) {
    enum { STRETCH = 512 };
    int32_t sums[STRETCH];
    for (int32_t y = 0; y < out; y++) {
        const int32_t *weight = t->weight + (int64_t)y * t->length;
        for (int64_t start = 0; start < row; start += STRETCH) {
            int64_t n = row - start < STRETCH ? row - start : STRETCH;
            for (int64_t i = 0; i < n; i++) sums[i] = 1 << (FRACTION - 1);
            for (int32_t k = 0; k < t->count[y]; k++) {
                const uint8_t *from = src + (int64_t)(t->first[y] + k) * row + start;
                for (int64_t i = 0; i < n; i++) sums[i] += weight[k] * from[i];
            }
            for (int64_t i = 0; i < n; i++) dst[(int64_t)y * row + start + i] = to_byte(sums[i]);
        }
    }
}

distac_status di_resample(distac_context *context, int32_t channels, int32_t from_width, int32_t from_height,
                          const uint8_t *src, int32_t width, int32_t height, uint8_t *dst) {
    size_t middle_bytes = (size_t)width * (size_t)from_height * (size_t)channels;
    bool across = width != from_width, down = height != from_height;
    if (!across && !down) {
        memcpy(dst, src, middle_bytes);
        return DISTAC_OK;
    }
    uint8_t *middle = NULL;
    distac_status status = DISTAC_OK;
    taps t;
    if (across && down) {
        middle = di_alloc(context, middle_bytes);
        if (!middle) return DISTAC_ENOMEM;
    }
    if (across) {
        status = make_taps(context, from_width, width, &t);
        if (status == DISTAC_OK) {
            horizontal(&t, channels, from_width, width, from_height, src, middle ? middle : dst);
            di_free(context, t.first, t.bytes);
        }
    }
    if (down && status == DISTAC_OK) {
        status = make_taps(context, from_height, height, &t);
        if (status == DISTAC_OK) {
            vertical(&t, (int64_t)width * channels, height, middle ? middle : src, dst);
            di_free(context, t.first, t.bytes);
        }
    }
    if (middle) di_free(context, middle, middle_bytes);
    return status;
}
