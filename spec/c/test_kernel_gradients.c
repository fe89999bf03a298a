/* test_kernel_gradients.c: the gradient of every kernel that has one against finite differences, in double. */
#include "kernel_reference.h"

typedef struct probe {
    world *w;
    array *in[4], *out, *weight; /* loss = sum weight * out */
    int64_t a, b, c, d;
} probe;

static double loss(const probe *p, void (*forward)(const probe *p)) {
    double sum = 0;
    forward(p);
    for (int64_t i = 0; i < p->out->n; i++) sum += p->weight->want[i] * get(p->w, p->out, i);
    return sum;
}
/* The gradient of input q against differences of fourth order. */
static void differs(const probe *p, void (*forward)(const probe *p), int q, const array *gradient) {
    static const double at[] = {-2, -1, 1, 2}, factor[] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    for (int64_t i = 0; i < p->in[q]->n; i++) {
        double h = 1e-3, slope = 0, x = get(p->w, p->in[q], i), got = get(p->w, gradient, i);
        for (int s = 0; s < 4; s++) {
            put(p->w, p->in[q], i, x + at[s] * h);
            slope += factor[s] / h * loss(p, forward);
        }
        put(p->w, p->in[q], i, x);
        if (!(fabs(got - slope) <= 1e-6 * (fabs(slope) + 1e-2)))
            fail_msg("%s, %s: gradient %lld of input %d is %.12g, differences say %.12g", p->w->k->name,
                     p->w->what, (long long)i, q, got, slope);
    }
}

static void linear_forward(const probe *p) {
    OK(p->w->k->linear(p->w->context, p->a, p->b, p->c, p->in[0]->data, p->in[1]->data, p->in[2]->data,
                       DI_ACT_NONE, NULL, NULL, p->out->data));
}
/* act(in) through a linear layer */
static void activated_forward(const probe *p) {
    array *hidden = p->in[3];
    for (int64_t i = 0; i < hidden->n; i++) put(p->w, hidden, i, act_value((int32_t)p->d, get(p->w, p->in[0], i)));
    OK(p->w->k->linear(p->w->context, p->a, p->b, p->c, hidden->data, p->in[1]->data, NULL, DI_ACT_NONE, NULL,
                       NULL, p->out->data));
}
static void layernorm_forward(const probe *p) {
    OK(p->w->k->layernorm(p->w->context, p->a, p->b, p->in[0]->data, p->b, p->in[1]->data, p->in[2]->data,
                          p->out->data, NULL, NULL));
}
static void attention_forward(const probe *p) {
    OK(p->w->k->attention(p->w->context, p->a, p->b, p->c, p->d, p->in[0]->data, NULL, p->out->data));
}
static void tokens_forward(const probe *p) {
    OK(p->w->k->tokens(p->w->context, p->a, p->b, p->c, p->in[0]->data, p->in[1]->data, p->in[2]->data,
                       p->out->data));
}
static void normalize_forward(const probe *p) {
    OK(p->w->k->normalize(p->w->context, p->a, p->b, p->in[0]->data, p->out->data, p->in[3]->data));
}
static array *zeros(world *w, int64_t n) {
    array *a = make(w, n);
    for (int64_t i = 0; i < n; i++) put(w, a, i, 0);
    return a;
}

