/* vocab.c: the symbols of a tokenizer, found by text or id, and the merges as lists of what may follow a symbol.
 * Everything is found by bisection: no file can make it slow. */
#define _GNU_SOURCE 1 /* qsort_r */
#include "text.h"
#include <stdlib.h>
#include <string.h>

const char *di_vocab_text(const distac_tokenizer *t, int32_t id, size_t *bytes) {
    *bytes = t->begin[id + 1] - t->begin[id];
    return t->texts + t->begin[id];
}

static int compare_texts(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

int32_t di_vocab_find(const distac_tokenizer *t, const char *text, size_t bytes) {
    int32_t low = 0, high = t->count; /* the first that is larger */
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        size_t n;
        const char *s = di_vocab_text(t, t->sorted[middle], &n);
        if (compare_texts(s, n, text, bytes) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return -1;
    size_t n;
    const char *s = di_vocab_text(t, t->sorted[low - 1], &n);
    return compare_texts(s, n, text, bytes) == 0 ? t->sorted[low - 1] : -1;
}

distac_status di_vocab_add(distac_tokenizer *t, const char *text, size_t bytes) {
    if (t->count == t->room || !t->begin) {
        int32_t room = t->room ? 2 * t->room : 1024;
        uint32_t *begin = di_grow(t->begin, ((size_t)room + 1) * sizeof *begin);
        if (!begin) return DISTAC_ENOMEM;
        if (!t->begin) begin[0] = 0;
        t->begin = begin;
        t->room = room;
    }
    if (t->text_room - t->text_bytes < bytes) {
        size_t room = 2 * t->text_room + bytes + 4096;
        char *texts = di_grow(t->texts, room);
        if (!texts) return DISTAC_ENOMEM;
        t->texts = texts;
        t->text_room = room;
    }
    memcpy(t->texts + t->text_bytes, text, bytes);
    t->text_bytes += bytes; /* at most a file's bytes and little more: fits 32 bits */
    t->begin[++t->count] = (uint32_t)t->text_bytes;
    return DISTAC_OK;
}

static int by_text(const void *a, const void *b, void *arg) {
    const distac_tokenizer *t = arg;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    size_t n, m;
    const char *s = di_vocab_text(t, i, &n), *u = di_vocab_text(t, j, &m);
    int order = compare_texts(s, n, u, m);
    return order ? order : (i > j) - (i < j);
}

distac_status di_vocab_sort(distac_tokenizer *t) {
    t->sorted = di_new(((size_t)t->count + 1) * sizeof *t->sorted);
    if (!t->sorted) return DISTAC_ENOMEM;
    for (int32_t i = 0; i < t->count; i++) t->sorted[i] = i;
    qsort_r(t->sorted, (size_t)t->count, sizeof *t->sorted, by_text, t);
    return DISTAC_OK;
}

/* ---- bytes ---- */

/* Bytes that print stand for themselves; the 68 others, in order, for U+0100 and on. */
static bool prints(int32_t byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

static int32_t hidden_before(int32_t byte) { /* bytes below this one that do not print */
    if (byte <= 33) return byte;
    if (byte <= 127) return 33;
    if (byte <= 161) return byte - 94;
    return byte <= 173 ? 67 : 68;
}

size_t di_byte_text(uint8_t byte, char out[4]) {
    return di_utf8_put(prints(byte) ? byte : 0x100 + (uint32_t)hidden_before(byte), out);
}

int32_t di_byte_of(uint32_t point) {
    if (point < 0x100) return prints((int32_t)point) ? (int32_t)point : -1;
    int32_t k = (int32_t)point - 0x100;
    return k < 33 ? k : k < 67 ? k + 94 : k == 67 ? 173 : -1;
}

/* ---- merges ---- */

typedef struct known_merge {
    int32_t left;
    di_follower follower;
} known_merge;

static int by_pair(const void *a, const void *b) {
    const known_merge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    if (x->follower.right != y->follower.right) return x->follower.right < y->follower.right ? -1 : 1;
    return (x->follower.rank > y->follower.rank) - (x->follower.rank < y->follower.rank);
}

static distac_status half(const distac_tokenizer *t, const char *file, const di_merge_line *m, const char *text,
                          size_t bytes, int32_t *out) {
    *out = di_vocab_find(t, text, bytes);
    if (*out >= 0) return DISTAC_OK;
    return di_fail_at(DISTAC_EFORMAT, "distac_tokenizer_open",
                      "%s, line %d: '%.*s' is no symbol of the vocabulary", file, (int)m->line,
                      (int)(bytes < 80 ? bytes : 80), text);
}

static distac_status look_up(const distac_tokenizer *t, const char *file, int32_t rank, const di_merge_line *m,
                             known_merge *out) {
    char joined[2 * DI_SYMBOL_BYTES];
    if (m->left_bytes + m->right_bytes > DI_SYMBOL_BYTES)
        return di_fail_at(DISTAC_EFORMAT, "distac_tokenizer_open",
                          "%s, line %d: a symbol of %zu bytes, more than %d", file, (int)m->line,
                          m->left_bytes + m->right_bytes, (int)DI_SYMBOL_BYTES);
    out->follower.rank = rank;
    DI_TRY(half(t, file, m, m->left, m->left_bytes, &out->left));
    DI_TRY(half(t, file, m, m->right, m->right_bytes, &out->follower.right));
    memcpy(joined, m->left, m->left_bytes);
    memcpy(joined + m->left_bytes, m->right, m->right_bytes);
    return half(t, file, m, joined, m->left_bytes + m->right_bytes, &out->follower.result);
}

static distac_status fill(distac_tokenizer *t, const char *file, int32_t count, const di_merge_line *lines,
                          known_merge *merges) {
    for (int32_t i = 0; i < count; i++) DI_TRY(look_up(t, file, i, &lines[i], &merges[i]));
    qsort(merges, (size_t)count, sizeof *merges, by_pair);
    for (int32_t i = 0; i < count; i++) {
        t->followers[i] = merges[i].follower;
        t->first[merges[i].left + 1]++;
        if (i > 0 && merges[i].left == merges[i - 1].left &&
            merges[i].follower.right == merges[i - 1].follower.right)
            return di_fail_at(DISTAC_EFORMAT, "distac_tokenizer_open", "%s, line %d: the merge of line %d again",
                              file, (int)lines[merges[i].follower.rank].line,
                              (int)lines[merges[i - 1].follower.rank].line);
    }
    for (int32_t s = 0; s < t->count; s++) t->first[s + 1] += t->first[s];
    return DISTAC_OK;
}

static distac_status find_bytes(distac_tokenizer *t, const char *file) {
    for (int32_t byte = 0; byte < 256; byte++)
        for (int32_t end = 0; end < 2; end++) {
            char text[8];
            size_t n = di_byte_text((uint8_t)byte, text);
            if (end) memcpy(text + n, "</w>", 4);
            n += end ? 4 : 0;
            t->symbol[byte][end] = di_vocab_find(t, text, n);
            if (t->symbol[byte][end] < 0)
                return di_fail_at(DISTAC_EFORMAT, "distac_tokenizer_open",
                                  "%s: the vocabulary has no symbol '%.*s', which stands for byte %d%s", file,
                                  (int)n, text, (int)byte, end ? " at the end of a word" : "");
        }
    return DISTAC_OK;
}

static void make_hash(distac_tokenizer *t, int32_t count, const di_merge_line *lines) {
    di_sha256 hash;
    di_sha256_init(&hash);
    for (int32_t i = 0; i < t->count; i++) {
        size_t n;
        const char *s = di_vocab_text(t, i, &n);
        di_sha256_update(&hash, s, n);
        di_sha256_update(&hash, "\n", 1);
    }
    for (int32_t i = 0; i < count; i++) {
        di_sha256_update(&hash, lines[i].left, lines[i].left_bytes);
        di_sha256_update(&hash, " ", 1);
        di_sha256_update(&hash, lines[i].right, lines[i].right_bytes);
        di_sha256_update(&hash, "\n", 1);
    }
    di_sha256_hex(&hash, t->hash);
}

distac_status di_vocab_finish(distac_tokenizer *t, const char *file, int32_t count, const di_merge_line *merges) {
    static const char *const specials[2] = {"<|startoftext|>", "<|endoftext|>"};
    DI_TRY(find_bytes(t, file));
    t->start = di_vocab_find(t, specials[0], strlen(specials[0]));
    t->end = di_vocab_find(t, specials[1], strlen(specials[1]));
    if (t->start < 0 || t->end < 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_tokenizer_open", "%s: the vocabulary has no '%s'", file,
                          specials[t->start >= 0]);
    t->merges = count;
    t->first = di_new(((size_t)t->count + 1) * sizeof *t->first);
    t->followers = di_new(((size_t)count + 1) * sizeof *t->followers);
    known_merge *known = di_new(((size_t)count + 1) * sizeof *known);
    distac_status status = t->first && t->followers && known ? fill(t, file, count, merges, known) : DISTAC_ENOMEM;
    free(known);
    if (status == DISTAC_OK) make_hash(t, count, merges);
    return status;
}
