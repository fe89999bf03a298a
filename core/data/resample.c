/* resample.c: bicubic resizing with the bits of Pillow: two separable passes, horizontal first, weights in 22-bit
 * fixed point, rounding to bytes in between. Shrinking widens the kernel, which removes aliasing. Rows of the
 * source come one after another and are resized across at once; only the rows and columns that the wanted window
 * of the result needs are looked at. */
#include "data.h"
#include <math.h>
#include <string.h>

static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* The weights of one output, those that rounded to 0 at either end left out. */
static void weigh(int32_t in, double scale, double support, double inverse, int32_t output, int32_t *weight,
                  int32_t *first, int32_t *count) {
    double centre = (output + 0.5) * scale, sum = 0;
    int32_t from = (int32_t)(centre - support + 0.5), to = (int32_t)(centre + support + 0.5), head = 0;
    if (from < 0) from = 0;
    if (to > in) to = in;
    int32_t n = to - from;
    for (int32_t k = 0; k < n; k++) sum += cubic((k + from - centre + 0.5) * inverse);
    for (int32_t k = 0; k < n; k++) {
        double w = cubic((k + from - centre + 0.5) * inverse) / sum * (double)(1 << DI_TAP_BITS);
        weight[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    while (n > 1 && weight[n - 1] == 0) n--;
    while (head < n - 1 && weight[head] == 0) head++;
    if (head > 0) {
        memmove(weight, weight + head, (size_t)(n - head) * sizeof *weight);
        memset(weight + n - head, 0, (size_t)head * sizeof *weight);
    }
    *first = from + head;
    *count = n - head;
}

/* Of `in` inputs resized to `out`, the outputs start … start+outputs-1. */
static distac_status make_taps(distac_context *context, int32_t in, int32_t out, int32_t start, int32_t outputs,
                               di_taps *t) {
    double scale = (double)in / out, widen = scale > 1 ? scale : 1, support = 2 * widen;
    int64_t length = (int64_t)ceil(support) * 2 + 1 + DI_TAP_PAD;
    size_t rows = (size_t)outputs, words;
    if (__builtin_mul_overflow(rows, (size_t)length + 2, &words) || words > SIZE_MAX / sizeof(int32_t))
        return di_fail(DISTAC_ENOMEM, "resizing %d to %d pixels needs too many weights", in, out);
    t->bytes = words * sizeof(int32_t);
    t->first = di_alloc_zeroed(context, t->bytes);
    if (!t->first) return DISTAC_ENOMEM;
    t->outputs = outputs;
    t->count = t->first + outputs;
    t->weight = t->count + outputs;
    t->length = (int32_t)length;
    for (int32_t i = 0; i < outputs; i++)
        weigh(in, scale, support, 1.0 / widen, start + i, t->weight + (int64_t)i * length, &t->first[i],
              &t->count[i]);
    return DISTAC_OK;
}

/* The inputs that are used; first becomes relative to *from. */
static void find_span(di_taps *t, int32_t *from, int32_t *to) {
    *from = INT32_MAX;
    *to = 0;
    for (int32_t i = 0; i < t->outputs; i++) {
        if (t->first[i] < *from) *from = t->first[i];
        if (t->first[i] + t->count[i] > *to) *to = t->first[i] + t->count[i];
    }
    for (int32_t i = 0; i < t->outputs; i++) t->first[i] -= *from;
}

distac_status di_resizer_open(distac_context *context, int32_t channels, const di_geometry *g, bool planar,
                              di_resizer *r) {
    *r = (di_resizer){.context = context,
                      .kernels = di_pixels_for(context),
                      .channels = channels,
                      .width = g->window_width,
                      .height = g->window_height,
                      .planar = planar};
    distac_status status = make_taps(context, g->box_width, g->width, g->left, g->window_width, &r->across);
    if (status == DISTAC_OK)
        status = make_taps(context, g->box_height, g->height, g->top, g->window_height, &r->down);
    if (status == DISTAC_OK) {
        find_span(&r->across, &r->x0, &r->x1);
        find_span(&r->down, &r->y0, &r->y1);
        r->rows = r->y1 - r->y0;
        r->middle_bytes = (size_t)r->rows * (size_t)r->width * (size_t)channels;
        r->middle = di_alloc(context, r->middle_bytes);
        if (!r->middle) status = DISTAC_ENOMEM;
    }
    r->x0 += g->x;
    r->x1 += g->x;
    r->y0 += g->y;
    r->y1 += g->y;
    if (status != DISTAC_OK) di_resizer_close(r);
    return status;
}

void di_resizer_row(void *resizer, int32_t y, const uint8_t *row) {
    di_resizer *r = resizer;
    size_t bytes = (size_t)r->width * (size_t)r->channels;
    r->kernels->across(&r->across, r->channels, row, r->middle + (size_t)(y - r->y0) * bytes,
                       r->planar ? 1 : r->channels, r->planar ? r->width : 1);
}

void di_resizer_finish(di_resizer *r, uint8_t *dst) {
    ptrdiff_t stride = (ptrdiff_t)r->width * r->channels;
    int32_t planes = r->planar ? r->channels : 1;
    int64_t bytes = stride / planes;
    for (int32_t y = 0; y < r->height; y++) {
        const int32_t *weight = r->down.weight + (int64_t)y * r->down.length;
        const uint8_t *src = r->middle + r->down.first[y] * stride;
        for (int32_t p = 0; p < planes; p++)
            r->kernels->down(weight, r->down.count[y], src + p * bytes, stride, bytes,
                             dst + ((int64_t)p * r->height + y) * bytes);
    }
}

void di_resizer_close(di_resizer *r) {
    if (r->across.first) di_free(r->context, r->across.first, r->across.bytes);
    if (r->down.first) di_free(r->context, r->down.first, r->down.bytes);
    if (r->middle) di_free(r->context, r->middle, r->middle_bytes);
    r->across.first = r->down.first = NULL;
    r->middle = NULL;
}

/* The kernels read a little beyond a row: the last one goes through a copy. */
static distac_status feed(di_resizer *r, int32_t image_width, int32_t image_height, const uint8_t *pixels) {
    size_t pixel = (size_t)r->channels, row = (size_t)image_width * pixel, used = (size_t)(r->x1 - r->x0) * pixel;
    size_t total = row * (size_t)image_height;
    for (int32_t y = r->y0; y < r->y1; y++) {
        size_t at = (size_t)y * row + (size_t)r->x0 * pixel;
        if (total - at >= used + DI_ROW_PAD) {
            di_resizer_row(r, y, pixels + at);
            continue;
        }
        uint8_t *copy = di_alloc(r->context, used + DI_ROW_PAD);
        if (!copy) return DISTAC_ENOMEM;
        memcpy(copy, pixels + at, used);
        memset(copy + used, 0, DI_ROW_PAD);
        di_resizer_row(r, y, copy);
        di_free(r->context, copy, used + DI_ROW_PAD);
    }
    return DISTAC_OK;
}

distac_status di_resample(distac_context *context, int32_t channels, int32_t image_width, int32_t image_height,
                          const uint8_t *pixels, const di_geometry *geometry, bool planar, uint8_t *dst) {
    di_resizer r;
    DI_TRY(di_resizer_open(context, channels, geometry, planar, &r));
    distac_status status = feed(&r, image_width, image_height, pixels);
    if (status == DISTAC_OK) di_resizer_finish(&r, dst);
    di_resizer_close(&r);
    return status;
}
