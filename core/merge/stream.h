/* stream.h: the inside of a merge whose arithmetic the caller does. The merged tensors are cut into slots in the
 * order of the file, which have numbers. A slot is loaded, shown to the caller, stored (rounded to bytes),
 * written. All but the showing is done by whoever has time: the stream's own threads while the caller computes,
 * and the caller while it waits. What comes out does not depend on who did it. */
#ifndef DISTAC_MERGE_STREAM_H
#define DISTAC_MERGE_STREAM_H

#include "merge.h"
#include <pthread.h>
#include <sys/types.h>

/* SHOWN to the caller, GIVEN by a whole tensor, KEPT as the base has it, or BYTES of the base. Only the first are
 * loaded and wait for the caller. */
typedef enum { DI_SHOWN, DI_GIVEN, DI_KEPT, DI_BYTES, DI_NOTHING } di_slot_kind;
typedef enum { DI_PLANNED, DI_LOADING, DI_READY, DI_DONE, DI_STORING, DI_STORED, DI_BAD } di_slot_state;

typedef struct di_slot {
    di_slot_kind kind;
    di_slot_state state;
    int64_t entry, first, count;
    int64_t rows;   /* which rows it has, -1: none */
    bool turned;    /* goes to s->turning, at: where */
    size_t at, bytes;
} di_slot;

/* The task vectors of a whole tensor, as tensors: made by all, piece after piece. */
typedef struct di_stream_whole {
    int64_t entry, at, bytes; /* at: which unit is the entry's first */
    int64_t pieces, next, done, bad; /* bad: the first piece that failed, -1: none */
    distac_tensor **taus;
} di_stream_whole;

enum {
    DI_STREAM_WHOLES = 12
}; /* the one that is asked for, and some after it: between large tensors are small ones */
enum { DI_STREAM_PAD = 8 }; /* doubles between rows: callers may count from one */

struct distac_merge_stream {
    atomic_int refs;
    di_merge_run run;
    bool open, whole_tensors;
    distac_merge *merge;
    const distac_checkpoint *base; /* NULL: none */
    di_inputs inputs;
    di_sources base_bytes; /* of a base beside task vectors */
    di_written written;    /* to files */
    distac_checkpoint *made;
    distac_tensor **results;

    /* The caller's alone. */
    int64_t at, first;          /* what is planned next: unit, element of it */
    int64_t current;            /* number of the slot that is shown, -1: none */
    bool ended, waits, failed;  /* waits: a whole tensor is to be put */
    const distac_tensor *given; /* the result that is being put, contiguous */
    int64_t given_entry, asked; /* asked: the unit whose task vectors were asked for last */
    uint8_t *turning;           /* a tensor that lies transposed in the file, then as it lies there */
    size_t turning_bytes;
    int64_t turning_entry;

    int64_t chunk, slots, ring; /* elements; how many have rows; how many there are */
    double *rows;
    distac_tensor *rows_owner; /* they outlive the stream in views of them */
    uint8_t *bytes; /* [ring][slot_bytes] */
    size_t slot_bytes;
    /* Under the lock. Slot i is slot[i % ring]; all before `looked` have been
     * with the caller, before `planned` were planned, before `loading` taken to
     * be loaded, before `storing` to be stored, before `put` are written. */
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    di_slot *slot;
    di_stream_whole whole[DI_STREAM_WHOLES]; /* from whole_first on, in a ring; under the lock: next, done, bad */
    int32_t whole_first, whole_count;
    int64_t looked, planned, loading, storing, put;
    int64_t *free_rows, free_count, unfinished; /* unfinished: planned and neither stored nor bad */
    int64_t bad; /* the first that could not be stored, INT64_MAX: none */
    bool writing, stop, locks;
    distac_status write_status;
    char *write_text;
    int32_t sleeping, waiting;
    atomic_uint ticks; /* something may have come to do */
    pthread_t *thread;
    int32_t threads; /* running, besides the caller */
    pid_t pid;       /* whose they are; 0: not started */
};

