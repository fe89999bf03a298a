/* mini8.h: the pieces of the embedded benchmark: glyph sheets, distortions, procedural textures. */
#ifndef DISTAC_MINI8_H
#define DISTAC_MINI8_H

#include "data.h"

enum { DI_CELL = 32, DI_SIDE = 28, DI_AREA = DI_SIDE * DI_SIDE };

/* ---- dice (augment.c): the random numbers of one sample ---- */
/* Everything drawn is made of sums and products of Philox words, without library functions whose last bit differs
 * between machines: the same seed gives the same pixels everywhere. */
typedef struct di_dice {
    uint64_t seed, stream, counter;
    uint32_t block[4];
    int left;
} di_dice;
di_dice di_dice_for(uint64_t seed, uint64_t stream, uint64_t sample);
float di_dice_uniform(di_dice *dice, float low, float high);
uint32_t di_dice_below(di_dice *dice, uint32_t bound);
float di_dice_normal(di_dice *dice); /* sum of eight uniform numbers, scaled: mean 0, deviation 1 */
bool di_dice_chance(di_dice *dice, float probability);
float di_sine(float turns); /* sin(2 pi turns) */

/* ---- drawing (augment.c) ---- */
/* Affine map and smooth displacement of a master to 28x28, bilinear, values 0 to 1; offset: pixels to the right.
 */
void di_warp(const uint8_t master[DI_CELL * DI_CELL], const distac_augment_desc *desc, float offset, di_dice *dice,
             float out[DI_AREA]);
/* Blur, contrast, texture, noise and inversion of an image with values 0 to 1, to bytes. */
void di_compose(float image[DI_AREA], const distac_augment_desc *desc, di_dice *dice, uint8_t out[DI_AREA]);
/* A smooth random field through k x k normal numbers. */
void di_smooth_field(int k, di_dice *dice, float out[DI_AREA]);
/* Sum of such fields of four widths with random weights that add up to 1. */
void di_texture_field(di_dice *dice, float out[DI_AREA]);
void di_quantise(const float image[DI_AREA], uint8_t out[DI_AREA]); /* clamped to 0..1, then 0..255 */

/* ---- procedural textures (textures.c) ---- */
enum { DI_TEXTURES = 12 };
extern const char *const di_texture_names[DI_TEXTURES];
void di_texture(int kind, di_dice *dice, uint8_t out[DI_AREA]);

/* ---- glyph sheets (sheet.c) ---- */
typedef struct di_sheet {
    distac_context *context;
    int64_t glyphs, classes;
    char **names;     /* [classes] */
    int32_t *label;   /* [glyphs] */
    uint8_t *split;   /* [glyphs] 0 train, 1 validation, 2 test */
    uint32_t *family; /* [glyphs] hash of the font family */
    uint8_t *pixels;  /* [glyphs][DI_CELL][DI_CELL], white on black */
    size_t bytes;
} di_sheet;
distac_status di_sheet_open(distac_context *context, const char *root, const char *name, di_sheet **out);
void di_sheet_close(di_sheet *sheet);

#endif
