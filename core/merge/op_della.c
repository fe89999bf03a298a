/* op_della.c: DELLA: elements are dropped at random, the smaller in their row the likelier: the element of rank r
 * of n stays with probability density - epsilon + 2 epsilon (r-1)/(n-1) and is divided by it; then signs are
 * elected and what agrees is summed (mergekit's della; elect = all: its della_linear). Of equal magnitudes the
 * first has the lower rank. */
#include "rows.h"
#include <string.h>

enum { DENSITY, EPSILON, RESCALE, SEED, ELECT, COMBINE, WEIGHTS };
enum { PLAIN, SHARE, NORM };
enum { DIGIT = 11, BUCKETS = 1 << DIGIT };

/* epsilon: mergekit's default; density: the middle, the paper searches it and mergekit keeps everything by
 * default. */
static const di_merge_param params[] = {
    DI_NUMBERS("density", "mean share that stays; one for all models or one each", 0.5, 0, 1),
    DI_NUMBER("epsilon", "how far the probability goes up and down from density with the rank", 0.15, 0, 0.5),
    DI_CHOICE("rescale",
              "what is left is divided by its probability to stay (yes), or brought to the tensor's sum of "
              "magnitudes (norm)",
              1, 3, "no yes norm"),
    DI_WHOLE("seed", "another seed drops other elements", 0, 0, 9007199254740992.0),
    DI_CHOICE("elect", "what counts: all that is left, what agrees with the sign of its sum, or of most", 1, 3,
              "all sum count"),
    DI_CHOICE("combine", "what becomes of the entries that count", 1, 3, "mean sum max"),
    DI_NUMBERS("weights", "weight of what is left of each model", 1, -1000, 1000),
};

static distac_status prepare(di_merge_run *run) {
    double epsilon = di_run_param(run, EPSILON, 0);
    for (int32_t t = 0; t < run->models; t++) {
        double density = di_run_param(run, DENSITY, t);
        if (density > 0 && density < 1 && (density + epsilon >= 1 || density - epsilon <= 0))
            return di_fail_at(DISTAC_EINVAL, run->function,
                              "della: density %g and epsilon %g; density +- epsilon must lie between 0 and 1",
                              density, epsilon);
    }
    run->state = di_new((size_t)run->models * sizeof(double)); /* what brings each model's tensor to its norm */
    return run->state ? DISTAC_OK : DISTAC_ENOMEM;
}

/* Places in the order of their magnitudes, the smallest first: digit by digit, from the lowest. */
static uint64_t *sort_places(int64_t n, const double *row, uint64_t *keys, uint64_t *places, uint64_t *spare) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(&keys[i], &row[i], sizeof keys[i]);
        keys[i] &= UINT64_MAX >> 1;
        places[i] = (uint64_t)i;
    }
    for (int shift = 0; shift < 64; shift += DIGIT) {
        int64_t starts[BUCKETS] = {0}, start = 0;
        for (int64_t i = 0; i < n; i++) starts[keys[i] >> shift & (BUCKETS - 1)]++;
        if (starts[keys[0] >> shift & (BUCKETS - 1)] == n) continue; /* all alike: f32 changes have many zeros */
        for (int64_t b = 0; b < BUCKETS; b++) {
            int64_t count = starts[b];
            starts[b] = start;
            start += count;
        }
        for (int64_t i = 0; i < n; i++) spare[starts[keys[places[i]] >> shift & (BUCKETS - 1)]++] = places[i];
        uint64_t *sorted = spare;
        spare = places;
        places = sorted;
    }
    return places;
}

/* divide: by the probability to stay. */
static void thin_row(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                     uint64_t *work, bool divide) {
    double density = di_run_param(run, DENSITY, t), epsilon = di_run_param(run, EPSILON, 0);
    if (density >= 1) return;
    if (density <= 0) {
        memset(row, 0, (size_t)n * sizeof *row);
        return;
    }
    uint64_t *keys = work, *places = sort_places(n, row, keys, work + n, work + 2 * n);
    double *stays = (double *)(void *)(work + 3 * n);
    for (int64_t r = 0; r < n; r++) {
        double height = n > 1 ? (double)r / (double)(n - 1) : 0.5;
        stays[places[r]] = density - epsilon + height * 2 * epsilon;
    }
    for (int64_t done = 0; done < n; done += DI_STEP) {
        uint32_t drawn[DI_STEP];
        int64_t count = n - done < DI_STEP ? n - done : DI_STEP;
        di_draw((uint64_t)di_run_param(run, SEED, 0), run->base->entries[entry]->name, t, first + done, count,
                drawn);
        for (int64_t i = 0; i < count; i++) {
            double p = stays[done + i], value = row[done + i];
            row[done + i] = (double)drawn[i] < p * 4294967296.0 ? divide ? value / p : value : 0.0;
        }
    }
}

static void thin(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                 uint64_t *work) {
    thin_row(run, t, entry, first, n, row, work, false);
}

static void drop(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *row,
                 uint64_t *work) {
    int rescale = (int)di_run_param(run, RESCALE, 0);
    double factor = di_run_param(run, WEIGHTS, t) * (rescale == NORM ? ((const double *)run->state)[t] : 1);
    thin_row(run, t, entry, first, n, row, work, rescale == SHARE);
    for (int64_t i = 0; factor != 1 && i < n; i++) row[i] *= factor;
}

static bool takes(const di_merge_run *run, const di_entry *entry) {
    (void)run, (void)entry;
    return true;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_election election = {(int)di_run_param(run, ELECT, 0), (int)di_run_param(run, COMBINE, 0), 1,
                                  di_run_weights(run, WEIGHTS)};
    if ((int)di_run_param(run, RESCALE, 0) == NORM) DI_TRY(di_merge_row_norms(run, entry, thin, run->state));
    return di_merge_rows(run, entry, drop, &election, out);
}

const di_method di_merge_della = {
    .name = "della",
    .text = "elements dropped at random by their rank in the row, signs elected, sum (Deep et al. 2024, DELLA)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .takes = takes,
    .tensor = tensor,
    .need = di_rows_bytes,
};
