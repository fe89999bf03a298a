/* layout_convert.c: a CLIP checkpoint under another layout's names. Nothing is read: the entries point into the
 * source's file or are made when they are touched. */
#include "layout.h"
#include <string.h>

/* The tensor under its canonical form, as an entry of its own. */
static distac_status canonical(distac_context *context, const di_clip_found *found, const char *name,
                               di_entry **out) {
    switch (found->form) {
    case DI_CUT:
        return di_entry_join(context, name, found->count, found->entries, out);
    case DI_TURNED:
        return di_entry_turn(context, found->entries[0], name, out);
    default:
        return di_entry_clone(found->entries[0], name, out);
    }
}

/* Takes the entry over, also on failure. */
static distac_status add(distac_checkpoint *to, di_entry *entry) {
    distac_status status = di_checkpoint_append(to, entry);
    if (status != DISTAC_OK) di_entry_free(entry);
    return status;
}

static distac_status emit(const di_layout *layout, const di_clip_found *found, distac_checkpoint *to) {
    char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
    int32_t count;
    di_layout_form form = di_layout_own(layout, found->row, found->block, "", &count, names);
    di_entry *whole, *entry;
    if (form == found->form) { /* the same cut: only the names change */
        for (int32_t k = 0; k < count; k++) {
            DI_TRY(di_entry_clone(found->entries[k], names[k], &entry));
            DI_TRY(add(to, entry));
        }
        return DISTAC_OK;
    }
    DI_TRY(canonical(to->context, found, names[0], &whole));
    if (form == DI_SAME) return add(to, whole);
    distac_status status = DISTAC_OK;
    int64_t rows = whole->shape[0] / count;
    for (int32_t k = 0; status == DISTAC_OK && k < count; k++) {
        status = form == DI_TURNED ? di_entry_turn(to->context, whole, names[k], &entry)
                                   : di_entry_rows(to->context, whole, names[k], k * rows, rows, &entry);
        if (status == DISTAC_OK) status = add(to, entry);
    }
    di_entry_free(whole);
    return status;
}

static distac_status fill(const distac_checkpoint *from, const di_clip *clip, const di_layout *layout,
                          distac_checkpoint *to) {
    di_entry *entry;
    for (int64_t i = 0; i < clip->count; i++) DI_TRY(emit(layout, &clip->found[i], to));
    for (int64_t i = 0; i < from->count; i++) {
        if (clip->used[i]) continue;
        DI_TRY(di_entry_clone(from->entries[i], from->entries[i]->name, &entry));
        DI_TRY(add(to, entry));
    }
    for (int64_t i = 0; i < from->pair_count; i++)
        DI_TRY(di_checkpoint_pair(to, from->pairs[i].key, from->pairs[i].value));
    return di_checkpoint_sort(to);
}

static distac_status unknown_layout(const char *name) {
    const char *names[8];
    int32_t count = distac_layout_count();
    di_text text = {0};
    for (int32_t i = 0; i < count && i < 8; i++) {
        names[i] = distac_layout_name(i);
        di_text_add(&text, "%s\"%s\"", i ? ", " : "", names[i]);
    }
    const char *near = di_nearest(name, count < 8 ? count : 8, names);
    distac_status status = di_fail_at(
        DISTAC_ENOTFOUND, "distac_checkpoint_convert", "unknown layout \"%s\"; there are %s%s%s%s", name,
        text.bytes ? text.bytes : "", near ? "; nearest: \"" : "", near ? near : "", near ? "\"" : "");
    di_text_free(&text);
    return status;
}

distac_status distac_checkpoint_convert(const distac_checkpoint *checkpoint, const char *layout,
                                        distac_checkpoint **out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(layout, "layout is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    if (strcmp(layout, "plain") == 0) return distac_checkpoint_clone(checkpoint, out);
    const di_layout *target = di_layout_named(layout);
    if (!target) return unknown_layout(layout);
    di_clip clip;
    distac_checkpoint *made = NULL;
    distac_status status = di_clip_open(__func__, checkpoint, &clip);
    if (status == DISTAC_OK && !clip.kind.layout)
        status =
            di_fail(DISTAC_EUNSUPPORTED,
                    "%s%sno CLIP model is recognised by the tensors' names (looked for \"%s\" or \"%s\" and the "
                    "like, behind \"model.\", \"module.\", \"image_encoder.\", \"clip.\"), so there is no "
                    "layout %s of it",
                    checkpoint->path, checkpoint->path[0] ? ": " : "", di_layout_open_clip.marks[0][0],
                    di_layout_hf.marks[0][0], layout);
    if (status == DISTAC_OK) status = di_checkpoint_new(checkpoint->context, checkpoint->path, &made);
    if (status == DISTAC_OK) status = fill(checkpoint, &clip, target, made);
    di_clip_close(&clip);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(made);
        return status;
    }
    *out = made;
    return DISTAC_OK;
}

static int32_t small(int64_t size) {
    return size < INT32_MAX ? (int32_t)size : INT32_MAX;
}

distac_status distac_checkpoint_clip(const distac_checkpoint *checkpoint, distac_clip_info *out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = (distac_clip_info){0};
    di_clip clip;
    distac_status status = di_clip_open(__func__, checkpoint, &clip);
    if (status == DISTAC_OK && clip.there[DI_VISION]) {
        int64_t grid = 1;
        while ((grid + 1) * (grid + 1) < clip.sizes['n']) grid++;
        out->image = small(grid * clip.sizes['p']);
        out->patch = small(clip.sizes['p']);
        out->channels = small(clip.sizes['c']);
        out->width = small(clip.sizes['w']);
        out->layers = small(clip.layers[DI_VISION]);
        out->mlp = small(clip.sizes['m']);
    }
    if (status == DISTAC_OK && clip.there[DI_TEXT]) {
        out->vocab = small(clip.sizes['V']);
        out->context = small(clip.sizes['X']);
        out->text_width = small(clip.sizes['W']);
        out->text_layers = small(clip.layers[DI_TEXT]);
        out->text_mlp = small(clip.sizes['M']);
    }
    for (int64_t i = 0; status == DISTAC_OK && i < clip.count; i++) {
        const char *name = di_clip_tensors[clip.found[i].row].name;
        if (strcmp(name, "logit_scale") == 0) out->scale = 1;
        if (strcmp(name, "visual.proj") == 0 && clip.there[DI_VISION]) out->dim = small(clip.sizes['d']);
        if (strcmp(name, "text_projection") == 0 && clip.there[DI_TEXT]) out->text_dim = small(clip.sizes['d']);
    }
    di_clip_close(&clip);
    return status;
}
