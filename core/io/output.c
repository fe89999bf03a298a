/* output.c: a model being written to one file, or to several with an index. Bytes are put in order, whatever the
 * files' boundaries; each file is written and made durable as it is filled. */
#define _GNU_SOURCE 1
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME = 40, SHARDS_MAX = 99999 };

/* A file: items[first … first+count-1] of the output's list, which a shard has sorted by name. */
typedef struct shard {
    int64_t first, count, header, bytes; /* of the length and header; of the data */
    char name[NAME];
    char *path;
} shard;

struct di_output {
    di_bundle *folder; /* NULL: one file */
    bool alone;        /* one file in a folder */
    char *path;
    int64_t count, shard_count, now; /* now: the shard that is being filled */
    di_st_item *items;               /* shard by shard */
    int64_t *at;                     /* [count] by the caller's index: offset behind the header */
    int64_t *home;                   /* [count] by the caller's index: its shard */
    int64_t *source;                 /* [count]: the caller's index of items[i] */
    shard *shards;
    di_pair *pairs; /* copied */
    int64_t pair_count;
    di_writer *writer; /* of shards[now] */
    int64_t put;       /* data bytes in it */
    int patched;       /* a file that has been written to again, -1: none */
    int64_t patched_shard;
};

/* ---- planning ---- */

static int by_place(const void *a, const void *b) {
    const di_st_item *const *x = a, *const *y = b;
    if ((*x)->place != (*y)->place) return (*x)->place < (*y)->place ? -1 : 1;
    return *x < *y ? -1 : *x > *y;
}

/* home[i]: items by place, each file filled up to the limit; what belongs together stays together. */
static distac_status assign(const di_output_desc *desc, int64_t count, const di_st_item *items, di_output *o) {
    const di_st_item **sorted = di_new((size_t)(count ? count : 1) * sizeof *sorted);
    if (!sorted) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < count; i++) sorted[i] = &items[i];
    if (count) qsort(sorted, (size_t)count, sizeof *sorted, by_place);
    int64_t held = 0, file = 0, limit = desc->folder ? desc->shard : 0;
    for (int64_t i = 0; i < count;) {
        int64_t bytes = 0, end = i;
        do bytes += sorted[end++]->bytes;
        while (end < count && limit && sorted[end]->place / DI_LAZY_PARTS == sorted[i]->place / DI_LAZY_PARTS);
        if (limit && held > 0 && held > limit - bytes) {
            file++;
            held = 0;
        }
        held += bytes;
        for (; i < end; i++) o->home[sorted[i] - items] = file;
    }
    free(sorted);
    o->shard_count = file + 1;
    if (o->shard_count <= SHARDS_MAX) return DISTAC_OK;
    return di_fail(DISTAC_EINVAL,
                   "'%s' would be %lld files, at most %d are allowed: choose a larger size for each", desc->path,
                   (long long)o->shard_count, SHARDS_MAX);
}

static distac_status take_pairs(di_output *o, int64_t count, const di_pair *pairs) {
    o->pairs = di_new((size_t)(count ? count : 1) * sizeof *o->pairs);
    if (!o->pairs) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < count; i++) {
        o->pairs[i] = (di_pair){di_strdup(pairs[i].key), di_strdup(pairs[i].value)};
        o->pair_count++;
        if (!o->pairs[i].key || !o->pairs[i].value) return DISTAC_ENOMEM;
    }
    return DISTAC_OK;
}

static void drop_pairs(di_output *o) {
    for (int64_t i = 0; i < o->pair_count; i++) {
        free(o->pairs[i].key);
        free(o->pairs[i].value);
    }
    free(o->pairs);
    o->pairs = NULL;
    o->pair_count = 0;
}

/* The shards' items, names and places; order as the caller must put the bytes. */
static distac_status lay_out(di_output *o, const di_st_item *items, int64_t *order) {
    for (int64_t i = 0; i < o->count; i++) o->shards[o->home[i]].count++;
    for (int64_t s = 1; s < o->shard_count; s++)
        o->shards[s].first = o->shards[s - 1].first + o->shards[s - 1].count;
    for (int64_t s = 0; s < o->shard_count; s++) o->shards[s].count = 0;
    for (int64_t i = 0; i < o->count; i++) {
        shard *at = &o->shards[o->home[i]];
        o->items[at->first + at->count] = items[i];
        o->source[at->first + at->count++] = i;
    }
    for (int64_t s = 0; s < o->shard_count; s++) {
        shard *at = &o->shards[s];
        di_text path = {0}, header = {0};
        if (o->alone) memcpy(at->name, "model.safetensors", sizeof "model.safetensors");
        else
            snprintf(at->name, sizeof at->name, "model-%05d-of-%05d.safetensors", (int)(s + 1) % (SHARDS_MAX + 1),
                     (int)o->shard_count % (SHARDS_MAX + 1));
        if (o->folder) di_text_add(&path, "%s/%s", di_bundle_path(o->folder), at->name);
        else di_text_add(&path, "%s", o->path);
        at->path = path.bytes;
        if (path.failed) return di_fail(DISTAC_ENOMEM, "out of memory");
        int64_t *begin = di_new((size_t)(at->count ? at->count : 1) * sizeof *begin);
        distac_status status =
            begin ? di_st_header(o->path, at->count, o->items + at->first, o->pair_count, o->pairs,
                                 order + at->first, begin, &at->bytes, &header) : DISTAC_ENOMEM;
        at->header = (int64_t)header.length;
        for (int64_t i = 0; status == DISTAC_OK && i < at->count; i++) {
            order[at->first + i] = o->source[at->first + order[at->first + i]];
            o->at[o->source[at->first + i]] = begin[i];
        }
        free(begin);
        di_text_free(&header);
        DI_TRY(status);
    }
    return DISTAC_OK;
}

