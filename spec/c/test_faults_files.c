/* test_faults_files.c: every allocation fails in turn while each kind of file is read and written, and while each
 * method merges (see test_faults.c). */
#include "fault_job.h"

typedef distac_status (*piece)(distac_context *context, const char *argument, char *digest);

typedef struct item {
    const char *name;
    piece run;
    const char *argument;
} item;

static distac_status run_item(void *arg, char *digest, char text[512]) {
    const item *i = arg;
    const distac_context_desc settings = {.threads = 2, .seed = 1};
    distac_context *context = NULL;
    distac_status status;
    STEP(distac_context_create(&settings, &context));
    STEP(i->run(context, i->argument, digest));
out:
    keep_text(status, text);
    distac_context_release(context);
    return status;
}

static distac_status strings_digest(distac_strings *strings, char *digest) {
    snprintf(digest, 65, "%s", distac_strings_get(strings, 0));
    distac_strings_release(strings);
    return DISTAC_OK;
}

static distac_status open_model(distac_context *context, const char *path, char *digest) {
    distac_status status;
    char out[256];
    distac_checkpoint *model = NULL, *converted = NULL;
    distac_strings *hash = NULL;
    if (path[0] != 's') path = in_root(out, path);
    STEP(distac_checkpoint_open(context, path, &model));
    STEP(distac_checkpoint_fingerprint(model, &hash));
    if (strcmp(distac_checkpoint_layout(model), "plain") != 0) {
        STEP(distac_checkpoint_convert(model, "hf", &converted));
        STEP(distac_checkpoint_save(converted, in_root(out, "converted.safetensors"), DISTAC_BF16));
    }
    strings_digest(hash, digest);
    hash = NULL;
out:
    distac_strings_release(hash);
    distac_checkpoint_release(converted);
    distac_checkpoint_release(model);
    return status;
}

static distac_status read_image(distac_context *context, const char *path, char *digest) {
    distac_status status;
    char out[256];
    distac_image *image = NULL, *small = NULL;
    STEP(distac_image_load(context, path, 0, &image));
    STEP(distac_image_fit(image, 7, &small));
    STEP(distac_image_save(small, in_root(out, "small.png")));
    STEP(digest_file(out, digest));
out:
    distac_image_release(small);
    distac_image_release(image);
    return status;
}

static distac_status use_data(distac_dataset *data, char *digest) {
    distac_status status;
    distac_tensor *images = NULL;
    distac_strings *hash = NULL;
    distac_loader *loader = NULL;
    STEP(distac_dataset_hash(data, &hash));
    STEP(distac_loader_create(data, 2, 1, &loader));
    STEP(distac_loader_workers(loader, 2, 2));
    STEP(distac_loader_images(loader, 0, &images));
    strings_digest(hash, digest);
    hash = NULL;
out:
    distac_strings_release(hash);
    distac_tensor_release(images);
    distac_loader_release(loader);
    distac_dataset_release(data);
    return status;
}

static distac_status read_task(distac_context *context, const char *task, char *digest) {
    distac_dataset *data;
    distac_status status = distac_dataset_task(context, "spec/golden/datasets", task, 0, 8, &data);
    return status == DISTAC_OK ? use_data(data, digest) : status;
}

static distac_status read_files(distac_context *context, const char *packs, char *digest) {
    char path[256];
    distac_dataset *data;
    distac_cache_info info;
    distac_status status = distac_dataset_files(context, in_root(path, "data"), 8, 3, &data);
    if (status != DISTAC_OK) return status;
    if (packs) status = distac_dataset_cache(data, in_root(path, packs), NULL, &info);
    if (status == DISTAC_OK) return use_data(data, digest);
    distac_dataset_release(data);
    return status;
}

static distac_status tokenize(distac_context *context, const char *path, char *digest) {
    distac_status status;
    distac_tokenizer *tokenizer = NULL;
    distac_tensor *ids = NULL;
    distac_strings *text = NULL;
    static const char words[] = "A caf\xc3\xa9 &amp; the end";
    STEP(distac_tokenizer_open(context, path, &tokenizer));
    STEP(distac_tokenizer_encode(tokenizer, words, sizeof words - 1, &ids));
    STEP(distac_tokenizer_decode(tokenizer, distac_tensor_numel(ids), distac_tensor_data(ids), &text));
    strings_digest(text, digest);
out:
    distac_tensor_release(ids);
    distac_tokenizer_release(tokenizer);
    return status;
}

static distac_status read_text(distac_context *context, const char *path, char *digest) {
    distac_status status;
    distac_checkpoint *clip = NULL;
    distac_text *text = NULL;
    distac_strings *hash = NULL;
    distac_tensor *ids = NULL, *features = NULL;
    const int64_t shape[2] = {2, 5};
    STEP(distac_checkpoint_open(context, path, &clip));
    STEP(distac_text_open(context, clip, DISTAC_ACT_GELU, 2, DISTAC_F32, &text));
    STEP(distac_tensor_create(context, DISTAC_I64, 2, shape, &ids));
    STEP(distac_text_features(text, ids, &features));
    STEP(distac_text_hash(text, &hash));
    strings_digest(hash, digest);
out:
    distac_tensor_release(features);
    distac_tensor_release(ids);
    distac_text_release(text);
    distac_checkpoint_release(clip);
    return status;
}

