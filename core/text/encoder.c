/* encoder.c: the text encoder as an object: read from a checkpoint, released, asked for features. */
#include "encoder.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPEN         "distac_text_open"
#define BLOCK_PREFIX "transformer.resblocks."
enum { LISTED = 12, LARGE = 1 << 24 };

void distac_text_release(distac_text *text) {
    if (!text || atomic_fetch_sub(&text->refs, 1) != 1) return;
    di_there_free(text->context, text->workspace.memory, text->workspace.bytes);
    distac_tensor_release(text->flat);
    di_text_params_free(text);
    distac_context_release(text->context);
    free(text);
}

/* ---- the architecture from the shapes ---- */

static distac_status shape_of(const distac_checkpoint *ck, const char *name, int64_t *rows, int64_t *columns) {
    int64_t index = distac_checkpoint_find(ck, name);
    if (index < 0)
        return di_fail_at(DISTAC_ENOTFOUND, OPEN,
                          "the checkpoint has no tensor \"%s\": it holds no text encoder in the CLIP layout",
                          name);
    distac_tensor *t = NULL;
    DI_TRY(distac_checkpoint_tensor(ck, index, &t));
    char shown[160];
    bool fits =
        t->rank == 2 && t->shape[0] >= 1 && t->shape[0] <= LARGE && t->shape[1] >= 1 && t->shape[1] <= LARGE;
    *rows = t->shape[0];
    *columns = t->shape[1];
    di_shape_text(t->rank, t->shape, shown, sizeof shown);
    distac_tensor_release(t);
    if (fits) return DISTAC_OK;
    return di_fail_at(DISTAC_ESHAPE, OPEN, "\"%s\" has shape %s, wanted two dimensions from 1 to %d", name, shown,
                      (int)LARGE);
}

static int32_t count_layers(const distac_checkpoint *ck) {
    int64_t layers = 0;
    for (int64_t i = 0; i < distac_checkpoint_count(ck); i++) {
        const char *name = distac_checkpoint_name(ck, i);
        if (strncmp(name, BLOCK_PREFIX, sizeof BLOCK_PREFIX - 1) != 0) continue;
        char *end;
        long long layer = strtoll(name + sizeof BLOCK_PREFIX - 1, &end, 10);
        if (*end == '.' && layer >= layers && layer < (1 << 12)) layers = layer + 1;
    }
    return (int32_t)layers;
}

static distac_status read_heads(const distac_checkpoint *ck, int32_t asked, int32_t width, int32_t *out) {
    const char *said = asked > 0 ? NULL : distac_checkpoint_metadata(ck, "text.heads");
    long value = asked;
    if (said) {
        char *end;
        value = strtol(said, &end, 10);
        if (end == said || *end != '\0') value = -1;
    } else if (asked <= 0) {
        value = width % 64 == 0 ? width / 64 : -1;
    }
    if (value >= 1 && value <= width && width % value == 0) {
        *out = (int32_t)value;
        return DISTAC_OK;
    }
    if (said)
        return di_fail_at(DISTAC_EINVAL, OPEN, "metadata text.heads is \"%s\", wanted a divisor of the width %d",
                          said, (int)width);
    if (asked > 0)
        return di_fail_at(DISTAC_EINVAL, OPEN, "heads is %d, it must divide the width, which is %d", (int)asked,
                          (int)width);
    return di_fail_at(DISTAC_EINVAL, OPEN,
                      "heads is not given, the metadata has no text.heads, and width %d is no multiple of 64",
                      (int)width);
}

