/* workspace.c: plans the memory of forward and backward passes from the configuration and the batch. One walk
 * over the buffers both counts the bytes and, given memory, hands out the pointers, so the two always agree. */
#include "nn.h"

typedef struct plan {
    char *base; /* NULL: only count */
    size_t bytes;
    size_t element, full; /* bytes of an activation, and of what is kept in the model's type */
    bool overflow;
} plan;

static plan plan_at(const distac_vit *vit, void *base) {
    const size_t full = (size_t)distac_dtype_bytes(vit->dtype);
    return (plan){.base = base, .element = vit->kernels->narrow ? 2 : full, .full = full};
}

static void *take_of(plan *p, size_t element, int64_t rows, int64_t columns) {
    size_t count, bytes, end;
    if (__builtin_mul_overflow((size_t)rows, (size_t)columns, &count) ||
        __builtin_mul_overflow(count, element, &bytes) || __builtin_add_overflow(bytes, 63U, &bytes) ||
        __builtin_add_overflow(p->bytes, bytes & ~(size_t)63, &end) || end > (size_t)INT64_MAX) {
        p->overflow = true;
        return NULL;
    }
    void *out = p->base ? p->base + p->bytes : NULL;
    p->bytes = end;
    return out;
}

static void *take(plan *p, int64_t rows, int64_t columns) { return take_of(p, p->element, rows, columns); }
static void *take_full(plan *p, int64_t rows, int64_t columns) { return take_of(p, p->full, rows, columns); }

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

/* What is inside a block, between its input and its output; rows are those that go on after the attention. */
static void take_inside(plan *p, const distac_vit *vit, int64_t batch, int64_t rows, di_block_acts *b) {
    const distac_vit_config *c = &vit->config;
    int64_t W = c->width, all = batch * vit->tokens;
    b->mean_1 = take_full(p, all, 1);
    b->rstd_1 = take_full(p, all, 1);
    b->qkv = take(p, all, 3 * W);
    b->probs = take_full(p, batch * c->heads * vit->tokens, vit->kernels->keeps_probs ? vit->tokens : 1);
    b->mixed = take(p, all, W);
    b->middle = take(p, rows, W);
    b->mean_2 = take_full(p, rows, 1);
    b->rstd_2 = take_full(p, rows, 1);
    b->hidden = take(p, rows, c->mlp);
    b->active = take(p, rows, c->mlp);
}

/* With recomputation all blocks share one inside, large enough for any of them. */
static void walk_training(plan *p, const distac_vit *vit, int64_t batch, di_vit_acts *a, di_block_acts *blocks) {
    const distac_vit_config *c = &vit->config;
    int64_t W = c->width, patches = batch * (vit->tokens - 1), all = batch * vit->tokens;
    int64_t patch_size = (int64_t)c->channels * c->patch * c->patch;
    int64_t wide = largest(3 * W, c->mlp);
    a->patches = take(p, patches, patch_size);
    a->tokens = take(p, all, W);
    a->mean_pre = take_full(p, all, 1);
    a->rstd_pre = take_full(p, all, 1);
    void *x = take(p, all, W);
    di_block_acts shared = {0};
    if (vit->recompute) take_inside(p, vit, batch, c->layers > 1 ? all : batch, &shared);
    for (int32_t layer = 0; layer < c->layers; layer++) {
        bool last = layer == c->layers - 1;
        int64_t rows = last ? batch : all;
        di_block_acts b = shared;
        if (!vit->recompute) take_inside(p, vit, batch, rows, &b);
        b.x = x;
        b.skip = last ? take(p, rows, W) : b.x;
        b.kept = last ? take(p, rows, W) : b.mixed;
        b.y = x = take(p, rows, W);
        if (blocks) blocks[layer] = b;
    }
    a->mean_post = take_full(p, batch, 1);
    a->rstd_post = take_full(p, batch, 1);
    a->pooled = take(p, batch, W);
    a->d_x = take(p, all, W);
    a->d_rows = take(p, all, W);
    a->d_wide = take(p, all, wide);
    a->d_row_x = take(p, batch, W);
    a->d_pooled = take(p, batch, W);
    a->embedded = a->d_wide; /* wide enough, and not needed after the tokens are made */
}

