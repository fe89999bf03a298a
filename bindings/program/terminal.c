/* terminal.c: the terminal as Lua sees it: lines (edited by libedit on a terminal, plain ones through a pipe), the
 * size of the window, and what the terminal answers to a question. */
#define _GNU_SOURCE
#include "program.h"
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#define TICK 300 /* milliseconds between two looks at the prompt's text while a line is typed */

/* One process has one terminal. */
static struct {
    lua_State *L; /* while a line is read */
    EditLine *edit;
    History *history;
    char *line; /* plain lines */
    size_t capacity;
    char prompt[512];
    int opened, interrupted;
} t;

static char *prompt(EditLine *edit) {
    (void)edit;
    return t.prompt;
}

static void set_prompt(const char *text) {
    snprintf(t.prompt, sizeof t.prompt, "%s", text ? text : "");
}

/* Calls the Lua function that was kept under `name` with the text on top; 1: its `results` results are on top. */
static int ask_lua(const char *name, int arguments, int results) {
    lua_getfield(t.L, LUA_REGISTRYINDEX, name);
    if (!lua_isfunction(t.L, -1)) {
        lua_pop(t.L, 1 + arguments);
        return 0;
    }
    lua_insert(t.L, -1 - arguments);
    if (lua_pcall(t.L, arguments, results, 0) == 0) return 1;
    lua_pop(t.L, 1); /* completing and prompts never disturb who types */
    return 0;
}

/* A prompt that tells of jobs changes while nobody types. */
static void tick(EditLine *edit) {
    if (!ask_lua("distac.tick", 0, 1)) return;
    const char *text = lua_tostring(t.L, -1);
    if (text && strcmp(text, t.prompt) != 0) {
        set_prompt(text);
        el_set(edit, EL_REFRESH);
    }
    lua_pop(t.L, 1);
}

static int read_character(EditLine *edit, wchar_t *out) {
    char bytes[8];
    size_t n = 0;
    for (;;) {
        struct pollfd wait = {STDIN_FILENO, POLLIN, 0};
        int ready = poll(&wait, 1, TICK);
        if (ready == 0) {
            tick(edit);
            continue;
        }
        ssize_t got = ready < 0 ? -1 : read(STDIN_FILENO, bytes + n, 1);
        if (got < 0 && errno == EINTR) {
            t.interrupted = 1;
            return -1;
        }
        if (got <= 0) return (int)got;
        n++;
        mbstate_t state;
        memset(&state, 0, sizeof state);
        size_t used = mbrtowc(out, bytes, n, &state);
        if (used == (size_t)-2 && n < sizeof bytes) continue;
        if (used > n) *out = (unsigned char)bytes[0];
        if (used == 0) *out = L'\0';
        return 1;
    }
}

/* Lua's distac.complete(text before the cursor) -> what to insert, a list to show (or nil) */
static unsigned char complete(EditLine *edit, int character) {
    (void)character;
    const LineInfo *line = el_line(edit);
    lua_pushlstring(t.L, line->buffer, (size_t)(line->cursor - line->buffer));
    if (!ask_lua("distac.complete", 1, 2)) return CC_ERROR;
    const char *insert = lua_tostring(t.L, -2), *list = lua_tostring(t.L, -1);
    unsigned char done = CC_ERROR;
    if (insert && insert[0] != '\0') done = el_insertstr(edit, insert) == 0 ? CC_REFRESH : CC_ERROR;
    if (list) {
        fprintf(stdout, "\n%s\n", list);
        done = CC_REDISPLAY;
    }
    lua_pop(t.L, 2);
    return done;
}

