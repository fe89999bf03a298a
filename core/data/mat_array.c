/* mat_array.c: the arrays inside a variable of a MATLAB 5 file. Cells and structures are walked with a list of
 * what is still open, at most 16 deep; room for what is in them is made only after it was compared with the bytes
 * that are there. Every stored number is checked to be one that its class can hold. */
#include "mat.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes ---- */

int di_mat_width(int type) {
    static const uint8_t widths[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8, 0, 0, 1, 2, 4};
    return type >= 0 && type < (int)sizeof widths ? widths[type] : 0;
}

uint32_t di_mat_u32(const uint8_t *b, bool swapped) {
    return swapped ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]
                   : (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
}

uint32_t di_mat_u16(const uint8_t *b, bool swapped) {
    return swapped ? (uint32_t)b[0] << 8 | b[1] : (uint32_t)b[1] << 8 | b[0];
}

static uint64_t u64(const uint8_t *b, bool swapped) {
    uint64_t first = di_mat_u32(b, swapped), second = di_mat_u32(b + 4, swapped);
    return swapped ? first << 32 | second : second << 32 | first;
}

/* A number as stored: whole ones exactly (negative: as two's complement), the others in real. */
typedef struct value {
    bool whole, negative;
    uint64_t bits;
    double real;
} value;

static value signed_value(int64_t x) {
    return (value){.whole = true, .negative = x < 0, .bits = (uint64_t)x, .real = (double)x};
}

static value value_at(const uint8_t *data, int type, bool swapped, int64_t i) {
    const uint8_t *b = data + i * di_mat_width(type);
    value v = {.whole = true};
    uint32_t bits;
    switch (type) {
    case DI_MI_INT8:
        return signed_value((int8_t)b[0]);
    case DI_MI_INT16:
        return signed_value((int16_t)di_mat_u16(b, swapped));
    case DI_MI_INT32:
        return signed_value((int32_t)di_mat_u32(b, swapped));
    case DI_MI_INT64:
        return signed_value((int64_t)u64(b, swapped));
    case DI_MI_UINT8:
        v.bits = b[0];
        break;
    case DI_MI_UINT16:
        v.bits = di_mat_u16(b, swapped);
        break;
    case DI_MI_UINT32:
        v.bits = di_mat_u32(b, swapped);
        break;
    case DI_MI_UINT64:
        v.bits = u64(b, swapped);
        break;
    case DI_MI_SINGLE: {
        float single;
        bits = di_mat_u32(b, swapped);
        memcpy(&single, &bits, 4);
        return (value){.real = single};
    }
    default:
        v.bits = u64(b, swapped);
        memcpy(&v.real, &v.bits, 8);
        return (value){.real = v.real};
    }
    v.real = (double)v.bits;
    return v;
}

/* Bits of the whole numbers of a class. */
static int class_bits(int class_id) {
    static const int bits[] = {8, 8, 16, 16, 32, 32, 64, 64};
    return bits[class_id - DI_MAT_INT8];
}

static bool fits(value v, int class_id) {
    if (class_id == DI_MAT_DOUBLE)
        return !v.whole || (v.real >= -9007199254740992.0 && v.real <= 9007199254740992.0);
    if (class_id == DI_MAT_SINGLE) {
        if (v.whole) return v.real >= -16777216.0 && v.real <= 16777216.0;
        return !(v.real - v.real == 0) || (v.real >= -3.4028234663852886e38 && v.real <= 3.4028234663852886e38);
    }
    int bits = class_bits(class_id);
    bool is_signed = (class_id - DI_MAT_INT8) % 2 == 0;
    if (!v.whole) /* the bounds are powers of two: exact; NaN fails */
        return v.real >= (is_signed ? -ldexp(1, bits - 1) : 0) && v.real < ldexp(1, is_signed ? bits - 1 : bits) &&
               floor(v.real) == v.real;
    if (v.negative) return is_signed && v.real >= -ldexp(1, bits - 1);
    uint64_t top = bits == 64 ? (is_signed ? (uint64_t)INT64_MAX : UINT64_MAX)
                              : ((uint64_t)1 << (is_signed ? bits - 1 : bits)) - 1;
    return v.bits <= top;
}

