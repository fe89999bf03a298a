/* flat.h: the launchers of flat_kernels.cu, as flat.c calls them. Both element types. */
#ifndef DISTAC_CUDA_FLAT_H
#define DISTAC_CUDA_FLAT_H

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#define DI_FLAT(suffix)                                                                                            \
    int di_cuda_launch_axpby_##suffix(int64_t n, double a, const void *x, double b, void *y, cudaStream_t stream);
DI_FLAT(f32)
DI_FLAT(f64)
#undef DI_FLAT
#ifdef __cplusplus
}
#endif
#endif
