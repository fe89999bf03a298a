/* read.c: reading untrusted files. Only regular files are read, sizes come from the operating system, and a
 * file that changes while it is read is refused. Memory maps are avoided here: a mapped file that someone
 * truncates kills the host process. */
#include "data.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

distac_status di_reader_open(const char *path, di_reader *out) {
    /* O_NONBLOCK: opening a FIFO without a writer must not hang; it has no effect on regular files. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return di_fail_at(errno == ENOENT ? DISTAC_ENOTFOUND : DISTAC_EIO, "open", "cannot open '%s': %s", path,
                          strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0) {
        int code = errno;
        close(fd);
        return di_fail_at(DISTAC_EIO, "open", "cannot ask about '%s': %s", path, strerror(code));
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return di_fail_at(DISTAC_EIO, "open", "'%s' is not a regular file", path);
    }
    *out = (di_reader){.fd = fd,
                       .bytes = (uint64_t)info.st_size,
                       .seconds = (int64_t)info.st_mtim.tv_sec,
                       .nanoseconds = (int64_t)info.st_mtim.tv_nsec,
                       .path = path};
    return DISTAC_OK;
}

distac_status di_reader_get(di_reader *reader, void *bytes, size_t count, size_t *got) {
    size_t done = 0;
    while (done < count) {
        ssize_t n = read(reader->fd, (uint8_t *)bytes + done, count - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return di_fail(DISTAC_EIO, "cannot read %s: %s", reader->path, strerror(errno));
        if (n == 0) break;
        done += (size_t)n;
    }
    reader->offset += done;
    *got = done;
    return DISTAC_OK;
}

distac_status di_reader_check(const di_reader *reader) {
    struct stat info;
    if (fstat(reader->fd, &info) != 0)
        return di_fail(DISTAC_EIO, "cannot look at %s: %s", reader->path, strerror(errno));
    if ((uint64_t)info.st_size != reader->bytes || (int64_t)info.st_mtim.tv_sec != reader->seconds ||
        (int64_t)info.st_mtim.tv_nsec != reader->nanoseconds)
        return di_fail(DISTAC_EIO, "%s changed while it was read", reader->path);
    return DISTAC_OK;
}

void di_reader_close(di_reader *reader) {
    close(reader->fd);
    reader->fd = -1;
}

static distac_status read_all(distac_context *context, di_reader *reader, uint64_t limit, uint8_t **bytes,
                              size_t *count) {
    if (reader->bytes > limit || reader->bytes > SIZE_MAX)
        return di_fail(DISTAC_EFORMAT, "%s has %llu bytes, more than the limit of %llu", reader->path,
                       (unsigned long long)reader->bytes, (unsigned long long)limit);
    size_t size = (size_t)reader->bytes, got = 0;
    uint8_t *memory = di_alloc(context, size);
    if (!memory) return DISTAC_ENOMEM;
    distac_status status = di_reader_get(reader, memory, size, &got);
    if (status == DISTAC_OK) status = di_reader_check(reader);
    if (status == DISTAC_OK && got != size)
        status = di_fail(DISTAC_EIO, "%s ended after %zu of %zu bytes", reader->path, got, size);
    if (status != DISTAC_OK) {
        di_free(context, memory, size);
        return status;
    }
    *bytes = memory;
    *count = size;
    return DISTAC_OK;
}

distac_status di_read_file(distac_context *context, const char *path, uint64_t limit, uint8_t **bytes,
                           size_t *count) {
    di_reader reader;
    DI_TRY(di_reader_open(path, &reader));
    distac_status status = read_all(context, &reader, limit, bytes, count);
    di_reader_close(&reader);
    return status;
}
