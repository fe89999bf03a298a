/* pickle_call.c: what the calls in a pickle stand for. Tensors, parameters and storages become values of their
 * own; an object of any other class becomes a record of its class's name, its arguments and its state; calls of
 * functions are refused. */
#include "pickle.h"
#include <string.h>

static distac_status record(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out) {
    DI_TRY(di_pickle_new(p, DI_PICKLE_RECORD, at, out));
    p->values[*out].a = name;
    p->values[*out].b = arguments;
    return DISTAC_OK;
}

static bool is_bool(const di_pickle *p, uint32_t value) {
    return di_pickle_is(p, value, DI_PICKLE_BOOL);
}

/* (storage, offset, size, stride, requires_grad, backward_hooks[, metadata]) */
static distac_status make_tensor(di_pickle *p, uint32_t arguments, uint64_t at, uint32_t *out) {
    uint32_t a[7] = {0};
    uint32_t count = p->values[arguments].c;
    if ((count != 6 && count != 7) || !di_pickle_tuple(p, arguments, count, a))
        return di_pt_fail(p->path, at, "a tensor is rebuilt from %u values, wanted 6 or 7", count);
    if (!di_pickle_is(p, a[0], DI_PICKLE_STORAGE))
        return di_pt_fail(p->path, at, "a tensor is rebuilt from %s, wanted a storage",
                          di_pickle_kind_name(p, a[0]));
    if (!di_pickle_is(p, a[1], DI_PICKLE_INT) || !di_pickle_is(p, a[2], DI_PICKLE_TUPLE) ||
        !di_pickle_is(p, a[3], DI_PICKLE_TUPLE))
        return di_pt_fail(p->path, at, "a tensor's offset, size and stride must be an integer and two tuples");
    if (!is_bool(p, a[4]))
        return di_pt_fail(p->path, at, "a tensor's requires_grad is %s, wanted a boolean",
                          di_pickle_kind_name(p, a[4]));
    if (!di_pickle_is(p, a[5], DI_PICKLE_DICT) && !di_pickle_is(p, a[5], DI_PICKLE_NONE))
        return di_pt_fail(p->path, at, "a tensor's hooks are %s, wanted an OrderedDict",
                          di_pickle_kind_name(p, a[5]));
    if (count == 7 && !di_pickle_is(p, a[6], DI_PICKLE_DICT) && !di_pickle_is(p, a[6], DI_PICKLE_NONE))
        return di_pt_fail(p->path, at, "a tensor's metadata is %s, wanted a dictionary",
                          di_pickle_kind_name(p, a[6]));
    DI_TRY(di_pickle_new(p, DI_PICKLE_TENSOR, at, out));
    p->values[*out].a = a[0];
    p->values[*out].b = arguments;
    return DISTAC_OK;
}

/* (tensor, requires_grad, backward_hooks[, state]): the tensor itself, so that what is shared stays one. */
static distac_status make_parameter(di_pickle *p, uint32_t arguments, bool state, uint64_t at, uint32_t *out) {
    uint32_t a[4], count = state ? 4 : 3;
    if (!di_pickle_tuple(p, arguments, count, a))
        return di_pt_fail(p->path, at, "a parameter is rebuilt from %u values, wanted %u", p->values[arguments].c,
                          count);
    if (!di_pickle_is(p, a[0], DI_PICKLE_TENSOR))
        return di_pt_fail(p->path, at, "a parameter is rebuilt from %s, wanted a tensor",
                          di_pickle_kind_name(p, a[0]));
    if (!is_bool(p, a[1]))
        return di_pt_fail(p->path, at, "a parameter's requires_grad is %s, wanted a boolean",
                          di_pickle_kind_name(p, a[1]));
    if (!di_pickle_is(p, a[2], DI_PICKLE_DICT) && !di_pickle_is(p, a[2], DI_PICKLE_NONE))
        return di_pt_fail(p->path, at, "a parameter's hooks are %s, wanted an OrderedDict",
                          di_pickle_kind_name(p, a[2]));
    *out = a[0];
    return DISTAC_OK;
}

/* copyreg._reconstructor(class, base, state) */
static distac_status reconstruct(di_pickle *p, uint32_t arguments, uint64_t at, uint32_t *out) {
    uint32_t a[3];
    if (!di_pickle_tuple(p, arguments, 3, a) || !di_pickle_is(p, a[0], DI_PICKLE_NAME) ||
        p->values[a[0]].role != DI_ROLE_CLASS)
        return di_pt_fail(p->path, at, "copyreg._reconstructor needs a class, its base and a state");
    return record(p, a[0], arguments, at, out);
}

