/* bundle.c: folders of files that appear under their final name only when whole: a model in several files.
 *
 * The files go to a folder beside the final one, which is locked while its writer lives. When all of them are
 * durable the two change places, and the older one is removed. A killed process leaves its folder, which the next
 * writer in the place removes (writer.c). */
#define _GNU_SOURCE 1 /* AT_REMOVEDIR, strndup */
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ATTEMPTS = 1000 };

struct di_bundle {
    int fd, parent_fd; /* fd holds the lock */
    char *target, *temporary;
    const char *name; /* of temporary, in its parent */
    bool kept;        /* temporary is no more ours to remove */
};

static bool ends(const char *text, const char *ending) {
    size_t length = strlen(text), n = strlen(ending);
    return length >= n && strcmp(text + length - n, ending) == 0;
}

/* Whether a model's folder has files of such a name. */
static bool is_model_file(const char *name) {
    return strcmp(name, "config.json") == 0 || ends(name, ".safetensors") || ends(name, ".safetensors.index.json");
}

/* ---- removing ---- */

void di_bundle_clear(int folder_fd, const char *name) {
    int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        (void)unlinkat(folder_fd, name, 0);
        return;
    }
    DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(fd, entry->d_name, 0); /* a folder stays, and then so does this one */
    closedir(folder);
    (void)unlinkat(folder_fd, name, AT_REMOVEDIR);
}

/* ---- opening ---- */

static void destroy(di_bundle *folder) {
    if (folder->temporary && !folder->kept && folder->parent_fd >= 0)
        di_bundle_clear(folder->parent_fd, folder->name);
    if (folder->fd >= 0) close(folder->fd);
    if (folder->parent_fd >= 0) close(folder->parent_fd);
    free(folder->target);
    free(folder->temporary);
    free(folder);
}

static distac_status refuse(const di_bundle *folder, const char *what, int error) {
    return di_fail_at(DISTAC_EIO, "write", "cannot %s '%s': %s", what, folder->target, strerror(error));
}

/* What is there already must be a model's folder, or nothing. */
static distac_status check_target(const di_bundle *folder) {
    struct stat info;
    if (stat(folder->target, &info) != 0) return DISTAC_OK;
    if (!S_ISDIR(info.st_mode))
        return di_fail_at(DISTAC_EIO, "write", "'%s' is no folder; wanted one, or nothing", folder->target);
    distac_strings *names;
    DI_TRY(distac_path_list(folder->target, &names));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; status == DISTAC_OK && i < distac_strings_count(names); i++) {
        di_text path = {0};
        const char *name = distac_strings_get(names, i);
        di_text_add(&path, "%s/%s", folder->target, name);
        if (path.failed)
            status = di_fail(DISTAC_ENOMEM, "out of memory");
        else if (!is_model_file(name) || distac_path_kind(path.bytes) != 1)
            status = di_fail_at(DISTAC_EIO, "write",
                                "'%s' holds '%s', which is no part of a model: it is not replaced",
                                folder->target, name);
        di_text_free(&path);
    }
    distac_strings_release(names);
    return status;
}

static distac_status make_temporary(di_bundle *folder) {
    const char *slash = strrchr(folder->target, '/');
    size_t parent = slash ? (size_t)(slash - folder->target) + 1 : 0; /* with the slash */
    const char *name = folder->target + parent;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return refuse(folder, "replace", EINVAL);
    char *place = parent ? strndup(folder->target, parent) : strdup(".");
    if (!place) return di_fail(DISTAC_ENOMEM, "out of memory");
    folder->parent_fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    free(place);
    if (folder->parent_fd < 0) return refuse(folder, "open the folder of", error);
    di_leftovers(folder->parent_fd, name);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        di_text path = {0};
        di_text_add(&path, "%.*s.%s.%ld.%d%s", (int)parent, folder->target, name, (long)getpid(), attempt,
                    DI_TEMPORARY);
        if (path.failed) return di_fail(DISTAC_ENOMEM, "out of memory");
        if (mkdirat(folder->parent_fd, path.bytes + parent, 0777) == 0) {
            folder->temporary = path.bytes;
            folder->name = path.bytes + parent;
            folder->fd = openat(folder->parent_fd, folder->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (folder->fd < 0) return refuse(folder, "write", errno);
            /* Some file systems have none; the process number remains. */
            (void)flock(folder->fd, LOCK_EX | LOCK_NB);
            return DISTAC_OK;
        }
        error = errno;
        di_text_free(&path);
        if (error != EEXIST && error != EINTR) return refuse(folder, "write", error);
    }
    return refuse(folder, "write", EEXIST);
}

distac_status di_bundle_open(const char *path, di_bundle **out) {
    *out = NULL;
    di_bundle *folder = di_new(sizeof *folder);
    if (!folder) return DISTAC_ENOMEM;
    folder->fd = folder->parent_fd = -1;
    /* A link to a folder stays, and what it points to is replaced. */
    struct stat info;
    folder->target = lstat(path, &info) == 0 && S_ISLNK(info.st_mode) ? realpath(path, NULL) : NULL;
    if (!folder->target) folder->target = di_strdup(path);
    for (size_t n = folder->target ? strlen(folder->target) : 0; n > 1 && folder->target[n - 1] == '/'; n--)
        folder->target[n - 1] = 0;
    distac_status status = folder->target ? check_target(folder) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = make_temporary(folder);
    if (status != DISTAC_OK) {
        destroy(folder);
        return status;
    }
    *out = folder;
    return DISTAC_OK;
}

const char *di_bundle_path(const di_bundle *folder) { return folder->temporary; }

/* ---- the end ---- */

static distac_status finish(di_bundle *folder) {
    if (fsync(folder->fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        return refuse(folder, "make durable", errno);
    bool replaces = distac_path_kind(folder->target) == 2;
    if (replaces) DI_TRY(check_target(folder)); /* it may have changed meanwhile */
    DI_TRY(distac_path_rename(folder->temporary, folder->target));
    folder->kept = !replaces; /* the older one has our name now, and is removed under it */
    return DISTAC_OK;
}

distac_status di_bundle_commit(di_bundle *folder) {
    distac_status status = finish(folder);
    destroy(folder);
    return status;
}

void di_bundle_abort(di_bundle *folder) {
    if (folder) destroy(folder);
}
