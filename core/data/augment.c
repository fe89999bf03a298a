/* augment.c: random distortions of glyphs. Every picture is a pure function of its dice, which are a pure function
 * of (seed, stream, sample). This file is compiled without contraction of products and sums (see CMakeLists), so
 * that the bits are the same on every machine. */
#include "mini8.h"
#include <math.h>
#include <string.h>

/* ---- dice ---- */

di_dice di_dice_for(uint64_t seed, uint64_t stream, uint64_t sample) {
    /* 2^20 blocks a sample; the tag keeps away from other users of the same seed and stream */
    return (di_dice){.seed = seed, .stream = stream ^ ((uint64_t)0x64696365 << 32), .counter = sample << 20};
}

static uint32_t word(di_dice *d) {
    if (d->left == 0) {
        di_philox(d->seed, d->stream, d->counter++, d->block);
        d->left = 4;
    }
    return d->block[--d->left];
}

static float unit(di_dice *d) {
    return (float)(word(d) >> 8) * 0x1p-24f;
}

float di_dice_uniform(di_dice *dice, float low, float high) {
    return low + (high - low) * unit(dice);
}

uint32_t di_dice_below(di_dice *dice, uint32_t bound) {
    return (uint32_t)(((uint64_t)word(dice) * bound) >> 32);
}

bool di_dice_chance(di_dice *dice, float probability) {
    return unit(dice) < probability;
}

float di_dice_normal(di_dice *dice) {
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t w = word(dice);
        sum += (w & 0xffff) + (w >> 16);
    }
    /* eight numbers 0..65535: mean 4 * 65535, deviation 65536 * sqrt(8/12) */
    return ((float)sum - 4.0f * 65535.0f) * (1.2247449f / 65536.0f);
}

/* sin(2 pi turns) for |turns| <= 1/8 is an odd polynomial; the rest of the circle is folded onto it. */
static float sine_small(float turns) {
    float x = turns * 6.2831853f, y = x * x;
    return x * (1.0f - y * (1.0f / 6 - y * (1.0f / 120 - y * (1.0f / 5040))));
}

static float cosine_small(float turns) {
    float x = turns * 6.2831853f, y = x * x;
    return 1.0f - y * (0.5f - y * (1.0f / 24 - y * (1.0f / 720 - y * (1.0f / 40320))));
}

float di_sine(float turns) {
    turns -= floorf(turns);
    int eighth = (int)(turns * 8.0f);
    float sign = eighth >= 4 ? -1.0f : 1.0f;
    if (eighth >= 4) turns -= 0.5f;
    if (eighth % 4 == 0) return sign * sine_small(turns);
    if (eighth % 4 == 3) return sign * sine_small(0.5f - turns);
    return sign * cosine_small(turns - 0.25f);
}

/* ---- smooth fields ---- */

typedef struct spread {
    int at[DI_SIDE][4];
    float weight[DI_SIDE][4];
} spread;

/* Catmull-Rom interpolation from k nodes to the pixels of one side; nodes beyond the ends repeat the last. */
static void make_spread(int k, spread *s) {
    for (int x = 0; x < DI_SIDE; x++) {
        float u = (float)x * (float)(k - 1) / (float)(DI_SIDE - 1);
        int node = (int)u < k - 1 ? (int)u : k - 2;
        float t = u - (float)node, t2 = t * t, t3 = t2 * t;
        s->weight[x][0] = -0.5f * t3 + t2 - 0.5f * t;
        s->weight[x][1] = 1.5f * t3 - 2.5f * t2 + 1.0f;
        s->weight[x][2] = -1.5f * t3 + 2.0f * t2 + 0.5f * t;
        s->weight[x][3] = 0.5f * t3 - 0.5f * t2;
        for (int i = 0; i < 4; i++) {
            int at = node + i - 1;
            s->at[x][i] = at < 0 ? 0 : at > k - 1 ? k - 1 : at;
        }
    }
}

void di_smooth_field(int k, di_dice *dice, float out[DI_AREA]) {
    float nodes[14 * 14], rows[14 * DI_SIDE];
    spread s;
    make_spread(k, &s);
    for (int i = 0; i < k * k; i++) nodes[i] = di_dice_normal(dice);
    for (int y = 0; y < k; y++)
        for (int x = 0; x < DI_SIDE; x++) {
            float sum = 0;
            for (int i = 0; i < 4; i++) sum += s.weight[x][i] * nodes[y * k + s.at[x][i]];
            rows[y * DI_SIDE + x] = sum;
        }
    for (int y = 0; y < DI_SIDE; y++)
        for (int x = 0; x < DI_SIDE; x++) {
            float sum = 0;
            for (int i = 0; i < 4; i++) sum += s.weight[y][i] * rows[s.at[y][i] * DI_SIDE + x];
            out[y * DI_SIDE + x] = sum;
        }
}

