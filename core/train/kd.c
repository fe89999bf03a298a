/* kd.c: DisTaC's distillation step (Algorithm 1): the student follows the teacher's tempered logits on unlabelled
 * images while beta |theta - theta0|^2 holds it near its start. */
#include "train.h"
#include <math.h>
#include <stdlib.h>

struct distac_kd {
    di_learner learner;
    di_workspace input; /* on a device: images and logits of a step */
    di_recorder recorder;
    distac_vit *teacher; /* NULL: its logits come with each step */
    distac_tensor *anchor;
    distac_kd_desc desc;
};

static distac_status check(const distac_vit *student, const distac_vit *teacher, const distac_kd_desc *d) {
    const char *name = "distac_kd_create";
    if (!(d->t_teacher > 0.0 && isfinite(d->t_teacher) && d->t_student > 0.0 && isfinite(d->t_student)))
        return di_fail_at(DISTAC_EINVAL, name,
                          "temperatures are %g (teacher) and %g (student), both must be above 0", d->t_teacher,
                          d->t_student);
    if (!(d->beta >= 0.0 && isfinite(d->beta)))
        return di_fail_at(DISTAC_EINVAL, name, "beta is %g, it must be >= 0", d->beta);
    if (!teacher) return DISTAC_OK;
    if (teacher == student)
        return di_fail_at(DISTAC_EINVAL, name, "teacher and student are one model: the teacher would move too");
    const distac_vit_config *t = &teacher->config, *s = &student->config;
    if (t->image != s->image || t->channels != s->channels || t->dim != s->dim)
        return di_fail_at(
            DISTAC_ESHAPE, name,
            "the teacher takes %dx%d images of %d channels to %d features, the student %dx%d of %d to %d",
            (int)t->image, (int)t->image, (int)t->channels, (int)t->dim, (int)s->image, (int)s->image,
            (int)s->channels, (int)s->dim);
    if (teacher->dtype != student->dtype)
        return di_fail_at(DISTAC_EDTYPE, name, "the teacher is %s, the student %s",
                          distac_dtype_name(teacher->dtype), distac_dtype_name(student->dtype));
    if (teacher->context != student->context)
        return di_fail_at(DISTAC_EINVAL, name, "teacher and student belong to different contexts");
    return DISTAC_OK;
}

distac_status distac_kd_create(distac_vit *student, distac_vit *teacher, distac_head *head,
                               distac_optimizer *optimizer, const distac_kd_desc *desc, distac_kd **out) {
    DI_REQUIRE(student && head && optimizer && desc && out, "student, head, optimizer, desc and out are needed");
    *out = NULL;
    DI_TRY(check(student, teacher, desc));
    distac_kd *kd = di_new(sizeof *kd);
    if (!kd) return DISTAC_ENOMEM;
    kd->desc = *desc;
    distac_status status = di_learner_make(&kd->learner, student, head, optimizer, desc->micro);
    if (status == DISTAC_OK) status = distac_tensor_cast(student->flat, student->dtype, &kd->anchor);
    if (status != DISTAC_OK) {
        distac_kd_release(kd);
        return status;
    }
    if (teacher) di_vit_retain(teacher);
    kd->teacher = teacher;
    *out = kd;
    return DISTAC_OK;
}

void distac_kd_release(distac_kd *kd) {
    if (!kd) return;
    if (kd->learner.vit) {
        di_recorder_free(&kd->recorder, kd->learner.context);
        di_workspace_free(kd->learner.context, &kd->input);
    }
    distac_vit_release(kd->teacher);
    distac_tensor_release(kd->anchor);
    di_learner_free(&kd->learner);
    free(kd);
}

distac_status distac_kd_anchor(const distac_kd *kd, distac_tensor **out) {
    DI_REQUIRE(kd && out, "kd and out are needed");
    return di_tensor_slice(kd->anchor, 0, 1, &kd->anchor->numel, out);
}

/* Teacher logits of a slice, computed through the learner's buffers, which the student's pass then reuses. */
static distac_status teach(distac_kd *kd, int64_t count, const void *images) {
    di_learner *l = &kd->learner;
    DI_TRY(di_vit_infer(kd->teacher, count, images, l->features));
    return di_head_forward(l->head, count, l->features, l->unit, l->norms, l->teacher_logits);
}

/* The gradients of the whole batch, slice by slice. */
static distac_status accumulate(distac_kd *kd, int64_t batch, const char *images, int64_t image_bytes,
                                const char *teacher_logits) {
    di_learner *l = &kd->learner;
    int64_t slice = di_learner_slice(l, batch),
            logit_bytes = l->head->classes * distac_dtype_bytes(l->head->dtype);
    for (int64_t start = 0; start < batch; start += slice) {
        int64_t count = batch - start < slice ? batch - start : slice;
        const void *given = l->teacher_logits;
        if (teacher_logits) given = teacher_logits + start * logit_bytes;
        else DI_TRY(teach(kd, count, images + start * image_bytes));
        DI_TRY(di_learner_forward(l, count, images + start * image_bytes));
        DI_TRY(l->vit->kernels->loss_kd(l->context, count, l->head->classes, given, l->logits, kd->desc.t_teacher,
                                        kd->desc.t_student, 1.0 / (double)batch, l->dlogits, l->results + start));
        DI_TRY(di_learner_backward(l, count, NULL));
    }
    return DISTAC_OK;
}

