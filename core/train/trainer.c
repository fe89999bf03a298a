/* trainer.c: a fine-tuning step: cross-entropy or focal loss on the head's logits, with Mixup, gradient
 * accumulation and, if wanted, a head that learns too. Nothing changes before everything is known to be finite. */
#include "train.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct distac_trainer {
    di_learner learner;
    distac_optimizer *head_optimizer; /* NULL: the head is frozen */
    distac_tensor *dweight;           /* [C,D], with head_optimizer */
    distac_loss_desc loss;
    uint64_t seed;
    di_workspace input;               /* on a device and with Mixup: images of a step */
    di_workspace lists;               /* where the losses read them: see `lists` */
    di_workspace draft;               /* the same on the host */
    di_recorder recorder;
};

/* Streams of the random numbers of Mixup; step k permutes with stream PERMUTATION + k. */
enum { LAMBDA_STREAM = 0x6d697875 };
static const uint64_t PERMUTATION_STREAM = (uint64_t)0x6d697870 << 32;

static distac_status check_head_optimizer(const distac_head *head, const distac_optimizer *optimizer,
                                          const distac_optimizer *head_optimizer) {
    if (!head_optimizer) return DISTAC_OK;
    if (head_optimizer == optimizer)
        return di_fail_at(DISTAC_EINVAL, "distac_trainer_create", "encoder and head need an optimizer each");
    if (head_optimizer->n != head->weight->numel || head_optimizer->dtype != head->dtype)
        return di_fail_at(DISTAC_ESHAPE, "distac_trainer_create",
                          "head_optimizer is for %lld parameters in %s, the head has %lld in %s",
                          (long long)head_optimizer->n, distac_dtype_name(head_optimizer->dtype),
                          (long long)head->weight->numel, distac_dtype_name(head->dtype));
    if (head_optimizer->context != head->context)
        return di_fail_at(DISTAC_EINVAL, "distac_trainer_create", "head_optimizer belongs to another context");
    return DISTAC_OK;
}

distac_status distac_trainer_create(distac_vit *vit, distac_head *head, distac_optimizer *optimizer,
                                    distac_optimizer *head_optimizer, const distac_loss_desc *loss, int64_t micro,
                                    uint64_t seed, distac_trainer **out) {
    DI_REQUIRE(vit && head && optimizer && loss && out, "vit, head, optimizer, loss and out are needed");
    *out = NULL;
    DI_TRY(di_loss_desc_check(loss));
    DI_TRY(check_head_optimizer(head, optimizer, head_optimizer));
    distac_trainer *t = di_new(sizeof *t);
    if (!t) return DISTAC_ENOMEM;
    t->loss = *loss;
    t->seed = seed;
    distac_status status = di_learner_make(&t->learner, vit, head, optimizer, micro);
    if (status == DISTAC_OK && head_optimizer) {
        status = di_tensor_new_there(vit->context, vit->dtype, 2, head->weight->shape, true, &t->dweight);
        if (status == DISTAC_OK) {
            di_optimizer_retain(head_optimizer);
            t->head_optimizer = head_optimizer;
        }
    }
    if (status != DISTAC_OK) {
        distac_trainer_release(t);
        return status;
    }
    *out = t;
    return DISTAC_OK;
}

void distac_trainer_release(distac_trainer *trainer) {
    if (!trainer) return;
    if (trainer->learner.vit) {
        distac_context *c = trainer->learner.context;
        di_recorder_free(&trainer->recorder, c);
        di_workspace_free(c, &trainer->input);
        di_workspace_free(c, &trainer->lists);
        di_free(c, trainer->draft.memory, trainer->draft.bytes);
    }
    distac_tensor_release(trainer->dweight);
    distac_optimizer_release(trainer->head_optimizer);
    di_learner_free(&trainer->learner);
    free(trainer);
}

distac_status distac_trainer_set_head(distac_trainer *trainer, distac_head *head) {
    DI_REQUIRE(trainer && head, "trainer and head are needed");
    if (trainer->head_optimizer)
        return di_fail(DISTAC_ESTATE, "the trainer's head learns, too; only a frozen head can be exchanged");
    return di_learner_head(&trainer->learner, head);
}

/* What a step trains on: the caller's images, or their mixture with a permutation of themselves. */
typedef struct batch {
    distac_trainer *trainer;
    int64_t size, image_bytes;
    const char *images;
    di_targets targets;
} batch;

