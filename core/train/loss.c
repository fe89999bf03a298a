/* loss.c: what losses take and refuse, and the losses as calls of their own. */
#include "train.h"
#include <math.h>

/* ---- checks ---- */

distac_status di_loss_desc_check(const distac_loss_desc *d) {
    if (d->kind != DISTAC_LOSS_CROSS_ENTROPY && d->kind != DISTAC_LOSS_FOCAL)
        return di_fail(DISTAC_EINVAL, "kind is %d, it must be 0 (cross-entropy) or 1 (focal)", (int)d->kind);
    if (!(d->label_smoothing >= 0.0 && d->label_smoothing < 1.0))
        return di_fail(DISTAC_EINVAL, "label_smoothing is %g, it must be at least 0 and below 1",
                       d->label_smoothing);
    if (d->kind == DISTAC_LOSS_FOCAL && d->label_smoothing > 0.0)
        return di_fail(DISTAC_EINVAL, "label_smoothing is %g, but the focal loss takes none", d->label_smoothing);
    if (!(d->gamma >= 0.0 && d->gamma <= 1e6))
        return di_fail(DISTAC_EINVAL, "gamma is %g, it must be from 0 to 1e6", d->gamma);
    if (!(d->mixup == 0.0 || d->mixup == 1.0))
        return di_fail(DISTAC_EINVAL, "mixup is %g, it must be 0 or 1", d->mixup);
    return DISTAC_OK;
}

distac_status di_labels_check(const distac_tensor *labels, int64_t rows, int64_t classes) {
    DI_TRY(di_tensor_expect(labels, "labels", DISTAC_I64, 1, &rows));
    const int64_t *values = labels->data;
    for (int64_t i = 0; i < rows; i++)
        if (values[i] < 0 || values[i] >= classes)
            return di_fail(DISTAC_EINVAL, "label %lld of sample %lld is outside 0 to %lld", (long long)values[i],
                           (long long)i, (long long)classes - 1);
    return DISTAC_OK;
}

/* Logits [B,C] in F32 or F64 with at least one row and class. */
static distac_status check_logits(const distac_tensor *t, const char *name, int32_t dtype, const int64_t *shape) {
    if (t->dtype != DISTAC_F32 && t->dtype != DISTAC_F64)
        return di_fail(DISTAC_EDTYPE, "%s is %s, it must be f32 or f64", name, distac_dtype_name(t->dtype));
    DI_TRY(di_tensor_expect_anywhere(t, name, dtype, 2, shape));
    if (t->numel < 1) return di_fail(DISTAC_ESHAPE, "%s is empty", name);
    return DISTAC_OK;
}

static distac_status check_gradient(const distac_tensor *gradient, const char *name, const distac_tensor *logits) {
    if (!gradient) return DISTAC_OK;
    DI_TRY(di_tensor_expect_anywhere(gradient, name, logits->dtype, 2, logits->shape));
    if (distac_tensor_readonly(gradient)) return di_fail(DISTAC_ESTATE, "%s is read-only", name);
    return DISTAC_OK;
}

/* ---- public calls ---- */

/* What a call works on, where the context computes: logits (of the student), the teacher's, the gradient, and
 * memory for results, their sum and labels. */
typedef struct work {
    distac_context *context;
    const di_kernels *kernels;
    int64_t rows, classes;
    distac_tensor *logits, *teacher, *gradient; /* the last two may be NULL */
    size_t bytes;
    di_step *step;
    di_row *results;
    int64_t *labels;
} work;

static distac_status work_make(const distac_tensor *logits, const distac_tensor *teacher,
                               const distac_tensor *gradient, work *w) {
    *w = (work){.context = logits->context, .rows = logits->shape[0], .classes = logits->shape[1],
                .kernels = di_kernels_there(logits->context, logits->dtype)};
    w->bytes = sizeof(di_step) + (size_t)w->rows * (sizeof(di_row) + sizeof(int64_t));
    DI_TRY(di_bring_there(logits, &w->logits));
    if (teacher) DI_TRY(di_bring_there(teacher, &w->teacher));
    if (gradient) DI_TRY(di_bring_there(gradient, &w->gradient));
    w->step = di_there_alloc(w->context, w->bytes);
    if (!w->step) return DISTAC_ENOMEM;
    w->results = (di_row *)(void *)(w->step + 1);
    w->labels = (int64_t *)(void *)(w->results + w->rows);
    return DISTAC_OK;
}

