/* zlib.h, without zlib: nothing is inflated, z_stream.msg says why; checksums are taken by functions of our own.
 */
#ifndef DISTAC_WITHOUT_ZLIB_H
#define DISTAC_WITHOUT_ZLIB_H

#include <stddef.h>

enum { Z_OK = 0, Z_STREAM_END = 1, Z_NEED_DICT = 2, Z_DATA_ERROR = -3, Z_MEM_ERROR = -4, Z_BUF_ERROR = -5,
       Z_VERSION_ERROR = -6, Z_NO_FLUSH = 0 };
typedef unsigned int uInt;

typedef struct z_stream {
    const unsigned char *next_in;
    unsigned char *next_out;
    uInt avail_in, avail_out;
    const char *msg;
    unsigned long total_in;
} z_stream;

static inline int inflateInit2(z_stream *z, int bits) {
    (void)bits;
    z->msg = "this build is without zlib";
    return Z_VERSION_ERROR;
}
static inline int inflateInit(z_stream *z) { return inflateInit2(z, 0); }
static inline int inflate(z_stream *z, int flush) { return (void)z, (void)flush, Z_DATA_ERROR; }
static inline int inflateReset(z_stream *z) { return (void)z, Z_DATA_ERROR; }
static inline int inflateEnd(z_stream *z) { return (void)z, Z_OK; }

/* Four bits at a time, from the table of ISO 3309's polynomial. */
static inline unsigned long crc32_z(unsigned long crc, const unsigned char *bytes, size_t count) {
    static const unsigned int table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                           0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                           0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    if (!bytes) return 0;
    unsigned int c = ~(unsigned int)crc;
    for (size_t i = 0; i < count; i++) {
        c = table[(c ^ bytes[i]) & 15] ^ c >> 4;
        c = table[(c ^ (unsigned int)bytes[i] >> 4) & 15] ^ c >> 4;
    }
    return ~c & 0xffffffffu;
}

#endif
