/* test_index.c: models in several files and in folders: the strict index, and configuration beside the tensors.
 * Every refusal asserts its reason. */
#include "data_files.h"
#include "io/index.h"

static void write_text(const char *name, const char *text) {
    OK(distac_path_write(in_folder(name), text, (int64_t)strlen(text)));
}

/* A shard of f32 tensors [2], by their names. */
static void shard(const char *name, const char *const *tensors, const char *key, const char *value) {
    distac_checkpoint *ck;
    static const int64_t two[] = {2};
    OK(distac_checkpoint_create(context, &ck));
    for (; *tensors; tensors++) {
        distac_tensor *t;
        OK(distac_tensor_create(context, DISTAC_F32, 1, two, &t));
        OK(distac_tensor_fill(t, (double)(*tensors)[0]));
        OK(distac_checkpoint_set(ck, *tensors, t));
        distac_tensor_release(t);
    }
    if (key) OK(distac_checkpoint_set_metadata(ck, key, value));
    OK(distac_checkpoint_save(ck, in_folder(name), -1));
    distac_checkpoint_release(ck);
}

static distac_checkpoint *open_at(const char *name, distac_status *status) {
    distac_checkpoint *ck = NULL;
    *status = distac_checkpoint_open(context, in_folder(name), &ck);
    return ck;
}

static void refused(const char *name, distac_status wanted, const char *reason) {
    distac_status status;
    distac_checkpoint *ck = open_at(name, &status);
    if (status != wanted || !strstr(distac_last_error(), reason))
        fail_msg("%s: expected %s with \"%s\", got %s: %s", name, distac_status_name(wanted), reason,
                 distac_status_name(status), status ? distac_last_error() : "opened");
    assert_null(ck);
}

#define INDEX "model.safetensors.index.json"
#define A     "model-00001-of-00002.safetensors"
#define B     "model-00002-of-00002.safetensors"

static void two_shards(void) {
    shard(A, (const char *const[]){"a", "b", NULL}, "format", "pt");
    shard(B, (const char *const[]){"c", NULL}, "format", "pt");
}

static void an_index_opens_its_files(void **state) {
    (void)state;
    distac_status status;
    two_shards();
    static const char *const good[] = {
        "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"c\":\"" B "\",\"a\":\"" A "\",\"b\":\"" A "\"}}",
        "{\"weight_map\":{\"c\":\"" B "\",\"a\":\"" A "\",\"b\":\"" A "\"},\"metadata\":{}}",
        "{\"weight_map\":{\"c\":\"" B "\",\"a\":\"" A "\",\"b\":\"" A "\"}}",
        "{\"metadata\":{\"total_size\":24.0,\"total_parameters\":6},\"weight_map\":{\"\\u0063\":\"" B
        "\",\"a\":\"" A "\",\"b\":\"" A "\"}}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        write_text(INDEX, good[i]);
        distac_checkpoint *ck = open_at(INDEX, &status);
        if (!ck) fail_msg("%zu: %s", i, distac_last_error());
        assert_int_equal(ck->count, 3);
        for (int64_t k = 0; k < 3; k++) {
            distac_tensor *t;
            assert_int_equal(ck->entries[k]->name[0], 'a' + k);
            OK(distac_checkpoint_tensor(ck, k, &t));
            assert_true(((const float *)t->data)[1] == (float)('a' + k));
            distac_tensor_release(t);
        }
        assert_string_equal(distac_checkpoint_metadata(ck, "format"), "pt");
        assert_int_equal(distac_checkpoint_set_metadata(ck, "x", "y"), DISTAC_ESTATE);
        distac_checkpoint_release(ck);
    }
}

