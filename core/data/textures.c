/* textures.c: the twelve procedural textures of the task "texture": a pattern in rotated, shifted and gently bent
 * coordinates, with random period, contrast and noise. */
#include "mini8.h"
#include <math.h>

const char *const di_texture_names[DI_TEXTURES] = {"waves", "stripes", "checker", "dots",   "holes",    "bricks",
                                                   "grid",  "rings",   "zigzag",  "clouds", "blotches", "ramps"};

static float fraction(float x) {
    return x - floorf(x);
}

static float sign(float x) {
    return x < 0 ? -1.0f : 1.0f;
}

/* x, y in periods; radius in periods. Values -1 to 1. */
static float pattern(int kind, float x, float y) {
    float px = fraction(x), py = fraction(y), cx = px - 0.5f, cy = py - 0.5f;
    bool disc = cx * cx + cy * cy < 0.08f;
    switch (kind) {
    case 0:
        return di_sine(x);
    case 1:
        return sign(di_sine(x));
    case 2:
        return sign(di_sine(x)) * sign(di_sine(y));
    case 3:
        return disc ? 1.0f : -1.0f;
    case 4:
        return disc ? -1.0f : 1.0f;
    case 5: { /* every second row is shifted by half a brick */
        float brick = fraction(x / 1.8f + 0.5f * (fraction(floorf(y) * 0.5f) >= 0.5f ? 1.0f : 0.0f));
        return brick < 0.12f || py < 0.2f ? 1.0f : -1.0f;
    }
    case 6:
        return px < 0.2f || py < 0.2f ? 1.0f : -1.0f;
    case 7:
        return di_sine(sqrtf(x * x + y * y));
    case 8:
        return di_sine(x + 1.6f * fabsf(2.0f * fraction(0.5f * y) - 1.0f));
    default:
        return 2.0f * px - 1.0f; /* 11 */
    }
}

void di_texture(int kind, di_dice *dice, uint8_t out[DI_AREA]) {
    float turns = di_dice_uniform(dice, 0, 1), sine = di_sine(turns), cosine = di_sine(turns + 0.25f);
    float dx = di_dice_uniform(dice, -9, 9), dy = di_dice_uniform(dice, -9, 9);
    float period = di_dice_uniform(dice, 5, 9), contrast = di_dice_uniform(dice, 0.25f, 0.9f);
    float unevenness = di_dice_uniform(dice, 0, 0.12f), noise = di_dice_uniform(dice, 0.02f, 0.22f);
    float bend_x[DI_AREA], bend_y[DI_AREA], field[DI_AREA], image[DI_AREA];
    di_smooth_field(4, dice, bend_x);
    di_smooth_field(4, dice, bend_y);
    if (kind == 9 || kind == 10) {
        di_smooth_field(7, dice, image);
        for (int i = 0; i < DI_AREA; i++) image[i] = kind == 9 ? 1.2f * image[i] : sign(image[i]);
    } else {
        for (int i = 0; i < DI_AREA; i++) {
            float x = (float)(i % DI_SIDE) - 13.5f, y = (float)(i / DI_SIDE) - 13.5f;
            float u = cosine * x - sine * y + dx + 0.8f * bend_x[i],
                  v = sine * x + cosine * y + dy + 0.8f * bend_y[i];
            image[i] = pattern(kind, u / period, v / period);
        }
    }
    di_texture_field(dice, field);
    for (int i = 0; i < DI_AREA; i++)
        image[i] = 0.5f + 0.5f * contrast * image[i] + unevenness * field[i] + noise * di_dice_normal(dice);
    di_quantise(image, out);
}
