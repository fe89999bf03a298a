/* files.c: paths and folders, and regular files mapped for reading. */
#define _GNU_SOURCE 1 /* realpath with a NULL buffer on every libc setting */
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* rename */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- opening and mapping ---- */

distac_status di_open_regular(const char *path, int *out, int64_t *bytes) {
    struct stat info;
    *out = -1;
    /* Without O_NONBLOCK, opening a FIFO would wait for a writer. The kind is asked of what was opened, so a
     * file exchanged in between does not matter. */
    int fd;
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return di_fail_at(di_system_status(errno), "open", "cannot open '%s': %s", path, strerror(errno));
    if (fstat(fd, &info) != 0) {
        int error = errno;
        close(fd);
        return di_fail_at(di_system_status(error), "open", "cannot ask about '%s': %s", path, strerror(error));
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return di_fail_at(DISTAC_EIO, "open", "'%s' is %s, wanted a regular file", path,
                          S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    }
    if (bytes) *bytes = (int64_t)info.st_size;
    *out = fd;
    return DISTAC_OK;
}

distac_status di_map_open(const char *path, di_map *out) {
    int fd;
    int64_t bytes;
    *out = (di_map){0};
    DI_TRY(di_open_regular(path, &fd, &bytes));
    void *data = NULL;
    int error = 0;
    if ((uint64_t)bytes > SIZE_MAX) {
        error = EFBIG;
    } else if (bytes > 0) {
        data = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) error = errno;
    }
    close(fd); /* the mapping holds the file */
    if (error)
        return di_fail_at(di_system_status(error), "open", "cannot map '%s': %s", path,
                          strerror(error));
    *out = (di_map){data, (size_t)bytes};
    return DISTAC_OK;
}

void di_map_close(di_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (di_map){0};
}

/* ---- paths ---- */

int32_t distac_path_kind(const char *path) {
    struct stat info;
    if (!path || stat(path, &info) != 0) return 0;
    return S_ISREG(info.st_mode) ? 1 : S_ISDIR(info.st_mode) ? 2 : 3;
}

int64_t distac_path_bytes(const char *path) {
    struct stat info;
    if (!path || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return -1;
    return (int64_t)info.st_size;
}

distac_status distac_path_make(const char *path) {
    DI_REQUIRE(path, "path is NULL");
    char *part = di_strdup(path);
    if (!part) return DISTAC_ENOMEM;
    int error = *path ? 0 : ENOENT;
    for (char *c = part; !error && *part; c++) {
        bool last = *c == 0;
        if ((*c != '/' && !last) || c == part) {
            if (last) break;
            continue;
        }
        *c = 0;
        if (mkdir(part, 0777) != 0) {
            error = errno;
            if (distac_path_kind(part) == 2) error = 0;
        }
        if (last) break;
        *c = '/';
    }
    distac_status status = DISTAC_OK;
    if (error) status = di_fail(di_system_status(error), "cannot make folder '%s': %s", part, strerror(error));
    free(part);
    return status;
}

distac_status distac_path_list(const char *path, distac_strings **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(path, "path is NULL");
    DIR *folder = opendir(path);
    if (!folder) return di_fail(di_system_status(errno), "cannot list '%s': %s", path, strerror(errno));
    distac_strings *names = di_strings_new();
    distac_status status = names ? DISTAC_OK : DISTAC_ENOMEM;
    while (status == DISTAC_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) status = di_fail(di_system_status(errno), "cannot list '%s': %s", path, strerror(errno));
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = di_strings_add(names, entry->d_name);
    }
    closedir(folder);
    if (status != DISTAC_OK) {
        distac_strings_release(names);
        return status;
    }
    di_strings_sort(names);
    *out = names;
    return DISTAC_OK;
}

distac_status distac_path_remove(const char *path) {
    struct stat info;
    DI_REQUIRE(path, "path is NULL");
    if (lstat(path, &info) == 0) { /* a link goes, not what it points to */
        if ((S_ISDIR(info.st_mode) ? rmdir(path) : unlink(path)) == 0) return DISTAC_OK;
    }
    if (errno == ENOENT) return DISTAC_OK;
    return di_fail(DISTAC_EIO, "cannot remove '%s': %s", path, strerror(errno));
}

/* Two folders change places. Some file systems cannot: then the old one steps aside for a moment. */
static int exchange(const char *from, const char *to) {
#if defined(__linux__) && defined(RENAME_EXCHANGE)
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
#endif
    di_text aside = {0};
    di_text_add(&aside, "%s.old", from);
    if (aside.failed) return ENOMEM;
    int error = rename(to, aside.bytes) != 0 ? errno : 0;
    if (!error && rename(from, to) != 0) {
        error = errno;
        (void)rename(aside.bytes, to);
    } else if (!error && rename(aside.bytes, from) != 0) {
        error = errno;
    }
    di_text_free(&aside);
    return error;
}

distac_status distac_path_rename(const char *from, const char *to) {
    DI_REQUIRE(from && to, "from and to are needed");
    char *parent = di_strdup(to);
    if (!parent) return DISTAC_ENOMEM;
    bool folders = distac_path_kind(from) == 2 && distac_path_kind(to) == 2;
    int error = folders ? exchange(from, to) : rename(from, to) != 0 ? errno : 0;
    if (error) {
        free(parent);
        return di_fail(di_system_status(error), "cannot rename '%s' to '%s': %s", from, to, strerror(error));
    }
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent ? 1 : 0] = 0;
    int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (fd < 0) return DISTAC_OK; /* renamed; that it is durable cannot be asked for here */
    bool durable = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
    close(fd);
    return durable ? DISTAC_OK : di_fail(DISTAC_EIO, "cannot make the renaming to '%s' durable", to);
}

/* The absolute path of something that need not exist: the folder before it does. */
static char *absolute(const char *path) {
    char *found = realpath(path, NULL);
    if (found || errno != ENOENT) return found;
    const char *slash = strrchr(path, '/');
    char *parent = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    char *folder = parent ? realpath(parent, NULL) : NULL;
    free(parent);
    if (!folder) return NULL;
    di_text text = {0};
    di_text_add(&text, "%s%s%s", folder, strcmp(folder, "/") == 0 ? "" : "/", slash ? slash + 1 : path);
    free(folder);
    if (!text.failed) return text.bytes;
    di_text_free(&text);
    errno = ENOMEM;
    return NULL;
}

distac_status distac_path_absolute(const char *path, distac_strings **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(path, "path is NULL");
    char *full = absolute(path);
    if (!full) return di_fail(di_system_status(errno), "cannot find '%s': %s", path, strerror(errno));
    distac_strings *list = di_strings_new();
    distac_status status = list ? di_strings_add(list, full) : DISTAC_ENOMEM;
    free(full);
    if (status != DISTAC_OK) {
        distac_strings_release(list);
        return status;
    }
    *out = list;
    return DISTAC_OK;
}

double distac_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- compressed files ---- */

distac_status di_fail_inflate(const char *function, const char *path, int code, const char *message) {
    enum { OUT_OF_MEMORY = -4 }; /* Z_MEM_ERROR */
    if (code == OUT_OF_MEMORY) return di_fail_at(DISTAC_ENOMEM, function, "%s: no memory to inflate", path);
    return di_fail_at(DISTAC_EUNSUPPORTED, function, "%s: what is compressed cannot be read: %s", path,
                      message ? message : "this is another version of zlib");
}
