/* st_write.c: the safetensors writer: header entries sorted by name, data of wide elements first (so that every
 * tensor is aligned), header padded to 8 bytes. The same content gives the same bytes. */
#include "io.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CONVERT = 16384 };
static const int64_t raw_piece = INT64_C(1) << 24; /* bytes between two looks at the cancel flag */

/* A JSON text. Bytes from 0x20 on stand for themselves: names are checked to be UTF-8 when they come in. */
void di_json_quote(di_text *text, const char *value) {
    di_text_add(text, "\"");
    size_t start = 0, i = 0;
    for (; value[i]; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        if (i > start) di_text_add(text, "%.*s", (int)(i - start), value + start);
        if (c == '"' || c == '\\')
            di_text_add(text, "\\%c", c);
        else
            di_text_add(text, "\\u%04x", c);
        start = i + 1;
    }
    if (i > start) di_text_add(text, "%s", value + start);
    di_text_add(text, "\"");
}

typedef struct slot {
    int32_t bits;
    int64_t place, index;
} slot;

static int compare_slots(const void *a, const void *b) {
    const slot *x = a, *y = b;
    if (x->bits != y->bits) return x->bits > y->bits ? -1 : 1;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void add_header(di_text *text, int64_t count, const di_st_item *items, const int64_t *begin,
                       int64_t pair_count, const di_pair *pairs) {
    const char *comma = "";
    di_text_add(text, "{");
    if (pair_count) {
        di_text_add(text, "\"__metadata__\":{");
        for (int64_t i = 0; i < pair_count; i++) {
            if (i) di_text_add(text, ",");
            di_json_quote(text, pairs[i].key);
            di_text_add(text, ":");
            di_json_quote(text, pairs[i].value);
        }
        di_text_add(text, "}");
        comma = ",";
    }
    for (int64_t i = 0; i < count; i++) {
        di_text_add(text, "%s", comma);
        di_json_quote(text, items[i].name);
        di_text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", items[i].type->name);
        for (int32_t k = 0; k < items[i].rank; k++)
            di_text_add(text, k ? ",%lld" : "%lld", (long long)items[i].shape[k]);
        di_text_add(text, "],\"data_offsets\":[%lld,%lld]}", (long long)begin[i],
                    (long long)(begin[i] + items[i].bytes));
        comma = ",";
    }
    di_text_add(text, "}");
    while (!text->failed && text->length % 8) di_text_add(text, " ");
}

/* *total: bytes of all items. */
static distac_status layout(int64_t count, const di_st_item *items, int64_t *order, int64_t *begin,
                            int64_t *total) {
    slot *slots = di_new((size_t)(count ? count : 1) * sizeof *slots);
    if (!slots) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < count; i++) slots[i] = (slot){items[i].type->bits, items[i].place, i};
    if (count) qsort(slots, (size_t)count, sizeof *slots, compare_slots);
    int64_t at = 0;
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < count; i++) {
        order[i] = slots[i].index;
        begin[order[i]] = at;
        if (__builtin_add_overflow(at, items[order[i]].bytes, &at)) {
            status = di_fail(DISTAC_EINVAL, "the tensors together are larger than a file can be");
            break;
        }
    }
    *total = at;
    free(slots);
    return status;
}

distac_status di_st_header(const char *path, int64_t count, const di_st_item *items, int64_t pair_count,
                           const di_pair *pairs, int64_t *order, int64_t *begin, int64_t *total, di_text *text) {
    DI_TRY(layout(count, items, order, begin, total));
    di_text_add(text, "12345678"); /* the length's place */
    add_header(text, count, items, begin, pair_count, pairs);
    if (text->failed) return di_fail(DISTAC_ENOMEM, "out of memory for the header of %s", path);
    size_t length = text->length - 8;
    if (length > DI_ST_MAX_HEADER)
        return di_fail(DISTAC_EINVAL, "the header of %s would have %zu bytes, at most %u are allowed", path,
                       length, DI_ST_MAX_HEADER);
    for (int i = 0; i < 8; i++) text->bytes[i] = (char)(uint8_t)((uint64_t)length >> (8 * i));
    return DISTAC_OK;
}

distac_status di_st_begin(const char *path, int64_t count, const di_st_item *items, int64_t pair_count,
                          const di_pair *pairs, int64_t *order, di_writer **out) {
    di_text text = {0};
    di_writer *writer = NULL;
    int64_t *begin = di_new((size_t)(count ? count : 1) * sizeof *begin);
    if (!begin) return DISTAC_ENOMEM;
    int64_t total = 0;
    distac_status status = di_st_header(path, count, items, pair_count, pairs, order, begin, &total, &text);
    if (status == DISTAC_OK) status = di_writer_open(path, &writer);
    if (status == DISTAC_OK) status = di_writer_reserve(writer, total + (int64_t)text.length);
    if (status == DISTAC_OK) status = di_writer_put(writer, text.bytes, text.length);
    di_text_free(&text);
    free(begin);
    if (status != DISTAC_OK) {
        di_writer_abort(writer);
        return status;
    }
    *out = writer;
    return DISTAC_OK;
}

