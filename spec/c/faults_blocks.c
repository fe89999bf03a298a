/* faults_blocks.c: what was allocated during a watch and not freed. It allocates nothing itself. */
#define _GNU_SOURCE 1 /* dladdr */
#include "faults_inside.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { SLOTS = 1 << 19 };
typedef struct block {
    uintptr_t at, caller;
    size_t bytes;
    uint32_t number, period; /* what is of an earlier period is an empty slot */
    bool freed;
} block;
static block blocks[SLOTS];
static uint32_t taken[SLOTS]; /* the slots of this period, so that not all have to be looked through */
static uint32_t taken_count;
static atomic_bool watching;
static atomic_flag blocks_lock = ATOMIC_FLAG_INIT;
static uint32_t block_number, period;

static void lock_blocks(void) {
    while (atomic_flag_test_and_set_explicit(&blocks_lock, memory_order_acquire)) sched_yield();
}

static void unlock_blocks(void) { atomic_flag_clear_explicit(&blocks_lock, memory_order_release); }

static size_t slot_of(uintptr_t at) { return (size_t)((at >> 4) * 0x9e3779b97f4a7c15u >> 40) % SLOTS; }

void blocks_remember(void *memory, size_t bytes, uintptr_t caller) {
    if (!memory || !atomic_load_explicit(&watching, memory_order_relaxed)) return;
    uintptr_t at = (uintptr_t)memory;
    lock_blocks();
    size_t i = slot_of(at);
    while (blocks[i].period == period && !blocks[i].freed) i = (i + 1) % SLOTS;
    if (blocks[i].period != period) taken[taken_count++] = (uint32_t)i;
    blocks[i] = (block){at, caller, bytes, ++block_number, period, false};
    unlock_blocks();
}

void blocks_forget(void *memory) {
    if (!memory || !atomic_load_explicit(&watching, memory_order_relaxed)) return;
    uintptr_t at = (uintptr_t)memory;
    lock_blocks();
    for (size_t i = slot_of(at); blocks[i].period == period; i = (i + 1) % SLOTS) {
        if (blocks[i].at != at || blocks[i].freed) continue;
        blocks[i].freed = true;
        break;
    }
    unlock_blocks();
}

void faults_watch(void) {
    lock_blocks();
    period++;
    block_number = taken_count = 0;
    unlock_blocks();
    atomic_store(&watching, true);
}

int64_t faults_watched(const char **where, size_t *bytes) {
    static char text[512];
    atomic_store(&watching, false);
    int64_t count = 0;
    size_t all = 0;
    const block *oldest = NULL;
    owners_note();
    for (uint32_t k = 0; k < taken_count; k++) {
        uint32_t i = taken[k];
        if (blocks[i].freed || owner_of(blocks[i].caller) != ANYONE) continue;
        count++;
        all += blocks[i].bytes;
        if (!oldest || blocks[i].number < oldest->number) oldest = &blocks[i];
    }
    Dl_info info = {0};
    text[0] = 0;
    if (oldest && dladdr((void *)oldest->caller, &info) != 0 && info.dli_fname)
        snprintf(text, sizeof text, "%zu bytes asked for at %s+0x%zx (%s)", oldest->bytes, info.dli_fname,
                 oldest->caller - (uintptr_t)info.dli_fbase, info.dli_sname ? info.dli_sname : "?");
    if (where) *where = text;
    if (bytes) *bytes = all;
    return count;
}
