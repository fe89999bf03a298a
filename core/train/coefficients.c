/* coefficients.c: a model as base + sum over t of lambda_t^l tau_t^l, one coefficient for each task vector and
 * parameter tensor l (or for each task vector alone), and the gradient of a loss for the coefficients: what
 * AdaMerging learns (Yang et al. 2024, AdaMerging: Adaptive Model Merging for Multi-Task Learning). */
#include "train.h"

#include <stdlib.h>

static distac_status check(const char *name, const distac_vit *vit, int32_t n_taus, distac_tensor *const *taus,
                           const distac_tensor *lambdas) {
    if (n_taus < 1) return di_fail_at(DISTAC_EINVAL, name, "no task vectors");
    for (int32_t t = 0; t < n_taus; t++) {
        if (!taus[t]) return di_fail_at(DISTAC_EINVAL, name, "a task vector is NULL");
        DI_TRY(di_tensor_expect_anywhere(taus[t], "tau", vit->dtype, 1, &vit->flat->numel));
    }
    const int64_t shape[2] = {n_taus, -1};
    DI_TRY(di_tensor_expect(lambdas, "coefficients", DISTAC_F64, 2, shape));
    if (lambdas->shape[1] != 1 && lambdas->shape[1] != vit->param_count)
        return di_fail_at(DISTAC_ESHAPE, name, "%lld coefficients per task vector, wanted 1 or %lld",
                          (long long)lambdas->shape[1], (long long)vit->param_count);
    return DISTAC_OK;
}

/* [new] The vectors where the model computes; freed by release_all. */
static distac_status bring_all(int32_t n, distac_tensor *const *list, distac_tensor ***out) {
    distac_status status = DISTAC_OK;
    distac_tensor **there = *out = di_new((size_t)n * sizeof *there);
    if (!there) return DISTAC_ENOMEM;
    for (int32_t t = 0; t < n && status == DISTAC_OK; t++) status = di_bring_there(list[t], &there[t]);
    return status;
}

static void release_all(int32_t n, distac_tensor **list) {
    for (int32_t t = 0; list && t < n; t++) distac_tensor_release(list[t]);
    free(list);
}

static distac_status combine(distac_vit *vit, const distac_tensor *base, int32_t n_taus,
                             distac_tensor *const *taus, const distac_tensor *lambdas) {
    int64_t columns = lambdas->shape[1], size = distac_dtype_bytes(vit->dtype);
    const void **at = di_new((size_t)n_taus * (sizeof(void *) + sizeof(double)));
    if (!at) return DISTAC_ENOMEM;
    double *own = (double *)(void *)(at + n_taus);
    distac_status status = DISTAC_OK;
    if (columns == 1) { /* all parameters at once */
        for (int32_t t = 0; t < n_taus; t++) at[t] = taus[t]->data;
        status = vit->kernels->combine(vit->context, vit->flat->numel, n_taus, at, lambdas->data, base->data,
                                       vit->flat->data);
        free(at);
        return status;
    }
    for (int64_t l = 0; l < vit->param_count && status == DISTAC_OK; l++) {
        const di_param *p = &vit->params[l];
        for (int32_t t = 0; t < n_taus; t++) {
            at[t] = (const char *)taus[t]->data + p->offset * size;
            own[t] = ((const double *)lambdas->data)[t * columns + l];
        }
        status = vit->kernels->combine(vit->context, p->count, n_taus, at, own,
                                       (const char *)base->data + p->offset * size,
                                       (char *)vit->flat->data + p->offset * size);
    }
    free(at);
    return status;
}

distac_status distac_vit_combine(distac_vit *vit, const distac_tensor *base, int32_t n_taus,
                                 distac_tensor *const *taus, const distac_tensor *lambdas) {
    DI_REQUIRE(vit && base && taus && lambdas, "vit, base, taus and lambdas are needed");
    DI_TRY(check(__func__, vit, n_taus, taus, lambdas));
    DI_TRY(di_tensor_expect_anywhere(base, "base", vit->dtype, 1, &vit->flat->numel));
    DI_TRY(di_writable(__func__, "vit", vit->flat));
    vit->kept_batch = 0; /* activations of other weights are of no use */
    distac_tensor **there = NULL, *start = NULL;
    distac_status status = bring_all(n_taus, taus, &there);
    if (status == DISTAC_OK) status = di_bring_there(base, &start);
    if (status == DISTAC_OK) status = combine(vit, start, n_taus, there, lambdas);
    release_all(n_taus, there);
    distac_tensor_release(start);
    return status;
}

/* On a device: all products at once, as each on its own would be waited for. */
static distac_status gradient_there(const distac_vit *vit, const distac_tensor *grads, int32_t n_taus,
                                    distac_tensor *const *taus, distac_tensor *out) {
    const di_merges *merges = vit->context->device->merges;
    int64_t columns = out->shape[1], runs = vit->param_count;
    double *values = out->data, *dots = di_new((size_t)(n_taus * runs) * sizeof *dots);
    di_merge_span *spans = di_new((size_t)runs * sizeof *spans);
    const void **at = di_new((size_t)n_taus * sizeof *at);
    distac_status status = dots && spans && at ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        for (int64_t l = 0; l < runs; l++) spans[l] = (di_merge_span){vit->params[l].offset, vit->params[l].count};
        for (int32_t t = 0; t < n_taus; t++) at[t] = taus[t]->data;
        status = merges->dots(vit->context, n_taus, at, runs, spans, vit->dtype, grads->data, dots);
    }
    for (int64_t i = 0; status == DISTAC_OK && i < n_taus * runs; i++)
        values[i / runs * columns + (columns == 1 ? 0 : i % runs)] += dots[i];
    free(at);
    free(spans);
    free(dots);
    return status;
}

static distac_status gradient(const distac_vit *vit, const distac_tensor *grads, int32_t n_taus,
                              distac_tensor *const *taus, distac_tensor *out) {
    int64_t columns = out->shape[1], size = distac_dtype_bytes(vit->dtype);
    double *values = out->data;
    if (vit->context->there) return gradient_there(vit, grads, n_taus, taus, out);
    for (int64_t l = 0; l < vit->param_count; l++) {
        const di_param *p = &vit->params[l];
        for (int32_t t = 0; t < n_taus; t++) {
            double dot;
            DI_TRY(vit->kernels->dot(vit->context, p->count, (const char *)grads->data + p->offset * size,
                                     (const char *)taus[t]->data + p->offset * size, &dot));
            values[t * columns + (columns == 1 ? 0 : l)] += dot;
        }
    }
    return DISTAC_OK;
}

distac_status distac_vit_combine_gradient(const distac_vit *vit, const distac_tensor *grads, int32_t n_taus,
                                          distac_tensor *const *taus, distac_tensor *out) {
    DI_REQUIRE(vit && grads && taus && out, "vit, grads, taus and out are needed");
    DI_TRY(check(__func__, vit, n_taus, taus, out));
    DI_TRY(di_tensor_expect_anywhere(grads, "grads", vit->dtype, 1, &vit->flat->numel));
    if (distac_tensor_readonly(out)) return di_fail(DISTAC_ESTATE, "out is read-only");
    distac_tensor **there = NULL, *slope = NULL;
    distac_status status = bring_all(n_taus, taus, &there);
    if (status == DISTAC_OK) status = di_bring_there(grads, &slope);
    if (status == DISTAC_OK) status = gradient(vit, slope, n_taus, there, out);
    release_all(n_taus, there);
    distac_tensor_release(slope);
    return status;
}
