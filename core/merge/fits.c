/* fits.c: whether a merge fits into the memory that is allowed: told before anything
 * is read, with the tensor that wants most and the least that would do. Methods that
 * hold whole tensors say what they hold (di_method.need); file pages are apart. */
#include "../tensor/walk.h"
#include "merge.h"
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

int64_t di_run_largest(const di_merge_run *run, int64_t *entry) {
    const di_method *method = run->merge->method;
    int64_t most = 0;
    *entry = -1;
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *at = run->base->entries[i];
        if (!di_run_takes(run, i) || at->numel == 0) continue;
        int64_t bytes = (int64_t)di_run_whole_bytes(at) + (method->need ? method->need(run, at) : 0);
        if (bytes <= most) continue;
        most = bytes;
        *entry = i;
    }
    return most;
}

/* `bytes` for a tensor (-1: none is merged as a whole), `rest` beside them. */
static distac_status check(const di_merge_run *run, int64_t entry, int64_t bytes, int64_t rest, const char *what) {
    int64_t limit = atomic_load(&run->context->memory_limit), least = (bytes + rest + MIB - 1) / MIB;
    const char *name = run->merge->method->name;
    char shape[64];
    if (limit <= 0 || bytes + rest <= limit) return DISTAC_OK;
    double limit_mib = (double)limit / MIB, rest_mib = (double)rest / MIB;
    if (entry < 0)
        return di_fail_at(DISTAC_ENOMEM, run->function,
                          "%s wants %.1f MiB, whatever the models; the memory limit is %.1f MiB, %lldMiB is the "
                          "least that would do (--memory %lldMiB)",
                          name, rest_mib, limit_mib, (long long)least, (long long)least);
    const di_entry *at = run->base->entries[entry];
    return di_fail_at(DISTAC_ENOMEM, run->function,
                      "tensor \"%s\" %s: %s wants %.1f MiB for it at once%s and %.1f MiB for the rest; the memory "
                      "limit is %.1f MiB, %lldMiB is the least that would do (--memory %lldMiB)",
                      at->name, di_shape_text(at->rank, at->shape, shape, sizeof shape), name,
                      (double)bytes / MIB, what, rest_mib, limit_mib, (long long)least, (long long)least);
}

distac_status di_run_room(const di_merge_run *run, int64_t entry, int64_t bytes, const char *what) {
    return check(run, entry, bytes, atomic_load(&run->context->memory_used), what);
}

distac_status di_run_fits(const di_merge_run *run, int64_t beside) {
    int64_t entry, bytes = di_run_largest(run, &entry);
    return check(run, entry, bytes, atomic_load(&run->context->memory_used) + beside, "");
}

distac_status di_run_no_room(const di_merge_run *run, int64_t entry) {
    const di_entry *at = run->base->entries[entry];
    if (strstr(distac_last_error(), "tensor \"")) return DISTAC_ENOMEM; /* di_run_room has said all of it */
    char shape[64], *told = di_strdup(distac_last_error());
    distac_status status = di_fail_at(DISTAC_ENOMEM, run->function, "tensor \"%s\" %s, as a whole by %s: %s",
                                      at->name, di_shape_text(at->rank, at->shape, shape, sizeof shape),
                                      run->merge->method->name, told ? told : "out of memory");
    free(told);
    return status;
}
