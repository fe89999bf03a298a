/* device.cpp: the emulated device as such: how many there are, errors, failures that tests ask for. */
#include "emulator.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

namespace emulated {

std::recursive_mutex lock;
const char *running = "nothing";

/* What tests set: the number of devices; the call (counted from the setting) that fails, with what; bytes. */
static struct {
    long long devices, calls, fail_at, fail_with, forwards, backwards;
} control = {-1, 0, 0, 0, 0, 0};
static cudaError_t lost = cudaSuccess;
static thread_local cudaError_t last = cudaSuccess;
static thread_local int current = 0;

static int devices() {
    if (control.devices < 0) {
        const char *wish = getenv("EMULATED_CUDA_DEVICES");
        control.devices = wish ? atoi(wish) : 2;
    }
    return (int)control.devices;
}

/* After these the device answers nothing else until the process ends. */
static bool sticky(cudaError_t error) {
    return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure || error == cudaErrorECCUncorrectable;
}

cudaError_t enter() {
    if (lost != cudaSuccess) return lost;
    control.calls++;
    if (control.fail_at > 0 && control.calls == control.fail_at) {
        cudaError_t error = (cudaError_t)control.fail_with;
        if (sticky(error)) lost = error;
        return error;
    }
    return cudaSuccess;
}

cudaError_t fail(cudaError_t error) {
    if (error != cudaSuccess) last = error;
    return error;
}

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated CUDA: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (in %s)\n", running);
    va_end(arguments);
    abort();
}

long long memory_control(const char *what, long long value);
long long layout_errors(); /* layout.cpp */

} // namespace emulated

using namespace emulated;

/* "devices": how many there are. "calls": calls so far. "fail_with": the error that the call "fail_at" (the first is 1)
 * gives from then on counted anew; an error that loses the device is given by all calls after it. "revive": a lost
 * device is whole again. "layout": elements of matrix fragments that lie elsewhere than on a device. "memory": bytes of a device; "used": bytes in use now. Answers the value before. */
extern "C" long long emulated_cuda(const char *what, long long value) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    long long before = 0, *field = NULL;
    if (strcmp(what, "devices") == 0) devices(), field = &control.devices;
    if (strcmp(what, "calls") == 0) field = &control.calls;
    if (strcmp(what, "fail_with") == 0) field = &control.fail_with;
    if (strcmp(what, "fail_at") == 0) field = &control.fail_at, control.calls = 0;
    if (strcmp(what, "revive") == 0) {
        lost = cudaSuccess, last = cudaSuccess, control.fail_at = 0;
        return 0;
    }
    if (strcmp(what, "layout") == 0) return layout_errors();
    if (!field) return memory_control(what, value);
    before = *field;
    *field = value;
    return before;
}

extern "C" {

cudaError_t cudaGetLastError(void) {
    cudaError_t error = lost != cudaSuccess ? lost : last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return lost != cudaSuccess ? lost : last; }

static const struct {
    cudaError_t error;
    const char *name, *text;
} texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &t : texts)
        if (t.error == error) return t.text;
    return "unknown error";
}

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &t : texts)
        if (t.error == error) return t.name;
    return "cudaErrorUnknown";
}

cudaError_t cudaGetDeviceCount(int *count) {
    EMULATED_ENTER;
    *count = devices();
    if (*count < 0) return *count = 0, fail(cudaErrorInsufficientDriver);
    return *count == 0 ? fail(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    EMULATED_ENTER;
    if (device < 0 || device >= devices()) return fail(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    EMULATED_ENTER;
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
    EMULATED_ENTER;
    if (device < 0 || device >= devices()) return fail(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "emulated device");
    prop->totalGlobalMem = (size_t)memory_control("total", 0);
    prop->major = 9;
    prop->multiProcessorCount = 4;
    prop->sharedMemPerBlockOptin = 227 << 10;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device) {
    EMULATED_ENTER;
    if (device < 0 || device >= devices()) return fail(cudaErrorInvalidDevice);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 << 10; break;
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    default: return fail(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    EMULATED_ENTER;
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { return cudaRuntimeGetVersion(version); }
}
