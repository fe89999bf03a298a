/* layout_open_clip.c: what a CLIP model with a ViT consists of, under the names of OpenAI's archive and
 * open_clip's checkpoints, which are the canonical ones here. */
#include "layout.h"

#define BLOCK(root, tower, w, w3, m)                                                                              \
    {root "ln_1.weight", w, tower, false}, {root "ln_1.bias", w, tower, false},                                   \
        {root "attn.in_proj_weight", w3 w, tower, false}, {root "attn.in_proj_bias", w3, tower, false},           \
        {root "attn.out_proj.weight", w w, tower, false}, {root "attn.out_proj.bias", w, tower, false},           \
        {root "ln_2.weight", w, tower, false}, {root "ln_2.bias", w, tower, false},                               \
        {root "mlp.c_fc.weight", m w, tower, false}, {root "mlp.c_fc.bias", m, tower, false},                     \
        {root "mlp.c_proj.weight", w m, tower, false}, {                                                          \
        root "mlp.c_proj.bias", w, tower, false                                                                   \
    }

const di_clip_tensor di_clip_tensors[] = {
    {"visual.class_embedding", "w", DI_VISION, false},
    {"visual.positional_embedding", "nw", DI_VISION, false},
    {"visual.conv1.weight", "wcpp", DI_VISION, false},
    {"visual.ln_pre.weight", "w", DI_VISION, false},
    {"visual.ln_pre.bias", "w", DI_VISION, false},
    BLOCK("visual.transformer.resblocks.#.", DI_VISION, "w", "3w", "m"),
    {"visual.ln_post.weight", "w", DI_VISION, false},
    {"visual.ln_post.bias", "w", DI_VISION, false},
    {"visual.proj", "wd", DI_VISION, true},
    {"token_embedding.weight", "VW", DI_TEXT, false},
    {"positional_embedding", "XW", DI_TEXT, false},
    BLOCK("transformer.resblocks.#.", DI_TEXT, "W", "3W", "M"),
    {"ln_final.weight", "W", DI_TEXT, false},
    {"ln_final.bias", "W", DI_TEXT, false},
    {"text_projection", "Wd", DI_TEXT, true},
    {"logit_scale", "", DI_TEXT, true},
};
const int32_t di_clip_tensor_count = sizeof di_clip_tensors / sizeof di_clip_tensors[0];

static const char *const vision_roots[] = {"visual.", NULL};
static const char *const text_roots[] = {
    "transformer.resblocks.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", NULL};
/* Three numbers of OpenAI's archive; the mask of the text tower, which old versions of the modules kept. */
static const char *const buffers[] = {"input_resolution", "context_length", "vocab_size", "attn_mask", NULL};

const di_layout di_layout_open_clip = {
    .name = "open_clip",
    .text = "OpenAI's and open_clip's names (canonical): visual.*, fused attention inputs",
    .marks = {{"visual.class_embedding", "visual.ln_pre.weight",
               "visual.transformer.resblocks.0.attn.in_proj_weight"},
              {"token_embedding.weight", "ln_final.weight", "transformer.resblocks.0.attn.in_proj_weight"}},
    .roots = {vision_roots, text_roots},
    .buffers = buffers,
};
