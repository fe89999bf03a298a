/* fingerprint.c: which tensors a checkpoint holds, in 128 bits. Blocks are hashed on all threads, then their hashes
 * in the order of the names, so that neither threads nor the kind of file matter. */
#include "io.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK = 1 << 20 };

typedef struct block {
    const uint8_t *bytes;
    size_t count;
} block;

typedef struct job {
    const block *blocks;
    XXH128_canonical_t *hashes;
} job;

static void hash_block(void *arg, int64_t index) {
    const job *j = arg;
    XXH128_canonicalFromHash(&j->hashes[index], XXH3_128bits(j->blocks[index].bytes, j->blocks[index].count));
}

static void cut(const uint8_t *bytes, int64_t count, block *blocks, int64_t *used) {
    for (int64_t at = 0; at < count; at += BLOCK)
        blocks[(*used)++] = (block){bytes + at, (size_t)(count - at < BLOCK ? count - at : BLOCK)};
}

/* Appends the hashes of an entry that must be put together first; one is in memory at a time. */
static distac_status hash_lazy(distac_context *context, const di_entry *entry, job *j, block *blocks,
                               XXH3_state_t *all) {
    const uint8_t *bytes;
    distac_tensor *copy = NULL;
    int64_t used = 0;
    DI_TRY(di_entry_bytes(entry, &bytes, &copy));
    cut(bytes, entry->bytes, blocks, &used);
    di_parallel(context, used, hash_block, j);
    XXH3_128bits_update(all, j->hashes, (size_t)used * sizeof *j->hashes);
    distac_tensor_release(copy);
    return DISTAC_OK;
}

static void name_entry(const di_entry *entry, XXH3_state_t *all) {
    char shape[DI_MAX_RANK * 24];
    di_shape_text(entry->rank, entry->shape, shape, sizeof shape);
    XXH3_128bits_update(all, entry->name, strlen(entry->name) + 1);
    XXH3_128bits_update(all, entry->type->name, strlen(entry->type->name) + 1);
    XXH3_128bits_update(all, shape, strlen(shape) + 1);
}

static distac_status hash_all(const distac_checkpoint *ck, job *j, block *blocks, XXH3_state_t *all) {
    di_sources sources;
    DI_TRY(di_sources_open(ck, &sources));
    int64_t used = 0, done = 0;
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < ck->count; i++)
        if (!ck->entries[i]->lazy) cut(sources.bytes[i], ck->entries[i]->bytes, blocks, &used);
    di_parallel(ck->context, used, hash_block, j);
    block *rest = blocks + used;
    job tail = {rest, j->hashes + used};
    for (int64_t i = 0; i < ck->count && status == DISTAC_OK; i++) {
        const di_entry *entry = ck->entries[i];
        name_entry(entry, all);
        if (entry->lazy) {
            status = hash_lazy(ck->context, entry, &tail, rest, all);
        } else {
            int64_t count = (entry->bytes + BLOCK - 1) / BLOCK;
            XXH3_128bits_update(all, j->hashes + done, (size_t)count * sizeof *j->hashes);
            done += count;
        }
        if (status == DISTAC_OK) status = di_poll(ck->context);
    }
    di_sources_close(&sources);
    return status;
}

static distac_status hand_out(XXH3_state_t *all, distac_strings **out) {
    XXH128_canonical_t digest;
    char hex[2 * sizeof digest.digest + 1];
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(all));
    for (size_t i = 0; i < sizeof digest.digest; i++) {
        hex[2 * i] = "0123456789abcdef"[digest.digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest.digest[i] & 15];
    }
    hex[sizeof hex - 1] = 0;
    distac_strings *list = di_strings_new();
    distac_status status = list ? di_strings_add(list, hex) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) *out = list;
    else distac_strings_release(list);
    return status;
}

distac_status distac_checkpoint_fingerprint(const distac_checkpoint *checkpoint, distac_strings **out) {
    DI_REQUIRE(checkpoint && out, "checkpoint and out are needed");
    int64_t count = 1, longest = 1;
    for (int64_t i = 0; i < checkpoint->count; i++) {
        int64_t blocks = (checkpoint->entries[i]->bytes + BLOCK - 1) / BLOCK;
        if (!checkpoint->entries[i]->lazy) count += blocks;
        else if (blocks > longest) longest = blocks;
    }
    size_t total = (size_t)(count + longest);
    block *blocks = di_new(total * sizeof *blocks);
    XXH128_canonical_t *hashes = di_new(total * sizeof *hashes);
    XXH3_state_t *all = XXH3_createState();
    distac_status status = blocks && hashes ? DISTAC_OK : DISTAC_ENOMEM;
    if (!all) status = di_fail(DISTAC_ENOMEM, "no memory for a hash");
    if (status == DISTAC_OK) {
        job j = {blocks, hashes};
        XXH3_128bits_reset(all);
        status = hash_all(checkpoint, &j, blocks, all);
    }
    if (status == DISTAC_OK) status = hand_out(all, out);
    XXH3_freeState(all);
    free(hashes);
    free(blocks);
    return status;
}
