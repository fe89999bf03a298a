/* cpu.c: the CPU as a backend: what it is called, and which instruction set's kernels a context gets. */
#include "cpu.h"

#include <string.h>
#include <unistd.h>

typedef struct choice {
    const char *name, *text;
    const di_kernels *f32, *bf16, *f64;
} choice;

/* Worst first. */
static const choice choices[] = {
#if defined(__x86_64__)
    {"scalar", "x86-64 processor", &di_kernels_f32_scalar, &di_kernels_bf16_scalar, &di_kernels_f64_scalar},
    {"avx2", "x86-64 processor with AVX2 and FMA", &di_kernels_f32_avx2, &di_kernels_bf16_avx2,
     &di_kernels_f64_avx2},
    {"avx512", "x86-64 processor with AVX-512", &di_kernels_f32_avx512, &di_kernels_bf16_avx512,
     &di_kernels_f64_avx512},
#else
    {"scalar", "processor", &di_kernels_f32_scalar, &di_kernels_bf16_scalar, &di_kernels_f64_scalar},
#endif
};
enum { CHOICES = sizeof choices / sizeof choices[0] };

/* Index of the best choice that this processor runs. */
static int best(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 1;
    return 2;
#else
    return 0;
#endif
}

static int32_t device_count(void) {
    return 1;
}

static distac_status device_info(int32_t index, distac_device_info *out) {
    if (index != 0) return di_fail(DISTAC_EINVAL, "CPU index is %d, there is only 0", (int)index);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), cores = sysconf(_SC_NPROCESSORS_ONLN);
    memset(out, 0, sizeof *out);
    out->name = "cpu";
    out->text = choices[best()].text;
    out->memory = pages > 0 && page > 0 ? (int64_t)pages * (int64_t)page : 0;
    out->units = cores > 0 ? (int32_t)cores : 1;
    return DISTAC_OK;
}

bool di_cpu_multiplies_bf16(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static distac_status open_cpu(distac_context *context, int32_t index, const char *kernels, const char *products) {
    bool bf16 = strcmp(products, "bf16") == 0;
    if (!bf16 && strcmp(products, "f32") != 0)
        return di_fail(DISTAC_EINVAL, "products is \"%.40s\", choose f32 or bf16 (tf32 is for CUDA devices)",
                       products);
    if (index != 0) return di_fail(DISTAC_EDEVICE, "device cpu:%d does not exist, there is only cpu", (int)index);
    int most = best(), chosen = most;
    if (kernels && strcmp(kernels, "auto") != 0) {
        for (chosen = 0; chosen < CHOICES; chosen++)
            if (strcmp(choices[chosen].name, kernels) == 0) break;
        if (chosen == CHOICES)
            return di_fail(DISTAC_EINVAL, "kernels is \"%.40s\", choose auto, scalar, avx2 or avx512", kernels);
        if (chosen > most)
            return di_fail(DISTAC_EUNSUPPORTED,
                           "this processor does not run the kernels \"%s\", the best it runs is \"%s\"", kernels,
                           choices[most].name);
    }
    context->kernels_f32 = choices[chosen].f32;
    context->kernels_f64 = choices[chosen].f64;
    context->kernels_model = bf16 ? choices[chosen].bf16 : choices[chosen].f32;
    context->isa = choices[chosen].name;
    context->products = "f32";
    if (bf16) context->products = chosen == 2 && di_cpu_multiplies_bf16() ? "bf16" : "bf16 (emulated)";
    return DISTAC_OK;
}

const di_backend di_backend_cpu = {"cpu", device_count, device_info, open_cpu, NULL};