static distac_status merge_with(distac_context *context, const char *method, char *digest) {
    distac_status status;
    char path[256];
    distac_merge *merge = NULL;
    distac_checkpoint *base = NULL, *models[2] = {NULL, NULL};
    STEP(distac_merge_create(context, method, &merge));
    STEP(distac_checkpoint_open(context, in_root(path, "base.safetensors"), &base));
    STEP(distac_checkpoint_open(context, in_root(path, "m1.safetensors"), &models[0]));
    STEP(distac_checkpoint_open(context, in_root(path, "m2.safetensors"), &models[1]));
    STEP(distac_merge_files(merge, base, 2, models, in_root(path, "merged.safetensors"), -1, NULL));
    STEP(digest_file(path, digest));
out:
    distac_merge_release(merge);
    distac_checkpoint_release(base);
    distac_checkpoint_release(models[0]);
    distac_checkpoint_release(models[1]);
    return status;
}

static distac_status look_at_matrices(distac_context *context, const char *unused, char *digest) {
    distac_status status;
    const int64_t shape[2] = {9, 6}, square[2] = {6, 6}, six = 6;
    distac_tensor *a = NULL, *u = NULL, *s = NULL, *vt = NULL, *b = NULL;
    double sum;
    (void)unused;
    STEP(distac_tensor_create(context, DISTAC_F32, 2, shape, &a));
    STEP(distac_tensor_random(a, 0, 1, 2));
    STEP(distac_tensor_create(context, DISTAC_F32, 2, shape, &u));
    STEP(distac_tensor_create(context, DISTAC_F32, 1, &six, &s));
    STEP(distac_tensor_create(context, DISTAC_F32, 2, square, &vt));
    STEP(distac_tensor_svd(a, u, s, vt));
    STEP(distac_tensor_reduce(DISTAC_SUM, s, -1, 0, &b));
    STEP(distac_tensor_item(b, &sum));
    STEP(distac_tensor_eigh(vt, s, vt));
    snprintf(digest, 65, "%a", sum);
out:
    distac_tensor_release(a);
    distac_tensor_release(u);
    distac_tensor_release(s);
    distac_tensor_release(vt);
    distac_tensor_release(b);
    return status;
}

static void sweep_items(item *items, size_t count, double seconds) {
    int bad = 0;
    for (size_t i = 0; i < 2 * count; i++) {
        const item *one = &items[i / 2];
        work w = {.name = one->name, .run = run_item, .arg = &items[i / 2], .folder = root, .onward = i % 2 == 1,
                  .kinds = FAULT_MEMORY | FAULT_MAP, .expected = DISTAC_ENOMEM};
        bad += sweep(&w, seconds / (double)(2 * count));
    }
    assert_int_equal(bad, 0);
}

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static void models(void **state) {
    (void)state;
    item items[] = {
        {"archive of PyTorch", open_model, "spec/golden/pickles/tensors.pt"},
        {"module of PyTorch", open_model, "spec/golden/pickles/module.pt"},
        {"legacy file of PyTorch", open_model, "spec/golden/pickles/tensors_legacy.pt"},
        {"CLIP of open_clip", open_model, "spec/golden/clip/open_clip.safetensors"},
        {"CLIP with prefixes", open_model, "spec/golden/clip/prefixed.safetensors"},
        {"folder of transformers", open_model, "spec/golden/clip/hf"},
        {"text encoder", read_text, "spec/golden/text/clip.safetensors"},
        {"singular values", look_at_matrices, NULL},
    };
    sweep_items(items, COUNT(items), 3);
}

static void images(void **state) {
    (void)state;
    item items[] = {
        {"PNG", read_image, "spec/golden/images/rgb8.png"},
        {"PNG, palette, interlaced", read_image, "spec/golden/images/palette4_i.png"},
        {"JPEG", read_image, "spec/golden/images/base_420.jpg"},
        {"JPEG, progressive, CMYK", read_image, "spec/golden/images/cmyk_prog.jpg"},
        {"PNM", read_image, "spec/golden/images/three.ppm"},
        {"tokenizer, gzip", tokenize, "spec/golden/bpe/tiny_vocab.txt.gz"},
        {"tokenizer, JSON", tokenize, "spec/golden/bpe/vocab.json"},
        {"folder of images", read_files, NULL},
        {"pack of images", read_files, "packs"},
        {"task dtd", read_task, "dtd"},
        {"task svhn", read_task, "svhn"},
        {"task mnist", read_task, "mnist"},
        {"task cars", read_task, "cars"},
        {"task gtsrb", read_task, "gtsrb"},
        {"task sun397", read_task, "sun397"},
        {"task resisc45", read_task, "resisc45"},
    };
    sweep_items(items, COUNT(items), 4);
}

static void methods(void **state) {
    (void)state;
    for (int32_t i = 0; i < distac_merge_method_count(); i++) {
        const char *name = distac_merge_method_name(i);
        item one = {name, merge_with, name};
        sweep_items(&one, 1, 0.1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models),
        cmocka_unit_test(images),
        cmocka_unit_test(methods),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