/* ---- elements ---- */

typedef struct element {
    int type;
    const uint8_t *data;
    size_t bytes, next; /* next: where the following element starts */
} element;

distac_status di_mat_bad(const di_mat_variable *v, size_t at, const char *what) {
    return di_fail_at(DISTAC_EFORMAT, "mat", "%s: variable '%s', byte %zu of it: %s", v->path, v->name, at, what);
}

/* The element at `at` of the bytes up to end. The padding of the last one may be missing. */
static distac_status take(const di_mat_variable *v, size_t at, size_t end, element *out) {
    if (at > end || end - at < 8) return di_mat_bad(v, at, "an element's tag is cut");
    uint32_t first = di_mat_u32(v->bytes + at, v->swapped);
    if (first >> 16 != 0) { /* up to four bytes, inside the tag */
        out->type = (int)(first & 0xffff);
        out->bytes = first >> 16;
        out->data = v->bytes + at + 4;
        out->next = at + 8;
        if (out->bytes > 4) return di_mat_bad(v, at, "a small element of more than 4 bytes");
        if (out->type < 1 || out->type > DI_MI_UTF32 || di_mat_width(out->type) == 0 ||
            di_mat_width(out->type) > 4)
            return di_mat_bad(v, at, "a small element of an unknown type");
        return DISTAC_OK;
    }
    size_t bytes = di_mat_u32(v->bytes + at + 4, v->swapped);
    if (first < 1 || first > DI_MI_UTF32 || (di_mat_width((int)first) == 0 && first != DI_MI_MATRIX))
        return di_mat_bad(v, at,
                          first == DI_MI_COMPRESSED ? "compressed data inside a variable"
                                                    : "an element of an unknown type");
    if (bytes > end - at - 8) return di_mat_bad(v, at, "an element that is longer than what holds it");
    out->type = (int)first;
    out->bytes = bytes;
    out->data = v->bytes + at + 8;
    size_t padded = at + 8 + bytes + (8 - bytes % 8) % 8;
    out->next = padded < end ? padded : end;
    return DISTAC_OK;
}

/* ---- arrays ---- */

static distac_status check_numbers(const di_mat_variable *v, const di_mat_array *a, size_t at) {
    static const uint8_t own[] = {DI_MI_DOUBLE, DI_MI_SINGLE, DI_MI_INT8,   DI_MI_UINT8, DI_MI_INT16,
                                  DI_MI_UINT16, DI_MI_INT32,  DI_MI_UINT32, DI_MI_INT64, DI_MI_UINT64};
    size_t width = a->stored <= DI_MI_UINT64 ? (size_t)di_mat_width(a->stored) : 0;
    if (width == 0) return di_mat_bad(v, at, "numbers of an unknown type");
    if (a->data_bytes % width || (uint64_t)a->count != a->data_bytes / width)
        return di_mat_bad(v, at, "another number of elements than the size says");
    if (a->logical && a->class_id != DI_MAT_UINT8 && a->class_id != DI_MAT_DOUBLE)
        return di_mat_bad(v, at, "logical values of another class than uint8");
    bool same = own[a->class_id - DI_MAT_DOUBLE] == a->stored;
    for (int64_t i = 0; (!same || a->logical) && i < a->count; i++) {
        value x = value_at(a->data, a->stored, v->swapped, i);
        if (!fits(x, a->class_id)) return di_mat_bad(v, at, "a stored number that its class cannot hold");
        if (a->logical && !(x.real == 0 || x.real == 1))
            return di_mat_bad(v, at, "a logical value that is not 0 or 1");
    }
    return DISTAC_OK;
}

