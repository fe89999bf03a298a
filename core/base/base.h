/* base.h: what every room of the engine stands on: errors, memory, threads, random numbers, events,
 * file writing, small text helpers. Private to core/. Names start with di_ (distac internal). */
#ifndef DISTAC_BASE_H
#define DISTAC_BASE_H

#include "../distac.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__GNUC__)
#define DI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define DI_PRINTF(fmt, args)
#endif

/* Leaves the function with the status of a failed call. The text is already set by whoever failed. */
#define DI_TRY(call)                                                                                            \
    do {                                                                                                        \
        distac_status di_status_ = (call);                                                                      \
        if (di_status_ != DISTAC_OK) return di_status_;                                                         \
    } while (0)

/* Compiles a hot loop for several vector widths; the loader picks one. The loops add, multiply and compare but
 * never multiply and add, so all of them give the same bits. Sanitizers run before the loader is done. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__) &&                      \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define DI_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DI_CLONES
#endif

/* ---- errors (status.c) ---- */
/* Sets this thread's error text "FUNCTION: text" and returns code. Never allocates. */
distac_status di_fail_at(distac_status code, const char *function, const char *format, ...) DI_PRINTF(3, 4);
#define di_fail(code, ...) di_fail_at((code), __func__, __VA_ARGS__)
/* How often this thread has failed so far, and the way to set its text again: a failure's text is carried with
 * these from a worker to the thread that asked for the work. */
unsigned di_error_count(void);
/* How often this thread has been without memory: for those who would take it for "not there". */
unsigned di_memory_error_count(void);
void di_error_restore(const char *text);
/* A value for a text: a NaN loses its sign, which x86 sets and %g prints. */
double di_shown(double value);
/* The status of a call of the system that left this errno: ENOMEM, or EIO for all others. */
distac_status di_system_status(int error);
#define DI_REQUIRE(condition, what)                                                                             \
    do {                                                                                                        \
        if (!(condition)) return di_fail(DISTAC_EINVAL, "%s", (what));                                          \
    } while (0)

/* ---- context and memory (context.c, memory.c) ---- */
typedef struct di_pool di_pool;
typedef struct di_cache di_cache;
struct di_kernels;
struct di_device;
struct distac_context {
    atomic_int refs;
    atomic_int cancel;
    int32_t threads;
    uint64_t seed;
    atomic_llong memory_limit, memory_used, memory_peak;
    di_pool *pool;                          /* its threads start at first use */
    di_cache *cache;                        /* freed big blocks, kept for the next request of their size */
    const struct di_kernels *kernels_f32;   /* see backend/backend.h */
    const struct di_kernels *kernels_f64;
    const struct di_kernels *kernels_model; /* what f32 models compute with: kernels_f32, or its bf16 products */
    const char *isa;                        /* "scalar", "avx2", "avx512" */
    const char *products;                   /* "f32", "bf16", "bf16 (emulated)" */
    struct di_events *events;
    struct di_device *device;               /* NULL: none beside the CPU; tensors can be moved there */
    bool there;                             /* models are computed on it */
};
void di_context_retain(distac_context *context);
/* 64-byte aligned, counted against the context's limit, huge pages advised from 2 MiB on, NOT zeroed. NULL
 * with the error set if over the limit or out of memory. bytes 0 gives a valid pointer. */
void *di_alloc_at(const char *function, distac_context *context, size_t bytes);
void *di_alloc_zeroed_at(const char *function, distac_context *context, size_t bytes);
#define di_alloc(context, bytes)        di_alloc_at(__func__, (context), (bytes))
#define di_alloc_zeroed(context, bytes) di_alloc_zeroed_at(__func__, (context), (bytes))
/* bytes as given to di_alloc; NULL is fine. */
void di_free(distac_context *context, void *memory, size_t bytes);
/* Counts memory that somebody else owns (a device) as used; false with the error set if it passes the limit. */
bool di_memory_charge(distac_context *context, size_t bytes);
void di_memory_discharge(distac_context *context, size_t bytes);
/* The cache of freed blocks: not counted as used, given back when the limit needs it. trim keeps at most so many
 * bytes. */
di_cache *di_cache_create(void);
void di_cache_trim(di_cache *cache, size_t keep);
void di_cache_destroy(di_cache *cache);
/* Small bookkeeping (structs, names): plain libc memory, not counted. NULL sets the error. */
#define di_new(bytes) di_new_at(__func__, (bytes)) /* zeroed; free() it */
/* The list of di_new with another size, what is new in it not
 * zeroed; NULL with the error set, then it is as it was. */
#define di_grow(list, bytes) di_grow_at(__func__, (list), (bytes))
#define di_strdup(text)      di_strdup_at(__func__, (text))
void *di_new_at(const char *function, size_t bytes);
void *di_grow_at(const char *function, void *list, size_t bytes);
char *di_strdup_at(const char *function, const char *text);
/* DISTAC_ECANCELED with the error set after distac_cancel, else OK. Long work calls it between pieces. */
distac_status di_poll(distac_context *context);

/* ---- threads (pool.c): ours, made once; results never depend on their number ---- */
/* Runs task(arg, i) for i in 0..count-1 on the context's threads, the caller included; returns when all are
 * done. Tasks must not depend on order or on which thread runs them. Nested calls run serially. OpenMP and BLAS
 * threads inside tasks are set to one. */
