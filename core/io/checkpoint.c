/* checkpoint.c: the checkpoint object: a sorted list of named tensors with metadata, from a mapped file or in
 * memory. */
#include "io.h"
#include <stdlib.h>
#include <string.h>

/* ---- mapped files ---- */

void di_mapping_retain(di_mapping *mapping) {
    if (mapping) atomic_fetch_add(&mapping->refs, 1);
}

void di_mapping_release(void *owner) {
    di_mapping *mapping = owner;
    if (!mapping || atomic_fetch_sub(&mapping->refs, 1) != 1) return;
    di_map_close(&mapping->map);
    free(mapping);
}

distac_status di_mapping_open(const char *path, di_mapping **out) {
    di_mapping *mapping = di_new(sizeof *mapping);
    if (!mapping) return DISTAC_ENOMEM;
    atomic_init(&mapping->refs, 1);
    distac_status status = di_map_open(path, &mapping->map);
    if (status != DISTAC_OK) {
        free(mapping);
        return status;
    }
    *out = mapping;
    return DISTAC_OK;
}

/* ---- life ---- */

distac_status di_checkpoint_new(distac_context *context, const char *path, distac_checkpoint **out) {
    distac_checkpoint *checkpoint = di_new(sizeof *checkpoint);
    if (!checkpoint) return DISTAC_ENOMEM;
    atomic_init(&checkpoint->refs, 1);
    checkpoint->path = di_strdup(path);
    if (!checkpoint->path) {
        free(checkpoint);
        return DISTAC_ENOMEM;
    }
    di_context_retain(context);
    checkpoint->context = context;
    *out = checkpoint;
    return DISTAC_OK;
}

distac_status distac_checkpoint_create(distac_context *context, distac_checkpoint **out) {
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(out, "out is NULL");
    return di_checkpoint_new(context, "", out);
}

void di_checkpoint_retain(const distac_checkpoint *checkpoint) {
    atomic_fetch_add(&((distac_checkpoint *)(uintptr_t)checkpoint)->refs, 1);
}

void di_entry_free(di_entry *entry) {
    if (!entry) return;
    distac_tensor_release(entry->tensor);
    di_mapping_release(entry->mapping);
    di_lazy_free(entry->lazy);
    free(entry->name);
    free(entry);
}

void distac_checkpoint_release(distac_checkpoint *checkpoint) {
    if (!checkpoint || atomic_fetch_sub(&checkpoint->refs, 1) != 1) return;
    for (int64_t i = 0; i < checkpoint->count; i++) di_entry_free(checkpoint->entries[i]);
    for (int64_t i = 0; i < checkpoint->pair_count; i++) {
        free(checkpoint->pairs[i].key);
        free(checkpoint->pairs[i].value);
    }
    free(checkpoint->entries);
    free(checkpoint->pairs);
    free(checkpoint->path);
    free(checkpoint->prefix);
    distac_context_release(checkpoint->context);
    free(checkpoint);
}

/* ---- reading ---- */

const char *distac_checkpoint_path(const distac_checkpoint *checkpoint) {
    return checkpoint ? checkpoint->path : "";
}

int64_t distac_checkpoint_count(const distac_checkpoint *checkpoint) {
    return checkpoint ? checkpoint->count : 0;
}

const char *distac_checkpoint_name(const distac_checkpoint *checkpoint, int64_t index) {
    if (!checkpoint || index < 0 || index >= checkpoint->count) return NULL;
    return checkpoint->entries[index]->name;
}

