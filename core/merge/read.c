/* read.c: elements of the inputs in double: of the base, and of the models as task vectors. */
#include "merge.h"
#include <string.h>

static bool is_aligned_f32(const di_entry *entry, const uint8_t *bytes) {
    return entry->type->dtype == DISTAC_F32 && (uintptr_t)bytes % sizeof(float) == 0;
}

/* Elements ahead of those being read that are asked for already: a merge reads more streams at once than the
 * processor follows by itself. */
enum { AHEAD = 256 };

/* The elements in double, whatever their type, less the base's if there is one.
 * A number that is not finite has an exponent of all ones; plus one it carries
 * into the sign bit of the result: no branches, so this runs on vectors. */
DI_CLONES static uint64_t widen_f32(const float *restrict x, int64_t n, double *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x + i + AHEAD);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        out[i] = (double)x[i];
    }
    return seen >> 31;
}

DI_CLONES static uint64_t widen_less_f32(const float *restrict x, int64_t n, const double *restrict base,
                                         double *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x + i + AHEAD);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        out[i] = (double)x[i] - base[i];
    }
    return seen >> 31;
}

DI_CLONES static uint64_t subtract(int64_t n, const double *restrict base, double *restrict out) {
    uint64_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits;
        if (base) out[i] -= base[i];
        memcpy(&bits, &out[i], sizeof bits);
        seen |= (bits & UINT64_C(0x7ff0000000000000)) + UINT64_C(0x0010000000000000);
    }
    return seen >> 63;
}

/* True if all is finite. The base's own elements are looked at through what is left of the models' after it. */
static bool read_f64(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n, const double *base,
                     double *out) {
    const uint8_t *run = di_entry_run(entry, bytes, first, n);
    if (run && is_aligned_f32(entry, run)) {
        const float *x = (const float *)(const void *)run;
        return (base ? widen_less_f32(x, n, base, out) : widen_f32(x, n, out)) == 0;
    }
    di_entry_f64(entry, bytes, first, n, out);
    return subtract(n, base, out) == 0;
}

bool di_run_base(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *out) {
    return read_f64(run->base->entries[entry], run->base_bytes.bytes[entry], first, n, NULL, out);
}

bool di_run_load(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, const double *base,
                 double *restrict out) {
    int64_t partner = run->partner[t * run->base->count + entry];
    return read_f64(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n, base, out);
}

double *const *di_run_rows(const di_merge_run *run, int32_t lane) {
    return run->rows + (int64_t)lane * (run->models + 2);
}

bool di_run_step(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *const *rows) {
    bool fine = true;
    double *base = run->whole ? rows[run->models] : NULL;
    if (base) fine = di_run_base(run, entry, first, n, base);
    for (int32_t t = 0; t < run->models; t++) fine &= di_run_load(run, t, entry, first, n, base, rows[t]);
    return fine;
}

static const float *floats_of(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    const uint8_t *run = di_entry_run(entry, bytes, first, n);
    return run && is_aligned_f32(entry, run) ? (const float *)(const void *)run : NULL;
}

bool di_run_floats(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, di_floats *out) {
    const char *isa = run->context->isa;
    if (n % 8 || run->models > DI_FLOATS || !isa || strcmp(isa, "avx512") != 0) return false;
    out->base = NULL;
    if (run->whole) {
        out->base = floats_of(run->base->entries[entry], run->base_bytes.bytes[entry], first, n);
        if (!out->base) return false;
    }
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        out->x[t] = floats_of(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n);
        if (!out->x[t]) return false;
    }
    return true;
}
