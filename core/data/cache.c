/* cache.c: data sets that use a pack of decoded images, and what can be asked about the files of a data set. */
#include "pack.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The same samples, to which a pack can be given: others may use the ones that are there. */
static distac_status copy_samples(const di_samples *s, di_samples **out) {
    di_samples *own;
    DI_TRY(di_samples_new(s->context, s->count, s->classes, s->channels, s->height, s->width, &own));
    size_t n = (size_t)(s->count > 0 ? s->count : 1);
    distac_status status = DISTAC_OK;
    own->files = di_new(n * sizeof *own->files);
    if (s->labels) own->labels = di_new(n * sizeof *own->labels);
    if (!own->files || (s->labels && !own->labels)) status = DISTAC_ENOMEM;
    for (int64_t i = 0; i < s->count && status == DISTAC_OK; i++) {
        own->files[i] = di_strdup(s->files[i]);
        if (!own->files[i]) status = DISTAC_ENOMEM;
        if (s->labels) own->labels[i] = s->labels[i];
    }
    for (int64_t i = 0; i < s->classes && status == DISTAC_OK; i++) status = di_samples_name(own, i, s->names[i]);
    if (status != DISTAC_OK) {
        di_samples_release(own);
        return status;
    }
    *out = own;
    return DISTAC_OK;
}

/* Opens the pack, or makes it if it is not there or not whole. */
static distac_status open_or_make(const char *path, int kind, const distac_dataset *d, int64_t limit,
                                  di_pack **out, distac_cache_info *info) {
    if (distac_path_kind(path) != 0) {
        distac_status status = di_pack_open(path, kind, d, out);
        info->reused = status == DISTAC_OK;
        if (status == DISTAC_OK) return DISTAC_OK;
        if (status != DISTAC_EFORMAT) return status;
        di_warn(d->samples->context, "%s; it is made again", distac_last_error());
    }
    DI_TRY(di_pack_write(path, kind, d, limit));
    return di_pack_open(path, kind, d, out);
}

static distac_status use_pack(distac_dataset *d, const char *path, int kind, int64_t limit,
                              distac_cache_info *info) {
    di_samples *own;
    di_pack *pack = NULL;
    DI_TRY(copy_samples(d->samples, &own));
    distac_status status = open_or_make(path, kind, d, limit, &pack, info);
    if (status != DISTAC_OK) {
        di_samples_release(own);
        return status;
    }
    info->bytes = (int64_t)pack->map.bytes;
    info->samples = pack->count;
    own->packs[kind] = pack;
    di_samples_release(d->samples);
    d->samples = own;
    return DISTAC_OK;
}

distac_status distac_dataset_cache(distac_dataset *dataset, const char *folder, const distac_cache_desc *desc,
                                   distac_cache_info *out) {
    DI_REQUIRE(dataset && folder && out, "dataset, folder and out are needed");
    const di_samples *s = dataset->samples; /* until use_pack */
    int kind = desc && desc->originals ? DI_PACK_ORIGINALS : DI_PACK_FITTED;
    int64_t limit = desc ? desc->limit : 0;
    if (limit < 0) return di_fail(DISTAC_EINVAL, "limit %lld, wanted bytes or 0", (long long)limit);
    *out = (distac_cache_info){0};
    if (!s->files || dataset->size == 0) return DISTAC_OK; /* in memory already */
    char text[160], key[65];
    snprintf(text, sizeof text, "distac pack 1 %s %d %d %lld\n", kind == DI_PACK_FITTED ? "fitted" : "originals",
             s->channels, kind == DI_PACK_FITTED ? s->height : 0, (long long)limit);
    DI_TRY(di_files_hash(dataset, text, key));
    DI_TRY(distac_path_make(folder));
    char name[80];
    snprintf(name, sizeof name, "%.32s.pack", key);
    di_text path = {0};
    di_text_add(&path, "%s/%s", folder, name);
    distac_status status = path.failed ? DISTAC_ENOMEM : use_pack(dataset, path.bytes, kind, limit, out);
    di_text_free(&path);
    return status;
}

