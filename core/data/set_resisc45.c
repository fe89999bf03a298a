/* set_resisc45.c: NWPU-RESISC45, class folders and lists of the files of each part. The published validation list
 * is not used: the validation part is split off the training part like elsewhere. */
#include "sets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 45 };

static const char *const folders[] = {"resisc45", "RESISC45", "NWPU-RESISC45", NULL};
static const char *const class_folders[CLASSES] = {"airplane",
                                                   "airport",
                                                   "baseball_diamond",
                                                   "basketball_court",
                                                   "beach",
                                                   "bridge",
                                                   "chaparral",
                                                   "church",
                                                   "circular_farmland",
                                                   "cloud",
                                                   "commercial_area",
                                                   "dense_residential",
                                                   "desert",
                                                   "forest",
                                                   "freeway",
                                                   "golf_course",
                                                   "ground_track_field",
                                                   "harbor",
                                                   "industrial_area",
                                                   "intersection",
                                                   "island",
                                                   "lake",
                                                   "meadow",
                                                   "medium_residential",
                                                   "mobile_home_park",
                                                   "mountain",
                                                   "overpass",
                                                   "palace",
                                                   "parking_lot",
                                                   "railway",
                                                   "railway_station",
                                                   "rectangular_farmland",
                                                   "river",
                                                   "roundabout",
                                                   "runway",
                                                   "sea_ice",
                                                   "ship",
                                                   "snowberg",
                                                   "sparse_residential",
                                                   "stadium",
                                                   "storage_tank",
                                                   "tennis_court",
                                                   "terrace",
                                                   "thermal_power_station",
                                                   "wetland"};
static const char *const names[CLASSES] = {"airplane",
                                           "airport",
                                           "baseball diamond",
                                           "basketball court",
                                           "beach",
                                           "bridge",
                                           "chaparral",
                                           "church",
                                           "circular farmland",
                                           "cloud",
                                           "commercial area",
                                           "dense residential",
                                           "desert",
                                           "forest",
                                           "freeway",
                                           "golf course",
                                           "ground track field",
                                           "harbor",
                                           "industrial area",
                                           "intersection",
                                           "island",
                                           "lake",
                                           "meadow",
                                           "medium residential",
                                           "mobile home park",
                                           "mountain",
                                           "overpass",
                                           "palace",
                                           "parking lot",
                                           "railway",
                                           "railway station",
                                           "rectangular farmland",
                                           "river",
                                           "roundabout",
                                           "runway",
                                           "sea ice",
                                           "ship",
                                           "snowberg",
                                           "sparse residential",
                                           "stadium",
                                           "storage tank",
                                           "tennis court",
                                           "terrace",
                                           "thermal power station",
                                           "wetland"};

typedef struct reading {
    const char *images;
    di_listing list;
} reading;

/* airplane_001.jpg, or airplane/airplane_001.jpg: the class is what stands before the last '_'. */
static distac_status add_line(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    const char *base = strrchr(line, '/');
    base = base ? base + 1 : line;
    const char *end = strrchr(base, '_');
    char place[160], class_name[64];
    if (!di_stays_below(line) || !end || (size_t)(end - base) >= sizeof class_name || strlen(base) > 80)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s:%lld: no name like airplane_001.jpg", path,
                          (long long)number);
    snprintf(class_name, sizeof class_name, "%.*s", (int)(end - base), base);
    int64_t label = di_set_label(path, class_name, CLASSES, class_folders);
    if (label < 0) return DISTAC_EFORMAT;
    snprintf(place, sizeof place, "%s/%s", class_folders[label], base);
    return di_listing_add(&r->list, di_join(r->images, place), label);
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const plain[2][3] = {{"train", NULL}, {"test", "val", NULL}};
    char *images = di_find(home, "NWPU-RESISC45", 2);
    char *list = di_find(home, part == DI_PART_TEST ? "resisc45-test.txt" : "resisc45-train.txt", 1);
    if (!images && list) images = di_strdup(home);
    char *folder = images ? NULL : di_find_first(home, plain[part == DI_PART_TEST], 2);
    distac_status status = DISTAC_ENOTFOUND;
    if (images && list) {
        reading r = {.images = images};
        status = di_each_line(context, list, add_line, &r);
        if (status == DISTAC_OK) status = di_listing_sort(&r.list);
        if (status == DISTAC_OK) status = di_set_samples(context, &r.list, CLASSES, size, out);
        di_listing_free(&r.list);
    } else if (folder) {
        status = di_set_walk(context, folder, CLASSES, class_folders, size, out);
    }
    free(images);
    free(list);
    free(folder);
    return status;
}

const di_set di_set_resisc45 = {
    .name = "resisc45",
    .folders = folders,
    .layout = "resisc45/NWPU-RESISC45/CLASS/CLASS_001.jpg with resisc45/resisc45-{train,test}.txt, or "
              "resisc45/{train,test}/CLASS",
    .classes = CLASSES,
    .train = 18900,
    .test = 6300,
    .names = names,
    .open = open_files,
};
