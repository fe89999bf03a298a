/* index.h: the index file of a model in several files ("shards"), and configuration files of folders. */
#ifndef DISTAC_INDEX_H
#define DISTAC_INDEX_H

#include "../base/json.h"
#include "io.h"

enum { DI_INDEX_MAX_SHARDS = 100000, DI_SHARD_NAME = 255 };

typedef struct di_index_item {
    char *name;
    int32_t shard;
    bool seen;
} di_index_item;

typedef struct di_index {
    int64_t count;
    di_index_item *items; /* tensors, sorted by name */
    int32_t shard_count;
    char **shards; /* plain file names, sorted */
    int64_t total; /* bytes of all tensors together; -1 where it is not said */
} di_index;

/* Reads an index; ending is what the shards' names must end in. path is for texts. di_index_close it when OK. */
distac_status di_index_parse(const char *path, const uint8_t *data, size_t bytes, const char *ending,
                             di_index *out);
void di_index_close(di_index *index);

/* Puts one file's tensors into an empty checkpoint. */
typedef distac_status (*di_file_reader)(distac_checkpoint *checkpoint, const char *path);
/* Opens all shards of the index at path into an empty checkpoint: they hold what the index lists, all of it and
 * nothing else. */
distac_status di_index_open(distac_checkpoint *checkpoint, const char *path, const char *ending,
                            di_file_reader read);

/* ---- config.c ---- */
/* Takes what the folder's config.json or open_clip_config.json says about the model into the metadata. needed:
 * fails with ENOTFOUND where there is none. */
distac_status di_config_apply(distac_checkpoint *checkpoint, const char *folder, bool needed);
/* "FOLDER/NAME" as one text; free() it. NULL sets the error. */
char *di_path_join(const char *folder, const char *name);
/* The folder of a file, "." where its path has none; free() it. NULL sets the error. */
char *di_path_folder(const char *path);
/* A JSON file as an object. di_json_free *out. */
distac_status di_json_parse(const char *path, const uint8_t *data, size_t bytes, di_json_document *out);

#endif
