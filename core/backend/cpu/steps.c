/* steps.c: the pieces of a training step that are not passes over activations: sums of its rows and gradients,
 * what they decide, the update. */
#include "../step.h"
#include "cpu.h"
#include "general.h"

distac_status di_cpu_step_begin(distac_context *c, const di_step *start, di_step *step) {
    (void)c;
    *step = *start;
    return DISTAC_OK;
}

distac_status di_cpu_step_rows(distac_context *c, int64_t rows, const di_row *results, di_step *step) {
    (void)c;
    di_row total = {0.0, 0.0, 0.0};
    for (int64_t i = 0; i < rows; i++) {
        total.loss += results[i].loss;
        total.entropy += results[i].entropy;
        total.correct += results[i].correct;
    }
    step->total = total;
    return DISTAC_OK;
}

distac_status di_cpu_step_decide(distac_context *c, int32_t vectors, const di_adamw *rules, di_step *step) {
    (void)c;
    di_step_verdict(step, vectors, rules);
    return DISTAC_OK;
}

#define ENTRIES(suffix)                                                                                           \
    distac_status di_cpu_step_gradient_##suffix(distac_context *c, int32_t which, int64_t n, double beta,         \
                                                const void *theta, const void *theta0, void *g, di_step *step) {  \
        const di_kernels *k = c->kernels_##suffix;                                                                \
        if (!(beta > 0.0)) return k->sumsq(c, n, g, &step->sumsq[which]);                                         \
        return k->anchor(c, n, beta, theta, theta0, g, &step->anchor, &step->sumsq[which]);                       \
    }                                                                                                             \
    distac_status di_cpu_step_update_##suffix(distac_context *c, int32_t which, int64_t n, const di_adamw *rule,  \
                                              const void *g, void *m, void *v, void *theta, void *copy,           \
                                              const di_step *step) {                                              \
        (void)copy;                                                                                               \
        if (step->refused) return DISTAC_OK;                                                                      \
        return c->kernels_##suffix->adamw(c, n, step->updates[which] + 1, step->rate[which], rule->beta1,         \
                                          rule->beta2, rule->eps, rule->weight_decay, rule->coupled,              \
                                          step->factor[which], g, m, v, theta);                                   \
    }                                                                                                             \
    distac_status di_cpu_project_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,      \
                                          const void *proj, void *y) {                                            \
        return c->kernels_##suffix->gemm(c, false, false, B, D, W, 1.0, x, W, proj, D, 0.0, y, D);                \
    }                                                                                                             \
    distac_status di_cpu_project_backward_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W,            \
                                                   const void *x, const void *proj, const void *dy, void *dx,     \
                                                   void *dproj) {                                                 \
        const di_kernels *k = c->kernels_##suffix;                                                                \
        DI_TRY(k->gemm(c, true, false, W, D, B, 1.0, x, W, dy, D, 1.0, dproj, D));                                \
        return k->gemm(c, false, true, B, W, D, 1.0, dy, D, proj, D, 0.0, dx, W);                                 \
    }
ENTRIES(f32)
ENTRIES(f64)
