/* pt_names.c: finds the tensors in what a PyTorch file holds and gives them the names that state_dict() would: the
 * keys of a dictionary of tensors, or the way to a parameter through a whole module's children. */
#include "pt_read.h"
#include <string.h>

enum { MAX_UNSAVED = 1000, MAX_NAME_BYTES = 64 << 20 };

/* A name under construction. */
typedef struct path {
    char text[DI_ST_MAX_NAME];
    size_t bytes;
} path;

static distac_status lengthen(di_pt *pt, path *name, uint32_t key, uint64_t at, bool part) {
    const di_pickle_value *k = &pt->pickle.values[key];
    char shown[80];
    if (k->kind != DI_PICKLE_TEXT)
        return di_pt_fail(pt->path, at, "a tensor's name is %s, wanted a text",
                          di_pickle_kind_name(&pt->pickle, key));
    if (k->a == 0) return di_pt_fail(pt->path, k->at, "a tensor's name is empty");
    if (memchr(k->u.text, 0, k->a)) return di_pt_fail(pt->path, k->at, "a tensor's name holds the character NUL");
    if (part && memchr(k->u.text, '.', k->a))
        return di_pt_fail(pt->path, k->at, "the part \"%s\" of a module holds a dot",
                          di_pt_shown(k->u.text, k->a, shown));
    if (name->bytes + 1 + k->a > sizeof name->text)
        return di_pt_fail(pt->path, k->at, "a tensor's name has more than %u bytes", DI_ST_MAX_NAME);
    if (name->bytes) name->text[name->bytes++] = '.';
    memcpy(name->text + name->bytes, k->u.text, k->a);
    name->bytes += k->a;
    if (name->bytes == 12 && memcmp(name->text, "__metadata__", 12) == 0)
        return di_pt_fail(pt->path, k->at, "the name \"__metadata__\" is reserved for metadata");
    return DISTAC_OK;
}

static distac_status add(di_pt *pt, const path *name, uint32_t tensor) {
    pt->name_bytes += (int64_t)name->bytes;
    if (pt->name_bytes > MAX_NAME_BYTES)
        return di_pt_fail(pt->path, pt->pickle.values[tensor].at, "the tensors' names take more than %d bytes",
                          (int)MAX_NAME_BYTES);
    return di_pt_add(pt, name->text, name->bytes, tensor);
}

/* What stands where a tensor should. */
static const char *what(const di_pt *pt, uint32_t value, char buffer[200]) {
    char name[160];
    const di_pickle *p = &pt->pickle;
    if (!di_pickle_is(p, value, DI_PICKLE_RECORD)) return di_pickle_kind_name(p, value);
    di_pickle_class(p, value, name);
    memcpy(buffer, "an object of ", 13);
    memcpy(buffer + 13, name, strlen(name) + 1);
    return buffer;
}

/* ---- whole modules ---- */

typedef struct module {
    uint32_t cell; /* the next child */
    size_t bytes;  /* of the name up to here */
} module;

/* The dictionaries of a module's state; false when the object is no module. */
static bool open_module(const di_pt *pt, uint32_t value, uint32_t parts[3], uint32_t *unsaved) {
    const di_pickle *p = &pt->pickle;
    const di_pickle_value *v = &p->values[value];
    *unsaved = 0;
    if (v->kind != DI_PICKLE_RECORD || !v->has_state) return false;
    if (!di_pickle_get(p, v->c, "_parameters", &parts[0]) || !di_pickle_get(p, v->c, "_buffers", &parts[1]) ||
        !di_pickle_get(p, v->c, "_modules", &parts[2]))
        return false;
    if (!di_pickle_get(p, v->c, "_non_persistent_buffers_set", unsaved)) *unsaved = 0;
    for (int i = 0; i < 3; i++)
        if (!di_pickle_is(p, parts[i], DI_PICKLE_DICT)) return false;
    return true;
}

