/* test_layout_misfits.c: files that are no whole CLIP of one layout: what is dropped and carried along, what is
 * recognised, what is refused with every reason. */
#include "layout_model.h"

/* ---- what is dropped, carried, recognised ---- */

static void buffers_go_and_strangers_stay(void **state) {
    (void)state;
    static const int64_t scalar = 1, row[] = {1, 7};
    distac_checkpoint *ck = model(&small, DISTAC_F32, "model.", NULL);
    put(ck, "model.input_resolution", DISTAC_I64, 0, &scalar);
    put(ck, "model.context_length", DISTAC_I64, 0, &scalar);
    put(ck, "model.vocab_size", DISTAC_I64, 0, &scalar);
    put(ck, "classification_head.weight", DISTAC_F32, 2, row);
    OK(distac_checkpoint_set_metadata(ck, "vit.activation", "gelu"));
    distac_checkpoint *hf = convert(ck, "hf");
    assert_int_equal(hf->count, ck->count - 3 + 4 * 5);
    assert_true(distac_checkpoint_find(hf, "classification_head.weight") >= 0);
    assert_string_equal(distac_checkpoint_metadata(hf, "vit.activation"), "gelu");
    put(hf, "text_model.embeddings.position_ids", DISTAC_I64, 2, row);
    put(hf, "vision_model.embeddings.position_ids", DISTAC_I64, 2, row);
    distac_checkpoint *back = convert(hf, "open_clip");
    assert_int_equal(back->count, ck->count - 3);
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
    distac_checkpoint_release(back);
}

/* Training scripts publish the image tower with left-overs of the text tower: its blocks are gone. */
static void stripped_text_towers_pass(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F32, "model.", "transformer."), *hf = convert(ck, "hf");
    distac_clip_info info;
    OK(distac_checkpoint_clip(hf, &info));
    assert_int_equal(info.vocab, 0);
    assert_int_equal(info.width, 16);
    assert_true(distac_checkpoint_find(hf, "text_model.embeddings.token_embedding.weight") >= 0);
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
}

static void the_architecture_is_read(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F16, "", NULL), *hf = convert(ck, "hf");
    for (int i = 0; i < 2; i++) {
        distac_clip_info c;
        OK(distac_checkpoint_clip(i ? hf : ck, &c));
        const int32_t is[] = {c.image, c.patch,   c.channels,   c.width,       c.layers,   c.mlp,      c.dim,
                              c.vocab, c.context, c.text_width, c.text_layers, c.text_mlp, c.text_dim, c.scale};
        static const int32_t wanted[] = {12, 4, 3, 16, 2, 24, 10, 31, 7, 12, 3, 48, 10, 1};
        assert_memory_equal(is, wanted, sizeof wanted);
    }
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
}

static void other_models_are_plain(void **state) {
    (void)state;
    static const int64_t shape[] = {4, 4};
    /* An image tower without CLIP's class token beside a text tower with CLIP's names. */
    static const char *const other[] = {"vision_model.embeddings.patch_embedding.weight",
                                        "vision_model.embeddings.position_embedding.weight",
                                        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
                                        "text_model.embeddings.token_embedding.weight",
                                        "text_model.final_layer_norm.weight",
                                        "text_model.encoder.layers.0.self_attn.q_proj.weight"};
    distac_checkpoint *ck, *out = NULL;
    OK(distac_checkpoint_create(context, &ck));
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) put(ck, other[i], DISTAC_F32, 2, shape);
    assert_string_equal(distac_checkpoint_layout(ck), "plain");
    assert_int_equal(distac_checkpoint_convert(ck, "hf", &out), DISTAC_EUNSUPPORTED);
    assert_null(out);
    distac_checkpoint_release(ck);
    /* Two models in one file. */
    ck = model(&small, DISTAC_F32, "", NULL);
    distac_checkpoint *second = model(&small, DISTAC_F32, "model.", NULL);
    for (int64_t i = 0; i < second->count; i++)
        OK(distac_checkpoint_set(ck, second->entries[i]->name, second->entries[i]->tensor));
    assert_string_equal(distac_checkpoint_layout(ck), "plain");
    distac_checkpoint_release(ck);
    distac_checkpoint_release(second);
    /* A prefix that nobody uses, and one that never ends. */
    ck = model(&small, DISTAC_F32, "student.", NULL);
    assert_string_equal(distac_checkpoint_layout(ck), "plain");
    distac_checkpoint_release(ck);
    ck = model(&small, DISTAC_F32, "model.model.model.model.model.model.model.model.model.model.model.model.",
               NULL);
    assert_string_equal(distac_checkpoint_layout(ck), "plain");
    distac_checkpoint_release(ck);
    OK(distac_checkpoint_create(context, &ck));
    assert_string_equal(distac_checkpoint_layout(ck), "plain");
    assert_string_equal(distac_checkpoint_prefix(ck), "");
    distac_clip_info info;
    OK(distac_checkpoint_clip(ck, &info));
    assert_int_equal(info.width + info.text_width, 0);
    assert_int_equal(distac_checkpoint_convert(ck, "hg", &out), DISTAC_ENOTFOUND);
    assert_non_null(strstr(distac_last_error(), "\"hf\""));
    distac_checkpoint_release(ck);
}

