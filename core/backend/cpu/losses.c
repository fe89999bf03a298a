/* losses.c: classification and distillation losses of rows of logits with their gradients. Rows are independent:
 * they are cut into fixed blocks for the threads. */
#include "cpu.h"
#include "general.h"
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
    double lambda = t->others ? *t->lambda : 1.0, slope[2], other_slope[2] = {0.0, 0.0};
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

static distac_status run(distac_context *c, job *j) {
    di_parallel(c, di_cpu_ceil(j->rows, ROWS_PER_TASK), task, j);
    return DISTAC_OK;
}

#define ENTRIES(suffix, type)                                                                                     \
    distac_status di_cpu_loss_##suffix(distac_context *c, const distac_loss_desc *desc, int64_t rows,             \
                                       int64_t classes, const void *logits, const di_targets *targets,            \
                                       double scale, void *dlogits, di_row *results) {                            \
        job j = {.desc = desc, .targets = targets, .rows = rows, .classes = classes, .dtype = (type),             \
                 .logits = logits, .scale = scale, .gradient = dlogits, .results = results};                      \
        return run(c, &j);                                                                                        \
    }                                                                                                             \
    distac_status di_cpu_loss_kd_##suffix(distac_context *c, int64_t rows, int64_t classes, const void *teacher,  \
                                          const void *student, double t_teacher, double t_student, double scale,  \
                                          void *dstudent, di_row *results) {                                      \
        job j = {.rows = rows, .classes = classes, .dtype = (type), .logits = student, .teacher = teacher,        \
                 .t_teacher = t_teacher, .t_student = t_student, .scale = scale, .gradient = dstudent,            \
                 .results = results};                                                                             \
        return run(c, &j);                                                                                        \
    }                                                                                                             \
    distac_status di_cpu_loss_entropy_##suffix(distac_context *c, int64_t rows, int64_t classes,                  \
                                               const void *logits, double scale, void *dlogits,                   \
                                               di_row *results) {                                                 \
        job j = {.rows = rows, .classes = classes, .dtype = (type), .logits = logits, .scale = scale,             \
                 .gradient = dlogits, .results = results};                                                        \
        return run(c, &j);                                                                                        \
    }
ENTRIES(f32, DISTAC_F32)
ENTRIES(f64, DISTAC_F64)
