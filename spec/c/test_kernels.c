/* test_kernels.c: every entry of every kernel table that this processor runs, for both types, against naive
 * references in double: sizes from 1 over odd ones to several tiles, what is added to and what is overwritten,
 * guard words, the same bits on any number of threads. */
#include "kernel_reference.h"

/* Roundings of a sum of k products of numbers up to 1.5, in units of the last place: partial sums grow like
 * sqrt(k), and so does the number of their errors that do not cancel. */
static double rounding(int64_t k) {
    return 8 + 0.5 * (double)k;
}

/* ---- cases: each makes its arrays, computes both ways and compares ---- */

static void gemm_case(world *w, bool ta, bool tb, int64_t M, int64_t N, int64_t K, double alpha, double beta) {
    int64_t lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 1, ldc = N + 2;
    array *A = input(w, (ta ? K : M) * lda), *B = input(w, (tb ? N : K) * ldb), *C = input(w, M * ldc);
    for (int64_t i = 0; i < M * ldc && beta == 0; i++)
        if (i % ldc < N) put(w, C, i, NAN);
    ref_gemm(ta, tb, M, N, K, alpha, A->want, lda, B->want, ldb, beta, C->want, ldc);
    OK(w->k->gemm(w->context, ta, tb, M, N, K, alpha, A->data, lda, B->data, ldb, beta, C->data, ldc));
    check(w, rounding(K));
}

static void gemm(world *w) {
    static const int64_t sizes[] = {1, 2, 7, 16, 33, 65};
    for (int i = 0; i < COUNT(sizes) * COUNT(sizes) * COUNT(sizes); i++) {
        int64_t M = sizes[i % 6], N = sizes[i / 6 % 6], K = sizes[i / 36];
        gemm_case(w, i & 1, i / 2 & 1, M, N, K, i % 3 ? 1 : -0.5, i % 5 < 2 ? 0 : i % 5 < 4 ? 1 : 0.25);
    }
    for (int t = 0; t < 4; t++) {
        gemm_case(w, t & 1, t & 2, 300, 130, 70, 1, 0);
        gemm_case(w, t & 1, t & 2, 9, 700, 600, 1, 1);
        gemm_case(w, t & 1, t & 2, 0, 5, 3, 1, 1);
        gemm_case(w, t & 1, t & 2, 5, 0, 3, 1, 1);
        gemm_case(w, t & 1, t & 2, 5, 4, 0, 1, 0);
        gemm_case(w, t & 1, t & 2, 5, 4, 0, 1, 0.5);
        gemm_case(w, t & 1, t & 2, 5, 4, 6, 0, 2);
        gemm_case(w, t & 1, t & 2, 5, 4, 6, 0, 0);
    }
}

static void linear_case(world *w, int64_t M, int64_t N, int64_t K, int32_t act, bool bias, bool keep,
                        int residual) {
    array *x = input(w, M * K), *weight = input(w, N * K), *b = input(w, N), *r = input(w, M * N);
    array *y = residual == 2 ? input(w, M * N) : output(w, M * N), *pre = keep ? output(w, M * N) : NULL;
    const double *add = residual == 1 ? r->want : residual == 2 ? y->want : NULL;
    double *sum = malloc((size_t)(M * N + 1) * sizeof *sum);
    ref_gemm(false, true, M, N, K, 1, x->want, K, weight->want, K, 0, sum, N);
    for (int64_t i = 0; i < M * N; i++) {
        double v = sum[i] + (bias ? b->want[i % N] : 0);
        if (pre) pre->want[i] = v;
        y->want[i] = act_value(act, v) + (add ? add[i] : 0);
    }
    free(sum);
    OK(w->k->linear(w->context, M, N, K, x->data, weight->data, bias ? b->data : NULL, act, pre ? pre->data : NULL,
                    residual == 1   ? r->data
                    : residual == 2 ? y->data
                                    : NULL,
                    y->data));
    check(w, rounding(K));
}

