/* tsvm.h: TSV-M on a device, for op_tsvm.c. */
#ifndef DISTAC_TSVM_H
#define DISTAC_TSVM_H

#include "merge.h"

/* [new] D of a whole matrix with r triplets of each model, on the device, dense. */
distac_status di_tsvm_there(di_merge_run *run, int64_t entry, int64_t r, distac_tensor **out);

#endif
