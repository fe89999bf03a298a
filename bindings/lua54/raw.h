/* raw.h: helpers that the generated Lua 5.4 wrappers (raw_lua54.c) stand on.
 *
 * An object is a userdata box with one pointer. The box exists, with its metatable, before the core makes the
 * object; release empties it and any later use raises. Errors are tables {code, message}. Argument errors
 * read "FUNCTION: argument N (NAME): wanted W, got G", in the same words as bindings/luajit. */
#ifndef DISTAC_LUA54_RAW_H
#define DISTAC_LUA54_RAW_H

#include "distac.h"
#include "watch.h"
#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>

typedef struct dl_box {
    void *handle;        /* NULL after release */
    struct dl_box *next; /* contexts only: list of the live ones of this state */
    struct dl_box **link;
} dl_box;

typedef struct dl_kind {
    const char *name;
    void (*release)(void *handle);
} dl_kind;

typedef enum { DL_FIELD_INT32, DL_FIELD_INT64, DL_FIELD_UINT64, DL_FIELD_DOUBLE, DL_FIELD_STRING } dl_field_kind;
typedef struct dl_field {
    const char *name;
    dl_field_kind kind;
    size_t offset;
} dl_field;
typedef struct dl_struct {
    const dl_field *fields;
    int count;
    size_t bytes;
} dl_struct;
typedef struct dl_constant {
    const char *name;
    int value;
} dl_constant;

/* From raw_lua54.c. */
extern const dl_kind dl_kinds[];
extern const int dl_kind_count, dl_abi_version, dl_function_count;
extern const luaL_Reg dl_functions[];
extern const dl_constant dl_constants[];

/* Per Lua state (userdata in the registry). */
typedef struct dl_state {
    dl_box *contexts;
    int64_t settled;     /* bytes the contexts held after the last full collection */
    distac_watch *watch; /* NULL: no host listens */
} dl_state;

/* box.c: objects */
void dl_make_kinds(lua_State *L);
dl_state *dl_state_of(lua_State *L);
dl_box *dl_new_box(lua_State *L, int kind);
void dl_own_context(lua_State *L, dl_box *box, void *context);
int dl_kind_of(lua_State *L, int index); /* -1: not one of ours */
void *dl_handle(lua_State *L, const char *function, int arg, const char *name, int kind, int nullable);
void dl_handles(lua_State *L, const char *function, int arg, const char *name, int kind, int64_t n, void *out);
int dl_release_kind(lua_State *L, const char *function, const char *name, int kind); /* NULL is fine */
int dl_collect(lua_State *L);  /* full collection; returns 1 */
void dl_account(lua_State *L); /* collects when the engine's memory has grown a lot since the last time */
int dl_raw_type(lua_State *L);
int dl_raw_release(lua_State *L);
int dl_raw_set_metatable(lua_State *L);

/* error.c: error objects and argument errors */
int dl_raise(lua_State *L, distac_status status);
int dl_raise_text(lua_State *L, distac_status status, const char *text);
void dl_push_error(lua_State *L, const char *code); /* message on top -> error object */
int dl_wanted(lua_State *L, const char *function, int arg, const char *name, const char *wanted, int value);
int dl_argument(lua_State *L, const char *function, int arg, const char *name, const char *what);
void dl_describe(lua_State *L, int index); /* pushes words for a value */
int dl_raw_error(lua_State *L);
void dl_push_error_metatable(lua_State *L);

/* value.c: numbers, strings, arrays, structs */
int32_t dl_int32(lua_State *L, const char *function, int arg, const char *name);
int64_t dl_int64(lua_State *L, const char *function, int arg, const char *name);
uint64_t dl_uint64(lua_State *L, const char *function, int arg, const char *name);
double dl_double(lua_State *L, const char *function, int arg, const char *name);
const char *dl_string(lua_State *L, const char *function, int arg, const char *name, int nullable);
const char *dl_text(lua_State *L, const char *function, int arg, const char *name, int64_t *bytes);
void *dl_pointer(lua_State *L, const char *function, int arg, const char *name, int nullable);
int64_t dl_length(lua_State *L, const char *function, int arg, const char *name, int64_t max, int nullable);
int64_t dl_count(lua_State *L, const char *function, int arg, const char *name);
void *dl_buffer(lua_State *L, int64_t n, size_t element);
void dl_int32s(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out);
void dl_int64s(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out);
void dl_doubles(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out);
int dl_read_struct(lua_State *L, const char *function, int arg, const char *name, const dl_struct *type, void *out,
                   int nullable); /* 0: nil came and is allowed */
void dl_push_struct(lua_State *L, const dl_struct *type, const void *value);
void dl_push_doubles(lua_State *L, int64_t n, const double *values);
void dl_push_uint64(lua_State *L, uint64_t value);
void dl_push_pointer(lua_State *L, void *pointer);

int luaopen_distac_raw(lua_State *L);

#endif
