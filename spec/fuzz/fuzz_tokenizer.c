/* fuzz_tokenizer.c: vocabularies and texts that are hostile. An input is a kind (1 byte), the length of a text (1
 * byte), the text, and a vocabulary: a file of merges, after vocab.json and a zero byte if the kind is odd. Where
 * the vocabulary is accepted the text is encoded and decoded, and the merging of its bytes is compared with the
 * plain way to do it. Built with libFuzzer clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined
 * -Icore spec/fuzz/fuzz_tokenizer.c ... it searches on its own; built without, main makes vocabularies and damages
 * them, the same way every time: fuzz_tokenizer [ROUNDS] [SEED] */
#define NAME "fuzz_tokenizer"
#include "fuzz.h"

#include "text/text.h"

static long encoded;

/* ---- merging in the plain way: round by round, every occurrence of the pair of lowest rank ---- */

static const di_follower *merge_of(const distac_tokenizer *t, int64_t left, int64_t right) {
    for (int32_t i = t->first[left]; i < t->first[left + 1]; i++)
        if (t->followers[i].right == right) return &t->followers[i];
    return NULL;
}

static size_t plain_merge(const distac_tokenizer *t, int64_t *symbols, size_t count) {
    for (;;) {
        const di_follower *best = NULL;
        int64_t left = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            const di_follower *f = merge_of(t, symbols[i], symbols[i + 1]);
            if (f && (!best || f->rank < best->rank)) {
                best = f;
                left = symbols[i];
            }
        }
        if (!best) return count;
        size_t to = 0;
        for (size_t i = 0; i < count; to++) {
            bool here = i + 1 < count && symbols[i] == left && symbols[i + 1] == best->right;
            symbols[to] = here ? best->result : symbols[i];
            i += here ? 2 : 1;
        }
        count = to;
    }
}

static void compare_merging(const distac_tokenizer *t, const uint8_t *word, size_t count) {
    int64_t symbols[256];
    di_ids ids = {0};
    di_merger merger = {0};
    if (count == 0) return;
    for (size_t i = 0; i < count; i++) symbols[i] = t->symbol[word[i]][i == count - 1];
    size_t left = plain_merge(t, symbols, count);
    if (di_bpe_word(t, &merger, word, count, &ids) != DISTAC_OK) broken(distac_last_error());
    if (ids.count != left || memcmp(ids.at, symbols, left * sizeof *symbols) != 0) broken("the merging differs");
    di_ids_free(t->context, &ids);
    di_merger_free(t->context, &merger);
}

/* ---- one input ---- */

static void use(const distac_tokenizer *t, const char *text, size_t count) {
    distac_tensor *ids = NULL, *row = NULL;
    distac_strings *back = NULL;
    distac_status status = distac_tokenizer_encode(t, text, (int64_t)count, &ids);
    compare_merging(t, (const uint8_t *)text, count);
    if (status != DISTAC_OK) {
        if (status != DISTAC_EINVAL || !strstr(distac_last_error(), "UTF-8")) broken(distac_last_error());
        return;
    }
    encoded++;
    const int64_t *id = ids->data;
    for (int64_t i = 0; i < ids->numel; i++)
        if (id[i] < 0 || id[i] >= distac_tokenizer_size(t)) broken("an id outside the vocabulary");
    if (distac_tokenizer_decode(t, ids->numel, id, &back) != DISTAC_OK) broken(distac_last_error());
    size_t length;
    const char *shown = distac_strings_get(back, 0);
    for (size_t i = 0, n = strlen(shown); i < n; i += length) {
        di_utf8_get(shown + i, n - i, &length);
        if (length == 0) broken("decoding gave no UTF-8");
    }
    if (distac_tokenizer_row(t, text, (int64_t)count, 8, 1, &row) != DISTAC_OK) broken(distac_last_error());
    const int64_t *at = row->data;
    int64_t end = ids->numel + 1 < 7 ? ids->numel + 1 : 7;
    if (at[0] != distac_tokenizer_start(t) || at[end] != distac_tokenizer_end(t)) broken("a row without its ends");
    distac_tensor_release(row);
    distac_tensor_release(ids);
    distac_strings_release(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size < 2 + (size_t)data[1]) return 0;
    distac_context *context = the_context();
    const char *text = (const char *)data + 2, *file = text + data[1], *json = NULL;
    size_t file_bytes = size - 2 - data[1], json_bytes = 0;
    if (data[0] & 1) {
        const char *end = memchr(file, '\0', file_bytes);
        json = file;
        json_bytes = end ? (size_t)(end - file) : file_bytes;
        file += end ? json_bytes + 1 : file_bytes;
        file_bytes -= end ? json_bytes + 1 : file_bytes;
    }
    distac_tokenizer *t = di_new(sizeof *t);
    if (!t) broken("out of memory");
    atomic_init(&t->refs, 1);
    di_context_retain(context);
    t->context = context;
    distac_status status = di_vocab_parse(t, "vocab.json", json, json_bytes, "merges.txt", file, file_bytes);
    if (status == DISTAC_OK) {
        accepted++;
        use(t, text, data[1]);
    } else {
        refused++;
        const char *why = distac_last_error();
        if (status != DISTAC_EFORMAT) broken(why);
        if (!strstr(why, "merges.txt") && !strstr(why, "vocab.json")) broken(why);
    }
    distac_tokenizer_release(t);
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 32768, MAX_MERGES = 24 };

