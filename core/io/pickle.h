/* pickle.h: a pickle read as data. A pickle is a program for a small machine that builds values and may ask for
 * any function of any library to be called; here it builds numbered values of a few kinds, names stay names, and
 * nothing is looked up or called. What a class would have made becomes an inert record of its parts. */
#ifndef DISTAC_PICKLE_H
#define DISTAC_PICKLE_H

#include "zip_read.h"

enum {
    DI_PICKLE_MAX_VALUES = 1 << 22,
    DI_PICKLE_MAX_MEMO = 1000000,
    DI_PICKLE_MAX_DEPTH = 64,     /* containers inside each other */
    DI_PICKLE_MAX_TREE = 1 << 24, /* values when every reference is written out */
    DI_PICKLE_MAX_TEXT = 65536,
    DI_PICKLE_MAX_SOURCE = 1 << 20, /* of a text in a legacy file, which holds classes' source text */
    DI_PICKLE_MAX_KEY = 4096,
    DI_PICKLE_MAX_NAME = 256 /* of a module, of a class */
};

typedef enum di_pickle_kind {
    DI_PICKLE_NONE,
    DI_PICKLE_BOOL,
    DI_PICKLE_INT,
    DI_PICKLE_FLOAT,
    DI_PICKLE_TEXT,
    DI_PICKLE_TUPLE,
    DI_PICKLE_LIST,
    DI_PICKLE_DICT,
    DI_PICKLE_NAME,   /* a class or function, by name only */
    DI_PICKLE_RECORD, /* an object of an unknown class */
    DI_PICKLE_STORAGE,
    DI_PICKLE_TENSOR,
    DI_PICKLE_BYTES
} di_pickle_kind;

/* What a name stands for here. */
typedef enum di_pickle_role {
    DI_ROLE_CLASS,    /* makes an inert record when called */
    DI_ROLE_FUNCTION, /* may be kept as a name, must not be called */
    DI_ROLE_ORDERED_DICT,
    DI_ROLE_TENSOR,
    DI_ROLE_PARAMETER,
    DI_ROLE_PARAMETER_STATE,
    DI_ROLE_RECONSTRUCT,
    DI_ROLE_GETATTR,
    DI_ROLE_SET,
    DI_ROLE_STORAGE,      /* an element type */
    DI_ROLE_STORAGE_BYTES /* a storage saved as bytes of its own, in plain pickles */
} di_pickle_role;

/* A value: index 0 is None. Fields by kind:
 *   BOOL, INT number; FLOAT real; TEXT text, a bytes; TUPLE, LIST, DICT a first cell, b last cell, c count;
 *   NAME text: "module\nname", a and b their lengths, role;
 *   RECORD a class, b arguments, c state (values), first and last: cells of items;
 *   STORAGE a class, b key (values), number elements; has_state: the elements stand at `at`;
 *   TENSOR a storage, b arguments (values), number free for the reader;
 *   BYTES number: how many, from `at` on. */
typedef struct di_pickle_value {
    uint8_t kind, role;
    bool has_state;
    uint32_t a, b, c;
    union {
        int64_t number;
        double real;
        const char *text;
        struct {
            uint32_t first, last;
        } items;
    } u;
    uint64_t at; /* offset in the file */
} di_pickle_value;

/* An element of a container. key 0: none. Cell 0 ends a chain. */
typedef struct di_pickle_cell {
    uint32_t value, key, next;
    bool has_key;
} di_pickle_cell;

/* Where a pickle stands, which decides what it may say. */
typedef enum di_pickle_place {
    DI_PICKLE_ARCHIVE, /* data.pkl of an archive: protocol 2, storages by persistent ids */
    DI_PICKLE_STACKED, /* in a file of stacked pickles: persistent ids may name modules' sources too */
    DI_PICKLE_PLAIN    /* a file by pickle.dump: protocols 2 to 5, storages as bytes inside */
} di_pickle_place;

/* Text that stands nowhere in the file in one piece. */
typedef struct di_pickle_note {
    struct di_pickle_note *next;
    char text[];
} di_pickle_note;

