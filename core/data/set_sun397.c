/* set_sun397.c: SUN397. Prepared: {train,val}/a_abbey (val: the test images); the archive: a/abbey/sun_x.jpg with
 * the lists of its first partition. Classes are the folders of both parts, sorted, so that labels do not depend on
 * the part. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>

static const char *const folders[] = {"sun397", NULL};

/* a/apartment_building/outdoor -> a_apartment_building_outdoor, in place */
static void flatten(char *name) {
    for (; *name; name++)
        if (*name == '/') *name = '_';
}

typedef struct reading {
    const char *images;
    distac_strings *classes; /* sorted, each once; while they are gathered: not sorted */
    const char **known;
    di_listing list;
} reading;

static bool is_there(const distac_strings *list, const char *name) {
    int64_t n = distac_strings_count(list);
    for (int64_t i = n - 1; i >= 0; i--) /* lists are in order: the last one is the likely one */
        if (strcmp(distac_strings_get(list, i), name) == 0) return true;
    return false;
}

/* Checks /a/abbey/sun_x.jpg and gives what follows the first slash; *base is its last slash. */
static distac_status split_line(const char *path, int64_t number, char *line, char **place, char **base) {
    *place = line + (line[0] == '/');
    *base = strrchr(*place, '/');
    if (!di_stays_below(*place) || !*base || *base - *place < 3)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s:%lld: no line like /a/abbey/sun_x.jpg", path,
                          (long long)number);
    return DISTAC_OK;
}

static distac_status add_class(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    char *place, *base;
    DI_TRY(split_line(path, number, line, &place, &base));
    *base = 0;
    flatten(place);
    if (distac_strings_count(r->classes) >= 4096)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s:%lld: more than 4096 classes", path,
                          (long long)number);
    return is_there(r->classes, place) ? DISTAC_OK : di_strings_add(r->classes, place);
}

static distac_status add_file(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    char *place, *base;
    DI_TRY(split_line(path, number, line, &place, &base));
    char *file = di_join(r->images, place);
    if (!file) return DISTAC_ENOMEM;
    *base = 0;
    flatten(place);
    int64_t label = di_set_label(path, place, distac_strings_count(r->classes), r->known);
    if (label < 0) {
        free(file);
        return DISTAC_EFORMAT;
    }
    return di_listing_add(&r->list, file, label);
}

/* Sorts the classes gathered and makes an array of them. */
static distac_status know(reading *r) {
    int64_t n = distac_strings_count(r->classes);
    di_strings_sort(r->classes);
    r->known = di_new((size_t)(n > 0 ? n : 1) * sizeof *r->known);
    if (!r->known) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < n; i++) r->known[i] = distac_strings_get(r->classes, i);
    return DISTAC_OK;
}

/* a_apartment_building_outdoor -> apartment building outdoor */
static distac_status name_classes(const reading *r, di_samples *samples) {
    for (int64_t i = 0; i < samples->classes; i++) {
        char *name = di_strdup(strlen(r->known[i]) > 2 ? r->known[i] + 2 : r->known[i]);
        if (!name) return DISTAC_ENOMEM;
        for (char *at = name; *at; at++)
            if (*at == '_') *at = ' ';
        distac_status status = di_samples_name(samples, i, name);
        free(name);
        DI_TRY(status);
    }
    return DISTAC_OK;
}

static distac_status from_folders(distac_context *context, const char *const part[2], int wanted, int32_t size,
                                  reading *r, di_samples **out) {
    for (int p = 0; p < 2; p++) {
        distac_strings *found;
        if (!part[p]) continue;
        DI_TRY(di_subfolders(part[p], &found));
        distac_status status = DISTAC_OK;
        for (int64_t i = 0; i < distac_strings_count(found) && status == DISTAC_OK; i++) {
            const char *name = distac_strings_get(found, i);
            if (name[0] < 'a' || name[0] > 'z' || name[1] != '_') /* a root of other sets has train/, too */
                status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                                    "%s: '%s' is no class folder of SUN397: those are named like a_abbey", part[p],
                                    name);
            else if (!is_there(r->classes, name))
                status = di_strings_add(r->classes, name);
        }
        distac_strings_release(found);
        DI_TRY(status);
    }
    DI_TRY(know(r));
    return di_set_walk(context, part[wanted], distac_strings_count(r->classes), r->known, size, out);
}

static distac_status from_lists(distac_context *context, const char *const list[2], int wanted, int32_t size,
                                reading *r, di_samples **out) {
    for (int p = 0; p < 2; p++)
        if (list[p]) DI_TRY(di_each_line(context, list[p], add_class, r));
    DI_TRY(know(r));
    DI_TRY(di_each_line(context, list[wanted], add_file, r));
    DI_TRY(di_listing_sort(&r->list)); /* by class as if the class folders were flat: a_abbey, … */
    return di_set_samples(context, &r->list, distac_strings_count(r->classes), size, out);
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const paths[5][6] = {{"train", NULL},
                                            {"test", "val", NULL},
                                            {"Training_01.txt", "Partitions/Training_01.txt",
                                             "SUN397/Training_01.txt", "SUN397/Partitions/Training_01.txt", NULL},
                                            {"Testing_01.txt", "Partitions/Testing_01.txt",
                                             "SUN397/Testing_01.txt", "SUN397/Partitions/Testing_01.txt", NULL},
                                            {"SUN397/a", "a", NULL}};
    int wanted = part == DI_PART_TEST;
    char *found[5];
    for (int i = 0; i < 5; i++) found[i] = di_find_first(home, paths[i], i == 2 || i == 3 ? 1 : 2);
    if (found[4]) *strrchr(found[4], '/') = 0; /* where a/, b/, … are */
    reading r = {.images = found[4], .classes = di_strings_new()};
    distac_status status = r.classes ? DISTAC_ENOTFOUND : DISTAC_ENOMEM;
    if (r.classes && found[wanted])
        status = from_folders(context, (const char *const[2]){found[0], found[1]}, wanted, size, &r, out);
    else if (r.classes && found[4] && found[2 + wanted])
        status = from_lists(context, (const char *const[2]){found[2], found[3]}, wanted, size, &r, out);
    if (status == DISTAC_OK) status = name_classes(&r, *out);
    di_listing_free(&r.list);
    free(r.known);
    distac_strings_release(r.classes);
    for (int i = 0; i < 5; i++) free(found[i]);
    return status;
}

const di_set di_set_sun397 = {
    .name = "sun397",
    .folders = folders,
    .layout =
        "sun397/{train,val}/a_abbey (val: the test images), or SUN397/a/abbey with {Training,Testing}_01.txt",
    .classes = 397,
    .train = 19850,
    .test = 19850,
    .open = open_files,
};