/* Room for arrays that follow each other; each has at least the 8 bytes of a tag in the file. */
static distac_status reserve(di_mat_variable *v, int64_t count, size_t at, size_t bytes, int64_t *first) {
    if ((uint64_t)count > bytes / 8) return di_mat_bad(v, at, "more elements than bytes for them");
    if ((uint64_t)count > v->room - v->used) {
        size_t room = v->used + (size_t)count > 2 * v->room ? v->used + (size_t)count : 2 * v->room;
        di_mat_array *arrays = di_grow(v->arrays, room * sizeof *arrays);
        if (!arrays) return DISTAC_ENOMEM;
        v->arrays = arrays;
        v->room = room;
    }
    *first = (int64_t)v->used;
    memset(v->arrays + v->used, 0, (size_t)count * sizeof *v->arrays);
    v->used += (size_t)count;
    return DISTAC_OK;
}

static distac_status read_fields(di_mat_variable *v, di_mat_array *a, size_t *at, size_t end) {
    element e;
    DI_TRY(take(v, *at, end, &e));
    if (e.type != DI_MI_INT32 || e.bytes != 4)
        return di_mat_bad(v, *at, "a length of field names that is not one int32");
    uint32_t length = di_mat_u32(e.data, v->swapped);
    if (length < 1 || length > 1024) return di_mat_bad(v, *at, "field names that are not 1 to 1024 bytes long");
    *at = e.next;
    DI_TRY(take(v, *at, end, &e));
    if (e.type != DI_MI_INT8 && e.type != DI_MI_UINT8) return di_mat_bad(v, *at, "field names of an unknown type");
    if (e.bytes % length != 0) return di_mat_bad(v, *at, "field names that are cut");
    if (e.bytes / length > DI_MAT_FIELDS) return di_mat_bad(v, *at, "more than 4096 fields");
    a->fields = (int32_t)(e.bytes / length);
    a->field_bytes = (int32_t)length;
    a->names = e.data;
    for (int32_t i = 0; i < a->fields; i++) {
        const uint8_t *name = e.data + (size_t)i * length;
        if (name[0] == 0 || !memchr(name, 0, length))
            return di_mat_bad(v, *at, "a field's name that is empty or has no end");
        for (int32_t k = 0; k < i; k++)
            if (strcmp((const char *)name, (const char *)e.data + (size_t)k * length) == 0)
                return di_mat_bad(v, *at, "two fields of the same name");
    }
    *at = e.next;
    return DISTAC_OK;
}

/* Flags, size and name of a matrix element whose body is at..end. *at: what follows them. */
static distac_status read_head(di_mat_variable *v, di_mat_array *a, size_t *at, size_t end, element *name) {
    element e;
    DI_TRY(take(v, *at, end, &e));
    if (e.type != DI_MI_UINT32 || e.bytes != 8) return di_mat_bad(v, *at, "array flags that are not two uint32");
    uint32_t flags = di_mat_u32(e.data, v->swapped);
    a->class_id = (uint8_t)flags;
    a->logical = (flags & 0x200) != 0;
    if (a->class_id < 1 || a->class_id > 17) return di_mat_bad(v, *at, "an array of an unknown class");
    const char *what = di_mat_class_name(a->class_id);
    bool foreign = a->class_id > DI_MAT_UINT64 || a->class_id == 3 || a->class_id == 5;
    if (foreign || (flags & 0x800))
        return di_fail_at(DISTAC_EUNSUPPORTED, "mat",
                          "%s: variable '%s', byte %zu of it: %s%s: only real numbers, text, "
                          "cells and structures are read",
                          v->path, v->name, *at, foreign ? "" : "complex ", what);
    size_t dims_at = *at = e.next;
    DI_TRY(take(v, *at, end, &e));
    if ((e.type != DI_MI_INT32 && e.type != DI_MI_UINT32) || e.bytes % 4 || e.bytes < 8 ||
        e.bytes > 4 * DI_MAT_RANK)
        return di_mat_bad(v, *at, "a size that is not 2 to 32 int32");
    a->rank = (uint8_t)(e.bytes / 4);
    a->dims = e.data;
    a->count = 1;
    bool overflow = false, empty = false;
    for (int d = 0; d < a->rank; d++) {
        uint32_t n = di_mat_u32(e.data + 4 * d, v->swapped);
        if (n > INT32_MAX) return di_mat_bad(v, dims_at, "a negative size");
        empty = empty || n == 0;
        overflow = __builtin_mul_overflow(a->count, (int64_t)n, &a->count) || overflow;
    }
    if (empty)
        a->count = 0;
    else if (overflow || a->count > INT64_MAX / 8)
        return di_mat_bad(v, dims_at, "a size whose product overflows");
    *at = e.next;
    DI_TRY(take(v, *at, end, name));
    if (name->type != DI_MI_INT8 && name->type != DI_MI_UTF8)
        return di_mat_bad(v, *at, "a name of an unknown type");
    if (name->bytes >= DI_MAT_NAME) return di_mat_bad(v, *at, "a name of more than 63 bytes");
    *at = name->next;
    return DISTAC_OK;
}

