/* test_sample.c: samples in one pass from a file's bytes against loading, fitting and cutting the plain way, under
 * every instruction set; bytes to floats. */
#include "jpeg_files.h"

static double cubic(double x) {
    x = fabs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((x - 5) * x + 8) * x * -0.5 + 2 : 0;
}

/* One pass of the published recipe along rows of an image [n][in][c], without any windows. */
static void pass(int n, int in, int out, int channels, int across, const uint8_t *src, uint8_t *dst) {
    double scale = (double)in / out, wide = scale < 1 ? 1 : scale;
    for (int o = 0; o < out; o++) {
        double middle = (o + 0.5) * scale, w[4096], sum = 0;
        int from = (int)(middle - 2 * wide + 0.5), to = (int)(middle + 2 * wide + 0.5);
        from = middle - 2 * wide + 0.5 < 0 ? 0 : from;
        to = to > in ? in : to;
        for (int k = from; k < to; k++) sum += w[k - from] = cubic((k - middle + 0.5) / wide);
        for (int i = 0; i < n; i++)
            for (int c = 0; c < channels; c++) {
                long long total = 1 << 21;
                for (int k = from; k < to; k++) {
                    double q = w[k - from] / sum * 4194304;
                    int at = across ? (i * in + k) * channels + c : (k * n + i) * channels + c;
                    total += (long long)(q < 0 ? q - 0.5 : q + 0.5) * src[at];
                }
                long long value = total >> 22;
                dst[across ? (i * out + o) * channels + c : (o * n + i) * channels + c] =
                    (uint8_t)(value < 0     ? 0
                              : value > 255 ? 255
                                            : value);
            }
    }
}

static void resize_plainly(const uint8_t *src, int w, int h, int c, int to_w, int to_h, uint8_t *dst) {
    uint8_t *middle = malloc((size_t)to_w * (size_t)h * (size_t)c);
    pass(h, w, to_w, c, 1, src, middle);
    pass(to_w, h, to_h, c, 0, middle, dst);
    free(middle);
}

static void plain_sample(const distac_image *image, const di_sample_plan *p, uint8_t *planes) {
    di_geometry g;
    if (p->crop)
        OK(di_crop_geometry(image->width, image->height, &p->desc, p->seed, p->stream, p->size, &g));
    else
        OK(di_fit_geometry(image->width, image->height, p->size, &g));
    distac_image *box = NULL;
    OK(distac_image_crop(image, g.x, g.y, g.box_width, g.box_height, &box));
    int c = image->channels;
    uint8_t *whole = malloc((size_t)g.width * (size_t)g.height * (size_t)c);
    resize_plainly(box->pixels, g.box_width, g.box_height, c, g.width, g.height, whole);
    for (int k = 0; k < p->channels; k++)
        for (int y = 0; y < p->size; y++)
            for (int x = 0; x < p->size; x++)
                *planes++ = whole[((y + g.top) * g.width + x + g.left) * c + (c == 1 ? 0 : k)];
    free(whole);
    distac_image_release(box);
}

