/* listing.c: which files a data set has: walks through folders in one fixed order, paths found whatever their
 * letter case, lists in text files. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINE_BYTES = 4096, MOST_FOLDERS = 1 << 20 };
#define LIST_BYTES ((uint64_t)256 << 20) /* of a text file of names */

static const char *extension(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot + 1 : "";
}

static bool ends_with(const char *name, const char *const *list) {
    for (; *list; list++)
        if (strcasecmp(extension(name), *list) == 0) return name[0] != '.';
    return false;
}

bool di_is_image(const char *name) {
    static const char *const known[] = {"png", "jpg", "jpeg", "ppm", "pgm", "pbm", "pnm", NULL};
    return ends_with(name, known);
}

bool di_is_foreign_image(const char *name) {
    static const char *const known[] = {"gif", "bmp", "tif", "tiff", "webp", "avif", "heic", NULL};
    return ends_with(name, known);
}

char *di_join(const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    char *path = di_new(a + b + 2);
    if (!path) return NULL;
    memcpy(path, folder, a);
    if (a == 0 || folder[a - 1] != '/') path[a++] = '/';
    memcpy(path + a, name, b);
    return path;
}

/* ---- finding ---- */

/* FOLDER/NAME as it is on disk, with any letter case; NULL if it is not there. */
static char *find_one(const char *folder, const char *name) {
    char *path = di_join(folder, name);
    if (!path || distac_path_kind(path) != 0) return path;
    free(path);
    distac_strings *names;
    if (distac_path_list(folder, &names) != DISTAC_OK) return NULL;
    path = NULL;
    for (int64_t i = 0; i < distac_strings_count(names) && !path; i++)
        if (strcasecmp(distac_strings_get(names, i), name) == 0)
            path = di_join(folder, distac_strings_get(names, i));
    distac_strings_release(names);
    return path;
}

char *di_find(const char *base, const char *path, int32_t kind) {
    char *at = di_strdup(base);
    while (at && *path) {
        size_t length = strcspn(path, "/");
        char name[256];
        if (length >= sizeof name) {
            free(at);
            return NULL;
        }
        memcpy(name, path, length);
        name[length] = 0;
        char *next = find_one(at, name);
        free(at);
        at = next;
        path += length + (path[length] == '/');
    }
    if (at && distac_path_kind(at) == kind) return at;
    free(at);
    return NULL;
}

char *di_find_first(const char *base, const char *const *paths, int32_t kind) {
    for (; *paths; paths++) {
        char *found = di_find(base, *paths, kind);
        if (found) return found;
    }
    return NULL;
}

distac_status di_subfolders(const char *folder, distac_strings **out) {
    distac_strings *names = NULL, *found = di_strings_new();
    distac_status status = found ? distac_path_list(folder, &names) : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < distac_strings_count(names); i++) {
        const char *name = distac_strings_get(names, i);
        char *path = name[0] == '.' ? NULL : di_join(folder, name);
        if (path && distac_path_kind(path) == 2)
            status = di_strings_add(found, name);
        else if (!path && name[0] != '.')
            status = DISTAC_ENOMEM;
        free(path);
    }
    distac_strings_release(names);
    if (status != DISTAC_OK) {
        distac_strings_release(found);
        return status;
    }
    *out = found;
    return DISTAC_OK;
}

/* ---- lists ---- */

distac_status di_listing_add(di_listing *l, char *path, int64_t label) {
    if (!path) return DISTAC_ENOMEM;
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * (size_t)l->capacity : 256;
        char **files = di_grow(l->files, capacity * sizeof *files);
        if (files) l->files = files;
        int64_t *labels = files ? di_grow(l->labels, capacity * sizeof *labels) : NULL;
        if (!labels) {
            free(path);
            return DISTAC_ENOMEM;
        }
        l->labels = labels;
        l->capacity = (int64_t)capacity;
    }
    l->files[l->count] = path;
    l->labels[l->count++] = label;
    return DISTAC_OK;
}

void di_listing_free(di_listing *l) {
    for (int64_t i = 0; l->files && i < l->count; i++) free(l->files[i]);
    free(l->files);
    free(l->labels);
    *l = (di_listing){0};
}

typedef struct entry {
    char *file;
    int64_t label;
} entry;

/* Folders by path, in each of them files by name: "a-b/z" comes before "a/z", as in a sorted walk. */
static int by_place(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    const char *p = strrchr(x->file, '/'), *q = strrchr(y->file, '/');
    size_t m = p ? (size_t)(p - x->file) : 0, n = q ? (size_t)(q - y->file) : 0;
    int folders = memcmp(x->file, y->file, m < n ? m : n);
    if (folders != 0) return folders;
    if (m != n) return m < n ? -1 : 1;
    return strcmp(x->file + m, y->file + n);
}

