/* layout_target.c: which elements of a canonical checkpoint's tensors make up the tensors of another layout, for
 * those who write numbers as they come instead of converting a file that is there. */
#include "layout.h"
#include <stdlib.h>
#include <string.h>

static distac_status add(di_target_list *to, int64_t *capacity, const char *name, const di_target *what) {
    if (to->count == *capacity) {
        int64_t room = *capacity ? 2 * *capacity : 64;
        di_target *list = di_grow(to->list, (size_t)room * sizeof *list);
        if (!list) return DISTAC_ENOMEM;
        to->list = list;
        *capacity = room;
    }
    di_target *target = &to->list[to->count];
    *target = *what;
    target->name = di_strdup(name);
    if (!target->name) return DISTAC_ENOMEM;
    to->count++;
    return DISTAC_OK;
}

/* An entry as it is. */
static di_target whole(const distac_checkpoint *from, int64_t index) {
    const di_entry *entry = from->entries[index];
    di_target target = {.entry = index, .numel = entry->numel, .rank = entry->rank};
    memcpy(target.shape, entry->shape, sizeof target.shape);
    return target;
}

static distac_status add_found(const distac_checkpoint *from, const di_layout *layout, const di_clip_found *found,
                               di_target_list *to, int64_t *capacity) {
    char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
    int32_t count;
    di_layout_form form = di_layout_own(layout, found->row, found->block, "", &count, names);
    int64_t index = distac_checkpoint_find(from, found->entries[0]->name);
    di_target target = whole(from, index);
    if (form == DI_TURNED) {
        target.turned = true;
        target.shape[0] = from->entries[index]->shape[1];
        target.shape[1] = from->entries[index]->shape[0];
    }
    target.numel /= count;
    if (count > 1) target.shape[0] /= count;
    for (int32_t k = 0; k < count; k++) {
        target.first = k * target.numel;
        DI_TRY(add(to, capacity, names[k], &target));
    }
    return DISTAC_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const di_target *)a)->name, ((const di_target *)b)->name);
}

static distac_status fill(const distac_checkpoint *from, const di_clip *clip, const di_layout *layout,
                          di_target_list *to) {
    int64_t capacity = 0;
    for (int64_t i = 0; clip && i < clip->count; i++)
        DI_TRY(add_found(from, layout, &clip->found[i], to, &capacity));
    for (int64_t i = 0; i < from->count; i++) {
        di_target target = whole(from, i);
        if (!clip || !clip->used[i]) DI_TRY(add(to, &capacity, from->entries[i]->name, &target));
    }
    if (to->count) qsort(to->list, (size_t)to->count, sizeof *to->list, by_name);
    for (int64_t i = 1; i < to->count; i++)
        if (strcmp(to->list[i - 1].name, to->list[i].name) == 0)
            return di_fail(DISTAC_EFORMAT, "%s: two tensors would be named \"%.72s\"", from->path,
                           to->list[i].name);
    return DISTAC_OK;
}

distac_status di_targets_open(const distac_checkpoint *canonical, const char *layout, di_target_list *out) {
    *out = (di_target_list){0};
    const di_layout *target = layout && strcmp(layout, "plain") != 0 ? di_layout_named(layout) : NULL;
    if (layout && !target && strcmp(layout, "plain") != 0) { /* which there are is told by who converts */
        distac_checkpoint *none;
        return distac_checkpoint_convert(canonical, layout, &none);
    }
    if (!target || target == &di_layout_open_clip) {
        distac_status plain = fill(canonical, NULL, NULL, out);
        if (plain != DISTAC_OK) di_targets_close(out);
        return plain;
    }
    di_clip clip;
    distac_status status = di_clip_open("distac_merge", canonical, &clip);
    if (status == DISTAC_OK) status = fill(canonical, &clip, target, out);
    di_clip_close(&clip);
    if (status != DISTAC_OK) di_targets_close(out);
    return status;
}

void di_targets_close(di_target_list *targets) {
    for (int64_t i = 0; i < targets->count; i++) free(targets->list[i].name);
    free(targets->list);
    *targets = (di_target_list){0};
}

distac_status di_canonical(const distac_checkpoint *checkpoint, distac_checkpoint **out) {
    if (di_layout_recognise(checkpoint).layout == &di_layout_open_clip &&
        !*di_layout_recognise(checkpoint).prefix) {
        di_checkpoint_retain(checkpoint);
        *out = (distac_checkpoint *)(uintptr_t)checkpoint;
        return DISTAC_OK;
    }
    return distac_checkpoint_convert(checkpoint, di_layout_open_clip.name, out);
}
