/* mat.c: files of MATLAB 5: the header and the chain of variables, plain or deflated. What a tag claims is
 * compared with the bytes that are there before memory is asked for, and a deflated variable is inflated exactly
 * as far as its inner tag says. Versions 4 and 7.3 are other formats and refused by name. */
#include "mat.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { HEADER = 128, PEEK = 256, IN_BYTES = 65536, MOST_NAMES = 4096, RATIO = 1032 };

struct di_mat {
    distac_context *context;
    di_reader file;
    bool swapped, broken;
    distac_strings *names; /* of the variables met */
    uint8_t in[IN_BYTES];
};

/* ---- header ---- */

static distac_status read_some(di_mat *m, void *bytes, size_t count) {
    size_t got;
    DI_TRY(di_reader_get(&m->file, bytes, count, &got));
    if (got < count)
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: cut at byte %llu", m->file.path,
                          (unsigned long long)m->file.offset);
    return DISTAC_OK;
}

/* Version 4 has no header: its first number is MOPT, below 5000, in either byte order. */
static bool is_version_4(const uint8_t *b) {
    uint32_t little = di_mat_u32(b, false), big = di_mat_u32(b, true);
    return (little < 5000 || big < 5000) && (b[0] == 0 || b[3] == 0);
}

static distac_status read_header(di_mat *m) {
    static const uint8_t hdf5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    uint8_t head[HEADER];
    size_t got;
    const char *path = m->file.path;
    DI_TRY(di_reader_get(&m->file, head, sizeof head, &got));
    if (got >= 8 && memcmp(head, hdf5, 8) == 0)
        return di_fail_at(DISTAC_EUNSUPPORTED, "mat", "%s: an HDF5 file (MATLAB 7.3); save it with -v7", path);
    if (got >= 20 && is_version_4(head))
        return di_fail_at(DISTAC_EUNSUPPORTED, "mat", "%s: a MATLAB 4 file; save it with -v7", path);
    if (got < HEADER)
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: %zu bytes, the header of a MATLAB 5 file has 128", path,
                          got);
    bool little = head[126] == 'I' && head[127] == 'M', big = head[126] == 'M' && head[127] == 'I';
    if (!little && !big)
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: not a MATLAB 5 file: bytes 126 and 127 are %02x %02x", path,
                          head[126], head[127]);
    m->swapped = big;
    int version = big ? head[124] << 8 | head[125] : head[125] << 8 | head[124];
    if (version == 0x0200)
        return di_fail_at(DISTAC_EUNSUPPORTED, "mat", "%s: a MATLAB 7.3 file (HDF5); save it with -v7", path);
    if (version != 0x0100)
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: version 0x%04x, wanted 0x0100", path, version);
    return DISTAC_OK;
}

distac_status di_mat_open(distac_context *context, const char *path, di_mat **out) {
    di_mat *m = di_new(sizeof *m);
    if (!m) return DISTAC_ENOMEM;
    m->context = context;
    m->names = di_strings_new();
    distac_status status = m->names ? di_reader_open(path, &m->file) : DISTAC_ENOMEM;
    if (status != DISTAC_OK) {
        distac_strings_release(m->names);
        free(m);
        return status;
    }
    status = read_header(m);
    if (status != DISTAC_OK) {
        di_mat_close(m);
        return status;
    }
    *out = m;
    return DISTAC_OK;
}

void di_mat_close(di_mat *m) {
    if (!m) return;
    di_reader_close(&m->file);
    distac_strings_release(m->names);
    free(m);
}

void di_mat_variable_free(di_mat_variable *v) {
    if (!v) return;
    di_free(v->context, v->bytes, v->size);
    free(v->arrays);
    free(v);
}

/* ---- inflating ---- */

typedef struct inflater {
    z_stream z;
    uint64_t left; /* bytes of the element that were not read yet */
    uint64_t start;
    bool ended;
} inflater;

static distac_status zlib_error(const di_mat *m, const inflater *s, const char *what) {
    return di_fail_at(DISTAC_EFORMAT, "mat", "%s: the deflated variable at byte %llu: %s", m->file.path,
                      (unsigned long long)s->start, what);
}

