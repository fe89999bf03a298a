/* test_numerics.c: the kernels where numbers are awkward: attention at the sizes of published models, LayerNorm
 * far from zero, softmax and norms at the ends of their range; and the activations' worked values. */
#include "kernel_reference.h"

/* Tokens of ViT-B/32, B/16 and L/14, heads of 64; sharp: scores so far apart that most weights are zero. */
static void attention_case(world *w, int64_t N, int64_t H, double sharp, double growth) {
    int64_t W = 64 * H;
    array *qkv = input(w, N * 3 * W), *out = output(w, N * W), *dout = input(w, N * W);
    array *probs = output(w, H * N * N), *dqkv = output(w, N * 3 * W);
    for (int64_t i = 0; i < N * 3 * W; i++)
        if (i % (3 * W) < W) {
            put(w, qkv, i, qkv->want[i] * sharp);
            qkv->want[i] = get(w, qkv, i);
        }
    ref_attention(1, N, W, H, qkv->want, probs->want, out->want);
    ref_attention_backward(1, N, W, H, qkv->want, probs->want, dout->want, dqkv->want);
    OK(w->k->attention(w->context, 1, N, W, H, qkv->data, probs->data, out->data));
    for (int64_t i = 0; i < N * W; i++) assert_true(fabs(get(w, out, i)) <= 1.5); /* a mean of values */
    OK(w->k->attention_backward(w->context, 1, N, W, H, qkv->data, probs->data, out->data, dout->data,
                                dqkv->data));
    check(w, growth);
}

static void attention(world *w) {
    static const int64_t tokens[3] = {50, 197, 257};
    for (int i = 0; i < 3; i++) {
        attention_case(w, tokens[i], 2, 1, 30);
        attention_case(w, tokens[i], 1, 20, 600);
    }
}

/* In long double: far from zero double itself is too coarse to measure double by. */
static void exact_layernorm(int64_t C, const double *x, const double *gamma, const double *beta, double *y,
                            double *mean, double *rstd) {
    long double m = 0, v = 0;
    for (int64_t i = 0; i < C; i++) m += x[i];
    m /= C;
    for (int64_t i = 0; i < C; i++) v += (x[i] - m) * (x[i] - m) / C;
    *mean = (double)m;
    *rstd = (double)(1 / sqrtl(v + 1e-5L));
    for (int64_t i = 0; i < C; i++) y[i] = (double)((x[i] - m) / sqrtl(v + 1e-5L) * gamma[i] + beta[i]);
}

/* Rows of spread 1 around an offset. The type resolves the offset to eps * |offset|; no more than that is lost. */
static void layernorm(world *w) {
    static const double offsets[4] = {1e2, -1e4, 1e5, -3e6};
    enum { C = 768, ROWS = 3 };
    for (int o = 0; o < 4; o++) {
        array *x = input(w, ROWS * C), *gamma = input(w, C), *beta = input(w, C), *y = output(w, ROWS * C);
        array *mean = output(w, ROWS), *rstd = output(w, ROWS);
        for (int64_t i = 0; i < ROWS * C; i++) {
            put(w, x, i, x->want[i] + offsets[o]);
            x->want[i] = get(w, x, i);
        }
        for (int64_t r = 0; r < ROWS; r++)
            exact_layernorm(C, x->want + r * C, gamma->want, beta->want, y->want + r * C, mean->want + r,
                            rstd->want + r);
        OK(w->k->layernorm(w->context, ROWS, C, x->data, C, gamma->data, beta->data, y->data, mean->data,
                           rstd->data));
        check(w, 8 + 4 * fabs(offsets[o]));
    }
    /* All numbers of a row alike: what is left is beta, however far from zero the row is. */
    array *x = input(w, ROWS * C), *gamma = input(w, C), *beta = input(w, C), *y = output(w, ROWS * C);
    static const double levels[ROWS] = {12345.678, -0.1, 3e7};
    for (int64_t i = 0; i < ROWS * C; i++) {
        put(w, x, i, levels[i / C]);
        x->want[i] = get(w, x, i);
        y->want[i] = beta->want[i % C];
    }
    OK(w->k->layernorm(w->context, ROWS, C, x->data, C, gamma->data, beta->data, y->data, NULL, NULL));
    check(w, 4);
}

