/* ties_vectors.c: the first two steps of TIES on task vectors that lie in memory: each one keeps its largest
 * magnitudes, then only what agrees with the elected sign. What is left is merged otherwise (AdaMerging++). */
#include "there.h"

#include <math.h>
#include <string.h>

enum { STEP = 256, DIGIT = 16, DIGITS = 1 << DIGIT };

static uint64_t bits_of(double value) {
    uint64_t bits;
    value = fabs(value);
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Shows n elements at a time, in double. */
static int64_t read_step(const distac_tensor *t, int64_t at, double *out) {
    int64_t n = t->numel - at < STEP ? t->numel - at : STEP;
    di_to_f64(t->dtype, (const char *)t->data + at * distac_dtype_bytes(t->dtype), out, n);
    return n;
}

/* The rank-th largest magnitude, rank >= 1: digit by digit of the bits, which are ordered as the numbers are. */
static double select_largest(const distac_tensor *t, int64_t rank, int64_t *counts) {
    uint64_t prefix = 0;
    for (int32_t shift = 64 - DIGIT; shift >= 0; shift -= DIGIT) {
        memset(counts, 0, DIGITS * sizeof *counts);
        for (int64_t at = 0; at < t->numel; at += STEP) {
            double x[STEP];
            int64_t n = read_step(t, at, x);
            for (int64_t i = 0; i < n; i++) {
                uint64_t bits = bits_of(x[i]);
                if (shift == 64 - DIGIT || bits >> (shift + DIGIT) == prefix)
                    counts[bits >> shift & (DIGITS - 1)]++;
            }
        }
        int32_t digit = DIGITS - 1;
        while (digit > 0 && rank > counts[digit]) rank -= counts[digit--];
        prefix = prefix << DIGIT | (uint64_t)digit;
    }
    double value;
    memcpy(&value, &prefix, sizeof value);
    return value;
}

typedef struct job {
    int32_t models;
    int64_t count;
    distac_tensor *const *taus;
    const double *thresholds;
    double majority;
} job;

/* What trimming leaves of n elements of all models, added up. */
static int64_t trimmed_sum(const job *j, int64_t at, double *sum) {
    int64_t n = 0;
    double x[STEP];
    memset(sum, 0, STEP * sizeof *sum);
    for (int32_t t = 0; t < j->models; t++) {
        n = read_step(j->taus[t], at, x);
        for (int64_t i = 0; i < n; i++) sum[i] += fabs(x[i]) >= j->thresholds[t] ? x[i] : 0.0;
    }
    return n;
}

static void cut_step(void *arg, int64_t step) {
    const job *j = arg;
    double sum[STEP], x[STEP];
    int64_t at = step * STEP, n = trimmed_sum(j, at, sum);
    for (int64_t i = 0; i < n; i++)
        if (sum[i] == 0.0) sum[i] = j->majority;
    for (int32_t t = 0; t < j->models; t++) {
        distac_tensor *tau = j->taus[t];
        read_step(tau, at, x);
        for (int64_t i = 0; i < n; i++)
            if (!(fabs(x[i]) >= j->thresholds[t] && x[i] * sum[i] > 0.0)) x[i] = 0.0;
        di_from_f64(tau->dtype, x, (char *)tau->data + at * distac_dtype_bytes(tau->dtype), n);
    }
}

static distac_status check(int32_t n_taus, distac_tensor *const *taus, double keep) {
    const char *name = "distac_ties_vectors";
    if (n_taus < 1) return di_fail_at(DISTAC_EINVAL, name, "no task vectors");
    if (!(keep >= 0.0 && keep <= 1.0))
        return di_fail_at(DISTAC_EINVAL, name, "keep is %g, it must be from 0 to 1", keep);
    for (int32_t t = 0; t < n_taus; t++) {
        int64_t first, count;
        DI_REQUIRE(taus[t], "a task vector is NULL");
        if (taus[0]->dtype != DISTAC_F32 && taus[0]->dtype != DISTAC_F64)
            return di_fail_at(DISTAC_EDTYPE, name, "a task vector is %s, it must be f32 or f64",
                              distac_dtype_name(taus[0]->dtype));
        DI_TRY(di_tensor_expect_anywhere(taus[t], "tau", taus[0]->dtype, 1, taus[0]->shape));
        if (taus[t]->storage->there != taus[0]->storage->there ||
            (taus[0]->storage->there && taus[t]->context != taus[0]->context))
            return di_fail_at(DISTAC_EDEVICE, name, "task vector 0 is on %s, %d on %s", distac_tensor_device(taus[0]),
                              (int)t, distac_tensor_device(taus[t]));
        if (distac_tensor_readonly(taus[t])) return di_fail_at(DISTAC_ESTATE, name, "a task vector is read-only");
        DI_TRY(distac_tensor_nonfinite(taus[t], &first, &count));
        if (count > 0)
            return di_fail_at(DISTAC_ENUMERIC, name,
                              "task vector %d has %lld non-finite elements, the first at %lld", (int)t,
                              (long long)count, (long long)first);
    }
    return DISTAC_OK;
}

distac_status distac_ties_vectors(int32_t n_taus, distac_tensor *const *taus, double keep) {
    DI_REQUIRE(taus, "taus is NULL");
    DI_TRY(check(n_taus, taus, keep));
    distac_context *c = taus[0]->context;
    int64_t count = taus[0]->numel, rank = (int64_t)(keep * (double)count), lead = 0;
    if (taus[0]->storage->there) return di_there_cut(n_taus, taus, rank);
    size_t bytes = (size_t)n_taus * sizeof(double) + DIGITS * sizeof(int64_t);
    double *thresholds = di_alloc(c, bytes), sum[STEP];
    if (!thresholds) return DISTAC_ENOMEM;
    int64_t *counts = (int64_t *)(thresholds + n_taus);
    for (int32_t t = 0; t < n_taus; t++)
        thresholds[t] = rank < 1 ? (double)INFINITY : select_largest(taus[t], rank, counts);
    job j = {n_taus, count, taus, thresholds, 0.0};
    for (int64_t at = 0; at < count; at += STEP) {
        int64_t n = trimmed_sum(&j, at, sum);
        for (int64_t i = 0; i < n; i++) lead += (sum[i] > 0.0) - (sum[i] < 0.0);
    }
    j.majority = lead > 0 ? 1.0 : lead < 0 ? -1.0 : 0.0;
    di_parallel(c, (count + STEP - 1) / STEP, cut_step, &j);
    di_free(c, thresholds, bytes);
    return DISTAC_OK;
}
