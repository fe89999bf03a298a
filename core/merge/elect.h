/* elect.h: the inside of TIES: what ties.c has found out before the elections of elect.c. */
#ifndef DISTAC_ELECT_H
#define DISTAC_ELECT_H

#include "ties.h"

enum { DI_LEAD_ROOM = 8 }; /* numbers from one lane's count to the next: two lanes do not share a cache line */

struct di_ties {
    di_election election;
    bool fast;          /* by elect_wide */
    bool open;          /* the majority is not known yet: it is counted while chunks are merged */
    int64_t *lead;      /* [lanes*DI_LEAD_ROOM]: positive minus negative signs */
    uint8_t *tied;      /* run->marks: a vote in this piece was tied, so it waits for the majority */
    int64_t stride; /* thresholds per model: 1, or one per entry */
    int64_t *cuts;  /* of the elements equal to the threshold those before this one are kept; NULL: all */
    double thresholds[];
};

/* Sum or count of the signs of what trimming leaves of each element. */
void di_ties_votes(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                   const double *const *tau, double *votes);
/* Whether there are vector loops for this election. */
bool di_ties_is_fast(const di_ties *ties, const di_merge_run *run);

#endif
