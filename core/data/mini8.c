/* mini8.c: the eight tasks of the embedded benchmark. Each split has a fixed size and equal shares of the classes;
 * glyph tasks take their masters from font families of that split alone. Everything is a pure function of the
 * files: the seed below is fixed and has nothing to do with a run's seed. */
#include "mini8.h"
#include <stdlib.h>
#include <string.h>

#define MINI8_SEED ((uint64_t)0x6d696e6938)
#define MINI8_MEAN 0.45
#define MINI8_STD  0.30

enum { DIGITS, SVHN, FASHION, LATIN, KANA, ARABIC, HEBREW, TEXTURE, TASKS };
static const char *const task_names[TASKS] = {"digits", "svhn",   "fashion", "latin",
                                              "kana",   "arabic", "hebrew",  "texture"};
static const int64_t split_sizes[3] = {6000, 400, 800};

/* Where a glyph task's masters come from and how they are distorted. */
typedef struct style {
    const char *sheet;
    bool neighbours; /* other digits to the left and right */
    distac_augment_desc distort;
} style;

/* clang-format off */
static const style styles[TASKS] = {
    /* sheet, neighbours     rotate  scale       shear  shift  elastic blur contrast texture noise invert */
    [DIGITS] = {"handwritten", false, {15, 0.75, 1.10, 0.20, 0.12, 0,    0,   0.6, 1.0, 0,    0.06, 0}},
    [SVHN]   = {"digit",       true,  { 8, 0.85, 1.05, 0.15, 0.08, 0,    0.3, 0.4, 0.9, 0.15, 0.04, 0.5}},
    [LATIN]  = {"latin",       false, { 8, 0.85, 1.10, 0.10, 0.08, 0,    0.2, 0.5, 1.0, 0.08, 0.05, 0.5}},
    [KANA]   = {"kana",        false, {10, 0.80, 1.10, 0.15, 0.10, 0.04, 0.2, 0.5, 1.0, 0.05, 0.04, 0}},
    [ARABIC] = {"arabic",      false, { 8, 0.85, 1.10, 0.15, 0.08, 0.02, 0.2, 0.5, 1.0, 0.10, 0.05, 0.5}},
    [HEBREW] = {"hebrew",      false, {15, 0.75, 1.05, 0.10, 0.10, 0,    0.2, 0.5, 1.0, 0,    0.05, 1}},
};
/* clang-format on */
static const distac_augment_desc neighbour = {.rotate = 12, .scale_min = 0.75, .scale_max = 1, .shear = 0.2};

/* A split being made: sample i lands at position place[i], so that classes come in no order. */
typedef struct making {
    int task, split;
    di_samples *samples;
    int64_t *place;
    const di_sheet *sheet;
    int64_t *pool;  /* glyphs of the split, by class */
    int64_t *start; /* [classes+1] where each class begins in pool */
} making;

static uint64_t stream(int task, int split, int use) {
    return (uint64_t)task << 8 | (uint64_t)split << 4 | (uint64_t)use;
}

static distac_status new_samples(distac_context *context, int split, int64_t classes, di_samples **out) {
    di_samples *s;
    int64_t n = split_sizes[split], shape[4] = {n, 1, DI_SIDE, DI_SIDE};
    DI_TRY(di_samples_new(context, n, classes, 1, DI_SIDE, DI_SIDE, &s));
    s->labels = di_new((size_t)n * sizeof *s->labels);
    distac_status status =
        s->labels ? di_tensor_new(context, DISTAC_U8, 4, shape, false, &s->pixels) : DISTAC_ENOMEM;
    if (status != DISTAC_OK) {
        di_samples_release(s);
        return status;
    }
    *out = s;
    return DISTAC_OK;
}

static uint8_t *place_sample(const making *m, int64_t i, int64_t label) {
    m->samples->labels[m->place[i]] = label;
    return (uint8_t *)m->samples->pixels->data + m->place[i] * DI_AREA;
}

/* ---- glyphs ---- */

