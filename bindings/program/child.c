/* child.c: processes beside this one, for the prompt's background jobs: this program again, with a socket to talk
 * over. A child has its own session, so that the terminal's Ctrl-C is not for it; when its parent ends for
 * whatever reason, the socket says so. */
#define _GNU_SOURCE
#include "program.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL 3 /* the child's end of the socket */

static int failed(lua_State *L, const char *what) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(errno));
    return 2;
}

/* spawn({argument...}, log file) -> process, socket; or nil, why */
static int spawn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *log = luaL_checkstring(L, 2);
    char *argv[16] = {(char *)(size_t) "distac"};
    luaL_checkstack(L, 16, NULL);
    for (int i = 1; i < 15; i++) {
        lua_rawgeti(L, 1, i);
        if (lua_isnil(L, -1)) break;
        argv[i] = (char *)(size_t)luaL_checkstring(L, -1);
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed(L, "socketpair");
    int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = out < 0 || in < 0 ? -1 : fork();
    if (pid == 0) {
        setsid();
        int channel = fcntl(ends[1], F_DUPFD, 10); /* out of the way of the numbers below */
        if (channel < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || dup2(channel, CHANNEL) < 0)
            _exit(127);
        close(channel);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    int problem = errno;
    close(ends[1]);
    if (out >= 0) close(out);
    if (in >= 0) close(in);
    if (pid < 0) {
        close(ends[0]);
        errno = problem;
        return failed(L, log);
    }
    lua_pushinteger(L, pid);
    lua_pushinteger(L, ends[0]);
    return 2;
}

/* receive(socket, milliseconds) -> what came ("" if nothing did), nil when the other side has gone */
static int receive(lua_State *L) {
    char bytes[4096];
    struct pollfd wait = {(int)luaL_checkinteger(L, 1), POLLIN, 0};
    int ready = poll(&wait, 1, (int)luaL_checkinteger(L, 2));
    if (ready <= 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    ssize_t n = recv(wait.fd, bytes, sizeof bytes, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            lua_pushliteral(L, "");
            return 1;
        }
        return 0;
    }
    lua_pushlstring(L, bytes, (size_t)n);
    return 1;
}

/* send(socket, text) -> all of it went */
static int send_text(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    size_t bytes;
    const char *text = luaL_checklstring(L, 2, &bytes);
    while (bytes > 0) {
        ssize_t n = send(fd, text, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        text += n;
        bytes -= (size_t)n;
    }
    lua_pushboolean(L, bytes == 0);
    return 1;
}

static int close_socket(lua_State *L) {
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

/* signal(process, "INT" or "KILL") */
static int send_signal(lua_State *L) {
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    luaL_argcheck(L, pid > 1, 1, "not a process");
    kill(pid, strcmp(luaL_checkstring(L, 2), "KILL") == 0 ? SIGKILL : SIGINT);
    return 0;
}

/* finished(process) -> nil while it runs, else its exit status (128 + signal if one killed it) */
static int finished(lua_State *L) {
    int status = 0;
    pid_t got = waitpid((pid_t)luaL_checkinteger(L, 1), &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return 0;
    lua_pushinteger(L, got < 0 ? 127 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    return 1;
}

/* sleep(seconds): Ctrl-C ends it */
static int sleep_seconds(lua_State *L) {
    double seconds = luaL_checknumber(L, 1);
    if (!(seconds > 0)) return 0;
    if (seconds > 1e6) seconds = 1e6;
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
    return 0;
}

/* process() -> the number of this process */
static int process(lua_State *L) {
    lua_pushinteger(L, getpid());
    return 1;
}

void child_functions(lua_State *L) {
    static const luaL_Reg functions[] = {{"spawn", spawn},       {"receive", receive},   {"send", send_text},
                                         {"close_socket", close_socket}, {"signal", send_signal},
                                         {"finished", finished}, {"sleep", sleep_seconds}, {"process", process},
                                         {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_pushinteger(L, CHANNEL);
    lua_setfield(L, -2, "channel");
}
