/* test_engines.c: eight engines on eight threads at once give the results that one gives alone, bit for bit, and a
 * cancel of one does not touch the others. */
#include "fault_job.h"

#include <pthread.h>

enum { ENGINES = 8, ROUNDS = 2 };

typedef struct life {
    int number;      /* its seed, and the name of its file */
    int32_t threads; /* of its context */
    distac_status status;
    char text[512], digest[65];
} life;

/* Open, load, two steps of fine-tuning and two of distillation, merge by two methods, close. */
static void *live(void *arg) {
    life *l = arg;
    char path[256], out[256], name[64];
    distac_status status;
    distac_context *context = NULL;
    distac_checkpoint *base = NULL, *models[2] = {NULL, NULL}, *trained = NULL;
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
    models[0] = trained;
    trained = NULL;
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
    distac_checkpoint_release(models[0]);
    distac_checkpoint_release(models[1]);
    distac_checkpoint_release(base);
    distac_context_release(context);
    return NULL;
}

static void eight_at_once(void **state) {
    (void)state;
    life alone[ENGINES], together[ENGINES];
    for (int i = 0; i < ENGINES; i++) {
        alone[i] = (life){.number = i, .threads = 1};
        live(&alone[i]);
        if (alone[i].status != DISTAC_OK) fail_msg("engine %d alone: %s", i, alone[i].text);
        for (int k = 0; k < i; k++) assert_string_not_equal(alone[i].digest, alone[k].digest);
    }
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[ENGINES];
        for (int i = 0; i < ENGINES; i++) {
            together[i] = (life){.number = i, .threads = 1 + (i + round) % 3};
            assert_int_equal(pthread_create(&threads[i], NULL, live, &together[i]), 0);
        }
        for (int i = 0; i < ENGINES; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < ENGINES; i++) {
            if (together[i].status != DISTAC_OK) fail_msg("engine %d: %s", i, together[i].text);
            assert_string_equal(together[i].digest, alone[i].digest);
        }
    }
}

/* Threads of the host open and close engines of their own, fail in them and read their own errors. */
static void *storm(void *arg) {
    int number = *(const int *)arg;
    for (int i = 0; i < 50; i++) {
        distac_context *context;
        distac_checkpoint *none;
        distac_event event;
        char path[64];
        snprintf(path, sizeof path, "/nowhere/%d/%d.safetensors", number, i);
        const distac_context_desc settings = {.threads = 1 + i % 3};
        if (distac_context_create(&settings, &context) != DISTAC_OK) return "no context";
        if (i % 2) distac_cancel(context);
        if (distac_cancelled(context) != i % 2) return "another engine's cancel";
        if (distac_checkpoint_open(context, path, &none) == DISTAC_OK) return "a file that is not there";
        if (!strstr(distac_last_error(), path)) return "another thread's error";
        if (distac_event_next(context, &event)) return "another engine's event";
        distac_context_release(context);
    }
    return NULL;
}

static void opening_and_closing(void **state) {
    (void)state;
    pthread_t threads[ENGINES];
    int numbers[ENGINES];
    for (int i = 0; i < ENGINES; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, storm, &numbers[i]), 0);
    }
    for (int i = 0; i < ENGINES; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        if (wrong) fail_msg("engine %d: %s", i, (const char *)wrong);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_at_once),
        cmocka_unit_test(opening_and_closing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
