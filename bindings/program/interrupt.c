/* interrupt.c: what Ctrl-C does. The only signal handler of distac is here. */
#include "program.h"
#include <signal.h>
#include <string.h>

static ds_watch *watched;
static pthread_t main_thread;
static lua_State *volatile running; /* NULL: nothing to interrupt, the prompt waits */
static volatile sig_atomic_t raising, pressed;

static void stop(lua_State *L, lua_Debug *record) {
    (void)record;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
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
    if (raising || pressed > 1) lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    if (pressed > 2) {
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

void interrupt_begin(lua_State *L, int raise) {
    pressed = 0;
    raising = raise;
    running = L;
}

int interrupt_end(void) {
    lua_State *L = running;
    running = NULL;
    int happened = pressed > 0;
    if (happened) {
        if (L) lua_sethook(L, NULL, 0, 0);
        ds_watch_clear(watched);
    }
    pressed = 0;
    return happened;
}