static void walk_inference(plan *p, const distac_vit *vit, int64_t slice, di_infer_acts *a) {
    const distac_vit_config *c = &vit->config;
    int64_t W = c->width, all = slice * vit->tokens;
    int64_t patch_size = (int64_t)c->channels * c->patch * c->patch;
    a->x = take(p, all, W);
    a->rows = take(p, all, W);
    a->wide = take(p, all, largest(largest(3 * W, c->mlp), patch_size));
    a->row_x = take(p, slice, W);
    if (a->see && vit->kernels->narrow) a->seen = take_full(p, all, largest(largest(W, c->mlp), patch_size));
}

void di_workspace_free(distac_context *context, di_workspace *workspace) {
    di_there_free(context, workspace->memory, workspace->bytes);
    *workspace = (di_workspace){NULL, 0};
}

distac_status di_workspace_reserve(distac_context *context, di_workspace *workspace, size_t bytes) {
    if (bytes <= workspace->bytes) return DISTAC_OK;
    di_workspace_free(context, workspace);
    workspace->memory = di_there_alloc(context, bytes);
    if (!workspace->memory) return DISTAC_ENOMEM;
    workspace->bytes = bytes;
    return DISTAC_OK;
}

distac_status di_workspace_reserve_here(distac_context *context, di_workspace *workspace, size_t bytes) {
    if (bytes <= workspace->bytes) return DISTAC_OK;
    di_free(context, workspace->memory, workspace->bytes);
    *workspace = (di_workspace){NULL, 0};
    workspace->memory = di_alloc(context, bytes);
    if (!workspace->memory) return DISTAC_ENOMEM;
    workspace->bytes = bytes;
    return DISTAC_OK;
}

static distac_status too_large(const distac_vit *vit, int64_t batch) {
    return di_fail(DISTAC_ENOMEM, "a batch of %lld images of width %d and %d layers is too large for this machine",
                   (long long)batch, (int)vit->config.width, (int)vit->config.layers);
}

distac_status di_vit_plan_training(distac_vit *vit, int64_t batch) {
    plan p = plan_at(vit, NULL);
    walk_training(&p, vit, batch, &vit->acts, NULL);
    if (p.overflow) return too_large(vit, batch);
    DI_TRY(di_workspace_reserve(vit->context, &vit->training, p.bytes));
    p = plan_at(vit, vit->training.memory);
    walk_training(&p, vit, batch, &vit->acts, vit->blocks);
    return DISTAC_OK;
}

distac_status di_vit_plan_inference(distac_vit *vit, int64_t slice, di_infer_acts *out) {
    plan p = plan_at(vit, NULL);
    walk_inference(&p, vit, slice, out);
    if (p.overflow) return too_large(vit, slice);
    DI_TRY(di_workspace_reserve(vit->context, &vit->inference, p.bytes));
    p = plan_at(vit, vit->inference.memory);
    walk_inference(&p, vit, slice, out);
    return DISTAC_OK;
}

void di_vit_workspace_free(distac_vit *vit) {
    di_workspace_free(vit->context, &vit->training);
    di_workspace_free(vit->context, &vit->inference);
    vit->kept_batch = 0;
    vit->inside_of = -1;
}

distac_status distac_vit_set_recompute(distac_vit *vit, int32_t on) {
    DI_REQUIRE(vit, "vit is needed");
    if (on != 0 && on != 1) return di_fail(DISTAC_EINVAL, "on is %d, it must be 0 or 1", (int)on);
    if (vit->recompute == on) return DISTAC_OK;
    di_vit_workspace_free(vit); /* it only grows otherwise, and the point of the change is to hold less */
    vit->recompute = on;
    return DISTAC_OK;
}

int32_t distac_vit_get_recompute(const distac_vit *vit) { return vit ? vit->recompute : 0; }

int64_t distac_vit_workspace(const distac_vit *vit, int64_t batch, int32_t training) {
    if (!vit || batch < 1) return 0;
    plan p = plan_at(vit, NULL);
    di_vit_acts acts;
    di_infer_acts infer = {0};
    if (training) walk_training(&p, vit, batch, &acts, NULL);
    else walk_inference(&p, vit, batch < DI_VIT_SLICE ? batch : DI_VIT_SLICE, &infer);
    return p.overflow ? INT64_MAX : (int64_t)p.bytes;
}
