/* head.c: the classification head, logits = weight . f / |f|. Without bias; the logit scale is in the weight. */
#include "nn.h"
#include <stdlib.h>

void di_head_retain(distac_head *head) { atomic_fetch_add(&head->refs, 1); }

void distac_head_release(distac_head *head) {
    if (!head || atomic_fetch_sub(&head->refs, 1) != 1) return;
    distac_tensor_release(head->weight);
    distac_context_release(head->context);
    free(head);
}

distac_status distac_head_create(const distac_tensor *weight, int32_t normalize, distac_head **out) {
    DI_REQUIRE(weight && out, "weight and out are needed");
    *out = NULL;
    if (weight->rank != 2 || weight->numel < 1) {
        char text[160];
        return di_fail(DISTAC_ESHAPE, "weight has shape %s, wanted [classes,dimension]",
                       di_shape_text(weight->rank, weight->shape, text, sizeof text));
    }
    const di_kernels *kernels = di_kernels_there(weight->context, weight->dtype);
    if (!kernels)
        return di_fail(DISTAC_EDTYPE, "weight is %s, it must be f32 or f64", distac_dtype_name(weight->dtype));
    distac_head *head = di_new(sizeof *head);
    if (!head) return DISTAC_ENOMEM;
    atomic_init(&head->refs, 1);
    di_context_retain(weight->context);
    head->context = weight->context;
    head->kernels = kernels;
    head->normalize = normalize != 0;
    head->dtype = weight->dtype;
    head->classes = weight->shape[0];
    head->dim = weight->shape[1];
    distac_status status = di_tensor_new_there(head->context, head->dtype, 2, weight->shape, false, &head->weight);
    if (status == DISTAC_OK) status = distac_tensor_copy(head->weight, weight);
    if (status != DISTAC_OK) {
        distac_head_release(head);
        return status;
    }
    *out = head;
    return DISTAC_OK;
}

distac_status distac_head_weight(const distac_head *head, distac_tensor **out) {
    DI_REQUIRE(head && out, "head and out are needed");
    return di_tensor_slice(head->weight, 0, 2, head->weight->shape, out);
}

distac_status di_head_forward(const distac_head *head, int64_t batch, const void *features, void *unit,
                              void *norms, void *logits) {
    const di_kernels *k = head->kernels;
    if (head->normalize) {
        DI_TRY(k->normalize(head->context, batch, head->dim, features, unit, norms));
        features = unit;
    }
    return k->linear(head->context, batch, head->classes, head->dim, features, head->weight->data, NULL,
                     DI_ACT_NONE, NULL, NULL, logits);
}

distac_status di_head_backward(const distac_head *head, int64_t batch, const void *features, const void *unit,
                               const void *norms, const void *dlogits, void *dunit, void *dweight,
                               void *dfeatures) {
    const di_kernels *k = head->kernels;
    distac_context *c = head->context;
    if (dweight)
        DI_TRY(k->linear_backward_weight(c, batch, head->classes, head->dim, head->normalize ? unit : features,
                                         dlogits, dweight, NULL));
    DI_TRY(k->linear_backward_input(c, batch, head->classes, head->dim, dlogits, head->weight->data, DI_ACT_NONE,
                                    NULL, false, head->normalize ? dunit : dfeatures));
    return head->normalize ? k->normalize_backward(c, batch, head->dim, unit, norms, dunit, dfeatures) : DISTAC_OK;
}

/* Scratch of a call: unit features [B,D], their gradient [B,D] and the norms [B], in one piece. */
typedef struct scratch {
    char *memory;
    size_t bytes;
    void *unit, *dunit, *norms;
} scratch;

static distac_status scratch_make(const distac_head *head, int64_t batch, scratch *out) {
    size_t element = (size_t)distac_dtype_bytes(head->dtype);
    size_t rows = (size_t)batch * (size_t)head->dim * element; /* fits: features of this size exist */
    out->bytes = 2 * rows + (size_t)batch * element;
    out->memory = di_there_alloc(head->context, out->bytes);
    if (!out->memory) return DISTAC_ENOMEM;
    out->unit = out->memory;
    out->dunit = out->memory + rows;
    out->norms = out->memory + 2 * rows;
    return DISTAC_OK;
}

static distac_status check_features(const distac_head *head, const distac_tensor *features) {
    const int64_t shape[2] = {-1, head->dim};
    return di_tensor_expect_anywhere(features, "features", head->dtype, 2, shape);
}

distac_status distac_head_logits(const distac_head *head, const distac_tensor *features, distac_tensor **out) {
    DI_REQUIRE(head && features && out, "head, features and out are needed");
    *out = NULL;
    DI_TRY(check_features(head, features));
    const int64_t batch = features->shape[0], shape[2] = {batch, head->classes};
    distac_tensor *logits = NULL, *there;
    DI_TRY(di_bring_there(features, &there));
    scratch s = {0};
    distac_status status = di_tensor_new_there(head->context, head->dtype, 2, shape, false, &logits);
    if (status == DISTAC_OK) status = scratch_make(head, batch, &s);
    if (status == DISTAC_OK && batch > 0)
        status = di_head_forward(head, batch, there->data, s.unit, s.norms, logits->data);
    distac_tensor_release(there);
    di_there_free(head->context, s.memory, s.bytes);
    if (status == DISTAC_OK) *out = logits;
    else distac_tensor_release(logits);
    return status;
}

distac_status distac_head_backward(const distac_head *head, const distac_tensor *features,
                                   const distac_tensor *dlogits, distac_tensor *dweight, distac_tensor **out) {
    DI_REQUIRE(head && features && dlogits && out, "head, features, dlogits and out are needed");
    *out = NULL;
    DI_TRY(check_features(head, features));
    const int64_t batch = features->shape[0], logits_shape[2] = {batch, head->classes};
    DI_TRY(di_tensor_expect_anywhere(dlogits, "dlogits", head->dtype, 2, logits_shape));
    if (dweight) {
        DI_TRY(di_tensor_expect_there(dweight, "dweight", head->dtype, 2, head->weight->shape));
        if (distac_tensor_readonly(dweight)) return di_fail(DISTAC_ESTATE, "dweight is read-only");
    }
    distac_tensor *dfeatures = NULL, *x = NULL, *dy = NULL;
    scratch s = {0};
    distac_status status = di_tensor_new_there(head->context, head->dtype, 2, features->shape, false, &dfeatures);
    if (status == DISTAC_OK) status = di_bring_there(features, &x);
    if (status == DISTAC_OK) status = di_bring_there(dlogits, &dy);
    if (status == DISTAC_OK) status = scratch_make(head, batch, &s);
    if (status == DISTAC_OK && batch > 0) {
        if (head->normalize)
            status = head->kernels->normalize(head->context, batch, head->dim, x->data, s.unit, s.norms);
        if (status == DISTAC_OK)
            status = di_head_backward(head, batch, x->data, s.unit, s.norms, dy->data, s.dunit,
                                      dweight ? dweight->data : NULL, dfeatures->data);
    }
    distac_tensor_release(x);
    distac_tensor_release(dy);
    di_there_free(head->context, s.memory, s.bytes);
    if (status == DISTAC_OK) *out = dfeatures;
    else distac_tensor_release(dfeatures);
    return status;
}
