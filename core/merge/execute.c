/* execute.c: the results of a merge, piece by piece, and the merge in memory: task vectors give a checkpoint of
 * directions; there.c does that on a device. files.c is the other way to merge, from files to files. */
#include "../backend/backend.h"
#include "there.h"
#include <stdlib.h>
#include <string.h>

/* base + lambda*d as floats, in one go; whether one of them is not finite. */
DI_CLONES static uint32_t finish_f32(int64_t n, const double *restrict base, double lambda,
                                     const double *restrict d, uint8_t *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        float value = (float)(base[i] + lambda * d[i]);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        memcpy(out + i * (int64_t)sizeof value, &value, sizeof value);
    }
    return seen >> 31;
}

DI_CLONES static uint32_t narrow_f32(int64_t n, const double *restrict d, uint8_t *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        float value = (float)d[i];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        memcpy(out + i * (int64_t)sizeof value, &value, sizeof value);
    }
    return seen >> 31;
}

DI_CLONES static void finish(int64_t n, const double *restrict base, double lambda, double *restrict d) {
    for (int64_t i = 0; i < n; i++) d[i] = base[i] + lambda * d[i];
}

bool di_run_finish_f32(int64_t n, const double *base, double lambda, const double *d, int32_t dtype, void *out) {
    if (dtype != DISTAC_F32 || (!base && lambda != 1)) return false;
    return (base ? finish_f32(n, base, lambda, d, out) : narrow_f32(n, d, out)) == 0;
}

/* D of n <= DI_STEP elements, into the lane's last row. */
static distac_status direction(di_merge_run *run, int32_t lane, const di_at *at, int64_t n, double **out) {
    double *const *rows = di_run_rows(run, lane);
    const di_method *method = run->merge->method;
    di_floats floats;
    *out = rows[run->models + 1];
    if (method->direct && !method->edit && di_run_floats(run, at->entry, at->first, n, &floats)) {
        int done = method->direct(run, at, n, &floats, rows[run->models], *out);
        if (done == DI_DIRECT_NONFINITE) return di_run_nonfinite(run, at->entry, at->first);
        if (done == DI_DIRECT_DONE) return DISTAC_OK;
    }
    if (!di_run_step(run, at->entry, at->first, n, rows)) return di_run_nonfinite(run, at->entry, at->first);
    if (method->edit) method->edit(run, at, n, rows);
    method->chunk(run, at, n, (const double *const *)rows, *out);
    return DISTAC_OK;
}

/* As many of the piece's first elements as can be merged from floats to floats; how many that are. */
static int64_t straight(di_merge_run *run, const di_piece *piece, double lambda, uint8_t *out) {
    const di_method *method = run->merge->method;
    int64_t n = piece->count - piece->count % DI_STRAIGHT;
    di_floats floats;
    bool aligned = (uintptr_t)out % 64 == 0;
    if (!method->straight || method->edit || n == 0 || (uintptr_t)out % sizeof(float) ||
        !di_run_floats(run, piece->entry, piece->first, n, &floats))
        return 0;
    float *to = (float *)(void *)out;
    return method->straight(run, n, &floats, lambda, to, aligned && run->in_memory) ? n : 0;
}

distac_status di_run_result(di_merge_run *run, int32_t lane, const di_piece *piece, const double *whole,
                            int32_t dtype, uint8_t *out) {
    double factor = run->factors[piece->entry], lambda = run->whole ? di_run_lambda(run, piece->entry) : factor;
    double *d;
    double *const *rows = di_run_rows(run, lane);
    int64_t width = distac_dtype_bytes(dtype);
    int64_t done = factor != 0 && !whole && dtype == DISTAC_F32 ? straight(run, piece, lambda, out) : 0;
    for (int64_t n; done < piece->count; done += n) {
        n = piece->count - done < DI_STEP ? piece->count - done : DI_STEP;
        int64_t first = piece->first + done;
        if (factor == 0) { /* as the base has it */
            d = rows[run->models];
            if (run->whole) di_run_base(run, piece->entry, first, n, d);
            else memset(d, 0, (size_t)n * sizeof *d);
        } else if (whole) {
            d = rows[run->models + 1];
            memcpy(d, whole + first, (size_t)n * sizeof *d);
            if (run->whole) di_run_base(run, piece->entry, first, n, rows[run->models]);
        } else {
            const di_at at = {piece->entry, first, run->first_piece[piece->entry] + first / DI_PIECE, lane};
            DI_TRY(direction(run, lane, &at, n, &d));
        }
        if (factor != 0 && run->whole && dtype == DISTAC_F32 &&
            !finish_f32(n, rows[run->models], lambda, d, out + done * width))
            continue;
        if (factor != 0 && !run->whole && lambda == 1 && dtype == DISTAC_F32 &&
            !narrow_f32(n, d, out + done * width))
            continue;
        if (factor == 0 || (!run->whole && lambda == 1))
            ;
        else if (run->whole)
            finish(n, rows[run->models], lambda, d);
        else
            for (int64_t i = 0; i < n; i++) d[i] *= lambda;
        DI_TRY(di_narrow(run->function, run->base->entries[piece->entry]->name, first, dtype, d,
                         out + done * width, n));
    }
    return DISTAC_OK;
}

size_t di_run_whole_bytes(const di_entry *entry) { return (size_t)entry->numel * sizeof(double); }

