/* whole.c: what the operators on whole matrices share: reading a
 * task vector, summing them, matrices in memory seen as slices. */
#include "spectral.h"
#include <string.h>

enum { RUN = 512 };               /* elements read at once */
enum { PART = 1 << 16 };          /* elements summed by one task */

bool di_whole_takes(const di_merge_run *run, const di_entry *entry) {
    (void)run;
    return entry->rank == 2;
}

void di_whole_mean(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    di_merge_average.chunk(run, at, n, tau, out);
}

void di_whole_mean_rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    di_merge_average.rule(run, entry, out, each);
}

bool di_whole_load(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, double *out) {
    double base[RUN];
    for (int64_t done = 0; done < n; done += RUN) {
        int64_t some = n - done < RUN ? n - done : RUN;
        if (run->whole && !di_run_base(run, entry, first + done, some, base)) return false;
        if (!di_run_load(run, t, entry, first + done, some, run->whole ? base : NULL, out + done)) return false;
    }
    return true;
}

typedef struct sum_job {
    di_merge_run *run;
    int64_t entry;
    double *out;
} sum_job;

static distac_status sum_part(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    sum_job *j = arg;
    int64_t numel = j->run->base->entries[j->entry]->numel,
            end = (index + 1) * PART < numel ? (index + 1) * PART : numel;
    double part[RUN];
    for (int64_t first = index * PART; first < end; first += RUN) {
        int64_t n = end - first < RUN ? end - first : RUN;
        memset(j->out + first, 0, (size_t)n * sizeof *part);
        for (int32_t t = 0; t < j->run->models; t++) {
            if (!di_whole_load(j->run, t, j->entry, first, n, part))
                return di_run_nonfinite(j->run, j->entry, first);
            for (int64_t i = 0; i < n; i++) j->out[first + i] += part[i];
        }
    }
    return DISTAC_OK;
}

distac_status di_whole_sum(di_merge_run *run, int64_t entry, double *out) {
    sum_job j = {run, entry, out};
    return di_run_lanes(run, (run->base->entries[entry]->numel + PART - 1) / PART, sum_part, &j);
}

static bool load_held(void *arg, int64_t first, int64_t count, double *out) {
    const di_held *h = arg;
    if (h->p <= h->q) {
        memcpy(out, h->x + first * h->p, (size_t)(count * h->p) * sizeof *out);
        return true;
    }
    for (int64_t i = 0; i < h->q; i++)
        memcpy(out + i * count, h->x + i * h->p + first, (size_t)count * sizeof *out);
    return true;
}

di_slices di_held_slices(di_held *h) {
    bool turned = h->p > h->q;
    return (di_slices){turned ? h->q : h->p, turned ? h->p : h->q, turned, load_held, h};
}

void di_transpose(int64_t p, int64_t q, const double *x, double *y) {
    enum { TILE = 32 };
    for (int64_t j0 = 0; j0 < q; j0 += TILE)
        for (int64_t i0 = 0; i0 < p; i0 += TILE)
            for (int64_t j = j0; j < q && j < j0 + TILE; j++)
                for (int64_t i = i0; i < p && i < i0 + TILE; i++) y[i * q + j] = x[j * p + i];
}
