/* test_faults_script.c: every allocation fails in turn under a Lua state with
 * the engine in it: Lua's, the binding's and the engine's, from opening the
 * script through loading a recipe, two steps and a merge to closing it. */
#include "script_job.h"

static void memory_of_a_script(void **state) {
    (void)state;
    char *text = with_root(job);
    swept((work){.name = "memory of a script", .run = whole_life, .arg = text, .folder = root,
                 .kinds = FAULT_MEMORY | FAULT_MAP, .expected = DISTAC_ENOMEM}, 4);
    free(text);
}

/* Libraries that a script's beginning loads: none for Lua 5.4, the engine for LuaJIT. */
static void libraries_of_a_script(void **state) {
    (void)state;
    char *text = with_root(job);
    swept((work){.name = "libraries of a script",
                 .run = whole_life,
                 .arg = text,
                 .folder = root,
                 .kinds = FAULT_LOAD,
                 .expected = DISTAC_EINVAL},
          0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_a_script),
        cmocka_unit_test(libraries_of_a_script),
    };
    return cmocka_run_group_tests(tests, setup_script, teardown);
}
