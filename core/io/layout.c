/* layout.c: the registry of layouts, and which of them a checkpoint's names are of. */
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const di_layout *const layouts[] = {
    &di_layout_open_clip,
    &di_layout_hf,
    &di_layout_custom_text,
};
enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

int32_t distac_layout_count(void) {
    return LAYOUTS;
}

const char *distac_layout_name(int32_t index) {
    return index >= 0 && index < LAYOUTS ? layouts[index]->name : NULL;
}

const char *distac_layout_text(int32_t index) {
    return index >= 0 && index < LAYOUTS ? layouts[index]->text : NULL;
}

const di_layout *di_layout_named(const char *name) {
    for (int i = 0; i < LAYOUTS; i++)
        if (strcmp(layouts[i]->name, name) == 0) return layouts[i];
    return NULL;
}

/* ---- names ---- */

static void put(char out[DI_LAYOUT_NAME], const char *prefix, const char *pattern, int64_t block) {
    const char *hash = strchr(pattern, '#');
    if (hash)
        snprintf(out, DI_LAYOUT_NAME, "%s%.*s%lld%s", prefix, (int)(hash - pattern), pattern, (long long)block,
                 hash + 1);
    else
        snprintf(out, DI_LAYOUT_NAME, "%s%s", prefix, pattern);
}

di_layout_form di_layout_own(const di_layout *layout, int32_t row, int64_t block, const char *prefix,
                             int32_t *count, char names[DI_LAZY_PARTS][DI_LAYOUT_NAME]) {
    const char *canonical = di_clip_tensors[row].name;
    for (int32_t i = 0; i < layout->count; i++) {
        const di_layout_name *name = &layout->names[i];
        if (strcmp(name->canonical, canonical) != 0) continue;
        *count = name->form == DI_CUT ? DI_LAZY_PARTS : 1;
        for (int32_t k = 0; k < *count; k++) put(names[k], prefix, name->own[k], block);
        return name->form;
    }
    *count = 1;
    put(names[0], prefix, canonical, block);
    return DI_SAME;
}

/* ---- recognition ---- */

/* A prefix is a chain of these, each with a dot. */
static const char *const links[] = {"model", "module", "image_encoder", "clip", "clip_model"};

static bool is_prefix(const char *text, size_t length) {
    if (length >= DI_PREFIX_BYTES) return false;
    while (length > 0) {
        size_t step = 0;
        for (size_t i = 0; i < sizeof links / sizeof links[0] && !step; i++) {
            size_t n = strlen(links[i]);
            if (length > n && strncmp(text, links[i], n) == 0 && text[n] == '.') step = n + 1;
        }
        if (!step) return false;
        text += step;
        length -= step;
    }
    return true;
}

/* The lengths of the prefixes before which a mark stands, each once. More than a few are no CLIP model. */
enum { PREFIXES = 4 };
typedef struct candidates {
    int32_t count;
    struct {
        const char *text;
        size_t length;
        int32_t marks[DI_TOWERS];
        bool rooted; /* something of the image tower is there */
    } at[PREFIXES];
} candidates;

static void note(candidates *c, const char *text, size_t length, int32_t tower) {
    int32_t i = 0;
    while (i < c->count && (c->at[i].length != length || strncmp(c->at[i].text, text, length) != 0)) i++;
    if (i == PREFIXES) return;
    if (i == c->count) {
        memset(&c->at[i], 0, sizeof c->at[i]);
        c->at[i].text = text;
        c->at[i].length = length;
        c->count++;
    }
    if (tower >= 0)
        c->at[i].marks[tower]++;
    else
        c->at[i].rooted = true;
}

static void look(const di_layout *layout, const char *name, candidates *c) {
    size_t length = strlen(name);
    for (int32_t tower = 0; tower < DI_TOWERS; tower++)
        for (int32_t m = 0; m < 3; m++) {
            const char *mark = layout->marks[tower][m];
            size_t n = strlen(mark);
            if (length >= n && strcmp(name + length - n, mark) == 0 && is_prefix(name, length - n))
                note(c, name, length - n, tower);
        }
    for (const char *const *root = layout->roots[DI_VISION]; *root; root++) {
        const char *at = strstr(name, *root);
        if (at && is_prefix(name, (size_t)(at - name))) note(c, name, (size_t)(at - name), -1);
    }
}

/* How many marks there are, 0 if the layout is not there. One prefix alone has the marks: two models in one file
 * are none that we know. The text tower of another family of models has CLIP's names, its image tower has not. */
static int32_t decide(const candidates *c, di_clip_kind *out) {
    int32_t chosen = -1;
    for (int32_t i = 0; i < c->count; i++) {
        bool vision = c->at[i].marks[DI_VISION] >= 2;
        bool text = c->at[i].marks[DI_TEXT] >= 2 && !c->at[i].rooted;
        if (!vision && !text) continue;
        if (chosen >= 0) return 0;
        chosen = i;
    }
    if (chosen < 0) return 0;
    memcpy(out->prefix, c->at[chosen].text, c->at[chosen].length);
    out->prefix[c->at[chosen].length] = 0;
    return c->at[chosen].marks[DI_VISION] + c->at[chosen].marks[DI_TEXT];
}

/* The layout with the most marks, of equals the first: two may share the names of a tower. */
di_clip_kind di_layout_recognise(const distac_checkpoint *checkpoint) {
    di_clip_kind best = {0};
    int32_t most = 0;
    for (int i = 0; i < LAYOUTS; i++) {
        di_clip_kind kind = {.layout = layouts[i]};
        candidates c = {0};
        for (int64_t k = 0; k < checkpoint->count; k++) look(layouts[i], checkpoint->entries[k]->name, &c);
        int32_t marks = decide(&c, &kind);
        if (marks <= most) continue;
        most = marks;
        best = kind;
    }
    return best;
}

const char *distac_checkpoint_layout(const distac_checkpoint *checkpoint) {
    if (!checkpoint) return "plain";
    di_clip_kind kind = di_layout_recognise(checkpoint);
    return kind.layout ? kind.layout->name : "plain";
}

const char *distac_checkpoint_prefix(const distac_checkpoint *checkpoint) {
    if (!checkpoint) return "";
    di_clip_kind kind = di_layout_recognise(checkpoint);
    distac_checkpoint *writable = (distac_checkpoint *)(uintptr_t)checkpoint;
    free(writable->prefix);
    writable->prefix = di_strdup(kind.prefix);
    return writable->prefix ? writable->prefix : "";
}
