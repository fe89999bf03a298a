/* tokenizer.c: the tokenizer as an object: texts to ids, rows for the text encoder, ids to texts. */
#include "text.h"
#include <stdlib.h>
#include <string.h>

enum { LONGEST_ROW = 1 << 20 };

void distac_tokenizer_release(distac_tokenizer *tokenizer) {
    if (!tokenizer || atomic_fetch_sub(&tokenizer->refs, 1) != 1) return;
    free(tokenizer->texts);
    free(tokenizer->begin);
    free(tokenizer->sorted);
    free(tokenizer->first);
    free(tokenizer->followers);
    distac_context_release(tokenizer->context);
    free(tokenizer);
}

distac_status distac_tokenizer_open(distac_context *context, const char *path, distac_tokenizer **out) {
    DI_REQUIRE(context && path && out, "context, path and out are needed");
    *out = NULL;
    distac_tokenizer *tokenizer = di_new(sizeof *tokenizer);
    if (!tokenizer) return DISTAC_ENOMEM;
    atomic_init(&tokenizer->refs, 1);
    di_context_retain(context);
    tokenizer->context = context;
    distac_status status = di_vocab_read(tokenizer, path);
    if (status == DISTAC_OK)
        *out = tokenizer;
    else
        distac_tokenizer_release(tokenizer);
    return status;
}

int64_t distac_tokenizer_size(const distac_tokenizer *tokenizer) {
    return tokenizer ? tokenizer->count : 0;
}
int64_t distac_tokenizer_start(const distac_tokenizer *tokenizer) {
    return tokenizer ? tokenizer->start : -1;
}
int64_t distac_tokenizer_end(const distac_tokenizer *tokenizer) {
    return tokenizer ? tokenizer->end : -1;
}
const char *distac_tokenizer_hash(const distac_tokenizer *tokenizer) {
    return tokenizer ? tokenizer->hash : NULL;
}

/* ---- encoding ---- */

static distac_status add_words(const distac_tokenizer *t, const di_points *points, di_merger *merger,
                               di_points *word, di_ids *ids) {
    size_t at = 0, from;
    di_word_kind kind;
    while (di_word_next(points, &at, &from, &kind)) {
        if (kind != DI_WORD) {
            DI_TRY(di_ids_reserve(t->context, ids, 1));
            ids->at[ids->count++] = kind == DI_WORD_START ? t->start : t->end;
            continue;
        }
        if (word->capacity < at - from) {
            di_points_free(t->context, word);
            DI_TRY(di_points_new(t->context, 2 * (at - from) + 64, word));
        }
        char *bytes = (char *)word->at; /* four bytes a point are enough */
        size_t count = 0;
        for (size_t i = from; i < at; i++) count += di_utf8_put(points->at[i], bytes + count);
        DI_TRY(di_bpe_word(t, merger, (const uint8_t *)bytes, count, ids));
        DI_TRY(di_poll(t->context));
    }
    return DISTAC_OK;
}

/* Appends the ids of a text. */
static distac_status encode(const distac_tokenizer *t, const char *text, size_t bytes, di_ids *ids) {
    if (bytes > DI_TEXT_LIMIT)
        return di_fail_at(DISTAC_EINVAL, "distac_tokenizer_encode", "the text has %zu bytes, more than %d MiB",
                          bytes, (int)(DI_TEXT_LIMIT >> 20));
    di_points raw = {0}, points = {0}, word = {0};
    di_merger merger = {0};
    DI_TRY(di_points_decode(t->context, text, bytes, &raw));
    di_points_unescape(&raw);
    di_points_unescape(&raw);
    di_points_collapse(&raw);
    distac_status status = di_points_lower(t->context, &raw, &points);
    di_points_free(t->context, &raw);
    if (status == DISTAC_OK) status = add_words(t, &points, &merger, &word, ids);
    di_points_free(t->context, &points);
    di_points_free(t->context, &word);
    di_merger_free(t->context, &merger);
    return status;
}

distac_status distac_tokenizer_encode(const distac_tokenizer *tokenizer, const char *text, int64_t bytes,
                                      distac_tensor **out) {
    DI_REQUIRE(tokenizer && text && out && bytes >= 0, "tokenizer, text and out are needed");
    *out = NULL;
    di_ids ids = {0};
    distac_status status = encode(tokenizer, text, (size_t)bytes, &ids);
    int64_t count = (int64_t)ids.count;
    if (status == DISTAC_OK) status = di_tensor_new(tokenizer->context, DISTAC_I64, 1, &count, false, out);
    if (status == DISTAC_OK && count > 0) memcpy((*out)->data, ids.at, ids.count * sizeof *ids.at);
    di_ids_free(tokenizer->context, &ids);
    return status;
}

