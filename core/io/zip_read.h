/* zip_read.h: the members of a zip archive as PyTorch writes it: stored, checked, lying in the mapped file. */
#ifndef DISTAC_ZIP_READ_H
#define DISTAC_ZIP_READ_H

#include "../base/base.h"

enum { DI_ZIP_MAX_MEMBERS = 100000, DI_ZIP_MAX_NAME = 4096 };

typedef struct di_zip_member {
    const char *name; /* in the file, not NUL-terminated */
    uint32_t name_bytes;
    uint32_t crc;
    uint16_t flags, method;
    uint64_t header; /* offset of the local header */
    uint64_t offset; /* of the data */
    uint64_t bytes;
    uint64_t unpacked; /* bytes again, when stored */
} di_zip_member;

typedef struct di_zip {
    const char *path;
    const uint8_t *data;
    size_t size;
    di_zip_member *members; /* sorted by name after di_zip_open */
    int64_t count;
} di_zip;

/* "PATH: byte N: rule" with EFORMAT; N counts from the start of the file. */
distac_status di_pt_fail(const char *path, uint64_t at, const char *format, ...) DI_PRINTF(3, 4);
/* Bytes of a file for an error text: at most 60, without control bytes, quotes not added. */
const char *di_pt_shown(const void *bytes, size_t count, char buffer[80]);
/* Reads the list of members and checks every header; the members' bytes are not read yet. path, data stay the
 * caller's. free(zip->members) when done, also on failure. */
distac_status di_zip_open(const char *path, const uint8_t *data, size_t size, di_zip *out);
/* The member with this name, or NULL. */
const di_zip_member *di_zip_find(const di_zip *zip, const char *name, size_t bytes);
/* Refuses what is packed or encrypted, and compares every member's bytes with its checksum, on the context's
 * threads. */
distac_status di_zip_check(distac_context *context, const di_zip *zip);

/* Eight bytes, the lowest first. */
uint64_t di_u64(const uint8_t *bytes);

#endif