/* ---- files ---- */

const char *distac_dataset_file(const distac_dataset *dataset, int64_t index) {
    if (!dataset || !dataset->samples->files || index < 0 || index >= dataset->size) return NULL;
    return dataset->samples->files[dataset->order ? dataset->order[index] : index];
}

/* ---- unreadable files ---- */

/* Head and end of an image file: what a cut download or a foreign file breaks. */
static distac_status check_file(distac_context *context, const char *path, const uint8_t *b, size_t n) {
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (n == 0) return di_fail_at(DISTAC_EFORMAT, "verify", "%s: an empty file", path);
    if (n >= 3 && b[0] == 0xff && b[1] == 0xd8) {
        di_jpeg *jpeg;
        DI_TRY(di_jpeg_open(context, path, b, n, &jpeg));
        di_jpeg_close(jpeg);
        for (size_t i = n >= 1024 ? n - 1024 : 0; i + 1 < n; i++)
            if (b[i] == 0xff && b[i + 1] == 0xd9) return DISTAC_OK;
        return di_fail_at(DISTAC_EFORMAT, "verify", "%s: a JPEG file that is cut: it has no end", path);
    }
    if (n >= 8 && memcmp(b, png, 8) == 0) {
        if (n >= 45 && memcmp(b + 12, "IHDR", 4) == 0 && memcmp(b + n - 8, "IEND", 4) == 0) return DISTAC_OK;
        return di_fail_at(DISTAC_EFORMAT, "verify", "%s: a PNG file that is cut: it has no end", path);
    }
    if (n >= 8 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6') return DISTAC_OK;
    return di_fail_at(DISTAC_EFORMAT, "verify", "%s: neither PNG nor JPEG nor PNM", path);
}

typedef struct checking {
    const distac_dataset *dataset;
    bool decode;
    uint8_t *bad; /* [size] */
} checking;

static distac_status check_one(const checking *c, int64_t i) {
    const di_samples *s = c->dataset->samples;
    int64_t at = c->dataset->order ? c->dataset->order[i] : i;
    uint8_t *bytes;
    size_t count;
    DI_TRY(di_read_file(s->context, s->files[at], DI_IMAGE_FILE, &bytes, &count));
    distac_status status;
    if (c->decode) {
        distac_image *image = NULL;
        status = di_image_decode(s->context, s->files[at], bytes, count, s->channels, &image);
        distac_image_release(image);
    } else {
        status = check_file(s->context, s->files[at], bytes, count);
    }
    di_free(s->context, bytes, count);
    return status;
}

static distac_status mark_one(void *arg, int64_t i) {
    const checking *c = arg;
    c->bad[i] = check_one(c, i) != DISTAC_OK;
    return DISTAC_OK;
}

distac_status distac_dataset_verify(const distac_dataset *dataset, int32_t decode, int64_t most,
                                    distac_strings **out, int64_t *unreadable) {
    DI_REQUIRE(dataset && out && unreadable, "dataset, out and unreadable are needed");
    distac_strings *list = di_strings_new();
    checking c = {.dataset = dataset, .decode = decode != 0};
    c.bad = list ? di_new((size_t)dataset->size + 1) : NULL;
    distac_status status = c.bad ? DISTAC_OK : DISTAC_ENOMEM;
    *unreadable = 0;
    if (status == DISTAC_OK && dataset->samples->files)
        status = di_parallel_try(dataset->samples->context, "reading images", dataset->size, mark_one, &c);
    for (int64_t i = 0; i < dataset->size && status == DISTAC_OK; i++) {
        if (!c.bad[i]) continue;
        ++*unreadable;
        if (distac_strings_count(list) >= most) continue;
        check_one(&c, i); /* again, for its text in this thread */
        status = di_strings_add(list, distac_last_error());
    }
    free(c.bad);
    if (status != DISTAC_OK) {
        distac_strings_release(list);
        return status;
    }
    *out = list;
    return DISTAC_OK;
}
