/* open.c: what lies at a path: a single file, the index of a model in several files, a folder with a
 * configuration. */
#include "index.h"
#include <stdlib.h>
#include <string.h>

#define ST_ENDING ".safetensors"
#define PT_ENDING ".bin"

static bool ends(const char *text, const char *ending) {
    size_t length = strlen(text), n = strlen(ending);
    return length >= n && strcmp(text + length - n, ending) == 0;
}

typedef distac_status (*parser)(distac_checkpoint *checkpoint, const uint8_t *data, size_t bytes);

/* One file of tensors into an empty checkpoint. parse NULL: as its content says. */
static distac_status read_file(distac_checkpoint *checkpoint, const char *path, parser parse) {
    di_mapping *mapping;
    DI_TRY(di_mapping_open(path, &mapping));
    const di_map *map = &mapping->map;
    distac_status status = di_check_foreign(path, map->data, map->bytes);
    if (!parse && di_pt_recognise(map->data, map->bytes)) parse = di_pt_parse;
    if (status == DISTAC_OK && !parse && (ends(path, ".pt") || ends(path, ".pth") || ends(path, ".bin")) &&
        (map->bytes < 9 || map->data[8] != '{'))
        status = di_fail_at(
            DISTAC_EFORMAT, "distac_checkpoint_open",
            "%s: byte 0: neither a PyTorch file (a zip archive or a pickle) nor a safetensors file", path);
    if (!parse) parse = di_st_parse;
    if (status == DISTAC_OK) status = parse(checkpoint, map->data, map->bytes);
    if (status == DISTAC_OK) di_checkpoint_adopt(checkpoint, 0, mapping);
    di_mapping_release(mapping);
    return status;
}

static distac_status read_safetensors(distac_checkpoint *checkpoint, const char *path) {
    return read_file(checkpoint, path, di_st_parse);
}

static distac_status read_torch(distac_checkpoint *checkpoint, const char *path) {
    return read_file(checkpoint, path, di_pt_parse);
}

static distac_status open_file(distac_checkpoint *checkpoint, const char *path) {
    if (ends(path, ST_ENDING ".index.json")) return di_index_open(checkpoint, path, ST_ENDING, read_safetensors);
    if (ends(path, PT_ENDING ".index.json")) return di_index_open(checkpoint, path, PT_ENDING, read_torch);
    return read_file(checkpoint, path, NULL);
}

/* What a folder's tensors can be called, the first that is there. */
static const char *const weights[] = {
    "model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin"};
enum { WEIGHTS = sizeof weights / sizeof weights[0] };

static distac_status open_folder(distac_checkpoint *checkpoint, const char *folder) {
    for (int i = 0; i < WEIGHTS; i++) {
        char *path = di_path_join(folder, weights[i]);
        if (!path) return DISTAC_ENOMEM;
        distac_status status = DISTAC_OK;
        bool there = distac_path_kind(path) == 1;
        if (there) status = open_file(checkpoint, path);
        free(path);
        if (!there) continue;
        DI_TRY(status);
        return di_config_apply(checkpoint, folder,
                               !ends(weights[i], ".index.json")); /* an index shows what it is */
    }
    di_text text = {0};
    for (int i = 0; i < WEIGHTS; i++) di_text_add(&text, "%s%s", i ? ", " : "", weights[i]);
    distac_status status = di_fail_at(DISTAC_ENOTFOUND, "open", "'%s' is a folder without %s", folder,
                                      text.bytes ? text.bytes : "weights");
    di_text_free(&text);
    return status;
}

distac_status distac_checkpoint_open(distac_context *context, const char *path, distac_checkpoint **out) {
    distac_checkpoint *checkpoint;
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(out, "out is NULL");
    DI_TRY(di_checkpoint_new(context, path, &checkpoint));
    distac_status status =
        distac_path_kind(path) == 2 ? open_folder(checkpoint, path) : open_file(checkpoint, path);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(checkpoint);
        return status;
    }
    checkpoint->frozen = true;
    *out = checkpoint;
    return DISTAC_OK;
}
