/* ties.c: TIES in its dialects. They differ in which magnitudes survive the trimming and in the sign that is
 * taken where the vote is tied:
 *   paper     exactly the int(keep*d)-th largest magnitude of all tensors is the threshold, included; a tied vote
 *             takes the majority of the elected signs
 *   authors   the (d - int(keep*d))-th smallest, included: one element more; the majority too, negative if it is
 *             zero itself (prateeky2806/ties-merging, and the repositories that copied it)
 *   mergekit  int(keep*n) elements of every tensor on its own; a tied vote is positive
 *   distac    the int((1-keep)*N)-th smallest of the elements and the frozen zeros, excluded; positive (the
 *             code released with DisTaC)
 * A look at everything comes first, for the exact thresholds, and maybe another for the majority. The majority
 * matters only where kept entries cancel exactly. So a method that can do pieces again (di_ties_desc.late) counts
 * it while it merges, with tied votes at zero, and then does those pieces again in which there was one. */
#include "elect.h"
#include "there.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct ballot {
    const di_merge_run *run;
    const di_ties *ties;
    int64_t *lead; /* of ties */
} ballot;

DI_CLONES static void count_signs(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau) {
    ballot *b = arg;
    double votes[DI_STEP];
    int64_t lead = 0;
    di_ties_votes(b->ties, b->run, at, n, tau, votes);
    for (int64_t i = 0; i < n; i++) lead += (votes[i] > 0) - (votes[i] < 0);
    b->lead[(int64_t)lane * DI_LEAD_ROOM] += lead;
}

static double sign_of(int64_t lead, bool authors) { return lead > 0 ? 1 : lead < 0 || authors ? -1 : 0; }

static void settle(di_ties *ties, int32_t lanes, bool authors) {
    int64_t lead = 0;
    for (int32_t i = 0; i < lanes; i++) lead += ties->lead[(int64_t)i * DI_LEAD_ROOM];
    ties->election.tie = sign_of(lead, authors);
}

void di_ties_rule(const di_ties *ties, const di_merge_run *run, di_merge_rule *rule, di_merge_model *each) {
    const di_election *election = &ties->election;
    rule->elects = true;
    rule->counts = election->elect == DI_ELECT_COUNT;
    rule->combine = election->combine;
    rule->tie = election->tie;
    for (int32_t t = 0; t < run->models; t++) {
        each[t].weight = election->weights ? di_value_of(election->weights, t) : 1;
        each[t].least = ties->thresholds[t];
    }
}

static distac_status elect_there(di_merge_run *run, di_ties *ties, bool authors) {
    di_merge_rule rule;
    int64_t lead = 0;
    di_merge_model *each = di_new((size_t)run->models * sizeof *each);
    if (!each) return DISTAC_ENOMEM;
    di_ties_rule(ties, run, &rule, each);
    distac_status status = di_there_lead(run, rule.counts, each, &lead);
    ties->election.tie = sign_of(lead, authors);
    free(each);
    return status;
}

static distac_status elect_majority(di_merge_run *run, di_ties *ties, bool authors) {
    if (run->there) return elect_there(run, ties, authors);
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
    return desc->keeps ? di_value_of(desc->keeps, t) : desc->keep;
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
    size_t leads = (size_t)run->lanes * DI_LEAD_ROOM;
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
    ties->fast = di_ties_is_fast(ties, run);
    if (desc->dialect == DI_TIES_DISTAC || run->models == 1) return DISTAC_OK; /* one model's votes are its own */
    if (!desc->late || !ties->fast || run->there)
        return elect_majority(run, ties, desc->dialect == DI_TIES_AUTHORS);
    ties->election.tie = 0;
    ties->open = true;
    return di_run_marks(run, &ties->tied);
}
