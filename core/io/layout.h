/* layout.h: CLIP's tensors under the names of several publishers. The canonical list (layout_open_clip.c) says
 * what a CLIP model consists of; a layout says what its publisher calls each of these tensors and how it is cut or
 * turned. Another layout is one file with a di_layout and one line in layout.c. */
#ifndef DISTAC_LAYOUT_H
#define DISTAC_LAYOUT_H

#include "io.h"

enum { DI_VISION = 0, DI_TEXT = 1, DI_TOWERS = 2, DI_LAYOUT_NAME = 160 };

/* A canonical tensor. '#' in the name is the number of a block. Shape: one letter per dimension, "3w" is three
 * times w; the letters' values are read from the tensors. Image tower: w width, m MLP, n positions, c channels, p
 * patch; text tower: W, M, X context, V vocabulary; both: d features. */
typedef struct di_clip_tensor {
    const char *name, *shape;
    int32_t tower;
    bool optional; /* a model may lack it, even if the tower is there */
} di_clip_tensor;
extern const di_clip_tensor di_clip_tensors[];
extern const int32_t di_clip_tensor_count;

typedef enum di_layout_form {
    DI_SAME,   /* as in the canonical layout */
    DI_CUT,    /* its rows in three equal parts: queries, keys, values */
    DI_TURNED, /* transposed */
} di_layout_form;

/* What a layout calls a canonical tensor. */
typedef struct di_layout_name {
    const char *canonical;
    di_layout_form form;
    const char *own[DI_LAZY_PARTS];
} di_layout_name;

typedef struct di_layout {
    const char *name, *text;
    const di_layout_name *names; /* NULL: the canonical ones */
    int32_t count;
    /* Two of three of them mean that the tower is there. */
    const char *marks[DI_TOWERS][3];
    /* Beginnings of the names of each tower's tensors: another tensor there is one that we do not know. NULL ends.
     */
    const char *const *roots[DI_TOWERS];
    /* Buffers that are no weights: left out of conversions. NULL ends. */
    const char *const *buffers;
} di_layout;

extern const di_layout di_layout_open_clip, di_layout_hf, di_layout_custom_text;

/* ---- layout.c ---- */
const di_layout *di_layout_named(const char *name);
/* The layout's form and names of canonical tensor `row`, block numbers and prefix put in. */
di_layout_form di_layout_own(const di_layout *layout, int32_t row, int64_t block, const char *prefix,
                             int32_t *count, char names[DI_LAZY_PARTS][DI_LAYOUT_NAME]);

/* What was recognised: layout NULL for "plain". */
enum { DI_PREFIX_BYTES = 64 };
typedef struct di_clip_kind {
    const di_layout *layout;
    char prefix[DI_PREFIX_BYTES];
} di_clip_kind;
di_clip_kind di_layout_recognise(const distac_checkpoint *checkpoint);

/* ---- layout_target.c ---- */
/* A tensor of a layout as a part of a canonical one. */
typedef struct di_target {
    char *name;
    int64_t entry, first, numel; /* elements first … first+numel-1 of this entry of the canonical checkpoint */
    int32_t rank;
    int64_t shape[DI_MAX_RANK];
    bool turned; /* the entry as a whole, transposed */
} di_target;
typedef struct di_target_list {
    int64_t count;
    di_target *list; /* sorted by name */
} di_target_list;
/* What a checkpoint in the canonical layout is written as in another; layout NULL: as it is. di_targets_close it
 * when OK. Errors: as distac_checkpoint_convert. */
distac_status di_targets_open(const distac_checkpoint *canonical, const char *layout, di_target_list *out);
void di_targets_close(di_target_list *targets);
/* [new] The checkpoint in the canonical layout: itself if it has it. */
distac_status di_canonical(const distac_checkpoint *checkpoint, distac_checkpoint **out);

/* ---- layout_check.c ---- */
/* A canonical tensor that was found: the entries that it is made of in the layout of the file. */
typedef struct di_clip_found {
    int32_t row, count;
    int64_t block;
    di_layout_form form;
    const di_entry *entries[DI_LAZY_PARTS];
} di_clip_found;

typedef struct di_clip {
    di_clip_kind kind;
    int64_t layers[DI_TOWERS]; /* blocks */
    bool there[DI_TOWERS];     /* the tower as a whole, not a left-over of it */
    int64_t sizes[128];        /* by the letter of a shape; 0: not known */
    int64_t count;
    di_clip_found *found;
    bool *used; /* by entry of the checkpoint: it belongs to a found tensor or is a buffer */
} di_clip;
/* Looks for every tensor; all misfits are one error that names `function`. di_clip_close it, also on failure. */
distac_status di_clip_open(const char *function, const distac_checkpoint *checkpoint, di_clip *out);
void di_clip_close(di_clip *clip);

#endif
