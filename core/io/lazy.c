/* lazy.c: tensors that are pieces, joins or transposes of others. A piece of a file stays in the file; what must
 * be put together is put together when it is touched, or read in pieces without ever being made (di_entry_f64). */
#include "io.h"
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

void di_lazy_free(di_lazy *lazy) {
    if (!lazy) return;
    for (int32_t i = 0; i < lazy->count; i++) {
        di_mapping_release(lazy->parts[i].mapping);
        distac_tensor_release(lazy->parts[i].tensor);
    }
    free(lazy);
}

static distac_status make(const di_entry *like, const char *name, distac_context *context, di_entry **out) {
    di_entry *entry = di_new(sizeof *entry);
    if (!entry) return DISTAC_ENOMEM;
    entry->name = di_strdup(name);
    entry->lazy = di_new(sizeof *entry->lazy);
    if (!entry->name || !entry->lazy) {
        di_entry_free(entry);
        return DISTAC_ENOMEM;
    }
    entry->lazy->context = context;
    entry->type = like->type;
    entry->rank = like->rank;
    memcpy(entry->shape, like->shape, sizeof entry->shape);
    entry->numel = like->numel;
    entry->bytes = like->bytes;
    *out = entry;
    return DISTAC_OK;
}

/* Dense bytes of an entry and what keeps them alive. A tensor that is not
 * dense, or on a device, is copied here. */
static distac_status hold(distac_context *context, const di_entry *source, di_lazy_part *out) {
    *out = (di_lazy_part){.numel = source->numel};
    if (source->data || (!source->tensor && !source->lazy)) {
        di_mapping_retain(source->mapping);
        out->bytes = source->data;
        out->mapping = source->mapping;
    } else if (source->lazy) {
        DI_TRY(di_tensor_new(context, source->type->dtype, source->rank, source->shape, false, &out->tensor));
        di_lazy_fill(source, out->tensor->data);
    } else {
        DI_TRY(di_tensor_bring(source->tensor, false, &out->tensor));
    }
    if (out->tensor) out->bytes = out->tensor->data;
    return DISTAC_OK;
}

/* Numbers from..from+count-1 of a part as an entry's only content. */
static void piece(di_entry *entry, const di_lazy_part *part, int64_t from) {
    di_lazy_part *to = &entry->lazy->parts[0];
    di_mapping_retain(part->mapping);
    if (part->tensor) di_tensor_retain(part->tensor);
    *to = (di_lazy_part){part->bytes ? part->bytes + from * (entry->type->bits / 8) : NULL, entry->numel,
                         part->mapping, part->tensor};
    entry->lazy->count = 1;
}

/* A single run that lies in a file is an ordinary tensor of that file. */
static void settle(di_entry *entry) {
    di_lazy *lazy = entry->lazy;
    if (lazy->count != 1 || lazy->transposed || !lazy->parts[0].mapping) return;
    entry->data = lazy->parts[0].bytes;
    entry->mapping = lazy->parts[0].mapping;
    free(lazy); /* its reference to the mapping is the entry's now */
    entry->lazy = NULL;
}

distac_status di_entry_rows(distac_context *context, const di_entry *source, const char *name, int64_t first,
                            int64_t rows, di_entry **out) {
    di_entry *entry;
    int64_t width = source->shape[0] ? source->numel / source->shape[0] : 0, begin = first * width;
    if (source->type->dtype < 0)
        return di_fail(DISTAC_EDTYPE, "tensor \"%s\" is %s, which cannot be cut", source->name,
                       source->type->name);
    DI_TRY(make(source, name, context, &entry));
    entry->shape[0] = rows;
    entry->numel = rows * width;
    entry->bytes = entry->numel * (entry->type->bits / 8);
    /* Cutting a join where its parts meet gives the part. */
    const di_lazy *joined = source->lazy && !source->lazy->transposed ? source->lazy : NULL;
    for (int32_t i = 0; joined && i < joined->count; i++) {
        if (begin == 0 && joined->parts[i].numel == entry->numel) {
            piece(entry, &joined->parts[i], 0);
            settle(entry);
            *out = entry;
            return DISTAC_OK;
        }
        begin -= joined->parts[i].numel;
    }
    di_lazy_part whole;
    distac_status status = hold(context, source, &whole);
    if (status != DISTAC_OK) {
        di_entry_free(entry);
        return status;
    }
    piece(entry, &whole, first * width);
    di_mapping_release(whole.mapping);
    distac_tensor_release(whole.tensor);
    settle(entry);
    *out = entry;
    return DISTAC_OK;
}