static void gradients(void **state) {
    for (int t = 0; t < COUNT(sets); t++) {
        world w;
        if (!open_world(&w, sets[t], 2, true)) continue;
        const di_kernels *k = w.k;
        distac_context *c = w.context;

        w.what = "linear";
        probe p = {.w = &w,
                   .a = 5,
                   .b = 7,
                   .c = 9,
                   .in = {input(&w, 45), input(&w, 63), input(&w, 7)},
                   .out = output(&w, 35),
                   .weight = input(&w, 35)};
        array *dx = output(&w, 45), *dw = zeros(&w, 63), *db = zeros(&w, 7);
        OK(k->linear_backward_input(c, 5, 7, 9, p.weight->data, p.in[1]->data, DI_ACT_NONE, NULL, false,
                                    dx->data));
        OK(k->linear_backward_weight(c, 5, 7, 9, p.in[0]->data, p.weight->data, dw->data, db->data));
        differs(&p, linear_forward, 0, dx);
        differs(&p, linear_forward, 1, dw);
        differs(&p, linear_forward, 2, db);
        for (int act = 0; act < 2; act++) {
            w.what = act == DISTAC_ACT_GELU ? "gelu" : "quick_gelu";
            p.d = act;
            p.in[3] = zeros(&w, 45);
            OK(k->linear_backward_input(c, 5, 7, 9, p.weight->data, p.in[1]->data, act, p.in[0]->data, false,
                                        dx->data));
            differs(&p, activated_forward, 0, dx);
        }
        forget(&w);

        w.what = "layernorm";
        p = (probe){.w = &w,
                    .a = 4,
                    .b = 11,
                    .in = {input(&w, 44), input(&w, 11), input(&w, 11)},
                    .out = output(&w, 44),
                    .weight = input(&w, 44)};
        array *mean = output(&w, 4), *rstd = output(&w, 4);
        dx = output(&w, 44), dw = zeros(&w, 11), db = zeros(&w, 11);
        OK(k->layernorm(c, 4, 11, p.in[0]->data, 11, p.in[1]->data, p.in[2]->data, p.out->data, mean->data,
                        rstd->data));
        OK(k->layernorm_backward(c, 4, 11, p.in[0]->data, 11, p.in[1]->data, mean->data, rstd->data,
                                 p.weight->data, false, dx->data, dw->data, db->data));
        differs(&p, layernorm_forward, 0, dx);
        differs(&p, layernorm_forward, 1, dw);
        differs(&p, layernorm_forward, 2, db);
        forget(&w);

        static const int64_t shapes[][4] = {{2, 5, 6, 2}, {1, 9, 32, 2}, {1, 66, 2, 1}};
        for (int s = 0; s < COUNT(shapes); s++) {
            int64_t B = shapes[s][0], N = shapes[s][1], W = shapes[s][2], H = shapes[s][3];
            w.what = "attention";
            p = (probe){.w = &w,
                        .a = B,
                        .b = N,
                        .c = W,
                        .d = H,
                        .in = {input(&w, B * N * 3 * W)},
                        .out = output(&w, B * N * W),
                        .weight = input(&w, B * N * W)};
            array *probs = output(&w, B * H * N * N);
            dx = output(&w, B * N * 3 * W);
            OK(k->attention(c, B, N, W, H, p.in[0]->data, probs->data, p.out->data));
            OK(k->attention_backward(c, B, N, W, H, p.in[0]->data, probs->data, p.out->data, p.weight->data,
                                     dx->data));
            differs(&p, attention_forward, 0, dx);
            forget(&w);
        }

        w.what = "tokens";
        p = (probe){.w = &w,
                    .a = 3,
                    .b = 4,
                    .c = 5,
                    .in = {input(&w, 45), input(&w, 5), input(&w, 20)},
                    .out = output(&w, 60),
                    .weight = input(&w, 60)};
        dx = output(&w, 45), dw = zeros(&w, 5), db = zeros(&w, 20);
        OK(k->tokens_backward(c, 3, 4, 5, p.weight->data, dx->data, dw->data, db->data));
        differs(&p, tokens_forward, 0, dx);
        differs(&p, tokens_forward, 1, dw);
        differs(&p, tokens_forward, 2, db);
        forget(&w);

        w.what = "normalize";
        p = (probe){.w = &w,
                    .a = 3,
                    .b = 9,
                    .in = {input(&w, 27), NULL, NULL, output(&w, 3)},
                    .out = output(&w, 27),
                    .weight = input(&w, 27)};
        dx = output(&w, 27);
        OK(k->normalize(c, 3, 9, p.in[0]->data, p.out->data, p.in[3]->data));
        OK(k->normalize_backward(c, 3, 9, p.out->data, p.in[3]->data, p.weight->data, dx->data));
        differs(&p, normalize_forward, 0, dx);
        forget(&w);
        distac_context_release(c);
    }
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
