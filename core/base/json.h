/* json.h: a strict JSON reader (json.c). Private to core/. */
#ifndef DISTAC_JSON_H
#define DISTAC_JSON_H

#include "base.h"

typedef enum {
    DI_JSON_NULL,
    DI_JSON_FALSE,
    DI_JSON_TRUE,
    DI_JSON_INTEGER,
    DI_JSON_REAL,
    DI_JSON_TEXT,
    DI_JSON_LIST,
    DI_JSON_OBJECT
} di_json_kind;

typedef struct di_json {
    di_json_kind kind;
    const char *key;            /* of a member of an object */
    const struct di_json *next; /* the next item or member */
    int64_t integer;            /* of an integer */
    double real;                /* of an integer or a real number */
    const char *text;           /* of a text: UTF-8, without the character NUL */
    size_t count;               /* items, members, or bytes of a text */
    struct di_json *first;      /* of a list or an object, in the order of the file */
    size_t at;                  /* of a member: where its name stands */
} di_json;

enum { DI_JSON_ROOM = 1024 };
/* A value and all that it holds: small ones need no memory of the system. */
typedef struct di_json_document {
    const di_json *root;
    void *blocks;
    size_t used;
    _Alignas(16) unsigned char room[DI_JSON_ROOM];
} di_json_document;

/* Reads exactly one value. On failure nothing has to be freed: ENOMEM with its text set, or EFORMAT without one:
 * *at is the offset and *rule what is wrong there. */
distac_status di_json_read(const char *text, size_t bytes, di_json_document *out, size_t *at, const char **rule);
void di_json_free(di_json_document *document);
/* The member of an object, NULL if there is none (or no object). */
const di_json *di_json_get(const di_json *object, const char *key);
/* The text of a value, NULL if it is none (or NULL). */
const char *di_json_text(const di_json *value);
static inline bool di_json_is(const di_json *value, di_json_kind kind) { return value && value->kind == kind; }
static inline bool di_json_is_number(const di_json *value) {
    return di_json_is(value, DI_JSON_INTEGER) || di_json_is(value, DI_JSON_REAL);
}

#endif
