/* arithmetic.c: sums and norms of whole checkpoints, piece by piece on all threads. */
#include "../backend/backend.h"
#include "io.h"
#include <math.h>
#include <stdlib.h>

/* ---- pieces and sources ---- */

distac_status di_pieces(di_entry *const *entries, int64_t entry_count, int64_t *count, di_piece **out) {
    int64_t total = 0, k = 0;
    for (int64_t i = 0; i < entry_count; i++)
        if (di_entry_is_float(entries[i])) total += (entries[i]->numel + DI_PIECE - 1) / DI_PIECE;
    di_piece *pieces = di_new((size_t)(total ? total : 1) * sizeof *pieces);
    if (!pieces) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < entry_count; i++) {
        const di_entry *entry = entries[i];
        if (!di_entry_is_float(entry)) continue;
        for (int64_t at = 0; at < entry->numel; at += DI_PIECE)
            pieces[k++] = (di_piece){i, at, entry->numel - at < DI_PIECE ? entry->numel - at : DI_PIECE};
    }
    *count = total;
    *out = pieces;
    return DISTAC_OK;
}

void di_sources_close(di_sources *sources) {
    for (int64_t i = 0; sources->copies && i < sources->count; i++) distac_tensor_release(sources->copies[i]);
    free(sources->bytes);
    free(sources->copies);
    *sources = (di_sources){0};
}

distac_status di_sources_open(const distac_checkpoint *checkpoint, const bool *unwanted, di_sources *out) {
    size_t count = (size_t)(checkpoint->count ? checkpoint->count : 1);
    *out = (di_sources){.count = checkpoint->count};
    out->bytes = di_new(count * sizeof *out->bytes);
    out->copies = di_new(count * sizeof *out->copies);
    distac_status status = out->bytes && out->copies ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < checkpoint->count; i++)
        if (!checkpoint->entries[i]->lazy && !(unwanted && unwanted[i]))
            status = di_entry_bytes(checkpoint->entries[i], &out->bytes[i], &out->copies[i]);
    if (status != DISTAC_OK) di_sources_close(out);
    return status;
}

/* ---- alpha*a + beta*b ---- */

typedef struct combine_job {
    const distac_checkpoint *a, *b; /* b NULL: alpha*a alone */
    double alpha, beta;
    di_sources from_a, from_b;
    int64_t *partner;        /* index in b of each entry of a */
    bool *there_a, *there_b; /* entries that are added up on the device */
    distac_tensor **results; /* one per entry of a, NULL for integer tensors */
    const di_piece *pieces;
} combine_job;

static void combine_piece(void *arg, int64_t index) {
    const combine_job *job = arg;
    const di_piece *piece = &job->pieces[index];
    distac_tensor *result = job->results[piece->entry];
    if (atomic_load(&job->a->context->cancel)) return;
    double x[1024], y[1024];
    for (int64_t done = 0; done < piece->count; done += 1024) {
        int64_t n = piece->count - done < 1024 ? piece->count - done : 1024;
        int64_t at = piece->first + done;
        di_entry_f64(job->a->entries[piece->entry], job->from_a.bytes[piece->entry], at, n, x);
        for (int64_t i = 0; i < n; i++) x[i] *= job->alpha;
        if (job->b) {
            int64_t partner = job->partner[piece->entry];
            di_entry_f64(job->b->entries[partner], job->from_b.bytes[partner], at, n, y);
            for (int64_t i = 0; i < n; i++) x[i] += job->beta * y[i];
        }
        int64_t width = distac_dtype_bytes(result->dtype);
        di_from_f64(result->dtype, x, (uint8_t *)result->data + at * width, n);
    }
}

static distac_status make_results(combine_job *job, distac_checkpoint *out) {
    for (int64_t i = 0; i < job->a->count; i++) {
        const di_entry *entry = job->a->entries[i];
        if (!di_entry_is_float(entry)) continue;
        bool wide = entry->type->dtype == DISTAC_F64, there = di_entry_there(entry, job->a->context);
        if (job->b) {
            int64_t partner = job->partner[i] = distac_checkpoint_find(job->b, entry->name);
            wide = wide && job->b->entries[partner]->type->dtype == DISTAC_F64;
            there = there && di_entry_there(job->b->entries[partner], job->a->context);
            job->there_b[partner] = there;
        }
        job->there_a[i] = there;
        DI_TRY(di_tensor_new_at(job->a->context, there, wide ? DISTAC_F64 : DISTAC_F32, entry->rank, entry->shape,
                                &job->results[i]));
        DI_TRY(distac_checkpoint_set(out, entry->name, job->results[i]));
    }
    return DISTAC_OK;
}

