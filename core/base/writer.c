/* writer.c: files that appear under their final name only when whole.
 *
 * The bytes go to a temporary file in the same folder, which is made durable before it takes the final name; then
 * the folder is made durable. The temporary file is locked while its writer lives. What killed processes left is
 * removed by the next writer in the folder: it gets the lock, so nobody writes there any more. */
#define _GNU_SOURCE 1 /* realpath, fallocate, sync_file_range */
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 1 << 16,
    ATTEMPTS = 1000,
    BEHIND = 8 << 20 /* bytes after which storing begins, so that little is left to wait for at the end */
};
#define SUFFIX DI_TEMPORARY

struct di_writer {
    int fd, folder_fd;
    bool failed;
    char *target;        /* full path, for texts and for the end */
    const char *name;    /* its last part */
    char *temporary;     /* name in the folder; NULL once renamed or removed */
    int64_t written, begun; /* bytes handed to the system; of them those it was asked to store already */
    size_t used;
    uint8_t buffer[BUFFER_BYTES];
};

static distac_status refuse(const di_writer *writer, const char *what, int error) {
    return di_fail_at(di_system_status(error), "write", "cannot %s '%s': %s", what, writer->target,
                      strerror(error));
}

/* ---- leftovers ---- */

/* The process number of ".NAME.PID.N.distac-tmp", 0 if an entry has another form. *same: NAME is ours. */
static long owner_of(const char *entry, const char *name, bool *same) {
    const size_t tail = sizeof SUFFIX - 1, length = strlen(entry);
    if (entry[0] != '.' || length <= tail + 5 || strcmp(entry + length - tail, SUFFIX) != 0) return 0;
    const char *c = entry + length - tail, *end = c; /* behind N */
    while (c > entry && c[-1] >= '0' && c[-1] <= '9') c--;
    if (c == end || c == entry || *--c != '.') return 0;
    end = c; /* behind PID */
    while (c > entry && c[-1] >= '0' && c[-1] <= '9') c--;
    if (c == end || end - c > 9 || c - entry < 3 || c[-1] != '.') return 0;
    long pid = 0;
    for (const char *digit = c; digit < end; digit++) pid = pid * 10 + (*digit - '0');
    *same = strlen(name) == (size_t)(c - entry) - 2 && strncmp(entry + 1, name, (size_t)(c - entry) - 2) == 0;
    return pid;
}

/* A writer that has not come to lock its file or folder yet has written nothing, a moment ago. */
static bool may_begin(int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0) return true;
    if (S_ISDIR(info.st_mode)) return time(NULL) - info.st_mtime < 10;
    return !S_ISREG(info.st_mode) || (info.st_size == 0 && time(NULL) - info.st_mtime < 10);
}

