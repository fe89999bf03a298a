/* vm.h: what the host library and the program share: a Lua state that knows `require "distac"`, the list of its
 * contexts for cancelling, and the few differences between Lua 5.4 and LuaJIT. Private. */
#ifndef DISTAC_VM_H
#define DISTAC_VM_H

#include "distac.h"
#include "watch.h"
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#if LUA_VERSION_NUM >= 504
#define DS_LUA_TREE "5.4"
#define DS_RUNTIME  "Lua 5.4"
#else
#include <luajit.h>
#define DS_LUA_TREE "5.1"
#define DS_RUNTIME  "LuaJIT"
#endif

#define DS_CONTEXTS 64 /* contexts beyond these cannot be cancelled from outside */
typedef struct ds_watch {
    distac_watch base;
    pthread_mutex_t lock;
    distac_allocator allocator; /* given to every context; without functions: none */
    _Atomic(distac_context *) contexts[DS_CONTEXTS];
    atomic_int cancelled;
} ds_watch;

void ds_watch_init(ds_watch *watch);
void ds_watch_destroy(ds_watch *watch);
void ds_watch_cancel(ds_watch *watch);        /* from any thread */
void ds_watch_cancel_signal(ds_watch *watch); /* from a signal handler on the thread of the Lua state */
void ds_watch_clear(ds_watch *watch);

/* Calls f(L) with ud as its light userdata argument, protected, without allocating outside of protection. */
int ds_protected(lua_State *L, lua_CFunction f, void *ud);

/* Opens the libraries and makes `require "distac"` work. Call it protected. lua_path NULL: searched beside
 * `program` (the running executable) or beside this library. Raises a string if nothing is found. */
void ds_prepare(lua_State *L, ds_watch *watch, const char *lua_path, int program);

/* `require` looks for distac's own modules in this folder, after package.preload and before package.path. */
void ds_search_in(lua_State *L, const char *folder);

#if LUA_VERSION_NUM >= 504
/* What ends a script that has used up its instructions or is
 * cancelled: asked by C code that works long. NULL: none. */
typedef void (*ds_charge)(lua_State *L, int64_t instructions);
void ds_set_charge(lua_State *L, ds_charge charge);
ds_charge ds_charge_of(lua_State *L);
/* The table of bounded pattern functions (strings.c). */
int ds_open_patterns(lua_State *L);
#endif

/* Message handler: strings get a traceback; error objects keep code, their message gets it. */
int ds_traceback(lua_State *L);
/* Pushes the words of the value at index. */
const char *ds_words(lua_State *L, int index);

#endif
