/* vm.c: prepares a Lua state for distac: libraries, where the Lua files are, the raw binding, tracebacks. */
#define _GNU_SOURCE
#include "vm.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if LUA_VERSION_NUM >= 504
int luaopen_distac_raw(lua_State *L);
#endif

int ds_protected(lua_State *L, lua_CFunction f, void *ud) {
#if LUA_VERSION_NUM >= 504
    lua_pushcfunction(L, f); /* a light function: no memory is asked for */
    lua_pushlightuserdata(L, ud);
    return lua_pcall(L, 1, 0, 0);
#else
    return lua_cpcall(L, f, ud);
#endif
}

const char *ds_words(lua_State *L, int index) {
#if LUA_VERSION_NUM >= 504
    return luaL_tolstring(L, index, NULL);
#else
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, index < 0 ? index - 1 : index);
    lua_call(L, 1, 1);
    return lua_tostring(L, -1);
#endif
}

int ds_traceback(lua_State *L) {
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "message");
        lua_getfield(L, 1, "code");
        if (lua_isstring(L, -1) && lua_isstring(L, -2)) {
            lua_newtable(L);
            lua_pushvalue(L, -2);
            lua_setfield(L, -2, "code");
            luaL_traceback(L, L, lua_tostring(L, -3), 1);
            lua_setfield(L, -2, "message");
            if (lua_getmetatable(L, 1)) lua_setmetatable(L, -2);
            return 1;
        }
        lua_settop(L, 1);
    }
    if (lua_isnoneornil(L, 1))
        lua_pushliteral(L, "nil was raised as an error");
    else if (lua_isstring(L, 1))
        lua_pushvalue(L, 1);
    else
        ds_words(L, 1);
    luaL_traceback(L, L, lua_tostring(L, -1), 1);
    return 1;
}

/* Folder of the executable, or of the object file this code is in. */
static int own_folder(char *out, int program) {
    char path[PATH_MAX];
    ssize_t n = program ? readlink("/proc/self/exe", path, sizeof path - 1) : -1;
    if (n > 0) {
        path[n] = '\0';
    } else {
        Dl_info info;
        static const char anchor = 0;
        if (dladdr(&anchor, &info) == 0 || !info.dli_fname || !realpath(info.dli_fname, path)) return 0;
    }
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return 0;
    *slash = '\0';
    strcpy(out, path);
    return 1;
}

static int has_distac(const char *folder) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/distac/init.lua", folder);
    return access(path, R_OK) == 0;
}

/* The folder that holds distac/init.lua: build tree, installation, then what was known when this was compiled. */
static int find_lua(char *out, size_t bytes, int program) {
    static const char *const relative[] = {"lua/" DS_LUA_TREE, "../share/lua/" DS_LUA_TREE,
                                           "../../share/lua/" DS_LUA_TREE};
    static const char *const fixed[] = {DISTAC_INSTALL_LUA, DISTAC_BUILD_LUA};
    char folder[PATH_MAX];
    if (own_folder(folder, program)) {
        for (size_t i = 0; i < sizeof relative / sizeof relative[0]; i++) {
            int n = snprintf(out, bytes, "%s/%s", folder, relative[i]);
            if (n > 0 && (size_t)n < bytes && has_distac(out)) return 1;
        }
    }
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        int n = snprintf(out, bytes, "%s", fixed[i]);
        if (n > 0 && (size_t)n < bytes && has_distac(out)) return 1;
    }
    return 0;
}

/* The module distac.host: what Lua files may know of the program they run in. LuaJIT's binding learns from it
 * which library the host already has. */
static int open_host(lua_State *L) {
    lua_newtable(L);
#if LUA_VERSION_NUM < 504
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "distac_version");
    if (!symbol) {
        const char *(*version)(void) = distac_version;
        memcpy(&symbol, &version, sizeof symbol);
    }
    if (dladdr(symbol, &info) != 0 && info.dli_fname && strchr(info.dli_fname, '/')) {
        lua_pushstring(L, info.dli_fname);
        lua_setfield(L, -2, "library");
    }
#endif
    return 1;
}

void ds_prepare(lua_State *L, ds_watch *watch, const char *lua_path, int program) {
    char found[PATH_MAX];
    luaL_openlibs(L);
    lua_pushlightuserdata(L, &watch->base);
    lua_setfield(L, LUA_REGISTRYINDEX, "distac.watch");
    if (lua_path && !has_distac(lua_path)) luaL_error(L, "no distac/init.lua in '%s'", lua_path);
    if (!lua_path) {
        if (!find_lua(found, sizeof found, program)) {
            luaL_error(L, "the Lua files of distac were not found; they were looked for beside the %s and in '%s'",
                       program ? "program" : "library", DISTAC_INSTALL_LUA);
        }
        lua_path = found;
    }
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    const char *old = lua_tostring(L, -1);
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", lua_path, lua_path, old ? old : "");
    lua_setfield(L, -3, "path");
    lua_pop(L, 1);
    lua_getfield(L, -1, "preload");
#if LUA_VERSION_NUM >= 504
    lua_pushcfunction(L, luaopen_distac_raw);
    lua_setfield(L, -2, "distac.raw");
    lua_pushcfunction(L, ds_open_patterns);
    lua_setfield(L, -2, "distac.patterns");
#endif
    lua_pushcfunction(L, open_host);
    lua_setfield(L, -2, "distac.host");
    lua_pop(L, 2);
    ds_search_in(L, lua_path);
}
