/* text.c: texts that grow, UTF-8, the nearest of some names, and the public list of texts. */
#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- growing text ---- */

void di_text_add(di_text *text, const char *format, ...) {
    if (text->failed) return;
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0) {
        text->failed = true;
        return;
    }
    size_t wanted = text->length + (size_t)need + 1;
    if (wanted > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 64;
        while (capacity < wanted) capacity *= 2;
        char *bytes = di_grow(text->bytes, capacity);
        if (!bytes) {
            text->failed = true;
            return;
        }
        text->bytes = bytes;
        text->capacity = capacity;
    }
    va_start(args, format);
    vsnprintf(text->bytes + text->length, (size_t)need + 1, format, args);
    va_end(args);
    text->length += (size_t)need;
}

void di_text_free(di_text *text) {
    free(text->bytes);
    *text = (di_text){0};
}

/* ---- UTF-8 ---- */

uint32_t di_utf8_get(const char *text, size_t bytes, size_t *length) {
    const uint8_t *s = (const uint8_t *)text;
    *length = 0;
    if (bytes == 0) return 0;
    if (s[0] < 0x80) {
        *length = 1;
        return s[0];
    }
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > bytes) return 0;
    uint32_t point = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (s[i] & 0x3fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return 0;
    *length = n;
    return point;
}

size_t di_utf8_put(uint32_t point, char out[4]) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[n] | point);
    return n;
}

const char *di_utf8_wrong(const char *text, size_t bytes) {
    size_t length;
    for (size_t i = 0; i < bytes; i += length) {
        length = 1;
        if ((uint8_t)text[i] < 0x80) continue;
        (void)di_utf8_get(text + i, bytes - i, &length);
        if (length == 0) return text + i;
    }
    return NULL;
}

/* ---- nearest name ---- */

enum { NAME_BYTES = 127 }; /* longer names are compared by their ends: that is where tensor names differ */

static char fold(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static int least(int a, int b) { return a < b ? a : b; }

/* Edits that turn a into b: insert, delete, replace, exchange of neighbours; ASCII case is ignored. */
static int distance(const char *a, int n, const char *b, int m) {
    int row[3][NAME_BYTES + 1];
    int *two = row[0], *one = row[1], *now = row[2];
    for (int j = 0; j <= m; j++) one[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int differ = fold(a[i - 1]) != fold(b[j - 1]);
            now[j] = least(least(one[j] + 1, now[j - 1] + 1), one[j - 1] + differ);
            if (i > 1 && j > 1 && differ && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]))
                now[j] = least(now[j], two[j - 2] + 1);
        }
        int *old = two;
        two = one;
        one = now;
        now = old;
    }
    return one[m];
}

static bool contains(const char *text, int n, const char *part, int m) {
    for (int i = 0; i + m <= n; i++) {
        int j = 0;
        while (j < m && fold(text[i + j]) == fold(part[j])) j++;
        if (j == m) return true;
    }
    return false;
}

static const char *ending(const char *name, int *length) {
    size_t bytes = strlen(name), skip = bytes > NAME_BYTES ? bytes - NAME_BYTES : 0;
    *length = (int)(bytes - skip);
    return name + skip;
}

const char *di_nearest(const char *name, int64_t count, const char *const *candidates) {
    const char *best = NULL, *part = NULL;
    int least_edits = 0, parts = 0, n;
    const char *wanted = ending(name, &n);
    for (int64_t i = 0; i < count; i++) {
        int m;
        if (!candidates[i]) continue;
        const char *candidate = ending(candidates[i], &m);
        int length = n > m ? n : m, near = length / 3 > 1 ? length / 3 : 1;
        int edits = distance(wanted, n, candidate, m);
        /* Replacing every letter of a short name is no resemblance. */
        if (edits <= near && edits < length && (!best || edits < least_edits)) {
            best = candidates[i];
            least_edits = edits;
        }
        if (n >= 2 && m >= 2 && (contains(candidate, m, wanted, n) || contains(wanted, n, candidate, m))) {
            part = candidates[i];
            parts++;
        }
    }
    return best ? best : parts == 1 ? part : NULL;
}

/* ---- list of texts ---- */

struct distac_strings {
    char **item;
    int64_t count, capacity;
};

distac_strings *di_strings_new(void) { return di_new(sizeof(distac_strings)); }

distac_status di_strings_add(distac_strings *strings, const char *text) {
    if (strings->count == strings->capacity) {
        int64_t capacity = strings->capacity ? 2 * strings->capacity : 8;
        char **item = di_grow(strings->item, (size_t)capacity * sizeof *item);
        if (!item) return DISTAC_ENOMEM;
        strings->item = item;
        strings->capacity = capacity;
    }
    char *copy = di_strdup(text);
    if (!copy) return DISTAC_ENOMEM;
    strings->item[strings->count++] = copy;
    return DISTAC_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void di_strings_sort(distac_strings *strings) {
    if (strings->count > 1) qsort(strings->item, (size_t)strings->count, sizeof *strings->item, by_bytes);
}

void distac_strings_release(distac_strings *strings) {
    if (!strings) return;
    for (int64_t i = 0; i < strings->count; i++) free(strings->item[i]);
    free(strings->item);
    free(strings);
}

int64_t distac_strings_count(const distac_strings *strings) { return strings ? strings->count : -1; }

const char *distac_strings_get(const distac_strings *strings, int64_t index) {
    return strings && index >= 0 && index < strings->count ? strings->item[index] : NULL;
}

/* ---- patterns ---- */

bool di_glob(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL; /* the last star, and where its text may end */
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}
