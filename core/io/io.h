/* io.h: checkpoints from the inside, for the rooms that read and write them. A checkpoint is a list of
 * entries sorted by name; an entry's bytes lie in a mapped file or in a tensor. */
#ifndef DISTAC_IO_H
#define DISTAC_IO_H

#include "../tensor/tensor.h"

#define DI_ST_MAX_HEADER  100000000u
#define DI_ST_MAX_NAME    4096u
#define DI_ST_MAX_TENSORS 1000000
#define DI_ST_MAX_SIZE    ((INT64_C(1) << 48) - 1) /* of one dimension */

/* An element type of the file format. dtype -1: we have no arithmetic and no tensor type for it; such a
 * tensor is handed out as its bytes (U8, one dimension) and written back under its own type and shape. */
typedef struct di_file_type {
    const char *name;
    int32_t bits;
    int32_t dtype;
} di_file_type;
const di_file_type *di_file_type_named(const char *name);
const di_file_type *di_file_type_of(int32_t dtype);

/* A mapped file that entries and tensors keep alive. */
typedef struct di_mapping {
    atomic_int refs;
    di_map map;
} di_mapping;
distac_status di_mapping_open(const char *path, di_mapping **out);
void di_mapping_retain(di_mapping *mapping);
void di_mapping_release(void *mapping); /* NULL is fine */

/* Numbers that are made when they are touched (lazy.c): row-major runs joined one after the other, or one run
 * [columns, rows] of an entry [rows, columns]. */
enum { DI_LAZY_PARTS = 3 };
typedef struct di_lazy_part {
    const uint8_t *bytes;
    int64_t numel;
    di_mapping *mapping;   /* what keeps the bytes alive: this */
    distac_tensor *tensor; /* or this */
} di_lazy_part;
typedef struct di_lazy {
    distac_context *context; /* the checkpoint's */
    bool transposed;
    int32_t count;
    di_lazy_part parts[DI_LAZY_PARTS];
} di_lazy;

typedef struct di_entry {
    char *name;
    const di_file_type *type;
    int32_t rank;
    int64_t shape[DI_MAX_RANK];
    int64_t numel;
    int64_t bytes;
    const uint8_t *data;   /* in the mapped file, maybe unaligned; NULL for the others */
    di_mapping *mapping;   /* the file of data, retained */
    distac_tensor *tensor; /* a tensor in memory, NULL for the others */
    di_lazy *lazy;         /* a tensor that is made when touched, NULL for the others */
} di_entry;

typedef struct di_pair {
    char *key, *value;
} di_pair;

struct distac_checkpoint {
    atomic_int refs;
    distac_context *context;
    char *path;
    bool frozen;        /* opened from a file: cannot be changed */
    char *prefix;       /* what distac_checkpoint_prefix answered last */
    di_entry **entries; /* sorted by name */
    int64_t count, capacity;
    di_pair *pairs; /* sorted by key */
    int64_t pair_count, pair_capacity;
};

distac_status di_checkpoint_new(distac_context *context, const char *path, distac_checkpoint **out);
void di_checkpoint_retain(const distac_checkpoint *checkpoint);
/* Entries from `first` on whose data lies in this file keep it alive from now on. */
void di_checkpoint_adopt(distac_checkpoint *checkpoint, int64_t first, di_mapping *mapping);
/* Appends without keeping order; di_checkpoint_sort comes at the end and fails on a name that stands twice. */
distac_status di_checkpoint_append(distac_checkpoint *checkpoint, di_entry *entry);
distac_status di_checkpoint_sort(distac_checkpoint *checkpoint);
/* [new] The same tensor under another name. */
distac_status di_entry_clone(const di_entry *entry, const char *name, di_entry **out);
void di_entry_free(di_entry *entry);
bool di_entry_is_float(const di_entry *entry); /* F64 F32 F16 BF16 */
bool di_entry_same_shape(const di_entry *a, const di_entry *b);
/* Sets a metadata pair, or removes it when value is NULL. */
distac_status di_checkpoint_pair(distac_checkpoint *checkpoint, const char *key, const char *value);
/* The entry called name, or NULL. */
di_entry *di_checkpoint_entry(const distac_checkpoint *checkpoint, const char *name);
/* A text fit to be a metadata key or value: UTF-8. */
distac_status di_check_text(const char *what, const char *text);

