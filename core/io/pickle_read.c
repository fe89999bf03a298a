/* pickle_read.c: the machine that reads a pickle of protocol 2, opcode by opcode. It knows the opcodes that
 * PyTorch writes and, in plain pickles, those of pickle_plain.c, and no others; it never recurses, and every
 * value, reference and text is counted against a limit. */
#include "pickle.h"
#include <stdlib.h>
#include <string.h>

/* Opcodes by their bytes. */
enum {
    OP_PROTO = 0x80,
    OP_STOP = '.',
    OP_MARK = '(',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_LIST = ']',
    OP_EMPTY_TUPLE = ')',
    OP_TUPLE = 't',
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_SETITEM = 's',
    OP_SETITEMS = 'u',
    OP_APPEND = 'a',
    OP_APPENDS = 'e',
    OP_BINUNICODE = 'X',
    OP_SHORT_BINSTRING = 'U',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_LONG1 = 0x8a,
    OP_BINFLOAT = 'G',
    OP_NONE = 'N',
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_GLOBAL = 'c',
    OP_REDUCE = 'R',
    OP_BUILD = 'b',
    OP_NEWOBJ = 0x81,
    OP_BINPERSID = 'Q'
};

/* Opcodes that are refused, for the message. */
static const char foreign_names[] =
    " 30 POP 31 POP_MARK 32 DUP 69 INST 6f OBJ 93 STACK_GLOBAL 82 EXT1 83 EXT2 84 EXT4 50 PERSID "
    "97 NEXT_BUFFER 98 READONLY_BUFFER 95 FRAME 8f EMPTY_SET 90 ADDITEMS 91 FROZENSET 92 NEWOBJ_EX "
    "94 MEMOIZE 8c SHORT_BINUNICODE 8d BINUNICODE8 8e BINBYTES8 42 BINBYTES 43 SHORT_BINBYTES "
    "96 BYTEARRAY8 8b LONG4 54 BINSTRING 49 INT 4c LONG 46 FLOAT 53 STRING 56 UNICODE 64 DICT 6c LIST "
    "67 GET 70 PUT ";

static distac_status foreign(const di_pickle *p, uint64_t at, uint8_t op) {
    static const char digits[] = "0123456789abcdef";
    const char word[] = {' ', digits[op >> 4], digits[op & 15], ' ', 0};
    const char *name = strstr(foreign_names, word);
    name = name ? name + 4 : "unknown ";
    return di_pt_fail(p->path, at,
                      "the opcode 0x%02X (%.*s) is not among those that PyTorch writes; nothing is read past it",
                      op, (int)strcspn(name, " "), name);
}

/* ---- arguments ---- */

distac_status di_pickle_take(di_pickle *p, uint64_t count, const uint8_t **out) {
    if (count > p->limit - p->at)
        return di_pt_fail(p->path, p->at, "the pickle ends inside an opcode that needs %llu more bytes",
                          (unsigned long long)count);
    *out = p->data + p->at;
    p->at += count;
    return DISTAC_OK;
}

distac_status di_pickle_number(di_pickle *p, uint64_t width, uint64_t *out) {
    const uint8_t *b = NULL;
    DI_TRY(di_pickle_take(p, width, &b));
    *out = 0;
    for (uint64_t i = width; i-- > 0;) *out = *out << 8 | b[i];
    return DISTAC_OK;
}

/* One of at most four bytes. */
static distac_status number(di_pickle *p, uint64_t width, uint32_t *out) {
    uint64_t wide = 0;
    DI_TRY(di_pickle_number(p, width, &wide));
    *out = (uint32_t)wide;
    return DISTAC_OK;
}

static distac_status make(di_pickle *p, di_pickle_kind kind, uint64_t at, uint32_t *out) {
    DI_TRY(di_pickle_new(p, kind, at, out));
    return di_pickle_push(p, *out);
}

static distac_status push_int(di_pickle *p, uint64_t at, int64_t value) {
    uint32_t made = 0;
    DI_TRY(make(p, DI_PICKLE_INT, at, &made));
    p->values[made].u.number = value;
    return DISTAC_OK;
}

static distac_status push_long(di_pickle *p, uint64_t at) {
    uint32_t bytes = 0;
    const uint8_t *b = NULL;
    uint64_t value = 0;
    DI_TRY(number(p, 1, &bytes));
    if (bytes > 8) return di_pt_fail(p->path, at, "an integer of %u bytes (LONG1); at most 8 are read", bytes);
    DI_TRY(di_pickle_take(p, bytes, &b));
    for (uint32_t i = 0; i < bytes; i++) value |= (uint64_t)b[i] << (8 * i);
    if (bytes > 0 && bytes < 8 && (b[bytes - 1] & 0x80)) value |= ~UINT64_C(0) << (8 * bytes);
    int64_t result;
    memcpy(&result, &value, sizeof result);
    return push_int(p, at, result);
}

