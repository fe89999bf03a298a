/* bpe.c: the symbols of a word merged by rank. A round merges every occurrence of the pair of lowest rank, from
 * left to right; pairs that a round makes count from the next round on, even those of a lower rank. A heap of
 * (rank, position) finds the rounds, so a word of n bytes takes n log n, whatever is in it. */
#include "text.h"
#include <string.h>

distac_status di_ids_reserve(distac_context *context, di_ids *ids, size_t more) {
    if (ids->capacity - ids->count >= more) return DISTAC_OK;
    size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
    while (capacity - ids->count < more) capacity *= 2;
    int64_t *at = di_alloc(context, capacity * sizeof *at);
    if (!at) return DISTAC_ENOMEM;
    if (ids->count > 0) memcpy(at, ids->at, ids->count * sizeof *at);
    di_free(context, ids->at, ids->capacity * sizeof *at);
    ids->at = at;
    ids->capacity = capacity;
    return DISTAC_OK;
}

void di_ids_free(distac_context *context, di_ids *ids) {
    di_free(context, ids->at, ids->capacity * sizeof *ids->at);
    *ids = (di_ids){0};
}

enum { SYMBOL_ROOM = 3 * sizeof(int32_t) + 2 * sizeof(uint64_t) }; /* of a symbol, see di_merger */

void di_merger_free(distac_context *context, di_merger *merger) {
    di_free(context, merger->heap, merger->capacity * SYMBOL_ROOM);
    *merger = (di_merger){0};
}

static distac_status merger_reserve(distac_context *context, di_merger *merger, size_t count) {
    if (merger->capacity >= count) return DISTAC_OK;
    size_t capacity = merger->capacity ? merger->capacity : 256;
    while (capacity < count) capacity *= 2;
    di_merger_free(context, merger);
    uint64_t *heap = di_alloc(context, capacity * SYMBOL_ROOM);
    if (!heap) return DISTAC_ENOMEM;
    int32_t *lists = (int32_t *)(heap + 2 * capacity);
    *merger = (di_merger){lists, lists + capacity, lists + 2 * capacity, heap, capacity};
    return DISTAC_OK;
}

static void push(uint64_t *heap, size_t *count, uint64_t item) {
    size_t i = (*count)++;
    while (i > 0 && heap[(i - 1) / 2] > item) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = item;
}

static void pop(uint64_t *heap, size_t *count) {
    uint64_t item = heap[--*count];
    size_t i = 0;
    for (size_t child = 1; child < *count; child = 2 * i + 1) {
        if (child + 1 < *count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= item) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

static const di_follower *merge_of(const distac_tokenizer *t, int32_t left, int32_t right) {
    int32_t low = t->first[left], high = t->first[left + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (t->followers[middle].right < right)
            low = middle + 1;
        else
            high = middle;
    }
    const di_follower *f = t->followers + low;
    return low < t->first[left + 1] && f->right == right ? f : NULL;
}

/* The merge of the pair that begins at i, NULL if there is none. */
static const di_follower *pair_at(const distac_tokenizer *t, const di_merger *m, int32_t i) {
    return i >= 0 && m->symbol[i] >= 0 && m->next[i] >= 0 ? merge_of(t, m->symbol[i], m->symbol[m->next[i]])
                                                          : NULL;
}

static uint64_t item_of(const di_follower *f, int32_t i) {
    return (uint64_t)f->rank << 32 | (uint32_t)i;
}

/* Merges in place; the symbols left are those from 0 along next. The heap grows from the front of its memory;
 * pairs made during a round wait at the back. Together they are never more than two for each symbol, since a merge
 * takes one out and makes at most two of one symbol less. */
static void merge_all(const distac_tokenizer *t, di_merger *m, int32_t n) {
    size_t heap = 0;
    for (int32_t i = 0; i < n; i++) {
        const di_follower *f = pair_at(t, m, i);
        if (f) push(m->heap, &heap, item_of(f, i));
    }
    while (heap > 0) {
        uint64_t *waiting = m->heap + 2 * m->capacity;
        uint32_t rank = (uint32_t)(m->heap[0] >> 32);
        while (heap > 0 && (uint32_t)(m->heap[0] >> 32) == rank) {
            int32_t i = (int32_t)(uint32_t)m->heap[0];
            pop(m->heap, &heap);
            const di_follower *f = pair_at(t, m, i);
            if (!f || (uint32_t)f->rank != rank) continue; /* an earlier merge took one of the two */
            int32_t gone = m->next[i], before = m->previous[i];
            m->symbol[i] = f->result;
            m->next[i] = m->next[gone];
            if (m->next[i] >= 0) m->previous[m->next[i]] = i;
            m->symbol[gone] = -1;
            if ((f = pair_at(t, m, i))) *--waiting = item_of(f, i);
            if ((f = pair_at(t, m, before))) *--waiting = item_of(f, before);
        }
        for (uint64_t *end = m->heap + 2 * m->capacity; waiting < end; waiting++) push(m->heap, &heap, *waiting);
    }
}

distac_status di_bpe_word(const distac_tokenizer *tokenizer, di_merger *merger, const uint8_t *word, size_t bytes,
                          di_ids *out) {
    DI_TRY(merger_reserve(tokenizer->context, merger, bytes));
    DI_TRY(di_ids_reserve(tokenizer->context, out, bytes));
    int32_t n = (int32_t)bytes;
    for (int32_t i = 0; i < n; i++) {
        merger->symbol[i] = tokenizer->symbol[word[i]][i == n - 1];
        merger->previous[i] = i - 1;
        merger->next[i] = i + 1 < n ? i + 1 : -1;
    }
    merge_all(tokenizer, merger, n);
    for (int32_t i = 0; i >= 0; i = merger->next[i]) out->at[out->count++] = merger->symbol[i];
    return DISTAC_OK;
}
