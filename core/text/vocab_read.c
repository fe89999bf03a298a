/* vocab_read.c: vocabularies from files: CLIP's bpe_simple_vocab_16e6.txt (plain or gzip), which numbers its
 * symbols itself, or vocab.json and merges.txt as Hugging Face writes them. */
#include "../base/json.h"
#include "../data/data.h"
#include "text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FUNCTION "distac_tokenizer_open"

/* ---- files ---- */

typedef struct bytes {
    uint8_t *at;
    size_t count, capacity;
} bytes;

static void bytes_free(distac_context *context, bytes *b) {
    di_free(context, b->at, b->capacity);
    *b = (bytes){0};
}

static distac_status inflate_all(distac_context *context, const char *path, z_stream *z, bytes *out) {
    for (;;) {
        if (out->count == out->capacity) {
            if (out->capacity >= DI_VOCAB_LIMIT)
                return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s unpacks to more than %d MiB", path,
                                  (int)(DI_VOCAB_LIMIT >> 20));
            size_t capacity = out->capacity ? 2 * out->capacity : 1 << 16;
            uint8_t *at = di_alloc(context, capacity);
            if (!at) return DISTAC_ENOMEM;
            if (out->count > 0) memcpy(at, out->at, out->count);
            di_free(context, out->at, out->capacity);
            out->at = at;
            out->capacity = capacity;
        }
        z->next_out = out->at + out->count;
        z->avail_out = (uInt)(out->capacity - out->count);
        int code = inflate(z, Z_NO_FLUSH);
        out->count = out->capacity - z->avail_out;
        if (code == Z_STREAM_END && z->avail_in == 0) return DISTAC_OK;
        if (code == Z_STREAM_END) { /* members follow each other (RFC 1952, 2.2) */
            if (inflateReset(z) != Z_OK) return di_fail_at(DISTAC_ENOMEM, FUNCTION, "%s: cannot inflate", path);
        } else if (code == Z_MEM_ERROR) {
            return di_fail_at(DISTAC_ENOMEM, FUNCTION, "%s: no memory to inflate", path);
        } else if (code != Z_OK && !(code == Z_BUF_ERROR && z->avail_out == 0)) {
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: broken gzip stream near byte %lu: %s", path,
                              z->total_in,
                              code == Z_BUF_ERROR ? "it is cut"
                              : z->msg            ? z->msg
                                                  : "unknown");
        } else if (z->avail_in == 0 && z->avail_out > 0) {
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: the gzip stream is cut at byte %lu", path,
                              z->total_in);
        }
    }
}

/* A whole file, unpacked if it is gzip. */
static distac_status read_whole(distac_context *context, const char *path, bytes *out) {
    bytes packed = {0};
    *out = (bytes){0};
    DI_TRY(di_read_file(context, path, DI_VOCAB_LIMIT, &packed.at, &packed.count));
    packed.capacity = packed.count;
    if (packed.count < 2 || packed.at[0] != 0x1f || packed.at[1] != 0x8b) {
        *out = packed;
        return DISTAC_OK;
    }
    z_stream z = {.next_in = packed.at, .avail_in = (uInt)packed.count};
    distac_status status;
    int code = inflateInit2(&z, 15 + 16);
    if (code != Z_OK) {
        status = di_fail_inflate(FUNCTION, path, code, z.msg);
    } else {
        status = inflate_all(context, path, &z, out);
        inflateEnd(&z);
    }
    bytes_free(context, &packed);
    if (status != DISTAC_OK) bytes_free(context, out);
    return status;
}

/* ---- merges ---- */

typedef struct lines {
    di_merge_line *at;
    int32_t count, room;
} lines;

static distac_status bad_line(const char *name, int32_t line, const char *rule) {
    return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s, line %d: %s", name, (int)line, rule);
}

/* A symbol may hold only characters that stand for bytes. */
static bool is_symbol(const char *text, size_t count) {
    size_t length;
    for (size_t i = 0; i < count; i += length)
        if (di_byte_of(di_utf8_get(text + i, count - i, &length)) < 0 || length == 0) return false;
    return count > 0;
}

