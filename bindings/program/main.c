/* main.c: the program `distac`: commands, scripts with the options of lua(1), and the prompt. */
#include "program.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ds_watch watch;

void program_report(lua_State *L) {
    const char *text = NULL;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "message");
        if (lua_type(L, -1) == LUA_TSTRING) text = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    if (!text) text = lua_tostring(L, -1);
    fflush(stdout);
    fprintf(stderr, "distac: %s\n", text ? text : "an error that is no text");
    fflush(stderr);
    lua_pop(L, 1);
}

int program_call(lua_State *L, int arguments, int results) {
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, ds_traceback);
    lua_insert(L, base);
    int status = lua_pcall(L, arguments, results, base);
    lua_remove(L, base);
    if (status != 0) program_report(L);
    return status;
}

/* Calls the function under its arguments as the work of this process: an exit status. */
static int work(lua_State *L, int arguments) {
    interrupt_begin(L, INTERRUPT_RAISE);
    int failed = program_call(L, arguments, 0);
    int interrupted = interrupt_end();
    return !failed ? EXIT_OK : interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
}

static int run_chunk(lua_State *L, int load_status) {
    if (load_status != 0) {
        program_report(L);
        return EXIT_FAILED;
    }
    return work(L, 0);
}

/* `distac` of -e and of the prompt: loaded when first used. __index of _G: upvalue 1 is "distac". */
static int lazy_distac(lua_State *L) {
    if (!lua_rawequal(L, 2, lua_upvalueindex(1))) return 0;
    lua_pushnil(L);
    lua_setmetatable(L, 1);
    lua_getglobal(L, "require");
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

static void offer_distac(lua_State *L) {
    lua_getglobal(L, "_G");
    lua_newtable(L);
    lua_pushliteral(L, "distac");
    lua_pushcclosure(L, lazy_distac, 1);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* -l MODULE or -l NAME=MODULE */
static int require_module(lua_State *L, const char *text) {
    const char *equals = strchr(text, '=');
    const char *module = equals ? equals + 1 : text;
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    interrupt_begin(L, INTERRUPT_RAISE);
    int failed = program_call(L, 1, 1);
    interrupt_end();
    if (failed) return EXIT_FAILED;
    if (equals)
        lua_pushlstring(L, text, (size_t)(equals - text));
    else
        lua_pushstring(L, module);
    lua_insert(L, -2);
    lua_rawset(L, 1); /* _G, see program() */
    return EXIT_OK;
}

static void set_arg(lua_State *L, char **argv, int argc, int script) {
    lua_createtable(L, argc - script, script);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

static int run_script(lua_State *L, char **argv, int argc, int script) {
    const char *path = strcmp(argv[script], "-") == 0 ? NULL : argv[script];
    int loaded = luaL_loadfilex(L, path, "t");
    if (loaded != 0) {
        program_report(L);
        return loaded == LUA_ERRFILE ? EXIT_USAGE : EXIT_FAILED; /* not there: the command is wrong */
    }
    int n = argc - script - 1;
    luaL_checkstack(L, n + 8, "too many arguments");
    for (int i = 0; i < n; i++) lua_pushstring(L, argv[script + 1 + i]);
    return work(L, n);
}

/* Pushes require("distac.cli")[field]; reports what is wrong. */
static int push_cli(lua_State *L, const char *field) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "distac.cli");
    if (program_call(L, 1, 1) != 0) return 0;
    lua_getfield(L, -1, field);
    lua_remove(L, -2);
    return 1;
}

/* Commands are words; what has a dot or a slash is a file, and nothing is loaded to know it. */
static int is_command(lua_State *L, const char *name) {
    if (name[0] == '-' || strpbrk(name, "./") || !push_cli(L, "is_command")) return 0;
    lua_pushstring(L, name);
    int is = program_call(L, 1, 1) == 0 && lua_toboolean(L, -1);
    lua_settop(L, 1);
    return is;
}

/* require("distac.cli").main({COMMAND, ARG...}) -> exit status */
static int run_command(lua_State *L, char **argv, int argc, int first) {
    interrupt_begin(L, INTERRUPT_SAVE); /* a run saves its state before it ends */
    if (!push_cli(L, "main")) return interrupt_end() ? EXIT_INTERRUPTED : EXIT_FAILED;
    lua_createtable(L, argc - first, 0);
    for (int i = first; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - first + 1);
    }
    int failed = program_call(L, 1, 1);
    int interrupted = interrupt_end();
    if (failed) return interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
    int status = lua_isnumber(L, -1) ? (int)lua_tonumber(L, -1) : EXIT_OK;
    return status;
}

