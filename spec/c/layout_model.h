/* layout_model.h: a small CLIP written out of the table of its tensors, under any prefix, for the tests of
 * layouts. */
#ifndef LAYOUT_MODEL_H
#define LAYOUT_MODEL_H

#include "data_files.h"
#include "io/layout.h"

typedef struct spec {
    int64_t width, layers, mlp, dim, text_width, text_layers, vocab, words, patch, grid;
} spec;
MAYBE const spec small = {16, 2, 24, 10, 12, 3, 31, 7, 4, 3};

MAYBE int64_t size_of(const spec *s, char letter) {
    switch (letter) {
    case 'w':
        return s->width;
    case 'm':
        return s->mlp;
    case 'n':
        return s->grid * s->grid + 1;
    case 'c':
        return 3;
    case 'p':
        return s->patch;
    case 'd':
        return s->dim;
    case 'W':
        return s->text_width;
    case 'M':
        return 4 * s->text_width;
    case 'X':
        return s->words;
    case 'V':
        return s->vocab;
    default:
        fail_msg("a letter %c", letter);
        return 0;
    }
}

MAYBE void put_as(distac_checkpoint *ck, const char *stored, const char *name, int32_t dtype, int32_t rank,
                  const int64_t *shape) {
    distac_tensor *t, *cast;
    OK(distac_tensor_create(context, DISTAC_F64, rank, shape, &t));
    uint64_t stream = 5;
    for (const char *c = name; *c; c++) stream = stream * 31 + (uint8_t)*c;
    OK(distac_tensor_random(t, 0, 3, stream));
    OK(distac_tensor_cast(t, dtype, &cast));
    OK(distac_checkpoint_set(ck, stored, cast));
    distac_tensor_release(t);
    distac_tensor_release(cast);
}

MAYBE void put(distac_checkpoint *ck, const char *name, int32_t dtype, int32_t rank, const int64_t *shape) {
    put_as(ck, name, name, dtype, rank, shape);
}

/* A whole canonical model, written out of the table but for what `skip` names. */
MAYBE distac_checkpoint *model(const spec *s, int32_t dtype, const char *prefix, const char *skip) {
    distac_checkpoint *ck;
    OK(distac_checkpoint_create(context, &ck));
    for (int32_t row = 0; row < di_clip_tensor_count; row++) {
        const di_clip_tensor *t = &di_clip_tensors[row];
        int64_t blocks = !strchr(t->name, '#') ? 1 : t->tower == DI_VISION ? s->layers : s->text_layers;
        if (skip && strncmp(t->name, skip, strlen(skip)) == 0) continue;
        for (int64_t b = 0; b < blocks; b++) {
            char names[DI_LAZY_PARTS][DI_LAYOUT_NAME];
            int32_t count, rank = 0;
            int64_t shape[4];
            di_layout_own(&di_layout_open_clip, row, b, prefix, &count, names);
            for (const char *c = t->shape; *c; c++) {
                int64_t factor = *c == '3' ? 3 : 1;
                if (factor == 3) c++;
                shape[rank++] = factor * size_of(s, *c);
            }
            put_as(ck, names[0], names[0] + strlen(prefix), dtype, rank, shape);
        }
    }
    return ck;
}

MAYBE distac_checkpoint *convert(const distac_checkpoint *ck, const char *layout) {
    distac_checkpoint *out = NULL;
    if (distac_checkpoint_convert(ck, layout, &out) != DISTAC_OK) fail_msg("%s", distac_last_error());
    return out;
}

MAYBE distac_checkpoint *through_file(const distac_checkpoint *ck, const char *name) {
    distac_checkpoint *out = NULL;
    OK(distac_checkpoint_save(ck, in_folder(name), -1));
    OK(distac_checkpoint_open(context, in_folder(name), &out));
    return out;
}

MAYBE void assert_same(const distac_checkpoint *a, const distac_checkpoint *b) {
    assert_int_equal(a->count, b->count);
    assert_true(a->count > 0);
    for (int64_t i = 0; i < a->count; i++) {
        const uint8_t *x, *y;
        distac_tensor *copy_x, *copy_y;
        assert_string_equal(a->entries[i]->name, b->entries[i]->name);
        assert_ptr_equal(a->entries[i]->type, b->entries[i]->type);
        assert_true(di_entry_same_shape(a->entries[i], b->entries[i]));
        OK(di_entry_bytes(a->entries[i], &x, &copy_x));
        OK(di_entry_bytes(b->entries[i], &y, &copy_y));
        if (memcmp(x, y, (size_t)a->entries[i]->bytes) != 0) fail_msg("%s differs", a->entries[i]->name);
        distac_tensor_release(copy_x);
        distac_tensor_release(copy_y);
    }
}

MAYBE distac_tensor *tensor(const distac_checkpoint *ck, const char *name) {
    distac_tensor *t = NULL;
    int64_t index = distac_checkpoint_find(ck, name);
    if (index < 0) fail_msg("no %s", name);
    OK(distac_checkpoint_tensor(ck, index, &t));
    return t;
}

#endif
