/* vit.c: the image encoder as an object: making, copying and releasing it, its parameters, and the public calls
 * of the passes, which check shapes and then leave for vit_forward.c and vit_backward.c. */
#include "nn.h"
#include <stdlib.h>

void di_vit_retain(distac_vit *vit) { atomic_fetch_add(&vit->refs, 1); }

void distac_vit_release(distac_vit *vit) {
    if (!vit || atomic_fetch_sub(&vit->refs, 1) != 1) return;
    di_vit_workspace_free(vit);
    if (vit->copy) di_there_free(vit->context, vit->copy, (size_t)vit->flat->numel * 2);
    distac_tensor_release(vit->flat);
    di_vit_params_free(vit);
    free(vit->blocks);
    distac_context_release(vit->context);
    free(vit);
}

static distac_status positive(const char *field, int32_t value, int32_t limit) {
    if (value < 1 || value > limit)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_create", "%s is %d, it must be from 1 to %d", field,
                          (int)value, (int)limit);
    return DISTAC_OK;
}

distac_status di_vit_config_check(const distac_vit_config *c) {
    enum { LARGE = 1 << 20 };
    DI_TRY(positive("image", c->image, 1 << 14));
    DI_TRY(positive("patch", c->patch, c->image));
    DI_TRY(positive("channels", c->channels, 1 << 10));
    DI_TRY(positive("width", c->width, LARGE));
    DI_TRY(positive("layers", c->layers, 1 << 12));
    DI_TRY(positive("heads", c->heads, c->width));
    DI_TRY(positive("mlp", c->mlp, LARGE));
    DI_TRY(positive("dim", c->dim, LARGE));
    if (c->image % c->patch != 0)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_create", "patch is %d, it must divide image, which is %d",
                          (int)c->patch, (int)c->image);
    if (c->width % c->heads != 0)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_create", "heads is %d, it must divide width, which is %d",
                          (int)c->heads, (int)c->width);
    if (c->activation != DISTAC_ACT_GELU && c->activation != DISTAC_ACT_QUICK_GELU)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_create",
                          "activation is %d, it must be 0 (gelu) or 1 (quick_gelu)", (int)c->activation);
    return DISTAC_OK;
}

static distac_status build(distac_vit *vit) {
    int64_t grid = vit->config.image / vit->config.patch;
    vit->tokens = grid * grid + 1;
    vit->blocks = di_new((size_t)vit->config.layers * sizeof(di_block_acts));
    if (!vit->blocks) return DISTAC_ENOMEM;
    DI_TRY(di_vit_params_build(vit));
    int64_t total = di_vit_params_total(vit);
    return di_tensor_new_there(vit->context, vit->dtype, 1, &total, true, &vit->flat);
}

distac_status distac_vit_create(distac_context *context, const distac_vit_config *config, int32_t dtype,
                                distac_vit **out) {
    DI_REQUIRE(context && config && out, "context, config and out are needed");
    *out = NULL;
    DI_TRY(di_vit_config_check(config));
    const di_kernels *kernels = di_kernels_for_encoders(context, dtype);
    if (!kernels) {
        const char *name = distac_dtype_name(dtype);
        return di_fail(DISTAC_EDTYPE, "dtype is %s, it must be f32 or f64", name ? name : "unknown");
    }
    distac_vit *vit = di_new(sizeof *vit);
    if (!vit) return DISTAC_ENOMEM;
    atomic_init(&vit->refs, 1);
    di_context_retain(context);
    vit->context = context;
    vit->kernels = kernels;
    vit->config = *config;
    vit->dtype = dtype;
    vit->inside_of = -1;
    distac_status status = build(vit);
    if (status != DISTAC_OK) {
        distac_vit_release(vit);
        return status;
    }
    *out = vit;
    return DISTAC_OK;
}

distac_status distac_vit_get_config(const distac_vit *vit, distac_vit_config *out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    *out = vit->config;
    return DISTAC_OK;
}

distac_status distac_vit_clone(const distac_vit *vit, distac_vit **out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    DI_TRY(distac_vit_create(vit->context, &vit->config, vit->dtype, out));
    (*out)->recompute = vit->recompute;
    distac_status status = distac_tensor_copy((*out)->flat, vit->flat);
    if (status != DISTAC_OK) {
        distac_vit_release(*out);
        *out = NULL;
    }
    return status;
}

int64_t distac_vit_param_count(const distac_vit *vit) { return vit ? vit->param_count : 0; }

const char *distac_vit_param_name(const distac_vit *vit, int64_t index) {
    return vit && index >= 0 && index < vit->param_count ? vit->params[index].name : NULL;
}

