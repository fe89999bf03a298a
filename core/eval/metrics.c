/* metrics.c: what logits are worth: accuracy, entropy, likelihood, calibration, and the temperature that
 * calibrates them best. All in double. */
#include "eval.h"
#include <math.h>

enum { ECE_BINS = 15 };

/* ---- one row of logits ---- */

typedef struct row {
    double log_sum, confidence, entropy;
    int64_t best;
} row;

static double get(const distac_tensor *logits, int64_t index) {
    return logits->dtype == DISTAC_F64 ? ((const double *)logits->data)[index]
                                       : (double)((const float *)logits->data)[index];
}

static row row_at(const distac_tensor *logits, int64_t index) {
    const int64_t classes = logits->shape[1], start = index * classes;
    row r = {.best = 0};
    double top = get(logits, start), sum = 0.0;
    for (int64_t j = 1; j < classes; j++) {
        double z = get(logits, start + j);
        if (z > top) top = z, r.best = j;
    }
    for (int64_t j = 0; j < classes; j++) sum += exp(get(logits, start + j) - top);
    r.log_sum = top + log(sum);
    r.confidence = 1.0 / sum;
    for (int64_t j = 0; j < classes; j++) {
        double log_p = get(logits, start + j) - r.log_sum, p = exp(log_p);
        if (p > 0.0) r.entropy -= p * log_p;
    }
    return r;
}

/* ---- bins ---- */

void di_bin_add(di_bin *bins, int64_t count, double confidence, bool correct) {
    if (!(confidence > 0.0)) return;
    int64_t b = (int64_t)ceil(confidence * (double)count) - 1;
    if (b < 0) b = 0;
    if (b > count - 1) b = count - 1;
    /* The product may round across an edge: the edge itself, b/M, decides. */
    while (b > 0 && confidence <= (double)b / (double)count) b--;
    while (b < count - 1 && confidence > (double)(b + 1) / (double)count) b++;
    bins[b].count++;
    bins[b].confidence += confidence;
    bins[b].correct += correct ? 1.0 : 0.0;
}

double di_bins_ece(const di_bin *bins, int64_t count, int64_t predictions) {
    double sum = 0.0;
    for (int64_t b = 0; b < count; b++) sum += fabs(bins[b].confidence - bins[b].correct);
    return predictions > 0 ? sum / (double)predictions : 0.0;
}

/* ---- checks ---- */

static distac_status check(const char *function, const distac_tensor *logits, const distac_tensor *labels) {
    if (logits->dtype != DISTAC_F32 && logits->dtype != DISTAC_F64)
        return di_fail_at(DISTAC_EDTYPE, function, "logits is %s, it must be f32 or f64",
                          distac_dtype_name(logits->dtype));
    const int64_t any[2] = {-1, -1};
    DI_TRY(di_tensor_expect(logits, "logits", logits->dtype, 2, any));
    if (logits->numel < 1) return di_fail_at(DISTAC_ESHAPE, function, "logits is empty");
    for (int64_t i = 0; i < logits->numel; i++)
        if (!isfinite(get(logits, i)))
            return di_fail_at(DISTAC_ENUMERIC, function, "logit %lld of sample %lld is %g",
                              (long long)(i % logits->shape[1]), (long long)(i / logits->shape[1]),
                              di_shown(get(logits, i)));
    if (!labels) return DISTAC_OK;
    DI_TRY(di_tensor_expect(labels, "labels", DISTAC_I64, 1, logits->shape));
    const int64_t *values = labels->data;
    for (int64_t i = 0; i < labels->numel; i++)
        if (values[i] < 0 || values[i] >= logits->shape[1])
            return di_fail_at(DISTAC_EINVAL, function, "label %lld of sample %lld is outside 0 to %lld",
                              (long long)values[i], (long long)i, (long long)logits->shape[1] - 1);
    return DISTAC_OK;
}

/* ---- metrics ---- */

static distac_status metrics(const distac_tensor *logits, const distac_tensor *labels, distac_metrics *out) {
    DI_TRY(check("distac_logits_metrics", logits, labels));
    const int64_t *values = labels ? labels->data : NULL, count = logits->shape[0];
    di_bin bins[ECE_BINS] = {0};
    distac_metrics m = {.count = count};
    for (int64_t i = 0; i < count; i++) {
        row r = row_at(logits, i);
        m.entropy += r.entropy;
        m.confidence += r.confidence;
        if (!values) continue;
        m.nll += r.log_sum - get(logits, i * logits->shape[1] + values[i]);
        m.correct += r.best == values[i];
        di_bin_add(bins, ECE_BINS, r.confidence, r.best == values[i]);
    }
    m.entropy /= (double)count;
    m.confidence /= (double)count;
    m.nll /= (double)count;
    m.accuracy = (double)m.correct / (double)count;
    m.ece = di_bins_ece(bins, ECE_BINS, count);
    *out = m;
    return DISTAC_OK;
}

enum { MOST_BINS = 1000 };