static distac_status combine_there(const combine_job *job, int64_t entry, uint64_t *bad) {
    distac_context *context = job->a->context;
    distac_tensor *result = job->results[entry], *x = NULL, *y = NULL;
    distac_status status = di_tensor_bring(job->a->entries[entry]->tensor, true, &x);
    if (status == DISTAC_OK && job->b)
        status = di_tensor_bring(job->b->entries[job->partner[entry]]->tensor, true, &y);
    if (status == DISTAC_OK)
        status = context->device->merges->blend(context, result->numel, job->alpha, x->dtype, x->data, job->beta,
                                                y ? y->dtype : 0, y ? y->data : NULL, result->dtype, result->data,
                                                bad);
    distac_tensor_release(y);
    distac_tensor_release(x);
    return status;
}

/* What lies on the device. Numbers that are not finite are nobody's concern here. */
static distac_status combine_all_there(const combine_job *job) {
    distac_context *context = job->a->context;
    void *bad = NULL;
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < job->a->count && status == DISTAC_OK; i++) {
        if (!job->there_a[i] || job->results[i]->numel == 0) continue;
        if (!bad) status = context->device->alloc(context, sizeof(uint64_t), &bad);
        if (status == DISTAC_OK) status = combine_there(job, i, bad);
    }
    if (bad) context->device->free(context, bad, sizeof(uint64_t));
    return status;
}

static distac_status combine(const distac_checkpoint *a, double alpha, const distac_checkpoint *b, double beta,
                             distac_checkpoint **out) {
    combine_job job = {.a = a, .b = b, .alpha = alpha, .beta = beta};
    size_t count = (size_t)(a->count ? a->count : 1);
    di_piece *pieces = NULL;
    int64_t piece_count = 0, here = 0;
    distac_checkpoint *result = NULL;
    job.partner = di_new(count * sizeof *job.partner);
    job.there_a = di_new(count);
    job.there_b = di_new(b && b->count ? (size_t)b->count : 1);
    job.results = di_new(count * sizeof *job.results);
    bool room = job.partner && job.there_a && job.there_b && job.results;
    distac_status status = room ? distac_checkpoint_create(a->context, &result) : DISTAC_ENOMEM;
    if (status == DISTAC_OK) status = make_results(&job, result);
    if (status == DISTAC_OK) status = di_sources_open(a, job.there_a, &job.from_a);
    if (status == DISTAC_OK && b) status = di_sources_open(b, job.there_b, &job.from_b);
    if (status == DISTAC_OK) status = di_pieces(a->entries, a->count, &piece_count, &pieces);
    if (status == DISTAC_OK) status = combine_all_there(&job);
    if (status == DISTAC_OK) {
        for (int64_t i = 0; i < piece_count; i++)
            if (!job.there_a[pieces[i].entry]) pieces[here++] = pieces[i];
        job.pieces = pieces;
        di_parallel(a->context, here, combine_piece, &job);
        status = di_poll(a->context);
    }
    for (int64_t i = 0; job.results && i < a->count; i++) distac_tensor_release(job.results[i]);
    di_sources_close(&job.from_a);
    di_sources_close(&job.from_b);
    free(job.results);
    free(pieces);
    free(job.there_b);
    free(job.there_a);
    free(job.partner);
    if (status != DISTAC_OK) {
        distac_checkpoint_release(result);
        return status;
    }
    *out = result;
    return DISTAC_OK;
}

static const char *label(const distac_checkpoint *checkpoint, const char *otherwise) {
    return checkpoint->path[0] ? checkpoint->path : otherwise;
}

