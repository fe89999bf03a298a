/* faults.c: the calls that fail on demand (faults.h). They stand before those of the C library and of sanitizers,
 * and hand on to these what is not to fail. */
#define _GNU_SOURCE 1 /* RTLD_NEXT, renameat2 */
#include "faults_inside.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OURS __attribute__((visibility("default")))
#define CALLER() ((uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)))

/* ---- the plan ---- */

static atomic_uint planned; /* kinds; 0: none */
static atomic_llong counted, failures, matrix_calls;
static int64_t fail_at;
static bool fail_onward;
static int fail_error;

/* This thread runs what it was made for: a sanitizer's own beginning is not swept. */
static _Thread_local bool begun;

static bool fails(unsigned kind, uintptr_t caller) {
    if (!(atomic_load_explicit(&planned, memory_order_relaxed) & kind) || !begun) return false;
    if (owner_of(caller) == MATRIX) {
        atomic_fetch_add(&matrix_calls, 1);
        return false;
    }
    int64_t number = atomic_fetch_add(&counted, 1) + 1;
    if (fail_at <= 0 || (fail_onward ? number < fail_at : number != fail_at)) return false;
    atomic_fetch_add(&failures, 1);
    return true;
}

void faults_begin(unsigned kinds, int64_t at, bool onward, int error) {
    begun = true;
    fail_at = at;
    fail_onward = onward;
    fail_error = error ? error : ENOSPC;
    atomic_store(&counted, 0);
    atomic_store(&failures, 0);
    atomic_store(&matrix_calls, 0);
    owners_note();
    atomic_store(&planned, kinds);
}

int64_t faults_end(int64_t *failed) {
    atomic_store(&planned, 0);
    if (failed) *failed = atomic_load(&failures);
    return atomic_load(&counted);
}

int64_t faults_matrix(void) { return atomic_load(&matrix_calls); }

/* ---- the real calls ---- */

/* Before the first look-up is done, and while it allocates. */
enum { BOOTSTRAP = 1 << 16 };
static _Alignas(64) uint8_t bootstrap[BOOTSTRAP];
static size_t bootstrap_used;

static void *early(size_t bytes) {
    size_t at = (bootstrap_used + 63) / 64 * 64;
    if (bytes > BOOTSTRAP - at) _exit(99);
    bootstrap_used = at + bytes;
    return bootstrap + at;
}

static bool is_early(const void *memory) {
    return (uintptr_t)memory >= (uintptr_t)bootstrap && (uintptr_t)memory < (uintptr_t)(bootstrap + BOOTSTRAP);
}

#define REAL(name) static __typeof__(&name) real_##name
REAL(malloc);
REAL(calloc);
REAL(realloc);
REAL(free);
REAL(aligned_alloc);
REAL(posix_memalign);
REAL(mmap);
REAL(pthread_create);
REAL(dlopen);
REAL(open);
REAL(openat);
REAL(write);
REAL(pwrite);
REAL(fsync);
REAL(fallocate);
REAL(ftruncate);
REAL(rename);
REAL(renameat);
REAL(renameat2);
REAL(mkdir);
static void *(*real_memalign)(size_t, size_t);

static void find(void *slot, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(slot, &found, sizeof found);
}

__attribute__((constructor)) static void find_all(void) {
    static bool done, busy;
    if (done || busy) return;
    busy = true;
#define FIND(name) find(&real_##name, #name)
    FIND(free);
    FIND(calloc);
    FIND(realloc);
    FIND(aligned_alloc);
    FIND(posix_memalign);
    FIND(memalign);
    FIND(mmap);
    FIND(pthread_create);
    FIND(dlopen);
    FIND(open);
    FIND(openat);
    FIND(write);
    FIND(pwrite);
    FIND(fsync);
    FIND(fallocate);
    FIND(ftruncate);
    FIND(rename);
    FIND(renameat);
    FIND(renameat2);
    FIND(mkdir);
    FIND(malloc);
    done = true;
    busy = false;
}

/* ---- memory ---- */

static void *refused(void) {
    errno = ENOMEM;
    return NULL;
}

OURS void *malloc(size_t bytes) {
    if (!real_malloc) find_all();
    if (!real_malloc) return early(bytes);
    if (fails(FAULT_MEMORY, CALLER())) return refused();
    void *memory = real_malloc(bytes);
    blocks_remember(memory, bytes, CALLER());
    return memory;
}

OURS void *calloc(size_t count, size_t bytes) {
    if (!real_malloc) find_all();
    if (!real_malloc) return early(count * bytes);
    if (fails(FAULT_MEMORY, CALLER())) return refused();
    void *memory = real_calloc(count, bytes);
    blocks_remember(memory, count * bytes, CALLER());
    return memory;
}

OURS void free(void *memory) {
    if (!memory || is_early(memory)) return;
    blocks_forget(memory);
    real_free(memory);
}

