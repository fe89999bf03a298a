/* products.c: matrix products by cuBLASLt. */
#include "cuda.h"

#include <string.h>

distac_status di_cuda_products_open(distac_context *c, di_cuda *cuda, const char *products) {
    static const char what[] = "distac_context_create";
    cuda->compute = CUBLAS_COMPUTE_32F;
    if (strcmp(products, "tf32") == 0)
        cuda->compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    else if (strcmp(products, "bf16") == 0)
        cuda->device.products = "bf16";
    else if (strcmp(products, "f32") != 0)
        return di_fail_at(DISTAC_EINVAL, what, "products is \"%.40s\", choose f32, tf32 or bf16", products);
    cuda->device.products = strcmp(products, "tf32") == 0 ? "tf32" : strcmp(products, "bf16") == 0 ? "bf16" : "f32";
    DI_TRY(di_cuda_check_blas(c, what, cublasLtCreate(&cuda->lt)));
    cuda->workspace = di_cuda_alloc(c, DI_CUDA_WORKSPACE);
    return cuda->workspace ? DISTAC_OK : DISTAC_ENOMEM;
}

void di_cuda_products_close(distac_context *c, di_cuda *cuda) {
    di_cuda_free(c, cuda->workspace, DI_CUDA_WORKSPACE);
    if (cuda->lt) (void)cublasLtDestroy(cuda->lt);
}
