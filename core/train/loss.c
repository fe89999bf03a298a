/* loss.c: classification and distillation losses with their gradients for the logits. Rows are independent: they
 * are cut into fixed blocks for the threads and their values are added in order. */
#include "train.h"
#include <math.h>

enum { ROWS_PER_TASK = 8 };

typedef struct job {
    const distac_loss_desc *desc; /* NULL: distillation, or entropy where there is no teacher */
    const di_targets *targets;
    int64_t rows, classes;
    int32_t dtype;
    const void *logits, *teacher;
    double t_teacher, t_student, scale;
    void *gradient;
    di_row *results;
} job;

static double get(const void *array, int32_t dtype, int64_t index) {
    return dtype == DISTAC_F64 ? ((const double *)array)[index] : (double)((const float *)array)[index];
}

static void set(void *array, int32_t dtype, int64_t index, double value) {
    if (dtype == DISTAC_F64) ((double *)array)[index] = value;
    else ((float *)array)[index] = (float)value;
}

/* One row of logits divided by a temperature, and what its log-softmax needs: z_j / T - top - log_sum. */
typedef struct row {
    const void *logits;
    int32_t dtype;
    int64_t start, classes, best;
    double inverse, top, log_sum;
} row;

static double log_p(const row *r, int64_t j) {
    return get(r->logits, r->dtype, r->start + j) * r->inverse - r->top - r->log_sum;
}

static row row_at(const void *logits, int32_t dtype, int64_t index, int64_t classes, double temperature) {
    row r = {logits, dtype, index * classes, classes, 0, 1.0 / temperature, 0.0, 0.0};
    r.top = get(logits, dtype, r.start) * r.inverse;
    double sum = 0.0;
    for (int64_t j = 1; j < classes; j++) {
        double z = get(logits, dtype, r.start + j) * r.inverse;
        if (z > r.top) r.top = z, r.best = j;
    }
    for (int64_t j = 0; j < classes; j++) sum += exp(get(logits, dtype, r.start + j) * r.inverse - r.top);
    r.log_sum = log(sum);
    return r;
}

static double entropy_of(const row *r) {
    double sum = 0.0;
    for (int64_t j = 0; j < r->classes; j++) {
        double l = log_p(r, j), p = exp(l);
        if (!(p == 0.0)) sum -= p * l;
    }
    return sum;
}

/* -(1-p)^gamma log p; *slope is its derivative with respect to log p. */
static double focal(double l, double gamma, double *slope) {
    double q = -expm1(l), weight = pow(q, gamma); /* q = 1-p without cancellation */
    double inner = gamma > 0.0 && q > 0.0 ? gamma * exp(l) * pow(q, gamma - 1.0) * l : 0.0;
    *slope = inner - weight;
    return -weight * l;
}

/* Loss of a row for one label: its value, and through slope[0] and slope[1] its derivative with respect to log p
 * of the label and of every class. */
static double label_loss(const distac_loss_desc *desc, const row *r, int64_t label, double slope[2]) {
    double l = log_p(r, label);
    slope[1] = 0.0;
    if (desc->kind == DISTAC_LOSS_FOCAL) return focal(l, desc->gamma, &slope[0]);
    double alpha = desc->label_smoothing, sum = 0.0;
    slope[0] = alpha - 1.0;
    if (!(alpha > 0.0)) return -l;
    slope[1] = -alpha / (double)r->classes;
    for (int64_t j = 0; j < r->classes; j++) sum += log_p(r, j);
    return -(1.0 - alpha) * l + slope[1] * sum;
}

static void classify(const job *j, int64_t index) {
    const di_targets *t = j->targets;
    row r = row_at(j->logits, j->dtype, index, j->classes, 1.0);
    int64_t label = t->labels[index], other = t->others ? t->others[index] : -1;
    double lambda = t->others ? t->lambda : 1.0, slope[2], other_slope[2] = {0.0, 0.0};
    di_row *out = &j->results[index];
    out->loss = lambda * label_loss(j->desc, &r, label, slope);
    out->correct = r.best == label ? lambda : 0.0;
    if (t->others) {
        out->loss += (1.0 - lambda) * label_loss(j->desc, &r, other, other_slope);
        out->correct += r.best == other ? 1.0 - lambda : 0.0;
    }
    out->entropy = entropy_of(&r);
    if (!j->gradient) return;
    double at_label = lambda * slope[0], at_other = (1.0 - lambda) * other_slope[0];
    double everywhere = lambda * slope[1] + (1.0 - lambda) * other_slope[1];
    double total = at_label + at_other + everywhere * (double)j->classes;
    for (int64_t k = 0; k < j->classes; k++) { /* d log p_i / d z_k = (i = k) - p_k */
        double g = everywhere - total * exp(log_p(&r, k));
        if (k == label) g += at_label;
        if (k == other) g += at_other;
        set(j->gradient, j->dtype, r.start + k, j->scale * g);
    }
}

static void distill(const job *j, int64_t index) {
    row t = row_at(j->teacher, j->dtype, index, j->classes, j->t_teacher);
    row s = row_at(j->logits, j->dtype, index, j->classes, j->t_student);
    row plain = row_at(j->logits, j->dtype, index, j->classes, 1.0);
    double sum = 0.0;
    for (int64_t k = 0; k < j->classes; k++) {
        double lt = log_p(&t, k), ls = log_p(&s, k), p = exp(lt);
        if (!(p == 0.0)) sum += p * (lt - ls);
        if (j->gradient) set(j->gradient, j->dtype, s.start + k, j->scale * j->t_teacher * (exp(ls) - p));
    }
    j->results[index] = (di_row){.loss = j->t_teacher * j->t_student * sum, .entropy = entropy_of(&plain)};
}

