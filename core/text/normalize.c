/* normalize.c: code points of a text and back, whitespace and letter case as Python's str has them. */
#include "text.h"
#include <string.h>
#include <unicase.h>
#include <unictype.h>

distac_status di_points_new(distac_context *context, size_t capacity, di_points *out) {
    *out = (di_points){.capacity = capacity};
    out->at = di_alloc(context, capacity * sizeof *out->at);
    return out->at ? DISTAC_OK : DISTAC_ENOMEM;
}

void di_points_free(distac_context *context, di_points *points) {
    di_free(context, points->at, points->capacity * sizeof *points->at);
    *points = (di_points){0};
}

distac_status di_points_decode(distac_context *context, const char *text, size_t bytes, di_points *out) {
    DI_TRY(di_points_new(context, bytes, out)); /* a point has at least one byte */
    for (size_t i = 0; i < bytes;) {
        size_t length;
        uint32_t point = di_utf8_get(text + i, bytes - i, &length);
        if (length == 0) {
            di_points_free(context, out);
            return di_fail_at(DISTAC_EINVAL, "distac_tokenizer_encode",
                              "the text is not UTF-8: byte 0x%02x at offset %zu", (unsigned)(uint8_t)text[i], i);
        }
#ifdef DI_WITHOUT_UNISTRING
        if (point >= 0x80) {
            di_points_free(context, out);
            return di_fail_at(DISTAC_EUNSUPPORTED, "distac_tokenizer_encode",
                              "texts beyond ASCII are left out: this build is without libunistring");
        }
#endif
        out->at[out->count++] = point;
        i += length;
    }
    return DISTAC_OK;
}

/* What \s means in a pattern; strip takes the four separators 0x1c to 0x1f as well. */
static bool is_space(uint32_t c) {
    return c < 0x80 ? c == ' ' || (c >= '\t' && c <= '\r') : uc_is_property_white_space(c);
}
static bool is_stripped(uint32_t c) {
    return is_space(c) || (c >= 0x1c && c <= 0x1f);
}

void di_points_collapse(di_points *points) {
    uint32_t *p = points->at;
    size_t from = 0, end = points->count, to = 0;
    while (from < end && is_stripped(p[from])) from++;
    while (end > from && is_stripped(p[end - 1])) end--;
    for (size_t i = from; i < end; i++) {
        bool space = is_space(p[i]);
        if (space && i > from && is_space(p[i - 1])) continue;
        p[to++] = space ? ' ' : p[i];
    }
    points->count = to;
}

/* The sigma at i ends a word: a letter with case before it and none behind, seen across what case ignores. */
static bool is_final(const di_points *p, size_t i) {
    size_t before = i, after = i + 1;
    while (before > 0 && uc_is_property_case_ignorable(p->at[before - 1])) before--;
    if (before == 0 || !uc_is_property_cased(p->at[before - 1])) return false;
    while (after < p->count && uc_is_property_case_ignorable(p->at[after])) after++;
    return after == p->count || !uc_is_property_cased(p->at[after]);
}

enum { SIGMA = 0x3a3, SMALL_SIGMA = 0x3c3, FINAL_SIGMA = 0x3c2, DOTTED_I = 0x130, DOT_ABOVE = 0x307 };

distac_status di_points_lower(distac_context *context, const di_points *from, di_points *out) {
    size_t grown = from->count;
    for (size_t i = 0; i < from->count; i++) grown += from->at[i] == DOTTED_I; /* the only one that becomes two */
    DI_TRY(di_points_new(context, grown, out));
    for (size_t i = 0; i < from->count; i++) {
        uint32_t c = from->at[i];
        if (c < 0x80) {
            c += c >= 'A' && c <= 'Z' ? 'a' - 'A' : 0;
        } else if (c == SIGMA) {
            c = is_final(from, i) ? FINAL_SIGMA : SMALL_SIGMA;
        } else if (c == DOTTED_I) {
            out->at[out->count++] = 'i';
            c = DOT_ABOVE;
        } else {
            c = uc_tolower(c);
        }
        out->at[out->count++] = c;
    }
    return DISTAC_OK;
}
