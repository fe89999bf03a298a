/* stream.c: a merge whose arithmetic the caller does: what it plans, shows and ends
 * with (stream.h). The merged tensors are cut into chunks in the order of the file,
 * which are shown to the caller one after the other; or it gives whole tensors. */
#include "stream.h"
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 8192,    /* elements: ten rows of a chunk stay in the second cache */
    PER_LANE = 4,    /* slots with rows */
    PER_ROWS = 4,    /* slots to one with rows: what is stored waits for its turn to be written */
    CHUNK_MAX = 1 << 20,
    WINDOW = 1 << 20 /* elements: files are asked for this many ahead */
};
static const size_t whole_ring_bytes = (size_t)16 << 20;

/* ---- planning ---- */

/* Whether a tensor that is turned may be planned: everything before is written, so its bytes follow. */
static distac_status begin_turning(distac_merge_stream *s, int64_t entry) {
    s->turning_bytes = 2 * (size_t)di_type_bytes(di_stream_type(s, entry), s->run.base->entries[entry]->numel);
    s->turning = di_alloc(s->run.context, s->turning_bytes);
    s->turning_entry = entry;
    return s->turning ? DISTAC_OK : DISTAC_ENOMEM;
}

static distac_status end_turning(distac_merge_stream *s) {
    const di_entry *e = s->run.base->entries[s->turning_entry];
    size_t half = s->turning_bytes / 2, width = (size_t)di_stream_type(s, s->turning_entry)->bits / 8;
    di_turn(s->turning + half, e->shape[0], e->shape[1], width, s->turning);
    distac_status status = di_output_put(s->written.output, s->turning, half);
    di_free(s->run.context, s->turning, s->turning_bytes);
    s->turning = NULL;
    return status;
}

/* Plans slots from the cursor on, as many as there is room for, to a tensor that the caller has to put at most; or
 * in front of one that is turned, and behind it. */
static distac_status plan(distac_merge_stream *s) {
    pthread_mutex_lock(&s->lock);
    int64_t room = s->ring - (s->planned - s->put), count = 0;
    bool idle = s->put == s->planned;
    pthread_mutex_unlock(&s->lock);
    while (s->at < di_stream_units(s) && count < room) {
        di_stream_unit u = di_stream_unit_at(s, s->at);
        const di_entry *e = s->run.base->entries[u.entry];
        di_slot_kind what = di_stream_kind(s, u.entry);
        int64_t total = what == DI_BYTES ? di_type_bytes(e->type, u.numel) : u.numel, left = total - s->first;
        int64_t from = (what == DI_BYTES ? di_type_bytes(e->type, u.first) : u.first) + s->first;
        if (s->turning && s->first == 0) { /* the one before is turned when it is whole */
            if (!idle || count) break;
            DI_TRY(end_turning(s));
        }
        if (what == DI_NOTHING || left == 0) {
            s->at++;
            s->first = 0;
            continue;
        }
        if (what == DI_GIVEN && (!s->given || s->given_entry != u.entry)) break;
        if (u.turned && !s->turning) {
            if (!idle || count) break;
            DI_TRY(begin_turning(s, u.entry));
        }
        int64_t n = left < s->chunk ? left : s->chunk;
        if (what == DI_SHOWN && (s->first == 0 || s->first / WINDOW != (s->first - 1) / WINDOW))
            di_run_ahead(&s->run, u.entry, from, left < 2 * WINDOW ? left : 2 * WINDOW);
        size_t width = what == DI_BYTES || !s->run.whole ? 1u : (size_t)di_stream_type(s, u.entry)->bits / 8;
        *di_stream_slot(s, s->planned + count) = (di_slot){.kind = what,
                                                           .entry = u.entry,
                                                           .first = from,
                                                           .count = n,
                                                           .rows = -1,
                                                           .turned = u.turned,
                                                           .at = (size_t)from * width};
        count++;
        s->first += n;
        if (s->first < total) continue;
        s->at++;
        s->first = 0;
        if (u.turned) break;
    }
    if (s->at == di_stream_units(s) && s->turning && idle && count == 0) DI_TRY(end_turning(s));
    if (count) {
        di_crew_plan(s, count);
        di_progress(s->run.context, "merging", s->at, di_stream_units(s));
    }
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
        bool zeroed = s->run.factors[i] == 0;
        DI_TRY(di_tensor_new(s->run.context, DISTAC_F32, e->rank, e->shape, zeroed, &s->results[i]));
        DI_TRY(distac_checkpoint_set(s->made, e->name, s->results[i]));
    }
    return DISTAC_OK;
}

