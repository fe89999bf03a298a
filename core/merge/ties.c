/* ties.c: TIES in its dialects. They differ in which magnitudes survive the trimming and in the sign that is
 * taken where the vote is tied:
 *   paper     exactly the int(keep*d)-th largest magnitude of all tensors is the threshold, included; a tied vote
 *             takes the majority of the elected signs
 *   authors   the (d - int(keep*d))-th smallest, included: one element more; the majority too, negative if it is
 *             zero itself (prateeky2806/ties-merging, and the repositories that copied it)
 *   mergekit  int(keep*n) elements of every tensor on its own, at least one; a tied vote is positive
 *   distac    the int((1-keep)*N)-th smallest of the elements and the frozen zeros, excluded; positive (the
 *             code released with DisTaC)
 * A look at everything comes first, for the exact thresholds, and maybe another for the majority. The majority matters
 * only where kept entries cancel exactly. So a method that can do pieces again (di_ties_desc.late) counts it while it
 * merges, with tied votes at zero, and then does those pieces again in which there was one. */
#include "direct.h"
#include "ties.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 8 }; /* numbers from one lane's count to the next: two lanes do not share a cache line */

struct di_ties {
    di_election election;
    bool fast;          /* by elect_wide */
    bool open;          /* the majority is not known yet: it is counted while chunks are merged */
    int64_t *lead;      /* [lanes*ROOM]: positive minus negative signs */
    uint8_t *tied;      /* run->again: a vote in this piece was tied, so it waits for the majority */
    int64_t stride; /* thresholds per model: 1, or one per entry */
    int64_t *cuts;  /* of the elements equal to the threshold those before this one are kept; NULL: all */
    double thresholds[];
};

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
    return w ? w->values[w->count == 1 ? 0 : t] : 1;
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