static distac_status push_float(di_pickle *p, uint64_t at) {
    const uint8_t *b = NULL;
    uint32_t made = 0;
    uint64_t bits = 0;
    DI_TRY(di_pickle_take(p, 8, &b));
    for (int i = 0; i < 8; i++) bits = bits << 8 | b[i];
    DI_TRY(make(p, DI_PICKLE_FLOAT, at, &made));
    memcpy(&p->values[made].u.real, &bits, 8);
    return DISTAC_OK;
}

distac_status di_pickle_push_text(di_pickle *p, uint64_t at, uint64_t width) {
    uint64_t bytes = 0;
    uint32_t made = 0;
    const uint8_t *text = NULL;
    DI_TRY(di_pickle_number(p, width, &bytes));
    if (bytes > p->limit - p->at)
        return di_pt_fail(p->path, at, "a text claims %llu bytes, but only %llu follow", (unsigned long long)bytes,
                          (unsigned long long)(p->limit - p->at));
    if (bytes > p->text_limit)
        return di_pt_fail(p->path, at, "a text of %llu bytes; at most %u are allowed", (unsigned long long)bytes,
                          p->text_limit);
    DI_TRY(di_pickle_take(p, bytes, &text));
    if (di_utf8_wrong((const char *)text, bytes)) return di_pt_fail(p->path, at, "a text is not valid UTF-8");
    DI_TRY(make(p, DI_PICKLE_TEXT, at, &made));
    p->values[made].u.text = (const char *)text;
    p->values[made].a = (uint32_t)bytes;
    return DISTAC_OK;
}

/* Up to the end of the line, which is passed. */
static distac_status line(di_pickle *p, uint64_t at, uint32_t *bytes) {
    uint64_t start = p->at, rest = p->limit - start;
    uint64_t search = rest < DI_PICKLE_MAX_NAME + 1 ? rest : DI_PICKLE_MAX_NAME + 1;
    const uint8_t *end = memchr(p->data + start, '\n', (size_t)search);
    if (!end && search == rest) return di_pt_fail(p->path, at, "the pickle ends inside a name (GLOBAL)");
    if (!end) return di_pt_fail(p->path, at, "a name of over %d bytes (GLOBAL)", (int)DI_PICKLE_MAX_NAME);
    *bytes = (uint32_t)(end - (p->data + start));
    p->at = start + *bytes + 1;
    return DISTAC_OK;
}

static distac_status push_name(di_pickle *p, uint64_t at) {
    uint64_t start = p->at;
    uint32_t module = 0, name = 0, made = 0;
    DI_TRY(line(p, at, &module));
    DI_TRY(line(p, at, &name));
    di_pickle_value value = {.kind = DI_PICKLE_NAME, .a = module, .b = name, .at = at};
    value.u.text = (const char *)p->data + start;
    DI_TRY(di_pickle_name(p, &value));
    DI_TRY(make(p, DI_PICKLE_NAME, at, &made));
    p->values[made] = value;
    return DISTAC_OK;
}

/* ---- the stack ---- */

/* The lowest height that an opcode without mark may reach: what lies under a mark is not its own. */
static uint32_t ground(const di_pickle *p) {
    return p->mark_count ? p->marks[p->mark_count - 1] : 0;
}

distac_status di_pickle_need(di_pickle *p, uint64_t at, const char *op, uint32_t count) {
    if (p->depth - ground(p) >= count) return DISTAC_OK;
    return di_pt_fail(p->path, at, "stack underflow: %s needs %u values, the stack has %u", op, count,
                      p->depth - ground(p));
}

static distac_status push_mark(di_pickle *p, uint64_t at) {
    if (p->mark_count >= 4 * DI_PICKLE_MAX_DEPTH)
        return di_pt_fail(p->path, at, "more than %d marks are open: nested too deep", 4 * DI_PICKLE_MAX_DEPTH);
    if (!p->marks) {
        p->marks = di_new(4 * DI_PICKLE_MAX_DEPTH * sizeof *p->marks);
        if (!p->marks) return DISTAC_ENOMEM;
    }
    p->marks[p->mark_count++] = p->depth;
    return DISTAC_OK;
}

distac_status di_pickle_pop_mark(di_pickle *p, uint64_t at, const char *op, uint32_t *height) {
    if (!p->mark_count) return di_pt_fail(p->path, at, "stack underflow: %s needs a MARK, and none is open", op);
    *height = p->marks[--p->mark_count];
    return DISTAC_OK;
}

