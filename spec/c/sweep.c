/* sweep.c: one call after the other fails (sweep.h). The work runs in a child process, which goes on after a
 * failure in the same process: that the next run succeeds shows that nothing was broken. A crash costs the child,
 * and the sweep goes on behind it with another one. */
#define _GNU_SOURCE 1
#include "sweep.h"

#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 512, SHOWN = 12, TEXTS = 64 };

typedef struct progress { /* shared with the child */
    int64_t at, calls, runs, absorbed, bad, stride, last; /* last 0: to the end */
    bool finished;
} progress;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool temporary_in(const char *path, char found[256]) {
    DIR *folder = path ? opendir(path) : NULL;
    found[0] = 0;
    if (!folder) return false;
    for (struct dirent *entry; (entry = readdir(folder)) && !found[0];)
        if (strstr(entry->d_name, "distac-tmp")) snprintf(found, 256, "%s", entry->d_name);
    closedir(folder);
    return found[0] != 0;
}

static void complain(progress *p, const char *what, const char *detail) {
    if (p->bad++ < SHOWN) printf("    call %lld: %s: %s\n", (long long)p->at, what, detail);
    fflush(stdout);
}

static void show_text(const char *text) {
    static char seen[TEXTS][TEXT];
    static int count;
    if (!getenv("DISTAC_FAULTS_TEXTS")) return;
    for (int i = 0; i < count; i++)
        if (strcmp(seen[i], text) == 0) return;
    if (count == TEXTS) return;
    snprintf(seen[count++], TEXT, "%s", text);
    printf("    %s\n", text);
}

/* One run with call p->at failing (0: none). Returns how many calls failed. */
static int64_t attempt(const work *w, progress *p, const char *wanted) {
    char digest[65] = "", text[TEXT] = "", found[256];
    const char *where;
    size_t bytes;
    int64_t failed;
    alarm(120);
    faults_watch();
    faults_begin(w->kinds, p->at, w->onward, w->error);
    distac_status status = w->run(w->arg, digest, text);
    p->calls = faults_end(&failed);
    (void)dlerror(); /* the C library keeps what a look-up did not find until it has been asked for it twice */
    (void)dlerror();
    int64_t left = faults_watched(&where, &bytes);
    alarm(0);
    p->runs++;
    if (left > 0) {
        char detail[TEXT + 100];
        snprintf(detail, sizeof detail, "%lld blocks, %zu bytes; the first: %s", (long long)left, bytes, where);
        complain(p, "leaked", detail);
    }
    if (status == DISTAC_OK) {
        if (wanted && strcmp(digest, wanted) != 0) complain(p, "another result without an error", digest);
        if (failed > 0) p->absorbed++;
    } else if (failed == 0) {
        complain(p, "an error without a failure", text);
    } else if (status != w->expected) {
        char detail[TEXT + 100];
        snprintf(detail, sizeof detail, "%s: %s", distac_status_name(status), text);
        complain(p, "the wrong code", detail);
    } else if (strlen(text) < 8) {
        complain(p, "an error without a text", text);
    } else {
        show_text(text);
    }
    if (temporary_in(w->folder, found)) complain(p, "a temporary file stayed", found);
    return failed;
}

static void child(const work *w, progress *p, double seconds) {
    char wanted[65] = "", text[TEXT] = "";
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    int64_t from = p->at + 1;
    /* cmocka would take a crash for one of its own tests. */
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) signal(deadly[i], SIG_DFL);
    p->at = 0;
    /* What libraries make once and keep is made here. */
    for (int i = 0; i < 2; i++) {
        if (w->run(w->arg, wanted, text) == DISTAC_OK) continue;
        complain(p, "it fails without any failure", text);
        _exit(0);
    }
    double start = now();
    attempt(w, p, wanted);
    double each = now() - start;
    if (p->stride == 0) {
        const char *which = getenv("DISTAC_FAULTS");
        long long first = 1, last = 0;
        p->stride = 1;
        if (which && sscanf(which, "%lld-%lld", &first, &last) >= 1) {
            from = first;
            p->last = last;
        } else if (!(which && strcmp(which, "all") == 0) && seconds > 0) {
            p->stride += (int64_t)((double)p->calls * each / seconds);
            srand((unsigned)time(NULL) ^ (unsigned)getpid());
            from += rand() % p->stride;
        }
    } else {
        from += p->stride - 1;
    }
    for (p->at = from; p->last == 0 || p->at <= p->last; p->at += p->stride)
        if (attempt(w, p, wanted) == 0) break;
    p->at = 0;
    attempt(w, p, wanted);
    p->finished = true;
    fflush(stdout);
    _exit(0);
}

int sweep(const work *w, double seconds) {
    progress *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 1;
    double start = now();
    fflush(stdout);
    while (!p->finished && p->bad < 200) {
        int status;
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) child(w, p, seconds);
        waitpid(pid, &status, 0);
        if (p->finished || p->at == 0) break;
        char detail[64];
        snprintf(detail, sizeof detail, "%s",
                 WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it ended the process");
        complain(p, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hung" : "crashed", detail);
    }
    int bad = (int)p->bad + (p->finished ? 0 : 1);
    printf("  %s, %s: %lld calls, %lld runs (every %lld), %lld absorbed, %d bad, %.1f s\n", w->name,
           w->onward ? "one and all later" : "one", (long long)p->calls, (long long)p->runs, (long long)p->stride,
           (long long)p->absorbed, bad, now() - start);
    munmap(p, sizeof *p);
    return bad;
}
