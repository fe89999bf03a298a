/* idx.c: the IDX format of MNIST, plain or gzip: two zero bytes, type, rank, sizes as big-endian 32-bit numbers,
 * then the elements and nothing else. Sizes are checked against the bytes present before memory is asked for;
 * a gzip stream is inflated only as far as the header promises. */
#include "data.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { IN_BYTES = 65536, MOST_DIMENSIONS = 8 };

typedef struct source {
    di_reader file;
    bool gzip, whole; /* whole: the current gzip member has ended, its checksum was right */
    z_stream z;
    uint8_t *in;      /* IN_BYTES: bytes read ahead */
    size_t ahead, at; /* of them, and how many are used */
} source;

typedef struct header {
    int type, rank;
    int64_t size[MOST_DIMENSIONS];
    int64_t count, bytes; /* elements; bytes of all elements */
} header;

static distac_status refill(source *s) {
    s->at = 0;
    return di_reader_get(&s->file, s->in, IN_BYTES, &s->ahead);
}

static distac_status plain_get(source *s, uint8_t *out, size_t count, size_t *got) {
    size_t done = 0;
    while (done < count) {
        if (s->at == s->ahead) DI_TRY(refill(s));
        if (s->ahead == 0) break;
        size_t n = s->ahead - s->at < count - done ? s->ahead - s->at : count - done;
        memcpy(out + done, s->in + s->at, n);
        s->at += n;
        done += n;
    }
    *got = done;
    return DISTAC_OK;
}

/* Concatenated members are one stream (RFC 1952 section 2.2). Checksums and lengths are checked by zlib. */
static distac_status gzip_get(source *s, uint8_t *out, size_t count, size_t *got) {
    const char *path = s->file.path;
    size_t done = 0;
    while (done < count) {
        if (s->at == s->ahead) DI_TRY(refill(s));
        if (s->ahead == 0) {
            if (s->whole) break;
            return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: the gzip stream is cut at byte %llu",
                              path, (unsigned long long)s->file.offset);
        }
        if (s->whole) {
            if (inflateReset(&s->z) != Z_OK)
                return di_fail_at(DISTAC_ENOMEM, "distac_dataset_idx", "%s: cannot restart the inflater", path);
            s->whole = false;
        }
        size_t room = count - done < (1u << 30) ? count - done : (1u << 30);
        s->z.next_in = s->in + s->at;
        s->z.avail_in = (uInt)(s->ahead - s->at);
        s->z.next_out = out + done;
        s->z.avail_out = (uInt)room;
        int code = inflate(&s->z, Z_NO_FLUSH);
        s->at = s->ahead - s->z.avail_in;
        done += room - s->z.avail_out;
        if (code == Z_STREAM_END) {
            s->whole = true;
        } else if (code != Z_OK && code != Z_BUF_ERROR) {
            return di_fail_at(code == Z_MEM_ERROR ? DISTAC_ENOMEM : DISTAC_EFORMAT, "distac_dataset_idx",
                              "%s: broken gzip stream near byte %llu: %s", path,
                              (unsigned long long)(s->file.offset - (s->ahead - s->at)),
                              s->z.msg ? s->z.msg : "unexpected end");
        }
    }
    *got = done;
    return DISTAC_OK;
}

static distac_status get(source *s, uint8_t *out, size_t count, size_t *got) {
    return s->gzip ? gzip_get(s, out, count, got) : plain_get(s, out, count, got);
}

static distac_status source_start(source *s) {
    s->in = di_new(IN_BYTES);
    if (!s->in) return DISTAC_ENOMEM;
    DI_TRY(refill(s));
    if (s->ahead < 2 || s->in[0] != 0x1f || s->in[1] != 0x8b) return DISTAC_OK;
    int code = inflateInit2(&s->z, 15 + 16); /* 16: a gzip wrapper */
    if (code != Z_OK) return di_fail_inflate("distac_dataset_idx", s->file.path, code, s->z.msg);
    s->gzip = true;
    return DISTAC_OK;
}

