/* test_faults_script.c: every allocation fails in turn under a Lua state with the engine in it: Lua's, the binding's and
 * the engine's, from opening the script through loading a recipe, two steps and a merge to closing it. */
#include "script_job.h"

static void memory_of_a_script(void **state) {
    (void)state;
    char *text = with_root(job);
    swept((work){.name = "memory of a script", .run = whole_life, .arg = text, .folder = root,
                 .kinds = FAULT_MEMORY | FAULT_MAP, .expected = DISTAC_ENOMEM}, 16);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_a_script),
    };
    return cmocka_run_group_tests(tests, setup_script, teardown);
}
