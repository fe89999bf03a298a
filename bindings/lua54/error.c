/* error.c: error objects of the Lua 5.4 binding and the wording of argument errors. */
#include "raw.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char metatable_key = 0; /* its address names the registry entry */

static int error_tostring(lua_State *L) {
    lua_settop(L, 1);
    if (!lua_istable(L, 1)) return luaL_error(L, "an error object is wanted");
    lua_pushliteral(L, "message");
    lua_rawget(L, 1);
    luaL_tolstring(L, -1, NULL);
    return 1;
}

void dl_push_error_metatable(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "distac.error");
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
}

void dl_push_error(lua_State *L, const char *code) {
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    dl_push_error_metatable(L);
    lua_getfield(L, -1, "on_new"); /* what the layer above adds to an error, such as the caller's line */
    lua_insert(L, -2);
    lua_setmetatable(L, -3);
    if (lua_isfunction(L, -1)) {
        lua_pushvalue(L, -2);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
    } else {
        lua_pop(L, 1);
    }
}

int dl_raise_text(lua_State *L, distac_status status, const char *text) {
    luaL_checkstack(L, 8, NULL);
    lua_pushstring(L, text);
    dl_push_error(L, distac_status_name(status));
    return lua_error(L);
}

int dl_raise(lua_State *L, distac_status status) {
    /* The text is copied before anything that could run a finalizer and so another core call. */
    return dl_raise_text(L, status, distac_last_error());
}

int dl_raw_error(lua_State *L) {
    const char *code = luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    dl_push_error(L, code);
    return 1;
}

static void describe_number(lua_State *L, int index) {
    double value = lua_tonumber(L, index);
    char text[64];
    if (isnan(value)) {
        lua_pushliteral(L, "nan");
        return;
    }
    if (fabs(value) < 9007199254740992.0 && value == floor(value)) {
        snprintf(text, sizeof text, "%.0f", value == 0 ? 0.0 : value);
    } else {
        snprintf(text, sizeof text, "%.14g", value);
    }
    lua_pushstring(L, text);
}

void dl_describe(lua_State *L, int index) {
    index = lua_absindex(L, index);
    switch (lua_type(L, index)) {
    case LUA_TNONE:
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        return;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        return;
    case LUA_TNUMBER:
        describe_number(L, index);
        return;
    case LUA_TSTRING: {
        size_t bytes;
        const char *text = lua_tolstring(L, index, &bytes);
        if (bytes > 40) {
            lua_pushliteral(L, "\"");
            lua_pushlstring(L, text, 40);
            lua_pushliteral(L, "...\"");
            lua_concat(L, 3);
        } else {
            lua_pushliteral(L, "\"");
            lua_pushvalue(L, index);
            lua_pushliteral(L, "\"");
            lua_concat(L, 3);
        }
        return;
    }
    default: {
        int kind = dl_kind_of(L, index);
        const char *name = kind >= 0 ? dl_kinds[kind].name : luaL_typename(L, index);
        lua_pushfstring(L, "%s %s", strchr("aeiou", name[0]) ? "an" : "a", name);
    }
    }
}

int dl_argument(lua_State *L, const char *function, int arg, const char *name, const char *what) {
    luaL_checkstack(L, 12, NULL);
    lua_pushfstring(L, "%s: argument %d (%s): %s", function, arg, name, what);
    dl_push_error(L, "EINVAL");
    return lua_error(L);
}

int dl_wanted(lua_State *L, const char *function, int arg, const char *name, const char *wanted, int value) {
    luaL_checkstack(L, 12, NULL);
    dl_describe(L, value);
    lua_pushfstring(L, "wanted %s, got %s", wanted, lua_tostring(L, -1));
    return dl_argument(L, function, arg, name, lua_tostring(L, -1));
}
