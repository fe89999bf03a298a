/* pickle_plain.c: what only files by pickle.dump have: the opcodes of protocols 3 to 5, and storages as bytes.
 * Python writes a storage there as a call of torch.storage._load_from_bytes on a whole file of stacked pickles
 * that holds nothing else; that file is read where it lies, and nothing is called. */
#include "pt_read.h"
#include <stdio.h>
#include <string.h>

enum {
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_SHORT_BINUNICODE = 0x8c,
    OP_BINUNICODE8 = 0x8d,
    OP_BINBYTES8 = 0x8e,
    OP_EMPTY_SET = 0x8f,
    OP_ADDITEMS = 0x90,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95
};

static distac_status push_bytes(di_pickle *p, uint64_t at, uint64_t width) {
    uint64_t count = 0;
    uint32_t made = 0;
    const uint8_t *skipped = NULL;
    DI_TRY(di_pickle_number(p, width, &count));
    if (count > p->limit - p->at)
        return di_pt_fail(p->path, at, "bytes claim to be %llu, but only %llu follow", (unsigned long long)count,
                          (unsigned long long)(p->limit - p->at));
    DI_TRY(di_pickle_new(p, DI_PICKLE_BYTES, p->at, &made));
    p->values[made].u.number = (int64_t)count;
    DI_TRY(di_pickle_take(p, count, &skipped));
    return di_pickle_push(p, made);
}

/* A name whose module and own part stand on the stack. */
static distac_status stack_global(di_pickle *p, uint64_t at) {
    char joined[2 * DI_PICKLE_MAX_NAME + 1];
    uint32_t made = 0;
    DI_TRY(di_pickle_need(p, at, "STACK_GLOBAL", 2));
    const uint32_t first = p->stack[p->depth - 2], second = p->stack[p->depth - 1];
    if (!di_pickle_is(p, first, DI_PICKLE_TEXT) || !di_pickle_is(p, second, DI_PICKLE_TEXT))
        return di_pt_fail(p->path, at, "STACK_GLOBAL of %s and %s, wanted two texts",
                          di_pickle_kind_name(p, first), di_pickle_kind_name(p, second));
    const di_pickle_value module = p->values[first], name = p->values[second];
    if (module.a > DI_PICKLE_MAX_NAME || name.a > DI_PICKLE_MAX_NAME)
        return di_pt_fail(p->path, at, "a name of over %d bytes (STACK_GLOBAL)", (int)DI_PICKLE_MAX_NAME);
    di_pickle_value value = {.kind = DI_PICKLE_NAME, .a = module.a, .b = name.a, .at = at};
    memcpy(joined, module.u.text, module.a);
    joined[module.a] = '\n';
    memcpy(joined + module.a + 1, name.u.text, name.a);
    DI_TRY(di_pickle_write(p, joined, module.a + 1 + name.a, &value.u.text));
    DI_TRY(di_pickle_name(p, &value));
    DI_TRY(di_pickle_new(p, DI_PICKLE_NAME, at, &made));
    p->values[made] = value;
    p->depth -= 2;
    return di_pickle_push(p, made);
}

/* set(): an object of the class with one argument, the list of its items, as protocol 2 writes it. */
static distac_status empty_set(di_pickle *p, uint64_t at) {
    uint32_t name = 0, list = 0, arguments = 0, made = 0;
    DI_TRY(di_pickle_new(p, DI_PICKLE_NAME, at, &name));
    p->values[name].role = DI_ROLE_SET;
    p->values[name].u.text = "builtins\nset";
    p->values[name].a = 8;
    p->values[name].b = 3;
    DI_TRY(di_pickle_new(p, DI_PICKLE_LIST, at, &list));
    DI_TRY(di_pickle_new(p, DI_PICKLE_TUPLE, at, &arguments));
    DI_TRY(di_pickle_add(p, arguments, false, 0, list));
    DI_TRY(di_pickle_new(p, DI_PICKLE_RECORD, at, &made));
    p->values[made].a = name;
    p->values[made].b = arguments;
    return di_pickle_push(p, made);
}

static distac_status add_items(di_pickle *p, uint64_t at) {
    uint32_t height = 0, list = 0;
    DI_TRY(di_pickle_pop_mark(p, at, "ADDITEMS", &height));
    const uint32_t ground = p->mark_count ? p->marks[p->mark_count - 1] : 0;
    if (height <= ground) return di_pt_fail(p->path, at, "stack underflow: ADDITEMS has no set below its items");
    const di_pickle_value *set = &p->values[p->stack[height - 1]];
    if (set->kind != DI_PICKLE_RECORD || p->values[set->a].role != DI_ROLE_SET ||
        !di_pickle_tuple(p, set->b, 1, &list) || !di_pickle_is(p, list, DI_PICKLE_LIST))
        return di_pt_fail(p->path, at, "ADDITEMS to %s: only sets are added to",
                          di_pickle_kind_name(p, p->stack[height - 1]));
    for (uint32_t i = height; i < p->depth; i++) DI_TRY(di_pickle_add(p, list, false, 0, p->stack[i]));
    p->depth = height;
    return DISTAC_OK;
}

/* A frame tells a reader of streams how much to fetch; its length must be true. */
static distac_status frame(di_pickle *p, uint64_t at) {
    uint64_t length = 0;
    DI_TRY(di_pickle_number(p, 8, &length));
    if (length <= p->limit - p->at) return DISTAC_OK;
    return di_pt_fail(p->path, at, "a frame claims %llu bytes, but only %llu follow", (unsigned long long)length,
                      (unsigned long long)(p->limit - p->at));
}

