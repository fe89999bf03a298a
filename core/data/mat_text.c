/* mat_text.c: text in MATLAB 5 files: 8, 16 or 32 bits for a sign, or UTF-8; given out as UTF-8. */
#include "mat.h"
#include <stdlib.h>
#include <string.h>

static bool is_utf8(const uint8_t *b, size_t n, int64_t *points, int64_t *units) {
    *points = *units = 0;
    for (size_t i = 0; i < n; ++*points, ++*units) {
        int more = b[i] < 0x80                   ? 0
                   : b[i] >= 0xc2 && b[i] < 0xe0 ? 1
                   : b[i] >= 0xe0 && b[i] < 0xf0 ? 2
                   : b[i] >= 0xf0 && b[i] < 0xf5 ? 3
                                                 : -1;
        if (more < 0 || (size_t)more >= n - i) return false;
        uint32_t point = more == 0 ? b[i] : b[i] & (0x3fu >> more);
        for (int k = 1; k <= more; k++) {
            if ((b[i + (size_t)k] & 0xc0) != 0x80) return false;
            point = point << 6 | (b[i + (size_t)k] & 0x3f);
        }
        if ((more == 2 && point < 0x800) || (more == 3 && point < 0x10000) || point > 0x10ffff ||
            (point >= 0xd800 && point < 0xe000))
            return false;
        if (more == 3) ++*units;
        i += (size_t)more + 1;
    }
    return true;
}

uint32_t di_mat_char(const di_mat_variable *v, const di_mat_array *a, int64_t i) {
    const uint8_t *b = a->data + i * di_mat_width(a->stored);
    if (di_mat_width(a->stored) == 1) return b[0];
    return di_mat_width(a->stored) == 2 ? di_mat_u16(b, v->swapped) : di_mat_u32(b, v->swapped);
}

distac_status di_mat_check_text(const di_mat_variable *v, const di_mat_array *a, size_t at) {
    int64_t points, units;
    if (a->stored == DI_MI_UTF8) {
        if (!is_utf8(a->data, a->data_bytes, &points, &units)) return di_mat_bad(v, at, "text that is not UTF-8");
        if (points != a->count && units != a->count)
            return di_mat_bad(v, at, "text of another length than its size says");
        return DISTAC_OK;
    }
    if (a->stored != DI_MI_UINT8 && a->stored != DI_MI_INT8 && a->stored != DI_MI_UINT16 &&
        a->stored != DI_MI_UTF16 && a->stored != DI_MI_UTF32)
        return di_mat_bad(v, at, "text of an unknown type");
    if ((uint64_t)a->count != a->data_bytes / (size_t)di_mat_width(a->stored) ||
        a->data_bytes % (size_t)di_mat_width(a->stored))
        return di_mat_bad(v, at, "text of another length than its size says");
    for (int64_t i = 0; i < a->count; i++) {
        uint32_t u = di_mat_char(v, a, i);
        bool high = u >= 0xd800 && u < 0xdc00, low = u >= 0xdc00 && u < 0xe000;
        if (a->stored == DI_MI_UTF32 ? u > 0x10ffff || high || low : low)
            return di_mat_bad(v, at, "text with half a character");
        if (!high) continue;
        uint32_t second = i + 1 < a->count ? di_mat_char(v, a, i + 1) : 0;
        if (second < 0xdc00 || second >= 0xe000) return di_mat_bad(v, at, "text with half a character");
        i++;
    }
    return DISTAC_OK;
}

static void put_point(char **at, uint32_t p) {
    uint8_t *b = (uint8_t *)*at;
    if (p < 0x80) {
        *b++ = (uint8_t)p;
    } else if (p < 0x800) {
        *b++ = (uint8_t)(0xc0 | p >> 6);
        *b++ = (uint8_t)(0x80 | (p & 0x3f));
    } else {
        if (p < 0x10000) {
            *b++ = (uint8_t)(0xe0 | p >> 12);
        } else {
            *b++ = (uint8_t)(0xf0 | p >> 18);
            *b++ = (uint8_t)(0x80 | (p >> 12 & 0x3f));
        }
        *b++ = (uint8_t)(0x80 | (p >> 6 & 0x3f));
        *b++ = (uint8_t)(0x80 | (p & 0x3f));
    }
    *at = (char *)b;
}

distac_status di_mat_text(const di_mat_variable *v, const di_mat_array *a, char **out) {
    if (a->class_id != DI_MAT_CHAR || (a->count > 0 && (a->rank != 2 || di_mat_dim(v, a, 0) != 1)))
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: variable '%s': a row of text is wanted, there is %s",
                          v->path, v->name, di_mat_class_name(a->class_id));
    char *text = di_new(4 * (size_t)a->count + a->data_bytes + 1), *at = text;
    if (!text) return DISTAC_ENOMEM;
    if (a->stored == DI_MI_UTF8) {
        memcpy(text, a->data, a->data_bytes);
        at += a->data_bytes;
    } else {
        for (int64_t i = 0; i < a->count; i++) {
            uint32_t u = di_mat_char(v, a, i);
            if (u >= 0xd800 && u < 0xdc00) u = 0x10000 + ((u - 0xd800) << 10) + (di_mat_char(v, a, ++i) - 0xdc00);
            put_point(&at, u);
        }
    }
    if (memchr(text, 0, (size_t)(at - text))) {
        free(text);
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: variable '%s': a text with a zero byte", v->path, v->name);
    }
    *out = text;
    return DISTAC_OK;
}
