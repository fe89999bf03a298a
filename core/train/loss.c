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
    DI_TRY(di_tensor_expect(t, name, dtype, 2, shape));
    if (t->numel < 1) return di_fail(DISTAC_ESHAPE, "%s is empty", name);
    return DISTAC_OK;
}

static distac_status check_gradient(const distac_tensor *gradient, const char *name, const distac_tensor *logits) {
    if (!gradient) return DISTAC_OK;
    DI_TRY(di_tensor_expect(gradient, name, logits->dtype, 2, logits->shape));
    if (distac_tensor_readonly(gradient)) return di_fail(DISTAC_ESTATE, "%s is read-only", name);
    return DISTAC_OK;
}

/* ---- public calls ---- */

/* Device memory of a call: results, their sum, labels. */
typedef struct scratch {
    distac_context *context;
    const di_kernels *kernels;
    int64_t rows;
    size_t bytes;
    di_step *step;
    di_row *results;
    int64_t *labels;
} scratch;

static distac_status scratch_make(const distac_tensor *logits, scratch *s) {
    const size_t rows = (size_t)logits->shape[0];
    *s = (scratch){.context = logits->context, .kernels = di_kernels_for(logits->context, logits->dtype),
                   .rows = logits->shape[0],
                   .bytes = sizeof(di_step) + rows * (sizeof(di_row) + sizeof(int64_t))};
    s->step = di_alloc(s->context, s->bytes);
    if (!s->step) return DISTAC_ENOMEM;
    s->results = (di_row *)(void *)(s->step + 1);
    s->labels = (int64_t *)(void *)(s->results + rows);
    return DISTAC_OK;
}

/* The mean loss, if the kernel ran; frees the memory. */
static distac_status mean(scratch *s, distac_status status, double *out) {
    di_step step;
    if (status == DISTAC_OK) status = s->kernels->step_rows(s->context, s->rows, s->results, s->step);
    if (status == DISTAC_OK) status = di_there_get(s->context, &step, s->step, sizeof step);
    if (status == DISTAC_OK) *out = step.total.loss / (double)s->rows;
    di_free(s->context, s->step, s->bytes);
    return status;
}

distac_status distac_loss(const distac_loss_desc *desc, const distac_tensor *logits, const distac_tensor *labels,
                          distac_tensor *dlogits, double *out) {
    DI_REQUIRE(desc && logits && labels && out, "desc, logits, labels and out are needed");
    DI_TRY(di_loss_desc_check(desc));
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    DI_TRY(di_labels_check(labels, rows, classes));
    scratch s;
    DI_TRY(scratch_make(logits, &s));
    const di_targets targets = {s.labels, NULL, 1.0};
    distac_status status =
        di_there_put(s.context, s.labels, labels->data, (size_t)rows * sizeof *s.labels);
    if (status == DISTAC_OK)
        status = s.kernels->loss(s.context, desc, rows, classes, logits->data, &targets, 1.0 / (double)rows,
                                 dlogits ? dlogits->data : NULL, s.results);
    return mean(&s, status, out);
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
    const int64_t rows = student->shape[0], classes = student->shape[1];
    scratch s;
    DI_TRY(scratch_make(student, &s));
    return mean(&s,
                s.kernels->loss_kd(s.context, rows, classes, teacher->data, student->data, t_teacher, t_student,
                                   1.0 / (double)rows, dstudent ? dstudent->data : NULL, s.results),
                out);
}

distac_status distac_loss_entropy(const distac_tensor *logits, distac_tensor *dlogits, double *out) {
    DI_REQUIRE(logits && out, "logits and out are needed");
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    scratch s;
    DI_TRY(scratch_make(logits, &s));
    return mean(&s,
                s.kernels->loss_entropy(s.context, rows, classes, logits->data, 1.0 / (double)rows,
                                        dlogits ? dlogits->data : NULL, s.results),
                out);
}