/* H = -sum p log p; dH / dz_k = -p_k (log p_k + H). */
static void entropic(const job *j, int64_t index) {
    row r = row_at(j->logits, j->dtype, index, j->classes, 1.0);
    double entropy = entropy_of(&r);
    j->results[index] = (di_row){.loss = entropy, .entropy = entropy};
    for (int64_t k = 0; j->gradient && k < j->classes; k++) {
        double l = log_p(&r, k), p = exp(l), g = p == 0.0 ? 0.0 : -p * (l + entropy); /* NaN stays */
        set(j->gradient, j->dtype, r.start + k, j->scale * g);
    }
}

static void task(void *arg, int64_t block) {
    const job *j = arg;
    int64_t end = (block + 1) * ROWS_PER_TASK;
    for (int64_t i = block * ROWS_PER_TASK; i < end && i < j->rows; i++) {
        if (j->desc) classify(j, i);
        else if (j->teacher) distill(j, i);
        else entropic(j, i);
    }
}

void di_loss_rows(distac_context *c, const distac_loss_desc *desc, int64_t rows, int64_t classes, int32_t dtype,
                  const void *logits, const di_targets *targets, double scale, void *dlogits, di_row *results) {
    job j = {.desc = desc, .targets = targets, .rows = rows, .classes = classes, .dtype = dtype, .logits = logits,
             .scale = scale, .gradient = dlogits, .results = results};
    di_parallel(c, (rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, task, &j);
}

void di_loss_kd_rows(distac_context *c, int64_t rows, int64_t classes, int32_t dtype, const void *teacher,
                     const void *student, double t_teacher, double t_student, double scale, void *dstudent,
                     di_row *results) {
    job j = {.rows = rows, .classes = classes, .dtype = dtype, .logits = student, .teacher = teacher,
             .t_teacher = t_teacher, .t_student = t_student, .scale = scale, .gradient = dstudent,
             .results = results};
    di_parallel(c, (rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, task, &j);
}

void di_loss_entropy_rows(distac_context *c, int64_t rows, int64_t classes, int32_t dtype, const void *logits,
                          double scale, void *dlogits, di_row *results) {
    job j = {.rows = rows, .classes = classes, .dtype = dtype, .logits = logits, .scale = scale, .gradient = dlogits,
             .results = results};
    di_parallel(c, (rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, task, &j);
}

di_row di_rows_total(const di_row *results, int64_t rows) {
    di_row total = {0.0, 0.0, 0.0};
    for (int64_t i = 0; i < rows; i++) {
        total.loss += results[i].loss;
        total.entropy += results[i].entropy;
        total.correct += results[i].correct;
    }
    return total;
}

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

distac_status distac_loss(const distac_loss_desc *desc, const distac_tensor *logits, const distac_tensor *labels,
                          distac_tensor *dlogits, double *out) {
    DI_REQUIRE(desc && logits && labels && out, "desc, logits, labels and out are needed");
    DI_TRY(di_loss_desc_check(desc));
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    DI_TRY(di_labels_check(labels, rows, classes));
    size_t bytes = (size_t)rows * sizeof(di_row);
    di_row *results = di_alloc(logits->context, bytes);
    if (!results) return DISTAC_ENOMEM;
    const di_targets targets = {labels->data, NULL, 1.0};
    di_loss_rows(logits->context, desc, rows, classes, logits->dtype, logits->data, &targets, 1.0 / (double)rows,
                 dlogits ? dlogits->data : NULL, results);
    *out = di_rows_total(results, rows).loss / (double)rows;
    di_free(logits->context, results, bytes);
    return DISTAC_OK;
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
    size_t bytes = (size_t)rows * sizeof(di_row);
    di_row *results = di_alloc(student->context, bytes);
    if (!results) return DISTAC_ENOMEM;
    di_loss_kd_rows(student->context, rows, classes, student->dtype, teacher->data, student->data, t_teacher,
                    t_student, 1.0 / (double)rows, dstudent ? dstudent->data : NULL, results);
    *out = di_rows_total(results, rows).loss / (double)rows;
    di_free(student->context, results, bytes);
    return DISTAC_OK;
}

distac_status distac_loss_entropy(const distac_tensor *logits, distac_tensor *dlogits, double *out) {
    DI_REQUIRE(logits && out, "logits and out are needed");
    const int64_t any[2] = {-1, -1};
    DI_TRY(check_logits(logits, "logits", logits->dtype, any));
    DI_TRY(check_gradient(dlogits, "dlogits", logits));
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    size_t bytes = (size_t)rows * sizeof(di_row);
    di_row *results = di_alloc(logits->context, bytes);
    if (!results) return DISTAC_ENOMEM;
    di_loss_entropy_rows(logits->context, rows, classes, logits->dtype, logits->data, 1.0 / (double)rows,
                         dlogits ? dlogits->data : NULL, results);
    *out = di_rows_total(results, rows).loss / (double)rows;
    di_free(logits->context, results, bytes);
    return DISTAC_OK;
}
