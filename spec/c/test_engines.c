/* test_engines.c: eight engines on eight threads at once give the results that one gives alone, bit for bit, and a
 * cancel of one does not touch the others. */
#include "engine_life.h"

#include <pthread.h>

enum { ENGINES = 8, ROUNDS = 2 };

static void eight_at_once(void **state) {
    (void)state;
    life alone[ENGINES], together[ENGINES];
    for (int i = 0; i < ENGINES; i++) {
        alone[i] = (life){.number = i, .threads = 1};
        live(&alone[i]);
        if (alone[i].status != DISTAC_OK) fail_msg("engine %d alone: %s", i, alone[i].text);
        for (int k = 0; k < i; k++) assert_string_not_equal(alone[i].digest, alone[k].digest);
    }
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[ENGINES];
        for (int i = 0; i < ENGINES; i++) {
            together[i] = (life){.number = i, .threads = 1 + (i + round) % 3};
            assert_int_equal(pthread_create(&threads[i], NULL, live, &together[i]), 0);
        }
        for (int i = 0; i < ENGINES; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < ENGINES; i++) {
            if (together[i].status != DISTAC_OK) fail_msg("engine %d: %s", i, together[i].text);
            assert_string_equal(together[i].digest, alone[i].digest);
        }
    }
}

/* Threads of the host open and close engines of their own, fail in them and read their own errors. */
static void *storm(void *arg) {
    int number = *(const int *)arg;
    for (int i = 0; i < 50; i++) {
        distac_context *context;
        distac_checkpoint *none;
        distac_event event;
        char path[64];
        snprintf(path, sizeof path, "/nowhere/%d/%d.safetensors", number, i);
        const distac_context_desc settings = {.threads = 1 + i % 3};
        if (distac_context_create(&settings, &context) != DISTAC_OK) return "no context";
        if (i % 2) distac_cancel(context);
        if (distac_cancelled(context) != i % 2) return "another engine's cancel";
        if (distac_checkpoint_open(context, path, &none) == DISTAC_OK) return "a file that is not there";
        if (!strstr(distac_last_error(), path)) return "another thread's error";
        if (distac_event_next(context, &event)) return "another engine's event";
        distac_context_release(context);
    }
    return NULL;
}

static void opening_and_closing(void **state) {
    (void)state;
    pthread_t threads[ENGINES];
    int numbers[ENGINES];
    for (int i = 0; i < ENGINES; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, storm, &numbers[i]), 0);
    }
    for (int i = 0; i < ENGINES; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        if (wrong) fail_msg("engine %d: %s", i, (const char *)wrong);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_at_once),
        cmocka_unit_test(opening_and_closing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
