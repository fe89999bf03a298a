/* pixels.c: which table of pixel kernels a context uses. */
#include "../pixels.h"

#include <string.h>

const di_pixels *di_pixels_for(const distac_context *context) {
#if defined(__x86_64__)
    if (context->isa && strcmp(context->isa, "avx512") == 0) return &di_pixels_avx512;
    if (context->isa && strcmp(context->isa, "avx2") == 0) return &di_pixels_avx2;
#endif
    (void)context;
    return &di_pixels_scalar;
}
