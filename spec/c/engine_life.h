/* engine_life.h: one engine's whole life, a small job that goes through everything: what several of them at once,
 * failing calls and hosts' allocators are tested with. */
#ifndef ENGINE_LIFE_H
#define ENGINE_LIFE_H

#include "fault_job.h"

typedef struct life {
    int number;      /* its seed, and the name of its file */
    int32_t threads; /* of its context */
    const distac_allocator *allocator; /* of its context; NULL: the system's */
    distac_status status;
    char text[512], digest[65];
} life;

/* Open, load, two steps of fine-tuning and two of distillation, save, merge by two methods, close. `arg` is a
 * life: as what a thread runs. */
UNUSED static void *live(void *arg) {
    life *l = arg;
    char path[256], out[256], name[64];
    distac_status status;
    distac_context *context = NULL;
    distac_checkpoint *base = NULL, *models[2] = {NULL, NULL}, *trained = NULL, *tau = NULL;
    distac_vit *vit = NULL, *teacher = NULL;
    distac_head *head = NULL;
    distac_tensor *weight = NULL, *flat = NULL, *images = NULL, *labels = NULL;
    distac_dataset *data = NULL;
    distac_loader *loader = NULL;
    distac_optimizer *optimizer = NULL, *second = NULL;
    distac_trainer *trainer = NULL;
    distac_kd *kd = NULL;
    distac_merge *merge = NULL;
    distac_step_stats stats;
    const distac_context_desc settings = {.threads = l->threads, .seed = (uint64_t)l->number};
    const int64_t shape[2] = {2, tiny.dim};
    const distac_adamw_desc adamw = {.lr = 1e-3, .weight_decay = 0.1, .clip = 1};
    const distac_loss_desc loss = {.label_smoothing = 0.1, .mixup = 1};
    const distac_kd_desc distil = {.t_teacher = 1, .t_student = 10, .beta = 0.5};
    l->digest[0] = l->text[0] = 0;

    STEP(distac_context_create(&settings, &context));
    STEP(distac_context_set_allocator(context, l->allocator));
    STEP(distac_checkpoint_open(context, in_root(path, "base.safetensors"), &base));
    STEP(distac_checkpoint_open(context, in_root(path, "m2.safetensors"), &models[1]));
    STEP(distac_vit_open(context, base, -1, 0, DISTAC_F32, &vit));
    STEP(distac_vit_open(context, models[1], -1, 0, DISTAC_F32, &teacher));
    STEP(distac_tensor_create(context, DISTAC_F32, 2, shape, &weight));
    STEP(distac_tensor_random(weight, 0, (uint64_t)l->number, 0));
    STEP(distac_head_create(weight, 1, &head));
    STEP(distac_dataset_folder(context, in_root(path, "data"), tiny.image, tiny.channels, &data));
    STEP(distac_loader_create(data, 2, (uint64_t)l->number, &loader));
    STEP(distac_loader_workers(loader, 2, 2));
    STEP(distac_vit_params(vit, &flat));
    STEP(distac_adamw_create(context, &adamw, distac_tensor_numel(flat), DISTAC_F32, &optimizer));
    STEP(distac_adamw_create(context, &adamw, distac_tensor_numel(flat), DISTAC_F32, &second));
    STEP(distac_trainer_create(vit, head, optimizer, NULL, &loss, 0, (uint64_t)l->number, &trainer));
    STEP(distac_kd_create(vit, teacher, head, second, &distil, &kd));
    for (int64_t step = 0; step < 4; step++) {
        STEP(distac_loader_images(loader, step, &images));
        STEP(distac_loader_labels(loader, step, &labels));
        if (step < 2)
            STEP(distac_trainer_step(trainer, images, labels, -1, &stats));
        else
            STEP(distac_kd_step(kd, images, NULL, -1, &stats));
        distac_tensor_release(images);
        distac_tensor_release(labels);
        images = labels = NULL;
    }
    STEP(distac_vit_checkpoint(vit, 1, &trained));
    STEP(distac_checkpoint_combine(1, trained, -1, base, &tau));
    snprintf(name, sizeof name, "trained-%d.safetensors", l->number);
    STEP(distac_checkpoint_save(trained, in_root(out, name), -1));
    STEP(distac_checkpoint_open(context, out, &models[0]));
    static const char *const methods[] = {"ties", "tsvm"};
    char digest[2][65];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "merged-%d-%s.safetensors", l->number, methods[i]);
        STEP(distac_merge_create(context, methods[i], &merge));
        STEP(distac_merge_files(merge, base, 2, models, in_root(out, name), -1, NULL));
        STEP(digest_file(out, digest[i]));
        distac_merge_release(merge);
        merge = NULL;
    }
    for (int i = 0; i < 32; i++) {
        l->digest[i] = digest[0][i];
        l->digest[32 + i] = digest[1][i];
    }
    l->digest[64] = 0;
out:
    keep_text(status, l->text);
    l->status = status;
    distac_tensor_release(images);
    distac_tensor_release(labels);
    distac_tensor_release(weight);
    distac_tensor_release(flat);
    distac_merge_release(merge);
    distac_kd_release(kd);
    distac_trainer_release(trainer);
    distac_optimizer_release(optimizer);
    distac_optimizer_release(second);
    distac_loader_release(loader);
    distac_dataset_release(data);
    distac_head_release(head);
    distac_vit_release(vit);
    distac_vit_release(teacher);
    distac_checkpoint_release(trained);
    distac_checkpoint_release(tau);
    distac_checkpoint_release(models[0]);
    distac_checkpoint_release(models[1]);
    distac_checkpoint_release(base);
    distac_context_release(context);
    return NULL;
}

#endif