/* The list behind a set of names; 0 when there is none. */
static distac_status open_set(const di_pt *pt, uint32_t set, uint32_t *first) {
    const di_pickle *p = &pt->pickle;
    const di_pickle_value *v = &p->values[set];
    uint32_t list;
    *first = 0;
    if (set == 0) return DISTAC_OK;
    if (v->kind != DI_PICKLE_RECORD || p->values[v->a].role != DI_ROLE_SET ||
        (p->values[v->b].c != 0 && !di_pickle_tuple(p, v->b, 1, &list)))
        return di_pt_fail(pt->path, v->at, "_non_persistent_buffers_set is %s, wanted a set",
                          di_pickle_kind_name(p, set));
    if (p->values[v->b].c == 0) return DISTAC_OK;
    if (!di_pickle_is(p, list, DI_PICKLE_LIST) || p->values[list].c > MAX_UNSAVED)
        return di_pt_fail(pt->path, v->at, "_non_persistent_buffers_set must list at most %d names",
                          (int)MAX_UNSAVED);
    *first = p->values[list].a;
    return DISTAC_OK;
}

static bool in_set(const di_pickle *p, uint32_t first, uint32_t key) {
    const di_pickle_value *k = &p->values[key];
    for (uint32_t cell = first; cell; cell = p->cells[cell].next) {
        const di_pickle_value *v = &p->values[p->cells[cell].value];
        if (v->kind == DI_PICKLE_TEXT && k->kind == DI_PICKLE_TEXT && v->a == k->a &&
            memcmp(v->u.text, k->u.text, k->a) == 0)
            return true;
    }
    return false;
}

/* The tensors of one dictionary of a module; None entries are registered and absent. */
static distac_status add_own(di_pt *pt, path *name, uint32_t dict, uint32_t unsaved) {
    const di_pickle *p = &pt->pickle;
    size_t bytes = name->bytes;
    char shown[80], buffer[200];
    for (uint32_t cell = p->values[dict].a; cell; cell = p->cells[cell].next) {
        uint32_t key = p->cells[cell].key, value = p->cells[cell].value;
        if (di_pickle_is(p, value, DI_PICKLE_NONE) || in_set(p, unsaved, key)) continue;
        DI_TRY(lengthen(pt, name, key, p->values[dict].at, true));
        if (!di_pickle_is(p, value, DI_PICKLE_TENSOR))
            return di_pt_fail(pt->path, p->values[value].at, "\"%s\" is %s, wanted a tensor",
                              di_pt_shown(name->text, name->bytes, shown), what(pt, value, buffer));
        DI_TRY(add(pt, name, value));
        name->bytes = bytes;
    }
    return DISTAC_OK;
}

/* Adds a module's own tensors and leaves its children to `out`. */
static distac_status enter(di_pt *pt, path *name, uint32_t value, module *out) {
    uint32_t parts[3], set, unsaved = 0;
    char shown[80], buffer[200];
    if (!open_module(pt, value, parts, &set))
        return di_pt_fail(pt->path, pt->pickle.values[value].at,
                          "\"%s\" is %s, which is no torch.nn.Module (it has no _parameters, _buffers, _modules)",
                          di_pt_shown(name->text, name->bytes, shown), what(pt, value, buffer));
    DI_TRY(open_set(pt, set, &unsaved));
    DI_TRY(add_own(pt, name, parts[0], 0));
    DI_TRY(add_own(pt, name, parts[1], unsaved));
    *out = (module){pt->pickle.values[parts[2]].a, name->bytes};
    return DISTAC_OK;
}

