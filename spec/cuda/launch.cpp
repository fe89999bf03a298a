/* launch.cpp: kernels on the emulated device. The threads of a block take turns on one processor: each runs on a stack
 * of its own until it ends or waits, at a barrier of the block or in an operation of its warp. */
#include "emulator.h"

#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace emulated {

place now;

enum { STACK = 128 << 10, MOST_THREADS = 1024, WARP = 32, EDGE_BYTES = 64 };
enum state { FRESH, RUNNING, AT_BARRIER, IN_WARP, ENDED };

struct journey {
    void *to;
    const void *from;
    size_t bytes;
    int group;
};
struct fiber {
    void *sp; /* saved stack pointer */
    uint3 place;
    state at;
    unsigned long long generation; /* of the warp operation waited for */
    std::vector<journey> under_way;
    int groups;
};
struct warp {
    unsigned long long value[2][WARP], generation;
    unsigned arrived, mask;
};
struct region {
    size_t offset, bytes;
};

static fiber fibers[MOST_THREADS];
static warp warps[MOST_THREADS / WARP];
static char *stacks;
static void *scheduler; /* the scheduler's stack pointer */
static int self, threads;
static const std::function<void()> *body;

/* ---- changing stacks ---- */

#if defined(__x86_64__)
/* Saves what a call must keep, exchanges the stack pointers and goes on where the other stack left off. */
extern "C" void emulated_switch(void **save, void *to);
__asm__(".text\n.globl emulated_switch\n.hidden emulated_switch\n.type emulated_switch,@function\nemulated_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emulated_switch,.-emulated_switch\n");
static void *prepare(char *stack, void (*entry)()) {
    void **top = (void **)(stack + STACK);
    *--top = NULL; /* entry's caller: there is none */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++) *--top = NULL;
    return top;
}
#else
static ucontext_t contexts[MOST_THREADS + 1];
static void emulated_switch(void **save, void *to) {
    ucontext_t *from = *save ? (ucontext_t *)*save : &contexts[MOST_THREADS];
    *save = from;
    swapcontext(from, (ucontext_t *)to);
}
static void *prepare(char *stack, void (*entry)()) {
    ucontext_t *context = &contexts[(stack - stacks) / STACK];
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK;
    makecontext(context, entry, 0);
    return context;
}
#endif

static void yield() {
    int me = self;
    emulated_switch(&fibers[me].sp, scheduler);
}

static void enter_thread() {
    for (;;) {
        (*body)();
        if (!fibers[self].under_way.empty()) die("a thread ended with copies under way");
        fibers[self].groups = 0;
        fibers[self].at = ENDED;
        yield();
    }
}

static void resume(int thread) {
    fiber *f = &fibers[thread];
    if (f->at == FRESH) f->sp = prepare(stacks + (size_t)thread * STACK, enter_thread);
    f->at = RUNNING;
    self = thread;
    now.thread = f->place;
    emulated_switch(&scheduler, f->sp);
}

/* ---- waiting ---- */

void barrier() {
    fibers[self].at = AT_BARRIER;
    yield();
}

unsigned lane() { return (unsigned)self % WARP; }

static unsigned lanes_of(int w) { /* as bits */
    int count = threads - w * WARP < WARP ? threads - w * WARP : WARP;
    return count == WARP ? 0xffffffffu : (1u << count) - 1;
}

const unsigned long long *warp_exchange(unsigned mask, unsigned long long value) {
    int me = self, w = me / WARP;
    unsigned l = (unsigned)me % WARP, wanted = mask & lanes_of(w);
    warp *p = &warps[w];
    if (!(wanted >> l & 1)) die("lane %u is not in the mask %08x of its warp operation", l, mask);
    if (p->arrived && p->mask != wanted)
        die("lanes of one warp wait with masks %08x and %08x", p->mask, wanted);
    unsigned long long mine = p->generation;
    if (!p->arrived) memset(p->value[mine & 1], 0, sizeof p->value[0]);
    p->mask = wanted;
    p->arrived |= 1u << l;
    p->value[mine & 1][l] = value;
    if (p->arrived == wanted) {
        p->arrived = 0;
        p->generation++;
    } else {
        fibers[me].generation = mine;
        fibers[me].at = IN_WARP;
        yield();
    }
    return p->value[mine & 1];
}

/* ---- copies that the thread does not wait for at once ---- */

void misuse(const char *what) { die("%s", what); }

void copy_async(void *to, const void *from, size_t bytes) {
    if (bytes != 16 || (uintptr_t)to % 16 || (uintptr_t)from % 16) die("an asynchronous copy that is not aligned");
    if (from && !is_device(from, bytes)) die("an asynchronous copy from outside of device memory");
    memset(to, 0xff, bytes);
    fibers[self].under_way.push_back({to, from, bytes, fibers[self].groups});
}

void copy_async_group() { fibers[self].groups++; }

void copy_async_wait(int left) {
    fiber *f = &fibers[self];
    std::vector<journey> rest;
    for (const journey &j : f->under_way) {
        if (j.group >= f->groups - left) rest.push_back(j);
        else if (j.from) memcpy(j.to, j.from, j.bytes);
        else memset(j.to, 0, j.bytes);
    }
    f->under_way.swap(rest);
}

/* ---- shared memory: one stretch per block, with words between the arrays that nobody may write ---- */

static char *shared_memory;
static size_t shared_used, shared_asked;
static std::map<const void *, region> regions;
static const size_t SHARED_MOST = 227 << 10, SHARED_ROOM = 1 << 20;

