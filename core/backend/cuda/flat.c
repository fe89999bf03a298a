/* flat.c: entries of the tables for long flat vectors. */
#include "flat.h"
#include "entries.h"

#define ENTRIES(suffix)                                                                                            \
    distac_status di_cuda_axpby_##suffix(distac_context *c, int64_t n, double a, const void *x, double b, void *y) { \
        DI_CUDA_BEGIN(c, "axpby");                                                                                 \
        if (n == 0) return DISTAC_OK;                                                                              \
        return di_cuda_check(c, "axpby", di_cuda_launch_axpby_##suffix(n, a, x, b, y, cuda->stream));              \
    }
ENTRIES(f32)
ENTRIES(f64)
