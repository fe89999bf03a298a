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
/* Merges one row of all models: rows[t][i], behind the last model's the base's in a merge of whole models.
 * products: models*(models+1)/2 numbers of room. */
typedef void (*di_row_merge)(const di_merge_run *run, int64_t n, const double *const *rows, double *products,
                             double *out);
distac_status di_merge_whole_rows(di_merge_run *run, int64_t entry, di_row_merge merge, double *out);
/* Like di_run_norms, of one tensor and an edit: [models]. */
distac_status di_merge_row_norms(di_merge_run *run, int64_t entry, di_row_edit thin, double *factors);
/* What all of them hold beside D. */
int64_t di_rows_bytes(const di_merge_run *run, const di_entry *entry);

#endif
