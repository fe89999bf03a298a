/* set_eurosat.c: EuroSAT (RGB). Its archive has no split; published models use folders train, val and test that a
 * script drew by chance. Wanted are such folders, or three lists of file names beside the archive's folder. */
#include "sets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const folders[] = {"EuroSAT_splits", "EuroSAT", "EuroSAT_RGB", NULL};
static const char *const class_folders[] = {"AnnualCrop", "Forest",  "HerbaceousVegetation", "Highway",
                                            "Industrial", "Pasture", "PermanentCrop",        "Residential",
                                            "River",      "SeaLake"};
static const char *const names[] = {"annual crop land",
                                    "forest",
                                    "brushland or shrubland",
                                    "highway or road",
                                    "industrial buildings or commercial buildings",
                                    "pasture land",
                                    "permanent crop land",
                                    "residential buildings or homes or apartments",
                                    "river",
                                    "lake or sea"};
static const char *const parts[3][3] = {{"train", NULL}, {"val", "validation", NULL}, {"test", NULL}};

typedef struct reading {
    const char *images;
    di_listing list;
} reading;

/* AnnualCrop_12.jpg, or AnnualCrop/AnnualCrop_12.jpg */
static distac_status add_line(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    const char *base = strrchr(line, '/');
    base = base ? base + 1 : line;
    size_t length = strcspn(base, "_");
    char place[128], class_name[32];
    if (!di_stays_below(line) || length >= sizeof class_name || strlen(base) > 64)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s:%lld: no name like River_12.jpg", path,
                          (long long)number);
    snprintf(class_name, sizeof class_name, "%.*s", (int)length, base);
    int64_t label = di_set_label(path, class_name, 10, class_folders);
    if (label < 0) return DISTAC_EFORMAT;
    snprintf(place, sizeof place, "%s/%s", class_folders[label], base);
    return di_listing_add(&r->list, di_join(r->images, place), label);
}

static distac_status from_list(distac_context *context, const char *images, const char *list, int32_t size,
                               di_samples **out) {
    reading r = {.images = images};
    distac_status status = di_each_line(context, list, add_line, &r);
    if (status == DISTAC_OK) status = di_listing_sort(&r.list);
    if (status == DISTAC_OK) status = di_set_samples(context, &r.list, 10, size, out);
    di_listing_free(&r.list);
    return status;
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const archives[] = {"2750", "EuroSAT/2750", "EuroSAT_RGB", NULL};
    char *folder = di_find_first(home, parts[part], 2);
    if (folder) {
        distac_status status = di_set_walk(context, folder, 10, class_folders, size, out);
        free(folder);
        return status;
    }
    char *images = di_find_first(home, archives, 2), *list = NULL;
    for (int i = 0; i < 2 && parts[part][i] && !list; i++) {
        char name[64];
        snprintf(name, sizeof name, "eurosat-%s.txt", parts[part][i]);
        list = di_find(home, name, 1);
    }
    distac_status status = DISTAC_ENOTFOUND;
    if (images && list)
        status = from_list(context, images, list, size, out);
    else if (images)
        status =
            di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                       "%s holds EuroSAT without a split, and the archive defines none: give EuroSAT_splits/"
                       "{train,val,test}/CLASS, put lists eurosat-{train,val,test}.txt beside it, or have them "
                       "made by `distac data split %s`",
                       images, home);
    free(images);
    free(list);
    return status;
}

const di_set di_set_eurosat = {
    .name = "eurosat",
    .folders = folders,
    .layout = "EuroSAT_splits/{train,val,test}/CLASS, or EuroSAT/2750/CLASS with eurosat-{train,val,test}.txt",
    .classes = 10,
    .train = 21600,
    .validation = 2700,
    .test = 2700,
    .names = names,
    .open = open_files,
};
