/* op_breadcrumbs.c: Model Breadcrumbs: of every row of a task vector (mergekit:
 * of every tensor) the largest magnitudes go, of the rest the largest stay. Of
 * equal magnitudes the first counts as the larger. Scalars stay as they are. */
#include "rows.h"
#include <math.h>
#include <string.h>

enum { BETA, GAMMA, ELECT, COMBINE, SCOPE, RESCALE, WEIGHTS };
enum { ROWS, TENSORS };

/* beta, gamma: where the authors' search starts (rezazzr/breadcrumbs), within the ranges that they recommend, 0.05
 * to 0.2 and 0.001 to 0.01; elect and combine: mergekit's breadcrumbs and breadcrumbs_ties. */
static const di_merge_param params[] = {
    DI_NUMBERS("beta",
               "share of a row that stays: the largest magnitudes after the outliers; for all models or one each",
               0.15, 0, 1),
    DI_NUMBERS("gamma",
               "share of a row that goes first: its outliers, the largest magnitudes; for all models or one each",
               0.006, 0, 1),
    DI_CHOICE("elect", "what counts: all that is left, what agrees with the sign of its sum, or of most", 0, 3,
              "all sum count"),
    DI_CHOICE("combine", "what becomes of the entries that count", 1, 3, "mean sum max"),
    DI_CHOICE("scope",
              "what the shares are of: rows; mergekit's tensors, with fewer outliers where beta leaves no room", 0,
              2, "row tensor"),
    DI_CHOICE("rescale", "norm: what is left is brought to the tensor's sum of magnitudes", 0, 2, "no norm"),
    DI_NUMBERS("weights", "weight of what is left of each model", 1, -1000, 1000),
};

/* The largest of a tensor: magnitudes above `bound`, and those equal to it before element `cut`. */
typedef struct bound {
    double magnitude;
    int64_t cut;
} bound;

typedef struct state {
    bound *gone, *top; /* [base->count][models]; NULL: by rows */
    double *factors;   /* that bring tensors to their norms: so, too; by rows [models], of the one being merged */
} state;

/* The k largest of a row: those above `key`, and the first `equal` of those equal to it. */
typedef struct largest {
    uint64_t key;
    int64_t equal;
} largest;

static largest find_largest(int64_t n, int64_t k, const double *row, uint64_t *keys) {
    if (k < 1) return (largest){UINT64_MAX, 0};
    for (int64_t i = 0; i < n; i++) keys[i] = di_key(row[i]);
    largest found = {di_pick(keys, n, k), k};
    for (int64_t i = 0; i < n; i++) found.equal -= di_key(row[i]) > found.key;
    return found;
}

static bool belongs(largest *set, uint64_t key) {
    return key > set->key || (key == set->key && set->equal-- > 0);
}

static void thin(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                 uint64_t *work) {
    (void)entry, (void)first;
    int64_t outliers = (int64_t)((double)n * di_run_param(run, GAMMA, t));
    int64_t both = outliers + (int64_t)((double)n * di_run_param(run, BETA, t));
    largest gone = find_largest(n, outliers, row, work), top = find_largest(n, both < n ? both : n, row, work);
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = di_key(row[i]);
        bool outlier = belongs(&gone, key), large = belongs(&top, key);
        if (outlier || !large) row[i] = 0;
    }
}

static void drop(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                 uint64_t *work) {
    const state *s = run->state;
    double factor = di_run_param(run, WEIGHTS, t) * (s->factors ? s->factors[t] : 1);
    thin(run, t, entry, first, n, row, work);
    for (int64_t i = 0; factor != 1 && i < n; i++) row[i] *= factor;
}

/* ---- whole tensors ---- */

static distac_status find_bound(di_merge_run *run, int32_t lane, int32_t t, int64_t entry, int64_t rank,
                                bound *out) {
    int64_t numel = run->base->entries[entry]->numel;
    *out = (bound){rank < 1 ? (double)INFINITY : 0, rank < 1 ? 0 : numel};
    return rank < 1 || rank >= numel ? DISTAC_OK
                                     : di_rank_entry(run, lane, t, entry, rank, &out->magnitude, &out->cut);
}

