/* gram.c: the scalar products between the models' vectors, tensor by tensor. */
#include "merge.h"
#include <stdlib.h>

typedef struct gram_job {
    const di_merge_run *run;
    bool models; /* products of the models themselves, not of the task vectors */
    int64_t width;
    double *sums; /* [pieces][width] */
} gram_job;

/* A piece is one lane's, in order: the sums do not depend on the threads. */
static void add_products(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau) {
    (void)lane;
    gram_job *job = arg;
    double *sum = job->sums + at->piece * job->width;
    const double *base = tau[job->run->models];
    for (int32_t s = 0; s < job->run->models; s++)
        for (int32_t t = s; t < job->run->models; t++, sum++) {
            double part = 0;
            if (job->models)
                for (int64_t i = 0; i < n; i++) part += (tau[s][i] + base[i]) * (tau[t][i] + base[i]);
            else
                for (int64_t i = 0; i < n; i++) part += tau[s][i] * tau[t][i];
            *sum += part;
        }
}

distac_status di_run_gram(di_merge_run *run, bool models, double **out) {
    gram_job job = {run, models, (int64_t)run->models * (run->models + 1) / 2, NULL};
    size_t row = (size_t)job.width * sizeof(double);
    job.sums = di_new((size_t)(run->piece_count ? run->piece_count : 1) * row);
    *out = di_new((size_t)(run->base->count ? run->base->count : 1) * row);
    distac_status status = job.sums && *out ? di_run_visit(run, add_products, &job) : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < run->piece_count; i++)
        for (int64_t k = 0; k < job.width; k++)
            (*out)[run->pieces[i].entry * job.width + k] += job.sums[i * job.width + k];
    free(job.sums);
    return status;
}