distac_status di_pickle_plain_step(di_pickle *p, uint64_t at, uint8_t op, bool *known) {
    *known = true;
    switch (op) {
    case OP_SHORT_BINBYTES:
        return push_bytes(p, at, 1);
    case OP_BINBYTES:
        return push_bytes(p, at, 4);
    case OP_BINBYTES8:
        return push_bytes(p, at, 8);
    case OP_SHORT_BINUNICODE:
        return di_pickle_push_text(p, at, 1);
    case OP_BINUNICODE8:
        return di_pickle_push_text(p, at, 8);
    case OP_STACK_GLOBAL:
        return stack_global(p, at);
    case OP_EMPTY_SET:
        return empty_set(p, at);
    case OP_ADDITEMS:
        return add_items(p, at);
    case OP_MEMOIZE:
        DI_TRY(di_pickle_need(p, at, "MEMOIZE", 1));
        return di_pickle_memo_put(p, p->memo_count, p->stack[p->depth - 1], at);
    case OP_FRAME:
        return frame(p, at);
    default:
        *known = false;
        return DISTAC_OK;
    }
}

/* ---- storages as bytes ---- */

/* After the pickles: the list of keys, which holds this one alone, the number of elements, the elements. */
static distac_status find_elements(di_pickle *p, const di_pickle *inner, uint64_t end, uint64_t *data) {
    uint32_t key;
    const di_pickle_value *storage = &inner->values[inner->root], *own = &inner->values[storage->b];
    const di_file_type *type = di_pt_storage_type(&inner->values[storage->a]);
    di_pickle keys;
    distac_status status = di_pickle_read(&keys, p->path, p->data, inner->at, end, DI_PICKLE_STACKED);
    if (status == DISTAC_OK) {
        const di_pickle_value *list = &keys.values[keys.root];
        key = list->kind == DI_PICKLE_LIST && list->c == 1 ? keys.cells[list->a].value : 0;
        if (!di_pickle_is(&keys, key, DI_PICKLE_TEXT) || keys.values[key].a != own->a ||
            memcmp(keys.values[key].u.text, own->u.text, own->a) != 0)
            status = di_pt_fail(p->path, inner->at, "the bytes of a storage do not list this storage alone");
    }
    uint64_t at = keys.at;
    di_pickle_close(&keys);
    DI_TRY(status);
    if (end - at < 8) return di_pt_fail(p->path, at, "the bytes of a storage end before its elements");
    const uint64_t count = di_u64(p->data + at), width = type ? (uint64_t)type->bits / 8 : 1;
    if (count != (uint64_t)storage->u.number)
        return di_pt_fail(p->path, at, "a storage has %llu elements here, but %lld in its pickle",
                          (unsigned long long)count, (long long)storage->u.number);
    at += 8;
    if (count > (end - at) / width || count * width != end - at)
        return di_pt_fail(p->path, at, "a storage has %llu elements of %llu bytes, but %llu bytes follow",
                          (unsigned long long)count, (unsigned long long)width, (unsigned long long)(end - at));
    *data = at;
    return DISTAC_OK;
}

static distac_status adopt(di_pickle *p, const di_pickle *inner, uint64_t from, uint64_t data, uint32_t *out) {
    const di_pickle_value *storage = &inner->values[inner->root];
    uint32_t name = 0, key = 0;
    char digits[24];
    const int written = snprintf(digits, sizeof digits, "%llu", (unsigned long long)from);
    DI_TRY(di_pickle_new(p, DI_PICKLE_NAME, from, &name));
    p->values[name] = inner->values[storage->a]; /* its text lies in the file */
    /* The keys inside were addresses in different processes' memory and may meet; where it lies is its own. */
    DI_TRY(di_pickle_new(p, DI_PICKLE_TEXT, from, &key));
    DI_TRY(di_pickle_write(p, digits, (size_t)written, &p->values[key].u.text));
    p->values[key].a = (uint32_t)written;
    DI_TRY(di_pickle_new(p, DI_PICKLE_STORAGE, data, out));
    p->values[*out].a = name;
    p->values[*out].b = key;
    p->values[*out].u.number = storage->u.number;
    p->values[*out].has_state = true;
    return DISTAC_OK;
}

distac_status di_pickle_storage_bytes(di_pickle *p, uint32_t bytes, uint64_t at, uint32_t *out) {
    if (!di_pickle_is(p, bytes, DI_PICKLE_BYTES))
        return di_pt_fail(p->path, at,
                          "a storage is loaded from %s, wanted bytes; write the file with torch.save, or with "
                          "pickle.dump and protocol 3 or later",
                          di_pickle_kind_name(p, bytes));
    const uint64_t from = p->values[bytes].at, end = from + (uint64_t)p->values[bytes].u.number;
    uint64_t inside = from, data = 0;
    di_pickle inner = {0};
    DI_TRY(di_pt_stacked_head(p->path, p->data, &inside, end));
    distac_status status = di_pickle_read(&inner, p->path, p->data, inside, end, DI_PICKLE_STACKED);
    if (status == DISTAC_OK && !di_pickle_is(&inner, inner.root, DI_PICKLE_STORAGE))
        status = di_pt_fail(p->path, inside, "the bytes of a storage hold %s, wanted a storage alone",
                            di_pickle_kind_name(&inner, inner.root));
    if (status == DISTAC_OK) status = find_elements(p, &inner, end, &data);
    if (status == DISTAC_OK) status = adopt(p, &inner, from, data, out);
    di_pickle_close(&inner);
    return status;
}
