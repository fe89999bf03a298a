/* test_steps.c: the worked numbers of a fine-tuning step and of distillation steps, and parts that do not fit. */
#include "mini.h"

enum { QUICK = DISTAC_ACT_QUICK_GELU };

static double param_value(const distac_vit *vit, const char *name, int64_t at) {
    distac_tensor *p = NULL;
    OK(distac_vit_param(vit, param_index(vit, name), &p));
    double *values = values_of(p), value = values[at];
    free(values);
    distac_tensor_release(p);
    return value;
}

static void worked_training_step(void **state) {
    (void)state;
    static const double conv[3] = {0.4517927883, 0.4994621863, 0.4796666935};
    static const double post[4] = {0.1562168205, -0.0240404662, -0.2029086391, -0.3541787373};
    distac_context *c = context_with(2);
    for (int64_t micro = 0; micro < 3; micro++) {
        distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
        distac_head *head = mini_head(c, DISTAC_F64);
        distac_optimizer *o = adamw_for(c, vit, DISTAC_F64, 1e-3, 0.1);
        const distac_loss_desc desc = {0};
        distac_trainer *t = NULL;
        OK(distac_trainer_create(vit, head, o, NULL, &desc, micro, 1, &t));
        const int64_t truth[2] = {1, 2};
        distac_tensor *images = mini_images(c, DISTAC_F64, 2), *labels = labels_of(c, 2, truth);
        distac_step_stats stats;
        OK(distac_trainer_step(t, images, labels, -1.0, &stats));
        NEAR(stats.loss, 6.205672538939, 1e-11);
        NEAR(stats.grad_norm, 2.091231382492, 1e-11);
        NEAR(stats.accuracy, 0.5, 0.0);
        NEAR(stats.anchor, 0.0, 0.0);
        for (int64_t i = 0; i < 3; i++) NEAR(param_value(vit, "visual.conv1.weight", i), conv[i], 1e-9);
        for (int64_t i = 0; i < 4; i++) NEAR(param_value(vit, "visual.ln_post.bias", i), post[i], 1e-9);
        assert_int_equal(distac_optimizer_steps(o), 1);
        distac_tensor_release(images);
        distac_tensor_release(labels);
        distac_trainer_release(t);
        distac_optimizer_release(o);
        distac_head_release(head);
        distac_vit_release(vit);
    }
    distac_context_release(c);
}

typedef struct kd_case {
    double kappa, t_teacher, t_student;
    double loss[3], anchor[3], norm[3], distance;
} kd_case;
static const kd_case kd_cases[2] = {
    {0.5, 10.0, 10.0, {0.0154851426, 0.0023578127, 0.0015125025}, {0.0, 2.899710671e-4, 8.329633336e-4},
     {3.5644791817, 1.5904855583, 1.4706213905}, 0.427079743028},
    {1.0, 1.0, 10.0, {4.823524777036, 4.752578630508, 4.696772466336}, {0.0, 2.899414306e-4, 1.0648492376e-3},
     {15.6841296001, 12.5753216385, 9.9085005398}, 0.853125062830}};

/* |theta - theta_pre|, with or without the key biases. */
static double distance_to_start(distac_context *c, const distac_vit *vit, bool key_biases) {
    distac_vit *start = mini_vit(c, DISTAC_F64, QUICK);
    distac_tensor *a = NULL, *b = NULL, *difference = NULL;
    OK(distac_vit_params(vit, &a));
    OK(distac_vit_params(start, &b));
    OK(distac_tensor_binary(DISTAC_SUB, a, b, &difference));
    if (!key_biases) forget_key_biases(vit, distac_tensor_data(difference));
    double norm = norm_of(difference);
    distac_tensor_release(a);
    distac_tensor_release(b);
    distac_tensor_release(difference);
    distac_vit_release(start);
    return norm;
}

static double entropy_of(distac_vit *vit, distac_head *head, const distac_tensor *images) {
    distac_tensor *f = NULL, *z = NULL;
    distac_metrics m;
    OK(distac_vit_features(vit, images, &f));
    OK(distac_head_logits(head, f, &z));
    OK(distac_logits_metrics(z, NULL, &m));
    distac_tensor_release(f);
    distac_tensor_release(z);
    return m.entropy;
}