static distac_status read_activation(const distac_checkpoint *ck, int32_t asked, int32_t *out) {
    const char *key = distac_checkpoint_metadata(ck, "text.activation") ? "text.activation" : "vit.activation";
    const char *said = distac_checkpoint_metadata(ck, key);
    *out = asked;
    if (asked == DISTAC_ACT_GELU || asked == DISTAC_ACT_QUICK_GELU) return DISTAC_OK;
    if (asked >= 0)
        return di_fail_at(DISTAC_EINVAL, OPEN, "activation is %d, it must be 0 (gelu) or 1 (quick_gelu)",
                          (int)asked);
    *out = DISTAC_ACT_GELU;
    if (said && strcmp(said, "gelu") == 0) return DISTAC_OK;
    *out = DISTAC_ACT_QUICK_GELU;
    if (said && strcmp(said, "quick_gelu") == 0) return DISTAC_OK;
    if (said)
        return di_fail_at(DISTAC_EINVAL, OPEN, "metadata %s is \"%s\", wanted \"gelu\" or \"quick_gelu\"", key,
                          said);
    return di_fail_at(DISTAC_EINVAL, OPEN,
                      "activation is not given and the metadata has neither text.activation nor vit.activation: "
                      "tensors do not tell it. OpenAI's weights want \"quick_gelu\", most others \"gelu\"");
}

static distac_status read_config(const distac_checkpoint *ck, int32_t activation, int32_t heads,
                                 distac_text_config *out) {
    int64_t vocabulary, width, context, same, rows, dim, mlp;
    DI_TRY(shape_of(ck, "token_embedding.weight", &vocabulary, &width));
    DI_TRY(shape_of(ck, "positional_embedding", &context, &same));
    DI_TRY(shape_of(ck, "text_projection", &rows, &dim));
    int32_t layers = count_layers(ck);
    if (layers == 0)
        return di_fail_at(DISTAC_ENOTFOUND, OPEN,
                          "the blocks of the text encoder (\"transformer.resblocks.0…\") were taken out of this "
                          "checkpoint, as published fine-tuned models do; take the whole CLIP that it came from");
    DI_TRY(shape_of(ck, BLOCK_PREFIX "0.mlp.c_fc.weight", &mlp, &same));
    *out = (distac_text_config){.context = (int32_t)context,
                                .vocabulary = (int32_t)vocabulary,
                                .width = (int32_t)width,
                                .layers = layers,
                                .mlp = (int32_t)mlp,
                                .dim = (int32_t)dim};
    DI_TRY(read_heads(ck, heads, out->width, &out->heads));
    return read_activation(ck, activation, &out->activation);
}

/* ---- weights ---- */

typedef struct misfits {
    di_text text;
    int64_t count;
    distac_status status;
} misfits;

static bool misfit(misfits *m, distac_status status) {
    if (m->count++ == 0) m->status = status;
    if (m->count > 1 && m->count <= LISTED) di_text_add(&m->text, "; ");
    return m->count <= LISTED;
}

static void copy_param(distac_text *text, const distac_checkpoint *ck, const char *const *names, const di_param *p,
                       misfits *m) {
    int64_t found = distac_checkpoint_find(ck, p->name);
    distac_tensor *from = NULL, *to = NULL;
    if (found < 0) {
        if (!misfit(m, DISTAC_ENOTFOUND)) return;
        const char *near = di_nearest(p->name, distac_checkpoint_count(ck), names);
        di_text_add(&m->text, "\"%s\" is missing", p->name);
        if (near) di_text_add(&m->text, " (nearest: \"%s\")", near);
        return;
    }
    distac_status status = distac_checkpoint_tensor(ck, found, &from);
    if (status == DISTAC_OK) status = di_tensor_slice(text->flat, p->offset, p->rank, p->shape, &to);
    if (status != DISTAC_OK) {
        if (misfit(m, status)) di_text_add(&m->text, "\"%s\": %s", p->name, distac_last_error());
    } else if (from->rank != p->rank || memcmp(from->shape, p->shape, (size_t)p->rank * sizeof p->shape[0]) != 0) {
        char is[160], wanted[160];
        if (misfit(m, DISTAC_ESHAPE))
            di_text_add(&m->text, "\"%s\" has shape %s, wanted %s", p->name,
                        di_shape_text(from->rank, from->shape, is, sizeof is),
                        di_shape_text(p->rank, p->shape, wanted, sizeof wanted));
    } else if (!di_dtype_is_float(from->dtype)) {
        if (misfit(m, DISTAC_EDTYPE))
            di_text_add(&m->text, "\"%s\" is %s, wanted a float type", p->name, distac_dtype_name(from->dtype));
    } else if ((status = distac_tensor_copy(to, from)) != DISTAC_OK) {
        if (misfit(m, status)) di_text_add(&m->text, "\"%s\": %s", p->name, distac_last_error());
    }
    distac_tensor_release(from);
    distac_tensor_release(to);
}