static void samples_are_the_plain_way(void **state) {
    (void)state;
    static const char *const sets[] = {"scalar", "avx2", "avx512"};
    static const int sizes[][2] = {{64, 64}, {150, 100}, {83, 131}, {17, 5}, {3, 40}, {420, 33}, {1, 1}};
    static const int results[] = {1, 7, 33, 64, 80};
    static uint8_t want[3 * 80 * 80], got[3 * 80 * 80];
    int tried = 0;
    for (int set = 0; set < 3; set++) {
        distac_context *c = NULL;
        distac_context_desc desc = {.threads = 1, .kernels = sets[set]};
        if (distac_context_create(&desc, &c) != DISTAC_OK) continue; /* not on this processor */
        tried++;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int kind = 0; kind < 5; kind++) {
                recipe r = {sizes[s][0],
                            sizes[s][1],
                            kind == 1   ? 1
                            : kind == 2 ? 4
                                        : 3,
                            kind == 3 ? 1 : 2,
                            kind == 1 || kind == 3 ? 1 : 2,
                            0,
                            kind == 4,
                            0,
                            0,
                            kind == 2,
                            0};
                if (kind == 1) r.h = 1;
                bytes b = make(r, (uint32_t)(10 * s) + (uint32_t)kind);
                for (int channels = 1; channels <= 3; channels += 2) {
                    distac_image *image = NULL;
                    OK(di_image_decode(context, "x.jpg", b.at, b.count, channels, &image));
                    for (size_t k = 0; k < sizeof results / sizeof *results; k++)
                        for (uint64_t stream = 0; stream < 4; stream++) {
                            di_sample_plan p = {.size = results[k],
                                                .channels = channels,
                                                .crop = stream > 0,
                                                .seed = 4,
                                                .stream = stream};
                            if (stream == 3) p.desc = (distac_crop_desc){0.05, 0.3, 0.5, 2};
                            size_t count = (size_t)(channels * results[k] * results[k]);
                            plain_sample(image, &p, want);
                            memset(got, 0xa5, sizeof got);
                            OK(di_image_sample(c, "x.jpg", b.at, b.count, &p, got));
                            assert_memory_equal(got, want, count);
                            for (size_t i = count; i < sizeof got; i++) assert_int_equal(got[i], 0xa5);
                        }
                    distac_image_release(image);
                }
                free(b.at);
            }
        distac_context_release(c);
    }
    assert_true(tried >= 1);
}

/* Every byte, by every instruction set, as single operations round it. */
static void bytes_become_the_same_floats(void **state) {
    (void)state;
    static const char *const sets[] = {"scalar", "avx2", "avx512"};
    static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f, 0},
                       std[] = {0.26862954f, 0.26130258f, 0.27577711f, 1};
    uint8_t all[259];
    float got[259];
    for (int i = 0; i < 259; i++) all[i] = (uint8_t)i;
    for (int set = 0; set < 3; set++) {
        distac_context *c = NULL;
        distac_context_desc desc = {.threads = 1, .kernels = sets[set]};
        if (distac_context_create(&desc, &c) != DISTAC_OK) continue;
        for (int k = 0; k < 4; k++) {
            di_pixels_for(c)->floats(all, 259, mean[k], std[k], got);
            for (int i = 0; i < 259; i++) {
                volatile float share = (float)all[i] / 255.0f, centred = share - mean[k], want = centred / std[k];
                assert_true(got[i] == want);
            }
        }
        distac_context_release(c);
    }
}

static void plans_are_checked(void **state) {
    (void)state;
    bytes b = make(usual, 1), thin = make((recipe){.width = 9000, .height = 1, .components = 1}, 1);
    uint8_t planes[3];
    failed(di_image_sample(context, "x.jpg", b.at, b.count, &(di_sample_plan){.size = 0, .channels = 3}, planes),
           DISTAC_EINVAL, "size 0", NULL);
    failed(di_image_sample(context, "x.jpg", b.at, b.count, &(di_sample_plan){.size = 1, .channels = 2}, planes),
           DISTAC_EINVAL, "channels 2", NULL);
    failed(di_image_sample(context, "x.jpg", thin.at, thin.count, &(di_sample_plan){.size = 500, .channels = 1},
                           planes),
           DISTAC_EFORMAT, "x.jpg", "long and thin");
    di_sample_plan nan = {.size = 1, .channels = 3, .crop = true, .desc = {NAN, 1, 1, 1}};
    failed(di_image_sample(context, "x.jpg", b.at, b.count, &nan, planes), DISTAC_EINVAL, "scale", NULL);
    free(b.at);
    free(thin.at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_the_plain_way),
        cmocka_unit_test(bytes_become_the_same_floats),
        cmocka_unit_test(plans_are_checked),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
