/* strides.h: going over arrays of one shape with strides of their own. Plain C, which device code reads too. */
#ifndef DISTAC_STRIDES_H
#define DISTAC_STRIDES_H

#include <stdint.h>

enum { DI_MAX_RANK = 16 };

/* Elements of up to three arrays of one shape, in row-major order; strides in elements, 0 where an array is
 * repeated. */
typedef struct di_walk {
    int32_t tensors, rank;
    int64_t shape[DI_MAX_RANK], stride[3][DI_MAX_RANK];
    int64_t numel;
} di_walk;

#endif
