/* op_breadcrumbs.c: Model Breadcrumbs: of every row of a task vector the largest magnitudes go, of the rest the
 * largest stay. Of equal magnitudes the first counts as the larger. Scalars stay as they are. */
#include "rows.h"
#include <string.h>

enum { BETA, GAMMA, ELECT, COMBINE };

/* beta, gamma: where the authors' search starts (rezazzr/breadcrumbs), within the ranges that they recommend, 0.05 to
 * 0.2 and 0.001 to 0.01; elect and combine: mergekit's breadcrumbs and breadcrumbs_ties. */
static const di_merge_param params[] = {
    DI_NUMBER("beta", "share of a row that stays: the largest magnitudes after the outliers", 0.15, 0, 1),
    DI_NUMBER("gamma", "share of a row that goes first: its outliers, the largest magnitudes", 0.006, 0, 1),
    DI_CHOICE("elect", "what counts: all that is left, what agrees with the sign of its sum, or of most", 0, 3,
              "all sum count"),
    DI_CHOICE("combine", "what becomes of the entries that count", 1, 3, "mean sum max"),
};

static uint64_t key_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & (UINT64_MAX >> 1);
}

/* The k largest of a row: those above `key`, and the first `equal` of those equal to it. */
typedef struct largest {
    uint64_t key;
    int64_t equal;
} largest;

static largest find_largest(int64_t n, int64_t k, const double *row, uint64_t *keys) {
    if (k < 1) return (largest){UINT64_MAX, 0};
    for (int64_t i = 0; i < n; i++) keys[i] = key_of(row[i]);
    largest found = {di_pick(keys, n, k), k};
    for (int64_t i = 0; i < n; i++) found.equal -= key_of(row[i]) > found.key;
    return found;
}

static bool belongs(largest *set, uint64_t key) {
    return key > set->key || (key == set->key && set->equal-- > 0);
}

static void thin(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                 uint64_t *work) {
    (void)t, (void)entry, (void)first;
    int64_t outliers = (int64_t)((double)n * di_run_param(run, GAMMA, 0));
    int64_t both = outliers + (int64_t)((double)n * di_run_param(run, BETA, 0));
    largest gone = find_largest(n, outliers, row, work), top = find_largest(n, both < n ? both : n, row, work);
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = key_of(row[i]);
        bool outlier = belongs(&gone, key), large = belongs(&top, key);
        if (outlier || !large) row[i] = 0;
    }
}

static di_election election_of(const di_merge_run *run) {
    return (di_election){(int)di_run_param(run, ELECT, 0), (int)di_run_param(run, COMBINE, 0), 1};
}

static bool takes(const di_merge_run *run, const di_entry *entry) {
    (void)run;
    return entry->rank > 0;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_election election = election_of(run);
    return di_merge_rows(run, entry, thin, &election, out);
}

static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    (void)at;
    const di_election election = election_of(run);
    di_elect(&election, run->models, n, tau, out);
}

const di_method di_merge_breadcrumbs = {
    .name = "breadcrumbs",
    .text = "of every row outliers and small changes dropped, sum (Davari & Belilovsky 2024, Model Breadcrumbs)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = chunk,
    .takes = takes,
    .tensor = tensor,
    .need = di_rows_bytes,
};
