/* pattern.c: string.find, match, gmatch and gsub with a budget, for restricted Lua states. The patterns are Lua's (5.4
 * reference manual, 6.4.1); what differs is that a match which takes more steps than a linear one ever could is an
 * error: those of the standard library run in C, where no hook can stop them. */
#define _GNU_SOURCE 1 /* memmem */
#include "vm.h"
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#if LUA_VERSION_NUM >= 504

enum { CAPTURES = 32, DEEP = 200, STEPS = 1000000, STEPS_A_BYTE = 100, CHARGE = 1024, OPEN = -1, POSITION = -2 };

typedef struct matching {
    lua_State *L;
    const char *subject, *end;         /* the text */
    const char *pattern, *pattern_end; /* behind an anchor */
    int64_t steps;
    ds_charge charge;
    int depth, level;
    struct {
        const char *at;
        ptrdiff_t length; /* or OPEN, POSITION */
    } capture[CAPTURES];
} matching;

/* The steps count as instructions of the script where a host limits these, and it can be cancelled here, too. */
static void step(matching *m) {
    if ((m->steps & (CHARGE - 1)) == 0 && m->charge) m->charge(m->L, CHARGE);
    if (--m->steps < 0) luaL_error(m->L, "the pattern takes too many steps on a text of %d bytes", (int)(m->end - m->subject));
}

static const char charge_key = 0; /* its address is a registry key */

void ds_set_charge(lua_State *L, ds_charge charge) {
    memcpy(lua_newuserdatauv(L, sizeof charge, 0), &charge, sizeof charge);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &charge_key);
}

ds_charge ds_charge_of(lua_State *L) {
    ds_charge charge = NULL;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &charge_key) == LUA_TUSERDATA)
        memcpy(&charge, lua_touserdata(L, -1), sizeof charge);
    lua_pop(L, 1);
    return charge;
}

/* ---- one character ---- */

static const char *item_end(matching *m, const char *p) {
    char first = *p++;
    if (first == '%') {
        if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (first != '[') return p;
    if (p < m->pattern_end && *p == '^') p++;
    do {
        if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%') {
            if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
            p++;
        }
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

static int in_class(int c, int class) {
    int found;
    switch (tolower(class)) {
    case 'a': found = isalpha(c); break;
    case 'c': found = iscntrl(c); break;
    case 'd': found = isdigit(c); break;
    case 'g': found = isgraph(c); break;
    case 'l': found = islower(c); break;
    case 'p': found = ispunct(c); break;
    case 's': found = isspace(c); break;
    case 'u': found = isupper(c); break;
    case 'w': found = isalnum(c); break;
    case 'x': found = isxdigit(c); break;
    case 'z': found = c == 0; break; /* as Lua 5.1 had it */
    default: return class == c;
    }
    return isupper(class) ? !found : found != 0;
}

/* p at the opening bracket, last at the closing one. */
static int in_set(int c, const char *p, const char *last) {
    int wanted = 1;
    if (p[1] == '^') {
        wanted = 0;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            if (in_class(c, (unsigned char)*++p)) return wanted;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) return wanted;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return wanted;
        }
    }
    return !wanted;
}

static int fits(matching *m, const char *s, const char *p, const char *after) {
    step(m);
    if (s >= m->end) return 0;
    int c = (unsigned char)*s;
    if (*p == '.') return 1;
    if (*p == '%') return in_class(c, (unsigned char)p[1]);
    if (*p == '[') return in_set(c, p, after - 1);
    return (unsigned char)*p == c;
}

/* ---- matching from a place on ---- */

static const char *go(matching *m, const char *s, const char *p);

static const char *balanced(matching *m, const char *s, const char *p) {
    if (p + 1 >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= m->end || *s != p[0]) return NULL;
    int depth = 1;
    while (++s < m->end) {
        step(m);
        if (*s == p[1]) {
            if (--depth == 0) return s + 1;
        } else if (*s == p[0]) {
            depth++;
        }
    }
    return NULL;
}

static const char *begin_capture(matching *m, const char *s, const char *p, ptrdiff_t kind) {
    if (m->level == CAPTURES) luaL_error(m->L, "too many captures");
    m->capture[m->level].at = s;
    m->capture[m->level++].length = kind;
    const char *end = go(m, s, p);
    if (!end) m->level--;
    return end;
}

static const char *end_capture(matching *m, const char *s, const char *p) {
    int i = m->level - 1;
    while (i >= 0 && m->capture[i].length != OPEN) i--;
    if (i < 0) luaL_error(m->L, "invalid pattern capture");
    m->capture[i].length = s - m->capture[i].at;
    const char *end = go(m, s, p);
    if (!end) m->capture[i].length = OPEN;
    return end;
}

