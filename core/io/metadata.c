/* metadata.c: the texts of a checkpoint: pairs sorted by key. */
#include "io.h"
#include <stdlib.h>
#include <string.h>

int64_t distac_checkpoint_metadata_count(const distac_checkpoint *checkpoint) {
    return checkpoint ? checkpoint->pair_count : 0;
}

const char *distac_checkpoint_metadata_key(const distac_checkpoint *checkpoint, int64_t index) {
    if (!checkpoint || index < 0 || index >= checkpoint->pair_count) return NULL;
    return checkpoint->pairs[index].key;
}

/* The first pair whose key is not below `key`. */
static int64_t pair_bound(const distac_checkpoint *checkpoint, const char *key) {
    int64_t low = 0, high = checkpoint->pair_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(checkpoint->pairs[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool pair_at(const distac_checkpoint *checkpoint, int64_t index, const char *key) {
    return index < checkpoint->pair_count && strcmp(checkpoint->pairs[index].key, key) == 0;
}

const char *distac_checkpoint_metadata(const distac_checkpoint *checkpoint, const char *key) {
    if (!checkpoint || !key) return NULL;
    int64_t index = pair_bound(checkpoint, key);
    return pair_at(checkpoint, index, key) ? checkpoint->pairs[index].value : NULL;
}

static void pair_remove(distac_checkpoint *checkpoint, int64_t index) {
    free(checkpoint->pairs[index].key);
    free(checkpoint->pairs[index].value);
    checkpoint->pair_count--;
    memmove(checkpoint->pairs + index, checkpoint->pairs + index + 1,
            (size_t)(checkpoint->pair_count - index) * sizeof *checkpoint->pairs);
}

static distac_status pair_insert(distac_checkpoint *checkpoint, int64_t index, char *key, char *value) {
    if (checkpoint->pair_count == checkpoint->pair_capacity) {
        int64_t capacity = checkpoint->pair_capacity ? 2 * checkpoint->pair_capacity : 8;
        di_pair *pairs = di_grow(checkpoint->pairs, (size_t)capacity * sizeof *pairs);
        if (!pairs) return DISTAC_ENOMEM;
        checkpoint->pairs = pairs;
        checkpoint->pair_capacity = capacity;
    }
    memmove(checkpoint->pairs + index + 1, checkpoint->pairs + index,
            (size_t)(checkpoint->pair_count - index) * sizeof *checkpoint->pairs);
    checkpoint->pairs[index] = (di_pair){key, value};
    checkpoint->pair_count++;
    return DISTAC_OK;
}

distac_status di_checkpoint_pair(distac_checkpoint *checkpoint, const char *key, const char *value) {
    int64_t index = pair_bound(checkpoint, key);
    bool there = pair_at(checkpoint, index, key);
    if (!value) {
        if (there) pair_remove(checkpoint, index);
        return DISTAC_OK;
    }
    char *text = di_strdup(value);
    if (!text) return DISTAC_ENOMEM;
    if (there) {
        free(checkpoint->pairs[index].value);
        checkpoint->pairs[index].value = text;
        return DISTAC_OK;
    }
    char *name = di_strdup(key);
    distac_status status = name ? pair_insert(checkpoint, index, name, text) : DISTAC_ENOMEM;
    if (status != DISTAC_OK) {
        free(name);
        free(text);
    }
    return status;
}

distac_status distac_checkpoint_set_metadata(distac_checkpoint *checkpoint, const char *key, const char *value) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(key, "key is NULL");
    if (checkpoint->frozen)
        return di_fail(DISTAC_ESTATE, "the checkpoint was opened from %s and cannot be changed", checkpoint->path);
    DI_TRY(di_check_text("the metadata key", key));
    if (value) DI_TRY(di_check_text("the metadata value", value));
    return di_checkpoint_pair(checkpoint, key, value);
}
