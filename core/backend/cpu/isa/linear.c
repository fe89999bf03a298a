/* linear.c: matrix products and the linear layer with what follows it: bias, activation, residual. Each tile is
 * finished while it is in the cache. */
#ifndef DI_REAL
#define DI_SELF "linear.c"
#include "both.h"
#else
#include "functions.h"
#include "kernels.h"
#include "product.h"

/* ---- how the result of a product is cut ---- */
#ifndef DI_LINEAR_CUT
#define DI_LINEAR_CUT
typedef struct cut {
    int64_t rows, columns; /* of a tile */
    int64_t across, count; /* tiles side by side, tiles in all */
} cut;

/* M x N results of sums over K. Tall tiles use the copied operand longer; below 8 tiles columns are cut too. */
static cut cut_result(int64_t M, int64_t N, int64_t K) {
    cut t = {M, N, 1, M > 0 && N > 0};
    if (t.count == 0 || M * N < 1000000 / (K + 1)) return t;
    t.rows = di_cpu_min(M, M >= 1024 && N * K >= 524288 ? 128 : 64);
    int64_t down = di_cpu_ceil(M, t.rows);
    if (down < 8) t.columns = di_cpu_piece(N, di_cpu_ceil(8, down), 64, 16);
    t.across = di_cpu_ceil(N, t.columns);
    t.count = down * t.across;
    return t;
}
typedef struct place {
    int64_t row, rows, column, columns;
} place;
static place place_of(const cut *t, int64_t index, int64_t M, int64_t N) {
    int64_t row = index / t->across * t->rows, column = index % t->across * t->columns;
    return (place){row, di_cpu_min(t->rows, M - row), column, di_cpu_min(t->columns, N - column)};
}
#endif

/* ---- gemm ---- */
typedef struct {
    bool trans_a, trans_b;
    int64_t M, N, K, lda, ldb, ldc;
    T alpha, beta;
    const T *A, *B;
    T *C;
    cut t;
} NAME(gemm_job);

static distac_status NAME(gemm_tile)(void *arg, int64_t index) {
    const NAME(gemm_job) *j = arg;
    place p = place_of(&j->t, index, j->M, j->N);
    return NAME(product)(j->trans_a, j->trans_b, p.rows, p.columns, j->K, j->alpha,
                         j->A + (j->trans_a ? p.row : p.row * j->lda), j->lda,
                         j->B + (j->trans_b ? p.column * j->ldb : p.column), j->ldb, j->beta,
                         j->C + p.row * j->ldc + p.column, j->ldc);
}

distac_status NAME(gemm)(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                         double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta,
                         void *C, int64_t ldc) {
    NAME(gemm_job) j = {.trans_a = trans_a,
                        .trans_b = trans_b,
                        .M = M,
                        .N = N,
                        .K = K,
                        .lda = lda,
                        .ldb = ldb,
                        .ldc = ldc,
                        .alpha = (T)alpha,
                        .beta = (T)beta,
                        .A = A,
                        .B = B,
                        .C = C,
                        .t = cut_result(M, N, K)};
    return di_cpu_run(c, "gemm", j.t.count, NAME(gemm_tile), &j);
}

/* ---- forward ---- */
typedef struct {
    int64_t M, N, K;
    const T *x, *weight, *bias, *residual;
    T *turned; /* weight as [K,N], or NULL */
    T *pre, *y;
    int32_t act;
    cut t;
} NAME(linear_job);

static void NAME(finish_row)(const NAME(linear_job) *j, int64_t n, T *sum, const T *bias, const T *residual,
                             T *y) {
    if (bias) {
        SIMD for (int64_t i = 0; i < n; i++) sum[i] += bias[i];
    }
    if (j->act == DISTAC_ACT_GELU) {
        SIMD_FUNCTIONS for (int64_t i = 0; i < n; i++) y[i] = NAME(gelu)(sum[i]);
    } else if (j->act == DISTAC_ACT_QUICK_GELU) {
        SIMD_FUNCTIONS for (int64_t i = 0; i < n; i++) y[i] = NAME(quick_gelu)(sum[i]);
    } else if (residual) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] += residual[i];
    }
}

