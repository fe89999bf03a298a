/* set_svhn.c: SVHN's cropped digits, two MATLAB files: X uint8 [32,32,3,N] and y [N,1], where 10 stands for the
 * digit 0. Columns come first in MATLAB's order, so a picture is turned while it is copied. */
#include "mat.h"
#include "sets.h"
#include <stdlib.h>

static const char *const folders[] = {"svhn", NULL};

static distac_status read_images(distac_context *context, const char *path, distac_tensor **out) {
    di_mat_variable *v = NULL;
    DI_TRY(di_mat_variable_read(context, path, "X", &v));
    const di_mat_array *a = v->arrays;
    int64_t h = di_mat_dim(v, a, 0), w = di_mat_dim(v, a, 1), c = di_mat_dim(v, a, 2), n = di_mat_dim(v, a, 3);
    distac_status status = DISTAC_OK;
    /* one byte for an element: stored as its class says */
    if (a->class_id != DI_MAT_UINT8 || a->logical || a->rank > 4 || c != 3 || h < 1 || w < 1 || h > 4096 ||
        w > 4096 || a->data_bytes != (uint64_t)a->count || a->stored != 2)
        status = di_fail_at(
            DISTAC_EFORMAT, "distac_dataset_task", "%s: X is %s [%lld,%lld,%lld,%lld], wanted uint8 [32,32,3,N]",
            path, di_mat_class_name(a->class_id), (long long)h, (long long)w, (long long)c, (long long)n);
    if (status == DISTAC_OK)
        status = di_tensor_new(context, DISTAC_U8, 4, (const int64_t[4]){n, h, w, c}, false, out);
    if (status == DISTAC_OK) {
        uint8_t *dst = (*out)->data;
        for (int64_t k = 0; k < n; k++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++)
                    for (int64_t i = 0; i < c; i++) *dst++ = a->data[((k * c + i) * w + x) * h + y];
    }
    di_mat_variable_free(v);
    return status;
}

static distac_status read_labels(distac_context *context, const char *path, int64_t n, int64_t **out) {
    di_mat_variable *v = NULL;
    DI_TRY(di_mat_variable_read(context, path, "y", &v));
    const di_mat_array *a = v->arrays;
    distac_status status = DISTAC_OK;
    if (a->class_id < DI_MAT_DOUBLE || a->count != n)
        status =
            di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: y is %s with %lld elements for %lld images",
                       path, di_mat_class_name(a->class_id), (long long)a->count, (long long)n);
    int64_t *labels = status == DISTAC_OK ? di_new((size_t)(n > 0 ? n : 1) * sizeof *labels) : NULL;
    if (status == DISTAC_OK && !labels) status = DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < n; i++) {
        double y = di_mat_number(v, a, i);
        if (!(y >= 0 && y <= 10) || y != (double)(int)y)
            status = di_fail_at(DISTAC_EFORMAT, "distac_dataset_task",
                                "%s: label %g of image %lld, wanted 1 to 10", path, di_shown(y), (long long)i);
        else
            labels[i] = (int64_t)y % 10;
    }
    di_mat_variable_free(v);
    if (status != DISTAC_OK) {
        free(labels);
        return status;
    }
    *out = labels;
    return DISTAC_OK;
}

static distac_status open_files(distac_context *context, const char *home, int part, int32_t size,
                                di_samples **out) {
    char *path = di_find(home, part == DI_PART_TEST ? "test_32x32.mat" : "train_32x32.mat", 1);
    if (!path) return DISTAC_ENOTFOUND;
    distac_tensor *raw = NULL;
    int64_t *labels = NULL;
    distac_status status = read_images(context, path, &raw);
    if (status == DISTAC_OK) status = read_labels(context, path, raw->shape[0], &labels);
    if (status == DISTAC_OK)
        status = di_set_arrays(context, raw, labels, 10, size, out);
    else
        distac_tensor_release(raw);
    free(path);
    return status;
}

const di_set di_set_svhn = {
    .name = "svhn",
    .folders = folders,
    .layout = "svhn/{train,test}_32x32.mat",
    .classes = 10,
    .train = 73257,
    .test = 26032,
    .names = di_set_digits,
    .open = open_files,
};
