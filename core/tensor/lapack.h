/* lapack.h: LAPACK and BLAS, whose libraries are loaded when the first context is opened: relocating OpenBLAS
 * takes longer than everything else that a program does to begin, and the engine has much to do that needs
 * neither. Calls look as they do elsewhere; a function that is not in the lists below is not there. */
#ifndef DISTAC_LAPACK_H
#define DISTAC_LAPACK_H

#include "../base/base.h"
#include <cblas.h>
#include <lapacke.h>

#define DI_LAPACK(X)                                                                                              \
    X(LAPACKE_dgesdd_work)                                                                                        \
    X(LAPACKE_dpocon_work) X(LAPACKE_dpotrf) X(LAPACKE_dpotrf_work) X(LAPACKE_dpotrs)      \
        X(LAPACKE_dstein_work) X(LAPACKE_dsyevd_work) X(LAPACKE_dsytrd_work) X(LAPACKE_sormtr_work)               \
            X(LAPACKE_spotrf_work) X(LAPACKE_ssytrd_work)
#define DI_BLAS(X)                                                                                                \
    X(cblas_dgemm)                                                                                                \
    X(cblas_dgemv) X(cblas_dnrm2) X(cblas_dscal) X(cblas_dsymm) X(cblas_dsymv) X(cblas_dsyrk) X(cblas_dtrsm)      \
        X(cblas_dtrsv) X(cblas_sgemm) X(cblas_sscal) X(cblas_ssymm) X(cblas_ssyrk) X(cblas_strsm)

typedef struct di_lapack_table {
#define DI_ENTRY(name) __typeof__(name) *name##_at;
    DI_LAPACK(DI_ENTRY) DI_BLAS(DI_ENTRY)
#undef DI_ENTRY
} di_lapack_table;
extern di_lapack_table di_lapack; /* filled once, before there is a context */

#define LAPACKE_dgesdd_work di_lapack.LAPACKE_dgesdd_work_at
#define LAPACKE_dpocon_work di_lapack.LAPACKE_dpocon_work_at
#define LAPACKE_dpotrf di_lapack.LAPACKE_dpotrf_at
#define LAPACKE_dpotrf_work di_lapack.LAPACKE_dpotrf_work_at
#define LAPACKE_dpotrs di_lapack.LAPACKE_dpotrs_at
#define LAPACKE_dstein_work di_lapack.LAPACKE_dstein_work_at
#define LAPACKE_dsyevd_work di_lapack.LAPACKE_dsyevd_work_at
#define LAPACKE_dsytrd_work di_lapack.LAPACKE_dsytrd_work_at
#define LAPACKE_sormtr_work di_lapack.LAPACKE_sormtr_work_at
#define LAPACKE_spotrf_work di_lapack.LAPACKE_spotrf_work_at
#define LAPACKE_ssytrd_work di_lapack.LAPACKE_ssytrd_work_at
#define cblas_dgemm di_lapack.cblas_dgemm_at
#define cblas_dgemv di_lapack.cblas_dgemv_at
#define cblas_dnrm2 di_lapack.cblas_dnrm2_at
#define cblas_dscal di_lapack.cblas_dscal_at
#define cblas_dsymm di_lapack.cblas_dsymm_at
#define cblas_dsymv di_lapack.cblas_dsymv_at
#define cblas_dsyrk di_lapack.cblas_dsyrk_at
#define cblas_dtrsm di_lapack.cblas_dtrsm_at
#define cblas_dtrsv di_lapack.cblas_dtrsv_at
#define cblas_sgemm di_lapack.cblas_sgemm_at
#define cblas_sscal di_lapack.cblas_sscal_at
#define cblas_ssymm di_lapack.cblas_ssymm_at
#define cblas_ssyrk di_lapack.cblas_ssyrk_at
#define cblas_strsm di_lapack.cblas_strsm_at

/* Loads them, and makes the buffers that so many threads need there. Errors: ENOMEM, EUNSUPPORTED. */
distac_status di_lapack_open(int32_t threads);
/* One thread in OpenBLAS, process-wide; called before LAPACK. Errors: EUNSUPPORTED (built without it). */
distac_status di_lapack_ready(void);

#endif
