/* optimizer.c: AdamW with clipping by the global norm, its state, and the learning-rate schedule. */
#include "../backend/step.h"
#include "train.h"
#include <math.h>
#include <stdlib.h>

void di_optimizer_retain(distac_optimizer *optimizer) { atomic_fetch_add(&optimizer->refs, 1); }

void distac_optimizer_release(distac_optimizer *optimizer) {
    if (!optimizer || atomic_fetch_sub(&optimizer->refs, 1) != 1) return;
    distac_tensor_release(optimizer->moments[0]);
    distac_tensor_release(optimizer->moments[1]);
    di_there_free(optimizer->context, optimizer->step, sizeof *optimizer->step);
    distac_context_release(optimizer->context);
    free(optimizer);
}

static distac_status check_desc(const distac_adamw_desc *d) {
    const char *name = "distac_adamw_create";
    if (!(d->lr >= 0.0 && isfinite(d->lr)))
        return di_fail_at(DISTAC_EINVAL, name, "lr is %g, it must be >= 0", d->lr);
    if (!(d->beta1 >= 0.0 && d->beta1 < 1.0))
        return di_fail_at(DISTAC_EINVAL, name, "beta1 is %g, it must be in [0,1)", d->beta1);
    if (!(d->beta2 >= 0.0 && d->beta2 < 1.0))
        return di_fail_at(DISTAC_EINVAL, name, "beta2 is %g, it must be in [0,1)", d->beta2);
    if (!(d->eps >= 0.0 && isfinite(d->eps)))
        return di_fail_at(DISTAC_EINVAL, name, "eps is %g, it must be >= 0", d->eps);
    if (!(d->weight_decay >= 0.0 && isfinite(d->weight_decay)))
        return di_fail_at(DISTAC_EINVAL, name, "weight_decay is %g, it must be >= 0", d->weight_decay);
    if (!(d->clip >= 0.0 && isfinite(d->clip)))
        return di_fail_at(DISTAC_EINVAL, name, "clip is %g, it must be >= 0 (0: off)", d->clip);
    if (!(d->scale >= 0.0 && isfinite(d->scale)))
        return di_fail_at(DISTAC_EINVAL, name, "scale is %g, it must be >= 0 (0: as it is)", d->scale);
    return DISTAC_OK;
}

distac_status distac_adamw_create(distac_context *context, const distac_adamw_desc *desc, int64_t n, int32_t dtype,
                                  distac_optimizer **out) {
    DI_REQUIRE(context && desc && out, "context, desc and out are needed");
    *out = NULL;
    DI_TRY(check_desc(desc));
    if (n < 1) return di_fail(DISTAC_EINVAL, "n is %lld, it must be at least 1", (long long)n);
    const di_kernels *kernels = di_kernels_there(context, dtype);
    if (!kernels) {
        const char *name = distac_dtype_name(dtype);
        return di_fail(DISTAC_EDTYPE, "dtype is %s, it must be f32 or f64", name ? name : "unknown");
    }
    distac_optimizer *o = di_new(sizeof *o);
    if (!o) return DISTAC_ENOMEM;
    atomic_init(&o->refs, 1);
    di_context_retain(context);
    o->context = context;
    o->kernels = kernels;
    o->desc = *desc;
    if (!(desc->beta1 > 0.0)) o->desc.beta1 = 0.9;
    if (!(desc->beta2 > 0.0)) o->desc.beta2 = 0.999;
    if (!(desc->eps > 0.0)) o->desc.eps = 1e-8;
    if (!(desc->scale > 0.0)) o->desc.scale = 1.0;
    o->n = n;
    o->dtype = dtype;
    distac_status status = di_tensor_new_there(context, dtype, 1, &n, true, &o->moments[0]);
    if (status == DISTAC_OK) status = di_tensor_new_there(context, dtype, 1, &n, true, &o->moments[1]);
    if (status == DISTAC_OK) {
        o->step = di_there_alloc(context, sizeof *o->step);
        if (!o->step) status = DISTAC_ENOMEM;
    }
    if (status != DISTAC_OK) {
        distac_optimizer_release(o);
        return status;
    }
    *out = o;
    return DISTAC_OK;
}

distac_status di_optimizer_rate(const distac_optimizer *optimizer, double lr, double *out) {
    if (!isfinite(lr)) return di_fail_at(DISTAC_EINVAL, "learning rate", "it is %g, it must be finite", lr);
    *out = lr < 0.0 ? optimizer->desc.lr : lr;
    return DISTAC_OK;
}

di_adamw di_optimizer_rule(const distac_optimizer *o) {
    const distac_adamw_desc *d = &o->desc;
    return (di_adamw){.beta1 = d->beta1, .beta2 = d->beta2, .eps = d->eps, .weight_decay = d->weight_decay,
                      .scale = d->scale, .clip = d->clip, .limit = o->dtype == DISTAC_F32 ? 1e18 : 1e150,
                      .coupled = d->coupled != 0};
}

