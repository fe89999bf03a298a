/* npy.c: arrays as numpy.save writes them, versions 1.0, 2.0 and 3.0: a magic, the header's length, a header that
 * is a Python dictionary of three keys as text, the elements and nothing else. The header is read as such a text
 * and never evaluated; sizes are checked against the bytes present before memory is asked for.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include "data.h"
#include <stdlib.h>
#include <string.h>

#define FUNCTION "distac_tensor_npy"

enum { MOST_HEADER = 1 << 20, DESCR = 32 };

typedef struct header {
    const char *path;
    char *text; /* the dictionary, with a zero at its end */
    size_t length, at, before; /* before: bytes in the file before it */
    bool old;                  /* version 1.0 or 2.0 */
    char descr[DESCR];
    bool has_descr, has_order, has_shape, fortran;
    int32_t rank, dtype;
    bool swapped;
    int64_t shape[DI_MAX_RANK], count, bytes;
} header;

static distac_status bad(const header *h, const char *what) {
    return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: byte %zu: %s", h->path, h->before + h->at, what);
}

/* ---- the dictionary ---- */

static void skip_space(header *h) {
    while (h->text[h->at] == ' ' || h->text[h->at] == '\n' || h->text[h->at] == '\t') h->at++;
}

static bool take(header *h, char c) {
    skip_space(h);
    if (h->text[h->at] != c) return false;
    h->at++;
    return true;
}

/* A quoted text without escapes, which no header needs. */
static distac_status read_text(header *h, const char *what, char *out, size_t room) {
    skip_space(h);
    char quote = h->text[h->at];
    if (quote != '\'' && quote != '"') return bad(h, what);
    size_t begin = ++h->at, n = 0;
    while (h->text[h->at] && h->text[h->at] != quote && h->text[h->at] != '\\' && h->text[h->at] != '\n') h->at++;
    n = h->at - begin;
    if (h->text[h->at] != quote) return bad(h, "a text without an end, or with a backslash");
    if (n >= room) return bad(h, what);
    memcpy(out, h->text + begin, n);
    out[n] = 0;
    h->at++;
    return DISTAC_OK;
}

static bool take_word(header *h, const char *word) {
    size_t n = strlen(word);
    skip_space(h);
    if (strncmp(h->text + h->at, word, n) != 0) return false;
    h->at += n;
    return true;
}

static distac_status read_size(header *h, int64_t *out) {
    skip_space(h);
    if (h->text[h->at] < '0' || h->text[h->at] > '9') return bad(h, "a size must be a whole number, 0 or more");
    *out = 0;
    for (; h->text[h->at] >= '0' && h->text[h->at] <= '9'; h->at++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, h->text[h->at] - '0', out))
            return bad(h, "a size that is too large");
    if (h->old && h->text[h->at] == 'L') h->at++; /* long numbers of Python 2 */
    return DISTAC_OK;
}

static distac_status read_shape(header *h) {
    if (!take(h, '(')) return bad(h, "the shape must be a tuple of whole numbers");
    bool comma = true;
    while (!take(h, ')')) {
        if (!comma) return bad(h, "wanted ',' or ')' in the shape");
        if (h->rank == DI_MAX_RANK)
            return di_fail_at(DISTAC_EUNSUPPORTED, FUNCTION, "%s: more than %d dimensions", h->path, DI_MAX_RANK);
        DI_TRY(read_size(h, &h->shape[h->rank]));
        h->rank++;
        comma = take(h, ',');
    }
    /* "(3)" is a number in brackets, not a tuple. */
    return h->rank == 1 && !comma ? bad(h, "the shape must be a tuple: one size has a comma behind it")
                                  : DISTAC_OK;
}

static distac_status read_pair(header *h) {
    char key[16];
    size_t at = h->at;
    DI_TRY(read_text(h, "wanted one of the keys 'descr', 'fortran_order', 'shape'", key, sizeof key));
    bool *seen = strcmp(key, "descr") == 0           ? &h->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &h->has_order
                 : strcmp(key, "shape") == 0         ? &h->has_shape
                                                     : NULL;
    if (!seen || *seen) {
        h->at = at;
        return bad(h, seen ? "a key stands twice" : "a key that is none of 'descr', 'fortran_order', 'shape'");
    }
    *seen = true;
    if (!take(h, ':')) return bad(h, "wanted ':'");
    if (seen == &h->has_shape) return read_shape(h);
    if (seen == &h->has_order) {
        h->fortran = take_word(h, "True");
        return h->fortran || take_word(h, "False") ? DISTAC_OK : bad(h, "fortran_order must be True or False");
    }
    skip_space(h);
    if (h->text[h->at] == '[')
        return di_fail_at(DISTAC_EUNSUPPORTED, FUNCTION,
                          "%s: a structured array (records with fields); save each field as an array of its own",
                          h->path);
    return read_text(h, "the element type must be a short text", h->descr, sizeof h->descr);
}

