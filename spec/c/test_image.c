/* test_image.c: images saved and read back, resized, fitted and turned into tensors, against known numbers. */
#include "data_files.h"

static distac_image *image_of(int height, int width, int channels, const uint8_t *bytes) {
    distac_image *image = NULL;
    OK(di_image_new(context, width, height, channels, &image));
    memcpy(image->pixels, bytes, image->bytes);
    return image;
}

static void images_are_saved_and_read_back(void **state) {
    (void)state;
    uint32_t seed = 3;
    for (int channels = 1; channels <= 3; channels += 2) {
        uint8_t bytes[13 * 6 * 3];
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)draw(&seed);
        distac_image *image = image_of(6, 13, channels, bytes), *back = NULL;
        OK(distac_image_save(image, in_folder("saved.png")));
        OK(distac_image_load(context, in_folder("saved.png"), 0, &back));
        assert_int_equal(distac_image_channels(back), channels);
        assert_memory_equal(back->pixels, bytes, image->bytes);
        failed(distac_image_save(image, in_folder("no/such/saved.png")), DISTAC_EIO, "saved.png", NULL);
        distac_image_release(image);
        distac_image_release(back);
    }
}

static void bicubic_has_known_numbers(void **state) {
    (void)state;
    static const uint8_t source[16] = {0, 50, 100, 255, 10, 60, 200, 5, 30, 90, 120, 250, 255, 0, 255, 0};
    static const uint8_t two[4] = {39, 141, 101, 137};
    static const uint8_t six0[6] = {0, 21, 55, 79, 190, 255}, six2[6] = {7, 28, 86, 190, 111, 19},
                         six5[6] = {255, 124, 14, 244, 131, 0};
    distac_image *image = image_of(4, 4, 1, source), *out = NULL;
    OK(distac_image_resize(image, 2, 2, &out));
    assert_memory_equal(out->pixels, two, 4);
    distac_image_release(out);
    OK(distac_image_resize(image, 6, 6, &out));
    assert_memory_equal(out->pixels, six0, 6);
    assert_memory_equal(out->pixels + 12, six2, 6);
    assert_memory_equal(out->pixels + 30, six5, 6);
    distac_image_release(out);
    OK(distac_image_resize(image, 4, 4, &out));
    assert_memory_equal(out->pixels, source, 16);
    distac_image_release(out);
    uint8_t colour[48]; /* channels do not mix: three copies of the picture, two of them inverted */
    for (int i = 0; i < 16; i++) {
        colour[3 * i] = source[i];
        colour[3 * i + 1] = colour[3 * i + 2] = (uint8_t)(255 - source[i]);
    }
    distac_image *three = image_of(4, 4, 3, colour);
    OK(distac_image_resize(three, 2, 2, &out));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(out->pixels[3 * i], two[i]);
        assert_in_range(out->pixels[3 * i + 1], 254 - two[i], 256 - two[i]);
        assert_int_equal(out->pixels[3 * i + 1], out->pixels[3 * i + 2]);
    }
    distac_image_release(out);
    failed(distac_image_resize(image, 0, 2, &out), DISTAC_EINVAL, "0 x 2", NULL);
    failed(distac_image_resize(image, 1000000, 1000000, &out), DISTAC_EINVAL, "1000000", NULL);
    distac_image_release(three);
    distac_image_release(image);
}

static void fit_rounds_half_to_even(void **state) {
    (void)state;
    static const struct {
        int length, first;
    } cases[] = {{2, 0}, {3, 0}, {4, 1}, {5, 2}, {6, 2}, {7, 2}, {8, 3}, {9, 4}, {11, 4}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int tall = 0; tall < 2; tall++) {
            uint8_t bytes[22];
            int n = cases[k].length;
            for (int i = 0; i < 2 * n; i++) bytes[i] = (uint8_t)(10 * (tall ? i / 2 : i % n));
            distac_image *image = image_of(tall ? n : 2, tall ? 2 : n, 1, bytes), *out = NULL;
            OK(distac_image_fit(image, 2, &out));
            for (int i = 0; i < 4; i++)
                assert_int_equal(out->pixels[i], 10 * (cases[k].first + (tall ? i / 2 : i % 2)));
            distac_image_release(out);
            distac_image_release(image);
        }
    uint8_t bytes[10 * 25] = {0}; /* 10 x 25 to 4: the longer side is cut to int(4 * 25 / 10) = 10, offset 3 */
    distac_image *image = image_of(10, 25, 1, bytes), *out = NULL;
    OK(distac_image_fit(image, 4, &out));
    assert_int_equal(distac_image_width(out), 4);
    assert_int_equal(distac_image_height(out), 4);
    distac_image_release(out);
    failed(distac_image_fit(image, 0, &out), DISTAC_EINVAL, "size 0", NULL);
    distac_image_release(image);
}

static void image_tensors(void **state) {
    (void)state;
    static const uint8_t bytes[12] = {0, 10, 20, 255, 30, 40, 1, 2, 3, 4, 5, 6};
    const double mean[3] = {0.5, 0.25, 0.125}, std[3] = {0.5, 0.25, 2};
    distac_image *image = image_of(2, 2, 3, bytes), *back = NULL;
    distac_tensor *t = NULL, *pixels = NULL;
    OK(distac_image_tensor(image, 3, mean, 3, std, &t));
    const float *v = t->data;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 4; i++) {
            double want = (bytes[3 * i + c] / 255.0 - mean[c]) / std[c];
            assert_true(fabs(v[4 * c + i] - want) <= 1e-6);
        }
    OK(distac_image_pixels(image, &pixels));
    OK(distac_image_from_tensor(pixels, &back));
    assert_memory_equal(back->pixels, bytes, 12);
    failed(distac_image_from_tensor(t, &back), DISTAC_EDTYPE, "f32", NULL);
    failed(distac_image_tensor(image, 1, mean, 1, std, &t), DISTAC_ESHAPE, "3 channels", NULL);
    const double nothing[3] = {1, 0, NAN};
    failed(distac_image_tensor(image, 3, mean, 3, nothing, &t), DISTAC_EINVAL, "deviation", NULL);
    distac_image_release(image);
    distac_image_release(back);
    distac_tensor_release(t);
    distac_tensor_release(pixels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_are_saved_and_read_back),
        cmocka_unit_test(bicubic_has_known_numbers),
        cmocka_unit_test(fit_rounds_half_to_even),
        cmocka_unit_test(image_tensors),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
