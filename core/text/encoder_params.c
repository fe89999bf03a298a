/* encoder_params.c: the table of the text encoder's parameters: names, shapes, places in the flat buffer. */
#include "encoder.h"
#include <stdio.h>
#include <stdlib.h>

enum text_size { SIZE_NONE, SIZE_WIDTH, SIZE_CONTEXT, SIZE_VOCABULARY, SIZE_DIM, SIZE_QKV, SIZE_MLP };
typedef struct kind {
    const char *name;
    int32_t sizes[4];
} kind;
#define KIND(field, name, init, a, b, c, d) {name, {SIZE_##a, SIZE_##b, SIZE_##c, SIZE_##d}},
static const kind stem_kinds[] = {DI_TEXT_STEM(KIND)};
static const kind block_kinds[] = {DI_VIT_BLOCK(KIND)};
static const kind tail_kinds[] = {DI_TEXT_TAIL(KIND)};
#define COUNT(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))
enum { NAME_BYTES = 96 };

static int64_t size_of(const distac_text_config *c, int32_t size) {
    switch (size) {
    case SIZE_WIDTH:
        return c->width;
    case SIZE_CONTEXT:
        return c->context;
    case SIZE_VOCABULARY:
        return c->vocabulary;
    case SIZE_DIM:
        return c->dim;
    case SIZE_QKV:
        return 3 * (int64_t)c->width;
    default:
        return c->mlp;
    }
}

/* Layer -1 stands for the tensors outside the blocks. Sizes are below 2^31, so only their sum could overflow. */
static distac_status append(distac_text *text, const kind *k, int64_t layer, int64_t *offset) {
    di_param *p = &text->params[text->param_count];
    p->name = di_new(NAME_BYTES);
    if (!p->name) return DISTAC_ENOMEM;
    if (layer < 0)
        snprintf(p->name, NAME_BYTES, "%s", k->name);
    else
        snprintf(p->name, NAME_BYTES, "transformer.resblocks.%lld.%s", (long long)layer, k->name);
    text->param_count++;
    p->offset = *offset;
    p->count = 1;
    for (int32_t d = 0; d < 4 && k->sizes[d] != SIZE_NONE; d++) {
        p->shape[p->rank++] = size_of(&text->config, k->sizes[d]);
        if (__builtin_mul_overflow(p->count, p->shape[d], &p->count))
            return di_fail(DISTAC_EINVAL, "%s is too large for this machine", p->name);
    }
    if (__builtin_add_overflow(*offset, p->count, offset))
        return di_fail(DISTAC_EINVAL, "the parameters are too many for this machine");
    return DISTAC_OK;
}

distac_status di_text_params_build(distac_text *text) {
    int64_t layers = text->config.layers;
    int64_t count = COUNT(stem_kinds) + layers * COUNT(block_kinds) + COUNT(tail_kinds);
    text->params = di_new((size_t)count * sizeof *text->params);
    if (!text->params) return DISTAC_ENOMEM;
    int64_t offset = 0;
    for (int64_t i = 0; i < COUNT(stem_kinds); i++) DI_TRY(append(text, &stem_kinds[i], -1, &offset));
    for (int64_t layer = 0; layer < layers; layer++)
        for (int64_t i = 0; i < COUNT(block_kinds); i++) DI_TRY(append(text, &block_kinds[i], layer, &offset));
    for (int64_t i = 0; i < COUNT(tail_kinds); i++) DI_TRY(append(text, &tail_kinds[i], -1, &offset));
    return DISTAC_OK;
}

void di_text_params_free(distac_text *text) {
    for (int64_t i = 0; i < text->param_count; i++) free(text->params[i].name);
    free(text->params);
    text->params = NULL;
    text->param_count = 0;
}

static void *place(const distac_text *text, int64_t index) {
    return (char *)text->flat->data + text->params[index].offset * distac_dtype_bytes(text->dtype);
}
#define FIELD_AT(field, ...) out.field = place(text, index++);

di_text_ends di_text_ends_at(const distac_text *text) {
    di_text_ends out;
    int64_t index = 0;
    DI_TEXT_STEM(FIELD_AT)
    index += text->config.layers * COUNT(block_kinds);
    DI_TEXT_TAIL(FIELD_AT)
    return out;
}

di_vit_block di_text_block_at(const distac_text *text, int64_t layer) {
    di_vit_block out;
    int64_t index = COUNT(stem_kinds) + layer * COUNT(block_kinds);
    DI_VIT_BLOCK(FIELD_AT)
    return out;
}
