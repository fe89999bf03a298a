/* run.c: a merge in progress: matching the inputs, reading them as task vectors, passes over all of them. */
#define _GNU_SOURCE 1 /* madvise, mincore */
#include "merge.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- opening ---- */

static const char *label(const di_merge_run *run, int32_t t, char *buffer, size_t bytes) {
    if (t < 0 && run->base->path[0]) return run->base->path;
    if (t < 0) return run->whole ? "the base" : "task vector 1";
    if (run->inputs[t]->path[0]) return run->inputs[t]->path;
    snprintf(buffer, bytes, run->whole ? "model %d" : "task vector %d", (int)t + 1);
    return buffer;
}

/* Tensors that are left as they are need not be in the models. */
static bool merged(const void *arg, const char *name) { return di_merge_factor(arg, name) != 0; }

static distac_status match_inputs(const di_merge_run *run) {
    di_text text = {0};
    distac_status status = DISTAC_OK;
    char a[32], b[32];
    for (int32_t t = run->whole ? 0 : 1; t < run->models; t++)
        di_match_add(&text, &status, label(run, -1, a, sizeof a), run->base, label(run, t, b, sizeof b),
                     run->inputs[t], merged, run->merge);
    if (status != DISTAC_OK)
        status = di_fail_at(status, run->function, "the tensors do not fit:%s", text.bytes ? text.bytes : "");
    di_text_free(&text);
    return status;
}

static distac_status check_params(const di_merge_run *run) {
    const distac_merge *merge = run->merge;
    for (int32_t i = 0; i < merge->method->param_count; i++)
        if (merge->params[i].count != 1 && merge->params[i].count != run->models)
            return di_fail_at(DISTAC_EINVAL, run->function, "%s: %s has %d values for %d models",
                              merge->method->name, merge->method->params[i].info.name, (int)merge->params[i].count,
                              (int)run->models);
    return DISTAC_OK;
}

/* A rule that matches no tensor is a slip of the pen. */
static distac_status find_factors(di_merge_run *run) {
    const distac_merge *merge = run->merge;
    run->factors = di_new((size_t)(run->base->count ? run->base->count : 1) * sizeof *run->factors);
    if (!run->factors) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < run->base->count; i++)
        run->factors[i] = di_merge_factor(merge, run->base->entries[i]->name);
    for (int32_t r = 0; r < merge->rule_count; r++) {
        bool used = false;
        for (int64_t i = 0; i < run->base->count && !used; i++)
            used = di_entry_is_float(run->base->entries[i]) &&
                   di_glob(merge->rules[r].pattern, run->base->entries[i]->name);
        if (!used)
            return di_fail_at(DISTAC_ENOTFOUND, run->function, "no tensor matches the pattern \"%s\"; the first is \"%s\"",
                              merge->rules[r].pattern, run->base->count ? run->base->entries[0]->name : "");
    }
    return DISTAC_OK;
}

static size_t scratch_bytes(const di_merge_run *run) {
    return (size_t)run->lanes * (size_t)(run->models + 2) * DI_STEP * sizeof(double);
}

static distac_status open_inputs(di_merge_run *run) {
    size_t count = (size_t)(run->base->count ? run->base->count : 1);
    run->partner = di_new((size_t)run->models * count * sizeof *run->partner);
    run->input_bytes = di_new((size_t)run->models * sizeof *run->input_bytes);
    if (!run->partner || !run->input_bytes) return DISTAC_ENOMEM;
    DI_TRY(di_sources_open(run->base, &run->base_bytes));
    for (int32_t t = 0; t < run->models; t++) {
        DI_TRY(di_sources_open(run->inputs[t], &run->input_bytes[t]));
        for (int64_t i = 0; i < run->base->count; i++)
            run->partner[t * run->base->count + i] =
                distac_checkpoint_find(run->inputs[t], run->base->entries[i]->name);
    }
    for (int64_t i = 0; i < run->base->count; i++)
        if (di_entry_is_float(run->base->entries[i]) && run->factors[i] != 0 &&
            __builtin_add_overflow(run->elements, run->base->entries[i]->numel, &run->elements))
            return di_fail_at(DISTAC_EINVAL, run->function, "too many elements");
    DI_TRY(di_pieces(run->base->entries, run->base->count, &run->piece_count, &run->pieces));
    int64_t kept = 0;
    run->first_piece = di_new(count * sizeof *run->first_piece);
    if (!run->first_piece) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < run->piece_count; i++) {
        if (run->factors[run->pieces[i].entry] == 0) continue;
        if (run->pieces[i].first == 0) run->first_piece[run->pieces[i].entry] = kept;
        run->pieces[kept++] = run->pieces[i];
    }
    run->piece_count = kept;
    int64_t rows = (int64_t)run->lanes * (run->models + 2);
    run->rows = di_new((size_t)rows * sizeof *run->rows);
    run->scratch = run->rows ? di_alloc(run->context, scratch_bytes(run)) : NULL;
    if (!run->scratch) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < rows; i++) run->rows[i] = run->scratch + i * DI_STEP;
    return DISTAC_OK;
}

