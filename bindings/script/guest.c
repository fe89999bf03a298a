/* guest.c: what watches over a script while it runs: memory
 * and instruction limits, cancelling, its output, progress. */
#include "guest.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT_MAX ((size_t)1 << 20) /* of collected print text; more is dropped */

static const char script_key = 0; /* its address is a registry key */

void guest_register(lua_State *L, distac_script *script) {
    push_key(L, &script_key);
    lua_pushlightuserdata(L, script);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static distac_script *script_of(lua_State *L) {
    push_key(L, &script_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    distac_script *script = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return script;
}

/* ---- memory ---- */

#if LUA_VERSION_NUM < 504
enum { RESERVE = 256 << 10, RESERVE_MOST = 32 << 10 /* of it for one request */ };
#else
enum { RESERVE = 0, RESERVE_MOST = 0 };
#endif

/* Lua makes blocks smaller and does not expect that to fail, so one may be longer than Lua says: before a block of
 * the host's is written how long it is. */
enum { BEFORE = sizeof(max_align_t) };

static void *host_take(const distac_script *script, size_t bytes) {
    const distac_allocator *host = &script->allocator;
    if (!host->allocate) return malloc(bytes);
    if (bytes > SIZE_MAX - BEFORE) return NULL;
    char *memory = host->allocate(host->user, BEFORE + bytes, _Alignof(max_align_t));
    if (!memory) return NULL;
    memcpy(memory, &bytes, sizeof bytes);
    return memory + BEFORE;
}

static void host_give(const distac_script *script, void *memory) {
    const distac_allocator *host = &script->allocator;
    if (!host->allocate) {
        free(memory);
    } else if (memory) {
        size_t bytes;
        char *start = (char *)memory - BEFORE;
        memcpy(&bytes, start, sizeof bytes);
        host->release(host->user, start, BEFORE + bytes, _Alignof(max_align_t));
    }
}

int guest_prepare(distac_script *script) {
    if (RESERVE > 0) script->reserve.memory = host_take(script, RESERVE);
    return RESERVE == 0 || script->reserve.memory;
}

void guest_forget(distac_script *script) {
    host_give(script, script->reserve.memory);
}

static int in_reserve(const distac_script *script, const void *memory) {
    const char *at = memory, *start = script->reserve.memory;
    return RESERVE > 0 && memory && at >= start && at < start + RESERVE;
}

/* Something of the reserve, and the script ends with an error as soon as it can be told. */
static void *from_reserve(distac_script *script, size_t bytes) {
    guest_reserve *reserve = &script->reserve;
    size_t room = (bytes + 15) / 16 * 16;
    if (!reserve->memory || bytes > RESERVE_MOST || room > RESERVE - reserve->used) return NULL;
    void *memory = reserve->memory + reserve->used;
    reserve->used += room;
    reserve->count++;
    if (!reserve->closed) {
        script->stopped = DISTAC_ENOMEM;
        lua_sethook(script->L, guest_hook, LUA_MASKCOUNT, 1);
    }
    return memory;
}

static void give(distac_script *script, void *memory) {
    guest_reserve *reserve = &script->reserve;
    if (!in_reserve(script, memory)) {
        host_give(script, memory);
    } else if (--reserve->count == 0) {
        reserve->used = 0;
    }
}

/* A block of the host that may move, with what was in it. */
static void *moved(distac_script *script, void *old, size_t old_bytes, size_t bytes) {
    if (!script->allocator.allocate && !in_reserve(script, old)) return realloc(old, bytes);
    void *memory = host_take(script, bytes);
    if (!memory || !old) return memory;
    memcpy(memory, old, old_bytes < bytes ? old_bytes : bytes);
    give(script, old);
    return memory;
}

void *guest_allocate(void *ud, void *old, size_t old_bytes, size_t bytes) {
    distac_script *script = ud;
    int64_t before = old ? (int64_t)old_bytes : 0;
    if (bytes == 0) {
        give(script, old);
        script->memory_used -= before;
        return NULL;
    }
    int64_t after = script->memory_used - before + (int64_t)bytes;
    void *memory = NULL;
    if (script->memory_limit > 0 && after > script->memory_limit && (int64_t)bytes > before)
        script->refused++;
    else
        memory = moved(script, old, old_bytes, bytes);
    if (!memory && old && bytes <= old_bytes) memory = old; /* shrinking does not fail */
    if (!memory) {
        memory = from_reserve(script, bytes);
        if (memory && old) {
            memcpy(memory, old, old_bytes);
            give(script, old);
        }
    }
    if (memory) script->memory_used = after;
    return memory;
}

/* ---- limits and cancelling ---- */

void guest_hook(lua_State *L, lua_Debug *record) {
    (void)record;
    guest_charge(L, HOOK_COUNT);
}

void guest_charge(lua_State *L, int64_t instructions) {
    distac_script *script = script_of(L);
    if (atomic_load(&script->watch.cancelled)) {
        script->stopped = DISTAC_ECANCELED;
    } else if (script->instruction_limit > 0) {
        script->instructions_left -= instructions;
        if (script->instructions_left < 0) script->stopped = DISTAC_ECANCELED;
    }
    if (script->stopped == DISTAC_OK && script->refused > REFUSED) script->stopped = DISTAC_ENOMEM;
    if (script->stopped != DISTAC_OK) {
        lua_sethook(L, guest_hook, LUA_MASKCOUNT, 1); /* a pcall of the script cannot go on */
        if (atomic_load(&script->watch.cancelled)) luaL_error(L, "the script was cancelled");
        if (script->stopped == DISTAC_ENOMEM && script->refused <= REFUSED) luaL_error(L, "not enough memory");
        if (script->stopped == DISTAC_ENOMEM)
            luaL_error(L, "the script ran over its memory limit again and again");
        char limit[24];
        snprintf(limit, sizeof limit, "%lld", (long long)script->instruction_limit);
        luaL_error(L, "the script ran over its limit of %s instructions", limit);
    }
}

#if LUA_VERSION_NUM >= 504
/* A message handler runs where the error was raised, so for the hook's own errors with hooks off: nothing would
 * stop one that does not end. It is left out then. */
static int handle(lua_State *L) {
    if (script_of(L)->stopped != DISTAC_OK) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return 1;
}

static int after_xpcall(lua_State *L, int status, lua_KContext below) {
    if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)below;
    lua_pushboolean(L, 0);
    lua_pushvalue(L, -2);
    return 2;
}

int guest_xpcall(lua_State *L) {
    int n = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return after_xpcall(L, lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, after_xpcall), 2);
}
#endif