distac_status distac_tokenizer_row(const distac_tokenizer *tokenizer, const char *text, int64_t bytes,
                                   int64_t length, int32_t truncate, distac_tensor **out) {
    DI_REQUIRE(tokenizer && text && out && bytes >= 0, "tokenizer, text and out are needed");
    *out = NULL;
    if (length < 2 || length > LONGEST_ROW)
        return di_fail(DISTAC_EINVAL, "length is %lld, it must be from 2 to %d", (long long)length,
                       (int)LONGEST_ROW);
    di_ids ids = {0};
    distac_tensor *row = NULL;
    distac_status status = encode(tokenizer, text, (size_t)bytes, &ids);
    int64_t count = (int64_t)ids.count;
    if (status == DISTAC_OK && count + 2 > length && !truncate) {
        size_t shown = bytes < 60 ? (size_t)bytes : 60;
        while (shown > 0 && shown < (size_t)bytes && ((uint8_t)text[shown] & 0xc0) == 0x80) shown--;
        status =
            di_fail(DISTAC_EINVAL, "a text needs %lld positions, there are %lld: '%.*s%s'; truncate cuts it",
                    (long long)count + 2, (long long)length, (int)shown, text, shown < (size_t)bytes ? "…" : "");
    }
    if (status == DISTAC_OK) status = di_tensor_new(tokenizer->context, DISTAC_I64, 1, &length, true, &row);
    if (status == DISTAC_OK) {
        int64_t *to = row->data, kept = count + 2 > length ? length - 2 : count;
        to[0] = tokenizer->start;
        if (kept > 0) memcpy(to + 1, ids.at, (size_t)kept * sizeof *to);
        to[kept + 1] = tokenizer->end;
        *out = row;
    }
    di_ids_free(tokenizer->context, &ids);
    return status;
}

/* ---- decoding ---- */

/* The bytes of a symbol; the mark of a word's end becomes a space, start and end stay as they are. */
static size_t symbol_bytes(const distac_tokenizer *t, int64_t id, char *out) {
    size_t n, length, count = 0;
    const char *text = di_vocab_text(t, (int32_t)id, &n);
    bool special = id == t->start || id == t->end;
    bool ends = !special && n >= 4 && memcmp(text + n - 4, "</w>", 4) == 0;
    if (ends) n -= 4;
    for (size_t i = 0; i < n; i += length ? length : 1) {
        int32_t byte = di_byte_of(di_utf8_get(text + i, n - i, &length));
        out[count++] = byte >= 0 && length ? (char)byte : '?'; /* '?': added tokens of other vocabularies */
    }
    if (ends) out[count++] = ' ';
    return count;
}

/* Sequences that are no UTF-8 become U+FFFD, one for each longest beginning of a valid sequence. */
static distac_status add_valid(di_text *text, const char *bytes, size_t count) {
    for (size_t i = 0; i < count;) {
        size_t length, bad = 1;
        (void)di_utf8_get(bytes + i, count - i, &length);
        if (length > 0 && bytes[i] != '\0') {
            size_t run = i;
            while (i < count && bytes[i] != '\0') {
                (void)di_utf8_get(bytes + i, count - i, &length);
                if (length == 0) break;
                i += length;
            }
            di_text_add(text, "%.*s", (int)(i - run), bytes + run);
            continue;
        }
        const uint8_t *s = (const uint8_t *)bytes + i;
        if (s[0] >= 0xc2 && s[0] <= 0xf4 && i + 1 < count) {
            uint8_t low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
            uint8_t high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
            size_t whole = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
            if (s[1] >= low && s[1] <= high)
                for (bad = 2; bad < whole && i + bad < count && (s[bad] & 0xc0) == 0x80; bad++) {
                }
        }
        di_text_add(text, "\xef\xbf\xbd");
        i += bad;
    }
    return text->failed ? di_fail_at(DISTAC_ENOMEM, "distac_tokenizer_decode", "out of memory") : DISTAC_OK;
}

distac_status distac_tokenizer_decode(const distac_tokenizer *tokenizer, int64_t n_ids, const int64_t *ids,
                                      distac_strings **out) {
    DI_REQUIRE(tokenizer && out && n_ids >= 0 && (ids || n_ids == 0), "tokenizer, ids and out are needed");
    *out = NULL;
    size_t room = 1;
    for (int64_t i = 0; i < n_ids; i++) {
        size_t n = 0;
        if (ids[i] < 0 || ids[i] >= tokenizer->count)
            return di_fail(DISTAC_EINVAL, "id %lld at index %lld is outside the vocabulary, 0 to %d",
                           (long long)ids[i], (long long)i, (int)tokenizer->count - 1);
        (void)di_vocab_text(tokenizer, (int32_t)ids[i], &n);
        room += n;
        if (room > (size_t)DI_TEXT_LIMIT * 4) return di_fail(DISTAC_EINVAL, "the text would be too long");
    }
    char *bytes = di_alloc(tokenizer->context, room);
    distac_strings *strings = bytes ? di_strings_new() : NULL;
    di_text text = {0};
    size_t count = 0;
    distac_status status = strings ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < n_ids; i++)
        count += symbol_bytes(tokenizer, ids[i], bytes + count);
    if (status == DISTAC_OK) status = add_valid(&text, bytes, count);
    if (status == DISTAC_OK) status = di_strings_add(strings, text.bytes ? text.bytes : "");
    di_text_free(&text);
    di_free(tokenizer->context, bytes, room);
    if (status == DISTAC_OK)
        *out = strings;
    else
        distac_strings_release(strings);
    return status;
}