static distac_status reliability(const distac_tensor *logits, const distac_tensor *labels, int64_t n_values,
                                 double *values) {
    DI_TRY(check("distac_logits_reliability", logits, labels));
    const int64_t *truth = labels->data, count = n_values / 3;
    di_bin bins[MOST_BINS] = {0};
    for (int64_t i = 0; i < logits->shape[0]; i++) {
        row r = row_at(logits, i);
        di_bin_add(bins, count, r.confidence, r.best == truth[i]);
    }
    for (int64_t b = 0; b < count; b++) {
        double in_bin = (double)(bins[b].count > 0 ? bins[b].count : 1);
        values[3 * b] = (double)bins[b].count;
        values[3 * b + 1] = bins[b].confidence / in_bin;
        values[3 * b + 2] = bins[b].correct / in_bin;
    }
    return DISTAC_OK;
}

/* ---- temperature ---- */

/* Derivative of the summed negative log-likelihood of s*z with respect to s, and its second derivative: mean and
 * variance of z under softmax(s z), less z of the label. Convex in s, so the first one rises. */
static double slope(const distac_tensor *logits, const int64_t *labels, double s, double *curvature) {
    const int64_t classes = logits->shape[1];
    double first = 0.0, second = 0.0;
    for (int64_t i = 0; i < logits->shape[0]; i++) {
        double top = -INFINITY, sum = 0.0, mean = 0.0, square = 0.0;
        for (int64_t j = 0; j < classes; j++) top = fmax(top, get(logits, i * classes + j));
        for (int64_t j = 0; j < classes; j++) {
            double z = get(logits, i * classes + j) - top, p = exp(s * z);
            sum += p;
            mean += p * z;
            square += p * z * z;
        }
        mean /= sum;
        first += mean - (get(logits, i * classes + labels[i]) - top);
        second += square / sum - mean * mean;
    }
    *curvature = second;
    return first;
}

/* Newton on log s, kept inside a bracket that halves whenever Newton would leave it. Where no finite T > 0 is the
 * best (all right and T -> 0, or worse than chance and T -> infinity) the end of the range is the answer. */
static distac_status temperature(const distac_tensor *logits, const distac_tensor *labels, double *out) {
    DI_TRY(check("distac_logits_temperature", logits, labels));
    const int64_t *truth = labels->data;
    const double smallest = 1e-4, largest = 1e4;
    double low = log(1.0 / largest), high = log(1.0 / smallest), u = 0.0, curvature;
    if (slope(logits, truth, exp(low), &curvature) >= 0.0) {
        *out = largest;
        return DISTAC_OK;
    }
    if (slope(logits, truth, exp(high), &curvature) <= 0.0) {
        *out = smallest;
        return DISTAC_OK;
    }
    for (int32_t i = 0; i < 200 && high - low > 1e-14; i++) {
        double s = exp(u), first = slope(logits, truth, s, &curvature);
        if (!(first < 0.0 || first > 0.0)) break;
        if (first > 0.0) high = u;
        else low = u;
        double next = u - first / (s * curvature); /* f(u) = slope(e^u), f' = s * curvature */
        if (!(next > low && next < high)) next = 0.5 * (low + high);
        if (fabs(next - u) < 1e-15) break;
        u = next;
    }
    *out = exp(-u);
    return DISTAC_OK;
}

/* ---- public calls: logits are few numbers, and are looked at on the host ---- */

typedef struct here {
    distac_tensor *logits, *labels;
} here;

static distac_status bring(const distac_tensor *logits, const distac_tensor *labels, here *h) {
    *h = (here){NULL, NULL};
    DI_TRY(di_tensor_bring(logits, false, &h->logits));
    distac_status status = labels ? di_tensor_bring(labels, false, &h->labels) : DISTAC_OK;
    if (status != DISTAC_OK) distac_tensor_release(h->logits);
    return status;
}

static distac_status done(here *h, distac_status status) {
    distac_tensor_release(h->logits);
    distac_tensor_release(h->labels);
    return status;
}

distac_status distac_logits_metrics(const distac_tensor *logits, const distac_tensor *labels,
                                    distac_metrics *out) {
    here h;
    DI_REQUIRE(logits && out, "logits and out are needed");
    DI_TRY(bring(logits, labels, &h));
    return done(&h, metrics(h.logits, h.labels, out));
}

distac_status distac_logits_reliability(const distac_tensor *logits, const distac_tensor *labels, int64_t n_values,
                                        double *values) {
    here h;
    DI_REQUIRE(logits && labels && values, "logits, labels and values are needed");
    if (n_values < 3 || n_values % 3 != 0 || n_values > 3 * MOST_BINS)
        return di_fail(DISTAC_EINVAL, "n_values is %lld, it must be three times 1 to %d bins", (long long)n_values,
                       MOST_BINS);
    DI_TRY(bring(logits, labels, &h));
    return done(&h, reliability(h.logits, h.labels, n_values, values));
}

distac_status distac_logits_temperature(const distac_tensor *logits, const distac_tensor *labels, double *out) {
    here h;
    DI_REQUIRE(logits && labels && out, "logits, labels and out are needed");
    DI_TRY(bring(logits, labels, &h));
    return done(&h, temperature(h.logits, h.labels, out));
}
