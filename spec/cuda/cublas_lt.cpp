/* cublas_lt.cpp: cuBLASLt's products on the emulated device: by columns, as cuBLAS counts, in plain loops. Factors are
 * rounded as the type of the computation says; sums are made in that type. */
#include "cublasLt.h"
#include "cuda_bf16.h"
#include "emulator.h"

#include <string.h>

struct cublasLtContext {
    int unused;
};
struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasOperation_t a, b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    int64_t rows, columns, ld, batch, stride;
};
struct cublasLtMatmulPreferenceOpaque_t {
    size_t workspace;
    uint32_t align[4];
};

namespace emulated {

struct product {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    double alpha, beta;
    const void *A, *B, *C;
    void *D;
};

static double element(cudaDataType type, const void *base, int64_t i) {
    if (type == CUDA_R_64F) return ((const double *)base)[i];
    if (type == CUDA_R_32F) return ((const float *)base)[i];
    unsigned word = (unsigned)((const unsigned short *)base)[i] << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* TF32 keeps 10 bits after the point. */
static float factor(float value, bool tf32) {
    if (!tf32) return value;
    unsigned word;
    memcpy(&word, &value, sizeof word);
    if ((word & 0x7f800000u) != 0x7f800000u) word = (word + 0xfffu + (word >> 13 & 1u)) & ~0x1fffu;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* op(M) as rows x columns by rows, in T. */
template <typename T>
static std::vector<T> dense(const cublasLtMatrixLayoutOpaque_t &l, const void *base, int64_t batch, bool turned,
                            bool tf32) {
    int64_t rows = turned ? l.columns : l.rows, columns = turned ? l.rows : l.columns;
    std::vector<T> out((size_t)(rows * columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int64_t at = batch * l.stride + (turned ? i * l.ld + j : j * l.ld + i);
            T value = (T)element(l.type, base, at);
            out[(size_t)(i * columns + j)] = sizeof(T) == 4 ? (T)factor((float)value, tf32) : value;
        }
    return out;
}

template <typename T> static void multiply(const product &p) {
    bool tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    int64_t M = p.d.rows, N = p.d.columns, K = p.desc.a == CUBLAS_OP_N ? p.a.columns : p.a.rows;
    for (int64_t batch = 0; batch < p.d.batch; batch++) {
        auto A = dense<T>(p.a, p.A, batch, p.desc.a == CUBLAS_OP_T, tf32); /* M x K */
        auto B = dense<T>(p.b, p.B, batch, p.desc.b == CUBLAS_OP_N, tf32); /* N x K */
        for (int64_t j = 0; j < N; j++)
            for (int64_t i = 0; i < M; i++) {
                const T *x = &A[(size_t)(i * K)], *y = &B[(size_t)(j * K)];
                T lanes[8] = {0}, sum = 0;
                int64_t k = 0;
                for (; k + 8 <= K; k += 8)
                    for (int l = 0; l < 8; l++) lanes[l] += x[k + l] * y[k + l];
                for (int l = 0; l < 8; l++) sum += lanes[l];
                for (; k < K; k++) sum += x[k] * y[k];
                T value = (T)p.alpha * sum;
                if (p.beta != 0) value += (T)p.beta * (T)element(p.c.type, p.C, batch * p.c.stride + j * p.c.ld + i);
                if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) value += (T)element(p.d.type, p.desc.bias, i);
                int64_t at = batch * p.d.stride + j * p.d.ld + i;
                if (p.d.type == CUDA_R_64F) ((double *)p.D)[at] = (double)value;
                else if (p.d.type == CUDA_R_32F) ((float *)p.D)[at] = (float)value;
                else ((__nv_bfloat16 *)p.D)[at] = __float2bfloat16((float)value);
            }
    }
}

static size_t size_of(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

static bool inside(const cublasLtMatrixLayoutOpaque_t &l, const void *base) {
    int64_t last = (l.batch - 1) * l.stride + (l.columns - 1) * l.ld + l.rows;
    return is_device(base, (size_t)last * size_of(l.type));
}

} // namespace emulated

using namespace emulated;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_INVALID_VALUE   ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
           : status == CUBLAS_STATUS_ALLOC_FAILED  ? "CUBLAS_STATUS_ALLOC_FAILED"
           : status == CUBLAS_STATUS_SUCCESS       ? "CUBLAS_STATUS_SUCCESS"
                                                   : "CUBLAS_STATUS_EXECUTION_FAILED";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    *desc = new cublasLtMatmulDescOpaque_t{compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attr,
                                              const void *value, size_t bytes) {
    size_t wanted = attr == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(int32_t);
    if (bytes != wanted) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attr) {
    case CUBLASLT_MATMUL_DESC_TRANSA: memcpy(&desc->a, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: memcpy(&desc->b, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: memcpy(&desc->epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: memcpy(&desc->bias, value, bytes); break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    *layout = new cublasLtMatrixLayoutOpaque_t{type, (int64_t)rows, (int64_t)columns, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attr,
                                                const void *value, size_t bytes) {
    int32_t count;
    if (attr == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == sizeof count) {
        memcpy(&count, value, bytes);
        layout->batch = count;
    } else if (attr == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == sizeof layout->stride) {
        memcpy(&layout->stride, value, bytes);
    } else {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new cublasLtMatmulPreferenceOpaque_t{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void *value,
                                                    size_t bytes) {
    int which = (int)attr - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (attr == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof preference->workspace)
        memcpy(&preference->workspace, value, bytes);
    else if (which >= 0 && which < 4 && bytes == sizeof preference->align[0])
        memcpy(&preference->align[which], value, bytes);
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *got) {
    bool f64 = desc->compute == CUBLAS_COMPUTE_64F;
    *got = 0;
    /* What the library is known not to do. */
    if (f64 != (a->type == CUDA_R_64F) || f64 != (d->type == CUDA_R_64F) || wanted < 1 ||
        (d->type == CUDA_R_16BF && a->type != CUDA_R_16BF) || desc->scale != (f64 ? CUDA_R_64F : CUDA_R_32F) || (f64 && desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    for (int i = 0; i < 4; i++) results->algo.data[i] = preference->align[i]; /* it counts on them */
    *got = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (cudaError_t entered = enter()) return fail(entered), CUBLAS_STATUS_EXECUTION_FAILED;
    product p = {*desc, *a, *b, *c, *d, 0, 0, A, B, C, D};
    bool f64 = desc->scale == CUDA_R_64F;
    p.alpha = f64 ? *(const double *)alpha : *(const float *)alpha;
    p.beta = f64 ? *(const double *)beta : *(const float *)beta;
    int64_t m = desc->a == CUBLAS_OP_N ? a->rows : a->columns, k = desc->a == CUBLAS_OP_N ? a->columns : a->rows;
    int64_t kb = desc->b == CUBLAS_OP_N ? b->rows : b->columns, n = desc->b == CUBLAS_OP_N ? b->columns : b->rows;
    if (m != d->rows || n != d->columns || k != kb || c->rows != m || c->columns != n || m < 1 || n < 1 || k < 1 ||
        a->ld < a->rows || b->ld < b->rows || c->ld < m || d->ld < m || a->batch != d->batch || b->batch != d->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!inside(p.a, A) || !inside(p.b, B) || !inside(p.d, D) || (p.beta != 0 && !inside(p.c, C)))
        die("a matrix of a product lies outside of device memory: %lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
    if (workspace_bytes && !is_device(workspace, workspace_bytes)) die("the workspace lies outside of device memory");
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && !is_device(desc->bias, (size_t)m * size_of(d->type)))
        die("the bias lies outside of device memory");
    const void *each[4] = {A, B, C, D};
    for (int i = 0; algo && i < 4; i++)
        if ((uintptr_t)each[i] % algo->data[i] != 0) die("a matrix is aligned worse than its algorithm was asked for");
    cudaError_t error = enqueue(stream, "product", [p, f64] {
        if (f64) multiply<double>(p);
        else multiply<float>(p);
    });
    return error ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
}