distac_status di_listing_sort(di_listing *l) {
    if (l->count < 2) return DISTAC_OK;
    entry *entries = di_new((size_t)l->count * sizeof *entries);
    if (!entries) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < l->count; i++) entries[i] = (entry){l->files[i], l->labels[i]};
    qsort(entries, (size_t)l->count, sizeof *entries, by_place);
    for (int64_t i = 0; i < l->count; i++) {
        l->files[i] = entries[i].file;
        l->labels[i] = entries[i].label;
    }
    free(entries);
    return DISTAC_OK;
}

/* The images in one folder; its sub-folders are added to folders. */
static distac_status walk_one(di_listing *l, const char *folder, int64_t label, distac_strings *folders) {
    distac_strings *names;
    DI_TRY(distac_path_list(folder, &names));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < distac_strings_count(names) && status == DISTAC_OK; i++) {
        const char *name = distac_strings_get(names, i);
        if (name[0] == '.') continue;
        char *path = di_join(folder, name);
        int32_t kind = path ? distac_path_kind(path) : 0;
        if (!path) {
            status = DISTAC_ENOMEM;
        } else if (kind == 2) {
            status = distac_strings_count(folders) < MOST_FOLDERS
                         ? di_strings_add(folders, path)
                         : di_fail(DISTAC_EFORMAT, "%s: more than %d folders", path, MOST_FOLDERS);
        } else if (di_is_foreign_image(name)) {
            status = di_fail_at(DISTAC_EUNSUPPORTED, "distac_dataset_folder",
                                "%s: only PNG, JPEG and PNM images are read", path);
        } else if (di_is_image(name)) {
            status = di_listing_add(l, path, label);
            path = NULL;
        }
        free(path);
    }
    distac_strings_release(names);
    return status;
}

/* Folders wait in a list: no recursion. A loop of links ends at the system's limit on their number. */
distac_status di_listing_walk(di_listing *l, const char *folder, int64_t label) {
    distac_strings *folders = di_strings_new();
    di_listing found = {.count = 0};
    distac_status status = folders ? di_strings_add(folders, folder) : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < distac_strings_count(folders); i++) {
        char *path = di_strdup(distac_strings_get(folders, i)); /* the list may move while it grows */
        status = path ? walk_one(&found, path, label, folders) : DISTAC_ENOMEM;
        free(path);
    }
    if (status == DISTAC_OK && distac_strings_count(folders) > 1) status = di_listing_sort(&found);
    for (int64_t i = 0; status == DISTAC_OK && i < found.count; i++) {
        status = di_listing_add(l, found.files[i], label);
        found.files[i] = NULL;
    }
    di_listing_free(&found);
    distac_strings_release(folders);
    return status;
}

/* ---- text files ---- */

bool di_stays_below(const char *path) {
    if (path[0] == '/' || path[0] == 0) return false;
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        size_t length = strcspn(at, "/");
        if (length == 2 && at[0] == '.' && at[1] == '.') return false;
    }
    return true;
}

static bool blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

distac_status di_each_line(distac_context *context, const char *path, di_line work, void *arg) {
    uint8_t *bytes;
    size_t count;
    DI_TRY(di_read_file(context, path, LIST_BYTES, &bytes, &count));
    distac_status status = DISTAC_OK;
    if (memchr(bytes, 0, count)) status = di_fail_at(DISTAC_EFORMAT, "list", "%s: not a text file", path);
    int64_t number = 1;
    for (size_t at = 0; at < count && status == DISTAC_OK; number++) {
        const uint8_t *end = memchr(bytes + at, '\n', count - at);
        size_t stop = end ? (size_t)(end - bytes) : count, from = at, to = stop;
        char line[LINE_BYTES];
        while (from < to && blank((char)bytes[from])) from++;
        while (to > from && blank((char)bytes[to - 1])) to--;
        if (to - from >= sizeof line) {
            status = di_fail_at(DISTAC_EFORMAT, "list", "%s:%lld: a line of %zu bytes", path, (long long)number,
                                to - from);
        } else if (to > from) {
            memcpy(line, bytes + from, to - from);
            line[to - from] = 0;
            status = work(arg, path, number, line);
        }
        at = stop + 1;
    }
    di_free(context, bytes, count);
    return status;
}