/* The smallest magnitude that rounds to infinity. */
static double overflow_limit(int32_t dtype) {
    switch (dtype) {
    case DISTAC_F32:
        return 0x1.ffffffp127;
    case DISTAC_F16:
        return 65520.0;
    case DISTAC_BF16:
        return 0x1.ffp127;
    default:
        return INFINITY;
    }
}

distac_status di_narrow(const char *function, const char *name, int64_t first, int32_t dtype, const double *values,
                        void *out, int64_t n) {
    double limit = overflow_limit(dtype);
    for (int64_t i = 0; i < n; i++)
        if (fabs(values[i]) >= limit && isfinite(values[i]))
            return di_fail_at(DISTAC_ENUMERIC, function, "tensor \"%s\", element %lld: %g does not fit in %s",
                              name, (long long)(first + i), values[i], distac_dtype_name(dtype));
    di_from_f64(dtype, values, out, n);
    return DISTAC_OK;
}

const di_file_type *di_st_target(const di_entry *entry, int32_t dtype) {
    return dtype >= 0 && di_entry_is_float(entry) ? di_file_type_of(dtype) : entry->type;
}

static distac_status put_raw(distac_context *context, di_output *output, const uint8_t *bytes, int64_t count) {
    for (int64_t at = 0; at < count; at += raw_piece) {
        DI_TRY(di_poll(context));
        DI_TRY(di_output_put(output, bytes + at, (size_t)(count - at < raw_piece ? count - at : raw_piece)));
    }
    return DISTAC_OK;
}

static distac_status put_converted(distac_context *context, di_output *output, const di_entry *entry,
                                   const uint8_t *bytes, const di_file_type *type) {
    double *values = di_alloc(context, 2 * CONVERT * sizeof *values);
    if (!values) return DISTAC_ENOMEM;
    distac_status status = DISTAC_OK;
    for (int64_t at = 0; at < entry->numel && status == DISTAC_OK; at += CONVERT) {
        int64_t n = entry->numel - at < CONVERT ? entry->numel - at : CONVERT;
        di_to_f64(entry->type->dtype, bytes + at * (entry->type->bits / 8), values, n);
        status = di_poll(context);
        if (status == DISTAC_OK)
            status =
                di_narrow("distac_checkpoint_save", entry->name, at, type->dtype, values, values + CONVERT, n);
        if (status == DISTAC_OK) status = di_output_put(output, values + CONVERT, (size_t)(n * (type->bits / 8)));
    }
    di_free(context, values, 2 * CONVERT * sizeof *values);
    return status;
}

static distac_status put_entry(distac_context *context, di_output *output, const di_entry *entry, int32_t dtype) {
    const uint8_t *bytes;
    distac_tensor *copy;
    const di_file_type *type = di_st_target(entry, dtype);
    DI_TRY(di_entry_bytes(entry, &bytes, &copy));
    distac_status status = type == entry->type ? put_raw(context, output, bytes, entry->bytes)
                                               : put_converted(context, output, entry, bytes, type);
    distac_tensor_release(copy);
    return status;
}

static distac_status save(const distac_checkpoint *checkpoint, int32_t dtype, const di_output_desc *desc) {
    int64_t count = checkpoint->count;
    di_st_item *items = di_new((size_t)(count ? count : 1) * sizeof *items);
    int64_t *order = di_new((size_t)(count ? count : 1) * sizeof *order);
    di_output *output = NULL;
    distac_status status = items && order ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < count; i++) {
        const di_entry *entry = checkpoint->entries[i];
        const di_file_type *type = di_st_target(entry, dtype);
        items[i] = (di_st_item){entry->name, type, entry->rank, entry->shape, di_type_bytes(type, entry->numel),
                                i * DI_LAZY_PARTS};
    }
    if (status == DISTAC_OK) status = di_output_open(desc, count, items, order, &output);
    for (int64_t i = 0; status == DISTAC_OK && i < count; i++)
        status = put_entry(checkpoint->context, output, checkpoint->entries[order[i]], dtype);
    if (status == DISTAC_OK)
        status = di_output_commit(output);
    else
        di_output_abort(output);
    free(items);
    free(order);
    return status;
}

static distac_status check_save(const distac_checkpoint *checkpoint, const char *path, int32_t dtype) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(path, "path is NULL");
    if (dtype != -1 && !di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype %d; expected -1 or a float type", (int)dtype);
    return DISTAC_OK;
}

distac_status distac_checkpoint_save(const distac_checkpoint *checkpoint, const char *path, int32_t dtype) {
    DI_TRY(check_save(checkpoint, path, dtype));
    const di_output_desc desc = {path, false, 0, NULL, checkpoint->pair_count, checkpoint->pairs};
    return save(checkpoint, dtype, &desc);
}

distac_status distac_checkpoint_save_folder(const distac_checkpoint *checkpoint, const char *path, int32_t dtype,
                                            int64_t shard, const char *config) {
    DI_TRY(check_save(checkpoint, path, dtype));
    if (shard < 0) return di_fail(DISTAC_EINVAL, "shard is %lld; wanted bytes, or 0", (long long)shard);
    const di_output_desc desc = {path, true, shard, config, checkpoint->pair_count, checkpoint->pairs};
    return save(checkpoint, dtype, &desc);
}