typedef struct line {
    int argc;
    char **argv;
    int status;
} line;

static int program(lua_State *L) {
    line *p = lua_touserdata(L, 1);
    char **argv = p->argv;
    int argc = p->argc, i = 1, prompt = 0, did = 0;
    p->status = EXIT_FAILED;
    lua_settop(L, 0);
    ds_prepare(L, &watch, NULL, 1);
    repl_offer(L);
    lua_getglobal(L, "_G"); /* stays at 1 */
    interrupt_install(&watch);

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || is_command(L, argv[1]))) {
        p->status = run_command(L, argv, argc, 1);
        return 0;
    }
    int script = 1; /* where the script's name stands, for `arg` */
    while (script < argc && argv[script][0] == '-' && argv[script][1] != '\0') {
        char option = argv[script][1];
        if (strcmp(argv[script], "--") == 0) {
            script++;
            break;
        }
        if ((option == 'e' || option == 'l') && argv[script][2] == '\0') script++;
        script++;
    }
    set_arg(L, argv, argc, script < argc ? script : 0);
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--") == 0) {
            i++;
            break;
        }
        if (strcmp(option, "-i") == 0) {
            prompt = 1;
        } else if (strcmp(option, "-v") == 0 || strcmp(option, "--version") == 0) {
            printf("distac %s (%s)\n", distac_version(), DS_RUNTIME);
            did = 1;
        } else if (option[1] == 'e' || option[1] == 'l') {
            const char *value = option[2] != '\0' ? option + 2 : i + 1 < argc ? argv[++i] : NULL;
            if (!value) {
                fprintf(stderr, "distac: option '%s' needs a value\n", option);
                p->status = EXIT_USAGE;
                return 0;
            }
            int status;
            if (option[1] == 'e') {
                offer_distac(L);
                status = run_chunk(L, luaL_loadbufferx(L, value, strlen(value), "=(command line)", "t"));
            } else {
                status = require_module(L, value);
            }
            did = 1;
            if (status != EXIT_OK) {
                p->status = status;
                return 0;
            }
        } else {
            fprintf(stderr, "distac: option '%s' is unknown (distac --help lists them)\n", option);
            p->status = EXIT_USAGE;
            return 0;
        }
    }
    p->status = EXIT_OK;
    if (i < argc) {
        if (strcmp(argv[i], "-") != 0 && access(argv[i], F_OK) != 0 && !strchr(argv[i], '/') &&
            !strstr(argv[i], ".lua")) {
            p->status = run_command(L, argv, argc, i); /* which says so */
            return 0;
        }
        p->status = run_script(L, argv, argc, i);
        did = 1;
    }
    if (prompt || !did) {
        offer_distac(L);
        repl_run(L);
    }
    return 0;
}

int main(int argc, char **argv) {
    ds_watch_init(&watch);
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("distac: out of memory\n", stderr);
        return EXIT_FAILED;
    }
    line p = {argc, argv, EXIT_FAILED};
    if (ds_protected(L, program, &p) != 0) {
        program_report(L);
        p.status = EXIT_FAILED;
    }
    lua_close(L);
    ds_watch_destroy(&watch);
    if (fflush(stdout) != 0 && p.status == EXIT_OK) p.status = EXIT_FAILED;
    return p.status;
}
