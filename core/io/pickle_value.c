/* pickle_value.c: the values that a pickle builds: growing lists of values and cells, the stack, the memo, and
 * looking at finished values. Indices in place of pointers keep a value at 40 bytes and make freeing one step. */
#include "pickle.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more in a list of items of `size` bytes. */
static distac_status room(void **list, uint32_t count, uint32_t *capacity, size_t size) {
    if (count < *capacity) return DISTAC_OK;
    uint32_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = di_grow(*list, wanted * size);
    if (!grown) return DISTAC_ENOMEM;
    *list = grown;
    *capacity = wanted;
    return DISTAC_OK;
}

distac_status di_pickle_new(di_pickle *p, di_pickle_kind kind, uint64_t at, uint32_t *out) {
    void *list = p->values;
    if (p->count >= DI_PICKLE_MAX_VALUES)
        return di_pt_fail(p->path, at, "the pickle makes more than %d values", (int)DI_PICKLE_MAX_VALUES);
    DI_TRY(room(&list, p->count, &p->capacity, sizeof *p->values));
    p->values = list;
    *out = p->count++;
    p->values[*out] = (di_pickle_value){.kind = (uint8_t)kind, .at = at};
    return DISTAC_OK;
}

distac_status di_pickle_push(di_pickle *p, uint32_t value) {
    void *list = p->stack;
    if (p->depth >= DI_PICKLE_MAX_VALUES)
        return di_pt_fail(p->path, p->at, "the pickle's stack holds more than %d values",
                          (int)DI_PICKLE_MAX_VALUES);
    DI_TRY(room(&list, p->depth, &p->stack_capacity, sizeof *p->stack));
    p->stack = list;
    p->stack[p->depth++] = value;
    return DISTAC_OK;
}

/* A key that Python could not hash either is refused. */
static distac_status check_key(const di_pickle *p, uint32_t key, uint64_t at) {
    const di_pickle_value *k = &p->values[key];
    switch (k->kind) {
    case DI_PICKLE_LIST:
    case DI_PICKLE_DICT:
    case DI_PICKLE_TENSOR:
    case DI_PICKLE_STORAGE:
    case DI_PICKLE_BYTES:
        return di_pt_fail(p->path, at, "a dictionary's key is %s", di_pickle_kind_name(p, key));
    case DI_PICKLE_TEXT:
        if (k->a > DI_PICKLE_MAX_KEY)
            return di_pt_fail(p->path, at, "a dictionary's key has %u bytes, at most %d are allowed", k->a,
                              (int)DI_PICKLE_MAX_KEY);
        return DISTAC_OK;
    default:
        return DISTAC_OK;
    }
}

distac_status di_pickle_add(di_pickle *p, uint32_t container, bool has_key, uint32_t key, uint32_t value) {
    if (has_key) DI_TRY(check_key(p, key, p->at - 1)); /* the opcode that is being read */
    if (p->cell_count == 0) p->cell_count = 1;         /* cell 0 is no cell */
    /* A reference costs two bytes of the pickle, so this is bounded by the file too. */
    if (p->cell_count >= 4 * (uint32_t)DI_PICKLE_MAX_VALUES)
        return di_pt_fail(p->path, p->at, "the pickle's containers hold more than %d values",
                          4 * (int)DI_PICKLE_MAX_VALUES);
    void *list = p->cells;
    DI_TRY(room(&list, p->cell_count, &p->cell_capacity, sizeof *p->cells));
    p->cells = list;
    uint32_t cell = p->cell_count++;
    p->cells[cell] = (di_pickle_cell){.value = value, .key = key, .has_key = has_key};
    di_pickle_value *v = &p->values[container];
    bool record = v->kind == DI_PICKLE_RECORD;
    uint32_t *first = record ? &v->u.items.first : &v->a, *last = record ? &v->u.items.last : &v->b;
    if (*last)
        p->cells[*last].next = cell;
    else
        *first = cell;
    *last = cell;
    if (!record) v->c++;
    return DISTAC_OK;
}

void di_pickle_close(di_pickle *p) {
    free(p->values);
    free(p->cells);
    free(p->stack);
    free(p->marks);
    free(p->memo);
    for (di_pickle_note *note = p->notes, *next; note; note = next) {
        next = note->next;
        free(note);
    }
    *p = (di_pickle){0};
}

distac_status di_pickle_write(di_pickle *p, const char *text, size_t bytes, const char **out) {
    di_pickle_note *note = di_new(sizeof *note + bytes + 1);
    if (!note) return DISTAC_ENOMEM;
    memcpy(note->text, text, bytes);
    note->next = p->notes;
    p->notes = note;
    *out = note->text;
    return DISTAC_OK;
}

/* ---- the memo ---- */

/* Indices as Python counts them never meet; those of a file made to be slow do, and are refused. */
enum { MAX_STEPS = 256, NOWHERE = -1 };