static distac_status NAME(linear_tile)(void *arg, int64_t index) {
    const NAME(linear_job) *j = arg;
    place p = place_of(&j->t, index, j->M, j->N);
    int64_t N = j->N, offset = p.row * N + p.column;
    T *sum = (j->pre ? j->pre : j->y) + offset, *y = j->y + offset;
    bool in_place = j->residual == j->y;
    const T *residual = j->residual && !in_place ? j->residual + offset : NULL;
    const T *weight = j->turned ? j->turned + p.column : j->weight + p.column * j->K;
    DI_TRY(NAME(product)(false, !j->turned, p.rows, p.columns, j->K, 1, j->x + p.row * j->K, j->K, weight,
                         j->turned ? N : j->K, in_place ? 1 : 0, sum, N));
    if (!j->bias && j->act == DI_ACT_NONE && !residual) return DISTAC_OK;
    for (int64_t i = 0; i < p.rows; i++)
        NAME(finish_row)(j, p.columns, sum + i * N, j->bias ? j->bias + p.column : NULL,
                         residual ? residual + i * N : NULL, y + i * N);
    return DISTAC_OK;
}

/* Products whose second factor lies the other way round copy it once for every tile. With many tiles it is cheaper
 * to turn the whole weight once. */
static distac_status NAME(turn_tile)(void *arg, int64_t index) {
    const NAME(linear_job) *j = arg;
    int64_t N = j->N, K = j->K, first = index * 64, last = di_cpu_min(K, first + 64);
    for (int64_t n = 0; n < N; n += 16) {
        int64_t end = di_cpu_min(N, n + 16);
        for (int64_t t = first; t < last; t++)
            for (int64_t q = n; q < end; q++) j->turned[t * N + q] = j->weight[q * K + t];
    }
    return DISTAC_OK;
}

distac_status NAME(linear)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x, const void *weight,
                           const void *bias, int32_t act, void *pre, const void *residual, void *y) {
    NAME(linear_job) j = {.M = M,
                          .N = N,
                          .K = K,
                          .x = x,
                          .weight = weight,
                          .bias = bias,
                          .residual = act == DI_ACT_NONE ? residual : NULL,
                          .pre = act == DI_ACT_NONE ? NULL : pre,
                          .y = y,
                          .act = act,
                          .t = cut_result(M, N, K)};
    size_t bytes = (size_t)(N * K) * sizeof(T);
    distac_status status = DISTAC_OK;
    if (j.t.count >= 16) {
        j.turned = di_alloc(c, bytes);
        if (!j.turned) return DISTAC_ENOMEM;
        status = di_cpu_run(c, "linear", di_cpu_ceil(K, 64), NAME(turn_tile), &j);
    }
    if (status == DISTAC_OK) status = di_cpu_run(c, "linear", j.t.count, NAME(linear_tile), &j);
    di_free(c, j.turned, bytes);
    return status;
}

/* ---- gradient of the input ---- */
typedef struct {
    int64_t M, N, K;
    const T *dy, *weight, *pre;
    T *dx;
    int32_t act;
    bool accumulate;
    cut t;
} NAME(input_job);

static distac_status NAME(input_tile)(void *arg, int64_t index) {
    const NAME(input_job) *j = arg;
    place p = place_of(&j->t, index, j->M, j->K);
    int64_t K = j->K, offset = p.row * K + p.column;
    DI_TRY(NAME(product)(false, false, p.rows, p.columns, j->N, 1, j->dy + p.row * j->N, j->N,
                         j->weight + p.column, K, j->accumulate ? 1 : 0, j->dx + offset, K));
    for (int64_t i = 0; i < p.rows && j->act != DI_ACT_NONE; i++) {
        T *dx = j->dx + offset + i * K;
        const T *pre = j->pre + offset + i * K;
        if (j->act == DISTAC_ACT_GELU) {
            SIMD_FUNCTIONS for (int64_t q = 0; q < p.columns; q++) dx[q] *= NAME(gelu_slope)(pre[q]);
        } else {
            SIMD_FUNCTIONS for (int64_t q = 0; q < p.columns; q++) dx[q] *= NAME(quick_gelu_slope)(pre[q]);
        }
    }
    return DISTAC_OK;
}

