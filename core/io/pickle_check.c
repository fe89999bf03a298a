/* pickle_check.c: what can only be told of a finished pickle: no value holds itself, nothing is nested too deep,
 * and the values do not grow beyond bounds when every reference to a shared one is written out, as happens when a
 * module's names are made. One walk without recursion, each value once. */
#include "pickle.h"
#include <stdlib.h>
#include <string.h>

typedef struct node {
    uint32_t tree;  /* values in it, shared ones counted at every use; 0: not seen */
    uint8_t height; /* of the containers below */
    bool open;      /* on the way from the root */
} node;

typedef struct frame {
    uint32_t value, cell;
    int stage; /* 0 arguments, 1 state, 2 key, 3 value */
    uint64_t tree;
    uint8_t height;
} frame;

/* The next value below the one of the frame; false when there is none left. */
static bool next(const di_pickle *p, frame *f, uint32_t *child) {
    const di_pickle_value *v = &p->values[f->value];
    if (f->stage == 0) {
        f->stage = 1;
        f->cell = v->kind == DI_PICKLE_RECORD ? v->u.items.first
                  : v->kind == DI_PICKLE_TUPLE || v->kind == DI_PICKLE_LIST || v->kind == DI_PICKLE_DICT ? v->a
                                                                                                         : 0;
        if (v->kind == DI_PICKLE_RECORD || v->kind == DI_PICKLE_TENSOR) {
            *child = v->b;
            return true;
        }
    }
    if (f->stage == 1) {
        f->stage = 2;
        if (v->kind == DI_PICKLE_RECORD && v->has_state) {
            *child = v->c;
            return true;
        }
    }
    if (!f->cell) return false;
    const di_pickle_cell *cell = &p->cells[f->cell];
    if (f->stage == 2) {
        f->stage = 3;
        if (cell->has_key) {
            *child = cell->key;
            return true;
        }
    }
    *child = cell->value;
    f->cell = cell->next;
    f->stage = 2;
    return true;
}

static distac_status too_deep(const di_pickle *p, uint32_t value) {
    return di_pt_fail(p->path, p->values[value].at, "values are nested more than %d deep",
                      (int)DI_PICKLE_MAX_DEPTH);
}

static distac_status walk(const di_pickle *p, node *nodes) {
    frame frames[DI_PICKLE_MAX_DEPTH + 2];
    int depth = 0;
    char shown[160];
    frames[0] = (frame){.value = p->root, .tree = 1};
    nodes[p->root].open = true;
    while (depth >= 0) {
        frame *f = &frames[depth];
        uint32_t child;
        if (next(p, f, &child)) {
            node *n = &nodes[child];
            if (n->open)
                return di_pt_fail(p->path, p->values[child].at, "%s holds itself",
                                  di_pickle_class(p, child, shown));
            if (n->tree) {
                if (depth + 1 + n->height > DI_PICKLE_MAX_DEPTH) return too_deep(p, child);
                f->tree += n->tree;
                if (n->height + 1 > f->height) f->height = (uint8_t)(n->height + 1);
            } else {
                if (depth + 1 > DI_PICKLE_MAX_DEPTH) return too_deep(p, child);
                n->open = true;
                frames[++depth] = (frame){.value = child, .tree = 1};
            }
        } else {
            node *n = &nodes[f->value];
            n->open = false;
            n->tree = (uint32_t)f->tree;
            n->height = f->height;
            if (--depth >= 0) {
                frames[depth].tree += n->tree;
                if (n->height + 1 > frames[depth].height) frames[depth].height = (uint8_t)(n->height + 1);
            }
        }
        if (depth >= 0 && frames[depth].tree > DI_PICKLE_MAX_TREE)
            return di_pt_fail(p->path, p->values[frames[depth].value].at,
                              "the references to shared values grow to more than %d values",
                              (int)DI_PICKLE_MAX_TREE);
    }
    return DISTAC_OK;
}

/* ---- keys ---- */

typedef struct key {
    const di_pickle_value *value;
} key;

static int compare_keys(const void *a, const void *b) {
    const di_pickle_value *x = ((const key *)a)->value, *y = ((const key *)b)->value;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == DI_PICKLE_INT) return x->u.number < y->u.number ? -1 : x->u.number > y->u.number;
    int order = memcmp(x->u.text, y->u.text, x->a < y->a ? x->a : y->a);
    return order ? order : x->a < y->a ? -1 : x->a > y->a;
}

/* Texts and integers are compared; other keys are of no use to us. */
static distac_status check_keys(const di_pickle *p, uint32_t first, key *keys) {
    uint32_t count = 0;
    char shown[80];
    for (uint32_t cell = first; cell; cell = p->cells[cell].next) {
        const di_pickle_value *k = &p->values[p->cells[cell].key];
        if (p->cells[cell].has_key && (k->kind == DI_PICKLE_TEXT || k->kind == DI_PICKLE_INT))
            keys[count++].value = k;
    }
    if (count) qsort(keys, count, sizeof *keys, compare_keys);
    for (uint32_t i = 1; i < count; i++) {
        const di_pickle_value *k = keys[i].value;
        if (compare_keys(&keys[i - 1], &keys[i]) != 0) continue;
        if (k->kind == DI_PICKLE_INT)
            return di_pt_fail(p->path, k->at, "a dictionary has the key %lld twice", (long long)k->u.number);
        return di_pt_fail(p->path, k->at, "a dictionary has the key \"%s\" twice",
                          di_pt_shown(k->u.text, k->a, shown));
    }
    return DISTAC_OK;
}

distac_status di_pickle_check(const di_pickle *p) {
    distac_status status = DISTAC_OK;
    node *nodes = di_new(p->count * sizeof *nodes);
    key *keys = nodes ? di_new((p->cell_count + 1) * sizeof *keys) : NULL;
    if (!nodes || !keys) status = DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = walk(p, nodes);
    for (uint32_t i = 0; i < p->count && status == DISTAC_OK; i++) {
        const di_pickle_value *v = &p->values[i];
        uint32_t first = v->kind == DI_PICKLE_DICT ? v->a : v->kind == DI_PICKLE_RECORD ? v->u.items.first : 0;
        if (first) status = check_keys(p, first, keys);
    }
    free(keys);
    free(nodes);
    return status;
}
