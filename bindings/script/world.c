/* world.c: the globals of scripts: Lua's own, or the environment of a restricted state. */
#include "guest.h"

#if LUA_VERSION_NUM >= 504
static const char world_key = 0; /* its address is a registry key */

static void set_field_list(lua_State *L, const char *name, const char *const *paths) {
    lua_newtable(L);
    for (int i = 0; paths && paths[i]; i++) {
        lua_pushstring(L, paths[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, name);
}

void guest_restrict(lua_State *L, const distac_script_desc *desc) {
    push_key(L, &world_key);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.restricted");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "enter");
    lua_remove(L, -2);
    lua_newtable(L);
    set_field_list(L, "read", desc->readable);
    set_field_list(L, "write", desc->writable);
    lua_pushcfunction(L, guest_print);
    lua_setfield(L, -2, "print");
    lua_call(L, 1, 1);
    lua_rawset(L, LUA_REGISTRYINDEX);
}
#endif

void guest_push_world(lua_State *L, const distac_script *script) {
#if LUA_VERSION_NUM >= 504
    if (script->restricted) {
        push_key(L, &world_key);
        lua_rawget(L, LUA_REGISTRYINDEX);
        return;
    }
#endif
    (void)script;
    lua_getglobal(L, "_G");
}
