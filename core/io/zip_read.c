/* zip_read.c: the strict zip reader. The list at the end of the file and the headers in front of the members must
 * tell the same, members must not overlap, nothing may stand before the first and behind the end record, and
 * nothing is packed or encrypted: what is read is then the file's own bytes and no second reading of the same file
 * by other rules is possible. */
#include "zip_read.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    END64 = 0x06064b50,
    LOCATOR64 = 0x07064b50,
    DESCRIPTOR = 0x08074b50,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    SEARCH_BYTES = 65535 + END_BYTES
};

/* What the end records say. */
typedef struct list {
    uint64_t count, bytes, offset;
    uint64_t end; /* where the first of the end records stands */
} directory;

distac_status di_pt_fail(const char *path, uint64_t at, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return di_fail_at(DISTAC_EFORMAT, "distac_checkpoint_open", "%s: byte %llu: %s", path, (unsigned long long)at,
                      text);
}

const char *di_pt_shown(const void *bytes, size_t count, char buffer[80]) {
    const unsigned char *text = bytes;
    size_t cut = count <= 60 ? count : 60;
    for (size_t i = 0; i < cut; i++) buffer[i] = text[i] < 0x20 || text[i] >= 0x7f ? '?' : (char)text[i];
    memcpy(buffer + cut, cut < count ? "..." : "", cut < count ? 4 : 1);
    return buffer;
}

static uint32_t u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p) {
    return u16(p) | u16(p + 2) << 16;
}

