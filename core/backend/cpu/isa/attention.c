/* attention.c: multi-head self-attention and its gradient. One image's head is worked off by one thread: copies
 * that the products need (keys and values turned around, rows padded to whole registers) and a block of rows of
 * the scores live in scratch, on the stack as long as they fit. */
#ifndef DI_REAL
#define DI_SELF "attention.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "small.h"
#include "turn.h"

#ifndef DI_ATTENTION_SIZES
#define DI_ATTENTION_SIZES
enum { STACK_BYTES = 65536, WHOLE = 64, ROW_BLOCK = 32 }; /* up to WHOLE tokens are one block */
#endif

typedef struct {
    distac_context *context;
    int64_t N, W, heads, size; /* size: columns of a head */
    int64_t group, groups;     /* heads of a tile, tiles of an image */
    int64_t rows, wide, deep;  /* rows of a block; N and size rounded up to whole registers */
    T scale;
    bool causal;    /* a token sees itself and those before it */
    size_t scratch; /* bytes */
    const T *qkv, *dout;
    const T *saved;
    T *probs, *out, *dqkv;
} NAME(attention_job);

/* to [n,width] = from [n,m] padded with zeros */
static void NAME(pad)(int64_t n, int64_t m, const T *from, int64_t ld, int64_t width, T *to) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * width, from + i * ld, (size_t)m * sizeof(T));
        for (int64_t q = m; q < width; q++) to[i * width + q] = 0;
    }
}
static void NAME(unpad)(int64_t n, int64_t m, const T *from, int64_t width, T *to, int64_t ld) {
    for (int64_t i = 0; i < n; i++) memcpy(to + i * ld, from + i * width, (size_t)m * sizeof(T));
}

/* Softmax of s [wide]; mask [wide] is 0, and -inf where s is only padding, which becomes 0. */
static void NAME(softmax_row)(int64_t wide, const T *mask, T *s) {
    V top = LOAD(s) + LOAD(mask), sum = SPLAT(0);
    for (int64_t i = 0; i < wide; i += VL) {
        V v = LOAD(s + i) + LOAD(mask + i);
        STORE(s + i, v);
        top = NAME(larger)(v, top);
    }
    T most = NAME(fold_max)(top);
    for (int64_t i = 0; i < wide; i += VL) {
        SIMD_FUNCTIONS for (int64_t l = 0; l < VL; l++) s[i + l] = NAME(exp)(s[i + l] - most);
        sum += LOAD(s + i);
    }
    T inverse = (T)1 / NAME(fold_one)(sum);
    for (int64_t i = 0; i < wide; i += VL) STORE(s + i, LOAD(s + i) * inverse);
}

static void NAME(head_forward)(const NAME(attention_job) *j, int64_t b, int64_t h, T *scratch) {
    int64_t N = j->N, W = j->W, size = j->size, wide = j->wide, deep = j->deep, ld = 3 * W;
    const T *q = j->qkv + b * N * ld + h * size, *k = q + W, *v = k + W;
    T *out = j->out + b * N * W + h * size, *probs = j->probs ? j->probs + (b * j->heads + h) * N * N : NULL;
    T *turned = scratch, *scores = turned + size * wide, *values = scores + j->rows * wide;
    T *padded = values + N * deep, *masks = padded + j->rows * deep; /* N times 0, then -inf: a row's mask begins where
                                                                       * as many zeros are left as it sees tokens */
    bool direct = deep == size;
    int64_t vld = ld;
    for (int64_t i = 0; i < N + wide; i++) masks[i] = i < N ? 0 : (T)-INFINITY;
    NAME(turn)(N, size, k, ld, wide, turned);
    if (!direct || N > WHOLE) { /* rows of the big matrix lie on a page each: copy if they are used often */
        NAME(pad)(N, size, v, ld, deep, values);
        v = values;
        vld = deep;
    }
    for (int64_t r = 0; r < N; r += j->rows) {
        int64_t rows = di_cpu_min(j->rows, N - r);
        NAME(small)(rows, wide, size, q + r * ld, ld, 1, turned, wide, j->scale, false, scores, wide);
        for (int64_t i = 0; i < rows; i++)
            NAME(softmax_row)(wide, j->causal ? masks + N - 1 - r - i : masks, scores + i * wide);
        if (probs) NAME(unpad)(rows, N, scores, wide, probs + r * N, N);
        if (direct) {
            NAME(small)(rows, size, N, scores, wide, 1, v, vld, 1, false, out + r * W, W);
        } else {
            NAME(small)(rows, deep, N, scores, wide, 1, v, vld, 1, false, padded, deep);
            NAME(unpad)(rows, size, padded, deep, out + r * W, W);
        }
    }
}

