/* index.c: *.safetensors.index.json and *.bin.index.json: which tensor lies in which file. An index is taken at
 * its word only where the files agree with it. */
#include "index.h"
#include <stdlib.h>
#include <string.h>

enum { LISTED = 12 };

/* ---- JSON ---- */

distac_status di_json_parse(const char *path, const uint8_t *data, size_t bytes, di_json_document *out) {
    size_t at;
    const char *rule;
    if (bytes > DI_ST_MAX_HEADER)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: %zu bytes, at most %u are allowed", path, bytes,
                          DI_ST_MAX_HEADER);
    distac_status status = di_json_read((const char *)data, bytes, out, &at, &rule);
    if (status == DISTAC_EFORMAT) return di_fail_at(status, "open", "%s: byte %zu: %s", path, at, rule);
    if (status != DISTAC_OK || di_json_is(out->root, DI_JSON_OBJECT)) return status;
    di_json_free(out);
    return di_fail_at(DISTAC_EFORMAT, "open", "%s: not a JSON object", path);
}

/* A text from the file for a message: short, without control bytes. */
static const char *shown(const char *text, char buffer[80]) {
    size_t length = strlen(text), cut = length <= 72 ? length : 72;
    while (cut < length && cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80) cut--;
    for (size_t i = 0; i < cut; i++) buffer[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    memcpy(buffer + cut, cut < length ? "..." : "", cut < length ? 4 : 1);
    return buffer;
}

/* ---- parsing ---- */

/* Why a text is no file name beside the index; NULL if it is one. */
static const char *wrong_shard(const char *name, const char *ending) {
    size_t length = strlen(name), n = strlen(ending);
    if (length == 0) return "is empty";
    if (length > DI_SHARD_NAME) return "is longer than a file's name can be";
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '/' || name[i] == '\\') return "is a path; shards lie beside the index";
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return "has control bytes";
    }
    if (name[0] == '.') return "begins with a dot";
    if (length <= n || strcmp(name + length - n, ending) != 0) return "has another ending than the index's files";
    return NULL;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const di_index_item *)a)->name, ((const di_index_item *)b)->name);
}

/* The shards' names, each once. */
static distac_status take_shards(const char *path, const di_json *map, const char *ending, di_index *out) {
    char buffer[80], name[80];
    size_t count = map->count, n = 0;
    out->shards = di_new((count ? count : 1) * sizeof *out->shards);
    if (!out->shards) return DISTAC_ENOMEM;
    for (const di_json *value = map->first; value; value = value->next) {
        if (value->kind != DI_JSON_TEXT)
            return di_fail_at(DISTAC_EFORMAT, "open", "%s: weight_map: the file of \"%s\" must be a text", path,
                              shown(value->key, buffer));
        const char *why = wrong_shard(value->text, ending);
        if (why)
            return di_fail_at(DISTAC_EFORMAT, "open", "%s: weight_map: the file \"%s\" of \"%s\" %s", path,
                              shown(value->text, name), shown(value->key, buffer), why);
        out->shards[n++] = (char *)(uintptr_t)value->text;
    }
    /* Sorted and made unique while they are still the JSON's; then copied. */
    if (n) qsort(out->shards, n, sizeof *out->shards, by_text);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(out->shards[i], out->shards[kept - 1]) != 0) out->shards[kept++] = out->shards[i];
    if (kept > DI_INDEX_MAX_SHARDS)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: %zu files, at most %d are allowed", path, kept,
                          DI_INDEX_MAX_SHARDS);
    for (size_t i = 0; i < kept; i++) {
        out->shards[i] = di_strdup(out->shards[i]);
        if (!out->shards[i]) return DISTAC_ENOMEM;
        out->shard_count++;
    }
    return DISTAC_OK;
}

static distac_status take_items(const char *path, const di_json *map, di_index *out) {
    char buffer[80];
    size_t count = map->count;
    if (count == 0) return di_fail_at(DISTAC_EFORMAT, "open", "%s: weight_map is empty", path);
    if (count > DI_ST_MAX_TENSORS)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: more than %d tensors", path, DI_ST_MAX_TENSORS);
    out->items = di_new(count * sizeof *out->items);
    if (!out->items) return DISTAC_ENOMEM;
    for (const di_json *value = map->first; value; value = value->next) {
        const char *key = value->key;
        if (strlen(key) > DI_ST_MAX_NAME)
            return di_fail_at(DISTAC_EFORMAT, "open",
                              "%s: the tensor name \"%s\" has %zu bytes, at most %u are allowed", path,
                              shown(key, buffer), strlen(key), DI_ST_MAX_NAME);
        const char *shard = value->text;
        char **at = bsearch(&shard, out->shards, (size_t)out->shard_count, sizeof *out->shards, by_text);
        di_index_item *item = &out->items[out->count];
        item->name = di_strdup(key);
        if (!item->name || !at) return DISTAC_ENOMEM;
        item->shard = (int32_t)(at - out->shards);
        out->count++;
    }
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
    return DISTAC_OK;
}

/* Some writers put a float there. */
static distac_status take_total(const char *path, const di_json *metadata, di_index *out) {
    out->total = -1;
    if (!metadata) return DISTAC_OK;
    if (metadata->kind != DI_JSON_OBJECT)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: metadata must be an object", path);
    const di_json *total = di_json_get(metadata, "total_size");
    if (!total) return DISTAC_OK;
    double value = total->real;
    if (!di_json_is_number(total) || !(value >= 0 && value < 0x1p62) || value != (double)(int64_t)value)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: metadata: total_size must be a number of bytes", path);
    out->total = total->kind == DI_JSON_INTEGER ? total->integer : (int64_t)value;
    return DISTAC_OK;
}