static const uint8_t *master(const making *m, int64_t from, int64_t to, di_dice *dice) {
    int64_t k = from + di_dice_below(dice, (uint32_t)(to - from));
    return m->sheet->pixels + m->pool[k] * DI_CELL * DI_CELL;
}

static distac_status glyph_sample(void *arg, int64_t i) {
    const making *m = arg;
    const style *look = &styles[m->task];
    int64_t classes = m->sheet->classes, label = i % classes;
    di_dice dice = di_dice_for(MINI8_SEED, stream(m->task, m->split, 0), (uint64_t)i);
    float image[DI_AREA], other[DI_AREA];
    di_warp(master(m, m->start[label], m->start[label + 1], &dice), &look->distort, 0, &dice, image);
    for (int side = -1; look->neighbours && side <= 1; side += 2) {
        float offset = (float)(side * (17 + (int)di_dice_below(&dice, 5)));
        di_warp(master(m, 0, m->start[classes], &dice), &neighbour, offset, &dice, other);
        for (int k = 0; k < DI_AREA; k++) image[k] = other[k] > image[k] ? other[k] : image[k];
    }
    di_compose(image, &look->distort, &dice, place_sample(m, i, label));
    return DISTAC_OK;
}

/* Sorts the glyphs of the split by class. */
static distac_status make_pool(making *m) {
    const di_sheet *s = m->sheet;
    m->start = di_new(((size_t)s->classes + 1) * sizeof *m->start);
    m->pool = di_new((size_t)s->glyphs * sizeof *m->pool);
    if (!m->start || !m->pool) return DISTAC_ENOMEM;
    int64_t n = 0;
    for (int64_t c = 0; c < s->classes; c++) {
        m->start[c] = n;
        for (int64_t g = 0; g < s->glyphs; g++)
            if (s->label[g] == c && s->split[g] == m->split) m->pool[n++] = g;
        if (n == m->start[c])
            return di_fail_at(DISTAC_EFORMAT, "distac_dataset_mini8", "sheet %s: no glyph of class %s in split %d",
                              styles[m->task].sheet, s->names[c], m->split);
    }
    m->start[s->classes] = n;
    return DISTAC_OK;
}

static distac_status make_glyphs(distac_context *context, const char *root, making *m) {
    di_sheet *sheet;
    DI_TRY(di_sheet_open(context, root, styles[m->task].sheet, &sheet));
    m->sheet = sheet;
    distac_status status = new_samples(context, m->split, sheet->classes, &m->samples);
    for (int64_t c = 0; c < sheet->classes && status == DISTAC_OK; c++)
        status = di_samples_name(m->samples, c, sheet->names[c]);
    if (status == DISTAC_OK) status = make_pool(m);
    if (status == DISTAC_OK) status = di_parallel_try(context, NULL, m->samples->count, glyph_sample, m);
    free(m->pool);
    free(m->start);
    di_sheet_close(sheet);
    return status;
}

/* ---- textures ---- */

static distac_status texture_sample(void *arg, int64_t i) {
    const making *m = arg;
    int kind = (int)(i % DI_TEXTURES);
    di_dice dice = di_dice_for(MINI8_SEED, stream(m->task, m->split, 0), (uint64_t)i);
    di_texture(kind, &dice, place_sample(m, i, kind));
    return DISTAC_OK;
}

static distac_status make_textures(distac_context *context, making *m) {
    DI_TRY(new_samples(context, m->split, DI_TEXTURES, &m->samples));
    for (int c = 0; c < DI_TEXTURES; c++) DI_TRY(di_samples_name(m->samples, c, di_texture_names[c]));
    return di_parallel_try(context, NULL, m->samples->count, texture_sample, m);
}

/* ---- Fashion-MNIST ---- */

static const char *const garments[10] = {"T-shirt", "trousers", "pullover", "dress", "coat",
                                         "sandal",  "shirt",    "sneaker",  "bag",   "ankle boot"};

