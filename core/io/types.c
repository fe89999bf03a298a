/* types.c: the closed list of element types of the safetensors format and their place among ours. */
#include "io.h"
#include <string.h>

static const di_file_type file_types[] = {
    {"F64", 64, DISTAC_F64},
    {"F32", 32, DISTAC_F32},
    {"F16", 16, DISTAC_F16},
    {"BF16", 16, DISTAC_BF16},
    {"I64", 64, DISTAC_I64},
    {"I32", 32, DISTAC_I32},
    {"I16", 16, DISTAC_I16},
    {"I8", 8, DISTAC_I8},
    {"U8", 8, DISTAC_U8},
    {"BOOL", 8, DISTAC_BOOL},
    {"U16", 16, DISTAC_U16},
    {"U32", 32, DISTAC_U32},
    {"U64", 64, DISTAC_U64},
    {"F8_E4M3", 8, DISTAC_F8_E4M3},
    {"F8_E5M2", 8, DISTAC_F8_E5M2},
    {"F8_E8M0", 8, -1},
    {"F8_E4M3FNUZ", 8, -1},
    {"F8_E5M2FNUZ", 8, -1},
    {"F6_E2M3", 6, -1},
    {"F6_E3M2", 6, -1},
    {"F4", 4, -1},
    {"C64", 64, -1},
};
enum { TYPE_COUNT = sizeof file_types / sizeof file_types[0] };

const di_file_type *di_file_type_named(const char *name) {
    for (int i = 0; i < TYPE_COUNT; i++)
        if (strcmp(file_types[i].name, name) == 0) return &file_types[i];
    return NULL;
}

const di_file_type *di_file_type_of(int32_t dtype) {
    for (int i = 0; i < TYPE_COUNT; i++)
        if (file_types[i].dtype == dtype && dtype >= 0) return &file_types[i];
    return NULL;
}

int64_t di_type_bytes(const di_file_type *type, int64_t numel) {
    return type->bits >= 8 ? numel * (type->bits / 8) : numel / 8 * type->bits + numel % 8 * type->bits / 8;
}
