/* fingerprint.c: which tensors a checkpoint holds, in 128 bits. Blocks are hashed in any order, on all threads,
 * perhaps while somebody reads them for another end; then their hashes in the order of the names, so that neither
 * threads nor the kind of file matter. */
#include "io.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK = 1 << 20, HEX = 33 };

typedef struct block {
    const uint8_t *bytes;
    size_t count;
    atomic_bool taken;
    XXH128_canonical_t hash;
} block;

typedef struct print {
    const distac_checkpoint *checkpoint;
    di_sources sources;
    int64_t first; /* of its blocks: those of the entries that are not lazy, in the order of the entries */
    char hex[HEX];
} print;

struct di_prints {
    int32_t count;
    print *prints;
    int64_t block_count;
    block *blocks, **sorted; /* by address */
};

static void hash(block *b) { XXH128_canonicalFromHash(&b->hash, XXH3_128bits(b->bytes, b->count)); }

/* Hashes a block unless somebody has, or is about to. */
static void take(block *b) {
    if (!atomic_exchange(&b->taken, true)) hash(b);
}

static int64_t blocks_of(const di_entry *entry) { return (entry->bytes + BLOCK - 1) / BLOCK; }

static int64_t cut(const uint8_t *bytes, int64_t count, block *blocks) {
    int64_t used = 0;
    for (int64_t at = 0; at < count; at += BLOCK, used++) {
        blocks[used].bytes = bytes + at;
        blocks[used].count = (size_t)(count - at < BLOCK ? count - at : BLOCK);
        atomic_init(&blocks[used].taken, false);
    }
    return used;
}

/* ---- opening ---- */

static int by_address(const void *a, const void *b) {
    uintptr_t x = (uintptr_t)(*(block *const *)a)->bytes, y = (uintptr_t)(*(block *const *)b)->bytes;
    return x < y ? -1 : x > y;
}

void di_prints_close(di_prints *prints) {
    if (!prints) return;
    for (int32_t i = 0; prints->prints && i < prints->count; i++) di_sources_close(&prints->prints[i].sources);
    free(prints->prints);
    free(prints->blocks);
    free(prints->sorted);
    free(prints);
}

static distac_status open_all(di_prints *p, distac_checkpoint *const *checkpoints) {
    for (int32_t i = 0; i < p->count; i++) {
        print *at = &p->prints[i];
        at->checkpoint = checkpoints[i];
        at->first = p->block_count;
        DI_TRY(di_sources_open(at->checkpoint, NULL, &at->sources));
        for (int64_t k = 0; k < at->checkpoint->count; k++)
            if (!at->checkpoint->entries[k]->lazy) p->block_count += blocks_of(at->checkpoint->entries[k]);
    }
    size_t room = (size_t)(p->block_count ? p->block_count : 1);
    p->blocks = di_new(room * sizeof *p->blocks);
    p->sorted = di_new(room * sizeof *p->sorted);
    if (!p->blocks || !p->sorted) return DISTAC_ENOMEM;
    int64_t used = 0;
    for (int32_t i = 0; i < p->count; i++)
        for (int64_t k = 0; k < p->prints[i].checkpoint->count; k++) {
            const di_entry *entry = p->prints[i].checkpoint->entries[k];
            if (!entry->lazy) used += cut(p->prints[i].sources.bytes[k], entry->bytes, p->blocks + used);
        }
    for (int64_t i = 0; i < used; i++) p->sorted[i] = &p->blocks[i];
    if (used) qsort(p->sorted, (size_t)used, sizeof *p->sorted, by_address);
    return DISTAC_OK;
}

distac_status di_prints_open(int32_t count, distac_checkpoint *const *checkpoints, di_prints **out) {
    di_prints *p = di_new(sizeof *p);
    if (!p) return DISTAC_ENOMEM;
    p->count = count;
    p->prints = di_new((size_t)(count ? count : 1) * sizeof *p->prints);
    distac_status status = p->prints ? open_all(p, checkpoints) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) *out = p;
    else di_prints_close(p);
    return status;
}

/* ---- on the way ---- */

static void look(const di_prints *p, const uint8_t *bytes, int64_t count) {
    int64_t low = 0, high = p->block_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if ((uintptr_t)p->sorted[middle]->bytes < (uintptr_t)bytes) low = middle + 1;
        else high = middle;
    }
    for (; low < p->block_count && (uintptr_t)p->sorted[low]->bytes - (uintptr_t)bytes < (uintptr_t)count; low++)
        take(p->sorted[low]);
}

