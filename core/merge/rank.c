/* rank.c: the rank-th largest magnitude of one tensor of one model, in memory that does not grow with it: digit by
 * digit, each look counting one digit of what matches the digits known so far, until few enough are left. */
#include "ties.h"
#include <math.h>
#include <string.h>

enum { DIGIT = 16, BUCKETS = 1 << DIGIT, ROOM = 1 << 17 };

typedef struct reader {
    di_merge_run *run;
    double *const *rows;
    int32_t t;
    int64_t entry, numel;
} reader;

/* The next step of elements from `first`; NULL if one is not finite. */
static const double *read_step(const reader *r, int64_t first, int64_t *n) {
    const di_merge_run *run = r->run;
    double *base = run->whole ? r->rows[run->models] : NULL, *out = r->rows[0];
    *n = r->numel - first < DI_STEP ? r->numel - first : DI_STEP;
    if (base && !di_run_base(run, r->entry, first, *n, base)) return NULL;
    return di_run_load(run, r->t, r->entry, first, *n, base, out) ? out : NULL;
}

typedef struct known {
    uint64_t prefix;
    int bits; /* of the prefix */
    int64_t rank, matching;
} known;

static bool matches(const known *k, uint64_t key) {
    return k->bits == 0 || key >> (64 - k->bits) == k->prefix;
}

static distac_status next_digit(const reader *r, int64_t *buckets, known *k) {
    int shift = 64 - k->bits - DIGIT;
    int64_t n;
    memset(buckets, 0, BUCKETS * sizeof *buckets);
    for (int64_t first = 0; first < r->numel; first += n) {
        const double *x = read_step(r, first, &n);
        if (!x) return di_run_nonfinite(r->run, r->entry, first);
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = di_key(x[i]);
            if (matches(k, key)) buckets[key >> shift & (BUCKETS - 1)]++;
        }
    }
    int64_t digit = BUCKETS - 1;
    while (digit > 0 && k->rank > buckets[digit]) k->rank -= buckets[digit--];
    k->prefix = k->prefix << DIGIT | (uint64_t)digit;
    k->bits += DIGIT;
    k->matching = buckets[digit];
    return DISTAC_OK;
}

static distac_status collect(const reader *r, const known *k, uint64_t *keys, int64_t room, double *threshold) {
    int64_t n, count = 0;
    for (int64_t first = 0; first < r->numel; first += n) {
        const double *x = read_step(r, first, &n);
        if (!x) return di_run_nonfinite(r->run, r->entry, first);
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = di_key(x[i]);
            if (!matches(k, key)) continue;
            if (count < room) keys[count] = key;
            count++;
        }
    }
    if (count != k->matching || k->rank > count)
        return di_fail_at(DISTAC_EIO, r->run->function, "tensor \"%s\" changed while it was read",
                          r->run->base->entries[r->entry]->name);
    uint64_t key = di_pick(keys, count, k->rank);
    memcpy(threshold, &key, sizeof *threshold);
    return DISTAC_OK;
}

/* Behind the element that makes `rank` together with all larger ones. */
static distac_status find_cut(const reader *r, int64_t rank, double threshold, int64_t *cut) {
    int64_t n, above = 0, equal = 0;
    for (int64_t first = 0; first < r->numel; first += n) {
        const double *x = read_step(r, first, &n);
        if (!x) return di_run_nonfinite(r->run, r->entry, first);
        for (int64_t i = 0; i < n; i++) {
            above += fabs(x[i]) > threshold;
            equal += fabs(x[i]) == threshold;
        }
    }
    *cut = r->numel;
    if (equal == rank - above) return DISTAC_OK;
    equal = rank - above;
    for (int64_t first = 0; first < r->numel; first += n) {
        const double *x = read_step(r, first, &n);
        if (!x) return di_run_nonfinite(r->run, r->entry, first);
        for (int64_t i = 0; i < n; i++) {
            if (fabs(x[i]) != threshold || --equal > 0) continue;
            *cut = first + i + 1;
            return DISTAC_OK;
        }
    }
    return DISTAC_OK;
}

distac_status di_rank_entry(di_merge_run *run, int32_t lane, int32_t t, int64_t entry, int64_t rank,
                            double *threshold, int64_t *cut) {
    reader r = {run, di_run_rows(run, lane), t, entry, run->base->entries[entry]->numel};
    known k = {.rank = rank, .matching = r.numel};
    size_t bytes = (size_t)(r.numel < ROOM ? r.numel : ROOM) * sizeof(uint64_t);
    size_t table = r.numel > ROOM ? BUCKETS * sizeof(int64_t) : 0;
    uint64_t *keys = di_alloc(run->context, bytes + table);
    if (!keys) return DISTAC_ENOMEM;
    int64_t room = (int64_t)(bytes / sizeof *keys);
    distac_status status = DISTAC_OK;
    while (status == DISTAC_OK && k.matching > room && k.bits < 64)
        status = next_digit(&r, (int64_t *)(keys + room), &k);
    if (status == DISTAC_OK && k.bits == 64)
        memcpy(threshold, &k.prefix, sizeof *threshold);
    else if (status == DISTAC_OK)
        status = collect(&r, &k, keys, room, threshold);
    di_free(run->context, keys, bytes + table);
    return status == DISTAC_OK ? find_cut(&r, rank, *threshold, cut) : status;
}
