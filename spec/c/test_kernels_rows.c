/* test_kernels_rows.c: the kernels around an encoder, like test_kernels.c the others: rows that are picked,
 * pixels, projections, losses of rows, the numbers of a training step, sums of task vectors. What is no array of
 * the table's type lies where the table computes. */
#include "kernel_reference.h"

static void *lay(const world *w, const void *host, size_t bytes) {
    void *there = di_there_alloc(w->context, bytes ? bytes : 1);
    assert_non_null(there);
    if (host && bytes) assert_int_equal(di_there_put(w->context, there, host, bytes), DISTAC_OK);
    return there;
}
static void take(const world *w, void *there, void *host, size_t bytes) {
    if (host && bytes) assert_int_equal(di_there_get(w->context, host, there, bytes), DISTAC_OK);
    di_there_free(w->context, there, bytes ? bytes : 1);
}

static void near_number(world *w, const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%s, %s: %s is %.17g, not %.17g", w->k->name, w->what, what, got, want);
    uint64_t bits;
    memcpy(&bits, &got, sizeof bits);
    w->digest = (w->digest ^ bits) * 1099511628211u;
}

static void gather(world *w) {
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {7, 5, 3}, {70, 300, 40}, {0, 4, 4}, {5, 1, 2000}}; /* n, C, rows */
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t n = shapes[s][0], C = shapes[s][1], rows = shapes[s][2], list[70];
        array *x = input(w, rows * C), *y = output(w, n * C);
        for (int64_t i = 0; i < n; i++) list[i] = i == 0 ? rows - 1 : (i * 31 + 7) % rows;
        for (int64_t i = 0; i < n * C; i++) y->want[i] = x->want[list[i / C] * C + i % C];
        void *there = lay(w, list, (size_t)n * sizeof *list);
        OK(w->k->gather(w->context, n, C, there, x->data, y->data));
        take(w, there, NULL, (size_t)n * sizeof *list);
        check(w, 0);
    }
}

static void pixels(world *w) {
    static const double mean[] = {0.48145466, 0.4578275, 0.40821073}, std[] = {0.26862954, 0.26130258, 0.27577711};
    enum { IMAGES = 5, CHANNELS = 3, PLANE = 77 };
    unsigned char bytes[IMAGES * CHANNELS * PLANE];
    const int64_t list[] = {4, 0, 0, 3};
    for (int i = 0; i < COUNT(bytes); i++) bytes[i] = (unsigned char)(i * 37 + i / 11);
    for (int listed = 0; listed < 2; listed++) {
        int64_t n = listed ? COUNT(list) : IMAGES;
        array *x = output(w, n * CHANNELS * PLANE);
        for (int64_t i = 0; i < x->n; i++) {
            int64_t image = i / (CHANNELS * PLANE), rest = i % (CHANNELS * PLANE), c = rest / PLANE;
            int64_t byte = (listed ? list[image] : image) * CHANNELS * PLANE + rest;
            x->want[i] = (bytes[byte] / 255.0 - mean[c]) / std[c];
        }
        void *from = lay(w, bytes, sizeof bytes), *order = lay(w, list, sizeof list);
        OK(w->k->pixels(w->context, n, CHANNELS, PLANE, from, listed ? order : NULL, mean, std, x->data));
        take(w, order, NULL, sizeof list);
        take(w, from, NULL, sizeof bytes);
        check(w, 8);
    }
}

static void project(world *w) {
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 17, 65}, {130, 33, 40}, {2, 512, 768}}; /* B, D, W */
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t B = shapes[s][0], D = shapes[s][1], W = shapes[s][2];
        array *x = input(w, B * W), *proj = input(w, W * D), *y = output(w, B * D);
        ref_gemm(false, false, B, D, W, 1, x->want, W, proj->want, D, 0, y->want, D);
        OK(w->k->project(w->context, B, D, W, x->data, proj->data, y->data));
        check(w, 8 + 0.5 * (double)W);
        array *dy = input(w, B * D), *dx = output(w, B * W), *dproj = input(w, W * D);
        x = input(w, B * W), proj = input(w, W * D);
        ref_gemm(true, false, W, D, B, 1, x->want, W, dy->want, D, 1, dproj->want, D);
        ref_gemm(false, true, B, W, D, 1, dy->want, D, proj->want, D, 0, dx->want, W);
        OK(w->k->project_backward(w->context, B, D, W, x->data, proj->data, dy->data, dx->data, dproj->data));
        check(w, 8 + 0.5 * (double)(B > D ? B : D));
    }
}