static distac_status read_dictionary(header *h) {
    if (!take(h, '{')) return bad(h, "the header must be a dictionary");
    while (!take(h, '}')) {
        DI_TRY(read_pair(h));
        if (take(h, ',')) continue;
        if (take(h, '}')) break;
        return bad(h, "wanted ',' or '}'");
    }
    skip_space(h);
    if (h->at != h->length) return bad(h, "something follows the dictionary");
    if (h->length == 0 || h->text[h->length - 1] != '\n') return bad(h, "the header must end with a line feed");
    if (!h->has_descr || !h->has_order || !h->has_shape)
        return bad(h, "the header must have 'descr', 'fortran_order' and 'shape'");
    return DISTAC_OK;
}

/* ---- the element type ---- */

static const struct {
    const char *name;
    int32_t dtype;
} types[] = {{"b1", DISTAC_BOOL}, {"i1", DISTAC_I8},  {"u1", DISTAC_U8},  {"i2", DISTAC_I16},
             {"u2", DISTAC_U16},  {"i4", DISTAC_I32}, {"u4", DISTAC_U32}, {"i8", DISTAC_I64},
             {"u8", DISTAC_U64},  {"f2", DISTAC_F16}, {"f4", DISTAC_F32}, {"f8", DISTAC_F64}};

static const struct {
    char kind;
    const char *what;
} others[] = {{'O', "Python objects, which are pickled: nothing in a file is ever called"},
              {'V', "raw bytes (void)"},
              {'S', "byte strings"},
              {'a', "byte strings"},
              {'U', "texts"},
              {'c', "complex numbers"},
              {'m', "time differences"},
              {'M', "dates"}};

static distac_status find_type(header *h) {
    const char *name = h->descr;
    char order = *name == '<' || *name == '>' || *name == '|' ? *name++ : 0;
    for (size_t i = 0; order && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        bool byte = name[1] == '1';
        if (order == '|' && !byte) break; /* which order, it does not say */
        h->dtype = types[i].dtype;
        h->swapped = !byte && order == '>';
        return DISTAC_OK;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (*name == others[i].kind)
            return di_fail_at(DISTAC_EUNSUPPORTED, FUNCTION, "%s: the elements, \"%s\", are %s", h->path, h->descr,
                              others[i].what);
    return di_fail_at(
        DISTAC_EUNSUPPORTED, FUNCTION,
        "%s: the element type \"%s\"; known are < or > (one byte: |) with b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 "
        "f8",
        h->path, h->descr);
}

static distac_status find_bytes(header *h, uint64_t present) {
    bool overflow = false, empty = false;
    h->count = 1;
    for (int32_t d = 0; d < h->rank; d++) {
        empty = empty || h->shape[d] == 0;
        overflow = __builtin_mul_overflow(h->count, h->shape[d], &h->count) || overflow;
    }
    overflow = overflow || __builtin_mul_overflow(h->count, distac_dtype_bytes(h->dtype), &h->bytes);
    if (empty)
        h->count = h->bytes = 0;
    else if (overflow)
        return bad(h, "the product of the sizes overflows");
    if ((uint64_t)h->bytes != present)
        return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: %llu bytes of elements, the header promises %lld",
                          h->path, (unsigned long long)present, (long long)h->bytes);
    return DISTAC_OK;
}

/* ---- the file ---- */

