/* pack.c: the packed cache of decoded images. Pixels follow each other from byte 16 on; then one entry for each
 * sample (place, sides, checksum); at the end 64 bytes that say what the file is and carry the checksums of
 * entries and of themselves. Numbers have the machine's byte order: another machine makes its own file. Pixels are
 * checked when they are used; a sample that fails is decoded from its file again. */
#include "pack.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { FIRST = 16, ENTRY = 24, TAIL = 64, PIECE = 64 };
static const char magic[16] = "distac pack 1\n\0";

typedef struct entry {
    uint64_t offset;
    uint32_t width, height, channels, sum;
} entry;

typedef struct tail {
    char magic[16];
    uint32_t order, kind, channels, size;
    uint64_t count, index;
    uint32_t index_sum, unused[2], sum; /* sum: of all before it */
} tail;
_Static_assert(sizeof(entry) == ENTRY && sizeof(tail) == TAIL, "the file's layout is the structs'");

static uint32_t sum_of(const void *bytes, size_t count) {
    return (uint32_t)crc32_z(0, bytes, count);
}

/* ---- reading ---- */

static const char *fault(const di_map *map, int kind, const distac_dataset *view, tail *t) {
    const di_samples *s = view->samples;
    if (map->bytes < FIRST + TAIL) return "it is too short";
    memcpy(t, map->data + map->bytes - TAIL, TAIL);
    if (memcmp(map->data, magic, FIRST) != 0 || memcmp(t->magic, magic, FIRST) != 0)
        return "it is no pack, or cut";
    if (t->sum != sum_of(t, TAIL - sizeof t->sum)) return "its end is damaged";
    if (t->order != 0x01020304) return "it has another byte order";
    if (t->kind != (uint32_t)kind || t->channels != (uint32_t)s->channels || t->size != (uint32_t)s->height)
        return "it holds other images";
    uint64_t room = map->bytes - TAIL;
    if (t->count > (uint64_t)view->size || t->index < FIRST || t->index > room ||
        (room - t->index) / ENTRY != t->count || (room - t->index) % ENTRY != 0)
        return "its size is wrong";
    if (t->index_sum != sum_of(map->data + t->index, (size_t)(room - t->index))) return "its entries are damaged";
    for (uint64_t i = 0; i < t->count; i++) {
        entry e;
        memcpy(&e, map->data + t->index + i * ENTRY, ENTRY);
        bool fits = e.width >= 1 && e.height >= 1 && e.width <= DI_IMAGE_SIDE && e.height <= DI_IMAGE_SIDE &&
                    e.channels == t->channels && e.offset >= FIRST && e.offset <= t->index &&
                    (uint64_t)e.width * e.height * e.channels <= t->index - e.offset;
        if (kind == DI_PACK_FITTED) fits = fits && e.width == t->size && e.height == t->size;
        if (!fits) return "an entry is wrong";
    }
    return NULL;
}

static int64_t position(const distac_dataset *view, int64_t i) {
    return view->order ? view->order[i] : i;
}

distac_status di_pack_open(const char *path, int kind, const distac_dataset *view, di_pack **out) {
    di_map map;
    tail t;
    DI_TRY(di_map_open(path, &map));
    const char *what = fault(&map, kind, view, &t);
    int64_t n = view->samples->count;
    di_pack *p = what ? NULL : di_new(sizeof *p);
    int64_t *place = p ? di_new((size_t)(n > 0 ? n : 1) * sizeof *place) : NULL;
    if (!place) {
        free(p);
        di_map_close(&map);
        return what ? di_fail_at(DISTAC_EFORMAT, "distac_dataset_cache", "%s: %s", path, what) : DISTAC_ENOMEM;
    }
    *p = (di_pack){.map = map, .kind = kind, .count = (int64_t)t.count, .index = t.index, .place = place};
    for (int64_t i = 0; i < n; i++) place[i] = -1;
    for (int64_t i = 0; i < p->count; i++) place[position(view, i)] = i;
    *out = p;
    return DISTAC_OK;
}

void di_pack_close(di_pack *pack) {
    if (!pack) return;
    di_map_close(&pack->map);
    free(pack->place);
    free(pack);
}

const uint8_t *di_pack_pixels(const di_pack *p, int64_t index, int32_t *width, int32_t *height) {
    entry e;
    if (p->place[index] < 0) return NULL;
    memcpy(&e, p->map.data + p->index + (uint64_t)p->place[index] * ENTRY, ENTRY);
    const uint8_t *pixels = p->map.data + e.offset;
    if (e.sum != sum_of(pixels, (size_t)e.width * e.height * e.channels)) return NULL;
    *width = (int32_t)e.width;
    *height = (int32_t)e.height;
    return pixels;
}

/* ---- writing ---- */

typedef struct packing {
    const distac_dataset *view;
    const di_samples *samples;
    int kind;
    int64_t start;
    distac_image *images[PIECE]; /* originals */
    uint8_t *planes;             /* PIECE fitted samples */
} packing;

