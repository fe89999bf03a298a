/* vit_forward.c: images to features, twice: keeping what the backward pass needs, and without keeping anything.
 * Sizes: B images, N tokens each, W width, M = B N rows. */
#include "nn.h"

enum { MANY = 256 }; /* rows from which halves of a block are worth a call of their own */

typedef struct sizes {
    int64_t B, N, W, M, mlp, D, patches, patch_size;
} sizes;

static sizes sizes_of(const distac_vit *vit, int64_t batch) {
    const distac_vit_config *c = &vit->config;
    return (sizes){.B = batch,
                   .N = vit->tokens,
                   .W = c->width,
                   .M = batch * vit->tokens,
                   .mlp = c->mlp,
                   .D = c->dim,
                   .patches = batch * (vit->tokens - 1),
                   .patch_size = (int64_t)c->channels * c->patch * c->patch};
}

/* A block up to its last product, whose result no backward pass reads. */
static distac_status block_inside(const distac_vit *vit, const sizes *s, int64_t layer) {
    const di_kernels *k = vit->kernels;
    const di_block_acts *a = &vit->blocks[layer];
    const di_vit_block p = di_vit_block_read(vit, layer);
    distac_context *c = vit->context;
    int64_t rows = s->M;
    void *normed = vit->acts.d_rows; /* not in use here: gradients between blocks are in d_x */
    DI_TRY(k->layernorm(c, s->M, s->W, a->x, s->W, p.ln_1_weight, p.ln_1_bias, normed, a->mean_1, a->rstd_1));
    DI_TRY(k->linear(c, s->M, 3 * s->W, s->W, normed, p.in_proj_weight, p.in_proj_bias, DI_ACT_NONE, NULL,
                     NULL, a->qkv));
    DI_TRY(k->attention(c, s->B, s->N, s->W, vit->config.heads, a->qkv, a->probs, a->mixed));
    if (a->skip != a->x) { /* last block: only the class token is read from here on */
        DI_TRY(k->rows_first(c, s->B, s->N, s->W, a->x, a->skip));
        DI_TRY(k->rows_first(c, s->B, s->N, s->W, a->mixed, a->kept));
        rows = s->B;
    }
    DI_TRY(k->linear(c, rows, s->W, s->W, a->kept, p.out_proj_weight, p.out_proj_bias, DI_ACT_NONE, NULL, a->skip,
                     a->middle));
    DI_TRY(k->layernorm(c, rows, s->W, a->middle, s->W, p.ln_2_weight, p.ln_2_bias, normed, a->mean_2,
                        a->rstd_2));
    return k->linear(c, rows, s->mlp, s->W, normed, p.c_fc_weight, p.c_fc_bias, vit->config.activation,
                     a->hidden, NULL, a->active);
}

static distac_status block_forward(distac_vit *vit, const sizes *s, int64_t layer) {
    const di_block_acts *a = &vit->blocks[layer];
    const di_vit_block p = di_vit_block_read(vit, layer);
    vit->inside_of = -1;
    DI_TRY(block_inside(vit, s, layer));
    vit->inside_of = layer;
    return vit->kernels->linear(vit->context, a->skip != a->x ? s->B : s->M, s->W, s->mlp, a->active,
                                p.c_proj_weight, p.c_proj_bias, DI_ACT_NONE, NULL, a->middle, a->y);
}

distac_status di_vit_block_again(distac_vit *vit, int64_t layer) {
    const sizes s = sizes_of(vit, vit->kept_batch);
    vit->inside_of = -1;
    DI_TRY(block_inside(vit, &s, layer));
    vit->inside_of = layer;
    return DISTAC_OK;
}

