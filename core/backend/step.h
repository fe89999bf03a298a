/* step.h: the numbers of a training step and what it decides by them, written once for the processor and for
 * devices (C and C++): gradients are scaled and clipped by their norm, and a step with a number that is not finite
 * changes nothing. */
#ifndef DISTAC_STEP_H
#define DISTAC_STEP_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define DI_STEP_FN static __host__ __device__ inline
#else
#define DI_STEP_FN static inline
#endif

/* What one row of logits gives: correct is 0 or 1, between them under Mixup. */
typedef struct di_row {
    double loss, entropy, correct;
} di_row;
/* Numbers of a training step, in the device's memory: the host sets them before the step and reads them once,
 * after it. In between kernels alone read and write them, so that no step waits for the host. [0] is the encoder's
 * vector, [1] the head's where it learns too. */
typedef struct di_step {
    double rate[2];     /* learning rates */
    int64_t updates[2]; /* done before this step */
    di_row total;       /* sums over the rows */
    double anchor;
    double sumsq[2];    /* of the gradients */
    double factor[2];   /* what the gradients are multiplied by: scale and clip */
    int64_t refused;    /* not 0: something is not finite or too large, so nothing is updated */
} di_step;
/* The constants of AdamW with clipping. */
typedef struct di_adamw {
    double beta1, beta2, eps, weight_decay, scale;
    double clip;  /* most norm of a gradient; 0: any */
    double limit; /* a norm above it is refused */
    bool coupled;
} di_adamw;

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