void di_texture_field(di_dice *dice, float out[DI_AREA]) {
    static const int nodes[4] = {2, 4, 7, 14};
    float weight[4], total = 0, field[DI_AREA];
    for (int j = 0; j < 4; j++) {
        weight[j] = di_dice_uniform(dice, 0, 1);
        weight[j] *= weight[j];
        total += weight[j];
    }
    memset(out, 0, DI_AREA * sizeof *out);
    for (int j = 0; j < 4; j++) {
        di_smooth_field(nodes[j], dice, field);
        float share = total > 0 ? weight[j] / total : 0.25f;
        for (int i = 0; i < DI_AREA; i++) out[i] += share * field[i];
    }
}

/* ---- warp ---- */

static float pixel(const uint8_t *master, int x, int y) {
    return x < 0 || y < 0 || x >= DI_CELL || y >= DI_CELL ? 0.0f : (float)master[y * DI_CELL + x];
}

static float bilinear(const uint8_t *master, float x, float y) {
    if (!(x > -1.0f && y > -1.0f && x < DI_CELL && y < DI_CELL)) return 0;
    float left = floorf(x), top = floorf(y), fx = x - left, fy = y - top;
    int ix = (int)left, iy = (int)top;
    float above = pixel(master, ix, iy) * (1 - fx) + pixel(master, ix + 1, iy) * fx;
    float below = pixel(master, ix, iy + 1) * (1 - fx) + pixel(master, ix + 1, iy + 1) * fx;
    return (above * (1 - fy) + below * fy) * (1.0f / 255.0f);
}

void di_warp(const uint8_t master[DI_CELL * DI_CELL], const distac_augment_desc *desc, float offset, di_dice *dice,
             float out[DI_AREA]) {
    float rotate = (float)desc->rotate, shear_range = (float)desc->shear, shift = (float)desc->shift;
    float turns = di_dice_uniform(dice, -rotate, rotate) * (1.0f / 360.0f);
    float zoom = 1.0f / di_dice_uniform(dice, (float)desc->scale_min, (float)desc->scale_max);
    float aspect = di_dice_uniform(dice, 1.0f - 0.5f * shear_range, 1.0f + 0.5f * shear_range);
    float shear = di_dice_uniform(dice, -shear_range, shear_range);
    float dx = di_dice_uniform(dice, -shift, shift), dy = di_dice_uniform(dice, -shift, shift);
    float sine = di_sine(turns), cosine = di_sine(turns + 0.25f);
    float bend_x[DI_AREA], bend_y[DI_AREA];
    bool elastic = desc->elastic > 0;
    if (elastic) {
        di_smooth_field(5, dice, bend_x);
        di_smooth_field(5, dice, bend_y);
    }
    for (int y = 0; y < DI_SIDE; y++)
        for (int x = 0; x < DI_SIDE; x++) {
            /* -1 to 1 across the picture, from edge to edge */
            float u = (2.0f * ((float)x - offset) + 1.0f) / DI_SIDE - 1.0f,
                  v = (2.0f * (float)y + 1.0f) / DI_SIDE - 1.0f;
            float s = zoom * (cosine * aspect * u + (shear - sine) * v) + dx;
            float t = zoom * (sine * u + cosine / aspect * v) + dy;
            if (elastic) {
                s += (float)desc->elastic * bend_x[y * DI_SIDE + x];
                t += (float)desc->elastic * bend_y[y * DI_SIDE + x];
            }
            out[y * DI_SIDE + x] =
                bilinear(master, ((s + 1.0f) * DI_CELL - 1.0f) * 0.5f, ((t + 1.0f) * DI_CELL - 1.0f) * 0.5f);
        }
}

/* ---- compose ---- */

/* 3x3 binomial blur; outside is black. */
static void blur(float image[DI_AREA]) {
    float rows[DI_AREA];
    for (int y = 0; y < DI_SIDE; y++)
        for (int x = 0; x < DI_SIDE; x++) {
            const float *p = image + y * DI_SIDE + x;
            rows[y * DI_SIDE + x] = 0.5f * p[0] + 0.25f * ((x > 0 ? p[-1] : 0) + (x < DI_SIDE - 1 ? p[1] : 0));
        }
    for (int y = 0; y < DI_SIDE; y++)
        for (int x = 0; x < DI_SIDE; x++) {
            const float *p = rows + y * DI_SIDE + x;
            image[y * DI_SIDE + x] =
                0.5f * p[0] + 0.25f * ((y > 0 ? p[-DI_SIDE] : 0) + (y < DI_SIDE - 1 ? p[DI_SIDE] : 0));
        }
}

void di_quantise(const float image[DI_AREA], uint8_t out[DI_AREA]) {
    for (int i = 0; i < DI_AREA; i++) {
        float v = image[i] < 0 ? 0 : image[i] > 1 ? 1 : image[i];
        out[i] = (uint8_t)(v * 255.0f + 0.5f);
    }
}