/* Exactly count bytes. */
static distac_status inflate_some(di_mat *m, inflater *s, uint8_t *out, size_t count) {
    size_t done = 0;
    while (done < count) {
        if (s->ended) return zlib_error(m, s, "shorter than its inner tag says");
        if (s->z.avail_in == 0) {
            size_t n = s->left < IN_BYTES ? (size_t)s->left : IN_BYTES;
            if (n == 0) return zlib_error(m, s, "the stream is cut");
            DI_TRY(read_some(m, m->in, n));
            s->left -= n;
            s->z.next_in = m->in;
            s->z.avail_in = (uInt)n;
        }
        size_t room = count - done < (1u << 30) ? count - done : (1u << 30);
        s->z.next_out = out + done;
        s->z.avail_out = (uInt)room;
        int code = inflate(&s->z, Z_NO_FLUSH);
        done += room - s->z.avail_out;
        s->ended = code == Z_STREAM_END;
        if (code == Z_MEM_ERROR) return di_fail_at(DISTAC_ENOMEM, "mat", "no memory to inflate %s", m->file.path);
        if (code == Z_NEED_DICT) return zlib_error(m, s, "it wants a dictionary");
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return zlib_error(m, s, s->z.msg ? s->z.msg : "broken stream");
    }
    return DISTAC_OK;
}

/* The stream's end with its checksum, and nothing after it. */
static distac_status inflate_end(di_mat *m, inflater *s) {
    uint8_t more;
    while (!s->ended) {
        if (s->z.avail_in == 0) {
            size_t n = s->left < IN_BYTES ? (size_t)s->left : IN_BYTES;
            if (n == 0) return zlib_error(m, s, "the stream is cut");
            DI_TRY(read_some(m, m->in, n));
            s->left -= n;
            s->z.next_in = m->in;
            s->z.avail_in = (uInt)n;
        }
        s->z.next_out = &more;
        s->z.avail_out = 1;
        int code = inflate(&s->z, Z_NO_FLUSH);
        if (s->z.avail_out == 0) return zlib_error(m, s, "longer than its inner tag says");
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return zlib_error(m, s, s->z.msg ? s->z.msg : "broken stream");
        s->ended = code == Z_STREAM_END;
    }
    if (s->z.avail_in > 0 || s->left > 0) return zlib_error(m, s, "bytes follow the stream");
    return DISTAC_OK;
}

static distac_status skip(di_mat *m, uint64_t bytes) {
    if (lseek(m->file.fd, (off_t)bytes, SEEK_CUR) < 0)
        return di_fail_at(DISTAC_EIO, "mat", "cannot read %s: %s", m->file.path, strerror(errno));
    m->file.offset += bytes;
    return DISTAC_OK;
}

/* ---- variables ---- */

static distac_status note_name(di_mat *m, const char *name) {
    int64_t n = distac_strings_count(m->names);
    for (int64_t i = 0; i < n; i++)
        if (strcmp(distac_strings_get(m->names, i), name) == 0)
            return di_fail_at(DISTAC_EFORMAT, "mat", "%s: two variables '%s'", m->file.path, name);
    if (n == MOST_NAMES)
        return di_fail_at(DISTAC_EFORMAT, "mat", "%s: more than %d variables", m->file.path, MOST_NAMES);
    return di_strings_add(m->names, name);
}

/* A variable with room for size bytes, of which the first were read. */
static distac_status begin(di_mat *m, const char *name, const uint8_t *first, size_t count, size_t size,
                           di_mat_variable **out) {
    di_mat_variable *v = di_new(sizeof *v);
    if (!v) return DISTAC_ENOMEM;
    v->context = m->context;
    v->path = m->file.path;
    v->swapped = m->swapped;
    memcpy(v->name, name, DI_MAT_NAME);
    v->size = size;
    v->bytes = di_alloc(m->context, size);
    if (!v->bytes) {
        free(v);
        return DISTAC_ENOMEM;
    }
    memcpy(v->bytes, first, count);
    *out = v;
    return DISTAC_OK;
}

/* Reads a plain or deflated element of `size` bytes if it is the wanted one, else passes over it. s NULL: plain.
 */
