/* open.c: luaopen_distac_raw, the table `raw` for Lua 5.4. */
#include "raw.h"

static const char raw_key = 0; /* its address names the registry entry */

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
int luaopen_distac_raw(lua_State *L)
{
    luaL_checkversion(L);
    /* One table per Lua state: test runners empty package.loaded and require again. */
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &raw_key) == LUA_TTABLE) return 1;
    lua_pop(L, 1);
    if (distac_abi_version() != dl_abi_version) {
        return luaL_error(L, "distac.raw was built for interface %d of libdistac, the library has %d",
                          dl_abi_version, (int)distac_abi_version());
    }
    dl_make_kinds(L);
    lua_createtable(L, 0, dl_function_count + 128);
    luaL_setfuncs(L, dl_functions, 0);
    for (const dl_constant *constant = dl_constants; constant->name; constant++) {
        lua_pushinteger(L, constant->value);
        lua_setfield(L, -2, constant->name);
    }
    lua_createtable(L, dl_function_count, 0);
    for (int i = 0; i < dl_function_count; i++) {
        lua_pushstring(L, dl_functions[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "functions");
    lua_createtable(L, dl_kind_count, 0);
    for (int i = 0; i < dl_kind_count; i++) {
        lua_pushstring(L, dl_kinds[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "kinds");
    static const luaL_Reg helpers[] = {{"release", dl_raw_release},
                                       {"type", dl_raw_type},
                                       {"set_metatable", dl_raw_set_metatable},
                                       {"error", dl_raw_error},
                                       {NULL, NULL}};
    luaL_setfuncs(L, helpers, 0);
    dl_push_error_metatable(L);
    lua_setfield(L, -2, "error_metatable");
    lua_pushliteral(L, "lua54");
    lua_setfield(L, -2, "runtime");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raw_key);
    return 1;
}
