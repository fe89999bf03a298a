/* nonfinite.c: what is said of inputs with numbers that are not finite. */
#include "merge.h"
#include <math.h>

/* Appends the tensors with numbers that are not finite: of each input the count and the first, a dozen at most. */
static void add_others(const di_merge_run *run, di_text *text) {
    int64_t tensors = 0;
    double values[DI_STEP];
    char buffer[32];
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *at = run->base->entries[i];
        if (!di_entry_is_float(at) || run->factors[i] == 0) continue;
        for (int32_t t = run->whole ? -1 : 0; t < run->models; t++) {
            int64_t count = 0, first = 0;
            for (int64_t done = 0; done < at->numel; done += DI_STEP) {
                int64_t n = at->numel - done < DI_STEP ? at->numel - done : DI_STEP;
                if (t < 0 ? di_run_base(run, i, done, n, values) : di_run_load(run, t, i, done, n, NULL, values))
                    continue;
                for (int64_t k = 0; k < n; k++)
                    if (!isfinite(values[k]) && count++ == 0) first = done + k;
            }
            if (count && ++tensors <= 12)
                di_text_add(text, "\n  %s: tensor \"%s\": %lld not finite, the first is element %lld",
                            di_run_label(run, t, buffer, sizeof buffer), at->name, (long long)count,
                            (long long)first);
        }
    }
    if (tensors > 12) di_text_add(text, "\n  and %lld more tensors", (long long)tensors - 12);
    if (tensors < 2) di_text_free(text); /* told already */
}

/* Fails for the first number at or after `first` of an entry; more: what is said behind it. */
static distac_status tell(const di_merge_run *run, int64_t entry, int64_t first, const char *more) {
    const di_entry *at = run->base->entries[entry];
    char buffer[32];
    for (int64_t i = first; i < at->numel; i++) {
        double base = 0, value;
        if (run->whole) di_run_base(run, entry, i, 1, &base);
        if (!isfinite(base))
            return di_fail_at(DISTAC_ENUMERIC, run->function, "%s: tensor \"%s\", element %lld is %g%s",
                              di_run_label(run, -1, buffer, sizeof buffer), at->name, (long long)i, di_shown(base),
                              more);
        for (int32_t t = 0; t < run->models; t++) {
            di_run_load(run, t, entry, i, 1, NULL, &value);
            if (!isfinite(value) || !isfinite(value - base))
                return di_fail_at(DISTAC_ENUMERIC, run->function, "%s: tensor \"%s\", element %lld is %g%s",
                                  di_run_label(run, t, buffer, sizeof buffer), at->name, (long long)i,
                                  di_shown(value), more);
        }
    }
    return di_fail_at(DISTAC_ENUMERIC, run->function, "tensor \"%s\" changed while it was read", at->name);
}

distac_status di_run_nonfinite(di_merge_run *run, int64_t entry, int64_t first) {
    atomic_store(&run->bad_first, first);
    atomic_store(&run->bad_entry, entry + 1);
    return tell(run, entry, first, "");
}

distac_status di_run_nonfinite_all(const di_merge_run *run) {
    di_text others = {0};
    add_others(run, &others);
    distac_status status = tell(run, atomic_load(&run->bad_entry) - 1, atomic_load(&run->bad_first),
                                others.bytes ? others.bytes : "");
    di_text_free(&others);
    return status;
}
