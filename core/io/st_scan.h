/* st_scan.h: the raw scan of a safetensors header, between the file's bytes and the JSON library. */
#ifndef DISTAC_ST_SCAN_H
#define DISTAC_ST_SCAN_H

#include "io.h"

/* Where a scan stands. Offsets are counted from the start of the file. */
typedef struct di_scan {
    const char *path;
    const char *text; /* the header */
    size_t length;
    size_t base; /* offset of text in the file */
    size_t at;
} di_scan;

/* A member of the top-level object: spans of the raw key (with its quotes) and of the raw value. */
typedef struct di_member {
    size_t key, key_end, value, value_end;
} di_member;

/* "PATH: byte N: rule" with EFORMAT. */
distac_status di_scan_fail(const di_scan *scan, size_t at, const char *format, ...) DI_PRINTF(3, 4);
/* Accepts the opening brace. */
distac_status di_scan_open(di_scan *scan);
/* Finds the next member; *more is false at the closing brace, after which only white space may come. first: no
 * comma is expected. */
distac_status di_scan_member(di_scan *scan, bool first, bool *more, di_member *out);

#endif