static inline int32_t di_stream_rows(const distac_merge_stream *s) { return s->run.models + 2; }
static inline double *di_stream_row(const distac_merge_stream *s, int64_t rows, int32_t index) {
    return s->rows + DI_STREAM_PAD + (rows * di_stream_rows(s) + index) * (s->chunk + DI_STREAM_PAD);
}
static inline di_slot *di_stream_slot(const distac_merge_stream *s, int64_t number) {
    return &s->slot[number % s->ring];
}
static inline bool di_stream_has_base(const distac_merge_stream *s) { return s->run.whole || s->base; }
static inline const di_file_type *di_stream_type(const distac_merge_stream *s, int64_t entry) {
    return s->written.items[s->written.item_of[entry]].type;
}

static inline di_stream_whole *di_stream_whole_at(distac_merge_stream *s, int32_t i) {
    return &s->whole[(s->whole_first + i) % DI_STREAM_WHOLES];
}

/* What is gone through, one after the other: to files the output's tensors, in memory the entries. */
typedef struct di_stream_unit {
    int64_t entry, first, numel;
    bool turned;
} di_stream_unit;

static inline int64_t di_stream_units(const distac_merge_stream *s) {
    return s->written.order ? s->written.targets.count : s->run.base->count;
}
static inline di_stream_unit di_stream_unit_at(const distac_merge_stream *s, int64_t at) {
    if (!s->written.order) return (di_stream_unit){at, 0, s->run.base->entries[at]->numel, false};
    const di_target *t = &s->written.targets.list[s->written.order[at]];
    return (di_stream_unit){t->entry, t->first, t->numel, t->turned};
}
static inline di_slot_kind di_stream_kind(const distac_merge_stream *s, int64_t entry) {
    if (!di_entry_is_float(s->run.base->entries[entry])) return s->run.whole ? DI_BYTES : DI_NOTHING;
    if (s->run.factors[entry] == 0)
        return s->run.whole ? DI_KEPT : DI_NOTHING; /* in memory: zeros from the start */
    return s->whole_tensors ? DI_GIVEN : DI_SHOWN;
}

/* ---- stream_slot.c: the work on one slot, by one thread, which may be done again ---- */
distac_status di_slot_load(distac_merge_stream *s, const di_slot *slot);
distac_status di_slot_store(distac_merge_stream *s, di_slot *slot, uint8_t *bytes);
/* A piece of a whole tensor's task vectors. */
distac_status di_whole_piece(distac_merge_stream *s, int32_t lane, const di_stream_whole *whole, int64_t piece);

/* ---- stream_whole.c ---- */
void di_whole_free(const distac_merge_stream *s, di_stream_whole *whole);
/* The first is no longer needed; it is made. */
void di_whole_drop(distac_merge_stream *s);

/* ---- stream_crew.c: who does it ---- */
distac_status di_crew_open(distac_merge_stream *s);
void di_crew_close(distac_merge_stream *s);
/* Planned slots from s->planned on, to be counted in. */
void di_crew_plan(distac_merge_stream *s, int64_t count);
/* Until this slot can be shown. */
distac_status di_crew_ready(distac_merge_stream *s, int64_t number);
/* The caller is done with all before this number. */
distac_status di_crew_pass(distac_merge_stream *s, int64_t number);
/* Until all slots are stored; written, too. */
distac_status di_crew_finish(distac_merge_stream *s, bool written);
/* Does one thing or waits for somebody else's. */
distac_status di_crew_help(distac_merge_stream *s);
/* One more is there to be made: whole number whole_count from whole_first on. */
void di_crew_offer(distac_merge_stream *s);
/* Until the first is made; whether it failed is told if `wanted`. */
distac_status di_crew_whole(distac_merge_stream *s, bool wanted);
/* The first, which is made, is no longer needed. */
void di_crew_drop(distac_merge_stream *s);

#endif
