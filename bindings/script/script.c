/* script.c: what a host does with a script (distac_script.h): its globals, running it, results and output. */
#include "guest.h"
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char result_key = 0; /* its address is a registry key */

/* ---- globals */

typedef struct setting {
    const char *name, *text;
    double number;
    int boolean, type;
    const distac_script *script;
} setting;

static int set_protected(lua_State *L) {
    setting *s = lua_touserdata(L, 1);
    guest_push_world(L, s->script);
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
        return guest_refuse(script, DISTAC_EINVAL, text);
    }
    s.script = script;
    int rc = ds_protected(script->L, set_protected, &s);
    if (rc == 0) return DISTAC_OK;
    guest_set_error(script, guest_error_text(script->L));
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
        guest_push_world(L, r->script);
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

/* Lua writes and reads numbers as text, which comes back only
 * when rounded to nearest; a host may have another mode. */
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
            status = guest_error_status(L, lua_gettop(L));
        if (r->phase == 0 && status != DISTAC_ENOMEM)
            status = r->path && distac_path_kind(r->path) != 1 ? DISTAC_EIO : DISTAC_EFORMAT;
        guest_set_error(script, guest_error_text(L));
        lua_settop(L, 0);
        if (status == DISTAC_ENOMEM) collect(script);
    }
    if (script->stopped != DISTAC_OK && status != DISTAC_OK) status = script->stopped;
    /* A cancel is used up by the run that it ended; one that came too late goes with it. */
    if (atomic_load(&script->watch.cancelled)) ds_watch_clear(&script->watch);
    return status;
}

distac_status distac_script_run_file(distac_script *script, const char *path) {
    if (!script || !path)
        return guest_refuse(script, DISTAC_EINVAL, "distac_script_run_file: an argument is NULL");
    running r = {path, NULL, NULL, 0, 0, script};
    return run(script, &r);
}

distac_status distac_script_run_string(distac_script *script, const char *text, int64_t bytes,
                                       const char *chunk_name) {
    if (!script || !text || bytes < 0) {
        return guest_refuse(script, DISTAC_EINVAL,
                            "distac_script_run_string: an argument is NULL, or bytes negative");
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
    if (!script || !out) return guest_refuse(script, DISTAC_EINVAL, "distac_script_result: an argument is NULL");
    *out = "null";
    free(script->json);
    script->json = NULL;
    arm(script);
    int rc = protected_to_nearest(script->L, result_protected, script);
    if (rc != 0) {
        guest_set_error(script, guest_error_text(script->L));
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