distac_status di_run_whole(di_merge_run *run, int64_t entry, double **out) {
    const di_entry *at = run->base->entries[entry];
    *out = di_alloc(run->context, di_run_whole_bytes(at));
    distac_status status = *out ? run->merge->method->tensor(run, entry, *out) : DISTAC_ENOMEM;
    if (status == DISTAC_ENOMEM) status = di_run_no_room(run, entry);
    if (status != DISTAC_OK) {
        di_free(run->context, *out, di_run_whole_bytes(at));
        *out = NULL;
    }
    return status;
}

bool di_run_takes(const di_merge_run *run, int64_t index) {
    const di_method *method = run->merge->method;
    const di_entry *entry = run->base->entries[index];
    return method->takes && di_entry_is_float(entry) && run->factors[index] != 0 && method->takes(run, entry);
}

int64_t di_run_marked(di_merge_run *run, di_piece *out) {
    int64_t count = 0;
    if (!run->marks || !run->merge->method->settle || !run->merge->method->settle(run)) return 0;
    for (int64_t i = 0; i < run->piece_count; i++)
        if (run->marks[i]) out[count++] = run->pieces[i];
    return count;
}

/* ---- in memory ---- */

typedef struct delta_job {
    di_merge_run *run;
    const di_piece *pieces;
    distac_tensor **results; /* one per entry */
    const double *whole;
} delta_job;

static distac_status delta_piece(void *arg, int32_t lane, int64_t index) {
    delta_job *job = arg;
    const di_piece *piece = &job->pieces[index];
    float *out = (float *)job->results[piece->entry]->data + piece->first;
    return di_run_result(job->run, lane, piece, job->whole, DISTAC_F32, (uint8_t *)out);
}

static distac_status make_results(const di_merge_run *run, distac_tensor **results, distac_checkpoint *out) {
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        if (!di_entry_is_float(entry)) continue;
        bool zeroed = run->factors[i] == 0;
        DI_TRY(di_tensor_new(run->context, DISTAC_F32, entry->rank, entry->shape, zeroed, &results[i]));
        DI_TRY(distac_checkpoint_set(out, entry->name, results[i]));
    }
    return DISTAC_OK;
}

/* Elementwise tensors in one parallel region, the others one after the other. */
static distac_status delta_all(delta_job *job, di_piece *plain) {
    di_merge_run *run = job->run;
    int64_t count = 0;
    for (int64_t i = 0; i < run->piece_count; i++)
        if (!di_run_takes(run, run->pieces[i].entry)) plain[count++] = run->pieces[i];
    job->pieces = plain;
    DI_TRY(di_run_lanes(run, count, delta_piece, job));
    DI_TRY(di_run_lanes(run, di_run_marked(run, plain), delta_piece, job));
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        double *whole;
        if (!di_run_takes(run, i) || entry->numel == 0) continue;
        DI_TRY(di_poll(run->context));
        di_progress(run->context, "merging", i, run->base->count);
        DI_TRY(di_run_whole(run, i, &whole));
        count = 0;
        for (int64_t k = 0; k < run->piece_count; k++)
            if (run->pieces[k].entry == i) plain[count++] = run->pieces[k];
        job->whole = whole;
        distac_status status = di_run_lanes(run, count, delta_piece, job);
        di_free(run->context, whole, di_run_whole_bytes(entry));
        DI_TRY(status);
    }
    return DISTAC_OK;
}

static distac_status delta_here(const distac_merge *merge, const char *function, int32_t n_taus,
                                distac_checkpoint *const *taus, distac_checkpoint **out) {
    di_merge_run run;
    distac_checkpoint *made = NULL;
    distac_tensor **results = NULL;
    di_piece *plain = NULL;
    distac_status status = di_run_open(&run, merge, function, false, NULL, n_taus, taus);
    run.in_memory = true;
    if (status == DISTAC_OK) {
        size_t count = (size_t)(run.base->count ? run.base->count : 1);
        results = di_new(count * sizeof *results);
        plain = di_new((size_t)(run.piece_count ? run.piece_count : 1) * sizeof *plain);
        status = results && plain ? distac_checkpoint_create(run.context, &made) : DISTAC_ENOMEM;
    }
    if (status == DISTAC_OK) status = make_results(&run, results, made);
    if (status == DISTAC_OK) {
        delta_job job = {.run = &run, .results = results};
        status = delta_all(&job, plain);
    }
    for (int64_t i = 0; results && i < run.base->count; i++) distac_tensor_release(results[i]);
    free(results);
    free(plain);
    di_run_close(&run);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(made);
        return status;
    }
    *out = made;
    return DISTAC_OK;
}

distac_status distac_merge_delta(const distac_merge *merge, int32_t n_taus, distac_checkpoint *const *taus,
                                 distac_checkpoint **out) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (!di_there_all(merge, n_taus, taus)) return delta_here(merge, __func__, n_taus, taus, out);
    bool bad = true;
    if (di_there_goes(merge)) DI_TRY(di_there_delta(merge, __func__, n_taus, taus, &bad, out));
    if (!bad) return DISTAC_OK;
    /* The host merges what the device does not, and tells which number is not finite. */
    distac_checkpoint *here;
    DI_TRY(delta_here(merge, __func__, n_taus, taus, &here));
    distac_status status = distac_checkpoint_to(here, merge->context->device->name, out);
    distac_checkpoint_release(here);
    return status;
}
