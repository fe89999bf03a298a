/* lapacke.h, without LAPACK: what tensor/lapack.h lists, by name alone. Nothing is called: di_lapack_ready refuses
 * before. */
#ifndef DISTAC_WITHOUT_LAPACKE_H
#define DISTAC_WITHOUT_LAPACKE_H

typedef int lapack_int;
enum { LAPACK_ROW_MAJOR = 101, LAPACK_COL_MAJOR = 102 };

lapack_int LAPACKE_dgesdd_work(int order, ...);
lapack_int LAPACKE_dpocon_work(int order, ...);
lapack_int LAPACKE_dpotrf(int order, ...);
lapack_int LAPACKE_dpotrf_work(int order, ...);
lapack_int LAPACKE_dpotrs(int order, ...);
lapack_int LAPACKE_dstein_work(int order, ...);
lapack_int LAPACKE_dsyevd_work(int order, ...);
lapack_int LAPACKE_dsytrd_work(int order, ...);
lapack_int LAPACKE_sormtr_work(int order, ...);
lapack_int LAPACKE_spotrf_work(int order, ...);
lapack_int LAPACKE_ssytrd_work(int order, ...);

#endif
