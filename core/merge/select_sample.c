/* select_sample.c: the exact rank-th largest magnitude by one look at all
 * elements: a sample has told between which two magnitudes it lies. Elements
 * above are counted, those between collected; the counts prove the answer. */
#include "direct.h"
#include "select.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#define VECTOR_LOOK 1
#endif

enum {
    SAMPLE = 1 << 18,     /* keys sampled per model */
    SAMPLE_ALL = 1 << 23, /* of all models together */
    BETWEEN = 1 << 21     /* at most this many are collected per model */
};

/* Elements by their place beside the bounds; those between are collected. */
typedef struct tally {
    int64_t above, at_high, between, at_low;
} tally;

typedef struct sampling {
    di_merge_run *run;
    di_search *searches; /* one per model */
    tally *tallies;      /* [lanes][models] */
    int64_t per_piece;   /* elements sampled of a whole piece */
    /* Counts n <= DI_STEP values by their place and hands out the keys of those between. */
    tally (*look)(int64_t n, const double *values, double low, double high, uint64_t *keys);
} sampling;

/* Large and small tensors by their share. */
static int64_t sampled(const sampling *s, const di_piece *piece) { return piece->count * s->per_piece / DI_PIECE; }

static distac_status sample_piece(void *arg, int32_t lane, int64_t index) {
    sampling *s = arg;
    const di_piece *piece = &s->run->pieces[index];
    double *const *rows = di_run_rows(s->run, lane);
    int64_t n = sampled(s, piece);
    /* Not always the same columns of a matrix. */
    int64_t first_sampled = piece->first + index * 7919 % (piece->count - n + 1);
    if (!di_run_step(s->run, piece->entry, first_sampled, n, rows))
        return di_run_nonfinite(s->run, piece->entry, piece->first);
    for (int32_t t = 0; t < s->run->models; t++) {
        di_search *at = &s->searches[t];
        int64_t first = atomic_fetch_add(&at->key_count, n);
        for (int64_t i = 0; i < n; i++) at->keys[first + i] = di_key(rows[t][i]);
    }
    return DISTAC_OK;
}

/* From the sample: the bounds, eight standard deviations apart. */
static distac_status bracket(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    sampling *s = arg;
    di_search *at = &s->searches[t];
    if (!at->keys) return di_keys_open(s->run->context, at, at->capacity); /* asked again, for the error */
    int64_t n = atomic_load(&at->key_count), all = s->run->elements;
    double share = (double)at->rank / (double)all, wanted = share * (double)n;
    double margin = 4 * sqrt((double)n * share * (1 - share)) + 16;
    int64_t upper = (int64_t)(wanted - margin), lower = (int64_t)(wanted + margin) + 1;
    /* Picking shuffles and drops keys: the wider search comes last. */
    uint64_t *copy = di_alloc(s->run->context, (size_t)n * sizeof *copy);
    if (!copy) return DISTAC_ENOMEM;
    memcpy(copy, at->keys, (size_t)n * sizeof *copy);
    at->high = upper >= 1 ? di_key_value(di_pick(copy, n, upper)) : INFINITY;
    at->low = lower <= n ? di_key_value(di_pick(at->keys, n, lower)) : 0;
    di_free(s->run->context, copy, (size_t)n * sizeof *copy);
    di_keys_close(s->run->context, at);
    int64_t capacity = (int64_t)(3 * margin / (double)n * (double)all) + 4096, most = DI_KEYS_ALL / s->run->models;
    if (most > BETWEEN) most = BETWEEN;
    return di_keys_open(s->run->context, at, capacity < most ? capacity : most);
}

DI_CLONES static tally count_places(int64_t n, const double *values, double low, double high) {
    int64_t above = 0, from_high = 0, over_low = 0, from_low = 0;
    for (int64_t i = 0; i < n; i++) {
        double magnitude = fabs(values[i]);
        above += magnitude > high;
        from_high += magnitude >= high;
        over_low += magnitude > low;
        from_low += magnitude >= low;
    }
    if (low == high) over_low = from_low = from_high; /* one value, counted once */
    return (tally){above, from_high - above, over_low - from_high, from_low - over_low};
}

DI_CLONES static void mark_between(int64_t n, const double *values, double low, double high, uint8_t *marks) {
    for (int64_t i = 0; i < n; i++) {
        double magnitude = fabs(values[i]);
        marks[i] = (uint8_t)((magnitude > low) & (magnitude < high));
    }
}