distac_status di_entry_join(distac_context *context, const char *name, int32_t count,
                            const di_entry *const *sources, di_entry **out) {
    di_entry *entry;
    DI_TRY(make(sources[0], name, context, &entry));
    entry->shape[0] = entry->numel = entry->bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        distac_status status = hold(context, sources[i], &entry->lazy->parts[i]);
        if (status != DISTAC_OK) {
            di_entry_free(entry);
            return status;
        }
        entry->lazy->count++;
        entry->shape[0] += sources[i]->shape[0];
        entry->numel += sources[i]->numel;
        entry->bytes += sources[i]->bytes;
    }
    /* Runs that touch in one file are one run: a fused tensor that was cut comes back as it was. */
    di_lazy *lazy = entry->lazy;
    bool touch = lazy->parts[0].mapping != NULL;
    for (int32_t i = 1; i < count; i++)
        touch = touch && lazy->parts[i].mapping == lazy->parts[0].mapping &&
                lazy->parts[i].bytes == lazy->parts[i - 1].bytes + sources[i - 1]->bytes;
    for (int32_t i = 1; touch && i < count; i++) di_mapping_release(lazy->parts[i].mapping);
    if (touch) lazy->count = 1;
    settle(entry);
    *out = entry;
    return DISTAC_OK;
}

distac_status di_entry_turn(distac_context *context, const di_entry *source, const char *name, di_entry **out) {
    di_entry *entry;
    DI_TRY(make(source, name, context, &entry));
    entry->shape[0] = source->shape[1];
    entry->shape[1] = source->shape[0];
    distac_status status = DISTAC_OK;
    if (source->lazy && source->lazy->transposed) { /* turned twice */
        piece(entry, &source->lazy->parts[0], 0);
        settle(entry);
    } else {
        entry->lazy->transposed = true;
        status = hold(context, source, &entry->lazy->parts[0]);
        if (status == DISTAC_OK) entry->lazy->count = 1;
    }
    if (status != DISTAC_OK) {
        di_entry_free(entry);
        return status;
    }
    *out = entry;
    return DISTAC_OK;
}

/* ---- reading ---- */

void di_lazy_fill(const di_entry *entry, uint8_t *out) {
    const di_lazy *lazy = entry->lazy;
    size_t width = (size_t)entry->type->bits / 8;
    if (!lazy->transposed) {
        for (int32_t i = 0; i < lazy->count; i++) {
            size_t bytes = (size_t)lazy->parts[i].numel * width;
            if (bytes) memcpy(out, lazy->parts[i].bytes, bytes);
            out += bytes;
        }
        return;
    }
    const uint8_t *from = lazy->parts[0].bytes;
    size_t rows = (size_t)entry->shape[0], columns = (size_t)entry->shape[1];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++, out += width) memcpy(out, from + (j * rows + i) * width, width);
}

const uint8_t *di_entry_run(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    const di_lazy *lazy = entry->lazy;
    int64_t width = entry->type->bits / 8;
    if (bytes || !lazy) return bytes ? bytes + first * width : NULL;
    for (int32_t p = 0; !lazy->transposed && p < lazy->count; p++) {
        const di_lazy_part *part = &lazy->parts[p];
        if (first < part->numel) return n <= part->numel - first ? part->bytes + first * width : NULL;
        first -= part->numel;
    }
    return NULL;
}

void di_entry_f64(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n, double *out) {
    const di_lazy *lazy = entry->lazy;
    int32_t dtype = entry->type->dtype;
    int64_t width = entry->type->bits / 8;
    if (bytes || !lazy) {
        di_to_f64(dtype, bytes + first * width, out, n);
        return;
    }
    if (lazy->transposed) {
        int64_t rows = entry->shape[0], columns = entry->shape[1];
        int64_t i = columns ? first / columns : 0, j = columns ? first % columns : 0;
        for (int64_t k = 0; k < n; k++) {
            di_to_f64(dtype, lazy->parts[0].bytes + (j * rows + i) * width, &out[k], 1);
            if (++j < columns) continue;
            j = 0;
            i++;
        }
        return;
    }
    for (int32_t p = 0; p < lazy->count && n > 0; p++) {
        const di_lazy_part *part = &lazy->parts[p];
        if (first < part->numel) {
            int64_t take = part->numel - first < n ? part->numel - first : n;
            di_to_f64(dtype, part->bytes + first * width, out, take);
            out += take;
            n -= take;
            first = part->numel;
        }
        first -= part->numel;
    }
}
