/* memory.cpp: the memory of the emulated device: every allocation on pages of its own, closed to the host, its end at a
 * page that nothing may touch, its place never used again. */
#include "emulator.h"

#include <map>
#include <set>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct CUmemPoolHandle_st {
    int device;
};

namespace emulated {

struct block {
    size_t bytes, mapped; /* asked for; of whole pages */
    char *pages;
};
static std::map<char *, block> blocks; /* by first byte */
static std::map<char *, size_t> pinned;
static char *arena, *next_page, *arena_end;
static long long total = (long long)4 << 30, used = 0;
static int depth = 0; /* of open_memory */
static const size_t PAGE = 4096, ALIGN = 256, ARENA = (size_t)1 << 42;
static const unsigned char FRESH = 0xff, EDGE = 0xa5;

/* Names who touched what may not be touched; then the program ends as it would have. */
static void touched(int number, siginfo_t *info, void *) {
    if (number == SIGILL) { /* what the compiler was told to put before such accesses */
        char text[256];
        int n = snprintf(text, sizeof text, "emulated CUDA: an access that is not aligned or past an array's end (in %s)\n", running);
        if (n > 0 && write(2, text, (size_t)n) < 0) _exit(3);
    }
    char *at = (char *)info->si_addr;
    if (at >= arena && at < arena_end) {
        char text[256];
        int n = snprintf(text, sizeof text, "emulated CUDA: %s touched device memory at %p that it may not (in %s)\n",
                         depth ? "a kernel or copy" : "the host", (void *)at, running);
        if (n > 0 && write(2, text, (size_t)n) < 0) _exit(3);
    }
    signal(number, SIG_DFL);
}

static bool begin() {
    if (arena) return true;
    void *memory = mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    arena = next_page = (char *)memory;
    arena_end = arena + ARENA;
    struct sigaction action = {};
    action.sa_sigaction = touched;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    return true;
}

static void protect(const block &b, int how) {
    if (mprotect(b.pages, b.mapped, how) != 0) die("mprotect failed");
}

open_memory::open_memory() {
    if (depth++ == 0)
        for (auto &b : blocks) protect(b.second, PROT_READ | PROT_WRITE);
}

open_memory::~open_memory() {
    if (--depth == 0)
        for (auto &b : blocks) protect(b.second, PROT_NONE);
}

void *allocate(size_t bytes) {
    if (!begin() || bytes > (size_t)(total - used)) return NULL;
    size_t length = (bytes + ALIGN - 1) / ALIGN * ALIGN, mapped = (length + PAGE - 1) / PAGE * PAGE;
    if (next_page + mapped + PAGE > arena_end) die("the arena is used up");
    block b = {bytes, mapped, next_page};
    next_page += mapped + PAGE;
    protect(b, PROT_READ | PROT_WRITE);
    char *first = b.pages + (mapped - length);
    memset(b.pages, EDGE, mapped);
    memset(first, FRESH, bytes);
    if (depth == 0) protect(b, PROT_NONE);
    blocks[first] = b;
    used += (long long)bytes;
    return first;
}

bool release(void *memory) {
    auto found = blocks.find((char *)memory);
    if (found == blocks.end()) return false;
    block b = found->second;
    protect(b, PROT_READ);
    const char *first = found->first, *end = b.pages + b.mapped;
    for (const char *p = b.pages; p < end; p++)
        if ((p < first || p >= first + b.bytes) && (unsigned char)*p != EDGE)
            die("an allocation of %zu bytes was written outside, at byte %td", b.bytes, p - first);
    protect(b, PROT_NONE);
    madvise(b.pages, b.mapped, MADV_DONTNEED);
    used -= (long long)b.bytes;
    blocks.erase(found);
    return true;
}

bool is_device(const void *memory, size_t bytes) {
    char *at = (char *)memory;
    auto after = blocks.upper_bound(at);
    if (after == blocks.begin()) return false;
    auto b = std::prev(after);
    return at >= b->first && at + bytes <= b->first + b->second.bytes;
}

bool is_pinned(const void *memory) {
    char *at = (char *)memory;
    auto after = pinned.upper_bound(at);
    if (after == pinned.begin()) return false;
    auto p = std::prev(after);
    return at < p->first + p->second;
}

long long memory_control(const char *what, long long value) {
    if (strcmp(what, "used") == 0) return used;
    if (strcmp(what, "total") == 0) return total;
    if (strcmp(what, "pinned") == 0) return (long long)pinned.size();
    if (strcmp(what, "memory") != 0) die("there is nothing called %s to set", what);
    long long before = total;
    total = value;
    return before;
}

} // namespace emulated

using namespace emulated;

extern "C" {

cudaError_t cudaMemGetInfo(size_t *available, size_t *all) {
    EMULATED_ENTER;
    *available = (size_t)(total - used);
    *all = (size_t)total;
    return cudaSuccess;
}

static cudaError_t take(void **memory, size_t bytes) {
    *memory = bytes ? allocate(bytes) : NULL;
    return *memory || bytes == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    EMULATED_ENTER;
    if (cudaError_t error = refuse_any_capture()) return error;
    return take(memory, bytes);
}

cudaError_t cudaFree(void *memory) {
    if (!memory) return cudaSuccess;
    if (cudaError_t error = cudaDeviceSynchronize()) return error;
    std::lock_guard<std::recursive_mutex> guard(lock);
    return release(memory) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void **memory, size_t bytes, cudaStream_t stream) {
    EMULATED_ENTER;
    if (capturing(stream)) return fail(cudaErrorStreamCaptureUnsupported);
    return take(memory, bytes);
}

cudaError_t cudaMallocFromPoolAsync(void **memory, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
    if (!pool) return fail(cudaErrorInvalidValue);
    return cudaMallocAsync(memory, bytes, stream);
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) {
    EMULATED_ENTER;
    if (!memory) return cudaSuccess;
    if (capturing(stream)) return fail(cudaErrorStreamCaptureUnsupported);
    if (!blocks.count((char *)memory)) return fail(cudaErrorInvalidValue);
    return enqueue(stream, "cudaFreeAsync", [memory] {
        if (!release(memory)) die("memory freed twice");
    });
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *props) {
    EMULATED_ENTER;
    if (props->allocType != cudaMemAllocationTypePinned || props->location.type != cudaMemLocationTypeDevice)
        return fail(cudaErrorInvalidValue);
    *pool = new CUmemPoolHandle_st{props->location.id};
    return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    EMULATED_ENTER;
    delete pool;
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr, void *) {
    EMULATED_ENTER;
    return pool ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
    EMULATED_ENTER;
    return pool ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
    EMULATED_ENTER;
    if (cudaError_t error = refuse_any_capture()) return error;
    *memory = bytes ? malloc(bytes) : NULL;
    if (bytes && !*memory) return fail(cudaErrorMemoryAllocation);
    if (bytes) memset(*memory, FRESH, bytes), pinned[(char *)*memory] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory) {
    if (!memory) return cudaSuccess;
    cudaError_t before = cudaDeviceSynchronize(); /* told by this call, which does its work all the same */
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (!pinned.erase((char *)memory)) return fail(cudaErrorInvalidValue);
    free(memory);
    return before;
}
}
