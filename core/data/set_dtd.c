/* set_dtd.c: Describable Textures. Prepared: train/CLASS and val/CLASS (the test images); the archive:
 * images/CLASS with lists labels/{train,val,test}1.txt, of which train and val are the training part and test the
 * test part. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 47 };

static const char *const folders[] = {"dtd/dtd", "dtd", NULL};
static const char *const class_folders[CLASSES] = {
    "banded",    "blotchy",      "braided",      "bubbly",     "bumpy",       "chequered",  "cobwebbed",
    "cracked",   "crosshatched", "crystalline",  "dotted",     "fibrous",     "flecked",    "freckled",
    "frilly",    "gauzy",        "grid",         "grooved",    "honeycombed", "interlaced", "knitted",
    "lacelike",  "lined",        "marbled",      "matted",     "meshed",      "paisley",    "perforated",
    "pitted",    "pleated",      "polka-dotted", "porous",     "potholed",    "scaly",      "smeared",
    "spiralled", "sprinkled",    "stained",      "stratified", "striped",     "studded",    "swirly",
    "veined",    "waffled",      "woven",        "wrinkled",   "zigzagged"};

typedef struct reading {
    const char *images;
    di_listing list;
} reading;

/* banded/banded_0002.jpg */
static distac_status add_line(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    char *slash = strchr(line, '/');
    if (!slash || slash != strrchr(line, '/') || !di_stays_below(line))
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s:%lld: no line like banded/banded_0002.jpg",
                          path, (long long)number);
    *slash = 0;
    int64_t label = di_set_label(path, line, CLASSES, class_folders);
    *slash = '/';
    if (label < 0) return DISTAC_EFORMAT;
    return di_listing_add(&r->list, di_join(r->images, line), label);
}

static distac_status from_lists(distac_context *context, const char *home, const char *images, int part,
                                int32_t size, di_samples **out) {
    static const char *const lists[3][2] = {
        {"labels/train1.txt", "labels/val1.txt"}, {NULL, NULL}, {"labels/test1.txt", NULL}};
    reading r = {.images = images};
    distac_status status = DISTAC_OK;
    for (int i = 0; i < 2 && lists[part][i] && status == DISTAC_OK; i++) {
        char *list = di_find(home, lists[part][i], 1);
        if (list)
            status = di_each_line(context, list, add_line, &r);
        else
            status = di_fail_at(DISTAC_ENOTFOUND, "distac_dataset_task", "%s/%s is missing", home, lists[part][i]);
        free(list);
    }
    if (status == DISTAC_OK) status = di_listing_sort(&r.list);
    if (status == DISTAC_OK) status = di_set_samples(context, &r.list, CLASSES, size, out);
    di_listing_free(&r.list);
    return status;
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const tests[] = {"test", "val", NULL};
    char *folder = part == DI_PART_TRAIN ? di_find(home, "train", 2) : di_find_first(home, tests, 2);
    char *images = folder ? NULL : di_find(home, "images", 2),
         *labels = images ? di_find(home, "labels", 2) : NULL;
    distac_status status = DISTAC_ENOTFOUND;
    if (folder)
        status = di_set_walk(context, folder, CLASSES, class_folders, size, out);
    else if (images && labels)
        status = from_lists(context, home, images, part, size, out);
    free(folder);
    free(images);
    free(labels);
    return status;
}

const di_set di_set_dtd = {
    .name = "dtd",
    .folders = folders,
    .layout =
        "dtd/{train,val}/CLASS (val: the test images), or dtd/images/CLASS with dtd/labels/{train,val,test}1.txt",
    .classes = CLASSES,
    .train = 3760,
    .test = 1880,
    .names = class_folders, /* the heads name them as the folders, hyphens included */
    .open = open_files,
};
