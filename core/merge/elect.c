/* elect.c: elections: the sign of each element, and what becomes of the entries that agree with it. */
#include "direct.h"
#include "elect.h"
#include <math.h>
#include <string.h>

/* An element is kept if its magnitude is >= low before `cut`, >= high from there. */
typedef struct trim {
    double low, high;
    int64_t cut;
} trim;

static trim trim_of(const di_ties *ties, int32_t t, const di_at *at, int64_t n) {
    int64_t index = t * ties->stride + (ties->stride > 1 ? at->entry : 0);
    double low = ties->thresholds[index];
    if (!ties->cuts) return (trim){low, low, n};
    int64_t cut = ties->cuts[index] - at->first;
    return (trim){low, nextafter(low, INFINITY), cut < 0 ? 0 : cut < n ? cut : n};
}

static double weight_of(const di_election *election, int32_t t) {
    const di_values *w = election->weights;
    return w ? di_value_of(w, t) : 1;
}

/* The loops below have no branches inside, so that they run on vectors. */
static inline void vote_sum(int64_t n, double threshold, double weight, const double *tau, double *votes) {
    for (int64_t i = 0; i < n; i++) votes[i] += fabs(tau[i]) >= threshold ? weight * tau[i] : 0.0;
}

static inline void vote_count(int64_t n, double threshold, double weight, const double *tau, double *votes) {
    for (int64_t i = 0; i < n; i++) {
        double kept = fabs(tau[i]) >= threshold ? weight * tau[i] : 0.0;
        votes[i] += (kept > 0 ? 1.0 : 0.0) - (kept < 0 ? 1.0 : 0.0);
    }
}

DI_CLONES void di_ties_votes(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                             const double *const *tau, double *votes) {
    for (int64_t i = 0; i < n; i++) votes[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        trim keep = trim_of(ties, t, at, n);
        double w = weight_of(&ties->election, t);
        if (ties->election.elect == DI_ELECT_COUNT) {
            vote_count(keep.cut, keep.low, w, tau[t], votes);
            vote_count(n - keep.cut, keep.high, w, tau[t] + keep.cut, votes + keep.cut);
        } else {
            vote_sum(keep.cut, keep.low, w, tau[t], votes);
            vote_sum(n - keep.cut, keep.high, w, tau[t] + keep.cut, votes + keep.cut);
        }
    }
}

static inline void signs_of(int64_t n, double tie, double *votes) {
    for (int64_t i = 0; i < n; i++) {
        double elected = (votes[i] > 0 ? 1.0 : 0.0) - (votes[i] < 0 ? 1.0 : 0.0);
        votes[i] = elected + (votes[i] == 0 ? tie : 0.0);
    }
}

/* factor: of the entries; weight: of the model in a mean. */
static inline void gather(int64_t n, double threshold, double factor, double weight, const double *tau,
                          const double *sign, double *sum, double *count) {
    for (int64_t i = 0; i < n; i++) {
        double kept = fabs(tau[i]) >= threshold ? factor * tau[i] : 0.0;
        double agreeing = kept * sign[i] > 0 ? kept : 0.0;
        sum[i] += agreeing;
        count[i] += agreeing != 0 ? weight : 0.0;
    }
}

static inline void divide(int64_t n, const double *count, double *sum) {
    for (int64_t i = 0; i < n; i++) sum[i] /= count[i] != 0 ? count[i] : 1.0;
}

static inline void gather_largest(int64_t n, double threshold, double factor, const double *tau,
                                  const double *sign, double *largest) {
    for (int64_t i = 0; i < n; i++) {
        double kept = fabs(tau[i]) >= threshold ? factor * tau[i] : 0.0;
        largest[i] = kept * sign[i] > fabs(largest[i]) ? kept : largest[i];
    }
}

/* One threshold per model, the sign of the sum, the mean or the sum of what agrees: both sides are added up at
 * once, eight elements in a register. The task vectors are rows, tau, or floats as they lie. */
