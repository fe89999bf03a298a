/* test_kernels_narrow.c: the entries of a device's table in bfloat16 against naive references in double on the
 * rounded inputs: odd sizes and whole tiles, what is added to and what is overwritten, guard words, the same bits
 * in every run. Skipped where there is no device that computes so. */
#include "kernel_reference.h"

/* bfloat16 or float; `want` in double. */
typedef struct narrow_array {
    bool half;
    int64_t n;
    double *want;
    unsigned char *memory, *there;
    size_t bytes; /* with guards */
    void *data;   /* on the device */
} narrow_array;

typedef struct bed {
    distac_context *context;
    const di_kernels *k;
    uint64_t seed, digest;
    narrow_array list[32];
    int count;
} bed;

static float from_bits(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}
static uint16_t to_bits(float value) { /* to nearest, ties to even; NaN stays */
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    if (value != value) return 0x7fff;
    return (uint16_t)((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

static double value_at(const narrow_array *a, int64_t i) {
    const unsigned char *at = a->memory + GUARD;
    return a->half ? (double)from_bits(((const uint16_t *)(const void *)at)[i])
                   : (double)((const float *)(const void *)at)[i];
}
static void set_at(narrow_array *a, int64_t i, double value) {
    unsigned char *at = a->memory + GUARD;
    if (a->half) ((uint16_t *)(void *)at)[i] = to_bits((float)value);
    else ((float *)(void *)at)[i] = (float)value;
}

static narrow_array *fresh(bed *b, bool half, int64_t n) {
    assert_true(b->count < COUNT(b->list));
    narrow_array *a = &b->list[b->count++];
    *a = (narrow_array){.half = half, .n = n, .bytes = (size_t)n * (half ? 2 : 4) + 2 * GUARD};
    a->want = calloc((size_t)n + 1, sizeof *a->want);
    a->memory = malloc(a->bytes);
    a->there = di_there_alloc(b->context, a->bytes);
    assert_true(a->want && a->memory && a->there);
    memset(a->memory, 0xA5, a->bytes);
    a->data = a->there + GUARD;
    for (int64_t i = 0; i < n; i++) set_at(a, i, NAN);
    return a;
}
/* Numbers around 0; `want` holds them as rounded. */
static narrow_array *given(bed *b, bool half, int64_t n) {
    narrow_array *a = fresh(b, half, n);
    for (int64_t i = 0; i < n; i++) {
        b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
        set_at(a, i, ((double)(b->seed >> 40) / 16777216.0 - 0.5) * 3);
        a->want[i] = value_at(a, i);
    }
    return a;
}
static void rounded_want(narrow_array *a) {
    for (int64_t i = 0; i < a->n && a->half; i++) a->want[i] = (double)from_bits(to_bits((float)a->want[i]));
}

static void there(bed *b) {
    for (int i = 0; i < b->count; i++)
        assert_int_equal(di_there_put(b->context, b->list[i].there, b->list[i].memory, b->list[i].bytes),
                         DISTAC_OK);
}
#define RUN(b, call)                                                                                              \
    do {                                                                                                          \
        there(b);                                                                                                 \
        if ((call) != DISTAC_OK) fail_msg("%s", distac_last_error());                                             \
    } while (0)

/* Everything is as wanted: of each array the errors are at most
 * `part` of its size, together and each of the largest. */
static void expect(bed *b, const char *what, double part) {
    for (int q = 0; q < b->count; q++) {
        narrow_array *a = &b->list[q];
        double apart = 0, size = 0, worst = 0, largest = 0;
        assert_int_equal(di_there_get(b->context, a->memory, a->there, a->bytes), DISTAC_OK);
        for (size_t i = 0; i < GUARD; i++)
            if (a->memory[i] != 0xA5 || a->memory[a->bytes - 1 - i] != 0xA5)
                fail_msg("%s: array %d is written outside", what, q);
        for (int64_t i = 0; i < a->n; i++) {
            double error = value_at(a, i) - a->want[i];
            if (!(fabs(error) < 1e30)) fail_msg("%s: array %d[%lld] is %g", what, q, (long long)i, value_at(a, i));
            apart += error * error, size += a->want[i] * a->want[i];
            worst = fmax(worst, fabs(error)), largest = fmax(largest, fabs(a->want[i]));
        }
        if (!(sqrt(apart) <= part * sqrt(size) + 1e-6) || !(worst <= 2 * part * largest + 1e-6))
            fail_msg("%s: array %d of %lld is %.4f of its size away, at worst %.4f of its largest", what, q,
                     (long long)a->n, sqrt(apart / size), worst / largest);
        for (size_t i = 0; i < a->bytes; i++) b->digest = (b->digest ^ a->memory[i]) * 1099511628211u;
        free(a->want);
        free(a->memory);
        di_there_free(b->context, a->there, a->bytes);
    }
    b->count = 0;
}

enum { HALF = true, FULL = false };
#define ROUNDED 0.008 /* two roundings to bfloat16 */

/* ---- linear layers ---- */

static void linear_case(bed *b, int64_t M, int64_t N, int64_t K, int32_t act, bool bias, bool keep, int residual) {
    narrow_array *x = given(b, HALF, M * K), *w = given(b, HALF, N * K), *c = given(b, HALF, N),
                 *r = given(b, HALF, M * N);
    narrow_array *y = residual == 2 ? given(b, HALF, M * N) : fresh(b, HALF, M * N);
    narrow_array *pre = keep ? fresh(b, HALF, M * N) : NULL;
    const double *add = residual == 1 ? r->want : residual == 2 ? y->want : NULL;
    double *sum = malloc((size_t)(M * N + 1) * sizeof *sum);
    assert_non_null(sum);
    ref_gemm(false, true, M, N, K, 1, x->want, K, w->want, K, 0, sum, N);
    for (int64_t i = 0; i < M * N; i++) {
        double v = sum[i] + (bias ? c->want[i % N] : 0) + (add ? add[i] : 0);
        if (pre) pre->want[i] = v;
        y->want[i] = act_value(act, act == DI_ACT_NONE ? v : (double)from_bits(to_bits((float)v)));
    }
    free(sum);
    RUN(b, b->k->linear(b->context, M, N, K, x->data, w->data, bias ? c->data : NULL, act, pre ? pre->data : NULL,
                        residual == 1 ? r->data : residual == 2 ? y->data : NULL, y->data));
    expect(b, "linear", ROUNDED);
}

static void backward_case(bed *b, int64_t M, int64_t N, int64_t K, int32_t act, bool accumulate) {
    narrow_array *dy = given(b, HALF, M * N), *w = given(b, HALF, N * K), *pre = given(b, HALF, M * K);
    narrow_array *dx = accumulate ? given(b, HALF, M * K) : fresh(b, HALF, M * K);
    ref_gemm(false, false, M, K, N, 1, dy->want, N, w->want, K, accumulate, dx->want, K);
    for (int64_t i = 0; i < M * K; i++) dx->want[i] *= act_slope(act, pre->want[i]);
    RUN(b, b->k->linear_backward_input(b->context, M, N, K, dy->data, w->data, act,
                                       act == DI_ACT_NONE ? NULL : pre->data, accumulate, dx->data));
    expect(b, "linear_backward_input", ROUNDED);
    narrow_array *x = given(b, HALF, M * K), *dw = given(b, FULL, N * K), *db = given(b, FULL, N);
    dy = given(b, HALF, M * N);
    ref_gemm(true, false, N, K, M, 1, dy->want, N, x->want, K, 1, dw->want, K);
    for (int64_t i = 0; i < M * N && accumulate; i++) db->want[i % N] += dy->want[i];
    RUN(b, b->k->linear_backward_weight(b->context, M, N, K, x->data, dy->data, dw->data,
                                        accumulate ? db->data : NULL));
    expect(b, "linear_backward_weight", 1e-5); /* sums in float of exact products */
}

static void linear(bed *b) {
    static const int64_t shapes[][3] = {{1, 1, 1},    {2, 3, 5},    {17, 33, 31}, {64, 16, 48},
                                        {50, 40, 24}, {0, 5, 4},    {600, 24, 8}, {65, 8, 129}};
    static const int32_t acts[] = {DI_ACT_NONE, DISTAC_ACT_GELU, DISTAC_ACT_QUICK_GELU};
    for (int s = 0; s < COUNT(shapes); s++) {
        int64_t M = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
        for (int a = 0; a < 3; a++) {
            for (int o = 0; o < 4; o++) linear_case(b, M, N, K, acts[a], o & 1, a > 0 && (o & 2), 0);
            for (int o = 0; o < 2; o++) backward_case(b, M, N, K, acts[a], o);
        }
        for (int o = 0; o < 4; o++) linear_case(b, M, N, K, DI_ACT_NONE, o & 1, false, 1 + (o >> 1));
    }
}

/* ---- LayerNorm ---- */

static void layernorm_case(bed *b, int64_t M, int64_t C, int64_t stride, bool accumulate) {
    narrow_array *x = given(b, HALF, M * stride), *g = given(b, FULL, C), *c = given(b, FULL, C),
                 *y = fresh(b, HALF, M * C);
    narrow_array *mean = fresh(b, FULL, M), *rstd = fresh(b, FULL, M), *dy = given(b, HALF, M * C);
    narrow_array *dx = given(b, HALF, M * stride), *dg = given(b, FULL, C), *db = given(b, FULL, C);
    ref_layernorm(M, C, x->want, stride, g->want, c->want, y->want, mean->want, rstd->want);
    for (int64_t r = 0; r < M; r++) {
        double p = 0, q = 0, *to = dx->want + r * stride;
        for (int64_t i = 0; i < C; i++) {
            double xhat = (x->want[r * stride + i] - mean->want[r]) * rstd->want[r], d = dy->want[r * C + i];
            p += d * g->want[i] / (double)C, q += d * g->want[i] * xhat / (double)C;
            dg->want[i] += d * xhat, db->want[i] += d;
        }
        for (int64_t i = 0; i < C; i++) {
            double xhat = (x->want[r * stride + i] - mean->want[r]) * rstd->want[r];
            to[i] = rstd->want[r] * (dy->want[r * C + i] * g->want[i] - p - xhat * q) + (accumulate ? to[i] : 0);
        }
    }
    there(b);
    if (b->k->layernorm(b->context, M, C, x->data, stride, g->data, c->data, y->data, mean->data, rstd->data) ||
        b->k->layernorm_backward(b->context, M, C, x->data, stride, g->data, mean->data, rstd->data, dy->data,
                                 accumulate, dx->data, dg->data, db->data))
        fail_msg("%s", distac_last_error());
    expect(b, "layernorm", ROUNDED);
}

static void layernorm(bed *b) {
    static const int64_t shapes[][3] = {{1, 3, 3},   {5, 31, 31},   {17, 64, 64}, {130, 48, 48},
                                        {6, 24, 40}, {2, 257, 260}, {0, 7, 7},    {300, 8, 8}};
    for (int s = 0; s < COUNT(shapes) * 2; s++)
        layernorm_case(b, shapes[s / 2][0], shapes[s / 2][1], shapes[s / 2][2], s & 1);
}

/* ---- attention ---- */

static void attention_case(bed *b, int64_t B, int64_t N, int64_t W, int64_t H) {
    char name[96];
    snprintf(name, sizeof name, "attention of [%lld,%lld,%lld], %lld heads", (long long)B, (long long)N,
             (long long)W, (long long)H);
    narrow_array *qkv = given(b, HALF, B * N * 3 * W), *out = fresh(b, HALF, B * N * W),
                 *lse = fresh(b, FULL, B * H * N);
    narrow_array *dout = given(b, HALF, B * N * W), *dqkv = fresh(b, HALF, B * N * 3 * W);
    double *probs = malloc((size_t)(B * H * N * N + 1) * sizeof *probs);
    assert_non_null(probs);
    ref_attention(B, N, W, H, qkv->want, probs, out->want);
    ref_attention_backward(B, N, W, H, qkv->want, probs, dout->want, dqkv->want);
    ref_lse(B, N, W, H, qkv->want, lse->want);
    free(probs);
    there(b);
    if (b->k->attention(b->context, B, N, W, H, qkv->data, lse->data, out->data) ||
        b->k->attention_backward(b->context, B, N, W, H, qkv->data, lse->data, out->data, dout->data, dqkv->data))
        fail_msg("%s", distac_last_error());
    expect(b, name, ROUNDED);
    qkv = given(b, HALF, B * N * 3 * W), out = fresh(b, HALF, B * N * W); /* without what the gradient needs */
    probs = malloc((size_t)(B * H * N * N + 1) * sizeof *probs);
    assert_non_null(probs);
    ref_attention(B, N, W, H, qkv->want, probs, out->want);
    free(probs);
    RUN(b, b->k->attention(b->context, B, N, W, H, qkv->data, NULL, out->data));
    expect(b, name, ROUNDED);
}

static void attention(bed *b) {
    /* Widths of heads 64 and less in eights are the tensor cores'; 10 and 80 are not. */
    static const int64_t shapes[][4] = {{2, 50, 128, 2}, {1, 257, 64, 1}, {1, 1, 64, 1},  {2, 16, 64, 1},
                                        {1, 17, 64, 1},  {1, 63, 128, 2}, {1, 64, 64, 1}, {1, 65, 64, 1},
                                        {1, 127, 64, 1}, {1, 129, 48, 2}, {3, 5, 24, 3},  {2, 33, 64, 2},
                                        {1, 81, 112, 2}, {2, 5, 30, 3},   {1, 7, 160, 2}, {0, 3, 64, 1}};
    for (int s = 0; s < COUNT(shapes); s++)
        attention_case(b, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
    /* What is not a number is not one afterwards. */
    narrow_array *qkv = given(b, HALF, 20 * 192), *out = fresh(b, HALF, 20 * 64);
    set_at(qkv, 3 * 192 + 70, NAN); /* in a key */
    RUN(b, b->k->attention(b->context, 1, 20, 64, 1, qkv->data, NULL, out->data));
    assert_int_equal(di_there_get(b->context, out->memory, out->there, out->bytes), DISTAC_OK);
    for (int64_t i = 0; i < out->n; i++) assert_true(isnan(value_at(out, i)));
    for (int q = 0; q < 2; q++)
        for (int64_t i = 0; i < b->list[q].n; i++) set_at(&b->list[q], i, b->list[q].want[i] = 0);
    there(b);
    expect(b, "attention", 1);
}

/* ---- images to tokens, rows, and the way out ---- */

static void embedding(bed *b) {
    static const int64_t images[][4] = {{1, 1, 1, 1}, {2, 3, 8, 4}, {3, 1, 14, 7}};
    for (int s = 0; s < COUNT(images); s++) {
        int64_t B = images[s][0], C = images[s][1], S = images[s][2], p = images[s][3], G = S / p;
        narrow_array *from = given(b, FULL, B * C * S * S), *to = fresh(b, HALF, B * C * S * S);
        for (int64_t i = 0; i < from->n; i++) {
            int64_t x = i % S, y = i / S % S, c = i / S / S % C, n = i / S / S / C;
            to->want[(n * G * G + y / p * G + x / p) * C * p * p + (c * p + y % p) * p + x % p] = from->want[i];
        }
        rounded_want(to);
        RUN(b, b->k->patches(b->context, B, C, S, p, from->data, to->data));
        expect(b, "patches", 0);
    }
    static const int64_t sizes[][3] = {{1, 1, 1}, {2, 2, 3}, {40, 5, 17}, {3, 50, 16}};
    for (int s = 0; s < COUNT(sizes); s++) {
        int64_t B = sizes[s][0], N = sizes[s][1], W = sizes[s][2];
        narrow_array *e = given(b, HALF, B * (N - 1) * W), *cls = given(b, FULL, W), *pos = given(b, FULL, N * W);
        narrow_array *x = fresh(b, HALF, B * N * W), *first = fresh(b, HALF, B * W);
        for (int64_t i = 0; i < B * N * W; i++) {
            int64_t w = i % W, t = i / W % N, n = i / (W * N);
            x->want[i] = (t == 0 ? cls->want[w] : e->want[(n * (N - 1) + t - 1) * W + w]) + pos->want[t * W + w];
        }
        rounded_want(x);
        for (int64_t i = 0; i < B * W; i++) first->want[i] = x->want[i / W * N * W + i % W];
        there(b);
        if (b->k->tokens(b->context, B, N, W, e->data, cls->data, pos->data, x->data) ||
            b->k->rows_first(b->context, B, N, W, x->data, first->data))
            fail_msg("%s", distac_last_error());
        expect(b, "tokens", 1e-4); /* added in float, then rounded: ties may fall to the other side */
        narrow_array *dx = given(b, HALF, B * N * W), *de = fresh(b, HALF, B * (N - 1) * W),
                     *dfirst = given(b, HALF, B * W);
        narrow_array *dcls = given(b, FULL, W), *dpos = given(b, FULL, N * W), *spread = fresh(b, HALF, B * N * W);
        for (int64_t i = 0; i < B * N * W; i++) {
            int64_t w = i % W, t = i / W % N, n = i / (W * N);
            dpos->want[t * W + w] += dx->want[i];
            if (t == 0) dcls->want[w] += dx->want[i];
            else de->want[(n * (N - 1) + t - 1) * W + w] = dx->want[i];
            spread->want[i] = t == 0 ? dfirst->want[n * W + w] : 0;
        }
        there(b);
        if (b->k->tokens_backward(b->context, B, N, W, dx->data, de->data, dcls->data, dpos->data) ||
            b->k->rows_first_backward(b->context, B, N, W, dfirst->data, spread->data))
            fail_msg("%s", distac_last_error());
        expect(b, "tokens_backward", 1e-6);
    }
}

static void project(bed *b) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {5, 12, 24}, {9, 7, 33}, {0, 4, 8}};
    for (int s = 0; s < COUNT(sizes); s++) {
        int64_t B = sizes[s][0], D = sizes[s][1], W = sizes[s][2];
        narrow_array *x = given(b, HALF, B * W), *proj = given(b, FULL, W * D), *y = fresh(b, FULL, B * D);
        ref_gemm(false, false, B, D, W, 1, x->want, W, proj->want, D, 0, y->want, D);
        RUN(b, b->k->project(b->context, B, D, W, x->data, proj->data, y->data));
        expect(b, "project", 1e-5);
        x = given(b, HALF, B * W), proj = given(b, FULL, W * D);
        narrow_array *dy = given(b, FULL, B * D), *dx = fresh(b, HALF, B * W), *dproj = given(b, FULL, W * D);
        ref_gemm(true, false, W, D, B, 1, x->want, W, dy->want, D, 1, dproj->want, D);
        ref_gemm(false, true, B, W, D, 1, dy->want, D, proj->want, D, 0, dx->want, W);
        RUN(b, b->k->project_backward(b->context, B, D, W, x->data, proj->data, dy->data, dx->data, dproj->data));
        expect(b, "project_backward", ROUNDED);
    }
}

/* An update leaves the parameters rounded in the copy; a refused one touches neither. */
static void update(bed *b) {
    enum { N = 4099 };
    const di_adamw rule = {
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .scale = 1, .limit = 1e18};
    for (int refused = 0; refused < 2; refused++) {
        narrow_array *g = given(b, FULL, N), *m = given(b, FULL, N), *v = given(b, FULL, N),
                     *theta = given(b, FULL, N);
        narrow_array *copy = given(b, HALF, N), *numbers = fresh(b, FULL, sizeof(di_step) / 4);
        di_step step = {.rate = {0.01, 0}, .updates = {4, 0}, .factor = {0.5, 0}, .refused = refused};
        for (int64_t i = 0; i < N; i++) set_at(v, i, v->want[i] = fabs(v->want[i]));
        for (int64_t i = 0; i < N && !refused; i++) {
            double gi = 0.5 * g->want[i], mi = m->want[i] = 0.9 * m->want[i] + 0.1 * gi;
            double vi = v->want[i] = 0.999 * v->want[i] + 0.001 * gi * gi;
            theta->want[i] = theta->want[i] * (1 - 0.01 * 0.1) -
                             0.01 / (1 - pow(0.9, 5)) * mi / (sqrt(vi) / sqrt(1 - pow(0.999, 5)) + 1e-8);
            copy->want[i] = theta->want[i];
        }
        memcpy(numbers->memory + GUARD, &step, sizeof step);
        for (int64_t i = 0; i < numbers->n; i++) numbers->want[i] = value_at(numbers, i);
        RUN(b, b->k->step_update(b->context, 0, N, &rule, g->data, m->data, v->data, theta->data, copy->data,
                                 numbers->data));
        assert_int_equal(di_there_get(b->context, theta->memory, theta->there, theta->bytes), DISTAC_OK);
        assert_int_equal(di_there_get(b->context, copy->memory, copy->there, copy->bytes), DISTAC_OK);
        for (int64_t i = 0; i < N && !refused; i++) /* to the bit what rounding theta gives */
            assert_true(value_at(copy, i) == (double)from_bits(to_bits((float)value_at(theta, i))));
        b->count--; /* the numbers are no floats */
        free(numbers->want);
        free(numbers->memory);
        di_there_free(b->context, numbers->there, numbers->bytes);
        expect(b, "step_update", refused ? 0 : ROUNDED);
    }
}

/* ---- all of them, twice ---- */

static void narrow_tables(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*run)(bed *b);
    } cases[] = {{"linear", linear},       {"layernorm", layernorm}, {"attention", attention},
                 {"embedding", embedding}, {"project", project},     {"update", update}};
    uint64_t first[COUNT(cases)];
    for (int n = 0; n < 2; n++) {
        bed b = {.seed = 1};
        const distac_context_desc desc = {.threads = 2, .device = "cuda", .products = "bf16"};
        distac_status status = distac_context_create(&desc, &b.context);
        if (status == DISTAC_EDEVICE) {
            print_message("skipped: %s\n", distac_last_error());
            skip();
        }
        assert_int_equal(status, DISTAC_OK);
        b.k = di_kernels_for_encoders(b.context, DISTAC_F32);
        assert_true(b.k && b.k->narrow && !di_kernels_for_encoders(b.context, DISTAC_F64)->narrow);
        for (int i = 0; i < COUNT(cases); i++) {
            b.digest = 14695981039346656037u;
            cases[i].run(&b);
            if (n == 0) first[i] = b.digest;
            if (b.digest != first[i]) fail_msg("%s: other bits in the next run", cases[i].name);
        }
        distac_context_release(b.context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(narrow_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
