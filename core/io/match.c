/* match.c: do two checkpoints hold the same float tensors? Every misfit is told, with the nearest name. */
#include "io.h"
#include <stdlib.h>

enum { MAX_LINES = 12 };

typedef struct report {
    di_text *text;
    int64_t lines;
    distac_status status;
    di_asked is_asked;
    const void *arg;
} report;

static bool asked(const report *r, const char *name) { return !r->is_asked || r->is_asked(r->arg, name); }

/* Counts a misfit; true if there is room to print it. */
static bool line(report *r, distac_status status) {
    if (r->status != DISTAC_ENOTFOUND) r->status = status;
    return r->lines++ < MAX_LINES;
}

/* Names of the float tensors of a checkpoint. */
static const char **float_names(const distac_checkpoint *checkpoint, int64_t *count) {
    const char **names = di_new((size_t)(checkpoint->count ? checkpoint->count : 1) * sizeof *names);
    *count = 0;
    for (int64_t i = 0; names && i < checkpoint->count; i++)
        if (di_entry_is_float(checkpoint->entries[i])) names[(*count)++] = checkpoint->entries[i]->name;
    return names;
}

/* Float tensors of `have` that `lack` does not hold. */
static void report_absent(report *r, const distac_checkpoint *have, const distac_checkpoint *lack,
                          const char *lack_name, const char *word) {
    int64_t count = 0;
    const char **names = NULL;
    for (int64_t i = 0; i < have->count; i++) {
        const di_entry *entry = have->entries[i];
        if (!di_entry_is_float(entry) || !asked(r, entry->name) || di_checkpoint_entry(lack, entry->name))
            continue;
        if (!line(r, DISTAC_ENOTFOUND)) continue;
        if (!names) names = float_names(lack, &count);
        const char *near = names ? di_nearest(entry->name, count, names) : NULL;
        di_text_add(r->text, "\n  %s in %s: \"%s\"", word, lack_name, entry->name);
        if (near) di_text_add(r->text, " (nearest: \"%s\")", near);
    }
    free(names);
}

static void report_shapes(report *r, const char *base_name, const distac_checkpoint *base, const char *other_name,
                          const distac_checkpoint *other) {
    char a[160], b[160];
    for (int64_t i = 0; i < base->count; i++) {
        const di_entry *x = base->entries[i];
        const di_entry *y = di_checkpoint_entry(other, x->name);
        if (!y || !asked(r, x->name) || (!di_entry_is_float(x) && !di_entry_is_float(y))) continue;
        if (di_entry_is_float(x) != di_entry_is_float(y)) {
            if (line(r, DISTAC_ESHAPE))
                di_text_add(r->text, "\n  \"%s\" is %s in %s but %s in %s", x->name, x->type->name, base_name,
                            y->type->name, other_name);
        } else if (!di_entry_same_shape(x, y) && line(r, DISTAC_ESHAPE)) {
            di_text_add(r->text, "\n  \"%s\" has shape %s in %s but %s in %s", x->name,
                        di_shape_text(x->rank, x->shape, a, sizeof a), base_name,
                        di_shape_text(y->rank, y->shape, b, sizeof b), other_name);
        }
    }
}

void di_match_add(di_text *text, distac_status *status, const char *base_name, const distac_checkpoint *base,
                  const char *other_name, const distac_checkpoint *other, di_asked is_asked, const void *arg) {
    report r = {text, 0, *status, is_asked, arg};
    report_absent(&r, base, other, other_name, "missing");
    report_absent(&r, other, base, base_name, "missing");
    report_shapes(&r, base_name, base, other_name, other);
    if (r.lines > MAX_LINES) di_text_add(text, "\n  and %lld more", (long long)(r.lines - MAX_LINES));
    *status = r.status;
}

distac_status di_match(const char *function, const char *base_name, const distac_checkpoint *base,
                       const char *other_name, const distac_checkpoint *other) {
    di_text text = {0};
    distac_status status = DISTAC_OK;
    di_match_add(&text, &status, base_name, base, other_name, other, NULL, NULL);
    if (status != DISTAC_OK)
        status = di_fail_at(status, function, "the tensors do not fit:%s", text.bytes ? text.bytes : "");
    di_text_free(&text);
    return status;
}