/* ---- files ---- */

static distac_status begin_shard(di_output *o) {
    const shard *at = &o->shards[o->now];
    int64_t *order = di_new((size_t)(at->count ? at->count : 1) * sizeof *order);
    if (!order) return DISTAC_ENOMEM;
    distac_status status =
        di_st_begin(at->path, at->count, o->items + at->first, o->pair_count, o->pairs, order, &o->writer);
    free(order);
    o->put = 0;
    return status;
}

static distac_status end_shard(di_output *o) {
    di_writer *writer = o->writer;
    o->writer = NULL;
    DI_TRY(di_writer_commit(writer));
    return ++o->now < o->shard_count ? begin_shard(o) : DISTAC_OK;
}

distac_status di_output_open(const di_output_desc *desc, int64_t count, const di_st_item *items, int64_t *order,
                             di_output **out) {
    *out = NULL;
    size_t room = (size_t)(count ? count : 1);
    di_output *o = di_new(sizeof *o);
    if (!o) return DISTAC_ENOMEM;
    o->patched = -1;
    o->count = count;
    o->path = di_strdup(desc->path);
    o->items = di_new(room * sizeof *o->items);
    o->at = di_new(room * sizeof *o->at);
    o->home = di_new(room * sizeof *o->home);
    o->source = di_new(room * sizeof *o->source);
    distac_status status = o->path && o->items && o->at && o->home && o->source ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = assign(desc, count, items, o);
    if (status == DISTAC_OK) status = take_pairs(o, desc->pair_count, desc->pairs);
    if (status == DISTAC_OK && !(o->shards = di_new((size_t)o->shard_count * sizeof *o->shards)))
        status = DISTAC_ENOMEM;
    if (status == DISTAC_OK && desc->folder) status = di_bundle_open(desc->path, &o->folder);
    o->alone = desc->folder && desc->config && o->shard_count == 1; /* who has a configuration needs no index */
    if (status == DISTAC_OK) status = lay_out(o, items, order);
    if (status == DISTAC_OK && desc->config) {
        di_text path = {0};
        di_text_add(&path, "%s/config.json", o->folder ? di_bundle_path(o->folder) : "");
        if (!o->folder)
            status = di_fail(DISTAC_EINVAL, "config.json goes into a folder, and '%s' is a file", o->path);
        else if (path.failed) status = di_fail(DISTAC_ENOMEM, "out of memory");
        else status = distac_path_write(path.bytes, desc->config, (int64_t)strlen(desc->config));
        di_text_free(&path);
    }
    if (status == DISTAC_OK) status = begin_shard(o);
    if (status != DISTAC_OK) {
        di_output_abort(o);
        return status;
    }
    *out = o;
    return DISTAC_OK;
}

distac_status di_output_put(di_output *o, const void *bytes, size_t count) {
    const uint8_t *from = bytes;
    while (count > 0) {
        while (o->writer && o->put == o->shards[o->now].bytes && o->now + 1 < o->shard_count) DI_TRY(end_shard(o));
        if (!o->writer) return di_fail(DISTAC_ESTATE, "'%s' has failed before", o->path);
        int64_t room = o->shards[o->now].bytes - o->put;
        size_t n = (uint64_t)room < count ? (size_t)room : count;
        if (n == 0) return di_fail(DISTAC_ESTATE, "more bytes for '%s' than its tensors have", o->path);
        DI_TRY(di_writer_put(o->writer, from, n));
        o->put += (int64_t)n;
        from += n;
        count -= n;
    }
    return DISTAC_OK;
}

/* ---- afterwards ---- */

static distac_status refuse(const di_output *o, const char *what, int64_t s) {
    return di_fail_at(DISTAC_EIO, "write", "cannot %s '%s': %s", what, o->shards[s].path, strerror(errno));
}

/* A file that was closed is open for writing again; the one before is made durable. */
static distac_status reopen(di_output *o, int64_t s) {
    if (o->patched >= 0 && o->patched_shard == s) return DISTAC_OK;
    if (o->patched >= 0) {
        int before = o->patched;
        o->patched = -1;
        bool durable = fsync(before) == 0;
        if (close(before) != 0 || !durable) return refuse(o, "make durable", o->patched_shard);
    }
    if (s < 0) return DISTAC_OK;
    o->patched_shard = s;
    o->patched = open(o->shards[s].path, O_WRONLY | O_CLOEXEC);
    return o->patched < 0 ? refuse(o, "open", s) : DISTAC_OK;
}