/* The values from `height` up become a tuple. */
static distac_status make_tuple(di_pickle *p, uint64_t at, uint32_t height) {
    uint32_t made = 0;
    DI_TRY(di_pickle_new(p, DI_PICKLE_TUPLE, at, &made));
    for (uint32_t i = height; i < p->depth; i++) DI_TRY(di_pickle_add(p, made, false, 0, p->stack[i]));
    p->depth = height;
    return di_pickle_push(p, made);
}

/* The values from `height` up, in pairs, go into the dictionary below them. */
static distac_status set_items(di_pickle *p, uint64_t at, const char *op, uint32_t height) {
    if (height <= ground(p) || height == 0)
        return di_pt_fail(p->path, at, "stack underflow: %s has no dictionary below its items", op);
    if ((p->depth - height) % 2) return di_pt_fail(p->path, at, "%s with an odd number of values", op);
    uint32_t target = p->stack[height - 1];
    char name[160];
    if (!di_pickle_is(p, target, DI_PICKLE_DICT) && !di_pickle_is(p, target, DI_PICKLE_RECORD))
        return di_pt_fail(p->path, at, "%s on %s: only dictionaries have items", op,
                          di_pickle_class(p, target, name));
    for (uint32_t i = height; i < p->depth; i += 2)
        DI_TRY(di_pickle_add(p, target, true, p->stack[i], p->stack[i + 1]));
    p->depth = height;
    return DISTAC_OK;
}

static distac_status append(di_pickle *p, uint64_t at, const char *op, uint32_t height) {
    if (height <= ground(p) || height == 0)
        return di_pt_fail(p->path, at, "stack underflow: %s has no list below its items", op);
    uint32_t target = p->stack[height - 1];
    char name[160];
    if (!di_pickle_is(p, target, DI_PICKLE_LIST) && !di_pickle_is(p, target, DI_PICKLE_RECORD))
        return di_pt_fail(p->path, at, "%s to %s: only lists are appended to", op,
                          di_pickle_class(p, target, name));
    for (uint32_t i = height; i < p->depth; i++) DI_TRY(di_pickle_add(p, target, false, 0, p->stack[i]));
    p->depth = height;
    return DISTAC_OK;
}

/* REDUCE and NEWOBJ: a name and its arguments become a value. */
static distac_status call(di_pickle *p, uint64_t at, bool object) {
    uint32_t made = 0;
    DI_TRY(di_pickle_need(p, at, object ? "NEWOBJ" : "REDUCE", 2));
    uint32_t name = p->stack[p->depth - 2], arguments = p->stack[p->depth - 1];
    DI_TRY(object ? di_pickle_object(p, name, arguments, at, &made)
                  : di_pickle_call(p, name, arguments, at, &made));
    p->depth -= 2;
    return di_pickle_push(p, made);
}

static distac_status put(di_pickle *p, uint64_t at, uint64_t width) {
    uint32_t index = 0;
    DI_TRY(number(p, width, &index));
    DI_TRY(di_pickle_need(p, at, "BINPUT", 1));
    return di_pickle_memo_put(p, index, p->stack[p->depth - 1], at);
}

static distac_status get(di_pickle *p, uint64_t at, uint64_t width) {
    uint32_t index = 0, value = 0;
    DI_TRY(number(p, width, &index));
    DI_TRY(di_pickle_memo_get(p, index, at, &value));
    return di_pickle_push(p, value);
}

static distac_status step_plain(di_pickle *p, uint64_t at, uint8_t op) {
    bool known = false;
    if (p->place == DI_PICKLE_PLAIN) DI_TRY(di_pickle_plain_step(p, at, op, &known));
    return known ? DISTAC_OK : foreign(p, at, op);
}

/* Opcodes that take values from the stack. */
static distac_status step_stack(di_pickle *p, uint64_t at, uint8_t op) {
    uint32_t height = 0, value = 0;
    switch (op) {
    case OP_TUPLE:
        DI_TRY(di_pickle_pop_mark(p, at, "TUPLE", &height));
        return make_tuple(p, at, height);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        DI_TRY(di_pickle_need(p, at, "TUPLE1-3", op - 0x84u));
        return make_tuple(p, at, p->depth - (op - 0x84u));
    case OP_SETITEM:
        DI_TRY(di_pickle_need(p, at, "SETITEM", 3));
        return set_items(p, at, "SETITEM", p->depth - 2);
    case OP_SETITEMS:
        DI_TRY(di_pickle_pop_mark(p, at, "SETITEMS", &height));
        return set_items(p, at, "SETITEMS", height);
    case OP_APPEND:
        DI_TRY(di_pickle_need(p, at, "APPEND", 2));
        return append(p, at, "APPEND", p->depth - 1);
    case OP_APPENDS:
        DI_TRY(di_pickle_pop_mark(p, at, "APPENDS", &height));
        return append(p, at, "APPENDS", height);
    case OP_REDUCE:
    case OP_NEWOBJ:
        return call(p, at, op == OP_NEWOBJ);
    case OP_BUILD:
        DI_TRY(di_pickle_need(p, at, "BUILD", 2));
        DI_TRY(di_pickle_build(p, p->stack[p->depth - 2], p->stack[p->depth - 1], at));
        p->depth--;
        return DISTAC_OK;
    case OP_BINPERSID:
        DI_TRY(di_pickle_need(p, at, "BINPERSID", 1));
        DI_TRY(di_pickle_persistent(p, p->stack[p->depth - 1], at, &value));
        p->stack[p->depth - 1] = value;
        return DISTAC_OK;
    default:
        return step_plain(p, at, op);
    }
}

