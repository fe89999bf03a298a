/* encoder.h: the body of CLIP's text encoder. Its blocks are those of the image encoder with causal attention; its
 * parameters are one flat buffer in the order of the lists. */
#ifndef DISTAC_ENCODER_H
#define DISTAC_ENCODER_H

#include "../nn/nn.h"

/* X(field, name, initialisation, sizes…) as in nn.h. */
#define DI_TEXT_STEM(X)                                                                                         \
    X(positional_embedding, "positional_embedding", EMBEDDING, CONTEXT, WIDTH, NONE, NONE)                      \
    X(text_projection, "text_projection", PROJECTION, WIDTH, DIM, NONE, NONE)                                   \
    X(token_embedding, "token_embedding.weight", EMBEDDING, VOCABULARY, WIDTH, NONE, NONE)
#define DI_TEXT_TAIL(X)                                                                                         \
    X(ln_final_weight, "ln_final.weight", ONE, WIDTH, NONE, NONE, NONE)                                         \
    X(ln_final_bias, "ln_final.bias", ZERO, WIDTH, NONE, NONE, NONE)

typedef struct di_text_ends {
    DI_TEXT_STEM(DI_VIT_FIELD)
    DI_TEXT_TAIL(DI_VIT_FIELD)
} di_text_ends;

struct distac_text {
    atomic_int refs;
    distac_context *context; /* retained */
    const di_kernels *kernels;
    distac_text_config config;
    int32_t dtype;
    int64_t param_count;
    di_param *params;
    distac_tensor *flat; /* [P] */
    di_workspace workspace;
    bool has_scale;
    double scale; /* exp(logit_scale) */
    char hash[65]; /* made when first asked for; the weights never change */
};

/* ---- encoder_params.c ---- */
distac_status di_text_params_build(distac_text *text); /* the table for text->config */
void di_text_params_free(distac_text *text);
di_text_ends di_text_ends_at(const distac_text *text);
di_vit_block di_text_block_at(const distac_text *text, int64_t layer);

/* ---- encoder_forward.c ---- */
/* ids [batch,length]; ends [batch]: the position of each text that is its feature. */
distac_status di_text_infer(distac_text *text, int64_t batch, int64_t length, const int64_t *ids,
                            const int64_t *ends, void *features);

#endif
