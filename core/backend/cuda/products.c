/* products.c: entries of the tables that multiply matrices: the product itself and the linear layer with its gradients.
 *
 * GELU is not left to the library's epilogue, which is the approximation by tanh; activations follow in a kernel of our
 * own that also adds the bias. */
#include "products.h"
#include "entries.h"

#include <string.h>

/* How the factors of a product are taken. */
typedef enum kind {
    SINGLE,
    TF32,
    ROUNDED, /* floats, rounded to bfloat16 first */
    NARROW,  /* bfloat16 as they are */
    DOUBLE
} kind;
static int32_t type_of(kind k) { return k == DOUBLE ? DISTAC_F64 : k == NARROW ? DISTAC_BF16 : DISTAC_F32; }
static size_t size_of(int32_t type) { return type == DISTAC_F64 ? 8 : type == DISTAC_F32 ? 4 : 2; }

static kind model_kind(const di_cuda *cuda) {
    if (strcmp(cuda->device.products, "tf32") == 0) return TF32;
    return strcmp(cuda->device.products, "bf16") == 0 ? ROUNDED : SINGLE;
}

/* ---- factors in bfloat16 ---- */

static int64_t round_up(int64_t n) { return (n + 7) / 8 * 8; } /* rows that tensor cores read in whole words */

static bool whole_words(kind k, const void *at, int64_t ld) {
    return k == NARROW && (uintptr_t)at % 16 == 0 && ld % 8 == 0;
}

/* The factors of p that tensor cores would not take as they are, made anew in scratch with their rows rounded up. */
static distac_status rounded(distac_context *c, const char *what, kind k, di_product *p) {
    int64_t rows_a = p->trans_a ? p->K : p->M, columns_a = p->trans_a ? p->M : p->K;
    int64_t rows_b = p->trans_b ? p->N : p->K, columns_b = p->trans_b ? p->K : p->N;
    int64_t lda = round_up(columns_a), ldb = round_up(columns_b);
    bool a = !whole_words(k, p->A, p->lda), b = !whole_words(k, p->B, p->ldb);
    size_t bytes_a = a ? ((size_t)(rows_a * lda) * 2 + 255) / 256 * 256 : 0, bytes_b = b ? (size_t)(rows_b * ldb) * 2 : 0;
    char *scratch;
    p->factors = DISTAC_BF16;
    if (!a && !b) return DISTAC_OK;
    DI_TRY(di_cuda_scratch(c, bytes_a + bytes_b, (void **)&scratch));
    cudaStream_t stream = di_cuda_of(c)->stream;
    if (a) {
        DI_CUDA_TRY(c, what, di_cuda_launch_to_bf16(type_of(k), rows_a, columns_a, p->A, p->lda, scratch, lda, stream));
        p->A = scratch, p->lda = lda;
    }
    if (b) {
        scratch += bytes_a;
        DI_CUDA_TRY(c, what, di_cuda_launch_to_bf16(type_of(k), rows_b, columns_b, p->B, p->ldb, scratch, ldb, stream));
        p->B = scratch, p->ldb = ldb;
    }
    return DISTAC_OK;
}

/* Where the bias could not be added on the way, *bias_left stays true. rest: type of all but the factors. */
static distac_status product(distac_context *c, const char *what, kind k, int32_t rest, di_product p,
                             bool *bias_left) {
    bool done;
    *bias_left = p.bias != NULL;
    if (p.M == 0 || p.N == 0) return DISTAC_OK;
    if (p.K == 0 || p.alpha == 0) {
        if (p.beta != 0 && p.C != p.D)
            DI_CUDA_TRY(c, what, cudaMemcpyAsync(p.D, p.C, (size_t)(p.M * p.N) * size_of(rest),
                                                 cudaMemcpyDeviceToDevice, di_cuda_of(c)->stream));
        return di_cuda_check(c, what, di_cuda_launch_scale(rest, p.M, p.N, p.beta, p.D, p.ldc, di_cuda_of(c)->stream));
    }
    p.factors = type_of(k);
    p.rest = rest;
    p.tf32 = k == TF32;
    if (k == ROUNDED || k == NARROW) DI_TRY(rounded(c, what, k, &p));
    if (p.bias && k != DOUBLE && (uintptr_t)p.bias % 16 == 0) {
        DI_TRY(di_cuda_multiply(c, what, &p, &done));
        *bias_left = !done;
        if (done) return DISTAC_OK;
    }
    p.bias = NULL;
    return di_cuda_multiply(c, what, &p, &done);
}

/* ---- entries ---- */

static distac_status gemm(distac_context *c, kind k, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K,
                          double alpha, const void *A, int64_t lda, const void *B, int64_t ldb, double beta, void *C,
                          int64_t ldc) {
    bool bias_left;
    DI_TRY(di_cuda_begin(c, "gemm"));
    di_product p = {.trans_a = trans_a, .trans_b = trans_b, .M = M, .N = N, .K = K, .lda = lda, .ldb = ldb,
                    .ldc = ldc, .alpha = alpha, .beta = beta, .A = A, .B = B, .C = C, .D = C};
    return product(c, "gemm", k, type_of(k), p, &bias_left);
}

