/* test_script_engines.c: eight Lua states with an engine each on eight threads do a whole job at once, with the
 * results that one has alone; some of them are cancelled, which the others do not notice. */
#include "script_job.h"

#include <pthread.h>

enum { ENGINES = 8, CANCELLED = 3 };

typedef struct life {
    const char *job;
    bool cancelled;
    distac_status status;
    char digest[65], text[512];
} life;

/* A job of its own in a file of its own. */
static char *job_of(int number) {
    char name[32], *text = with_root(job), *out = calloc(1, 2 * strlen(text) + 100), *end = out;
    snprintf(name, sizeof name, "merged-%d.safetensors", number);
    for (const char *at = text; *at;) {
        if (strncmp(at, "merged.safetensors", 18) == 0) {
            end += sprintf(end, "%s", name);
            at += 18;
        } else if (strncmp(at, "seed = 3", 8) == 0) {
            end += sprintf(end, "seed = %d", 3 + number);
            at += 8;
        } else {
            *end++ = *at++;
        }
    }
    free(text);
    return out;
}

static void *cancel_soon(void *script) {
    usleep(30000);
    distac_script_cancel(script);
    return NULL;
}

/* One that runs without end until it is cancelled. */
static void endless(life *l) {
    static const char loop[] = "local d = require 'distac' local t = d.tensor {1} while true do t = t * 1 end";
    distac_script *script = NULL;
    pthread_t thread;
    l->status = distac_script_open(NULL, &script);
    if (l->status != DISTAC_OK) return;
    if (pthread_create(&thread, NULL, cancel_soon, script) != 0) abort();
    l->status = distac_script_run_string(script, loop, (int64_t)sizeof loop - 1, "=loop");
    pthread_join(thread, NULL);
    distac_script_close(script);
}

static void *live(void *arg) {
    life *l = arg;
    if (l->cancelled)
        endless(l);
    else
        l->status = whole_life((void *)(uintptr_t)l->job, l->digest, l->text);
    return NULL;
}

static void eight_at_once(void **state) {
    (void)state;
    life alone[ENGINES] = {0}, together[ENGINES + CANCELLED] = {0};
    pthread_t threads[ENGINES + CANCELLED];
    for (int i = 0; i < ENGINES; i++) {
        alone[i].job = together[i].job = job_of(i);
        live(&alone[i]);
        if (alone[i].status != DISTAC_OK) fail_msg("%s", alone[i].text);
        assert_true(i == 0 || strcmp(alone[i].digest, alone[i - 1].digest) != 0);
    }
    for (int i = 0; i < ENGINES + CANCELLED; i++) {
        together[i].cancelled = i >= ENGINES;
        assert_int_equal(pthread_create(&threads[i], NULL, live, &together[i]), 0);
    }
    for (int i = 0; i < ENGINES + CANCELLED; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < ENGINES; i++) {
        if (together[i].status != DISTAC_OK) fail_msg("%s", together[i].text);
        assert_string_equal(together[i].digest, alone[i].digest);
        free((void *)(uintptr_t)alone[i].job);
    }
    for (int i = ENGINES; i < ENGINES + CANCELLED; i++) assert_int_equal(together[i].status, DISTAC_ECANCELED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_at_once),
    };
    return cmocka_run_group_tests(tests, setup_script, teardown);
}