distac_status distac_vit_param(const distac_vit *vit, int64_t index, distac_tensor **out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    if (index < 0 || index >= vit->param_count)
        return di_fail(DISTAC_EINVAL, "there is no parameter %lld, only 0 to %lld", (long long)index,
                       (long long)vit->param_count - 1);
    const di_param *p = &vit->params[index];
    return di_tensor_slice(vit->flat, p->offset, p->rank, p->shape, out);
}

distac_status distac_vit_params(const distac_vit *vit, distac_tensor **out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    return di_tensor_slice(vit->flat, 0, 1, &vit->flat->numel, out);
}

distac_status distac_vit_init(distac_vit *vit, uint64_t seed) {
    DI_REQUIRE(vit, "vit is needed");
    vit->kept_batch = 0; /* activations of other weights are of no use */
    for (int64_t i = 0; i < vit->param_count; i++) DI_TRY(di_vit_param_init(vit, i, seed));
    return DISTAC_OK;
}

distac_status di_vit_images_check(const distac_vit *vit, const distac_tensor *images) {
    const distac_vit_config *c = &vit->config;
    const int64_t shape[4] = {-1, c->channels, c->image, c->image};
    DI_TRY(di_tensor_expect_anywhere(images, "images", vit->dtype, 4, shape));
    if (images->shape[0] < 1) return di_fail(DISTAC_ESHAPE, "images is an empty batch");
    return DISTAC_OK;
}

distac_status di_bring_there(const distac_tensor *tensor, distac_tensor **out) {
    return di_tensor_bring(tensor, di_models_there(tensor->context), out);
}

distac_status di_tensor_expect_there(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                                     const int64_t *shape) {
    DI_TRY(di_tensor_expect_anywhere(tensor, name, dtype, rank, shape));
    const distac_context *context = tensor->context;
    if (tensor->storage->there == di_models_there(context)) return DISTAC_OK;
    return di_fail_at(DISTAC_EDEVICE, name, "is on %s, wanted on %s", distac_tensor_device(tensor),
                      di_models_there(context) ? context->device->name : "cpu");
}

distac_status di_vit_images(const distac_vit *vit, const distac_tensor *images, distac_tensor **out) {
    *out = NULL;
    DI_TRY(di_vit_images_check(vit, images));
    return di_bring_there(images, out);
}

typedef distac_status (*pass)(distac_vit *vit, int64_t batch, const void *images, void *features);

static distac_status run(distac_vit *vit, const distac_tensor *images, pass forward, distac_tensor **out) {
    DI_REQUIRE(vit && images && out, "vit, images and out are needed");
    *out = NULL;
    distac_tensor *features = NULL, *there;
    DI_TRY(di_vit_images(vit, images, &there));
    const int64_t shape[2] = {images->shape[0], vit->config.dim};
    distac_status status = di_tensor_new_there(vit->context, vit->dtype, 2, shape, false, &features);
    if (status == DISTAC_OK) status = forward(vit, shape[0], there->data, features->data);
    distac_tensor_release(there);
    if (status == DISTAC_OK) *out = features;
    else distac_tensor_release(features);
    return status;
}

distac_status distac_vit_features(distac_vit *vit, const distac_tensor *images, distac_tensor **out) {
    return run(vit, images, di_vit_infer, out);
}

distac_status distac_vit_forward(distac_vit *vit, const distac_tensor *images, distac_tensor **out) {
    return run(vit, images, di_vit_forward, out);
}

distac_status distac_vit_backward(distac_vit *vit, const distac_tensor *dfeatures, distac_tensor *grads) {
    DI_REQUIRE(vit && dfeatures && grads, "vit, dfeatures and grads are needed");
    if (vit->kept_batch == 0)
        return di_fail(DISTAC_ESTATE,
                       "there is no forward pass to go back through: call distac_vit_forward first");
    const int64_t shape[2] = {vit->kept_batch, vit->config.dim};
    DI_TRY(di_tensor_expect_anywhere(dfeatures, "dfeatures", vit->dtype, 2, shape));
    DI_TRY(di_tensor_expect_there(grads, "grads", vit->dtype, 1, &vit->flat->numel));
    if (distac_tensor_readonly(grads)) return di_fail(DISTAC_ESTATE, "grads is read-only");
    distac_tensor *there;
    DI_TRY(di_bring_there(dfeatures, &there));
    distac_status status = di_vit_backward(vit, there->data, grads->data);
    distac_tensor_release(there);
    return status;
}