static distac_status take(const char *path, const di_json *root, const char *ending, di_index *out) {
    char buffer[80];
    for (const di_json *field = root->first; field; field = field->next) {
        if (strcmp(field->key, "metadata") != 0 && strcmp(field->key, "weight_map") != 0)
            return di_fail_at(DISTAC_EFORMAT, "open",
                              "%s: unknown field \"%s\"; an index has metadata and weight_map", path,
                              shown(field->key, buffer));
    }
    const di_json *map = di_json_get(root, "weight_map");
    if (!di_json_is(map, DI_JSON_OBJECT))
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: weight_map must be an object of texts", path);
    DI_TRY(take_total(path, di_json_get(root, "metadata"), out));
    DI_TRY(take_shards(path, map, ending, out));
    return take_items(path, map, out);
}

void di_index_close(di_index *index) {
    for (int64_t i = 0; index->items && i < index->count; i++) free(index->items[i].name);
    for (int32_t i = 0; index->shards && i < index->shard_count; i++) free(index->shards[i]);
    free(index->items);
    free(index->shards);
    *index = (di_index){0};
}

distac_status di_index_parse(const char *path, const uint8_t *data, size_t bytes, const char *ending,
                             di_index *out) {
    di_json_document document;
    *out = (di_index){0};
    DI_TRY(di_json_parse(path, data, bytes, &document));
    distac_status status = take(path, document.root, ending, out);
    di_json_free(&document);
    if (status != DISTAC_OK) di_index_close(out);
    return status;
}

/* ---- opening ---- */

typedef struct opening {
    distac_checkpoint *checkpoint;
    const char *path;
    di_index index;
    int64_t bytes, misfits;
    di_text text;
} opening;

static bool misfit(opening *o) {
    return o->misfits++ < LISTED;
}

/* Moves a shard's tensors over; those that the index does not expect there are told. */
static distac_status take_shard(opening *o, int32_t shard, distac_checkpoint *from) {
    char buffer[80];
    for (int64_t i = 0; i < from->count; i++) {
        di_entry *entry = from->entries[i];
        di_index_item key = {.name = entry->name};
        di_index_item *item = bsearch(&key, o->index.items, (size_t)o->index.count, sizeof key, by_name);
        if (item && item->shard == shard) {
            item->seen = true;
            if (__builtin_add_overflow(o->bytes, entry->bytes, &o->bytes)) o->bytes = INT64_MAX;
            DI_TRY(di_checkpoint_append(o->checkpoint, entry));
            from->entries[i] = NULL;
        } else if (misfit(o)) {
            di_text_add(&o->text, "\n  \"%s\" is in %s, but the index %s%s", shown(entry->name, buffer),
                        o->index.shards[shard], item ? "has it in " : "does not list it",
                        item ? o->index.shards[item->shard] : "");
        }
    }
    for (int64_t i = 0; i < from->pair_count; i++) {
        const di_pair *pair = &from->pairs[i];
        const char *before = distac_checkpoint_metadata(o->checkpoint, pair->key);
        if (before && strcmp(before, pair->value) != 0) {
            if (misfit(o))
                di_text_add(&o->text, "\n  the metadata \"%s\" of %s differs from another file's",
                            shown(pair->key, buffer), o->index.shards[shard]);
        } else if (!before) {
            DI_TRY(di_checkpoint_pair(o->checkpoint, pair->key, pair->value));
        }
    }
    return DISTAC_OK;
}

static distac_status open_shard(opening *o, const char *folder, int32_t shard, di_file_reader read) {
    distac_checkpoint *part = NULL;
    char *path = di_path_join(folder, o->index.shards[shard]);
    distac_status status = path ? di_checkpoint_new(o->checkpoint->context, path, &part) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = read(part, path);
    if (status == DISTAC_OK) status = take_shard(o, shard, part);
    distac_checkpoint_release(part);
    free(path);
    return status;
}

static distac_status check_whole(opening *o) {
    char buffer[80];
    for (int64_t i = 0; i < o->index.count; i++)
        if (!o->index.items[i].seen && misfit(o))
            di_text_add(&o->text, "\n  \"%s\" is not in %s", shown(o->index.items[i].name, buffer),
                        o->index.shards[o->index.items[i].shard]);
    if (!o->misfits && o->index.total >= 0 && o->index.total != o->bytes && misfit(o))
        di_text_add(&o->text, "\n  total_size says %lld bytes, the tensors have %lld", (long long)o->index.total,
                    (long long)o->bytes);
    if (!o->misfits) return di_checkpoint_sort(o->checkpoint);
    if (o->misfits > LISTED) di_text_add(&o->text, "\n  and %lld more", (long long)(o->misfits - LISTED));
    return di_fail_at(DISTAC_EFORMAT, "open", "%s: the index and its files do not agree:%s", o->path,
                      o->text.bytes ? o->text.bytes : "");
}

distac_status di_index_open(distac_checkpoint *checkpoint, const char *path, const char *ending,
                            di_file_reader read) {
    opening o = {.checkpoint = checkpoint, .path = path};
    di_map map;
    DI_TRY(di_map_open(path, &map));
    distac_status status = di_index_parse(path, map.data, map.bytes, ending, &o.index);
    di_map_close(&map);
    DI_TRY(status);
    char *folder = di_path_folder(path);
    if (!folder) status = DISTAC_ENOMEM;
    for (int32_t i = 0; status == DISTAC_OK && i < o.index.shard_count; i++)
        status = open_shard(&o, folder, i, read);
    if (status == DISTAC_OK) status = check_whole(&o);
    free(folder);
    di_text_free(&o.text);
    di_index_close(&o.index);
    return status;
}
