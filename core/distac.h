/* distac.h: the public interface of libdistac, an engine that conditions task vectors by knowledge
 * distillation (DisTaC) and merges fine-tuned models. Plain C11; C++ and LuaJIT's ffi.cdef read it too.
 *
 * Reading guide. Every function returns a distac_status (0 is good, negative is an error whose text is
 * distac_last_error()) or, for plain getters, the value itself. Handles are opaque and reference
 * counted; a handle keeps alive what it needs. Results come back through the last parameter `out`.
 * Tensors are row-major. Sizes are in elements unless a name says bytes. Arrays come as a pair
 * (n_NAME, NAME). NULL is allowed only where DISTAC_NULLABLE stands. Every *_release accepts NULL.
 *
 * Tags at the start of a comment:
 *   [new]    *out is a new reference: the caller releases it
 *   [view]   like [new], but it shares storage with its source
 *   [borrow] the result stays valid while its owner lives (for texts: until the next call on the owner)
 *   [any]    callable from any thread; everything else: one thread at a time per context
 * Every function may fail with ENOMEM and EINVAL (a NULL handle); other errors are named.
 *
 * The block between the two fences is also the input of bindings/gen.lua, which makes both Lua
 * bindings from it. Its grammar is small on purpose; bindings/gen.lua states it. */
#ifndef DISTAC_H
#define DISTAC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DISTAC_API __attribute__((visibility("default")))
#else
#define DISTAC_API
#endif
#define DISTAC_ABI_VERSION 1 /* what distac_abi_version returns; goes up with every incompatible change */
#define DISTAC_NULLABLE /* the next parameter may be NULL (nil in Lua) */
#define DISTAC_FILL     /* the next pointer is written by the callee, n_NAME values */

/* fence: begin */

/* ---- Status ------------------------------------------------------------------------------------ */

typedef int32_t distac_status;
enum {
    DISTAC_OK = 0,
    DISTAC_ENOMEM = -1,    /* out of memory, or over the context's memory limit */
    DISTAC_EINVAL = -2,    /* an argument makes no sense */
    DISTAC_ESHAPE = -3,    /* shapes do not fit */
    DISTAC_EDTYPE = -4,    /* element types do not fit */
    DISTAC_EIO = -5,       /* the operating system refused: open, read, write, rename */
    DISTAC_EFORMAT = -6,   /* a file breaks its format's rules */
    DISTAC_ENOTFOUND = -7, /* a name (tensor, method, parameter, file) does not exist */
    DISTAC_ENUMERIC = -8,  /* NaN or infinity where a number is needed */
    DISTAC_ECANCELED = -9, /* distac_cancel was called */
    DISTAC_ESTATE = -10,   /* the object is not in the state for this call */
    DISTAC_EDEVICE = -11,  /* the device failed */
    DISTAC_EUNSUPPORTED = -12
};

/* [any] Text of the last failure on this thread: "" if none. Valid until the next failure. */
DISTAC_API const char *distac_last_error(void);
/* [any] Name of a status, "ESHAPE" for DISTAC_ESHAPE, "OK" for 0; "EUNKNOWN" for any other number. */
DISTAC_API const char *distac_status_name(distac_status status);
/* [any] Semantic version, such as "0.1.0": the project's in CMakeLists.txt. */
DISTAC_API const char *distac_version(void);
/* [any] Changes whenever this header changes incompatibly; both bindings check it. */
DISTAC_API int32_t distac_abi_version(void);

/* ---- Context: device, threads, memory limit, seed, cancel, events ------------------------------- */

typedef struct distac_context distac_context;

typedef struct distac_context_desc {
    int32_t threads;      /* worker threads; 0: one per core. Results never depend on it */
    int64_t memory_limit; /* bytes of tensors and workspaces; 0: none */
    uint64_t seed;        /* default seed of everything random */
    const char *device;   /* "cpu", "cuda", "cuda:1"; NULL: "cpu" */
    const char *kernels;  /* "auto", "scalar", "avx2", "avx512"; NULL: "auto" */
    /* Factors of the matrix products inside f32 encoders: "f32", or "bf16": rounded to bfloat16
     * (to nearest, ties to even) where they enter a product, sums, weights and everything else in
     * f32; on CUDA devices also "tf32". NULL: "f32" */
    const char *products;
} distac_context_desc;

typedef struct distac_context_info {
    int32_t threads;
    int64_t memory_limit;
    int64_t memory_used; /* bytes held now */
    int64_t memory_peak; /* most bytes held at once since creation or the last reset */
    uint64_t seed;
    const char *device;
    const char *kernels; /* the vector kernels in use: "scalar", "avx2", "avx512" */
    /* "f32", "bf16", or "bf16 (emulated)": rounded factors multiplied as f32, which differs from a processor with
     * bfloat16 products in the order of the sums only */
    const char *products;
} distac_context_info;

typedef struct distac_device_info {
    const char *name; /* "cpu", "cuda:0" */
    const char *text; /* what it is, for people */
    int64_t memory;   /* bytes */
    int32_t units;    /* cores or multiprocessors */
} distac_device_info;

typedef struct distac_event {
    int32_t kind;     /* 0 progress, 1 note, 2 warning */
    int64_t done;     /* progress: units finished */
    int64_t total;    /* progress: units in all, 0 if unknown */
    const char *what; /* the text; valid until the next distac_event_next on this context */
} distac_event;

/* [new] Opens a device and its threads (made at the first use). desc NULL: all defaults.
 * The first loads LAPACK and OpenBLAS. Errors: EDEVICE (no such device), EINVAL (a value out of range),
 * EUNSUPPORTED (the matrix library cannot be loaded). */
DISTAC_API distac_status distac_context_create(DISTAC_NULLABLE const distac_context_desc *desc,
                                               distac_context **out);
/* [any] Drops a reference. Every object keeps its context alive. */
DISTAC_API void distac_context_release(distac_context *context);
/* What the context is and how much memory it holds. */
DISTAC_API distac_status distac_context_get_info(distac_context *context, distac_context_info *out);
/* Sets memory_peak to memory_used. */
DISTAC_API distac_status distac_context_reset_peak(distac_context *context);
/* Changes the number of threads (0: one per core). */
DISTAC_API distac_status distac_context_set_threads(distac_context *context, int32_t threads);
/* Changes the memory limit in bytes (0: none); what is held already stays. */
DISTAC_API distac_status distac_context_set_memory_limit(distac_context *context, int64_t bytes);
/* [any] Makes running and later work fail with ECANCELED. Async-signal-safe. */
DISTAC_API void distac_cancel(distac_context *context);
/* [any] Forgets a cancel. */
DISTAC_API void distac_cancel_clear(distac_context *context);
/* [any] 1 after distac_cancel, else 0. */
DISTAC_API int32_t distac_cancelled(distac_context *context);
/* Takes the oldest waiting event. Returns 1 and fills *event, or 0 if none waits. The queue keeps the
 * newest 256; progress events of the same text replace each other. */
DISTAC_API int32_t distac_event_next(distac_context *context, distac_event *event);
/* [any] Number of devices: 1 (the CPU) + usable GPUs. */
DISTAC_API int32_t distac_device_count(void);
/* [any] Describes device `index`, 0 is the CPU. Errors: EINVAL (index). */
DISTAC_API distac_status distac_device_get_info(int32_t index, distac_device_info *out);

/* ---- Tensors ------------------------------------------------------------------------------------ */

typedef struct distac_tensor distac_tensor;

/* Arithmetic works on F32 and F64; F16, BF16 and the integer types are stored, read, written and cast. */
enum {
    DISTAC_F64 = 0,
    DISTAC_F32 = 1,
    DISTAC_F16 = 2,
    DISTAC_BF16 = 3,
    DISTAC_I64 = 4,
    DISTAC_I32 = 5,
    DISTAC_I16 = 6,
    DISTAC_I8 = 7,
    DISTAC_U8 = 8,
    DISTAC_BOOL = 9,
    DISTAC_U16 = 10,
    DISTAC_U32 = 11,
    DISTAC_U64 = 12,
    DISTAC_F8_E4M3 = 13, /* carried, not computed with */
    DISTAC_F8_E5M2 = 14, /* carried, not computed with */
    DISTAC_DTYPE_COUNT = 15
};

/* [any] "f32" and so on; NULL for an unknown number. */
DISTAC_API const char *distac_dtype_name(int32_t dtype);
/* [any] The number of "f32" or "float32", "bf16" or "bfloat16", …; -1 if unknown. */
DISTAC_API int32_t distac_dtype_from_name(const char *name);
/* [any] Bytes of an element. */
DISTAC_API int64_t distac_dtype_bytes(int32_t dtype);

/* [new] A tensor of zeros. shape has n_shape (0 to 16) sizes >= 0. */
DISTAC_API distac_status distac_tensor_create(distac_context *context, int32_t dtype, int32_t n_shape,
                                              const int64_t *shape, distac_tensor **out);
/* [any] Drops a reference. */
DISTAC_API void distac_tensor_release(distac_tensor *tensor);
/* [new] Zeros in the place and the context of another tensor. Errors: as distac_tensor_create. */
DISTAC_API distac_status distac_tensor_create_beside(const distac_tensor *tensor, int32_t dtype, int32_t n_shape,
                                                     const int64_t *shape, distac_tensor **out);
/* Type of the elements; -1 for NULL. */
DISTAC_API int32_t distac_tensor_dtype(const distac_tensor *tensor);
/* Number of dimensions. */
DISTAC_API int32_t distac_tensor_rank(const distac_tensor *tensor);
/* Size of dimension dim (0-based); -1 if there is no such dimension. */
DISTAC_API int64_t distac_tensor_size(const distac_tensor *tensor, int32_t dim);
/* Elements between neighbours along dim. */
DISTAC_API int64_t distac_tensor_stride(const distac_tensor *tensor, int32_t dim);
/* Number of elements. */
DISTAC_API int64_t distac_tensor_numel(const distac_tensor *tensor);
/* 1 if the elements lie in one row-major run. */
DISTAC_API int32_t distac_tensor_contiguous(const distac_tensor *tensor);
/* 1 if writing is refused: the tensor lies in a mapped file. */
DISTAC_API int32_t distac_tensor_readonly(const distac_tensor *tensor);
/* [borrow] Name of the tensor's device: "cpu", "cuda:0". */
DISTAC_API const char *distac_tensor_device(const distac_tensor *tensor);
/* [borrow] First element in host memory; NULL for a tensor on another device. */
DISTAC_API void *distac_tensor_data(const distac_tensor *tensor);
/* [new] A contiguous tensor over the caller's memory of `bytes` bytes at data, without a copy; readonly != 0
 * refuses writing through it. The memory stays the caller's, and has to stay where it is while
 * distac_tensor_sharers of any tensor over it counts tensors of others. Errors: ESHAPE (the shape takes more than
 * bytes), EINVAL (data is not aligned to the type). */
