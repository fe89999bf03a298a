/* pack.h: a file of decoded images that is mapped, so that a second run does not decode again. */
#ifndef DISTAC_PACK_H
#define DISTAC_PACK_H

#include "data.h"

enum { DI_PACK_FITTED, DI_PACK_ORIGINALS, DI_PACK_KINDS };

typedef struct di_pack {
    di_map map;
    int kind;
    int64_t count; /* images */
    uint64_t index;
    int64_t *place; /* [samples] which image a sample is, -1: none */
} di_pack;

/* Refuses a file that is not whole or not for these samples. The images are a view's, in its order. */
distac_status di_pack_open(const char *path, int kind, const distac_dataset *view, di_pack **out);
void di_pack_close(di_pack *pack);
/* Decodes the samples of a view, as many as `limit` bytes hold (0: all), and writes the file atomically. */
distac_status di_pack_write(const char *path, int kind, const distac_dataset *view, int64_t limit);
/* Pixels of the sample at a position; NULL if it is not in the pack or does not have its checksum. */
const uint8_t *di_pack_pixels(const di_pack *pack, int64_t index, int32_t *width, int32_t *height);
/* SHA-256 over the paths, sizes and times of the files of a view, with a text before them. */
distac_status di_files_hash(const distac_dataset *dataset, const char *text, char out[65]);

#endif