typedef void (*di_task)(void *arg, int64_t index);
void di_parallel(distac_context *context, int64_t count, di_task task, void *arg);
/* The text of a failure inside a task (the lowest failing index) becomes the caller's text. The pool is made
 * without threads; stop joins them (the next di_parallel starts them again). */
di_pool *di_pool_create(void);
void di_pool_stop(di_pool *pool);
void di_pool_destroy(di_pool *pool);

/* ---- random numbers (rng.c): Philox 4x32-10 ---- */
void di_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
double di_uniform(uint64_t seed, uint64_t stream, uint64_t index); /* [0,1), 53 bits, a pure function */
double di_normal(uint64_t seed, uint64_t stream, uint64_t index);
uint64_t di_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound);
/* Permutation of 0..n-1, a pure function of (seed, stream). */
void di_permutation(uint64_t seed, uint64_t stream, int64_t n, int64_t *out);

/* ---- events (events.c) ---- */
struct di_events *di_events_create(void);
void di_events_destroy(struct di_events *events);
void di_progress(distac_context *context, const char *what, int64_t done, int64_t total);
void di_warn(distac_context *context, const char *format, ...) DI_PRINTF(2, 3);

/* ---- text (text.c) ---- */
typedef struct di_text {
    char *bytes; /* NUL-terminated, NULL while empty */
    size_t length, capacity;
    bool failed; /* out of memory once: content is cut */
} di_text;
void di_text_add(di_text *text, const char *format, ...) DI_PRINTF(2, 3);
void di_text_free(di_text *text);
/* Says why zlib's inflateInit failed with `code` and its message (NULL: none): ENOMEM, or EUNSUPPORTED. */
distac_status di_fail_inflate(const char *function, const char *path, int code, const char *message);
/* The bytes of a code point, their number is returned. */
size_t di_utf8_put(uint32_t point, char out[4]);
/* The code point at text, its length to *length: 0 unless it is UTF-8. */
uint32_t di_utf8_get(const char *text, size_t bytes, size_t *length);
/* The first byte of what is not UTF-8; NULL: all of it is. */
const char *di_utf8_wrong(const char *text, size_t bytes);
/* The candidate with the smallest edit distance to name, NULL if none is near. */
const char *di_nearest(const char *name, int64_t count, const char *const *candidates);
/* Whether a name fits a pattern: * stands for any text, ? for one byte. */
bool di_glob(const char *pattern, const char *name);
distac_strings *di_strings_new(void);
distac_status di_strings_add(distac_strings *strings, const char *text);
void di_strings_sort(distac_strings *strings); /* by bytes */

/* ---- files (files.c, writer.c) ---- */
/* Opens a regular file for reading (nothing else: no folder, FIFO, device); bytes, its size, may be NULL. */
distac_status di_open_regular(const char *path, int *out, int64_t *bytes);
/* A file that appears under its final name only when whole. */
typedef struct di_writer di_writer;
distac_status di_writer_open(const char *path, di_writer **out);
distac_status di_writer_put(di_writer *writer, const void *bytes, size_t count);
/* Asks for room for so many bytes before they are written: a disk that is too full is told at once, and the file
 * lies in one piece. Where the system cannot, nothing happens. */
distac_status di_writer_reserve(di_writer *writer, int64_t bytes);
/* Replaces bytes that were put before. */
distac_status di_writer_patch(di_writer *writer, int64_t offset, const void *bytes, size_t count);
/* fsync, rename, fsync of the folder; frees the writer whatever happens. */
distac_status di_writer_commit(di_writer *writer);
/* Removes the temporary file and frees the writer; NULL is fine. */
void di_writer_abort(di_writer *writer);
/* What the names of files and folders that are not whole yet end in: ".NAME.PID.N" before it. */
#define DI_TEMPORARY ".distac-tmp"
/* Removes from a folder what killed writers of `name`, and dead ones of other names, left there. */
void di_leftovers(int folder_fd, const char *name);
/* ---- bundle.c ---- */
/* A folder of files that appears under its final name only when whole. */
typedef struct di_bundle di_bundle;
/* A folder at path is replaced at the commit if it holds nothing but a model's files; fails with EIO before
 * anything is done if it holds others. */
distac_status di_bundle_open(const char *path, di_bundle **out);
/* Where the files are to be written until then. */
const char *di_bundle_path(const di_bundle *folder);
/* Makes it durable, gives it its name, removes what had it; frees it whatever happens. */
distac_status di_bundle_commit(di_bundle *folder);
/* Removes its files and itself; NULL is fine. */
void di_bundle_abort(di_bundle *folder);
/* Removes a file, or a folder with the files in it; what holds folders stays. */
void di_bundle_clear(int folder_fd, const char *name);
/* A regular file mapped read-only; bytes may be 0 (data NULL). Refuses anything that is no regular file. */
typedef struct di_map {
    const uint8_t *data;
    size_t bytes;
} di_map;
distac_status di_map_open(const char *path, di_map *out);
void di_map_close(di_map *map);

/* ---- hashing (hash.c) ---- */
typedef struct di_sha256 {
    uint64_t state[32]; /* opaque */
} di_sha256;
void di_sha256_init(di_sha256 *hash);
void di_sha256_update(di_sha256 *hash, const void *bytes, size_t count);
void di_sha256_hex(di_sha256 *hash, char out[65]);
/* [new] The digits as the one item of a list. */
distac_status di_sha256_strings(di_sha256 *hash, distac_strings **out);

#endif