static distac_status read_element(di_mat *m, inflater *s, size_t size, const char *wanted, di_mat_variable **out) {
    uint8_t first[PEEK];
    char name[DI_MAT_NAME] = "";
    size_t peek = size < PEEK ? size : PEEK;
    DI_TRY(s ? inflate_some(m, s, first, peek) : read_some(m, first, peek));
    DI_TRY(di_mat_peek(m->file.path, m->swapped, first, peek, name));
    DI_TRY(note_name(m, name));
    if (wanted && strcmp(name, wanted) != 0) return skip(m, s ? s->left : size - peek);
    DI_TRY(begin(m, name, first, peek, size, out));
    distac_status status = s ? inflate_some(m, s, (*out)->bytes + peek, size - peek)
                             : read_some(m, (*out)->bytes + peek, size - peek);
    if (status == DISTAC_OK && s) status = inflate_end(m, s);
    if (status == DISTAC_OK) status = di_mat_parse(*out);
    if (status != DISTAC_OK) {
        di_mat_variable_free(*out);
        *out = NULL;
    }
    return status;
}

static distac_status read_deflated(di_mat *m, uint32_t bytes, const char *wanted, di_mat_variable **out) {
    inflater s = {.left = bytes, .start = m->file.offset};
    uint8_t tag[8];
    int code = inflateInit(&s.z);
    if (code != Z_OK) return di_fail_inflate("mat", m->file.path, code, s.z.msg);
    distac_status status = inflate_some(m, &s, tag, 8);
    uint32_t type = 0, size = 0;
    if (status == DISTAC_OK) {
        type = di_mat_u32(tag, m->swapped);
        size = di_mat_u32(tag + 4, m->swapped);
        if (type != DI_MI_MATRIX)
            status = zlib_error(m, &s, type == DI_MI_COMPRESSED ? "deflated twice" : "it holds no array");
        else if (size / RATIO > bytes)
            status = zlib_error(m, &s, "its inner tag promises more than can come out of it");
    }
    if (status == DISTAC_OK) status = read_element(m, &s, size, wanted, out);
    inflateEnd(&s.z);
    return status;
}

static distac_status next(di_mat *m, const char *wanted, di_mat_variable **out) {
    uint8_t tag[8];
    while (!*out && m->file.offset < m->file.bytes) {
        uint64_t at = m->file.offset;
        DI_TRY(read_some(m, tag, 8));
        uint32_t type = di_mat_u32(tag, m->swapped), bytes = di_mat_u32(tag + 4, m->swapped);
        if (type != DI_MI_MATRIX && type != DI_MI_COMPRESSED)
            return di_fail_at(DISTAC_EFORMAT, "mat", "%s: an element of type %u at byte %llu, wanted a variable",
                              m->file.path, (unsigned)type, (unsigned long long)at);
        if (bytes > m->file.bytes - m->file.offset)
            return di_fail_at(DISTAC_EFORMAT, "mat",
                              "%s: the variable at byte %llu has %lu bytes, the file ends after %llu",
                              m->file.path, (unsigned long long)at, (unsigned long)bytes,
                              (unsigned long long)(m->file.bytes - m->file.offset));
        DI_TRY(type == DI_MI_MATRIX ? read_element(m, NULL, bytes, wanted, out)
                                    : read_deflated(m, bytes, wanted, out));
    }
    return *out ? DISTAC_OK : di_reader_check(&m->file);
}

distac_status di_mat_next(di_mat *m, const char *name, di_mat_variable **out) {
    *out = NULL;
    if (m->broken) return di_fail_at(DISTAC_ESTATE, "mat", "%s: nothing is read after an error", m->file.path);
    distac_status status = next(m, name, out);
    m->broken = status != DISTAC_OK;
    return status;
}

distac_status di_mat_variable_read(distac_context *context, const char *path, const char *name,
                                   di_mat_variable **out) {
    di_mat *m;
    DI_TRY(di_mat_open(context, path, &m));
    distac_status status = di_mat_next(m, name, out);
    if (status == DISTAC_OK && !*out) {
        di_text there = {0};
        for (int64_t i = 0; i < distac_strings_count(m->names) && i < 20; i++)
            di_text_add(&there, "%s%s", i ? ", " : "", distac_strings_get(m->names, i));
        status = di_fail_at(DISTAC_EFORMAT, "mat", "%s: no variable '%s'; there is %s", path, name,
                            there.bytes ? there.bytes : "none");
        di_text_free(&there);
    }
    di_mat_close(m);
    return status;
}
