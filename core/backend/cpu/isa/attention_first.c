/* attention_first.c: what the class tokens alone get from the attention, which is all that is read after the last
 * block of an image encoder. With one query a head, its scores are x (Wk^T q): the keys of all tokens are never
 * made, nor are the values, as Wv (sum of p x) needs one product. The keys' bias adds the same to all scores of a
 * query, so the softmax does not see it. */
#ifndef DI_REAL
#define DI_SELF "attention_first.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "small.h"
#include "turn.h"

#include "heads.h"

typedef struct {
    distac_context *context;
    int64_t B, N, W, heads, size, width, wide; /* size: columns of a head; W and N rounded up to whole registers */
    T scale;
    const T *x, *weight, *bias, *q; /* q [B,W] */
    T *looks;                       /* [B,heads,width]: what a head looks for in x, then what it finds */
    T *out;
} NAME(first_job);

/* from [n,W], or a copy whose rows are filled up with zeros to whole registers. */
static const T *NAME(whole_rows)(const NAME(first_job) *j, int64_t n, const T *from, T *copy) {
    if (j->W == j->width) return from;
    for (int64_t i = 0; i < n; i++) {
        memcpy(copy + i * j->width, from + i * j->W, (size_t)j->W * sizeof(T));
        for (int64_t q = j->W; q < j->width; q++) copy[i * j->width + q] = 0;
    }
    return copy;
}

/* One head of all images: q times the keys' weights. */
static distac_status NAME(first_looks)(void *arg, int64_t h) {
    const NAME(first_job) *j = arg;
    size_t bytes = (size_t)(j->size * j->width) * sizeof(T);
    T *copy = di_alloc(j->context, bytes);
    if (!copy) return DISTAC_ENOMEM;
    const T *keys = NAME(whole_rows)(j, j->size, j->weight + (j->W + h * j->size) * j->W, copy);
    NAME(small)(j->B, j->width, j->size, j->q + h * j->size, j->W, 1, keys, j->width, j->scale, false,
                j->looks + h * j->width, j->heads * j->width);
    di_free(j->context, copy, bytes);
    return DISTAC_OK;
}

/* One image: the scores of its tokens and the sum of them that each head takes. */
static distac_status NAME(first_found)(void *arg, int64_t b) {
    const NAME(first_job) *j = arg;
    int64_t N = j->N, W = j->W, heads = j->heads, width = j->width, wide = j->wide;
    size_t bytes = (size_t)(width * wide + heads * wide + wide + (width == W ? 0 : N * width)) * sizeof(T);
    T *turned = di_alloc(j->context, bytes);
    if (!turned) return DISTAC_ENOMEM;
    T *scores = turned + width * wide, *mask = scores + heads * wide, *copy = mask + wide;
    T *looks = j->looks + b * heads * width;
    const T *x = j->x + b * N * W;
    for (int64_t i = 0; i < wide; i++) mask[i] = i < N ? 0 : (T)-INFINITY;
    NAME(turn)(N, W, x, W, wide, turned);
    NAME(small)(heads, wide, W, looks, width, 1, turned, wide, 1, false, scores, wide);
    for (int64_t h = 0; h < heads; h++) NAME(softmax_row)(wide, mask, scores + h * wide);
    NAME(small)(heads, width, N, scores, wide, 1, NAME(whole_rows)(j, N, x, copy), width, 1, false, looks, width);
    di_free(j->context, turned, bytes);
    return DISTAC_OK;
}

/* One head of all images: the values of what it found. */
static distac_status NAME(first_values)(void *arg, int64_t h) {
    const NAME(first_job) *j = arg;
    int64_t first = h * j->size;
    for (int64_t i = first; i < first + j->size; i++) {
        const T *row = j->weight + (2 * j->W + i) * j->W;
        for (int64_t b = 0; b < j->B; b++)
            j->out[b * j->W + i] =
                NAME(inner)(j->W, row, j->looks + (b * j->heads + h) * j->width) + j->bias[2 * j->W + i];
    }
    return DISTAC_OK;
}

distac_status NAME(attention_first)(distac_context *c, int64_t B, int64_t N, int64_t W, int64_t heads,
                                    const void *x, const void *weight, const void *bias, void *out) {
    NAME(first_job) j = {.context = c, .B = B, .N = N, .W = W, .heads = heads, .size = W / heads,
                         .width = di_cpu_ceil(W, VL) * VL, .wide = di_cpu_ceil(N, VL) * VL,
                         .scale = (T)(1 / sqrt((double)(W / heads))), .x = x, .weight = weight, .bias = bias,
                         .out = out};
    int64_t looks = B * heads * j.width;
    size_t bytes = (size_t)(looks + B * W) * sizeof(T);
    j.looks = di_alloc(c, bytes);
    if (!j.looks) return DISTAC_ENOMEM;
    T *q = j.looks + looks;
    j.q = q;
    for (int64_t b = 0; b < B; b++) memcpy(j.out + b * W, j.x + b * N * W, (size_t)W * sizeof(T));
    distac_status status = NAME(linear)(c, B, W, W, out, weight, bias, DI_ACT_NONE, NULL, NULL, q);
    if (status == DISTAC_OK) status = di_cpu_run(c, "attention_first", heads, NAME(first_looks), &j);
    if (status == DISTAC_OK) status = di_cpu_run(c, "attention_first", B, NAME(first_found), &j);
    if (status == DISTAC_OK) status = di_cpu_run(c, "attention_first", heads, NAME(first_values), &j);
    di_free(c, j.looks, bytes);
    return status;
}
#endif
