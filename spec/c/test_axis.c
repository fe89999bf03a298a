/* test_axis.c: ticks of charts. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "plot/plot.h"

static void expect(const di_axis *axis, const char *ticks) {
    char all[256] = "";
    for (int32_t i = 0; i < axis->tick_count; i++) {
        strcat(all, i ? " " : "");
        strcat(all, axis->labels[i]);
    }
    assert_string_equal(ticks, all);
}

static void ticks_are_round(void **state) {
    (void)state;
    di_axis axis;
    di_axis_make(&axis, 0.0, 3.0, false, true, true, 9, 0.0);
    expect(&axis, "0.0 0.5 1.0 1.5 2.0 2.5 3.0");
    di_axis_make(&axis, 0.03, 0.97, false, false, false, 8, 0.0);
    expect(&axis, "0.0 0.2 0.4 0.6 0.8 1.0");
    di_axis_make(&axis, 0.2, 30.0, true, false, false, 8, 0.0);
    expect(&axis, "0.1 1 10 100");
}

static void steps_and_blocks_have_none_between_them(void **state) {
    (void)state;
    di_axis axis;
    di_axis_make(&axis, 0.0, 3.0, false, true, true, 9, 1.0);
    expect(&axis, "0 1 2 3");
    di_axis_make(&axis, 0.0, 300.0, false, true, true, 9, 1.0);
    expect(&axis, "0 50 100 150 200 250 300");
    di_axis_make(&axis, 5.0, 5.0, false, true, true, 9, 1.0); /* a single step */
    expect(&axis, "5 6");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(steps_and_blocks_have_none_between_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
