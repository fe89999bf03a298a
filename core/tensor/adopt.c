/* adopt.c: tensors over memory of the caller's, not copied. No callback tells when the memory may go, since it
 * would come from whatever thread lets go last; the caller keeps a tensor of its own over the memory and asks who
 * else is there. */
#include "tensor.h"

static void leave(void *owner) { (void)owner; } /* the memory is the caller's */

distac_status distac_tensor_adopt(distac_context *context, int32_t dtype, int32_t n_shape, const int64_t *shape,
                                  void *data, int64_t bytes, int32_t readonly, distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(data, "data is NULL");
    if (bytes < 0) return di_fail(DISTAC_EINVAL, "bytes is %lld, wanted 0 or more", (long long)bytes);
    distac_tensor *tensor;
    DI_TRY(di_tensor_foreign(context, dtype, n_shape, shape, data, readonly != 0, leave, NULL, &tensor));
    int64_t needed = (int64_t)tensor->storage->bytes, element = distac_dtype_bytes(dtype);
    char text[256];
    distac_status status = DISTAC_OK;
    if (needed > bytes) {
        status = di_fail(DISTAC_ESHAPE, "shape %s of %s takes %lld bytes, data has %lld",
                         di_shape_text(n_shape, shape, text, sizeof text), distac_dtype_name(dtype),
                         (long long)needed, (long long)bytes);
    } else if ((uintptr_t)data % (uintptr_t)element != 0) {
        status = di_fail(DISTAC_EINVAL, "data does not begin at a multiple of the %lld bytes of %s",
                         (long long)element, distac_dtype_name(dtype));
    }
    if (status != DISTAC_OK) {
        distac_tensor_release(tensor);
        return status;
    }
    *out = tensor;
    return DISTAC_OK;
}

int64_t distac_tensor_sharers(const distac_tensor *tensor) {
    /* acquire: what the others did with the memory is done when they are seen to be gone */
    return tensor ? atomic_load_explicit(&tensor->storage->refs, memory_order_acquire) : -1;
}