/* The keys between the bounds, which are few: one in some hundred elements. */
static int64_t keys_between(int64_t n, const double *values, double low, double high, uint64_t *keys) {
    uint8_t marks[DI_STEP + 8] = {0};
    uint64_t *begin = keys;
    mark_between(n, values, low, high, marks);
    for (int64_t i = 0; i < n; i += 8) {
        uint64_t eight;
        memcpy(&eight, marks + i, sizeof eight);
        if (eight == 0) continue;
        for (int64_t k = i; k < i + 8 && k < n; k++)
            if (marks[k]) *keys++ = di_key(values[k]);
    }
    return keys - begin;
}

static tally look(int64_t n, const double *values, double low, double high, uint64_t *keys) {
    tally found = count_places(n, values, low, high);
    if (found.between) keys_between(n, values, low, high, keys);
    return found;
}

#ifdef VECTOR_LOOK
#define SELECT_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,popcnt")))

typedef struct wide_tally {
    __m512d low, high;
    __m512i above, from_high, from_low;
    int64_t between;
} wide_tally;

SELECT_TARGET static inline wide_tally wide_start(double low, double high) {
    const __m512i none = _mm512_setzero_si512();
    return (wide_tally){_mm512_set1_pd(low), _mm512_set1_pd(high), none, none, none, 0};
}

/* Counts eight magnitudes, of which those of the mask are there, and appends the keys of those between. */
SELECT_TARGET static inline void wide_count(wide_tally *w, __mmask8 there, __m512d x, uint64_t *keys) {
    const __m512i ones = _mm512_set1_epi64(-1);
    __mmask8 over = _mm512_mask_cmp_pd_mask(there, x, w->high, _CMP_GT_OQ);
    __mmask8 high_on = _mm512_mask_cmp_pd_mask(there, x, w->high, _CMP_GE_OQ);
    __mmask8 low_on = _mm512_mask_cmp_pd_mask(there, x, w->low, _CMP_GE_OQ);
    __mmask8 inside = _mm512_mask_cmp_pd_mask((__mmask8)(low_on & ~high_on), x, w->low, _CMP_GT_OQ);
    w->above = _mm512_mask_sub_epi64(w->above, over, w->above, ones);
    w->from_high = _mm512_mask_sub_epi64(w->from_high, high_on, w->from_high, ones);
    w->from_low = _mm512_mask_sub_epi64(w->from_low, low_on, w->from_low, ones);
    if (!inside) return;
    _mm512_mask_compressstoreu_epi64(keys + w->between, inside, _mm512_castpd_si512(x));
    w->between += __builtin_popcount(inside);
}

SELECT_TARGET static inline tally wide_end(const wide_tally *w) {
    int64_t above = _mm512_reduce_add_epi64(w->above), from_high = _mm512_reduce_add_epi64(w->from_high);
    int64_t from_low = _mm512_reduce_add_epi64(w->from_low);
    return (tally){above, from_high - above, w->between, from_low - from_high - w->between};
}

/* The same in one go: the processor counts and packs by masks. */
SELECT_TARGET static tally look_avx512(int64_t n, const double *values, double low, double high, uint64_t *keys) {
    wide_tally found = wide_start(low, high);
    for (int64_t i = 0; i < n; i += 8) {
        __mmask8 there = (__mmask8)(n - i < 8 ? (1u << (n - i)) - 1 : 0xffu);
        wide_count(&found, there, _mm512_abs_pd(_mm512_maskz_loadu_pd(there, values + i)), keys);
    }
    return wide_end(&found);
}
#endif

/* Adds what a look at a model's elements has found. */
static void add_tally(sampling *s, int32_t lane, int32_t t, tally found, const uint64_t *keys) {
    di_search *at = &s->searches[t];
    tally *sum = &s->tallies[(int64_t)lane * s->run->models + t];
    sum->above += found.above;
    sum->at_high += found.at_high;
    sum->between += found.between;
    sum->at_low += found.at_low;
    if (found.between == 0) return;
    int64_t slot = atomic_fetch_add(&at->key_count, found.between);
    if (slot + found.between > at->capacity) return; /* too many: the second way */
    memcpy(at->keys + slot, keys, (size_t)found.between * sizeof *keys);
}