/* getattr(class, "NAME"): how Python writes a member of an enumeration. */
static distac_status attribute(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out) {
    uint32_t a[2];
    if (di_pickle_tuple(p, arguments, 2, a) && di_pickle_is(p, a[0], DI_PICKLE_NAME) &&
        p->values[a[0]].role == DI_ROLE_CLASS && di_pickle_is(p, a[1], DI_PICKLE_TEXT)) {
        const di_pickle_value *text = &p->values[a[1]];
        if (text->a > 0 && text->u.text[0] != '_') return record(p, name, arguments, at, out);
    }
    return di_pt_fail(
        p->path, at,
        "the pickle calls builtins.getattr for other things than a member of an enumeration: refused, "
        "nothing was called");
}

distac_status di_pickle_call(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out) {
    char shown[160];
    uint32_t only;
    if (!di_pickle_is(p, name, DI_PICKLE_NAME))
        return di_pt_fail(p->path, at, "REDUCE calls %s%s%s, which is no class", di_pickle_kind_name(p, name),
                          di_pickle_is(p, name, DI_PICKLE_RECORD) ? " of " : "",
                          di_pickle_is(p, name, DI_PICKLE_RECORD) ? di_pickle_class(p, name, shown) : "");
    if (!di_pickle_is(p, arguments, DI_PICKLE_TUPLE))
        return di_pt_fail(p->path, at, "REDUCE of %s with %s for arguments, wanted a tuple",
                          di_pickle_class(p, name, shown), di_pickle_kind_name(p, arguments));
    switch ((di_pickle_role)p->values[name].role) {
    case DI_ROLE_ORDERED_DICT:
        if (p->values[arguments].c)
            return di_pt_fail(p->path, at, "collections.OrderedDict is made with %u arguments, wanted none",
                              p->values[arguments].c);
        return di_pickle_new(p, DI_PICKLE_DICT, at, out);
    case DI_ROLE_TENSOR:
        return make_tensor(p, arguments, at, out);
    case DI_ROLE_PARAMETER:
        return make_parameter(p, arguments, false, at, out);
    case DI_ROLE_PARAMETER_STATE:
        return make_parameter(p, arguments, true, at, out);
    case DI_ROLE_RECONSTRUCT:
        return reconstruct(p, arguments, at, out);
    case DI_ROLE_GETATTR:
        return attribute(p, name, arguments, at, out);
    case DI_ROLE_SET:
    case DI_ROLE_CLASS:
        return record(p, name, arguments, at, out);
    case DI_ROLE_STORAGE_BYTES:
        if (p->values[arguments].c != 1 || !di_pickle_tuple(p, arguments, 1, &only))
            return di_pt_fail(p->path, at, "%s with %u arguments, wanted one", di_pickle_class(p, name, shown),
                              p->values[arguments].c);
        return di_pickle_storage_bytes(p, only, at, out);
    case DI_ROLE_STORAGE:
        return di_pt_fail(p->path, at, "%s is called; a storage comes from a member of the file",
                          di_pickle_class(p, name, shown));
    default:
        break;
    }
    di_pickle_class(p, name, shown);
    const bool rebuild =
        strncmp(shown, "torch._utils._rebuild_", 22) == 0 || strncmp(shown, "torch._tensor.", 14) == 0;
    if (rebuild)
        return di_pt_fail(p->path, at,
                          "a tensor made by %s: quantised, sparse, wrapped and foreign tensors are not read; save "
                          "plain ones",
                          shown);
    return di_pt_fail(p->path, at,
                      "the pickle calls the function %s: refused, nothing was called; only objects of unknown "
                      "classes are kept, as records",
                      shown);
}