static int is_terminal(lua_State *L) {
    lua_pushboolean(L, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
    lua_pushboolean(L, isatty(STDOUT_FILENO));
    lua_pushboolean(L, isatty(STDERR_FILENO));
    return 3;
}

static void open_editor(void) {
    t.opened = 1;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
    setlocale(LC_CTYPE, ""); /* typed bytes are letters of the user's; numbers stay as C writes them */
    t.edit = el_init("distac", stdin, stdout, stderr);
    if (!t.edit) return;
    HistEvent event;
    t.history = history_init();
    if (t.history) {
        history(t.history, &event, H_SETSIZE, 5000);
        history(t.history, &event, H_SETUNIQUE, 1);
    }
    el_set(t.edit, EL_PROMPT, prompt);
    el_set(t.edit, EL_EDITOR, "emacs");
    el_set(t.edit, EL_SIGNAL, 0);
    el_set(t.edit, EL_GETCFN, read_character);
    if (t.history) el_set(t.edit, EL_HIST, history, t.history);
    el_set(t.edit, EL_ADDFN, "distac-complete", "Complete", complete);
    el_set(t.edit, EL_BIND, "^I", "distac-complete", NULL);
    el_set(t.edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(t.edit, EL_BIND, "\033[1;5D", "ed-prev-word", NULL);
    el_set(t.edit, EL_BIND, "\033[1;5C", "em-next-word", NULL);
    el_source(t.edit, NULL); /* ~/.editrc */
}

/* read(prompt) -> the line, nil at the end of input, false after Ctrl-C */
static int read_line(lua_State *L) {
    set_prompt(luaL_optstring(L, 1, ""));
    if (!t.opened) open_editor();
    const char *text = NULL;
    size_t bytes = 0;
    fflush(stdout);
    errno = 0;
    if (t.edit) {
        int count = 0;
        t.L = L;
        t.interrupted = 0;
        el_resize(t.edit);
        text = el_gets(t.edit, &count);
        t.L = NULL;
        if (!text || count <= 0) {
            fputc('\n', stdout);
            if (t.interrupted) {
                el_reset(t.edit);
                lua_pushboolean(L, 0);
                return 1;
            }
            return 0;
        }
        bytes = (size_t)count;
    } else {
        ssize_t n = getline(&t.line, &t.capacity, stdin);
        if (n < 0) {
            if (errno != EINTR) return 0;
            clearerr(stdin);
            lua_pushboolean(L, 0);
            return 1;
        }
        text = t.line;
        bytes = (size_t)n;
    }
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == '\r')) bytes--;
    lua_pushlstring(L, text, bytes);
    return 1;
}

/* remember(line): what the up-arrow brings back */
static int remember(lua_State *L) {
    HistEvent event;
    if (!t.opened) open_editor();
    if (t.history) history(t.history, &event, H_ENTER, luaL_checkstring(L, 1));
    return 0;
}

/* on(name, function): "complete" and "tick" */
static int on(lua_State *L) {
    lua_pushfstring(L, "distac.%s", luaL_checkstring(L, 1));
    lua_pushvalue(L, 2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 0;
}

static int close_editor(lua_State *L) {
    (void)L;
    if (t.history) history_end(t.history);
    if (t.edit) el_end(t.edit);
    free(t.line);
    memset(&t, 0, sizeof t);
    return 0;
}

/* size() -> columns, rows, width and height in pixels (0: not known) */
static int size(lua_State *L) {
    struct winsize w;
    memset(&w, 0, sizeof w);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col == 0) {
        w.ws_col = 80;
        w.ws_row = 24;
    }
    lua_pushinteger(L, w.ws_col);
    lua_pushinteger(L, w.ws_row);
    lua_pushinteger(L, w.ws_xpixel);
    lua_pushinteger(L, w.ws_ypixel);
    return 4;
}

/* ask(question, milliseconds) -> what the terminal answered, up to the letter c that ends its list of abilities.
 * Nothing is sent anywhere but to a terminal. */
static int ask(lua_State *L) {
    size_t bytes, n = 0;
    const char *question = luaL_checklstring(L, 1, &bytes);
    int left = (int)luaL_checkinteger(L, 2);
    char answer[512];
    struct termios before, quiet;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    fflush(stdout);
    quiet = before;
    quiet.c_lflag &= (tcflag_t)~(ICANON | ECHO);
    quiet.c_cc[VMIN] = 0;
    quiet.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet);
    if (write(STDOUT_FILENO, question, bytes) == (ssize_t)bytes) {
        while (left > 0 && n < sizeof answer - 1) {
            struct pollfd wait = {STDIN_FILENO, POLLIN, 0};
            int step = left < 20 ? left : 20;
            int ready = poll(&wait, 1, step);
            if (ready < 0) break;
            if (ready == 0) {
                left -= step;
                continue;
            }
            if (read(STDIN_FILENO, answer + n, 1) != 1) break;
            if (answer[n++] == 'c' && memmem(answer, n, "\033[?", 3)) break;
        }
    }
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    lua_pushlstring(L, answer, n);
    return 1;
}

void terminal_functions(lua_State *L) {
    static const luaL_Reg functions[] = {{"is_terminal", is_terminal}, {"read", read_line}, {"remember", remember},
                                         {"on", on}, {"close", close_editor}, {"size", size}, {"ask", ask},
                                         {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