/* One array, without what is in it. *at: where that begins, or end. */
static distac_status read_array(di_mat_variable *v, size_t index, size_t *at, size_t end) {
    element e;
    di_mat_array a = {.rank = 0};
    if (*at == end) { /* an element without a body is an empty matrix */
        static const uint8_t zeros[8];
        v->arrays[index] =
            (di_mat_array){.class_id = DI_MAT_DOUBLE, .stored = DI_MI_DOUBLE, .rank = 2, .dims = zeros};
        return DISTAC_OK;
    }
    DI_TRY(read_head(v, &a, at, end, &e));
    if (a.class_id == DI_MAT_CELL) {
        DI_TRY(reserve(v, a.count, *at, end - *at, &a.first));
    } else if (a.class_id == DI_MAT_STRUCT) {
        int64_t all;
        DI_TRY(read_fields(v, &a, at, end));
        if (__builtin_mul_overflow(a.count, (int64_t)a.fields, &all))
            return di_mat_bad(v, *at, "too many elements");
        DI_TRY(reserve(v, all, *at, end - *at, &a.first));
    } else {
        size_t data_at = *at;
        if (*at == end && a.count == 0) {
            a.stored = a.class_id == DI_MAT_CHAR ? DI_MI_UINT16 : DI_MI_DOUBLE;
        } else {
            DI_TRY(take(v, *at, end, &e));
            a.stored = (uint8_t)e.type;
            a.data = e.data;
            a.data_bytes = e.bytes;
            *at = e.next;
            DI_TRY(a.class_id == DI_MAT_CHAR ? di_mat_check_text(v, &a, data_at) : check_numbers(v, &a, data_at));
        }
    }
    v->arrays[index] = a;
    return DISTAC_OK;
}

static int64_t children(const di_mat_array *a) {
    return a->class_id == DI_MAT_CELL ? a->count : a->class_id == DI_MAT_STRUCT ? a->count * a->fields : 0;
}