distac_status di_optimizer_check(const distac_optimizer *o, double sumsq, const char *what) {
    const di_adamw rule = di_optimizer_rule(o);
    double norm = sqrt(sumsq);
    if (di_step_usable(&rule, sumsq)) return DISTAC_OK;
    if (!isfinite(norm))
        return di_fail(DISTAC_ENUMERIC, "the %s has norm %g before update %lld; nothing was changed", what, norm,
                       (long long)o->steps + 1);
    return di_fail(DISTAC_ENUMERIC, "the %s has norm %g, above %g, before update %lld; nothing was changed", what,
                   norm, rule.limit, (long long)o->steps + 1);
}

distac_status di_optimizer_update(const distac_optimizer *o, int32_t which, const di_step *step, const void *grads,
                                  void *params, void *copy) {
    const di_adamw rule = di_optimizer_rule(o);
    return o->kernels->step_update(o->context, which, o->n, &rule, grads, o->moments[0]->data, o->moments[1]->data,
                                   params, copy, step);
}

static distac_status check_vector(const distac_optimizer *o, const distac_tensor *t, const char *name) {
    if (t->dtype != o->dtype)
        return di_fail_at(DISTAC_EDTYPE, "distac_optimizer_step", "%s is %s, the optimizer is for %s", name,
                          distac_dtype_name(t->dtype), distac_dtype_name(o->dtype));
    if (t->numel != o->n || !di_tensor_is_contiguous(t))
        return di_fail_at(DISTAC_ESHAPE, "distac_optimizer_step",
                          "%s has %lld elements, wanted %lld in one row-major run", name, (long long)t->numel,
                          (long long)o->n);
    return DISTAC_OK;
}

/* One update of vectors that lie where the optimizer computes; *sumsq of the gradient. */
static distac_status update(distac_optimizer *o, double lr, const distac_tensor *params,
                            const distac_tensor *grads, double *sumsq) {
    const di_kernels *k = o->kernels;
    const di_adamw rule = di_optimizer_rule(o);
    di_step step = {.rate = {lr, 0.0}, .updates = {o->steps, 0}}, *at = o->step;
    DI_TRY(k->step_begin(o->context, &step, at));
    DI_TRY(k->step_gradient(o->context, 0, o->n, 0.0, NULL, NULL, grads->data, at));
    DI_TRY(k->step_decide(o->context, 1, &rule, at));
    DI_TRY(di_optimizer_update(o, 0, at, grads->data, params->data, NULL));
    DI_TRY(di_there_get(o->context, &step, at, sizeof step));
    *sumsq = step.sumsq[0];
    return di_optimizer_check(o, step.sumsq[0], "gradient");
}

distac_status distac_optimizer_step(distac_optimizer *optimizer, distac_tensor *params, distac_tensor *grads,
                                    double lr, double *out) {
    DI_REQUIRE(optimizer && params && grads && out, "optimizer, params, grads and out are needed");
    DI_TRY(check_vector(optimizer, params, "params"));
    DI_TRY(check_vector(optimizer, grads, "grads"));
    DI_TRY(di_writable(__func__, "params", params));
    DI_TRY(di_optimizer_rate(optimizer, lr, &lr));
    /* Vectors in another memory travel: few learn so, as AdaMerging's coefficients. */
    distac_tensor *theta = NULL, *g = NULL;
    double sumsq = NAN;
    distac_status status = di_bring_there(params, &theta);
    if (status == DISTAC_OK) status = di_bring_there(grads, &g);
    if (status == DISTAC_OK) status = update(optimizer, lr, theta, g, &sumsq);
    if (status == DISTAC_OK && theta != params) status = distac_tensor_copy(params, theta);
    distac_tensor_release(g);
    distac_tensor_release(theta);
    *out = sqrt(sumsq);
    if (status == DISTAC_OK) optimizer->steps++;
    return status;
}

int64_t distac_optimizer_steps(const distac_optimizer *optimizer) { return optimizer ? optimizer->steps : 0; }

distac_status distac_optimizer_moment(const distac_optimizer *optimizer, int32_t index, distac_tensor **out) {
    DI_REQUIRE(optimizer && out, "optimizer and out are needed");
    if (index != 0 && index != 1)
        return di_fail(DISTAC_EINVAL, "moment %d: there are 0 (first) and 1 (second)", (int)index);
    return di_tensor_slice(optimizer->moments[index], 0, 1, &optimizer->n, out);
}

distac_status distac_optimizer_set_steps(distac_optimizer *optimizer, int64_t steps) {
    DI_REQUIRE(optimizer, "optimizer is needed");
    if (steps < 0) return di_fail(DISTAC_EINVAL, "steps is %lld, it must be at least 0", (long long)steps);
    optimizer->steps = steps;
    return DISTAC_OK;
}

double distac_schedule_cosine(double lr, int64_t step, int64_t warmup, int64_t steps) {
    const double pi = 3.14159265358979323846;
    if (step < 0) step = 0;
    if (step < warmup) return lr * (double)(step + 1) / (double)warmup;
    if (step >= steps) return 0.0;
    return 0.5 * lr * (1.0 + cos(pi * (double)(step - warmup) / (double)(steps - warmup)));
}
