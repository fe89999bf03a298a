/* stream.c: a merge whose arithmetic the caller does. The merged tensors are cut into chunks in the order of the
 * file; a batch of chunks is shown to the caller one after the other. Between two batches, on all threads, the results
 * of the one are rounded and the inputs of the other read, while the bytes of the batch before are written. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 4096,    /* elements: ten rows of a chunk stay in the second cache */
    PER_LANE = 4,    /* slots of a batch */
    PAD = 8,         /* doubles between rows: callers may count from one */
    CHUNK_MAX = 1 << 20,
    WINDOW = 1 << 20 /* elements: files are asked for this many ahead */
};

typedef enum { NOTHING, SHOWN, GIVEN, KEPT, BYTES } kind;

/* A chunk in a slot: SHOWN to the caller, GIVEN by a whole tensor, KEPT as the base has it, or BYTES of the base. */
typedef struct slot {
    kind kind;
    int64_t entry, first, count;
    bool turned;
    size_t at; /* where its result lies in the batch's bytes, or in those of a tensor that is turned afterwards */
} slot;

/* What is gone through, one after the other: to files the output's tensors, in memory the entries. */
typedef struct unit {
    int64_t entry, first, numel;
    bool turned;
} unit;

struct distac_merge_stream {
    atomic_int refs;
    di_merge_run run;
    bool open, whole_tensors;
    distac_merge *merge;
    const distac_checkpoint *base; /* NULL: none */
    di_inputs inputs;
    di_sources base_bytes; /* of a base beside task vectors */
    di_written written;    /* to files */
    int64_t at, first;     /* the cursor: unit, element of it */
    uint8_t *turning;      /* a tensor that lies transposed in the file, then as it lies there */
    size_t turning_bytes;
    distac_checkpoint *made;
    distac_tensor **results;
    int64_t chunk, slots;
    slot *now, *next;
    int64_t current, count, next_count; /* of `now`: the one shown, all; of `next`: all */
    double *rows;
    size_t rows_bytes, batch_bytes, filled, full;
    uint8_t *fill, *write; /* bytes of the batch that is being rounded; of the one before */
    const distac_tensor *given; /* the result that is being put, contiguous */
    int64_t given_entry;
    bool ended, waits, failed;  /* waits: a whole tensor is to be put */
};

static int32_t row_count(const distac_merge_stream *s) { return s->run.models + 2; }

static double *row(const distac_merge_stream *s, int64_t at, int32_t index) {
    return s->rows + PAD + (at * row_count(s) + index) * (s->chunk + PAD);
}

static int64_t unit_count(const distac_merge_stream *s) {
    return s->written.order ? s->written.targets.count : s->run.base->count;
}

static unit unit_at(const distac_merge_stream *s, int64_t at) {
    if (!s->written.order) return (unit){at, 0, s->run.base->entries[at]->numel, false};
    const di_target *t = &s->written.targets.list[s->written.order[at]];
    return (unit){t->entry, t->first, t->numel, t->turned};
}

static const di_file_type *type_of(const distac_merge_stream *s, int64_t entry) {
    return s->written.items[s->written.item_of[entry]].type;
}

/* ---- one slot ---- */

static bool has_base(const distac_merge_stream *s) { return s->run.whole || s->base; }

static bool load_base(const distac_merge_stream *s, const slot *c, double *out) {
    if (s->run.whole) return di_run_base(&s->run, c->entry, c->first, c->count, out);
    int64_t index = distac_checkpoint_find(s->base, s->run.base->entries[c->entry]->name);
    di_entry_f64(s->base->entries[index], s->base_bytes.bytes[index], c->first, c->count, out);
    return true;
}

static distac_status load(distac_merge_stream *s, int64_t at) {
    const slot *c = &s->next[at];
    int32_t models = s->run.models;
    bool fine = true;
    double *base = NULL;
    if (c->kind == NOTHING || c->kind == BYTES || (c->kind == KEPT && !s->run.whole)) return DISTAC_OK;
    if (has_base(s)) {
        fine = load_base(s, c, row(s, at, models));
        if (s->run.whole) base = row(s, at, models);
    }
    if (c->kind == KEPT) return DISTAC_OK; /* whatever it is */
    if (c->kind == GIVEN)
        di_to_f64(s->given->dtype, (const uint8_t *)s->given->data + c->first * distac_dtype_bytes(s->given->dtype),
                  row(s, at, models + 1), c->count);
    for (int32_t t = 0; c->kind == SHOWN && t < models; t++)
        fine &= di_run_load(&s->run, t, c->entry, c->first, c->count, base, row(s, at, t));
    return fine ? DISTAC_OK : di_run_nonfinite(&s->run, c->entry, c->first);
}

