/* plan.c: what a merge of files would read, write and hold, told from headers. */
#define _GNU_SOURCE 1 /* mincore */
#include "merge.h"
#include <sys/mman.h>
#include <unistd.h>

enum { PROBES = 16 }; /* pages looked at per tensor, whether they are in memory */

static int64_t cached(const di_entry *entry) {
    const uint8_t *bytes = entry->data;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    int64_t there = 0;
    if (!bytes || entry->bytes < 1) return entry->bytes;
    for (int64_t i = 0; i < PROBES; i++) {
        unsigned char seen = 0;
        uintptr_t at = (uintptr_t)bytes + (uintptr_t)(entry->bytes - 1) / PROBES * (uintptr_t)i;
        if (mincore((void *)(at / page * page), page, &seen) == 0) there += seen & 1;
    }
    return entry->bytes / PROBES * there;
}

static void add(const di_entry *entry, distac_merge_estimate *out) {
    out->input_bytes += entry->bytes;
    out->cached_bytes += cached(entry);
}

static void estimate(const di_merge_run *run, int32_t dtype, distac_merge_estimate *out) {
    const di_method *method = run->merge->method;
    int64_t lanes = run->lanes, rows = lanes * (run->models + 2) * (int64_t)(DI_STEP * sizeof(double));
    out->looks = method->prepare ? 2 : 1;
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        out->tensors++;
        out->output_bytes += di_type_bytes(di_st_target(entry, dtype), entry->numel);
        add(entry, out);
        if (!di_entry_is_float(entry) || run->factors[i] == 0) continue;
        out->merged++;
        out->elements += entry->numel;
        for (int32_t t = 0; t < run->models; t++)
            add(run->inputs[t]->entries[run->partner[t * run->base->count + i]], out);
        if (!method->takes || !method->takes(run, entry)) continue;
        out->whole++;
        if (entry->numel > out->whole_numel) out->whole_numel = entry->numel;
    }
    /* Batches being made and written, rows, and what finding thresholds holds; a whole tensor. */
    int64_t largest;
    out->memory_bytes = DI_FILES_BYTES + rows + di_run_largest(run, &largest);
    if (method->prepare) out->memory_bytes += DI_SELECT_BYTES;
}

distac_status distac_merge_plan(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                distac_checkpoint *const *models, int32_t dtype, distac_merge_estimate *out) {
    di_merge_run run;
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (dtype != -1 && !di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype %d; expected -1 or a float type", (int)dtype);
    *out = (distac_merge_estimate){0};
    distac_status status = di_run_match(&run, merge, __func__, true, base, n_models, models);
    if (status == DISTAC_OK) estimate(&run, dtype, out);
    di_run_close(&run);
    return status;
}
