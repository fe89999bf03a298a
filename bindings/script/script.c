/* script.c: the host library (distac_script.h): one protected Lua state with limits, results and cancelling. */
#include "guest.h"
#include <errno.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char open_error[512];
static const char result_key = 0, world_key = 0; /* their addresses are registry keys */

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

#if LUA_VERSION_NUM >= 504
static void set_field_list(lua_State *L, const char *name, const char *const *paths) {
    lua_newtable(L);
    for (int i = 0; paths && paths[i]; i++) {
        lua_pushstring(L, paths[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, name);
}

/* From here on the state is restricted, and its scripts have an environment of their own. */
static void restrict_state(lua_State *L, const distac_script_desc *desc) {
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

/* Pushes the table of a script's globals. */
static void push_world(lua_State *L, const distac_script *script) {
    if (script->restricted) {
        push_key(L, &world_key);
        lua_rawget(L, LUA_REGISTRYINDEX);
    } else {
        lua_getglobal(L, "_G");
    }
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
    const distac_context_desc *engine = o->desc ? o->desc->engine : NULL;
    if (engine) {
        lua_getglobal(L, "require");
        lua_pushliteral(L, "distac");
        lua_call(L, 1, 1);
        lua_getfield(L, -1, "configure");
        lua_newtable(L);
        set_field_integer(L, "threads", engine->threads);
        set_field_integer(L, "memory", engine->memory_limit);
        set_field_integer(L, "seed", (int64_t)engine->seed);
        if (engine->device) {
            lua_pushstring(L, engine->device);
            lua_setfield(L, -2, "device");
        }
        if (engine->kernels) {
            lua_pushstring(L, engine->kernels);
            lua_setfield(L, -2, "kernels");
        }
        if (engine->products) {
            lua_pushstring(L, engine->products);
            lua_setfield(L, -2, "products");
        }
        lua_call(L, 1, 0);
    }
#if LUA_VERSION_NUM >= 504
    if (o->script->restricted) {
        ds_set_charge(L, guest_charge);
        restrict_state(L, o->desc);
    }
#endif
    lua_sethook(L, guest_hook, LUA_MASKCOUNT, HOOK_COUNT);
    return 0;
}

/* Without memory for all of it the beginning stays. */
static void set_error(distac_script *script, const char *text) {
    size_t bytes = strlen(text) + 1;
    free(script->error);
    script->error = malloc(bytes);
    if (script->error) memcpy(script->error, text, bytes);
    snprintf(script->short_error, sizeof script->short_error, "%s", text);
}

/* Status of the error value at index: the engine's code, ENOMEM for what the C library or Lua had no memory for, or
 * EINVAL. Of Lua's own memory error nothing but the words is left when LuaJIT's code has caught it and raised it again. */
static distac_status status_of(lua_State *L, int index) {
    distac_status status = DISTAC_EINVAL;
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
    if (text && (strstr(text, strerror(ENOMEM)) || strstr(text, "not enough memory"))) return DISTAC_ENOMEM;
    if (!lua_istable(L, index)) return status;
    lua_pushliteral(L, "code");
    lua_rawget(L, index);
    if (lua_type(L, -1) == LUA_TSTRING) {
        for (distac_status s = DISTAC_ENOMEM; s >= DISTAC_EUNSUPPORTED; s--) {
            if (strcmp(distac_status_name(s), lua_tostring(L, -1)) == 0) status = s;
        }
    }
    lua_pop(L, 1);
    return status;
}

/* Text of the error value on top without running Lua code that could fail. */
static const char *text_of(lua_State *L) {
    if (lua_type(L, -1) == LUA_TSTRING) return lua_tostring(L, -1);
    if (lua_istable(L, -1)) {
        lua_pushliteral(L, "message"); /* interned when the library was opened */
        lua_rawget(L, -2);
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        lua_pop(L, 1); /* the error table still holds it */
        if (text) return text;
    }
    return "an error that is no text";
}

distac_status distac_script_open(const distac_script_desc *desc, distac_script **out) {
    open_error[0] = '\0';
    if (!out) {
        snprintf(open_error, sizeof open_error, "distac_script_open: out is NULL");
        return DISTAC_EINVAL;
    }
    *out = NULL;
#if LUA_VERSION_NUM < 504
    if (desc && desc->restricted) {
        snprintf(open_error, sizeof open_error,
                 "distac_script_open: LuaJIT has no restricted mode: its FFI reaches all memory; build with Lua 5.4");
        return DISTAC_EUNSUPPORTED;
    }
#endif
    distac_script *script = calloc(1, sizeof *script);
    if (!script) {
        snprintf(open_error, sizeof open_error, "distac_script_open: out of memory");
        return DISTAC_ENOMEM;
    }
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
        text = text_of(script->L);
        status = rc == LUA_ERRMEM ? DISTAC_ENOMEM : status_of(script->L, lua_gettop(script->L));
        if (status == DISTAC_EINVAL && strstr(text, "distac/init.lua")) status = DISTAC_ENOTFOUND;
        if (status == DISTAC_EINVAL && strstr(text, "Lua files of distac")) status = DISTAC_ENOTFOUND;
    }
    snprintf(open_error, sizeof open_error, "distac_script_open: %s", text);
    distac_script_close(script);
    return status;
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

const char *distac_script_error(const distac_script *script) {
    if (!script) return open_error;
    return script->error ? script->error : script->short_error;
}

static distac_status refuse(distac_script *script, distac_status status, const char *text) {
    if (script)
        set_error(script, text);
    else
        snprintf(open_error, sizeof open_error, "%s", text);
    return status;
}

/* ---- globals */

typedef struct setting {
    const char *name, *text;
    double number;
    int boolean, type;
    const distac_script *script;
} setting;

static int set_protected(lua_State *L) {
    setting *s = lua_touserdata(L, 1);
    push_world(L, s->script);
    lua_pushstring(L, s->name);
    if (s->type == LUA_TNUMBER)
        lua_pushnumber(L, s->number);
    else if (s->type == LUA_TSTRING)
        lua_pushstring(L, s->text);
    else
        lua_pushboolean(L, s->boolean);
    lua_rawset(L, -3);
    return 0;
}

static distac_status set_global(distac_script *script, setting s, const char *function) {
    if (!script || !s.name || (s.type == LUA_TSTRING && !s.text)) {
        char text[96];
        snprintf(text, sizeof text, "%s: %s is NULL", function, !script ? "script" : !s.name ? "name" : "value");
        return refuse(script, DISTAC_EINVAL, text);
    }
    s.script = script;
    int rc = ds_protected(script->L, set_protected, &s);
    if (rc == 0) return DISTAC_OK;
    set_error(script, text_of(script->L));
    lua_settop(script->L, 0);
    return rc == LUA_ERRMEM ? DISTAC_ENOMEM : DISTAC_EINVAL;
}

distac_status distac_script_set_number(distac_script *script, const char *name, double value) {
    return set_global(script, (setting){name, NULL, value, 0, LUA_TNUMBER, script}, __func__);
}

distac_status distac_script_set_string(distac_script *script, const char *name, const char *value) {
    return set_global(script, (setting){name, value, 0, 0, LUA_TSTRING, script}, __func__);
}

distac_status distac_script_set_boolean(distac_script *script, const char *name, int32_t value) {
    return set_global(script, (setting){name, NULL, 0, value != 0, LUA_TBOOLEAN, script}, __func__);
}

/* ---- running */

typedef struct running {
    const char *path, *text, *name;
    size_t bytes;
    int phase; /* 0 loading, 1 running */
    const distac_script *script;
} running;

static int run_protected(lua_State *L) {
    running *r = lua_touserdata(L, 1);
    lua_settop(L, 0);
    push_key(L, &result_key);
    lua_pushnil(L);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, ds_traceback);
    int rc = r->path ? luaL_loadfilex(L, r->path, "t") : luaL_loadbufferx(L, r->text, r->bytes, r->name, "t");
    if (rc != 0) return lua_error(L);
#if LUA_VERSION_NUM >= 504
    if (r->script->restricted) {
        push_world(L, r->script);
        lua_setupvalue(L, -2, 1); /* a chunk's only upvalue is its environment */
    }
#endif
    r->phase = 1;
    rc = lua_pcall(L, 0, 1, 1);
    if (rc != 0) {
        if (rc == LUA_ERRMEM) r->phase = 2;
        return lua_error(L);
    }
    push_key(L, &result_key);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 0;
}

static int collect_protected(lua_State *L) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

/* What a failed run left would stand in the way of the next one. LuaJIT needs some bytes to begin with. */
static void collect(distac_script *script) {
    int64_t limit = script->memory_limit;
    script->memory_limit = 0;
    script->reserve.closed = 1;
    if (ds_protected(script->L, collect_protected, NULL) != 0) lua_settop(script->L, 0);
    script->reserve.closed = 0;
    script->memory_limit = limit;
}

/* Lua writes and reads numbers as text, which comes back only when rounded to nearest; a host may have another mode. */
static int protected_to_nearest(lua_State *L, lua_CFunction f, void *ud) {
    const int mode = fegetround();
    if (mode != FE_TONEAREST) fesetround(FE_TONEAREST);
    int rc = ds_protected(L, f, ud);
    if (mode != FE_TONEAREST) fesetround(mode);
    return rc;
}

/* Everything that a run may use up is there again. */
static void arm(distac_script *script) {
    script->stopped = DISTAC_OK;
    script->refused = 0;
    script->instructions_left = script->instruction_limit;
    lua_sethook(script->L, guest_hook, LUA_MASKCOUNT, HOOK_COUNT);
}

static distac_status run(distac_script *script, running *r) {
    arm(script);
    free(script->error);
    script->error = NULL;
    script->short_error[0] = '\0';
    lua_State *L = script->L;
    lua_settop(L, 0);
    int rc = protected_to_nearest(L, run_protected, r);
    distac_status status = DISTAC_OK;
    if (rc != 0) {
        if (rc == LUA_ERRMEM || r->phase == 2)
            status = DISTAC_ENOMEM;
        else
            status = status_of(L, lua_gettop(L));
        if (r->phase == 0 && status != DISTAC_ENOMEM)
            status = r->path && distac_path_kind(r->path) != 1 ? DISTAC_EIO : DISTAC_EFORMAT;
        set_error(script, text_of(L));
        lua_settop(L, 0);
        if (status == DISTAC_ENOMEM) collect(script);
    }
    if (script->stopped != DISTAC_OK && status != DISTAC_OK) status = script->stopped;
    /* A cancel is used up by the run that it ended; one that came too late goes with it. */
    if (atomic_load(&script->watch.cancelled)) ds_watch_clear(&script->watch);
    return status;
}

distac_status distac_script_run_file(distac_script *script, const char *path) {
    if (!script || !path) return refuse(script, DISTAC_EINVAL, "distac_script_run_file: an argument is NULL");
    running r = {path, NULL, NULL, 0, 0, script};
    return run(script, &r);
}

distac_status distac_script_run_string(distac_script *script, const char *text, int64_t bytes,
                                       const char *chunk_name) {
    if (!script || !text || bytes < 0) {
        return refuse(script, DISTAC_EINVAL, "distac_script_run_string: an argument is NULL, or bytes negative");
    }
    running r = {NULL, text, chunk_name ? chunk_name : "=script", (size_t)bytes, 0, script};
    return run(script, &r);
}

/* ---- results */

static int result_protected(lua_State *L) {
    distac_script *script = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.json");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "encode");
    push_key(L, &result_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_call(L, 1, 1);
    size_t bytes;
    const char *text = luaL_checklstring(L, -1, &bytes);
    script->json = malloc(bytes + 1);
    if (!script->json) return guest_no_memory(L);
    memcpy(script->json, text, bytes + 1);
    return 0;
}

distac_status distac_script_result(distac_script *script, const char **out) {
    if (!script || !out) return refuse(script, DISTAC_EINVAL, "distac_script_result: an argument is NULL");
    *out = "null";
    free(script->json);
    script->json = NULL;
    arm(script);
    int rc = protected_to_nearest(script->L, result_protected, script);
    if (rc != 0) {
        set_error(script, text_of(script->L));
        lua_settop(script->L, 0);
        if (script->stopped != DISTAC_OK) return script->stopped;
        return rc == LUA_ERRMEM ? DISTAC_ENOMEM : DISTAC_EUNSUPPORTED;
    }
    *out = script->json ? script->json : "null";
    return DISTAC_OK;
}

const char *distac_script_output(distac_script *script) {
    if (!script || !script->output) return "";
    free(script->shown);
    script->shown = script->output;
    script->output = NULL;
    script->output_length = 0;
    return script->shown;
}

void distac_script_cancel(distac_script *script) {
    if (script) ds_watch_cancel(&script->watch);
}
