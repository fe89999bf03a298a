/* sweep.h: runs a piece of work again and again and lets one call after the other fail (faults.h), each time
 * demanding an error of the right kind or the right result, no crash, no hang, no leak, no half-written file. */
#ifndef SWEEP_H
#define SWEEP_H

#include "distac.h"
#include "faults.h"

typedef struct work {
    const char *name;
    /* Does it all once. `digest`, 65 bytes, gets what tells one result from another. Under failures the text of
     * the error is copied to `text` before anything is released. */
    distac_status (*run)(void *arg, char *digest, char text[512]);
    void *arg;
    const char *folder; /* looked through for temporary files; NULL: none */
    unsigned kinds;
    int error;          /* faults_begin */
    bool onward;        /* all later calls fail, too */
    distac_status expected;
} work;

/* The number of bad outcomes, each printed; sampled to take about so many seconds unless DISTAC_FAULTS is "all",
 * or "FROM-TO", the calls of this range. */
int sweep(const work *work, double seconds);

#endif
