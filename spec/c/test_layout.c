/* test_layout.c: CLIP's tensors under other names: the tables, conversions bit for bit, what is recognised and
 * what is refused, and how little memory it takes. */
#include "data_files.h"
#include "io/layout.h"

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    context = open_context(2);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    distac_context_release(context);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- a model ---- */

typedef struct spec {
    int64_t width, layers, mlp, dim, text_width, text_layers, vocab, words, patch, grid;
} spec;
static const spec small = {16, 2, 24, 10, 12, 3, 31, 7, 4, 3};

static int64_t size_of(const spec *s, char letter) {
    switch (letter) {
    case 'w':
        return s->width;
    case 'm':
        return s->mlp;
    case 'n':
        return s->grid * s->grid + 1;
    case 'c':
        return 3;
    case 'p':
        return s->patch;
    case 'd':
        return s->dim;
    case 'W':
        return s->text_width;
    case 'M':
        return 4 * s->text_width;
    case 'X':
        return s->words;
    case 'V':
        return s->vocab;
    default:
        fail_msg("a letter %c", letter);
        return 0;
    }
}

static void put_as(distac_checkpoint *ck, const char *stored, const char *name, int32_t dtype, int32_t rank,
                   const int64_t *shape) {
    distac_tensor *t, *cast;
    OK(distac_tensor_create(context, DISTAC_F64, rank, shape, &t));
    uint64_t stream = 5;
    for (const char *c = name; *c; c++) stream = stream * 31 + (uint8_t)*c;
    OK(distac_tensor_random(t, 0, 3, stream));
    OK(distac_tensor_cast(t, dtype, &cast));
    OK(distac_checkpoint_set(ck, stored, cast));
    distac_tensor_release(t);
    distac_tensor_release(cast);
}

static void put(distac_checkpoint *ck, const char *name, int32_t dtype, int32_t rank, const int64_t *shape) {
    put_as(ck, name, name, dtype, rank, shape);
}

/* A whole canonical model, written out of the table but for what `skip` names. */
static distac_checkpoint *model(const spec *s, int32_t dtype, const char *prefix, const char *skip) {
    distac_checkpoint *ck;
    OK(distac_checkpoint_create(context, &ck));
    for (int32_t row = 0; row < di_clip_tensor_count; row++) {
        const di_clip_tensor *t = &di_clip_tensors[row];
        int64_t blocks = !strchr(t->name, '#') ? 1 : t->tower == DI_VISION ? s->layers : s->text_layers;
        if (skip && strncmp(t->name, skip, strlen(skip)) == 0) continue;
        for (int64_t b = 0; b < blocks; b++) {
            char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
            int32_t count, rank = 0;
            int64_t shape[4];
            di_layout_own(&di_layout_open_clip, row, b, prefix, &count, names);
            for (const char *c = t->shape; *c; c++) {
                int64_t factor = *c == '3' ? 3 : 1;
                if (factor == 3) c++;
                shape[rank++] = factor * size_of(s, *c);
            }
            put_as(ck, names[0], names[0] + strlen(prefix), dtype, rank, shape);
        }
    }
    return ck;
}

static distac_checkpoint *convert(const distac_checkpoint *ck, const char *layout) {
    distac_checkpoint *out = NULL;
    if (distac_checkpoint_convert(ck, layout, &out) != DISTAC_OK) fail_msg("%s", distac_last_error());
    return out;
}

static distac_checkpoint *through_file(const distac_checkpoint *ck, const char *name) {
    distac_checkpoint *out = NULL;
    OK(distac_checkpoint_save(ck, in_folder(name), -1));
    OK(distac_checkpoint_open(context, in_folder(name), &out));
    return out;
}

static void assert_same(const distac_checkpoint *a, const distac_checkpoint *b) {
    assert_int_equal(a->count, b->count);
    assert_true(a->count > 0);
    for (int64_t i = 0; i < a->count; i++) {
        const uint8_t *x, *y;
        distac_tensor *copy_x, *copy_y;
        assert_string_equal(a->entries[i]->name, b->entries[i]->name);
        assert_ptr_equal(a->entries[i]->type, b->entries[i]->type);
        assert_true(di_entry_same_shape(a->entries[i], b->entries[i]));
        OK(di_entry_bytes(a->entries[i], &x, &copy_x));
        OK(di_entry_bytes(b->entries[i], &y, &copy_y));
        if (memcmp(x, y, (size_t)a->entries[i]->bytes) != 0) fail_msg("%s differs", a->entries[i]->name);
        distac_tensor_release(copy_x);
        distac_tensor_release(copy_y);
    }
}

static distac_tensor *tensor(const distac_checkpoint *ck, const char *name) {
    distac_tensor *t = NULL;
    int64_t index = distac_checkpoint_find(ck, name);
    if (index < 0) fail_msg("no %s", name);
    OK(distac_checkpoint_tensor(ck, index, &t));
    return t;
}

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
        cmocka_unit_test(buffers_go_and_strangers_stay),
        cmocka_unit_test(stripped_text_towers_pass),
        cmocka_unit_test(the_architecture_is_read),
        cmocka_unit_test(other_models_are_plain),
        cmocka_unit_test(all_misfits_are_told),
        cmocka_unit_test(clones_change_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
