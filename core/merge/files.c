/* files.c: merging whole models from files to files. The output is cut into pieces in the order of the file; a
 * batch of pieces is computed on all threads while the batch before it is written. */
#include "merge.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = DI_AHEAD }; /* pieces of a batch */
static const size_t piece_bytes = DI_PIECE * sizeof(double);

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
    const distac_merge_target *target;
    di_written *written;
    batch *fill, *full; /* being collected; computed and waiting to be written */
    const double *whole;
    int64_t whole_entry, done;
    int64_t put, asked;           /* elements collected, and asked for */
    int64_t asked_at, asked_from; /* the next to ask for: element asked_from of order[asked_at] */
} stream;

static const di_target *target_at(const stream *s, int64_t place) {
    return &s->written->targets.list[s->written->order[place]];
}

/* One piece of the output: merged, or bytes of the base, whose elements have no meaning here. */
static distac_status compute(stream *s, int32_t lane, const di_piece *piece, uint8_t *out) {
    const di_entry *entry = s->run->base->entries[piece->entry];
    if (di_entry_is_float(entry)) {
        di_run_look(s->run, piece->entry, piece->first, piece->count);
        return di_run_result(s->run, lane, piece, s->whole, di_written_type(s->target, entry)->dtype, out);
    }
    memcpy(out, s->run->base_bytes.bytes[piece->entry] + piece->first, (size_t)piece->count);
    return DISTAC_OK;
}

/* Index 0 writes the batch before, the others compute this one. */
static distac_status stream_work(void *arg, int32_t lane, int64_t index) {
    stream *s = arg;
    batch *b = s->fill;
    if (index == 0)
        return s->full->bytes ? di_output_put(s->written->output, s->full->buffer, s->full->bytes) : DISTAC_OK;
    return compute(s, lane, &b->pieces[index - 1], b->buffer + b->at[index - 1]);
}

/* Computes the collected batch and writes the one before. */
static distac_status stream_flush(stream *s) {
    DI_TRY(di_run_lanes(s->run, s->fill->count + 1, stream_work, s));
    di_progress(s->run->context, "merging", s->done, s->written->targets.count);
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
    while (s->asked < s->put + 3 * BATCH * DI_PIECE && s->asked_at < s->written->targets.count) {
        const di_target *target = target_at(s, s->asked_at);
        int64_t left = target->numel - s->asked_from, n = left < BATCH * DI_PIECE ? left : BATCH * DI_PIECE;
        if (di_entry_is_float(run->base->entries[target->entry]) && run->factors[target->entry] != 0)
            di_run_ahead(run, target->entry, target->first + s->asked_from, n);
        s->asked += n;
        s->asked_from += n;
        if (s->asked_from < target->numel) continue;
        s->asked_from = 0;
        s->asked_at++;
    }
}

/* Adds a tensor to the output. Numbers that are not floats are bytes of the base. A piece stays within one of the
 * run's, wherever the tensor begins. */
static distac_status stream_tensor(stream *s, const di_target *target) {
    const di_entry *entry = s->run->base->entries[target->entry];
    bool is_float = di_entry_is_float(entry);
    const di_file_type *type = di_written_type(s->target, entry);
    int64_t first = is_float ? target->first : di_type_bytes(type, target->first);
    int64_t end = first + (is_float ? target->numel : di_type_bytes(type, target->numel));
    int64_t width = is_float ? type->bits / 8 : 1;
    while (first < end) {
        int64_t room = DI_PIECE - first % DI_PIECE, n = end - first < room ? end - first : room;
        if (s->fill->count == BATCH) DI_TRY(stream_flush(s));
        batch *b = s->fill;
        ask_ahead(s);
        b->pieces[b->count] = (di_piece){target->entry, first, n};
        b->at[b->count] = b->bytes; /* packed, as they will lie in the file */
        b->bytes += (size_t)(n * width);
        b->count++;
        s->put += n;
        first += n;
    }
    return DISTAC_OK;
}

/* ---- transposed tensors ---- */

typedef struct turning {
    stream *s;
    int64_t entry, total, width;
    uint8_t *buffer;
} turning;

