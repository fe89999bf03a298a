/* select.c: the exact rank-th largest magnitude of every task vector, without sorting or keeping them. A
 * magnitude's bits order like the number.
 *
 * First way: a sample tells between which two magnitudes the wanted one lies; one look at all elements counts
 * those above and collects the few between. The counts prove the answer or show that the sample misled. Second
 * way, for small inputs and for those: digit by digit, each look counting one digit of what matches the digits
 * known so far, until few enough are left to be collected. All models share the looks. */
#include "direct.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VECTOR_LOOK 1
#endif

enum {
    COLLECT = 1 << 16,     /* keys collected per model, second way */
    SAMPLE = 1 << 18,      /* keys sampled per model */
    BETWEEN = 1 << 21,     /* at most this many are collected per model, first way */
    SAMPLE_ALL = 1 << 23,  /* of all models together: with many each has fewer, so that memory is flat */
    BETWEEN_ALL = 1 << 24
};
#define BUCKETS_ALL ((size_t)16 << 20) /* counters of all lanes and models; if they were more, digits are smaller */

typedef struct search {
    double *threshold;
    bool found;
    int64_t rank; /* among what is searched, from the largest */
    /* first way */
    double low, high; /* the wanted magnitude lies in low … high, both included */
    /* second way */
    uint64_t prefix; /* the digits known */
    bool collect;
    /* what is collected */
    uint64_t *keys;
    int64_t capacity; /* there is room for */
    atomic_llong key_count;
} search;

/* Elements by their place beside the bounds; those between are collected. */
typedef struct tally {
    int64_t above, at_high, between, at_low;
} tally;

typedef struct selector {
    di_merge_run *run;
    int32_t level, digit; /* bits of a digit: 16 or 8 */
    search *searches;  /* one per model */
    uint64_t *buckets; /* [lanes][models][1 << digit] */
    tally *tallies;    /* [lanes][models] */
    int64_t per_piece; /* elements sampled of each piece */
    /* Counts n <= DI_STEP values by their place and hands out the keys of those between. */
    tally (*look)(int64_t n, const double *values, double low, double high, uint64_t *keys);
} selector;

static uint64_t key_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & (UINT64_MAX >> 1);
}

static double value_of(uint64_t key) {
    double value;
    memcpy(&value, &key, sizeof value);
    return value;
}

uint64_t di_pick(uint64_t *keys, int64_t n, int64_t rank) {
    for (int shift = 56; shift >= 0 && n > 1; shift -= 8) {
        int64_t counts[256] = {0}, kept = 0;
        for (int64_t i = 0; i < n; i++) counts[keys[i] >> shift & 255]++;
        uint64_t digit = 255;
        while (rank > counts[digit]) rank -= counts[digit--];
        for (int64_t i = 0; i < n; i++)
            if ((keys[i] >> shift & 255) == digit) keys[kept++] = keys[i];
        n = kept;
    }
    return keys[0];
}

static distac_status keys_open(distac_context *context, search *at, int64_t capacity) {
    at->keys = di_alloc(context, (size_t)capacity * sizeof *at->keys);
    at->capacity = capacity;
    atomic_store(&at->key_count, 0);
    return at->keys ? DISTAC_OK : DISTAC_ENOMEM;
}

static void keys_close(distac_context *context, search *at) {
    if (at->keys) di_free(context, at->keys, (size_t)at->capacity * sizeof *at->keys);
    at->keys = NULL;
}

/* ---- first way ---- */

static distac_status sample_piece(void *arg, int32_t lane, int64_t index) {
    selector *s = arg;
    const di_piece *piece = &s->run->pieces[index];
    double *const *rows = di_run_rows(s->run, lane);
    int64_t n = piece->count * s->per_piece / DI_PIECE; /* large and small tensors by their share */
    /* Not always the same columns of a matrix. */
    int64_t first_sampled = piece->first + index * 7919 % (piece->count - n + 1);
    if (!di_run_step(s->run, piece->entry, first_sampled, n, rows))
        return di_run_nonfinite(s->run, piece->entry, piece->first);
    for (int32_t t = 0; t < s->run->models; t++) {
        search *at = &s->searches[t];
        int64_t first = atomic_fetch_add(&at->key_count, n);
        for (int64_t i = 0; i < n; i++) at->keys[first + i] = key_of(rows[t][i]);
    }
    return DISTAC_OK;
}

