/* test_vit_gradients.c: gradients of encoder and head against worked numbers and finite differences. */
#include "mini.h"

enum { QUICK = DISTAC_ACT_QUICK_GELU };
#define BLOCK "visual.transformer.resblocks."

/* Cross-entropy of the head's logits and, with grads, its gradient through the encoder. */
static double loss_of(distac_vit *vit, distac_head *head, const distac_tensor *images, const distac_tensor *labels,
                      distac_tensor *grads) {
    distac_loss_desc desc = {.kind = DISTAC_LOSS_CROSS_ENTROPY};
    distac_tensor *f = NULL, *z = NULL, *dz = NULL, *df = NULL;
    double value;
    OK(grads ? distac_vit_forward(vit, images, &f) : distac_vit_features(vit, images, &f));
    OK(distac_head_logits(head, f, &z));
    OK(distac_tensor_cast(z, distac_tensor_dtype(z), &dz));
    OK(distac_loss(&desc, z, labels, dz, &value));
    if (grads) {
        OK(distac_head_backward(head, f, dz, NULL, &df));
        OK(distac_vit_backward(vit, df, grads));
    }
    distac_tensor_release(f);
    distac_tensor_release(z);
    distac_tensor_release(dz);
    distac_tensor_release(df);
    return value;
}

static distac_tensor *gradient_of(const distac_vit *vit, const distac_tensor *grads, const char *name) {
    distac_tensor *p = NULL, *out = NULL;
    int64_t index = param_index(vit, name), offset = 0;
    for (int64_t i = 0; i <= index; i++) {
        OK(distac_vit_param(vit, i, &p));
        if (i < index) offset += distac_tensor_numel(p);
        else OK(distac_tensor_narrow(grads, 0, offset, distac_tensor_numel(p), &out));
        distac_tensor_release(p);
    }
    return out;
}

static void worked_gradients(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double norm;
    } norms[] = {{"visual.conv1.weight", 0.0119086173},
                 {"visual.class_embedding", 0.7884815025},
                 {"visual.proj", 1.7589062721},
                 {BLOCK "0.attn.in_proj_weight", 0.0302945242},
                 {BLOCK "1.mlp.c_fc.weight", 0.0626845642},
                 {"visual.ln_post.bias", 0.0275818336},
                 {BLOCK "0.ln_1.weight", 0.0031184559}};
    static const struct {
        const char *name;
        double value;
    } firsts[] = {{"visual.conv1.weight", -0.0016145809},
                  {"visual.proj", 0.2880644315},
                  {"visual.class_embedding", 0.6378449412}};
    distac_context *c = context_with(2);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_head *head = mini_head(c, DISTAC_F64);
    distac_tensor *images = mini_images(c, DISTAC_F64, 2), *grads = NULL;
    const int64_t truth[2] = {1, 2}, total = 588;
    distac_tensor *labels = labels_of(c, 2, truth);
    OK(distac_tensor_create(c, DISTAC_F64, 1, &total, &grads));
    NEAR(loss_of(vit, head, images, labels, grads), 6.205672538939, 1e-12);
    NEAR(norm_of(grads), 2.091231382492, 1e-12);
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        distac_tensor *g = gradient_of(vit, grads, norms[i].name);
        NEAR(norm_of(g), norms[i].norm, 1e-10);
        distac_tensor_release(g);
    }
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        distac_tensor *g = gradient_of(vit, grads, firsts[i].name);
        NEAR(((const double *)distac_tensor_data(g))[0], firsts[i].value, 1e-10);
        distac_tensor_release(g);
    }
    distac_tensor_release(grads);
    distac_tensor_release(labels);
    distac_tensor_release(images);
    distac_head_release(head);
    distac_vit_release(vit);
    distac_context_release(c);
}

/* ---- gradients by central differences ---- */

typedef struct problem {
    distac_context *context;
    distac_vit *vit;
    distac_head *head;
    distac_tensor *images, *labels, *grads, *flat;
    double *theta;
} problem;

