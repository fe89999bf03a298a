/* cusolver.cpp: cuSOLVER on the emulated device, by LAPACK. */
#include "cusolverDn.h"
#include "emulator.h"

#include <lapacke.h>

struct cusolverDnContext {
    cudaStream_t stream;
};
struct cusolverDnParams {
    int unused;
};

using namespace emulated;

#define SOLVER_ENTER                                                                                               \
    std::lock_guard<std::recursive_mutex> guard(lock);                                                             \
    if (cudaError_t entered = enter()) return fail(entered), CUSOLVER_STATUS_EXECUTION_FAILED

static void need(const void *memory, int64_t doubles) {
    if (doubles > 0 && !is_device(memory, (size_t)doubles * 8)) die("a matrix of the solver lies outside of device memory");
}

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle) {
    SOLVER_ENTER;
    *handle = new cusolverDnContext{NULL};
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *params) {
    SOLVER_ENTER;
    *params = new cusolverDnParams{0};
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
    delete params;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t, cusolverEigMode_t, cublasFillMode_t, int n,
                                             const double *, int, const double *, int *lwork) {
    SOLVER_ENTER;
    *lwork = 2 * n + 64;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t mode, cublasFillMode_t fill, int n,
                                  double *A, int lda, double *W, double *work, int lwork, int *info) {
    SOLVER_ENTER;
    if (n < 1 || lda < n || lwork < 2 * n + 64 || mode != CUSOLVER_EIG_MODE_VECTOR)
        return CUSOLVER_STATUS_INVALID_VALUE;
    need(A, (int64_t)lda * (n - 1) + n), need(W, n), need(work, lwork);
    cudaError_t error = enqueue(handle->stream, "cusolverDnDsyevd", [=] {
        *info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', fill == CUBLAS_FILL_MODE_UPPER ? 'U' : 'L', n, A, lda, W);
    });
    return error ? CUSOLVER_STATUS_EXECUTION_FAILED : CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t, cusolverDnParams_t params, cusolverEigMode_t,
                                                   cublasFillMode_t, int64_t n, cudaDataType, const void *, int64_t,
                                                   cudaDataType, const void *, cudaDataType, size_t *on_device,
                                                   size_t *on_host, int64_t batch) {
    SOLVER_ENTER;
    if (!params || n > 32 * 1024) return CUSOLVER_STATUS_INVALID_VALUE;
    *on_device = (size_t)(n * batch) * 8;
    *on_host = 64;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t mode,
                                        cublasFillMode_t fill, int64_t n, cudaDataType type_a, void *A, int64_t lda,
                                        cudaDataType type_w, void *W, cudaDataType compute, void *device_buffer,
                                        size_t on_device, void *host_buffer, size_t on_host, int *info,
                                        int64_t batch) {
    SOLVER_ENTER;
    if (n < 1 || lda != n || batch < 1 || type_a != CUDA_R_64F || type_w != CUDA_R_64F || compute != CUDA_R_64F ||
        on_device < (size_t)(n * batch) * 8 || on_host < 64 || !host_buffer || !params || mode != CUSOLVER_EIG_MODE_VECTOR)
        return CUSOLVER_STATUS_INVALID_VALUE;
    if ((uintptr_t)host_buffer % 16) die("the solver's memory on the host is not aligned");
    need(A, n * n * batch), need(W, n * batch), need(device_buffer, n * batch);
    if (!is_device(info, (size_t)batch * sizeof *info)) die("the solver's verdicts lie outside of device memory");
    cudaError_t error = enqueue(handle->stream, "cusolverDnXsyevBatched", [=] {
        for (int64_t i = 0; i < batch; i++)
            info[i] = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', fill == CUBLAS_FILL_MODE_UPPER ? 'U' : 'L', (int)n,
                                     (double *)A + i * n * n, (int)n, (double *)W + i * n);
    });
    return error ? CUSOLVER_STATUS_EXECUTION_FAILED : CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDgesvd_bufferSize(cusolverDnHandle_t, int m, int n, int *lwork) {
    SOLVER_ENTER;
    if (m < n) return CUSOLVER_STATUS_INVALID_VALUE;
    *lwork = 5 * m + 64;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDgesvd(cusolverDnHandle_t handle, signed char jobu, signed char jobvt, int m, int n,
                                  double *A, int lda, double *S, double *U, int ldu, double *VT, int ldvt,
                                  double *work, int lwork, double *, int *info) {
    SOLVER_ENTER;
    if (m < n || n < 1 || lda < m || ldu < m || ldvt < n || lwork < 5 * m + 64 || jobu != 'S' || jobvt != 'S')
        return CUSOLVER_STATUS_INVALID_VALUE;
    need(A, (int64_t)lda * n), need(S, n), need(U, (int64_t)ldu * n), need(VT, (int64_t)ldvt * n), need(work, lwork);
    cudaError_t error = enqueue(handle->stream, "cusolverDnDgesvd", [=] {
        std::vector<double> rest((size_t)n);
        *info = LAPACKE_dgesvd(LAPACK_COL_MAJOR, 'S', 'S', m, n, A, lda, S, U, ldu, VT, ldvt, rest.data());
    });
    return error ? CUSOLVER_STATUS_EXECUTION_FAILED : CUSOLVER_STATUS_SUCCESS;
}
}
