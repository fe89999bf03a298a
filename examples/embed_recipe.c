/* embed_recipe.c: a host that runs a recipe in a thread of its own, shows the progress as it likes, cancels it
 * from another thread and reads the results as JSON.
 *
 *   cc embed_recipe.c $(pkg-config --cflags --libs distac-script) -pthread -o embed_recipe
 *   ./embed_recipe recipe.lua results/ [SECONDS]
 *
 * Ctrl-C, or SECONDS going by, cancels. The state is saved, and the same command continues. */
#include <distac_script.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* `recipe` and `out` are globals that the host sets; what the chunk returns is the result. */
static const char job[] =
    "local distac = require 'distac'\n"
    "local recipe, mistakes = distac.recipe.load(recipe)\n"
    "if not recipe then error(mistakes, 0) end\n"
    "local results = recipe:run { out = out }\n"
    "table.sort(results.merges, function(a, b) return a.mean_accuracy > b.mean_accuracy end)\n"
    "local best = results.merges[1]\n"
    "return { method = best.method, lambda = best.lambda, mean_accuracy = best.mean_accuracy,\n"
    "         tasks = #results.tasks }\n";

typedef struct worker {
    distac_script *script;
    distac_status status;
    pthread_mutex_t lock;
    int finished;
} worker;

static volatile sig_atomic_t interrupted; /* signals are the host's business: the library has no handlers */

static void on_interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

static void *work(void *argument) {
    worker *w = argument;
    distac_status status = distac_script_run_string(w->script, job, (int64_t)strlen(job), "=job");
    pthread_mutex_lock(&w->lock);
    w->status = status;
    w->finished = 1;
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int finished(worker *w) {
    pthread_mutex_lock(&w->lock);
    int done = w->finished;
    pthread_mutex_unlock(&w->lock);
    return done;
}

/* Draws ten times a second until the worker has ended, and cancels it when the time is over. */
static void watch(worker *w, double seconds) {
    const double begun = distac_clock();
    int cancelled = 0;
    while (!finished(w)) {
        distac_script_progress now;
        distac_script_get_progress(w->script, &now);
        if (now.total > 0) {
            int percent = (int)(100 * now.done / now.total);
            const char *bar = "=========================";
            fprintf(stderr, "\r\033[K%3d %% |%-25.*s| %s", percent, percent / 4, bar, now.what);
        }
        if (!cancelled && (interrupted || (seconds > 0 && distac_clock() - begun > seconds))) {
            distac_script_cancel(w->script); /* from any thread, at any time */
            cancelled = 1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    fprintf(stderr, "\r\033[K");
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) return fprintf(stderr, "usage: %s RECIPE OUT [SECONDS]\n", argv[0]), 2;
    const distac_context_desc engine = {.threads = 2, .memory_limit = (int64_t)2 << 30};
    const distac_script_desc desc = {.engine = &engine, .memory_limit = (int64_t)256 << 20};
    worker w = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    const char *json = NULL;

    if (distac_script_open(&desc, &w.script)) return fprintf(stderr, "%s\n", distac_script_error(NULL)), 1;
    w.status = distac_script_set_string(w.script, "recipe", argv[1]);
    if (!w.status) w.status = distac_script_set_string(w.script, "out", argv[2]);
    if (!w.status && pthread_create(&thread, NULL, work, &w) == 0) {
        signal(SIGINT, on_interrupt);
        watch(&w, argc > 3 ? atof(argv[3]) : 0);
        pthread_join(thread, NULL);
        printf("%s", distac_script_output(w.script));
    }
    if (!w.status) w.status = distac_script_result(w.script, &json);

    if (!w.status) printf("%s\n", json);
    else if (w.status == DISTAC_ECANCELED) printf("cancelled; the same command continues\n");
    else fprintf(stderr, "%s: %s\n", distac_status_name(w.status), distac_script_error(w.script));
    int code = w.status == DISTAC_OK ? 0 : w.status == DISTAC_ECANCELED ? 130 : 1;
    distac_script_close(w.script);
    return code;
}