static int64_t place(const di_pickle *p, uint32_t index) {
    uint32_t at = (index * 2654435761u) & (p->memo_capacity - 1);
    for (int step = 0; step < MAX_STEPS; step++, at = (at + 1) & (p->memo_capacity - 1))
        if (!p->memo[at] || p->memo[at] >> 32 == (uint64_t)index + 1) return at;
    return NOWHERE;
}

static distac_status crowded(const di_pickle *p, uint32_t index, uint64_t at) {
    return di_pt_fail(p->path, at, "memo entry %u: the entries' numbers are chosen to make reading slow", index);
}

static distac_status grow_memo(di_pickle *p, uint64_t at) {
    uint32_t old_capacity = p->memo_capacity;
    uint64_t *old = p->memo, *grown = di_new((old_capacity ? 2 * old_capacity : 256) * sizeof *grown);
    distac_status status = DISTAC_OK;
    if (!grown) return DISTAC_ENOMEM;
    p->memo = grown;
    p->memo_capacity = old_capacity ? 2 * old_capacity : 256;
    for (uint32_t i = 0; i < old_capacity && status == DISTAC_OK; i++) {
        if (!old[i]) continue;
        uint32_t index = (uint32_t)((old[i] >> 32) - 1);
        int64_t slot = place(p, index);
        if (slot == NOWHERE)
            status = crowded(p, index, at);
        else
            grown[slot] = old[i];
    }
    free(old);
    return status;
}

distac_status di_pickle_memo_put(di_pickle *p, uint32_t index, uint32_t value, uint64_t at) {
    if (index == UINT32_MAX || p->memo_count >= DI_PICKLE_MAX_MEMO)
        return di_pt_fail(p->path, at, "memo entry %u: more than %d entries are not allowed", index,
                          (int)DI_PICKLE_MAX_MEMO);
    if (2 * p->memo_count >= p->memo_capacity) DI_TRY(grow_memo(p, at));
    int64_t slot = place(p, index);
    if (slot == NOWHERE) return crowded(p, index, at);
    if (!p->memo[slot]) p->memo_count++;
    p->memo[slot] = ((uint64_t)index + 1) << 32 | value;
    return DISTAC_OK;
}

distac_status di_pickle_memo_get(const di_pickle *p, uint32_t index, uint64_t at, uint32_t *out) {
    int64_t slot = p->memo_capacity && index != UINT32_MAX ? place(p, index) : NOWHERE;
    if (slot == NOWHERE || !p->memo[slot])
        return di_pt_fail(p->path, at, "memo entry %u is read, but was never written", index);
    *out = (uint32_t)p->memo[slot];
    return DISTAC_OK;
}

/* ---- looking ---- */

const char *di_pickle_kind_name(const di_pickle *p, uint32_t value) {
    static const char *const names[] = {
        "None",         "a boolean", "an integer", "a number",           "a text",  "a tuple", "a list",
        "a dictionary", "a name",    "an object",  "a tensor's storage", "a tensor", "bytes"};
    return names[p->values[value].kind];
}

const char *di_pickle_class(const di_pickle *p, uint32_t value, char buffer[160]) {
    const di_pickle_value *v = &p->values[value];
    char module[80], name[80];
    if (v->kind == DI_PICKLE_RECORD) v = &p->values[v->a];
    if (v->kind != DI_PICKLE_NAME) {
        snprintf(buffer, 160, "%s", di_pickle_kind_name(p, (uint32_t)(v - p->values)));
        return buffer;
    }
    snprintf(buffer, 160, "%s.%s", di_pt_shown(v->u.text, v->a, module),
             di_pt_shown(v->u.text + v->a + 1, v->b, name));
    return buffer;
}

bool di_pickle_is(const di_pickle *p, uint32_t value, di_pickle_kind kind) {
    return p->values[value].kind == kind;
}

bool di_pickle_text_is(const di_pickle *p, uint32_t value, const char *text) {
    const di_pickle_value *v = &p->values[value];
    return v->kind == DI_PICKLE_TEXT && v->a == strlen(text) && memcmp(v->u.text, text, v->a) == 0;
}

bool di_pickle_get(const di_pickle *p, uint32_t dict, const char *key, uint32_t *out) {
    const di_pickle_value *d = &p->values[dict];
    if (d->kind != DI_PICKLE_DICT) return false;
    for (uint32_t cell = d->a; cell; cell = p->cells[cell].next)
        if (di_pickle_text_is(p, p->cells[cell].key, key)) {
            *out = p->cells[cell].value;
            return true;
        }
    return false;
}

bool di_pickle_tuple(const di_pickle *p, uint32_t tuple, uint32_t count, uint32_t *out) {
    const di_pickle_value *t = &p->values[tuple];
    if (t->kind != DI_PICKLE_TUPLE || t->c != count) return false;
    uint32_t i = 0;
    for (uint32_t cell = t->a; cell; cell = p->cells[cell].next) out[i++] = p->cells[cell].value;
    return true;
}
