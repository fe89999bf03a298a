/* error.c: the error of a script, as text and status: what Lua raised, and what was wrong with a call. */
#include "guest.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char open_error[512]; /* of this thread's last distac_script_open */

void guest_set_error(distac_script *script, const char *text) {
    size_t bytes = strlen(text) + 1;
    free(script->error);
    script->error = malloc(bytes);
    if (script->error) memcpy(script->error, text, bytes);
    snprintf(script->short_error, sizeof script->short_error, "%s", text);
}

/* Of Lua's own memory error nothing but the words is left when LuaJIT's code has caught it and raised it again. */
distac_status guest_error_status(lua_State *L, int index) {
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

const char *guest_error_text(lua_State *L) {
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

const char *distac_script_error(const distac_script *script) {
    if (!script) return open_error;
    return script->error ? script->error : script->short_error;
}

distac_status guest_refuse(distac_script *script, distac_status status, const char *text) {
    if (script)
        guest_set_error(script, text);
    else
        snprintf(open_error, sizeof open_error, "%s", text);
    return status;
}
