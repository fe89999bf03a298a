/* op_slerp.c: spherical interpolation of two models, tensor by tensor: slerp between the models themselves,
 * nuslerp between their task vectors. The angle is that of the normalised tensors, the magnitudes stay. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>

enum { T, OF };
enum { WEIGHTS };

/* Both as mergekit has them (methods slerp and nuslerp with a base model). */
static const di_merge_param slerp_params[] = {
    DI_NUMBER("t", "0: the first model, 1: the second", 0.5, 0, 1),
    DI_CHOICE("of", "what is interpolated: the models' weights, or their task vectors", 0, 2, "models vectors"),
};
static const di_merge_param nuslerp_params[] = {
    DI_NUMBERS("weights", "weight of each model; t is the second's share", 1, -1000, 1000),
};

typedef struct factors {
    double first, second;
} factors;

static double cosine(double product, double square1, double square2, double least) {
    double norm1 = sqrt(square1), norm2 = sqrt(square2);
    double value = product / (norm1 > least ? norm1 : least) / (norm2 > least ? norm2 : least);
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

/* products: first*first, first*second, second*second. */
static factors slerp(double t, const double *products) {
    double c = cosine(products[1], products[0], products[2], 1e-8);
    if (fabs(c) > 0.9995) return (factors){1 - t, t};
    double angle = acos(c), sine = sin(angle);
    return (factors){sin((1 - t) * angle) / sine, sin(t * angle) / sine};
}

static factors nuslerp(double t, const double *products) {
    double c = cosine(products[1], products[0], products[2], 1e-7);
    double angle = acos(c), sine = sin(angle);
    if (fabs(sine) < 1e-8) return (factors){1 - t, t};
    return (factors){sin((1 - t) * angle) / sine, sin(t * angle) / sine};
}

static distac_status open_factors(di_merge_run *run, bool models, double t,
                                  factors (*find)(double t, const double *products)) {
    double *products = NULL;
    distac_status status = di_run_gram(run, models, &products);
    factors *state = di_new((size_t)(run->base->count ? run->base->count : 1) * sizeof *state);
    if (status == DISTAC_OK && !state) status = DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < run->base->count; i++) state[i] = find(t, products + 3 * i);
    free(products);
    run->state = state;
    return status;
}

static distac_status prepare_slerp(di_merge_run *run) {
    bool models = di_run_param(run, OF, 0) == 0;
    if (models && !run->whole)
        return di_fail_at(DISTAC_EINVAL, run->function,
                          "slerp: task vectors alone do not tell the models; merge files, "
                          "or take of = vectors");
    return open_factors(run, models, di_run_param(run, T, 0), slerp);
}

static distac_status prepare_nuslerp(di_merge_run *run) {
    double first = di_run_param(run, WEIGHTS, 0), second = di_run_param(run, WEIGHTS, 1);
    double sum = first + second;
    return open_factors(run, false, fabs(sum) < 1e-6 ? 0.5 : second / sum, nuslerp);
}

static void combine(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    factors f = ((const factors *)run->state)[at->entry];
    for (int64_t i = 0; i < n; i++) out[i] = f.first * tau[0][i] + f.second * tau[1][i];
}

/* The interpolated models less the base: the factors of slerp do not sum to one. */
static void chunk_slerp(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                        double *out) {
    factors f = ((const factors *)run->state)[at->entry];
    const double *base = tau[run->models];
    combine(run, at, n, tau, out);
    if (di_run_param(run, OF, 0) == 0)
        for (int64_t i = 0; i < n; i++) out[i] += (f.first + f.second - 1) * base[i];
}

const di_method di_merge_slerp = {
    .name = "slerp",
    .text = "spherical interpolation of two models (Shoemake 1985; as in mergekit, Goddard et al. 2024)",
    .params = slerp_params,
    .param_count = sizeof slerp_params / sizeof slerp_params[0],
    .models = 2,
    .prepare = prepare_slerp,
    .chunk = chunk_slerp,
};

const di_method di_merge_nuslerp = {
    .name = "nuslerp",
    .text = "spherical interpolation of two task vectors by weights (as in mergekit, Goddard et al. 2024)",
    .params = nuslerp_params,
    .param_count = sizeof nuslerp_params / sizeof nuslerp_params[0],
    .models = 2,
    .prepare = prepare_nuslerp,
    .chunk = combine,
};
