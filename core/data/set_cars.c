/* set_cars.c: Stanford Cars: JPEG images, class names and annotations in MATLAB files. Samples are in the order of
 * the annotations; the boxes in them are not used. */
#include "mat.h"
#include "sets.h"
#include <stdlib.h>
#include <string.h>

static const char *const folders[] = {"stanford_cars", "cars", "StanfordCars", "car_ims", NULL};
enum { CLASSES = 196 };

static distac_status read_names(distac_context *context, const char *path, di_samples *samples) {
    di_mat_variable *v = NULL;
    DI_TRY(di_mat_variable_read(context, path, "class_names", &v));
    const di_mat_array *a = v->arrays;
    distac_status status = DISTAC_OK;
    if (a->class_id != DI_MAT_CELL || a->count != CLASSES)
        status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                            "%s: class_names is %s of %lld, wanted a cell of 196", path,
                            di_mat_class_name(a->class_id), (long long)a->count);
    for (int64_t i = 0; i < CLASSES && status == DISTAC_OK; i++) {
        char *name;
        status = di_mat_text(v, di_mat_cell(v, a, i), &name);
        if (status != DISTAC_OK) break;
        for (char *at = name; *at; at++)
            if (*at == '_') *at = ' ';
        status = di_samples_name(samples, i, name);
        free(name);
    }
    di_mat_variable_free(v);
    return status;
}

static distac_status add_one(const di_mat_variable *v, int64_t index, const char *images, di_listing *list) {
    const di_mat_array *a = v->arrays, *file = di_mat_field(v, a, index, "fname"),
                       *label = di_mat_field(v, a, index, "class");
    if (!file || !label)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: annotations without a field %s%s", v->path,
                          file ? "class" : "fname",
                          file ? "; wanted cars_test_annos_withlabels.mat for the test images" : "");
    double y = label->class_id >= DI_MAT_DOUBLE && label->count == 1 ? di_mat_number(v, label, 0) : 0;
    if (!(y >= 1 && y <= CLASSES) || y != (double)(int)y)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: annotation %lld has no class from 1 to 196",
                          v->path, (long long)index + 1);
    char *name;
    DI_TRY(di_mat_text(v, file, &name));
    const char *base = strrchr(name, '/'); /* some lists have the folder's name before it */
    base = base ? base + 1 : name;
    distac_status status;
    if (!di_stays_below(name) || !*base)
        status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: annotation %lld has no file name", v->path,
                            (long long)index + 1);
    else
        status = di_listing_add(list, di_join(images, base), (int64_t)y - 1);
    free(name);
    return status;
}

static distac_status read_annotations(distac_context *context, const char *path, const char *images, int32_t size,
                                      di_samples **out) {
    di_mat_variable *v = NULL;
    DI_TRY(di_mat_variable_read(context, path, "annotations", &v));
    di_listing list = {.count = 0};
    distac_status status = DISTAC_OK;
    if (v->arrays->class_id != DI_MAT_STRUCT)
        status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: annotations is %s, wanted a structure",
                            path, di_mat_class_name(v->arrays->class_id));
    for (int64_t i = 0; status == DISTAC_OK && i < v->arrays->count; i++) status = add_one(v, i, images, &list);
    di_mat_variable_free(v);
    if (status == DISTAC_OK) status = di_set_samples(context, &list, CLASSES, size, out);
    di_listing_free(&list);
    return status;
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    static const char *const tables[2][4] = {
        {"devkit/cars_train_annos.mat", "cars_train_annos.mat", NULL},
        {"cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat", NULL}};
    static const char *const metas[] = {"devkit/cars_meta.mat", "cars_meta.mat", NULL};
    bool test = part == DI_PART_TEST;
    char *table = di_find_first(home, tables[test], 1), *meta = di_find_first(home, metas, 1);
    char *images = di_find(home, test ? "cars_test" : "cars_train", 2);
    distac_status status = DISTAC_ENOTFOUND;
    if (table && meta && images) {
        status = read_annotations(context, table, images, size, out);
        if (status == DISTAC_OK) status = read_names(context, meta, *out);
    }
    free(table);
    free(meta);
    free(images);
    return status;
}

const di_set di_set_cars = {
    .name = "cars",
    .folders = folders,
    .layout = "stanford_cars/{devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, "
              "cars_train/, cars_test/}",
    .classes = CLASSES,
    .train = 8144,
    .test = 8041,
    .open = open_files,
};