/* base + lambda*D, or D, of a slot, to the batch's bytes or the tensor in memory. */
static distac_status store(distac_merge_stream *s, int64_t at) {
    slot *c = &s->now[at];
    const di_entry *entry = s->run.base->entries[c->entry];
    double *base = row(s, at, s->run.models), *d = row(s, at, s->run.models + 1);
    if (c->kind == NOTHING || (c->kind == KEPT && !s->run.whole)) return DISTAC_OK; /* made as zeros */
    uint8_t *bytes = c->turned ? s->turning + s->turning_bytes / 2 : s->fill;
    if (c->kind == BYTES) {
        memcpy(bytes + c->at, s->run.base_bytes.bytes[c->entry] + c->first, (size_t)c->count);
        c->kind = NOTHING;
        return DISTAC_OK;
    }
    for (int64_t i = 0; c->kind != KEPT && i < c->count; i++)
        if (!isfinite(d[i]))
            return di_fail_at(DISTAC_ENUMERIC, s->run.function, "the result for \"%s\", element %lld is %g",
                              entry->name, (long long)(c->first + i), di_shown(d[i]));
    double lambda = s->run.whole ? di_run_lambda(&s->run, c->entry) : s->run.factors[c->entry];
    if (c->kind == KEPT)
        d = base;
    else if (s->run.whole)
        for (int64_t i = 0; i < c->count; i++) d[i] = base[i] + lambda * d[i];
    else
        for (int64_t i = 0; i < c->count && lambda != 1; i++) d[i] *= lambda;
    int32_t dtype = s->run.whole ? type_of(s, c->entry)->dtype : DISTAC_F32;
    void *out = s->run.whole ? (void *)(bytes + c->at) : (float *)s->results[c->entry]->data + c->first;
    DI_TRY(di_narrow(s->run.function, entry->name, c->first, dtype, d, out, c->count));
    c->kind = NOTHING; /* asked again after a failure of another, it has nothing to do */
    return DISTAC_OK;
}

static distac_status turn_work(void *arg, int32_t lane, int64_t index) {
    distac_merge_stream *s = arg;
    (void)lane;
    if (index == 0) return s->full ? di_output_put(s->written.output, s->write, s->full) : DISTAC_OK;
    if (index - 1 < s->count) DI_TRY(store(s, index - 1));
    return index - 1 < s->next_count ? load(s, index - 1) : DISTAC_OK;
}

/* ---- batches ---- */

static kind kind_of(const distac_merge_stream *s, int64_t entry) {
    if (!di_entry_is_float(s->run.base->entries[entry])) return s->run.whole ? BYTES : NOTHING;
    if (s->run.factors[entry] == 0) return KEPT;
    return s->whole_tensors ? GIVEN : SHOWN;
}

/* Fills `next` from the cursor, to a tensor that the caller has to put at most. A tensor that is turned has batches of its
 * own. */
static void plan(distac_merge_stream *s) {
    s->next_count = 0;
    while (s->at < unit_count(s) && s->next_count < s->slots) {
        unit u = unit_at(s, s->at);
        const di_entry *e = s->run.base->entries[u.entry];
        kind what = kind_of(s, u.entry);
        int64_t total = what == BYTES ? di_type_bytes(e->type, u.numel) : u.numel, left = total - s->first;
        int64_t from = (what == BYTES ? di_type_bytes(e->type, u.first) : u.first) + s->first;
        if (what == NOTHING || left == 0) {
            s->at++;
            s->first = 0;
            continue;
        }
        if (what == GIVEN && (!s->given || s->given_entry != u.entry)) break;
        if (s->next_count && s->next[s->next_count - 1].turned != u.turned) break;
        int64_t n = left < s->chunk ? left : s->chunk;
        if (what == SHOWN && (s->first == 0 || s->first / WINDOW != (s->first - 1) / WINDOW))
            di_run_ahead(&s->run, u.entry, from, left < 2 * WINDOW ? left : 2 * WINDOW);
        s->next[s->next_count++] = (slot){what, u.entry, from, n, u.turned, 0};
        s->first += n;
        if (s->first < total || !(what == GIVEN || u.turned)) continue;
        s->at++;
        s->first = 0;
        break;
    }
}