static void problem_make(problem *p, const distac_vit_config *config, int64_t batch, int32_t activation) {
    memset(p, 0, sizeof *p);
    distac_vit_config chosen = *config;
    chosen.activation = activation;
    p->context = context_with(2);
    OK(distac_vit_create(p->context, &chosen, DISTAC_F64, &p->vit));
    OK(distac_vit_init(p->vit, 7));
    OK(distac_vit_params(p->vit, &p->flat));
    /* Every tensor gets a nudge, so that no bias is exactly zero and no LayerNorm exactly one. */
    p->theta = values_of(p->flat);
    for (int64_t i = 0; i < distac_tensor_numel(p->flat); i++) p->theta[i] += 0.05 * sin(1.7 * (double)i + 0.3);
    OK(distac_tensor_write(p->flat, distac_tensor_numel(p->flat), p->theta));
    const int64_t shape[4] = {batch, config->channels, config->image, config->image};
    OK(distac_tensor_create(p->context, DISTAC_F64, 4, shape, &p->images));
    OK(distac_tensor_random(p->images, 0, 3, 1));
    const int64_t classes = 5, weight_shape[2] = {classes, config->dim}, total = distac_tensor_numel(p->flat);
    distac_tensor *weight = NULL;
    OK(distac_tensor_create(p->context, DISTAC_F64, 2, weight_shape, &weight));
    OK(distac_tensor_random(weight, 0, 5, 1));
    OK(distac_head_create(weight, 1, &p->head));
    distac_tensor_release(weight);
    int64_t truth[16];
    for (int64_t i = 0; i < batch; i++) truth[i] = (i * 3 + 1) % classes;
    p->labels = labels_of(p->context, batch, truth);
    OK(distac_tensor_create(p->context, DISTAC_F64, 1, &total, &p->grads));
    (void)loss_of(p->vit, p->head, p->images, p->labels, p->grads);
}

static void problem_free(problem *p) {
    free(p->theta);
    distac_tensor_release(p->grads);
    distac_tensor_release(p->flat);
    distac_tensor_release(p->labels);
    distac_tensor_release(p->images);
    distac_head_release(p->head);
    distac_vit_release(p->vit);
    distac_context_release(p->context);
}

static double moved(problem *p, const double *direction, double step) {
    double *theta = distac_tensor_data(p->flat);
    for (int64_t i = 0; i < distac_tensor_numel(p->flat); i++) theta[i] = p->theta[i] + step * direction[i];
    double loss = loss_of(p->vit, p->head, p->images, p->labels, NULL);
    memcpy(theta, p->theta, (size_t)distac_tensor_numel(p->flat) * sizeof *theta);
    return loss;
}

/* Central difference of fourth order. */
static double difference(problem *p, const double *direction, double h) {
    double near = moved(p, direction, h) - moved(p, direction, -h);
    double far = moved(p, direction, 2.0 * h) - moved(p, direction, -2.0 * h);
    return (8.0 * near - far) / (12.0 * h);
}

static const distac_vit_config odd_config = {.image = 6, .patch = 3, .channels = 2, .width = 12, .layers = 3,
                                             .heads = 3, .mlp = 20, .dim = 7};

static void gradient_along_directions(void **state) {
    (void)state;
    const distac_vit_config *configs[2] = {&mini_config, &odd_config};
    for (int32_t which = 0; which < 2; which++)
        for (int32_t activation = 0; activation < 2; activation++) {
            problem p;
            problem_make(&p, configs[which], 3, activation);
            int64_t n = distac_tensor_numel(p.flat);
            double *direction = malloc((size_t)n * sizeof *direction);
            assert_non_null(direction);
            const double *g = distac_tensor_data(p.grads);
            for (int32_t trial = 0; trial < 4; trial++) {
                distac_rng *rng = NULL;
                OK(distac_rng_create(11, (uint64_t)trial, &rng));
                double exact = 0.0, length = 0.0;
                for (int64_t i = 0; i < n; i++)
                    direction[i] = distac_rng_normal(rng), length += direction[i] * direction[i];
                for (int64_t i = 0; i < n; i++) direction[i] /= sqrt(length), exact += g[i] * direction[i];
                distac_rng_release(rng);
                NEAR(difference(&p, direction, 1e-3) / exact, 1.0, 1e-6);
            }
            free(direction);
            problem_free(&p);
        }
}