#ifdef DI_HAVE_WIDE
DI_WIDE_INLINE bool elect_wide(const di_ties *ties, int32_t models, const di_at *at, int64_t n,
                               const double *const *tau, const di_floats *floats, double *base, double *out) {
    const di_wide zero = {0}, tie = zero + ties->election.tie;
    const di_wide_bits one = (di_wide_bits)(zero + 1.0), magnitude = (di_wide_bits){0} + INT64_MAX;
    bool mean = ties->election.combine == DI_COMBINE_MEAN;
    di_wide_bits lead = {0}, tied = {0};
    di_wide_seen seen = {0};
    for (int64_t i = 0; i < n; i += DI_WIDE) { /* a row has room for whole vectors */
        di_wide sum = zero, above = zero, below = zero, ups = zero, downs = zero, less = zero;
        di_wide_bits there = {0, 1, 2, 3, 4, 5, 6, 7};
        there = there < n - i;
        if (floats) di_wide_fetch(floats, models, i);
        if (floats && floats->base) {
            less = di_wide_load(floats->base + i, &seen);
            memcpy(base + i, &less, sizeof less);
        }
        for (int32_t t = 0; t < models; t++) {
            di_wide_bits x;
            if (floats) {
                di_wide value = di_wide_load(floats->x[t] + i, &seen);
                if (floats->base) value -= less;
                x = (di_wide_bits)value;
            } else {
                memcpy(&x, tau[t] + i, sizeof x);
            }
            di_wide threshold = zero + ties->thresholds[t];
            di_wide_bits kept = x & (di_wide_bits)((di_wide)(x & magnitude) >= threshold) & there;
            di_wide_bits up = (di_wide)kept > zero, down = (di_wide)kept < zero;
            sum += (di_wide)kept;
            above += (di_wide)(kept & up);
            below += (di_wide)(kept & down);
            ups += (di_wide)(one & up);
            downs += (di_wide)(one & down);
        }
        di_wide_bits level = sum == zero;
        di_wide side = (di_wide)(((di_wide_bits)tie & level) | ((di_wide_bits)sum & ~level));
        di_wide_bits up = side > zero, down = side < zero;
        di_wide chosen = (di_wide)(((di_wide_bits)above & up) | ((di_wide_bits)below & down));
        di_wide count = (di_wide)(((di_wide_bits)ups & up) | ((di_wide_bits)downs & down));
        if (mean) chosen /= (di_wide)((di_wide_bits)count | (one & (di_wide_bits)(count == zero)));
        memcpy(out + i, &chosen, sizeof chosen);
        lead += (di_wide_bits)(sum < zero) - (di_wide_bits)(sum > zero); /* a true comparison is -1 */
        tied |= level & (di_wide_bits)(ups > zero);
    }
    if (!di_wide_finite(seen)) return false;
    if (!ties->open) return true;
    int64_t leads = 0, ties_seen = 0;
    for (int k = 0; k < DI_WIDE; k++) {
        leads += lead[k];
        ties_seen |= tied[k];
    }
    ties->lead[(int64_t)at->lane * DI_LEAD_ROOM] += leads;
    if (ties_seen) ties->tied[at->piece] = 1;
    return true;
}

DI_WIDE_TARGET static void elect_fast(const di_ties *ties, int32_t models, const di_at *at, int64_t n,
                                      const double *const *tau, double *out) {
    (void)elect_wide(ties, models, at, n, tau, NULL, NULL, out);
}

DI_WIDE_TARGET static bool elect_floats(const di_ties *ties, int32_t models, const di_at *at, int64_t n,
                                        const di_floats *floats, double *base, double *out) {
    return elect_wide(ties, models, at, n, NULL, floats, base, out);
}
#endif

int di_ties_direct(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                   const di_floats *floats, double *base, double *out) {
#ifdef DI_HAVE_WIDE
    if (ties->fast)
        return elect_floats(ties, run->models, at, n, floats, base, out) ? DI_DIRECT_DONE : DI_DIRECT_NONFINITE;
#endif
    (void)ties, (void)run, (void)at, (void)n, (void)floats, (void)base, (void)out;
    return DI_DIRECT_ROWS;
}

bool di_ties_is_fast(const di_ties *ties, const di_merge_run *run) {
#ifdef DI_HAVE_WIDE
    const char *isa = run->context->isa;
    return isa && strcmp(isa, "avx512") == 0 && ties->stride == 1 && !ties->cuts &&
           ties->election.elect == DI_ELECT_SUM && !ties->election.weights &&
           ties->election.combine != DI_COMBINE_MAX;
#else
    (void)ties;
    (void)run;
    return false;
#endif
}

DI_CLONES static void elect_any(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                                const double *const *tau, double *out) {
    double sign[DI_STEP], count[DI_STEP] = {0};
    di_ties_votes(ties, run, at, n, tau, sign);
    signs_of(n, ties->election.tie, sign);
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        trim keep = trim_of(ties, t, at, n);
        int64_t c = keep.cut;
        double w = weight_of(&ties->election, t);
        if (ties->election.combine == DI_COMBINE_MAX) {
            gather_largest(c, keep.low, w, tau[t], sign, out);
            gather_largest(n - c, keep.high, w, tau[t] + c, sign + c, out + c);
        } else {
            gather(c, keep.low, w, w, tau[t], sign, out, count);
            gather(n - c, keep.high, w, w, tau[t] + c, sign + c, out + c, count + c);
        }
    }
    if (ties->election.combine == DI_COMBINE_MEAN) divide(n, count, out);
}

void di_ties_chunk(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                   const double *const *tau, double *out) {
#ifdef DI_HAVE_WIDE
    if (ties->fast) {
        elect_fast(ties, run->models, at, n, tau, out);
        return;
    }
#endif
    elect_any(ties, run, at, n, tau, out);
}

DI_CLONES void di_elect(const di_election *election, int32_t models, int64_t n, const double *const *tau,
                        double *out) {
    double sign[DI_STEP] = {0}, count[DI_STEP] = {0};
    bool all = election->elect == DI_ELECT_ALL;
    for (int32_t t = 0; t < models && !all; t++)
        if (election->elect == DI_ELECT_COUNT)
            vote_count(n, 0, 1, tau[t], sign);
        else
            vote_sum(n, 0, 1, tau[t], sign);
    signs_of(n, election->tie, sign);
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < models; t++) {
        if (all) /* every entry agrees with its own sign */
            for (int64_t i = 0; i < n; i++) sign[i] = tau[t][i] < 0 ? -1.0 : 1.0;
        if (election->combine == DI_COMBINE_MAX)
            gather_largest(n, 0, 1, tau[t], sign, out);
        else
            gather(n, 0, 1, weight_of(election, t), tau[t], sign, out, count);
    }
    if (election->combine == DI_COMBINE_MEAN) divide(n, count, out);
}