static void source_end(source *s) {
    if (s->gzip) inflateEnd(&s->z);
    free(s->in);
    di_reader_close(&s->file);
}

static int64_t type_bytes(int type) {
    switch (type) {
    case 0x08:
        return 1; /* u8 */
    case 0x09:
        return 1; /* i8 */
    case 0x0b:
        return 2; /* i16 */
    case 0x0c:
        return 4; /* i32 */
    case 0x0d:
        return 4; /* f32 */
    case 0x0e:
        return 8; /* f64 */
    default:
        return 0;
    }
}

static distac_status read_header(source *s, header *h) {
    const char *path = s->file.path;
    uint8_t magic[4], sizes[4 * MOST_DIMENSIONS];
    size_t got;
    DI_TRY(get(s, magic, 4, &got));
    if (got < 4)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: %zu bytes, an IDX header has at least 8",
                          path, got);
    if (magic[0] != 0 || magic[1] != 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: not an IDX file: it starts with %02x %02x instead of 00 00", path, magic[0],
                          magic[1]);
    *h = (header){.type = magic[2], .rank = magic[3], .count = 1};
    int64_t width = type_bytes(h->type);
    if (width == 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: element type 0x%02x at byte 2; known: 08 09 0b 0c 0d 0e", path, h->type);
    if (h->rank < 1 || h->rank > MOST_DIMENSIONS)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: rank %d at byte 3, wanted 1 to %d", path,
                          h->rank, MOST_DIMENSIONS);
    DI_TRY(get(s, sizes, 4 * (size_t)h->rank, &got));
    if (got < 4 * (size_t)h->rank)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: the header ends in the sizes (rank %d)", path,
                          h->rank);
    bool overflow = false, empty = false;
    for (int d = 0; d < h->rank; d++) {
        const uint8_t *b = sizes + 4 * d;
        h->size[d] = (int64_t)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
        empty = empty || h->size[d] == 0;
        overflow = __builtin_mul_overflow(h->count, h->size[d], &h->count) || overflow;
    }
    overflow = overflow || __builtin_mul_overflow(h->count, width, &h->bytes);
    if (empty) {
        h->count = h->bytes = 0;
    } else if (overflow) {
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: the product of the %d sizes overflows", path,
                          h->rank);
    }
    /* What the header claims against what is there: exactly for a plain file, by deflate's best ratio for gzip. */
    uint64_t present = s->file.bytes, head = 4 + 4 * (uint64_t)h->rank;
    if (!s->gzip && (uint64_t)h->bytes != present - head)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: %llu bytes of elements, the header promises %lld", path,
                          (unsigned long long)(present - head), (long long)h->bytes);
    if (s->gzip && (uint64_t)h->bytes / 1032 > present)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: %lld bytes cannot come out of %llu of gzip",
                          path, (long long)h->bytes, (unsigned long long)present);
    return DISTAC_OK;
}

static distac_status read_elements(source *s, const header *h, uint8_t *out) {
    const char *path = s->file.path;
    size_t got, want = (size_t)h->bytes;
    uint8_t more;
    DI_TRY(get(s, out, want, &got));
    if (got < want)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: %zu bytes of elements, the header promises %zu", path, got, want);
    DI_TRY(get(s, &more, 1, &got));
    if (got != 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: bytes follow the %zu that the header promises", path, want);
    return di_reader_check(&s->file);
}

static distac_status read_images(distac_context *context, source *s, di_samples **out) {
    header h = {.type = 0};
    DI_TRY(read_header(s, &h));
    if (h.type != 0x08)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: images of element type 0x%02x, wanted 08 (bytes)", s->file.path, h.type);
    if (h.rank != 3 && h.rank != 4)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: images of rank %d, wanted 3 [N,H,W] or 4 [N,C,H,W]", s->file.path, h.rank);
    int64_t channels = h.rank == 4 ? h.size[1] : 1, height = h.size[h.rank - 2], width = h.size[h.rank - 1];
    if (channels < 1 || channels > 1024 || height < 1 || height > DI_IMAGE_SIDE || width < 1 ||
        width > DI_IMAGE_SIDE)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: images of %lld x %lld x %lld", s->file.path,
                          (long long)channels, (long long)height, (long long)width);
    di_samples *samples;
    DI_TRY(di_samples_new(context, h.size[0], 0, (int32_t)channels, (int32_t)height, (int32_t)width, &samples));
    int64_t shape[4] = {h.size[0], channels, height, width};
    distac_status status = di_tensor_new(context, DISTAC_U8, 4, shape, false, &samples->pixels);
    if (status == DISTAC_OK) status = read_elements(s, &h, samples->pixels->data);
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    *out = samples;
    return DISTAC_OK;
}