/* Labels and, with Mixup, the other labels, the permutation [size] each and lambda: one run of memory, so that it
 * goes to a device in one piece. */
typedef struct lists {
    int64_t *labels, *others, *permutation;
    double *lambda;
} lists;

static lists lists_at(void *memory, int64_t size, bool mixed) {
    int64_t *at = memory;
    if (!mixed) return (lists){.labels = at};
    return (lists){at, at + size, at + 2 * size, (double *)(void *)(at + 3 * size)};
}

/* The labels to where the losses read them. Mixup has one lambda and one permutation, functions of the seed and
 * the number of updates done, so that a run continued from a saved state draws the same. */
static distac_status targets(distac_trainer *t, const int64_t *labels, batch *b, lists *there, double *lambda) {
    distac_context *c = t->learner.context;
    const bool mixed = t->loss.mixup > 0.0;
    const size_t bytes = (size_t)b->size * (mixed ? 3 : 1) * sizeof(int64_t) + (mixed ? sizeof(double) : 0);
    DI_TRY(di_workspace_reserve(c, &t->lists, bytes));
    DI_TRY(di_workspace_reserve_here(c, &t->draft, bytes));
    const lists here = lists_at(t->draft.memory, b->size, mixed);
    *there = lists_at(t->lists.memory, b->size, mixed);
    memcpy(here.labels, labels, (size_t)b->size * sizeof *labels);
    if (mixed) {
        const uint64_t step = (uint64_t)t->learner.optimizer->steps;
        *here.lambda = *lambda = di_uniform(t->seed, LAMBDA_STREAM, step);
        di_permutation(t->seed, PERMUTATION_STREAM + step, b->size, here.permutation);
        for (int64_t i = 0; i < b->size; i++) here.others[i] = labels[here.permutation[i]];
    }
    b->targets = (di_targets){there->labels, there->others, there->lambda};
    return di_there_put(c, there->labels, here.labels, bytes);
}

/* Images and targets to where a step finds them: x~ = lambda x + (1-lambda) x_perm with Mixup. */
static distac_status place_input(distac_trainer *t, const int64_t *labels, batch *b) {
    distac_context *c = t->learner.context;
    const di_kernels *k = t->learner.vit->kernels;
    int64_t n = b->image_bytes / distac_dtype_bytes(t->learner.vit->dtype);
    size_t bytes = (size_t)(b->size * b->image_bytes);
    double lambda = 1.0;
    lists there;
    DI_TRY(targets(t, labels, b, &there, &lambda));
    if (!there.others && !di_models_there(c)) return DISTAC_OK; /* read where they lie */
    DI_TRY(di_workspace_reserve(c, &t->input, bytes));
    if (there.others) {
        DI_TRY(k->gather(c, b->size, n, there.permutation, b->images, t->input.memory));
        DI_TRY(k->axpby(c, b->size * n, lambda, b->images, 1.0 - lambda, t->input.memory));
    } else {
        DI_TRY(di_there_copy(c, t->input.memory, b->images, bytes));
    }
    b->images = t->input.memory;
    return DISTAC_OK;
}

/* Adds the gradients of the whole batch, slice by slice; every slice's share is its part of the mean. */
static distac_status accumulate(distac_trainer *t, const batch *b) {
    di_learner *l = &t->learner;
    const di_kernels *k = l->vit->kernels;
    int64_t slice = di_learner_slice(l, b->size);
    DI_TRY(di_learner_zero(l));
    if (t->dweight) DI_TRY(k->axpby(l->context, t->dweight->numel, 0.0, NULL, 0.0, t->dweight->data)); /* zeros */
    for (int64_t start = 0; start < b->size; start += slice) {
        int64_t count = b->size - start < slice ? b->size - start : slice;
        di_targets targets = b->targets;
        targets.labels += start;
        if (targets.others) targets.others += start;
        DI_TRY(di_learner_forward(l, count, b->images + start * b->image_bytes));
        DI_TRY(k->loss(l->context, &t->loss, count, l->head->classes, l->logits, &targets, 1.0 / (double)b->size,
                       l->dlogits, l->results + start));
        DI_TRY(di_learner_backward(l, count, t->dweight ? t->dweight->data : NULL));
    }
    return DISTAC_OK;
}

