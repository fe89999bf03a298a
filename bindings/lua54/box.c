/* box.c: the userdata boxes of the Lua 5.4 binding: making, checking, releasing, metatables, and the
 * accounting that lets the collector know of memory it cannot see. */
#include "raw.h"
#include <string.h>

#define ROOM ((int64_t)64 << 20) /* growth of the engine's memory that is always let pass */

static const char state_key = 0, kind_key = 0; /* addresses are registry and metatable keys */

dl_state *dl_state_of(lua_State *L) {
    dl_state *state = NULL;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key) == LUA_TUSERDATA) state = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return state;
}

int dl_kind_of(lua_State *L, int index) {
    int kind = -1;
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return -1;
    if (lua_rawgetp(L, -1, &kind_key) == LUA_TNUMBER) kind = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return kind;
}

static void push_metatable(lua_State *L, int kind) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &dl_kinds[kind]);
}

dl_box *dl_new_box(lua_State *L, int kind) {
    luaL_checkstack(L, 8, NULL);
    dl_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    memset(box, 0, sizeof *box);
    push_metatable(L, kind);
    lua_setmetatable(L, -2);
    return box;
}

void dl_own_context(lua_State *L, dl_box *box, void *context) {
    dl_state *state = dl_state_of(L);
    box->handle = context;
    box->next = state->contexts;
    box->link = &state->contexts;
    if (box->next) box->next->link = &box->next;
    state->contexts = box;
    if (state->watch) state->watch->add(state->watch, context);
}

static void empty(lua_State *L, dl_box *box, int kind) {
    void *handle = box->handle;
    if (!handle) return;
    box->handle = NULL;
    if (box->link) {
        dl_state *state = dl_state_of(L);
        *box->link = box->next;
        if (box->next) box->next->link = box->link;
        box->link = NULL;
        if (state && state->watch) state->watch->drop(state->watch, handle);
    }
    dl_kinds[kind].release(handle);
}

static int box_gc(lua_State *L) {
    int kind = dl_kind_of(L, 1);
    if (kind >= 0) empty(L, lua_touserdata(L, 1), kind);
    return 0;
}

static int released(lua_State *L, const char *function, int arg, const char *name) {
    luaL_checkstack(L, 8, NULL);
    lua_pushfstring(L, "%s: argument %d (%s): released object", function, arg, name);
    return dl_raise_text(L, DISTAC_ESTATE, lua_tostring(L, -1));
}

static void wanted_kind(lua_State *L, const char *function, int arg, const char *name, int kind, int value) {
    luaL_checkstack(L, 8, NULL);
    const char *noun = dl_kinds[kind].name;
    const char *wanted = lua_pushfstring(L, "%s %s", strchr("aeiou", noun[0]) ? "an" : "a", noun);
    dl_wanted(L, function, arg, name, wanted, value);
}

void *dl_handle(lua_State *L, const char *function, int arg, const char *name, int kind, int nullable) {
    if (nullable && lua_isnil(L, arg)) return NULL;
    if (dl_kind_of(L, arg) != kind) wanted_kind(L, function, arg, name, kind, arg);
    dl_box *box = lua_touserdata(L, arg);
    if (!box->handle) released(L, function, arg, name);
    return box->handle;
}

void dl_handles(lua_State *L, const char *function, int arg, const char *name, int kind, int64_t n, void *out) {
    void **handles = out;
    for (int64_t i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        dl_box *box = dl_kind_of(L, -1) == kind ? lua_touserdata(L, -1) : NULL;
        if (!box || !box->handle) {
            const char *full = lua_pushfstring(L, "%s[%I]", name, (LUAI_UACINT)(i + 1));
            if (box) released(L, function, arg, full);
            wanted_kind(L, function, arg, full, kind, lua_gettop(L) - 1);
        }
        handles[i] = box->handle;
        lua_pop(L, 1);
    }
}

int dl_release_kind(lua_State *L, const char *function, const char *name, int kind) {
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) return 0;
    if (dl_kind_of(L, 1) != kind) wanted_kind(L, function, 1, name, kind, 1);
    empty(L, lua_touserdata(L, 1), kind);
    return 0;
}

/* raw.release(handle): any kind; nil and released objects are fine. */
int dl_raw_release(lua_State *L) {
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) return 0;
    int kind = dl_kind_of(L, 1);
    if (kind < 0) dl_wanted(L, "release", 1, "handle", "an object of distac", 1);
    empty(L, lua_touserdata(L, 1), kind);
    return 0;
}