static distac_status make_one(void *arg, int64_t i) {
    packing *p = arg;
    const di_samples *s = p->samples;
    int64_t at = position(p->view, p->start + i);
    if (p->kind == DI_PACK_FITTED)
        return di_samples_planes(s, at, NULL, p->planes + (size_t)i * di_samples_bytes(s));
    distac_image *image = NULL;
    DI_TRY(distac_image_load(s->context, s->files[at], s->channels, &image));
    distac_image_release(p->images[i]); /* made before: a failed piece is tried again for its text */
    p->images[i] = image;
    return DISTAC_OK;
}

static distac_status put(di_writer *w, const void *bytes, size_t count, uint64_t *at) {
    *at += count;
    return di_writer_put(w, bytes, count);
}

/* Writes the images of a piece; *full: the limit was reached before its end. */
static distac_status put_piece(packing *p, di_writer *w, int64_t n, uint64_t limit, entry *entries, int64_t *count,
                               uint64_t *at, bool *full) {
    const di_samples *s = p->samples;
    for (int64_t i = 0; i < n; i++) {
        const distac_image *image = p->images[i];
        size_t bytes = image ? image->bytes : di_samples_bytes(s);
        const uint8_t *pixels = image ? image->pixels : p->planes + (size_t)i * bytes;
        uint64_t after = *at + bytes + (uint64_t)(*count + 1) * ENTRY + TAIL;
        *full = limit > 0 && after > limit;
        if (*full) return DISTAC_OK;
        entries[(*count)++] = (entry){.offset = *at,
                                      .width = (uint32_t)(image ? image->width : s->width),
                                      .height = (uint32_t)(image ? image->height : s->height),
                                      .channels = (uint32_t)s->channels,
                                      .sum = sum_of(pixels, bytes)};
        DI_TRY(put(w, pixels, bytes, at));
    }
    return DISTAC_OK;
}

static distac_status put_all(packing *p, di_writer *w, uint64_t limit, entry *entries) {
    const di_samples *s = p->samples;
    uint64_t at = 0;
    int64_t count = 0;
    bool full = false;
    DI_TRY(put(w, magic, FIRST, &at));
    for (p->start = 0; p->start < p->view->size && !full; p->start += PIECE) {
        int64_t n = p->view->size - p->start < PIECE ? p->view->size - p->start : PIECE;
        di_progress(s->context, "packing images", p->start, p->view->size);
        DI_TRY(di_parallel_try(s->context, NULL, n, make_one, p));
        DI_TRY(put_piece(p, w, n, limit, entries, &count, &at, &full));
        for (int64_t i = 0; i < n; i++) {
            distac_image_release(p->images[i]);
            p->images[i] = NULL;
        }
    }
    di_progress(s->context, "packing images", p->view->size, p->view->size);
    tail t = {.order = 0x01020304,
              .kind = (uint32_t)p->kind,
              .channels = (uint32_t)s->channels,
              .size = (uint32_t)s->height,
              .count = (uint64_t)count,
              .index = at,
              .index_sum = sum_of(entries, (size_t)count * ENTRY)};
    memcpy(t.magic, magic, FIRST);
    t.sum = sum_of(&t, TAIL - sizeof t.sum);
    DI_TRY(put(w, entries, (size_t)count * ENTRY, &at));
    return put(w, &t, TAIL, &at);
}

distac_status di_pack_write(const char *path, int kind, const distac_dataset *view, int64_t limit) {
    const di_samples *s = view->samples;
    packing p = {.view = view, .samples = s, .kind = kind};
    di_writer *w = NULL;
    size_t piece = kind == DI_PACK_FITTED ? PIECE * di_samples_bytes(s) : 0;
    entry *entries = di_new((size_t)(view->size > 0 ? view->size : 1) * sizeof *entries);
    p.planes = entries ? di_alloc(s->context, piece) : NULL;
    distac_status status = p.planes ? di_writer_open(path, &w) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = put_all(&p, w, (uint64_t)limit, entries);
    for (int i = 0; i < PIECE; i++) distac_image_release(p.images[i]);
    di_free(s->context, p.planes, piece);
    free(entries);
    if (status == DISTAC_OK) return di_writer_commit(w);
    di_writer_abort(w);
    return status;
}

/* ---- what the files are ---- */

distac_status di_files_hash(const distac_dataset *d, const char *text, char out[65]) {
    const di_samples *s = d->samples;
    di_sha256 hash;
    di_sha256_init(&hash);
    di_sha256_update(&hash, text, strlen(text) + 1);
    for (int64_t i = 0; i < d->size; i++) {
        const char *path = s->files[position(d, i)];
        struct stat info = {.st_size = -1};
        char numbers[96];
        if (stat(path, &info) != 0) info.st_size = -1; /* told when it is decoded */
        int n = snprintf(numbers, sizeof numbers, "%lld %lld %ld\n", (long long)info.st_size,
                         (long long)info.st_mtim.tv_sec, (long)info.st_mtim.tv_nsec);
        if (i == 0) { /* relative paths of another folder are other files */
            distac_strings *full;
            DI_TRY(distac_path_absolute(path, &full));
            di_sha256_update(&hash, distac_strings_get(full, 0), strlen(distac_strings_get(full, 0)) + 1);
            distac_strings_release(full);
        }
        di_sha256_update(&hash, path, strlen(path) + 1);
        di_sha256_update(&hash, numbers, (size_t)n);
    }
    di_sha256_hex(&hash, out);
    return DISTAC_OK;
}
