/* flat_kernels.cu: kernels over long flat vectors. */
#include "flat.h"
#include "launch.h"

enum { THREADS = 256 };

template <typename T> __global__ void axpby(int64_t n, T a, const T *x, T b, T *y) {
    DI_EACH(i, n) {
        T v = b == T(0) ? T(0) : b * y[i]; /* what is multiplied by 0 is not read: it may be anything */
        y[i] = a == T(0) ? v : a * x[i] + v;
    }
}

#define LAUNCHERS(T, suffix)                                                                                       \
    int di_cuda_launch_axpby_##suffix(int64_t n, double a, const void *x, double b, void *y, cudaStream_t s) {     \
        return DI_LAUNCH(axpby<T>, di_blocks(n, THREADS), THREADS, 0, s, n, (T)a, (const T *)x, (T)b, (T *)y);     \
    }
LAUNCHERS(float, f32)
LAUNCHERS(double, f64)