distac_status di_run_match(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                           const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs) {
    *run = (di_merge_run){.context = merge->context,
                          .merge = merge,
                          .function = function,
                          .models = models,
                          .whole = whole,
                          .base = base,
                          .inputs = inputs,
                          .lanes = merge->context->threads};
    if (run->lanes < 1) run->lanes = 1;
    if (models < 1) return di_fail_at(DISTAC_EINVAL, function, "%d models; at least 1 is wanted", (int)models);
    for (int32_t t = 0; t < models; t++)
        if (!inputs || !inputs[t]) return di_fail_at(DISTAC_EINVAL, function, "input %d is NULL", (int)t + 1);
    if (!whole) run->base = inputs[0];
    if (!run->base) return di_fail_at(DISTAC_EINVAL, function, "base is NULL");
    if (merge->method->models && models != merge->method->models)
        return di_fail_at(DISTAC_EINVAL, function, "%s: %d models; it takes %d", merge->method->name, (int)models,
                          (int)merge->method->models);
    DI_TRY(check_params(run));
    DI_TRY(find_factors(run));
    DI_TRY(match_inputs(run));
    return open_inputs(run);
}

distac_status di_run_open(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                          const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs) {
    int64_t results = 0;
    DI_TRY(di_run_match(run, merge, function, whole, base, models, inputs));
    for (int64_t i = 0; !whole && i < run->base->count; i++) /* they stay in memory, in float */
        if (di_entry_is_float(run->base->entries[i])) results += run->base->entries[i]->numel * (int64_t)sizeof(float);
    DI_TRY(di_run_fits(run, results));
    return merge->method->prepare ? merge->method->prepare(run) : DISTAC_OK;
}

void di_run_close(di_merge_run *run) {
    if (run->scratch) di_free(run->context, run->scratch, scratch_bytes(run));
    for (int32_t t = 0; run->input_bytes && t < run->models; t++) di_sources_close(&run->input_bytes[t]);
    di_sources_close(&run->base_bytes);
    free(run->input_bytes);
    free(run->rows);
    free(run->partner);
    free(run->factors);
    free(run->pieces);
    free(run->first_piece);
    free(run->marks);
    free(run->state);
}

distac_status di_run_marks(di_merge_run *run, uint8_t **out) {
    *out = run->marks = di_new((size_t)(run->piece_count ? run->piece_count : 1));
    return run->marks ? DISTAC_OK : DISTAC_ENOMEM;
}

double di_run_param(const di_merge_run *run, int32_t index, int32_t model) {
    const di_values *values = &run->merge->params[index];
    return values->values[values->count == 1 ? 0 : model];
}

const di_values *di_run_weights(const di_merge_run *run, int32_t index) {
    const di_values *values = &run->merge->params[index];
    for (int32_t i = 0; i < values->count; i++)
        if (values->values[i] != 1) return values;
    return NULL;
}

double di_run_lambda(const di_merge_run *run, int64_t entry) {
    return run->merge->params[run->merge->method->param_count].values[0] * run->factors[entry];
}

/* ---- reading ---- */

static bool is_aligned_f32(const di_entry *entry, const uint8_t *bytes) {
    return entry->type->dtype == DISTAC_F32 && (uintptr_t)bytes % sizeof(float) == 0;
}

/* Elements ahead of those being read that are asked for already: a merge reads more streams at once than the
 * processor follows by itself. */
enum { AHEAD = 256 };

/* The elements in double, whatever their type, less the base's if there is one. A number that is not finite has an
 * exponent of all ones; plus one it carries into the sign bit of the result: no branches, so this runs on vectors. */
