/* text.h: CLIP's tokenizer and text encoder from the inside.
 *
 * The way of a text: UTF-8 to code points (normalize.c), HTML entities out (unescape.c), whitespace and case
 * (normalize.c), words (split.c), byte symbols merged by rank (bpe.c). Every step is linear in the text but the
 * last, which is n log n in the longest word. */
#ifndef DISTAC_TEXT_H
#define DISTAC_TEXT_H

#include "../tensor/tensor.h"

enum {
    DI_TEXT_LIMIT = 16 << 20,        /* bytes of a text */
    DI_VOCAB_LIMIT = 32 << 20,       /* bytes of a vocabulary file, unpacked */
    DI_SYMBOL_LIMIT = 1 << 20,       /* symbols of a vocabulary */
    DI_SYMBOL_BYTES = 1024,          /* bytes of a symbol */
    DI_CLIP_MERGES = 49152 - 256 - 2 /* of bpe_simple_vocab_16e6.txt, which has more lines than CLIP uses */
};

/* Code points of a text, from di_alloc. */
typedef struct di_points {
    uint32_t *at;
    size_t count, capacity;
} di_points;

/* A merge that begins with a given symbol. */
typedef struct di_follower {
    int32_t right, rank, result;
} di_follower;

struct distac_tokenizer {
    atomic_int refs;
    distac_context *context; /* retained */
    char *texts;             /* the symbols' texts, one after the other, no zero bytes between */
    size_t text_bytes, text_room;
    uint32_t *begin; /* [count+1] */
    int32_t count, room;
    int32_t *sorted;        /* [count] ids by text, then id */
    int32_t *first;         /* [count+1] followers of symbol s: first[s] … first[s+1]-1, sorted by right */
    di_follower *followers; /* [merges] */
    int32_t merges;
    int32_t symbol[256][2]; /* of a byte; [1]: at the end of a word */
    int32_t start, end;
    char hash[65];
};

/* ---- normalize.c ---- */
distac_status di_points_new(distac_context *context, size_t capacity, di_points *out);
void di_points_free(distac_context *context, di_points *points);
/* Strict UTF-8. */
distac_status di_points_decode(distac_context *context, const char *text, size_t bytes, di_points *out);
/* Ends cut as str.strip does, runs of whitespace to one space. In place. */
void di_points_collapse(di_points *points);
/* Full lower-casing with the final sigma, as str.lower does. */
distac_status di_points_lower(distac_context *context, const di_points *from, di_points *out);

/* ---- unescape.c ---- */
/* One round of html.unescape, in place. */
void di_points_unescape(di_points *points);

/* ---- split.c ---- */
typedef enum di_word_kind { DI_WORD, DI_WORD_START, DI_WORD_END } di_word_kind;
/* The next word at or after *at: its first point to *from, *at to behind its last. False: none is left. */
bool di_word_next(const di_points *points, size_t *at, size_t *from, di_word_kind *kind);

/* ---- bpe.c ---- */
typedef struct di_ids {
    int64_t *at;
    size_t count, capacity;
} di_ids;
/* Memory of the merging, used again from word to word. */
typedef struct di_merger {
    int32_t *symbol, *previous, *next; /* [capacity] */
    uint64_t *heap;                    /* [2*capacity] rank << 32 | position */
    size_t capacity;
} di_merger;
distac_status di_ids_reserve(distac_context *context, di_ids *ids, size_t more);
void di_ids_free(distac_context *context, di_ids *ids);
/* Appends the ids of one word; bytes at least 1. */
distac_status di_bpe_word(const distac_tokenizer *tokenizer, di_merger *merger, const uint8_t *word, size_t bytes,
                          di_ids *out);
void di_merger_free(distac_context *context, di_merger *merger);

/* ---- vocab.c ---- */
/* Id of a text, -1 if there is none. Of equal texts the last counts. Needs di_vocab_sort before. */
int32_t di_vocab_find(const distac_tokenizer *tokenizer, const char *text, size_t bytes);
/* Text of an id, not terminated. */
const char *di_vocab_text(const distac_tokenizer *tokenizer, int32_t id, size_t *bytes);
/* Appends a symbol under the next id. */
distac_status di_vocab_add(distac_tokenizer *tokenizer, const char *text, size_t bytes);
/* The text of a byte, at most 2 bytes; their number is returned. And back: -1 if the point stands for no byte. */
size_t di_byte_text(uint8_t byte, char out[4]);
int32_t di_byte_of(uint32_t point);
distac_status di_vocab_sort(distac_tokenizer *tokenizer);
/* One line of a file of merges: both halves. */
typedef struct di_merge_line {
    const char *left, *right;
    size_t left_bytes, right_bytes;
    int32_t line; /* 1-based, for messages */
} di_merge_line;
/* Looks up merges (rank: their index), the bytes' symbols, start and end; makes the hash. file is for messages. */
distac_status di_vocab_finish(distac_tokenizer *tokenizer, const char *file, int32_t count,
                              const di_merge_line *merges);

/* ---- vocab_read.c ---- */
distac_status di_vocab_read(distac_tokenizer *tokenizer, const char *path);
/* The same from memory, for tests: json NULL: a file of merges that numbers its symbols itself. */
distac_status di_vocab_parse(distac_tokenizer *tokenizer, const char *json_name, const char *json,
                             size_t json_bytes, const char *name, const char *text, size_t bytes);

#endif
