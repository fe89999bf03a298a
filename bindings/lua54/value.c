/* value.c: numbers, strings, arrays and structs between Lua 5.4 and C. Reading never allocates in Lua unless it
 * raises: pointers taken from other arguments stay good. */
#include "raw.h"
#include <math.h>
#include <string.h>

#define MAX_VALUES ((int64_t)1 << 27) /* of one array: beyond it a Lua table is the wrong tool */

/* A Lua number with integral value that fits; 0 if it is not one. */
static int to_int64(lua_State *L, int index, int64_t *out) {
    if (lua_type(L, index) != LUA_TNUMBER) return 0;
    int ok = 0;
    *out = (int64_t)lua_tointegerx(L, index, &ok);
    return ok;
}

static int to_uint64(lua_State *L, int index, uint64_t *out) {
    if (lua_type(L, index) != LUA_TNUMBER) return 0;
    int64_t whole = 0;
    if (to_int64(L, index, &whole)) {
        *out = (uint64_t)whole;
        return whole >= 0;
    }
    double value = lua_tonumber(L, index);
    if (!(value >= 0 && value < 18446744073709551616.0 && value == floor(value))) return 0;
    *out = (uint64_t)value;
    return 1;
}

static int32_t check_int32(lua_State *L, const char *function, int arg, const char *name, int index) {
    int64_t value = 0;
    if (!to_int64(L, index, &value) || value < INT32_MIN || value > INT32_MAX) {
        dl_wanted(L, function, arg, name, "a whole number of 32 bits", index);
    }
    return (int32_t)value;
}

static int64_t check_int64(lua_State *L, const char *function, int arg, const char *name, int index) {
    int64_t value = 0;
    if (!to_int64(L, index, &value)) dl_wanted(L, function, arg, name, "a whole number", index);
    return value;
}

static uint64_t check_uint64(lua_State *L, const char *function, int arg, const char *name, int index) {
    uint64_t value = 0;
    if (!to_uint64(L, index, &value)) dl_wanted(L, function, arg, name, "a whole number from 0 on", index);
    return value;
}

static double check_double(lua_State *L, const char *function, int arg, const char *name, int index) {
    if (lua_type(L, index) != LUA_TNUMBER) dl_wanted(L, function, arg, name, "a number", index);
    return lua_tonumber(L, index);
}

static const char *check_string(lua_State *L, const char *function, int arg, const char *name, int index) {
    if (lua_type(L, index) != LUA_TSTRING) dl_wanted(L, function, arg, name, "a string", index);
    size_t bytes;
    const char *text = lua_tolstring(L, index, &bytes);
    if (strlen(text) != bytes) dl_argument(L, function, arg, name, "wanted a string without zero bytes");
    return text;
}

int32_t dl_int32(lua_State *L, const char *function, int arg, const char *name) {
    return check_int32(L, function, arg, name, arg);
}

int64_t dl_int64(lua_State *L, const char *function, int arg, const char *name) {
    return check_int64(L, function, arg, name, arg);
}

uint64_t dl_uint64(lua_State *L, const char *function, int arg, const char *name) {
    return check_uint64(L, function, arg, name, arg);
}

double dl_double(lua_State *L, const char *function, int arg, const char *name) {
    return check_double(L, function, arg, name, arg);
}

const char *dl_string(lua_State *L, const char *function, int arg, const char *name, int nullable) {
    if (nullable && lua_isnil(L, arg)) return NULL;
    return check_string(L, function, arg, name, arg);
}

const char *dl_text(lua_State *L, const char *function, int arg, const char *name, int64_t *bytes) {
    if (lua_type(L, arg) != LUA_TSTRING) dl_wanted(L, function, arg, name, "a string", arg);
    size_t length;
    const char *text = lua_tolstring(L, arg, &length);
    *bytes = (int64_t)length;
    return text;
}

void *dl_pointer(lua_State *L, const char *function, int arg, const char *name, int nullable) {
    if (nullable && lua_isnil(L, arg)) return NULL;
    if (lua_islightuserdata(L, arg)) return lua_touserdata(L, arg);
    if (lua_type(L, arg) == LUA_TSTRING) {
        const char *text = lua_tostring(L, arg);
        void *out;
        memcpy(&out, &text, sizeof out); /* the callee is told that it is read-only */
        return out;
    }
    dl_wanted(L, function, arg, name, "memory (a light userdata or a string)", arg);
    return NULL;
}

int64_t dl_length(lua_State *L, const char *function, int arg, const char *name, int64_t max, int nullable) {
    if (nullable && lua_isnil(L, arg)) return -1;
    if (!lua_istable(L, arg)) dl_wanted(L, function, arg, name, "a list", arg);
    lua_Unsigned n = lua_rawlen(L, arg);
    if (n > (lua_Unsigned)max || n > (lua_Unsigned)MAX_VALUES) {
        dl_argument(L, function, arg, name, "the list is too long");
    }
    return (int64_t)n;
}

int64_t dl_count(lua_State *L, const char *function, int arg, const char *name) {
    int64_t n = 0;
    if (!to_int64(L, arg, &n) || n < 0 || n > MAX_VALUES) {
        dl_wanted(L, function, arg, name, "a count from 0 to 134217728", arg);
    }
    return n;
}

void *dl_buffer(lua_State *L, int64_t n, size_t element) {
    size_t bytes = (size_t)n * element;
    return lua_newuserdatauv(L, bytes > 0 ? bytes : 1, 0);
}

static void bad_element(lua_State *L, const char *function, int arg, const char *name, int64_t i,
                        const char *wanted) {
    luaL_checkstack(L, 8, NULL);
    const char *full = lua_pushfstring(L, "%s[%I]", name, (LUAI_UACINT)i);
    dl_wanted(L, function, arg, full, wanted, -2);
}

