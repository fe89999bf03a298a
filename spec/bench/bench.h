/* bench.h: what the benchmarks share: a clock, and calls that have to go well. */
#ifndef BENCH_H
#define BENCH_H

#include "distac.h"

#include <stdio.h>
#include <stdlib.h>

static inline double now(void) { return distac_clock(); }

static inline void need(distac_status status) {
    if (status == DISTAC_OK) return;
    fprintf(stderr, "%s\n", distac_last_error());
    exit(1);
}

#endif