/* Places of the results of the batch that was shown. */
static distac_status place_results(distac_merge_stream *s) {
    s->filled = 0;
    for (int64_t i = 0; i < s->count; i++) {
        slot *c = &s->now[i];
        if (!s->run.whole) continue;
        size_t width = c->kind == BYTES ? 1u : (size_t)type_of(s, c->entry)->bits / 8;
        c->at = c->turned ? (size_t)c->first * width : s->filled;
        if (!c->turned) s->filled += (size_t)c->count * width;
        if (!c->turned || s->turning) continue;
        s->turning_bytes = 2 * (size_t)di_type_bytes(type_of(s, c->entry), s->run.base->entries[c->entry]->numel);
        s->turning = di_alloc(s->run.context, s->turning_bytes);
        if (!s->turning) return DISTAC_ENOMEM;
    }
    return DISTAC_OK;
}

/* A turned tensor whose last chunk was stored follows what is written. */
static distac_status write_turned(distac_merge_stream *s) {
    if (!s->turning || !s->count) return DISTAC_OK;
    const slot *c = &s->now[s->count - 1];
    const di_entry *e = s->run.base->entries[c->entry];
    size_t half = s->turning_bytes / 2, width = (size_t)type_of(s, c->entry)->bits / 8;
    if (c->at + (size_t)c->count * (di_entry_is_float(e) ? width : 1) < half) return DISTAC_OK;
    di_turn(s->turning + half, e->shape[0], e->shape[1], width, s->turning);
    distac_status status = di_output_put(s->written.output, s->turning, half);
    di_free(s->run.context, s->turning, s->turning_bytes);
    s->turning = NULL;
    return status;
}

/* Stores the batch that was shown, reads the next, writes the one before. */
static distac_status turn(distac_merge_stream *s) {
    if (s->failed) return di_fail_at(DISTAC_ESTATE, s->run.function, "the merge has failed before");
    s->failed = true; /* until this is done */
    DI_TRY(place_results(s));
    plan(s);
    int64_t most = s->count > s->next_count ? s->count : s->next_count;
    DI_TRY(di_run_lanes(&s->run, most + 1, turn_work, s));
    DI_TRY(write_turned(s));
    uint8_t *bytes = s->write;
    s->write = s->fill;
    s->fill = bytes;
    s->full = s->filled;
    slot *slots = s->now;
    s->now = s->next;
    s->next = slots;
    s->count = s->next_count;
    s->current = -1;
    s->failed = false;
    di_progress(s->run.context, "merging", s->at, unit_count(s));
    return DISTAC_OK;
}

/* ---- opening and closing ---- */

static distac_status make_results(distac_merge_stream *s) {
    int64_t count = s->run.base->count;
    s->results = di_new((size_t)(count ? count : 1) * sizeof *s->results);
    if (!s->results) return DISTAC_ENOMEM;
    DI_TRY(distac_checkpoint_create(s->run.context, &s->made));
    for (int64_t i = 0; i < count; i++) {
        const di_entry *e = s->run.base->entries[i];
        if (!di_entry_is_float(e)) continue;
        DI_TRY(di_tensor_new(s->run.context, DISTAC_F32, e->rank, e->shape, s->run.factors[i] == 0, &s->results[i]));
        DI_TRY(distac_checkpoint_set(s->made, e->name, s->results[i]));
    }
    return DISTAC_OK;
}

/* A base beside task vectors has all their tensors. */
static distac_status open_base(distac_merge_stream *s) {
    if (s->run.whole || !s->base) return DISTAC_OK;
    DI_TRY(di_match(s->run.function, "task vector 1", s->run.base, "the base", s->base));
    return di_sources_open(s->base, &s->base_bytes);
}

static distac_status make_buffers(distac_merge_stream *s, int64_t chunk) {
    s->whole_tensors = chunk < 0;
    s->chunk = chunk <= 0 ? CHUNK : chunk;
    s->slots = (int64_t)s->run.lanes * PER_LANE;
    s->rows_bytes = (size_t)(PAD + s->slots * row_count(s) * (s->chunk + PAD)) * sizeof(double);
    s->batch_bytes = (size_t)(s->slots * s->chunk) * sizeof(double);
    s->now = di_new((size_t)s->slots * sizeof *s->now);
    s->next = di_new((size_t)s->slots * sizeof *s->next);
    if (!s->now || !s->next) return DISTAC_ENOMEM;
    s->rows = di_alloc_zeroed(s->run.context, s->rows_bytes);
    s->fill = s->rows ? di_alloc(s->run.context, s->batch_bytes) : NULL;
    s->write = s->fill ? di_alloc(s->run.context, s->batch_bytes) : NULL;
    return s->write ? DISTAC_OK : DISTAC_ENOMEM;
}