uint64_t di_u64(const uint8_t *p) {
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* Are there `count` bytes at `at`? */
static bool inside(const di_zip *zip, uint64_t at, uint64_t count) {
    return at <= zip->size && count <= zip->size - at;
}

/* ---- the end records ---- */

static distac_status find_end(const di_zip *zip, uint64_t *at) {
    size_t least = zip->size > SEARCH_BYTES ? zip->size - SEARCH_BYTES : 0;
    if (zip->size >= END_BYTES)
        for (size_t p = zip->size - END_BYTES + 1; p-- > least;) {
            if (u32(zip->data + p) != END) continue;
            uint64_t rest = zip->size - p - END_BYTES;
            if (rest)
                return di_pt_fail(zip->path, p + END_BYTES,
                                  "%llu bytes follow the archive's end record; nothing may stand behind it",
                                  (unsigned long long)rest);
            *at = p;
            return DISTAC_OK;
        }
    return di_pt_fail(zip->path, zip->size,
                      "the zip archive has no end record: the file is cut short, or no PyTorch archive");
}

static distac_status read_end64(const di_zip *zip, uint64_t locator, directory *out) {
    const uint8_t *l = zip->data + locator;
    uint64_t at = di_u64(l + 8);
    if (u32(l + 4) != 0 || u32(l + 16) != 1)
        return di_pt_fail(zip->path, locator, "the archive is spread over several disks");
    if (at > locator || locator - at != END64_BYTES || u32(zip->data + at) != END64)
        return di_pt_fail(zip->path, locator, "the zip64 end record is not where its locator says (byte %llu)",
                          (unsigned long long)at);
    const uint8_t *e = zip->data + at;
    if (di_u64(e + 4) != END64_BYTES - 12)
        return di_pt_fail(zip->path, at + 4, "the zip64 end record has the wrong size");
    if (u32(e + 16) != 0 || u32(e + 20) != 0 || di_u64(e + 24) != di_u64(e + 32))
        return di_pt_fail(zip->path, at, "the archive is spread over several disks");
    *out = (directory){di_u64(e + 32), di_u64(e + 40), di_u64(e + 48), at};
    return DISTAC_OK;
}

static distac_status read_end(const di_zip *zip, directory *out) {
    uint64_t at = 0;
    DI_TRY(find_end(zip, &at));
    const uint8_t *e = zip->data + at;
    if (u16(e + 4) != 0 || u16(e + 6) != 0 || u16(e + 8) != u16(e + 10))
        return di_pt_fail(zip->path, at, "the archive is spread over several disks");
    directory old = {u16(e + 10), u32(e + 12), u32(e + 16), at};
    bool wide = at >= LOCATOR64_BYTES && u32(e - LOCATOR64_BYTES) == LOCATOR64;
    bool asks = old.count == 0xFFFF || old.bytes == 0xFFFFFFFF || old.offset == 0xFFFFFFFF;
    if (!wide) {
        if (asks) return di_pt_fail(zip->path, at, "the end record refers to a zip64 record, and there is none");
        *out = old;
        return DISTAC_OK;
    }
    DI_TRY(read_end64(zip, at - LOCATOR64_BYTES, out));
    if ((old.count != 0xFFFF && old.count != out->count) || (old.bytes != 0xFFFFFFFF && old.bytes != out->bytes) ||
        (old.offset != 0xFFFFFFFF && old.offset != out->offset))
        return di_pt_fail(zip->path, at, "the end record and the zip64 end record disagree");
    return DISTAC_OK;
}

/* ---- headers ---- */

/* Replaces the fields that a header could not hold by those of its zip64 extra field. Fields in the order of the
 * format: size, packed size, offset. */
static distac_status read_wide(const di_zip *zip, uint64_t extra, uint64_t bytes, int count, uint64_t *fields[]) {
    bool needed = false;
    for (int i = 0; i < count; i++) needed = needed || *fields[i] == 0xFFFFFFFF;
    bool seen = false;
    for (uint64_t at = extra; at + 4 <= extra + bytes;) {
        uint32_t kind = u16(zip->data + at), size = u16(zip->data + at + 2);
        if (size > extra + bytes - at - 4)
            return di_pt_fail(zip->path, at, "an extra field of %u bytes runs over its header's end", size);
        if (kind == 1 && seen) return di_pt_fail(zip->path, at, "two zip64 fields in one header");
        if (kind == 1 && needed) {
            uint32_t used = 0;
            for (int i = 0; i < count; i++) {
                if (*fields[i] != 0xFFFFFFFF) continue;
                if (used + 8 > size) return di_pt_fail(zip->path, at, "the zip64 field is cut short");
                *fields[i] = di_u64(zip->data + at + 4 + used);
                used += 8;
            }
        }
        seen = seen || kind == 1;
        at += 4 + size;
    }
    if (needed && !seen)
        return di_pt_fail(zip->path, extra, "a size of 0xFFFFFFFF stands for a zip64 field, and there is none");
    return DISTAC_OK;
}

static distac_status check_stored(const di_zip *zip, const di_zip_member *m) {
    char name[80];
    di_pt_shown(m->name, m->name_bytes, name);
    if (m->flags & (1u | 1u << 6 | 1u << 13))
        return di_pt_fail(zip->path, m->header, "\"%s\" is encrypted; encrypted archives are not read", name);
    if (m->method == 8)
        return di_pt_fail(zip->path, m->header,
                          "\"%s\" is compressed (deflate); PyTorch stores its members as they are, and only such "
                          "archives are read",
                          name);
    if (m->method != 0)
        return di_pt_fail(zip->path, m->header, "\"%s\" is packed by method %u; only stored members are read",
                          name, m->method);
    if (m->bytes != m->unpacked)
        return di_pt_fail(zip->path, m->header, "\"%s\" is stored, but its two sizes differ", name);
    return DISTAC_OK;
}

/* The header in front of the member must repeat what the list says. */
static distac_status read_local(const di_zip *zip, di_zip_member *m, uint64_t limit) {
    char name[80];
    di_pt_shown(m->name, m->name_bytes, name);
    if (!inside(zip, m->header, LOCAL_BYTES) || m->header + LOCAL_BYTES > limit)
        return di_pt_fail(zip->path, m->header, "the header of \"%s\" lies outside the file", name);
    const uint8_t *l = zip->data + m->header;
    if (u32(l) != LOCAL) return di_pt_fail(zip->path, m->header, "there is no header for \"%s\" here", name);
    uint32_t name_bytes = u16(l + 26), extra = u16(l + 28);
    if (u16(l + 6) != m->flags || u16(l + 8) != m->method)
        return di_pt_fail(zip->path, m->header, "the two headers of \"%s\" disagree on how it is stored", name);
    uint64_t start = m->header + LOCAL_BYTES + name_bytes + extra;
    if (start > limit)
        return di_pt_fail(zip->path, m->header, "the header of \"%s\" runs over the list of members", name);
    if (name_bytes != m->name_bytes || memcmp(l + LOCAL_BYTES, m->name, name_bytes) != 0)
        return di_pt_fail(zip->path, m->header, "the list calls this member \"%s\", its own header does not",
                          name);
    uint64_t packed = u32(l + 18), size = u32(l + 22);
    uint64_t *fields[] = {&size, &packed};
    DI_TRY(read_wide(zip, start - extra, extra, 2, fields));
    bool later = (m->flags & 8) && packed == 0 && size == 0; /* then a record behind the data holds them */
    if (!later && (packed != m->bytes || size != m->unpacked || (u32(l + 14) != m->crc && !(m->flags & 8))))
        return di_pt_fail(zip->path, m->header, "the two headers of \"%s\" disagree on its size or checksum",
                          name);
    if (m->bytes > limit - start)
        return di_pt_fail(zip->path, m->header, "\"%s\" has %llu bytes, but only %llu stand before the list", name,
                          (unsigned long long)m->bytes, (unsigned long long)(limit - start));
    m->offset = start;
    return DISTAC_OK;
}

static distac_status read_central(const di_zip *zip, const directory *list, uint64_t *at, di_zip_member *m) {
    if (list->end - *at < CENTRAL_BYTES || u32(zip->data + *at) != CENTRAL)
        return di_pt_fail(zip->path, *at, "the archive's list of members is damaged here");
    const uint8_t *c = zip->data + *at;
    uint32_t name_bytes = u16(c + 28), extra = u16(c + 30), comment = u16(c + 32);
    uint64_t whole = CENTRAL_BYTES + (uint64_t)name_bytes + extra + comment;
    if (list->end - *at < whole) return di_pt_fail(zip->path, *at, "an entry of the list runs over its end");
    m->name = (const char *)c + CENTRAL_BYTES;
    m->name_bytes = name_bytes;
    if (name_bytes == 0 || name_bytes > DI_ZIP_MAX_NAME)
        return di_pt_fail(zip->path, *at, "a member's name has %u bytes, wanted 1 to %d", name_bytes,
                          (int)DI_ZIP_MAX_NAME);
    uint64_t packed = u32(c + 20), size = u32(c + 24), header = u32(c + 42);
    uint64_t *fields[] = {&size, &packed, &header};
    DI_TRY(read_wide(zip, *at + CENTRAL_BYTES + name_bytes, extra, 3, fields));
    if (u16(c + 34) != 0) return di_pt_fail(zip->path, *at, "the archive is spread over several disks");
    m->flags = (uint16_t)u16(c + 8);
    m->method = (uint16_t)u16(c + 10);
    m->crc = u32(c + 16);
    m->bytes = packed;
    m->unpacked = size;
    m->header = header;
    *at += whole;
    return read_local(zip, m, list->offset);
}

/* ---- the whole ---- */

static int by_header(const void *a, const void *b) {
    const di_zip_member *x = a, *y = b;
    return x->header < y->header ? -1 : x->header > y->header;
}

static int compare_names(const char *a, size_t n, const char *b, size_t m) {
    int order = memcmp(a, b, n < m ? n : m);
    return order ? order : n < m ? -1 : n > m;
}

static int by_name(const void *a, const void *b) {
    const di_zip_member *x = a, *y = b;
    return compare_names(x->name, x->name_bytes, y->name, y->name_bytes);
}

/* Members side by side from byte 0; between them only the records that follow a member's data. */
static distac_status check_places(di_zip *zip) {
    char name[80];
    qsort(zip->members, (size_t)zip->count, sizeof *zip->members, by_header);
    uint64_t end = 0;
    for (int64_t i = 0; i < zip->count; i++) {
        const di_zip_member *m = &zip->members[i];
        di_pt_shown(m->name, m->name_bytes, name);
        if (i == 0 && m->header != 0)
            return di_pt_fail(zip->path, 0, "%llu bytes stand before the archive's first member",
                              (unsigned long long)m->header);
        if (m->header < end)
            return di_pt_fail(zip->path, m->header,
                              "\"%s\" begins inside the member before it, which ends at %llu", name,
                              (unsigned long long)end);
        end = m->offset + m->bytes;
    }
    return DISTAC_OK;
}

static distac_status check_names(di_zip *zip) {
    char name[80];
    qsort(zip->members, (size_t)zip->count, sizeof *zip->members, by_name);
    for (int64_t i = 1; i < zip->count; i++)
        if (by_name(&zip->members[i - 1], &zip->members[i]) == 0)
            return di_pt_fail(zip->path, zip->members[i].header, "two members are named \"%s\"",
                              di_pt_shown(zip->members[i].name, zip->members[i].name_bytes, name));
    return DISTAC_OK;
}

distac_status di_zip_open(const char *path, const uint8_t *data, size_t size, di_zip *out) {
    directory list = {0};
    *out = (di_zip){.path = path, .data = data, .size = size};
    DI_TRY(read_end(out, &list));
    if (list.count > DI_ZIP_MAX_MEMBERS)
        return di_pt_fail(path, list.end, "the archive lists %llu members, at most %d are allowed",
                          (unsigned long long)list.count, (int)DI_ZIP_MAX_MEMBERS);
    if (list.count == 0) return di_pt_fail(path, list.end, "the archive is empty");
    if (list.offset > list.end || list.end - list.offset != list.bytes)
        return di_pt_fail(path, list.end,
                          "the list of members (%llu bytes at %llu) does not end at the end record",
                          (unsigned long long)list.bytes, (unsigned long long)list.offset);
    if (list.bytes / CENTRAL_BYTES < list.count)
        return di_pt_fail(path, list.offset, "the list is too short for %llu members",
                          (unsigned long long)list.count);
    out->members = di_new((size_t)list.count * sizeof *out->members);
    if (!out->members) return DISTAC_ENOMEM;
    uint64_t at = list.offset;
    for (uint64_t i = 0; i < list.count; i++) DI_TRY(read_central(out, &list, &at, &out->members[i]));
    if (at != list.end) return di_pt_fail(path, at, "the list holds more than the end record counts");
    out->count = (int64_t)list.count;
    DI_TRY(check_places(out));
    return check_names(out);
}

const di_zip_member *di_zip_find(const di_zip *zip, const char *name, size_t bytes) {
    int64_t low = 0, high = zip->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const di_zip_member *m = &zip->members[middle];
        int order = compare_names(m->name, m->name_bytes, name, bytes);
        if (order == 0) return m;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

typedef struct check_job {
    const di_zip *zip;
    uint32_t *found;
} check_job;

static void check_one(void *arg, int64_t index) {
    const check_job *job = arg;
    const di_zip_member *m = &job->zip->members[index];
    job->found[index] = (uint32_t)crc32_z(crc32_z(0, NULL, 0), job->zip->data + m->offset, (size_t)m->bytes);
}

distac_status di_zip_check(distac_context *context, const di_zip *zip) {
    char name[80];
    for (int64_t i = 0; i < zip->count; i++) DI_TRY(check_stored(zip, &zip->members[i]));
    check_job job = {zip, di_new((size_t)zip->count * sizeof *job.found)};
    if (!job.found) return DISTAC_ENOMEM;
    di_parallel(context, zip->count, check_one, &job);
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < zip->count && status == DISTAC_OK; i++) {
        const di_zip_member *m = &zip->members[i];
        if (job.found[i] != m->crc)
            status = di_pt_fail(zip->path, m->offset,
                                "the checksum of \"%s\" is %08X, the archive says %08X: the file is damaged",
                                di_pt_shown(m->name, m->name_bytes, name), job.found[i], m->crc);
    }
    free(job.found);
    return status;
}