static void hostile_indexes_are_refused(void **state) {
    (void)state;
    two_shards();
    OK(distac_path_make(in_folder("inside")));
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"[]", "not a JSON object"},
        {"{\"weight_map\":{\"a\":\"" A "\"}} x", "not JSON"},
        {"\xff\xfe{}", "not valid UTF-8"},
        {"{\"weight_map\":{\"a\\u0000b\":\"" A "\"}}", "texts must not hold the character NUL"},
        {"{}", "weight_map must be an object"},
        {"{\"weight_map\":[]}", "weight_map must be an object"},
        {"{\"weight_map\":{}}", "weight_map is empty"},
        {"{\"weight_map\":{\"a\":\"" A "\"},\"extra\":1}", "unknown field \"extra\""},
        {"{\"weight_map\":{\"a\":1}}", "the file of \"a\" must be a text"},
        {"{\"weight_map\":{\"a\":null}}", "the file of \"a\" must be a text"},
        {"{\"weight_map\":{\"a\":\"\"}}", "is empty"},
        {"{\"weight_map\":{\"a\":\"../" A "\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"inside/" A "\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"inside\\\\" A "\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"..safetensors\"}}", "begins with a dot"},
        {"{\"weight_map\":{\"a\":\"a\\n.safetensors\"}}", "control bytes"},
        {"{\"weight_map\":{\"a\":\"model.bin\"}}", "another ending"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "begins with a dot"},
        {"{\"weight_map\":{\"a\":\"" A "\",\"a\":\"" A "\"}}", "appears twice"},
        {"{\"weight_map\":{\"a\":\"" A "\",\"\\u0061\":\"" B "\"}}", "appears twice"},
        {"{\"weight_map\":{\"a\":\"" A "\"},\"weight_map\":{}}", "appears twice"},
        {"{\"metadata\":[],\"weight_map\":{\"a\":\"" A "\"}}", "metadata must be an object"},
        {"{\"metadata\":{\"total_size\":\"24\"},\"weight_map\":{\"a\":\"" A "\"}}", "total_size must be"},
        {"{\"metadata\":{\"total_size\":-1},\"weight_map\":{\"a\":\"" A "\"}}", "total_size must be"},
        {"{\"metadata\":{\"total_size\":1.5},\"weight_map\":{\"a\":\"" A "\"}}", "total_size must be"},
        {"{\"metadata\":{\"total_size\":1e300},\"weight_map\":{\"a\":\"" A "\"}}", "total_size must be"},
        /* Against the files. */
        {"{\"weight_map\":{\"a\":\"" A "\",\"c\":\"" B "\"}}",
         "\"b\" is in " A ", but the index does not list it"},
        {"{\"weight_map\":{\"a\":\"" A "\",\"b\":\"" B "\",\"c\":\"" B "\"}}",
         "\"b\" is in " A ", but the index has it in " B},
        {"{\"weight_map\":{\"a\":\"" A "\",\"b\":\"" A "\",\"c\":\"" B "\",\"d\":\"" B "\"}}",
         "\"d\" is not in " B},
        {"{\"metadata\":{\"total_size\":23},\"weight_map\":{\"a\":\"" A "\",\"b\":\"" A "\",\"c\":\"" B "\"}}",
         "total_size says 23 bytes, the tensors have 24"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text(INDEX, cases[i].text);
        refused(INDEX, DISTAC_EFORMAT, cases[i].reason);
        if (!strstr(distac_last_error(), INDEX)) fail_msg("\"%s\" does not name the file", distac_last_error());
    }
    char text[1024], name[400];
    memset(name, 'n', 300);
    strcpy(name + 300, ".safetensors");
    snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", name);
    write_text(INDEX, text);
    refused(INDEX, DISTAC_EFORMAT, "longer than");
    write_text(INDEX, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    refused(INDEX, DISTAC_EIO, "gone.safetensors");
    OK(distac_path_make(in_folder("x.safetensors")));
    write_text(INDEX, "{\"weight_map\":{\"a\":\"x.safetensors\"}}");
    refused(INDEX, DISTAC_EIO, "a folder");
    write_text("broken.safetensors", "not one");
    write_text(INDEX, "{\"weight_map\":{\"a\":\"broken.safetensors\"}}");
    refused(INDEX, DISTAC_EFORMAT, "broken.safetensors");
}

static void doubled_tensors_and_metadata_are_refused(void **state) {
    (void)state;
    shard(A, (const char *const[]){"a", "c", NULL}, NULL, NULL);
    shard(B, (const char *const[]){"c", NULL}, NULL, NULL);
    write_text(INDEX, "{\"weight_map\":{\"a\":\"" A "\",\"c\":\"" B "\"}}");
    refused(INDEX, DISTAC_EFORMAT, "\"c\" is in " A ", but the index has it in " B);
    shard(A, (const char *const[]){"a", NULL}, "vit.activation", "gelu");
    shard(B, (const char *const[]){"c", NULL}, "vit.activation", "quick_gelu");
    refused(INDEX, DISTAC_EFORMAT, "the metadata \"vit.activation\"");
}

/* Two thousand misfits are told in a dozen lines; nesting does not break the reader. */
static void big_and_deep(void **state) {
    (void)state;
    two_shards();
    di_text text = {0};
    di_text_add(&text, "{\"weight_map\":{\"a\":\"" A "\"");
    for (int i = 0; i < 2000; i++) di_text_add(&text, ",\"t%d\":\"" A "\"", i);
    di_text_add(&text, "}}");
    write_text(INDEX, text.bytes);
    refused(INDEX, DISTAC_EFORMAT, "and 1989 more");
    di_text_free(&text);
    for (int i = 0; i < 100000; i++) di_text_add(&text, "{\"metadata\":");
    write_text(INDEX, text.bytes);
    refused(INDEX, DISTAC_EFORMAT, "brackets nest deeper than 64 levels");
    di_text_free(&text);
}

