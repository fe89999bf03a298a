/* test_augment.c: distortions of glyphs, and the dice that choose them. */
#include "mini8_files.h"

static const distac_augment_desc plain = {.scale_min = 1, .scale_max = 1, .contrast_min = 1, .contrast_max = 1};
static const distac_augment_desc strong = {.rotate = 15,
                                           .scale_min = 0.7,
                                           .scale_max = 1.1,
                                           .shear = 0.2,
                                           .shift = 0.15,
                                           .elastic = 0.03,
                                           .blur = 0.3,
                                           .contrast_min = 0.4,
                                           .contrast_max = 1,
                                           .texture = 0.15,
                                           .noise = 0.08,
                                           .invert = 0.5};

static void distortions_are_pure_functions(void **state) {
    (void)state;
    enum { N = 64 };
    int64_t indices[N];
    uint8_t want[N * DI_AREA];
    for (int i = 0; i < N; i++) indices[i] = 7 * i;
    for (int threads = 1; threads <= 8; threads++) {
        distac_context *c = open_context(threads);
        distac_dataset *d = NULL;
        distac_tensor *t = NULL;
        OK(distac_dataset_glyphs(c, root(), "greek", &d));
        OK(distac_augment_glyphs(d, &strong, 3, 9, N, indices, &t));
        assert_int_equal(t->dtype, DISTAC_U8);
        assert_true(t->rank == 4 && t->shape[0] == N && t->shape[1] == 1 && t->shape[2] == 28 &&
                    t->shape[3] == 28);
        if (threads == 1)
            memcpy(want, t->data, sizeof want);
        else
            assert_memory_equal(t->data, want, sizeof want);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 3, 9, 10, indices, &t)); /* sample j does not see the others */
        assert_memory_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 3, 10, 10, indices, &t));
        assert_memory_not_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        OK(distac_augment_glyphs(d, &strong, 4, 9, 10, indices, &t));
        assert_memory_not_equal(t->data, want, 10 * DI_AREA);
        distac_tensor_release(t);
        distac_dataset_release(d);
        distac_context_release(c);
    }
}

static void without_distortion_glyphs_stay(void **state) {
    (void)state;
    distac_dataset *d = NULL;
    distac_tensor *t = NULL;
    int64_t indices[20];
    for (int i = 0; i < 20; i++) indices[i] = 31 * i;
    OK(distac_dataset_glyphs(context, root(), "greek", &d));
    OK(distac_augment_glyphs(d, &plain, 0, 0, 20, indices, &t));
    for (int i = 0; i < 20; i++) { /* the same share of ink, bilinearly 32 -> 28 */
        const uint8_t *from = (const uint8_t *)d->samples->pixels->data + indices[i] * DI_CELL * DI_CELL;
        const uint8_t *to = (const uint8_t *)t->data + i * DI_AREA;
        double before = 0, after = 0;
        for (int k = 0; k < DI_CELL * DI_CELL; k++) before += from[k] / 255.0 / (DI_CELL * DI_CELL);
        for (int k = 0; k < DI_AREA; k++) after += to[k] / 255.0 / DI_AREA;
        assert_true(fabs(before - after) < 0.02);
        assert_int_equal(to[0], 0);
    }
    distac_tensor_release(t);
    distac_augment_desc inverted = plain;
    inverted.invert = 1;
    distac_tensor *u = NULL;
    OK(distac_augment_glyphs(d, &plain, 0, 0, 20, indices, &t));
    OK(distac_augment_glyphs(d, &inverted, 0, 0, 20, indices, &u));
    for (int k = 0; k < 20 * DI_AREA; k++)
        assert_int_equal(((uint8_t *)t->data)[k] + ((uint8_t *)u->data)[k], 255);
    distac_tensor_release(t);
    distac_tensor_release(u);
    OK(distac_augment_glyphs(d, &plain, 0, 0, 0, NULL, &t));
    assert_int_equal(t->numel, 0);
    distac_tensor_release(t);
    distac_dataset_release(d);
}

static void wrong_distortions_are_refused(void **state) {
    (void)state;
    distac_dataset *d = NULL, *pictures = NULL;
    distac_tensor *t = NULL;
    const int64_t index = 0, beyond = 1 << 30;
    OK(distac_dataset_glyphs(context, root(), "greek", &d));
    distac_augment_desc wrong = strong;
    wrong.rotate = NAN;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "rotate", "nan");
    wrong = strong;
    wrong.invert = 1.5;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "invert", "1.5");
    wrong = strong;
    wrong.scale_min = 2;
    failed(distac_augment_glyphs(d, &wrong, 0, 0, 1, &index, &t), DISTAC_EINVAL, "wrong order", NULL);
    failed(distac_augment_glyphs(d, &strong, 0, 0, 1, &beyond, &t), DISTAC_EINVAL, "1073741824", NULL);
    OK(distac_dataset_mini8(context, root(), fashion(), "texture", 1, &pictures));
    failed(distac_augment_glyphs(pictures, &strong, 0, 0, 1, &index, &t), DISTAC_ESHAPE, "28", NULL);
    distac_dataset_release(pictures);
    distac_dataset_release(d);
}

/* The random numbers of a sample are what they claim to be. */
static void dice_are_fair(void **state) {
    (void)state;
    double sum = 0, square = 0, uniform = 0;
    int count[6] = {0}, chance = 0;
    enum { N = 20000 };
    di_dice dice = di_dice_for(1, 2, 3);
    for (int i = 0; i < N; i++) {
        double v = di_dice_normal(&dice);
        sum += v;
        square += v * v;
        uniform += di_dice_uniform(&dice, -1, 3);
        count[di_dice_below(&dice, 6)]++;
        chance += di_dice_chance(&dice, 0.25f);
    }
    assert_true(fabs(sum / N) < 0.03 && fabs(square / N - 1) < 0.04 && fabs(uniform / N - 1) < 0.04);
    assert_true(abs(chance - N / 4) < 300);
    for (int k = 0; k < 6; k++) assert_true(abs(count[k] - N / 6) < 250);
    for (int k = -40; k < 40; k++)
        assert_true(fabs(di_sine((float)k / 16) - sin(6.283185307179586 * k / 16)) < 2e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distortions_are_pure_functions),
        cmocka_unit_test(without_distortion_glyphs_stay),
        cmocka_unit_test(wrong_distortions_are_refused),
        cmocka_unit_test(dice_are_fair),
        cmocka_unit_test(nothing_leaked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