/* Equal numbers of each class in the order of a fixed permutation; validation follows training in the same one. */
static distac_status pick(making *m, const distac_dataset *all, int64_t *order) {
    const di_samples *from = all->samples;
    if (from->channels != 1 || from->height != DI_SIDE || from->width != DI_SIDE || from->classes != 10)
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_mini8",
                          "Fashion-MNIST of %lld classes and %d x %d x %d pixels, wanted 10 and 1 x 28 x 28",
                          (long long)from->classes, from->channels, from->height, from->width);
    int64_t each = split_sizes[m->split] / 10, skip = m->split == 1 ? split_sizes[0] / 10 : 0;
    int64_t seen[10] = {0}, taken = 0;
    di_permutation(MINI8_SEED, stream(m->task, m->split == 2 ? 2 : 0, 2), from->count, order);
    for (int64_t k = 0; k < from->count; k++) {
        int64_t label = from->labels[order[k]], rank = seen[label]++;
        if (rank < skip || rank >= skip + each) continue;
        memcpy(place_sample(m, taken++, label), (const uint8_t *)from->pixels->data + order[k] * DI_AREA, DI_AREA);
    }
    if (taken != split_sizes[m->split])
        return di_fail_at(DISTAC_EFORMAT, "distac_dataset_mini8", "Fashion-MNIST: too few images of some class");
    return DISTAC_OK;
}

static distac_status open_fashion(distac_context *context, const char *folder, int split, distac_dataset **out) {
    const char *part = split == 2 ? "t10k" : "train";
    di_text images = {.bytes = NULL}, labels = {.bytes = NULL};
    distac_status status = DISTAC_ENOTFOUND;
    for (int gz = 1; gz >= 0 && status == DISTAC_ENOTFOUND; gz--) { /* compressed as packaged, or plain */
        di_text_free(&images);
        di_text_free(&labels);
        images = labels = (di_text){.bytes = NULL};
        di_text_add(&images, "%s/%s-images-idx3-ubyte%s", folder, part, gz ? ".gz" : "");
        di_text_add(&labels, "%s/%s-labels-idx1-ubyte%s", folder, part, gz ? ".gz" : "");
        if (images.failed || labels.failed)
            status = di_fail_at(DISTAC_ENOMEM, "distac_dataset_mini8", "no memory for a path");
        else
            status = distac_dataset_idx(context, images.bytes, labels.bytes, out);
    }
    di_text_free(&images);
    di_text_free(&labels);
    if (status == DISTAC_ENOTFOUND)
        return di_fail_at(
            DISTAC_ENOTFOUND, "distac_dataset_mini8",
            "no Fashion-MNIST (%s-images-idx3-ubyte.gz) in %s; Debian has it as dataset-fashion-mnist", part,
            folder);
    return status;
}

static distac_status make_fashion(distac_context *context, const char *folder, making *m) {
    distac_dataset *all;
    DI_TRY(open_fashion(context, folder, m->split, &all));
    int64_t *order = di_new((size_t)(all->size > 0 ? all->size : 1) * sizeof *order);
    distac_status status = order ? new_samples(context, m->split, 10, &m->samples) : DISTAC_ENOMEM;
    for (int c = 0; c < 10 && status == DISTAC_OK; c++) status = di_samples_name(m->samples, c, garments[c]);
    if (status == DISTAC_OK) status = pick(m, all, order);
    free(order);
    distac_dataset_release(all);
    return status;
}

/* ---- the public functions ---- */

