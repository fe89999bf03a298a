/* rows.h: methods that look at one row (the last dimension) of one model at a time. */
#ifndef DISTAC_ROWS_H
#define DISTAC_ROWS_H

#include "ties.h"

enum { DI_ROW_WORK = 4 }; /* numbers of 8 bytes per element that an edit may use */

/* Changes one row of task vector t, elements first … first+n-1 of the entry, in place. work: DI_ROW_WORK*n
 * numbers. */
typedef void (*di_row_edit)(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n,
                            double *row, uint64_t *work);
/* D of a whole tensor: every row of every model edited, then merged by the election. */
distac_status di_merge_rows(di_merge_run *run, int64_t entry, di_row_edit edit, const di_election *election,
                            double *out);
/* What that holds beside D. */
int64_t di_rows_bytes(const di_merge_run *run, const di_entry *entry);

#endif
