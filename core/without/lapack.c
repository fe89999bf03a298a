/* lapack.c, without LAPACK: contexts open, what calls it is refused by name. */
#include "tensor/lapack.h"

di_lapack_table di_lapack; /* nothing is ever called through it */

distac_status di_lapack_open(int32_t threads) { return (void)threads, DISTAC_OK; }

distac_status di_lapack_ready(void) {
    return di_fail_at(DISTAC_EUNSUPPORTED, "LAPACK",
                      "singular values, eigenvectors and what needs them are left out on"
                      " the CPU: this build is without LAPACK");
}
