/* op_pcb.c: PCB merging: elements compete within their model by magnitude and between the models by agreement with
 * the sum; the share `ratio` of the strongest of each model is averaged with its strength as weight.
 *   a = |tau| clipped to its clip and 1-clip quantiles      b = exp(T minmax(a)^2) tanh(tau sum)
 *   s = minmax(b from its 1-ratio quantile on)              D = sum sign(tau) a s / max(sum s, 1e-12)
 * Quantiles are over all tensors and exact; their places in the order are those of the authors' code
 * (duguodong7/pcb-merging): int(d*clip), int(d*(1-clip)-1), int(d*(1-ratio)), from 0. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RATIO, CLIP };
enum { DIGIT = 16, BUCKETS = 1 << DIGIT };

/* Both as in the authors' pcb-merging.py. */
static const di_merge_param params[] = {
    DI_NUMBER("ratio", "share of each model's elements that survive the competition", 0.1, 0, 1),
    DI_NUMBER("clip", "share of the magnitudes that are clipped at either end", 0.0001, 0, 0.5),
};

typedef struct bounds {
    double low, high;   /* of the magnitudes */
    double least, most; /* of b */
} bounds;

/* The strengths b of n elements of model t; sum: over the models. */
static void strengths(const bounds *at, int32_t models, int64_t n, const double *tau, const double *sum,
                      double *out) {
    double range = at->high > at->low ? at->high - at->low : 1;
    for (int64_t i = 0; i < n; i++) {
        double a = fabs(tau[i]);
        a = a < at->low ? at->low : a;
        a = a > at->high ? at->high : a;
        double share = (a - at->low) / range;
        out[i] = exp(models * share * share) * tanh(tau[i] * sum[i]);
    }
}

static void add_up(int32_t models, int64_t n, const double *const *tau, double *sum) {
    for (int64_t i = 0; i < n; i++) sum[i] = 0;
    for (int32_t t = 0; t < models; t++)
        for (int64_t i = 0; i < n; i++) sum[i] += tau[t][i];
}

/* ---- the quantile of b: digit by digit ---- */

/* Orders like the number, negative ones too. */
static uint64_t key_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static double value_of(uint64_t key) {
    uint64_t bits = key >> 63 ? key & (UINT64_MAX >> 1) : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

typedef struct search {
    uint64_t prefix;
    int64_t rank; /* among what matches the prefix, from 0, from the smallest */
} search;

typedef struct competition {
    const di_merge_run *run;
    const bounds *bounds;
    int level;
    search *searches; /* one per model */
    int64_t *buckets; /* [lanes][models][BUCKETS] */
    uint64_t *most;   /* [lanes][models] */
} competition;

static void count_digits(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau) {
    (void)at;
    competition *c = arg;
    int32_t models = c->run->models;
    int shift = 64 - DIGIT * (c->level + 1);
    double sum[DI_STEP], b[DI_STEP];
    add_up(models, n, tau, sum);
    for (int32_t t = 0; t < models; t++) {
        int64_t *buckets = c->buckets + ((int64_t)lane * models + t) * BUCKETS;
        uint64_t *most = &c->most[(int64_t)lane * models + t];
        strengths(&c->bounds[t], models, n, tau[t], sum, b);
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = key_of(b[i]);
            if (key > *most) *most = key;
            if (c->level == 0 || key >> (shift + DIGIT) == c->searches[t].prefix)
                buckets[key >> shift & (BUCKETS - 1)]++;
        }
    }
}

static void next_digit(competition *c, int32_t t) {
    search *at = &c->searches[t];
    for (int64_t digit = 0;; digit++) {
        int64_t count = 0;
        for (int32_t lane = 0; lane < c->run->lanes; lane++)
            count += c->buckets[((int64_t)lane * c->run->models + t) * BUCKETS + digit];
        if (at->rank < count || digit == BUCKETS - 1) {
            at->prefix = at->prefix << DIGIT | (uint64_t)digit;
            return;
        }
        at->rank -= count;
    }
}

