/* learner.c: the part of a training step that fine-tuning and distillation share: memory, the student's passes
 * over a slice of the batch, and the refusal of gradients that are not numbers. */
#include "train.h"
#include <math.h>

/* Images of a pass when the caller leaves it open: more of them gain no speed and need memory. */
enum { DEFAULT_SLICE = 128 };

static distac_status check_parts(const distac_vit *vit, const distac_head *head,
                                 const distac_optimizer *optimizer) {
    const char *step = "training step"; /* what the caller asked for; the name of this function says nothing */
    if (head->dim != vit->config.dim)
        return di_fail_at(DISTAC_ESHAPE, step, "the head takes features of size %lld, the encoder makes %d",
                          (long long)head->dim, (int)vit->config.dim);
    if (head->dtype != vit->dtype || optimizer->dtype != vit->dtype)
        return di_fail_at(DISTAC_EDTYPE, step,
                          "the encoder is %s, the head %s, the optimizer %s: they must be the same",
                          distac_dtype_name(vit->dtype), distac_dtype_name(head->dtype),
                          distac_dtype_name(optimizer->dtype));
    if (optimizer->n != vit->flat->numel)
        return di_fail_at(DISTAC_ESHAPE, step, "the optimizer is for %lld parameters, the encoder has %lld",
                          (long long)optimizer->n, (long long)vit->flat->numel);
    if (head->context != vit->context || optimizer->context != vit->context)
        return di_fail_at(DISTAC_EINVAL, step, "encoder, head and optimizer belong to different contexts");
    return DISTAC_OK;
}

distac_status di_learner_make(di_learner *l, distac_vit *vit, distac_head *head, distac_optimizer *optimizer,
                              int64_t micro) {
    DI_TRY(check_parts(vit, head, optimizer));
    if (micro < 0) return di_fail(DISTAC_EINVAL, "micro is %lld, it must be at least 0", (long long)micro);
    DI_TRY(di_tensor_new_there(vit->context, vit->dtype, 1, &vit->flat->numel, false, &l->grads));
    di_vit_retain(vit);
    di_head_retain(head);
    di_optimizer_retain(optimizer);
    l->context = vit->context;
    l->vit = vit;
    l->head = head;
    l->optimizer = optimizer;
    l->micro = micro;
    return DISTAC_OK;
}

distac_status di_learner_head(di_learner *l, distac_head *head) {
    DI_TRY(check_parts(l->vit, head, l->optimizer));
    di_head_retain(head);
    distac_head_release(l->head);
    l->head = head;
    return DISTAC_OK;
}

void di_learner_free(di_learner *l) {
    if (!l->vit) return;
    di_workspace_free(l->context, &l->memory);
    distac_tensor_release(l->grads);
    distac_optimizer_release(l->optimizer);
    distac_head_release(l->head);
    distac_vit_release(l->vit); /* last: it keeps the context alive */
}

int64_t di_learner_slice(const di_learner *l, int64_t batch) {
    int64_t slice = l->micro > 0 ? l->micro : DEFAULT_SLICE;
    return slice < batch ? slice : batch;
}

/* Hands out the next `rows` x `columns` elements of the buffers; only counts while memory is NULL. */
static void *take(di_learner *l, size_t *used, int64_t rows, int64_t columns, size_t element) {
    void *out = l->memory.memory ? (char *)l->memory.memory + *used : NULL;
    *used += ((size_t)rows * (size_t)columns * element + 63) & ~(size_t)63; /* smaller than the activations */
    return out;
}

static size_t lay_out(di_learner *l, int64_t batch) {
    int64_t slice = di_learner_slice(l, batch), classes = l->head->classes, dim = l->head->dim;
    size_t used = 0, element = (size_t)distac_dtype_bytes(l->vit->dtype);
    l->features = take(l, &used, slice, dim, element);
    l->unit = take(l, &used, slice, dim, element);
    l->norms = take(l, &used, slice, 1, element);
    l->logits = take(l, &used, slice, classes, element);
    l->dlogits = take(l, &used, slice, classes, element);
    l->dunit = take(l, &used, slice, dim, element);
    l->dfeatures = take(l, &used, slice, dim, element);
    l->teacher_logits = take(l, &used, slice, classes, element);
    l->results = take(l, &used, batch, 1, sizeof(di_row));
    l->step = take(l, &used, 1, 1, sizeof(di_step));
    return used;
}

distac_status di_learner_begin(di_learner *l, int64_t batch, double rate, double head_rate,
                               const distac_optimizer *head_optimizer) {
    const di_step start = {.rate = {rate, head_rate},
                           .updates = {l->optimizer->steps, head_optimizer ? head_optimizer->steps : 0}};
    DI_TRY(di_workspace_reserve(l->context, &l->memory, lay_out(l, batch)));
    lay_out(l, batch);
    return l->vit->kernels->step_begin(l->context, &start, l->step);
}

distac_status di_learner_zero(di_learner *l) {
    return l->vit->kernels->axpby(l->context, l->grads->numel, 0.0, NULL, 0.0, l->grads->data);
}

distac_status di_learner_forward(di_learner *l, int64_t slice, const void *images) {
    DI_TRY(di_vit_forward(l->vit, slice, images, l->features));
    return di_head_forward(l->head, slice, l->features, l->unit, l->norms, l->logits);
}

distac_status di_learner_backward(di_learner *l, int64_t slice, void *dweight) {
    DI_TRY(di_head_backward(l->head, slice, l->features, l->unit, l->norms, l->dlogits, l->dunit, dweight,
                            l->dfeatures));
    return di_vit_backward(l->vit, l->dfeatures, l->grads->data);
}

distac_status di_learner_check(const di_learner *l, double sumsq) {
    int64_t at = -1, bad = 0;
    if (!isfinite(sumsq))
        DI_TRY(l->vit->kernels->nonfinite(l->context, l->grads->numel, l->grads->data, &at));
    if (at < 0) return di_optimizer_check(l->optimizer, sumsq, "gradient");
    while (l->vit->params[bad].offset + l->vit->params[bad].count <= at) bad++;
    return di_fail_at(DISTAC_ENUMERIC, "gradient",
                      "that of \"%s\" is not finite at element %lld before update %lld; nothing was changed",
                      l->vit->params[bad].name, (long long)(at - l->vit->params[bad].offset),
                      (long long)l->optimizer->steps + 1);
}

distac_status di_finite(double value, const char *function, const char *what, int64_t step) {
    if (isfinite(value)) return DISTAC_OK;
    return di_fail_at(DISTAC_ENUMERIC, function, "%s is %g before update %lld; nothing was changed", what,
                      di_shown(value), (long long)step + 1);
}