static int64_t integer_at(const uint8_t *bytes, int type, int64_t i) {
    if (type == 0x08) return bytes[i];
    if (type == 0x09) return (int8_t)bytes[i];
    if (type == 0x0b) return (int16_t)((unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1]);
    const uint8_t *b = bytes + 4 * i;
    return (int32_t)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
}

static distac_status store_labels(distac_context *context, const char *path, const header *h, const uint8_t *bytes,
                                  di_samples **samples) {
    di_samples *s = *samples, *full;
    int64_t largest = -1;
    for (int64_t i = 0; i < h->count; i++) {
        int64_t label = integer_at(bytes, h->type, i);
        if (label < 0 || label >= DI_CLASSES)
            return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                              "%s: label %lld of sample %lld, wanted 0 to %lld", path, (long long)label,
                              (long long)i, (long long)DI_CLASSES - 1);
        if (label > largest) largest = label;
    }
    DI_TRY(di_samples_new(context, s->count, largest + 1, s->channels, s->height, s->width, &full));
    full->labels = di_new((size_t)(h->count > 0 ? h->count : 1) * sizeof *full->labels);
    if (!full->labels) {
        di_samples_release(full);
        return DISTAC_ENOMEM;
    }
    for (int64_t i = 0; i < h->count; i++) full->labels[i] = integer_at(bytes, h->type, i);
    full->pixels = s->pixels;
    s->pixels = NULL;
    di_samples_release(s);
    *samples = full;
    return DISTAC_OK;
}

static distac_status read_labels(distac_context *context, source *s, di_samples **samples) {
    header h = {.type = 0};
    DI_TRY(read_header(s, &h));
    const char *path = s->file.path;
    if (h.type != 0x08 && h.type != 0x09 && h.type != 0x0b && h.type != 0x0c)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx",
                          "%s: labels of element type 0x%02x, wanted integers", path, h.type);
    if (h.rank != 1)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: labels of rank %d, wanted 1", path, h.rank);
    if (h.count != (*samples)->count)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_idx", "%s: %lld labels for %lld images", path,
                          (long long)h.count, (long long)(*samples)->count);
    uint8_t *bytes = di_alloc(context, (size_t)h.bytes);
    if (!bytes) return DISTAC_ENOMEM;
    distac_status status = read_elements(s, &h, bytes);
    if (status == DISTAC_OK) status = store_labels(context, path, &h, bytes, samples);
    di_free(context, bytes, (size_t)h.bytes);
    return status;
}

typedef distac_status (*read_one)(distac_context *context, source *s, di_samples **samples);

static distac_status with_file(distac_context *context, const char *path, read_one what, di_samples **samples) {
    source s = {.in = NULL};
    DI_TRY(di_reader_open(path, &s.file));
    distac_status status = source_start(&s);
    if (status == DISTAC_OK) status = what(context, &s, samples);
    source_end(&s);
    return status;
}

distac_status distac_dataset_idx(distac_context *context, const char *images_path, const char *labels_path,
                                 distac_dataset **out) {
    DI_REQUIRE(context && images_path && out, "context, images_path and out are needed");
    di_samples *samples = NULL;
    DI_TRY(with_file(context, images_path, read_images, &samples));
    distac_status status = labels_path ? with_file(context, labels_path, read_labels, &samples) : DISTAC_OK;
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    return di_dataset_wrap(samples, out);
}