/* ---- losses ---- */

enum { MOST_ROWS = 40 };
static double entropy_of(int64_t C, const double *p, const double *log_p) {
    double h = 0;
    for (int64_t c = 0; c < C; c++) h -= p[c] > 0 ? p[c] * log_p[c] : 0;
    return h;
}
static int64_t largest(int64_t C, const double *x) {
    int64_t best = 0;
    for (int64_t c = 1; c < C; c++) best = x[c] > x[best] ? c : best;
    return best;
}

/* Loss of one row for one label, and its slope into d [C]. */
static double one_loss(const distac_loss_desc *desc, int64_t C, int64_t label, const double *p,
                       const double *log_p, double *d) {
    if (desc->kind == DISTAC_LOSS_FOCAL) {
        double q = 1 - p[label], power = pow(q, desc->gamma);
        /* of -(1-p)^g log p for p, times p's own slope */
        double slope = desc->gamma * pow(q, desc->gamma - 1) * p[label] * log_p[label] - power;
        for (int64_t c = 0; c < C; c++) d[c] = slope * ((c == label) - p[c]);
        return -power * log_p[label];
    }
    double all = 0, a = desc->label_smoothing;
    for (int64_t c = 0; c < C; c++) {
        all -= log_p[c] / (double)C;
        d[c] = p[c] - (1 - a) * (c == label) - a / (double)C;
    }
    return -(1 - a) * log_p[label] + a * all;
}

static void compare_rows(world *w, int64_t rows, const di_row *got, const di_row *want) {
    double tolerance = w->f64 ? 1e-12 : 3e-6;
    for (int64_t r = 0; r < rows; r++) {
        near_number(w, "loss", got[r].loss, want[r].loss, tolerance);
        near_number(w, "entropy", got[r].entropy, want[r].entropy, tolerance);
        near_number(w, "correct", got[r].correct, want[r].correct, 1e-15);
    }
}

static void losses(world *w) {
    static const distac_loss_desc descs[] = {{DISTAC_LOSS_CROSS_ENTROPY, 0, 0, 0},
                                             {DISTAC_LOSS_CROSS_ENTROPY, 0.1, 0, 0},
                                             {DISTAC_LOSS_FOCAL, 0, 2, 0},
                                             {DISTAC_LOSS_CROSS_ENTROPY, 0, 0, 1}};
    static const int64_t shapes[][2] = {{1, 2}, {5, 10}, {33, 100}, {2, 1001}};
    for (int s = 0; s < COUNT(shapes) * COUNT(descs) * 2; s++) {
        const distac_loss_desc *desc = &descs[s / 2 % COUNT(descs)];
        int64_t rows = shapes[s / 2 / COUNT(descs)][0], C = shapes[s / 2 / COUNT(descs)][1], labels[MOST_ROWS],
                others[MOST_ROWS];
        bool wants = s & 1, mixed = desc->mixup > 0;
        double lambda = mixed ? 0.3 : 1, scale = 0.25;
        array *x = input(w, rows * C), *d = wants ? output(w, rows * C) : NULL;
        double *p = calloc((size_t)(4 * C), sizeof *p), *log_p = p + C, *da = p + 2 * C, *db = p + 3 * C;
        di_row want[MOST_ROWS], got[MOST_ROWS];
        for (int64_t r = 0; r < rows; r++) {
            const double *row = x->want + r * C;
            labels[r] = (r * 7 + 1) % C, others[r] = (r * 3) % C;
            ref_softmax(1, C, 1, false, row, p);
            ref_softmax(1, C, 1, true, row, log_p);
            double a = one_loss(desc, C, labels[r], p, log_p, da), b = one_loss(desc, C, others[r], p, log_p, db);
            int64_t best = largest(C, row);
            want[r] = (di_row){mixed ? lambda * a + (1 - lambda) * b : a, entropy_of(C, p, log_p),
                               mixed ? lambda * (best == labels[r]) + (1 - lambda) * (best == others[r])
                                     : (double)(best == labels[r])};
            for (int64_t c = 0; c < C && wants; c++)
                d->want[r * C + c] = scale * (mixed ? lambda * da[c] + (1 - lambda) * db[c] : da[c]);
        }
        size_t bytes = (size_t)rows * sizeof *labels;
        di_targets targets = {lay(w, labels, bytes), mixed ? lay(w, others, bytes) : NULL,
                              lay(w, &lambda, sizeof lambda)};
        di_row *results = lay(w, NULL, (size_t)rows * sizeof *results);
        OK(w->k->loss(w->context, desc, rows, C, x->data, &targets, scale, wants ? d->data : NULL, results));
        take(w, results, got, (size_t)rows * sizeof *results);
        take(w, (void *)(uintptr_t)targets.lambda, NULL, sizeof lambda);
        take(w, (void *)(uintptr_t)targets.labels, NULL, bytes);
        if (mixed) take(w, (void *)(uintptr_t)targets.others, NULL, bytes);
        compare_rows(w, rows, got, want);
        free(p);
        check(w, 24);
    }
}

