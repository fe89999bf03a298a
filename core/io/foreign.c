/* foreign.c: what a file is that is no model, told by its first bytes: a picture, an archive, a page that a
 * server sent instead of the file. The readers' own rules would speak of headers that such a file never had. */
#include "io.h"
#include <string.h>

typedef struct kind {
    const char *first; /* what it begins with, from `offset` on */
    uint8_t bytes, offset;
    const char *what;
} kind;

#define PACKED(by) "packed by " by "; unpack it first"

static const kind kinds[] = {
    {"\xff\xd8\xff", 3, 0, "a JPEG image"},
    {"\x89PNG\r\n\x1a\n", 8, 0, "a PNG image"},
    {"GIF8", 4, 0, "a GIF image"},
    {"WEBP", 4, 8, "a WebP image"},
    {"II*\0", 4, 0, "a TIFF image"},
    {"MM\0*", 4, 0, "a TIFF image"},
    {"%PDF-", 5, 0, "a PDF document"},
    {"\x1f\x8b", 2, 0, PACKED("gzip")},
    {"\xfd" "7zXZ\0", 6, 0, PACKED("xz")},
    {"\x28\xb5\x2f\xfd", 4, 0, PACKED("zstd")},
    {"BZh", 3, 0, PACKED("bzip2")},
    {"7z\xbc\xaf\x27\x1c", 6, 0, PACKED("7-Zip")},
    {"Rar!\x1a\x07", 6, 0, PACKED("RAR")},
    {"\x93NUMPY", 6, 0, "a NumPy array (.npy)"},
    {"MATLAB 5.0 MAT-file", 19, 0, "a MATLAB file (.mat)"},
    {"\x89HDF\r\n\x1a\n", 8, 0, "an HDF5 file, as Keras and MATLAB 7.3 write"},
    {"GGUF", 4, 0, "a GGUF model, as llama.cpp reads"},
    {"TFL3", 4, 4, "a TensorFlow Lite model"},
    {"ARROW1", 6, 0, "an Arrow file"},
    {"PAR1", 4, 0, "a Parquet table"},
    {"SQLite format 3", 15, 0, "an SQLite database"},
    {"\x7f" "ELF", 4, 0, "a program or library (ELF)"},
    {"\x1bLua", 4, 0, "compiled Lua"},
    {"\x1bLJ", 3, 0, "compiled Lua"},
    {"version https://git-lfs", 23, 0, "a pointer of Git LFS; `git lfs pull` fetches the file itself"},
    {"<!DOCTYPE", 9, 0, "an HTML page, as servers send it instead of a file that is not there"},
    {"<!doctype", 9, 0, "an HTML page, as servers send it instead of a file that is not there"},
    {"<html", 5, 0, "an HTML page, as servers send it instead of a file that is not there"},
    {"<?xml", 5, 0, "an XML text"},
};

/* A zip archive whose first member is an array of NumPy's; torch.save begins with a pickle. */
static bool is_npz(const uint8_t *data, size_t size) {
    if (size < 30 || memcmp(data, "PK\3\4", 4) != 0) return false;
    size_t name = (size_t)data[26] | (size_t)data[27] << 8;
    return name > 4 && name <= size - 30 && memcmp(data + 30 + name - 4, ".npy", 4) == 0;
}

/* Fewer than 8 bytes may be the first of a length. */
static bool is_text(const uint8_t *data, size_t size) {
    if (size > 512) size = 512;
    for (size_t i = 0; i < size; i++)
        if (data[i] == 0x7f || (data[i] < ' ' && !memchr("\t\n\f\r", data[i], 4))) return false;
    return size >= 8;
}

static const char *text_kind(const char *path, const uint8_t *data) {
    const char *ending = strrchr(path, '.');
    if (ending && strcmp(ending, ".json") == 0)
        return "a JSON text; the index of a model is called *.safetensors.index.json or *.bin.index.json";
    if (ending && strcmp(ending, ".lua") == 0) return "a Lua script";
    return data[0] == '{' || data[0] == '[' ? "a JSON text" : "a text";
}

static const char *kind_of(const char *path, const uint8_t *data, size_t size) {
    if (size == 0) return "byte 0: an empty file, of 0 bytes";
    /* A safetensors header begins with a brace after its length, whatever the length's bytes are. */
    if (size > 8 && data[5] == 0 && data[6] == 0 && data[7] == 0 && data[8] == '{') return NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const kind *k = &kinds[i];
        if (size >= (size_t)k->offset + k->bytes && memcmp(data + k->offset, k->first, k->bytes) == 0)
            return k->what;
    }
    if (is_npz(data, size)) return "NumPy arrays (.npz)";
    return is_text(data, size) ? text_kind(path, data) : NULL;
}

distac_status di_check_foreign(const char *path, const uint8_t *data, size_t bytes) {
    const char *what = kind_of(path, data, bytes);
    if (!what) return DISTAC_OK;
    return di_fail_at(DISTAC_EFORMAT, "distac_checkpoint_open",
                      "%s: %s. Models are read from safetensors and PyTorch files (.pt, .pth, .bin), an index of "
                      "such files, or a folder with config.json",
                      path, what);
}
