/* interrupt.c: what Ctrl-C does. The only signal handler of distac is here. */
#include "program.h"
#include <signal.h>
#include <string.h>

/* Instructions between an error that was raised and the next one if Lua code goes on all the same: enough to save
 * what a training has reached, little for a person who waits. */
#define PATIENCE 1000000

static ds_watch *watched;
static pthread_t main_thread;
static lua_State *base;               /* the state that the work was begun on */
static lua_State *volatile running;   /* it, or its coroutine; NULL: nothing to interrupt, the prompt waits */
static volatile sig_atomic_t mode, pressed;
static volatile int flag;
static int raised;

static void stop(lua_State *L, lua_Debug *record) {
    (void)record;
    if (pressed == 0) { /* a coroutine that was paused before the error came */
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (mode != INTERRUPT_PROMPT) {
        lua_sethook(L, NULL, 0, 0);
        luaL_error(L, "interrupted");
    }
    /* A pcall of the code may have caught the first one; it does not get past the later ones. */
    int count = raised++ == 0 ? PATIENCE : 1;
    lua_sethook(L, stop, LUA_MASKCOUNT, count);
    if (base && L != base) lua_sethook(base, stop, LUA_MASKCOUNT, count);
    luaL_checkstack(L, 4, NULL);
    lua_newtable(L);
    lua_pushliteral(L, "ECANCELED");
    lua_setfield(L, -2, "code");
    lua_pushliteral(L, "interrupted");
    lua_setfield(L, -2, "message");
    lua_error(L);
}

static void on_interrupt(int number) {
    /* Any thread may be chosen; the hook may only be set on the one that runs Lua. */
    if (!pthread_equal(pthread_self(), main_thread)) {
        pthread_kill(main_thread, number);
        return;
    }
    lua_State *L = running;
    pressed = pressed + 1;
    if (!L) return;
    ds_watch_cancel_signal(watched);
    if (mode != INTERRUPT_SAVE || pressed > 1) {
        flag = 1;
        lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    }
    if (pressed > 2 && mode != INTERRUPT_PROMPT) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

void interrupt_install(ds_watch *watch) {
    watched = watch;
    main_thread = pthread_self();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt; /* no SA_RESTART: reading a line ends too */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void interrupt_begin(lua_State *L, int new_mode) {
    pressed = 0;
    raised = 0;
    flag = 0;
    mode = new_mode;
    base = L;
    running = L;
}

int interrupt_end(void) {
    lua_State *L = base;
    running = NULL;
    base = NULL;
    int happened = pressed > 0;
    if (happened) {
        if (L) lua_sethook(L, NULL, 0, 0);
        ds_watch_clear(watched);
    }
    flag = 0;
    pressed = 0;
    return happened;
}

int interrupt_gentle(lua_State *L) {
    (void)L;
    mode = INTERRUPT_SAVE;
    return 0;
}

int interrupt_current(lua_State *L) {
    lua_State *next = lua_tothread(L, 1);
    luaL_argcheck(L, next != NULL, 1, "a thread is wanted");
    lua_State *before = running;
    if (!before) {
        lua_pushvalue(L, 1);
        return 1;
    }
    running = next;
    if (pressed > 0 && mode != INTERRUPT_SAVE) /* it came while the other one was current */
        lua_sethook(next, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    lua_pushthread(before);
    if (before != L) lua_xmove(before, L, 1);
    return 1;
}

const volatile int *interrupt_flag(void) {
    return &flag;
}