distac_status NAME(linear_backward_input)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *dy,
                                          const void *weight, int32_t act, const void *pre, bool accumulate,
                                          void *dx) {
    NAME(input_job) j = {.M = M,
                         .N = N,
                         .K = K,
                         .dy = dy,
                         .weight = weight,
                         .pre = pre,
                         .dx = dx,
                         .act = act,
                         .accumulate = accumulate,
                         .t = cut_result(M, K, N)};
    return di_cpu_run(c, "linear_backward_input", j.t.count, NAME(input_tile), &j);
}

/* ---- gradients of weight and bias ---- */
typedef struct {
    int64_t M, N, K;
    const T *x, *dy;
    T *dweight, *dbias;
    cut t;
} NAME(weight_job);

/* out [n] += sum of the rows of x [M,n], rows added in blocks of 64 to keep the rounding errors small. */
static void NAME(add_rows)(int64_t M, int64_t n, const T *x, int64_t stride, T *out) {
    T block[64], total[64];
    for (int64_t q = 0; q < n; q += 64) {
        int64_t width = di_cpu_min(64, n - q);
        memset(total, 0, sizeof total);
        for (int64_t i = 0; i < M; i += 64) {
            int64_t end = di_cpu_min(M, i + 64);
            memset(block, 0, sizeof block);
            for (int64_t r = i; r < end; r++) {
                const T *row = x + r * stride + q;
                SIMD for (int64_t l = 0; l < width; l++) block[l] += row[l];
            }
            for (int64_t l = 0; l < width; l++) total[l] += block[l];
        }
        for (int64_t l = 0; l < width; l++) out[q + l] += total[l];
    }
}

static distac_status NAME(weight_tile)(void *arg, int64_t index) {
    const NAME(weight_job) *j = arg;
    place p = place_of(&j->t, index, j->N, j->K);
    const T *dy = j->dy + p.row;
    if (j->dbias && p.column == 0) NAME(add_rows)(j->M, p.rows, dy, j->N, j->dbias + p.row);
    if (!j->dweight) return DISTAC_OK;
    return NAME(product)(true, false, p.rows, p.columns, j->M, 1, dy, j->N, j->x + p.column, j->K, 1,
                         j->dweight + p.row * j->K + p.column, j->K);
}

distac_status NAME(linear_backward_weight)(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,
                                           const void *dy, void *dweight, void *dbias) {
    NAME(weight_job) j = {.M = M, .N = N, .K = K, .x = x, .dy = dy, .dweight = dweight, .dbias = dbias};
    j.t.rows = 64;
    j.t.columns = dweight && K > 0 ? di_cpu_min(K, 512) : 1;
    int64_t width = dweight && K > 0 ? K : 1; /* without dweight: one column of tiles for dbias */
    if (di_cpu_ceil(N, 64) * di_cpu_ceil(width, j.t.columns) < 8) j.t.columns = di_cpu_min(width, 128);
    if (di_cpu_ceil(N, 64) * di_cpu_ceil(width, j.t.columns) < 4) j.t.rows = 32;
    j.t.across = di_cpu_ceil(width, j.t.columns);
    j.t.count = di_cpu_ceil(N, j.t.rows) * j.t.across;
    if (!dweight || K == 0) j.dweight = NULL;
    return di_cpu_run(c, "linear_backward_weight", j.t.count, NAME(weight_tile), &j);
}
#endif
