/* op_lines.c: LiNeS: the sum of the task vectors, scaled by depth: a + b*l/(L-1) in block l of L, a outside the
 * blocks. A block's number stands in the tensor's name, behind ".resblocks.", ".layers.", ".layer.", ".blocks." or
 * ".h."; the blocks whose names begin alike are one tower. */
#include "merge.h"
#include <stdlib.h>
#include <string.h>

enum { A, B };

/* a = 1/T for sums of T task vectors: Wang et al. 2025, section 4. */
static const di_merge_param params[] = {
    DI_NUMBER("a", "factor of the first block and of what is in no block; -1: 1 / number of models", -1, -1, 1000),
    DI_NUMBER("b", "added to it linearly up to the last block", 0.5, -1000, 1000),
};

/* The block's number; *prefix is how much of the name stands before it. -1: none. */
static int64_t block_of(const char *name, size_t *prefix) {
    static const char *const marks[] = {"resblocks.", "layers.", "layer.", "blocks.", "h."};
    for (size_t m = 0; m < sizeof marks / sizeof marks[0]; m++) {
        const char *found = name;
        while ((found = strstr(found, marks[m])) != NULL) {
            const char *digits = found + strlen(marks[m]);
            bool starts = found == name || found[-1] == '.';
            size_t count = strspn(digits, "0123456789");
            if (starts && count > 0 && count < 10 && digits[count] == '.') {
                *prefix = (size_t)(digits - name);
                return strtol(digits, NULL, 10);
            }
            found = digits;
        }
    }
    return -1;
}

typedef struct place {
    int64_t block, last; /* of its tower */
    size_t prefix;
} place;

static distac_status prepare(di_merge_run *run) {
    double a = di_run_param(run, A, 0), b = di_run_param(run, B, 0);
    int64_t count = run->base->count, blocks = 0;
    if (a < 0 && a != -1) return di_fail_at(DISTAC_EINVAL, run->function, "lines: a is %g; -1, or 0 and more", a);
    if (a < 0) a = 1 / (double)run->models;
    double *scale = di_new((size_t)(count ? count : 1) * sizeof *scale);
    place *places = di_new((size_t)(count ? count : 1) * sizeof *places);
    run->state = scale;
    if (!scale || !places) {
        free(places);
        return DISTAC_ENOMEM;
    }
    int64_t tower = 0; /* where it starts: entries are sorted, so towers lie together */
    for (int64_t i = 0; i < count; i++) {
        const char *name = run->base->entries[i]->name;
        places[i].block = places[i].last = block_of(name, &places[i].prefix);
        if (places[i].block < 0) continue;
        blocks++;
        for (tower = i; tower > 0 && places[tower - 1].block >= 0 &&
                        places[tower - 1].prefix == places[i].prefix &&
                        strncmp(run->base->entries[tower - 1]->name, name, places[i].prefix) == 0;)
            tower--;
        int64_t last = places[tower].last > places[i].block ? places[tower].last : places[i].block;
        for (int64_t k = tower; k <= i; k++) places[k].last = last;
    }
    for (int64_t i = 0; i < count; i++)
        scale[i] = places[i].last > 0 ? a + b * (double)places[i].block / (double)places[i].last : a;
    free(places);
    if (blocks == 0)
        di_warn(run->context,
                "lines: no tensor's name holds a block's number, as \".resblocks.0.\" or \".layers.0.\"; "
                "every tensor is scaled by %g",
                a);
    return DISTAC_OK;
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    double scale = ((const double *)run->state)[at->entry];
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) out[i] += tau[t][i];
    for (int64_t i = 0; i < n; i++) out[i] *= scale;
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)each;
    out->scale = ((const double *)run->state)[entry];
}

const di_method di_merge_lines = {
    .name = "lines",
    .text = "sum of the task vectors, scaled up with depth (Wang et al. 2025, LiNeS)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .rule = rule,
};
