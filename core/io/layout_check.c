/* layout_check.c: every tensor of a CLIP model found in a checkpoint, its shape checked against the others'. All
 * that does not fit is told at once, under the file's name and the canonical one. */
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 12 };

typedef struct finder {
    const distac_checkpoint *checkpoint;
    di_clip *clip;
    int64_t capacity;
    const char **names; /* of the tensors that are none of CLIP's, for the nearest; made when first needed */
    int64_t name_count;
    di_text text;
    int64_t misfits;
    distac_status status;
} finder;

/* Counts a misfit; true if there is room to tell it. */
static bool misfit(finder *f, distac_status status) {
    if (f->misfits == 0) f->status = status;
    return f->misfits++ < LISTED;
}

static const char *nearest(finder *f, const char *name) {
    const distac_checkpoint *c = f->checkpoint;
    if (!f->names) {
        f->names = di_new((size_t)(c->count ? c->count : 1) * sizeof *f->names);
        for (int64_t i = 0; f->names && i < c->count; i++)
            if (!f->clip->used[i]) f->names[f->name_count++] = c->entries[i]->name;
    }
    return f->names ? di_nearest(name, f->name_count, f->names) : NULL;
}

/* " (visual.proj)" where the file calls it something else. */
static void add_canonical(finder *f, const char *own, int32_t row, int64_t block) {
    char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
    int32_t count;
    di_layout_own(&di_layout_open_clip, row, block, "", &count, names);
    if (strcmp(own, names[0]) != 0) di_text_add(&f->text, " (canonical: \"%s\")", names[0]);
}

/* ---- shapes ---- */

/* The canonical shape of a row by the letters known so far, 0 where one is not known. */
static int32_t shape_of(const di_clip *clip, int32_t row, char letters[4], int64_t factors[4], int64_t shape[4]) {
    int32_t rank = 0;
    for (const char *c = di_clip_tensors[row].shape; *c; c++) {
        factors[rank] = 1;
        if (*c == '3') {
            factors[rank] = 3;
            c++;
        }
        letters[rank] = *c;
        shape[rank] = factors[rank] * clip->sizes[(int)*c];
        rank++;
    }
    return rank;
}

/* Checks one tensor of the file against the canonical shape, cut and turned as the layout has it, and learns the
 * letters that are not known yet. */
static void check_shape(finder *f, const di_clip_found *found, const di_entry *entry) {
    di_clip *clip = f->clip;
    char letters[4] = {0}, is[160];
    int64_t factors[4] = {0}, shape[4] = {0};
    int32_t rank = shape_of(clip, found->row, letters, factors, shape);
    if (!di_entry_is_float(entry)) {
        if (misfit(f, DISTAC_EDTYPE)) {
            di_text_add(&f->text, "\n  \"%s\" is %s, wanted a float type", entry->name, entry->type->name);
            add_canonical(f, entry->name, found->row, found->block);
        }
        return;
    }
    if (rank == 0 && entry->numel == 1 && entry->rank <= 1) return;
    if (found->form == DI_TURNED) {
        char letter = letters[0];
        int64_t size = shape[0];
        letters[0] = letters[1];
        shape[0] = shape[1];
        letters[1] = letter;
        shape[1] = size;
    } else if (found->form == DI_CUT) {
        factors[0] = 1;
        shape[0] = clip->sizes[(int)letters[0]];
    }
    bool same = entry->rank == rank && entry->numel > 0;
    for (int32_t d = 0; same && d < rank; d++) {
        same = entry->shape[d] <= INT32_MAX &&
               (shape[d] ? entry->shape[d] == shape[d] : entry->shape[d] % factors[d] == 0);
        for (int32_t e = 0; same && e < d; e++) /* one letter twice */
            same = letters[e] != letters[d] || entry->shape[e] / factors[e] == entry->shape[d] / factors[d];
    }
    /* Sizes are learnt from tensors that fit: a wrong one must not make the right ones look wrong. */
    for (int32_t d = 0; same && d < rank; d++) clip->sizes[(int)letters[d]] = entry->shape[d] / factors[d];
    if (same || !misfit(f, DISTAC_ESHAPE)) return;
    di_text_add(&f->text, "\n  \"%s\" has shape %s, wanted [", entry->name,
                di_shape_text(entry->rank, entry->shape, is, sizeof is));
    for (int32_t d = 0; d < rank; d++) {
        if (shape[d])
            di_text_add(&f->text, "%s%lld", d ? "," : "", (long long)shape[d]);
        else
            di_text_add(&f->text, "%s?", d ? "," : "");
    }
    di_text_add(&f->text, "]");
    add_canonical(f, entry->name, found->row, found->block);
}