DISTAC_API distac_status distac_tensor_adopt(distac_context *context, int32_t dtype, int32_t n_shape,
                                             const int64_t *shape, void *data, int64_t bytes, int32_t readonly,
                                             distac_tensor **out);
/* [any] Tensors that lie over the same memory, this one and views included: 1 when it is the only one left. */
DISTAC_API int64_t distac_tensor_sharers(const distac_tensor *tensor);

/* Copies all elements, row-major, to values (numbers beyond 2^53 lose bits). Errors: ESHAPE unless
 * n_values equals numel. */
DISTAC_API distac_status distac_tensor_read(const distac_tensor *tensor, int64_t n_values,
                                            DISTAC_FILL double *values);
/* Copies values to all elements, row-major, rounding to the type. Errors: ESHAPE, ESTATE (read-only). */
DISTAC_API distac_status distac_tensor_write(distac_tensor *tensor, int64_t n_values, const double *values);
/* The one element of a tensor with numel 1. Errors: ESHAPE. */
DISTAC_API distac_status distac_tensor_item(const distac_tensor *tensor, double *out);

/* [view] Same elements, other shape; contiguous tensors only; one size may be -1. Errors: ESHAPE. */
DISTAC_API distac_status distac_tensor_reshape(const distac_tensor *tensor, int32_t n_shape,
                                               const int64_t *shape, distac_tensor **out);
/* [view] Elements start, start+1, … (length of them) along dim. Errors: EINVAL. */
DISTAC_API distac_status distac_tensor_narrow(const distac_tensor *tensor, int32_t dim, int64_t start,
                                              int64_t length, distac_tensor **out);
/* [view] Element index along dim; the dimension goes away. Errors: EINVAL. */
DISTAC_API distac_status distac_tensor_select(const distac_tensor *tensor, int32_t dim, int64_t index,
                                              distac_tensor **out);
/* [view] Two dimensions exchanged. Errors: EINVAL. */
DISTAC_API distac_status distac_tensor_transpose(const distac_tensor *tensor, int32_t dim0, int32_t dim1,
                                                 distac_tensor **out);
/* [new] A contiguous copy in dtype (the same or another; round to nearest even). Errors: EDTYPE. */
DISTAC_API distac_status distac_tensor_cast(const distac_tensor *tensor, int32_t dtype, distac_tensor **out);
/* dst = src, converting; shapes equal. Errors: ESHAPE, ESTATE (read-only). */
DISTAC_API distac_status distac_tensor_copy(distac_tensor *dst, const distac_tensor *src);
/* [new] The same elements on "cpu" or a device, contiguous; the tensor itself if it lies so there. Its context
 * then has that device for tensors beside what it computes models on. Both operands of an operation must lie in
 * one place. Errors: EDEVICE (no such device), EUNSUPPORTED (the context uses another), ENOMEM. */
DISTAC_API distac_status distac_tensor_to(const distac_tensor *tensor, const char *device, distac_tensor **out);
/* All elements = value. Errors: ESTATE (read-only). */
DISTAC_API distac_status distac_tensor_fill(distac_tensor *tensor, double value);
/* Standard normal (kind 0) or uniform [0,1) (kind 1) numbers: element i is a pure function of
 * (seed, stream, i). Errors: EDTYPE (float types only). */
DISTAC_API distac_status distac_tensor_random(distac_tensor *tensor, int32_t kind, uint64_t seed,
                                              uint64_t stream);

enum {
    DISTAC_ADD = 0,
    DISTAC_SUB = 1,
    DISTAC_MUL = 2,
    DISTAC_DIV = 3,
    DISTAC_POW = 4,
    DISTAC_MAX = 5,
    DISTAC_MIN = 6,
    DISTAC_EQ = 7, /* comparisons give 1 or 0 in the operands' type */
    DISTAC_LT = 8,
    DISTAC_LE = 9
};
/* [new] a op b, element by element, with broadcasting as NumPy does it. Both F32 or both F64 (F16 and
 * BF16 operands are widened to F32). Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_tensor_binary(int32_t op, const distac_tensor *a, const distac_tensor *b,
                                              distac_tensor **out);
/* [new] a op value; with swapped != 0, value op a. Errors: EDTYPE. */
DISTAC_API distac_status distac_tensor_binary_scalar(int32_t op, const distac_tensor *a, double value,
                                                     int32_t swapped, distac_tensor **out);
enum {
    DISTAC_NEG = 0,
    DISTAC_ABS = 1,
    DISTAC_SQRT = 2,
    DISTAC_EXP = 3,
    DISTAC_LOG = 4,
    DISTAC_TANH = 5,
    DISTAC_SIGN = 6,
    DISTAC_SIGMOID = 7,
    DISTAC_ERF = 8,
    DISTAC_GELU = 9,
    DISTAC_QUICK_GELU = 10,
    DISTAC_ISFINITE = 11
};
/* [new] op applied to every element. */
DISTAC_API distac_status distac_tensor_unary(int32_t op, const distac_tensor *a, distac_tensor **out);
enum {
    DISTAC_SUM = 0, /* sums and norms accumulate in double */
    DISTAC_MEAN = 1,
    DISTAC_RMAX = 2,
    DISTAC_RMIN = 3,
    DISTAC_ARGMAX = 4, /* I64, 0-based; the first of equal values */
    DISTAC_NORM = 5    /* Euclidean */
};
/* [new] Reduces dimension dim (-1: everything, giving rank 0). keep != 0 leaves a size-1 dimension.
 * Errors: EINVAL (dim), ESHAPE (largest or smallest of nothing), EDTYPE. */
DISTAC_API distac_status distac_tensor_reduce(int32_t op, const distac_tensor *a, int32_t dim, int32_t keep,
                                              distac_tensor **out);
/* [new] Softmax (log_space 0) or log-softmax (1) over the last dimension. */
DISTAC_API distac_status distac_tensor_softmax(const distac_tensor *a, int32_t log_space, distac_tensor **out);
/* [new] a [M,K] times b [K,N] -> [M,N]; leading dimensions, if any, are equal batches. Errors: ESHAPE. */
DISTAC_API distac_status distac_tensor_matmul(const distac_tensor *a, const distac_tensor *b,
                                              distac_tensor **out);
/* Thin singular value decomposition a [M,N] = u [M,R] diag(s [R]) vt [R,N], R = min(M,N), s descending,
 * computed in double. The three are preallocated and overwritten. Errors: ESHAPE, ENUMERIC. */
DISTAC_API distac_status distac_tensor_svd(const distac_tensor *a, distac_tensor *u, distac_tensor *s,
                                           distac_tensor *vt);
/* Eigenvalues w [N] ascending and eigenvectors v [N,N] (columns) of a symmetric a [N,N] (lower triangle
 * used), computed in double. Preallocated and overwritten. Errors: ESHAPE, ENUMERIC. */
DISTAC_API distac_status distac_tensor_eigh(const distac_tensor *a, distac_tensor *w, distac_tensor *v);
/* Number of NaN and infinite elements; *first is the row-major index of the first, -1 if none. */
DISTAC_API distac_status distac_tensor_nonfinite(const distac_tensor *tensor, int64_t *first, int64_t *out);

/* ---- Random numbers ------------------------------------------------------------------------------ */

typedef struct distac_rng distac_rng;
/* [new] Counter-based generator (Philox 4x32-10): draw number i is a pure function of (seed, stream, i). */
DISTAC_API distac_status distac_rng_create(uint64_t seed, uint64_t stream, distac_rng **out);
/* [any] Drops a reference. */
DISTAC_API void distac_rng_release(distac_rng *rng);
/* Uniform in [0,1), 53 bits. */
DISTAC_API double distac_rng_uniform(distac_rng *rng);
/* Standard normal. */
DISTAC_API double distac_rng_normal(distac_rng *rng);
/* Uniform integer in [0, bound), without bias. 0 for bound <= 1. */
DISTAC_API int64_t distac_rng_below(distac_rng *rng, int64_t bound);

/* ---- Files and hashes ---------------------------------------------------------------------------- */

typedef struct distac_strings distac_strings; /* a list of texts */
/* [any] Drops a reference. */
DISTAC_API void distac_strings_release(distac_strings *strings);
/* Number of texts. */
DISTAC_API int64_t distac_strings_count(const distac_strings *strings);
/* [borrow] Item `index` (0-based), NULL if there is none. */
DISTAC_API const char *distac_strings_get(const distac_strings *strings, int64_t index);

/* 0 nothing there, 1 regular file, 2 folder, 3 something else. */
DISTAC_API int32_t distac_path_kind(const char *path);
/* Bytes of a regular file, -1 if it is none. */
DISTAC_API int64_t distac_path_bytes(const char *path);
/* Makes a folder and its parents; fine if it exists. Errors: EIO. */
DISTAC_API distac_status distac_path_make(const char *path);
/* [new] Names in a folder sorted by bytes, without "." and "..". Errors: EIO. */
DISTAC_API distac_status distac_path_list(const char *path, distac_strings **out);
/* Removes a file or an empty folder; fine if it is not there. Errors: EIO. */
DISTAC_API distac_status distac_path_remove(const char *path);
/* [new] The absolute path as the one item. Errors: EIO. */
DISTAC_API distac_status distac_path_absolute(const char *path, distac_strings **out);
/* Gives a file or folder another name; a file that has it is replaced, a folder changes places and is called
 * `from` afterwards. Both lie in the same file system. Errors: EIO. */
DISTAC_API distac_status distac_path_rename(const char *from, const char *to);
/* Replaces a file's content so that its final name never shows half of it: temporary file in the same
 * folder, fsync, rename, fsync of the folder. Errors: EIO. */
DISTAC_API distac_status distac_path_write(const char *path, const char *text, int64_t bytes);
/* [new] SHA-256 of a text as 64 hexadecimal digits. */
DISTAC_API distac_status distac_hash_text(const char *text, int64_t bytes, distac_strings **out);
/* [new] SHA-256 of a file's bytes. Errors: EIO. */
DISTAC_API distac_status distac_hash_file(const char *path, distac_strings **out);
/* [any] Seconds of a monotonic clock. */
DISTAC_API double distac_clock(void);

/* ---- Checkpoints: named tensors with metadata ---------------------------------------------------- */

typedef struct distac_checkpoint distac_checkpoint;

/* [new] Opens a model's weights, tensors under the file's own names, mapped and read when touched: a
 * safetensors file; a PyTorch file (.pt, .pth, .bin: archive, legacy stack or whole module, read as data:
 * nothing in it is ever called); the index of a model in several files (*.safetensors.index.json,
 * *.bin.index.json, the files beside it); a folder with config.json (transformers) or open_clip_config.json and
 * one of those. What the configuration says becomes metadata: vit.activation, vit.heads, text.activation,
 * text.heads. Every rule of a format is checked (and duplicates, unknown fields, holes). Errors: EIO, EFORMAT
 * (text names file, place and rule), ENOTFOUND (a folder without weights or configuration), ESHAPE (the
 * configuration contradicts the tensors). */
