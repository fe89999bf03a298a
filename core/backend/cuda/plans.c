/* plans.c: products by cuBLASLt. How a product of given shape, types and alignment is best done is looked up once per
 * context and kept; the same product is then done the same way, to the same bits. */
#include "products.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 512 }; /* kept at once, a power of two; a full table begins anew */

/* What a plan depends on; compared as bytes, so made by memset and fields of whole words. */
typedef struct key {
    int64_t M, N, K, lda, ldb, ldc;
    int32_t factors, rest, bias, tf32, trans, in_place;
    int32_t align_a, align_b, align_c, align_d;
} key;

typedef struct plan {
    key key;
    bool used, possible;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; /* as the library sees them: by columns, so factors change places */
    cublasLtMatmulAlgo_t algo;
} plan;

struct di_cuda_plans {
    int count;
    plan slot[SLOTS];
};

static void plan_free(plan *p) {
    if (p->desc) (void)cublasLtMatmulDescDestroy(p->desc);
    if (p->a) (void)cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) (void)cublasLtMatrixLayoutDestroy(p->b);
    if (p->c) (void)cublasLtMatrixLayoutDestroy(p->c);
    memset(p, 0, sizeof *p);
}

static int32_t alignment(const void *memory) {
    int32_t bytes = 256;
    while ((uintptr_t)memory % (uintptr_t)bytes != 0) bytes /= 2;
    return bytes;
}

static key key_of(const di_product *p) {
    key k;
    memset(&k, 0, sizeof k);
    k.M = p->M, k.N = p->N, k.K = p->K, k.lda = p->lda, k.ldb = p->ldb, k.ldc = p->ldc;
    k.factors = p->factors, k.rest = p->rest, k.bias = p->bias != NULL, k.tf32 = p->tf32;
    k.trans = p->trans_a + 2 * p->trans_b;
    k.in_place = p->C == p->D;
    k.align_a = alignment(p->A), k.align_b = alignment(p->B);
    k.align_c = alignment(p->C), k.align_d = alignment(p->D);
    return k;
}

static uint64_t hash(const key *k) {
    const unsigned char *bytes = (const unsigned char *)k;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ bytes[i]) * 1099511628211u;
    return h;
}

#define BLAS(call)                                                                                                 \
    do {                                                                                                           \
        cublasStatus_t blas_ = (call);                                                                             \
        if (blas_ != CUBLAS_STATUS_SUCCESS) return di_cuda_check_blas(c, what, (int)blas_);                        \
    } while (0)

static cudaDataType_t type_of(int32_t dtype) {
    return dtype == DISTAC_F64 ? CUDA_R_64F : dtype == DISTAC_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static distac_status describe(distac_context *c, const char *what, plan *p, const di_product *x) {
    bool f64 = x->factors == DISTAC_F64;
    cudaDataType_t factors = type_of(x->factors), rest = type_of(x->rest);
    cublasComputeType_t compute = f64 ? CUBLAS_COMPUTE_64F : x->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    int32_t first = x->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = x->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    BLAS(cublasLtMatmulDescCreate(&p->desc, compute, f64 ? CUDA_R_64F : CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    BLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    if (x->bias) {
        uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        BLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        BLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x->bias, sizeof x->bias));
    }
    uint64_t M = (uint64_t)x->M, N = (uint64_t)x->N, K = (uint64_t)x->K;
    BLAS(cublasLtMatrixLayoutCreate(&p->a, factors, x->trans_b ? K : N, x->trans_b ? N : K, x->ldb));
    BLAS(cublasLtMatrixLayoutCreate(&p->b, factors, x->trans_a ? M : K, x->trans_a ? K : M, x->lda));
    BLAS(cublasLtMatrixLayoutCreate(&p->c, rest, N, M, x->ldc));
    return DISTAC_OK;
}

static distac_status choose(distac_context *c, const char *what, plan *p, cublasLtMatmulPreference_t preference) {
    size_t workspace = DI_CUDA_WORKSPACE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t bytes;
    } aligned[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)p->key.align_b},
                   {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)p->key.align_a},
                   {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)p->key.align_c},
                   {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)p->key.align_d}};
    BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                              sizeof workspace));
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++)
        BLAS(cublasLtMatmulPreferenceSetAttribute(preference, aligned[i].name, &aligned[i].bytes,
                                                  sizeof aligned[i].bytes));
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    memset(&result, 0, sizeof result);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(di_cuda_of(c)->lt, p->desc, p->a, p->b, p->c, p->c,
                                                           preference, 1, &result, &found);
    p->possible = status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
    if (p->possible) p->algo = result.algo;
    if (!p->possible && status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_NOT_SUPPORTED)
        return di_cuda_check_blas(c, what, (int)status);
    return DISTAC_OK;
}

static distac_status find(distac_context *c, const char *what, const di_product *x, plan **out) {
    di_cuda *cuda = di_cuda_of(c);
    if (!cuda->plans) {
        cuda->plans = di_new(sizeof *cuda->plans);
        if (!cuda->plans) return DISTAC_ENOMEM;
    }
    struct di_cuda_plans *all = cuda->plans;
    key k = key_of(x);
    uint64_t at = hash(&k) & (SLOTS - 1);
    for (; all->slot[at].used; at = (at + 1) & (SLOTS - 1)) {
        if (memcmp(&all->slot[at].key, &k, sizeof k) != 0) continue;
        *out = &all->slot[at];
        return DISTAC_OK;
    }
    if (all->count >= SLOTS * 3 / 4) {
        for (int i = 0; i < SLOTS; i++) plan_free(&all->slot[i]);
        all->count = 0;
        at = hash(&k) & (SLOTS - 1);
    }
    plan *p = &all->slot[at];
    p->key = k;
    cublasLtMatmulPreference_t preference = NULL;
    distac_status status = describe(c, what, p, x);
    if (status == DISTAC_OK)
        status = di_cuda_check_blas(c, what, (int)cublasLtMatmulPreferenceCreate(&preference));
    if (status == DISTAC_OK) status = choose(c, what, p, preference);
    if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
    if (status != DISTAC_OK) {
        plan_free(p);
        return status;
    }
    p->used = true;
    all->count++;
    *out = p;
    return DISTAC_OK;
}

distac_status di_cuda_multiply(distac_context *c, const char *what, const di_product *x, bool *done) {
    di_cuda *cuda = di_cuda_of(c);
    plan *p;
    *done = false;
    DI_TRY(find(c, what, x, &p));
    if (!p->possible) {
        if (x->bias) return DISTAC_OK;
        return di_fail_at(DISTAC_EDEVICE, what, "%s: the matrix library knows no way to a product of [%lld,%lld] and [%lld,%lld]",
                          cuda->device.name, (long long)x->M, (long long)x->K, (long long)x->K, (long long)x->N);
    }
    float alpha = (float)x->alpha, beta = (float)x->beta;
    bool f64 = x->factors == DISTAC_F64;
    if (x->bias)
        BLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x->bias, sizeof x->bias));
    BLAS(cublasLtMatmul(cuda->lt, p->desc, f64 ? (const void *)&x->alpha : &alpha, x->B, p->a, x->A, p->b,
                        f64 ? (const void *)&x->beta : &beta, x->C, p->c, x->D, p->c, &p->algo, cuda->workspace,
                        DI_CUDA_WORKSPACE, cuda->stream));
    *done = true;
    return DISTAC_OK;
}

void di_cuda_plans_free(di_cuda *cuda) {
    for (int i = 0; cuda->plans && i < SLOTS; i++) plan_free(&cuda->plans->slot[i]);
    free(cuda->plans);
    cuda->plans = NULL;
}