/* ---- finding ---- */

static distac_status keep(finder *f, const di_clip_found *found) {
    di_clip *clip = f->clip;
    if (clip->count == f->capacity) {
        int64_t capacity = f->capacity ? 2 * f->capacity : 64;
        di_clip_found *list = di_grow(clip->found, (size_t)capacity * sizeof *list);
        if (!list) return DISTAC_ENOMEM;
        clip->found = list;
        f->capacity = capacity;
    }
    clip->found[clip->count++] = *found;
    return DISTAC_OK;
}

/* Marks what belongs to a row, so that what is left can be a misspelt name. */
static distac_status mark(finder *f, int32_t row, int64_t block) {
    char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
    int32_t count;
    di_layout_own(f->clip->kind.layout, row, block, f->clip->kind.prefix, &count, names);
    for (int32_t k = 0; k < count; k++) {
        int64_t index = distac_checkpoint_find(f->checkpoint, names[k]);
        if (index >= 0) f->clip->used[index] = true;
    }
    return DISTAC_OK;
}

static distac_status find(finder *f, int32_t row, int64_t block) {
    const di_clip_tensor *tensor = &di_clip_tensors[row];
    char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
    di_clip_found found = {.row = row, .block = block};
    bool whole = true, any = false;
    found.form = di_layout_own(f->clip->kind.layout, row, block, f->clip->kind.prefix, &found.count, names);
    int64_t index[DI_LAZY_PARTS];
    for (int32_t k = 0; k < found.count; k++) {
        index[k] = distac_checkpoint_find(f->checkpoint, names[k]);
        whole = whole && index[k] >= 0;
        any = any || index[k] >= 0;
    }
    if (!any && (tensor->optional || !f->clip->there[tensor->tower])) return DISTAC_OK;
    for (int32_t k = 0; k < found.count; k++) {
        if (index[k] >= 0) {
            found.entries[k] = f->checkpoint->entries[index[k]];
            check_shape(f, &found, found.entries[k]);
        } else if (misfit(f, DISTAC_ENOTFOUND)) {
            const char *near = nearest(f, names[k]);
            di_text_add(&f->text, "\n  \"%s\" is missing", names[k]);
            add_canonical(f, names[k], row, block);
            if (near) di_text_add(&f->text, " (nearest: \"%s\")", near);
        }
    }
    for (int32_t k = 1; whole && k < found.count; k++)
        if (found.entries[k]->type != found.entries[0]->type && misfit(f, DISTAC_EDTYPE))
            di_text_add(&f->text, "\n  \"%s\" is %s but \"%s\" is %s: together they are one tensor",
                        found.entries[0]->name, found.entries[0]->type->name, found.entries[k]->name,
                        found.entries[k]->type->name);
    return whole ? keep(f, &found) : DISTAC_OK;
}

/* The highest block number of each tower, and whether it is there at all: training scripts publish left-overs of
 * the text tower without its blocks. Numbers beyond the count of tensors cannot be a whole model's: the loops over
 * blocks end there. */
static void count_blocks(finder *f) {
    di_clip *clip = f->clip;
    for (int32_t row = 0; row < di_clip_tensor_count; row++) {
        char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
        int32_t count, tower = di_clip_tensors[row].tower;
        if (!strchr(di_clip_tensors[row].name, '#')) continue;
        di_layout_own(clip->kind.layout, row, 0, clip->kind.prefix, &count, names);
        const char *zero = NULL; /* the block number: the one digit that is between dots */
        for (const char *c = names[0]; (c = strstr(c, ".0.")); c++) zero = c + 1;
        if (!zero) continue;
        size_t head = (size_t)(zero - names[0]);
        for (int64_t i = 0; i < f->checkpoint->count; i++) {
            const char *name = f->checkpoint->entries[i]->name;
            if (strncmp(name, names[0], head) != 0) continue;
            clip->there[tower] = true;
            char *end;
            if (name[head] < '0' || name[head] > '9') continue;
            long long block = strtoll(name + head, &end, 10);
            if (*end != '.' || block >= f->checkpoint->count) continue;
            if (block >= clip->layers[tower]) clip->layers[tower] = block + 1;
        }
        /* All rows of a tower's blocks begin alike: one of them is enough. */
        while (row + 1 < di_clip_tensor_count && strchr(di_clip_tensors[row + 1].name, '#') &&
               di_clip_tensors[row + 1].tower == tower)
            row++;
    }
}