static void backward_input_case(world *w, int64_t M, int64_t N, int64_t K, int32_t act, bool accumulate) {
    array *dy = input(w, M * N), *weight = input(w, N * K), *pre = input(w, M * K);
    array *dx = accumulate ? input(w, M * K) : output(w, M * K);
    ref_gemm(false, false, M, K, N, 1, dy->want, N, weight->want, K, accumulate, dx->want, K);
    for (int64_t i = 0; i < M * K; i++) dx->want[i] *= act_slope(act, pre->want[i]);
    OK(w->k->linear_backward_input(w->context, M, N, K, dy->data, weight->data, act,
                                   act == DI_ACT_NONE ? NULL : pre->data, accumulate, dx->data));
    check(w, rounding(N));
}

static void backward_weight_case(world *w, int64_t M, int64_t N, int64_t K, bool weight, bool bias) {
    array *x = input(w, M * K), *dy = input(w, M * N), *dw = input(w, N * K), *db = input(w, N);
    if (weight) ref_gemm(true, false, N, K, M, 1, dy->want, N, x->want, K, 1, dw->want, K);
    for (int64_t i = 0; i < M * N && bias; i++) db->want[i % N] += dy->want[i];
    OK(w->k->linear_backward_weight(w->context, M, N, K, x->data, dy->data, weight ? dw->data : NULL,
                                    bias ? db->data : NULL));
    check(w, rounding(M));
}

static void linear(world *w) {
    static const int64_t shapes[][3] = {{1, 1, 1}, {2, 3, 5},     {17, 33, 31},  {64, 16, 48}, {130, 70, 65},
                                        {0, 5, 4}, {700, 96, 24}, {5, 700, 300}, {65, 1, 129}, {66, 130, 530}};
    static const int32_t acts[] = {DI_ACT_NONE, DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t M = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
        int first = M * N * K > 500000 ? 3 : 0; /* the references of large ones take long: all options at once */
        for (int a = 0; a < 3; a++) {
            for (int o = first; o < 4; o++) linear_case(w, M, N, K, acts[a], o & 1, a > 0 && (o & 2), 0);
            for (int o = first / 3; o < 2; o++) backward_input_case(w, M, N, K, acts[a], o);
        }
        for (int o = first; o < 4; o++) linear_case(w, M, N, K, DI_ACT_NONE, o & 1, false, 1 + (o >> 1));
        for (int o = first; o < 4; o++) backward_weight_case(w, M, N, K, o & 1, o & 2);
    }
    /* many rows, small weights: summed in chunks, by more than one tile, in more than one pass over a chunk */
    backward_weight_case(w, 1024, 3, 32, true, true);
    backward_weight_case(w, 1301, 45, 96, true, true);
    backward_weight_case(w, 2100, 290, 160, true, false);
    backward_weight_case(w, 9000, 17, 288, true, true);
}

/* The activations over all of their range, relative to the small side: bias 0, K 1, weight 1 makes linear the
 * function. */