/* Whether an entry is a tensor on this context's device. */
bool di_entry_there(const di_entry *entry, const distac_context *context);

/* The bytes of an entry, row-major and dense, maybe unaligned, in host memory. *copy, which the caller releases,
 * keeps them where they are of a tensor, a copy of it if that is strided, lazy or on a device; NULL otherwise. */
distac_status di_entry_bytes(const di_entry *entry, const uint8_t **bytes, distac_tensor **copy);
/* Elements first … first+n-1 of a float entry. bytes: from di_sources; a lazy entry is not made for it. */
void di_entry_f64(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n, double *out);
/* Where these elements lie side by side, NULL if they do not. */
const uint8_t *di_entry_run(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n);

/* ---- lazy.c ---- */
/* [new] rows of `source` from row first on (dimension 0), nothing copied. */
distac_status di_entry_rows(distac_context *context, const di_entry *source, const char *name, int64_t first,
                            int64_t rows, di_entry **out);
/* [new] the sources one below the other; equal types and shapes but for dimension 0. */
distac_status di_entry_join(distac_context *context, const char *name, int32_t count,
                            const di_entry *const *sources, di_entry **out);
/* [new] a matrix turned over. */
distac_status di_entry_turn(distac_context *context, const di_entry *source, const char *name, di_entry **out);
void di_lazy_free(di_lazy *lazy);
/* All elements of a lazy entry. */
void di_lazy_fill(const di_entry *entry, uint8_t *out);

/* Pieces of at most DI_PIECE elements of the float tensors, in order: the units of parallel work. The cut depends
 * on shapes alone, so sums over pieces taken in order have the same bits for any number of threads. */
enum { DI_PIECE = 16384 };
typedef struct di_piece {
    int64_t entry, first, count;
} di_piece;
/* free() *out */
distac_status di_pieces(di_entry *const *entries, int64_t entry_count, int64_t *count, di_piece **out);

/* Dense bytes of every entry in host memory, for parallel work: bytes[i] belongs to entry
 * i and is for di_entry_f64; NULL for a lazy entry, which is read in pieces, and for one
 * that is unwanted (NULL: all are wanted). */
typedef struct di_sources {
    const uint8_t **bytes;
    distac_tensor **copies;
    int64_t count;
} di_sources;
distac_status di_sources_open(const distac_checkpoint *checkpoint, const bool *unwanted, di_sources *out);
void di_sources_close(di_sources *sources);

/* Names of float tensors that `base` has and `other` lacks (missing), that only `other` has (extra), or whose
 * shapes differ, all in one error with the nearest names. */
distac_status di_match(const char *function, const char *base_name, const distac_checkpoint *base,
                       const char *other_name, const distac_checkpoint *other);
/* Appends the misfits to text, at most a dozen lines of them; *status becomes ENOTFOUND or ESHAPE. Names that
 * is_asked (NULL: all count) denies do not matter. */
typedef bool (*di_asked)(const void *arg, const char *name);
void di_match_add(di_text *text, distac_status *status, const char *base_name, const distac_checkpoint *base,
                  const char *other_name, const distac_checkpoint *other, di_asked is_asked, const void *arg);

/* ---- fingerprint.c ---- */
/* Fingerprints of several checkpoints in progress: bytes that others read anyway are taken as they are met. */
typedef struct di_prints di_prints;
distac_status di_prints_open(int32_t count, distac_checkpoint *const *checkpoints, di_prints **out);
/* These elements are about to be read: blocks of bytes that begin in them are taken, each once, whoever comes. Any
 * thread. bytes: as of di_entry_f64. */
void di_prints_look(di_prints *prints, const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n);
/* Reads what nobody has met. */
distac_status di_prints_finish(di_prints *prints);
/* [new] The fingerprint of checkpoint `index` as the one item, after di_prints_finish. */
distac_status di_prints_get(const di_prints *prints, int32_t index, distac_strings **out);
void di_prints_close(di_prints *prints); /* NULL is fine */

