/* embed_core.c: merges two fine-tuned models and classifies a picture with the result. libdistac alone, no Lua.
 *
 *   cc embed_core.c $(pkg-config --cflags --libs distac) -o embed_core
 *   ./embed_core base.safetensors a.safetensors b.safetensors merged.safetensors head.safetensors picture.png */
#include <distac.h>
#include <stdio.h>

/* Models are mapped files; their merge is streamed to `out`, which appears under its name when it is whole. */
static int merge(distac_context *context, char **paths, const char *out) {
    distac_checkpoint *base = NULL, *models[2] = {NULL, NULL};
    distac_merge *method = NULL;
    const double lambda = 0.5;
    int bad = distac_checkpoint_open(context, paths[0], &base) ||
              distac_checkpoint_open(context, paths[1], &models[0]) ||
              distac_checkpoint_open(context, paths[2], &models[1]) ||
              distac_merge_create(context, "task_arithmetic", &method) ||
              distac_merge_set(method, "lambda", 1, &lambda) ||
              distac_merge_files(method, base, 2, models, out, -1, NULL);
    distac_merge_release(method);
    distac_checkpoint_release(models[1]), distac_checkpoint_release(models[0]), distac_checkpoint_release(base);
    return bad;
}

/* A batch of one, [1,C,S,S]: fitted to the model's size; colours as CLIP normalises them, grey from 0 to 1. */
static int load_picture(distac_context *context, const distac_vit_config *model, const char *path,
                        distac_tensor **out) {
    static const double mean[] = {0.48145466, 0.4578275, 0.40821073}, zero[] = {0};
    static const double deviation[] = {0.26862954, 0.26130258, 0.27577711}, one[] = {1};
    const int32_t n = model->channels, size = model->image;
    distac_image *picture = NULL, *fitted = NULL;
    distac_tensor *pixels = NULL;
    int bad = distac_image_load(context, path, n, &picture) || distac_image_fit(picture, size, &fitted) ||
              distac_image_tensor(fitted, n, n == 3 ? mean : zero, n, n == 3 ? deviation : one, &pixels) ||
              distac_tensor_reshape(pixels, 4, (int64_t[]){1, n, size, size}, out);
    distac_tensor_release(pixels), distac_image_release(fitted), distac_image_release(picture);
    return bad;
}

/* The class of the largest softmax, and that softmax. */
static int classify(distac_context *context, const char *model, const char *head_path, const char *picture) {
    distac_checkpoint *weights = NULL, *head_file = NULL;
    distac_vit *vit = NULL;
    distac_head *head = NULL;
    distac_tensor *weight = NULL, *images = NULL, *features = NULL, *logits = NULL, *shares = NULL;
    distac_vit_config config;
    int bad = distac_checkpoint_open(context, model, &weights) ||
              distac_vit_open(context, weights, -1, 0, DISTAC_F32, &vit) || distac_vit_get_config(vit, &config) ||
              distac_checkpoint_open(context, head_path, &head_file) ||
              distac_checkpoint_tensor(head_file, 0, &weight) || distac_head_create(weight, 1, &head) ||
              load_picture(context, &config, picture, &images) || distac_vit_features(vit, images, &features) ||
              distac_head_logits(head, features, &logits) || distac_tensor_softmax(logits, 0, &shares);
    if (!bad) {
        const float *share = distac_tensor_data(shares);
        int64_t best = 0;
        for (int64_t i = 1; i < distac_tensor_size(shares, 1); i++) best = share[i] > share[best] ? i : best;
        printf("%s: class %d, %.4f\n", picture, (int)best, share[best]);
    }
    distac_tensor_release(shares), distac_tensor_release(logits), distac_tensor_release(features);
    distac_tensor_release(images), distac_tensor_release(weight), distac_head_release(head);
    distac_vit_release(vit), distac_checkpoint_release(head_file), distac_checkpoint_release(weights);
    return bad;
}

int main(int argc, char **argv) {
    distac_context *context = NULL;
    if (argc != 7) return fprintf(stderr, "usage: %s BASE MODEL MODEL MERGED HEAD PICTURE\n", argv[0]), 2;
    int bad = distac_context_create(NULL, &context) || merge(context, argv + 1, argv[4]) ||
              classify(context, argv[4], argv[5], argv[6]);
    if (bad) fprintf(stderr, "%s\n", distac_last_error()); /* of the call that ended the chain */
    distac_context_release(context);
    return bad;
}