DISTAC_API distac_status distac_checkpoint_open(distac_context *context, const char *path,
                                                distac_checkpoint **out);
/* [new] An empty checkpoint in memory. */
DISTAC_API distac_status distac_checkpoint_create(distac_context *context, distac_checkpoint **out);
/* [any] Drops a reference. */
DISTAC_API void distac_checkpoint_release(distac_checkpoint *checkpoint);
/* [borrow] The file it was opened from, "" if none. */
DISTAC_API const char *distac_checkpoint_path(const distac_checkpoint *checkpoint);
/* Number of tensors. */
DISTAC_API int64_t distac_checkpoint_count(const distac_checkpoint *checkpoint);
/* [borrow] Name of tensor `index`, NULL if there is none. Names are sorted by bytes. */
DISTAC_API const char *distac_checkpoint_name(const distac_checkpoint *checkpoint, int64_t index);
/* Index of a name, -1 if absent. */
DISTAC_API int64_t distac_checkpoint_find(const distac_checkpoint *checkpoint, const char *name);
/* [view] Tensor `index`. Errors: EINVAL. */
DISTAC_API distac_status distac_checkpoint_tensor(const distac_checkpoint *checkpoint, int64_t index,
                                                  distac_tensor **out);
/* Adds or replaces a tensor (shared, not copied), wherever it lies. Errors: ESTATE
 * (opened from a file), EINVAL (name). */
DISTAC_API distac_status distac_checkpoint_set(distac_checkpoint *checkpoint, const char *name,
                                               distac_tensor *tensor);
/* Number of metadata entries. */
DISTAC_API int64_t distac_checkpoint_metadata_count(const distac_checkpoint *checkpoint);
/* [borrow] Metadata key `index`, sorted; NULL if there is none. */
DISTAC_API const char *distac_checkpoint_metadata_key(const distac_checkpoint *checkpoint, int64_t index);
/* [borrow] Value of a metadata key, NULL if absent. */
DISTAC_API const char *distac_checkpoint_metadata(const distac_checkpoint *checkpoint, const char *key);
/* Sets a metadata entry; value NULL removes it. In memory only. Errors: ESTATE. */
DISTAC_API distac_status distac_checkpoint_set_metadata(distac_checkpoint *checkpoint, const char *key,
                                                        DISTAC_NULLABLE const char *value);
/* [new] A changeable checkpoint of the same tensors and metadata; the tensors are shared. */
DISTAC_API distac_status distac_checkpoint_clone(const distac_checkpoint *checkpoint, distac_checkpoint **out);
/* [new] The same with all float tensors on a device ("cuda") or in host memory ("cpu"); shared where they lie so.
 * Sums, factors and merges of checkpoints on the device are computed there. Errors: as distac_tensor_to. */
DISTAC_API distac_status distac_checkpoint_to(const distac_checkpoint *checkpoint, const char *device,
                                              distac_checkpoint **out);
/* [new] Tensors first … first+count-1 alone, with the metadata; shared. Errors: EINVAL (no such tensors). */
DISTAC_API distac_status distac_checkpoint_part(const distac_checkpoint *checkpoint, int64_t first,
                                                int64_t count, distac_checkpoint **out);
typedef struct distac_checkpoint_info {
    int32_t dtype; /* -1: a type that is carried as bytes */
    int32_t rank;
    int64_t numel;
    int64_t bytes;
} distac_checkpoint_info;
/* What tensor `index` is, without reading it. Errors: EINVAL. */
DISTAC_API distac_status distac_checkpoint_get_info(const distac_checkpoint *checkpoint, int64_t index,
                                                    distac_checkpoint_info *out);
/* Writes a safetensors file: temporary name, fsync, rename; same content, same bytes. dtype -1 keeps each
 * tensor's type; F32, F16, BF16 convert the float tensors. Errors: EIO, ENUMERIC (a finite value does not
 * fit the narrower type). */
DISTAC_API distac_status distac_checkpoint_save(const distac_checkpoint *checkpoint, const char *path,
                                                int32_t dtype);
/* Writes a folder: files of at most `shard` bytes of tensors each (a larger tensor has one of its own;
 * 0: no limit) with model.safetensors.index.json, and config.json of the text `config` if there is one;
 * then a single file is called model.safetensors and has no index. A folder that is there is replaced as
 * a whole when the new one is durable, if it holds a model's files only. Errors: as
 * distac_checkpoint_save; EIO (a folder that holds others). */
DISTAC_API distac_status distac_checkpoint_save_folder(const distac_checkpoint *checkpoint, const char *path,
                                                       int32_t dtype, int64_t shard,
                                                       DISTAC_NULLABLE const char *config);
/* [new] alpha*a + beta*b in F32 (F64 where both are F64) for every float tensor, on the device where both lie
 * there; integer tensors are left out. The task vector of a model is (1, model, -1, base). All missing, extra and
 * mis-shaped tensors are listed in one error with the nearest names. Errors: ESHAPE, ENOTFOUND. */
DISTAC_API distac_status distac_checkpoint_combine(double alpha, const distac_checkpoint *a, double beta,
                                                   const distac_checkpoint *b, distac_checkpoint **out);
/* [new] alpha*a for every float tensor. */
DISTAC_API distac_status distac_checkpoint_scale(double alpha, const distac_checkpoint *a,
                                                 distac_checkpoint **out);
/* [new] A fingerprint of names, types, shapes and bytes of all tensors, as 32 hexadecimal
 * digits: the same for the same tensors in any kind of file, at the speed of reading (XXH3, 128
 * bits: for recognising, not against forgers). */
DISTAC_API distac_status distac_checkpoint_fingerprint(const distac_checkpoint *checkpoint, distac_strings **out);
/* Euclidean norm of all float tensors together, accumulated in double. */
DISTAC_API distac_status distac_checkpoint_norm(const distac_checkpoint *checkpoint, double *out);
/* Norm of tensor `index`. Errors: EINVAL (index), EDTYPE (no float tensor). */
DISTAC_API distac_status distac_checkpoint_tensor_norm(const distac_checkpoint *checkpoint, int64_t index,
                                                       double *out);

/* ---- CLIP layouts: the same weights under other names ------------------------------------------- */

/* Layouts: "open_clip" (OpenAI's and open_clip's names, the canonical one: "visual.conv1.weight", fused
 * attention inputs), "hf" (transformers' CLIPModel and its parts: "vision_model…", queries, keys and values
 * apart, projections transposed) and "custom_text" (open_clip's CustomTextCLIP: "text.ln_final.weight"). */

/* [any] Number of layouts. */
DISTAC_API int32_t distac_layout_count(void);
/* [any] Name of a layout; NULL if there is none. */
DISTAC_API const char *distac_layout_name(int32_t index);
/* [any] One line: whose names they are. */
DISTAC_API const char *distac_layout_text(int32_t index);
/* [borrow] The layout that the tensors' names are of; "plain" if nothing of CLIP is recognised. A prefix that all
 * CLIP tensors share ("model.", "module.", "image_encoder.", "clip.", any chain of them) does not matter. */
DISTAC_API const char *distac_checkpoint_layout(const distac_checkpoint *checkpoint);
/* [borrow] That prefix, "" if there is none. */
DISTAC_API const char *distac_checkpoint_prefix(const distac_checkpoint *checkpoint);
/* [new] The same tensors under the names and shapes of another layout, without the prefix and without CLIP's
 * integer buffers (input_resolution, position_ids, …). Nothing is read now: pieces of tensors lie in the
 * same file, joined and transposed ones are made when touched. Tensors that have nothing to do with CLIP
 * keep their names. A tower may be missing as a whole, and so may the projections and logit_scale. All
 * missing, unknown and mis-shaped tensors are listed in one error with the nearest names. Errors: ENOTFOUND,
 * ESHAPE, EDTYPE, EUNSUPPORTED ("plain" into a layout). */
DISTAC_API distac_status distac_checkpoint_convert(const distac_checkpoint *checkpoint, const char *layout,
                                                   distac_checkpoint **out);
typedef struct distac_clip_info {
    int32_t image; /* pixels per side; 0: no image tower */
    int32_t patch;
    int32_t channels;
    int32_t width;
    int32_t layers;
    int32_t mlp;
    int32_t dim;   /* length of the projected features; 0: no projection of images */
    int32_t vocab; /* tokens known; 0: no text tower */
    int32_t context;
    int32_t text_width;
    int32_t text_layers;
    int32_t text_mlp;
    int32_t text_dim;
    int32_t scale; /* 1: logit_scale is there */
} distac_clip_info;
/* The architecture, read from the shapes; all 0 for "plain". Errors: as distac_checkpoint_convert. */
DISTAC_API distac_status distac_checkpoint_clip(const distac_checkpoint *checkpoint, distac_clip_info *out);

/* ---- Merging: operators on task vectors ---------------------------------------------------------- */

typedef struct distac_merge distac_merge; /* a method with its parameters */

/* [any] Number of methods; names are "average", "task_arithmetic", "ties", "consensus_ta", … */
DISTAC_API int32_t distac_merge_method_count(void);
/* [any] Name of a method; NULL if there is none. */
DISTAC_API const char *distac_merge_method_name(int32_t index);
/* [any] One line: what it does and the paper. */
DISTAC_API const char *distac_merge_method_text(int32_t index);
/* [any] Number of a method's parameters. */
DISTAC_API int32_t distac_merge_param_count(int32_t method);
typedef struct distac_merge_param {
    const char *name;
    const char *text;
    double value;   /* default */
    double minimum; /* both ends included */
    double maximum;
    int32_t list; /* 1: a list, one number per model, is allowed */
    const char *choices; /* names of the values 0, 1, …, separated by spaces; NULL: a number is meant */
} distac_merge_param;
/* [any] Describes parameter `index` of a method. Errors: EINVAL. */
DISTAC_API distac_status distac_merge_param_info(int32_t method, int32_t index, distac_merge_param *out);
/* [new] An operator with default parameters. Errors: ENOTFOUND (text names the nearest method). */
DISTAC_API distac_status distac_merge_create(distac_context *context, const char *method, distac_merge **out);
/* [any] Drops a reference. */
DISTAC_API void distac_merge_release(distac_merge *merge);
/* Sets a parameter. Errors: ENOTFOUND (text names the nearest), EINVAL (out of range, or a list where a
 * number is wanted). */
DISTAC_API distac_status distac_merge_set(distac_merge *merge, const char *param, int32_t n_values,
                                          const double *values);
/* Tensors whose name matches pattern (* any text, ? one byte) are merged with lambda*factor; of several rules the
 * last that matches counts. Factor 0: the tensor stays as the base has it, the models' are not looked at and may
 * be absent. Errors: EINVAL (factor not finite); a merge fails with ENOTFOUND if a pattern matches nothing. */