int guest_no_memory(lua_State *L) {
    script_of(L)->stopped = DISTAC_ENOMEM;
    return luaL_error(L, "out of memory");
}

int guest_print(lua_State *L) {
    distac_script *script = script_of(L);
    int n = lua_gettop(L);
    for (int i = 1; i <= n + 1; i++) {
        const char *text = i <= n ? ds_words(L, i) : "\n";
        size_t bytes = text ? strlen(text) : 0;
        int tab = i > 1 && i <= n;
        if (script->output_length + bytes + 2 > OUTPUT_MAX) break;
        char *grown = realloc(script->output, script->output_length + bytes + 2);
        if (!grown) return guest_no_memory(L);
        script->output = grown;
        if (tab) grown[script->output_length++] = '\t';
        if (bytes > 0) memcpy(grown + script->output_length, text, bytes);
        script->output_length += bytes;
        grown[script->output_length] = '\0';
        if (i <= n) lua_pop(L, 1);
    }
    return 0;
}

int guest_progress(lua_State *L) {
    distac_script *script = script_of(L);
    const char *what = luaL_optstring(L, 1, "");
    lua_Number done = luaL_optnumber(L, 2, 0), total = luaL_optnumber(L, 3, 0);
    pthread_mutex_lock(&script->progress_lock);
    snprintf(script->progress.what, sizeof script->progress.what, "%s", what);
    script->progress.done = (int64_t)done;
    script->progress.total = (int64_t)total;
    pthread_mutex_unlock(&script->progress_lock);
    return 0;
}

void distac_script_get_progress(distac_script *script, distac_script_progress *out) {
    if (!out) return;
    *out = (distac_script_progress){.what = ""};
    if (!script) return;
    pthread_mutex_lock(&script->progress_lock);
    *out = script->progress;
    pthread_mutex_unlock(&script->progress_lock);
}