static distac_status step(di_pickle *p, uint64_t at, uint8_t op) {
    uint32_t made = 0, bits = 0;
    switch (op) {
    case OP_MARK:
        return push_mark(p, at);
    case OP_EMPTY_DICT:
        return make(p, DI_PICKLE_DICT, at, &made);
    case OP_EMPTY_LIST:
        return make(p, DI_PICKLE_LIST, at, &made);
    case OP_EMPTY_TUPLE:
        return make(p, DI_PICKLE_TUPLE, at, &made);
    case OP_NONE:
        return di_pickle_push(p, 0);
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        DI_TRY(make(p, DI_PICKLE_BOOL, at, &made));
        p->values[made].u.number = op == OP_NEWTRUE;
        return DISTAC_OK;
    case OP_BININT:
        DI_TRY(number(p, 4, &bits));
        return push_int(p, at, (int64_t)(int32_t)bits);
    case OP_BININT1:
    case OP_BININT2:
        DI_TRY(number(p, op == OP_BININT1 ? 1 : 2, &bits));
        return push_int(p, at, (int64_t)bits);
    case OP_LONG1:
        return push_long(p, at);
    case OP_BINFLOAT:
        return push_float(p, at);
    case OP_BINUNICODE:
        return di_pickle_push_text(p, at, 4);
    case OP_SHORT_BINSTRING:
        return di_pickle_push_text(p, at, 1);
    case OP_BINPUT:
        return put(p, at, 1);
    case OP_LONG_BINPUT:
        return put(p, at, 4);
    case OP_BINGET:
        return get(p, at, 1);
    case OP_LONG_BINGET:
        return get(p, at, 4);
    case OP_GLOBAL:
        return push_name(p, at);
    default:
        return step_stack(p, at, op);
    }
}

static distac_status begin(di_pickle *p) {
    const uint8_t *b = p->data + p->at;
    if (p->limit - p->at < 2 || b[0] != OP_PROTO)
        return di_pt_fail(
            p->path, p->at,
            "a pickle of protocol 0 or 1, or none at all; protocol 2, torch.save's own, is read: load "
            "it in Python and save it again with torch.save");
    if (b[1] != 2 && !(p->place == DI_PICKLE_PLAIN && b[1] >= 2 && b[1] <= 5))
        return di_pt_fail(p->path, p->at,
                          "a pickle of protocol %u; protocol 2, torch.save's own, is read: load it in Python and "
                          "save it again with torch.save, without pickle_protocol",
                          b[1]);
    p->at += 2;
    return DISTAC_OK;
}

static distac_status finish(di_pickle *p, uint64_t at) {
    if (p->mark_count) return di_pt_fail(p->path, at, "the pickle stops while a MARK is open");
    if (p->depth != 1)
        return di_pt_fail(p->path, at, "the pickle stops with %u values on its stack, wanted one", p->depth);
    p->root = p->stack[0];
    return di_pickle_check(p);
}

distac_status di_pickle_read(di_pickle *p, const char *path, const uint8_t *data, uint64_t from, uint64_t to,
                             di_pickle_place place) {
    uint32_t none;
    *p = (di_pickle){.path = path, .data = data, .at = from, .limit = to, .place = place};
    p->text_limit = place == DI_PICKLE_STACKED ? DI_PICKLE_MAX_SOURCE : DI_PICKLE_MAX_TEXT;
    DI_TRY(di_pickle_new(p, DI_PICKLE_NONE, from, &none));
    DI_TRY(begin(p));
    while (p->at < p->limit) {
        uint64_t at = p->at++;
        if (data[at] == OP_STOP) return finish(p, at);
        if (data[at] == OP_PROTO) return di_pt_fail(path, at, "a second PROTO inside the pickle");
        DI_TRY(step(p, at, data[at]));
    }
    return di_pt_fail(path, p->at, "the pickle ends without STOP");
}
