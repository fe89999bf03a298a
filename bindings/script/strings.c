/* strings.c: string.find, match, gmatch and gsub of restricted Lua
 * states: what the standard library has, by patterns with a budget. */
#define _GNU_SOURCE 1 /* memmem */
#include "pattern.h"
#include <ctype.h>
#include <string.h>

#if LUA_VERSION_NUM >= 504

/* 0-based place of an init argument, larger than the text if it is behind it. */
static size_t from(lua_State *L, int index, size_t length) {
    lua_Integer at = luaL_optinteger(L, index, 1);
    if (at > 0) return (lua_Unsigned)at - 1 > length ? length + 1 : (size_t)at - 1;
    if (at == 0 || at < -(lua_Integer)length) return 0;
    return length - (size_t)-at;
}

static int find_or_match(lua_State *L, int find) {
    ds_matching m = ds_match_start(L, 1, 2);
    size_t length = (size_t)(m.end - m.subject), pattern_length = (size_t)(m.pattern_end - m.pattern);
    size_t init = from(L, 3, length);
    if (init > length) {
        luaL_pushfail(L);
        return 1;
    }
    int plain = find && lua_toboolean(L, 4);
    for (const char *c = m.pattern; find && !plain; c++) {
        if (c == m.pattern_end)
            plain = 1;
        else if (*c && strchr("^$*+?.([%-", *c))
            break;
    }
    if (plain) {
        const char *found = memmem(m.subject + init, length - init, m.pattern, pattern_length);
        if (!found) {
            luaL_pushfail(L);
            return 1;
        }
        lua_pushinteger(L, found - m.subject + 1);
        lua_pushinteger(L, found - m.subject + (lua_Integer)pattern_length);
        return 2;
    }
    int anchored = m.pattern < m.pattern_end && *m.pattern == '^';
    m.pattern += anchored;
    for (const char *s = m.subject + init; s <= m.end; s++) {
        const char *end = ds_match_at(&m, s);
        if (end && !find) return ds_push_captures(&m, s, end);
        if (end) {
            lua_pushinteger(L, s - m.subject + 1);
            lua_pushinteger(L, end - m.subject);
            return ds_push_captures(&m, NULL, NULL) + 2;
        }
        if (anchored) break;
    }
    luaL_pushfail(L);
    return 1;
}

static int str_find(lua_State *L) { return find_or_match(L, 1); }
static int str_match(lua_State *L) { return find_or_match(L, 0); }

/* Upvalues: text, pattern, where to go on, where the last match ended (-1: nowhere). */
static int next_match(lua_State *L) {
    ds_matching m = ds_match_start(L, lua_upvalueindex(1), lua_upvalueindex(2));
    const char *last = m.subject + lua_tointeger(L, lua_upvalueindex(4));
    for (const char *s = m.subject + lua_tointeger(L, lua_upvalueindex(3)); s <= m.end; s++) {
        const char *end = ds_match_at(&m, s);
        if (!end || end == last) continue;
        lua_pushinteger(L, end - m.subject);
        lua_copy(L, -1, lua_upvalueindex(3));
        lua_replace(L, lua_upvalueindex(4));
        return ds_push_captures(&m, s, end);
    }
    return 0;
}

static int str_gmatch(lua_State *L) {
    ds_matching m = ds_match_start(L, 1, 2);
    size_t init = from(L, 3, (size_t)(m.end - m.subject));
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)init);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

/* Appends what takes the place of the match; returns whether something did. */
static int replace(ds_matching *m, luaL_Buffer *b, const char *s, const char *end, int type) {
    lua_State *L = m->L;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        int count = ds_push_captures(m, s, end);
        lua_call(L, count, 1);
    } else if (type == LUA_TTABLE) {
        ds_push_capture(m, 0, s, end);
        lua_gettable(L, 3);
    } else {
        size_t length;
        const char *text = lua_tolstring(L, 3, &length);
        for (const char *stop = text + length; text < stop; text++) {
            if (*text != '%') {
                luaL_addchar(b, *text);
                continue;
            }
            text++;
            if (text < stop && *text == '%') {
                luaL_addchar(b, '%');
            } else if (text < stop && *text == '0') {
                luaL_addlstring(b, s, (size_t)(end - s));
            } else if (text < stop && isdigit((unsigned char)*text)) {
                ds_push_capture(m, *text - '1', s, end);
                luaL_tolstring(L, -1, NULL);
                lua_remove(L, -2);
                luaL_addvalue(b);
            } else {
                luaL_error(L, "invalid use of '%%' in replacement string");
            }
        }
        return 1;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(end - s));
        return 0;
    }
    if (!lua_isstring(L, -1)) return luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
    return 1;
}

static int str_gsub(lua_State *L) {
    ds_matching m = ds_match_start(L, 1, 2);
    int type = lua_type(L, 3);
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, m.end - m.subject + 1), count = 0;
    int anchored = m.pattern < m.pattern_end && *m.pattern == '^', changed = 0;
    const char *s = m.subject, *last = NULL;
    luaL_Buffer b;
    m.pattern += anchored;
    luaL_buffinit(L, &b);
    while (count < most) {
        const char *end = ds_match_at(&m, s);
        if (end && end != last) {
            count++;
            changed = replace(&m, &b, s, end, type) | changed;
            s = last = end;
        } else if (s < m.end) {
            luaL_addchar(&b, *s++);
        } else {
            break;
        }
        if (anchored) break;
    }
    if (changed) {
        luaL_addlstring(&b, s, (size_t)(m.end - s));
        luaL_pushresult(&b);
    } else {
        luaL_pushresult(&b);
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, count);
    return 2;
}

int ds_open_patterns(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"find", str_find}, {"match", str_match}, {"gmatch", str_gmatch}, {"gsub", str_gsub}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

#endif