static void softmax(world *w) {
    /* log p of what cannot be: exact, not minus infinity */
    array *x = input(w, 4), *y = output(w, 4);
    static const double apart[4] = {0, -60000, 60000, -1e30};
    for (int64_t i = 0; i < 4; i++) put(w, x, i, apart[i]);
    for (int64_t i = 0; i < 4; i++) x->want[i] = get(w, x, i);
    for (int64_t i = 0; i < 4; i++) y->want[i] = x->want[i] - 60000;
    OK(w->k->softmax(w->context, 1, 4, 1, true, x->data, y->data));
    check(w, 2);
    /* all alike at the far ends, one class, and a range that only the largest survives */
    static const double levels[4] = {-1e30, 1e30, 0, 700};
    for (int level = 0; level < 4; level++) {
        x = input(w, 5), y = output(w, 5);
        for (int64_t i = 0; i < 5; i++) {
            put(w, x, i, levels[level]);
            x->want[i] = get(w, x, i);
            y->want[i] = 0.2;
        }
        OK(w->k->softmax(w->context, 1, 5, 1, false, x->data, y->data));
        check(w, 2);
        x = input(w, 1), y = output(w, 1), y->want[0] = 1;
        put(w, x, 0, levels[level]), x->want[0] = get(w, x, 0);
        OK(w->k->softmax(w->context, 1, 1, 1, false, x->data, y->data));
        check(w, 1);
    }
    for (int log_space = 0; log_space < 2; log_space++) {
        x = input(w, 300), y = output(w, 300);
        for (int64_t i = 0; i < 300; i++) put(w, x, i, (double)(i - 150) * 1.25);
        for (int64_t i = 0; i < 300; i++) x->want[i] = get(w, x, i);
        ref_softmax(3, 100, 1, log_space, x->want, y->want);
        OK(w->k->softmax(w->context, 3, 100, 1, log_space, x->data, y->data));
        double sum = 0;
        for (int64_t i = 0; i < 100; i++) sum += log_space ? exp(get(w, y, i)) : get(w, y, i);
        assert_true(fabs(sum - 1) <= 200 * w->tolerance);
        check(w, 64);
    }
}

/* Unit vectors of rows whose squares leave float's range or are all zero. */
static void normalize(world *w) {
    enum { C = 40 };
    static const double scales[6] = {0, 1e-25, 1e-15, 1, 1e15, 1e25};
    array *x = input(w, 6 * C), *y = output(w, 6 * C), *norms = output(w, 6), *dy = input(w, 6 * C);
    array *dx = output(w, 6 * C);
    for (int64_t r = 0; r < 6; r++) {
        double sum = 0, dot = 0;
        for (int64_t i = r * C; i < (r + 1) * C; i++) {
            put(w, x, i, x->want[i] * scales[r]);
            x->want[i] = get(w, x, i);
            put(w, dy, i, dy->want[i] * scales[r]); /* so that dx is near 1 */
            dy->want[i] = get(w, dy, i);
            sum += x->want[i] * x->want[i];
        }
        norms->want[r] = sqrt(sum);
        for (int64_t i = r * C; i < (r + 1) * C; i++) y->want[i] = sum > 0 ? x->want[i] / sqrt(sum) : 0;
        for (int64_t i = r * C; i < (r + 1) * C; i++) dot += y->want[i] * dy->want[i];
        for (int64_t i = r * C; i < (r + 1) * C; i++)
            dx->want[i] = sum > 0 ? (dy->want[i] - y->want[i] * dot) / sqrt(sum) : 0;
    }
    OK(w->k->normalize(w->context, 6, C, x->data, y->data, norms->data));
    OK(w->k->normalize_backward(w->context, 6, C, y->data, norms->data, dy->data, dx->data));
    check(w, 16);
}

static void worked_activations(world *w) {
    static const struct {
        int32_t act;
        double x, y;
    } points[] = {{DISTAC_ACT_QUICK_GELU, -3, -0.018071}, {DISTAC_ACT_QUICK_GELU, -1, -0.154204},
                  {DISTAC_ACT_QUICK_GELU, -0.5, -0.149611}, {DISTAC_ACT_QUICK_GELU, 0.5, 0.350388},
                  {DISTAC_ACT_QUICK_GELU, 1, 0.845796},     {DISTAC_ACT_QUICK_GELU, 3, 2.981929},
                  {DISTAC_ACT_GELU, 1, 0.841345},           {DISTAC_ACT_GELU, -1, -0.158655}};
    for (int i = 0; i < COUNT(points); i++) {
        array *x = input(w, 1), *one = input(w, 1), *y = output(w, 1);
        put(w, x, 0, points[i].x);
        put(w, one, 0, 1);
        OK(w->k->linear(w->context, 1, 1, 1, x->data, one->data, NULL, points[i].act, NULL, NULL, y->data));
        if (!(fabs(get(w, y, 0) - points[i].y) <= 6e-7))
            fail_msg("%s: activation %d of %g is %.9g, not %.6f", w->k->name, (int)points[i].act, points[i].x,
                     get(w, y, 0), points[i].y);
        forget(w);
    }
}

/* One test each, so that one that fails does not hide the others. */
#define EVERY_TABLE(name)                                  \
    static void name##_in_every_table(void **state) {      \
        static const kernel_case one[] = {{#name, name, {0}}};\
        (void)state;                                       \
        run_cases(one, 1);                                 \
    }
EVERY_TABLE(attention)
EVERY_TABLE(layernorm)
EVERY_TABLE(softmax)
EVERY_TABLE(normalize)
EVERY_TABLE(worked_activations)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_in_every_table), cmocka_unit_test(layernorm_in_every_table),
        cmocka_unit_test(softmax_in_every_table),   cmocka_unit_test(normalize_in_every_table),
        cmocka_unit_test(worked_activations_in_every_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