static void gradient_of_every_tensor(void **state) {
    (void)state;
    for (int32_t activation = 0; activation < 2; activation++) {
        problem p;
        problem_make(&p, &odd_config, 2, activation);
        int64_t n = distac_tensor_numel(p.flat), offset = 0;
        double *direction = calloc((size_t)n, sizeof *direction), worst = 0.0;
        assert_non_null(direction);
        const double *g = distac_tensor_data(p.grads);
        double scale = norm_of(p.grads) / sqrt((double)n);
        for (int64_t i = 0; i < distac_vit_param_count(p.vit); i++) {
            distac_tensor *t = NULL;
            OK(distac_vit_param(p.vit, i, &t));
            int64_t count = distac_tensor_numel(t);
            for (int64_t sample = 0; sample < 6; sample++) {
                int64_t at = offset + (sample * 97 + 5) % count;
                direction[at] = 1.0;
                double numeric = difference(&p, direction, 1e-3);
                direction[at] = 0.0;
                worst = fmax(worst, fabs(numeric - g[at]));
                NEAR(numeric, g[at], 1e-6 * (fabs(g[at]) + scale));
            }
            offset += count;
            distac_tensor_release(t);
        }
        assert_true(worst > 0.0); /* the differences were taken */
        free(direction);
        problem_free(&p);
    }
}

static void head_gradients(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    for (int32_t normalize = 0; normalize < 2; normalize++) {
        double wv[12], fv[8], dv[6];
        for (int32_t i = 0; i < 12; i++) wv[i] = sin(1.1 * i + 0.2);
        for (int32_t i = 0; i < 8; i++) fv[i] = cos(0.9 * i) + 0.1;
        for (int32_t i = 0; i < 6; i++) dv[i] = sin(0.4 * i + 1.0);
        distac_tensor *w = tensor2(c, DISTAC_F64, 3, 4, wv), *f = tensor2(c, DISTAC_F64, 2, 4, fv);
        distac_tensor *dz = tensor2(c, DISTAC_F64, 2, 3, dv), *dw = tensor2(c, DISTAC_F64, 3, 4, NULL);
        distac_tensor *df = NULL, *weight = NULL;
        distac_head *head = NULL;
        OK(distac_tensor_fill(dw, 1.0)); /* added to, not overwritten */
        OK(distac_head_create(w, normalize, &head));
        OK(distac_head_backward(head, f, dz, dw, &df));
        OK(distac_head_weight(head, &weight));
        double *gw = values_of(dw), *gf = values_of(df), *at_f = distac_tensor_data(f),
               *at_w = distac_tensor_data(weight);
        const double h = 1e-5;
        for (int32_t i = 0; i < 20; i++) {
            double *x = i < 12 ? &at_w[i] : &at_f[i - 12], kept = *x, side[2];
            for (int32_t s = 0; s < 2; s++) {
                distac_tensor *z = NULL;
                *x = kept + (s ? h : -h);
                OK(distac_head_logits(head, f, &z));
                const double *zv = distac_tensor_data(z);
                side[s] = 0.0;
                for (int32_t j = 0; j < 6; j++) side[s] += zv[j] * dv[j];
                distac_tensor_release(z);
            }
            *x = kept;
            NEAR((side[1] - side[0]) / (2.0 * h), i < 12 ? gw[i] - 1.0 : gf[i - 12], 1e-8);
        }
        free(gw);
        free(gf);
        distac_tensor_release(df);
        distac_tensor_release(dw);
        distac_tensor_release(dz);
        distac_tensor_release(f);
        distac_tensor_release(w);
        distac_tensor_release(weight);
        distac_head_release(head);
    }
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_gradients),
        cmocka_unit_test(gradient_along_directions),
        cmocka_unit_test(gradient_of_every_tensor),
        cmocka_unit_test(head_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