static size_t add(uint8_t *to, size_t at, const char *text) {
    size_t n = strlen(text);
    if (at + n > MAX_BYTES) return at;
    memcpy(to + at, text, n);
    return at + n;
}

/* Merges over few symbols, made of known ones, so that most are accepted and many symbols are made in two ways. */
typedef struct vocabulary {
    char symbols[MAX_MERGES + 6][160];
    char lines[MAX_MERGES][330];
    size_t known, merges;
} vocabulary;

static void make(vocabulary *v) {
    static const char *const first[6] = {"a", "b", "c", "a</w>", "b</w>", "c</w>"};
    v->merges = 0;
    for (v->known = 0; v->known < 6; v->known++) strcpy(v->symbols[v->known], first[v->known]);
    for (size_t tries = below(60); tries > 0 && v->merges < MAX_MERGES; tries--) {
        const char *left = v->symbols[below(v->known)], *right = v->symbols[below(v->known)];
        char line[330];
        if (strstr(left, "</w>") || strlen(left) + strlen(right) > 150) continue;
        snprintf(line, sizeof line, "%s %s", left, right);
        bool again = false;
        for (size_t i = 0; i < v->merges; i++) again = again || strcmp(v->lines[i], line) == 0;
        if (again) continue;
        strcpy(v->lines[v->merges++], line);
        snprintf(v->symbols[v->known++], sizeof v->symbols[0], "%s%s", left, right);
    }
}

static size_t put_json(uint8_t *to, size_t at, const vocabulary *v) {
    char item[200];
    int id = 0;
    at = add(to, at, "{");
    for (int end = 0; end < 2; end++)
        for (int byte = 0; byte < 256; byte++) {
            char symbol[5] = {0};
            di_byte_text((uint8_t)byte, symbol);
            bool quoted = byte == '"' || byte == '\\';
            snprintf(item, sizeof item, "\"%s%s%s\":%d,", quoted ? "\\" : "", symbol, end ? "</w>" : "", id++);
            at = add(to, at, item);
        }
    for (size_t i = 6; i < v->known; i++) {
        bool again = false;
        for (size_t k = 6; k < i; k++) again = again || strcmp(v->symbols[k], v->symbols[i]) == 0;
        if (again) continue;
        snprintf(item, sizeof item, "\"%s\":%d,", v->symbols[i], id++);
        at = add(to, at, item);
    }
    snprintf(item, sizeof item, "\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", id, id + 1);
    return add(to, at, item);
}

static size_t put_text(uint8_t *to) {
    static const char *const words[] = {"a",
                                        "b",
                                        "c",
                                        "ab",
                                        "abc",
                                        "aaaa",
                                        " ",
                                        "&amp;",
                                        "&#x41;",
                                        "&#",
                                        "&",
                                        "'s",
                                        "\xce\xa3",
                                        "\xc4\xb0",
                                        "<|endoftext|>",
                                        "\xf0\x9f\x98\x80",
                                        "\xff",
                                        "1",
                                        "\xc5\xbf",
                                        "&notit;",
                                        "A"};
    size_t count = 0;
    for (size_t n = below(24); n > 0; n--) {
        const char *word = words[below(below(4) ? 6 : sizeof words / sizeof words[0])];
        if (count + strlen(word) > 200) break;
        count = add(to, count, word);
    }
    return count;
}

static size_t damage(uint8_t *file, size_t begin, size_t size) {
    static const char *const words[] = {" ", "\n", "\n\n", "a",    "#version", "</w>", "\"",
                                        ":", "1",  "-",    "\xc4", "a b\n",    "{",    "}"};
    size_t at = begin + below(size - begin + 1), count = below(20);
    if (count > size - at) count = size - at;
    switch (below(4)) {
    case 0:
        if (at < size) file[at] = (uint8_t)below(256);
        return size;
    case 1:
        return cut_out(file, size, at, count);
    default: {
        const char *word = words[below(sizeof words / sizeof words[0])];
        return insert(file, size, MAX_BYTES, at, word, strlen(word));
    }
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 20000);
    static uint8_t body[MAX_BYTES];
    static vocabulary v;
    for (long round = 0; round < rounds; round++) {
        make(&v);
        bool json = below(4) == 0;
        size_t count = put_text(body + 2), size = 2 + count, begin = size;
        body[0] = json;
        body[1] = (uint8_t)count;
        if (json) {
            size = put_json(body, size, &v);
            body[size++] = '\0';
        }
        size = add(body, size, "#version: 0.2\n");
        for (size_t i = 0; i < v.merges; i++) {
            size = add(body, size, v.lines[i]);
            size = add(body, size, "\n");
        }
        if (below(2))
            for (size_t n = 1 + below(3); n > 0; n--) size = damage(body, begin, size);
        try_copy(body, size);
    }
    printf("%ld texts\n", encoded);
    if (rounds > 1000 && encoded == 0) broken("no text was encoded");
    return finish(rounds);
}

#endif
