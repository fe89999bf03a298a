/* json.c: a strict JSON reader (RFC 8259), because a reader that is told that there is no memory has to say so:
 * jansson 2.14 then drops a byte of a name, writes past its buffer or ends the process. Beyond the RFC it refuses
 * names that stand twice, the character NUL, integers beyond 64 bits and nesting beyond 64 levels. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64, FEW = 8, BLOCK = 1 << 16 };

typedef struct block {
    struct block *before;
    size_t used, capacity;
    _Alignas(16) unsigned char room[];
} block;

typedef struct parser {
    const char *text;
    size_t bytes, at;
    di_json_document *document;
    distac_status status;
    const char *rule;
    size_t wrong; /* where the rule is broken */
} parser;

static bool broken(parser *p, size_t at, const char *rule) {
    p->status = DISTAC_EFORMAT;
    p->rule = rule;
    p->wrong = at;
    return false;
}

static void *take(parser *p, size_t bytes) {
    di_json_document *d = p->document;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes <= DI_JSON_ROOM - d->used) {
        d->used += bytes;
        return d->room + d->used - bytes;
    }
    block *last = d->blocks;
    if (!last || bytes > last->capacity - last->used) {
        size_t capacity = bytes > BLOCK ? bytes : BLOCK;
        block *fresh = di_new(sizeof *fresh + capacity);
        if (!fresh) {
            p->status = DISTAC_ENOMEM;
            return NULL;
        }
        fresh->capacity = capacity;
        fresh->before = last;
        d->blocks = last = fresh;
    }
    last->used += bytes;
    return last->room + last->used - bytes;
}

static void skip_space(parser *p) {
    while (p->at < p->bytes && strchr(" \t\r\n", p->text[p->at]) && p->text[p->at]) p->at++;
}

static char here(const parser *p) { return p->at < p->bytes ? p->text[p->at] : 0; }

/* ---- texts ---- */

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits behind \u; -1 where they are none. */
static long unit_at(const parser *p, size_t at) {
    long unit = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = at + i < p->bytes ? hex_digit(p->text[at + i]) : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* An escape at p->at, which is the letter behind the backslash; appended to out. */
static bool unescape(parser *p, char *out, size_t *count) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    size_t start = p->at - 1;
    char c = here(p);
    const char *found = c ? strchr(letters, c) : NULL;
    p->at++;
    if (found) {
        out[(*count)++] = meant[found - letters];
        return true;
    }
    if (c != 'u') return broken(p, start, "not JSON: an unknown escape");
    long unit = unit_at(p, p->at);
    if (unit < 0) return broken(p, start, "not JSON: \\u needs four hexadecimal digits");
    if (unit == 0) return broken(p, start, "texts must not hold the character NUL");
    p->at += 4;
    uint32_t character = (uint32_t)unit;
    if (unit >= 0xd800 && unit < 0xe000) {
        long low = unit < 0xdc00 && p->at + 1 < p->bytes && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u'
                       ? unit_at(p, p->at + 2)
                       : -1;
        if (low < 0xdc00 || low >= 0xe000) return broken(p, start, "not JSON: half of a surrogate pair");
        character = 0x10000 + (uint32_t)((unit - 0xd800) << 10 | (low - 0xdc00));
        p->at += 6;
    }
    *count += di_utf8_put(character, out + *count); /* no longer than its escape */
    return true;
}

/* The text whose opening quote is at p->at. */
static bool read_text(parser *p, const char **out, size_t *count) {
    size_t start = p->at++, end = p->at;
    while (end < p->bytes && p->text[end] != '"') end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->bytes) return broken(p, start, "not JSON: the text that begins here does not end");
    const char *raw = p->text + p->at, *wrong = di_utf8_wrong(raw, end - p->at);
    if (wrong) return broken(p, p->at + (size_t)(wrong - raw), "not valid UTF-8");
    char *text = take(p, end - p->at + 1);
    if (!text) return false;
    *count = 0;
    while (p->at < end) {
        char c = p->text[p->at];
        if ((unsigned char)c < 0x20) return broken(p, p->at, "not JSON: a control byte inside a text");
        p->at++;
        if (c != '\\')
            text[(*count)++] = c;
        else if (!unescape(p, text, count))
            return false;
    }
    p->at = end + 1;
    text[*count] = 0;
    *out = text;
    return true;
}