distac_status di_mat_parse(di_mat_variable *v) {
    struct open {
        size_t index, end;
        int64_t done;
    } open[DI_MAT_DEPTH + 1];
    int depth = 0;
    int64_t root;
    size_t at = 0;
    DI_TRY(reserve(v, 1, 0, 8, &root));
    DI_TRY(read_array(v, 0, &at, v->size));
    open[0] = (struct open){0, v->size, 0};
    while (depth >= 0) {
        struct open *o = &open[depth];
        const di_mat_array *a = &v->arrays[o->index];
        if (o->done == children(a)) {
            if (o->end - at >= 8) return di_mat_bad(v, at, "bytes that belong to nothing");
            size_t padded = o->end + (8 - o->end % 8) % 8;
            at = depth > 0 && padded > open[depth - 1].end ? open[depth - 1].end : padded;
            depth--;
            continue;
        }
        element e;
        DI_TRY(take(v, at, o->end, &e));
        if (e.type != DI_MI_MATRIX)
            return di_mat_bad(v, at, "an element that is no array, in a cell or structure");
        if (depth == DI_MAT_DEPTH) return di_mat_bad(v, at, "more than 16 cells and structures inside each other");
        size_t index = (size_t)(a->first + o->done++);
        at = (size_t)(e.data - v->bytes);
        open[++depth] = (struct open){index, at + e.bytes, 0};
        DI_TRY(read_array(v, index, &at, at + e.bytes));
    }
    return DISTAC_OK;
}

distac_status di_mat_peek(const char *path, bool swapped, const uint8_t *bytes, size_t count,
                          char name[DI_MAT_NAME]) {
    di_mat_variable v = {
        .path = path, .name = "?", .swapped = swapped, .bytes = (uint8_t *)(uintptr_t)bytes, .size = count};
    di_mat_array a;
    element e;
    size_t at = 0;
    /* Only the name is wanted, so an array that cannot be read may stand before the one that is wanted. */
    DI_TRY(take(&v, at, count, &e));
    if (e.type != DI_MI_UINT32 || e.bytes != 8) return di_mat_bad(&v, at, "array flags that are not two uint32");
    a.class_id = (uint8_t)di_mat_u32(e.data, swapped);
    at = e.next;
    if (a.class_id != 17) { /* an opaque one has no size */
        DI_TRY(take(&v, at, count, &e));
        at = e.next;
    }
    DI_TRY(take(&v, at, count, &e));
    if ((e.type != DI_MI_INT8 && e.type != DI_MI_UTF8) || e.bytes >= DI_MAT_NAME)
        return di_mat_bad(&v, at, "a name that is not up to 63 bytes of text");
    for (size_t i = 0; i < e.bytes; i++)
        if (e.data[i] < 0x21 || e.data[i] > 0x7e)
            return di_mat_bad(&v, at, "a name with other signs than ASCII letters");
    if (e.bytes == 0) return di_mat_bad(&v, at, "a variable without a name");
    memcpy(name, e.data, e.bytes);
    name[e.bytes] = 0;
    return DISTAC_OK;
}

/* ---- using ---- */

int64_t di_mat_dim(const di_mat_variable *v, const di_mat_array *a, int d) {
    return d < a->rank ? (int64_t)di_mat_u32(a->dims + 4 * d, v->swapped) : 1;
}

double di_mat_number(const di_mat_variable *v, const di_mat_array *a, int64_t index) {
    return value_at(a->data, a->stored, v->swapped, index).real;
}

const di_mat_array *di_mat_cell(const di_mat_variable *v, const di_mat_array *a, int64_t index) {
    return &v->arrays[a->first + index];
}

const di_mat_array *di_mat_field(const di_mat_variable *v, const di_mat_array *a, int64_t index,
                                 const char *name) {
    for (int32_t f = 0; f < a->fields; f++)
        if (strcmp((const char *)a->names + (size_t)f * (size_t)a->field_bytes, name) == 0)
            return &v->arrays[a->first + index * a->fields + f];
    return NULL;
}

const char *di_mat_class_name(int class_id) {
    static const char *const names[] = {"nothing",        "a cell",     "a structure",     "an object", "text",
                                        "a sparse array", "double",     "single",          "int8",      "uint8",
                                        "int16",          "uint16",     "int32",           "uint32",    "int64",
                                        "uint64",         "a function", "an opaque object"};
    return class_id >= 0 && class_id < (int)(sizeof names / sizeof *names) ? names[class_id] : "an unknown class";
}
