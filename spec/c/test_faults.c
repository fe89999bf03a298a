/* test_faults.c: every allocation of a small whole job fails in turn: ours and those of libpng, libjpeg, zlib and
 * the C library. What is demanded: sweep.h. DISTAC_FAULTS=all takes every call instead of a sample. */
#include "fault_job.h"

/* Open, load, two steps of fine-tuning and two of distillation, merge, close. */
static distac_status whole_job(void *arg, char *digest, char text[512]) {
    (void)arg;
    char path[256], out[256];
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
    const distac_context_desc settings = {.threads = 2, .seed = 1};
    const int64_t shape[2] = {2, tiny.dim};
    const distac_adamw_desc adamw = {.lr = 1e-3, .weight_decay = 0.1, .clip = 1};
    const distac_loss_desc loss = {.label_smoothing = 0.1};
    const distac_kd_desc distil = {.t_teacher = 1, .t_student = 10, .beta = 0.5};

    STEP(distac_context_create(&settings, &context));
    STEP(distac_checkpoint_open(context, in_root(path, "base.safetensors"), &base));
    STEP(distac_checkpoint_open(context, in_root(path, "m1.safetensors"), &models[0]));
    STEP(distac_checkpoint_open(context, in_root(path, "m2.safetensors"), &models[1]));
    STEP(distac_vit_open(context, base, -1, 0, DISTAC_F32, &vit));
    STEP(distac_vit_open(context, models[0], -1, 0, DISTAC_F32, &teacher));
    STEP(distac_tensor_create(context, DISTAC_F32, 2, shape, &weight));
    STEP(distac_tensor_random(weight, 0, 5, 0));
    STEP(distac_head_create(weight, 1, &head));
    STEP(distac_dataset_folder(context, in_root(path, "data"), tiny.image, tiny.channels, &data));
    STEP(distac_loader_create(data, 2, 3, &loader));
    STEP(distac_vit_params(vit, &flat));
    STEP(distac_adamw_create(context, &adamw, distac_tensor_numel(flat), DISTAC_F32, &optimizer));
    STEP(distac_trainer_create(vit, head, optimizer, NULL, &loss, 0, 1, &trainer));
    for (int64_t step = 0; step < 2; step++) {
        STEP(distac_loader_images(loader, step, &images));
        STEP(distac_loader_labels(loader, step, &labels));
        STEP(distac_trainer_step(trainer, images, labels, -1, &stats));
        distac_tensor_release(images);
        distac_tensor_release(labels);
        images = labels = NULL;
    }
    STEP(distac_adamw_create(context, &adamw, distac_tensor_numel(flat), DISTAC_F32, &second));
    STEP(distac_kd_create(vit, teacher, head, second, &distil, &kd));
    for (int64_t step = 0; step < 2; step++) {
        STEP(distac_loader_images(loader, step, &images));
        STEP(distac_kd_step(kd, images, NULL, -1, &stats));
        distac_tensor_release(images);
        images = NULL;
    }
    STEP(distac_vit_checkpoint(vit, 1, &trained));
    STEP(distac_checkpoint_combine(1, trained, -1, base, &tau));
    STEP(distac_checkpoint_save(trained, in_root(path, "m1.safetensors.new"), -1));
    distac_checkpoint_release(models[0]);
    models[0] = trained;
    trained = NULL;
    STEP(distac_merge_create(context, "ties", &merge));
    STEP(distac_merge_files(merge, base, 2, models, in_root(out, "merged.safetensors"), -1, NULL));
    STEP(digest_file(out, digest));
out:
    keep_text(status, text);
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
    return status;
}

static void memory_of_a_job(void **state) {
    (void)state;
    swept((work){.name = "memory of a job", .run = whole_job, .folder = root, .kinds = FAULT_MEMORY | FAULT_MAP,
                 .expected = DISTAC_ENOMEM}, 8);
}

/* ---- the sweep sees what it is there for */

typedef enum { RIGHT, LEAKS, CRASHES, WRONG_CODE, WRONG_RESULT, LEAVES_A_FILE, NO_TEXT } mistake;

static distac_status planted(void *arg, char *digest, char text[512]) {
    mistake m = *(const mistake *)arg;
    distac_status status = DISTAC_OK;
    char path[256];
    void *volatile a = malloc(100), *volatile b = malloc(200);
    strcpy(digest, "same");
    if (!a || !b) {
        status = DISTAC_ENOMEM;
        strcpy(text, m == NO_TEXT ? "" : "planted: no memory");
        if (m == CRASHES && !b) *(volatile char *)b = 1;
        if (m == WRONG_CODE) status = DISTAC_EIO;
        if (m == WRONG_RESULT) {
            status = DISTAC_OK;
            strcpy(digest, "other");
        }
        if (m == LEAVES_A_FILE) fclose(fopen(in_root(path, ".x.1.0.distac-tmp"), "w"));
    }
    if (m != LEAKS || b) free(a);
    free(b);
    return status;
}

static void planted_mistakes(void **state) {
    (void)state;
    printf("  (the next lines are planted mistakes)\n");
    for (mistake m = RIGHT; m <= NO_TEXT; m++) {
        work w = {.name = "planted", .run = planted, .arg = &m, .folder = root, .kinds = FAULT_MEMORY,
                  .expected = DISTAC_ENOMEM};
        int bad = sweep(&w, 0);
        if ((bad > 0) != (m != RIGHT)) fail_msg("mistake %d: %d bad outcomes", (int)m, bad);
        char path[256];
        unlink(in_root(path, ".x.1.0.distac-tmp"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_mistakes),
        cmocka_unit_test(memory_of_a_job),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