/* A base beside task vectors has all their tensors. */
static distac_status open_base(distac_merge_stream *s) {
    if (s->run.whole || !s->base) return DISTAC_OK;
    DI_TRY(di_match(s->run.function, "task vector 1", s->run.base, "the base", s->base));
    return di_sources_open(s->base, NULL, &s->base_bytes);
}

/* The widest number that is written. */
static size_t widest(const distac_merge_stream *s) {
    size_t most = s->run.whole ? 1 : 0;
    for (int64_t i = 0; s->written.items && i < s->run.base->count; i++)
        if (s->written.item_of[i] >= 0 && di_entry_is_float(s->run.base->entries[i]) &&
            (size_t)di_stream_type(s, i)->bits / 8 > most)
            most = (size_t)di_stream_type(s, i)->bits / 8;
    return most;
}

static distac_status make_buffers(distac_merge_stream *s) {
    s->slots = (int64_t)s->run.lanes * PER_LANE;
    s->ring = s->slots * PER_ROWS;
    s->slot_bytes = (size_t)s->chunk * widest(s);
    if (s->whole_tensors && s->slot_bytes && atomic_load(&s->run.context->memory_limit) == 0)
        while ((size_t)s->ring * s->slot_bytes < whole_ring_bytes)
            s->ring *= 2; /* a tensor is put, then written */
    if (!s->whole_tensors) {
        int64_t numbers = DI_STREAM_PAD + s->slots * di_stream_rows(s) * (s->chunk + DI_STREAM_PAD);
        DI_TRY(di_tensor_new(s->run.context, DISTAC_F64, 1, &numbers, true, &s->rows_owner));
        s->rows = s->rows_owner->data;
    }
    s->bytes = di_alloc(s->run.context, (size_t)s->ring * s->slot_bytes);
    return s->bytes ? di_crew_open(s) : DISTAC_ENOMEM;
}

void distac_merge_stream_release(distac_merge_stream *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    distac_context *context = s->merge->context;
    di_crew_close(s);
    for (int32_t i = 0; i < DI_STREAM_WHOLES; i++) di_whole_free(s, &s->whole[i]);
    for (int64_t i = 0; s->results && i < s->run.base->count; i++) distac_tensor_release(s->results[i]);
    distac_checkpoint_release(s->made);
    distac_tensor_release(s->rows_owner);
    if (s->bytes) di_free(context, s->bytes, (size_t)s->ring * s->slot_bytes);
    if (s->turning) di_free(context, s->turning, s->turning_bytes);
    di_sources_close(&s->base_bytes);
    if (s->open) di_run_close(&s->run);
    di_written_close(&s->written);
    di_inputs_close(&s->inputs);
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
    s->whole_tensors = chunk < 0;
    s->chunk = chunk <= 0 ? CHUNK : chunk;
    s->current = s->asked = -1;
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
    if (status == DISTAC_OK) status = make_buffers(s);
    if (status == DISTAC_OK)
        *out = s;
    else
        distac_merge_stream_release(s);
    return status;
}

distac_status distac_merge_stream_target(const distac_merge *merge, const distac_checkpoint *base,
                                         int32_t n_models, distac_checkpoint *const *models, const char *path,
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
    if (status == DISTAC_OK) status = make_buffers(s);
    if (status == DISTAC_OK)
        *out = s;
    else
        distac_merge_stream_release(s);
    return status;
}

/* ---- the caller's side ---- */

static const di_slot *shown(const distac_merge_stream *s) {
    return s->current >= 0 ? di_stream_slot(s, s->current) : NULL;
}

/* The chunk before has its result; finds the next, or the whole tensor that the caller has to give, or the end. */
static distac_status next(distac_merge_stream *s, distac_merge_chunk *out) {
    int64_t number = s->current < 0 ? s->looked : s->current + 1;
    s->current = -1;
    for (;;) {
        DI_TRY(di_crew_pass(s, number));
        DI_TRY(plan(s));
        while (number < s->planned && di_stream_slot(s, number)->kind != DI_SHOWN) number++;
        if (number < s->planned) {
            const di_slot *c = di_stream_slot(s, number);
            DI_TRY(di_crew_ready(s, number));
            const char *name = s->run.base->entries[c->entry]->name;
            *out = (distac_merge_chunk){name, c->entry, c->first, c->count, c->rows};
            s->current = number;
            return DISTAC_OK;
        }
        if (s->at == di_stream_units(s) && !s->turning) {
            DI_TRY(di_crew_pass(s, number));
            DI_TRY(di_crew_finish(s, true));
            s->ended = true;
            return DISTAC_OK;
        }
        if (s->at < di_stream_units(s) && !s->turning &&
            di_stream_kind(s, di_stream_unit_at(s, s->at).entry) == DI_GIVEN) {
            int64_t entry = di_stream_unit_at(s, s->at).entry;
            *out = (distac_merge_chunk){s->run.base->entries[entry]->name, entry, 0,
                                        s->run.base->entries[entry]->numel, 0};
            s->waits = true;
            return DISTAC_OK;
        }
        DI_TRY(di_crew_help(s)); /* there is no room, or a tensor is to be turned */
    }
}

