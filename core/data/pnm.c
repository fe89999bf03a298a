/* pnm.c: the portable bitmap formats P1 to P6, plain and binary, 8 and 16 bits. Samples are scaled from maxval to
 * 255 with Pillow's rounding (samples above maxval are refused). What follows the pixels is not looked at: binary
 * files may hold more pictures, the first is taken. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    const uint8_t *bytes;
    size_t count, at;
    const char *name;
} text;

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space and comments, which end with their line. */
static distac_status skip_space(text *t) {
    while (t->at < t->count) {
        uint8_t c = t->bytes[t->at];
        if (c == '#') {
            size_t start = t->at;
            while (t->at < t->count && t->bytes[t->at] != '\n' && t->bytes[t->at] != '\r') t->at++;
            if (t->at == t->count)
                return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                                  "%s: PNM: the file ends inside the comment at byte %zu", t->name, start);
        } else if (!is_space(c)) {
            return DISTAC_OK;
        } else {
            t->at++;
        }
    }
    return DISTAC_OK;
}

/* The next decimal number, at most `most`. */
static distac_status number(text *t, const char *what, uint32_t most, uint32_t *out) {
    DI_TRY(skip_space(t));
    size_t start = t->at;
    uint64_t value = 0;
    if (t->at == t->count)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: the file ends before the %s", t->name,
                          what);
    while (t->at < t->count && t->bytes[t->at] >= '0' && t->bytes[t->at] <= '9') {
        value = value * 10 + (uint64_t)(t->bytes[t->at] - '0');
        if (value > most)
            return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: the %s at byte %zu is above %u",
                              t->name, what, start, most);
        t->at++;
    }
    bool ended = t->at == t->count || is_space(t->bytes[t->at]) || t->bytes[t->at] == '#';
    if (t->at == start || !ended)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                          "%s: PNM: the %s at byte %zu is no number (byte 0x%02x)", t->name, what, start,
                          t->bytes[t->at]);
    *out = (uint32_t)value;
    return DISTAC_OK;
}

/* A P1 pixel is one digit; white space between them is optional. */
static distac_status bit(text *t, uint32_t *out) {
    DI_TRY(skip_space(t));
    if (t->at == t->count)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: the file ends before the last pixel",
                          t->name);
    uint8_t c = t->bytes[t->at++];
    if (c != '0' && c != '1')
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                          "%s: PNM: pixel at byte %zu is 0x%02x, wanted 0 or 1", t->name, t->at - 1, c);
    *out = (uint32_t)(c - '0');
    return DISTAC_OK;
}

typedef struct header {
    int kind; /* 1 to 6 */
    uint32_t width, height, maxval;
    int32_t channels;
    uint64_t samples, row_bytes; /* row_bytes: of binary files */
} header;

static distac_status read_header(text *t, header *h) {
    h->kind = t->bytes[1] - '0';
    t->at = 2;
    if (t->at < t->count && !is_space(t->bytes[2]) && t->bytes[2] != '#')
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: byte 2 is 0x%02x, wanted white space",
                          t->name, t->bytes[2]);
    DI_TRY(number(t, "width", DI_IMAGE_SIDE, &h->width));
    DI_TRY(number(t, "height", DI_IMAGE_SIDE, &h->height));
    h->maxval = 1;
    if (h->kind != 1 && h->kind != 4) DI_TRY(number(t, "largest value", 65535, &h->maxval));
    if (h->width == 0 || h->height == 0 || h->maxval == 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                          "%s: PNM: %u x %u pixels with a largest value of %u", t->name, h->width, h->height,
                          h->maxval);
    if ((uint64_t)h->width * h->height > DI_IMAGE_PIXELS)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: %u x %u pixels, more than the limit of %d",
                          t->name, h->width, h->height, DI_IMAGE_PIXELS);
    h->channels = h->kind == 3 || h->kind == 6 ? 3 : 1;
    h->samples = (uint64_t)h->width * h->height * (uint64_t)h->channels;
    h->row_bytes =
        h->kind == 4 ? (h->width + 7) / 8 : (uint64_t)h->width * (uint64_t)h->channels * (h->maxval > 255 ? 2 : 1);
    uint64_t least = h->kind == 1 ? h->samples : h->kind < 4 ? 2 * h->samples - 1 : h->row_bytes * h->height;
    if (h->kind >= 4) { /* exactly one white space ends the header */
        if (t->at == t->count || !is_space(t->bytes[t->at]))
            return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: no white space after the header",
                              t->name);
        t->at++;
    }
    if (least > t->count - t->at)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                          "%s: PNM: %u x %u pixels need %llu bytes after the header, there are %zu", t->name,
                          h->width, h->height, (unsigned long long)least, t->count - t->at);
    return DISTAC_OK;
}

