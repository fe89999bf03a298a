/* op_ties.c: TIES merging: trim each task vector to its largest magnitudes, elect a sign per element, merge the
 * entries that agree with it. */
#include "ties.h"

enum { KEEP, DIALECT, ELECT, COMBINE, FROZEN, WEIGHTS };

/* keep: Yadav et al. 2023, section 5; in the authors' code K = 20. */
static const di_merge_param params[] = {
    DI_NUMBERS("keep",
               "share of the elements kept: those with the largest magnitudes; one for all models or one each",
               0.2, 0, 1),
    DI_CHOICE("dialect", "which implementation's thresholds and tied votes; mergekit trims tensor by tensor", 0, 4,
              "paper authors mergekit distac"),
    DI_CHOICE("elect", "how a sign is elected: sum of the kept entries, or count of their signs", 0, 2,
              "sum count"),
    DI_CHOICE("combine", "what becomes of the entries that agree", 0, 3, "mean sum max"),
    DI_WHOLE("frozen_zeros", "elements that no model changed and that the distac dialect's share counts in", 0, 0,
             9007199254740992.0),
    DI_NUMBERS("weights", "weight of what is left of each model, in the votes and in the mean", 1, -1000, 1000),
};

static distac_status prepare(di_merge_run *run) {
    const di_ties_desc desc = {.keeps = &run->merge->params[KEEP],
                               .weights = di_run_weights(run, WEIGHTS),
                               .dialect = (int)di_run_param(run, DIALECT, 0),
                               .elect = di_run_param(run, ELECT, 0) == 0 ? DI_ELECT_SUM : DI_ELECT_COUNT,
                               .combine = (int)di_run_param(run, COMBINE, 0),
                               .frozen = (int64_t)di_run_param(run, FROZEN, 0),
                               .late = true};
    di_ties *ties = NULL;
    if (desc.frozen > 0 && desc.dialect != DI_TIES_DISTAC)
        return di_fail_at(DISTAC_EINVAL, run->function,
                          "ties: frozen_zeros is %lld; only the distac dialect counts them",
                          (long long)desc.frozen);
    distac_status status = di_ties_open(run, &desc, &ties);
    run->state = ties;
    return status;
}

static bool settle(di_merge_run *run) {
    return di_ties_settle(run->state, run, (int)di_run_param(run, DIALECT, 0));
}

static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    di_ties_chunk(run->state, run, at, n, tau, out);
}

static int direct(const di_merge_run *run, const di_at *at, int64_t n, const di_floats *floats, double *base,
                  double *out) {
    return di_ties_direct(run->state, run, at, n, floats, base, out);
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)entry;
    di_ties_rule(run->state, run, out, each);
}

/* mergekit ranks every tensor of every model on its own. */
static bool goes_there(const distac_merge *merge) {
    return merge->params[DIALECT].values[0] != DI_TIES_MERGEKIT;
}

const di_method di_merge_ties = {
    .name = "ties",
    .text = "trim, elect signs, mean of what agrees (Yadav et al. 2023, TIES-Merging)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .direct = direct,
    .settle = settle,
    .rule = rule,
    .goes_there = goes_there,
};
