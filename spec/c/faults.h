/* faults.h: failures on demand. A program that links faults.c has its own malloc, mmap, pthread_create, dlopen,
 * write and so on, also for the shared libraries that it loads: they count their calls between faults_begin and
 * faults_end and let the one that is asked for fail, or it and all later ones. What was allocated since
 * faults_watch and not freed is known, too. */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAULT_MEMORY = 1, /* malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign */
    FAULT_MAP = 2,    /* mmap */
    FAULT_THREAD = 4, /* pthread_create */
    FAULT_LOAD = 8,   /* dlopen */
    FAULT_DISK = 16   /* open for writing, write, pwrite, fsync, fallocate, rename, ftruncate, mkdir */
};

/* Counts calls of these kinds from now on; number `at` (from 1) fails, with `onward` all later ones, too. error:
 * errno of failures on disk, 0: ENOSPC; -1: no failure, a write stores one byte less than asked. at 0: none fails.
 */
void faults_begin(unsigned kinds, int64_t at, bool onward, int error);
/* Nothing fails from now on; how many calls were counted, and how many of them failed. */
int64_t faults_end(int64_t *failed);

/* Allocations from now on are remembered until faults_watched, which tells how many of them were not freed, apart
 * from those that the dynamic linker and the C library keep for threads. `where`: the caller of the oldest. */
void faults_watch(void);
int64_t faults_watched(const char **where, size_t *bytes);

/* How many of the counted calls came from a matrix library: those never fail, as it has no way to say so. */
int64_t faults_matrix(void);

#endif
