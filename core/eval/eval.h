/* eval.h: pieces of the metrics that the specs call by themselves. Private to core/. */
#ifndef DISTAC_EVAL_H
#define DISTAC_EVAL_H

#include "../tensor/tensor.h"

typedef struct di_bin {
    int64_t count;
    double confidence, correct; /* sums over the bin */
} di_bin;
/* Adds a prediction to its bin of (b/M,(b+1)/M]; confidence 0 belongs to none. */
void di_bin_add(di_bin *bins, int64_t count, double confidence, bool correct);
/* Sum over the bins of |sum of confidence - sum of correct|, divided by the number of predictions. */
double di_bins_ece(const di_bin *bins, int64_t count, int64_t predictions);

#endif
