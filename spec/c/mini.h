/* mini.h: what the specs of encoder, training and metrics share: the mini encoder of the worked examples
 * (image 4, patch 2, width 4, 2 layers, 2 heads, 3 features, 588 parameters), and comparisons that fail on NaN. */
#ifndef MINI_H
#define MINI_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "distac.h"

#define OK(call) assert_string_equal((call) == DISTAC_OK ? "" : distac_last_error(), "")
/* |a - b| <= tolerance; false for NaN, unlike its negation. */
#define NEAR(a, b, tolerance) near_at((a), (b), (tolerance), __FILE__, __LINE__)

static inline void near_at(double a, double b, double tolerance, const char *file, int line) {
    if (fabs(a - b) <= tolerance) return;
    print_error("%.15g is not within %.3g of %.15g (off by %.3g)\n", a, tolerance, b, fabs(a - b));
    _fail(file, line);
}

static inline distac_context *context_with(int32_t threads) {
    distac_context *c = NULL;
    const distac_context_desc desc = {.threads = threads, .seed = 1};
    OK(distac_context_create(&desc, &c));
    return c;
}

static inline distac_tensor *tensor2(distac_context *c, int32_t dtype, int64_t rows, int64_t columns,
                                     const double *values) {
    distac_tensor *t = NULL;
    const int64_t shape[2] = {rows, columns};
    OK(distac_tensor_create(c, dtype, 2, shape, &t));
    if (values) OK(distac_tensor_write(t, rows * columns, values));
    return t;
}

static inline distac_tensor *labels_of(distac_context *c, int64_t count, const int64_t *values) {
    distac_tensor *t = NULL;
    OK(distac_tensor_create(c, DISTAC_I64, 1, &count, &t));
    memcpy(distac_tensor_data(t), values, (size_t)count * sizeof *values);
    return t;
}

/* A copy of the values in double; free() it. */
static inline double *values_of(const distac_tensor *t) {
    int64_t n = distac_tensor_numel(t);
    double *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    OK(distac_tensor_read(t, n, values));
    return values;
}

static inline double norm_of(const distac_tensor *t) {
    double *values = values_of(t), sum = 0.0;
    for (int64_t i = 0; i < distac_tensor_numel(t); i++) sum += values[i] * values[i];
    free(values);
    return sqrt(sum);
}

static const distac_vit_config mini_config = {.image = 4,
                                              .patch = 2,
                                              .channels = 3,
                                              .width = 4,
                                              .layers = 2,
                                              .heads = 2,
                                              .mlp = 16,
                                              .dim = 3,
                                              .activation = DISTAC_ACT_QUICK_GELU};

static inline int64_t param_index(const distac_vit *vit, const char *name) {
    for (int64_t i = 0; i < distac_vit_param_count(vit); i++)
        if (strcmp(distac_vit_param_name(vit, i), name) == 0) return i;
    fail_msg("no parameter \"%s\"", name);
    return -1;
}

static inline bool is_layernorm_weight(const char *name) {
    return strstr(name, "ln_") && strstr(name, ".weight");
}

/* Parameters 0.5 sin(0.37 k), k = 1, 2, …, plus 1 for the weights of every LayerNorm. */
static inline distac_vit *mini_vit(distac_context *c, int32_t dtype, int32_t activation) {
    distac_vit *vit = NULL;
    distac_vit_config config = mini_config;
    config.activation = activation;
    OK(distac_vit_create(c, &config, dtype, &vit));
    int64_t k = 1;
    for (int64_t i = 0; i < distac_vit_param_count(vit); i++) {
        distac_tensor *p = NULL;
        OK(distac_vit_param(vit, i, &p));
        double *values = values_of(p);
        for (int64_t j = 0; j < distac_tensor_numel(p); j++, k++)
            values[j] =
                0.5 * sin(0.37 * (double)k) + (is_layernorm_weight(distac_vit_param_name(vit, i)) ? 1.0 : 0.0);
        OK(distac_tensor_write(p, distac_tensor_numel(p), values));
        free(values);
        distac_tensor_release(p);
    }
    assert_int_equal(k, 589);
    return vit;
}

/* Image b: cos(0.11 (16 c + 4 h + w) + 0.7 b). */
static inline distac_tensor *mini_images(distac_context *c, int32_t dtype, int64_t count) {
    distac_tensor *images = NULL;
    const int64_t shape[4] = {count, 3, 4, 4};
    OK(distac_tensor_create(c, dtype, 4, shape, &images));
    double *values = malloc((size_t)count * 48 * sizeof *values);
    assert_non_null(values);
    for (int64_t b = 0; b < count; b++)
        for (int64_t i = 0; i < 48; i++) values[b * 48 + i] = cos(0.11 * (double)i + 0.7 * (double)b);
    OK(distac_tensor_write(images, count * 48, values));
    free(values);
    return images;
}

/* Head 5 sin(0.9 (3 c + j + 1)). */
static inline distac_head *mini_head(distac_context *c, int32_t dtype) {
    double values[9];
    for (int32_t i = 0; i < 9; i++) values[i] = 5.0 * sin(0.9 * (i + 1));
    distac_tensor *weight = tensor2(c, dtype, 3, 3, values);
    distac_head *head = NULL;
    OK(distac_head_create(weight, 1, &head));
    distac_tensor_release(weight);
    return head;
}

/* Zeroes the key biases in values over all parameters. Softmax ignores them, so their gradient is rounding noise
 * (1e-18), which Adam divides by eps and the anchor feeds back: after three steps it has grown to 1e-5. */
static inline void forget_key_biases(const distac_vit *vit, double *values) {
    int64_t offset = 0;
    for (int64_t i = 0; i < distac_vit_param_count(vit); i++) {
        distac_tensor *p = NULL;
        OK(distac_vit_param(vit, i, &p));
        int64_t count = distac_tensor_numel(p);
        if (strstr(distac_vit_param_name(vit, i), "in_proj_bias"))
            for (int64_t j = count / 3; j < 2 * count / 3; j++) values[offset + j] = 0.0;
        offset += count;
        distac_tensor_release(p);
    }
}

/* params += scale * 0.05 cos(0.53 k): the task vector of the worked distillation, in the same order. */
static inline void mini_add_tau(distac_vit *vit, double scale) {
    distac_tensor *flat = NULL;
    OK(distac_vit_params(vit, &flat));
    double *values = values_of(flat);
    for (int64_t k = 0; k < distac_tensor_numel(flat); k++)
        values[k] += scale * 0.05 * cos(0.53 * (double)(k + 1));
    OK(distac_tensor_write(flat, distac_tensor_numel(flat), values));
    free(values);
    distac_tensor_release(flat);
}

/* AdamW with clipping at 1 for a model's parameters. */
static inline distac_optimizer *adamw_for(distac_context *c, const distac_vit *vit, int32_t dtype, double lr,
                                   double weight_decay) {
    const distac_adamw_desc desc = {.lr = lr, .weight_decay = weight_decay, .clip = 1.0};
    distac_optimizer *o = NULL;
    distac_tensor *flat = NULL;
    OK(distac_vit_params(vit, &flat));
    OK(distac_adamw_create(c, &desc, distac_tensor_numel(flat), dtype, &o));
    distac_tensor_release(flat);
    return o;
}

#endif