/* The first index whose name is not below `name`. */
static int64_t lower_bound(const distac_checkpoint *checkpoint, const char *name) {
    int64_t low = 0, high = checkpoint->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(checkpoint->entries[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int64_t distac_checkpoint_find(const distac_checkpoint *checkpoint, const char *name) {
    if (!checkpoint || !name) return -1;
    int64_t index = lower_bound(checkpoint, name);
    return index < checkpoint->count && strcmp(checkpoint->entries[index]->name, name) == 0 ? index : -1;
}

di_entry *di_checkpoint_entry(const distac_checkpoint *checkpoint, const char *name) {
    int64_t index = distac_checkpoint_find(checkpoint, name);
    return index < 0 ? NULL : checkpoint->entries[index];
}

/* Numbers in the file need not lie where the processor wants them, lazy ones lie nowhere yet: a copy is made. */
static distac_status copy_tensor(const distac_checkpoint *checkpoint, const di_entry *entry, distac_tensor **out) {
    distac_tensor *copy;
    DI_TRY(di_tensor_new(checkpoint->context, entry->type->dtype, entry->rank, entry->shape, false, &copy));
    if (entry->lazy)
        di_lazy_fill(entry, copy->data);
    else if (entry->bytes)
        memcpy(copy->data, entry->data, (size_t)entry->bytes);
    copy->storage->readonly = true;
    *out = copy;
    return DISTAC_OK;
}

distac_status distac_checkpoint_tensor(const distac_checkpoint *checkpoint, int64_t index, distac_tensor **out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (index < 0 || index >= checkpoint->count)
        return di_fail(DISTAC_EINVAL, "tensor %lld of %lld", (long long)index, (long long)checkpoint->count);
    const di_entry *entry = checkpoint->entries[index];
    if (entry->tensor) {
        di_tensor_retain(entry->tensor);
        *out = entry->tensor;
        return DISTAC_OK;
    }
    bool carried = entry->type->dtype < 0;
    if (entry->lazy) return copy_tensor(checkpoint, entry, out);
    if (!carried && (uintptr_t)entry->data % ((size_t)entry->type->bits / 8) != 0)
        return copy_tensor(checkpoint, entry, out);
    di_mapping_retain(entry->mapping);
    distac_status status =
        di_tensor_foreign(checkpoint->context, carried ? DISTAC_U8 : entry->type->dtype, carried ? 1 : entry->rank,
                          carried ? &entry->bytes : entry->shape, (void *)(uintptr_t)entry->data, true,
                          di_mapping_release, entry->mapping, out);
    if (status != DISTAC_OK) di_mapping_release(entry->mapping);
    return status;
}

distac_status di_entry_bytes(const di_entry *entry, const uint8_t **bytes, distac_tensor **copy) {
    *copy = NULL;
    if (entry->lazy) {
        DI_TRY(di_tensor_new(entry->lazy->context, entry->type->dtype, entry->rank, entry->shape, false, copy));
        di_lazy_fill(entry, (*copy)->data);
        *bytes = (*copy)->data;
        return DISTAC_OK;
    }
    if (entry->data || !entry->tensor) {
        *bytes = entry->data;
        return DISTAC_OK;
    }
    DI_TRY(di_tensor_bring(entry->tensor, false, copy));
    *bytes = (*copy)->data;
    return DISTAC_OK;
}

bool di_entry_is_float(const di_entry *entry) {
    return entry->type->dtype >= 0 && di_dtype_is_float(entry->type->dtype);
}

bool di_entry_same_shape(const di_entry *a, const di_entry *b) {
    if (a->rank != b->rank) return false;
    for (int32_t i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

distac_status distac_checkpoint_get_info(const distac_checkpoint *checkpoint, int64_t index,
                                         distac_checkpoint_info *out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (index < 0 || index >= checkpoint->count)
        return di_fail(DISTAC_EINVAL, "tensor %lld of %lld", (long long)index, (long long)checkpoint->count);
    const di_entry *entry = checkpoint->entries[index];
    *out = (distac_checkpoint_info){entry->type->dtype, entry->rank, entry->numel, entry->bytes};
    return DISTAC_OK;
}

/* ---- building ---- */

distac_status di_check_text(const char *what, const char *text) {
    if (di_utf8_wrong(text, strlen(text))) return di_fail(DISTAC_EINVAL, "%s is not valid UTF-8", what);
    return DISTAC_OK;
}

/* Short, and not reserved. */
static distac_status check_name(const char *name) {
    size_t length = strlen(name);
    if (length > DI_ST_MAX_NAME)
        return di_fail(DISTAC_EINVAL, "a tensor's name has %zu bytes, at most %u are allowed", length,
                       DI_ST_MAX_NAME);
    if (strcmp(name, "__metadata__") == 0)
        return di_fail(DISTAC_EINVAL, "the name \"__metadata__\" is reserved for metadata");
    return di_check_text("the tensor's name", name);
}

/* Adds an entry where its name belongs and owns it from then on, also on failure. */
static distac_status insert(distac_checkpoint *checkpoint, di_entry *entry) {
    int64_t index = lower_bound(checkpoint, entry->name);
    if (index < checkpoint->count && strcmp(checkpoint->entries[index]->name, entry->name) == 0) {
        di_entry_free(checkpoint->entries[index]);
        checkpoint->entries[index] = entry;
        return DISTAC_OK;
    }
    if (checkpoint->count == DI_ST_MAX_TENSORS) {
        di_entry_free(entry);
        return di_fail(DISTAC_EINVAL, "more than %d tensors", DI_ST_MAX_TENSORS);
    }
    if (checkpoint->count == checkpoint->capacity) {
        int64_t capacity = checkpoint->capacity ? 2 * checkpoint->capacity : 16;
        di_entry **entries = di_grow(checkpoint->entries, (size_t)capacity * sizeof *entries);
        if (!entries) {
            di_entry_free(entry);
            return DISTAC_ENOMEM;
        }
        checkpoint->entries = entries;
        checkpoint->capacity = capacity;
    }
    memmove(checkpoint->entries + index + 1, checkpoint->entries + index,
            (size_t)(checkpoint->count - index) * sizeof *checkpoint->entries);
    checkpoint->entries[index] = entry;
    checkpoint->count++;
    return DISTAC_OK;
}

distac_status distac_checkpoint_set(distac_checkpoint *checkpoint, const char *name, distac_tensor *tensor) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(name, "name is NULL");
    DI_REQUIRE(tensor, "tensor is NULL");
    if (checkpoint->frozen)
        return di_fail(DISTAC_ESTATE, "the checkpoint was opened from %s and cannot be changed", checkpoint->path);
    DI_TRY(check_name(name));
    const di_file_type *type = di_file_type_of(tensor->dtype);
    if (!type) return di_fail(DISTAC_EDTYPE, "tensors of type %d cannot be stored", (int)tensor->dtype);
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] > DI_ST_MAX_SIZE)
            return di_fail(DISTAC_EINVAL, "dimension %lld of \"%s\" is over 2^48-1", (long long)tensor->shape[i],
                           name);
    di_entry *entry = di_new(sizeof *entry);
    if (!entry) return DISTAC_ENOMEM;
    entry->name = di_strdup(name);
    if (!entry->name) {
        free(entry);
        return DISTAC_ENOMEM;
    }
    entry->type = type;
    entry->rank = tensor->rank;
    memcpy(entry->shape, tensor->shape, sizeof entry->shape);
    entry->numel = tensor->numel;
    entry->bytes = di_type_bytes(type, tensor->numel);
    di_tensor_retain(entry->tensor = tensor);
    return insert(checkpoint, entry);
}

bool di_entry_there(const di_entry *entry, const distac_context *context) {
    const distac_tensor *tensor = entry->tensor;
    return tensor && tensor->storage->there && tensor->context == context;
}

distac_status distac_checkpoint_to(const distac_checkpoint *checkpoint, const char *device,
                                   distac_checkpoint **out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(device, "device is NULL");
    DI_REQUIRE(out, "out is NULL");
    distac_checkpoint *moved;
    bool here = strcmp(device, "cpu") == 0;
    DI_TRY(distac_checkpoint_clone(checkpoint, &moved));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < moved->count && status == DISTAC_OK; i++) {
        distac_tensor *from = NULL, *to = NULL;
        const di_entry *entry = moved->entries[i];
        if (!di_entry_is_float(entry) || (here && !(entry->tensor && entry->tensor->storage->there))) continue;
        status = distac_checkpoint_tensor(moved, i, &from);
        if (status == DISTAC_OK) status = distac_tensor_to(from, device, &to);
        if (status == DISTAC_OK) status = distac_checkpoint_set(moved, moved->entries[i]->name, to);
        distac_tensor_release(to);
        distac_tensor_release(from);
    }
    if (status == DISTAC_OK) *out = moved;
    else distac_checkpoint_release(moved);
    return status;
}
