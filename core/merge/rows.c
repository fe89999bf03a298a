/* rows.c: a tensor row by row: the rows of all models are read, edited and merged, many rows at once on all lanes.
 */
#include "rows.h"

typedef struct row_job {
    di_merge_run *run;
    int64_t entry, length, rows, group; /* rows of one piece of work */
    di_row_edit edit;
    const di_election *election;
    double *out;
} row_job;

/* The models' rows, the base's, work, and what di_elect is shown of the rows. */
typedef struct desk {
    double *models, *base;
    uint64_t *work;
    const double **shown;
} desk;

static distac_status merge_row(const row_job *job, const desk *d, int64_t row) {
    di_merge_run *run = job->run;
    int64_t n = job->length, first = row * n;
    bool fine = !run->whole || di_run_base(run, job->entry, first, n, d->base);
    for (int32_t t = 0; t < run->models && fine; t++)
        fine = di_run_load(run, t, job->entry, first, n, run->whole ? d->base : NULL, d->models + t * n);
    if (!fine) return di_run_nonfinite(run, job->entry, first);
    for (int32_t t = 0; t < run->models; t++) job->edit(run, t, job->entry, first, n, d->models + t * n, d->work);
    for (int64_t done = 0; done < n; done += DI_STEP) {
        for (int32_t t = 0; t < run->models; t++) d->shown[t] = d->models + t * n + done;
        di_elect(job->election, run->models, n - done < DI_STEP ? n - done : DI_STEP, d->shown,
                 job->out + first + done);
    }
    return DISTAC_OK;
}

static size_t group_bytes(const di_merge_run *run, int64_t length) {
    return (size_t)((run->models + 1 + DI_ROW_WORK) * length + run->models) * sizeof(double);
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
    d.shown = (const double **)(void *)(d.work + DI_ROW_WORK * job->length);
    distac_status status = DISTAC_OK;
    for (int64_t row = index * job->group; status == DISTAC_OK && row < last && row < job->rows; row++)
        status = merge_row(job, &d, row);
    di_free(job->run->context, memory, bytes);
    return status;
}

distac_status di_merge_rows(di_merge_run *run, int64_t entry, di_row_edit edit, const di_election *election,
                            double *out) {
    const di_entry *at = run->base->entries[entry];
    row_job job = {.run = run, .entry = entry, .edit = edit, .election = election, .out = out};
    job.length = length_of(at);
    if (at->numel == 0) return DISTAC_OK;
    job.rows = at->numel / job.length;
    job.group = rows_of_group(job.length);
    return di_run_lanes(run, (job.rows + job.group - 1) / job.group, merge_group, &job);
}

int64_t di_rows_bytes(const di_merge_run *run, const di_entry *entry) {
    int64_t length = length_of(entry);
    if (entry->numel == 0) return 0;
    int64_t group = rows_of_group(length), groups = (entry->numel / length + group - 1) / group;
    return (groups < run->lanes ? groups : run->lanes) * (int64_t)group_bytes(run, length);
}
