/* vit_backward.c: gradients for the parameters: the forward pass of vit_forward.c read from the end. */
#include "nn.h"

/* On entry d_x holds the gradient for the block's output, on return that for its input. In the last block the
 * gradient arrives in d_row_x, one row per image. */
static distac_status block_backward(const distac_vit *vit, int64_t layer, void *grads) {
    const di_kernels *k = vit->kernels;
    const di_block_acts *a = &vit->blocks[layer];
    const di_vit_acts *t = &vit->acts;
    const di_vit_block p = di_vit_block_read(vit, layer), g = di_vit_block_at(vit, grads, layer);
    distac_context *c = vit->context;
    const int64_t B = vit->kept_batch, N = vit->tokens, W = vit->config.width, M = B * N, mlp = vit->config.mlp;
    const bool last = a->skip != a->x;
    const int64_t rows = last ? B : M;
    void *d_x = last ? t->d_row_x : t->d_x;
    DI_TRY(k->linear_backward_weight(c, rows, W, mlp, a->active, d_x, g.c_proj_weight, g.c_proj_bias));
    DI_TRY(k->linear_backward_input(c, rows, W, mlp, d_x, p.c_proj_weight, vit->config.activation, a->hidden,
                                    false, t->d_wide));
    DI_TRY(k->layernorm(c, rows, W, a->middle, W, p.ln_2_weight, p.ln_2_bias, t->d_rows, NULL, NULL));
    DI_TRY(k->linear_backward_weight(c, rows, mlp, W, t->d_rows, t->d_wide, g.c_fc_weight, g.c_fc_bias));
    DI_TRY(k->linear_backward_input(c, rows, mlp, W, t->d_wide, p.c_fc_weight, DI_ACT_NONE, NULL, false,
                                    t->d_rows));
    DI_TRY(k->layernorm_backward(c, rows, W, a->middle, W, p.ln_2_weight, a->mean_2, a->rstd_2, t->d_rows, true,
                                 d_x, g.ln_2_weight, g.ln_2_bias));
    DI_TRY(k->linear_backward_weight(c, rows, W, W, a->kept, d_x, g.out_proj_weight, g.out_proj_bias));
    void *d_mixed = t->d_rows;
    if (last) {
        DI_TRY(k->linear_backward_input(c, rows, W, W, d_x, p.out_proj_weight, DI_ACT_NONE, NULL, false,
                                        t->d_pooled));
        DI_TRY(k->rows_first_backward(c, B, N, W, t->d_pooled, d_mixed));
        DI_TRY(k->rows_first_backward(c, B, N, W, d_x, t->d_x));
        d_x = t->d_x;
    } else {
        DI_TRY(k->linear_backward_input(c, rows, W, W, d_x, p.out_proj_weight, DI_ACT_NONE, NULL, false, d_mixed));
    }
    DI_TRY(k->attention_backward(c, B, N, W, vit->config.heads, a->qkv, a->probs, a->mixed, d_mixed,
                                 t->d_wide));
    DI_TRY(k->layernorm(c, M, W, a->x, W, p.ln_1_weight, p.ln_1_bias, t->d_rows, NULL, NULL));
    DI_TRY(k->linear_backward_weight(c, M, 3 * W, W, t->d_rows, t->d_wide, g.in_proj_weight, g.in_proj_bias));
    DI_TRY(k->linear_backward_input(c, M, 3 * W, W, t->d_wide, p.in_proj_weight, DI_ACT_NONE, NULL, false,
                                    t->d_rows));
    return k->layernorm_backward(c, M, W, a->x, W, p.ln_1_weight, a->mean_1, a->rstd_1, t->d_rows, true, d_x,
                                 g.ln_1_weight, g.ln_1_bias);
}

distac_status di_vit_backward(distac_vit *vit, const void *dfeatures, void *grads) {
    const di_kernels *k = vit->kernels;
    const distac_vit_config *config = &vit->config;
    const di_vit_acts *t = &vit->acts;
    const di_vit_ends p = di_vit_ends_read(vit), g = di_vit_ends_at(vit, grads);
    distac_context *c = vit->context;
    const int64_t B = vit->kept_batch, N = vit->tokens, W = config->width, D = config->dim, M = B * N;
    const int64_t patch_size = (int64_t)config->channels * config->patch * config->patch;
    DI_TRY(k->project_backward(c, B, D, W, t->pooled, p.proj, dfeatures, t->d_pooled, g.proj));
    DI_TRY(k->layernorm_backward(c, B, W, vit->blocks[config->layers - 1].y, W, p.ln_post_weight, t->mean_post,
                                 t->rstd_post, t->d_pooled, false, t->d_row_x, g.ln_post_weight, g.ln_post_bias));
    for (int64_t layer = config->layers; layer-- > 0;) {
        DI_TRY(di_poll(c));
        if (vit->recompute && vit->inside_of != layer) DI_TRY(di_vit_block_again(vit, layer));
        DI_TRY(block_backward(vit, layer, grads));
    }
    DI_TRY(k->layernorm_backward(c, M, W, t->tokens, W, p.ln_pre_weight, t->mean_pre, t->rstd_pre, t->d_x, false,
                                 t->d_rows, g.ln_pre_weight, g.ln_pre_bias));
    DI_TRY(k->tokens_backward(c, B, N, W, t->d_rows, t->d_wide, g.class_embedding, g.positional_embedding));
    return k->linear_backward_weight(c, B * (N - 1), W, patch_size, t->patches, t->d_wide, g.conv1_weight, NULL);
}