static void activations(world *w) {
    static const int32_t acts[] = {DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU};
    enum { POINTS = 4001 };
    for (int a = 0; a < 2; a++) {
        array *x = input(w, POINTS), *one = input(w, 1), *y = output(w, POINTS), *d = output(w, POINTS);
        array *ones = input(w, POINTS);
        put(w, one, 0, one->want[0] = 1);
        for (int64_t i = 0; i < POINTS; i++) {
            put(w, x, i, (double)(i - POINTS / 2) * 0.005 + 0.00123);
            put(w, ones, i, ones->want[i] = 1);
            x->want[i] = get(w, x, i);
        }
        OK(w->k->linear(w->context, POINTS, 1, 1, x->data, one->data, NULL, acts[a], NULL, NULL, y->data));
        OK(w->k->linear_backward_input(w->context, POINTS, 1, 1, ones->data, one->data, acts[a], x->data, false,
                                       d->data));
        for (int64_t i = 0; i < POINTS; i++) {
            double v = x->want[i], value = act_value(acts[a], v), slope = act_slope(acts[a], v);
            /* A rounded argument of exp or erfc costs more the further out: QuickGELU's 1.702 x, double's
             * x/sqrt 2. */
            double allowed = w->f64                       ? 1e-15 * (1 + v * v)
                             : acts[a] == DISTAC_ACT_GELU ? 4.2e-7
                                                          : 4.2e-7 * (1 + fabs(v));
            if (!(fabs(get(w, y, i) - value) <= allowed * fabs(value) + 1e-37))
                fail_msg("%s: activation %d at %g is %.10g, not %.10g", w->k->name, acts[a], v, get(w, y, i),
                         value);
            if (!(fabs(get(w, d, i) - slope) <= 2 * allowed))
                fail_msg("%s: slope %d at %g is %.10g, not %.10g", w->k->name, acts[a], v, get(w, d, i), slope);
            y->want[i] = value, d->want[i] = slope;
        }
        check(w, 16);
    }
    /* What is not a number does not become one. */
    array *x = input(w, 40), *one = input(w, 1), *y = output(w, 40);
    for (int64_t i = 0; i < 40; i++) put(w, x, i, NAN);
    for (int a = 0; a < 2; a++) {
        for (int64_t i = 0; i < 40; i++) put(w, y, i, 1);
        OK(w->k->linear(w->context, 40, 1, 1, x->data, one->data, NULL, acts[a], NULL, NULL, y->data));
        for (int64_t i = 0; i < 40; i++) assert_true(isnan(get(w, y, i)));
    }
    for (int64_t i = 0; i < 40; i++) put(w, y, i, 1);
    OK(w->k->softmax(w->context, 2, 20, 1, false, x->data, y->data));
    for (int64_t i = 0; i < 40; i++) assert_true(isnan(get(w, y, i)));
    forget(w);
}

static void layernorm_case(world *w, int64_t M, int64_t C, int64_t stride, bool keep, bool accumulate,
                           bool params) {
    array *x = input(w, M * stride), *gamma = input(w, C), *beta = input(w, C), *y = output(w, M * C);
    array *mean = output(w, M), *rstd = output(w, M), *dy = input(w, M * C), *dx = input(w, M * stride);
    array *dgamma = input(w, C), *dbeta = input(w, C);
    ref_layernorm(M, C, x->want, stride, gamma->want, beta->want, y->want, mean->want, rstd->want);
    OK(w->k->layernorm(w->context, M, C, x->data, stride, gamma->data, beta->data, y->data,
                       keep ? mean->data : NULL, keep ? rstd->data : NULL));
    for (int64_t i = 0; i < M && !keep; i++) put(w, mean, i, mean->want[i]), put(w, rstd, i, rstd->want[i]);
    for (int64_t r = 0; r < M; r++) {
        double a = 0, b = 0, *want = dx->want + r * stride;
        for (int64_t i = 0; i < C; i++) {
            double xhat = (x->want[r * stride + i] - mean->want[r]) * rstd->want[r], d = dy->want[r * C + i];
            a += d * gamma->want[i] / (double)C;
            b += d * gamma->want[i] * xhat / (double)C;
            if (params) dgamma->want[i] += d * xhat, dbeta->want[i] += d;
        }
        for (int64_t i = 0; i < C; i++) {
            double xhat = (x->want[r * stride + i] - mean->want[r]) * rstd->want[r];
            double v = rstd->want[r] * (dy->want[r * C + i] * gamma->want[i] - a - xhat * b);
            want[i] = v + (accumulate ? want[i] : 0);
            if (!accumulate) put(w, dx, r * stride + i, NAN);
        }
    }
    OK(w->k->layernorm_backward(w->context, M, C, x->data, stride, gamma->data, mean->data, rstd->data, dy->data,
                                accumulate, dx->data, params ? dgamma->data : NULL, params ? dbeta->data : NULL));
    check(w, 32 + rounding(M)); /* two numbers nearly alike make a steep row */
}

