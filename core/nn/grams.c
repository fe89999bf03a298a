/* grams.c: the linear layers of the encoder as a list, in the order of the forward pass, and the Gram matrices of
 * what enters them: for merging methods that ask which directions a layer's inputs have. */
#include "nn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* conv1 (of patches), four per block, proj. */
enum { PER_BLOCK = 4 };
static const char *const block_weights[PER_BLOCK] = {"attn.in_proj_weight", "attn.out_proj.weight",
                                                     "mlp.c_fc.weight", "mlp.c_proj.weight"};

int64_t distac_vit_linear_count(const distac_vit *vit) {
    return vit ? 2 + PER_BLOCK * (int64_t)vit->config.layers : 0;
}

/* Place of layer `linear` in a block; -1 outside the blocks. */
static int64_t in_block(const distac_vit *vit, int64_t linear) {
    return linear > 0 && linear < distac_vit_linear_count(vit) - 1 ? (linear - 1) % PER_BLOCK : -1;
}

int64_t distac_vit_linear_param(const distac_vit *vit, int64_t linear) {
    if (!vit || linear < 0 || linear >= distac_vit_linear_count(vit)) return -1;
    char name[96];
    int64_t place = in_block(vit, linear);
    if (place < 0)
        snprintf(name, sizeof name, "visual.%s", linear == 0 ? "conv1.weight" : "proj");
    else
        snprintf(name, sizeof name, "visual.transformer.resblocks.%lld.%s", (long long)((linear - 1) / PER_BLOCK),
                 block_weights[place]);
    for (int64_t i = 0; i < vit->param_count; i++)
        if (strcmp(vit->params[i].name, name) == 0) return i;
    return -1;
}

static int64_t inputs_of(const distac_vit *vit, int64_t linear) {
    const distac_vit_config *c = &vit->config;
    if (linear == 0) return (int64_t)c->channels * c->patch * c->patch;
    return in_block(vit, linear) == 3 ? c->mlp : c->width;
}

distac_status distac_vit_get_linear(const distac_vit *vit, int64_t linear, int32_t all_tokens,
                                    distac_linear_info *out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    int64_t count = distac_vit_linear_count(vit), layer = (linear - 1) / PER_BLOCK, place = in_block(vit, linear);
    if (linear < 0 || linear >= count)
        return di_fail(DISTAC_EINVAL, "there is no linear layer %lld, only 0 to %lld", (long long)linear,
                       (long long)count - 1);
    bool last = layer == vit->config.layers - 1 && place > 0 && !all_tokens;
    int64_t rows = linear == 0 ? vit->tokens - 1 : linear == count - 1 || last ? 1 : vit->tokens;
    *out = (distac_linear_info){distac_vit_linear_param(vit, linear), inputs_of(vit, linear), rows};
    return DISTAC_OK;
}

typedef struct job {
    const distac_vit *vit;
    const di_kernels *kernels; /* not the model's: sums of products in full, whatever its products are */
    int64_t first, count;
    distac_tensor **grams; /* where the model computes */
} job;

static distac_status add(void *arg, int64_t linear, int64_t rows, int64_t columns, const void *x) {
    const job *j = arg;
    if (linear < j->first || linear >= j->first + j->count) return DISTAC_OK;
    return j->kernels->gemm(j->vit->context, true, false, columns, columns, rows, 1.0, x, columns, x, columns, 1.0,
                            j->grams[linear - j->first]->data, columns);
}

static distac_status check(const distac_vit *vit, const distac_tensor *images, int64_t first, int32_t n_grams,
                           distac_tensor *const *grams) {
    DI_TRY(di_vit_images_check(vit, images));
    int64_t count = distac_vit_linear_count(vit);
    if (first < 0 || n_grams < 1 || first > count || n_grams > count - first)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_grams", "layers %lld to %lld, there are 0 to %lld",
                          (long long)first, (long long)first + n_grams - 1, (long long)count - 1);
    for (int32_t i = 0; i < n_grams; i++) {
        const int64_t size = inputs_of(vit, first + i), shape[2] = {size, size};
        DI_REQUIRE(grams[i], "a gram is NULL");
        DI_TRY(di_tensor_expect_anywhere(grams[i], "gram", vit->dtype, 2, shape));
        if (distac_tensor_readonly(grams[i]))
            return di_fail_at(DISTAC_ESTATE, "distac_vit_grams", "gram is read-only");
    }
    return DISTAC_OK;
}

distac_status distac_vit_grams(distac_vit *vit, const distac_tensor *images, int32_t all_tokens, int64_t first,
                               int32_t n_grams, distac_tensor *const *grams) {
    DI_REQUIRE(vit && images && grams, "vit, images and grams are needed");
    DI_TRY(check(vit, images, first, n_grams, grams));
    const int64_t shape[2] = {images->shape[0], vit->config.dim};
    distac_tensor *features = NULL, *there = NULL;
    job j = {vit, di_kernels_there(vit->context, vit->dtype), first, n_grams,
             di_new((size_t)n_grams * sizeof(distac_tensor *))};
    distac_status status = j.grams ? DISTAC_OK : DISTAC_ENOMEM;
    for (int32_t i = 0; i < n_grams && status == DISTAC_OK; i++) status = di_bring_there(grams[i], &j.grams[i]);
    if (status == DISTAC_OK) status = di_bring_there(images, &there);
    if (status == DISTAC_OK) status = di_tensor_new_there(vit->context, vit->dtype, 2, shape, false, &features);
    if (status == DISTAC_OK)
        status = di_vit_watch(vit, shape[0], there->data, features->data, all_tokens != 0, add, &j);
    for (int32_t i = 0; j.grams && i < n_grams; i++) {
        if (status == DISTAC_OK && j.grams[i] != grams[i]) status = distac_tensor_copy(grams[i], j.grams[i]);
        distac_tensor_release(j.grams[i]);
    }
    free(j.grams);
    distac_tensor_release(features);
    distac_tensor_release(there);
    return status;
}
