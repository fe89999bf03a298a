/* rows.c: a tensor row by row: the rows of all models are read, edited and merged, many rows at once on all lanes.
 */
#include "rows.h"
#include <math.h>
#include <stdlib.h>

typedef struct row_job {
    di_merge_run *run;
    int64_t entry, length, rows, group; /* rows of one piece of work */
    di_row_edit edit;
    const di_election *election;
    double *out;
    di_row_merge merge; /* of whole rows, instead of edit and election */
    double *norms; /* [groups][models][2], sums of magnitudes before and after the edit; NULL: D is wanted */
} row_job;

/* The models' rows, the base's, work, and what di_elect is shown of the rows. */
typedef struct desk {
    double *models, *base;
    uint64_t *work;
    const double **shown;
    double *products;
} desk;

static distac_status merge_row(const row_job *job, const desk *d, int64_t row) {
    di_merge_run *run = job->run;
    int64_t n = job->length, first = row * n;
    bool fine = !run->whole || di_run_base(run, job->entry, first, n, d->base);
    for (int32_t t = 0; t < run->models && fine; t++)
        fine = di_run_load(run, t, job->entry, first, n, run->whole ? d->base : NULL, d->models + t * n);
    if (!fine) return di_run_nonfinite(run, job->entry, first);
    if (job->merge) {
        for (int32_t t = 0; t <= run->models; t++) d->shown[t] = t < run->models ? d->models + t * n : d->base;
        job->merge(run, n, d->shown, d->products, job->out + first);
        return DISTAC_OK;
    }
    double *norms = job->norms ? job->norms + row / job->group * run->models * 2 : NULL;
    for (int32_t t = 0; t < run->models; t++) {
        double *mine = d->models + t * n;
        for (int64_t i = 0; norms && i < n; i++) norms[2 * t] += fabs(mine[i]);
        job->edit(run, t, job->entry, first, n, mine, d->work);
        for (int64_t i = 0; norms && i < n; i++) norms[2 * t + 1] += fabs(mine[i]);
    }
    if (norms) return DISTAC_OK;
    for (int64_t done = 0; done < n; done += DI_STEP) {
        for (int32_t t = 0; t < run->models; t++) d->shown[t] = d->models + t * n + done;
        di_elect(job->election, run->models, n - done < DI_STEP ? n - done : DI_STEP, d->shown,
                 job->out + first + done);
    }
    return DISTAC_OK;
}

static size_t group_bytes(const di_merge_run *run, int64_t length) {
    int64_t products = (int64_t)run->models * (run->models + 1) / 2;
    return (size_t)((run->models + 1 + DI_ROW_WORK) * length + run->models + 1 + products) * sizeof(double);
}

static int64_t length_of(const di_entry *at) { return at->rank ? at->shape[at->rank - 1] : 1; }

static int64_t rows_of_group(int64_t length) { return length < DI_PIECE ? DI_PIECE / length : 1; }

static distac_status merge_group(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    row_job *job = arg;
    int64_t models = job->run->models, last = (index + 1) * job->group;
    size_t bytes = group_bytes(job->run, job->length);
    double *memory = di_alloc(job->run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    desk d = {.models = memory, .base = memory + models * job->length};
    d.work = (uint64_t *)(void *)(d.base + job->length);
    d.products = (double *)(void *)(d.work + DI_ROW_WORK * job->length);
    d.shown = (const double **)(void *)(d.products + models * (models + 1) / 2);
    distac_status status = DISTAC_OK;
    for (int64_t row = index * job->group; status == DISTAC_OK && row < last && row < job->rows; row++)
        status = merge_row(job, &d, row);
    di_free(job->run->context, memory, bytes);
    return status;
}

static int64_t groups_of(const row_job *job) { return (job->rows + job->group - 1) / job->group; }

static row_job job_of(di_merge_run *run, int64_t entry, di_row_edit edit) {
    const di_entry *at = run->base->entries[entry];
    row_job job = {.run = run, .entry = entry, .edit = edit, .length = length_of(at)};
    job.rows = job.length ? at->numel / job.length : 0;
    job.group = job.length ? rows_of_group(job.length) : 1;
    return job;
}

distac_status di_merge_rows(di_merge_run *run, int64_t entry, di_row_edit edit, const di_election *election,
                            double *out) {
    row_job job = job_of(run, entry, edit);
    job.election = election;
    job.out = out;
    return di_run_lanes(run, groups_of(&job), merge_group, &job);
}

distac_status di_merge_whole_rows(di_merge_run *run, int64_t entry, di_row_merge merge, double *out) {
    row_job job = job_of(run, entry, NULL);
    job.merge = merge;
    job.out = out;
    return di_run_lanes(run, groups_of(&job), merge_group, &job);
}

distac_status di_merge_row_norms(di_merge_run *run, int64_t entry, di_row_edit thin, double *factors) {
    row_job job = job_of(run, entry, thin);
    int64_t width = 2 * (int64_t)run->models, groups = groups_of(&job);
    job.norms = di_new((size_t)(groups ? groups : 1) * (size_t)width * sizeof(double));
    distac_status status = job.norms ? di_run_lanes(run, groups, merge_group, &job) : DISTAC_ENOMEM;
    for (int32_t t = 0; status == DISTAC_OK && t < run->models; t++) {
        double before = 0, after = 0;
        for (int64_t i = 0; i < groups; i++) {
            before += job.norms[i * width + 2 * t];
            after += job.norms[i * width + 2 * t + 1];
        }
        factors[t] = after > 0 ? before / after : 1;
    }
    free(job.norms);
    return status;
}

int64_t di_rows_bytes(const di_merge_run *run, const di_entry *entry) {
    int64_t length = length_of(entry);
    if (entry->numel == 0) return 0;
    int64_t group = rows_of_group(length), groups = (entry->numel / length + group - 1) / group;
    return (groups < run->lanes ? groups : run->lanes) * (int64_t)group_bytes(run, length);
}
