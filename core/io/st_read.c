/* st_read.c: the strict safetensors reader. A file is 8 bytes of header length (little-endian), a JSON header,
 * and the data; every rule is checked before a tensor exists, and nothing is allocated for what a header
 * merely claims. */
#include "../base/json.h"
#include "st_scan.h"
#include <stdlib.h>
#include <string.h>

typedef struct span {
    int64_t begin, end;
    size_t at; /* of its entry in the header */
    const char *name;
} span;

typedef struct reader {
    di_scan scan;
    distac_checkpoint *checkpoint;
    span *spans;
    int64_t count, capacity;
    bool has_metadata;
} reader;

/* Decodes one span of the header. */
static distac_status decode(const di_scan *scan, size_t from, size_t to, di_json_document *out) {
    size_t at;
    const char *rule;
    distac_status status = di_json_read(scan->text + from, to - from, out, &at, &rule);
    return status == DISTAC_EFORMAT ? di_scan_fail(scan, from + at, "%s", rule) : status;
}

/* A decoded name, shortened and without control bytes, for a message. */
static const char *shown(const char *name, char buffer[80]) {
    size_t length = strlen(name), cut = length <= 72 ? length : 72;
    while (cut < length && cut > 0 && ((unsigned char)name[cut] & 0xC0) == 0x80) cut--;
    for (size_t i = 0; i < cut; i++) buffer[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    memcpy(buffer + cut, cut < length ? "..." : "", cut < length ? 4 : 1);
    return buffer;
}

static int compare_pairs(const void *a, const void *b) {
    return strcmp(((const di_pair *)a)->key, ((const di_pair *)b)->key);
}

/* Fills the checkpoint's list of pairs in one go: a million keys must not cost a million insertions. */
static distac_status take_pairs(reader *r, const di_member *member, const di_json *object) {
    distac_checkpoint *c = r->checkpoint;
    char buffer[80];
    size_t count = object->count;
    c->pairs = di_new((count ? count : 1) * sizeof *c->pairs);
    if (!c->pairs) return DISTAC_ENOMEM;
    c->pair_capacity = (int64_t)(count ? count : 1);
    for (const di_json *value = object->first; value; value = value->next) {
        if (value->kind != DI_JSON_TEXT)
            return di_scan_fail(&r->scan, member->value, "__metadata__ must map texts to texts; \"%s\" does not",
                                shown(value->key, buffer));
        di_pair *pair = &c->pairs[c->pair_count++];
        pair->key = di_strdup(value->key);
        pair->value = di_strdup(value->text);
        if (!pair->key || !pair->value) return DISTAC_ENOMEM;
    }
    if (count) qsort(c->pairs, count, sizeof *c->pairs, compare_pairs);
    return DISTAC_OK;
}

static distac_status read_metadata(reader *r, const di_member *member) {
    di_json_document object;
    if (r->has_metadata) return di_scan_fail(&r->scan, member->key, "__metadata__ appears twice");
    r->has_metadata = true;
    DI_TRY(decode(&r->scan, member->value, member->value_end, &object));
    distac_status status = di_json_is(object.root, DI_JSON_OBJECT)
                               ? take_pairs(r, member, object.root)
                               : di_scan_fail(&r->scan, member->value, "__metadata__ must be an object of texts");
    di_json_free(&object);
    return status;
}

static distac_status read_shape(const reader *r, size_t at, const char *name, const di_json *shape,
                                di_entry *entry) {
    if (!di_json_is(shape, DI_JSON_LIST))
        return di_scan_fail(&r->scan, at, "tensor \"%s\": shape must be a list of integers", name);
    size_t rank = shape->count;
    if (rank > DI_MAX_RANK)
        return di_scan_fail(&r->scan, at, "tensor \"%s\": %zu dimensions, at most %d are allowed", name, rank,
                            DI_MAX_RANK);
    int64_t numel = 1, product = 1;
    entry->rank = (int32_t)rank;
    const di_json *item = shape->first;
    for (size_t i = 0; i < rank; i++, item = item->next) {
        if (item->kind != DI_JSON_INTEGER)
            return di_scan_fail(&r->scan, at, "tensor \"%s\": shape must be a list of integers", name);
        int64_t size = item->integer;
        if (size > DI_ST_MAX_SIZE)
            return di_scan_fail(&r->scan, at, "tensor \"%s\": dimension %lld is over 2^48-1", name,
                                (long long)size);
        entry->shape[i] = size;
        numel = size == 0 ? 0 : numel;
        /* Zeros are left out, so the answer does not depend on the order of the dimensions. */
        if (size > 0 && __builtin_mul_overflow(product, size, &product))
            return di_scan_fail(&r->scan, at, "tensor \"%s\": the product of its dimensions overflows", name);
    }
    entry->numel = numel ? product : 0;
    return DISTAC_OK;
}

static distac_status read_offsets(const reader *r, size_t at, const char *name, const di_json *offsets,
                                  span *out) {
    const di_json *begin = di_json_is(offsets, DI_JSON_LIST) && offsets->count == 2 ? offsets->first : NULL;
    if (!di_json_is(begin, DI_JSON_INTEGER) || !di_json_is(begin->next, DI_JSON_INTEGER))
        return di_scan_fail(&r->scan, at, "tensor \"%s\": data_offsets must be two integers", name);
    out->begin = begin->integer;
    out->end = begin->next->integer;
    if (out->begin > out->end)
        return di_scan_fail(&r->scan, at, "tensor \"%s\": data_offsets [%lld,%lld] run backwards", name,
                            (long long)out->begin, (long long)out->end);
    return DISTAC_OK;
}

/* The fields of one tensor. */
static distac_status read_fields(const reader *r, const di_member *member, const char *name, const di_json *object,
                                 di_entry *entry, span *out) {
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    char buffer[80];
    size_t at = member->value;
    if (!di_json_is(object, DI_JSON_OBJECT))
        return di_scan_fail(&r->scan, at, "tensor \"%s\" must be an object with dtype, shape and data_offsets",
                            name);
    for (const di_json *field = object->first; field; field = field->next) {
        bool known = false;
        for (int i = 0; i < 3; i++) known = known || strcmp(field->key, fields[i]) == 0;
        if (!known)
            return di_scan_fail(&r->scan, at, "tensor \"%s\": unknown field \"%s\"", name,
                                shown(field->key, buffer));
    }
    for (int i = 0; i < 3; i++)
        if (!di_json_get(object, fields[i]))
            return di_scan_fail(&r->scan, at, "tensor \"%s\": the field \"%s\" is missing", name, fields[i]);
    const char *dtype = di_json_text(di_json_get(object, "dtype"));
    if (!dtype) return di_scan_fail(&r->scan, at, "tensor \"%s\": dtype must be a text", name);
    entry->type = di_file_type_named(dtype);
    if (!entry->type)
        return di_scan_fail(&r->scan, at, "tensor \"%s\": unknown dtype \"%s\"", name, shown(dtype, buffer));
    DI_TRY(read_shape(r, at, name, di_json_get(object, "shape"), entry));
    DI_TRY(read_offsets(r, at, name, di_json_get(object, "data_offsets"), out));
    int64_t bits;
    if (__builtin_mul_overflow(entry->numel, (int64_t)entry->type->bits, &bits))
        return di_scan_fail(&r->scan, at, "tensor \"%s\": its size in bits overflows", name);
    if (bits % 8)
        return di_scan_fail(&r->scan, at, "tensor \"%s\": %lld elements of %s do not end on a whole byte", name,
                            (long long)entry->numel, entry->type->name);
    entry->bytes = bits / 8;
    if (out->end - out->begin != entry->bytes)
        return di_scan_fail(&r->scan, at, "tensor \"%s\": dtype and shape need %lld bytes, data_offsets give %lld",
                            name, (long long)entry->bytes, (long long)(out->end - out->begin));
    return DISTAC_OK;
}

static distac_status grow_spans(reader *r) {
    if (r->count < r->capacity) return DISTAC_OK;
    int64_t capacity = r->capacity ? 2 * r->capacity : 64;
    span *spans = di_grow(r->spans, (size_t)capacity * sizeof *spans);
    if (!spans) return DISTAC_ENOMEM;
    r->spans = spans;
    r->capacity = capacity;
    return DISTAC_OK;
}

static distac_status read_tensor(reader *r, const di_member *member, const char *name, size_t name_bytes) {
    char buffer[80];
    if (name_bytes > DI_ST_MAX_NAME)
        return di_scan_fail(&r->scan, member->key, "a tensor's name has %zu bytes, at most %u are allowed",
                            name_bytes, DI_ST_MAX_NAME);
    if (r->count == DI_ST_MAX_TENSORS)
        return di_scan_fail(&r->scan, member->key, "more than %d tensors", DI_ST_MAX_TENSORS);
    DI_TRY(grow_spans(r));
    di_entry *entry = di_new(sizeof *entry);
    if (!entry) return DISTAC_ENOMEM;
    di_json_document object = {0};
    span *out = &r->spans[r->count];
    distac_status status = DISTAC_ENOMEM;
    entry->name = di_strdup(name);
    if (entry->name) status = decode(&r->scan, member->value, member->value_end, &object);
    if (status == DISTAC_OK) status = read_fields(r, member, shown(name, buffer), object.root, entry, out);
    if (status == DISTAC_OK) status = di_checkpoint_append(r->checkpoint, entry);
    di_json_free(&object);
    if (status != DISTAC_OK) {
        di_entry_free(entry);
        return status;
    }
    out->name = entry->name;
    out->at = member->value;
    r->count++;
    return DISTAC_OK;
}

static distac_status read_member(reader *r, const di_member *member) {
    di_json_document key;
    DI_TRY(decode(&r->scan, member->key, member->key_end, &key));
    const char *name = key.root->text;
    distac_status status = strcmp(name, "__metadata__") == 0 ? read_metadata(r, member)
                                                             : read_tensor(r, member, name, key.root->count);
    di_json_free(&key);
    return status;
}

static int compare_spans(const void *a, const void *b) {
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Tensors must cover the data exactly: no hole, no overlap, nothing behind the last. */
static distac_status check_cover(reader *r, int64_t data_bytes) {
    char buffer[80];
    int64_t at = 0;
    if (r->count) qsort(r->spans, (size_t)r->count, sizeof *r->spans, compare_spans);
    for (int64_t i = 0; i < r->count; i++) {
        const span *s = &r->spans[i];
        const char *name = shown(s->name, buffer);
        if (s->begin > at)
            return di_scan_fail(&r->scan, s->at,
                                "tensor \"%s\" starts at data byte %lld, but the one before ends at "
                                "%lld: holes are not allowed",
                                name, (long long)s->begin, (long long)at);
        if (s->begin < at)
            return di_scan_fail(&r->scan, s->at,
                                "tensor \"%s\" starts at data byte %lld, inside another that ends at "
                                "%lld: tensors must not overlap",
                                name, (long long)s->begin, (long long)at);
        if (s->end > data_bytes)
            return di_scan_fail(&r->scan, s->at, "tensor \"%s\" ends at data byte %lld, but the file holds %lld",
                                name, (long long)s->end, (long long)data_bytes);
        at = s->end;
    }
    if (at != data_bytes)
        return di_scan_fail(&r->scan, r->scan.length + (size_t)at,
                            "%lld bytes after the last tensor belong to none", (long long)(data_bytes - at));
    return DISTAC_OK;
}

static int compare_names(const void *a, const void *b) {
    const span *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->at < y->at ? -1 : x->at > y->at;
}

/* Names are compared after decoding, by sorting: no choice of names can make this slow. */
static distac_status check_names(reader *r) {
    char buffer[80];
    if (r->count) qsort(r->spans, (size_t)r->count, sizeof *r->spans, compare_names);
    for (int64_t i = 1; i < r->count; i++)
        if (strcmp(r->spans[i - 1].name, r->spans[i].name) == 0)
            return di_scan_fail(&r->scan, r->spans[i].at, "two tensors are named \"%s\"",
                                shown(r->spans[i].name, buffer));
    return DISTAC_OK;
}

static distac_status read_header(reader *r, const uint8_t *data, size_t bytes) {
    const size_t header = r->scan.length;
    bool more = true;
    DI_TRY(di_scan_open(&r->scan));
    for (bool first = true; more; first = false) {
        di_member member;
        DI_TRY(di_scan_member(&r->scan, first, &more, &member));
        if (more) DI_TRY(read_member(r, &member));
    }
    /* Entries still stand in the order of their spans here. */
    for (int64_t i = 0; i < r->count; i++) {
        if ((uint64_t)r->spans[i].begin <= bytes - 8 - header)
            r->checkpoint->entries[i]->data = data + 8 + header + r->spans[i].begin;
    }
    DI_TRY(check_names(r));
    DI_TRY(check_cover(r, (int64_t)(bytes - 8 - header)));
    return di_checkpoint_sort(r->checkpoint);
}

distac_status di_st_parse(distac_checkpoint *checkpoint, const uint8_t *data, size_t bytes) {
    reader r = {.scan = {.path = checkpoint->path}, .checkpoint = checkpoint};
    if (bytes < 8)
        return di_scan_fail(&r.scan, 0, "the file has %zu bytes; a safetensors file has at least 8", bytes);
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
    if (header == 0) return di_scan_fail(&r.scan, 0, "the header is empty: its length is 0");
    if (header > DI_ST_MAX_HEADER)
        return di_scan_fail(&r.scan, 0, "the header claims %llu bytes, at most %u are allowed",
                            (unsigned long long)header, DI_ST_MAX_HEADER);
    if (header > bytes - 8)
        return di_scan_fail(&r.scan, 0, "the header claims %llu bytes, but only %zu follow its length",
                            (unsigned long long)header, bytes - 8);
    r.scan.text = (const char *)data + 8;
    r.scan.length = (size_t)header;
    r.scan.base = 8;
    distac_status status = read_header(&r, data, bytes);
    free(r.spans);
    return status;
}