/* Three steps, with the teacher in the step (given 0) or its logits handed in (given 1). */
static void worked_distillation_steps(void **state) {
    (void)state;
    static const double proj[3] = {0.1084932734, -0.0860966583, -0.2743336408};
    for (int32_t which = 0; which < 2; which++)
        for (int32_t given = 0; given < 2; given++) {
            const kd_case *k = &kd_cases[which];
            distac_context *c = context_with(2);
            distac_vit *teacher = mini_vit(c, DISTAC_F64, QUICK), *student = mini_vit(c, DISTAC_F64, QUICK);
            mini_add_tau(teacher, 1.0);
            mini_add_tau(student, k->kappa);
            double tau = distance_to_start(c, teacher, true);
            NEAR(tau, 0.857662939, 1e-9);
            distac_head *head = mini_head(c, DISTAC_F64);
            distac_optimizer *o = adamw_for(c, student, DISTAC_F64, 1e-3, 0.0);
            distac_tensor *images = mini_images(c, DISTAC_F64, 2), *f = NULL, *zt = NULL;
            OK(distac_vit_features(teacher, images, &f));
            OK(distac_head_logits(head, f, &zt));
            distac_kd *kd = NULL;
            const distac_kd_desc desc = {k->t_teacher, k->t_student, 0.5, given};
            OK(distac_kd_create(student, given ? NULL : teacher, head, o, &desc, &kd));
            if (which == 1) NEAR(entropy_of(teacher, head, images), 2.3807587e-4, 1e-10);
            for (int32_t step = 0; step < 3; step++) {
                distac_step_stats stats;
                if (given) assert_int_equal(distac_kd_step(kd, images, NULL, -1.0, &stats), DISTAC_ESTATE);
                OK(distac_kd_step(kd, images, given ? zt : NULL, -1.0, &stats));
                NEAR(stats.loss, k->loss[step], 1e-10);
                NEAR(stats.grad_norm, k->norm[step], 1e-9);
                NEAR(stats.anchor, k->anchor[step], 1e-11);
            }
            NEAR(distance_to_start(c, student, false), k->distance, 1e-10);
            if (which == 0) {
                NEAR(distance_to_start(c, student, true) / (k->kappa * tau), 1.0042, 1e-4);
                for (int64_t i = 0; i < 3; i++) NEAR(param_value(student, "visual.proj", i), proj[i], 1e-10);
            } else {
                NEAR(entropy_of(student, head, images), 1.4209629e-4, 1e-10);
            }
            distac_tensor_release(f);
            distac_tensor_release(zt);
            distac_tensor_release(images);
            distac_kd_release(kd);
            distac_optimizer_release(o);
            distac_head_release(head);
            distac_vit_release(teacher);
            distac_vit_release(student);
            distac_context_release(c);
        }
}

static void parts_that_do_not_fit(void **state) {
    (void)state;
    distac_context *c = context_with(1);
    distac_vit *vit = mini_vit(c, DISTAC_F64, QUICK);
    distac_head *head = mini_head(c, DISTAC_F64), *narrow = mini_head(c, DISTAC_F32);
    distac_optimizer *o = adamw_for(c, vit, DISTAC_F64, 1e-3, 0.0), *small = NULL;
    const distac_adamw_desc desc = {.lr = 1e-3};
    OK(distac_adamw_create(c, &desc, 10, DISTAC_F64, &small));
    const distac_loss_desc loss = {0}, strange = {.kind = 7};
    distac_trainer *t = NULL;
    distac_kd *kd = NULL;
    assert_int_equal(distac_trainer_create(vit, head, small, NULL, &loss, 0, 1, &t), DISTAC_ESHAPE);
    assert_int_equal(distac_trainer_create(vit, narrow, o, NULL, &loss, 0, 1, &t), DISTAC_EDTYPE);
    assert_int_equal(distac_trainer_create(vit, head, o, o, &loss, 0, 1, &t), DISTAC_EINVAL);
    assert_int_equal(distac_trainer_create(vit, head, o, small, &loss, 0, 1, &t), DISTAC_ESHAPE);
    assert_int_equal(distac_trainer_create(vit, head, o, NULL, &strange, 0, 1, &t), DISTAC_EINVAL);
    assert_int_equal(distac_trainer_create(vit, head, o, NULL, &loss, -1, 1, &t), DISTAC_EINVAL);
    const distac_kd_desc cold = {0.0, 1.0, 0.5, 0}, fine = {1.0, 1.0, 0.5, 0};
    assert_int_equal(distac_kd_create(vit, NULL, head, o, &cold, &kd), DISTAC_EINVAL);
    assert_int_equal(distac_kd_create(vit, vit, head, o, &fine, &kd), DISTAC_EINVAL);
    assert_null(t);
    assert_null(kd);
    distac_optimizer_release(small);
    distac_optimizer_release(o);
    distac_head_release(head);
    distac_head_release(narrow);
    distac_vit_release(vit);
    distac_context_info info;
    OK(distac_context_get_info(c, &info));
    assert_int_equal(info.memory_used, 0);
    distac_context_release(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_training_step),
        cmocka_unit_test(worked_distillation_steps),
        cmocka_unit_test(parts_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
