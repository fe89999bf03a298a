/* linear.c: matrix products and the linear layer with what follows it: bias, activation, residual. Each block of
 * sums is finished while it is in the first-level cache. */
#ifndef DI_REAL
#define DI_SELF "linear.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "packed.h"

/* Whole panels, which most are, are unrolled. */
#undef WHOLE_OR_PART
#define WHOLE_OR_PART(name)                                                                                       \
    static void NAME(name##_finish)(const void *arg, int64_t row, int64_t rows, int64_t column, int64_t columns,  \
                                    const T *sums) {                                                              \
        if (columns == NR)                                                                                        \
            NAME(name##_ends)(arg, row, rows, column, NR, sums);                                                  \
        else                                                                                                      \
            NAME(name##_ends)(arg, row, rows, column, columns, sums);                                             \
    }

/* ---- gemm ---- */
typedef struct {
    T alpha, beta;
    T *C;
    int64_t ldc;
} NAME(gemm_end);

INLINE void NAME(gemm_ends)(const void *arg, int64_t row, int64_t rows, int64_t column,
                              int64_t columns, const T *sums) {
    const NAME(gemm_end) *e = arg;
    for (int64_t i = 0; i < rows; i++, sums += NR) {
        T *to = e->C + (row + i) * e->ldc + column;
        if (e->beta == 0) {
            SIMD for (int64_t q = 0; q < columns; q++) to[q] = e->alpha * sums[q];
        } else {
            SIMD for (int64_t q = 0; q < columns; q++) to[q] = e->alpha * sums[q] + e->beta * to[q];
        }
    }
}
WHOLE_OR_PART(gemm)

distac_status NAME(gemm)(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                         double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
                         void *C, int64_t ldc) {
    NAME(gemm_end) e = {.alpha = (T)alpha, .beta = (T)beta, .C = C, .ldc = ldc};
    /* A factor 0 hides its products, NaN and all. */
    return NAME(packed)(c, "gemm", PRODUCTS_PLAIN, trans_a, trans_b, M, N, alpha == 0 ? 0 : K, A, lda, B, ldb,
                        NAME(gemm_finish), &e, NULL, C, alpha == 1 && beta == 0, ldc);
}

/* ---- forward ---- */
typedef struct {
    const T *bias, *residual;
    T *pre, *y;
    int64_t N;
    int32_t act;
} NAME(linear_end);

INLINE void NAME(linear_ends)(const void *arg, int64_t row, int64_t rows, int64_t column,
                              int64_t columns, const T *sums) {
    const NAME(linear_end) *e = arg;
    const T *bias = e->bias ? e->bias + column : NULL;
    if (columns == NR && e->act == DI_ACT_NONE) { /* most of them */
        V b0 = bias ? LOAD(bias) : SPLAT(0), b1 = bias ? LOAD(bias + VL) : SPLAT(0);
        int64_t offset = row * e->N + column;
        for (int64_t i = 0; i < rows; i++, sums += NR, offset += e->N) {
            V y0 = LOAD(sums) + b0, y1 = LOAD(sums + VL) + b1;
            if (e->residual) {
                y0 += LOAD(e->residual + offset);
                y1 += LOAD(e->residual + offset + VL);
            }
            STORE(e->y + offset, y0);
            STORE(e->y + offset + VL, y1);
        }
        return;
    }
    T value[NR];
    for (int64_t i = 0; i < rows; i++, sums += NR) {
        int64_t offset = (row + i) * e->N + column;
        T *y = e->y + offset;
        const T *sum = sums;
        if (bias) {
            SIMD for (int64_t q = 0; q < columns; q++) value[q] = sums[q] + bias[q];
            sum = value;
        }
        if (e->pre) memcpy(e->pre + offset, sum, (size_t)columns * sizeof(T));
        if (e->act == DISTAC_ACT_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) y[q] = NAME(gelu)(sum[q]);
        } else if (e->act == DISTAC_ACT_QUICK_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) y[q] = NAME(quick_gelu)(sum[q]);
        } else if (e->residual) {
            const T *residual = e->residual + offset;
            SIMD for (int64_t q = 0; q < columns; q++) y[q] = sum[q] + residual[q];
        } else {
            memcpy(y, sum, (size_t)columns * sizeof(T));
        }
    }
}
WHOLE_OR_PART(linear)

static distac_status NAME(forward)(distac_context *c, int products, int64_t M, int64_t N, int64_t K, const void *x,
                                   const void *weight, const void *bias, int32_t act, void *pre,
                                   const void *residual, void *y) {
    NAME(linear_end) e = {.bias = bias,
                          .residual = act == DI_ACT_NONE ? residual : NULL,
                          .pre = act == DI_ACT_NONE ? NULL : pre,
                          .y = y,
                          .N = N,
                          .act = act};
    return NAME(packed)(c, "linear", products, false, true, M, N, K, x, K, weight, K, NAME(linear_finish), &e,
                        e.residual ? e.residual : e.pre, y, false, N);
}

/* ---- gradient of the input ---- */
typedef struct {
    const T *pre;
    T *dx;
    int64_t K;
    int32_t act;
    bool accumulate;
} NAME(input_end);