static void distillation(world *w) {
    static const int64_t shapes[][2] = {{1, 2}, {7, 10}, {33, 100}, {2, 1001}};
    static const double temperatures[][2] = {{1, 1}, {10, 10}, {1, 4}};
    for (int s = 0; s < COUNT(shapes) * COUNT(temperatures) * 2; s++) {
        int64_t rows = shapes[s % COUNT(shapes)][0], C = shapes[s % COUNT(shapes)][1];
        double tt = temperatures[s / COUNT(shapes) % 3][0], ts = temperatures[s / COUNT(shapes) % 3][1],
               scale = 0.5;
        bool alone = s >= COUNT(shapes) * 3; /* the entropy */
        array *teacher = input(w, rows * C), *x = input(w, rows * C), *d = output(w, rows * C);
        double *p = calloc((size_t)(5 * C), sizeof *p), *lp = p + C, *q = p + 2 * C, *lq = p + 3 * C;
        di_row want[MOST_ROWS], got[MOST_ROWS];
        for (int64_t r = 0; r < rows; r++) {
            const double *row = x->want + r * C;
            double loss = 0;
            ref_softmax(1, C, 1, false, row, q);
            ref_softmax(1, C, 1, true, row, lq);
            double entropy = entropy_of(C, q, lq);
            want[r] = (di_row){entropy, entropy, 0};
            for (int64_t c = 0; c < C && alone; c++) d->want[r * C + c] = -scale * q[c] * (lq[c] + entropy);
            if (alone) continue;
            ref_softmax(1, C, 1 / tt, false, teacher->want + r * C, p);
            ref_softmax(1, C, 1 / tt, true, teacher->want + r * C, lp);
            ref_softmax(1, C, 1 / ts, false, row, q);
            ref_softmax(1, C, 1 / ts, true, row, lq);
            for (int64_t c = 0; c < C; c++) {
                loss += tt * ts * p[c] * (lp[c] - lq[c]);
                d->want[r * C + c] = scale * tt * (q[c] - p[c]);
            }
            want[r].loss = loss;
        }
        di_row *results = lay(w, NULL, (size_t)rows * sizeof *results);
        if (alone) OK(w->k->loss_entropy(w->context, rows, C, x->data, scale, d->data, results));
        else OK(w->k->loss_kd(w->context, rows, C, teacher->data, x->data, tt, ts, scale, d->data, results));
        take(w, results, got, (size_t)rows * sizeof *results);
        for (int64_t r = 0; r < rows; r++) {
            near_number(w, "loss", got[r].loss, want[r].loss, w->f64 ? 1e-11 : 1e-5 * tt * ts);
            near_number(w, "entropy", got[r].entropy, want[r].entropy, w->f64 ? 1e-12 : 3e-6);
        }
        free(p);
        check(w, 24 * tt);
    }
}

/* ---- a training step ---- */