static void NAME(head_backward)(const NAME(attention_job) *j, int64_t b, int64_t h, T *scratch) {
    int64_t N = j->N, W = j->W, size = j->size, wide = j->wide, deep = j->deep, ld = 3 * W, block = N * deep;
    const T *q = j->qkv + b * N * ld + h * size, *k = q + W, *v = k + W;
    const T *dout = j->dout + b * N * W + h * size, *probs = j->saved + (b * j->heads + h) * N * N;
    T *dq = j->dqkv + b * N * ld + h * size, *dk = dq + W, *dv = dk + W;
    T *turned = scratch, *scores = turned + size * wide, *copies = scores + j->rows * wide;
    bool direct = deep == size && N <= WHOLE;
    const T *qb = q, *kb = k, *db = dout; /* operands with whole rows, results likewise */
    T *dqo = dq, *dko = dk, *dvo = dv;
    int64_t qld = ld, dld = W, old = ld;
    NAME(turn)(N, size, v, ld, wide, turned);
    if (!direct) {
        NAME(pad)(N, size, q, ld, deep, copies);
        NAME(pad)(N, size, k, ld, deep, copies + block);
        NAME(pad)(N, size, dout, W, deep, copies + 2 * block);
        qb = copies, kb = copies + block, db = copies + 2 * block;
        dqo = copies + 3 * block, dko = copies + 4 * block, dvo = copies + 5 * block;
        qld = dld = old = deep;
    }
    for (int64_t r = 0; r < N; r += j->rows) {
        int64_t rows = di_cpu_min(j->rows, N - r);
        NAME(small)(rows, wide, size, dout + r * W, W, 1, turned, wide, 1, false, scores, wide);
        for (int64_t i = 0; i < rows; i++) { /* dS = P (dP - P . dP) */
            const T *p = probs + (r + i) * N;
            T *s = scores + i * wide, dot = NAME(inner)(N, p, s);
            SIMD for (int64_t t = 0; t < N; t++) s[t] = p[t] * (s[t] - dot);
        }
        NAME(small)(rows, deep, N, scores, wide, 1, kb, qld, j->scale, false, dqo + r * old, old);
        NAME(small)(N, deep, rows, scores, 1, wide, qb + r * qld, qld, j->scale, r > 0, dko, old);
        NAME(small)(N, deep, rows, probs + r * N, 1, N, db + r * dld, dld, 1, r > 0, dvo, old);
    }
    if (!direct) {
        NAME(unpad)(N, size, dqo, deep, dq, ld);
        NAME(unpad)(N, size, dko, deep, dk, ld);
        NAME(unpad)(N, size, dvo, deep, dv, ld);
    }
}

static distac_status NAME(attention_tile)(void *arg, int64_t index) {
    const NAME(attention_job) *j = arg;
    _Alignas(64) unsigned char stack[STACK_BYTES];
    void *scratch = stack, *allocated = NULL;
    if (j->scratch > STACK_BYTES) {
        scratch = allocated = di_alloc(j->context, j->scratch);
        if (!allocated) return DISTAC_ENOMEM;
    }
    int64_t b = index / j->groups, first = index % j->groups * j->group;
    int64_t last = di_cpu_min(j->heads, first + j->group);
    for (int64_t h = first; h < last; h++) {
        if (j->dqkv)
            NAME(head_backward)(j, b, h, scratch);
        else
            NAME(head_forward)(j, b, h, scratch);
    }
    di_free(j->context, allocated, j->scratch);
    return DISTAC_OK;
}

static distac_status NAME(attention_run)(distac_context *c, const char *kernel, int64_t B,
                                         NAME(attention_job) *j) {
    int64_t N = j->N;
    if (B == 0 || N == 0 || j->W == 0) return DISTAC_OK;
    j->context = c;
    j->size = j->W / j->heads;
    j->scale = (T)(1 / sqrt((double)j->size));
    j->rows = N <= WHOLE ? N : ROW_BLOCK;
    j->wide = di_cpu_ceil(N, VL) * VL;
    j->deep = di_cpu_ceil(j->size, VL) * VL;
    int64_t elements = (j->size + j->rows) * j->wide;
    elements +=
        j->dqkv ? (j->deep == j->size && N <= WHOLE ? 0 : 6 * N * j->deep) : (N + j->rows) * j->deep + N + j->wide;
    j->scratch = ((size_t)elements * sizeof(T) + 63) / 64 * 64;
    /* a tile has enough to do to be worth handing out */
    j->group = di_cpu_min(j->heads, di_cpu_ceil(262144, N * N * j->size));
    j->groups = di_cpu_ceil(j->heads, j->group);
    return di_cpu_run(c, kernel, B * j->groups, NAME(attention_tile), j);
}

distac_status NAME(attention)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads, const void *qkv,
                              void *probs, void *out) {
    NAME(attention_job) j = {.N = N, .W = W, .heads = heads, .qkv = qkv, .probs = probs, .out = out};
    return NAME(attention_run)(c, "attention", B, &j);
}

distac_status NAME(attention_causal)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                     const void *qkv, void *out) {
    NAME(attention_job) j = {.N = N, .W = W, .heads = heads, .causal = true, .qkv = qkv, .out = out};
    return NAME(attention_run)(c, "attention_causal", B, &j);
}

distac_status NAME(attention_backward)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                       const void *qkv, const void *probs, const void *out, const void *dout,
                                       void *dqkv) {
    (void)out;
    NAME(attention_job) j = {
        .N = N, .W = W, .heads = heads, .qkv = qkv, .saved = probs, .dout = dout, .dqkv = dqkv};
    return NAME(attention_run)(c, "attention_backward", B, &j);
}
#endif
