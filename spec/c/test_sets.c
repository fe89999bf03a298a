/* test_sets.c: the eight tasks' data sets: the split, the layouts, what is refused. */
#include "data_files.h"
#include "data/sets.h"

/* ---- the split ---- */

static void permutations_are_those_of_pytorch(void **state) {
    (void)state;
    static const struct {
        int64_t n, position, value;
    } known[] = {
        {60000, 0, 36044},
        {60000, 55000, 30102},
        {60000, 55001, 43764},
        {60000, 55002, 35133},
        {8144, 0, 1836},
        {8144, 1, 5427},
        {8144, 2, 7021},
        {8144, 7330, 4911},
        {8144, 7331, 3784},
        {8144, 7332, 4704},
        {3760, 0, 3324},
        {3760, 3384, 180},
        {26640, 0, 2204},
        {26640, 23976, 25972},
        {18900, 0, 3644},
        {18900, 17010, 12209},
        {19850, 0, 8094},
        {19850, 17865, 13972},
        {73257, 0, 18812},
        {73257, 68257, 46097},
        {10, 0, 4},
        {10, 1, 1},
        {10, 2, 7},
        {10, 3, 5},
        {10, 4, 3},
        {10, 9, 2},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int64_t *order = malloc((size_t)known[i].n * sizeof *order);
        assert_non_null(order);
        di_randperm(0, known[i].n, order);
        assert_int_equal(order[known[i].position], known[i].value);
        free(order);
    }
}

static void a_tenth_is_held_back(void **state) {
    (void)state;
    static const int64_t known[][2] = {{60000, 5000}, {8144, 814},   {3760, 376}, {26640, 2664}, {18900, 1890},
                                       {19850, 1985}, {73257, 5000}, {10, 1},     {9, 0},        {0, 0}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(di_validation_count(known[i][0]), known[i][1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutations_are_those_of_pytorch),
        cmocka_unit_test(a_tenth_is_held_back),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