distac_status distac_checkpoint_combine(double alpha, const distac_checkpoint *a, double beta,
                                        const distac_checkpoint *b, distac_checkpoint **out) {
    DI_REQUIRE(a, "a is NULL");
    DI_REQUIRE(b, "b is NULL");
    DI_REQUIRE(out, "out is NULL");
    DI_REQUIRE(isfinite(alpha) && isfinite(beta), "alpha and beta must be finite");
    DI_TRY(di_match(__func__, label(a, "the first"), a, label(b, "the second"), b));
    return combine(a, alpha, b, beta, out);
}

distac_status distac_checkpoint_scale(double alpha, const distac_checkpoint *a, distac_checkpoint **out) {
    DI_REQUIRE(a, "a is NULL");
    DI_REQUIRE(out, "out is NULL");
    DI_REQUIRE(isfinite(alpha), "alpha must be finite");
    return combine(a, alpha, NULL, 0, out);
}

/* ---- norms ---- */

typedef struct norm_job {
    distac_context *context;
    di_entry *const *entries; /* what the pieces' numbers mean */
    const uint8_t *const *bytes;
    const di_piece *pieces;
    double *sums; /* one per piece */
} norm_job;

static void norm_piece(void *arg, int64_t index) {
    const norm_job *job = arg;
    const di_piece *piece = &job->pieces[index];
    if (atomic_load(&job->context->cancel)) return;
    double x[1024], sums[8] = {0}; /* eight strands, always added up in the same order */
    for (int64_t done = 0; done < piece->count; done += 1024) {
        int64_t n = piece->count - done < 1024 ? piece->count - done : 1024, i = 0;
        di_entry_f64(job->entries[piece->entry], job->bytes[piece->entry], piece->first + done, n, x);
        for (; i + 8 <= n; i += 8)
            for (int k = 0; k < 8; k++) sums[k] += x[i + k] * x[i + k];
        for (; i < n; i++) sums[0] += x[i] * x[i];
    }
    job->sums[index] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

static distac_status norm(norm_job *job, int64_t count, double *out) {
    job->sums = di_new((size_t)(count ? count : 1) * sizeof *job->sums);
    if (!job->sums) return DISTAC_ENOMEM;
    di_parallel(job->context, count, norm_piece, job);
    distac_status status = di_poll(job->context);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += job->sums[i];
    if (status == DISTAC_OK) *out = sqrt(sum);
    free(job->sums);
    return status;
}

distac_status distac_checkpoint_norm(const distac_checkpoint *checkpoint, double *out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    di_sources sources = {0};
    di_piece *pieces = NULL;
    int64_t count = 0;
    distac_status status = di_sources_open(checkpoint, NULL, &sources);
    if (status == DISTAC_OK) status = di_pieces(checkpoint->entries, checkpoint->count, &count, &pieces);
    if (status == DISTAC_OK) {
        norm_job job = {checkpoint->context, checkpoint->entries, sources.bytes, pieces, NULL};
        status = norm(&job, count, out);
    }
    free(pieces);
    di_sources_close(&sources);
    return status;
}

distac_status distac_checkpoint_tensor_norm(const distac_checkpoint *checkpoint, int64_t index, double *out) {
    DI_REQUIRE(checkpoint, "checkpoint is NULL");
    DI_REQUIRE(out, "out is NULL");
    if (index < 0 || index >= checkpoint->count)
        return di_fail(DISTAC_EINVAL, "tensor %lld of %lld", (long long)index, (long long)checkpoint->count);
    const di_entry *entry = checkpoint->entries[index];
    if (!di_entry_is_float(entry))
        return di_fail(DISTAC_EDTYPE, "\"%s\" is %s; norms are taken of float tensors", entry->name,
                       entry->type->name);
    const uint8_t *bytes;
    distac_tensor *copy;
    di_piece *pieces = NULL;
    int64_t count = 0;
    DI_TRY(di_entry_bytes(entry, &bytes, &copy));
    distac_status status = di_pieces(&checkpoint->entries[index], 1, &count, &pieces);
    if (status == DISTAC_OK) {
        norm_job job = {checkpoint->context, &checkpoint->entries[index], &bytes, pieces, NULL};
        status = norm(&job, count, out);
    }
    free(pieces);
    distac_tensor_release(copy);
    return status;
}
