/* repl.c: starts the prompt. What it does is written in Lua (distac.repl); this file lends it the terminal, and
 * calls what was typed so that Ctrl-C reaches it. */
#include "program.h"

/* run(f, ...) -> true, interrupted, results...; or false, interrupted, error with traceback */
static int run(lua_State *L) {
    int arguments = lua_gettop(L) - 1;
    lua_pushcfunction(L, ds_traceback);
    lua_insert(L, 1);
    interrupt_begin(L, INTERRUPT_PROMPT);
    int status = lua_pcall(L, arguments, LUA_MULTRET, 1);
    int interrupted = interrupt_end();
    lua_remove(L, 1);
    luaL_checkstack(L, 2, "too many results");
    lua_pushboolean(L, status == 0);
    lua_insert(L, 1);
    lua_pushboolean(L, interrupted);
    lua_insert(L, 2);
    return lua_gettop(L);
}

static int open_terminal(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"run", run}, {"gentle", interrupt_gentle}, {"current", interrupt_current}, {NULL, NULL}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_pushlightuserdata(L, (void *)(size_t)interrupt_flag());
    lua_setfield(L, -2, "flag");
    lua_pushliteral(L, DS_RUNTIME);
    lua_setfield(L, -2, "runtime");
    terminal_functions(L);
    child_functions(L);
    return 1;
}

void repl_offer(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open_terminal);
    lua_setfield(L, -2, "distac.terminal");
    lua_pop(L, 2);
}

void repl_run(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.repl");
    if (program_call(L, 1, 1) != 0) return;
    lua_getfield(L, -1, "run");
    program_call(L, 0, 0);
    lua_settop(L, 0);
}