static int64_t index_of(double place, int64_t d) {
    int64_t index = (int64_t)place;
    return index < 0 ? 0 : index < d ? index : d - 1;
}

static distac_status find_strengths(di_merge_run *run, bounds *found, competition *c) {
    size_t bytes = (size_t)run->lanes * (size_t)run->models * BUCKETS * sizeof *c->buckets;
    int64_t d = run->elements, rank = index_of((double)d * (1 - di_run_param(run, RATIO, 0)), d);
    c->searches = di_new((size_t)run->models * sizeof *c->searches);
    c->most = di_new((size_t)run->lanes * (size_t)run->models * sizeof *c->most);
    c->buckets = c->searches && c->most ? di_alloc(run->context, bytes) : NULL;
    if (!c->buckets) return DISTAC_ENOMEM;
    for (int32_t t = 0; t < run->models; t++) c->searches[t].rank = rank;
    distac_status status = DISTAC_OK;
    for (c->level = 0; c->level < 64 / DIGIT && status == DISTAC_OK; c->level++) {
        memset(c->buckets, 0, bytes);
        status = di_run_visit(run, count_digits, c);
        for (int32_t t = 0; t < run->models && status == DISTAC_OK; t++) next_digit(c, t);
    }
    di_free(run->context, c->buckets, bytes);
    for (int32_t t = 0; t < run->models; t++) {
        uint64_t most = 0;
        for (int32_t lane = 0; lane < run->lanes; lane++)
            if (c->most[(int64_t)lane * run->models + t] > most) most = c->most[(int64_t)lane * run->models + t];
        found[t].least = value_of(c->searches[t].prefix);
        found[t].most = value_of(most);
    }
    return status;
}

static distac_status prepare(di_merge_run *run) {
    int64_t d = run->elements;
    double clip = di_run_param(run, CLIP, 0);
    bounds *found = di_new((size_t)run->models * sizeof *found);
    double *ends = di_new(2 * (size_t)run->models * sizeof *ends);
    run->state = found;
    distac_status status = found && ends ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK && d > 0) status = di_select(run, d - index_of((double)d * clip, d), ends);
    if (status == DISTAC_OK && d > 0)
        status = di_select(run, d - index_of((double)d * (1 - clip) - 1, d), ends + run->models);
    for (int32_t t = 0; status == DISTAC_OK && t < run->models; t++) {
        found[t].low = ends[t];
        found[t].high = ends[run->models + t];
    }
    free(ends);
    if (status != DISTAC_OK || d == 0) return status;
    competition c = {.run = run, .bounds = found};
    status = find_strengths(run, found, &c);
    free(c.searches);
    free(c.most);
    return status;
}

static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    (void)at;
    double sum[DI_STEP], b[DI_STEP], weights[DI_STEP] = {0};
    add_up(run->models, n, tau, sum);
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t t = 0; t < run->models; t++) {
        const bounds *of = &((const bounds *)run->state)[t];
        double range = of->most > of->least ? of->most - of->least : 1;
        strengths(of, run->models, n, tau[t], sum, b);
        for (int64_t i = 0; i < n; i++) {
            double a = fabs(tau[t][i]), s = b[i] > of->least ? (b[i] - of->least) / range : 0;
            a = a < of->low ? of->low : a;
            a = a > of->high ? of->high : a;
            out[i] += tau[t][i] > 0 ? a * s : tau[t][i] < 0 ? -a * s : 0;
            weights[i] += s;
        }
    }
    for (int64_t i = 0; i < n; i++) out[i] /= weights[i] > 1e-12 ? weights[i] : 1e-12;
}

const di_method di_merge_pcb = {
    .name = "pcb",
    .text = "mean weighted by competition within and between models (Du et al. 2024, PCB-Merging)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
};
