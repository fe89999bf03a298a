/* params.c: the table of an encoder's parameter tensors: names, shapes, places in the flat buffer and how
 * they start. Everything comes from the lists in nn.h. */
#include "nn.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { INIT_ZERO, INIT_ONE, INIT_EMBEDDING, INIT_MATRIX, INIT_RESIDUAL, INIT_PROJECTION };
enum di_size { SIZE_NONE, SIZE_WIDTH, SIZE_TOKENS, SIZE_DIM, SIZE_CHANNELS, SIZE_PATCH, SIZE_QKV, SIZE_MLP };

typedef struct kind {
    const char *name;
    int32_t init;
    int32_t sizes[4];
} kind;
#define KIND(field, name, init, a, b, c, d) {name, INIT_##init, {SIZE_##a, SIZE_##b, SIZE_##c, SIZE_##d}},
static const kind stem_kinds[] = {DI_VIT_STEM(KIND)};
static const kind block_kinds[] = {DI_VIT_BLOCK(KIND)};
static const kind tail_kinds[] = {DI_VIT_TAIL(KIND)};
#define COUNT(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))
enum { NAME_BYTES = 96 };

static int64_t size_of(const distac_vit *vit, int32_t size) {
    const distac_vit_config *c = &vit->config;
    switch (size) {
    case SIZE_WIDTH: return c->width;
    case SIZE_TOKENS: return vit->tokens;
    case SIZE_DIM: return c->dim;
    case SIZE_CHANNELS: return c->channels;
    case SIZE_PATCH: return c->patch;
    case SIZE_QKV: return 3 * (int64_t)c->width;
    default: return c->mlp;
    }
}

/* Appends one tensor at *offset; layer -1 stands for the tensors outside the blocks. */
static distac_status append(distac_vit *vit, const kind *k, int64_t layer, int64_t *offset) {
    di_param *p = &vit->params[vit->param_count];
    p->name = di_new(NAME_BYTES);
    if (!p->name) return DISTAC_ENOMEM;
    if (layer < 0) snprintf(p->name, NAME_BYTES, "visual.%s", k->name);
    else snprintf(p->name, NAME_BYTES, "visual.transformer.resblocks.%lld.%s", (long long)layer, k->name);
    vit->param_count++;
    p->init = k->init;
    p->offset = *offset;
    p->count = 1;
    for (int32_t d = 0; d < 4 && k->sizes[d] != SIZE_NONE; d++) {
        p->shape[p->rank++] = size_of(vit, k->sizes[d]);
        if (__builtin_mul_overflow(p->count, p->shape[d], &p->count))
            return di_fail(DISTAC_EINVAL, "%s is too large for this machine", p->name);
    }
    if (__builtin_add_overflow(*offset, p->count, offset))
        return di_fail(DISTAC_EINVAL, "the parameters are too many for this machine");
    return DISTAC_OK;
}

distac_status di_vit_params_build(distac_vit *vit) {
    int64_t layers = vit->config.layers;
    int64_t count = COUNT(stem_kinds) + layers * COUNT(block_kinds) + COUNT(tail_kinds);
    vit->params = di_new((size_t)count * sizeof(di_param));
    if (!vit->params) return DISTAC_ENOMEM;
    int64_t offset = 0;
    for (int64_t i = 0; i < COUNT(stem_kinds); i++) DI_TRY(append(vit, &stem_kinds[i], -1, &offset));
    for (int64_t layer = 0; layer < layers; layer++)
        for (int64_t i = 0; i < COUNT(block_kinds); i++) DI_TRY(append(vit, &block_kinds[i], layer, &offset));
    for (int64_t i = 0; i < COUNT(tail_kinds); i++) DI_TRY(append(vit, &tail_kinds[i], -1, &offset));
    return DISTAC_OK;
}

void di_vit_params_free(distac_vit *vit) {
    for (int64_t i = 0; i < vit->param_count; i++) free(vit->params[i].name);
    free(vit->params);
    vit->params = NULL;
    vit->param_count = 0;
}

int64_t di_vit_params_total(const distac_vit *vit) {
    const di_param *last = &vit->params[vit->param_count - 1];
    return last->offset + last->count;
}