/* Everything from the images to the updated parameters, asked for without waiting for any of it. */
static distac_status body(void *arg) {
    const batch *b = arg;
    distac_trainer *t = b->trainer;
    di_learner *l = &t->learner;
    const di_kernels *k = l->vit->kernels;
    di_adamw rules[2] = {di_optimizer_rule(l->optimizer)};
    if (t->head_optimizer) rules[1] = di_optimizer_rule(t->head_optimizer);
    DI_TRY(accumulate(t, b));
    DI_TRY(k->step_rows(l->context, b->size, l->results, l->step));
    DI_TRY(k->step_gradient(l->context, 0, l->grads->numel, 0.0, NULL, NULL, l->grads->data, l->step));
    if (t->head_optimizer)
        DI_TRY(k->step_gradient(l->context, 1, t->dweight->numel, 0.0, NULL, NULL, t->dweight->data, l->step));
    DI_TRY(k->step_decide(l->context, t->head_optimizer ? 2 : 1, rules, l->step));
    DI_TRY(di_poll(l->context)); /* the last moment to stop with nothing changed */
    DI_TRY(di_optimizer_update(l->optimizer, 0, l->step, l->grads->data, l->vit->flat->data, l->vit->copy));
    if (!t->head_optimizer) return DISTAC_OK;
    return di_optimizer_update(t->head_optimizer, 1, l->step, t->dweight->data, l->head->weight->data, NULL);
}

static di_recorder_key key_of(const void *arg) {
    const batch *b = arg;
    const distac_trainer *t = b->trainer;
    return (di_recorder_key){{(uintptr_t)b->size, (uintptr_t)b->images, (uintptr_t)b->targets.labels,
                              (uintptr_t)b->targets.others, (uintptr_t)t->learner.memory.memory,
                              (uintptr_t)t->learner.vit->training.memory, (uintptr_t)t->learner.head->weight->data,
                              (uintptr_t)t->learner.head->classes,
                              (uintptr_t)t->learner.vit->recompute}};
}

/* The step with everything where it is computed; labels on the host. */
static distac_status run(distac_trainer *trainer, const distac_tensor *images, const int64_t *labels, double lr,
                         distac_step_stats *out) {
    di_learner *l = &trainer->learner;
    batch b = {.trainer = trainer, .size = images->shape[0], .images = images->data};
    b.image_bytes = images->numel / b.size * distac_dtype_bytes(images->dtype);
    double rate, head_rate = 0.0;
    DI_TRY(di_optimizer_rate(l->optimizer, lr, &rate));
    if (trainer->head_optimizer) DI_TRY(di_optimizer_rate(trainer->head_optimizer, lr, &head_rate));
    DI_TRY(di_vit_fresh_copy(l->vit));
    DI_TRY(place_input(trainer, labels, &b));
    DI_TRY(di_learner_begin(l, b.size, rate, head_rate, trainer->head_optimizer));
    DI_TRY(di_recorder_run(&trainer->recorder, l->vit, key_of, body, &b));
    di_step step;
    DI_TRY(di_there_get(l->context, &step, l->step, sizeof step));
    DI_TRY(di_finite(step.total.loss, "distac_trainer_step", "the loss", l->optimizer->steps));
    DI_TRY(di_learner_check(l, step.sumsq[0]));
    if (trainer->head_optimizer)
        DI_TRY(di_optimizer_check(trainer->head_optimizer, step.sumsq[1], "head's gradient"));
    l->optimizer->steps++;
    if (trainer->head_optimizer) trainer->head_optimizer->steps++;
    *out = (distac_step_stats){.loss = step.total.loss / (double)b.size, .grad_norm = sqrt(step.sumsq[0]),
                               .accuracy = step.total.correct / (double)b.size,
                               .entropy = step.total.entropy / (double)b.size};
    return DISTAC_OK;
}

distac_status distac_trainer_step(distac_trainer *trainer, const distac_tensor *images,
                                  const distac_tensor *labels, double lr, distac_step_stats *out) {
    DI_REQUIRE(trainer && images && labels && out, "trainer, images, labels and out are needed");
    const di_learner *l = &trainer->learner;
    distac_tensor *there = NULL, *here = NULL;
    DI_TRY(di_vit_images_check(l->vit, images));
    distac_status status = di_tensor_bring(labels, false, &here);
    if (status == DISTAC_OK) status = di_labels_check(here, images->shape[0], l->head->classes);
    if (status == DISTAC_OK) status = di_bring_there(images, &there);
    if (status == DISTAC_OK) status = run(trainer, there, here->data, lr, out);
    distac_tensor_release(there);
    distac_tensor_release(here);
    return status;
}
