/* test_kernels.c: every entry of every kernel table that this processor runs, for both types, against naive references
 * in double: sizes from 1 over odd ones to several tiles, what is added to and what is overwritten, guard words, the
 * same bits on any number of threads, and gradients against finite differences in double. */
#include "kernel_reference.h"

#include <float.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
#define OK(call) assert_int_equal((call), DISTAC_OK)

/* Roundings of a sum of k products of numbers up to 1.5, in units of the last place: partial sums grow like sqrt(k),
 * and so does the number of their errors that do not cancel. */
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

static void linear_case(world *w, int64_t M, int64_t N, int64_t K, int32_t act, bool bias, bool keep, int residual) {
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
                    residual == 1 ? r->data : residual == 2 ? y->data : NULL, y->data));
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
    static const int64_t shapes[][3] = {{1, 1, 1},   {2, 3, 5},    {17, 33, 31},  {64, 16, 48},  {130, 70, 65},
                                        {0, 5, 4},   {700, 96, 24}, {5, 700, 300}, {65, 1, 129}, {66, 130, 530}};
    static const int32_t acts[] = {DI_ACT_NONE, DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t M = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
        for (int a = 0; a < 3; a++) {
            for (int o = 0; o < 4; o++) linear_case(w, M, N, K, acts[a], o & 1, a > 0 && (o & 2), 0);
            for (int o = 0; o < 2; o++) backward_input_case(w, M, N, K, acts[a], o);
        }
        for (int o = 0; o < 4; o++) linear_case(w, M, N, K, DI_ACT_NONE, o & 1, false, 1 + (o >> 1));
        for (int o = 0; o < 4; o++) backward_weight_case(w, M, N, K, o & 1, o & 2);
    }
}

/* The activations over all of their range, relative to the small side: bias 0, K 1, weight 1 makes linear the function. */
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
            /* A rounded argument of exp or erfc costs more the further out: QuickGELU's 1.702 x, double's x/sqrt 2. */
            double allowed = w->f64 ? 1e-15 * (1 + v * v) : acts[a] == DISTAC_ACT_GELU ? 4.2e-7 : 4.2e-7 * (1 + fabs(v));
            if (!(fabs(get(w, y, i) - value) <= allowed * fabs(value) + 1e-37))
                fail_msg("%s: activation %d at %g is %.10g, not %.10g", w->k->name, acts[a], v, get(w, y, i), value);
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

static void layernorm_case(world *w, int64_t M, int64_t C, int64_t stride, bool keep, bool accumulate, bool params) {
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
    static const int64_t shapes[][2] = {{1, 3}, {3, 16}, {5, 31}, {17, 64}, {130, 48}, {2, 257}, {0, 7}, {1500, 8}};
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
    ref_attention(B, N, W, H, qkv->want, probs->want, out->want);
    ref_attention_backward(B, N, W, H, qkv->want, probs->want, dout->want, dqkv->want);
    OK(w->k->attention(w->context, B, N, W, H, qkv->data, keep ? probs->data : NULL, out->data));
    for (int64_t i = 0; i < probs->n && !keep; i++) put(w, probs, i, probs->want[i]);
    OK(w->k->attention_backward(w->context, B, N, W, H, qkv->data, probs->data, dout->data, dqkv->data));
    check(w, 30);
}

static void attention(world *w) {
    static const int64_t shapes[][4] = {{1, 1, 1, 1},   {2, 2, 4, 2},  {3, 17, 128, 4}, {2, 5, 30, 3}, {0, 3, 4, 2},
                                        {1, 64, 32, 2}, {1, 65, 32, 1}, {2, 50, 48, 2},  {1, 197, 26, 2}, {1, 257, 64, 1}};
    for (int s = 0; s < COUNT(shapes) * 2; s++)
        attention_case(w, shapes[s / 2][0], shapes[s / 2][1], shapes[s / 2][2], shapes[s / 2][3], s & 1);
}