#define FIELD_AT(field, ...) out.field = (char *)flat + vit->params[index++].offset * element;

static di_vit_ends ends_at(const distac_vit *vit, void *flat, int64_t element) {
    di_vit_ends out;
    int64_t index = 0;
    DI_VIT_STEM(FIELD_AT)
    index += vit->config.layers * COUNT(block_kinds);
    DI_VIT_TAIL(FIELD_AT)
    return out;
}

static di_vit_block block_at(const distac_vit *vit, void *flat, int64_t layer, int64_t element) {
    di_vit_block out;
    int64_t index = COUNT(stem_kinds) + layer * COUNT(block_kinds);
    DI_VIT_BLOCK(FIELD_AT)
    return out;
}

di_vit_ends di_vit_ends_at(const distac_vit *vit, void *flat) {
    return ends_at(vit, flat, distac_dtype_bytes(vit->dtype));
}

di_vit_block di_vit_block_at(const distac_vit *vit, void *flat, int64_t layer) {
    return block_at(vit, flat, layer, distac_dtype_bytes(vit->dtype));
}

di_vit_ends di_vit_ends_read(const distac_vit *vit) {
    di_vit_ends p = di_vit_ends_at(vit, vit->flat->data);
    if (vit->kernels->narrow) p.conv1_weight = ends_at(vit, vit->copy, 2).conv1_weight;
    return p;
}

di_vit_block di_vit_block_read(const distac_vit *vit, int64_t layer) {
    di_vit_block p = di_vit_block_at(vit, vit->flat->data, layer);
    if (!vit->kernels->narrow) return p;
    const di_vit_block copy = block_at(vit, vit->copy, layer, 2);
    p.in_proj_weight = copy.in_proj_weight, p.in_proj_bias = copy.in_proj_bias;
    p.out_proj_weight = copy.out_proj_weight, p.out_proj_bias = copy.out_proj_bias;
    p.c_fc_weight = copy.c_fc_weight, p.c_fc_bias = copy.c_fc_bias;
    p.c_proj_weight = copy.c_proj_weight, p.c_proj_bias = copy.c_proj_bias;
    return p;
}

distac_status di_vit_fresh_copy(distac_vit *vit) {
    const unsigned long long writes = atomic_load_explicit(&vit->flat->storage->writes, memory_order_relaxed);
    if (!vit->kernels->narrow || (vit->copy && vit->copied == writes)) return DISTAC_OK;
    if (!vit->copy) {
        vit->copy = di_there_alloc(vit->context, (size_t)vit->flat->numel * 2);
        if (!vit->copy) return DISTAC_ENOMEM;
        vit->copied = writes - 1;
    }
    DI_TRY(vit->context->device->arrays->convert(vit->context, vit->flat->numel, DISTAC_F32, vit->flat->data,
                                                 DISTAC_BF16, vit->copy));
    vit->copied = writes;
    return DISTAC_OK;
}

distac_status di_vit_param_init(const distac_vit *vit, int64_t index, uint64_t seed) {
    const di_param *p = &vit->params[index];
    distac_tensor *view = NULL;
    DI_TRY(di_tensor_slice(vit->flat, p->offset, p->rank, p->shape, &view));
    distac_status status;
    if (p->init == INIT_ZERO || p->init == INIT_ONE) {
        status = distac_tensor_fill(view, p->init == INIT_ONE ? 1.0 : 0.0);
    } else {
        double fan_in = p->init == INIT_PROJECTION ? (double)p->shape[0] : (double)p->count / (double)p->shape[0];
        double scale = p->init == INIT_EMBEDDING ? 0.02 : 1.0 / sqrt(fan_in);
        /* The residual stream sums 2 L branches: their outputs start smaller so that its size stays. */
        if (p->init == INIT_RESIDUAL) scale /= sqrt(2.0 * vit->config.layers);
        status = distac_tensor_random(view, 0, seed, (uint64_t)index);
        if (status == DISTAC_OK)
            status = vit->kernels->axpby(vit->context, p->count, scale, view->data, 0.0, view->data);
    }
    distac_tensor_release(view);
    return status;
}