/* ---- numbers ---- */

static size_t digits(parser *p) {
    size_t from = p->at;
    while (here(p) >= '0' && here(p) <= '9') p->at++;
    return p->at - from;
}

/* Digits and powers of ten that a double holds exactly give the nearest double; others are right to a unit in the
 * last place. No locale has a say. */
static double scaled(uint64_t mantissa, long exponent) {
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (mantissa == 0) return 0;
    if (mantissa <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22)
        return exponent < 0 ? (double)mantissa / exact[-exponent] : (double)mantissa * exact[exponent];
    if (exponent < -400) return 0;
    return (double)((long double)mantissa * powl(10, (long double)(exponent > 400 ? 400 : exponent)));
}

static bool read_number(parser *p, di_json *out) {
    size_t start = p->at;
    bool negative = here(p) == '-', whole = true;
    if (negative) p->at++;
    size_t first = p->at, count = digits(p), after = p->at;
    if (count == 0 || (count > 1 && p->text[first] == '0')) return broken(p, start, "not JSON: not a number");
    uint64_t mantissa = 0, limit = (uint64_t)INT64_MAX + negative;
    long exponent = 0, written = 0;
    bool fits = true;
    if (here(p) == '.') {
        p->at++;
        whole = false;
        if (digits(p) == 0) return broken(p, start, "not JSON: not a number");
    }
    for (size_t i = first; i < p->at; i++) {
        if (p->text[i] == '.') continue;
        uint64_t digit = (uint64_t)(p->text[i] - '0');
        if (mantissa <= (UINT64_MAX - digit) / 10 && fits) {
            mantissa = mantissa * 10 + digit;
            if (i > after) exponent--;
        } else {
            fits = false;
            if (i < after) exponent++;
        }
    }
    if (here(p) == 'e' || here(p) == 'E') {
        whole = false;
        p->at++;
        bool down = here(p) == '-';
        if (down || here(p) == '+') p->at++;
        size_t from = p->at;
        if (digits(p) == 0) return broken(p, start, "not JSON: not a number");
        for (size_t i = from; i < p->at && written < 100000; i++) written = written * 10 + (p->text[i] - '0');
        exponent += down ? -written : written;
    }
    if (whole && (!fits || mantissa > limit)) return broken(p, start, "an integer does not fit in 64 bits");
    out->kind = whole ? DI_JSON_INTEGER : DI_JSON_REAL;
    out->integer = !whole ? 0 : negative ? (int64_t)(0 - mantissa) : (int64_t)mantissa;
    out->real = negative ? -scaled(mantissa, exponent) : scaled(mantissa, exponent);
    if (!isfinite(out->real)) return broken(p, start, "a number is too large");
    return true;
}

/* ---- values ---- */