/* A tensor among the blocks that the architecture has no place for: the weights are another model's. */
static void check_extra(const distac_text *text, const char *name, misfits *m) {
    if (strncmp(name, "transformer.", 12) != 0 && strncmp(name, "ln_final.", 9) != 0) return;
    for (int64_t i = 0; i < text->param_count; i++)
        if (strcmp(text->params[i].name, name) == 0) return;
    if (misfit(m, DISTAC_ENOTFOUND)) di_text_add(&m->text, "\"%s\" has no place in this architecture", name);
}

static distac_status load(distac_text *text, const distac_checkpoint *ck) {
    int64_t count = distac_checkpoint_count(ck);
    const char **names = di_new((size_t)(count > 0 ? count : 1) * sizeof *names);
    if (!names) return DISTAC_ENOMEM;
    misfits m = {.status = DISTAC_OK};
    for (int64_t i = 0; i < count; i++) names[i] = distac_checkpoint_name(ck, i);
    for (int64_t i = 0; i < text->param_count; i++) copy_param(text, ck, names, &text->params[i], &m);
    for (int64_t i = 0; i < count; i++) check_extra(text, names[i], &m);
    free(names);
    if (m.count > LISTED) di_text_add(&m.text, "; and %lld more", (long long)(m.count - LISTED));
    if (m.count > 0)
        (void)di_fail_at(m.status, OPEN, "the checkpoint does not fit the text encoder: %s",
                         m.text.bytes ? m.text.bytes : "out of memory for the list");
    di_text_free(&m.text);
    return m.status;
}

static distac_status read_scale(distac_text *text, const distac_checkpoint *ck) {
    int64_t index = distac_checkpoint_find(ck, "logit_scale");
    if (index < 0) return DISTAC_OK;
    distac_tensor *t = NULL;
    double value;
    DI_TRY(distac_checkpoint_tensor(ck, index, &t));
    distac_status status = distac_tensor_item(t, &value);
    distac_tensor_release(t);
    DI_TRY(status);
    text->scale = exp(value);
    text->has_scale = true;
    if (isfinite(text->scale)) return DISTAC_OK;
    return di_fail_at(DISTAC_ENUMERIC, OPEN, "logit_scale is %g, its exponential is no finite number",
                      di_shown(value));
}

static distac_status build(distac_text *text, const distac_checkpoint *ck) {
    DI_TRY(di_text_params_build(text));
    const di_param *last = &text->params[text->param_count - 1];
    int64_t total = last->offset + last->count;
    DI_TRY(di_tensor_new_there(text->context, text->dtype, 1, &total, false, &text->flat));
    DI_TRY(load(text, ck));
    return read_scale(text, ck);
}

distac_status distac_text_open(distac_context *context, const distac_checkpoint *checkpoint, int32_t activation,
                               int32_t heads, int32_t dtype, distac_text **out) {
    DI_REQUIRE(context && checkpoint && out, "context, checkpoint and out are needed");
    *out = NULL;
    distac_text_config config;
    const di_kernels *kernels = di_kernels_there(context, dtype);
    if (!kernels) {
        const char *name = distac_dtype_name(dtype);
        return di_fail(DISTAC_EDTYPE, "dtype is %s, it must be f32 or f64", name ? name : "unknown");
    }
    DI_TRY(read_config(checkpoint, activation, heads, &config));
    distac_text *text = di_new(sizeof *text);
    if (!text) return DISTAC_ENOMEM;
    atomic_init(&text->refs, 1);
    di_context_retain(context);
    text->context = context;
    text->kernels = kernels;
    text->config = config;
    text->dtype = dtype;
    distac_status status = build(text, checkpoint);
    if (status == DISTAC_OK)
        *out = text;
    else
        distac_text_release(text);
    return status;
}

