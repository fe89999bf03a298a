/* embed_lua_state.c: a program with a Lua of its own gives its scripts the engine: nothing but `require "distac"`.
 *
 *   cc embed_lua_state.c $(pkg-config --cflags --libs lua5.4) -o embed_lua_state     (or luajit instead of lua5.4)
 *   ./embed_lua_state model.safetensors head.safetensors picture.png...
 *
 * The module is found where Lua looks for modules; LUA_PATH and LUA_CPATH say where else. Everything that it opens
 * belongs to the state and goes with lua_close. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

/* The host's side of the table `host`: scripts report what they found; a program would keep it. */
static int host_found(lua_State *L) {
    printf("%s: class %d, %.4f\n", luaL_checkstring(L, 1), (int)luaL_checkinteger(L, 2), luaL_checknumber(L, 3));
    return 0;
}

/* The part of the program that its users may change. */
static const char script[] =
    "local distac = require 'distac'\n"
    "local model, head = distac.vit(distac.load(host.files[1])), distac.load_head(host.files[2])\n"
    "local size, channels = model:config().image, model:config().channels\n"
    "for i = 3, #host.files do\n"
    "    local picture = distac.image.load(host.files[i], { channels = channels })\n"
    "    local pixels = channels == 3 and distac.image.clip(picture, size) or picture:fit(size):tensor()\n"
    "    local logits = head:logits(model:features(pixels:reshape(1, channels, size, size)))\n"
    "    local shares = logits:softmax()\n"
    "    host.found(host.files[i], shares:argmax():item() - 1, shares:max():item())\n"
    "end\n";

/* Everything that can fail runs protected, the opening of libraries too. */
static int run(lua_State *L) {
    char **files = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_newtable(L);
    lua_pushcfunction(L, host_found);
    lua_setfield(L, -2, "found");
    lua_newtable(L);
    for (int i = 0; files[i]; i++) {
        lua_pushstring(L, files[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "files");
    lua_setglobal(L, "host");
    if (luaL_loadbuffer(L, script, sizeof script - 1, "=script") != 0) return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

/* Errors of the engine are objects with .code and .message; tostring gives the message. */
static int as_text(lua_State *L) {
    lua_getglobal(L, "tostring");
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "usage: %s MODEL HEAD PICTURE...\n", argv[0]), 2;
    lua_State *L = luaL_newstate();
    if (!L) return fprintf(stderr, "out of memory\n"), 1;
    lua_pushcfunction(L, as_text);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, argv + 1);
    int bad = lua_pcall(L, 1, 0, 1);
    if (bad) fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return bad ? 1 : 0;
}