static bool in_list(const char *const *list, const char *name, bool whole) {
    for (; *list; list++)
        if (whole ? strcmp(*list, name) == 0 : strncmp(*list, name, strlen(*list)) == 0) return true;
    return false;
}

/* What is left: buffers go, a name in a tower's place that we do not know is a misfit, all else is not CLIP's. */
static void check_rest(finder *f) {
    const di_layout *layout = f->clip->kind.layout;
    size_t prefix = strlen(f->clip->kind.prefix);
    for (int64_t i = 0; i < f->checkpoint->count; i++) {
        const char *name = f->checkpoint->entries[i]->name;
        if (f->clip->used[i] || strncmp(name, f->clip->kind.prefix, prefix) != 0) continue;
        if (in_list(layout->buffers, name + prefix, true)) {
            f->clip->used[i] = true;
        } else if ((in_list(layout->roots[DI_VISION], name + prefix, false) ||
                    in_list(layout->roots[DI_TEXT], name + prefix, false)) &&
                   misfit(f, DISTAC_ENOTFOUND)) {
            di_text_add(&f->text, "\n  \"%s\" has no place in a CLIP model", name);
        }
    }
}

/* Calls visit for every canonical tensor and block. An absent tower has no blocks; one that is there has one. */
static distac_status each(finder *f, distac_status (*visit)(finder *f, int32_t row, int64_t block)) {
    for (int32_t row = 0; row < di_clip_tensor_count; row++) {
        int32_t tower = di_clip_tensors[row].tower;
        int64_t count = 1;
        if (strchr(di_clip_tensors[row].name, '#'))
            count = f->clip->layers[tower] || !f->clip->there[tower] ? f->clip->layers[tower] : 1;
        for (int64_t block = 0; block < count; block++) DI_TRY(visit(f, row, block));
    }
    return DISTAC_OK;
}

static distac_status find_all(finder *f) {
    count_blocks(f);
    DI_TRY(each(f, mark));
    DI_TRY(each(f, find));
    check_rest(f);
    int64_t grid = 1, positions = f->clip->sizes['n'];
    while (positions > 0 && (grid + 1) * (grid + 1) <= positions - 1) grid++;
    if (positions > 0 && grid * grid + 1 != positions && misfit(f, DISTAC_ESHAPE))
        di_text_add(&f->text, "\n  the image tower has %lld positions, wanted 1 + a square number",
                    (long long)positions);
    return DISTAC_OK;
}

distac_status di_clip_open(const char *function, const distac_checkpoint *checkpoint, di_clip *out) {
    finder f = {.checkpoint = checkpoint, .clip = out};
    *out = (di_clip){.kind = di_layout_recognise(checkpoint)};
    out->used = di_new((size_t)(checkpoint->count ? checkpoint->count : 1) * sizeof *out->used);
    if (!out->used) return DISTAC_ENOMEM;
    if (!out->kind.layout) return DISTAC_OK;
    distac_status status = find_all(&f);
    if (status == DISTAC_OK && f.misfits) {
        if (f.misfits > LISTED) di_text_add(&f.text, "\n  and %lld more", (long long)(f.misfits - LISTED));
        status = di_fail_at(f.status, function, "%s%sthe tensors are no whole CLIP model in the layout %s:%s",
                            checkpoint->path, checkpoint->path[0] ? ": " : "", out->kind.layout->name,
                            f.text.bytes ? f.text.bytes : "");
    }
    free(f.names);
    di_text_free(&f.text);
    return status;
}

void di_clip_close(di_clip *clip) {
    free(clip->found);
    free(clip->used);
    *clip = (di_clip){0};
}