/* ---- folders ---- */

static void tower(distac_checkpoint *ck, int64_t w, int64_t layers) {
    const int64_t vector[] = {w}, matrix[] = {w, w}, wide[] = {2 * w, w}, tall[] = {w, 2 * w}, inner[] = {2 * w};
    const int64_t positions[] = {5, w}, patches[] = {w, 3, 2, 2};
    const struct {
        const char *name;
        int32_t rank;
        const int64_t *shape;
    } all[] = {
        {"vision_model.embeddings.class_embedding", 1, vector},
        {"vision_model.embeddings.position_embedding.weight", 2, positions},
        {"vision_model.embeddings.patch_embedding.weight", 4, patches},
        {"vision_model.pre_layrnorm.weight", 1, vector},
        {"vision_model.pre_layrnorm.bias", 1, vector},
        {"vision_model.post_layernorm.weight", 1, vector},
        {"vision_model.post_layernorm.bias", 1, vector},
        {"layer_norm1.weight", 1, vector},
        {"layer_norm1.bias", 1, vector},
        {"layer_norm2.weight", 1, vector},
        {"layer_norm2.bias", 1, vector},
        {"self_attn.q_proj.weight", 2, matrix},
        {"self_attn.q_proj.bias", 1, vector},
        {"self_attn.k_proj.weight", 2, matrix},
        {"self_attn.k_proj.bias", 1, vector},
        {"self_attn.v_proj.weight", 2, matrix},
        {"self_attn.v_proj.bias", 1, vector},
        {"self_attn.out_proj.weight", 2, matrix},
        {"self_attn.out_proj.bias", 1, vector},
        {"mlp.fc1.weight", 2, wide},
        {"mlp.fc1.bias", 1, inner},
        {"mlp.fc2.weight", 2, tall},
        {"mlp.fc2.bias", 1, vector},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bool block = strncmp(all[i].name, "vision", 6) != 0;
        for (int64_t b = 0; b < (block ? layers : 1); b++) {
            char name[128];
            distac_tensor *t;
            if (block)
                snprintf(name, sizeof name, "vision_model.encoder.layers.%lld.%s", (long long)b, all[i].name);
            else
                snprintf(name, sizeof name, "%s", all[i].name);
            OK(distac_tensor_create(context, DISTAC_F32, all[i].rank, all[i].shape, &t));
            OK(distac_checkpoint_set(ck, name, t));
            distac_tensor_release(t);
        }
    }
}

static void model_folder(const char *name, const char *activation) {
    distac_checkpoint *ck;
    char path[300];
    OK(distac_path_make(in_folder(name)));
    OK(distac_checkpoint_create(context, &ck));
    tower(ck, 8, 2);
    if (activation) OK(distac_checkpoint_set_metadata(ck, "vit.activation", activation));
    snprintf(path, sizeof path, "%s/model.safetensors", in_folder(name));
    OK(distac_checkpoint_save(ck, path, -1));
    distac_checkpoint_release(ck);
}

#define VISION "\"hidden_size\":8,\"num_hidden_layers\":2,\"image_size\":4,\"patch_size\":2"