/* The pickle's nesting is checked already, so that many levels suffice. */
static distac_status add_module(di_pt *pt, uint32_t root) {
    const di_pickle *p = &pt->pickle;
    module levels[DI_PICKLE_MAX_DEPTH];
    path name = {.bytes = 0};
    int depth = 0;
    DI_TRY(enter(pt, &name, root, &levels[0]));
    while (depth >= 0) {
        module *m = &levels[depth];
        name.bytes = m->bytes;
        if (!m->cell) {
            depth--;
            continue;
        }
        const di_pickle_cell *cell = &p->cells[m->cell];
        m->cell = cell->next;
        if (di_pickle_is(p, cell->value, DI_PICKLE_NONE)) continue;
        DI_TRY(lengthen(pt, &name, cell->key, p->values[cell->value].at, true));
        if (depth + 1 == DI_PICKLE_MAX_DEPTH)
            return di_pt_fail(pt->path, p->values[cell->value].at, "modules are nested too deep");
        DI_TRY(enter(pt, &name, cell->value, &levels[depth + 1]));
        depth++;
    }
    return DISTAC_OK;
}

/* ---- dictionaries ---- */

static bool has_tensor(const di_pickle *p, uint32_t dict) {
    for (uint32_t cell = p->values[dict].a; cell; cell = p->cells[cell].next)
        if (di_pickle_is(p, p->cells[cell].value, DI_PICKLE_TENSOR)) return true;
    return false;
}

/* A training checkpoint holds the tensors one level down, beside the optimizer and the epoch. */
static distac_status unwrap(di_pt *pt, uint32_t *value) {
    static const char *const wrappers[] = {"state_dict", "model_state_dict", "model"};
    const di_pickle *p = &pt->pickle;
    const char *found = NULL;
    uint32_t inner = 0, candidate;
    if (!di_pickle_is(p, *value, DI_PICKLE_DICT) || has_tensor(p, *value)) return DISTAC_OK;
    for (int i = 0; i < 3; i++) {
        if (!di_pickle_get(p, *value, wrappers[i], &candidate) ||
            (!di_pickle_is(p, candidate, DI_PICKLE_DICT) && !di_pickle_is(p, candidate, DI_PICKLE_RECORD)))
            continue;
        if (found)
            return di_pt_fail(pt->path, p->values[*value].at,
                              "the file holds both a \"%s\" and a \"%s\"; which one "
                              "is wanted is not clear",
                              found, wrappers[i]);
        found = wrappers[i];
        inner = candidate;
    }
    if (found) *value = inner;
    return DISTAC_OK;
}

static distac_status add_dictionary(di_pt *pt, uint32_t dict) {
    const di_pickle *p = &pt->pickle;
    char shown[80], buffer[200];
    for (uint32_t cell = p->values[dict].a; cell; cell = p->cells[cell].next) {
        path name = {.bytes = 0};
        uint32_t value = p->cells[cell].value;
        DI_TRY(lengthen(pt, &name, p->cells[cell].key, p->values[dict].at, false));
        if (!di_pickle_is(p, value, DI_PICKLE_TENSOR))
            return di_pt_fail(
                pt->path, p->values[p->cells[cell].key].at,
                "\"%s\" is %s, wanted a tensor; a dictionary of tensors, or one under \"state_dict\", "
                "\"model_state_dict\" or \"model\", is read",
                di_pt_shown(name.text, name.bytes, shown), what(pt, value, buffer));
        DI_TRY(add(pt, &name, value));
    }
    return DISTAC_OK;
}

distac_status di_pt_names(di_pt *pt) {
    const di_pickle *p = &pt->pickle;
    uint32_t value = p->root, parts[3], set;
    char buffer[200];
    const int64_t before = pt->checkpoint->count;
    DI_TRY(unwrap(pt, &value));
    if (di_pickle_is(p, value, DI_PICKLE_DICT))
        DI_TRY(add_dictionary(pt, value));
    else if (open_module(pt, value, parts, &set))
        DI_TRY(add_module(pt, value));
    else
        return di_pt_fail(
            pt->path, p->values[value].at,
            "the file holds %s; a dictionary of tensors (state_dict) or a whole torch.nn.Module is read",
            what(pt, value, buffer));
    if (pt->checkpoint->count == before)
        return di_pt_fail(pt->path, p->values[value].at, "the file holds no tensor");
    return di_checkpoint_sort(pt->checkpoint);
}