distac_status di_vit_forward(distac_vit *vit, int64_t batch, const void *images, void *features) {
    vit->kept_batch = 0;
    DI_TRY(di_vit_fresh_copy(vit));
    DI_TRY(di_vit_plan_training(vit, batch));
    const sizes s = sizes_of(vit, batch);
    const di_kernels *k = vit->kernels;
    const di_vit_acts *a = &vit->acts;
    const distac_vit_config *config = &vit->config;
    const di_vit_ends p = di_vit_ends_read(vit);
    distac_context *c = vit->context;
    DI_TRY(k->patches(c, s.B, config->channels, config->image, config->patch, images, a->patches));
    DI_TRY(k->linear(c, s.patches, s.W, s.patch_size, a->patches, p.conv1_weight, NULL, DI_ACT_NONE, NULL, NULL,
                     a->embedded));
    DI_TRY(k->tokens(c, s.B, s.N, s.W, a->embedded, p.class_embedding, p.positional_embedding, a->tokens));
    DI_TRY(k->layernorm(c, s.M, s.W, a->tokens, s.W, p.ln_pre_weight, p.ln_pre_bias, vit->blocks[0].x, a->mean_pre,
                        a->rstd_pre));
    for (int64_t layer = 0; layer < config->layers; layer++) {
        DI_TRY(di_poll(c));
        DI_TRY(block_forward(vit, &s, layer));
    }
    const di_block_acts *last = &vit->blocks[config->layers - 1];
    DI_TRY(k->layernorm(c, s.B, s.W, last->y, s.W, p.ln_post_weight, p.ln_post_bias, a->pooled, a->mean_post,
                        a->rstd_post));
    DI_TRY(k->project(c, s.B, s.D, s.W, a->pooled, p.proj, features));
    vit->kept_batch = batch;
    return DISTAC_OK;
}

static distac_status seen(const distac_vit *vit, const di_infer_acts *a, int64_t linear, int64_t rows,
                          int64_t columns, const void *x) {
    distac_context *c = vit->context;
    if (!a->see) return DISTAC_OK;
    if (vit->kernels->narrow) {
        DI_TRY(c->device->arrays->convert(c, rows * columns, DISTAC_BF16, x, DISTAC_F32, a->seen));
        x = a->seen;
    }
    return a->see(a->see_arg, linear, rows, columns, x);
}

/* The last block's attention, of which the class token's row alone is read: mixed [B,W]. */
static distac_status attend_first(const distac_vit *vit, const sizes *s, const di_vit_block *p,
                                  const di_infer_acts *a, void *mixed) {
    const di_kernels *k = vit->kernels;
    distac_context *c = vit->context;
    if (k->attention_first)
        return k->attention_first(c, s->B, s->N, s->W, vit->config.heads, a->rows, p->in_proj_weight,
                                  p->in_proj_bias, mixed);
    DI_TRY(k->linear(c, s->M, 3 * s->W, s->W, a->rows, p->in_proj_weight, p->in_proj_bias, DI_ACT_NONE, NULL, NULL,
                     a->wide));
    DI_TRY(k->attention(c, s->B, s->N, s->W, vit->config.heads, a->wide, NULL, a->rows));
    return k->rows_first(c, s->B, s->N, s->W, a->rows, mixed);
}

/* The first half of a block in place: x is input and output. In the last block it leaves with one row per image,
 * in row_x. */
static distac_status attention_infer(const distac_vit *vit, const sizes *s, int64_t layer, const di_infer_acts *a,
                                     bool last) {
    const di_kernels *k = vit->kernels;
    const di_vit_block p = di_vit_block_read(vit, layer);
    distac_context *c = vit->context;
    int64_t linear = 1 + 4 * layer, rows = last ? s->B : s->M;
    void *x = last ? a->row_x : a->x, *mixed = last ? a->wide : a->rows;
    if (k->attend && !a->see && !last && rows >= MANY && s->N * s->W <= k->attend_most) {
        const di_half half = {p.ln_1_weight, p.ln_1_bias, p.in_proj_weight, p.in_proj_bias, p.out_proj_weight,
                              p.out_proj_bias};
        return k->attend(c, s->B, s->N, s->W, vit->config.heads, &half, x);
    }
    DI_TRY(k->layernorm(c, s->M, s->W, a->x, s->W, p.ln_1_weight, p.ln_1_bias, a->rows, NULL, NULL));
    DI_TRY(seen(vit, a, linear, s->M, s->W, a->rows));
    if (last) {
        DI_TRY(attend_first(vit, s, &p, a, mixed));
        DI_TRY(k->rows_first(c, s->B, s->N, s->W, a->x, x));
    } else {
        DI_TRY(k->linear(c, s->M, 3 * s->W, s->W, a->rows, p.in_proj_weight, p.in_proj_bias, DI_ACT_NONE, NULL,
                         NULL, a->wide));
        DI_TRY(k->attention(c, s->B, s->N, s->W, vit->config.heads, a->wide, NULL, mixed));
    }
    DI_TRY(seen(vit, a, linear + 1, rows, s->W, mixed));
    return k->linear(c, rows, s->W, s->W, mixed, p.out_proj_weight, p.out_proj_bias, DI_ACT_NONE, NULL, x, x);
}

