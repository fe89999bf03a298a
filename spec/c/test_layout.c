/* test_layout.c: CLIP's tensors under other names: the tables, conversions bit for bit, and how little memory they
 * take. */
#include "layout_model.h"

/* ---- the tables ---- */

static void every_layout_names_every_tensor(void **state) {
    (void)state;
    for (int32_t l = 0; l < distac_layout_count(); l++) {
        const di_layout *layout = di_layout_named(distac_layout_name(l));
        assert_non_null(layout);
        assert_non_null(distac_layout_text(l));
        if (!layout->names) continue;
        assert_int_equal(layout->count, di_clip_tensor_count);
        for (int32_t row = 0; row < di_clip_tensor_count; row++) {
            int32_t seen = 0;
            for (int32_t i = 0; i < layout->count; i++)
                if (strcmp(layout->names[i].canonical, di_clip_tensors[row].name) == 0) seen++;
            if (seen != 1) fail_msg("%s names %s %d times", layout->name, di_clip_tensors[row].name, seen);
        }
    }
    assert_null(distac_layout_name(-1));
    assert_null(distac_layout_name(distac_layout_count()));
}

static void the_names_are_the_published_ones(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F32, "", NULL), *hf = convert(ck, "hf");
    static const struct {
        const char *name;
        int32_t rank;
        int64_t shape[2];
    } expected[] = {
        {"vision_model.embeddings.class_embedding", 1, {16}},
        {"vision_model.embeddings.position_embedding.weight", 2, {10, 16}},
        {"vision_model.pre_layrnorm.weight", 1, {16}},
        {"vision_model.encoder.layers.1.self_attn.k_proj.weight", 2, {16, 16}},
        {"vision_model.encoder.layers.1.self_attn.v_proj.bias", 1, {16}},
        {"vision_model.encoder.layers.0.mlp.fc1.weight", 2, {24, 16}},
        {"vision_model.encoder.layers.0.layer_norm2.bias", 1, {16}},
        {"vision_model.post_layernorm.bias", 1, {16}},
        {"visual_projection.weight", 2, {10, 16}},
        {"text_model.embeddings.token_embedding.weight", 2, {31, 12}},
        {"text_model.encoder.layers.2.self_attn.out_proj.weight", 2, {12, 12}},
        {"text_model.final_layer_norm.weight", 1, {12}},
        {"text_projection.weight", 2, {10, 12}},
        {"logit_scale", 0, {0}},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        distac_tensor *t = tensor(hf, expected[i].name);
        assert_int_equal(t->rank, expected[i].rank);
        for (int32_t d = 0; d < t->rank; d++) assert_int_equal(t->shape[d], expected[i].shape[d]);
        distac_tensor_release(t);
    }
    /* 7 + 12*2 and 6 + 12*3 canonical tensors; each fused pair makes four more. */
    assert_int_equal(ck->count, 8 + 12 * 2 + 6 + 12 * 3);
    assert_int_equal(hf->count, ck->count + 4 * (2 + 3));
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
}

static void rows_are_cut_and_matrices_turned(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F32, "", NULL), *hf = convert(ck, "hf");
    distac_tensor *fused = tensor(ck, "visual.transformer.resblocks.1.attn.in_proj_weight");
    static const char *const names[] = {"q", "k", "v"};
    for (int k = 0; k < 3; k++) {
        char name[128];
        snprintf(name, sizeof name, "vision_model.encoder.layers.1.self_attn.%s_proj.weight", names[k]);
        distac_tensor *part = tensor(hf, name);
        assert_memory_equal(part->data, (float *)fused->data + k * 256, 256 * sizeof(float));
        distac_tensor_release(part);
    }
    distac_tensor *proj = tensor(ck, "visual.proj"), *turned = tensor(hf, "visual_projection.weight");
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 10; j++)
            assert_true(((float *)proj->data)[i * 10 + j] == ((float *)turned->data)[j * 16 + i]);
    distac_tensor_release(fused);
    distac_tensor_release(proj);
    distac_tensor_release(turned);
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
}

/* ---- round trips ---- */

static void round_trips(void **state) {
    (void)state;
    static const int32_t types[] = {DISTAC_F64, DISTAC_F32, DISTAC_F16, DISTAC_BF16};
    static const char *const prefixes[] = {"", "model.", "module.image_encoder.model.", "clip."};
    static const char *const parts[] = {NULL, "visual.", "visual.proj", "transformer."};
    for (int d = 0; d < 4; d++) {
        for (int p = 0; p < 4; p++) {
            const char *skip = parts[d];
            distac_checkpoint *plain = model(&small, types[d], "", skip);
            distac_checkpoint *prefixed = model(&small, types[d], prefixes[p], skip);
            assert_string_equal(distac_checkpoint_layout(prefixed), "open_clip");
            assert_string_equal(distac_checkpoint_prefix(prefixed), prefixes[p]);
            distac_checkpoint *file = through_file(prefixed, "prefixed.safetensors");
            /* In memory, from a file, from a file of the other layout, and lazy all the way. */
            distac_checkpoint *hf = convert(file, "hf"), *hf_file = through_file(hf, "hf.safetensors");
            distac_checkpoint *from_memory = convert(prefixed, "hf");
            assert_string_equal(distac_checkpoint_layout(hf), "hf");
            assert_same(hf, hf_file);
            assert_same(hf, from_memory);
            distac_checkpoint *back = convert(hf_file, "open_clip"), *lazy = convert(hf, "open_clip");
            distac_checkpoint *memory_back = convert(from_memory, "open_clip"), *same = convert(file, "open_clip");
            assert_same(plain, back);
            assert_same(plain, lazy);
            assert_same(plain, memory_back);
            assert_same(plain, same);
            double x, y;
            OK(distac_checkpoint_norm(plain, &x));
            OK(distac_checkpoint_norm(back, &y));
            assert_true(x == y); /* read in pieces, never made */
            distac_checkpoint *all[] = {plain,       prefixed, file, hf,          hf_file,
                                        from_memory, back,     lazy, memory_back, same};
            for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) distac_checkpoint_release(all[i]);
        }
    }
}