static void embedding(world *w) {
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {2, 3, 8, 4}, {3, 1, 28, 7}, {2, 3, 6, 2}, {0, 3, 4, 2}, {33, 2, 4, 4}};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t B = shapes[s][0], C = shapes[s][1], S = shapes[s][2], p = shapes[s][3], G = S / p;
        array *images = input(w, B * C * S * S), *patches = output(w, B * C * S * S);
        for (int64_t i = 0; i < images->n; i++) {
            int64_t x = i % S, y = i / S % S, c = i / S / S % C, b = i / S / S / C;
            patches->want[(b * G * G + y / p * G + x / p) * C * p * p + (c * p + y % p) * p + x % p] = images->want[i];
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

static void sums_are(world *w, const char *what, double got, double want, double magnitude) {
    if (!(fabs(got - want) <= 1e-12 * (magnitude + 1e-30)))
        fail_msg("%s, %s: sum is %.17g, not %.17g", w->k->name, what, got, want);
    w->digest = (w->digest ^ (uint64_t)(got * 1e6)) * 1099511628211u;
}

static void flat(world *w) {
    static const int64_t sizes[] = {0, 1, 15, 64, 1001, 32768, 100003};
    static const double factors[][2] = {{1, 1}, {0.5, -2}, {-1, 0}, {0, 3}, {0, 0}, {2, 1}};
    for (int s = 0; s < COUNT(sizes); s++) {
        int64_t n = sizes[s];
        for (int f = 0; f < COUNT(factors); f++) {
            double a = factors[f][0], b = factors[f][1];
            array *x = input(w, n), *y = b == 0 ? output(w, n) : input(w, n);
            for (int64_t i = 0; i < n; i++) y->want[i] = a * x->want[i] + b * y->want[i];
            OK(w->k->axpby(w->context, n, a, a == 0 ? NULL : x->data, b, y->data));
            check(w, 1);
        }
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
        if (!(fabs(distance - away) <= (w->f64 ? 1e-12 : 1e-6) * (away + 1e-30))) fail_msg("%s: anchor", w->k->name);
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
    array *x = input(w, 3000000);
    double got = NAN;
    for (int64_t i = 0; i < x->n; i++) put(w, x, i, 16 + 1.0 / 1024);
    OK(w->k->sumsq(w->context, x->n, x->data, &got));
    double one = 16 + 1.0 / 1024;
    sums_are(w, "long sum", got, 3000000.0 * one * one, got);
    forget(w);
}

static void adamw(world *w) {
    static const int64_t sizes[] = {0, 1, 17, 1000, 70001};
    for (int s = 0; s < COUNT(sizes) * 4; s++) {
        int64_t n = sizes[s / 4], t = s % 4 == 0 ? 1 : 5 * s;
        bool coupled = s & 1;
        double lr = 1e-2, b1 = 0.9, b2 = 0.999, eps = 1e-8, wd = s & 2 ? 0.1 : 0, scale = s % 3 ? 1 : 0.25;
        array *g = input(w, n), *m = input(w, n), *v = input(w, n), *theta = input(w, n);
        for (int64_t i = 0; i < n; i++) put(w, v, i, fabs(v->want[i]) + 0.01), v->want[i] = get(w, v, i);
        OK(w->k->adamw(w->context, n, t, lr, b1, b2, eps, wd, coupled, scale, g->data, m->data, v->data, theta->data));
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

typedef struct kernel_case {
    const char *name;
    void (*run)(world *w);
} kernel_case;
static const kernel_case cases[] = {{"gemm", gemm},           {"linear", linear},       {"activations", activations},
                                    {"layernorm", layernorm}, {"attention", attention}, {"embedding", embedding},
                                    {"rows", rows},           {"flat", flat},           {"adamw", adamw}};

/* ---- driver ---- */

static const char *const sets[] = {"scalar", "avx2", "avx512"};

/* False if this processor does not have the instruction set. */
static bool open_world(world *w, const char *set, int32_t threads, bool f64) {
    distac_context_desc desc = {.threads = threads, .kernels = set};
    distac_status status = distac_context_create(&desc, &w->context);
    if (status == DISTAC_EUNSUPPORTED) return false;
    OK(status);
    w->k = di_kernels_for(w->context, f64 ? DISTAC_F64 : DISTAC_F32);
    assert_non_null(w->k);
    w->f64 = f64;
    w->tolerance = f64 ? DBL_EPSILON : (double)FLT_EPSILON;
    w->digest = 14695981039346656037u;
    w->seed = 1;
    w->count = 0;
    return true;
}

static void every_table(void **state) {
    static const int32_t threads[] = {1, 2, 3, 8};
    int tables = 0;
    for (int t = 0; t < COUNT(sets) * 2; t++) {
        uint64_t first[COUNT(cases)];
        for (int n = 0; n < COUNT(threads); n++) {
            world w;
            if (!open_world(&w, sets[t / 2], threads[n], t & 1)) break;
            for (int i = 0; i < COUNT(cases); i++) {
                w.what = cases[i].name;
                w.digest = 14695981039346656037u;
                cases[i].run(&w);
                if (n == 0) first[i] = w.digest;
                if (w.digest != first[i])
                    fail_msg("%s, %s: other bits on %d threads than on 1", w.k->name, w.what, (int)threads[n]);
            }
            tables += n == 0;
            distac_context_release(w.context);
        }
    }
    assert_true(tables >= 2);
    (void)state;
}

/* ---- finite differences, in double ---- */

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
            fail_msg("%s, %s: gradient %lld of input %d is %.12g, differences say %.12g", p->w->k->name, p->w->what,
                     (long long)i, q, got, slope);
    }
}

static void linear_forward(const probe *p) {
    OK(p->w->k->linear(p->w->context, p->a, p->b, p->c, p->in[0]->data, p->in[1]->data, p->in[2]->data, DI_ACT_NONE,
                       NULL, NULL, p->out->data));
}
/* act(in) through a linear layer */
static void activated_forward(const probe *p) {
    array *hidden = p->in[3];
    for (int64_t i = 0; i < hidden->n; i++) put(p->w, hidden, i, act_value((int32_t)p->d, get(p->w, p->in[0], i)));
    OK(p->w->k->linear(p->w->context, p->a, p->b, p->c, hidden->data, p->in[1]->data, NULL, DI_ACT_NONE, NULL, NULL,
                       p->out->data));
}
static void layernorm_forward(const probe *p) {
    OK(p->w->k->layernorm(p->w->context, p->a, p->b, p->in[0]->data, p->b, p->in[1]->data, p->in[2]->data,
                          p->out->data, NULL, NULL));
}
static void attention_forward(const probe *p) {
    OK(p->w->k->attention(p->w->context, p->a, p->b, p->c, p->d, p->in[0]->data, NULL, p->out->data));
}
static void tokens_forward(const probe *p) {
    OK(p->w->k->tokens(p->w->context, p->a, p->b, p->c, p->in[0]->data, p->in[1]->data, p->in[2]->data, p->out->data));
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
        probe p = {.w = &w, .a = 5, .b = 7, .c = 9, .in = {input(&w, 45), input(&w, 63), input(&w, 7)},
                   .out = output(&w, 35), .weight = input(&w, 35)};
        array *dx = output(&w, 45), *dw = zeros(&w, 63), *db = zeros(&w, 7);
        OK(k->linear_backward_input(c, 5, 7, 9, p.weight->data, p.in[1]->data, DI_ACT_NONE, NULL, false, dx->data));
        OK(k->linear_backward_weight(c, 5, 7, 9, p.in[0]->data, p.weight->data, dw->data, db->data));
        differs(&p, linear_forward, 0, dx);
        differs(&p, linear_forward, 1, dw);
        differs(&p, linear_forward, 2, db);
        for (int act = 0; act < 2; act++) {
            w.what = act == DISTAC_ACT_GELU ? "gelu" : "quick_gelu";
            p.d = act;
            p.in[3] = zeros(&w, 45);
            OK(k->linear_backward_input(c, 5, 7, 9, p.weight->data, p.in[1]->data, act, p.in[0]->data, false, dx->data));
            differs(&p, activated_forward, 0, dx);
        }
        forget(&w);

        w.what = "layernorm";
        p = (probe){.w = &w, .a = 4, .b = 11, .in = {input(&w, 44), input(&w, 11), input(&w, 11)},
                    .out = output(&w, 44), .weight = input(&w, 44)};
        array *mean = output(&w, 4), *rstd = output(&w, 4);
        dx = output(&w, 44), dw = zeros(&w, 11), db = zeros(&w, 11);
        OK(k->layernorm(c, 4, 11, p.in[0]->data, 11, p.in[1]->data, p.in[2]->data, p.out->data, mean->data, rstd->data));
        OK(k->layernorm_backward(c, 4, 11, p.in[0]->data, 11, p.in[1]->data, mean->data, rstd->data, p.weight->data,
                                 false, dx->data, dw->data, db->data));
        differs(&p, layernorm_forward, 0, dx);
        differs(&p, layernorm_forward, 1, dw);
        differs(&p, layernorm_forward, 2, db);
        forget(&w);

        static const int64_t shapes[][4] = {{2, 5, 6, 2}, {1, 9, 32, 2}, {1, 66, 2, 1}};
        for (int s = 0; s < COUNT(shapes); s++) {
            int64_t B = shapes[s][0], N = shapes[s][1], W = shapes[s][2], H = shapes[s][3];
            w.what = "attention";
            p = (probe){.w = &w, .a = B, .b = N, .c = W, .d = H, .in = {input(&w, B * N * 3 * W)},
                        .out = output(&w, B * N * W), .weight = input(&w, B * N * W)};
            array *probs = output(&w, B * H * N * N);
            dx = output(&w, B * N * 3 * W);
            OK(k->attention(c, B, N, W, H, p.in[0]->data, probs->data, p.out->data));
            OK(k->attention_backward(c, B, N, W, H, p.in[0]->data, probs->data, p.weight->data, dx->data));
            differs(&p, attention_forward, 0, dx);
            forget(&w);
        }

        w.what = "tokens";
        p = (probe){.w = &w, .a = 3, .b = 4, .c = 5, .in = {input(&w, 45), input(&w, 5), input(&w, 20)},
                    .out = output(&w, 60), .weight = input(&w, 60)};
        dx = output(&w, 45), dw = zeros(&w, 5), db = zeros(&w, 20);
        OK(k->tokens_backward(c, 3, 4, 5, p.weight->data, dx->data, dw->data, db->data));
        differs(&p, tokens_forward, 0, dx);
        differs(&p, tokens_forward, 1, dw);
        differs(&p, tokens_forward, 2, db);
        forget(&w);

        w.what = "normalize";
        p = (probe){.w = &w, .a = 3, .b = 9, .in = {input(&w, 27), NULL, NULL, output(&w, 3)},
                    .out = output(&w, 27), .weight = input(&w, 27)};
        dx = output(&w, 27);
        OK(k->normalize(c, 3, 9, p.in[0]->data, p.out->data, p.in[3]->data));
        OK(k->normalize_backward(c, 3, 9, p.out->data, p.in[3]->data, p.weight->data, dx->data));
        differs(&p, normalize_forward, 0, dx);
        forget(&w);
        distac_context_release(c);
    }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_table), cmocka_unit_test(gradients),
                                       cmocka_unit_test(choice), cmocka_unit_test(cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
