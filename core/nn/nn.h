/* nn.h: the body of the image encoder and of the classification head, for core/train and core/data.
 *
 * Parameters are one flat buffer, so a task vector is one array. Its order is that of the lists below:
 * the stem, then the block tensors layer by layer, then the tail; no padding between tensors. It is also the
 * order in which OpenAI's CLIP stores them. */
#ifndef DISTAC_NN_H
#define DISTAC_NN_H

#include "../backend/backend.h"
#include "../tensor/tensor.h"

/* X(field, name, initialisation, sizes…): sizes are names of enum di_size, unused ones NONE. */
#define DI_VIT_STEM(X)                                                                                          \
    X(class_embedding, "class_embedding", EMBEDDING, WIDTH, NONE, NONE, NONE)                                   \
    X(positional_embedding, "positional_embedding", EMBEDDING, TOKENS, WIDTH, NONE, NONE)                       \
    X(proj, "proj", PROJECTION, WIDTH, DIM, NONE, NONE)                                                         \
    X(conv1_weight, "conv1.weight", MATRIX, WIDTH, CHANNELS, PATCH, PATCH)                                      \
    X(ln_pre_weight, "ln_pre.weight", ONE, WIDTH, NONE, NONE, NONE)                                             \
    X(ln_pre_bias, "ln_pre.bias", ZERO, WIDTH, NONE, NONE, NONE)
#define DI_VIT_BLOCK(X)                                                                                         \
    X(ln_1_weight, "ln_1.weight", ONE, WIDTH, NONE, NONE, NONE)                                                 \
    X(ln_1_bias, "ln_1.bias", ZERO, WIDTH, NONE, NONE, NONE)                                                    \
    X(in_proj_weight, "attn.in_proj_weight", MATRIX, QKV, WIDTH, NONE, NONE)                                    \
    X(in_proj_bias, "attn.in_proj_bias", ZERO, QKV, NONE, NONE, NONE)                                           \
    X(out_proj_weight, "attn.out_proj.weight", RESIDUAL, WIDTH, WIDTH, NONE, NONE)                              \
    X(out_proj_bias, "attn.out_proj.bias", ZERO, WIDTH, NONE, NONE, NONE)                                       \
    X(ln_2_weight, "ln_2.weight", ONE, WIDTH, NONE, NONE, NONE)                                                 \
    X(ln_2_bias, "ln_2.bias", ZERO, WIDTH, NONE, NONE, NONE)                                                    \
    X(c_fc_weight, "mlp.c_fc.weight", MATRIX, MLP, WIDTH, NONE, NONE)                                           \
    X(c_fc_bias, "mlp.c_fc.bias", ZERO, MLP, NONE, NONE, NONE)                                                  \
    X(c_proj_weight, "mlp.c_proj.weight", RESIDUAL, WIDTH, MLP, NONE, NONE)                                     \
    X(c_proj_bias, "mlp.c_proj.bias", ZERO, WIDTH, NONE, NONE, NONE)
#define DI_VIT_TAIL(X)                                                                                          \
    X(ln_post_weight, "ln_post.weight", ONE, WIDTH, NONE, NONE, NONE)                                           \
    X(ln_post_bias, "ln_post.bias", ZERO, WIDTH, NONE, NONE, NONE)

#define DI_VIT_FIELD(field, ...) void *field;
typedef struct di_vit_block {
    DI_VIT_BLOCK(DI_VIT_FIELD)
} di_vit_block;
typedef struct di_vit_ends {
    DI_VIT_STEM(DI_VIT_FIELD)
    DI_VIT_TAIL(DI_VIT_FIELD)
} di_vit_ends;

/* One parameter tensor. */
typedef struct di_param {
    char *name;
    int32_t init; /* enum in params.c */
    int32_t rank;
    int64_t shape[4], offset, count;
} di_param;

/* What the forward pass of one block leaves for the backward pass. In the last block nothing but the class
 * token is read after the attention: its buffers from `skip` on have one row per image. */
typedef struct di_block_acts {
    void *x;                         /* input of the block */
    void *mean_1, *rstd_1;     /* ln_1; its output is made again when needed: that costs less than its memory */
    void *qkv, *probs, *mixed; /* attention; probs: what it keeps; mixed: input of out_proj over all tokens */
    void *skip, *kept;               /* rows of x and of mixed that go on (all: x and mixed themselves) */
    void *middle;                    /* x + attention */
    void *mean_2, *rstd_2;
    void *hidden, *active;           /* c_fc before and after the activation */
    void *y;                         /* output of the block */
} di_block_acts;

typedef struct di_vit_acts {
    void *patches, *embedded, *tokens, *mean_pre, *rstd_pre, *mean_post, *rstd_post, *pooled;
    void *d_x, *d_rows, *d_wide, *d_row_x, *d_pooled; /* gradients under way */
} di_vit_acts;

/* Memory where the context computes; it grows when a larger batch comes and is otherwise used again. */
typedef struct di_workspace {
    void *memory;
    size_t bytes;
} di_workspace;