static distac_status read_merge(const char *name, int32_t line, const char *text, size_t count, lines *out) {
    const char *space = memchr(text, ' ', count);
    size_t left = space ? (size_t)(space - text) : 0, right = space ? count - left - 1 : 0;
    if (left == 0 || right == 0 || memchr(space + 1, ' ', right))
        return bad_line(name, line, "wanted two symbols with a space between");
    if (left > DI_SYMBOL_BYTES || right > DI_SYMBOL_BYTES) return bad_line(name, line, "a symbol is too long");
    if (!is_symbol(text, left) || !is_symbol(space + 1, right))
        return bad_line(name, line, "a symbol holds something that stands for no byte");
    if (out->count == out->room) {
        int32_t room = out->room ? 2 * out->room : 4096;
        di_merge_line *at = di_grow(out->at, (size_t)room * sizeof *at);
        if (!at) return DISTAC_ENOMEM;
        out->at = at;
        out->room = room;
    }
    out->at[out->count++] = (di_merge_line){text, space + 1, left, right, line};
    return DISTAC_OK;
}

/* The first line is a header that names the version; at most `most` merges are read. */
static distac_status read_merges(const char *name, const char *text, size_t count, int32_t most, lines *out) {
    int32_t line = 0;
    for (size_t i = 0; i < count && out->count < most;) {
        const char *end = memchr(text + i, '\n', count - i);
        size_t length = end ? (size_t)(end - text) - i : count - i, shown = length;
        if (shown > 0 && text[i + shown - 1] == '\r') shown--;
        line++;
        if (line == 1) {
            bool header = false;
            for (size_t k = 0; k + 8 <= shown && k < 256; k++)
                header = header || !memcmp(text + i + k, "#version", 8);
            if (!header)
                return bad_line(name, 1, "wanted a header with '#version': is this a file of BPE merges?");
        } else if (shown > 0 || i + length + 1 < count) { /* the last line may be empty */
            DI_TRY(read_merge(name, line, text + i, shown, out));
        }
        i += length + 1;
    }
    if (line == 0) return bad_line(name, 1, "the file is empty");
    return DISTAC_OK;
}

/* ---- the two kinds of vocabularies ---- */

/* Symbols of CLIP's own file: bytes, bytes at the end of a word, merges, start and end. */
static distac_status number_symbols(distac_tokenizer *t, const lines *merges) {
    char text[2 * DI_SYMBOL_BYTES + 8];
    for (int end = 0; end < 2; end++)
        for (int hidden = 0; hidden < 2; hidden++) /* bytes that print come first */
            for (int32_t byte = 0; byte < 256; byte++) {
                size_t n = di_byte_text((uint8_t)byte, text);
                bool prints = di_byte_of((uint32_t)byte) == byte;
                if (prints == (hidden == 1)) continue;
                memcpy(text + n, "</w>", 4);
                DI_TRY(di_vocab_add(t, text, n + (end ? 4 : 0)));
            }
    for (int32_t i = 0; i < merges->count; i++) {
        const di_merge_line *m = &merges->at[i];
        memcpy(text, m->left, m->left_bytes);
        memcpy(text + m->left_bytes, m->right, m->right_bytes);
        DI_TRY(di_vocab_add(t, text, m->left_bytes + m->right_bytes));
    }
    DI_TRY(di_vocab_add(t, "<|startoftext|>", 15));
    return di_vocab_add(t, "<|endoftext|>", 13);
}

typedef struct named_id {
    const char *text;
    size_t bytes;
} named_id;

static distac_status place_ids(distac_tokenizer *t, const char *name, const di_json *root, named_id *by_id,
                               size_t count) {
    for (const di_json *value = root->first; value; value = value->next) {
        const char *key = value->key;
        size_t n = strlen(key);
        int64_t id = value->kind == DI_JSON_INTEGER ? value->integer : -1;
        if (id < 0 || id >= (int64_t)count)
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: '%.80s' has no id from 0 to %zu", name, key,
                              count - 1);
        if (n == 0 || n > DI_SYMBOL_BYTES)
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: the symbol of id %lld has %zu bytes", name,
                              (long long)id, n);
        if (by_id[id].text)
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: '%.80s' and '%.80s' have the same id %lld", name,
                              by_id[id].text, key, (long long)id);
        by_id[id] = (named_id){key, n};
    }
    for (size_t i = 0; i < count; i++) DI_TRY(di_vocab_add(t, by_id[i].text, by_id[i].bytes));
    return DISTAC_OK;
}

