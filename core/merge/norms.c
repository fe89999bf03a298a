/* norms.c: what thinning out costs: the sums of magnitudes of every tensor before and after it. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>

typedef struct norms_job {
    const di_merge_run *run;
    void (*thin)(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau);
    double *sums; /* [pieces][models][2] */
} norms_job;

/* A piece is one lane's, in order: the sums do not depend on the threads. The rows are the lane's own. */
static void add_magnitudes(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau) {
    const norms_job *job = arg;
    const di_merge_run *run = job->run;
    double *sums = job->sums + at->piece * run->models * 2;
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) sums[2 * t] += fabs(tau[t][i]);
    job->thin(run, at, n, di_run_rows(run, lane));
    for (int32_t t = 0; t < run->models; t++)
        for (int64_t i = 0; i < n; i++) sums[2 * t + 1] += fabs(tau[t][i]);
}

distac_status di_run_norms(di_merge_run *run,
                           void (*thin)(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau),
                           double *factors) {
    int64_t width = 2 * (int64_t)run->models;
    size_t count = (size_t)(run->base->count ? run->base->count : 1) * (size_t)width;
    norms_job job = {run, thin,
                     di_new((size_t)(run->piece_count ? run->piece_count : 1) * (size_t)width * sizeof(double))};
    double *all = di_new(count * sizeof *all);
    distac_status status = job.sums && all ? di_run_visit(run, add_magnitudes, &job) : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < run->piece_count; i++)
        for (int64_t k = 0; k < width; k++) all[run->pieces[i].entry * width + k] += job.sums[i * width + k];
    for (int64_t i = 0; status == DISTAC_OK && i < run->base->count * run->models; i++)
        factors[i] = all[2 * i + 1] > 0 ? all[2 * i] / all[2 * i + 1] : 1;
    free(all);
    free(job.sums);
    return status;
}
