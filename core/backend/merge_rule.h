/* merge_rule.h: what a merge does element by element, in numbers: for the host and for kernels (C and C++). */
#ifndef DISTAC_MERGE_RULE_H
#define DISTAC_MERGE_RULE_H

#include <stdbool.h>
#include <stdint.h>

/* What a merge knows of one model. */
typedef struct di_merge_model {
    double weight; /* of its numbers */
    double least;  /* TIES: magnitudes from here on are kept */
    double tall;   /* a mask: |tau| > tall * |D - tau| is a vote; below 0: the model has none */
} di_merge_model;

/* What D is, element by element: the weighted sum of the task vectors, or what TIES makes of them; then where
 * enough masks agree; then scaled. */
typedef struct di_merge_rule {
    int32_t models;
    int32_t dtype;                    /* of all task vectors: F32 or F64 */
    const void *const *taus;          /* [models], as each the device's */
    const di_merge_model *each;       /* [models] */
    bool elects;                      /* TIES */
    bool counts;                      /* its sign is that of most models, not of the sum */
    int combine;                      /* of what agrees: 0 mean, 1 sum, 2 largest (DI_COMBINE_MEAN …) */
    double tie;                       /* its sign where the vote is zero */
    double divisor;                   /* of the sum */
    bool masked;
    double votes;                     /* masks that must agree at least */
    double scale, factor;             /* one after the other */
} di_merge_rule;

/* Magnitudes are counted by parts of their bits as doubles, from the top, of
 * which a look takes at most so many. */
enum { DI_MERGE_DIGIT = 12, DI_MERGE_DIGITS = 1 << DI_MERGE_DIGIT };

/* Elements first … first+count-1. */
typedef struct di_merge_span {
    int64_t first, count;
} di_merge_span;

#endif