/* The mean loss and the caller's gradient, if the kernel ran; frees everything. */
static distac_status finish(work *w, distac_status status, distac_tensor *gradient, double *out) {
    di_step step;
    if (status == DISTAC_OK) status = w->kernels->step_rows(w->context, w->rows, w->results, w->step);
    if (status == DISTAC_OK) status = di_there_get(w->context, &step, w->step, sizeof step);
    if (status == DISTAC_OK) *out = step.total.loss / (double)w->rows;
    if (status == DISTAC_OK && gradient && w->gradient != gradient)
        status = distac_tensor_copy(gradient, w->gradient);
    if (w->step) di_there_free(w->context, w->step, w->bytes);
    distac_tensor_release(w->logits);
    distac_tensor_release(w->teacher);
    distac_tensor_release(w->gradient);
    return status;
}

static void *data_of(const distac_tensor *tensor) { return tensor ? tensor->data : NULL; }

static distac_status classify(const distac_loss_desc *desc, const distac_tensor *logits, const int64_t *labels,
                              distac_tensor *dlogits, double *out) {
    work w;
    distac_status status = work_make(logits, NULL, dlogits, &w);
    if (status == DISTAC_OK)
        status = di_there_put(w.context, w.labels, labels, (size_t)w.rows * sizeof *w.labels);
    const di_targets targets = {.labels = w.labels};
    if (status == DISTAC_OK)
        status = w.kernels->loss(w.context, desc, w.rows, w.classes, w.logits->data, &targets,
                                 1.0 / (double)w.rows, data_of(w.gradient), w.results);
    return finish(&w, status, dlogits, out);
}

distac_status distac_loss(const distac_loss_desc *desc, const distac_tensor *logits, const distac_tensor *labels,
                          distac_tensor *dlogits, double *out) {
    DI_REQUIRE(desc && logits && labels && out, "desc, logits, labels and out are needed");
    DI_TRY(di_loss_desc_check(desc));
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    distac_tensor *here;
    DI_TRY(di_tensor_bring(labels, false, &here));
    distac_status status = di_labels_check(here, logits->shape[0], logits->shape[1]);
    if (status == DISTAC_OK) status = classify(desc, logits, here->data, dlogits, out);
    distac_tensor_release(here);
    return status;
}

distac_status distac_loss_kd(const distac_tensor *teacher, const distac_tensor *student, double t_teacher,
                             double t_student, distac_tensor *dstudent, double *out) {
    DI_REQUIRE(teacher && student && out, "teacher, student and out are needed");
    if (!(t_teacher > 0.0 && isfinite(t_teacher) && t_student > 0.0 && isfinite(t_student)))
        return di_fail(DISTAC_EINVAL, "temperatures are %g (teacher) and %g (student), both must be above 0",
                       t_teacher, t_student);
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(student, "student", student->dtype, any));
    DI_TRY(check_logits(teacher, "teacher", student->dtype, student->shape));
    DI_TRY(check_gradient(dstudent, "dstudent", student));
    work w;
    distac_status status = work_make(student, teacher, dstudent, &w);
    if (status == DISTAC_OK)
        status = w.kernels->loss_kd(w.context, w.rows, w.classes, w.teacher->data, w.logits->data, t_teacher,
                                    t_student, 1.0 / (double)w.rows, data_of(w.gradient), w.results);
    return finish(&w, status, dstudent, out);
}

distac_status distac_loss_entropy(const distac_tensor *logits, distac_tensor *dlogits, double *out) {
    DI_REQUIRE(logits && out, "logits and out are needed");
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    work w;
    distac_status status = work_make(logits, NULL, dlogits, &w);
    if (status == DISTAC_OK)
        status = w.kernels->loss_entropy(w.context, w.rows, w.classes, w.logits->data, 1.0 / (double)w.rows,
                                         data_of(w.gradient), w.results);
    return finish(&w, status, dlogits, out);
}
