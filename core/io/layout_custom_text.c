/* layout_custom_text.c: the names of open_clip's CustomTextCLIP: the text tower is a module of its own, the image
 * tower and all else as in the canonical layout. */
#include "layout.h"

#define SAME(root, name)                                                                                          \
    {                                                                                                             \
        name, DI_SAME, {                                                                                          \
            root name                                                                                             \
        }                                                                                                         \
    }
#define PAIR(root, name) SAME(root, name ".weight"), SAME(root, name ".bias")
#define BLOCK(root, name)                                                                                         \
    PAIR(root, name "ln_1"), SAME(root, name "attn.in_proj_weight"), SAME(root, name "attn.in_proj_bias"),        \
        PAIR(root, name "attn.out_proj"), PAIR(root, name "ln_2"), PAIR(root, name "mlp.c_fc"),                   \
        PAIR(root, name "mlp.c_proj")

static const di_layout_name names[] = {
    SAME("", "visual.class_embedding"),
    SAME("", "visual.positional_embedding"),
    SAME("", "visual.conv1.weight"),
    PAIR("", "visual.ln_pre"),
    BLOCK("", "visual.transformer.resblocks.#."),
    PAIR("", "visual.ln_post"),
    SAME("", "visual.proj"),
    SAME("text.", "token_embedding.weight"),
    SAME("text.", "positional_embedding"),
    BLOCK("text.", "transformer.resblocks.#."),
    PAIR("text.", "ln_final"),
    SAME("text.", "text_projection"),
    SAME("", "logit_scale"),
};

static const char *const vision_roots[] = {"visual.", NULL};
static const char *const text_roots[] = {"text.transformer.resblocks.", "text.token_embedding.",
                                         "text.positional_embedding",   "text.ln_final.",
                                         "text.text_projection",        NULL};
static const char *const buffers[] = {"text.attn_mask", NULL};

const di_layout di_layout_custom_text = {
    .name = "custom_text",
    .text = "open_clip's names where the text tower is its own module: text.*, else as open_clip",
    .names = names,
    .count = sizeof names / sizeof names[0],
    .marks = {{"visual.class_embedding", "visual.ln_pre.weight",
               "visual.transformer.resblocks.0.attn.in_proj_weight"},
              {"text.token_embedding.weight", "text.ln_final.weight",
               "text.transformer.resblocks.0.attn.in_proj_weight"}},
    .roots = {vision_roots, text_roots},
    .buffers = buffers,
};
