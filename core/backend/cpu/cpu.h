/* cpu.h: what the files of the CPU backend share: how a kernel's tiles are run, and the tables that the
 * instruction-set folder exports. Private to core/backend/cpu/. */
#ifndef DISTAC_CPU_H
#define DISTAC_CPU_H

#include "../backend.h"

/* One tile of a kernel: DISTAC_OK or a status code. Tiles run on worker threads, whose error texts nobody
 * would see, so they only return the code. */
typedef distac_status (*di_cpu_tile)(void *arg, int64_t index);

/* Runs tile(arg, 0 … count-1) on the context's threads. After a cancel or a failed tile the rest are skipped;
 * the error text is set here, on the caller's thread, and starts with `kernel`. */
distac_status di_cpu_run(distac_context *context, const char *kernel, int64_t count, di_cpu_tile tile, void *arg);

/* Whether the processor multiplies pairs of bfloat16, which the AVX-512 kernels then do. */
bool di_cpu_multiplies_bf16(void);

static inline int64_t di_cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t di_cpu_ceil(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}
/* Length of the pieces that [0,total) is cut into: about `wanted` pieces of equal length, at least `least` long,
 * a multiple of `step`. A function of shapes only, as results must not depend on the number of threads. */
static inline int64_t di_cpu_piece(int64_t total, int64_t wanted, int64_t least, int64_t step) {
    int64_t length = di_cpu_ceil(total, wanted);
    if (length < least) length = least;
    return di_cpu_ceil(length, step) * step;
}

extern const di_kernels di_kernels_f32_scalar, di_kernels_bf16_scalar, di_kernels_f64_scalar;
#if defined(__x86_64__)
extern const di_kernels di_kernels_f32_avx2, di_kernels_bf16_avx2, di_kernels_f64_avx2;
extern const di_kernels di_kernels_f32_avx512, di_kernels_bf16_avx512, di_kernels_f64_avx512;
#endif

#endif