/* ---- misfits ---- */

static void refused(const distac_checkpoint *ck, distac_status status, const char *const *pieces) {
    distac_checkpoint *out = NULL;
    distac_status is = distac_checkpoint_convert(ck, "open_clip", &out);
    if (is != status) fail_msg("status %s: %s", distac_status_name(is), is ? distac_last_error() : "converted");
    assert_null(out);
    for (; *pieces; pieces++)
        if (!strstr(distac_last_error(), *pieces)) fail_msg("\"%s\" lacks %s", distac_last_error(), *pieces);
}

/* A copy without the tensor `skip`. */
static distac_checkpoint *without(const distac_checkpoint *from, const char *skip) {
    distac_checkpoint *ck;
    OK(distac_checkpoint_create(context, &ck));
    for (int64_t i = 0; i < from->count; i++) {
        distac_tensor *t;
        if (strcmp(from->entries[i]->name, skip) == 0) continue;
        OK(distac_checkpoint_tensor(from, i, &t));
        OK(distac_checkpoint_set(ck, from->entries[i]->name, t));
        distac_tensor_release(t);
    }
    return ck;
}

static void all_misfits_are_told(void **state) {
    (void)state;
    static const int64_t three[] = {3}, square[] = {16, 16}, ten[] = {10, 16};
    distac_checkpoint *canonical = model(&small, DISTAC_F32, "", NULL), *hf = convert(canonical, "hf");
    distac_checkpoint *one = without(hf, "vision_model.pre_layrnorm.weight");
    distac_checkpoint *ck = without(one, "vision_model.encoder.layers.1.self_attn.k_proj.weight");
    put(ck, "vision_model.pre_layernorm.weight", DISTAC_F32, 1, ten + 1);
    put(ck, "vision_model.encoder.layers.0.layer_norm1.bias", DISTAC_F32, 1, three);
    put(ck, "text_model.final_layer_norm.bias", DISTAC_I64, 1, three);
    put(ck, "text_model.encoder.layers.0.self_attn.v_proj.bias", DISTAC_F16, 1, (int64_t[]){12});
    refused(ck, DISTAC_ENOTFOUND,
            (const char *const[]){
                "\"vision_model.pre_layrnorm.weight\" is missing (canonical: \"visual.ln_pre.weight\") (nearest: "
                "\"vision_model.pre_layernorm.weight\")",
                "\"vision_model.encoder.layers.1.self_attn.k_proj.weight\" is missing (canonical: "
                "\"visual.transformer.resblocks.1.attn.in_proj_weight\")",
                "\"vision_model.encoder.layers.0.layer_norm1.bias\" has shape [3], wanted [16]",
                "\"text_model.final_layer_norm.bias\" is I64, wanted a float type",
                "\"text_model.encoder.layers.0.self_attn.q_proj.bias\" is F32 but "
                "\"text_model.encoder.layers.0.self_attn.v_proj.bias\" is F16",
                "\"vision_model.pre_layernorm.weight\" has no place in a CLIP model", NULL});
    distac_checkpoint_release(one);
    distac_checkpoint_release(ck);
    /* The projection the canonical way round, in a file of the other layout. */
    ck = without(hf, "visual_projection.weight");
    put(ck, "visual_projection.weight", DISTAC_F32, 2, (int64_t[]){16, 10});
    refused(ck, DISTAC_ESHAPE,
            (const char *const[]){"\"visual_projection.weight\" has shape [16,10], wanted [?,16]",
                                  "\"visual.proj\"", NULL});
    distac_checkpoint_release(ck);
    ck = without(hf, "vision_model.embeddings.position_embedding.weight");
    put(ck, "vision_model.embeddings.position_embedding.weight", DISTAC_F32, 2, (int64_t[]){12, 16});
    refused(ck, DISTAC_ESHAPE, (const char *const[]){"12 positions", NULL});
    distac_checkpoint_release(ck);
    /* A layer that is not there, numbers that are none, numbers out of reach. */
    ck = without(hf, "none");
    put(ck, "vision_model.encoder.layers.4.layer_norm1.bias", DISTAC_F32, 1, square);
    refused(ck, DISTAC_ENOTFOUND, (const char *const[]){"layers.2.layer_norm1.weight\" is missing", "and ", NULL});
    distac_checkpoint_release(ck);
    static const char *const odd[] = {"vision_model.encoder.layers.99999999999999999999.layer_norm1.bias",
                                      "vision_model.encoder.layers.-1.layer_norm1.bias",
                                      "vision_model.encoder.layers.x.layer_norm1.bias",
                                      "vision_model.encoder.layers.01.layer_norm1.bias"};
    for (int i = 0; i < 4; i++) {
        ck = without(hf, "none");
        put(ck, odd[i], DISTAC_F32, 1, square);
        refused(ck, DISTAC_ENOTFOUND, (const char *const[]){odd[i], "has no place", NULL});
        distac_checkpoint_release(ck);
    }
    distac_checkpoint_release(hf);
    distac_checkpoint_release(canonical);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_go_and_strangers_stay), cmocka_unit_test(stripped_text_towers_pass),
        cmocka_unit_test(the_architecture_is_read),      cmocka_unit_test(other_models_are_plain),
        cmocka_unit_test(all_misfits_are_told),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