OURS void *realloc(void *old, size_t bytes) {
    if (!real_malloc) find_all();
    if (!real_malloc || is_early(old)) {
        void *memory = real_malloc ? real_malloc(bytes) : early(bytes);
        if (memory && old) memcpy(memory, old, bytes); /* early blocks are few and lie in one array */
        return memory;
    }
    if (bytes > 0 && fails(FAULT_MEMORY, CALLER())) return refused();
    blocks_forget(old);
    void *memory = real_realloc(old, bytes);
    if (memory)
        blocks_remember(memory, bytes, CALLER());
    else if (bytes > 0)
        blocks_remember(old, 1, CALLER());
    return memory;
}

OURS void *aligned_alloc(size_t alignment, size_t bytes) {
    if (fails(FAULT_MEMORY, CALLER())) return refused();
    void *memory = real_aligned_alloc(alignment, bytes);
    blocks_remember(memory, bytes, CALLER());
    return memory;
}

OURS void *memalign(size_t alignment, size_t bytes) {
    if (fails(FAULT_MEMORY, CALLER())) return refused();
    void *memory = real_memalign(alignment, bytes);
    blocks_remember(memory, bytes, CALLER());
    return memory;
}

OURS int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (fails(FAULT_MEMORY, CALLER())) return ENOMEM;
    int error = real_posix_memalign(out, alignment, bytes);
    if (error == 0) blocks_remember(*out, bytes, CALLER());
    return error;
}

OURS void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (!real_mmap) find_all();
    if (fails(FAULT_MAP, CALLER())) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return real_mmap(address, bytes, protection, flags, fd, offset);
}

/* ---- threads and libraries ---- */

typedef struct beginning {
    void *(*run)(void *);
    void *arg;
} beginning;

static void *begin(void *arg) {
    beginning b = *(beginning *)arg;
    real_free(arg);
    begun = true;
    return b.run(b.arg);
}

OURS int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg) {
    if (!real_malloc) find_all();
    if (fails(FAULT_THREAD, CALLER())) return EAGAIN;
    beginning *b = real_malloc(sizeof *b);
    if (!b) return EAGAIN;
    *b = (beginning){run, arg};
    int error = real_pthread_create(thread, attributes, begin, b);
    if (error) real_free(b);
    return error;
}

OURS void *dlopen(const char *path, int mode) {
    if (fails(FAULT_LOAD, CALLER())) {
        real_dlopen("/nowhere/refused.so", RTLD_NOW); /* for dlerror */
        return NULL;
    }
    return real_dlopen(path, mode);
}

/* ---- disk ---- */

static bool disk_fails(uintptr_t caller) {
    if (!fails(FAULT_DISK, caller)) return false;
    errno = fail_error > 0 ? fail_error : ENOSPC;
    return true;
}

OURS int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (!real_open) find_all();
    if ((flags & (O_WRONLY | O_RDWR)) && disk_fails(CALLER())) return -1;
    return real_open(path, flags, mode);
}

OURS int openat(int folder, const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if ((flags & (O_WRONLY | O_RDWR)) && disk_fails(CALLER())) return -1;
    return real_openat(folder, path, flags, mode);
}

OURS ssize_t write(int fd, const void *bytes, size_t count) {
    if (!real_write) find_all();
    if (count > 0 && disk_fails(CALLER())) {
        if (fail_error != -1) return -1;
        return count == 1 ? real_write(fd, bytes, count) : real_write(fd, bytes, count - 1);
    }
    return real_write(fd, bytes, count);
}

OURS ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    if (count > 0 && disk_fails(CALLER())) {
        if (fail_error != -1) return -1;
        return real_pwrite(fd, bytes, count > 1 ? count - 1 : count, offset);
    }
    return real_pwrite(fd, bytes, count, offset);
}

#define ON_DISK(call, ...)                                                                                        \
    do {                                                                                                          \
        if (disk_fails(CALLER()) && fail_error != -1) return -1;                                                  \
        return real_##call(__VA_ARGS__);                                                                          \
    } while (0)

OURS int fsync(int fd) { ON_DISK(fsync, fd); }
OURS int fallocate(int fd, int mode, off_t offset, off_t bytes) { ON_DISK(fallocate, fd, mode, offset, bytes); }
OURS int ftruncate(int fd, off_t bytes) { ON_DISK(ftruncate, fd, bytes); }
OURS int rename(const char *from, const char *to) { ON_DISK(rename, from, to); }
OURS int renameat(int a, const char *from, int b, const char *to) { ON_DISK(renameat, a, from, b, to); }
OURS int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    ON_DISK(renameat2, a, from, b, to, flags);
}
OURS int mkdir(const char *path, mode_t mode) { ON_DISK(mkdir, path, mode); }