DI_CLONES static uint64_t widen_f32(const float *restrict x, int64_t n, double *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x + i + AHEAD);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        out[i] = (double)x[i];
    }
    return seen >> 31;
}

DI_CLONES static uint64_t widen_less_f32(const float *restrict x, int64_t n, const double *restrict base,
                                         double *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x + i + AHEAD);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        out[i] = (double)x[i] - base[i];
    }
    return seen >> 31;
}

DI_CLONES static uint64_t subtract(int64_t n, const double *restrict base, double *restrict out) {
    uint64_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits;
        if (base) out[i] -= base[i];
        memcpy(&bits, &out[i], sizeof bits);
        seen |= (bits & UINT64_C(0x7ff0000000000000)) + UINT64_C(0x0010000000000000);
    }
    return seen >> 63;
}

/* True if all is finite. The base's own elements are looked at through what is left of the models' after it. */
static bool read_f64(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n, const double *base,
                     double *out) {
    const uint8_t *run = di_entry_run(entry, bytes, first, n);
    if (run && is_aligned_f32(entry, run)) {
        const float *x = (const float *)(const void *)run;
        return (base ? widen_less_f32(x, n, base, out) : widen_f32(x, n, out)) == 0;
    }
    di_entry_f64(entry, bytes, first, n, out);
    return subtract(n, base, out) == 0;
}

bool di_run_base(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *out) {
    return read_f64(run->base->entries[entry], run->base_bytes.bytes[entry], first, n, NULL, out);
}

bool di_run_load(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, const double *base,
                 double *restrict out) {
    int64_t partner = run->partner[t * run->base->count + entry];
    return read_f64(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n, base, out);
}

double *const *di_run_rows(const di_merge_run *run, int32_t lane) {
    return run->rows + (int64_t)lane * (run->models + 2);
}

bool di_run_step(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *const *rows) {
    bool fine = true;
    double *base = run->whole ? rows[run->models] : NULL;
    if (base) fine = di_run_base(run, entry, first, n, base);
    for (int32_t t = 0; t < run->models; t++) fine &= di_run_load(run, t, entry, first, n, base, rows[t]);
    return fine;
}

static const float *floats_of(const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    const uint8_t *run = di_entry_run(entry, bytes, first, n);
    return run && is_aligned_f32(entry, run) ? (const float *)(const void *)run : NULL;
}

bool di_run_floats(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, di_floats *out) {
    const char *isa = run->context->isa;
    if (n % 8 || run->models > DI_FLOATS || !isa || strcmp(isa, "avx512") != 0) return false;
    out->base = NULL;
    if (run->whole) {
        out->base = floats_of(run->base->entries[entry], run->base_bytes.bytes[entry], first, n);
        if (!out->base) return false;
    }
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        out->x[t] = floats_of(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n);
        if (!out->x[t]) return false;
    }
    return true;
}

/* Appends the tensors with numbers that are not finite: of each input the count and the first, a dozen at most. */
static void add_nonfinite(const di_merge_run *run, di_text *text) {
    int64_t tensors = 0;
    double values[DI_STEP];
    char buffer[32];
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *at = run->base->entries[i];
        if (!di_entry_is_float(at) || run->factors[i] == 0) continue;
        for (int32_t t = run->whole ? -1 : 0; t < run->models; t++) {
            int64_t count = 0, first = 0;
            for (int64_t done = 0; done < at->numel; done += DI_STEP) {
                int64_t n = at->numel - done < DI_STEP ? at->numel - done : DI_STEP;
                if (t < 0 ? di_run_base(run, i, done, n, values) : di_run_load(run, t, i, done, n, NULL, values))
                    continue;
                for (int64_t k = 0; k < n; k++)
                    if (!isfinite(values[k]) && count++ == 0) first = done + k;
            }
            if (count && ++tensors <= 12)
                di_text_add(text, "\n  %s: tensor \"%s\": %lld not finite, the first is element %lld",
                            label(run, t, buffer, sizeof buffer), at->name, (long long)count, (long long)first);
        }
    }
    if (tensors > 12) di_text_add(text, "\n  and %lld more tensors", (long long)tensors - 12);
    if (tensors < 2) di_text_free(text); /* told already */
}

