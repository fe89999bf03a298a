/* sweep.c: a model's features and logits over a whole data set, a batch of images at a time. */
#include "../backend/backend.h"
#include "../data/data.h"

/* The sweep of a data set through a model: what a batch becomes, and where it goes. */
typedef struct sweep {
    const distac_dataset *dataset;
    distac_vit *vit;
    const distac_head *head; /* NULL: features */
    int32_t dtype;           /* of the model */
    int64_t columns;         /* of the result */
} sweep;

static distac_status plan(sweep *s, const char *function, int64_t start, int64_t count, int64_t batch) {
    if (batch < 1) return di_fail_at(DISTAC_EINVAL, function, "batch %lld, wanted at least 1", (long long)batch);
    int64_t size = distac_dataset_size(s->dataset);
    if (start < 0 || count < 0 || start > size || count > size - start)
        return di_fail_at(DISTAC_EINVAL, function,
                          "%lld samples from number %lld (the first is 0) of a data set of %lld",
                          (long long)count, (long long)start, (long long)size);
    distac_tensor *params;
    distac_vit_config config;
    DI_TRY(distac_vit_get_config(s->vit, &config));
    DI_TRY(distac_vit_params(s->vit, &params));
    s->dtype = params->dtype;
    distac_tensor_release(params);
    s->columns = config.dim;
    if (!s->head) return DISTAC_OK;
    distac_tensor *weight;
    DI_TRY(distac_head_weight(s->head, &weight));
    s->columns = weight->shape[0];
    int64_t dim = weight->shape[1];
    distac_tensor_release(weight);
    if (dim != config.dim)
        return di_fail_at(DISTAC_ESHAPE, function, "the head takes %lld features, the model makes %d",
                          (long long)dim, config.dim);
    return DISTAC_OK;
}

static distac_status batch_images(const sweep *s, int64_t start, int64_t n, distac_tensor **out) {
    DI_TRY(distac_dataset_images(s->dataset, start, n, out));
    if (s->dtype == DISTAC_F32) return DISTAC_OK;
    distac_tensor *cast = NULL;
    distac_status status = distac_tensor_cast(*out, s->dtype, &cast);
    distac_tensor_release(*out);
    *out = cast;
    return status;
}

/* The rows of one batch. */
static distac_status batch_rows(const sweep *s, int64_t start, int64_t n, distac_tensor **out) {
    distac_tensor *images = NULL, *features = NULL;
    distac_status status = batch_images(s, start, n, &images);
    if (status == DISTAC_OK) status = distac_vit_features(s->vit, images, &features);
    distac_tensor_release(images);
    if (status != DISTAC_OK || !s->head) {
        *out = features;
        return status;
    }
    status = distac_head_logits(s->head, features, out);
    distac_tensor_release(features);
    return status;
}

static distac_status run(sweep *s, const char *function, int64_t start, int64_t count, int64_t batch,
                         distac_tensor **out) {
    DI_TRY(plan(s, function, start, count, batch));
    distac_context *context = s->dataset->samples->context;
    int64_t shape[2] = {count, s->columns};
    size_t row = (size_t)s->columns * (size_t)distac_dtype_bytes(s->dtype);
    distac_tensor *result;
    DI_TRY(di_tensor_new_there(context, s->dtype, 2, shape, false, &result));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < count && status == DISTAC_OK; i += batch) {
        int64_t n = count - i < batch ? count - i : batch;
        distac_tensor *rows = NULL;
        status = di_poll(context);
        if (status == DISTAC_OK) status = batch_rows(s, start + i, n, &rows);
        if (status == DISTAC_OK)
            status = di_there_copy(context, (char *)result->data + (size_t)i * row, rows->data, (size_t)n * row);
        distac_tensor_release(rows);
    }
    if (status != DISTAC_OK) {
        distac_tensor_release(result);
        return status;
    }
    *out = result;
    return DISTAC_OK;
}

distac_status distac_dataset_logits(const distac_dataset *dataset, distac_vit *vit, const distac_head *head,
                                    int64_t start, int64_t count, int64_t batch, distac_tensor **out) {
    DI_REQUIRE(dataset && vit && head && out, "dataset, vit, head and out are needed");
    sweep s = {.dataset = dataset, .vit = vit, .head = head};
    return run(&s, __func__, start, count, batch, out);
}

distac_status distac_dataset_features(const distac_dataset *dataset, distac_vit *vit, int64_t start, int64_t count,
                                      int64_t batch, distac_tensor **out) {
    DI_REQUIRE(dataset && vit && out, "dataset, vit and out are needed");
    sweep s = {.dataset = dataset, .vit = vit};
    return run(&s, __func__, start, count, batch, out);
}
