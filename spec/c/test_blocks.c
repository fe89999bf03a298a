/* test_blocks.c: the shortcuts of inference against the entries that they stand for,
 * in every table that this processor runs: halves of a block bit for bit, the class
 * tokens' attention up to rounding; the same bits on any number of threads. */
#include "kernel_reference.h"

static bool open_products(world *w, const char *set, int32_t threads, int kind) {
    distac_context_desc desc = {.threads = threads, .kernels = set, .products = kind == 2 ? "bf16" : "f32"};
    distac_status status = distac_context_create(&desc, &w->context);
    if (status == DISTAC_EUNSUPPORTED) return false;
    OK(status);
    w->f64 = kind == 1;
    w->k = di_kernels_for_models(w->context, w->f64 ? DISTAC_F64 : DISTAC_F32);
    w->tolerance = w->f64 ? DBL_EPSILON : (double)FLT_EPSILON;
    w->seed = 1;
    w->count = 0;
    return true;
}

/* a [n] of the size of weights of n_in inputs */
static array *weights(world *w, int64_t n, int64_t inputs) {
    array *a = input(w, n);
    for (int64_t i = 0; i < n; i++) put(w, a, i, a->want[i] / sqrt((double)inputs));
    return a;
}

static bool same(const world *w, const array *a, const array *b) {
    return memcmp(a->data, b->data, (size_t)a->n * (w->f64 ? 8 : 4)) == 0;
}

typedef struct half_arrays {
    array *gamma, *beta, *in, *in_bias, *out, *out_bias, *x, *copy;
    di_half half;
} half_arrays;

static half_arrays make_half(world *w, int64_t M, int64_t W, int64_t between, int64_t read) {
    half_arrays a = {.gamma = input(w, W), .beta = input(w, W), .in = weights(w, between * W, W),
                     .in_bias = input(w, between), .out = weights(w, W * read, read), .out_bias = input(w, W),
                     .x = input(w, M * W), .copy = output(w, M * W)};
    memcpy(a.copy->data, a.x->data, (size_t)(M * W) * (w->f64 ? 8 : 4));
    a.half = (di_half){a.gamma->data, a.beta->data, a.in->data, a.in_bias->data, a.out->data, a.out_bias->data};
    return a;
}

static void mlp_case(world *w, int64_t M, int64_t W, int64_t hidden, int32_t act) {
    half_arrays a = make_half(w, M, W, hidden, hidden);
    array *normed = output(w, M * W), *active = output(w, M * hidden);
    const di_kernels *k = w->k;
    OK(k->layernorm(w->context, M, W, a.x->data, W, a.gamma->data, a.beta->data, normed->data, NULL, NULL));
    OK(k->linear(w->context, M, hidden, W, normed->data, a.in->data, a.in_bias->data, act, NULL, NULL,
                 active->data));
    OK(k->linear(w->context, M, W, hidden, active->data, a.out->data, a.out_bias->data, DI_ACT_NONE, NULL,
                 a.x->data, a.x->data));
    OK(k->mlp(w->context, M, W, hidden, act, &a.half, a.copy->data));
    if (!same(w, a.x, a.copy))
        fail_msg("%s: mlp of %lld rows, %lld to %lld, activation %d: other bits than its parts", k->name,
                 (long long)M, (long long)W, (long long)hidden, (int)act);
    for (int64_t i = 0; i < M * W; i++) assert_true(isfinite(get(w, a.copy, i)));
    forget(w);
}