DISTAC_API distac_status distac_merge_scale(distac_merge *merge, const char *pattern, double factor);
/* [new] The merged direction D (before lambda) of n_taus task vectors, tensors in F32: the model is
 * base + lambda*D. Errors: as combine; ENUMERIC (a non-finite input; text names tensor and index). */
DISTAC_API distac_status distac_merge_delta(const distac_merge *merge, int32_t n_taus,
                                            distac_checkpoint *const *taus, distac_checkpoint **out);
/* Merges whole models and streams base + lambda*D to a safetensors file (see distac_checkpoint_save).
 * Inputs are streamed: what is merged element by element takes at most 512 MiB + 16 KiB per model and thread,
 * whatever the models' size (the base's and models' files are mapped, their pages apart); methods that look at
 * whole matrices take some times the largest one more. Integer tensors come from the base. metadata is taken from
 * `metadata` if given. dtype -1: each tensor's type in the base. Errors: as distac_merge_delta, EIO. */
DISTAC_API distac_status distac_merge_files(const distac_merge *merge, const distac_checkpoint *base,
                                            int32_t n_models, distac_checkpoint *const *models,
                                            const char *path, int32_t dtype,
                                            DISTAC_NULLABLE const distac_checkpoint *metadata);

/* How a merge is written. */
typedef struct distac_merge_target {
    const char *dtype;  /* of the float tensors: "f32", "f16", "bf16", "f64"; NULL: each one's in the base */
    /* CLIP's names in the output, "open_clip" or "hf": the inputs may have any; NULL: as they are */
    const char *layout;
    /* 0: one file. Else path is a folder of files with at most so many bytes of tensors each (a larger tensor has
     * one of its own), model.safetensors.index.json beside them */
    int64_t shard;
    const char *config; /* text of config.json in that folder; NULL: none */
} distac_merge_target;
/* A merged model that is written but does not have its name yet. */
typedef struct distac_merge_draft distac_merge_draft;
/* [new] As distac_merge_files, all but the end: nothing is at path, or what was there before, until the
 * commit. A folder at path is replaced as a whole, if it holds a model's files only. prints: checkpoints
 * whose fingerprints (distac_checkpoint_fingerprint) are taken on the way from the bytes that the merge
 * reads, so that a model's are read once: base and models as they were opened, say. Errors: as
 * distac_merge_files; EIO (a folder that holds others). */
DISTAC_API distac_status distac_merge_draft_files(const distac_merge *merge, const distac_checkpoint *base,
                                                  int32_t n_models, distac_checkpoint *const *models,
                                                  const char *path,
                                                  DISTAC_NULLABLE const distac_merge_target *target,
                                                  DISTAC_NULLABLE const distac_checkpoint *metadata,
                                                  int32_t n_prints, distac_checkpoint *const *prints,
                                                  distac_merge_draft **out);
/* Without a commit nothing remains of it. */
DISTAC_API void distac_merge_draft_release(distac_merge_draft *draft);
/* [new] The fingerprint of prints[index] as the one item. Errors: EINVAL. */
DISTAC_API distac_status distac_merge_draft_fingerprint(const distac_merge_draft *draft, int32_t index,
                                                        distac_strings **out);
/* Other metadata than those that were given; the texts have the same length as JSON.
 * Errors: EINVAL (they have not), EIO, ESTATE. */
DISTAC_API distac_status distac_merge_draft_metadata(distac_merge_draft *draft, const distac_checkpoint *metadata);
/* Durable, under its name. Errors: EIO, ESTATE (done before). */
DISTAC_API distac_status distac_merge_draft_commit(distac_merge_draft *draft);

/* What a merge of files would do. */
typedef struct distac_merge_estimate {
    int64_t tensors;       /* of the output */
    int64_t merged;        /* of them float tensors that change; the others are the base's */
    int64_t elements;      /* of the merged ones */
    int64_t whole;         /* merged as whole matrices instead of element by element */
    int64_t whole_numel;   /* elements of the largest of them */
    int32_t looks;         /* times that all inputs are read */
    int64_t input_bytes;   /* of the tensors that one look reads */
    int64_t cached_bytes;  /* of these now in memory, estimated from some pages */
    int64_t output_bytes;  /* of the written tensors */
    int64_t memory_bytes;  /* most memory in use, file pages apart. Element by element it does not grow with the
                            * models; for whole matrices an estimate */
} distac_merge_estimate;
/* Looks at names, types and shapes only and reads no numbers. Errors: as distac_merge_files, before it reads. */
DISTAC_API distac_status distac_merge_plan(const distac_merge *merge, const distac_checkpoint *base,
                                           int32_t n_models, distac_checkpoint *const *models, int32_t dtype,
                                           distac_merge_estimate *out);

/* A merge whose arithmetic the caller does, in bounded memory: chunk after chunk (next, compute, next, …), read
 * ahead and written on all threads. Of `merge` lambda and the rules count, its method does not. */
typedef struct distac_merge_stream distac_merge_stream;
typedef struct distac_merge_chunk {
    const char *name; /* the tensor; NULL at the end */
    int64_t entry;    /* its index in the base, or in the first task vector */
    int64_t first;    /* first element of the chunk */
    int64_t count;    /* elements; 0 at the end */
    int64_t slot;     /* chunks of one slot have their rows at the same places */
} distac_merge_chunk;
/* [new] Whole models to a file, as distac_merge_files. chunk: most elements of a chunk, 0: chosen
 * for the caches, -1: whole tensors, which have no rows: the caller looks at the checkpoints and
 * puts the change. Errors: as distac_merge_files. */
DISTAC_API distac_status distac_merge_stream_files(const distac_merge *merge, const distac_checkpoint *base,
                                                   int32_t n_models, distac_checkpoint *const *models,
                                                   const char *path, int32_t dtype,
                                                   DISTAC_NULLABLE const distac_checkpoint *metadata,
                                                   int64_t chunk, distac_merge_stream **out);
/* [new] The same to a target (NULL: one file like the base), as distac_merge_draft_files. Names and shapes are the
 * canonical ones if it has a layout. */
DISTAC_API distac_status distac_merge_stream_target(const distac_merge *merge, const distac_checkpoint *base,
                                                    int32_t n_models, distac_checkpoint *const *models,
                                                    const char *path,
                                                    DISTAC_NULLABLE const distac_merge_target *target,
                                                    DISTAC_NULLABLE const distac_checkpoint *metadata,
                                                    int64_t chunk, distac_merge_stream **out);
/* [new] Task vectors to directions in memory (F32), as distac_merge_delta. base: for its row, may be NULL. */
DISTAC_API distac_status distac_merge_stream_taus(const distac_merge *merge, int32_t n_taus,
                                                  distac_checkpoint *const *taus,
                                                  DISTAC_NULLABLE const distac_checkpoint *base, int64_t chunk,
                                                  distac_merge_stream **out);
/* Before its end is committed: nothing is left behind, an older file stays. */
DISTAC_API void distac_merge_stream_release(distac_merge_stream *stream);
/* The next chunk; the one before has its result. Errors: ENUMERIC (a result that is not finite), EIO, ESTATE. */
DISTAC_API distac_status distac_merge_stream_next(distac_merge_stream *stream, distac_merge_chunk *out);
/* [borrow] Doubles of the current chunk: row 0 … n-1 the task vectors, n the base (NULL:
 * not given), n+1 the result D, which the caller fills. Behind and before a row is room for
 * one number. NULL if there is no such row. */
DISTAC_API void *distac_merge_stream_row(distac_merge_stream *stream, int32_t row);
/* [view] The row as a tensor F64 of the chunk's count, over the same numbers: those of other
 * chunks when this one is done. Errors: EINVAL. */
DISTAC_API distac_status distac_merge_stream_view(distac_merge_stream *stream, int32_t row, distac_tensor **out);
/* Copies a row; n_values is the chunk's count. Errors: ESHAPE, ESTATE, EINVAL. */
DISTAC_API distac_status distac_merge_stream_read(const distac_merge_stream *stream, int32_t row, int64_t n_values,
                                                  DISTAC_FILL double *values);
/* Fills the result's row. Errors: as distac_merge_stream_read. */
DISTAC_API distac_status distac_merge_stream_write(distac_merge_stream *stream, int64_t n_values,
                                                   const double *values);
/* [new] Task vector `index` of the whole tensor that is waited for (chunk -1), F64 if the base's or the model's
 * is, else F32; the caller may change it. Those of the tensor after it are made meanwhile, if there are threads.
 * Errors: ENUMERIC (an input that is not finite), ESTATE, EINVAL, ENOMEM. */
DISTAC_API distac_status distac_merge_stream_tau(distac_merge_stream *stream, int32_t index, distac_tensor **out);
/* Gives D of a whole tensor (chunk -1). Errors: ESHAPE, ESTATE, ENUMERIC, EIO. */
DISTAC_API distac_status distac_merge_stream_put(distac_merge_stream *stream, const distac_tensor *tensor);
/* Ends a merge to a file: it takes its name. Errors: ESTATE unless next came to the end, EIO. */
DISTAC_API distac_status distac_merge_stream_commit(distac_merge_stream *stream);
/* [new] Ends a merge in memory: the directions. Errors: ESTATE. */
DISTAC_API distac_status distac_merge_stream_result(distac_merge_stream *stream, distac_checkpoint **out);

/* ---- ViT: the image encoder of CLIP -------------------------------------------------------------- */

typedef struct distac_vit distac_vit;

enum { DISTAC_ACT_GELU = 0, DISTAC_ACT_QUICK_GELU = 1 };

typedef struct distac_vit_config {
    int32_t image;      /* side in pixels */
    int32_t patch;      /* side in pixels; divides image */
    int32_t channels;   /* of the image */
    int32_t width;      /* W */
    int32_t layers;     /* L */
    int32_t heads;      /* divides width */
    int32_t mlp;        /* hidden width of the MLP, usually 4 W */
    int32_t dim;        /* D, the feature dimension */
    int32_t activation; /* DISTAC_ACT_GELU or DISTAC_ACT_QUICK_GELU */
} distac_vit_config;

/* [new] A ViT in the CLIP layout (conv1 without bias, class token, ln_pre, pre-LN blocks, ln_post on the
 * class token, proj [W,D]) with all parameters zero. dtype F32 or F64. Errors: EINVAL (text names the field). */
DISTAC_API distac_status distac_vit_create(distac_context *context, const distac_vit_config *config,
                                           int32_t dtype, distac_vit **out);
/* [new] Reads the architecture from tensor shapes ("visual.*" names) and the weights with it. heads 0: from
 * the metadata "vit.heads", else width/64. activation -1: from the metadata "vit.activation", else an
 * error, never a guess. Weights are converted to dtype. Errors: ENOTFOUND, ESHAPE (all at once), EINVAL. */
DISTAC_API distac_status distac_vit_open(distac_context *context, const distac_checkpoint *checkpoint,
                                         int32_t activation, int32_t heads, int32_t dtype, distac_vit **out);
