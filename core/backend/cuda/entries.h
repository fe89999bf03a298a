/* entries.h: what the files of entries give to table.c: the functions of backend.h's table, for both element types. */
#ifndef DISTAC_CUDA_ENTRIES_H
#define DISTAC_CUDA_ENTRIES_H

#include "cuda.h"

#define DI_ENTRIES(suffix)                                                                                         \
    /* flat.c */                                                                                                   \
    distac_status di_cuda_axpby_##suffix(distac_context *c, int64_t n, double a, const void *x, double b, void *y);
DI_ENTRIES(f32)
DI_ENTRIES(f64)
#undef DI_ENTRIES

#endif