/* From the sample: the bounds, eight standard deviations apart. */
static distac_status bracket(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    selector *s = arg;
    search *at = &s->searches[t];
    int64_t n = atomic_load(&at->key_count), all = s->run->elements;
    if (n < 1) return di_fail(DISTAC_ESTATE, "the sample is empty");
    double share = (double)at->rank / (double)all, wanted = share * (double)n;
    double margin = 4 * sqrt((double)n * share * (1 - share)) + 16;
    int64_t upper = (int64_t)(wanted - margin), lower = (int64_t)(wanted + margin) + 1;
    /* Picking shuffles and drops keys: the wider search comes last. */
    uint64_t *copy = di_alloc(s->run->context, (size_t)n * sizeof *copy);
    if (!copy) return DISTAC_ENOMEM;
    memcpy(copy, at->keys, (size_t)n * sizeof *copy);
    at->high = upper >= 1 ? value_of(di_pick(copy, n, upper)) : INFINITY;
    at->low = lower <= n ? value_of(di_pick(at->keys, n, lower)) : 0;
    di_free(s->run->context, copy, (size_t)n * sizeof *copy);
    keys_close(s->run->context, at);
    int64_t capacity = (int64_t)(3 * margin / (double)n * (double)all) + 4096, most = BETWEEN_ALL / s->run->models;
    if (most > BETWEEN) most = BETWEEN;
    return keys_open(s->run->context, at, capacity < most ? capacity : most);
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
            if (marks[k]) *keys++ = key_of(values[k]);
    }
    return keys - begin;
}

static tally look(int64_t n, const double *values, double low, double high, uint64_t *keys) {
    tally found = count_places(n, values, low, high);
    if (found.between) keys_between(n, values, low, high, keys);
    return found;
}

#ifdef VECTOR_LOOK
/* The same in one go: the processor counts and packs by masks. */
__attribute__((target("avx512f,popcnt"))) static tally look_avx512(int64_t n, const double *values, double low,
                                                                   double high, uint64_t *keys) {
    const __m512d lows = _mm512_set1_pd(low), highs = _mm512_set1_pd(high);
    const __m512i ones = _mm512_set1_epi64(-1);
    __m512i above = _mm512_setzero_si512(), from_high = above, from_low = above;
    int64_t between = 0;
    for (int64_t i = 0; i < n; i += 8) {
        __mmask8 there = (__mmask8)(n - i < 8 ? (1u << (n - i)) - 1 : 0xffu);
        __m512d x = _mm512_abs_pd(_mm512_maskz_loadu_pd(there, values + i));
        __mmask8 over = _mm512_mask_cmp_pd_mask(there, x, highs, _CMP_GT_OQ);
        __mmask8 high_on = _mm512_mask_cmp_pd_mask(there, x, highs, _CMP_GE_OQ);
        __mmask8 low_on = _mm512_mask_cmp_pd_mask(there, x, lows, _CMP_GE_OQ);
        __mmask8 inside = _mm512_mask_cmp_pd_mask((__mmask8)(there & ~high_on), x, lows, _CMP_GT_OQ);
        above = _mm512_mask_sub_epi64(above, over, above, ones);
        from_high = _mm512_mask_sub_epi64(from_high, high_on, from_high, ones);
        from_low = _mm512_mask_sub_epi64(from_low, low_on, from_low, ones);
        if (!inside) continue;
        _mm512_mask_compressstoreu_epi64(keys + between, inside, _mm512_castpd_si512(x));
        between += __builtin_popcount(inside);
    }
    int64_t top = _mm512_reduce_add_epi64(above), high_count = _mm512_reduce_add_epi64(from_high);
    int64_t low_count = _mm512_reduce_add_epi64(from_low);
    return (tally){top, high_count - top, between, low_count - high_count - between};
}
#endif

/* Adds what a look at a model's elements has found. */
static void add_tally(selector *s, int32_t lane, int32_t t, tally found, const uint64_t *keys) {
    search *at = &s->searches[t];
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
    selector *s = arg;
    uint64_t keys[DI_STEP];
    for (int32_t t = 0; t < s->run->models; t++)
        add_tally(s, lane, t, s->look(n, tau[t], s->searches[t].low, s->searches[t].high, keys), keys);
}

