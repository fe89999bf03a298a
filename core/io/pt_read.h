/* pt_read.h: a PyTorch file from the inside: its pickle, its storages, and the tensors made of both. */
#ifndef DISTAC_PT_READ_H
#define DISTAC_PT_READ_H

#include "io.h"
#include "pickle.h"

/* A run of elements in the file that tensors view. */
typedef struct di_pt_storage {
    const di_pickle_value *key; /* a TEXT */
    const di_file_type *type;
    int64_t count;
    const uint8_t *data;
    uint32_t value; /* the first STORAGE value of it */
    bool found;
} di_pt_storage;

typedef struct di_pt {
    distac_checkpoint *checkpoint;
    const char *path;
    const uint8_t *data;
    size_t size;
    di_pickle pickle;
    di_pt_storage *storages; /* sorted by key */
    int64_t storage_count;
    distac_tensor **copies; /* dense copies of strided tensors; a TENSOR value's number is its index + 1 */
    int64_t copy_count, copy_capacity;
    int64_t output;     /* bytes of all tensors handed out */
    int64_t name_bytes; /* of all names */
} di_pt;

/* The element type that a storage's class names; NULL: none. (pt_tensor.c) */
const di_file_type *di_pt_storage_type(const di_pickle_value *name);
/* Passes what every file of stacked pickles begins with: magic, version, the machine's facts. (pt_read.c) */
distac_status di_pt_stacked_head(const char *path, const uint8_t *data, uint64_t *at, uint64_t end);

/* Collects the pickle's storages, by key; a key must always have one type and one size. (pt_tensor.c) */
distac_status di_pt_storages(di_pt *pt);
di_pt_storage *di_pt_storage_named(const di_pt *pt, const char *key, size_t bytes);
/* Checks every tensor of the pickle against its storage. */
distac_status di_pt_check_tensors(const di_pt *pt);
/* Adds the tensor to the checkpoint, unsorted. A view that is not dense is copied. */
distac_status di_pt_add(di_pt *pt, const char *name, size_t name_bytes, uint32_t tensor);
/* Finds the tensors in the pickle's root, names and adds them, and sorts the checkpoint. (pt_names.c) */
distac_status di_pt_names(di_pt *pt);

#endif
