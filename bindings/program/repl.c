/* repl.c: the prompt: reads lines (libedit on a terminal, plain ones through a pipe), joins the lines of an
 * unfinished statement, prints the values of expressions. */
#include "program.h"
#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct reader {
    EditLine *edit; /* NULL: plain lines */
    History *history;
    char *line; /* plain lines */
    size_t capacity;
    int more; /* inside a statement: other prompt */
} reader;

static char *prompt(EditLine *edit) {
    static char first[] = "> ", next[] = ">> ";
    reader *r = NULL;
    el_get(edit, EL_CLIENTDATA, &r);
    return r && r->more ? next : first;
}

static void reader_open(reader *r) {
    memset(r, 0, sizeof *r);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
    r->edit = el_init("distac", stdin, stdout, stderr);
    if (!r->edit) return;
    HistEvent event;
    r->history = history_init();
    if (r->history) history(r->history, &event, H_SETSIZE, 1000);
    el_set(r->edit, EL_CLIENTDATA, r);
    el_set(r->edit, EL_PROMPT, prompt);
    el_set(r->edit, EL_EDITOR, "emacs");
    el_set(r->edit, EL_SIGNAL, 0);
    if (r->history) el_set(r->edit, EL_HIST, history, r->history);
    el_source(r->edit, NULL);
}

static void reader_close(reader *r) {
    if (r->history) history_end(r->history);
    if (r->edit) el_end(r->edit);
    free(r->line);
}

/* Pushes the next line without its end: 1, 0 at the end of input, -1 after Ctrl-C. */
static int read_line(lua_State *L, reader *r) {
    const char *text;
    size_t bytes;
    if (r->edit) {
        int count = 0;
        errno = 0;
        text = el_gets(r->edit, &count);
        if (!text || count <= 0) {
            if (count < 0 && errno == EINTR) {
                el_reset(r->edit);
                fputc('\n', stdout);
                return -1;
            }
            fputc('\n', stdout);
            return 0;
        }
        HistEvent event;
        if (r->history && text[0] != '\n') history(r->history, &event, H_ENTER, text);
        bytes = (size_t)count;
    } else {
        errno = 0;
        ssize_t n = getline(&r->line, &r->capacity, stdin);
        if (n < 0) {
            if (errno != EINTR) return 0;
            clearerr(stdin);
            return -1;
        }
        text = r->line;
        bytes = (size_t)n;
    }
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == '\r')) bytes--;
    lua_pushlstring(L, text, bytes);
    return 1;
}

/* A syntax error that more lines could mend. */
static int incomplete(lua_State *L, int status) {
    if (status != LUA_ERRSYNTAX) return 0;
    size_t bytes;
    const char *text = lua_tolstring(L, -1, &bytes);
#if LUA_VERSION_NUM >= 504
    static const char mark[] = "<eof>";
#else
    static const char mark[] = "'<eof>'";
#endif
    size_t length = sizeof mark - 1;
    return bytes >= length && strcmp(text + bytes - length, mark) == 0;
}

/* Leaves a function on top: 0. 1: an error value. 2: end of input. 3: Ctrl-C. */
static int read_statement(lua_State *L, reader *r) {
    r->more = 0;
    int got = read_line(L, r);
    if (got <= 0) return got == 0 ? 2 : 3;
    size_t bytes;
    const char *text = lua_tolstring(L, -1, &bytes);
    if (bytes > 0 && text[0] == '=') { /* "= x" prints x, as in older Lua */
        lua_pushfstring(L, "return %s", text + 1);
        lua_remove(L, -2);
    }
    lua_pushfstring(L, "return %s", lua_tostring(L, -1));
    text = lua_tolstring(L, -1, &bytes);
    if (luaL_loadbufferx(L, text, bytes, "=stdin", "t") == 0) {
        lua_replace(L, 1);
        lua_settop(L, 1);
        return 0;
    }
    lua_pop(L, 2);
    for (;;) {
        text = lua_tolstring(L, 1, &bytes);
        int status = luaL_loadbufferx(L, text, bytes, "=stdin", "t");
        if (!incomplete(L, status)) {
            lua_replace(L, 1);
            lua_settop(L, 1);
            return status == 0 ? 0 : 1;
        }
        r->more = 1;
        got = read_line(L, r);
        if (got < 0) return 3;
        if (got == 0) { /* report the unfinished statement */
            lua_replace(L, 1);
            lua_settop(L, 1);
            return 1;
        }
        lua_remove(L, -2); /* the message */
        lua_pushliteral(L, "\n");
        lua_insert(L, -2);
        lua_concat(L, 3);
    }
}

static void print_results(lua_State *L) {
    int n = lua_gettop(L);
    if (n == 0) return;
    luaL_checkstack(L, 4, "too many results");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.show");
    if (lua_pcall(L, 1, 1, 0) != 0 || !lua_isfunction(L, -1)) {
        lua_settop(L, n);
        lua_getglobal(L, "print");
    }
    lua_insert(L, 1);
    if (lua_pcall(L, n, 0, 0) != 0) program_report(L);
}

void repl_run(lua_State *L) {
    reader r;
    reader_open(&r);
    if (isatty(STDIN_FILENO)) {
        printf("distac %s (%s). Ctrl-D leaves, Ctrl-C stops what runs.\n", distac_version(), DS_RUNTIME);
    }
    for (;;) {
        lua_settop(L, 0);
        fflush(stdout);
        int got = read_statement(L, &r);
        if (got == 2) break;
        if (got == 3) continue;
        if (got == 1) {
            program_report(L);
            continue;
        }
        interrupt_begin(L, 1);
        int status = program_call(L, 0, LUA_MULTRET);
        if (status == 0) print_results(L);
        interrupt_end();
    }
    lua_settop(L, 0);
    reader_close(&r);
}