static char *take(const void *key, size_t bytes) {
    auto found = regions.find(key);
    if (found != regions.end()) return shared_memory + found->second.offset;
    size_t offset = shared_used + EDGE_BYTES, end = (offset + bytes + 63) / 64 * 64;
    if (end + EDGE_BYTES > SHARED_ROOM) die("shared arrays of more than a megabyte");
    memset(shared_memory + shared_used, 0xa5, EDGE_BYTES);
    memset(shared_memory + offset, 0xff, bytes);
    memset(shared_memory + offset + bytes, 0xa5, end + EDGE_BYTES - offset - bytes);
    regions[key] = {offset, bytes};
    shared_used = end;
    return shared_memory + offset;
}

void *shared(const void *key, size_t bytes) {
    void *memory = take(key, bytes);
    if (regions[key].bytes != bytes) die("a shared array of two sizes");
    return memory;
}

void *shared_dynamic() { return take(&shared_asked, shared_asked); }

static void shared_check() {
    size_t at = 0, all = 0;
    std::map<size_t, size_t> order;
    for (auto &r : regions) order[r.second.offset] = r.second.bytes, all += r.second.bytes;
    for (auto &r : order) {
        for (; at < r.first; at++)
            if ((unsigned char)shared_memory[at] != 0xa5) die("shared memory was written outside its arrays");
        at = r.first + r.second;
    }
    for (; at < shared_used + (shared_used ? EDGE_BYTES : 0); at++)
        if ((unsigned char)shared_memory[at] != 0xa5) die("shared memory was written outside its arrays");
    if (all > SHARED_MOST) die("%zu bytes of shared memory, more than a device has", all);
    if (all - shared_asked > 48 << 10) die("%zu bytes of shared arrays, more than 48 KiB", all - shared_asked);
    regions.clear();
    shared_used = 0;
}

/* ---- running ---- */

static bool ready(int thread) {
    const fiber *f = &fibers[thread];
    if (f->at == IN_WARP) return warps[thread / WARP].generation != f->generation;
    return f->at == FRESH;
}

static void run_block(bool backwards) {
    memset(warps, 0, sizeof warps);
    for (int t = 0; t < threads; t++) {
        fibers[t].at = FRESH;
        unsigned x = (unsigned)t % now.block_size.x, rest = (unsigned)t / now.block_size.x;
        fibers[t].place = {x, rest % now.block_size.y, rest / now.block_size.y};
    }
    for (;;) {
        int ran = 0, waiting = 0, ended = 0;
        for (int i = 0; i < threads; i++) {
            int t = backwards ? threads - 1 - i : i;
            if (ready(t)) resume(t), ran++;
        }
        for (int t = 0; t < threads; t++) waiting += fibers[t].at == AT_BARRIER, ended += fibers[t].at == ENDED;
        if (ended == threads) break;
        if (waiting == threads) {
            for (int t = 0; t < threads; t++) fibers[t].at = IN_WARP, fibers[t].generation = ~0ull;
        } else if (ran == 0) {
            die("block %u,%u,%u is stuck: %d of %d threads at a barrier, %d ended, the rest in warp operations",
                now.block.x, now.block.y, now.block.z, waiting, threads, ended);
        }
    }
    shared_check();
}

void run_grid(const char *name, dim3 grid, dim3 block, size_t dynamic, const std::function<void()> &thread) {
    static unsigned launches;
    if (!stacks) {
        stacks = (char *)mmap(NULL, (size_t)STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        shared_memory = (char *)aligned_alloc(256, SHARED_ROOM + 4096);
        if (stacks == MAP_FAILED || !shared_memory) die("no memory for stacks");
    }
    bool backwards = launches++ & 1;
    const char *before = running;
    running = name;
    body = &thread;
    shared_asked = dynamic;
    now.block_size = block;
    now.grid_size = grid;
    threads = (int)(block.x * block.y * block.z);
    unsigned long long blocks = (unsigned long long)grid.x * grid.y * grid.z;
    for (unsigned long long i = 0; i < blocks; i++) {
        unsigned long long b = backwards ? blocks - 1 - i : i;
        now.block = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        run_block(backwards);
    }
    running = before;
}

static std::map<const void *, int> dynamic_allowed;

cudaError_t launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t dynamic, cudaStream_t stream,
                   std::function<void()> thread) {
    EMULATED_ENTER;
    auto allowed = dynamic_allowed.find(kernel);
    size_t room = allowed == dynamic_allowed.end() ? 48 << 10 : (size_t)allowed->second;
    unsigned long long in_block = (unsigned long long)block.x * block.y * block.z;
    bool fits = in_block >= 1 && in_block <= MOST_THREADS && block.z <= 64 && grid.x >= 1 && grid.x <= 0x7fffffffu &&
                grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535 && dynamic <= SHARED_MOST;
    if (!fits) return fail(cudaErrorInvalidConfiguration);
    if (dynamic > room) return fail(cudaErrorInvalidValue); /* cudaFuncSetAttribute was not asked for so much */
    return enqueue(stream, name, [=] { run_grid(name, grid, block, dynamic, thread); });
}

} // namespace emulated

using namespace emulated;

extern "C" cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attr, int value) {
    EMULATED_ENTER;
    if (!function || attr != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > (int)SHARED_MOST)
        return fail(cudaErrorInvalidValue);
    dynamic_allowed[function] = value;
    return cudaSuccess;
}
