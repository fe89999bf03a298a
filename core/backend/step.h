/* step.h: what a training step decides once its sums are known, written once for the processor and for devices:
 * gradients are scaled and clipped by their norm, and a step with a number that is not finite changes nothing. */
#ifndef DISTAC_STEP_H
#define DISTAC_STEP_H

#include "backend.h"
#include <math.h>

#ifdef __CUDACC__
#define DI_STEP_FN static __host__ __device__ inline
#else
#define DI_STEP_FN static inline
#endif

/* What a gradient of this norm is multiplied by. */
DI_STEP_FN double di_step_factor(const di_adamw *rule, double norm) {
    if (!(rule->clip > 0.0)) return rule->scale;
    double clip = rule->clip / (rule->scale * norm + 1e-6);
    return clip < 1.0 ? rule->scale * clip : rule->scale;
}

/* The second moment squares the gradient: beyond the limit it would become infinite and stay so. */
DI_STEP_FN bool di_step_usable(const di_adamw *rule, double sumsq) {
    double norm = sqrt(sumsq);
    return norm - norm == 0.0 && norm * di_step_factor(rule, norm) <= rule->limit; /* inf - inf is NaN */
}

DI_STEP_FN void di_step_verdict(di_step *step, int32_t vectors, const di_adamw *rules) {
    double loss = step->total.loss, anchor = step->anchor;
    bool good = loss - loss == 0.0 && anchor - anchor == 0.0;
    for (int32_t i = 0; i < vectors; i++) {
        step->factor[i] = di_step_factor(&rules[i], sqrt(step->sumsq[i]));
        good = good && di_step_usable(&rules[i], step->sumsq[i]);
    }
    step->refused = !good;
}

#endif