INLINE void NAME(input_ends)(const void *arg, int64_t row, int64_t rows, int64_t column,
                              int64_t columns, const T *sums) {
    const NAME(input_end) *e = arg;
    for (int64_t i = 0; i < rows; i++, sums += NR) {
        int64_t offset = (row + i) * e->K + column;
        T *dx = e->dx + offset;
        const T *pre = e->pre + offset, *sum = sums;
        T value[NR];
        if (e->accumulate) {
            SIMD for (int64_t q = 0; q < columns; q++) value[q] = dx[q] + sums[q];
            sum = value;
        }
        if (e->act == DISTAC_ACT_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) dx[q] = sum[q] * NAME(gelu_slope)(pre[q]);
        } else if (e->act == DISTAC_ACT_QUICK_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < columns; q++) dx[q] = sum[q] * NAME(quick_gelu_slope)(pre[q]);
        } else {
            memcpy(dx, sum, (size_t)columns * sizeof(T));
        }
    }
}
WHOLE_OR_PART(input)

static distac_status NAME(input)(distac_context *c, int products, int64_t M, int64_t N, int64_t K, const void *dy,
                                 const void *weight, int32_t act, const void *pre, bool accumulate, void *dx) {
    static const T none; /* no address is computed from NULL */
    NAME(input_end) e = {.pre = pre ? pre : &none, .dx = dx, .K = K, .act = act, .accumulate = accumulate};
    return NAME(packed)(c, "linear_backward_input", products, false, false, M, K, N, dy, N, weight, K,
                        NAME(input_finish), &e, act == DI_ACT_NONE ? NULL : pre, dx,
                        act == DI_ACT_NONE && !accumulate, K);
}

/* ---- gradients of weight and bias ---- */
typedef struct {
    int64_t M, N, columns; /* columns of a tile of dbias */
    const T *dy;
    T *dbias;
} NAME(bias_job);

/* dbias [N] += sum of the rows of dy [M,N], rows added in blocks of 64 to keep the rounding errors small. */
static distac_status NAME(bias_tile)(void *arg, int64_t index) {
    const NAME(bias_job) *j = arg;
    T block[128], total[128];
    int64_t first = index * 128, width = di_cpu_min(128, j->N - first);
    memset(total, 0, sizeof total);
    for (int64_t i = 0; i < j->M; i += 64) {
        int64_t end = di_cpu_min(j->M, i + 64);
        memset(block, 0, sizeof block);
        for (int64_t r = i; r < end; r++) {
            const T *row = j->dy + r * j->N + first;
            SIMD for (int64_t l = 0; l < width; l++) block[l] += row[l];
        }
        for (int64_t l = 0; l < width; l++) total[l] += block[l];
    }
    for (int64_t l = 0; l < width; l++) j->dbias[first + l] += total[l];
    return DISTAC_OK;
}

typedef struct {
    T *dweight;
    int64_t K;
} NAME(weight_end);

INLINE void NAME(weight_ends)(const void *arg, int64_t row, int64_t rows, int64_t column,
                              int64_t columns, const T *sums) {
    const NAME(weight_end) *e = arg;
    for (int64_t i = 0; i < rows; i++, sums += NR) {
        T *to = e->dweight + (row + i) * e->K + column;
        SIMD for (int64_t q = 0; q < columns; q++) to[q] += sums[q];
    }
}
WHOLE_OR_PART(weight)

static distac_status NAME(weight)(distac_context *c, int products, int64_t M, int64_t N, int64_t K, const void *x,
                                  const void *dy, void *dweight, void *dbias) {
    NAME(bias_job) b = {.M = M, .N = N, .dy = dy, .dbias = dbias};
    NAME(weight_end) e = {.dweight = dweight, .K = K};
    if (dbias) DI_TRY(di_cpu_run(c, "linear_backward_weight", di_cpu_ceil(N, 128), NAME(bias_tile), &b));
    if (!dweight || M == 0) return DISTAC_OK;
    return NAME(packed)(c, "linear_backward_weight", products, true, false, N, K, M, dy, N, x, K,
                        NAME(weight_finish), &e, NULL, dweight, false, K);
}

/* ---- the entries of the table ---- */
distac_status NAME(linear)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x, const void *weight,
                           const void *bias, int32_t act, void *pre, const void *residual, void *y) {
    return NAME(forward)(c, PRODUCTS_PLAIN, M, N, K, x, weight, bias, act, pre, residual, y);
}
distac_status NAME(linear_backward_input)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                          const void *weight, int32_t act, const void *pre, bool accumulate,
                                          void *dx) {
    return NAME(input)(c, PRODUCTS_PLAIN, M, N, K, dy, weight, act, pre, accumulate, dx);
}
distac_status NAME(linear_backward_weight)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                           const void *dy, void *dweight, void *dbias) {
    return NAME(weight)(c, PRODUCTS_PLAIN, M, N, K, x, dy, dweight, dbias);
}
#if DI_REAL == 32
static int NAME(bf16)(void) {
    return PAIRS && di_cpu_multiplies_bf16() ? PRODUCTS_PAIRS : PRODUCTS_ROUNDED;
}
distac_status NAME(linear_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                const void *weight, const void *bias, int32_t act, void *pre, const void *residual,
                                void *y) {
    return NAME(forward)(c, NAME(bf16)(), M, N, K, x, weight, bias, act, pre, residual, y);
}
distac_status NAME(linear_backward_input_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                          const void *weight, int32_t act, const void *pre, bool accumulate,
                                          void *dx) {
    return NAME(input)(c, NAME(bf16)(), M, N, K, dy, weight, act, pre, accumulate, dx);
}
distac_status NAME(linear_backward_weight_bf16)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                           const void *dy, void *dweight, void *dbias) {
    return NAME(weight)(c, NAME(bf16)(), M, N, K, x, dy, dweight, dbias);
}
#endif
#endif