static int by_key(const void *a, const void *b) {
    const di_json *x = *(const di_json *const *)a, *y = *(const di_json *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : x->at < y->at ? -1 : x->at > y->at;
}

/* By sorting: no choice of names makes it slow. */
static bool check_names(parser *p, const di_json *object) {
    const di_json *few[FEW], **list = few;
    size_t count = 0, twice = SIZE_MAX;
    if (object->count > FEW) list = di_new(object->count * sizeof *list);
    if (!list) {
        p->status = DISTAC_ENOMEM;
        return false;
    }
    for (const di_json *m = object->first; m; m = m->next) list[count++] = m;
    if (count > 1) qsort(list, count, sizeof *list, by_key);
    for (size_t i = 1; i < count; i++)
        if (strcmp(list[i - 1]->key, list[i]->key) == 0 && list[i]->at < twice) twice = list[i]->at;
    if (list != few) free(list);
    return twice == SIZE_MAX || broken(p, twice, "a name appears twice in one object");
}

static bool read_value(parser *p, di_json *out, int depth);

/* Items of a list or members of an object up to the closing bracket. */
static bool read_items(parser *p, di_json *out, char closing, int depth) {
    size_t start = p->at++;
    di_json *last = NULL;
    if (depth == DEPTH) return broken(p, start, "brackets nest deeper than 64 levels");
    for (skip_space(p); here(p) != closing || out->count > 0; skip_space(p)) {
        if (out->count > 0) {
            if (here(p) == closing) break;
            if (here(p) != ',') return broken(p, p->at, "not JSON: ',' or the closing bracket is expected");
            p->at++;
            skip_space(p);
        }
        di_json *item = take(p, sizeof *item);
        if (!item) return false;
        *item = (di_json){.at = p->at};
        if (closing == '}') {
            size_t length;
            if (here(p) != '"') return broken(p, p->at, "not JSON: a quoted name is expected");
            if (!read_text(p, &item->key, &length)) return false;
            skip_space(p);
            if (here(p) != ':') return broken(p, p->at, "not JSON: ':' is expected");
            p->at++;
        }
        if (!read_value(p, item, depth + 1)) return false;
        if (last)
            last->next = item;
        else
            out->first = item;
        last = item;
        out->count++;
    }
    p->at++;
    return closing == ']' || check_names(p, out);
}

static bool read_value(parser *p, di_json *out, int depth) {
    static const struct {
        const char *text;
        di_json_kind kind;
    } words[] = {{"null", DI_JSON_NULL}, {"false", DI_JSON_FALSE}, {"true", DI_JSON_TRUE}};
    skip_space(p);
    char c = here(p);
    if (c == '{' || c == '[') {
        out->kind = c == '{' ? DI_JSON_OBJECT : DI_JSON_LIST;
        return read_items(p, out, c == '{' ? '}' : ']', depth);
    }
    if (c == '"') {
        out->kind = DI_JSON_TEXT;
        return read_text(p, &out->text, &out->count);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(p, out);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t length = strlen(words[i].text);
        if (p->bytes - p->at < length || memcmp(p->text + p->at, words[i].text, length) != 0) continue;
        p->at += length;
        out->kind = words[i].kind;
        return true;
    }
    if (p->at == p->bytes) return broken(p, p->at, "not JSON: it ends where a value is expected");
    const char *rest = p->text + p->at;
    return broken(p, p->at,
                  di_utf8_wrong(rest, p->bytes - p->at) == rest ? "not valid UTF-8"
                                                                : "not JSON: a value is expected");
}

distac_status di_json_read(const char *text, size_t bytes, di_json_document *out, size_t *at, const char **rule) {
    parser p = {.text = text, .bytes = bytes, .document = out};
    out->root = NULL;
    out->blocks = NULL;
    out->used = 0;
    di_json *root = take(&p, sizeof *root);
    *root = (di_json){0};
    bool good = read_value(&p, root, 0);
    if (good) {
        skip_space(&p);
        if (p.at < bytes) good = broken(&p, p.at, "not JSON: something follows the value");
    }
    if (good) {
        out->root = root;
        return DISTAC_OK;
    }
    di_json_free(out);
    *at = p.wrong;
    *rule = p.rule;
    return p.status;
}

void di_json_free(di_json_document *document) {
    for (block *b = document->blocks; b;) {
        block *before = b->before;
        free(b);
        b = before;
    }
    document->blocks = NULL;
    document->root = NULL;
}

const di_json *di_json_get(const di_json *object, const char *key) {
    if (!di_json_is(object, DI_JSON_OBJECT)) return NULL;
    for (const di_json *m = object->first; m; m = m->next)
        if (strcmp(m->key, key) == 0) return m;
    return NULL;
}

const char *di_json_text(const di_json *value) { return di_json_is(value, DI_JSON_TEXT) ? value->text : NULL; }
