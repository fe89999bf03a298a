/* mat_files.h: writes small MATLAB 5 files, right ones and wrong ones, in both byte orders. Shared by test_mat and
 * fuzz_mat. */
#ifndef MAT_FILES_H
#define MAT_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { MAT_BYTES = 16384 };

typedef struct mat_file {
    uint8_t bytes[MAT_BYTES];
    size_t size, base; /* base: what alignment is counted from, as deflated variables are not padded */
    bool big;
} mat_file;

static void mat_number(mat_file *m, uint64_t value, int width) {
    for (int i = 0; i < width; i++) m->bytes[m->size++] = (uint8_t)(value >> (8 * (m->big ? width - 1 - i : i)));
}

static void mat_u32_at(mat_file *m, size_t at, uint32_t value) {
    size_t size = m->size;
    m->size = at;
    mat_number(m, value, 4);
    m->size = size;
}

static void mat_start(mat_file *m, bool big) {
    memset(m, 0, sizeof *m);
    memset(m->bytes, ' ', 116);
    memcpy(m->bytes, "MATLAB 5.0 MAT-file", 19);
    m->big = big;
    m->size = 124;
    mat_number(m, 0x0100, 2);
    mat_number(m, 'M' << 8 | 'I', 2);
}

static void mat_pad(mat_file *m) {
    while ((m->size - m->base) % 8 != 0) m->bytes[m->size++] = 0;
}

/* An element of `count` numbers of `width` bytes; small ones go into the tag. */
static void mat_element(mat_file *m, uint32_t type, int width, int count, const int *values) {
    int bytes = width * count;
    if (bytes > 0 && bytes <= 4) {
        mat_number(m, (uint64_t)bytes << 16 | type, 4);
    } else {
        mat_number(m, type, 4);
        mat_number(m, (uint64_t)bytes, 4);
    }
    for (int i = 0; i < count; i++) {
        uint64_t bits = (uint64_t)(int64_t)values[i];
        if (type == 9) { /* double */
            double x = values[i];
            memcpy(&bits, &x, 8);
        }
        mat_number(m, bits, width);
    }
    mat_pad(m);
}

static void mat_text(mat_file *m, uint32_t type, const char *text) {
    int letters[64], n = 0;
    for (; text[n]; n++) letters[n] = text[n];
    mat_element(m, type, 1, n, letters);
}

/* Begins an array of class_id; mat_close ends it. */
static size_t mat_open(mat_file *m, int class_id, int flags, const char *name, int rows, int columns) {
    size_t at = m->size;
    mat_number(m, 14, 4);
    mat_number(m, 0, 4);
    mat_element(m, 6, 4, 2, (const int[]){class_id | flags, 0});
    mat_element(m, 5, 4, 2, (const int[]){rows, columns});
    mat_text(m, 1, name);
    return at;
}

static void mat_close(mat_file *m, size_t at) {
    mat_u32_at(m, at + 4, (uint32_t)(m->size - at - 8));
}

static void mat_array(mat_file *m, int class_id, const char *name, uint32_t type, int width, int count,
                      const int *values) {
    size_t at = mat_open(m, class_id, 0, name, 1, count);
    mat_element(m, type, width, count, values);
    mat_close(m, at);
}

/* Deflates what was written from `at` on into one compressed element. */
__attribute__((unused)) static void mat_deflate(mat_file *m, size_t at) {
    static uint8_t packed[MAT_BYTES];
    uLongf length = sizeof packed;
    if (compress2(packed, &length, m->bytes + at, m->size - at, 6) != Z_OK || at + 8 + length > MAT_BYTES) return;
    m->size = at;
    mat_number(m, 15, 4);
    mat_number(m, length, 4);
    memcpy(m->bytes + m->size, packed, length);
    m->size += length;
    m->base = m->size;
}

/* names: a cell of two texts, each perhaps of another type. */
static void mat_names(mat_file *m, const char *name, uint32_t type) {
    size_t at = mat_open(m, 1, 0, name, 1, 2);
    for (int i = 0; i < 2; i++) {
        const int letters[] = {'a' + i, 'b', 'c', 'd', 'e'};
        size_t cell = mat_open(m, 4, 0, "", 1, 5);
        mat_element(m, type, type == 4 || type == 17 ? 2 : 1, 5, letters);
        mat_close(m, cell);
    }
    mat_close(m, at);
}

/* rows of a structure with the fields class (uint8) and fname (text). */
static void mat_rows(mat_file *m, const char *name, int rows) {
    size_t at = mat_open(m, 2, 0, name, 1, rows);
    char fields[16] = "class\0\0\0fname\0\0";
    int letters[16];
    for (int i = 0; i < 16; i++) letters[i] = fields[i];
    mat_element(m, 5, 4, 1, (const int[]){8});
    mat_element(m, 1, 1, 16, letters);
    for (int i = 0; i < rows; i++) {
        mat_array(m, 9, "", 2, 1, 1, &i);
        const int file[] = {'0' + i, '.', 'j', 'p', 'g'};
        mat_array(m, 4, "", 16, 1, 5, file);
    }
    mat_close(m, at);
}

#endif