void distac_merge_stream_release(distac_merge_stream *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    distac_context *context = s->merge->context;
    for (int64_t i = 0; s->results && i < s->run.base->count; i++) distac_tensor_release(s->results[i]);
    distac_checkpoint_release(s->made);
    if (s->rows) di_free(context, s->rows, s->rows_bytes);
    if (s->fill) di_free(context, s->fill, s->batch_bytes);
    if (s->write) di_free(context, s->write, s->batch_bytes);
    if (s->turning) di_free(context, s->turning, s->turning_bytes);
    di_sources_close(&s->base_bytes);
    if (s->open) di_run_close(&s->run);
    di_written_close(&s->written);
    di_inputs_close(&s->inputs);
    free(s->now);
    free(s->next);
    free(s->results);
    distac_merge_release(s->merge);
    free(s);
}

static distac_status open_stream(const distac_merge *merge, const char *function, bool whole,
                                 const distac_checkpoint *base, int32_t count, distac_checkpoint *const *inputs,
                                 const distac_merge_target *target, int64_t chunk, distac_merge_stream **out) {
    if (chunk < -1 || chunk > CHUNK_MAX)
        return di_fail_at(DISTAC_EINVAL, function, "chunk is %lld; wanted -1 to %d", (long long)chunk, CHUNK_MAX);
    distac_merge_stream *s = di_new(sizeof *s);
    if (!s) return DISTAC_ENOMEM;
    atomic_init(&s->refs, 1);
    s->merge = (distac_merge *)(uintptr_t)merge;
    atomic_fetch_add(&s->merge->refs, 1);
    distac_status status = di_inputs_open(target, base, count, inputs, &s->inputs);
    s->base = s->inputs.base;
    s->open = status == DISTAC_OK;
    if (s->open) status = di_run_open(&s->run, merge, function, whole, s->base, count, s->inputs.models);
    if (status == DISTAC_OK) status = open_base(s);
    if (status == DISTAC_OK) status = make_buffers(s, chunk);
    if (status != DISTAC_OK) {
        distac_merge_stream_release(s);
        return status;
    }
    *out = s;
    return DISTAC_OK;
}

static distac_status to_target(const distac_merge *merge, const char *function, const distac_checkpoint *base,
                               int32_t n_models, distac_checkpoint *const *models, const char *path,
                               const distac_merge_target *target, const distac_checkpoint *metadata, int64_t chunk,
                               distac_merge_stream **out) {
    distac_merge_stream *s;
    DI_TRY(open_stream(merge, function, true, base, n_models, models, target, chunk, &s));
    distac_status status = di_written_open(s->base, path, target, metadata, &s->written);
    if (status == DISTAC_OK)
        *out = s;
    else
        distac_merge_stream_release(s);
    return status;
}

distac_status distac_merge_stream_target(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                         distac_checkpoint *const *models, const char *path,
                                         const distac_merge_target *target, const distac_checkpoint *metadata,
                                         int64_t chunk, distac_merge_stream **out) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(out, "out is NULL");
    return to_target(merge, __func__, base, n_models, models, path, target, metadata, chunk, out);
}

distac_status distac_merge_stream_files(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                        distac_checkpoint *const *models, const char *path, int32_t dtype,
                                        const distac_checkpoint *metadata, int64_t chunk,
                                        distac_merge_stream **out) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (dtype != -1 && !di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype %d; expected -1 or a float type", (int)dtype);
    const distac_merge_target target = {.dtype = dtype >= 0 ? distac_dtype_name(dtype) : NULL};
    return to_target(merge, __func__, base, n_models, models, path, &target, metadata, chunk, out);
}

distac_status distac_merge_stream_taus(const distac_merge *merge, int32_t n_taus, distac_checkpoint *const *taus,
                                       const distac_checkpoint *base, int64_t chunk, distac_merge_stream **out) {
    distac_merge_stream *s;
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(out, "out is NULL");
    DI_TRY(open_stream(merge, __func__, false, base, n_taus, taus, NULL, chunk, &s));
    distac_status status = make_results(s);
    if (status == DISTAC_OK)
        *out = s;
    else
        distac_merge_stream_release(s);
    return status;
}

/* ---- the caller's side ---- */

static const slot *shown(const distac_merge_stream *s) {
    return !s->waits && s->current >= 0 && s->current < s->count && s->now[s->current].kind == SHOWN
               ? &s->now[s->current] : NULL;
}