void dl_int32s(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out) {
    int32_t *values = out;
    for (int64_t i = 0; i < n; i++) {
        int64_t value = 0;
        lua_rawgeti(L, arg, i + 1);
        if (!to_int64(L, -1, &value) || value < INT32_MIN || value > INT32_MAX) {
            bad_element(L, function, arg, name, i + 1, "a whole number of 32 bits");
        }
        values[i] = (int32_t)value;
        lua_pop(L, 1);
    }
}

void dl_int64s(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out) {
    int64_t *values = out;
    for (int64_t i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        if (!to_int64(L, -1, &values[i])) bad_element(L, function, arg, name, i + 1, "a whole number");
        lua_pop(L, 1);
    }
}

void dl_doubles(lua_State *L, const char *function, int arg, const char *name, int64_t n, void *out) {
    double *values = out;
    for (int64_t i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        if (lua_type(L, -1) != LUA_TNUMBER) bad_element(L, function, arg, name, i + 1, "a number");
        values[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
}

/* Levenshtein distance; names of fields are short. */
static int distance(const char *a, const char *b) {
    int row[64];
    int n = (int)strlen(b);
    if (n > 63) return 1000;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1] != '\0'; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static int unknown_key(lua_State *L, const char *function, int arg, const char *name, const dl_struct *type,
                       int key) {
    luaL_checkstack(L, 12, NULL);
    const char *nearest = type->fields[0].name;
    if (lua_type(L, key) == LUA_TSTRING) {
        const char *given = lua_tostring(L, key);
        for (int i = 1; i < type->count; i++) {
            if (distance(given, type->fields[i].name) < distance(given, nearest)) nearest = type->fields[i].name;
        }
    }
    dl_describe(L, key);
    lua_pushfstring(L, "unknown key %s, did you mean \"%s\"?", lua_tostring(L, -1), nearest);
    return dl_argument(L, function, arg, name, lua_tostring(L, -1));
}

static void read_field(lua_State *L, const char *function, int arg, const char *path, const dl_field *field,
                       char *out) {
    switch (field->kind) {
    case DL_FIELD_INT32:
        *(int32_t *)(void *)out = check_int32(L, function, arg, path, -1);
        break;
    case DL_FIELD_INT64:
        *(int64_t *)(void *)out = check_int64(L, function, arg, path, -1);
        break;
    case DL_FIELD_UINT64:
        *(uint64_t *)(void *)out = check_uint64(L, function, arg, path, -1);
        break;
    case DL_FIELD_DOUBLE:
        *(double *)(void *)out = check_double(L, function, arg, path, -1);
        break;
    case DL_FIELD_STRING:
        *(const char **)(void *)out = check_string(L, function, arg, path, -1);
        break;
    }
}

int dl_read_struct(lua_State *L, const char *function, int arg, const char *name, const dl_struct *type, void *out,
                   int nullable) {
    memset(out, 0, type->bytes);
    if (nullable && lua_isnil(L, arg)) return 0;
    if (!lua_istable(L, arg)) dl_wanted(L, function, arg, name, "a table", arg);
    luaL_checkstack(L, type->count + 8, NULL);
    lua_pushnil(L);
    while (lua_next(L, arg) != 0) {
        const dl_field *field = NULL;
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *key = lua_tostring(L, -2);
            for (int i = 0; i < type->count && !field; i++) {
                if (strcmp(key, type->fields[i].name) == 0) field = &type->fields[i];
            }
        }
        if (!field) unknown_key(L, function, arg, name, type, lua_gettop(L) - 1);
        char path[128]; /* only read if something is wrong */
        size_t used = strlen(name);
        if (used > 60) used = 60;
        memcpy(path, name, used);
        path[used] = '.';
        strncpy(path + used + 1, field->name, sizeof path - used - 2);
        path[sizeof path - 1] = '\0';
        read_field(L, function, arg, path, field, (char *)out + field->offset);
        if (field->kind == DL_FIELD_STRING)
            lua_insert(L, -2); /* stays on the stack: C points into it */
        else
            lua_pop(L, 1);
    }
    return 1;
}

void dl_push_uint64(lua_State *L, uint64_t value) {
    if (value <= INT64_MAX)
        lua_pushinteger(L, (lua_Integer)value);
    else
        lua_pushnumber(L, (lua_Number)value);
}

void dl_push_struct(lua_State *L, const dl_struct *type, const void *value) {
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, type->count);
    for (int i = 0; i < type->count; i++) {
        const dl_field *field = &type->fields[i];
        const char *at = (const char *)value + field->offset;
        switch (field->kind) {
        case DL_FIELD_INT32:
            lua_pushinteger(L, *(const int32_t *)(const void *)at);
            break;
        case DL_FIELD_INT64:
            lua_pushinteger(L, *(const int64_t *)(const void *)at);
            break;
        case DL_FIELD_UINT64:
            dl_push_uint64(L, *(const uint64_t *)(const void *)at);
            break;
        case DL_FIELD_DOUBLE:
            lua_pushnumber(L, *(const double *)(const void *)at);
            break;
        case DL_FIELD_STRING:
            lua_pushstring(L, *(const char *const *)(const void *)at);
            break;
        }
        lua_setfield(L, -2, field->name);
    }
}

void dl_push_doubles(lua_State *L, int64_t n, const double *values) {
    lua_createtable(L, (int)n, 0);
    for (int64_t i = 0; i < n; i++) {
        lua_pushnumber(L, values[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

void dl_push_pointer(lua_State *L, void *pointer) {
    if (pointer)
        lua_pushlightuserdata(L, pointer);
    else
        lua_pushnil(L);
}