/* ---- use ---- */

distac_status distac_text_get_config(const distac_text *text, distac_text_config *out) {
    DI_REQUIRE(text && out, "text and out are needed");
    *out = text->config;
    return DISTAC_OK;
}

distac_status distac_text_logit_scale(const distac_text *text, double *out) {
    DI_REQUIRE(text && out, "text and out are needed");
    if (!text->has_scale)
        return di_fail(DISTAC_ENOTFOUND, "the checkpoint of this text encoder has no logit_scale");
    *out = text->scale;
    return DISTAC_OK;
}

/* Positions of the first of the largest ids; ids outside the vocabulary are refused. */
static distac_status find_ends(const distac_text *text, int64_t batch, int64_t length, const int64_t *ids,
                               int64_t *ends) {
    for (int64_t b = 0; b < batch; b++) {
        ends[b] = 0;
        for (int64_t i = 0; i < length; i++) {
            int64_t id = ids[b * length + i];
            if (id < 0 || id >= text->config.vocabulary)
                return di_fail_at(DISTAC_EINVAL, "distac_text_features",
                                  "id %lld at [%lld,%lld] is outside the vocabulary, 0 to %d", (long long)id,
                                  (long long)b, (long long)i, (int)text->config.vocabulary - 1);
            if (id > ids[b * length + ends[b]]) ends[b] = i;
        }
    }
    return DISTAC_OK;
}

distac_status distac_text_features(distac_text *text, const distac_tensor *ids, distac_tensor **out) {
    DI_REQUIRE(text && ids && out, "text, ids and out are needed");
    *out = NULL;
    const int64_t wanted[2] = {-1, -1};
    DI_TRY(di_tensor_expect(ids, "ids", DISTAC_I64, 2, wanted));
    int64_t batch = ids->shape[0], length = ids->shape[1];
    if (batch < 1 || length < 1 || length > text->config.context)
        return di_fail(DISTAC_ESHAPE, "ids has shape [%lld,%lld], wanted texts of 1 to %d tokens",
                       (long long)batch, (long long)length, (int)text->config.context);
    const int64_t shape[2] = {batch, text->config.dim};
    int64_t *ends = di_new((size_t)batch * sizeof *ends);
    distac_tensor *features = NULL;
    distac_status status = ends ? find_ends(text, batch, length, ids->data, ends) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = di_tensor_new_there(text->context, text->dtype, 2, shape, false, &features);
    if (status == DISTAC_OK) status = di_text_infer(text, batch, length, ids->data, ends, features->data);
    free(ends);
    if (status == DISTAC_OK)
        *out = features;
    else
        distac_tensor_release(features);
    return status;
}

static distac_status make_hash(distac_text *text) {
    distac_tensor *here;
    DI_TRY(di_tensor_bring(text->flat, false, &here));
    di_sha256 hash;
    di_sha256_init(&hash);
    di_sha256_update(&hash, &text->config, sizeof text->config);
    di_sha256_update(&hash, &text->dtype, sizeof text->dtype);
    di_sha256_update(&hash, &text->scale, sizeof text->scale);
    di_sha256_update(&hash, here->data, (size_t)here->numel * (size_t)distac_dtype_bytes(text->dtype));
    di_sha256_hex(&hash, text->hash);
    distac_tensor_release(here);
    return DISTAC_OK;
}

distac_status distac_text_hash(distac_text *text, distac_strings **out) {
    DI_REQUIRE(text && out, "text and out are needed");
    *out = NULL;
    if (!text->hash[0]) DI_TRY(make_hash(text));
    distac_strings *strings = di_strings_new();
    if (!strings) return DISTAC_ENOMEM;
    distac_status status = di_strings_add(strings, text->hash);
    if (status == DISTAC_OK) *out = strings;
    else distac_strings_release(strings);
    return status;
}