distac_status distac_merge_stream_next(distac_merge_stream *s, distac_merge_chunk *out) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = (distac_merge_chunk){0};
    if (s->waits)
        return di_fail(DISTAC_ESTATE, "tensor \"%s\" has no result yet",
                       s->run.base->entries[unit_at(s, s->at).entry]->name);
    while (!s->ended) {
        while (++s->current < s->count) {
            const slot *c = &s->now[s->current];
            if (c->kind != SHOWN) continue;
            *out = (distac_merge_chunk){s->run.base->entries[c->entry]->name, c->entry, c->first, c->count,
                                        s->current};
            return DISTAC_OK;
        }
        DI_TRY(turn(s));
        if (s->count) continue;
        if (s->at < unit_count(s)) { /* everything before is done: a whole tensor is the caller's */
            int64_t entry = unit_at(s, s->at).entry;
            *out = (distac_merge_chunk){s->run.base->entries[entry]->name, entry, 0,
                                        s->run.base->entries[entry]->numel, 0};
            s->waits = true;
            return DISTAC_OK;
        }
        DI_TRY(turn(s)); /* the last bytes */
        s->ended = true;
    }
    return DISTAC_OK;
}

void *distac_merge_stream_row(distac_merge_stream *s, int32_t index) {
    if (!s || !shown(s) || index < 0 || index >= row_count(s) || (index == s->run.models && !has_base(s)))
        return NULL;
    return row(s, s->current, index);
}

/* Is there a chunk with this row and this many numbers? */
static distac_status check_row(const distac_merge_stream *s, const char *function, int32_t index, int64_t n) {
    const slot *c = shown(s);
    if (!c) return di_fail_at(DISTAC_ESTATE, function, "there is no chunk; distac_merge_stream_next gives one");
    if (index < 0 || index >= row_count(s) || (index == s->run.models && !has_base(s)))
        return di_fail_at(DISTAC_EINVAL, function, "row %d; there are %d and %s base", (int)index, (int)row_count(s),
                          has_base(s) ? "a" : "no");
    if (n != c->count)
        return di_fail_at(DISTAC_ESHAPE, function, "%lld values for a chunk of %lld", (long long)n,
                          (long long)c->count);
    return DISTAC_OK;
}

distac_status distac_merge_stream_read(const distac_merge_stream *s, int32_t index, int64_t n_values,
                                       double *values) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(values || n_values == 0, "values is NULL");
    DI_TRY(check_row(s, __func__, index, n_values));
    memcpy(values, row(s, s->current, index), (size_t)n_values * sizeof *values);
    return DISTAC_OK;
}

distac_status distac_merge_stream_write(distac_merge_stream *s, int64_t n_values, const double *values) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(values || n_values == 0, "values is NULL");
    DI_TRY(check_row(s, __func__, s->run.models + 1, n_values));
    memcpy(row(s, s->current, s->run.models + 1), values, (size_t)n_values * sizeof *values);
    return DISTAC_OK;
}

distac_status distac_merge_stream_put(distac_merge_stream *s, const distac_tensor *tensor) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(tensor, "tensor is NULL");
    if (!s->waits) return di_fail(DISTAC_ESTATE, "no tensor is waited for; distac_merge_stream_next says which is");
    s->given_entry = unit_at(s, s->at).entry;
    const di_entry *e = s->run.base->entries[s->given_entry];
    bool fits = tensor->rank == e->rank;
    for (int32_t k = 0; fits && k < e->rank; k++) fits = tensor->shape[k] == e->shape[k];
    if (!fits) return di_fail(DISTAC_ESHAPE, "the result for \"%s\" has another shape", e->name);
    distac_tensor *dense;
    DI_TRY(di_tensor_bring(tensor, false, &dense));
    s->given = dense;
    s->waits = false;
    distac_status status = DISTAC_OK;
    while (status == DISTAC_OK && s->at < unit_count(s) && unit_at(s, s->at).entry == s->given_entry)
        status = turn(s); /* all tensors that are cut out of it */
    s->given = NULL; /* all of it is read */
    distac_tensor_release(dense);
    return status;
}

distac_status distac_merge_stream_commit(distac_merge_stream *s) {
    DI_REQUIRE(s, "stream is NULL");
    di_output *output = s->written.output;
    if (!output || !s->ended) return di_fail(DISTAC_ESTATE, output ? "the end is not reached" : "no file is open");
    s->written.output = NULL;
    return di_output_commit(output);
}

distac_status distac_merge_stream_result(distac_merge_stream *s, distac_checkpoint **out) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (!s->made || !s->ended)
        return di_fail(DISTAC_ESTATE, s->made ? "the end is not reached" : "this merge goes to a file");
    *out = s->made;
    s->made = NULL;
    return DISTAC_OK;
}