void di_prints_look(di_prints *p, const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    const di_lazy *lazy = bytes ? NULL : entry->lazy;
    int64_t width = entry->type->bits / 8;
    if (bytes) look(p, bytes + first * width, n * width);
    if (!lazy || lazy->transposed) return;
    for (int32_t k = 0; k < lazy->count && n > 0; k++) {
        const di_lazy_part *part = &lazy->parts[k];
        if (first < part->numel) {
            int64_t here = part->numel - first < n ? part->numel - first : n;
            if (part->bytes) look(p, part->bytes + first * width, here * width);
            n -= here;
            first = part->numel;
        }
        first -= part->numel;
    }
}

/* ---- the end ---- */

static void take_block(void *arg, int64_t index) { take(&((block *)arg)[index]); }

/* Adds the hashes of an entry that must be put together first; one is in memory at a time. */
static distac_status hash_lazy(distac_context *context, const di_entry *entry, XXH3_state_t *all) {
    const uint8_t *bytes;
    distac_tensor *copy = NULL;
    int64_t count = blocks_of(entry);
    block *blocks = di_new((size_t)(count ? count : 1) * sizeof *blocks);
    if (!blocks) return DISTAC_ENOMEM;
    distac_status status = di_entry_bytes(entry, &bytes, &copy);
    if (status == DISTAC_OK) {
        cut(bytes, entry->bytes, blocks);
        di_parallel(context, count, take_block, blocks);
        for (int64_t i = 0; i < count; i++) XXH3_128bits_update(all, &blocks[i].hash, sizeof blocks[i].hash);
    }
    distac_tensor_release(copy);
    free(blocks);
    return status;
}

static void name_entry(const di_entry *entry, XXH3_state_t *all) {
    char shape[DI_MAX_RANK * 24];
    di_shape_text(entry->rank, entry->shape, shape, sizeof shape);
    XXH3_128bits_update(all, entry->name, strlen(entry->name) + 1);
    XXH3_128bits_update(all, entry->type->name, strlen(entry->type->name) + 1);
    XXH3_128bits_update(all, shape, strlen(shape) + 1);
}

static distac_status finish(const di_prints *p, print *at, XXH3_state_t *all) {
    const block *b = p->blocks + at->first;
    distac_context *context = at->checkpoint->context;
    for (int64_t i = 0; i < at->checkpoint->count; i++) {
        const di_entry *entry = at->checkpoint->entries[i];
        name_entry(entry, all);
        if (entry->lazy) DI_TRY(hash_lazy(context, entry, all));
        for (int64_t k = 0; !entry->lazy && k < blocks_of(entry); k++, b++)
            XXH3_128bits_update(all, &b->hash, sizeof b->hash);
        DI_TRY(di_poll(context));
    }
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(all));
    for (size_t i = 0; i < sizeof digest.digest; i++) {
        at->hex[2 * i] = "0123456789abcdef"[digest.digest[i] >> 4];
        at->hex[2 * i + 1] = "0123456789abcdef"[digest.digest[i] & 15];
    }
    return DISTAC_OK;
}

distac_status di_prints_finish(di_prints *p) {
    if (!p->count) return DISTAC_OK;
    XXH3_state_t *all = XXH3_createState();
    if (!all) return di_fail(DISTAC_ENOMEM, "no memory for a hash");
    di_parallel(p->prints[0].checkpoint->context, p->block_count, take_block, p->blocks);
    distac_status status = di_poll(p->prints[0].checkpoint->context);
    for (int32_t i = 0; status == DISTAC_OK && i < p->count; i++) {
        XXH3_128bits_reset(all);
        status = finish(p, &p->prints[i], all);
    }
    XXH3_freeState(all);
    return status;
}

distac_status di_prints_get(const di_prints *p, int32_t index, distac_strings **out) {
    distac_strings *list = di_strings_new();
    distac_status status = list ? di_strings_add(list, p->prints[index].hex) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) *out = list;
    else distac_strings_release(list);
    return status;
}

distac_status distac_checkpoint_fingerprint(const distac_checkpoint *checkpoint, distac_strings **out) {
    DI_REQUIRE(checkpoint && out, "checkpoint and out are needed");
    distac_checkpoint *const one = (distac_checkpoint *)(uintptr_t)checkpoint;
    di_prints *prints;
    DI_TRY(di_prints_open(1, &one, &prints));
    distac_status status = di_prints_finish(prints);
    if (status == DISTAC_OK) status = di_prints_get(prints, 0, out);
    di_prints_close(prints);
    return status;
}