/* A fused tensor that was cut and joined again lies in the file as before: nothing is copied. */
static void nothing_is_copied_without_need(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F32, "", NULL);
    distac_checkpoint *file = through_file(ck, "whole.safetensors"), *hf = convert(file, "hf");
    distac_checkpoint *back = convert(hf, "open_clip");
    for (int64_t i = 0; i < back->count; i++) {
        assert_null(back->entries[i]->lazy);
        assert_ptr_equal(back->entries[i]->data, file->entries[i]->data);
    }
    int64_t lazy = 0;
    for (int64_t i = 0; i < hf->count; i++) lazy += hf->entries[i]->lazy != NULL;
    assert_int_equal(lazy, 2);       /* the projections */
    distac_checkpoint_release(file); /* the mapping lives on */
    distac_checkpoint_release(hf);
    assert_same(ck, back);
    distac_checkpoint_release(ck);
    distac_checkpoint_release(back);
}

static void memory_is_bounded(void **state) {
    (void)state;
    static const spec big = {256, 4, 1024, 128, 128, 2, 512, 16, 16, 4};
    distac_checkpoint *ck = model(&big, DISTAC_F32, "", NULL), *hf = convert(ck, "hf");
    distac_checkpoint *file = through_file(hf, "big.safetensors");
    distac_checkpoint_release(ck);
    distac_checkpoint_release(hf);
    distac_checkpoint *joined = convert(file, "open_clip");
    distac_context_info before, after;
    double norm;
    OK(distac_context_reset_peak(context));
    OK(distac_context_get_info(context, &before));
    OK(distac_checkpoint_save(joined, in_folder("joined.safetensors"), DISTAC_F16));
    OK(distac_checkpoint_norm(joined, &norm));
    OK(distac_context_get_info(context, &after));
    /* One fused matrix of 768 x 256 at a time, and a little for conversion. */
    assert_true(after.memory_peak - before.memory_used <= 3 * 256 * 256 * 4 + 400000);
    /* A merge makes none at all: its scratch is the same as for tensors that lie in a file. */
    distac_merge *merge;
    distac_checkpoint *canonical;
    OK(distac_checkpoint_save(joined, in_folder("canonical.safetensors"), -1));
    OK(distac_checkpoint_open(context, in_folder("canonical.safetensors"), &canonical));
    OK(distac_merge_create(context, "ties", &merge));
    int64_t peak[2];
    distac_checkpoint *inputs[2] = {canonical, joined};
    for (int i = 0; i < 2; i++) {
        OK(distac_context_reset_peak(context));
        OK(distac_merge_files(merge, inputs[i], 1, &inputs[i], in_folder(i ? "b.st" : "a.st"), -1, NULL));
        OK(distac_context_get_info(context, &after));
        peak[i] = after.memory_peak;
    }
    assert_int_equal(peak[0], peak[1]);
    distac_checkpoint *a, *b;
    OK(distac_checkpoint_open(context, in_folder("a.st"), &a));
    OK(distac_checkpoint_open(context, in_folder("b.st"), &b));
    assert_same(a, b);
    distac_merge_release(merge);
    distac_checkpoint *all[] = {a, b, canonical, joined, file};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) distac_checkpoint_release(all[i]);
}

/* ---- shared pieces ---- */

static void clones_change_alone(void **state) {
    (void)state;
    distac_checkpoint *ck = model(&small, DISTAC_F32, "", NULL), *file = through_file(ck, "clone.safetensors");
    distac_checkpoint *clone, *part;
    OK(distac_checkpoint_clone(file, &clone));
    assert_int_equal(distac_checkpoint_set_metadata(file, "a", "b"), DISTAC_ESTATE);
    OK(distac_checkpoint_set_metadata(clone, "a", "b"));
    assert_null(distac_checkpoint_metadata(file, "a"));
    OK(distac_checkpoint_part(clone, 3, 2, &part));
    distac_checkpoint_release(file);
    distac_checkpoint_release(clone);
    assert_int_equal(part->count, 2);
    assert_string_equal(part->entries[0]->name, ck->entries[3]->name);
    assert_string_equal(distac_checkpoint_metadata(part, "a"), "b");
    distac_tensor *t = tensor(part, ck->entries[4]->name);
    assert_memory_equal(t->data, ck->entries[4]->tensor->data, (size_t)ck->entries[4]->bytes);
    distac_tensor_release(t);
    distac_checkpoint *none = NULL;
    assert_int_equal(distac_checkpoint_part(part, 1, 2, &none), DISTAC_EINVAL);
    assert_int_equal(distac_checkpoint_part(part, -1, 1, &none), DISTAC_EINVAL);
    assert_int_equal(distac_checkpoint_part(part, INT64_MAX, INT64_MAX, &none), DISTAC_EINVAL);
    OK(distac_checkpoint_part(part, 2, 0, &none));
    assert_int_equal(none->count, 0);
    distac_checkpoint_release(none);
    distac_checkpoint_release(part);
    distac_checkpoint_release(ck);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_names_every_tensor),
        cmocka_unit_test(the_names_are_the_published_ones),
        cmocka_unit_test(rows_are_cut_and_matrices_turned),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(nothing_is_copied_without_need),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(clones_change_alone),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