/* ---- reading (st_read.c) ---- */
/* Checks every rule and fills checkpoint (empty, with path) with entries pointing into data. */
distac_status di_st_parse(distac_checkpoint *checkpoint, const uint8_t *data, size_t bytes);

/* ---- PyTorch files (pt_read.c) ---- */
/* Does the file begin like something that torch.save, or pickle, or a packer wrote? */
bool di_pt_recognise(const uint8_t *data, size_t bytes);
/* As di_st_parse, for a zip archive of torch.save, or the stacked pickles before 1.6, holding a dictionary of
 * tensors or a whole module. Nothing that the file names is looked up or called. */
distac_status di_pt_parse(distac_checkpoint *checkpoint, const uint8_t *data, size_t bytes);

/* ---- foreign.c ---- */
/* Refuses a file whose first bytes show that it is something else than a model, and says what. */
distac_status di_check_foreign(const char *path, const uint8_t *data, size_t bytes);

/* ---- writing (st_write.c) ---- */
typedef struct di_st_item {
    const char *name;
    const di_file_type *type;
    int32_t rank;
    const int64_t *shape;
    int64_t bytes;
    int64_t place; /* of equally wide tensors those with lower places lie first in the file, then lower indices */
} di_st_item;
/* Opens path for writing and writes the header for `count` items sorted by name; order (count numbers) receives
 * the order in which the caller must put their bytes: wide elements first, so that all data is aligned. */
distac_status di_st_begin(const char *path, int64_t count, const di_st_item *items, int64_t pair_count,
                          const di_pair *pairs, int64_t *order, di_writer **out);
/* What begins the file, length and padding included, and where each item's bytes lie in the data behind it; order
 * and begin take `count` numbers. di_text_free text, also on failure. */
distac_status di_st_header(const char *path, int64_t count, const di_st_item *items, int64_t pair_count,
                           const di_pair *pairs, int64_t *order, int64_t *begin, int64_t *total, di_text *text);
/* Appends a JSON text. */
void di_json_quote(di_text *text, const char *value);
/* Element type of an entry written as dtype (-1: as it is): only float tensors are converted. */
const di_file_type *di_st_target(const di_entry *entry, int32_t dtype);
int64_t di_type_bytes(const di_file_type *type, int64_t numel);
/* Rounds n doubles to a float type. Fails with ENUMERIC, naming tensor and index (first + position), if a finite
 * value becomes infinite. */
distac_status di_narrow(const char *function, const char *name, int64_t first, int32_t dtype, const double *values,
                        void *out, int64_t n);

/* ---- output.c ---- */
/* A model that is being written: one file; or a folder of files with model.safetensors.index.json and, if given,
 * config.json, beside which a single file is called model.safetensors and needs no index. Under its final name
 * only when whole. */
typedef struct di_output di_output;
typedef struct di_output_desc {
    const char *path;
    bool folder;
    int64_t shard;      /* most bytes of tensors in a file, 0: no limit. A larger tensor has a file of its own */
    const char *config; /* text of config.json; NULL: none */
    int64_t pair_count;
    const di_pair *pairs;
} di_output_desc;
/* Items are sorted by name. order (count numbers) receives the order in which their bytes must be put. Items of
 * one place/DI_LAZY_PARTS come into one file side by side; shards are cut by place. */
distac_status di_output_open(const di_output_desc *desc, int64_t count, const di_st_item *items, int64_t *order,
                             di_output **out);
distac_status di_output_put(di_output *output, const void *bytes, size_t count);
/* Replaces bytes of an item that were put before; they may go on into the item put after it. */
distac_status di_output_patch(di_output *output, int64_t item, int64_t offset, const void *bytes, size_t count);
/* Replaces the metadata by others whose texts are as long. Errors: EINVAL. */
distac_status di_output_metadata(di_output *output, int64_t pair_count, const di_pair *pairs);
/* Everything was put. Frees the output whatever happens. */
distac_status di_output_commit(di_output *output);
void di_output_abort(di_output *output); /* NULL is fine */

#endif