/* [any] Drops a reference. */
DISTAC_API void distac_vit_release(distac_vit *vit);
/* The architecture. */
DISTAC_API distac_status distac_vit_get_config(const distac_vit *vit, distac_vit_config *out);
/* [new] Same architecture, weights and recomputation, own storage. */
DISTAC_API distac_status distac_vit_clone(const distac_vit *vit, distac_vit **out);
/* Number of parameter tensors. */
DISTAC_API int64_t distac_vit_param_count(const distac_vit *vit);
/* [borrow] "visual.conv1.weight", …, in the order of the flat buffer; NULL if there is none. */
DISTAC_API const char *distac_vit_param_name(const distac_vit *vit, int64_t index);
/* [view] Parameter `index` in its own shape. Errors: EINVAL (index). */
DISTAC_API distac_status distac_vit_param(const distac_vit *vit, int64_t index, distac_tensor **out);
/* [view] All parameters as one vector [P]. */
DISTAC_API distac_status distac_vit_params(const distac_vit *vit, distac_tensor **out);
/* Random initialisation: matrices N(0, 1/fan_in), residual outputs divided by sqrt(2 L), embeddings
 * N(0, 0.02^2), LayerNorm 1 and 0, biases 0. A pure function of seed. */
DISTAC_API distac_status distac_vit_init(distac_vit *vit, uint64_t seed);
/* Copies the weights of a checkpoint in. All misfits are listed in one error. Errors: ENOTFOUND, ESHAPE. */
DISTAC_API distac_status distac_vit_load(distac_vit *vit, const distac_checkpoint *checkpoint);
/* [new] The parameters as a checkpoint in host memory; copy 0: views into the model if it lies there, 1: a copy.
 * Metadata holds vit.heads and vit.activation. */
DISTAC_API distac_status distac_vit_checkpoint(const distac_vit *vit, int32_t copy, distac_checkpoint **out);
/* [new] Image features [B,D], not normalised, of images [B,C,H,W] in the model's dtype. Errors: ESHAPE. */
DISTAC_API distac_status distac_vit_features(distac_vit *vit, const distac_tensor *images, distac_tensor **out);
/* [new] As distac_vit_features, keeping what distac_vit_backward needs. Errors: ESHAPE. */
DISTAC_API distac_status distac_vit_forward(distac_vit *vit, const distac_tensor *images, distac_tensor **out);
/* grads [P] += gradient for dfeatures [B,D] of the images of the last distac_vit_forward. Errors: ESTATE (no
 * forward before), ESHAPE. */
DISTAC_API distac_status distac_vit_backward(distac_vit *vit, const distac_tensor *dfeatures,
                                             distac_tensor *grads);
/* Activation recomputation (Chen et al. 2016, a segment per block). on 1: distac_vit_forward keeps each block's
 * input alone, and distac_vit_backward computes what was inside the block once more: about a third more time for
 * a training step, the same bits. A change frees the workspace and forgets the forward pass. Errors: EINVAL. */
DISTAC_API distac_status distac_vit_set_recompute(distac_vit *vit, int32_t on);
/* 1 if it is on; 0 for a new model. */
DISTAC_API int32_t distac_vit_get_recompute(const distac_vit *vit);
/* Bytes of workspace for a batch; training 0: of distac_vit_features, else of distac_vit_forward and
 * distac_vit_backward, as recomputation is set now. The workspace is kept: a later pass on a batch as large or
 * smaller allocates none. In elements, with N tokens, W width, H heads, F mlp, X = max(3W,F), p = channels*patch^2
 * and I = 7W + 2F + H*N + 4 for the inside of a block, training takes at most B*N*(p + 4W + X + 2) + B*(5W + 2) +
 * L*B*N*W + B*N*I*(recompute ? 1 : L), every buffer rounded up to 64 bytes. A pass holds this, the tensor that it
 * returns, and while a kernel runs its scratch: a packed factor, so at most max(W,B*N)*(max(X,p) + 64) elements,
 * and 1 MiB per thread. */
DISTAC_API int64_t distac_vit_workspace(const distac_vit *vit, int64_t batch, int32_t training);

/* ---- Head: logits = weight . f / |f| ------------------------------------------------------------- */

typedef struct distac_head distac_head;
/* [new] A classification head. weight [C,D] is copied; the logit scale is part of it. normalize 1: features are
 * divided by their norm first (the default of the method); 0: used as they are. Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_head_create(const distac_tensor *weight, int32_t normalize, distac_head **out);
/* [any] Drops a reference. */
DISTAC_API void distac_head_release(distac_head *head);
/* [view] The weight [C,D]. */
DISTAC_API distac_status distac_head_weight(const distac_head *head, distac_tensor **out);
/* [new] Logits [B,C] of features [B,D]. Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_head_logits(const distac_head *head, const distac_tensor *features,
                                            distac_tensor **out);
/* [new] Gradient for the features [B,D] from dlogits [B,C]; dweight [C,D], if
 * given, is added to. Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_head_backward(const distac_head *head, const distac_tensor *features,
                                              const distac_tensor *dlogits,
                                              DISTAC_NULLABLE distac_tensor *dweight, distac_tensor **out);

/* ---- Losses: value and gradient with respect to the logits, mean over the batch ------------------ */

enum { DISTAC_LOSS_CROSS_ENTROPY = 0, DISTAC_LOSS_FOCAL = 1 };
typedef struct distac_loss_desc {
    int32_t kind;           /* DISTAC_LOSS_… */
    double label_smoothing; /* alpha in [0,1): (1-alpha)*CE + alpha*mean over classes (paper sec. 3.2) */
    double gamma;           /* focal loss: -(1-p)^gamma log p (Lin et al. 2017) */
    double mixup; /* 1: one lambda ~ U(0,1) per step mixes images and losses; 0: off (Zhang et al. 2018) */
} distac_loss_desc;
/* Classification loss of logits [B,C] with labels I64 [B]; dlogits [B,C], if given, is overwritten. (mixup is a
 * matter of the training step and is not applied here.) Errors: ESHAPE, EINVAL (a label outside 0..C-1). */
DISTAC_API distac_status distac_loss(const distac_loss_desc *desc, const distac_tensor *logits,
                                     const distac_tensor *labels, DISTAC_NULLABLE distac_tensor *dlogits,
                                     double *out);
/* Distillation loss t_teacher*t_student * mean KL(softmax(teacher/t_teacher) || softmax(student/t_student))
 * (Algorithm 1). dstudent, if given, is overwritten. Errors: ESHAPE, EINVAL (temperature <= 0). */
DISTAC_API distac_status distac_loss_kd(const distac_tensor *teacher, const distac_tensor *student,
                                        double t_teacher, double t_student,
                                        DISTAC_NULLABLE distac_tensor *dstudent, double *out);

/* Mean entropy -sum p ln p of softmax(logits), nats; dlogits, if given, is overwritten. Errors: ESHAPE. */
DISTAC_API distac_status distac_loss_entropy(const distac_tensor *logits, DISTAC_NULLABLE distac_tensor *dlogits,
                                             double *out);

typedef struct distac_metrics {
    int64_t count;
    int64_t correct;
    double accuracy;   /* top-1, argmax takes the first of equal logits */
    double entropy;    /* mean -sum p ln p, nats */
    double nll;        /* mean -ln p of the label */
    double confidence; /* mean largest p */
    double ece;        /* expected calibration error, 15 equal bins (Guo et al. 2017) */
} distac_metrics;
/* Metrics of logits [N,C] with labels I64 [N]; without labels only entropy and confidence are set. Errors: ESHAPE,
 * EINVAL (a label outside 0..C-1). */
DISTAC_API distac_status distac_logits_metrics(const distac_tensor *logits,
                                               DISTAC_NULLABLE const distac_tensor *labels,
                                               distac_metrics *out);
/* Reliability diagram: for each of n_bins equal bins (b/M,(b+1)/M] of confidence three numbers: count, mean
 * confidence, accuracy. n_values is 3*n_bins. Errors: as distac_logits_metrics, EINVAL (n_values). */
DISTAC_API distac_status distac_logits_reliability(const distac_tensor *logits, const distac_tensor *labels,
                                                   int64_t n_values, DISTAC_FILL double *values);
/* The temperature T > 0 that minimises the mean negative log-likelihood of
 * logits/T. Errors: as distac_logits_metrics. */
DISTAC_API distac_status distac_logits_temperature(const distac_tensor *logits, const distac_tensor *labels,
                                                   double *out);

/* ---- Optimizer ----------------------------------------------------------------------------------- */

typedef struct distac_optimizer distac_optimizer;
typedef struct distac_adamw_desc {
    double lr;           /* default rate of distac_optimizer_step */
    double beta1;        /* 0: 0.9 */
    double beta2;        /* 0: 0.999 */
    double eps;          /* 0: 1e-8 */
    double weight_decay; /* decoupled (Loshchilov & Hutter 2019) */
    double clip;         /* global L2 norm of the gradient before the update; 0: off */
    int32_t coupled;     /* 1: weight decay is added to the gradient (plain Adam) */
    double scale;        /* the gradient is multiplied by it before clipping; 0: 1 */
} distac_adamw_desc;
/* [new] AdamW for n parameters of dtype. Errors: EINVAL. */
DISTAC_API distac_status distac_adamw_create(distac_context *context, const distac_adamw_desc *desc, int64_t n,
                                             int32_t dtype, distac_optimizer **out);
/* [any] Drops a reference. */
DISTAC_API void distac_optimizer_release(distac_optimizer *optimizer);
/* One update of params [n] with grads [n]; lr < 0: the default rate. *out is the gradient's norm before
 * clipping. A non-finite gradient changes nothing. Errors: ENUMERIC, ESHAPE. */
DISTAC_API distac_status distac_optimizer_step(distac_optimizer *optimizer, distac_tensor *params,
                                               distac_tensor *grads, double lr, double *out);
/* Number of updates done. */
DISTAC_API int64_t distac_optimizer_steps(const distac_optimizer *optimizer);
/* [view] First (0) or second (1) moment [n], for saving and restoring. Errors: EINVAL (index). */
DISTAC_API distac_status distac_optimizer_moment(const distac_optimizer *optimizer, int32_t index,
                                                 distac_tensor **out);
/* Sets the number of updates done (with the moments: restores a saved optimizer). Errors: EINVAL (negative). */
DISTAC_API distac_status distac_optimizer_set_steps(distac_optimizer *optimizer, int64_t steps);
/* Learning rate of step (0-based): linear warm-up (step+1)/warmup, then half a cosine to 0 at `steps`. */
DISTAC_API double distac_schedule_cosine(double lr, int64_t step, int64_t warmup, int64_t steps);

/* ---- Training steps ------------------------------------------------------------------------------ */