distac_status distac_dataset_mini8(distac_context *context, const char *root, const char *fashion_dir,
                                   const char *task, int32_t split, distac_dataset **out) {
    DI_REQUIRE(context && root && fashion_dir && task && out,
               "context, root, fashion_dir, task and out are needed");
    if (split < 0 || split > 2) return di_fail(DISTAC_EINVAL, "split %d: 0 train, 1 validation, 2 test", split);
    making m = {.split = split};
    while (m.task < TASKS && strcmp(task, task_names[m.task]) != 0) m.task++;
    if (m.task == TASKS) {
        const char *near = di_nearest(task, TASKS, task_names);
        return di_fail(DISTAC_ENOTFOUND,
                       "no task \"%s\"%s%s%s; there are digits, svhn, fashion, latin, kana, arabic, "
                       "hebrew, texture",
                       task, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    m.place = di_new((size_t)split_sizes[split] * sizeof *m.place);
    if (!m.place) return DISTAC_ENOMEM;
    di_permutation(MINI8_SEED, stream(m.task, split, 1), split_sizes[split], m.place);
    distac_status status = m.task == FASHION   ? make_fashion(context, fashion_dir, &m)
                           : m.task == TEXTURE ? make_textures(context, &m)
                                               : make_glyphs(context, root, &m);
    free(m.place);
    if (status != DISTAC_OK) {
        di_samples_release(m.samples);
        return status;
    }
    DI_TRY(di_dataset_wrap(m.samples, out));
    double mean = MINI8_MEAN, std = MINI8_STD;
    return distac_dataset_normalize(*out, 1, &mean, 1, &std);
}

/* Several sheets joined by "+": their classes follow each other. */
typedef struct sheets {
    di_sheet **list;
    int64_t count, glyphs, classes;
} sheets;

static distac_status open_sheets(distac_context *context, const char *root, const char *names, sheets *all) {
    const char *at = names;
    for (;;) {
        const char *plus = strchr(at, '+');
        size_t length = plus ? (size_t)(plus - at) : strlen(at);
        char name[64];
        if (length == 0 || length >= sizeof name || memchr(at, '/', length))
            return di_fail_at(DISTAC_EINVAL, "distac_dataset_glyphs",
                              "\"%s\": wanted names of sheets joined by \"+\"", names);
        memcpy(name, at, length);
        name[length] = 0;
        di_sheet **longer = di_grow(all->list, ((size_t)all->count + 1) * sizeof *longer);
        if (!longer) return DISTAC_ENOMEM;
        all->list = longer;
        DI_TRY(di_sheet_open(context, root, name, &all->list[all->count]));
        di_sheet *s = all->list[all->count++];
        all->glyphs += s->glyphs;
        all->classes += s->classes;
        if (!plus) return DISTAC_OK;
        at = plus + 1;
    }
}

static distac_status stack(distac_context *context, const sheets *all, di_samples **out) {
    DI_TRY(di_samples_new(context, all->glyphs, all->classes, 1, DI_CELL, DI_CELL, out));
    di_samples *samples = *out;
    int64_t shape[4] = {all->glyphs, 1, DI_CELL, DI_CELL}, glyph = 0, class_index = 0;
    samples->labels = di_new((size_t)all->glyphs * sizeof *samples->labels);
    if (!samples->labels) return DISTAC_ENOMEM;
    DI_TRY(di_tensor_new(context, DISTAC_U8, 4, shape, false, &samples->pixels));
    for (int64_t k = 0; k < all->count; k++) {
        const di_sheet *s = all->list[k];
        memcpy((uint8_t *)samples->pixels->data + glyph * DI_CELL * DI_CELL, s->pixels, s->bytes);
        for (int64_t g = 0; g < s->glyphs; g++) samples->labels[glyph + g] = class_index + s->label[g];
        for (int64_t c = 0; c < s->classes; c++) DI_TRY(di_samples_name(samples, class_index + c, s->names[c]));
        glyph += s->glyphs;
        class_index += s->classes;
    }
    return DISTAC_OK;
}

distac_status distac_dataset_glyphs(distac_context *context, const char *root, const char *sheet,
                                    distac_dataset **out) {
    DI_REQUIRE(context && root && sheet && out, "context, root, sheet and out are needed");
    sheets all = {.list = NULL};
    di_samples *samples = NULL;
    distac_status status = open_sheets(context, root, sheet, &all);
    if (status == DISTAC_OK) status = stack(context, &all, &samples);
    for (int64_t k = 0; k < all.count; k++) di_sheet_close(all.list[k]);
    free(all.list);
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    return di_dataset_wrap(samples, out);
}