static void layernorm(world *w) {
    static const int64_t shapes[][2] = {{1, 3},    {3, 16},  {5, 31}, {17, 64},
                                        {130, 48}, {2, 257}, {0, 7},  {1500, 8}};
    for (int s = 0; s < COUNT(shapes); s++)
        for (int o = 0; o < 8; o++)
            layernorm_case(w, shapes[s][0], shapes[s][1], shapes[s][1] + 5 * (o % 3), o & 1, o & 2, o & 4);
    /* One number a row: nothing is left of it, and no gradient. */
    array *x = input(w, 2), *g = input(w, 1), *b = input(w, 1), *y = output(w, 2);
    y->want[0] = y->want[1] = b->want[0];
    OK(w->k->layernorm(w->context, 2, 1, x->data, 1, g->data, b->data, y->data, NULL, NULL));
    check(w, 1);
    /* A mean far from 0 keeps the variance. */
    x = input(w, 64), g = input(w, 64), b = input(w, 64), y = output(w, 64);
    array *mean = output(w, 1), *rstd = output(w, 1);
    for (int64_t i = 0; i < 64; i++) put(w, x, i, x->want[i] = 1000 + (double)(i % 7));
    ref_layernorm(1, 64, x->want, 64, g->want, b->want, y->want, mean->want, rstd->want);
    OK(w->k->layernorm(w->context, 1, 64, x->data, 64, g->data, b->data, y->data, mean->data, rstd->data));
    check(w, 200);
}

static void attention_case(world *w, int64_t B, int64_t N, int64_t W, int64_t H, bool keep) {
    array *qkv = input(w, B * N * 3 * W), *out = output(w, B * N * W), *dout = input(w, B * N * W);
    array *probs = output(w, B * H * N * N), *dqkv = output(w, B * N * 3 * W);
    array *lse = output(w, B * H * N), *kept = w->k->keeps_probs ? probs : lse, *other = kept == lse ? probs : lse;
    ref_attention(B, N, W, H, qkv->want, probs->want, out->want);
    ref_attention_backward(B, N, W, H, qkv->want, probs->want, dout->want, dqkv->want);
    ref_lse(B, N, W, H, qkv->want, lse->want);
    for (int64_t i = 0; i < other->n; i++) put(w, other, i, other->want[i]);
    OK(w->k->attention(w->context, B, N, W, H, qkv->data, keep ? kept->data : NULL, out->data));
    for (int64_t i = 0; i < kept->n && !keep; i++) put(w, kept, i, kept->want[i]);
    OK(w->k->attention_backward(w->context, B, N, W, H, qkv->data, kept->data, out->data, dout->data, dqkv->data));
    check(w, 30);
}

static void attention(world *w) {
    static const int64_t shapes[][4] = {{1, 1, 1, 1},    {2, 2, 4, 2},   {3, 17, 128, 4}, {2, 5, 30, 3},
                                        {0, 3, 4, 2},    {1, 64, 32, 2}, {1, 65, 32, 1},  {2, 50, 48, 2},
                                        {1, 197, 26, 2}, {1, 257, 64, 1}};
    for (int s = 0; s < COUNT(shapes) * 2; s++)
        attention_case(w, shapes[s / 2][0], shapes[s / 2][1], shapes[s / 2][2], shapes[s / 2][3], s & 1);
}

/* Token i of a causal attention is the last token of one over tokens 0 … i. */
static void causal_attention(world *w) {
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {2, 2, 4, 2}, {2, 5, 30, 3}, {0, 3, 4, 2},
                                        {2, 17, 128, 4}, {1, 77, 26, 2}};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t B = shapes[s][0], N = shapes[s][1], W = shapes[s][2], H = shapes[s][3];
        array *qkv = input(w, B * N * 3 * W), *out = output(w, B * N * W);
        double *probs = malloc((size_t)(H * N * N) * sizeof *probs);
        double *part = malloc((size_t)(N * W) * sizeof *part);
        assert_true(probs && part);
        for (int64_t b = 0; b < B; b++)
            for (int64_t n = 1; n <= N; n++) {
                ref_attention(1, n, W, H, qkv->want + b * N * 3 * W, probs, part);
                memcpy(out->want + (b * N + n - 1) * W, part + (n - 1) * W, (size_t)W * sizeof *part);
            }
        free(probs);
        free(part);
        OK(w->k->attention_causal(w->context, B, N, W, H, qkv->data, out->data));
        check(w, 30);
    }
}