static const char *same_again(matching *m, const char *s, int digit) {
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->capture[i].length == OPEN) luaL_error(m->L, "invalid capture index %%%d", i + 1);
    size_t length = m->capture[i].length < 0 ? 0 : (size_t)m->capture[i].length;
    m->steps -= (int64_t)length;
    if ((size_t)(m->end - s) < length || memcmp(m->capture[i].at, s, length) != 0) return NULL;
    return s + length;
}

static const char *repeated(matching *m, const char *s, const char *p, const char *after) {
    char how = *after;
    if (how == '-') {
        for (;; s++) {
            const char *end = go(m, s, after + 1);
            if (end || !fits(m, s, p, after)) return end;
        }
    }
    ptrdiff_t count = 0, least = how == '+';
    while (fits(m, s + count, p, after)) count++;
    for (; count >= least; count--) {
        const char *end = go(m, s + count, after + 1);
        if (end) return end;
    }
    return NULL;
}

static int at_frontier(matching *m, const char *s, const char *p, const char *after) {
    int before = s == m->subject ? 0 : (unsigned char)s[-1], here = s < m->end ? (unsigned char)*s : 0;
    return !in_set(before, p, after - 1) && in_set(here, p, after - 1);
}

static const char *go(matching *m, const char *s, const char *p) {
    if (++m->depth > DEEP) luaL_error(m->L, "pattern too complex");
    while (s && p < m->pattern_end) {
        step(m);
        char next = p + 1 < m->pattern_end ? p[1] : '\0';
        if (*p == '(') {
            s = next == ')' ? begin_capture(m, s, p + 2, POSITION) : begin_capture(m, s, p + 1, OPEN);
            p = m->pattern_end;
        } else if (*p == ')') {
            s = end_capture(m, s, p + 1);
            p = m->pattern_end;
        } else if (*p == '$' && p + 1 == m->pattern_end) {
            s = s == m->end ? s : NULL;
            p++;
        } else if (*p == '%' && next == 'b') {
            s = balanced(m, s, p + 2);
            p += 4;
        } else if (*p == '%' && next == 'f') {
            p += 2;
            if (p >= m->pattern_end || *p != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
            const char *after = item_end(m, p);
            s = at_frontier(m, s, p, after) ? s : NULL;
            p = after;
        } else if (*p == '%' && isdigit((unsigned char)next)) {
            s = same_again(m, s, (unsigned char)next);
            p += 2;
        } else {
            const char *after = item_end(m, p);
            char how = after < m->pattern_end ? *after : '\0';
            if (how == '*' || how == '+' || how == '-') {
                s = repeated(m, s, p, after);
                p = m->pattern_end;
            } else if (how == '?') {
                const char *end = fits(m, s, p, after) ? go(m, s + 1, after + 1) : NULL;
                if (end) {
                    s = end;
                    p = m->pattern_end;
                } else {
                    p = after + 1;
                }
            } else {
                s = fits(m, s, p, after) ? s + 1 : NULL;
                p = after;
            }
        }
    }
    m->depth--;
    return s;
}

/* ---- captures ---- */

static void push_capture(matching *m, int i, const char *s, const char *end) {
    if (i >= m->level) {
        if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(end - s));
    } else if (m->capture[i].length == POSITION) {
        lua_pushinteger(m->L, m->capture[i].at - m->subject + 1);
    } else {
        if (m->capture[i].length == OPEN) luaL_error(m->L, "unfinished capture");
        lua_pushlstring(m->L, m->capture[i].at, (size_t)m->capture[i].length);
    }
}

/* All captures; without any the whole match where s is given. */
static int push_captures(matching *m, const char *s, const char *end) {
    int count = m->level == 0 && s ? 1 : m->level;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++) push_capture(m, i, s, end);
    return count;
}

static matching start(lua_State *L, int text, int pattern) {
    size_t length, pattern_length;
    matching m = {.L = L};
    m.subject = luaL_checklstring(L, text, &length);
    m.pattern = luaL_checklstring(L, pattern, &pattern_length);
    m.end = m.subject + length;
    m.pattern_end = m.pattern + pattern_length;
    m.steps = STEPS + STEPS_A_BYTE * (int64_t)length;
    m.charge = ds_charge_of(L);
    return m;
}

static const char *try_at(matching *m, const char *s) {
    m->level = 0;
    m->depth = 0;
    return go(m, s, m->pattern);
}

/* 0-based place of an init argument, larger than the text if it is behind it. */
static size_t from(lua_State *L, int index, size_t length) {
    lua_Integer at = luaL_optinteger(L, index, 1);
    if (at > 0) return (lua_Unsigned)at - 1 > length ? length + 1 : (size_t)at - 1;
    if (at == 0 || at < -(lua_Integer)length) return 0;
    return length - (size_t)-at;
}

/* ---- the functions ---- */