void di_compose(float image[DI_AREA], const distac_augment_desc *desc, di_dice *dice, uint8_t out[DI_AREA]) {
    float low = (float)desc->contrast_min, high = (float)desc->contrast_max;
    if (di_dice_chance(dice, (float)desc->blur)) blur(image);
    float ground = (1.0f - di_dice_uniform(dice, low, high)) * di_dice_uniform(dice, 0, 1);
    float ink = di_dice_uniform(dice, low, high) * (1.0f - ground);
    for (int i = 0; i < DI_AREA; i++) image[i] = ground + ink * image[i];
    if (desc->texture > 0) {
        float field[DI_AREA], weight = di_dice_uniform(dice, 0, (float)desc->texture);
        di_texture_field(dice, field);
        for (int i = 0; i < DI_AREA; i++) image[i] += weight * field[i];
    }
    if (desc->noise > 0) {
        float weight = 2.0f * di_dice_uniform(dice, 0, (float)desc->noise);
        for (int i = 0; i < DI_AREA; i++) image[i] += weight * di_dice_normal(dice);
    }
    di_quantise(image, out);
    if (di_dice_chance(dice, (float)desc->invert))
        for (int i = 0; i < DI_AREA; i++) out[i] = (uint8_t)(255 - out[i]);
}

/* ---- the public function ---- */

static distac_status check(const distac_augment_desc *d) {
    const struct {
        const char *name;
        double value, low, high;
    } fields[] = {{"rotate", d->rotate, 0, 180},
                  {"scale_min", d->scale_min, 0.05, 20},
                  {"scale_max", d->scale_max, 0.05, 20},
                  {"shear", d->shear, 0, 1.5},
                  {"shift", d->shift, 0, 2},
                  {"elastic", d->elastic, 0, 1},
                  {"blur", d->blur, 0, 1},
                  {"contrast_min", d->contrast_min, 0, 1},
                  {"contrast_max", d->contrast_max, 0, 1},
                  {"texture", d->texture, 0, 10},
                  {"noise", d->noise, 0, 10},
                  {"invert", d->invert, 0, 1}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!(fields[i].value >= fields[i].low && fields[i].value <= fields[i].high))
            return di_fail_at(DISTAC_EINVAL, "distac_augment_glyphs", "%s = %g, wanted %g to %g", fields[i].name,
                              fields[i].value, fields[i].low, fields[i].high);
    if (d->scale_min > d->scale_max || d->contrast_min > d->contrast_max)
        return di_fail_at(DISTAC_EINVAL, "distac_augment_glyphs", "scale %g to %g, contrast %g to %g: wrong order",
                          d->scale_min, d->scale_max, d->contrast_min, d->contrast_max);
    return DISTAC_OK;
}

typedef struct job {
    const distac_dataset *glyphs;
    const distac_augment_desc *desc;
    uint64_t seed, stream;
    const int64_t *indices;
    uint8_t *out;
} job;

static distac_status augment_one(void *arg, int64_t j) {
    const job *a = arg;
    int64_t at = a->indices[j];
    if (a->glyphs->order) at = a->glyphs->order[at];
    const uint8_t *master = (const uint8_t *)a->glyphs->samples->pixels->data + at * DI_CELL * DI_CELL;
    di_dice dice = di_dice_for(a->seed, a->stream, (uint64_t)j);
    float image[DI_AREA];
    di_warp(master, a->desc, 0, &dice, image);
    di_compose(image, a->desc, &dice, a->out + j * DI_AREA);
    return DISTAC_OK;
}

distac_status distac_augment_glyphs(const distac_dataset *glyphs, const distac_augment_desc *desc, uint64_t seed,
                                    uint64_t stream, int64_t n_indices, const int64_t *indices,
                                    distac_tensor **out) {
    DI_REQUIRE(glyphs && desc && out && n_indices >= 0 && (indices || n_indices == 0),
               "glyphs, desc, indices and out are needed");
    const di_samples *s = glyphs->samples;
    if (!s->pixels || s->channels != 1 || s->height != DI_CELL || s->width != DI_CELL)
        return di_fail(DISTAC_ESHAPE, "images of %d x %d x %d, wanted glyphs of 1 x %d x %d", s->channels,
                       s->height, s->width, DI_CELL, DI_CELL);
    DI_TRY(check(desc));
    for (int64_t j = 0; j < n_indices; j++)
        if (indices[j] < 0 || indices[j] >= glyphs->size)
            return di_fail(DISTAC_EINVAL, "index %lld at position %lld, wanted 0 to %lld", (long long)indices[j],
                           (long long)j, (long long)glyphs->size - 1);
    int64_t shape[4] = {n_indices, 1, DI_SIDE, DI_SIDE};
    distac_tensor *images;
    DI_TRY(di_tensor_new(s->context, DISTAC_U8, 4, shape, false, &images));
    job a = {
        .glyphs = glyphs, .desc = desc, .seed = seed, .stream = stream, .indices = indices, .out = images->data};
    distac_status status = di_parallel_try(s->context, NULL, n_indices, augment_one, &a);
    if (status != DISTAC_OK) {
        distac_tensor_release(images);
        return status;
    }
    *out = images;
    return DISTAC_OK;
}