void di_leftovers(int folder_fd, const char *name) {
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (!folder) {
        if (fd >= 0) close(fd);
        return; /* untidy, but no reason not to write */
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        bool same = false;
        long pid = owner_of(entry->d_name, name, &same);
        if (pid <= 0) continue;
        /* The process number says little: it may be used again, or be of another container. The lock decides;
         * where there are none, nothing is removed. */
        int left = openat(folder_fd, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (left < 0) continue;
        bool gone = same && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
        if (flock(left, LOCK_EX | LOCK_NB) == 0 && (gone || !may_begin(left)))
            di_bundle_clear(folder_fd, entry->d_name);
        close(left);
    }
    closedir(folder);
}

/* ---- opening ---- */

static void destroy(di_writer *writer) {
    if (writer->temporary && writer->folder_fd >= 0) unlinkat(writer->folder_fd, writer->temporary, 0);
    if (writer->fd >= 0) close(writer->fd);
    if (writer->folder_fd >= 0) close(writer->folder_fd);
    free(writer->temporary);
    free(writer->target);
    free(writer);
}

static distac_status open_folder(di_writer *writer) {
    char *slash = strrchr(writer->target, '/');
    writer->name = slash ? slash + 1 : writer->target;
    if (!*writer->name || strcmp(writer->name, ".") == 0 || strcmp(writer->name, "..") == 0)
        return refuse(writer, "write", EISDIR);
    if (!slash) {
        writer->folder_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else if (slash == writer->target) {
        writer->folder_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else {
        *slash = 0;
        writer->folder_fd = open(writer->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *slash = '/';
    }
    return writer->folder_fd < 0 ? refuse(writer, "open the folder of", errno) : DISTAC_OK;
}

static distac_status open_temporary(di_writer *writer) {
    struct stat info;
    bool exists = fstatat(writer->folder_fd, writer->name, &info, 0) == 0;
    if (exists && !S_ISREG(info.st_mode))
        return di_fail_at(DISTAC_EIO, "write", "'%s' is %s, wanted a regular file or nothing", writer->target,
                          S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        di_text name = {0};
        di_text_add(&name, ".%s.%ld.%d%s", writer->name, (long)getpid(), attempt, SUFFIX);
        if (name.failed) return di_fail_at(DISTAC_ENOMEM, "write", "no memory for a name");
        int fd = openat(writer->folder_fd, name.bytes, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            writer->fd = fd;
            writer->temporary = name.bytes;
            (void)flock(fd, LOCK_EX | LOCK_NB); /* some file systems have none; the process number remains */
            if (exists) (void)fchmod(fd, info.st_mode & 0777);
            return DISTAC_OK;
        }
        int error = errno;
        di_text_free(&name);
        if (error != EEXIST && error != EINTR) return refuse(writer, "write", error);
    }
    return refuse(writer, "write", EEXIST);
}

distac_status di_writer_open(const char *path, di_writer **out) {
    *out = NULL;
    di_writer *writer = di_new(sizeof *writer);
    if (!writer) return DISTAC_ENOMEM;
    writer->fd = writer->folder_fd = -1;
    /* A link stays, and what it points to is replaced, as any program that writes in place would do. */
    struct stat info;
    writer->target = lstat(path, &info) == 0 && S_ISLNK(info.st_mode) ? realpath(path, NULL) : NULL;
    if (!writer->target) writer->target = di_strdup(path);
    distac_status status = writer->target ? open_folder(writer) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        di_leftovers(writer->folder_fd, writer->name);
        status = open_temporary(writer);
    }
    if (status != DISTAC_OK) {
        destroy(writer);
        return status;
    }
    *out = writer;
    return DISTAC_OK;
}

/* ---- writing ---- */

static distac_status put_through(di_writer *writer, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        size_t piece = count < ((size_t)1 << 30) ? count : (size_t)1 << 30;
        ssize_t done = write(writer->fd, bytes, piece);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            writer->failed = true;
            return refuse(writer, "write", done < 0 ? errno : EIO);
        }
        bytes += done;
        count -= (size_t)done;
        writer->written += done;
    }
#ifdef SYNC_FILE_RANGE_WRITE
    if (writer->written - writer->begun >= BEHIND) { /* begins it only; what counts is the fsync at the end */
        (void)sync_file_range(writer->fd, writer->begun, writer->written - writer->begun, SYNC_FILE_RANGE_WRITE);
        writer->begun = writer->written;
    }
#endif
    return DISTAC_OK;
}

static distac_status flush(di_writer *writer) {
    size_t used = writer->used;
    writer->used = 0;
    return put_through(writer, writer->buffer, used);
}

distac_status di_writer_reserve(di_writer *writer, int64_t bytes) {
#ifdef __linux__
    if (bytes <= 0 || fallocate(writer->fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return DISTAC_OK;
    if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return DISTAC_OK; /* not every system can */
    writer->failed = true;
    return di_fail_at(DISTAC_EIO, "write", "no room for the %lld bytes of '%s': %s", (long long)bytes,
                      writer->target, strerror(errno));
#else
    (void)writer;
    (void)bytes;
    return DISTAC_OK;
#endif
}

distac_status di_writer_put(di_writer *writer, const void *bytes, size_t count) {
    if (writer->failed) return refuse(writer, "write on after a failure", EIO);
    if (count == 0) return DISTAC_OK;
    if (count > BUFFER_BYTES - writer->used) DI_TRY(flush(writer));
    if (count >= BUFFER_BYTES) return put_through(writer, bytes, count);
    memcpy(writer->buffer + writer->used, bytes, count);
    writer->used += count;
    return DISTAC_OK;
}

distac_status di_writer_patch(di_writer *writer, int64_t offset, const void *bytes, size_t count) {
    if (writer->failed) return refuse(writer, "write on after a failure", EIO);
    DI_TRY(flush(writer));
    for (const uint8_t *from = bytes; count > 0;) {
        ssize_t done = pwrite(writer->fd, from, count, offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            writer->failed = true;
            return refuse(writer, "write", done < 0 ? errno : EIO);
        }
        from += done;
        offset += done;
        count -= (size_t)done;
    }
    return DISTAC_OK;
}

static distac_status finish(di_writer *writer) {
    if (writer->failed) return refuse(writer, "finish after a failure", EIO);
    DI_TRY(flush(writer));
    /* Never tried again after a failure: the system has dropped the pages and would report success. */
    if (fsync(writer->fd) != 0) return refuse(writer, "make durable", errno);
    /* The lock stays until the file has its final name, when no one takes it for a leftover any more. */
    if (renameat(writer->folder_fd, writer->temporary, writer->folder_fd, writer->name) != 0)
        return refuse(writer, "rename to", errno);
    free(writer->temporary);
    writer->temporary = NULL;
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0 && errno != EINTR) return refuse(writer, "close", errno);
    if (fsync(writer->folder_fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        return refuse(writer, "make durable the folder of", errno);
    return DISTAC_OK;
}

distac_status di_writer_commit(di_writer *writer) {
    distac_status status = finish(writer);
    destroy(writer);
    return status;
}

void di_writer_abort(di_writer *writer) {
    if (writer) destroy(writer);
}

distac_status distac_path_write(const char *path, const char *text, int64_t bytes) {
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(text || bytes == 0, "text is NULL");
    if (bytes < 0) return di_fail(DISTAC_EINVAL, "bytes is %lld", (long long)bytes);
    di_writer *writer;
    DI_TRY(di_writer_open(path, &writer));
    distac_status status = di_writer_put(writer, text, (size_t)bytes);
    if (status == DISTAC_OK) return di_writer_commit(writer);
    di_writer_abort(writer);
    return status;
}