typedef struct di_pickle {
    const char *path;
    const uint8_t *data; /* the file */
    uint64_t at, limit;
    uint32_t text_limit;
    di_pickle_place place;
    di_pickle_note *notes;
    di_pickle_value *values;
    uint32_t count, capacity;
    di_pickle_cell *cells;
    uint32_t cell_count, cell_capacity;
    uint32_t *stack;
    uint32_t depth, stack_capacity;
    uint32_t *marks; /* heights of the stack */
    uint32_t mark_count, mark_capacity;
    uint64_t *memo; /* open addressing: index + 1 in the upper half, value in the lower, 0 free */
    uint32_t memo_count, memo_capacity;
    uint32_t root;
} di_pickle;

/* Runs the pickle at data[from, to); at is then behind its STOP. Close it also on failure. */
distac_status di_pickle_read(di_pickle *p, const char *path, const uint8_t *data, uint64_t from, uint64_t to,
                             di_pickle_place place);
void di_pickle_close(di_pickle *p);

const char *di_pickle_kind_name(const di_pickle *p, uint32_t value); /* "a text", "an object of m.C" in buffer */
/* The value's class as "module.name" into buffer: a NAME or a RECORD. */
const char *di_pickle_class(const di_pickle *p, uint32_t value, char buffer[160]);
bool di_pickle_is(const di_pickle *p, uint32_t value, di_pickle_kind kind);
bool di_pickle_text_is(const di_pickle *p, uint32_t value, const char *text);
/* The value under a text key of a DICT; false when it is not there. */
bool di_pickle_get(const di_pickle *p, uint32_t dict, const char *key, uint32_t *out);
/* The items of a TUPLE of exactly so many; false otherwise. */
bool di_pickle_tuple(const di_pickle *p, uint32_t tuple, uint32_t count, uint32_t *out);

/* ---- building (pickle_value.c) ---- */
distac_status di_pickle_new(di_pickle *p, di_pickle_kind kind, uint64_t at, uint32_t *out);
distac_status di_pickle_push(di_pickle *p, uint32_t value);
distac_status di_pickle_add(di_pickle *p, uint32_t container, bool has_key, uint32_t key, uint32_t value);
distac_status di_pickle_memo_put(di_pickle *p, uint32_t index, uint32_t value, uint64_t at);
distac_status di_pickle_memo_get(const di_pickle *p, uint32_t index, uint64_t at, uint32_t *out);

/* Text of the pickle's own, freed with it. */
distac_status di_pickle_write(di_pickle *p, const char *text, size_t bytes, const char **out);
/* The next `count` bytes, which are passed. (pickle_read.c) */
distac_status di_pickle_take(di_pickle *p, uint64_t count, const uint8_t **out);
distac_status di_pickle_number(di_pickle *p, uint64_t width, uint64_t *out);
distac_status di_pickle_push_text(di_pickle *p, uint64_t at, uint64_t width);
/* Height of the stack at the last MARK, which is passed. */
distac_status di_pickle_pop_mark(di_pickle *p, uint64_t at, const char *op, uint32_t *height);
distac_status di_pickle_need(di_pickle *p, uint64_t at, const char *op, uint32_t count);

/* ---- plain pickles (pickle_plain.c) ---- */
/* Carries out an opcode that only protocols 3 to 5 have; known: whether it is one. */
distac_status di_pickle_plain_step(di_pickle *p, uint64_t at, uint8_t op, bool *known);
/* The storage that torch.save wrote into the BYTES value, with where its elements stand in the file. */
distac_status di_pickle_storage_bytes(di_pickle *p, uint32_t bytes, uint64_t at, uint32_t *out);

/* ---- names and calls (pickle_name.c, pickle_call.c) ---- */
/* Decides what a name stands for; names that reach the system are refused. */
distac_status di_pickle_name(const di_pickle *p, di_pickle_value *name);
/* The value that calling `name` with `arguments` stands for. */
distac_status di_pickle_call(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out);
distac_status di_pickle_object(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out);
distac_status di_pickle_build(di_pickle *p, uint32_t object, uint32_t state, uint64_t at);
distac_status di_pickle_persistent(di_pickle *p, uint32_t id, uint64_t at, uint32_t *out);

/* ---- the finished values (pickle_check.c) ---- */
/* No value holds itself, nesting and the written-out size are bounded, no dictionary has a key twice. */
distac_status di_pickle_check(const di_pickle *p);

#endif