static distac_status linear(distac_context *c, kind k, int64_t M, int64_t N, int64_t K, const void *x,
                            const void *weight, const void *bias, int32_t act, void *pre, const void *residual,
                            void *y) {
    DI_CUDA_BEGIN(c, "linear");
    bool active = act != DI_ACT_NONE, bias_left;
    void *sum = active && pre ? pre : y; /* before the activation */
    di_product p = {.trans_b = true, .M = M, .N = N, .K = K, .lda = K, .ldb = K, .ldc = N, .alpha = 1,
                    .beta = residual ? 1 : 0, .A = x, .B = weight, .C = residual ? residual : sum, .D = sum,
                    .bias = bias};
    DI_TRY(product(c, "linear", k, type_of(k), p, &bias_left));
    if (M == 0 || N == 0 || (!active && !bias_left)) return DISTAC_OK;
    return di_cuda_check(c, "linear", di_cuda_launch_finish(type_of(k), M, N, sum, bias_left ? bias : NULL, act,
                                                            bias_left && sum == pre ? pre : NULL, y, cuda->stream));
}

static distac_status backward_input(distac_context *c, kind k, int64_t M, int64_t N, int64_t K, const void *dy,
                                    const void *weight, int32_t act, const void *pre, bool accumulate, void *dx) {
    DI_CUDA_BEGIN(c, "linear_backward_input");
    bool bias_left;
    di_product p = {.M = M, .N = K, .K = N, .lda = N, .ldb = K, .ldc = K, .alpha = 1, .beta = accumulate ? 1 : 0,
                    .A = dy, .B = weight, .C = dx, .D = dx};
    DI_TRY(product(c, "linear_backward_input", k, type_of(k), p, &bias_left));
    if (act == DI_ACT_NONE || M == 0 || K == 0) return DISTAC_OK;
    return di_cuda_check(c, "linear_backward_input",
                         di_cuda_launch_slope(type_of(k), M * K, act, pre, dx, cuda->stream));
}

static distac_status backward_weight(distac_context *c, kind k, int64_t M, int64_t N, int64_t K, const void *x,
                                     const void *dy, void *dweight, void *dbias) {
    DI_CUDA_BEGIN(c, "linear_backward_weight");
    if (M == 0) return DISTAC_OK;
    if (dweight) {
        bool bias_left;
        di_product p = {.trans_a = true, .M = N, .N = K, .K = M, .lda = N, .ldb = K, .ldc = K, .alpha = 1, .beta = 1,
                        .A = dy, .B = x, .C = dweight, .D = dweight};
        DI_TRY(product(c, "linear_backward_weight", k, k == DOUBLE ? DISTAC_F64 : DISTAC_F32, p, &bias_left));
    }
    if (!dbias || N == 0) return DISTAC_OK;
    void *parts;
    DI_TRY(di_cuda_scratch(c, (size_t)(di_cuda_column_parts(M) * N) * sizeof(double), &parts));
    return di_cuda_check(c, "linear_backward_weight",
                         di_cuda_launch_columns(type_of(k), M, N, dy, parts, dbias, cuda->stream));
}

#define ENTRIES(suffix, kind)                                                                                      \
    distac_status di_cuda_linear_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K, const void *x,       \
                                          const void *weight, const void *bias, int32_t act, void *pre,            \
                                          const void *residual, void *y) {                                         \
        return linear(c, kind, M, N, K, x, weight, bias, act, pre, residual, y);                                   \
    }                                                                                                              \
    distac_status di_cuda_linear_backward_input_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K,       \
                                                         const void *dy, const void *weight, int32_t act,          \
                                                         const void *pre, bool accumulate, void *dx) {             \
        return backward_input(c, kind, M, N, K, dy, weight, act, pre, accumulate, dx);                             \
    }                                                                                                              \
    distac_status di_cuda_linear_backward_weight_##suffix(distac_context *c, int64_t M, int64_t N, int64_t K,      \
                                                          const void *x, const void *dy, void *dweight,            \
                                                          void *dbias) {                                           \
        return backward_weight(c, kind, M, N, K, x, dy, dweight, dbias);                                           \
    }
ENTRIES(f32, SINGLE)
ENTRIES(f64, DOUBLE)
ENTRIES(model, model_kind(di_cuda_of(c)))
ENTRIES(narrow, NARROW)

#define GEMM(suffix, kind)                                                                                         \
    distac_status di_cuda_gemm_##suffix(distac_context *c, bool trans_a, bool trans_b, int64_t M, int64_t N,       \
                                        int64_t K, double alpha, const void *A, int64_t lda, const void *B,        \
                                        int64_t ldb, double beta, void *C, int64_t ldc) {                          \
        return gemm(c, kind, trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);                      \
    }
GEMM(f32, SINGLE)
GEMM(f64, DOUBLE)

/* ---- with the context ---- */

distac_status di_cuda_products_open(distac_context *c, di_cuda *cuda, const char *products) {
    static const char what[] = "distac_context_create";
    static const char *const known[] = {"f32", "tf32", "bf16"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], products) == 0) cuda->device.products = known[i];
    if (cuda->device.products && strcmp(cuda->device.products, "bf16") == 0)
        cuda->device.narrow = &di_cuda_kernels_narrow;
    if (!cuda->device.products)
        return di_fail_at(DISTAC_EINVAL, what, "products is \"%.40s\", choose f32, tf32 or bf16", products);
    DI_TRY(di_cuda_check_blas(c, what, (int)cublasLtCreate(&cuda->lt)));
    return di_cuda_alloc(c, DI_CUDA_WORKSPACE, &cuda->workspace);
}

void di_cuda_products_close(distac_context *c, di_cuda *cuda) {
    di_cuda_plans_free(cuda);
    di_cuda_free(c, cuda->workspace, DI_CUDA_WORKSPACE);
    if (cuda->lt) (void)cublasLtDestroy(cuda->lt);
}