/* One block in place; rows and wide are scratch. */
static distac_status block_infer(const distac_vit *vit, const sizes *s, int64_t layer, const di_infer_acts *a) {
    const di_kernels *k = vit->kernels;
    const di_vit_block p = di_vit_block_read(vit, layer);
    distac_context *c = vit->context;
    bool last = layer == vit->config.layers - 1 && !a->all_rows;
    int64_t linear = 1 + 4 * layer, rows = last ? s->B : s->M;
    void *x = last ? a->row_x : a->x;
    DI_TRY(attention_infer(vit, s, layer, a, last));
    if (k->mlp && !a->see && rows >= MANY) {
        const di_half half = {p.ln_2_weight, p.ln_2_bias,     p.c_fc_weight,
                              p.c_fc_bias,   p.c_proj_weight, p.c_proj_bias};
        return k->mlp(c, rows, s->W, s->mlp, vit->config.activation, &half, x);
    }
    DI_TRY(k->layernorm(c, rows, s->W, x, s->W, p.ln_2_weight, p.ln_2_bias, a->rows, NULL, NULL));
    DI_TRY(seen(vit, a, linear + 2, rows, s->W, a->rows));
    DI_TRY(k->linear(c, rows, s->mlp, s->W, a->rows, p.c_fc_weight, p.c_fc_bias, vit->config.activation, NULL,
                     NULL, a->wide));
    DI_TRY(seen(vit, a, linear + 3, rows, s->mlp, a->wide));
    return k->linear(c, rows, s->W, s->mlp, a->wide, p.c_proj_weight, p.c_proj_bias, DI_ACT_NONE, NULL, x, x);
}

static distac_status infer_slice(const distac_vit *vit, const di_infer_acts *a, int64_t batch, const void *images,
                                 void *features) {
    const sizes s = sizes_of(vit, batch);
    const di_kernels *k = vit->kernels;
    const distac_vit_config *config = &vit->config;
    const di_vit_ends p = di_vit_ends_read(vit);
    distac_context *c = vit->context;
    DI_TRY(k->patches(c, s.B, config->channels, config->image, config->patch, images, a->wide));
    DI_TRY(seen(vit, a, 0, s.patches, s.patch_size, a->wide));
    DI_TRY(k->linear(c, s.patches, s.W, s.patch_size, a->wide, p.conv1_weight, NULL, DI_ACT_NONE, NULL, NULL,
                     a->rows));
    DI_TRY(k->tokens(c, s.B, s.N, s.W, a->rows, p.class_embedding, p.positional_embedding, a->wide));
    DI_TRY(k->layernorm(c, s.M, s.W, a->wide, s.W, p.ln_pre_weight, p.ln_pre_bias, a->x, NULL, NULL));
    for (int64_t layer = 0; layer < config->layers; layer++) {
        DI_TRY(di_poll(c));
        DI_TRY(block_infer(vit, &s, layer, a));
    }
    if (a->all_rows) DI_TRY(k->rows_first(c, s.B, s.N, s.W, a->x, a->row_x));
    DI_TRY(k->layernorm(c, s.B, s.W, a->row_x, s.W, p.ln_post_weight, p.ln_post_bias, a->rows, NULL, NULL));
    DI_TRY(seen(vit, a, 1 + 4 * (int64_t)config->layers, s.B, s.W, a->rows));
    return k->project(c, s.B, s.D, s.W, a->rows, p.proj, features);
}

distac_status di_vit_watch(distac_vit *vit, int64_t batch, const void *images, void *features, bool all_rows,
                           di_vit_see see, void *arg) {
    const distac_vit_config *config = &vit->config;
    int64_t element = distac_dtype_bytes(vit->dtype), slice = batch < DI_VIT_SLICE ? batch : DI_VIT_SLICE;
    int64_t image_bytes = (int64_t)config->channels * config->image * config->image * element;
    int64_t feature_bytes = config->dim * element;
    di_infer_acts acts = {.see = see, .see_arg = arg, .all_rows = all_rows};
    DI_TRY(di_vit_fresh_copy(vit));
    DI_TRY(di_vit_plan_inference(vit, slice, &acts));
    for (int64_t start = 0; start < batch; start += slice) {
        int64_t count = batch - start < slice ? batch - start : slice;
        DI_TRY(infer_slice(vit, &acts, count, (const char *)images + start * image_bytes,
                           (char *)features + start * feature_bytes));
    }
    return DISTAC_OK;
}

distac_status di_vit_infer(distac_vit *vit, int64_t batch, const void *images, void *features) {
    return di_vit_watch(vit, batch, images, features, false, NULL, NULL);
}