/* raw.type(value) -> "tensor", ... or nil. */
int dl_raw_type(lua_State *L) {
    lua_settop(L, 1);
    int kind = dl_kind_of(L, 1);
    if (kind < 0)
        lua_pushnil(L);
    else
        lua_pushstring(L, dl_kinds[kind].name);
    return 1;
}

static int64_t memory_held(lua_State *L, dl_state **state) {
    int64_t total = 0;
    *state = dl_state_of(L);
    for (dl_box *box = (*state)->contexts; box; box = box->next) {
        distac_context_info info;
        if (distac_context_get_info(box->handle, &info) == DISTAC_OK) total += info.memory_used;
    }
    return total;
}

int dl_collect(lua_State *L) {
    dl_state *state;
    lua_gc(L, LUA_GCCOLLECT);
    int64_t held = memory_held(L, &state);
    state->settled = held;
    return 1;
}

void dl_account(lua_State *L) {
    dl_state *state;
    int64_t held = memory_held(L, &state);
    int64_t room = state->settled / 2 > ROOM ? state->settled / 2 : ROOM;
    if (held < state->settled) state->settled = held;
    if (held - state->settled > room) dl_collect(L);
}

/* __index of a kind with both methods and an own __index: upvalues (methods, own). */
static int index_both(lua_State *L) {
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_gettable(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lua_settop(L, 2);
    if (lua_isfunction(L, lua_upvalueindex(2))) {
        lua_pushvalue(L, lua_upvalueindex(2));
        lua_insert(L, 1);
        lua_call(L, 2, 1);
    } else {
        lua_gettable(L, lua_upvalueindex(2));
    }
    return 1;
}

static int reserved(const char *name) {
    static const char *const names[] = {"__gc", "__close", "__name", "__metatable", "__index", "__mode"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) return 1;
    }
    return 0;
}

/* raw.set_metatable(kind, methods, metamethods): the last call counts. */
int dl_raw_set_metatable(lua_State *L) {
    lua_settop(L, 3);
    int kind = -1;
    for (int i = 0; lua_type(L, 1) == LUA_TSTRING && i < dl_kind_count; i++) {
        if (strcmp(lua_tostring(L, 1), dl_kinds[i].name) == 0) kind = i;
    }
    if (kind < 0) dl_wanted(L, "set_metatable", 1, "kind", "the name of a kind of object", 1);
    for (int i = 2; i <= 3; i++) {
        if (lua_isnil(L, i)) {
            lua_newtable(L);
            lua_replace(L, i);
        }
        if (!lua_istable(L, i)) dl_wanted(L, "set_metatable", i, i == 2 ? "methods" : "metamethods", "a table", i);
    }
    push_metatable(L, kind); /* 4 */
    lua_pushnil(L);
    while (lua_next(L, 3) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING && !reserved(lua_tostring(L, -2))) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 4);
        } else {
            lua_pop(L, 1);
        }
    }
    lua_pushliteral(L, "__index");
    lua_pushvalue(L, 2);
    lua_pushliteral(L, "__index");
    if (lua_rawget(L, 3) == LUA_TNIL)
        lua_pop(L, 1);
    else
        lua_pushcclosure(L, index_both, 2);
    lua_rawset(L, 4);
    return 0;
}

static int box_tostring(lua_State *L) {
    int kind = dl_kind_of(L, 1);
    dl_box *box = kind >= 0 ? lua_touserdata(L, 1) : NULL;
    if (!box) return luaL_error(L, "an object of distac is wanted");
    lua_pushfstring(L, box->handle ? "distac.%s" : "distac.%s (released)", dl_kinds[kind].name);
    return 1;
}

void dl_make_kinds(lua_State *L) {
    dl_state *state = lua_newuserdatauv(L, sizeof *state, 0);
    memset(state, 0, sizeof *state);
    if (lua_getfield(L, LUA_REGISTRYINDEX, "distac.watch") == LUA_TLIGHTUSERDATA)
        state->watch = lua_touserdata(L, -1);
    lua_pop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
    for (int i = 0; i < dl_kind_count; i++) {
        lua_createtable(L, 0, 8);
        lua_pushinteger(L, i);
        lua_rawsetp(L, -2, &kind_key);
        lua_pushfstring(L, "distac.%s", dl_kinds[i].name);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "__metatable");
        lua_setfield(L, -2, "__name");
        lua_pushcfunction(L, box_gc);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "__close");
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, box_tostring);
        lua_setfield(L, -2, "__tostring");
        lua_rawsetp(L, LUA_REGISTRYINDEX, &dl_kinds[i]);
    }
}
