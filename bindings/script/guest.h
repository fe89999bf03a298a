/* guest.h: one script: its Lua state, what watches over it while it runs, its errors, its globals. Private. */
#ifndef DISTAC_GUEST_H
#define DISTAC_GUEST_H

#include "distac_script.h"
#include "vm.h"

#define REFUSED    100  /* requests beyond the memory limit that a run may survive: each costs a full collection */
#define HOOK_COUNT 1000 /* instructions between two looks at flag and budget */

/* What LuaJIT lives on where it cannot do without memory: while it makes its state and its FFI, inside compiled
 * code (it crashes there when nothing is left), and to let go of everything at the end. Lua 5.4 needs none. */
typedef struct guest_reserve {
    char *memory;
    size_t used;   /* bytes from the beginning that are taken; 0 again when nothing of them lives */
    int64_t count; /* blocks that live in it */
    int closed;    /* nobody is told that it is used: nothing may raise an error now */
} guest_reserve;

struct distac_script {
    lua_State *L;
    ds_watch watch;
    distac_allocator allocator;         /* where memory comes from; without functions: the C library */
    int64_t memory_limit, memory_used;
    guest_reserve reserve;
    int64_t instruction_limit, instructions_left;
    int restricted;
    int refused; /* requests of this run beyond memory_limit */
    distac_status stopped; /* why the hook ended the run; DISTAC_OK: it did not */
    char *error, *json, *output, *shown;
    char short_error[256]; /* the beginning of error, for when there is no memory for it */
    size_t output_length;
    pthread_mutex_t progress_lock;
    distac_script_progress progress;
};

/* The address of a static as a registry key. */
static inline void push_key(lua_State *L, const char *key) {
    lua_pushlightuserdata(L, (void *)(size_t)key);
}

/* ---- error.c ---- */
/* The script's error from now on. Without memory for all of it the beginning stays. */
void guest_set_error(distac_script *script, const char *text);
/* The same for a call with wrong arguments, whose status is returned; script NULL: of distac_script_open. */
distac_status guest_refuse(distac_script *script, distac_status status, const char *text);
/* Status of the error value at index: the engine's code, ENOMEM
 * for what the C library or Lua had no memory for, or EINVAL. */
distac_status guest_error_status(lua_State *L, int index);
/* Text of the error value on top without running Lua code that could fail. It lives as long as the value. */
const char *guest_error_text(lua_State *L);

/* ---- world.c ---- */
/* Pushes the table of a script's globals. */
void guest_push_world(lua_State *L, const distac_script *script);
#if LUA_VERSION_NUM >= 504
/* From here on the state is restricted, and its scripts have an environment of their own. */
void guest_restrict(lua_State *L, const distac_script_desc *desc);
#endif

/* ---- guest.c ---- */
/* lua_Alloc with the memory limit; ud is the script. */
void *guest_allocate(void *ud, void *old, size_t old_bytes, size_t bytes);
/* Allocates the reserve, where one is needed; 0 without memory. And frees it. */
int guest_prepare(distac_script *script);
void guest_forget(distac_script *script);
/* Makes the script known to its Lua state, for the two below. */
void guest_register(lua_State *L, distac_script *script);
/* Ends runs that are cancelled or over their budget; the hook does so every HOOK_COUNT instructions. */
void guest_charge(lua_State *L, int64_t instructions);
void guest_hook(lua_State *L, lua_Debug *record);
/* Ends a run as Lua does when its memory ends. */
int guest_no_memory(lua_State *L);
/* xpcall of scripts (Lua 5.4): its handlers are no place to hide from limits. */
int guest_xpcall(lua_State *L);
/* print of scripts: collects text for distac_script_output. */
int guest_print(lua_State *L);
/* (what, done, total), or nothing at the end of a part: lays it down for distac_script_get_progress. */
int guest_progress(lua_State *L);

#endif
