/* open.c: what lies at a path: a single file, the index of a sharded one, a folder with a configuration. */
#include "io.h"
#include <string.h>

/* One file of tensors into a checkpoint that may hold others already; its entries are not sorted in. */
static distac_status add_file(distac_checkpoint *checkpoint, const char *path) {
    di_mapping *mapping;
    int64_t first = checkpoint->count;
    DI_TRY(di_mapping_open(path, &mapping));
    const di_map *map = &mapping->map;
    distac_status status = di_pt_recognise(map->data, map->bytes) ? di_pt_parse(checkpoint, map->data, map->bytes)
                                                                  : di_st_parse(checkpoint, map->data, map->bytes);
    if (status == DISTAC_OK) di_checkpoint_adopt(checkpoint, first, mapping);
    di_mapping_release(mapping);
    return status;
}

distac_status distac_checkpoint_open(distac_context *context, const char *path, distac_checkpoint **out) {
    distac_checkpoint *checkpoint;
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(out, "out is NULL");
    DI_TRY(di_checkpoint_new(context, path, &checkpoint));
    distac_status status = add_file(checkpoint, path);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(checkpoint);
        return status;
    }
    checkpoint->frozen = true;
    *out = checkpoint;
    return DISTAC_OK;
}
