/* layout_hf.c: the names of transformers' CLIPModel, CLIPVisionModel, CLIPTextModel and their WithProjection forms
 * ("pre_layrnorm" is how it is spelled there). */
#include "layout.h"

#define PAIR(theirs, ours)                                                                                        \
    {theirs ".weight", DI_SAME, {ours ".weight"}}, {                                                              \
        theirs ".bias", DI_SAME, {                                                                                \
            ours ".bias"                                                                                          \
        }                                                                                                         \
    }

#define BLOCK(theirs, ours)                                                                                       \
    PAIR(theirs "ln_1", ours "layer_norm1"),                                                                      \
        {theirs "attn.in_proj_weight",                                                                            \
         DI_CUT,                                                                                                  \
         {ours "self_attn.q_proj.weight", ours "self_attn.k_proj.weight", ours "self_attn.v_proj.weight"}},       \
        {theirs "attn.in_proj_bias",                                                                              \
         DI_CUT,                                                                                                  \
         {ours "self_attn.q_proj.bias", ours "self_attn.k_proj.bias", ours "self_attn.v_proj.bias"}},             \
        PAIR(theirs "attn.out_proj", ours "self_attn.out_proj"), PAIR(theirs "ln_2", ours "layer_norm2"),         \
        PAIR(theirs "mlp.c_fc", ours "mlp.fc1"), PAIR(theirs "mlp.c_proj", ours "mlp.fc2")

static const di_layout_name names[] = {
    {"visual.class_embedding", DI_SAME, {"vision_model.embeddings.class_embedding"}},
    {"visual.positional_embedding", DI_SAME, {"vision_model.embeddings.position_embedding.weight"}},
    {"visual.conv1.weight", DI_SAME, {"vision_model.embeddings.patch_embedding.weight"}},
    PAIR("visual.ln_pre", "vision_model.pre_layrnorm"),
    BLOCK("visual.transformer.resblocks.#.", "vision_model.encoder.layers.#."),
    PAIR("visual.ln_post", "vision_model.post_layernorm"),
    {"visual.proj", DI_TURNED, {"visual_projection.weight"}},
    {"token_embedding.weight", DI_SAME, {"text_model.embeddings.token_embedding.weight"}},
    {"positional_embedding", DI_SAME, {"text_model.embeddings.position_embedding.weight"}},
    BLOCK("transformer.resblocks.#.", "text_model.encoder.layers.#."),
    PAIR("ln_final", "text_model.final_layer_norm"),
    {"text_projection", DI_TURNED, {"text_projection.weight"}},
    {"logit_scale", DI_SAME, {"logit_scale"}},
};

static const char *const vision_roots[] = {"vision_model.", "visual_projection.", NULL};
static const char *const text_roots[] = {"text_model.", "text_projection.", NULL};
static const char *const buffers[] = {"vision_model.embeddings.position_ids", "text_model.embeddings.position_ids",
                                      NULL};

const di_layout di_layout_hf = {
    .name = "hf",
    .text = "transformers' names: vision_model.*, text_model.*, queries, keys and values apart",
    .names = names,
    .count = sizeof names / sizeof names[0],
    .marks = {{"vision_model.embeddings.class_embedding", "vision_model.pre_layrnorm.weight",
               "vision_model.encoder.layers.0.self_attn.q_proj.weight"},
              {"text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.weight",
               "text_model.encoder.layers.0.self_attn.q_proj.weight"}},
    .roots = {vision_roots, text_roots},
    .buffers = buffers,
};