static distac_status read_header(di_reader *reader, header *h) {
    uint8_t lead[12];
    size_t got;
    DI_TRY(di_reader_get(reader, lead, 10, &got));
    if (got < 10 || memcmp(lead, "\x93NUMPY", 6) != 0)
        return di_fail_at(DISTAC_EFORMAT, FUNCTION,
                          "%s: no NPY file: it does not begin with \\x93NUMPY and a length", h->path);
    if (lead[6] < 1 || lead[6] > 3 || lead[7] != 0)
        return di_fail_at(DISTAC_EUNSUPPORTED, FUNCTION, "%s: version %d.%d; known are 1.0, 2.0 and 3.0", h->path,
                          lead[6], lead[7]);
    h->old = lead[6] < 3;
    h->before = 10;
    uint64_t length = (uint64_t)lead[8] | (uint64_t)lead[9] << 8;
    if (lead[6] > 1) {
        DI_TRY(di_reader_get(reader, lead + 10, 2, &got));
        if (got < 2) return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: cut in the header's length", h->path);
        length |= (uint64_t)lead[10] << 16 | (uint64_t)lead[11] << 24;
        h->before = 12;
    }
    if (length > reader->bytes - h->before)
        return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: a header of %llu bytes, %llu are there", h->path,
                          (unsigned long long)length, (unsigned long long)(reader->bytes - h->before));
    if (length > MOST_HEADER)
        return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: a header of %llu bytes, at most %d are allowed", h->path,
                          (unsigned long long)length, MOST_HEADER);
    h->length = (size_t)length;
    h->text = di_new(h->length + 1);
    if (!h->text) return DISTAC_ENOMEM;
    DI_TRY(di_reader_get(reader, h->text, h->length, &got));
    if (got < h->length) return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: cut in the header", h->path);
    if (memchr(h->text, 0, h->length))
        return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: a zero byte in the header", h->path);
    DI_TRY(read_dictionary(h));
    DI_TRY(find_type(h));
    return find_bytes(h, reader->bytes - h->before - h->length);
}

static void swap_bytes(uint8_t *bytes, int64_t count, size_t width) {
    for (int64_t i = 0; i < count; i++, bytes += width)
        for (size_t k = 0; k < width / 2; k++) {
            uint8_t b = bytes[k];
            bytes[k] = bytes[width - 1 - k];
            bytes[width - 1 - k] = b;
        }
}

/* The first index runs fastest in `from`, the last in `to`. */
static void turn(const header *h, const uint8_t *from, uint8_t *to) {
    size_t width = (size_t)distac_dtype_bytes(h->dtype);
    int64_t index[DI_MAX_RANK] = {0}, stride[DI_MAX_RANK], at = 0;
    for (int32_t d = 0; d < h->rank; d++) stride[d] = d ? stride[d - 1] * h->shape[d - 1] : 1;
    for (int64_t i = 0; i < h->count; i++, to += width) {
        memcpy(to, from + (size_t)at * width, width);
        for (int32_t d = h->rank - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < h->shape[d]) break;
            at -= stride[d] * h->shape[d];
            index[d] = 0;
        }
    }
}

static distac_status check_bool(const header *h, const uint8_t *bytes) {
    for (int64_t i = 0; h->dtype == DISTAC_BOOL && i < h->count; i++)
        if (bytes[i] > 1)
            return di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: element %lld is %d, wanted 0 or 1", h->path,
                              (long long)i, bytes[i]);
    return DISTAC_OK;
}

static distac_status read_elements(distac_context *context, di_reader *reader, const header *h, uint8_t *out) {
    bool turned = h->fortran && h->rank > 1 && h->count > 0;
    uint8_t *bytes = turned ? di_alloc(context, (size_t)h->bytes) : out;
    size_t got = 0;
    if (!bytes && h->bytes) return DISTAC_ENOMEM;
    distac_status status = di_reader_get(reader, bytes, (size_t)h->bytes, &got);
    if (status == DISTAC_OK && got != (size_t)h->bytes)
        status = di_fail_at(DISTAC_EFORMAT, FUNCTION, "%s: %zu bytes of elements, the header promises %lld",
                            h->path, got, (long long)h->bytes);
    if (status == DISTAC_OK) status = di_reader_check(reader);
    if (status == DISTAC_OK) status = check_bool(h, bytes);
    if (status == DISTAC_OK && h->swapped) swap_bytes(bytes, h->count, (size_t)distac_dtype_bytes(h->dtype));
    if (status == DISTAC_OK && turned) turn(h, bytes, out);
    if (turned) di_free(context, bytes, (size_t)h->bytes);
    return status;
}

distac_status distac_tensor_npy(distac_context *context, const char *path, distac_tensor **out) {
    DI_REQUIRE(context && path && out, "context, path and out are needed");
    header h = {.path = path};
    di_reader reader;
    distac_tensor *made = NULL;
    DI_TRY(di_reader_open(path, &reader));
    distac_status status = read_header(&reader, &h);
    if (status == DISTAC_OK) status = di_tensor_new(context, h.dtype, h.rank, h.shape, false, &made);
    if (status == DISTAC_OK) status = read_elements(context, &reader, &h, made->data);
    free(h.text);
    di_reader_close(&reader);
    if (status == DISTAC_OK)
        *out = made;
    else
        distac_tensor_release(made);
    return status;
}
