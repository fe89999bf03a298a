/* set_gtsrb.c: German traffic signs, PPM images in 43 class folders; the test images lie in one folder, their
 * classes in a table with ';' between columns. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CLASSES = 43 };

static const char *const folders[] = {"gtsrb", NULL};
static const char *const class_folders[CLASSES] = {
    "00000", "00001", "00002", "00003", "00004", "00005", "00006", "00007", "00008", "00009", "00010",
    "00011", "00012", "00013", "00014", "00015", "00016", "00017", "00018", "00019", "00020", "00021",
    "00022", "00023", "00024", "00025", "00026", "00027", "00028", "00029", "00030", "00031", "00032",
    "00033", "00034", "00035", "00036", "00037", "00038", "00039", "00040", "00041", "00042"};
/* spelled as CLIP's list has them */
static const char *const names[CLASSES] = {
    "red and white circle 20 kph speed limit",
    "red and white circle 30 kph speed limit",
    "red and white circle 50 kph speed limit",
    "red and white circle 60 kph speed limit",
    "red and white circle 70 kph speed limit",
    "red and white circle 80 kph speed limit",
    "end / de-restriction of 80 kph speed limit",
    "red and white circle 100 kph speed limit",
    "red and white circle 120 kph speed limit",
    "red and white circle red car and black car no passing",
    "red and white circle red truck and black car no passing",
    "red and white triangle road intersection warning",
    "white and yellow diamond priority road",
    "red and white upside down triangle yield right-of-way",
    "stop",
    "empty red and white circle",
    "red and white circle no truck entry",
    "red circle with white horizonal stripe no entry",
    "red and white triangle with exclamation mark warning",
    "red and white triangle with black left curve approaching warning",
    "red and white triangle with black right curve approaching warning",
    "red and white triangle with black double curve approaching warning",
    "red and white triangle rough / bumpy road warning",
    "red and white triangle car skidding / slipping warning",
    "red and white triangle with merging / narrow lanes warning",
    "red and white triangle with person digging / construction / road work warning",
    "red and white triangle with traffic light approaching warning",
    "red and white triangle with person walking warning",
    "red and white triangle with child and person walking warning",
    "red and white triangle with bicyle warning",
    "red and white triangle with snowflake / ice warning",
    "red and white triangle with deer warning",
    "white circle with gray strike bar no speed limit",
    "blue circle with white right turn arrow mandatory",
    "blue circle with white left turn arrow mandatory",
    "blue circle with white forward arrow mandatory",
    "blue circle with white forward or right turn arrow mandatory",
    "blue circle with white forward or left turn arrow mandatory",
    "blue circle with white keep right arrow mandatory",
    "blue circle with white keep left arrow mandatory",
    "blue circle with white arrows indicating a traffic circle",
    "white circle with gray strike bar indicating no passing for cars has ended",
    "white circle with gray strike bar indicating no passing for trucks has ended"};

typedef struct reading {
    const char *images;
    int file, label; /* columns, -1: the heading was not read yet */
    di_listing list;
} reading;

/* The next column of a line, cut out of it; NULL after the last one. */
static char *column(char **line) {
    char *start = *line;
    if (!start) return NULL;
    char *end = strpbrk(start, ";,");
    if (end) *end = 0;
    *line = end ? end + 1 : NULL;
    return start;
}

static distac_status read_heading(reading *r, const char *path, char *line) {
    r->file = r->label = -1;
    char *name;
    for (int i = 0; (name = column(&line)) != NULL; i++) {
        if (strcasecmp(name, "Filename") == 0) r->file = i;
        if (strcasecmp(name, "ClassId") == 0) r->label = i;
    }
    if (r->file < 0 || r->label < 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                          "%s: no columns Filename and ClassId in its first line", path);
    return DISTAC_OK;
}

static distac_status read_row(void *arg, const char *path, int64_t number, char *line) {
    reading *r = arg;
    if (r->file == r->label) return read_heading(r, path, line);
    const char *file = NULL, *text = NULL, *value;
    for (int i = 0; (value = column(&line)) != NULL; i++) {
        if (i == r->file) file = value;
        if (i == r->label) text = value;
    }
    size_t digits = text ? strspn(text, "0123456789") : 0;
    int label = digits >= 1 && digits <= 2 && text[digits] == 0
                    ? digits == 2 ? 10 * (text[0] - '0') + text[1] - '0' : text[0] - '0'
                    : -1;
    if (!file || strchr(file, '/') || !di_stays_below(file) || label < 0 || label >= CLASSES)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                          "%s:%lld: no row with a file name and a class from 0 to 42", path, (long long)number);
    return di_listing_add(&r->list, di_join(r->images, file), label);
}

static distac_status open_test(distac_context *context, const char *home, int32_t size, di_samples **out) {
    static const char *const places[] = {"GTSRB/Final_Test/Images", "Final_Test/Images", "GTSRB/Final_Test",
                                         "Final_Test", NULL};
    static const char *const tables[] = {"GT-final_test.csv",
                                         "GTSRB/GT-final_test.csv",
                                         "GTSRB/Final_Test/Images/GT-final_test.csv",
                                         "Final_Test/Images/GT-final_test.csv",
                                         "GTSRB/Final_Test/GT-final_test.csv",
                                         "Final_Test/GT-final_test.csv",
                                         NULL};
    char *images = di_find_first(home, places, 2), *table = di_find_first(home, tables, 1);
    distac_status status = DISTAC_ENOTFOUND;
    if (images && table) {
        reading r = {.images = images};
        status = di_each_line(context, table, read_row, &r);
        if (status == DISTAC_OK) status = di_set_samples(context, &r.list, CLASSES, size, out);
        di_listing_free(&r.list);
    }
    free(images);
    free(table);
    return status;
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const places[] = {"GTSRB/Training", "Training", "GTSRB/Final_Training/Images",
                                         "Final_Training/Images", NULL};
    if (part == DI_PART_TEST) return open_test(context, home, size, out);
    char *folder = di_find_first(home, places, 2);
    distac_status status =
        folder ? di_set_walk(context, folder, CLASSES, class_folders, size, out) : DISTAC_ENOTFOUND;
    free(folder);
    return status;
}

const di_set di_set_gtsrb = {
    .name = "gtsrb",
    .folders = folders,
    .layout =
        "gtsrb/GTSRB/Training/00000/*.ppm (or Final_Training/Images); gtsrb/GTSRB/Final_Test/Images/*.ppm with "
        "gtsrb/GT-final_test.csv",
    .classes = CLASSES,
    .train = 26640, /* GTSRB-Training_fixed; the larger archive Final_Training has 39209 */
    .test = 12630,
    .names = names,
    .open = open_files,
};
