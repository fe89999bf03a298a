/* cblas.h, without BLAS: see lapacke.h. */
#ifndef DISTAC_WITHOUT_CBLAS_H
#define DISTAC_WITHOUT_CBLAS_H

enum { CblasRowMajor = 101, CblasColMajor, CblasNoTrans = 111, CblasTrans, CblasUpper = 121, CblasLower,
       CblasNonUnit = 131, CblasUnit, CblasLeft = 141, CblasRight };

void cblas_dgemm(int first, ...);
void cblas_dgemv(int first, ...);
double cblas_dnrm2(int first, ...);
void cblas_dscal(int first, ...);
void cblas_dsymm(int first, ...);
void cblas_dsymv(int first, ...);
void cblas_dsyrk(int first, ...);
void cblas_dtrsm(int first, ...);
void cblas_dtrsv(int first, ...);
void cblas_sgemm(int first, ...);
void cblas_sscal(int first, ...);
void cblas_ssymm(int first, ...);
void cblas_ssyrk(int first, ...);
void cblas_strsm(int first, ...);

#endif