typedef struct distac_trainer distac_trainer;
typedef struct distac_step_stats {
    double loss;      /* classification or KD loss, without the anchor term */
    double anchor;    /* beta*|theta-theta0|^2 (KD only) */
    double grad_norm; /* before clipping */
    double accuracy;  /* of the batch (classification only) */
    double entropy;   /* mean entropy of the student's softmax at T = 1 */
} distac_step_stats;
/* [new] Fine-tuning: updates vit by the loss of `head`'s logits. The head is frozen unless head_optimizer is
 * given. micro > 0: gradients are accumulated over micro-batches of that many images (the loss is the
 * mean over the whole batch). seed drives Mixup. Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_trainer_create(distac_vit *vit, distac_head *head, distac_optimizer *optimizer,
                                               DISTAC_NULLABLE distac_optimizer *head_optimizer,
                                               const distac_loss_desc *loss, int64_t micro, uint64_t seed,
                                               distac_trainer **out);
/* One step on images [B,C,H,W] and labels I64 [B]. Errors: ENUMERIC (nothing was changed), ESHAPE. */
DISTAC_API distac_status distac_trainer_step(distac_trainer *trainer, const distac_tensor *images,
                                             const distac_tensor *labels, double lr, distac_step_stats *out);
/* Later steps ask `head`, with its own classes: one encoder learns several tasks in turn. Errors: ESHAPE,
 * EDTYPE, ESTATE (the trainer's own head learns, too). */
DISTAC_API distac_status distac_trainer_set_head(distac_trainer *trainer, distac_head *head);
/* [any] Drops a reference. */
DISTAC_API void distac_trainer_release(distac_trainer *trainer);

typedef struct distac_kd distac_kd;
typedef struct distac_kd_desc {
    double t_teacher; /* temperature of the teacher's softmax */
    double t_student; /* temperature of the student's softmax */
    double beta;      /* weight of |theta-theta0|^2; theta0 is the student when the object is made */
    int64_t micro;    /* as distac_trainer_create */
} distac_kd_desc;
/* [new] DisTaC's distillation step (Algorithm 1). teacher NULL: teacher logits are given to each step. The
 * student starts at theta_pre + kappa*tau, made by the caller. Errors: ESHAPE, EINVAL. */
DISTAC_API distac_status distac_kd_create(distac_vit *student, DISTAC_NULLABLE distac_vit *teacher,
                                          distac_head *head, distac_optimizer *optimizer,
                                          const distac_kd_desc *desc, distac_kd **out);
/* [any] Drops a reference. */
DISTAC_API void distac_kd_release(distac_kd *kd);
/* One step on images [B,C,H,W]; teacher_logits [B,C] replace the teacher's forward pass. Errors: ENUMERIC
 * (nothing was changed), ESHAPE, ESTATE (neither a teacher nor its logits). */
DISTAC_API distac_status distac_kd_step(distac_kd *kd, const distac_tensor *images,
                                        DISTAC_NULLABLE const distac_tensor *teacher_logits, double lr,
                                        distac_step_stats *out);
/* [view] The anchor theta0 [P]; write it to restore an interrupted run. */
DISTAC_API distac_status distac_kd_anchor(const distac_kd *kd, distac_tensor **out);

/* ---- Images -------------------------------------------------------------------------------------- */

typedef struct distac_image distac_image; /* 8-bit pixels, interleaved, 1 (grey) or 3 (RGB) channels */
/* [new] Decodes a PNG (palette, 16 bit, alpha and interlace included; alpha is dropped), JPEG (baseline, extended,
 * progressive; grey, colour, CMYK; EXIF orientation is ignored) or PNM file (P1 to P6), known by its content, with
 * the bits of Pillow. channels 0: as the file, 1: grey, 3: RGB. Errors: EIO, EFORMAT, EUNSUPPORTED. */
DISTAC_API distac_status distac_image_load(distac_context *context, const char *path, int32_t channels,
                                           distac_image **out);
/* [new] From a U8 tensor [H,W] or [H,W,C]. Errors: ESHAPE, EDTYPE. */
DISTAC_API distac_status distac_image_from_tensor(const distac_tensor *pixels, distac_image **out);
/* [any] Drops a reference. */
DISTAC_API void distac_image_release(distac_image *image);
/* Pixels across. */
DISTAC_API int32_t distac_image_width(const distac_image *image);
/* Pixels down. */
DISTAC_API int32_t distac_image_height(const distac_image *image);
/* 1: grey, 3: RGB. */
DISTAC_API int32_t distac_image_channels(const distac_image *image);
/* [new] The pixels as a U8 tensor [H,W,C]. */
DISTAC_API distac_status distac_image_pixels(const distac_image *image, distac_tensor **out);
/* [new] Bicubic resize to width x height pixels, antialiased, with the bits of Pillow. Errors: EINVAL (a size). */
DISTAC_API distac_status distac_image_resize(const distac_image *image, int32_t width, int32_t height,
                                             distac_image **out);
/* [new] Shortest side to `size` (bicubic), centre crop to size x size: CLIP's
 * evaluation geometry. Errors: EINVAL (size). */
DISTAC_API distac_status distac_image_fit(const distac_image *image, int32_t size, distac_image **out);
/* [new] The box of width x height pixels whose upper left corner is (x, y). Errors: EINVAL. */
DISTAC_API distac_status distac_image_crop(const distac_image *image, int32_t x, int32_t y, int32_t width,
                                           int32_t height, distac_image **out);
/* A random crop of training, as torchvision's RandomResizedCrop draws it. A pair that is 0, 0 is CLIP's. */
typedef struct distac_crop_desc {
    double scale_min; /* share of the area, uniform; CLIP: 0.9 to 1 */
    double scale_max;
    double ratio_min; /* width / height, uniform in the logarithm; CLIP: 3/4 to 4/3 */
    double ratio_max;
} distac_crop_desc;
/* The box that distac_image_random_crop takes from an image of width x height: x, y, width, height. Ten tries,
 * then a centred box of a ratio within bounds. A pure function of its arguments. Errors: EINVAL. */
DISTAC_API distac_status distac_crop_box(int32_t width, int32_t height, const distac_crop_desc *desc,
                                         uint64_t seed, uint64_t stream, int32_t *box_x, int32_t *box_y,
                                         int32_t *box_width, int32_t *box_height);
/* [new] That box resized (bicubic, both sides on their own) to size x size. Errors: EINVAL. */
DISTAC_API distac_status distac_image_random_crop(const distac_image *image, const distac_crop_desc *desc,
                                                  uint64_t seed, uint64_t stream, int32_t size,
                                                  distac_image **out);
/* [new] Float tensor [C,H,W] = (u/255 - mean)/std per channel. n_mean = n_std = channels. Errors: ESHAPE, EINVAL
 * (a deviation that is not above 0). */
DISTAC_API distac_status distac_image_tensor(const distac_image *image, int32_t n_mean, const double *mean,
                                             int32_t n_std, const double *std, distac_tensor **out);
/* Writes a PNG file atomically. Errors: EIO. */
DISTAC_API distac_status distac_image_save(const distac_image *image, const char *path);

/* ---- Data sets and loaders ----------------------------------------------------------------------- */

typedef struct distac_dataset distac_dataset;
/* [new] From tensors in host memory: images U8 [N,C,H,W], labels I64 [N] in 0..classes-1.
 * Errors: ESHAPE, EDTYPE, EINVAL (a label). */
DISTAC_API distac_status distac_dataset_create(const distac_tensor *images,
                                               DISTAC_NULLABLE const distac_tensor *labels, int64_t classes,
                                               distac_dataset **out);
/* [new] IDX files, plain or gzip. labels_path NULL: unlabelled. Errors: EIO, EFORMAT. */
DISTAC_API distac_status distac_dataset_idx(distac_context *context, const char *images_path,
                                            DISTAC_NULLABLE const char *labels_path, distac_dataset **out);
/* [new] An array as numpy.save writes it (NPY 1.0, 2.0, 3.0), row-major whatever its order in the
 * file: bool, integers of 1 to 8 bytes, floats of 2, 4 and 8, of either byte order. Nothing in the
 * file is evaluated. Errors: EIO, ENOTFOUND, EFORMAT (text names file, place and rule), EUNSUPPORTED
 * (objects, records, texts, complex numbers, dates). */
DISTAC_API distac_status distac_tensor_npy(distac_context *context, const char *path, distac_tensor **out);
/* [new] A folder of class folders (labelled, classes sorted by name), or a flat folder of images (unlabelled).
 * Images are fitted to size x size and converted to `channels`. Errors: EIO, EFORMAT (text names the file). */
DISTAC_API distac_status distac_dataset_folder(distac_context *context, const char *path, int32_t size,
                                               int32_t channels, distac_dataset **out);
/* [new] The same, but nothing is decoded before it is asked for, and nothing is kept. Errors: EIO. */
DISTAC_API distac_status distac_dataset_files(distac_context *context, const char *path, int32_t size,
                                              int32_t channels, distac_dataset **out);
typedef struct distac_task_info {
    int64_t classes;
    int64_t train; /* samples of each split, as published */
    int64_t validation;
    int64_t test;
} distac_task_info;
/* [new] The names of the tasks that distac_dataset_task knows. */
DISTAC_API distac_status distac_dataset_tasks(distac_strings **out);
/* How many classes and samples a task has. Errors: ENOTFOUND. */
DISTAC_API distac_status distac_dataset_task_info(const char *task, distac_task_info *out);
/* [new] What a task's classes are called, in the order of the labels; none where the data set's own files name
 * them (cars, sun397). Errors: ENOTFOUND. */
DISTAC_API distac_status distac_dataset_task_classes(const char *task, distac_strings **out);
/* [new] One of the eight CLIP tasks (cars dtd eurosat gtsrb mnist resisc45 sun397 svhn) from its original files or
 * the usual prepared folders under root, split 0 train, 1 validation, 2 test. Labels and class names are in the
 * order of the zero-shot heads. Validation is the last min(N/10, 5000) of distac_randperm(N, 0) of the training
 * files (EuroSAT: its own folder). Images are RGB, decoded and fitted to size x size when asked for; MNIST and
 * SVHN stay in memory. Errors: ENOTFOUND (the text names what was looked for), EIO, EFORMAT. */
DISTAC_API distac_status distac_dataset_task(distac_context *context, const char *root, const char *task,
                                             int32_t split, int32_t size, distac_dataset **out);
/* [new] The permutation of 0..n-1 of PyTorch's CPU randperm for a seed below 2^32, I64 [n]. */
DISTAC_API distac_status distac_randperm(distac_context *context, int64_t n, uint64_t seed, distac_tensor **out);
/* [new] A task of the embedded benchmark mini8, one of its eight names, split 0 train, 1 validation, 2 test.
 * root holds the glyph sheets; fashion_dir the four Fashion-MNIST IDX files. A pure function of the files.
 * Errors: ENOTFOUND, EIO, EFORMAT. */