static distac_status turn_work(void *arg, int32_t lane, int64_t index) {
    turning *t = arg;
    int64_t first = index * DI_PIECE, left = t->total - first;
    const di_piece piece = {t->entry, first, left < DI_PIECE ? left : DI_PIECE};
    return compute(t->s, lane, &piece, t->buffer + first * t->width);
}

/* A tensor that lies transposed in the file is computed as a whole: *out, in its order, of twice `bytes`. */
static distac_status turned(stream *s, const di_target *target, uint8_t **out, size_t *bytes) {
    const di_entry *entry = s->run->base->entries[target->entry];
    const di_file_type *type = di_written_type(s->target, entry);
    bool is_float = di_entry_is_float(entry);
    *bytes = (size_t)di_type_bytes(type, target->numel);
    uint8_t *buffer = *out = di_alloc(s->run->context, 2 * *bytes);
    if (!buffer) return DISTAC_ENOMEM;
    turning t = {s, target->entry, is_float ? target->numel : (int64_t)*bytes, is_float ? type->bits / 8 : 1,
                 buffer + *bytes};
    DI_TRY(di_run_lanes(s->run, (t.total + DI_PIECE - 1) / DI_PIECE, turn_work, &t));
    di_turn(buffer + *bytes, target->shape[1], target->shape[0], (size_t)type->bits / 8, buffer);
    return DISTAC_OK;
}

static distac_status stream_turned(stream *s, const di_target *target, bool again) {
    uint8_t *buffer = NULL;
    size_t bytes = 0;
    distac_status status = turned(s, target, &buffer, &bytes);
    if (status == DISTAC_OK)
        status = again ? di_output_patch(s->written->output, s->written->item_of[target->entry], 0, buffer, bytes)
                       : di_output_put(s->written->output, buffer, bytes);
    if (buffer) di_free(s->run->context, buffer, 2 * bytes);
    return status;
}

/* ---- pieces that are merged again ---- */

static distac_status again_work(void *arg, int32_t lane, int64_t index) {
    stream *s = arg;
    return compute(s, lane, &s->fill->pieces[index], s->fill->buffer + (size_t)index * piece_bytes);
}

/* Merges the marked pieces again and puts them where they were. */
static distac_status stream_again(stream *s) {
    di_merge_run *run = s->run;
    if (!run->marks) return DISTAC_OK;
    di_piece *pieces = di_new((size_t)(run->piece_count ? run->piece_count : 1) * sizeof *pieces);
    if (!pieces) return DISTAC_ENOMEM;
    int64_t count = di_run_marked(run, pieces), before = -1;
    distac_status status = DISTAC_OK;
    for (int64_t done = 0, n; done < count && status == DISTAC_OK; done += n) {
        const di_target *target = &s->written->targets.list[s->written->item_of[pieces[done].entry]];
        n = 1;
        if (target->turned) {
            if (before != target->entry) status = stream_turned(s, target, true);
            before = target->entry;
            continue;
        }
        while (n < BATCH && done + n < count && pieces[done + n].entry == target->entry) n++;
        memcpy(s->fill->pieces, pieces + done, (size_t)n * sizeof *pieces);
        status = di_run_lanes(run, n, again_work, s);
        int64_t width = di_written_type(s->target, run->base->entries[target->entry])->bits / 8;
        for (int64_t i = 0; i < n && status == DISTAC_OK; i++) {
            const di_piece *piece = &s->fill->pieces[i];
            status = di_output_patch(s->written->output, s->written->item_of[piece->entry], piece->first * width,
                                     s->fill->buffer + (size_t)i * piece_bytes, (size_t)(piece->count * width));
        }
    }
    free(pieces);
    return status;
}

/* ---- all of it ---- */

typedef struct looking {
    di_merge_run *run;
    int64_t entry;
} looking;

static distac_status look_work(void *arg, int32_t lane, int64_t index) {
    const looking *l = arg;
    int64_t first = index * DI_PIECE, left = l->run->base->entries[l->entry]->numel - first;
    (void)lane;
    di_run_look(l->run, l->entry, first, left < DI_PIECE ? left : DI_PIECE);
    return DISTAC_OK;
}