static void configuration_becomes_metadata(void **state) {
    (void)state;
    model_folder("m", NULL);
    static const struct {
        const char *file, *text, *activation, *heads;
    } cases[] = {
        {"config.json",
         "{\"model_type\":\"clip_vision_model\"," VISION ",\"hidden_act\":\"gelu\",\"num_attention_heads\":2}",
         "gelu", "2"},
        /* What is not written is the format's default. */
        {"config.json", "{\"model_type\":\"clip_vision_model\"," VISION "}", "quick_gelu", "12"},
        {"config.json", "{\"model_type\":\"clip\",\"vision_config\":{" VISION ",\"num_attention_heads\":4}}",
         "quick_gelu", "4"},
        {"config.json",
         "{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"gelu\"},\"vision_config_dict\":{" VISION
         ",\"num_attention_heads\":4},\"text_config\":{}}",
         "quick_gelu", "4"},
        {"open_clip_config.json",
         "{\"model_cfg\":{\"embed_dim\":4,\"quick_gelu\":true,\"vision_cfg\":{\"width\":8,\"layers\":2,\"image_"
         "size\":"
         "4,\"patch_size\":2,\"head_width\":4}}}",
         "quick_gelu", "2"},
        {"open_clip_config.json",
         "{\"model_cfg\":{\"vision_cfg\":{\"width\":8,\"layers\":2,\"image_size\":4,\"patch_size\":2,\"head_"
         "width\":"
         "2}}}",
         "gelu", "4"},
        {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\"}", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        distac_status status;
        char name[64];
        snprintf(name, sizeof name, "m/%s", cases[i].file);
        write_text(name, cases[i].text);
        distac_checkpoint *ck = open_at(i % 2 ? "m" : "m/", &status);
        if (!ck) fail_msg("%zu: %s", i, distac_last_error());
        const char *activation = distac_checkpoint_metadata(ck, "vit.activation");
        const char *heads = distac_checkpoint_metadata(ck, "vit.heads");
        if (!cases[i].activation) {
            assert_null(activation);
            assert_null(heads);
        } else {
            assert_string_equal(activation, cases[i].activation);
            assert_string_equal(heads, cases[i].heads);
        }
        distac_checkpoint_release(ck);
        OK(distac_path_remove(in_folder(name)));
    }
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *reason;
        distac_status status;
    } cases[] = {
        {"{\"model_type\":\"clip_vision_model\"," VISION ",\"hidden_act\":\"quick_gelu\"}",
         "says that vit.activation is quick_gelu, the metadata", DISTAC_EFORMAT},
        {"{\"model_type\":\"clip_vision_model\",\"hidden_act\":\"gelu\"}",
         "the image tower's width: 768, the tensors "
         "have 8",
         DISTAC_ESHAPE},
        {"{\"model_type\":\"clip_vision_model\",\"hidden_size\":8,\"num_hidden_layers\":3,\"image_size\":8,"
         "\"patch_size\":4,\"hidden_act\":\"gelu\"}",
         "the image tower's layers: 3, the tensors have 2\n  the image's side: 8, the tensors have 4\n  the "
         "patches' "
         "side: 4, the tensors have 2",
         DISTAC_ESHAPE},
        {"{\"model_type\":\"clip_vision_model\"," VISION ",\"layer_norm_eps\":1e-6}", "layer_norm_eps is 1e-06",
         DISTAC_EUNSUPPORTED},
        {"{\"model_type\":\"clip_vision_model\"," VISION ",\"num_attention_heads\":0}",
         "num_attention_heads must be a whole number", DISTAC_EFORMAT},
        {"{\"model_type\":\"clip_vision_model\"," VISION ",\"num_attention_heads\":\"2\"}",
         "num_attention_heads must be a whole number", DISTAC_EFORMAT},
        {"{\"model_type\":\"clip_vision_model\"," VISION ",\"hidden_act\":7}", "hidden_act must be a short text",
         DISTAC_EFORMAT},
        {"{\"model_type\":\"clip_vision_model\"," VISION
         ",\"hidden_act\":\"a_name_that_is_longer_than_any_real_one\"}",
         "hidden_act must be a short text", DISTAC_EFORMAT},
        {"{\"model_type\":\"clip\",\"model_type\":\"clip\"}", "appears twice", DISTAC_EFORMAT},
        {"[1]", "not a JSON object", DISTAC_EFORMAT},
        {"", "not JSON", DISTAC_EFORMAT},
    };
    model_folder("c", "gelu");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text("c/config.json", cases[i].text);
        refused("c", cases[i].status, cases[i].reason);
    }
    OK(distac_path_remove(in_folder("c/config.json")));
    refused("c", DISTAC_ENOTFOUND, "neither config.json nor open_clip_config.json");
    OK(distac_path_make(in_folder("empty")));
    write_text("empty/config.json", "{}");
    refused("empty", DISTAC_ENOTFOUND, "model.safetensors, model.safetensors.index.json");
}

static void paths_are_renamed(void **state) {
    (void)state;
    OK(distac_path_make(in_folder("one")));
    OK(distac_path_make(in_folder("two")));
    write_text("one/a", "1");
    write_text("two/b", "2");
    OK(distac_path_rename(in_folder("one"), in_folder("two"))); /* they change places */
    assert_int_equal(distac_path_kind(in_folder("two/a")), 1);
    assert_int_equal(distac_path_kind(in_folder("one/b")), 1);
    OK(distac_path_rename(in_folder("one"), in_folder("three")));
    assert_int_equal(distac_path_kind(in_folder("one")), 0);
    write_text("file", "x");
    OK(distac_path_rename(in_folder("file"), in_folder("two/a")));
    assert_int_equal(distac_path_bytes(in_folder("two/a")), 1);
    assert_int_equal(distac_path_rename(in_folder("nothing"), in_folder("two")), DISTAC_EIO);
    assert_int_equal(distac_path_rename(in_folder("two/a"), in_folder("three")), DISTAC_EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_opens_its_files),
        cmocka_unit_test(hostile_indexes_are_refused),
        cmocka_unit_test(doubled_tensors_and_metadata_are_refused),
        cmocka_unit_test(big_and_deep),
        cmocka_unit_test(configuration_becomes_metadata),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(paths_are_renamed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