distac_status di_pickle_object(di_pickle *p, uint32_t name, uint32_t arguments, uint64_t at, uint32_t *out) {
    char shown[160];
    if (!di_pickle_is(p, name, DI_PICKLE_NAME))
        return di_pt_fail(p->path, at, "NEWOBJ of %s, which is no class", di_pickle_kind_name(p, name));
    if (!di_pickle_is(p, arguments, DI_PICKLE_TUPLE))
        return di_pt_fail(p->path, at, "NEWOBJ with %s for arguments, wanted a tuple",
                          di_pickle_kind_name(p, arguments));
    switch ((di_pickle_role)p->values[name].role) {
    case DI_ROLE_ORDERED_DICT:
        return di_pickle_call(p, name, arguments, at, out);
    case DI_ROLE_CLASS:
    case DI_ROLE_SET:
        return record(p, name, arguments, at, out);
    case DI_ROLE_FUNCTION: /* classes in small letters exist */
        if (strncmp(p->values[name].u.text, "torch", 5) != 0) return record(p, name, arguments, at, out);
        break;
    default:
        break;
    }
    return di_pt_fail(p->path, at, "NEWOBJ of %s, which is no class", di_pickle_class(p, name, shown));
}

distac_status di_pickle_build(di_pickle *p, uint32_t object, uint32_t state, uint64_t at) {
    char shown[160];
    di_pickle_value *o = &p->values[object];
    /* The state of an OrderedDict is state_dict's _metadata: nothing that a tensor needs. */
    if (o->kind == DI_PICKLE_DICT && di_pickle_is(p, state, DI_PICKLE_DICT)) return DISTAC_OK;
    if (o->kind != DI_PICKLE_RECORD)
        return di_pt_fail(p->path, at, "BUILD on %s: only objects have a state",
                          di_pickle_class(p, object, shown));
    if (p->values[o->a].role == DI_ROLE_GETATTR || o->has_state)
        return di_pt_fail(p->path, at, "BUILD a second time on an object of %s",
                          di_pickle_class(p, object, shown));
    o->c = state;
    o->has_state = true;
    return DISTAC_OK;
}

/* ('storage', class, key, location, elements[, view]) or, in legacy files, ('module', class, file, source). */
distac_status di_pickle_persistent(di_pickle *p, uint32_t id, uint64_t at, uint32_t *out) {
    uint32_t a[6] = {0};
    const di_pickle_value *v = &p->values[id];
    const bool stacked = p->place == DI_PICKLE_STACKED;
    if (p->place == DI_PICKLE_PLAIN)
        return di_pt_fail(p->path, at,
                          "a persistent id (BINPERSID) in a plain pickle: what it refers to is not in the file");
    if (v->kind != DI_PICKLE_TUPLE || v->c < 4 || v->c > 6 || !di_pickle_tuple(p, id, v->c, a))
        return di_pt_fail(p->path, at, "a persistent id (BINPERSID) is %s, wanted a tuple of a storage's facts",
                          di_pickle_kind_name(p, id));
    if (stacked && v->c == 4 && di_pickle_text_is(p, a[0], "module")) {
        if (!di_pickle_is(p, a[1], DI_PICKLE_NAME))
            return di_pt_fail(p->path, at, "a module's class is %s", di_pickle_kind_name(p, a[1]));
        *out = a[1];
        return DISTAC_OK;
    }
    if (!di_pickle_text_is(p, a[0], "storage") || v->c != (stacked ? 6u : 5u))
        return di_pt_fail(p->path, at, "a persistent id (BINPERSID) that is no storage");
    if (!di_pickle_is(p, a[1], DI_PICKLE_NAME) || p->values[a[1]].role != DI_ROLE_STORAGE) {
        char shown[160];
        return di_pt_fail(p->path, at,
                          "a storage of %s; the types read are Double, Float, Half, BFloat16, Long, "
                          "Int, Short, Char, Byte and Bool storages",
                          di_pickle_class(p, a[1], shown));
    }
    if (!di_pickle_is(p, a[2], DI_PICKLE_TEXT) || !di_pickle_is(p, a[4], DI_PICKLE_INT))
        return di_pt_fail(p->path, at, "a storage's key must be a text and its size an integer");
    if (v->c == 6 && !di_pickle_is(p, a[5], DI_PICKLE_NONE))
        return di_pt_fail(p->path, at,
                          "a storage that is a view of another; save the file again with a newer "
                          "PyTorch");
    int64_t count = p->values[a[4]].u.number;
    if (count < 0) return di_pt_fail(p->path, at, "a storage of %lld elements", (long long)count);
    DI_TRY(di_pickle_new(p, DI_PICKLE_STORAGE, at, out));
    p->values[*out].a = a[1];
    p->values[*out].b = a[2];
    p->values[*out].u.number = count;
    return DISTAC_OK;
}
