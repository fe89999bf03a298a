/* visit.c: looks at all elements of all inputs, piece by piece, with the system asked for what comes next. */
#define _GNU_SOURCE 1 /* madvise, mincore */
#include "merge.h"
#include <sys/mman.h>
#include <unistd.h>

/* Asks the system for the bytes of these elements if they are not in memory: a cold file is read in long stretches
 * while what lies before is worked on. Only the first page is looked at, whether it is there. */
static void will_need(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    const uint8_t *begin = entry->mapping ? di_entry_run(entry, bytes, first, n) : NULL;
    if (!begin || n < 1) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)begin / page * page;
    unsigned char there = 0;
    if (mincore((void *)from, page, &there) == 0 && (there & 1)) return;
    size_t width = (size_t)entry->type->bits / 8;
    (void)madvise((void *)from, (uintptr_t)begin - from + (size_t)n * width, MADV_WILLNEED);
}

void di_run_ahead(const di_merge_run *run, int64_t entry, int64_t first, int64_t n) {
    if (run->whole) will_need(run->base->entries[entry], run->base_bytes.bytes[entry], first, n);
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        if (partner >= 0)
            will_need(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n);
    }
}

void di_run_look(const di_merge_run *run, int64_t entry, int64_t first, int64_t n) {
    if (!run->prints) return;
    if (run->whole) di_prints_look(run->prints, run->base->entries[entry], run->base_bytes.bytes[entry], first, n);
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        if (partner >= 0)
            di_prints_look(run->prints, run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner],
                           first, n);
    }
}

/* Pieces first..first+count-1; those of one tensor are asked for together. */
static void pieces_ahead(const di_merge_run *run, int64_t first, int64_t count) {
    int64_t end = first + count < run->piece_count ? first + count : run->piece_count;
    for (int64_t i = first; i < end;) {
        const di_piece *piece = &run->pieces[i];
        int64_t n = 0;
        for (; i < end && run->pieces[i].entry == piece->entry; i++) n += run->pieces[i].count;
        di_run_ahead(run, piece->entry, piece->first, n);
    }
}

typedef struct visit_job {
    di_merge_run *run;
    di_visit visit;
    di_visit_direct direct; /* or NULL */
    void *arg;
} visit_job;

static distac_status visit_piece(void *arg, int32_t lane, int64_t index) {
    visit_job *job = arg;
    const di_piece *piece = &job->run->pieces[index];
    double *const *rows = di_run_rows(job->run, lane);
    if (index == 0) pieces_ahead(job->run, 0, 2 * DI_AHEAD);
    else if (index % DI_AHEAD == 0) pieces_ahead(job->run, index + DI_AHEAD, DI_AHEAD);
    di_run_look(job->run, piece->entry, piece->first, piece->count);
    for (int64_t done = 0; done < piece->count; done += DI_STEP) {
        int64_t n = piece->count - done < DI_STEP ? piece->count - done : DI_STEP;
        const di_at at = {piece->entry, piece->first + done, index, lane};
        di_floats floats;
        if (job->direct && di_run_floats(job->run, piece->entry, at.first, n, &floats)) {
            if (!job->direct(job->arg, lane, &at, n, &floats))
                return di_run_nonfinite(job->run, at.entry, at.first);
            continue;
        }
        if (!di_run_step(job->run, piece->entry, at.first, n, rows))
            return di_run_nonfinite(job->run, at.entry, at.first);
        job->visit(job->arg, lane, &at, n, (const double *const *)rows);
    }
    return DISTAC_OK;
}

distac_status di_run_visit(di_merge_run *run, di_visit visit, void *arg) {
    return di_run_visit_direct(run, visit, NULL, arg);
}

distac_status di_run_visit_direct(di_merge_run *run, di_visit visit, di_visit_direct direct, void *arg) {
    visit_job job = {run, visit, direct, arg};
    return di_run_lanes(run, run->piece_count, visit_piece, &job);
}