static distac_status too_large(const text *t, const header *h, uint32_t value, uint64_t sample) {
    return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: PNM: sample %llu is %u, the largest value is %u",
                      t->name, (unsigned long long)sample, value, h->maxval);
}

/* Divided first, then multiplied, halves to even: Pillow's way. */
static uint8_t scaled(uint32_t value, uint32_t maxval) {
    return (uint8_t)nearbyint((double)value / maxval * 255);
}

static distac_status read_plain(text *t, const header *h, uint8_t *dst) {
    for (uint64_t i = 0; i < h->samples; i++) {
        uint32_t value = 0;
        if (h->kind == 1) {
            DI_TRY(bit(t, &value));
            dst[i] = value ? 0 : 255;
        } else {
            DI_TRY(number(t, "sample", 99999, &value));
            if (value > h->maxval) return too_large(t, h, value, i);
            dst[i] = scaled(value, h->maxval);
        }
    }
    return DISTAC_OK;
}

static distac_status read_binary(text *t, const header *h, uint8_t *dst) {
    const uint8_t *src = t->bytes + t->at;
    if (h->kind == 4) {
        for (uint32_t y = 0; y < h->height; y++, src += h->row_bytes)
            for (uint32_t x = 0; x < h->width; x++) *dst++ = src[x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
        return DISTAC_OK;
    }
    if (h->maxval == 255) {
        memcpy(dst, src, (size_t)h->samples);
        return DISTAC_OK;
    }
    uint8_t table[256] = {0};
    for (uint32_t v = 0; v <= h->maxval && v < 256; v++) table[v] = scaled(v, h->maxval);
    for (uint64_t i = 0; i < h->samples; i++) {
        uint32_t value = h->maxval > 255 ? (uint32_t)src[2 * i] << 8 | src[2 * i + 1] : src[i];
        if (value > h->maxval) return too_large(t, h, value, i);
        dst[i] = h->maxval > 255 ? scaled(value, h->maxval) : table[value];
    }
    return DISTAC_OK;
}

distac_status di_pnm_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out) {
    text t = {.bytes = bytes, .count = count, .name = name};
    header h;
    if (count < 2 || bytes[0] != 'P')
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: not a PNM file (wrong first bytes)", name);
    if (bytes[1] == '7' || bytes[1] == 'F' || bytes[1] == 'f')
        return di_fail_at(DISTAC_EUNSUPPORTED, "distac_image_load",
                          "%s: %s file (P%c); of the portable formats P1 to P6 are read", name,
                          bytes[1] == '7' ? "a PAM" : "a floating-point PFM", bytes[1]);
    if (bytes[1] < '1' || bytes[1] > '6')
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: not a PNM file (wrong first bytes)", name);
    DI_TRY(read_header(&t, &h));
    distac_image *image;
    DI_TRY(di_image_new(context, (int32_t)h.width, (int32_t)h.height, h.channels, &image));
    distac_status status = h.kind < 4 ? read_plain(&t, &h, image->pixels) : read_binary(&t, &h, image->pixels);
    if (status == DISTAC_OK) status = di_image_convert(image, channels ? channels : image->channels, out);
    distac_image_release(image);
    return status;
}