static void embedding(world *w) {
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {2, 3, 8, 4}, {3, 1, 28, 7},
                                        {2, 3, 6, 2}, {0, 3, 4, 2}, {33, 2, 4, 4}};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t B = shapes[s][0], C = shapes[s][1], S = shapes[s][2], p = shapes[s][3], G = S / p;
        array *images = input(w, B * C * S * S), *patches = output(w, B * C * S * S);
        for (int64_t i = 0; i < images->n; i++) {
            int64_t x = i % S, y = i / S % S, c = i / S / S % C, b = i / S / S / C;
            patches->want[(b * G * G + y / p * G + x / p) * C * p * p + (c * p + y % p) * p + x % p] =
                images->want[i];
        }
        OK(w->k->patches(w->context, B, C, S, p, images->data, patches->data));
        check(w, 0);
    }
    static const int64_t sizes[][3] = {{1, 1, 1}, {2, 2, 3}, {40, 5, 17}, {17, 17, 300}, {0, 3, 4}};
    for (int s = 0; s < COUNT(sizes) * 3; s++) {
        int64_t B = sizes[s / 3][0], N = sizes[s / 3][1], W = sizes[s / 3][2];
        array *embedded = input(w, B * (N - 1) * W), *cls = input(w, W), *pos = input(w, N * W);
        array *x = output(w, B * N * W), *dx = input(w, B * N * W), *de = output(w, B * (N - 1) * W);
        array *dcls = input(w, W), *dpos = input(w, N * W);
        for (int64_t i = 0; i < B * N * W; i++) {
            int64_t q = i % W, n = i / W % N, b = i / W / N, e = (b * (N - 1) + n - 1) * W + q;
            x->want[i] = (n == 0 ? cls->want[q] : embedded->want[e]) + pos->want[n * W + q];
            if (n > 0) de->want[e] = dx->want[i];
            if (n == 0 && s % 3 != 1) dcls->want[q] += dx->want[i];
            if (s % 3 != 2) dpos->want[n * W + q] += dx->want[i];
        }
        OK(w->k->tokens(w->context, B, N, W, embedded->data, cls->data, pos->data, x->data));
        OK(w->k->tokens_backward(w->context, B, N, W, dx->data, de->data, s % 3 == 1 ? NULL : dcls->data,
                                 s % 3 == 2 ? NULL : dpos->data));
        check(w, 8);
    }
}

static void rows(world *w) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 10}, {5, 31}, {70, 100}, {0, 3}, {2, 1000}, {33, 16}};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t M = shapes[s][0], C = shapes[s][1];
        array *x = input(w, M * C), *y = output(w, M * C), *norms = output(w, M), *dy = input(w, M * C);
        array *dx = output(w, M * C);
        for (int64_t i = 0; i < C && M > 2; i++) put(w, x, C + i, x->want[C + i] = 0);
        for (int64_t r = 0; r < M; r++) {
            double sum = 0, dot = 0, *v = y->want + r * C;
            for (int64_t i = 0; i < C; i++) sum += x->want[r * C + i] * x->want[r * C + i];
            norms->want[r] = sqrt(sum);
            for (int64_t i = 0; i < C; i++) v[i] = sum == 0 ? 0 : x->want[r * C + i] / sqrt(sum);
            for (int64_t i = 0; i < C; i++) dot += v[i] * dy->want[r * C + i];
            for (int64_t i = 0; i < C; i++)
                dx->want[r * C + i] = sum == 0 ? 0 : (dy->want[r * C + i] - v[i] * dot) / sqrt(sum);
        }
        OK(w->k->normalize(w->context, M, C, x->data, y->data, norms->data));
        OK(w->k->normalize_backward(w->context, M, C, y->data, norms->data, dy->data, dx->data));
        check(w, 60); /* a row of one small number has a steep gradient */
        static const double scales[] = {1, 0.3, -2, 40};
        for (int o = 0; o < 16; o++) {
            x = input(w, M * C);
            y = o & 4 ? x : output(w, M * C);
            ref_softmax(M, C, scales[o / 4], o & 1, x->want, y->want);
            OK(w->k->softmax(w->context, M, C, scales[o / 4], o & 1, x->data, y->data));
            check(w, 8 + 4 * fabs(scales[o / 4]));
        }
    }
    /* Far apart, and minus infinity: nothing overflows, what is impossible has probability 0. */
    array *x = input(w, 20), *y = output(w, 20);
    for (int64_t i = 0; i < 20; i++) put(w, x, i, x->want[i] = i == 3 ? 30000 : i == 4 ? -INFINITY : (double)i);
    for (int64_t i = 0; i < 20; i++) y->want[i] = i == 3;
    OK(w->k->softmax(w->context, 1, 20, 1, false, x->data, y->data));
    assert_true(get(w, y, 4) == 0);
    put(w, x, 4, x->want[4] = 0);
    check(w, 1);
}