/* What a step computes with. */
typedef struct input {
    distac_kd *kd;
    int64_t batch, image_bytes;
    const char *images, *teacher_logits; /* where the model computes; the logits may be NULL */
} input;

/* Everything from the images to the updated parameters, asked for without waiting for any of it. */
static distac_status body(void *arg) {
    const input *in = arg;
    distac_kd *kd = in->kd;
    di_learner *l = &kd->learner;
    const di_kernels *k = l->vit->kernels;
    const di_adamw rule = di_optimizer_rule(l->optimizer);
    DI_TRY(di_learner_zero(l));
    DI_TRY(accumulate(kd, in->batch, in->images, in->image_bytes, in->teacher_logits));
    DI_TRY(k->step_rows(l->context, in->batch, l->results, l->step));
    DI_TRY(k->step_gradient(l->context, 0, l->grads->numel, kd->desc.beta, l->vit->flat->data, kd->anchor->data,
                            l->grads->data, l->step));
    DI_TRY(k->step_decide(l->context, 1, &rule, l->step));
    DI_TRY(di_poll(l->context)); /* the last moment to stop with nothing changed */
    return di_optimizer_update(l->optimizer, 0, l->step, l->grads->data, l->vit->flat->data,
                               l->vit->copy);
}

static di_recorder_key key_of(const void *arg) {
    const input *in = arg;
    const di_learner *l = &in->kd->learner;
    const distac_vit *teacher = in->kd->teacher;
    return (di_recorder_key){{(uintptr_t)in->batch, in->teacher_logits != NULL, (uintptr_t)l->memory.memory,
                              (uintptr_t)l->vit->training.memory, (uintptr_t)in->kd->input.memory,
                              teacher ? (uintptr_t)teacher->inference.memory : 0,
                              (uintptr_t)l->vit->recompute}};
}

/* Images and logits to where a recording finds them. */
static distac_status place_input(distac_kd *kd, input *in) {
    distac_context *c = kd->learner.context;
    size_t images = ((size_t)(in->batch * in->image_bytes) + 255) & ~(size_t)255;
    size_t logits = (size_t)(in->batch * kd->learner.head->classes * distac_dtype_bytes(kd->learner.head->dtype));
    DI_TRY(di_workspace_reserve(c, &kd->input, images + logits));
    char *memory = kd->input.memory;
    DI_TRY(di_there_copy(c, memory, in->images, (size_t)(in->batch * in->image_bytes)));
    in->images = memory;
    if (!in->teacher_logits) return DISTAC_OK;
    DI_TRY(di_there_copy(c, memory + images, in->teacher_logits, logits));
    in->teacher_logits = memory + images;
    return DISTAC_OK;
}

/* The step with everything where it is computed. */
static distac_status run(distac_kd *kd, const distac_tensor *images, const distac_tensor *teacher_logits,
                         double lr, distac_step_stats *out) {
    di_learner *l = &kd->learner;
    input in = {.kd = kd,
                .batch = images->shape[0],
                .image_bytes = images->numel / images->shape[0] * distac_dtype_bytes(images->dtype),
                .images = images->data,
                .teacher_logits = teacher_logits ? teacher_logits->data : NULL};
    double rate;
    di_step step;
    DI_TRY(di_optimizer_rate(l->optimizer, lr, &rate));
    DI_TRY(di_vit_fresh_copy(l->vit));
    if (kd->teacher) DI_TRY(di_vit_fresh_copy(kd->teacher));
    DI_TRY(di_learner_begin(l, in.batch, rate, 0.0, NULL));
    if (di_models_there(l->context)) DI_TRY(place_input(kd, &in));
    DI_TRY(di_recorder_run(&kd->recorder, l->vit, key_of, body, &in));
    DI_TRY(di_there_get(l->context, &step, l->step, sizeof step));
    DI_TRY(di_finite(step.total.loss, "distac_kd_step", "the loss", l->optimizer->steps));
    DI_TRY(di_finite(step.anchor, "distac_kd_step", "the anchor term", l->optimizer->steps));
    DI_TRY(di_learner_check(l, step.sumsq[0]));
    l->optimizer->steps++;
    *out = (distac_step_stats){.loss = step.total.loss / (double)in.batch, .anchor = step.anchor,
                               .grad_norm = sqrt(step.sumsq[0]), .entropy = step.total.entropy / (double)in.batch};
    return DISTAC_OK;
}

distac_status distac_kd_step(distac_kd *kd, const distac_tensor *images, const distac_tensor *teacher_logits,
                             double lr, distac_step_stats *out) {
    DI_REQUIRE(kd && images && out, "kd, images and out are needed");
    const di_learner *l = &kd->learner;
    DI_TRY(di_vit_images_check(l->vit, images));
    const int64_t logits_shape[2] = {images->shape[0], l->head->classes};
    if (teacher_logits)
        DI_TRY(di_tensor_expect_anywhere(teacher_logits, "teacher_logits", l->head->dtype, 2, logits_shape));
    else if (!kd->teacher)
        return di_fail(DISTAC_ESTATE,
                       "there is no teacher: give teacher_logits, or a teacher when making the step");
    distac_tensor *there = NULL, *given = NULL;
    distac_status status = di_bring_there(images, &there);
    if (status == DISTAC_OK && teacher_logits) status = di_bring_there(teacher_logits, &given);
    if (status == DISTAC_OK) status = run(kd, there, given, lr, out);
    distac_tensor_release(there);
    distac_tensor_release(given);
    return status;
}