static int find_or_match(lua_State *L, int find) {
    matching m = start(L, 1, 2);
    size_t length = (size_t)(m.end - m.subject), pattern_length = (size_t)(m.pattern_end - m.pattern);
    size_t init = from(L, 3, length);
    if (init > length) {
        luaL_pushfail(L);
        return 1;
    }
    int plain = find && lua_toboolean(L, 4);
    for (const char *c = m.pattern; find && !plain; c++) {
        if (c == m.pattern_end)
            plain = 1;
        else if (*c && strchr("^$*+?.([%-", *c))
            break;
    }
    if (plain) {
        const char *found = memmem(m.subject + init, length - init, m.pattern, pattern_length);
        if (!found) {
            luaL_pushfail(L);
            return 1;
        }
        lua_pushinteger(L, found - m.subject + 1);
        lua_pushinteger(L, found - m.subject + (lua_Integer)pattern_length);
        return 2;
    }
    int anchored = m.pattern < m.pattern_end && *m.pattern == '^';
    m.pattern += anchored;
    for (const char *s = m.subject + init; s <= m.end; s++) {
        const char *end = try_at(&m, s);
        if (end && !find) return push_captures(&m, s, end);
        if (end) {
            lua_pushinteger(L, s - m.subject + 1);
            lua_pushinteger(L, end - m.subject);
            return push_captures(&m, NULL, NULL) + 2;
        }
        if (anchored) break;
    }
    luaL_pushfail(L);
    return 1;
}

static int str_find(lua_State *L) { return find_or_match(L, 1); }
static int str_match(lua_State *L) { return find_or_match(L, 0); }

/* Upvalues: text, pattern, where to go on, where the last match ended (-1: nowhere). */
static int next_match(lua_State *L) {
    matching m = start(L, lua_upvalueindex(1), lua_upvalueindex(2));
    const char *last = m.subject + lua_tointeger(L, lua_upvalueindex(4));
    for (const char *s = m.subject + lua_tointeger(L, lua_upvalueindex(3)); s <= m.end; s++) {
        const char *end = try_at(&m, s);
        if (!end || end == last) continue;
        lua_pushinteger(L, end - m.subject);
        lua_copy(L, -1, lua_upvalueindex(3));
        lua_replace(L, lua_upvalueindex(4));
        return push_captures(&m, s, end);
    }
    return 0;
}

static int str_gmatch(lua_State *L) {
    matching m = start(L, 1, 2);
    size_t init = from(L, 3, (size_t)(m.end - m.subject));
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)init);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

/* Appends what takes the place of the match; returns whether something did. */
static int replace(matching *m, luaL_Buffer *b, const char *s, const char *end, int type) {
    lua_State *L = m->L;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        int count = push_captures(m, s, end);
        lua_call(L, count, 1);
    } else if (type == LUA_TTABLE) {
        push_capture(m, 0, s, end);
        lua_gettable(L, 3);
    } else {
        size_t length;
        const char *text = lua_tolstring(L, 3, &length);
        for (const char *stop = text + length; text < stop; text++) {
            if (*text != '%') {
                luaL_addchar(b, *text);
                continue;
            }
            text++;
            if (text < stop && *text == '%') {
                luaL_addchar(b, '%');
            } else if (text < stop && *text == '0') {
                luaL_addlstring(b, s, (size_t)(end - s));
            } else if (text < stop && isdigit((unsigned char)*text)) {
                push_capture(m, *text - '1', s, end);
                luaL_tolstring(L, -1, NULL);
                lua_remove(L, -2);
                luaL_addvalue(b);
            } else {
                luaL_error(L, "invalid use of '%%' in replacement string");
            }
        }
        return 1;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(end - s));
        return 0;
    }
    if (!lua_isstring(L, -1)) return luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
    return 1;
}

static int str_gsub(lua_State *L) {
    matching m = start(L, 1, 2);
    int type = lua_type(L, 3);
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
                     "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, m.end - m.subject + 1), count = 0;
    int anchored = m.pattern < m.pattern_end && *m.pattern == '^', changed = 0;
    const char *s = m.subject, *last = NULL;
    luaL_Buffer b;
    m.pattern += anchored;
    luaL_buffinit(L, &b);
    while (count < most) {
        const char *end = try_at(&m, s);
        if (end && end != last) {
            count++;
            changed = replace(&m, &b, s, end, type) | changed;
            s = last = end;
        } else if (s < m.end) {
            luaL_addchar(&b, *s++);
        } else {
            break;
        }
        if (anchored) break;
    }
    if (changed) {
        luaL_addlstring(&b, s, (size_t)(m.end - s));
        luaL_pushresult(&b);
    } else {
        luaL_pushresult(&b);
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, count);
    return 2;
}

int ds_open_patterns(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"find", str_find}, {"match", str_match}, {"gmatch", str_gmatch}, {"gsub", str_gsub}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

#endif