#ifdef VECTOR_LOOK
/* The same straight from the floats. */
__attribute__((target("avx512f,avx512dq,avx512vl,popcnt"))) static bool collect_direct(void *arg, int32_t lane,
                                                                                       const di_at *place, int64_t n,
                                                                                       const di_floats *floats) {
    (void)place;
    selector *s = arg;
    uint64_t keys[DI_STEP];
    double base[DI_STEP];
    di_wide_seen seen = {0};
    const __m512i ones = _mm512_set1_epi64(-1);
    for (int64_t i = 0; floats->base && i < n; i += DI_WIDE) {
        di_wide value = di_wide_load(floats->base + i, &seen);
        memcpy(base + i, &value, sizeof value);
        if (i % (2 * DI_WIDE) == 0) __builtin_prefetch(floats->base + i + DI_STEP);
    }
    for (int32_t t = 0; t < s->run->models; t++) {
        const __m512d lows = _mm512_set1_pd(s->searches[t].low), highs = _mm512_set1_pd(s->searches[t].high);
        __m512i above = _mm512_setzero_si512(), from_high = above, from_low = above;
        const float *values = floats->x[t];
        int64_t between = 0;
        for (int64_t i = 0; i < n; i += DI_WIDE) {
            if (i % (2 * DI_WIDE) == 0) __builtin_prefetch(values + i + DI_STEP);
            __m512d x = (__m512d)di_wide_load(values + i, &seen);
            if (floats->base) x = _mm512_sub_pd(x, _mm512_loadu_pd(base + i));
            x = _mm512_abs_pd(x);
            __mmask8 low_on = _mm512_cmp_pd_mask(x, lows, _CMP_GE_OQ);
            __mmask8 high_on = _mm512_cmp_pd_mask(x, highs, _CMP_GE_OQ);
            __mmask8 over = _mm512_cmp_pd_mask(x, highs, _CMP_GT_OQ);
            __mmask8 inside = _mm512_mask_cmp_pd_mask((__mmask8)(low_on & ~high_on), x, lows, _CMP_GT_OQ);
            above = _mm512_mask_sub_epi64(above, over, above, ones);
            from_high = _mm512_mask_sub_epi64(from_high, high_on, from_high, ones);
            from_low = _mm512_mask_sub_epi64(from_low, low_on, from_low, ones);
            if (!inside) continue;
            _mm512_mask_compressstoreu_epi64(keys + between, inside, _mm512_castpd_si512(x));
            between += __builtin_popcount(inside);
        }
        int64_t top = _mm512_reduce_add_epi64(above), high_count = _mm512_reduce_add_epi64(from_high);
        int64_t low_count = _mm512_reduce_add_epi64(from_low);
        add_tally(s, lane, t,
                  (tally){top, high_count - top, between, low_count - high_count - between}, keys);
    }
    return di_wide_finite(seen);
}
#endif

static distac_status settle(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    selector *s = arg;
    search *at = &s->searches[t];
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
        *at->threshold = value_of(di_pick(at->keys, sum.between, rank - sum.at_high));
    else if (rank > sum.at_high + sum.between && rank <= sum.at_high + sum.between + sum.at_low)
        *at->threshold = at->low;
    else
        at->found = false;
    keys_close(s->run->context, at);
    return DISTAC_OK;
}

static distac_status search_by_sample(selector *s) {
    di_merge_run *run = s->run;
    int64_t sample = SAMPLE_ALL / run->models < SAMPLE ? SAMPLE_ALL / run->models : SAMPLE;
    s->per_piece = sample / run->piece_count;
    if (s->per_piece > DI_STEP) s->per_piece = DI_STEP;
    if (s->per_piece < 1) return DISTAC_OK;
    for (int32_t t = 0; t < run->models; t++)
        DI_TRY(keys_open(run->context, &s->searches[t], s->per_piece * run->piece_count));
    s->tallies = di_new((size_t)run->lanes * (size_t)run->models * sizeof *s->tallies);
    if (!s->tallies) return DISTAC_ENOMEM;
    DI_TRY(di_run_lanes(run, run->piece_count, sample_piece, s));
    DI_TRY(di_run_lanes(run, run->models, bracket, s));
#ifdef VECTOR_LOOK
    DI_TRY(di_run_visit_direct(run, collect_between, collect_direct, s));
#else
    DI_TRY(di_run_visit(run, collect_between, s));
#endif
    return di_run_lanes(run, run->models, settle, s);
}