static void attend_case(world *w, int64_t B, int64_t N, int64_t W, int64_t H) {
    half_arrays a = make_half(w, B * N, W, 3 * W, W);
    array *normed = output(w, B * N * W), *qkv = output(w, B * N * 3 * W), *mixed = output(w, B * N * W);
    const di_kernels *k = w->k;
    OK(k->layernorm(w->context, B * N, W, a.x->data, W, a.gamma->data, a.beta->data, normed->data, NULL, NULL));
    OK(k->linear(w->context, B * N, 3 * W, W, normed->data, a.in->data, a.in_bias->data, DI_ACT_NONE, NULL, NULL,
                 qkv->data));
    OK(k->attention(w->context, B, N, W, H, qkv->data, NULL, mixed->data));
    OK(k->linear(w->context, B * N, W, W, mixed->data, a.out->data, a.out_bias->data, DI_ACT_NONE, NULL, a.x->data,
                 a.x->data));
    OK(k->attend(w->context, B, N, W, H, &a.half, a.copy->data));
    if (!same(w, a.x, a.copy))
        fail_msg("%s: attend, %lld images of %lld tokens, %lld columns, %lld heads: other bits than its parts",
                 k->name, (long long)B, (long long)N, (long long)W, (long long)H);
    for (int64_t i = 0; i < B * N * W; i++) assert_true(isfinite(get(w, a.copy, i)));
    forget(w);
}

/* out = row 0 of the attention over what the linear layer makes of x */
static void first_case(world *w, int64_t B, int64_t N, int64_t W, int64_t H) {
    array *x = input(w, B * N * W), *weight = weights(w, 3 * W * W, W), *bias = input(w, 3 * W),
          *out = output(w, B * W);
    double *qkv = calloc((size_t)(B * N * 3 * W + 1), sizeof *qkv),
           *probs = calloc((size_t)(B * H * N * N + 1), sizeof *probs);
    double *all = calloc((size_t)(B * N * W + 1), sizeof *all);
    for (int64_t i = 0; i < weight->n; i++) weight->want[i] = get(w, weight, i);
    ref_gemm(false, true, B * N, 3 * W, W, 1, x->want, W, weight->want, W, 0, qkv, 3 * W);
    for (int64_t i = 0; i < B * N * 3 * W; i++) qkv[i] += bias->want[i % (3 * W)];
    ref_attention(B, N, W, H, qkv, probs, all);
    for (int64_t b = 0; b < B; b++) memcpy(out->want + b * W, all + b * N * W, (size_t)W * sizeof *all);
    OK(w->k->attention_first(w->context, B, N, W, H, x->data, weight->data, bias->data, out->data));
    free(qkv), free(probs), free(all);
    check(w, 40 + (double)W);
}

static void every_table(void **state) {
    static const int32_t threads[] = {1, 2, 5};
    static const int64_t shapes[][3] = {{1, 8, 8},    {3, 5, 7},      {56, 32, 64},  {57, 33, 129},
                                        {300, 48, 96}, {130, 64, 1600}, {61, 800, 90}, {0, 4, 4}};
    static const int64_t firsts[][4] = {
        {1, 1, 1, 1}, {2, 3, 6, 2}, {3, 17, 64, 4}, {2, 65, 30, 3}, {33, 5, 48, 1}};
    static const int64_t attends[][4] = {
        {1, 1, 1, 1}, {7, 3, 6, 2}, {3, 50, 64, 1}, {2, 65, 30, 3}, {37, 17, 32, 4}};
    int tables = 0;
    for (int t = 0; t < COUNT(sets) * 3; t++) {
        uint64_t first[COUNT(firsts)];
        for (int n = 0; n < COUNT(threads); n++) {
            world w = {.what = "attention_first"};
            if (!open_products(&w, sets[t / 3], threads[n], t % 3)) break;
            for (int s = 0; s < COUNT(shapes); s++)
                mlp_case(&w, shapes[s][0], shapes[s][1], shapes[s][2],
                         s & 1 ? DISTAC_ACT_GELU : DISTAC_ACT_QUICK_GELU);
            for (int s = 0; s < COUNT(attends); s++)
                attend_case(&w, attends[s][0], attends[s][1], attends[s][2], attends[s][3]);
            for (int s = 0; s < COUNT(firsts); s++) {
                w.digest = 14695981039346656037u;
                first_case(&w, firsts[s][0], firsts[s][1], firsts[s][2], firsts[s][3]);
                if (n == 0) first[s] = w.digest;
                if (w.digest != first[s]) fail_msg("%s: other bits on %d threads", w.k->name, (int)threads[n]);
            }
            tables += n == 0;
            distac_context_release(w.context);
        }
    }
    assert_true(tables >= 3);
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
