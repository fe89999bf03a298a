/* pt_files.h: PyTorch files made by hand for tests: a zip writer that can be told to lie, and an assembler of
 * pickles from words. proto  new  true  false  T1 T2 T3       the opcodes of these names } ] ) ( t u s a e R b Q N
 * .             an opcode by its letter 'TEXT  #NUMBER  put:N  get:N            a text, an integer, memo entries
 *   c:MODULE:NAME                           a name
 *   x:HEX                                   bytes as they are
 *   S:TYPE:KEY:COUNT                        a storage
 *   W                                       a whole tensor [2,2] of storage 0, four floats
 *   W:OFFSET:SIZES:STRIDES                  one of storage 0; sizes as 2,2 or - for none */
#ifndef PT_FILES_H
#define PT_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct buffer {
    uint8_t *data;
    size_t size, capacity;
} buffer;

static void put(buffer *b, const void *bytes, size_t count) {
    if (b->size + count > b->capacity) {
        b->capacity = 2 * (b->size + count) + 64;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    if (count) memcpy(b->data + b->size, bytes, count);
    b->size += count;
}

static void put_number(buffer *b, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++, value >>= 8) put(b, &(uint8_t){(uint8_t)value}, 1);
}

static void drop(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}

/* ---- pickles ---- */

static void put_text(buffer *b, const char *text, size_t count) {
    put(b, "X", 1);
    put_number(b, count, 4);
    put(b, text, count);
}

static void put_int(buffer *b, int64_t value) {
    put(b, "\x8a\x08", 2);
    put_number(b, (uint64_t)value, 8);
}

static void put_tuple(buffer *b, const char *list) {
    put(b, "(", 1);
    while (*list && strcmp(list, "-") != 0) {
        char *end;
        put_int(b, strtoll(list, &end, 10));
        list = *end == ',' ? end + 1 : end;
    }
    put(b, "t", 1);
}

static void put_storage(buffer *b, const char *type, const char *key, int64_t count) {
    put(b, "(", 1);
    put_text(b, "storage", 7);
    put(b, "ctorch\n", 7);
    put(b, type, strlen(type));
    put(b, "\n", 1);
    put_text(b, key, strlen(key));
    put_text(b, "cpu", 3);
    put_int(b, count);
    put(b, "tQ", 2);
}

static void put_tensor(buffer *b, const char *offset, const char *sizes, const char *strides) {
    put(b, "ctorch._utils\n_rebuild_tensor_v2\n(", 34);
    put_storage(b, "FloatStorage", "0", 4);
    put_int(b, strtoll(offset, NULL, 10));
    put_tuple(b, sizes);
    put_tuple(b, strides);
    put(b,
        "\x89"
        "ccollections\nOrderedDict\n)RtR",
        30);
}

