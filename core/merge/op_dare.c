/* op_dare.c: DARE: every element of a task vector is dropped with probability p, what is left is divided by 1-p;
 * then the sum (dare), or the disjoint merge of TIES without its trimming (dare_ties, as mergekit has it). Which
 * elements are dropped depends on the seed, the tensor's name, the model's place and the element's, on nothing
 * else. */
#include "ties.h"

enum { P, RESCALE, SEED, WEIGHTS, ELECT, COMBINE };
enum { PLAIN, SHARE, NORM };

/* p: 0.9 as in the authors' README (yule-BUAA/MergeLM); combine: TIES' mean, mergekit sums; rescale: norm is
 * mergekit's. */
static const di_merge_param params[] = {
    DI_NUMBERS("p", "probability that an element is dropped; one for all models or one each", 0.9, 0, 1),
    DI_CHOICE("rescale",
              "what is left is divided by 1-p (yes), or brought to the tensor's sum of magnitudes (norm)", 1, 3,
              "no yes norm"),
    DI_WHOLE("seed", "another seed drops other elements", 0, 0, 9007199254740992.0),
    DI_NUMBERS("weights", "weight of what is left of each model", 1, -1000, 1000),
    DI_CHOICE("elect", "how a sign is elected: sum of what is left, or count of its signs", 0, 2, "sum count"),
    DI_CHOICE("combine", "what becomes of the entries that agree", 0, 3, "mean sum max"),
};

static void thin(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau) {
    uint32_t drawn[DI_STEP];
    const char *name = run->base->entries[at->entry]->name;
    uint64_t seed = (uint64_t)di_run_param(run, SEED, 0);
    for (int32_t t = 0; t < run->models; t++) {
        double p = di_run_param(run, P, t), below = p * 4294967296.0;
        if (p == 0) continue;
        di_draw(seed, name, t, at->first, n, drawn);
        for (int64_t i = 0; i < n; i++) tau[t][i] = (double)drawn[i] < below ? 0.0 : tau[t][i];
    }
}

static distac_status prepare(di_merge_run *run) {
    if ((int)di_run_param(run, RESCALE, 0) != NORM) return DISTAC_OK;
    size_t tensors = (size_t)(run->base->count ? run->base->count : 1);
    double *factors = di_new(tensors * (size_t)run->models * sizeof *factors);
    if (!factors) return DISTAC_ENOMEM;
    distac_status status = di_run_norms(run, thin, factors);
    run->state = factors;
    return status;
}

static void drop(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau) {
    const double *factors = run->state;
    bool share = (int)di_run_param(run, RESCALE, 0) == SHARE;
    thin(run, at, n, tau);
    for (int32_t t = 0; t < run->models; t++) {
        double p = di_run_param(run, P, t), left = share && p < 1 ? 1 - p : 1,
               weight = di_run_param(run, WEIGHTS, t);
        if (factors) weight *= factors[at->entry * run->models + t];
        if (left != 1 || weight != 1)
            for (int64_t i = 0; i < n; i++) tau[t][i] = tau[t][i] / left * weight;
    }
}

static void sum(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    di_merge_task_arithmetic.chunk(run, at, n, tau, out);
}

static void disjoint(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    (void)at;
    const di_election election = {di_run_param(run, ELECT, 0) == 0 ? DI_ELECT_SUM : DI_ELECT_COUNT,
                                  (int)di_run_param(run, COMBINE, 0), 1,
                                  di_run_weights(run, WEIGHTS)};
    di_elect(&election, run->models, n, tau, out);
}

const di_method di_merge_dare = {
    .name = "dare",
    .text = "random elements dropped, the rest rescaled, sum (Yu et al. 2024, DARE)",
    .params = params,
    .param_count = ELECT,
    .prepare = prepare,
    .edit = drop,
    .chunk = sum,
};

const di_method di_merge_dare_ties = {
    .name = "dare_ties",
    .text = "random elements dropped, the rest rescaled, signs elected as in TIES (Yu et al. 2024, DARE)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .edit = drop,
    .chunk = disjoint,
};
