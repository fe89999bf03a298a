/* split.c: a cleaned, lower-case text cut into words by CLIP's pattern, whose alternatives are tried in this
 * order: the special texts, 's 't 're 've 'm 'll 'd, letters, one number character, everything else but
 * whitespace. The pattern ignores case, so the long s, which lower-casing leaves alone, stands for an s; and the
 * iota below, a mark whose capital is a letter, is neither a letter nor anything else: it is dropped. */
#include "text.h"
#include <unictype.h>

enum { LONG_S = 0x17f, IOTA_BELOW = 0x345 };

/* What no alternative takes. */
static bool is_skipped(uint32_t c) {
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return uc_is_property_white_space(c) || c == IOTA_BELOW;
}
static bool is_letter(uint32_t c) {
    return c < 0x80 ? c >= 'a' && c <= 'z' : uc_is_general_category_withtable(c, UC_CATEGORY_MASK_L);
}
static bool is_number(uint32_t c) {
    return c < 0x80 ? c >= '0' && c <= '9' : uc_is_general_category_withtable(c, UC_CATEGORY_MASK_N);
}

/* Length of `wanted` if the text goes on with it, else 0; *exact: without a long s. */
static size_t begins(const di_points *p, size_t at, const char *wanted, bool *exact) {
    size_t n = 0;
    *exact = true;
    for (; wanted[n]; n++) {
        if (at + n >= p->count) return 0;
        uint32_t c = p->at[at + n];
        if (c == LONG_S && wanted[n] == 's')
            *exact = false;
        else if (c != (uint32_t)wanted[n])
            return 0;
    }
    return n;
}

static size_t special(const di_points *p, size_t at, di_word_kind *kind) {
    static const char *const texts[2] = {"<|startoftext|>", "<|endoftext|>"};
    for (int i = 0; i < 2; i++) {
        bool exact;
        size_t n = begins(p, at, texts[i], &exact);
        if (n == 0) continue;
        if (exact) *kind = i == 0 ? DI_WORD_START : DI_WORD_END; /* otherwise a word like any other */
        return n;
    }
    return 0;
}

static size_t contraction(const di_points *p, size_t at) {
    static const char *const texts[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    bool exact;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t n = begins(p, at, texts[i], &exact);
        if (n > 0) return n;
    }
    return 0;
}

bool di_word_next(const di_points *points, size_t *at, size_t *from, di_word_kind *kind) {
    size_t i = *at;
    *kind = DI_WORD;
    while (i < points->count && is_skipped(points->at[i])) i++;
    *from = i;
    if (i == points->count) {
        *at = i;
        return false;
    }
    uint32_t c = points->at[i];
    size_t length = 0;
    if (c == '<')
        length = special(points, i, kind);
    else if (c == '\'')
        length = contraction(points, i);
    if (length > 0) {
        i += length;
    } else if (is_letter(c)) {
        while (i < points->count && is_letter(points->at[i])) i++;
    } else if (is_number(c)) {
        i++;
    } else {
        for (; i < points->count; i++) {
            c = points->at[i];
            if (is_skipped(c) || is_letter(c) || is_number(c)) break;
        }
    }
    *at = i;
    return true;
}