static void drop_whole(stream *s) {
    if (s->whole)
        di_free(s->run->context, (void *)(uintptr_t)s->whole,
                di_run_whole_bytes(s->run->base->entries[s->whole_entry]));
    s->whole = NULL;
    s->whole_entry = -1;
}

/* The tensors cut out of one entry follow each other: its D is made once. */
static distac_status take_whole(stream *s, int64_t entry) {
    double *whole;
    looking l = {s->run, entry};
    DI_TRY(stream_flush(s)); /* it belongs to elementwise tensors, or another whole */
    drop_whole(s);
    int64_t looks = (s->run->base->entries[entry]->numel + DI_PIECE - 1) / DI_PIECE;
    if (s->run->prints) DI_TRY(di_run_lanes(s->run, looks, look_work, &l));
    DI_TRY(di_run_whole(s->run, entry, &whole));
    s->whole = whole;
    s->whole_entry = entry;
    return DISTAC_OK;
}

static distac_status stream_all(stream *s) {
    for (int64_t i = 0; i < s->written->targets.count; i++, s->done = i) {
        const di_target *target = target_at(s, i);
        bool takes = target->numel > 0 && di_run_takes(s->run, target->entry);
        if (takes && s->whole_entry != target->entry) DI_TRY(take_whole(s, target->entry));
        if (s->whole && s->whole_entry != target->entry) {
            DI_TRY(stream_flush(s));
            drop_whole(s);
        }
        if (!target->turned) {
            DI_TRY(stream_tensor(s, target));
        } else if (target->numel) {
            DI_TRY(stream_flush(s));
            DI_TRY(stream_flush(s)); /* all before is written */
            DI_TRY(stream_turned(s, target, false));
        }
    }
    DI_TRY(stream_flush(s));
    drop_whole(s);
    DI_TRY(stream_flush(s));
    return stream_again(s);
}

static distac_status write_models(di_merge_run *run, const distac_merge_target *target, di_written *written) {
    batch *batches = di_new(2 * sizeof *batches);
    size_t bytes = DI_FILES_BYTES;
    uint8_t *buffer = batches ? di_alloc(run->context, bytes) : NULL;
    distac_status status = buffer ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        stream s = {.run = run, .target = target, .written = written, .fill = &batches[0], .full = &batches[1],
                    .whole_entry = -1};
        batches[0].buffer = buffer;
        batches[1].buffer = buffer + bytes / 2;
        status = stream_all(&s);
        drop_whole(&s);
    }
    if (buffer) di_free(run->context, buffer, bytes);
    free(batches);
    return status;
}

/* ---- drafts ---- */

struct distac_merge_draft {
    atomic_int refs;
    distac_context *context;
    char *layout;
    di_written written;
    int32_t print_count;
    distac_checkpoint **inputs; /* retained, whose fingerprints are taken */
    di_prints *prints;
};

void distac_merge_draft_release(distac_merge_draft *draft) {
    if (!draft || atomic_fetch_sub(&draft->refs, 1) != 1) return;
    di_written_close(&draft->written);
    di_prints_close(draft->prints);
    for (int32_t i = 0; i < draft->print_count; i++) distac_checkpoint_release(draft->inputs[i]);
    free(draft->inputs);
    free(draft->layout);
    distac_context_release(draft->context);
    free(draft);
}

static distac_status take_prints(distac_merge_draft *draft, int32_t count, distac_checkpoint *const *prints) {
    if (count < 1) return DISTAC_OK;
    draft->inputs = di_new((size_t)count * sizeof *draft->inputs);
    if (!draft->inputs) return DISTAC_ENOMEM;
    for (int32_t i = 0; i < count; i++) {
        if (!prints || !prints[i]) return di_fail(DISTAC_EINVAL, "prints[%d] is NULL", (int)i);
        di_checkpoint_retain(prints[i]);
        draft->inputs[i] = prints[i];
        draft->print_count++;
    }
    return di_prints_open(count, draft->inputs, &draft->prints);
}

