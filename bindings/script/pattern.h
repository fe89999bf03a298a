/* pattern.h: a Lua pattern matched with a text, in a number of steps that has a bound. Private. */
#ifndef DISTAC_PATTERN_H
#define DISTAC_PATTERN_H

#include "vm.h"
#include <stdint.h>

#if LUA_VERSION_NUM >= 504 /* LuaJIT has no restricted mode */

enum { DS_CAPTURES = 32 };

typedef struct ds_matching {
    lua_State *L;
    const char *subject, *end;         /* the text */
    const char *pattern, *pattern_end; /* behind an anchor */
    int64_t steps;
    ds_charge charge;
    int depth, level;
    struct {
        const char *at;
        ptrdiff_t length; /* or what pattern.c has instead of one */
    } capture[DS_CAPTURES];
} ds_matching;

/* The text and the pattern at these indices of the stack; they have to stay there. */
ds_matching ds_match_start(lua_State *L, int text, int pattern);
/* Where a match that begins at s ends, NULL: none does. Raises
 * an error for a malformed pattern and beyond the bound. */
const char *ds_match_at(ds_matching *m, const char *s);
/* Capture i (0-based) of the match from s to end, which is the whole match if there are no captures. */
void ds_push_capture(ds_matching *m, int i, const char *s, const char *end);
/* All captures; without any the whole match where s is given. Returns their number. */
int ds_push_captures(ds_matching *m, const char *s, const char *end);

#endif
#endif
