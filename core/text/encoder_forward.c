/* encoder_forward.c: texts to features. Tokens behind the end of a text cannot change what is read at it, because
 * attention is causal: a slice of texts is only as long as its longest, not as the padded rows. */
#include "encoder.h"
#include <stdlib.h>

enum { TEXTS = 64 }; /* at a time */

typedef struct acts {
    void *x, *rows, *wide, *row_x;
    int64_t *ids, *ends; /* of every row of x; rows of x that are features */
} acts;

/* Texts that are computed together, all as long as the longest. */
typedef struct slice {
    int64_t batch, length, stride; /* stride: of the rows of ids */
    const int64_t *ids, *ends;
} slice;

/* x [b,i] = token_embedding[id] + positional_embedding[i] */
static distac_status embed(const distac_text *text, const slice *s, const acts *a) {
    const di_text_ends p = di_text_ends_at(text);
    const di_kernels *k = text->kernels;
    int64_t W = text->config.width, n = s->length * W, element = distac_dtype_bytes(text->dtype);
    DI_TRY(k->gather(text->context, s->batch * s->length, W, a->ids, p.token_embedding, a->x));
    for (int64_t b = 0; b < s->batch; b++)
        DI_TRY(k->axpby(text->context, n, 1.0, p.positional_embedding, 1.0, (char *)a->x + b * n * element));
    return DISTAC_OK;
}

/* One block in place: x is input and output. The last one leaves with one row per text, in row_x. */
static distac_status block(const distac_text *text, const slice *s, int64_t layer, const acts *a) {
    const di_kernels *k = text->kernels;
    const di_vit_block p = di_text_block_at(text, layer);
    const distac_text_config *config = &text->config;
    distac_context *c = text->context;
    int64_t W = config->width, N = s->length, rows = s->batch * N;
    void *x = a->x, *mixed = a->rows;
    DI_TRY(k->layernorm(c, rows, W, x, W, p.ln_1_weight, p.ln_1_bias, a->rows, NULL, NULL));
    DI_TRY(
        k->linear(c, rows, 3 * W, W, a->rows, p.in_proj_weight, p.in_proj_bias, DI_ACT_NONE, NULL, NULL, a->wide));
    DI_TRY(k->attention_causal(c, s->batch, N, W, config->heads, a->wide, mixed));
    if (layer == config->layers - 1) {
        rows = s->batch;
        DI_TRY(k->gather(c, rows, W, a->ends, x, a->row_x));
        DI_TRY(k->gather(c, rows, W, a->ends, mixed, a->wide));
        x = a->row_x;
        mixed = a->wide;
    }
    DI_TRY(k->linear(c, rows, W, W, mixed, p.out_proj_weight, p.out_proj_bias, DI_ACT_NONE, NULL, x, x));
    DI_TRY(k->layernorm(c, rows, W, x, W, p.ln_2_weight, p.ln_2_bias, a->rows, NULL, NULL));
    DI_TRY(k->linear(c, rows, config->mlp, W, a->rows, p.c_fc_weight, p.c_fc_bias, config->activation, NULL, NULL,
                     a->wide));
    return k->linear(c, rows, W, config->mlp, a->wide, p.c_proj_weight, p.c_proj_bias, DI_ACT_NONE, NULL, x, x);
}

static distac_status plan(distac_text *text, int64_t batch, int64_t length, acts *out) {
    size_t W = (size_t)text->config.width, mlp = (size_t)text->config.mlp, wide = mlp > 3 * W ? mlp : 3 * W;
    size_t all = (size_t)batch * (size_t)length, row, bytes, element = (size_t)distac_dtype_bytes(text->dtype);
    if (__builtin_mul_overflow(2 * W + wide, all, &row) || __builtin_add_overflow(row, (size_t)batch * W, &row) ||
        __builtin_mul_overflow(row, element, &bytes) || bytes > (size_t)INT64_MAX - 256)
        return di_fail_at(DISTAC_ENOMEM, "distac_text_features", "%lld texts of width %d are too large here",
                          (long long)batch, (int)text->config.width);
    size_t lists = (all + (size_t)batch) * sizeof(int64_t);
    DI_TRY(di_workspace_reserve(text->context, &text->workspace, bytes + lists + 6 * 64));
    size_t sizes[6] = {all * W * element, all * W * element, all * wide * element, (size_t)batch * W * element,
                       all * sizeof(int64_t), (size_t)batch * sizeof(int64_t)};
    void *fields[6];
    char *at = text->workspace.memory;
    for (int i = 0; i < 6; i++) {
        fields[i] = at;
        at += (sizes[i] + 63) / 64 * 64;
    }
    *out = (acts){fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]};
    return DISTAC_OK;
}

/* The lists where the encoder computes. */
static distac_status put_lists(const distac_text *text, const slice *s, const acts *a) {
    int64_t all = s->batch * s->length, *list = di_new((size_t)(all + s->batch) * sizeof *list);
    if (!list) return DISTAC_ENOMEM;
    for (int64_t b = 0; b < s->batch; b++) {
        for (int64_t i = 0; i < s->length; i++) list[b * s->length + i] = s->ids[b * s->stride + i];
        list[all + b] = b * s->length + s->ends[b];
    }
    distac_status status = di_there_put(text->context, a->ids, list, (size_t)all * sizeof *list);
    if (status == DISTAC_OK)
        status = di_there_put(text->context, a->ends, list + all, (size_t)s->batch * sizeof *list);
    free(list);
    return status;
}

static distac_status infer_slice(distac_text *text, const slice *s, void *features) {
    const di_kernels *k = text->kernels;
    const di_text_ends p = di_text_ends_at(text);
    distac_context *c = text->context;
    int64_t W = text->config.width, D = text->config.dim;
    acts a = {0};
    DI_TRY(plan(text, s->batch, s->length, &a));
    DI_TRY(put_lists(text, s, &a));
    DI_TRY(embed(text, s, &a));
    for (int64_t layer = 0; layer < text->config.layers; layer++) {
        DI_TRY(di_poll(c));
        DI_TRY(block(text, s, layer, &a));
    }
    DI_TRY(k->layernorm(c, s->batch, W, a.row_x, W, p.ln_final_weight, p.ln_final_bias, a.rows, NULL, NULL));
    return k->gemm(c, false, false, s->batch, D, W, 1.0, a.rows, W, p.text_projection, D, 0.0, features, D);
}

distac_status di_text_infer(distac_text *text, int64_t batch, int64_t length, const int64_t *ids,
                            const int64_t *ends, void *features) {
    int64_t feature_bytes = text->config.dim * distac_dtype_bytes(text->dtype);
    for (int64_t start = 0; start < batch; start += TEXTS) {
        int64_t count = batch - start < TEXTS ? batch - start : TEXTS, longest = 0;
        for (int64_t b = start; b < start + count; b++) longest = ends[b] > longest ? ends[b] : longest;
        slice s = {.batch = count, .length = longest + 1, .stride = length, .ids = ids + start * length,
                   .ends = ends + start};
        DI_TRY(infer_slice(text, &s, (char *)features + start * feature_bytes));
    }
    return DISTAC_OK;
}
