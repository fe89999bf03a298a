/* test_kernels_flat.c: the kernels over long flat vectors, like test_kernels.c the others. */
#include "kernel_reference.h"

static void sums_are(world *w, const char *what, double got, double want, double magnitude) {
    if (!(fabs(got - want) <= 1e-12 * (magnitude + 1e-30)))
        fail_msg("%s, %s: sum is %.17g, not %.17g", w->k->name, what, got, want);
    w->digest = (w->digest ^ (uint64_t)(got * 1e6)) * 1099511628211u;
}

static const int64_t sizes[] = {0, 1, 15, 64, 1001, 32768, 100003};

static void axpby(world *w) {
    static const double factors[][2] = {{1, 1}, {0.5, -2}, {-1, 0}, {0, 3}, {0, 0}, {2, 1}};
    for (int i = 0; i < COUNT(sizes) * COUNT(factors); i++) {
        int64_t n = sizes[i / COUNT(factors)];
        double a = factors[i % COUNT(factors)][0], b = factors[i % COUNT(factors)][1];
        array *x = input(w, n), *y = b == 0 ? output(w, n) : input(w, n);
        for (int64_t q = 0; q < n; q++) y->want[q] = a * x->want[q] + b * y->want[q];
        OK(w->k->axpby(w->context, n, a, a == 0 ? NULL : x->data, b, y->data));
        check(w, 1);
    }
}

static void flat(world *w) {
    for (int s = 0; s < COUNT(sizes); s++) {
        int64_t n = sizes[s];
        array *x = input(w, n), *y = input(w, n), *g = input(w, n), *theta = input(w, n);
        double sum = 0, square = 0, size = 0, got = NAN, distance = NAN, beta = 0.7, away = 0, gg = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += x->want[i] * y->want[i];
            size += fabs(x->want[i] * y->want[i]);
            square += x->want[i] * x->want[i];
        }
        OK(w->k->dot(w->context, n, x->data, y->data, &got));
        sums_are(w, "dot", got, sum, size);
        OK(w->k->sumsq(w->context, n, x->data, &got));
        sums_are(w, "sumsq", got, square, square);
        OK(w->k->anchor(w->context, n, beta, theta->data, x->data, g->data, &distance, &got));
        for (int64_t i = 0; i < n; i++) {
            double d = theta->want[i] - x->want[i];
            away += beta * d * d;
            g->want[i] += 2 * beta * d;
            gg += get(w, g, i) * get(w, g, i);
        }
        if (!(fabs(distance - away) <= (w->f64 ? 1e-12 : 1e-6) * (away + 1e-30)))
            fail_msg("%s: anchor", w->k->name);
        sums_are(w, "anchor's square", got, gg, gg);
        check(w, 2);
        if (n > 0) {
            x = input(w, n);
            put(w, x, n - 1, NAN);
            OK(w->k->sumsq(w->context, n, x->data, &got));
            assert_true(isnan(got));
            forget(w);
        }
    }
    /* A sum in float would stop at 2^24 here. */
    array *x = input(w, 1200000);
    double got = NAN;
    for (int64_t i = 0; i < x->n; i++) put(w, x, i, 16 + 1.0 / 1024);
    OK(w->k->sumsq(w->context, x->n, x->data, &got));
    double one = 16 + 1.0 / 1024;
    sums_are(w, "long sum", got, 1200000.0 * one * one, got);
    forget(w);
}

static void adamw(world *w) {
    static const int64_t lengths[] = {0, 1, 17, 1000, 70001};
    for (int s = 0; s < COUNT(lengths) * 4; s++) {
        int64_t n = lengths[s / 4], t = s % 4 == 0 ? 1 : 5 * s;
        bool coupled = s & 1;
        double lr = 1e-2, b1 = 0.9, b2 = 0.999, eps = 1e-8, wd = s & 2 ? 0.1 : 0, scale = s % 3 ? 1 : 0.25;
        array *g = input(w, n), *m = input(w, n), *v = input(w, n), *theta = input(w, n);
        for (int64_t i = 0; i < n; i++) put(w, v, i, fabs(v->want[i]) + 0.01), v->want[i] = get(w, v, i);
        OK(w->k->adamw(w->context, n, t, lr, b1, b2, eps, wd, coupled, scale, g->data, m->data, v->data,
                       theta->data));
        for (int64_t i = 0; i < n; i++) {
            double d = g->want[i] * scale + (coupled ? wd * theta->want[i] : 0);
            m->want[i] = b1 * m->want[i] + (1 - b1) * d;
            v->want[i] = b2 * v->want[i] + (1 - b2) * d * d;
            double mhat = m->want[i] / (1 - pow(b1, (double)t)), vhat = v->want[i] / (1 - pow(b2, (double)t));
            theta->want[i] *= coupled ? 1 : 1 - lr * wd;
            theta->want[i] -= lr * mhat / (sqrt(vhat) + eps);
        }
        check(w, 4);
    }
}

static const kernel_case cases[] = {
    {"axpby", axpby, {NEEDS(axpby)}},
    {"flat", flat, {NEEDS(sumsq), NEEDS(dot), NEEDS(anchor)}},
    {"adamw", adamw, {NEEDS(adamw)}},
};

static void every_table(void **state) {
    run_cases(cases, COUNT(cases));
    (void)state;
}

static void on_a_device(void **state) {
    run_cases_there(cases, COUNT(cases));
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_table), cmocka_unit_test(on_a_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