static distac_status read_json(distac_tokenizer *t, const char *name, const char *text, size_t count) {
    di_json_document document;
    size_t at;
    const char *rule;
    distac_status status = di_json_read(text, count, &document, &at, &rule);
    if (status == DISTAC_EFORMAT) return di_fail_at(status, FUNCTION, "%s, byte %zu: %s", name, at, rule);
    DI_TRY(status);
    size_t symbols = di_json_is(document.root, DI_JSON_OBJECT) ? document.root->count : 0;
    if (symbols == 0 || symbols > DI_SYMBOL_LIMIT) {
        status = di_fail_at(DISTAC_EFORMAT, FUNCTION,
                            "%s: wanted an object of 1 to %d symbols and their ids, it has %zu", name,
                            (int)DI_SYMBOL_LIMIT, symbols);
    } else {
        named_id *by_id = di_new(symbols * sizeof *by_id);
        status = by_id ? place_ids(t, name, document.root, by_id, symbols) : DISTAC_ENOMEM;
        free(by_id);
    }
    di_json_free(&document);
    return status;
}

distac_status di_vocab_parse(distac_tokenizer *t, const char *json_name, const char *json, size_t json_bytes,
                             const char *name, const char *text, size_t count) {
    lines merges = {0};
    distac_status status = read_merges(name, text, count, json ? DI_SYMBOL_LIMIT : DI_CLIP_MERGES, &merges);
    if (status == DISTAC_OK)
        status = json ? read_json(t, json_name, json, json_bytes) : number_symbols(t, &merges);
    if (status == DISTAC_OK) status = di_vocab_sort(t);
    if (status == DISTAC_OK) status = di_vocab_finish(t, json ? json_name : name, merges.count, merges.at);
    free(merges.at);
    return status;
}

/* ---- paths ---- */

static distac_status read_own(distac_tokenizer *t, const char *path) {
    bytes file;
    DI_TRY(read_whole(t->context, path, &file));
    distac_status status = di_vocab_parse(t, NULL, NULL, 0, path, (const char *)file.at, file.count);
    bytes_free(t->context, &file);
    return status;
}

static distac_status read_both(distac_tokenizer *t, const char *json, const char *merges) {
    bytes a, b;
    DI_TRY(read_whole(t->context, json, &a));
    distac_status status = read_whole(t->context, merges, &b);
    if (status == DISTAC_OK) {
        status = di_vocab_parse(t, json, (const char *)a.at, a.count, merges, (const char *)b.at, b.count);
        bytes_free(t->context, &b);
    }
    bytes_free(t->context, &a);
    return status;
}

static distac_status read_folder(distac_tokenizer *t, const char *folder, bool hugging_face_only) {
    static const char *const own[] = {"bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"};
    di_text json = {0}, merges = {0};
    di_text_add(&json, "%s/vocab.json", folder);
    di_text_add(&merges, "%s/merges.txt", folder);
    distac_status status = DISTAC_ENOTFOUND;
    if (json.failed || merges.failed) {
        status = di_fail_at(DISTAC_ENOMEM, FUNCTION, "out of memory");
    } else if (distac_path_kind(json.bytes) == 1 && distac_path_kind(merges.bytes) == 1) {
        status = read_both(t, json.bytes, merges.bytes);
    } else if (hugging_face_only) {
        status = di_fail_at(DISTAC_ENOTFOUND, FUNCTION, "'%s' has to hold both vocab.json and merges.txt", folder);
    } else {
        for (int i = 0; i < 2 && status == DISTAC_ENOTFOUND; i++) {
            di_text file = {0};
            di_text_add(&file, "%s/%s", folder, own[i]);
            if (file.failed)
                status = di_fail_at(DISTAC_ENOMEM, FUNCTION, "out of memory");
            else if (distac_path_kind(file.bytes) == 1)
                status = read_own(t, file.bytes);
            di_text_free(&file);
        }
        if (status == DISTAC_ENOTFOUND)
            di_fail_at(status, FUNCTION, "'%s' holds neither %s nor vocab.json and merges.txt", folder, own[0]);
    }
    di_text_free(&json);
    di_text_free(&merges);
    return status;
}

distac_status di_vocab_read(distac_tokenizer *t, const char *path) {
    if (distac_path_kind(path) == 2) return read_folder(t, path, false);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (strcmp(name, "vocab.json") != 0 && strcmp(name, "merges.txt") != 0) return read_own(t, path);
    if (!slash) return read_folder(t, ".", true);
    char *folder = di_strdup(path);
    if (!folder) return DISTAC_ENOMEM;
    folder[slash == path ? 1 : slash - path] = '\0';
    distac_status status = read_folder(t, folder, true);
    free(folder);
    return status;
}