distac_status distac_merge_stream_next(distac_merge_stream *s, distac_merge_chunk *out) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = (distac_merge_chunk){0};
    if (s->waits)
        return di_fail(DISTAC_ESTATE, "tensor \"%s\" has no result yet",
                       s->run.base->entries[di_stream_unit_at(s, s->at).entry]->name);
    if (s->failed) return di_fail(DISTAC_ESTATE, "the merge has failed before");
    if (s->ended) return DISTAC_OK;
    s->failed = true; /* until this is done */
    DI_TRY(next(s, out));
    s->failed = false;
    return DISTAC_OK;
}

void *distac_merge_stream_row(distac_merge_stream *s, int32_t index) {
    if (!s || !shown(s) || index < 0 || index >= di_stream_rows(s) ||
        (index == s->run.models && !di_stream_has_base(s)))
        return NULL;
    return di_stream_row(s, shown(s)->rows, index);
}

distac_status distac_merge_stream_view(distac_merge_stream *s, int32_t index, distac_tensor **out) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    const double *row = distac_merge_stream_row(s, index);
    if (!row) return di_fail(DISTAC_EINVAL, "there is no row %d now", (int)index);
    return di_tensor_slice(s->rows_owner, row - s->rows, 1, &shown(s)->count, out);
}

/* Is there a chunk with this row and this many numbers? */
static distac_status check_row(const distac_merge_stream *s, const char *function, int32_t index, int64_t n) {
    const di_slot *c = shown(s);
    if (!c) return di_fail_at(DISTAC_ESTATE, function, "there is no chunk; distac_merge_stream_next gives one");
    if (index < 0 || index >= di_stream_rows(s) || (index == s->run.models && !di_stream_has_base(s)))
        return di_fail_at(DISTAC_EINVAL, function, "row %d; there are %d and %s base", (int)index,
                          (int)di_stream_rows(s), di_stream_has_base(s) ? "a" : "no");
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
    memcpy(values, di_stream_row(s, shown(s)->rows, index), (size_t)n_values * sizeof *values);
    return DISTAC_OK;
}

distac_status distac_merge_stream_write(distac_merge_stream *s, int64_t n_values, const double *values) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(values || n_values == 0, "values is NULL");
    DI_TRY(check_row(s, __func__, s->run.models + 1, n_values));
    memcpy(di_stream_row(s, shown(s)->rows, s->run.models + 1), values, (size_t)n_values * sizeof *values);
    return DISTAC_OK;
}

/* All tensors that are cut out of the one that is given. */
static distac_status take(distac_merge_stream *s) {
    while (s->at < di_stream_units(s) && di_stream_unit_at(s, s->at).entry == s->given_entry) {
        int64_t before = s->planned;
        DI_TRY(plan(s));
        DI_TRY(di_crew_pass(s, s->planned));
        DI_TRY(di_crew_finish(s, s->planned == before)); /* no room, or a tensor is to be turned */
    }
    return DISTAC_OK;
}

distac_status distac_merge_stream_put(distac_merge_stream *s, const distac_tensor *tensor) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(tensor, "tensor is NULL");
    if (!s->waits)
        return di_fail(DISTAC_ESTATE, "no tensor is waited for; distac_merge_stream_next says which is");
    s->given_entry = di_stream_unit_at(s, s->at).entry;
    const di_entry *e = s->run.base->entries[s->given_entry];
    bool fits = tensor->rank == e->rank;
    for (int32_t k = 0; fits && k < e->rank; k++) fits = tensor->shape[k] == e->shape[k];
    if (!fits) return di_fail(DISTAC_ESHAPE, "the result for \"%s\" has another shape", e->name);
    distac_tensor *dense;
    DI_TRY(di_tensor_bring(tensor, false, &dense));
    s->given = dense;
    s->waits = false;
    if (s->whole_count && di_stream_whole_at(s, 0)->entry == s->given_entry) di_whole_drop(s);
    distac_status status = take(s);
    s->failed = status != DISTAC_OK;
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