DISTAC_API distac_status distac_dataset_mini8(distac_context *context, const char *root,
                                              const char *fashion_dir, const char *task, int32_t split,
                                              distac_dataset **out);
/* [new] Rendered glyph sheet of mini8 (e.g. "latin"), or several joined by "+" (their classes follow each
 * other), as a data set of clean 32x32 masters. Errors: ENOTFOUND, EIO, EFORMAT. */
DISTAC_API distac_status distac_dataset_glyphs(distac_context *context, const char *root, const char *sheet,
                                               distac_dataset **out);
/* [any] Drops a reference. */
DISTAC_API void distac_dataset_release(distac_dataset *dataset);
/* Number of samples. */
DISTAC_API int64_t distac_dataset_size(const distac_dataset *dataset);
/* Number of classes, 0 without labels. */
DISTAC_API int64_t distac_dataset_classes(const distac_dataset *dataset);
/* 1 if it has labels. */
DISTAC_API int32_t distac_dataset_labelled(const distac_dataset *dataset);
/* [borrow] Name of a class, NULL if there is none. */
DISTAC_API const char *distac_dataset_class_name(const distac_dataset *dataset, int64_t index);
/* Shape of an image: channels, height, width. Errors: ESHAPE (n_values is not 3). */
DISTAC_API distac_status distac_dataset_image_shape(const distac_dataset *dataset, int64_t n_values,
                                                    DISTAC_FILL double *values);
/* Batches are (u/255 - mean)/std; the default is mean 0, std 1. n_mean = n_std = channels. Errors: ESHAPE, EINVAL
 * (a deviation that is not above 0). */
DISTAC_API distac_status distac_dataset_normalize(distac_dataset *dataset, int32_t n_mean, const double *mean,
                                                  int32_t n_std, const double *std);
/* [new] The listed samples (0-based), sharing pixels. Errors: EINVAL. */
DISTAC_API distac_status distac_dataset_subset(const distac_dataset *dataset, int64_t n_indices,
                                               const int64_t *indices, distac_dataset **out);
/* [new] Images start … start+count-1 as F32 [count,C,H,W], normalised. Errors: EINVAL, EFORMAT. */
DISTAC_API distac_status distac_dataset_images(const distac_dataset *dataset, int64_t start, int64_t count,
                                               distac_tensor **out);
/* [new] The same images as U8 [count,C,H,W], not normalised. Errors: EINVAL, EFORMAT. */
DISTAC_API distac_status distac_dataset_pixels(const distac_dataset *dataset, int64_t start, int64_t count,
                                               distac_tensor **out);
/* [new] The same samples, labels, names and normalisation with other pixels, U8 [N,C,H,W], which are shared and
 * must not change any more. Errors: EDTYPE, ESHAPE. */
DISTAC_API distac_status distac_dataset_with_pixels(const distac_dataset *dataset, distac_tensor *pixels,
                                                    distac_dataset **out);
/* [new] Their labels, I64 [count]. Errors: EINVAL, ESTATE (unlabelled). */
DISTAC_API distac_status distac_dataset_labels(const distac_dataset *dataset, int64_t start, int64_t count,
                                               distac_tensor **out);
/* [new] SHA-256 over pixels, labels, shape and normalisation, as the one item. */
DISTAC_API distac_status distac_dataset_hash(const distac_dataset *dataset, distac_strings **out);
/* [new] SHA-256 in hex of what the data set is read from, without decoding it: order,
 * labels, geometry, names and sizes of image files; the bytes of arrays in memory. A file
 * changed in place to another of its size is not seen. */
DISTAC_API distac_status distac_dataset_fingerprint(const distac_dataset *dataset, distac_strings **out);
/* [borrow] The image file of a sample, NULL if it has none. */
DISTAC_API const char *distac_dataset_file(const distac_dataset *dataset, int64_t index);
/* [new] Reads every image file, its head and end (decode 0) or all of it (1): how many are unreadable, and what is
 * wrong with the first `most` of them. */
DISTAC_API distac_status distac_dataset_verify(const distac_dataset *dataset, int32_t decode, int64_t most,
                                               distac_strings **out, int64_t *unreadable);
typedef struct distac_cache_desc {
    int32_t originals; /* 0: images fitted to the data set's size; 1: as decoded, which serves random crops too */
    int64_t limit;     /* most bytes on disk, 0: none; samples beyond it are decoded as before */
} distac_cache_desc;
typedef struct distac_cache_info {
    int64_t bytes;   /* of the pack on disk */
    int64_t samples; /* in it */
    int64_t reused;  /* 1: it was there */
} distac_cache_info;
/* Reads the images from a pack of decoded pixels from now on, a file in `folder` that is mapped; it is
 * made first if it is not there or damaged. Its name is a hash of the files' paths, sizes and times and of
 * what was done to them; one of old files stays until it is deleted. Pixels are the same as without: a
 * sample takes size*size*channels bytes, an original width*height*channels. Data in memory are left alone
 * (0 bytes); a second pack takes the first one's place. The file may not be cut while it is mapped.
 * Errors: EIO, EFORMAT (an image that cannot be decoded). */
DISTAC_API distac_status distac_dataset_cache(distac_dataset *dataset, const char *folder,
                                              DISTAC_NULLABLE const distac_cache_desc *desc,
                                              distac_cache_info *out);
/* [new] Logits [count,C] of samples start … start+count-1; batch images are computed at a time. */
DISTAC_API distac_status distac_dataset_logits(const distac_dataset *dataset, distac_vit *vit,
                                               const distac_head *head, int64_t start, int64_t count,
                                               int64_t batch, distac_tensor **out);
/* [new] Features [count,D], not normalised. */
DISTAC_API distac_status distac_dataset_features(const distac_dataset *dataset, distac_vit *vit, int64_t start,
                                                 int64_t count, int64_t batch, distac_tensor **out);

typedef struct distac_loader distac_loader;
/* [new] Shuffled batches without end: epoch e visits a permutation that is a pure function of (seed, e); the
 * last short batch of an epoch is dropped (a data set smaller than batch gives batches of its size).
 * Batch k never depends on threads or on which batches were taken before. Errors: EINVAL (batch, an empty set). */
DISTAC_API distac_status distac_loader_create(distac_dataset *dataset, int64_t batch, uint64_t seed,
                                              distac_loader **out);
/* [any] Drops a reference. */
DISTAC_API void distac_loader_release(distac_loader *loader);
/* From now on images are random crops of the originals, resized to the data set's size;
 * NULL: no longer. A sample's crop is a pure function of (seed, epoch, sample). Errors:
 * EINVAL, ESHAPE (images that are not square). */
DISTAC_API distac_status distac_loader_crops(distac_loader *loader, DISTAC_NULLABLE const distac_crop_desc *desc);
/* Decodes `ahead` batches (the one that is asked for included) with `workers` threads of the loader's own, which
 * start with the first batch; 0, the default: batches are decoded when asked for, by the context's threads.
 * Batches are the same for every number. Memory: ahead x batch x C x H x W bytes, and for each worker one image in
 * work. A failure is told with the batch that it belongs to. Errors: EINVAL. */
DISTAC_API distac_status distac_loader_workers(distac_loader *loader, int32_t workers, int32_t ahead);
/* [new] Images [B,C,H,W] F32 of batch `step` (0-based), normalised. Errors: EINVAL (step), EIO, EFORMAT. */
DISTAC_API distac_status distac_loader_images(distac_loader *loader, int64_t step, distac_tensor **out);
/* [new] Labels I64 [B] of batch `step`. Errors: ESTATE (unlabelled). */
DISTAC_API distac_status distac_loader_labels(distac_loader *loader, int64_t step, distac_tensor **out);
/* [new] Sample indices I64 [B] of batch `step`. Errors: EINVAL (step). */
DISTAC_API distac_status distac_loader_indices(distac_loader *loader, int64_t step, distac_tensor **out);

typedef struct distac_augment_desc {
    double rotate;    /* degrees, uniform in +-rotate */
    double scale_min; /* uniform scale factor */
    double scale_max;
    double shear;        /* uniform in +-shear */
    double shift;        /* uniform in +-shift, share of the half side */
    double elastic;      /* standard deviation of a smooth displacement, share of the half side */
    double blur;         /* probability of a 3x3 binomial blur */
    double contrast_min; /* uniform */
    double contrast_max;
    double texture; /* largest weight of a band-limited random texture */
    double noise;   /* largest weight of Gaussian noise */
    double invert;  /* probability of exchanging black and white */
} distac_augment_desc;
/* [new] n_indices glyphs of a glyph data set, warped and composed at 28x28: U8 [n,1,28,28]. Sample j is a pure
 * function of (seed, stream, j, index). */
DISTAC_API distac_status distac_augment_glyphs(const distac_dataset *glyphs, const distac_augment_desc *desc,
                                               uint64_t seed, uint64_t stream, int64_t n_indices,
                                               const int64_t *indices, distac_tensor **out);

/* ---- Text: CLIP's tokenizer and text encoder ----------------------------------------------------- */

typedef struct distac_tokenizer distac_tokenizer;
/* [new] CLIP's byte-level BPE. path: `bpe_simple_vocab_16e6.txt.gz` (or unpacked), vocab.json or merges.txt (the
 * other one beside it), or a folder that holds either. Errors: ENOTFOUND, EIO, EFORMAT (file, line and rule). */
DISTAC_API distac_status distac_tokenizer_open(distac_context *context, const char *path,
                                               distac_tokenizer **out);
/* [any] Drops a reference. */
DISTAC_API void distac_tokenizer_release(distac_tokenizer *tokenizer);
/* Number of ids, 49408 for CLIP's own vocabulary. */
DISTAC_API int64_t distac_tokenizer_size(const distac_tokenizer *tokenizer);
/* Id of the start of a text, 49406. */
DISTAC_API int64_t distac_tokenizer_start(const distac_tokenizer *tokenizer);
/* Id of the end of a text, 49407. */
DISTAC_API int64_t distac_tokenizer_end(const distac_tokenizer *tokenizer);
/* [borrow] SHA-256 over symbols, merges and ids: equal vocabularies have equal hashes in either file format. */
DISTAC_API const char *distac_tokenizer_hash(const distac_tokenizer *tokenizer);
/* [new] Ids I64 [n] of a text in UTF-8, without start and end: HTML entities replaced twice, whitespace collapsed,
 * lower case, words split, merged by rank (open_clip's rule without ftfy). The texts "<|startoftext|>" and
 * "<|endoftext|>" are their ids. Errors: EINVAL (not UTF-8, text names the byte; longer than 16 MiB). */
DISTAC_API distac_status distac_tokenizer_encode(const distac_tokenizer *tokenizer, const char *text,
                                                 int64_t bytes, distac_tensor **out);
/* [new] A row for the text encoder: start, ids, end, zeros up to `length`; I64 [length]. truncate 0: a text that
 * does not fit is an error; 1: it is cut and its last id is the end. Errors: as encode, EINVAL (too long). */
