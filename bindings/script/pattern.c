/* pattern.c: Lua patterns with a budget (5.4 reference manual, 6.4.1). A match which takes more steps than a
 * linear one ever could is an error: those of the standard library run in C, where no hook can stop them. */
#include "pattern.h"
#include <ctype.h>
#include <string.h>

#if LUA_VERSION_NUM >= 504

enum { DEEP = 200, STEPS = 1000000, STEPS_A_BYTE = 100, CHARGE = 1024 };
enum { OPEN = -1, POSITION = -2 }; /* in the place of a capture's length */

/* The steps count as instructions of the script where a host limits these, and it can be cancelled here, too. */
static void step(ds_matching *m) {
    if ((m->steps & (CHARGE - 1)) == 0 && m->charge) m->charge(m->L, CHARGE);
    if (--m->steps < 0)
        luaL_error(m->L, "the pattern takes too many steps on a text of %d bytes", (int)(m->end - m->subject));
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

static const char *item_end(ds_matching *m, const char *p) {
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

static int fits(ds_matching *m, const char *s, const char *p, const char *after) {
    step(m);
    if (s >= m->end) return 0;
    int c = (unsigned char)*s;
    if (*p == '.') return 1;
    if (*p == '%') return in_class(c, (unsigned char)p[1]);
    if (*p == '[') return in_set(c, p, after - 1);
    return (unsigned char)*p == c;
}

/* ---- ds_matching from a place on ---- */

static const char *go(ds_matching *m, const char *s, const char *p);

static const char *balanced(ds_matching *m, const char *s, const char *p) {
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

static const char *begin_capture(ds_matching *m, const char *s, const char *p, ptrdiff_t kind) {
    if (m->level == DS_CAPTURES) luaL_error(m->L, "too many captures");
    m->capture[m->level].at = s;
    m->capture[m->level++].length = kind;
    const char *end = go(m, s, p);
    if (!end) m->level--;
    return end;
}

static const char *end_capture(ds_matching *m, const char *s, const char *p) {
    int i = m->level - 1;
    while (i >= 0 && m->capture[i].length != OPEN) i--;
    if (i < 0) luaL_error(m->L, "invalid pattern capture");
    m->capture[i].length = s - m->capture[i].at;
    const char *end = go(m, s, p);
    if (!end) m->capture[i].length = OPEN;
    return end;
}

static const char *same_again(ds_matching *m, const char *s, int digit) {
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->capture[i].length == OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    size_t length = m->capture[i].length < 0 ? 0 : (size_t)m->capture[i].length;
    m->steps -= (int64_t)length;
    if ((size_t)(m->end - s) < length || memcmp(m->capture[i].at, s, length) != 0) return NULL;
    return s + length;
}

static const char *repeated(ds_matching *m, const char *s, const char *p, const char *after) {
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

static int at_frontier(ds_matching *m, const char *s, const char *p, const char *after) {
    int before = s == m->subject ? 0 : (unsigned char)s[-1], here = s < m->end ? (unsigned char)*s : 0;
    return !in_set(before, p, after - 1) && in_set(here, p, after - 1);
}

static const char *go(ds_matching *m, const char *s, const char *p) {
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

/* ---- the whole ---- */

ds_matching ds_match_start(lua_State *L, int text, int pattern) {
    size_t length, pattern_length;
    ds_matching m = {.L = L};
    m.subject = luaL_checklstring(L, text, &length);
    m.pattern = luaL_checklstring(L, pattern, &pattern_length);
    m.end = m.subject + length;
    m.pattern_end = m.pattern + pattern_length;
    m.steps = STEPS + STEPS_A_BYTE * (int64_t)length;
    m.charge = ds_charge_of(L);
    return m;
}

const char *ds_match_at(ds_matching *m, const char *s) {
    m->level = 0;
    m->depth = 0;
    return go(m, s, m->pattern);
}

void ds_push_capture(ds_matching *m, int i, const char *s, const char *end) {
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

int ds_push_captures(ds_matching *m, const char *s, const char *end) {
    int count = m->level == 0 && s ? 1 : m->level;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++) ds_push_capture(m, i, s, end);
    return count;
}

#endif
