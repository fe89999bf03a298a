/* parts.c: checkpoints made of others' tensors, which are shared; and lists of entries filled without order. */
#include "io.h"
#include <stdlib.h>
#include <string.h>

distac_status di_checkpoint_append(distac_checkpoint *checkpoint, di_entry *entry) {
    if (checkpoint->count == checkpoint->capacity) {
        int64_t capacity = checkpoint->capacity ? 2 * checkpoint->capacity : 64;
        di_entry **entries = di_grow(checkpoint->entries, (size_t)capacity * sizeof *entries);
        if (!entries) return DISTAC_ENOMEM;
        checkpoint->entries = entries;
        checkpoint->capacity = capacity;
    }
    checkpoint->entries[checkpoint->count++] = entry;
    return DISTAC_OK;
}

static int compare_entries(const void *a, const void *b) {
    return strcmp((*(di_entry *const *)a)->name, (*(di_entry *const *)b)->name);
}

distac_status di_checkpoint_sort(distac_checkpoint *checkpoint) {
    di_entry **entries = checkpoint->entries;
    if (checkpoint->count) qsort(entries, (size_t)checkpoint->count, sizeof *entries, compare_entries);
    for (int64_t i = 1; i < checkpoint->count; i++)
        if (strcmp(entries[i - 1]->name, entries[i]->name) == 0)
            return di_fail(DISTAC_EFORMAT, "%s: two tensors are named \"%.72s\"", checkpoint->path,
                           entries[i]->name);
    return DISTAC_OK;
}

void di_checkpoint_adopt(distac_checkpoint *checkpoint, int64_t first, di_mapping *mapping) {
    for (int64_t i = first; i < checkpoint->count; i++) {
        di_entry *entry = checkpoint->entries[i];
        if (!entry->data || entry->mapping) continue;
        di_mapping_retain(mapping);
        entry->mapping = mapping;
    }
}

distac_status di_entry_clone(const di_entry *entry, const char *name, di_entry **out) {
    di_entry *copy = di_new(sizeof *copy);
    if (!copy) return DISTAC_ENOMEM;
    *copy = *entry;
    copy->name = di_strdup(name);
    copy->lazy = NULL;
    if (entry->lazy) {
        copy->lazy = di_new(sizeof *copy->lazy);
        if (copy->lazy) *copy->lazy = *entry->lazy;
    }
    if (!copy->name || (entry->lazy && !copy->lazy)) {
        free(copy->name);
        free(copy->lazy);
        free(copy);
        return DISTAC_ENOMEM;
    }
    if (copy->tensor) di_tensor_retain(copy->tensor);
    di_mapping_retain(copy->mapping);
    for (int32_t i = 0; copy->lazy && i < copy->lazy->count; i++) {
        di_mapping_retain(copy->lazy->parts[i].mapping);
        if (copy->lazy->parts[i].tensor) di_tensor_retain(copy->lazy->parts[i].tensor);
    }
    *out = copy;
    return DISTAC_OK;
}

static distac_status fill(const distac_checkpoint *from, int64_t first, int64_t count, distac_checkpoint *to) {
    for (int64_t i = first; i < first + count; i++) {
        di_entry *entry;
        DI_TRY(di_entry_clone(from->entries[i], from->entries[i]->name, &entry));
        distac_status status = di_checkpoint_append(to, entry);
        if (status != DISTAC_OK) {
            di_entry_free(entry);
            return status;
        }
    }
    for (int64_t i = 0; i < from->pair_count; i++)
        DI_TRY(di_checkpoint_pair(to, from->pairs[i].key, from->pairs[i].value));
    return DISTAC_OK;
}

distac_status distac_checkpoint_part(const distac_checkpoint *checkpoint, int64_t first, int64_t count,
                                     distac_checkpoint **out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (first < 0 || count < 0 || first > checkpoint->count || count > checkpoint->count - first)
        return di_fail(DISTAC_EINVAL, "%lld tensors from %lld on; there are %lld", (long long)count,
                       (long long)first, (long long)checkpoint->count);
    distac_checkpoint *made;
    DI_TRY(di_checkpoint_new(checkpoint->context, checkpoint->path, &made));
    distac_status status = fill(checkpoint, first, count, made);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(made);
        return status;
    }
    *out = made;
    return DISTAC_OK;
}

distac_status distac_checkpoint_clone(const distac_checkpoint *checkpoint, distac_checkpoint **out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    return distac_checkpoint_part(checkpoint, 0, checkpoint->count, out);
}