DISTAC_API distac_status distac_tokenizer_row(const distac_tokenizer *tokenizer, const char *text, int64_t bytes,
                                              int64_t length, int32_t truncate, distac_tensor **out);
/* [new] The text of ids as the one item: a space ends every word; bytes that are no UTF-8, and zero bytes, become
 * U+FFFD. Errors: EINVAL (an id outside the vocabulary). */
DISTAC_API distac_status distac_tokenizer_decode(const distac_tokenizer *tokenizer, int64_t n_ids,
                                                 const int64_t *ids, distac_strings **out);

typedef struct distac_text distac_text; /* CLIP's text encoder, for inference */
typedef struct distac_text_config {
    int32_t context;    /* positions, 77 */
    int32_t vocabulary; /* rows of the token embedding, 49408 */
    int32_t width;
    int32_t layers;
    int32_t heads;
    int32_t mlp;
    int32_t dim;        /* D, the feature dimension: that of the image encoder */
    int32_t activation; /* DISTAC_ACT_GELU or DISTAC_ACT_QUICK_GELU */
} distac_text_config;
/* [new] Reads the text encoder of a whole CLIP in the canonical layout ("token_embedding.weight",
 * "transformer.resblocks.0…", "ln_final.weight", "text_projection"). activation -1: from the metadata
 * "text.activation", else "vit.activation", else an error. heads 0: from the metadata "text.heads", else width/64.
 * dtype F32 or F64. Errors: ENOTFOUND, ESHAPE (all misfits at once; a checkpoint whose text blocks were taken out
 * is told as such), EINVAL. */
DISTAC_API distac_status distac_text_open(distac_context *context, const distac_checkpoint *checkpoint,
                                          int32_t activation, int32_t heads, int32_t dtype, distac_text **out);
/* [any] Drops a reference. */
DISTAC_API void distac_text_release(distac_text *text);
/* The architecture. */
DISTAC_API distac_status distac_text_get_config(const distac_text *text, distac_text_config *out);
/* [new] Features [B,D], not normalised, of ids I64 [B,n], n at most the context: those at the first of the largest
 * ids of each row, which is the end of the text. Errors: ESHAPE, EINVAL (an id outside the vocabulary). */
DISTAC_API distac_status distac_text_features(distac_text *text, const distac_tensor *ids, distac_tensor **out);
/* exp(logit_scale): what cosines are multiplied by. Errors: ENOTFOUND (the checkpoint had none). */
DISTAC_API distac_status distac_text_logit_scale(const distac_text *text, double *out);
/* [new] SHA-256 over configuration and weights, as the one item. */
DISTAC_API distac_status distac_text_hash(distac_text *text, distac_strings **out);

/* ---- Merging with a model and images: what fisher, regmean and adamerging are made of ------------ */

/* fisher F64 [P] += the diagonal of the Fisher matrix of the model with this head, summed over the images: the
 * exact expectation over p(y|x) of (d log p(y|x) / d theta)^2, image by image (Matena & Raffel 2022). share 1:
 * exact, one backward pass for each class but one; below 1: the largest directions of each prediction that hold
 * this share of the trace of its logits' Fisher matrix; 0: MergeLM's stand-in for all of it, one pass for the
 * batch, the square of the gradient of the sum over images and classes of sqrt(p) log p with sqrt(p) as given,
 * which depends on the batch. *out: backward passes done. Memory beyond the workspace of one image (share 0: of
 * all): one gradient [P] and C*C numbers. Errors: ESHAPE, EDTYPE, ENUMERIC, ECANCELED (fisher then holds
 * the images that were done). */
DISTAC_API distac_status distac_fisher(distac_vit *vit, const distac_head *head, const distac_tensor *images,
                                       double share, distac_tensor *fisher, int64_t *out);
/* over [n] += w tau, under [n] += w with w = coefficient * (scale * fisher + floor), all F64 but tau, which may
 * be of any float type: over/under is the mean that the diagonals weigh. Errors: ESHAPE, EINVAL. */
DISTAC_API distac_status distac_fisher_add(const distac_tensor *fisher, double scale, double floor,
                                           double coefficient, const distac_tensor *tau, distac_tensor *over,
                                           distac_tensor *under);

/* Number of linear layers: conv1 (of patches), in_proj, out_proj, c_fc, c_proj of every block, proj; 2 + 4 L. */
DISTAC_API int64_t distac_vit_linear_count(const distac_vit *vit);
/* Index of the parameter that is the weight of a linear layer, -1 if there is none. */
DISTAC_API int64_t distac_vit_linear_param(const distac_vit *vit, int64_t linear);
typedef struct distac_linear_info {
    int64_t param;  /* index of its weight */
    int64_t inputs; /* K: length of what enters it */
    int64_t rows;   /* of its inputs, per image */
} distac_linear_info;
/* Describes a linear layer. all_tokens: see distac_vit_grams. Errors: EINVAL. */
DISTAC_API distac_status distac_vit_get_linear(const distac_vit *vit, int64_t linear, int32_t all_tokens,
                                               distac_linear_info *out);
/* grams[i] [K,K], in the model's type, += sum of x xT over the inputs x of linear layer first + i while the
 * images go through the model. all_tokens 0: after the attention of the last block only the class token counts,
 * which is all that the features are made of; 1: all tokens, as hooks on the published implementations see them.
 * Sums are full products even where the model's are bf16. Memory: the workspace of inference. Errors: ESHAPE,
 * EINVAL. */
DISTAC_API distac_status distac_vit_grams(distac_vit *vit, const distac_tensor *images, int32_t all_tokens,
                                          int64_t first, int32_t n_grams, distac_tensor *const *grams);
/* sum F64 [K,K] += G and product F64 [N,K] += tau G, G being scale * gram with its off-diagonal elements times
 * off_diagonal, tau [N,K] the task vector of a linear layer's weight (Jin et al. 2023, RegMean). Memory: 2 K*K +
 * N*K numbers. Errors: ESHAPE, EINVAL. */
DISTAC_API distac_status distac_regmean_add(const distac_tensor *gram, double scale, double off_diagonal,
                                            const distac_tensor *tau, distac_tensor *sum, distac_tensor *product);
/* product becomes D with D sum = product, by Cholesky's factor in double. Where sum is singular (no factor, or a
 * condition beyond 1e14) every model's matrix counts with epsilon on its diagonal, so that D tends to the mean
 * total / models where there were no inputs; *out is that epsilon, 0 if none was needed. total F64 [N,K]: the sum
 * of the task vectors. Memory: K*K numbers. Errors: ESHAPE, ENUMERIC. */
DISTAC_API distac_status distac_regmean_solve(const distac_tensor *sum, const distac_tensor *total, int32_t models,
                                              distac_tensor *product, double *out);

/* The model's weights become base + sum over t of lambdas[t][l] taus[t], base and taus [P] in the model's type,
 * lambdas F64 [T,1] or, one for each parameter tensor l, [T,param_count]. Errors: ESHAPE. */
DISTAC_API distac_status distac_vit_combine(distac_vit *vit, const distac_tensor *base, int32_t n_taus,
                                            distac_tensor *const *taus, const distac_tensor *lambdas);
/* out, of the shape of lambdas, += the gradient of a loss for the lambdas, from that for the weights [P]. */
DISTAC_API distac_status distac_vit_combine_gradient(const distac_vit *vit, const distac_tensor *grads,
                                                     int32_t n_taus, distac_tensor *const *taus,
                                                     distac_tensor *out);
/* Task vectors [n] as TIES leaves them before its mean, in place: each keeps its keep * n largest magnitudes, of
 * them what agrees with the sign of their sum (0: the sign that most elements have). All of them in host memory, or
 * on one device. Errors: ESHAPE, ENUMERIC, EDEVICE. */
DISTAC_API distac_status distac_ties_vectors(int32_t n_taus, distac_tensor *const *taus, double keep);

/* ---- Charts -------------------------------------------------------------------------------------- */

typedef struct distac_plot distac_plot;
typedef struct distac_plot_desc {
    const char *title;
    const char *x_label;
    const char *y_label;
    int32_t width; /* pixels; 0: 900 */
    int32_t height; /* pixels; 0: 560 */
    int32_t log_y;  /* 1: logarithmic y axis */
} distac_plot_desc;
/* [new] An empty chart: lines and bars are added, then it is saved. */
DISTAC_API distac_status distac_plot_create(distac_context *context, const distac_plot_desc *desc,
                                            distac_plot **out);
/* [any] Drops a reference. */
DISTAC_API void distac_plot_release(distac_plot *plot);
/* Adds a line; band (n_band 0: none) is drawn as y +- band. style: 0 line, 1 line with points, 2
 * dashed grey, 3 dashed in the colour of the line that is added after it: the same thing before a
 * change. Errors: ESHAPE (n_x, n_y, n_band differ). */
DISTAC_API distac_status distac_plot_line(distac_plot *plot, const char *label, int32_t n_x, const double *x,
                                          int32_t n_y, const double *y, int32_t n_band,
                                          DISTAC_NULLABLE const double *band, int32_t style);
/* Adds a group of bars, one per category; NaN leaves a gap. */
DISTAC_API distac_status distac_plot_bars(distac_plot *plot, const char *label, int32_t n_values,
                                          const double *values);
/* Adds the name of the next category of the bar groups. */
DISTAC_API distac_status distac_plot_category(distac_plot *plot, const char *name);
/* A dashed horizontal line with a label. */
DISTAC_API distac_status distac_plot_level(distac_plot *plot, const char *label, double y);
/* Fixes the y axis; NaN leaves an end free. */
DISTAC_API distac_status distac_plot_range(distac_plot *plot, double y_min, double y_max);
/* Writes a PNG file atomically. Errors: EIO. */
DISTAC_API distac_status distac_plot_save(distac_plot *plot, const char *path);

/* fence: end */

/* ---- For hosts in C and C++: what calls back has no place in the Lua bindings --------------------- */

/* Where a context's memory comes from. Both functions are called from every thread that works for the context,
 * several at once, and call nothing of the engine. `alignment` is a power of two of at most 64; release gets the
 * bytes and the alignment that allocate got. */
typedef struct distac_allocator {
    /* NULL: there is none, and the call fails with ENOMEM. */
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes, size_t alignment);
    void *user;
} distac_allocator;

/* Takes the memory of tensors, workspaces, images and caches, which is all that grows with models and data, from
 * the host from now on; NULL: from the system. The functions are copied, `user` has to outlive the context. Freed
 * blocks of 64 KiB and more are kept for the next of their size, 512 MiB of them at most, until the limit or the
 * end of the context; at its end all have been given back. The C library keeps the small rest: names, lists and
 * what other libraries need. Errors: EINVAL (a function is NULL), ESTATE (the context holds memory). */
DISTAC_API distac_status distac_context_set_allocator(distac_context *context, const distac_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
