/* emulator.h: a CUDA device made of host threads' time, for machines without a GPU. What the files of this folder
 * share; C++, for the tests alone.
 *
 * It is stricter than a device, so that mistakes show:
 * - Work given to a stream runs when somebody waits for it, not before: a host that forgets to wait reads NaN, and
 *   pinned memory reused too early reaches the device with its new contents.
 * - Device memory can be touched by kernels and copies alone: a host access ends the program, as does one past an
 *   allocation's end or after its release. Fresh memory, global and shared, is filled with NaN.
 * - The threads of a block run one after the other between barriers, forwards in one launch, backwards in the
 * next, and so do the blocks: results that depend on the order differ from run to run.
 * - With EMULATED_CUDA_EAGER set streams made later than a context's first run what they are given at once, as soon as
 *   they may: what overtakes the work that it should have waited for shows then.
 * - An access that is not aligned to its type, or past an array whose size is known, ends the program.
 * - A barrier that some threads of a block never reach, a warp operation that some lanes miss, a launch or a
 * capture that a device would refuse: told on stderr, and the program ends or the call fails as on a device. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include "cuda_runtime.h"

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace emulated {

extern std::recursive_mutex lock; /* held in every call */

/* ---- errors (device.cpp) ---- */
/* Entry of a call: counts it and tells whether it is to fail; a lost device fails every call. */
cudaError_t enter();
/* Remembers an error for cudaGetLastError and returns it. */
cudaError_t fail(cudaError_t error);
/* Tells a mistake that a device would answer with undefined behaviour, and ends the program. */
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What runs now, for messages: a kernel's name or a copy. */
extern const char *running;

#define EMULATED_ENTER                                                                                            \
    std::lock_guard<std::recursive_mutex> guard(emulated::lock);                                                  \
    if (cudaError_t entered = emulated::enter()) return emulated::fail(entered)

/* ---- memory (memory.cpp) ---- */
/* Device memory is open while such an object lives. */
struct open_memory {
    open_memory();
    ~open_memory();
};
void *allocate(size_t bytes); /* NULL: no memory left */
bool release(void *memory);   /* false: no allocation begins there */
bool is_device(const void *memory, size_t bytes);
bool is_pinned(const void *memory);

/* ---- streams (stream.cpp) ---- */
/* Gives work to a stream: into the graph being captured, or behind what waits already. */
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> work);
void run(cudaStream_t stream); /* all that waits */
bool capturing(cudaStream_t stream);
cudaError_t refuse_any_capture(); /* what no capture allows spoils those that are under way */

/* ---- launches (launch.cpp) ---- */
cudaError_t launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   std::function<void()> thread);
void run_grid(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread);

} // namespace emulated

/* Set by tests, from C: see device.cpp for the names. */
extern "C" __attribute__((visibility("default"))) long long emulated_cuda(const char *what, long long value);

#endif