static distac_status patch(di_output *o, int64_t s, int64_t offset, const void *bytes, size_t count) {
    if (s == o->now && o->writer) return di_writer_patch(o->writer, offset, bytes, count);
    DI_TRY(reopen(o, s));
    for (const uint8_t *from = bytes; count > 0;) {
        ssize_t done = pwrite(o->patched, from, count, offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return refuse(o, "write", s);
        from += done;
        offset += done;
        count -= (size_t)done;
    }
    return DISTAC_OK;
}

distac_status di_output_patch(di_output *o, int64_t item, int64_t offset, const void *bytes, size_t count) {
    int64_t s = o->home[item];
    return patch(o, s, o->shards[s].header + o->at[item] + offset, bytes, count);
}

distac_status di_output_metadata(di_output *o, int64_t pair_count, const di_pair *pairs) {
    drop_pairs(o);
    DI_TRY(take_pairs(o, pair_count, pairs));
    int64_t *numbers = di_new(2 * (size_t)(o->count ? o->count : 1) * sizeof *numbers), total;
    distac_status status = numbers ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t s = 0; status == DISTAC_OK && s < o->shard_count; s++) {
        const shard *at = &o->shards[s];
        di_text text = {0};
        status = di_st_header(o->path, at->count, o->items + at->first, pair_count, o->pairs, numbers,
                              numbers + o->count, &total, &text);
        if (status == DISTAC_OK && (int64_t)text.length != at->header)
            status = di_fail(DISTAC_EINVAL, "the metadata make a header of %zu bytes; %lld were written",
                             text.length, (long long)at->header);
        if (status == DISTAC_OK) status = patch(o, s, 0, text.bytes, text.length);
        di_text_free(&text);
    }
    free(numbers);
    return status;
}

static distac_status write_index(const di_output *o) {
    di_text path = {0}, text = {0};
    const char **homes = di_new((size_t)(o->count ? o->count : 1) * sizeof *homes);
    const char **names = di_new((size_t)(o->count ? o->count : 1) * sizeof *names);
    int64_t total = 0;
    for (int64_t s = 0; homes && names && s < o->shard_count; s++) {
        total += o->shards[s].bytes;
        for (int64_t i = o->shards[s].first; i < o->shards[s].first + o->shards[s].count; i++) {
            homes[o->source[i]] = o->shards[s].name;
            names[o->source[i]] = o->items[i].name;
        }
    }
    di_text_add(&text, "{\n  \"metadata\": {\n    \"total_size\": %lld\n  },\n  \"weight_map\": {",
                (long long)total);
    for (int64_t i = 0; homes && names && i < o->count; i++) {
        di_text_add(&text, i ? ",\n    " : "\n    ");
        di_json_quote(&text, names[i]);
        di_text_add(&text, ": \"%s\"", homes[i]);
    }
    di_text_add(&text, "\n  }\n}\n");
    di_text_add(&path, "%s/model.safetensors.index.json", di_bundle_path(o->folder));
    distac_status status = DISTAC_OK;
    if (!homes || !names || text.failed || path.failed) status = di_fail(DISTAC_ENOMEM, "out of memory");
    else status = distac_path_write(path.bytes, text.bytes, (int64_t)text.length);
    di_text_free(&path);
    di_text_free(&text);
    free(homes);
    free(names);
    return status;
}

static distac_status finish(di_output *o) {
    while (o->writer) {
        if (o->put != o->shards[o->now].bytes)
            return di_fail(DISTAC_ESTATE, "'%s' has %lld of %lld bytes", o->shards[o->now].path, (long long)o->put,
                           (long long)o->shards[o->now].bytes);
        DI_TRY(end_shard(o));
    }
    if (o->now < o->shard_count) return di_fail(DISTAC_ESTATE, "'%s' has failed before", o->path);
    DI_TRY(reopen(o, -1));
    if (!o->folder) return DISTAC_OK;
    if (!o->alone) DI_TRY(write_index(o));
    di_bundle *folder = o->folder;
    o->folder = NULL;
    return di_bundle_commit(folder);
}

distac_status di_output_commit(di_output *o) {
    distac_status status = finish(o);
    di_output_abort(o);
    return status;
}

void di_output_abort(di_output *o) {
    if (!o) return;
    di_writer_abort(o->writer);
    if (o->patched >= 0) close(o->patched);
    di_bundle_abort(o->folder);
    for (int64_t s = 0; o->shards && s < o->shard_count; s++) free(o->shards[s].path);
    drop_pairs(o);
    free(o->shards);
    free(o->source);
    free(o->home);
    free(o->at);
    free(o->items);
    free(o->path);
    free(o);
}
