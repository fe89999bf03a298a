/* device_code.h: what kernels see of CUDA: the words of the language, built-in variables and types, barriers, warp
 * operations, atomics, functions of the device. C++. */
#ifndef EMULATED_DEVICE_CODE_H
#define EMULATED_DEVICE_CODE_H

#include <functional>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
#define EMULATED_VECTOR2(T, name)                                                                                 \
    struct alignas(2 * sizeof(T)) name##2 {                                                                       \
        T x, y;                                                                                                   \
    };                                                                                                            \
    static inline name##2 make_##name##2(T x, T y) {                                                              \
        return name##2 {x, y};                                                                                    \
    }
#define EMULATED_VECTOR4(T, name)                                                                                 \
    struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 {                                             \
        T x, y, z, w;                                                                                             \
    };                                                                                                            \
    static inline name##4 make_##name##4(T x, T y, T z, T w) {                                                    \
        return name##4 {x, y, z, w};                                                                              \
    }
EMULATED_VECTOR2(float, float)
EMULATED_VECTOR4(float, float)
EMULATED_VECTOR2(double, double)
EMULATED_VECTOR4(double, double)
EMULATED_VECTOR2(int, int)
EMULATED_VECTOR4(int, int)
EMULATED_VECTOR2(unsigned, uint)
EMULATED_VECTOR4(unsigned, uint)
EMULATED_VECTOR2(unsigned short, ushort)
EMULATED_VECTOR4(unsigned short, ushort)
EMULATED_VECTOR2(unsigned char, uchar)
EMULATED_VECTOR4(unsigned char, uchar)

namespace emulated {

/* The thread that runs now. */
struct place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern place now;

void barrier();
/* Gives each lane of the warp `value` and hands back those of all 32 (0 for lanes that do not exist). */
const unsigned long long *warp_exchange(unsigned mask, unsigned long long value);
unsigned lane();
/* A block's shared memory for the array that `key` stands for: the same for all threads of a block. */
void *shared(const void *key, size_t bytes);
void *shared_dynamic();
/* Bytes on their way to shared memory (NULL: zeros), which holds NaN until the thread waits for their group; LEFT:
 * the youngest groups that may still be on their way. */
void copy_async(void *to, const void *from, size_t bytes);
void copy_async_group();
void copy_async_wait(int left);
/* Tells a mistake and ends the program. */
[[noreturn]] void misuse(const char *what);
cudaError_t launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> thread);

/* Arguments are converted and kept at the launch, as a device does. */
template <typename... P, typename... A>
cudaError_t launch_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                          void (*kernel)(P...), A &&...arguments) {
    std::tuple<P...> kept(static_cast<P>(arguments)...);
    return launch(name, (const void *)kernel, grid, block, shared_bytes, stream,
                  [kernel, kept] { std::apply(kernel, kept); });
}

template <typename T> static inline unsigned long long to_word(T value) {
    static_assert(sizeof(T) <= 8, "a warp operation moves at most 64 bits");
    unsigned long long word = 0;
    memcpy(&word, &value, sizeof value);
    return word;
}
template <typename T> static inline T from_word(unsigned long long word) {
    T value;
    memcpy(&value, &word, sizeof value);
    return value;
}

} // namespace emulated

#define threadIdx (emulated::now.thread)
#define blockIdx  (emulated::now.block)
#define blockDim  (emulated::now.block_size)
#define gridDim   (emulated::now.grid_size)
static const int warpSize = 32;

static inline void __syncthreads() { emulated::barrier(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated::warp_exchange(mask, 0); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    unsigned self = emulated::lane();
    const unsigned long long *all = emulated::warp_exchange(mask, emulated::to_word(value));
    return emulated::from_word<T>(
        all[(self & ~(unsigned)(width - 1)) + ((unsigned)source & (unsigned)(width - 1))]);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    unsigned self = emulated::lane(), other = self ^ (unsigned)bits;
    const unsigned long long *all = emulated::warp_exchange(mask, emulated::to_word(value));
    bool inside = other / (unsigned)width == self / (unsigned)width;
    return emulated::from_word<T>(all[inside ? other : self]);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    unsigned self = emulated::lane(), other = self + by;
    const unsigned long long *all = emulated::warp_exchange(mask, emulated::to_word(value));
    bool inside = other / (unsigned)width == self / (unsigned)width && other < 32;
    return emulated::from_word<T>(all[inside ? other : self]);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    unsigned self = emulated::lane();
    const unsigned long long *all = emulated::warp_exchange(mask, emulated::to_word(value));
    return emulated::from_word<T>(all[self % (unsigned)width >= by ? self - by : self]);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const unsigned long long *all = emulated::warp_exchange(mask, predicate ? 1 : 0);
    unsigned bits = 0;
    for (unsigned i = 0; i < 32; i++) bits |= (unsigned)(all[i] != 0) << i;
    return bits & mask;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

/* Threads change places at barriers only, so these are whole by themselves. */
template <typename T> static inline T atomicAdd(T *at, T value) {
    T before = *at;
    *at = before + value;
    return before;
}
template <typename T> static inline T atomicMax(T *at, T value) {
    T before = *at;
    if (value > before) *at = value;
    return before;
}
template <typename T> static inline T atomicMin(T *at, T value) {
    T before = *at;
    if (value < before) *at = value;
    return before;
}
template <typename T> static inline T atomicOr(T *at, T value) {
    T before = *at;
    *at = before | value;
    return before;
}
template <typename T> static inline T atomicExch(T *at, T value) {
    T before = *at;
    *at = value;
    return before;
}
template <typename T> static inline T atomicCAS(T *at, T expected, T value) {
    T before = *at;
    if (before == expected) *at = value;
    return before;
}

template <typename T> static inline T __ldg(const T *at) { return *at; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline float __int_as_float(int x) { return emulated::from_word<float>((unsigned)x); }
static inline int __float_as_int(float x) { return emulated::from_word<int>(emulated::to_word(x)); }
static inline float __uint_as_float(unsigned x) { return emulated::from_word<float>(x); }
static inline unsigned __float_as_uint(float x) { return emulated::from_word<unsigned>(emulated::to_word(x)); }
static inline double __longlong_as_double(long long x) {
    return emulated::from_word<double>((unsigned long long)x);
}
static inline long long __double_as_longlong(double x) { return (long long)emulated::to_word(x); }

#define __expf(x) expf(x) /* the C library has functions of these names */
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
static inline float __fdividef(float x, float y) { return x / y; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
/* Products and sums that no compiler joins into one. */
static inline float __fmul_rn(float x, float y) { volatile float z = x * y; return z; }
static inline float __fadd_rn(float x, float y) { volatile float z = x + y; return z; }
static inline float __fsub_rn(float x, float y) { volatile float z = x - y; return z; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dmul_rn(double x, double y) { volatile double z = x * y; return z; }
static inline double __dadd_rn(double x, double y) { volatile double z = x + y; return z; }
static inline double __dsub_rn(double x, double y) { volatile double z = x - y; return z; }
static inline double __ddiv_rn(double x, double y) { return x / y; }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __double2float_rn(double x) { return (float)x; }

template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }

#endif
