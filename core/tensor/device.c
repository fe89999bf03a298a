/* device.c: tensors between host memory and a device's. */
#include "../backend/backend.h"
#include "walk.h"

/* A dense tensor's elements to the same place in the other memory. */
static distac_status across(distac_tensor *dst, const distac_tensor *src) {
    distac_context *context = dst->storage->there ? dst->context : src->context;
    size_t bytes = (size_t)(dst->numel * distac_dtype_bytes(dst->dtype));
    if (dst->storage->there) return context->device->upload(context, dst->data, src->data, bytes);
    return context->device->download(context, dst->data, src->data, bytes);
}

/* What is converted or gathered is so where it lies, and crosses dense and in dst's type. */
distac_status di_tensor_carry(distac_tensor *dst, const distac_tensor *src) {
    distac_tensor *dense = NULL, *arrived = NULL;
    distac_status status = DISTAC_OK;
    if (di_tensor_is_contiguous(src) && src->dtype == dst->dtype) {
        di_tensor_retain(src);
        dense = (distac_tensor *)(uintptr_t)src;
    } else {
        DI_TRY(distac_tensor_cast(src, dst->dtype, &dense));
    }
    if (di_tensor_is_contiguous(dst)) {
        status = across(dst, dense);
    } else {
        status = di_tensor_new_beside(dst, dst->dtype, dst->rank, dst->shape, false, &arrived);
        if (status == DISTAC_OK) status = across(arrived, dense);
        if (status == DISTAC_OK) status = distac_tensor_copy(dst, arrived);
    }
    distac_tensor_release(arrived);
    distac_tensor_release(dense);
    return status;
}

static distac_status bring_to(const distac_tensor *tensor, bool there, distac_tensor **out) {
    if (tensor->storage->there == there && di_tensor_is_contiguous(tensor)) {
        di_tensor_retain(tensor);
        *out = (distac_tensor *)(uintptr_t)tensor;
        return DISTAC_OK;
    }
    DI_TRY(di_tensor_new_at(tensor->context, there, tensor->dtype, tensor->rank, tensor->shape, out));
    distac_status status = distac_tensor_copy(*out, tensor);
    if (status == DISTAC_OK) return DISTAC_OK;
    distac_tensor_release(*out);
    *out = NULL;
    return status;
}

distac_status di_tensor_bring(const distac_tensor *tensor, bool there, distac_tensor **out) {
    *out = NULL;
    return bring_to(tensor, there, out);
}

distac_status distac_tensor_to(const distac_tensor *tensor, const char *device, distac_tensor **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    DI_REQUIRE(tensor, "tensor is NULL");
    DI_REQUIRE(device, "device is NULL");
    DI_TRY(di_device_attach(tensor->context, device));
    return bring_to(tensor, device[0] == 'c' && device[1] == 'u',
                    out); /* attach knows no others than cpu and cuda */
}
