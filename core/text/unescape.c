/* unescape.c: one round of Python's html.unescape over code points: named references (the longest known beginning
 * of an unknown name counts, too), numeric ones with the replacements of the HTML5 standard. */
#include "text.h"
#include <stdlib.h>
#include <string.h>

typedef struct entity {
    const char *name;
    uint32_t first, second; /* second 0: one code point */
    bool legacy;            /* known without the semicolon too */
} entity;
static const entity entities[] = {
#define X(name, first, second, legacy) {#name, first, second, legacy},
#include "entities.inc"
};
typedef struct pair {
    uint32_t from, to;
} pair;
static const pair replaced[] = {
#define Y(number, point) {number, point},
#include "entities.inc"
};
static const pair dropped[] = {
#define Z(first, last) {first, last},
#include "entities.inc"
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
enum { NAME_POINTS = 32 };

static int compare_name(const void *key, const void *item) {
    return strcmp(key, ((const entity *)item)->name);
}

static const entity *named(const char *name) {
    return bsearch(name, entities, COUNT(entities), sizeof entities[0], compare_name);
}

static size_t put(uint32_t *out, uint32_t point) {
    out[0] = point;
    return 1;
}

static int digit_of(uint32_t point, uint32_t base) {
    if (point >= '0' && point <= '9') return (int)(point - '0');
    if (base == 16 && point >= 'a' && point <= 'f') return (int)(point - 'a') + 10;
    if (base == 16 && point >= 'A' && point <= 'F') return (int)(point - 'A') + 10;
    return -1;
}

/* What a number stands for; out receives 0 or 1 points. */
static size_t number_put(uint32_t number, uint32_t *out) {
    for (size_t i = 0; i < COUNT(replaced); i++)
        if (replaced[i].from == number) return put(out, replaced[i].to);
    if ((number >= 0xd800 && number <= 0xdfff) || number > 0x10ffff) return put(out, 0xfffd);
    for (size_t i = 0; i < COUNT(dropped); i++)
        if (number >= dropped[i].from && number <= dropped[i].to) return 0;
    return put(out, number);
}

/* "#…" behind an ampersand: *used points of it were a reference, 0 if it is none. */
static size_t numeric(const uint32_t *in, size_t count, size_t *used, uint32_t *out) {
    bool hexadecimal = count > 1 && (in[1] == 'x' || in[1] == 'X');
    uint32_t base = hexadecimal ? 16 : 10, number = 0;
    size_t first = hexadecimal ? 2 : 1, i = first;
    for (; i < count && digit_of(in[i], base) >= 0; i++) {
        number = number * base + (uint32_t)digit_of(in[i], base);
        if (number > 0x110000) number = 0x110000; /* large is large: no overflow */
    }
    *used = 0;
    if (i == first) return 0;
    if (i < count && in[i] == ';') i++;
    *used = i;
    return number_put(number, out);
}

static bool ends_name(uint32_t c) {
    return c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';';
}

/* A name behind an ampersand. Unknown names keep their points; the ampersand is put back by the caller. */
static size_t by_name(const uint32_t *in, size_t count, size_t *used, uint32_t *out) {
    char name[NAME_POINTS + 1];
    size_t length = 0, ascii = 0;
    while (length < count && length < NAME_POINTS && !ends_name(in[length])) length++;
    while (ascii < length && in[ascii] > 0 && in[ascii] < 0x80) {
        name[ascii] = (char)in[ascii];
        ascii++;
    }
    bool semicolon = length < count && in[length] == ';';
    *used = 0;
    for (size_t n = ascii; n > 0; n--) {
        name[n] = '\0';
        bool whole = n == length;
        if (n < 2 && !whole) break; /* beginnings have two letters or more */
        const entity *e = named(name);
        if (!e || !(e->legacy || (whole && semicolon))) continue;
        *used = n + (whole && semicolon);
        size_t written = put(out, e->first);
        return e->second ? written + put(out + 1, e->second) : written;
    }
    return 0;
}

void di_points_unescape(di_points *points) {
    uint32_t *p = points->at;
    size_t to = 0, i = 0;
    while (i < points->count) {
        if (p[i] != '&') {
            p[to++] = p[i++];
            continue;
        }
        /* The result is never longer than the reference, so writing stays behind reading. */
        uint32_t out[2];
        size_t left = points->count - i - 1, used = 0, written = 0;
        const uint32_t *in = p + i + 1;
        if (left > 0 && in[0] == '#')
            written = numeric(in, left, &used, out);
        else if (left > 0)
            written = by_name(in, left, &used, out);
        if (used == 0) {
            p[to++] = '&';
            i++;
            continue;
        }
        for (size_t k = 0; k < written; k++) p[to++] = out[k];
        i += 1 + used;
    }
    points->count = to;
}
