/* execute.c: the two ways to merge, over one core. Whole models are streamed: the output is cut into pieces in
 * the order of the file, a batch of pieces is computed on all threads while the batch before it is written.
 * Task vectors in memory give a checkpoint of directions. */
#include "merge.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = DI_AHEAD }; /* pieces of a batch */
static const size_t piece_bytes = DI_PIECE * sizeof(double);

/* base + lambda*d as floats, in one go; whether one of them is not finite. */
DI_CLONES static uint32_t finish_f32(int64_t n, const double *restrict base, double lambda, const double *restrict d,
                                     uint8_t *restrict out) {
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

DI_CLONES static void finish(int64_t n, const double *restrict base, double lambda, double *restrict d) {
    for (int64_t i = 0; i < n; i++) d[i] = base[i] + lambda * d[i];
}

/* D of n <= DI_STEP elements, into the lane's last row. */
static distac_status direction(di_merge_run *run, int32_t lane, const di_at *at, int64_t n, double **out) {
    double *const *rows = di_run_rows(run, lane);
    *out = rows[run->models + 1];
    if (!di_run_step(run, at->entry, at->first, n, rows)) return di_run_nonfinite(run, at->entry, at->first);
    if (run->merge->method->edit) run->merge->method->edit(run, at, n, rows);
    run->merge->method->chunk(run, at, n, (const double *const *)rows, *out);
    return DISTAC_OK;
}

/* base + lambda*D, or D, of part of a tensor, rounded to dtype. whole: D of the whole tensor if it is there. */
static distac_status result(di_merge_run *run, int32_t lane, const di_piece *piece, const double *whole,
                            int32_t dtype, uint8_t *out) {
    double factor = run->factors[piece->entry], lambda = run->whole ? di_run_lambda(run, piece->entry) : factor, *d;
    double *const *rows = di_run_rows(run, lane);
    int64_t width = distac_dtype_bytes(dtype);
    for (int64_t done = 0; done < piece->count; done += DI_STEP) {
        int64_t n = piece->count - done < DI_STEP ? piece->count - done : DI_STEP;
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

/* D of a whole tensor, for operators that need it; di_free it with tensor_bytes. */
static size_t tensor_bytes(const di_entry *entry) {
    return (size_t)entry->numel * sizeof(double);
}

static distac_status whole_tensor(di_merge_run *run, int64_t entry, double **out) {
    const di_entry *at = run->base->entries[entry];
    *out = di_alloc(run->context, tensor_bytes(at));
    if (!*out) return DISTAC_ENOMEM;
    distac_status status = run->merge->method->tensor(run, entry, *out);
    if (status != DISTAC_OK) {
        di_free(run->context, *out, tensor_bytes(at));
        *out = NULL;
    }
    return status;
}

static bool takes(const di_merge_run *run, int64_t index) {
    const di_method *method = run->merge->method;
    const di_entry *entry = run->base->entries[index];
    return method->takes && di_entry_is_float(entry) && run->factors[index] != 0 && method->takes(run, entry);
}

/* After everything was merged: the pieces that are merged again, into `out` (run->piece_count of room). */
static int64_t marked(di_merge_run *run, di_piece *out) {
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
    return result(job->run, lane, piece, job->whole, DISTAC_F32, (uint8_t *)out);
}

static distac_status make_results(const di_merge_run *run, distac_tensor **results, distac_checkpoint *out) {
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        if (!di_entry_is_float(entry)) continue;
        DI_TRY(di_tensor_new(run->context, DISTAC_F32, entry->rank, entry->shape, run->factors[i] == 0, &results[i]));
        DI_TRY(distac_checkpoint_set(out, entry->name, results[i]));
    }
    return DISTAC_OK;
}

/* Elementwise tensors in one parallel region, the others one after the other. */
static distac_status delta_all(delta_job *job, di_piece *plain) {
    di_merge_run *run = job->run;
    int64_t count = 0;
    for (int64_t i = 0; i < run->piece_count; i++)
        if (!takes(run, run->pieces[i].entry)) plain[count++] = run->pieces[i];
    job->pieces = plain;
    DI_TRY(di_run_lanes(run, count, delta_piece, job));
    DI_TRY(di_run_lanes(run, marked(run, plain), delta_piece, job));
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        double *whole;
        if (!takes(run, i) || entry->numel == 0) continue;
        DI_TRY(di_poll(run->context));
        di_progress(run->context, "merging", i, run->base->count);
        DI_TRY(whole_tensor(run, i, &whole));
        count = 0;
        for (int64_t k = 0; k < run->piece_count; k++)
            if (run->pieces[k].entry == i) plain[count++] = run->pieces[k];
        job->whole = whole;
        distac_status status = di_run_lanes(run, count, delta_piece, job);
        di_free(run->context, whole, tensor_bytes(entry));
        DI_TRY(status);
    }
    return DISTAC_OK;
}

distac_status distac_merge_delta(const distac_merge *merge, int32_t n_taus, distac_checkpoint *const *taus,
                                 distac_checkpoint **out) {
    di_merge_run run;
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(out, "out is NULL");
    distac_checkpoint *made = NULL;
    distac_tensor **results = NULL;
    di_piece *plain = NULL;
    distac_status status = di_run_open(&run, merge, __func__, false, NULL, n_taus, taus);
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

/* ---- files ---- */

/* A batch: pieces of the output, side by side in a buffer. */
typedef struct batch {
    int64_t count;
    size_t bytes;
    di_piece pieces[BATCH];
    size_t at[BATCH];
    uint8_t *buffer; /* BATCH * piece_bytes */
} batch;

typedef struct stream {
    di_merge_run *run;
    const di_st_item *items; /* one per entry of the base */
    di_writer *writer;
    batch *fill, *full; /* being collected; computed and waiting to be written */
    const double *whole;
    int64_t done;
    const int64_t *order;
    int64_t *begin; /* where the entries' bytes lie in the file */
    int64_t put, asked, asked_at, asked_from; /* elements collected and asked for; the next to ask: order[at], from */
} stream;

/* Index 0 writes the batch before, the others compute this one. */
static distac_status stream_work(void *arg, int32_t lane, int64_t index) {
    stream *s = arg;
    if (index == 0) return s->full->bytes ? di_writer_put(s->writer, s->full->buffer, s->full->bytes) : DISTAC_OK;
    batch *b = s->fill;
    const di_piece *piece = &b->pieces[index - 1];
    const di_entry *entry = s->run->base->entries[piece->entry];
    uint8_t *out = b->buffer + b->at[index - 1];
    if (di_entry_is_float(entry))
        return result(s->run, lane, piece, s->whole, s->items[piece->entry].type->dtype, out);
    memcpy(out, s->run->base_bytes.bytes[piece->entry] + piece->first, (size_t)piece->count);
    return DISTAC_OK;
}

/* Computes the collected batch and writes the one before. */
static distac_status stream_flush(stream *s) {
    DI_TRY(di_run_lanes(s->run, s->fill->count + 1, stream_work, s));
    di_progress(s->run->context, "merging", s->done, s->run->base->count);
    batch *written = s->full;
    s->full = s->fill;
    s->fill = written;
    written->count = 0;
    written->bytes = 0;
    return DISTAC_OK;
}

/* Keeps what is asked of the system some batches ahead of what is collected. */
static void ask_ahead(stream *s) {
    const di_merge_run *run = s->run;
    while (s->asked < s->put + 3 * BATCH * DI_PIECE && s->asked_at < run->base->count) {
        int64_t index = s->order[s->asked_at], total = run->base->entries[index]->numel;
        int64_t n = total - s->asked_from < BATCH * DI_PIECE ? total - s->asked_from : BATCH * DI_PIECE;
        if (di_entry_is_float(run->base->entries[index]) && run->factors[index] != 0)
            di_run_ahead(run, index, s->asked_from, n);
        s->asked += n;
        s->asked_from += n;
        if (s->asked_from < total) continue;
        s->asked_from = 0;
        s->asked_at++;
    }
}

/* Adds an entry to the output. Numbers that are not floats are bytes of the base. */
static distac_status stream_entry(stream *s, int64_t index) {
    const di_entry *entry = s->run->base->entries[index];
    bool is_float = di_entry_is_float(entry);
    int64_t total = is_float ? entry->numel : entry->bytes;
    int64_t width = is_float ? s->items[index].type->bits / 8 : 1;
    for (int64_t first = 0; first < total; first += DI_PIECE) {
        int64_t n = total - first < DI_PIECE ? total - first : DI_PIECE;
        if (s->fill->count == BATCH) DI_TRY(stream_flush(s));
        batch *b = s->fill;
        ask_ahead(s);
        b->pieces[b->count] = (di_piece){index, first, n};
        b->at[b->count] = b->bytes; /* packed, as they will lie in the file */
        b->bytes += (size_t)(n * width);
        b->count++;
        s->put += n;
    }
    return DISTAC_OK;
}

static distac_status again_work(void *arg, int32_t lane, int64_t index) {
    stream *s = arg;
    const di_piece *piece = &s->fill->pieces[index];
    uint8_t *out = s->fill->buffer + (size_t)index * piece_bytes;
    return result(s->run, lane, piece, NULL, s->items[piece->entry].type->dtype, out);
}

/* Merges the marked pieces again and puts them where they were. */
static distac_status stream_again(stream *s) {
    di_merge_run *run = s->run;
    di_piece *pieces = run->marks ? di_new((size_t)(run->piece_count ? run->piece_count : 1) * sizeof *pieces) : NULL;
    if (!run->marks) return DISTAC_OK;
    if (!pieces) return DISTAC_ENOMEM;
    int64_t count = marked(run, pieces);
    distac_status status = DISTAC_OK;
    for (int64_t done = 0; done < count && status == DISTAC_OK; done += BATCH) {
        int64_t n = count - done < BATCH ? count - done : BATCH;
        memcpy(s->fill->pieces, pieces + done, (size_t)n * sizeof *pieces);
        status = di_run_lanes(run, n, again_work, s);
        for (int64_t i = 0; i < n && status == DISTAC_OK; i++) {
            const di_piece *piece = &s->fill->pieces[i];
            int64_t width = s->items[piece->entry].type->bits / 8;
            status = di_writer_patch(s->writer, s->begin[piece->entry] + piece->first * width,
                                     s->fill->buffer + (size_t)i * piece_bytes, (size_t)(piece->count * width));
        }
    }
    free(pieces);
    return status;
}

static distac_status stream_all(stream *s, const int64_t *order) {
    di_merge_run *run = s->run;
    s->order = order;
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[order[i]];
        if (!takes(run, order[i]) || entry->numel == 0) {
            DI_TRY(stream_entry(s, order[i]));
        } else {
            double *whole;
            DI_TRY(stream_flush(s)); /* it belongs to elementwise tensors */
            DI_TRY(whole_tensor(run, order[i], &whole));
            s->whole = whole;
            distac_status status = stream_entry(s, order[i]);
            if (status == DISTAC_OK) status = stream_flush(s);
            s->whole = NULL;
            di_free(run->context, whole, tensor_bytes(entry));
            DI_TRY(status);
        }
        s->done = i + 1;
    }
    DI_TRY(stream_flush(s));
    DI_TRY(stream_flush(s));
    return stream_again(s);
}

static distac_status write_models(di_merge_run *run, const char *path, int32_t dtype,
                                  const distac_checkpoint *metadata) {
    int64_t count = run->base->count;
    size_t items_bytes = (size_t)(count ? count : 1);
    const distac_checkpoint *from = metadata ? metadata : run->base;
    di_st_item *items = di_new(items_bytes * sizeof *items);
    int64_t *order = di_new(items_bytes * sizeof *order), *begin = di_new(items_bytes * sizeof *begin);
    batch *batches = di_new(2 * sizeof *batches);
    size_t bytes = 2 * BATCH * piece_bytes;
    uint8_t *buffer = di_alloc(run->context, bytes);
    stream s = {.run = run, .items = items, .begin = begin};
    distac_status status = items && order && begin && batches && buffer ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < count; i++) {
        const di_entry *entry = run->base->entries[i];
        const di_file_type *type = di_st_target(entry, dtype);
        items[i] = (di_st_item){entry->name, type, entry->rank, entry->shape, di_type_bytes(type, entry->numel)};
    }
    if (status == DISTAC_OK)
        status = di_st_begin(path, count, items, from->pair_count, from->pairs, order, &s.writer);
    if (status == DISTAC_OK) {
        batches[0].buffer = buffer;
        batches[1].buffer = buffer + bytes / 2;
        s.fill = &batches[0];
        s.full = &batches[1];
        int64_t at = di_writer_position(s.writer);
        for (int64_t i = 0; i < count; i++) {
            begin[order[i]] = at;
            at += items[order[i]].bytes;
        }
        status = stream_all(&s, order);
    }
    if (status == DISTAC_OK)
        status = di_writer_commit(s.writer);
    else
        di_writer_abort(s.writer);
    if (buffer) di_free(run->context, buffer, bytes);
    free(batches);
    free(items);
    free(order);
    free(begin);
    return status;
}

distac_status distac_merge_files(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                 distac_checkpoint *const *models, const char *path, int32_t dtype,
                                 const distac_checkpoint *metadata) {
    di_merge_run run;
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(path, "path is NULL");
    if (dtype != -1 && !di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype %d; expected -1 or a float type", (int)dtype);
    distac_status status = di_run_open(&run, merge, __func__, true, base, n_models, models);
    if (status == DISTAC_OK) status = write_models(&run, path, dtype, metadata);
    di_run_close(&run);
    return status;
}