static distac_status tell_nonfinite(di_merge_run *run, int64_t entry, int64_t first, const char *more);

distac_status di_run_nonfinite(di_merge_run *run, int64_t entry, int64_t first) {
    atomic_store(&run->bad_first, first);
    atomic_store(&run->bad_entry, entry + 1);
    return tell_nonfinite(run, entry, first, "");
}

static distac_status tell_nonfinite(di_merge_run *run, int64_t entry, int64_t first, const char *more) {
    const di_entry *at = run->base->entries[entry];
    char buffer[32];
    for (int64_t i = first; i < at->numel; i++) {
        double base = 0, value;
        if (run->whole) di_run_base(run, entry, i, 1, &base);
        if (!isfinite(base))
            return di_fail_at(DISTAC_ENUMERIC, run->function, "%s: tensor \"%s\", element %lld is %g%s",
                              label(run, -1, buffer, sizeof buffer), at->name, (long long)i, di_shown(base), more);
        for (int32_t t = 0; t < run->models; t++) {
            di_run_load(run, t, entry, i, 1, NULL, &value);
            if (!isfinite(value) || !isfinite(value - base))
                return di_fail_at(DISTAC_ENUMERIC, run->function, "%s: tensor \"%s\", element %lld is %g%s",
                                  label(run, t, buffer, sizeof buffer), at->name, (long long)i, di_shown(value), more);
        }
    }
    return di_fail_at(DISTAC_ENUMERIC, run->function, "tensor \"%s\" changed while it was read", at->name);
}

/* ---- reading ahead ---- */

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
        if (partner >= 0) will_need(run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n);
    }
}

void di_run_look(const di_merge_run *run, int64_t entry, int64_t first, int64_t n) {
    if (!run->prints) return;
    if (run->whole) di_prints_look(run->prints, run->base->entries[entry], run->base_bytes.bytes[entry], first, n);
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        if (partner >= 0)
            di_prints_look(run->prints, run->inputs[t]->entries[partner], run->input_bytes[t].bytes[partner], first, n);
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

/* ---- lanes ---- */

typedef struct lanes {
    di_merge_run *run;
    atomic_llong next;
    int64_t count;
    di_lane_work work;
    void *arg;
    pthread_mutex_t lock;
    int64_t failed; /* lowest index that failed, -1: none */
    distac_status status;
} lanes;

static void lane_task(void *arg, int64_t lane) {
    lanes *l = arg;
    for (;;) {
        int64_t index = atomic_fetch_add(&l->next, 1);
        if (index >= l->count || atomic_load(&l->run->context->cancel)) return;
        distac_status status = l->work(l->arg, (int32_t)lane, index);
        if (status == DISTAC_OK) continue;
        pthread_mutex_lock(&l->lock);
        if (l->failed < 0 || index < l->failed) {
            l->failed = index;
            l->status = status;
        }
        pthread_mutex_unlock(&l->lock);
    }
}

distac_status di_run_lanes(di_merge_run *run, int64_t count, di_lane_work work, void *arg) {
    lanes l = {.run = run, .count = count, .work = work, .arg = arg, .failed = -1, .status = DISTAC_OK};
    atomic_init(&l.next, 0);
    if (pthread_mutex_init(&l.lock, NULL)) return di_fail_at(DISTAC_ENOMEM, run->function, "no mutex");
    di_parallel(run->context, run->lanes, lane_task, &l);
    pthread_mutex_destroy(&l.lock);
    DI_TRY(di_poll(run->context));
    if (l.failed < 0) return DISTAC_OK;
    /* Which lane met the failure first is chance: the lowest index is asked again, for its text. */
    atomic_store(&run->bad_entry, 0);
    distac_status status = l.work(l.arg, 0, l.failed);
    int64_t bad = atomic_load(&run->bad_entry);
    if (bad > 0 && status == DISTAC_ENUMERIC) { /* it fails anyway: now all of them are told */
        di_text more = {0};
        add_nonfinite(run, &more);
        status = tell_nonfinite(run, bad - 1, atomic_load(&run->bad_first), more.bytes ? more.bytes : "");
        di_text_free(&more);
    }
    return status != DISTAC_OK ? status : l.status;
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
            if (!job->direct(job->arg, lane, &at, n, &floats)) return di_run_nonfinite(job->run, at.entry, at.first);
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