/* ---- second way ---- */

static void count_digits(void *arg, int32_t lane, const di_at *place, int64_t n, const double *const *tau) {
    (void)place;
    selector *s = arg;
    int shift = 64 - s->digit * (s->level + 1);
    uint64_t count = (uint64_t)1 << s->digit;
    for (int32_t t = 0; t < s->run->models; t++) {
        search *at = &s->searches[t];
        uint64_t *buckets = s->buckets + ((int64_t)lane * s->run->models + t) * (int64_t)count;
        if (at->found) continue;
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = key_of(tau[t][i]);
            if (s->level && key >> (shift + s->digit) != at->prefix) continue;
            if (at->collect)
                at->keys[atomic_fetch_add(&at->key_count, 1)] = key;
            else
                buckets[key >> shift & (count - 1)]++;
        }
    }
}

/* After a look: one more digit of a model's threshold is known, or all of it. */
static distac_status advance(selector *s, int32_t t) {
    search *at = &s->searches[t];
    const di_merge_run *run = s->run;
    if (at->found) return DISTAC_OK;
    if (at->collect) {
        *at->threshold = value_of(di_pick(at->keys, atomic_load(&at->key_count), at->rank));
        at->found = true;
        return DISTAC_OK;
    }
    int64_t buckets = INT64_C(1) << s->digit, digit = buckets - 1, count = 0;
    for (;; digit--) {
        count = 0;
        for (int32_t lane = 0; lane < run->lanes; lane++)
            count += (int64_t)s->buckets[((int64_t)lane * run->models + t) * buckets + digit];
        if (at->rank <= count || digit == 0) break;
        at->rank -= count;
    }
    at->prefix = at->prefix << s->digit | (uint64_t)digit;
    if (s->level == 64 / s->digit - 1) {
        *at->threshold = value_of(at->prefix);
        at->found = true;
    } else if (count <= (COLLECT < BETWEEN_ALL / run->models ? COLLECT : BETWEEN_ALL / run->models)) {
        at->collect = true;
        return keys_open(s->run->context, at, count);
    }
    return DISTAC_OK;
}

static bool all_found(const selector *s) {
    for (int32_t t = 0; t < s->run->models; t++)
        if (!s->searches[t].found) return false;
    return true;
}

static distac_status search_by_digits(selector *s) {
    size_t counters = (size_t)s->run->lanes * (size_t)s->run->models;
    s->digit = counters << 16 <= BUCKETS_ALL ? 16 : 8;
    size_t bytes = (counters << s->digit) * sizeof(uint64_t);
    distac_status status = DISTAC_OK;
    if (all_found(s)) return DISTAC_OK;
    s->buckets = di_alloc(s->run->context, bytes);
    if (!s->buckets) return DISTAC_ENOMEM;
    for (s->level = 0; s->level < 64 / s->digit && status == DISTAC_OK && !all_found(s); s->level++) {
        memset(s->buckets, 0, bytes);
        status = di_run_visit(s->run, count_digits, s);
        for (int32_t t = 0; status == DISTAC_OK && t < s->run->models; t++) status = advance(s, t);
    }
    di_free(s->run->context, s->buckets, bytes);
    return status;
}

distac_status di_select(di_merge_run *run, int64_t rank, double *thresholds) {
    selector s = {.run = run, .look = look};
#ifdef VECTOR_LOOK
    if (run->context->isa && strcmp(run->context->isa, "avx512") == 0) s.look = look_avx512;
#endif
    s.searches = di_new((size_t)run->models * sizeof *s.searches);
    if (!s.searches) return DISTAC_ENOMEM;
    for (int32_t t = 0; t < run->models; t++) {
        s.searches[t].rank = rank;
        s.searches[t].threshold = &thresholds[t];
    }
    distac_status status = run->elements > 4 * (int64_t)SAMPLE ? search_by_sample(&s) : DISTAC_OK;
    if (status == DISTAC_OK) status = search_by_digits(&s);
    for (int32_t t = 0; t < run->models; t++) keys_close(run->context, &s.searches[t]);
    free(s.tallies);
    free(s.searches);
    return status;
}