/* Sum or count of the signs of what is left of each element. */
DI_CLONES static void take_votes(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
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

static inline void gather_largest(int64_t n, double threshold, double factor, const double *tau, const double *sign,
                                  double *largest) {
    for (int64_t i = 0; i < n; i++) {
        double kept = fabs(tau[i]) >= threshold ? factor * tau[i] : 0.0;
        largest[i] = kept * sign[i] > fabs(largest[i]) ? kept : largest[i];
    }
}

/* One threshold per model, the sign of the sum, the mean or the sum of what agrees: both sides are added up at once,
 * eight elements in a register. The task vectors are rows, tau, or floats as they lie. */
#ifdef DI_HAVE_WIDE
DI_WIDE_INLINE bool elect_wide(const di_ties *ties, int32_t models, const di_at *at, int64_t n, const double *const *tau,
                               const di_floats *floats, double *base, double *out) {
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
    ties->lead[(int64_t)at->lane * ROOM] += leads;
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

int di_ties_direct(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n, const di_floats *floats,
                   double *base, double *out) {
#ifdef DI_HAVE_WIDE
    if (ties->fast)
        return elect_floats(ties, run->models, at, n, floats, base, out) ? DI_DIRECT_DONE : DI_DIRECT_NONFINITE;
#endif
    (void)ties, (void)run, (void)at, (void)n, (void)floats, (void)base, (void)out;
    return DI_DIRECT_ROWS;
}

static bool is_fast(const di_ties *ties, const di_merge_run *run) {
#ifdef DI_HAVE_WIDE
    const char *isa = run->context->isa;
    return isa && strcmp(isa, "avx512") == 0 && ties->stride == 1 && !ties->cuts &&
           ties->election.elect == DI_ELECT_SUM && !ties->election.weights && ties->election.combine != DI_COMBINE_MAX;
#else
    (void)ties;
    (void)run;
    return false;
#endif
}

DI_CLONES static void elect_any(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n,
                                const double *const *tau, double *out) {
    double sign[DI_STEP], count[DI_STEP] = {0};
    take_votes(ties, run, at, n, tau, sign);
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

void di_ties_chunk(const di_ties *ties, const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                   double *out) {
#ifdef DI_HAVE_WIDE
    if (ties->fast) {
        elect_fast(ties, run->models, at, n, tau, out);
        return;
    }
#endif
    elect_any(ties, run, at, n, tau, out);
}

/* ---- elections over what is there ---- */

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

/* ---- the looks at everything ---- */

typedef struct ballot {
    const di_merge_run *run;
    const di_ties *ties;
    int64_t *lead; /* of ties */
} ballot;

DI_CLONES static void count_signs(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau) {
    ballot *b = arg;
    double votes[DI_STEP];
    int64_t lead = 0;
    take_votes(b->ties, b->run, at, n, tau, votes);
    for (int64_t i = 0; i < n; i++) lead += (votes[i] > 0) - (votes[i] < 0);
    b->lead[(int64_t)lane * ROOM] += lead;
}

static void settle(di_ties *ties, int32_t lanes, bool authors) {
    int64_t lead = 0;
    for (int32_t i = 0; i < lanes; i++) lead += ties->lead[(int64_t)i * ROOM];
    ties->election.tie = lead > 0 ? 1 : lead < 0 || authors ? -1 : 0;
}

static distac_status elect_majority(di_merge_run *run, di_ties *ties, bool authors) {
    ballot b = {run, ties, ties->lead};
    distac_status status = di_run_visit(run, count_signs, &b);
    settle(ties, run->lanes, authors);
    return status;
}

bool di_ties_settle(di_ties *ties, const di_merge_run *run, int dialect) {
    if (!ties->open) return false;
    ties->open = false;
    settle(ties, run->lanes, dialect == DI_TIES_AUTHORS);
    return ties->election.tie != 0;
}

static double keep_of(const di_ties_desc *desc, int32_t t) {
    return desc->keeps ? desc->keeps->values[desc->keeps->count == 1 ? 0 : t] : desc->keep;
}

/* How many of the largest magnitudes stay; for distac the first that does not. */
static int64_t rank_of(const di_merge_run *run, const di_ties_desc *desc, double keep) {
    double d = (double)run->elements;
    switch (desc->dialect) {
    case DI_TIES_AUTHORS:
        return (int64_t)(keep * d) + 1;
    case DI_TIES_DISTAC:
        d += (double)desc->frozen;
        return (int64_t)d - (int64_t)((1 - keep) * d) + 1;
    default:
        return (int64_t)(keep * d);
    }
}

static distac_status find_shared(di_merge_run *run, const di_ties_desc *desc, double keep, di_ties *ties) {
    int64_t rank = rank_of(run, desc, keep);
    bool above = desc->dialect == DI_TIES_DISTAC;
    double all = rank < 1 && !above ? INFINITY : 0;
    /* A rank behind the last element: everything stays; in distac's dialect the frozen zeros are the threshold. */
    if (rank < 1 || rank > run->elements) {
        for (int32_t t = 0; t < run->models; t++) ties->thresholds[t] = all;
        return DISTAC_OK;
    }
    DI_TRY(di_select(run, rank, ties->thresholds));
    for (int32_t t = 0; t < run->models && above; t++)
        ties->thresholds[t] = nextafter(ties->thresholds[t], INFINITY);
    return DISTAC_OK;
}

/* Every share that models differ in is a look of its own, at all of them. */
static distac_status find_global(di_merge_run *run, const di_ties_desc *desc, di_ties *ties) {
    double *found = ties->thresholds + ties->stride * run->models; /* room of the cuts, which there are none of */
    DI_TRY(find_shared(run, desc, keep_of(desc, 0), ties));
    for (int32_t t = 1; t < run->models; t++) {
        double keep = keep_of(desc, t);
        int32_t first = 0;
        while (keep_of(desc, first) != keep) first++;
        if (first < t || keep == keep_of(desc, 0)) continue;
        memcpy(found, ties->thresholds, (size_t)run->models * sizeof *found);
        DI_TRY(find_shared(run, desc, keep, ties));
        for (int32_t k = 0; k < run->models; k++)
            if (keep_of(desc, k) != keep) ties->thresholds[k] = found[k];
    }
    return DISTAC_OK;
}

typedef struct entry_job {
    di_merge_run *run;
    di_ties *ties;
    const di_ties_desc *desc;
} entry_job;

static distac_status find_entry(void *arg, int32_t lane, int64_t index) {
    entry_job *job = arg;
    di_merge_run *run = job->run;
    int64_t t = index % run->models, entry = index / run->models, place = t * job->ties->stride + entry;
    const di_entry *at = run->base->entries[entry];
    if (!di_entry_is_float(at) || run->factors[entry] == 0) return DISTAC_OK;
    double keep = keep_of(job->desc, (int32_t)t);
    int64_t rank = (int64_t)(keep * (double)at->numel);
    if (rank < 1 && keep > 0 && at->numel > 0) rank = 1;
    job->ties->thresholds[place] = rank < 1 ? INFINITY : 0;
    job->ties->cuts[place] = at->numel;
    if (rank < 1 || rank >= at->numel) return DISTAC_OK;
    return di_rank_entry(run, lane, (int32_t)t, entry, rank, &job->ties->thresholds[place],
                         &job->ties->cuts[place]);
}

distac_status di_ties_open(di_merge_run *run, const di_ties_desc *desc, di_ties **out) {
    bool mergekit = desc->dialect == DI_TIES_MERGEKIT;
    int64_t stride = mergekit && run->base->count > 1 ? run->base->count : 1;
    size_t count = (size_t)stride * (size_t)run->models;
    size_t leads = (size_t)run->lanes * ROOM;
    di_ties *ties = di_new(sizeof *ties + count * (sizeof(double) + sizeof(int64_t)) + leads * sizeof(int64_t));
    if (!ties) return DISTAC_ENOMEM;
    *out = ties;
    ties->lead = (int64_t *)(void *)(ties->thresholds + 2 * count);
    ties->election = (di_election){desc->elect, desc->combine, 1, desc->weights};
    ties->stride = stride;
    if (mergekit) {
        entry_job job = {run, ties, desc};
        ties->cuts = (int64_t *)(void *)(ties->thresholds + count);
        return di_run_lanes(run, run->base->count * run->models, find_entry, &job);
    }
    DI_TRY(find_global(run, desc, ties));
    ties->fast = is_fast(ties, run);
    if (desc->dialect == DI_TIES_DISTAC || run->models == 1) return DISTAC_OK; /* one model's votes are its own */
    if (!desc->late || !ties->fast) return elect_majority(run, ties, desc->dialect == DI_TIES_AUTHORS);
    ties->election.tie = 0;
    ties->open = true;
    return di_run_marks(run, &ties->tied);
}

/* ---- the multi-task direction ---- */

distac_status di_multitask_open(di_merge_run *run, int kind, double keep) {
    const di_ties_desc desc = {.keep = keep, .dialect = DI_TIES_AUTHORS, .elect = DI_ELECT_SUM, .combine = DI_COMBINE_SUM};
    if (kind == DI_MULTITASK_SUM) return DISTAC_OK;
    di_ties *ties = NULL;
    distac_status status = di_ties_open(run, &desc, &ties);
    run->state = ties;
    return status;
}

DI_CLONES void di_multitask_chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                                  double *out) {
    if (run->state) {
        di_ties_chunk(run->state, run, at, n, tau, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) out[i] += tau[t][i];
}