static void collect_between(void *arg, int32_t lane, const di_at *place, int64_t n, const double *const *tau) {
    (void)place;
    sampling *s = arg;
    uint64_t keys[DI_STEP];
    for (int32_t t = 0; t < s->run->models; t++)
        add_tally(s, lane, t, s->look(n, tau[t], s->searches[t].low, s->searches[t].high, keys), keys);
}

#ifdef VECTOR_LOOK
/* The same straight from the floats. */
SELECT_TARGET static bool collect_direct(void *arg, int32_t lane, const di_at *place, int64_t n,
                                         const di_floats *floats) {
    (void)place;
    sampling *s = arg;
    uint64_t keys[DI_STEP];
    double base[DI_STEP];
    di_wide_seen seen = {0};
    for (int64_t i = 0; floats->base && i < n; i += DI_WIDE) {
        di_wide value = di_wide_load(floats->base + i, &seen);
        memcpy(base + i, &value, sizeof value);
        if (i % (2 * DI_WIDE) == 0) __builtin_prefetch(floats->base + i + DI_STEP);
    }
    for (int32_t t = 0; t < s->run->models; t++) {
        wide_tally found = wide_start(s->searches[t].low, s->searches[t].high);
        const float *values = floats->x[t];
        for (int64_t i = 0; i < n; i += DI_WIDE) {
            if (i % (2 * DI_WIDE) == 0) __builtin_prefetch(values + i + DI_STEP);
            __m512d x = (__m512d)di_wide_load(values + i, &seen);
            if (floats->base) x = _mm512_sub_pd(x, _mm512_loadu_pd(base + i));
            wide_count(&found, 0xff, _mm512_abs_pd(x), keys);
        }
        add_tally(s, lane, t, wide_end(&found), keys);
    }
    return di_wide_finite(seen);
}
#endif

static distac_status settle(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    sampling *s = arg;
    di_search *at = &s->searches[t];
    tally sum = {0};
    for (int32_t i = 0; i < s->run->lanes; i++) {
        const tally *part = &s->tallies[(int64_t)i * s->run->models + t];
        sum.above += part->above;
        sum.at_high += part->at_high;
        sum.between += part->between;
        sum.at_low += part->at_low;
    }
    int64_t rank = at->rank - sum.above; /* among those not above */
    at->found = true;
    if (rank >= 1 && rank <= sum.at_high)
        *at->threshold = at->high;
    else if (rank > sum.at_high && rank <= sum.at_high + sum.between && sum.between <= at->capacity)
        *at->threshold = di_key_value(di_pick(at->keys, sum.between, rank - sum.at_high));
    else if (rank > sum.at_high + sum.between && rank <= sum.at_high + sum.between + sum.at_low)
        *at->threshold = at->low;
    else
        at->found = false;
    di_keys_close(s->run->context, at);
    return DISTAC_OK;
}

static distac_status search_sampled(sampling *s) {
    di_merge_run *run = s->run;
    DI_TRY(di_run_lanes(run, run->piece_count, sample_piece, s));
    DI_TRY(di_run_lanes(run, run->models, bracket, s));
#ifdef VECTOR_LOOK
    DI_TRY(di_run_visit_direct(run, collect_between, collect_direct, s));
#else
    DI_TRY(di_run_visit(run, collect_between, s));
#endif
    return di_run_lanes(run, run->models, settle, s);
}

distac_status di_select_by_sample(di_merge_run *run, di_search *searches) {
    sampling s = {.run = run, .searches = searches, .look = look};
    int64_t wanted = SAMPLE_ALL / run->models < SAMPLE ? SAMPLE_ALL / run->models : SAMPLE, size = 0;
#ifdef VECTOR_LOOK
    if (run->context->isa && strcmp(run->context->isa, "avx512") == 0) s.look = look_avx512;
#endif
    if (run->elements <= 4 * (int64_t)SAMPLE) return DISTAC_OK;
    s.per_piece = wanted / run->piece_count;
    if (s.per_piece > DI_STEP) s.per_piece = DI_STEP;
    for (int64_t i = 0; i < run->piece_count; i++) size += sampled(&s, &run->pieces[i]);
    if (size < 1) return DISTAC_OK; /* so many small tensors that the share of each is none */
    for (int32_t t = 0; t < run->models; t++) DI_TRY(di_keys_open(run->context, &searches[t], size));
    s.tallies = di_new((size_t)run->lanes * (size_t)run->models * sizeof *s.tallies);
    distac_status status = s.tallies ? search_sampled(&s) : DISTAC_ENOMEM;
    free(s.tallies);
    return status;
}
