/* encoder_forward.c: texts to features. Tokens behind the end of a text cannot change what is read at it, because
 * attention is causal: a slice of texts is only as long as its longest, not as the padded rows. */
#include "encoder.h"
#include <string.h>

enum { TEXTS = 64 }; /* at a time */

typedef struct acts {
    void *x, *rows, *wide, *row_x;
} acts;

typedef struct job {
    const distac_text *text;
    int64_t length, stride, width; /* length: of the slice; stride: of the rows of ids */
    const int64_t *ids, *ends;
    const char *from;
    char *to;
} job;

/* x [b,i] = token_embedding[id] + positional_embedding[i] */
static void embed(void *arg, int64_t b) {
    const job *j = arg;
    const di_text_ends p = di_text_ends_at(j->text);
    for (int64_t i = 0; i < j->length; i++) {
        int64_t token = j->ids[b * j->stride + i] * j->width, position = i * j->width;
        int64_t out = (b * j->length + i) * j->width;
        if (j->text->dtype == DISTAC_F32) {
            const float *e = (const float *)p.token_embedding + token,
                        *q = (const float *)p.positional_embedding + position;
            float *x = (float *)(void *)j->to + out;
            for (int64_t c = 0; c < j->width; c++) x[c] = e[c] + q[c];
        } else {
            const double *e = (const double *)p.token_embedding + token,
                         *q = (const double *)p.positional_embedding + position;
            double *x = (double *)(void *)j->to + out;
            for (int64_t c = 0; c < j->width; c++) x[c] = e[c] + q[c];
        }
    }
}

/* The row of each text that is its feature. */
static void take_end(void *arg, int64_t b) {
    const job *j = arg;
    size_t row = (size_t)j->width * (size_t)distac_dtype_bytes(j->text->dtype);
    memcpy(j->to + (size_t)b * row, j->from + (size_t)(b * j->length + j->ends[b]) * row, row);
}

static void take_ends(const job *slice, int64_t batch, const void *from, void *to) {
    job j = *slice;
    j.from = from;
    j.to = to;
    di_parallel(j.text->context, batch, take_end, &j);
}

/* One block in place: x is input and output. The last one leaves with one row per text, in row_x. */
static distac_status block(const distac_text *text, const job *slice, int64_t batch, int64_t layer,
                           const acts *a) {
    const di_kernels *k = text->kernels;
    const di_vit_block p = di_text_block_at(text, layer);
    const distac_text_config *config = &text->config;
    distac_context *c = text->context;
    int64_t W = config->width, N = slice->length, rows = batch * N;
    void *x = a->x, *mixed = a->rows;
    DI_TRY(k->layernorm(c, rows, W, x, W, p.ln_1_weight, p.ln_1_bias, a->rows, NULL, NULL));
    DI_TRY(
        k->linear(c, rows, 3 * W, W, a->rows, p.in_proj_weight, p.in_proj_bias, DI_ACT_NONE, NULL, NULL, a->wide));
    DI_TRY(k->attention_causal(c, batch, N, W, config->heads, a->wide, mixed));
    if (layer == config->layers - 1) {
        take_ends(slice, batch, x, a->row_x);
        take_ends(slice, batch, mixed, a->wide);
        x = a->row_x;
        mixed = a->wide;
        rows = batch;
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
    DI_TRY(di_workspace_reserve_here(text->context, &text->workspace, bytes + 4 * 64));
    size_t sizes[4] = {all * W, all * W, all * wide, (size_t)batch * W};
    void **fields[4] = {&out->x, &out->rows, &out->wide, &out->row_x};
    char *at = text->workspace.memory;
    for (int i = 0; i < 4; i++) {
        *fields[i] = at;
        at += (sizes[i] * element + 63) / 64 * 64;
    }
    return DISTAC_OK;
}

static distac_status infer_slice(distac_text *text, job *slice, int64_t batch, void *features) {
    const di_kernels *k = text->kernels;
    const di_text_ends p = di_text_ends_at(text);
    distac_context *c = text->context;
    int64_t W = text->config.width, D = text->config.dim;
    acts a = {0};
    DI_TRY(plan(text, batch, slice->length, &a));
    slice->to = a.x;
    di_parallel(c, batch, embed, slice);
    for (int64_t layer = 0; layer < text->config.layers; layer++) {
        DI_TRY(di_poll(c));
        DI_TRY(block(text, slice, batch, layer, &a));
    }
    DI_TRY(k->layernorm(c, batch, W, a.row_x, W, p.ln_final_weight, p.ln_final_bias, a.rows, NULL, NULL));
    return k->gemm(c, false, false, batch, D, W, 1.0, a.rows, W, p.text_projection, D, 0.0, features, D);
}

distac_status di_text_infer(distac_text *text, int64_t batch, int64_t length, const int64_t *ids,
                            const int64_t *ends, void *features) {
    int64_t feature_bytes = text->config.dim * distac_dtype_bytes(text->dtype);
    for (int64_t start = 0; start < batch; start += TEXTS) {
        int64_t count = batch - start < TEXTS ? batch - start : TEXTS, longest = 0;
        for (int64_t b = start; b < start + count; b++) longest = ends[b] > longest ? ends[b] : longest;
        job slice = {.text = text,
                     .length = longest + 1,
                     .stride = length,
                     .width = text->config.width,
                     .ids = ids + start * length,
                     .ends = ends + start};
        DI_TRY(infer_slice(text, &slice, count, (char *)features + start * feature_bytes));
    }
    return DISTAC_OK;
}