static void step(world *w) {
    static const double clips[] = {0, 0.5, 1e6};
    for (int s = 0; s < 9; s++) {
        int64_t n = s == 0 ? 1 : 1000 * s + 7, rows = 3 + s;
        double beta = s % 2 ? 0.3 : 0;
        bool broken = s == 8;
        di_adamw rule = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = s % 3 ? 0.1 : 0, .scale = 1,
                         .clip = clips[s % 3], .limit = 1e18, .coupled = s == 4};
        di_step begin = {.rate = {0.01, 0}, .updates = {s, 0}}, end;
        array *theta = input(w, n), *start = input(w, n), *g = input(w, n), *m = input(w, n), *v = input(w, n);
        for (int64_t i = 0; i < n; i++) put(w, v, i, fabs(v->want[i]) + 0.01), v->want[i] = get(w, v, i);
        di_row results[12];
        double total = 0, away = 0, sumsq = 0;
        for (int64_t r = 0; r < rows; r++) {
            results[r] = (di_row){broken && r == 1 ? NAN : 0.1 * (double)r, 1, r % 2 ? 1 : 0};
            total += results[r].loss;
        }
        di_row *lain = lay(w, results, sizeof results);
        di_step *at = lay(w, &begin, sizeof begin);
        OK(w->k->step_begin(w->context, &begin, at));
        OK(w->k->step_rows(w->context, rows, lain, at));
        OK(w->k->step_gradient(w->context, 0, n, beta, theta->data, start->data, g->data, at));
        for (int64_t i = 0; i < n; i++) {
            double d = theta->want[i] - start->want[i];
            away += beta * d * d;
            g->want[i] += 2 * beta * d;
            sumsq += get(w, g, i) * get(w, g, i); /* of what the kernel left */
        }
        OK(w->k->step_decide(w->context, 1, &rule, at));
        OK(w->k->step_update(w->context, 0, n, &rule, g->data, m->data, v->data, theta->data, NULL, at));
        take(w, at, &end, sizeof end);
        take(w, lain, NULL, sizeof results);
        assert_int_equal(end.refused != 0, broken);
        near_number(w, "norm", sqrt(end.sumsq[0]), sqrt(sumsq), 1e-12);
        near_number(w, "anchor", end.anchor, away, w->f64 ? 1e-12 : 1e-6);
        if (!broken) near_number(w, "total", end.total.loss, total, 1e-15);
        double factor = di_step_factor(&rule, sqrt(sumsq)), t = s + 1;
        near_number(w, "factor", end.factor[0], factor, 1e-12);
        for (int64_t i = 0; i < n && !broken; i++) {
            double d = get(w, g, i) * factor + (rule.coupled ? rule.weight_decay * theta->want[i] : 0);
            m->want[i] = 0.9 * m->want[i] + 0.1 * d;
            v->want[i] = 0.999 * v->want[i] + 0.001 * d * d;
            theta->want[i] *= rule.coupled ? 1 : 1 - 0.01 * rule.weight_decay;
            double first = m->want[i] / (1 - pow(0.9, t)), second = v->want[i] / (1 - pow(0.999, t));
            theta->want[i] -= 0.01 * first / (sqrt(second) + 1e-8);
        }
        check(w, 8);
    }
}

static void sums(world *w) {
    static const int64_t sizes[] = {1, 63, 4097, 70001};
    for (int s = 0; s < COUNT(sizes); s++) {
        int64_t n = sizes[s];
        array *g = input(w, n), *base = input(w, n), *taus[3] = {input(w, n), input(w, n), input(w, n)},
              *out = output(w, n);
        const double lambdas[] = {0.3, 0, -1.7};
        const void *at[3] = {taus[0]->data, taus[1]->data, taus[2]->data};
        double *squares = malloc((size_t)n * sizeof *squares);
        for (int64_t i = 0; i < n; i++) {
            out->want[i] = base->want[i];
            for (int t = 0; t < 3; t++) out->want[i] += lambdas[t] * taus[t]->want[i];
            squares[i] = (double)i;
        }
        void *there = lay(w, squares, (size_t)n * sizeof *squares);
        OK(w->k->combine(w->context, n, 3, at, lambdas, base->data, out->data));
        OK(w->k->square(w->context, n, g->data, there));
        take(w, there, squares, (size_t)n * sizeof *squares);
        for (int64_t i = 0; i < n; i++) {
            double rounded = w->f64 ? out->want[i] : (double)(float)out->want[i];
            if (get(w, out, i) != rounded) fail_msg("%s: combine is not rounded once", w->k->name);
            near_number(w, "square", squares[i], (double)i + g->want[i] * g->want[i], 1e-15);
            g->want[i] = 0;
        }
        free(squares);
        check(w, 1);
    }
}

static const kernel_case cases[] = {
    {"gather", gather, {NEEDS(gather)}},
    {"pixels", pixels, {NEEDS(pixels)}},
    {"project", project, {NEEDS(project), NEEDS(project_backward)}},
    {"losses", losses, {NEEDS(loss)}},
    {"distillation", distillation, {NEEDS(loss_kd), NEEDS(loss_entropy)}},
    {"step",
     step,
     {NEEDS(step_begin), NEEDS(step_rows), NEEDS(step_gradient), NEEDS(step_decide), NEEDS(step_update)}},
    {"sums", sums, {NEEDS(combine), NEEDS(square)}},
};

static void every_table(void **state) {
    (void)state;
    run_cases(cases, COUNT(cases));
}

static void on_a_device(void **state) {
    (void)state;
    run_cases_there(cases, COUNT(cases));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_table), cmocka_unit_test(on_a_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
