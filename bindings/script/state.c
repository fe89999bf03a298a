/* state.c: making and closing the one Lua state of a script: distac inside, with its host's wishes and limits. */
#include "guest.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a guest must not do to its host: end it, load compiled code, take the hook away. */
static const char prelude[] =
    "local load, loadfile, error, assert = load, loadfile, error, assert\n"
    "function _G.load(chunk, name, _, ...) return load(chunk, name, 't', ...) end\n"
    "function _G.loadfile(path, _, ...) return loadfile(path, 't', ...) end\n"
    "if loadstring then function _G.loadstring(text, name) return load(text, name, 't') end end\n"
    "function _G.dofile(path) return assert(loadfile(path, 't'))() end\n"
    "function os.exit() error('os.exit would end the host program', 2) end\n"
    "debug.sethook = nil\n";

enum { RESTRICTED_MEMORY = 64 << 20, RESTRICTED_INSTRUCTIONS = 1000000000 };

typedef struct opening {
    distac_script *script;
    const distac_script_desc *desc;
} opening;

static void set_field_integer(lua_State *L, const char *name, int64_t value) {
    if (value == 0) return;
    lua_pushnumber(L, (lua_Number)value);
    lua_setfield(L, -2, name);
}

static void set_field_text(lua_State *L, const char *name, const char *value) {
    if (!value) return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static void configure(lua_State *L, const distac_context_desc *engine) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "configure");
    lua_newtable(L);
    set_field_integer(L, "threads", engine->threads);
    set_field_integer(L, "memory", engine->memory_limit);
    set_field_integer(L, "seed", (int64_t)engine->seed);
    set_field_text(L, "device", engine->device);
    set_field_text(L, "kernels", engine->kernels);
    set_field_text(L, "products", engine->products);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

static int open_protected(lua_State *L) {
    opening *o = lua_touserdata(L, 1);
    guest_register(L, o->script);
    ds_prepare(L, &o->script->watch, o->desc ? o->desc->lua_path : NULL, 0);
#if LUA_VERSION_NUM < 504
    o->script->reserve.closed = 1; /* LuaJIT of 2022 crashes when memory ends while it makes its FFI */
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 0);
    o->script->reserve.closed = 0;
#endif
    if (luaL_loadbuffer(L, prelude, sizeof prelude - 1, "=distac") != 0) return lua_error(L);
    lua_call(L, 0, 0);
    lua_pushcfunction(L, guest_print);
    lua_setglobal(L, "print");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.host");
    lua_call(L, 1, 1);
    lua_pushcfunction(L, guest_progress);
    lua_setfield(L, -2, "progress");
    lua_pop(L, 1);
#if LUA_VERSION_NUM >= 504
    lua_pushcfunction(L, guest_xpcall);
    lua_setglobal(L, "xpcall");
#else
    if (o->script->instruction_limit > 0) luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
#endif
    if (o->desc && o->desc->engine) configure(L, o->desc->engine);
#if LUA_VERSION_NUM >= 504
    if (o->script->restricted) {
        ds_set_charge(L, guest_charge);
        guest_restrict(L, o->desc);
    }
#endif
    lua_sethook(L, guest_hook, LUA_MASKCOUNT, HOOK_COUNT);
    return 0;
}

distac_status distac_script_open(const distac_script_desc *desc, distac_script **out) {
    guest_refuse(NULL, DISTAC_OK, "");
    if (!out) return guest_refuse(NULL, DISTAC_EINVAL, "distac_script_open: out is NULL");
    *out = NULL;
#if LUA_VERSION_NUM < 504
    if (desc && desc->restricted)
        return guest_refuse(NULL, DISTAC_EUNSUPPORTED,
                            "distac_script_open: LuaJIT has no restricted mode: its FFI reaches all memory; "
                            "build with Lua 5.4");
#endif
    distac_script *script = calloc(1, sizeof *script);
    if (!script) return guest_refuse(NULL, DISTAC_ENOMEM, "distac_script_open: out of memory");
    ds_watch_init(&script->watch);
    pthread_mutex_init(&script->progress_lock, NULL);
    if (desc) script->instruction_limit = desc->instruction_limit;
    if (desc && desc->restricted) {
        script->restricted = 1;
        if (script->instruction_limit <= 0) script->instruction_limit = RESTRICTED_INSTRUCTIONS;
    }
    if (desc && desc->allocator) script->allocator = *desc->allocator;
    script->watch.allocator = script->allocator;
    script->reserve.closed = 1;
    if (guest_prepare(script)) script->L = lua_newstate(guest_allocate, script);
    script->reserve.closed = 0;
    /* From here on: a limit is for scripts. */
    if (desc) script->memory_limit = desc->memory_limit;
    if (script->restricted && script->memory_limit <= 0) script->memory_limit = RESTRICTED_MEMORY;
    distac_status status = DISTAC_ENOMEM;
    const char *text = "out of memory";
    if (script->L) {
        opening o = {script, desc};
        int rc = ds_protected(script->L, open_protected, &o);
        if (rc == 0) {
            *out = script;
            return DISTAC_OK;
        }
        text = guest_error_text(script->L);
        status = rc == LUA_ERRMEM ? DISTAC_ENOMEM : guest_error_status(script->L, lua_gettop(script->L));
        if (status == DISTAC_EINVAL && strstr(text, "distac/init.lua")) status = DISTAC_ENOTFOUND;
        if (status == DISTAC_EINVAL && strstr(text, "Lua files of distac")) status = DISTAC_ENOTFOUND;
    }
    char whole[512];
    snprintf(whole, sizeof whole, "distac_script_open: %s", text);
    distac_script_close(script);
    return guest_refuse(NULL, status, whole);
}

void distac_script_close(distac_script *script) {
    if (!script) return;
    script->reserve.closed = 1;
    script->memory_limit = 0;
    if (script->L) {
        lua_sethook(script->L, NULL, 0, 0); /* finalizers are not to be cut short */
#if LUA_VERSION_NUM < 504
        luaJIT_setmode(script->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
        luaJIT_setmode(script->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
#endif
        lua_close(script->L);
    }
    guest_forget(script);
    ds_watch_destroy(&script->watch);
    pthread_mutex_destroy(&script->progress_lock);
    free(script->error);
    free(script->json);
    free(script->output);
    free(script->shown);
    free(script);
}
