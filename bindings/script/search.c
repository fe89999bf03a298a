/* search.c: finds distac's own Lua files for `require`. Lua's searcher takes
 * every file that it cannot open for one that is not there, also when memory
 * or descriptors ran out; this one knows the folder and tells these apart. */
#define _GNU_SOURCE
#include "vm.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct source {
    int file, error;
    char buffer[4096];
} source;

static const char *read_on(lua_State *L, void *ud, size_t *bytes) {
    (void)L;
    source *s = ud;
    ssize_t n;
    do n = read(s->file, s->buffer, sizeof s->buffer);
    while (n < 0 && errno == EINTR);
    if (n < 0) s->error = errno;
    *bytes = n > 0 ? (size_t)n : 0;
    return n > 0 ? s->buffer : NULL;
}

/* What the file of this module could be called: "distac.a.b" is FOLDER/distac/a/b.lua or
 * FOLDER/distac/a/b/init.lua. */
static int path_of(char *out, const char *folder, const char *name, const char *end) {
    int n = snprintf(out, PATH_MAX, "%s/%s%s", folder, name, end);
    if (n < 0 || n >= PATH_MAX) return 0;
    for (char *at = out + strlen(folder); at < out + n - strlen(end); at++)
        if (*at == '.') *at = '/';
    return 1;
}

/* Pushes the module's function and its path; nothing if there is no such file: then the next searcher says so. */
static int search(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *folder = lua_tostring(L, lua_upvalueindex(1));
    if (strcmp(name, "distac") != 0 && strncmp(name, "distac.", 7) != 0) return 0;
    char path[PATH_MAX], chunk[PATH_MAX + 1];
    source s = {.file = -1};
    static const char *const ends[] = {".lua", "/init.lua"};
    for (int i = 0; i < 2 && s.file < 0; i++) {
        if (!path_of(path, folder, name, ends[i])) return 0;
        s.file = open(path, O_RDONLY | O_CLOEXEC);
        if (s.file < 0 && errno != ENOENT && errno != ENOTDIR) {
            return luaL_error(L, "cannot open %s: %s", path, strerror(errno));
        }
    }
    if (s.file < 0) return 0;
    snprintf(chunk, sizeof chunk, "@%s", path);
#if LUA_VERSION_NUM >= 504
    int rc = lua_load(L, read_on, &s, chunk, "t");
#else
    int rc = lua_load(L, read_on, &s, chunk);
#endif
    close(s.file);
    if (s.error != 0) return luaL_error(L, "cannot read %s: %s", path, strerror(s.error));
    if (rc != 0) return lua_error(L);
    lua_pushstring(L, path);
    return 2;
}

void ds_search_in(lua_State *L, const char *folder) {
    lua_getglobal(L, "package");
#if LUA_VERSION_NUM >= 504
    lua_getfield(L, -1, "searchers");
    int count = (int)lua_rawlen(L, -1);
#else
    lua_getfield(L, -1, "loaders");
    int count = (int)lua_objlen(L, -1);
#endif
    for (int i = count; i >= 2; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushstring(L, folder);
    lua_pushcclosure(L, search, 1);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}