static distac_status make_draft(const distac_merge *merge, const char *function, const di_inputs *inputs,
                                const char *path, const distac_merge_target *target,
                                const distac_checkpoint *metadata, distac_merge_draft *draft) {
    di_merge_run run;
    distac_status status = di_run_match(&run, merge, function, true, inputs->base, inputs->count, inputs->models);
    run.prints = draft->prints;
    if (status == DISTAC_OK) status = di_run_fits(&run, DI_FILES_BYTES);
    if (status == DISTAC_OK && merge->method->prepare) status = merge->method->prepare(&run);
    if (status == DISTAC_OK) status = di_written_open(inputs->base, path, target, metadata, &draft->written);
    if (status == DISTAC_OK) status = write_models(&run, target, &draft->written);
    di_run_close(&run);
    if (status == DISTAC_OK && draft->prints) status = di_prints_finish(draft->prints);
    return status;
}

static distac_status draft_files(const distac_merge *merge, const char *function, const distac_checkpoint *base,
                                 int32_t n_models, distac_checkpoint *const *models, const char *path,
                                 const distac_merge_target *target, const distac_checkpoint *metadata,
                                 int32_t n_prints, distac_checkpoint *const *prints, distac_merge_draft **out) {
    di_inputs inputs = {0};
    distac_merge_draft *draft = di_new(sizeof *draft);
    if (!draft) return DISTAC_ENOMEM;
    atomic_init(&draft->refs, 1);
    draft->context = merge->context;
    di_context_retain(draft->context);
    distac_status status = di_inputs_open(target, base, n_models, models, &inputs);
    if (status == DISTAC_OK && target && target->layout && !(draft->layout = di_strdup(target->layout)))
        status = DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = take_prints(draft, n_prints, prints);
    if (status == DISTAC_OK) status = make_draft(merge, function, &inputs, path, target, metadata, draft);
    di_inputs_close(&inputs);
    if (status == DISTAC_OK)
        *out = draft;
    else
        distac_merge_draft_release(draft);
    return status;
}

distac_status distac_merge_draft_files(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                       distac_checkpoint *const *models, const char *path,
                                       const distac_merge_target *target, const distac_checkpoint *metadata,
                                       int32_t n_prints, distac_checkpoint *const *prints,
                                       distac_merge_draft **out) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(path, "path is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    return draft_files(merge, __func__, base, n_models, models, path, target, metadata, n_prints, prints, out);
}

distac_status distac_merge_draft_fingerprint(const distac_merge_draft *draft, int32_t index,
                                             distac_strings **out) {
    DI_REQUIRE(draft, "draft is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (index < 0 || index >= draft->print_count)
        return di_fail(DISTAC_EINVAL, "fingerprint %d of %d", (int)index, (int)draft->print_count);
    return di_prints_get(draft->prints, index, out);
}

static distac_status open_still(const distac_merge_draft *draft) {
    return draft->written.output ? DISTAC_OK : di_fail(DISTAC_ESTATE, "the draft has its name already");
}

distac_status distac_merge_draft_metadata(distac_merge_draft *draft, const distac_checkpoint *metadata) {
    DI_REQUIRE(draft, "draft is NULL");
    DI_REQUIRE(metadata, "metadata is NULL");
    DI_TRY(open_still(draft));
    return di_written_metadata(&draft->written, draft->layout, metadata);
}

distac_status distac_merge_draft_commit(distac_merge_draft *draft) {
    DI_REQUIRE(draft, "draft is NULL");
    DI_TRY(open_still(draft));
    di_output *output = draft->written.output;
    draft->written.output = NULL;
    return di_output_commit(output);
}

distac_status distac_merge_files(const distac_merge *merge, const distac_checkpoint *base, int32_t n_models,
                                 distac_checkpoint *const *models, const char *path, int32_t dtype,
                                 const distac_checkpoint *metadata) {
    distac_merge_draft *draft;
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(base, "base is NULL");
    DI_REQUIRE(path, "path is NULL");
    if (dtype != -1 && !di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype %d; expected -1 or a float type", (int)dtype);
    const distac_merge_target target = {.dtype = dtype >= 0 ? distac_dtype_name(dtype) : NULL};
    DI_TRY(draft_files(merge, __func__, base, n_models, models, path, &target, metadata, 0, NULL, &draft));
    distac_status status = distac_merge_draft_commit(draft);
    distac_merge_draft_release(draft);
    return status;
}
