/* hash.c: SHA-256 of bytes, texts and files (by libmd). */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The engine's headers do not show libmd's. */
_Static_assert(sizeof(SHA2_CTX) <= sizeof(di_sha256), "the hash state fits");
_Static_assert(_Alignof(SHA2_CTX) <= _Alignof(di_sha256), "and is aligned");

void di_sha256_init(di_sha256 *hash) { SHA256Init((SHA2_CTX *)(void *)hash->state); }

void di_sha256_update(di_sha256 *hash, const void *bytes, size_t count) {
    if (count) SHA256Update((SHA2_CTX *)(void *)hash->state, bytes, count);
}

void di_sha256_hex(di_sha256 *hash, char out[65]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[32];
    SHA256Final(bytes, (SHA2_CTX *)(void *)hash->state);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[64] = 0;
}

distac_status di_sha256_strings(di_sha256 *hash, distac_strings **out) {
    char hex[65];
    di_sha256_hex(hash, hex);
    distac_strings *list = di_strings_new();
    if (!list) return DISTAC_ENOMEM;
    distac_status status = di_strings_add(list, hex);
    if (status != DISTAC_OK) {
        distac_strings_release(list);
        return status;
    }
    *out = list;
    return DISTAC_OK;
}

distac_status distac_hash_text(const char *text, int64_t bytes, distac_strings **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(text || bytes == 0, "text is NULL");
    if (bytes < 0) return di_fail(DISTAC_EINVAL, "bytes is %lld", (long long)bytes);
    di_sha256 hash;
    di_sha256_init(&hash);
    di_sha256_update(&hash, text, (size_t)bytes);
    return di_sha256_strings(&hash, out);
}

distac_status distac_hash_file(const char *path, distac_strings **out) {
    enum { PIECE = 1 << 18 };
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(path, "path is NULL");
    /* Read, not mapped: a file cut short meanwhile is an error here, not a signal to the host. */
    int fd;
    DI_TRY(di_open_regular(path, &fd, NULL));
    uint8_t *piece = di_new(PIECE);
    di_sha256 hash;
    di_sha256_init(&hash);
    ssize_t count = -1;
    while (piece && ((count = read(fd, piece, PIECE)) > 0 || (count < 0 && errno == EINTR)))
        if (count > 0) di_sha256_update(&hash, piece, (size_t)count);
    distac_status status = !piece ? DISTAC_ENOMEM : DISTAC_OK;
    if (piece && count < 0) status = di_fail(DISTAC_EIO, "cannot read '%s': %s", path, strerror(errno));
    close(fd);
    free(piece);
    return status == DISTAC_OK ? di_sha256_strings(&hash, out) : status;
}