static distac_status find_bounds(void *arg, int32_t lane, int64_t index) {
    di_merge_run *run = arg;
    const state *s = run->state;
    int64_t entry = index / run->models;
    int32_t t = (int32_t)(index % run->models);
    const di_entry *at = run->base->entries[entry];
    if (!di_entry_is_float(at) || run->factors[entry] == 0) return DISTAC_OK;
    int64_t kept = (int64_t)((double)at->numel * di_run_param(run, BETA, t));
    int64_t outliers = (int64_t)((double)at->numel * di_run_param(run, GAMMA, t));
    if (outliers > at->numel - kept) outliers = at->numel - kept;
    DI_TRY(find_bound(run, lane, t, entry, outliers, &s->gone[index]));
    return find_bound(run, lane, t, entry, outliers + kept, &s->top[index]);
}

static bool within(const bound *b, double magnitude, int64_t element) {
    return magnitude > b->magnitude || (magnitude == b->magnitude && element < b->cut);
}

static void thin_chunk(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau) {
    const state *s = run->state;
    for (int32_t t = 0; t < run->models; t++) {
        const bound *gone = &s->gone[at->entry * run->models + t], *top = &s->top[at->entry * run->models + t];
        for (int64_t i = 0; i < n; i++) {
            double magnitude = fabs(tau[t][i]);
            if (within(gone, magnitude, at->first + i) || !within(top, magnitude, at->first + i)) tau[t][i] = 0;
        }
    }
}

/* Elements that chunk gets: of whole tensors, or by rows scalars. */
static void edit(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau) {
    const state *s = run->state;
    if (s->gone) thin_chunk(run, at, n, tau);
    for (int32_t t = 0; t < run->models; t++) {
        double factor = di_run_param(run, WEIGHTS, t);
        if (s->gone && s->factors) factor *= s->factors[at->entry * run->models + t];
        for (int64_t i = 0; factor != 1 && i < n; i++) tau[t][i] *= factor;
    }
}

static distac_status prepare(di_merge_run *run) {
    bool tensors = (int)di_run_param(run, SCOPE, 0) == TENSORS, norm = di_run_param(run, RESCALE, 0) != 0;
    size_t all = (size_t)(run->base->count ? run->base->count : 1) * (size_t)run->models;
    size_t count = tensors ? all : (size_t)run->models;
    state *s = run->state = di_new(sizeof *s + (tensors ? 2 * all * sizeof(bound) : 0) + count * sizeof(double));
    if (!s) return DISTAC_ENOMEM;
    char *behind = (char *)(s + 1);
    if (tensors) {
        s->gone = (bound *)(void *)behind;
        s->top = s->gone + all;
        behind = (char *)(s->top + all);
        DI_TRY(di_run_lanes(run, run->base->count * run->models, find_bounds, run));
    }
    if (!norm) return DISTAC_OK;
    if (tensors) DI_TRY(di_run_norms(run, thin_chunk, (double *)(void *)behind));
    s->factors = (double *)(void *)behind;
    return DISTAC_OK;
}

static di_election election_of(const di_merge_run *run) {
    return (di_election){(int)di_run_param(run, ELECT, 0), (int)di_run_param(run, COMBINE, 0), 1,
                         di_run_weights(run, WEIGHTS)};
}

static bool takes(const di_merge_run *run, const di_entry *entry) {
    return (int)di_run_param(run, SCOPE, 0) == ROWS && entry->rank > 0;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_election election = election_of(run);
    const state *s = run->state;
    if (s->factors) DI_TRY(di_merge_row_norms(run, entry, thin, s->factors));
    return di_merge_rows(run, entry, drop, &election, out);
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
    .prepare = prepare,
    .edit = edit,
    .chunk = chunk,
    .takes = takes,
    .tensor = tensor,
    .need = di_rows_bytes,
};