struct distac_vit {
    atomic_int refs;
    distac_context *context; /* retained */
    const di_kernels *kernels;
    distac_vit_config config;
    int32_t dtype;
    int64_t tokens; /* per image, the class token included */
    int64_t param_count;
    di_param *params;
    distac_tensor *flat; /* [P] */
    void *copy;          /* [P] in bfloat16 where the kernels are narrow, made by di_vit_fresh_copy */
    unsigned long long copied; /* writes to flat that copy has seen */
    di_workspace training, inference;
    di_vit_acts acts;
    di_block_acts *blocks; /* [layers] */
    int64_t kept_batch;    /* images of the forward pass whose activations are held; 0: none */
    int32_t recompute;     /* 1: blocks share one inside, which the backward pass fills again block by block */
    int64_t inside_of;     /* layer whose inside the shared buffers hold; -1: none */
};

struct distac_head {
    atomic_int refs;
    distac_context *context; /* the weight's */
    const di_kernels *kernels;
    distac_tensor *weight; /* [C,D] */
    int32_t normalize, dtype;
    int64_t classes, dim;
};

/* ---- parameters (params.c) ---- */
distac_status di_vit_params_build(distac_vit *vit); /* the table for vit->config */
void di_vit_params_free(distac_vit *vit);
int64_t di_vit_params_total(const distac_vit *vit);
distac_status di_vit_param_init(const distac_vit *vit, int64_t index, uint64_t seed);
/* Pointers into a flat buffer (parameters or gradients). */
di_vit_ends di_vit_ends_at(const distac_vit *vit, void *flat);
di_vit_block di_vit_block_at(const distac_vit *vit, void *flat, int64_t layer);
/* The parameters to compute with: the encoder's own, or, where the kernels are narrow, copies of what linear
 * layers read. */
di_vit_ends di_vit_ends_read(const distac_vit *vit);
di_vit_block di_vit_block_read(const distac_vit *vit, int64_t layer);
/* Makes the copies if there are none of the parameters as they are. Before every pass, and before one is recorded.
 */
distac_status di_vit_fresh_copy(distac_vit *vit);

/* ---- vit.c ---- */
void di_vit_retain(distac_vit *vit);
distac_status di_vit_config_check(const distac_vit_config *config);
/* Fails unless images are [B,C,S,S] in the model's type; B at least 1. */
distac_status di_vit_images_check(const distac_vit *vit, const distac_tensor *images);
/* di_tensor_expect for what must lie where the context computes. */
distac_status di_tensor_expect_there(const distac_tensor *tensor, const char *name, int32_t dtype, int32_t rank,
                                     const int64_t *shape);
/* [new] Checked images where the model computes. */
distac_status di_vit_images(const distac_vit *vit, const distac_tensor *images, distac_tensor **out);
/* [new] The tensor, dense, where the context computes; not copied if it lies so already. */
distac_status di_bring_there(const distac_tensor *tensor, distac_tensor **out);

/* ---- workspace.c ---- */
/* Makes room for a batch and sets acts and blocks to point into it; no allocation if it fits. */
distac_status di_vit_plan_training(distac_vit *vit, int64_t batch);
/* Shown what enters a linear layer, x [rows,columns], while inference runs. Layers count as in
 * distac_vit_linear_name. */
typedef distac_status (*di_vit_see)(void *arg, int64_t linear, int64_t rows, int64_t columns, const void *x);
typedef struct di_infer_acts {
    void *x, *rows, *wide, *row_x;
    void *seen; /* what is shown, in the model's type, where the kernels are narrow and somebody looks */
    di_vit_see see; /* NULL: nobody looks */
    void *see_arg;
    bool all_rows; /* the last block goes on with all tokens, though only the class token's are read after it */
} di_infer_acts;
distac_status di_vit_plan_inference(distac_vit *vit, int64_t slice, di_infer_acts *out);
void di_vit_workspace_free(distac_vit *vit);
distac_status di_workspace_reserve(distac_context *context, di_workspace *workspace, size_t bytes);
/* The same in the host's memory; di_free takes it back. */
distac_status di_workspace_reserve_here(distac_context *context, di_workspace *workspace, size_t bytes);
void di_workspace_free(distac_context *context, di_workspace *workspace);
enum { DI_VIT_SLICE = 128 }; /* images at a time in inference */

/* ---- vit_forward.c, vit_backward.c: raw pointers, dense, the model's type ---- */
distac_status di_vit_infer(distac_vit *vit, int64_t batch, const void *images, void *features);
/* As di_vit_infer, with somebody who looks. */
distac_status di_vit_watch(distac_vit *vit, int64_t batch, const void *images, void *features, bool all_rows,
                           di_vit_see see, void *arg);
distac_status di_vit_forward(distac_vit *vit, int64_t batch, const void *images, void *features);
distac_status di_vit_backward(distac_vit *vit, const void *dfeatures, void *grads);

/* Makes what the forward pass had inside a block once more, from the block's input; the same bits. */
distac_status di_vit_block_again(distac_vit *vit, int64_t layer);

/* ---- head.c ---- */
void di_head_retain(distac_head *head);
/* unit [B,D] and norms [B] are for the backward pass (unused without normalisation). */
distac_status di_head_forward(const distac_head *head, int64_t batch, const void *features, void *unit,
                              void *norms, void *logits);
/* dunit [B,D] is scratch; dweight NULL: not wanted. */
distac_status di_head_backward(const distac_head *head, int64_t batch, const void *features, const void *unit,
                               const void *norms, const void *dlogits, void *dunit, void *dweight,
                               void *dfeatures);

#endif