static const kernel_case cases[] = {
    {"gemm", gemm, {NEEDS(gemm)}},
    {"linear", linear, {NEEDS(linear), NEEDS(linear_backward_input), NEEDS(linear_backward_weight)}},
    {"activations", activations, {NEEDS(linear), NEEDS(linear_backward_input), NEEDS(softmax)}},
    {"layernorm", layernorm, {NEEDS(layernorm), NEEDS(layernorm_backward)}},
    {"attention", attention, {NEEDS(attention), NEEDS(attention_backward)}},
    {"embedding", embedding, {NEEDS(patches), NEEDS(tokens), NEEDS(tokens_backward)}},
    {"rows", rows, {NEEDS(normalize), NEEDS(normalize_backward), NEEDS(softmax)}},
    {"causal attention", causal_attention, {NEEDS(attention_causal)}},
};

static void every_table(void **state) {
    run_cases(cases, COUNT(cases));
    (void)state;
}

static void on_a_device(void **state) {
    run_cases_there(cases, COUNT(cases));
    (void)state;
}

/* ---- choice, cancel ---- */

static void choice(void **state) {
    distac_context *context = NULL;
    distac_context_desc desc = {.threads = 1, .kernels = "sse9"};
    assert_int_equal(distac_context_create(&desc, &context), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "sse9"));
    assert_non_null(strstr(distac_last_error(), "avx512"));
    desc.kernels = "auto";
    OK(distac_context_create(&desc, &context));
    assert_non_null(di_kernels_for(context, DISTAC_F32));
    assert_int_equal(di_kernels_for(context, DISTAC_F32)->dtype, DISTAC_F32);
    assert_int_equal(di_kernels_for(context, DISTAC_F64)->dtype, DISTAC_F64);
    assert_null(di_kernels_for(context, DISTAC_F16));
    distac_device_info info;
    OK(di_backend_cpu.device_info(0, &info));
    assert_string_equal(info.name, "cpu");
    assert_true(info.memory > 0 && info.units > 0);
    assert_int_equal(di_backend_cpu.device_info(1, &info), DISTAC_EINVAL);
    distac_context_release(context);
    (void)state;
}

static void cancel(void **state) {
    distac_context *context = NULL;
    OK(distac_context_create(NULL, &context));
    float x[64] = {0};
    distac_cancel(context);
    assert_int_equal(di_kernels_for(context, DISTAC_F32)->axpby(context, 64, 1, x, 1, x), DISTAC_ECANCELED);
    distac_cancel_clear(context);
    OK(di_kernels_for(context, DISTAC_F32)->axpby(context, 64, 1, x, 1, x));
    distac_context_release(context);
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_table), cmocka_unit_test(on_a_device),
                                       cmocka_unit_test(choice), cmocka_unit_test(cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