static int hex(char c) {
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static void assemble_word(buffer *b, char *word) {
    static const struct {
        const char *word;
        const char *bytes;
    } names[] = {{"proto", "\x80\2"}, {"new", "\x81"}, {"true", "\x88"}, {"false", "\x89"},
                 {"T1", "\x85"},      {"T2", "\x86"},  {"T3", "\x87"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(word, names[i].word) == 0) {
            put(b, names[i].bytes, strlen(names[i].bytes));
            return;
        }
    char *part[4] = {word, NULL, NULL, NULL};
    int parts = 1;
    if (word[0] != '\'')
        for (char *p = word; *p && parts < 4; p++)
            if (*p == ':') {
                *p = 0;
                part[parts++] = p + 1;
            }
    if (word[0] == '\'') {
        put_text(b, word + 1, strlen(word + 1));
    } else if (word[0] == '#') {
        put_int(b, strtoll(word + 1, NULL, 10));
    } else if (strcmp(word, "put") == 0 || strcmp(word, "get") == 0) {
        put(b, word[0] == 'p' ? "r" : "j", 1);
        put_number(b, strtoull(part[1], NULL, 10), 4);
    } else if (strcmp(word, "c") == 0 && parts == 3) {
        put(b, "c", 1);
        put(b, part[1], strlen(part[1]));
        put(b, "\n", 1);
        put(b, part[2], strlen(part[2]));
        put(b, "\n", 1);
    } else if (strcmp(word, "x") == 0) {
        for (const char *p = part[1]; *p; p += 2) put_number(b, (uint64_t)(hex(p[0]) << 4 | hex(p[1])), 1);
    } else if (strcmp(word, "S") == 0) {
        put_storage(b, part[1], part[2], strtoll(part[3], NULL, 10));
    } else if (strcmp(word, "W") == 0) {
        if (parts == 1)
            put_tensor(b, "0", "2,2", "2,1");
        else
            put_tensor(b, part[1], part[2], part[3]);
    } else if (word[1] == 0) {
        put(b, word, 1);
    } else {
        fprintf(stderr, "pt_files.h: unknown word %s\n", word);
        abort();
    }
}

static void assemble(buffer *b, const char *text) {
    while (*text) {
        char word[512];
        size_t n = strcspn(text, " ");
        if (n >= sizeof word) abort();
        memcpy(word, text, n);
        word[n] = 0;
        if (n) assemble_word(b, word);
        text += n + (text[n] == ' ');
    }
}

/* ---- archives ---- */

typedef struct member {
    const char *name;
    const void *data;
    size_t size;
    /* lies, all zero for a true member */
    size_t name_bytes; /* for names with NUL */
    const char *local_name;
    uint32_t crc_xor, flags, method, local_method, local_size, central_size;
    bool zip64, overlap; /* overlap: its header is the first member's */
} member;

typedef struct lies {
    const char *before, *after;                     /* bytes around the archive */
    uint32_t disk, count_add, offset_add, end_size; /* of the end record */
    bool no_end, zip64, no_record, wrong_record;
} lies;

static void put_zip(buffer *b, const member *members, size_t count, const lies *l) {
    static const lies truth;
    buffer list = {0};
    if (!l) l = &truth;
    if (l->before) put(b, l->before, strlen(l->before));
    for (size_t i = 0; i < count; i++) {
        const member *m = &members[i];
        size_t name = m->name_bytes ? m->name_bytes : strlen(m->name), header = m->overlap ? 0 : b->size;
        uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), m->data, (uInt)m->size) ^ m->crc_xor;
        put_number(b, 0x04034b50, 4);
        put_number(b, 0, 2);
        put_number(b, m->flags, 2);
        put_number(b, m->local_method ? m->local_method : m->method, 2);
        put_number(b, 0, 4);
        put_number(b, crc, 4);
        put_number(b, m->local_size ? m->local_size : m->size, 4);
        put_number(b, m->local_size ? m->local_size : m->size, 4);
        put_number(b, name, 2);
        put_number(b, 0, 2);
        put(b, m->local_name ? m->local_name : m->name, name);
        put(b, m->data, m->size);
        put_number(&list, 0x02014b50, 4);
        put_number(&list, 0, 4);
        put_number(&list, m->flags, 2);
        put_number(&list, m->method, 2);
        put_number(&list, 0, 4);
        put_number(&list, crc, 4);
        uint64_t size = m->central_size ? m->central_size : m->zip64 ? 0xFFFFFFFF : m->size;
        put_number(&list, size, 4);
        put_number(&list, size, 4);
        put_number(&list, name, 2);
        put_number(&list, m->zip64 ? 20 : 0, 2);
        put_number(&list, 0, 10);
        put_number(&list, header, 4);
        put(&list, m->name, name);
        if (m->zip64) {
            put_number(&list, 1, 2);
            put_number(&list, 16, 2);
            put_number(&list, m->size, 8);
            put_number(&list, m->size, 8);
        }
    }
    uint64_t at = b->size, record;
    put(b, list.data, list.size);
    record = b->size;
    if (l->zip64) {
        put_number(b, 0x06064b50, 4);
        put_number(b, 44, 8);
        put_number(b, 0, 12);
        put_number(b, count, 8);
        put_number(b, count, 8);
        put_number(b, list.size, 8);
        put_number(b, at, 8);
        put_number(b, 0x07064b50, 4);
        put_number(b, 0, 4);
        put_number(b, l->wrong_record ? record + 1 : record, 8);
        put_number(b, 1, 4);
    }
    bool wide = l->zip64 || l->no_record;
    if (!l->no_end) {
        put_number(b, 0x06054b50, 4);
        put_number(b, l->disk, 4);
        put_number(b, wide ? 0xFFFF : count + l->count_add, 2);
        put_number(b, wide ? 0xFFFF : count + l->count_add, 2);
        put_number(b, wide ? 0xFFFFFFFF : list.size, 4);
        put_number(b, wide ? 0xFFFFFFFF : at + l->offset_add, 4);
        put_number(b, 0, 2);
    }
    if (l->after) put(b, l->after, strlen(l->after));
    drop(&list);
}

/* An archive with this pickle and one storage of four floats. */
static void put_archive(buffer *b, const void *pickle, size_t bytes) {
    static const float values[4] = {1, 2, 3, 4};
    const member members[] = {{.name = "a/data.pkl", .data = pickle, .size = bytes},
                              {.name = "a/data/0", .data = values, .size = sizeof values},
                              {.name = "a/version", .data = "3\n", .size = 2},
                              {.name = "a/byteorder", .data = "little", .size = 6}};
    put_zip(b, members, sizeof members / sizeof members[0], NULL);
}

/* Stacked pickles: the object, the list of storages, four floats. */
__attribute__((unused)) static void put_legacy(buffer *b, const char *object, const char *keys, uint64_t count) {
    static const float values[4] = {1, 2, 3, 4};
    assemble(b, "proto x:8a0a6cfc9c46f9206aa85019 . proto x:4de903 . proto } ( 'protocol_version #1001 "
                "'little_endian true u .");
    assemble(b, object);
    assemble(b, keys);
    put_number(b, count, 8);
    put(b, values, sizeof values);
}

#endif
