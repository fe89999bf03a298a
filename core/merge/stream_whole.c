/* stream_whole.c: the task vectors of whole tensors (stream.h), made ahead of those who ask for them. */
#include "stream.h"
#include <stdlib.h>

static const int64_t later_bytes = (int64_t)256 << 20; /* made ahead at most */

void di_whole_free(const distac_merge_stream *s, di_stream_whole *whole) {
    for (int32_t t = 0; whole->taus && t < s->run.models; t++) distac_tensor_release(whole->taus[t]);
    free(whole->taus);
    whole->taus = NULL;
}

void di_whole_drop(distac_merge_stream *s) {
    di_whole_free(s, di_stream_whole_at(s, 0));
    di_crew_drop(s);
}

/* Those of the tensor at unit `at`, behind the others. */
static distac_status make_whole(distac_merge_stream *s, int64_t at) {
    int64_t entry = di_stream_unit_at(s, at).entry;
    const di_entry *e = s->run.base->entries[entry];
    di_stream_whole *out = di_stream_whole_at(s, s->whole_count);
    out->taus = di_new((size_t)s->run.models * sizeof *out->taus);
    distac_status status = out->taus ? DISTAC_OK : DISTAC_ENOMEM;
    out->bytes = 0;
    for (int32_t t = 0; t < s->run.models && status == DISTAC_OK; t++) {
        int64_t partner = s->run.partner[t * s->run.base->count + entry];
        bool wide = e->type->dtype == DISTAC_F64 || s->run.inputs[t]->entries[partner]->type->dtype == DISTAC_F64;
        int32_t dtype = wide ? DISTAC_F64 : DISTAC_F32;
        status = di_tensor_new(s->run.context, dtype, e->rank, e->shape, false, &out->taus[t]);
        out->bytes += e->numel * distac_dtype_bytes(dtype);
    }
    if (status != DISTAC_OK) {
        di_whole_free(s, out);
        return status;
    }
    out->entry = entry;
    out->at = at;
    di_crew_offer(s);
    return DISTAC_OK;
}

/* Begins with those of the tensors after this one, if there are other
 * threads and there is room; else they are made in their turn. */
static void make_later(distac_merge_stream *s) {
    int64_t limit = atomic_load(&s->run.context->memory_limit), sum = 0;
    for (int32_t i = 1; i < s->whole_count; i++) sum += di_stream_whole_at(s, i)->bytes;
    while (s->threads > 0 && s->whole_count < DI_STREAM_WHOLES) {
        const di_stream_whole *last = di_stream_whole_at(s, s->whole_count - 1);
        int64_t at = last->at, bytes;
        while (at < di_stream_units(s) && (di_stream_kind(s, di_stream_unit_at(s, at).entry) != DI_GIVEN ||
                                           di_stream_unit_at(s, at).entry == last->entry))
            at++;
        if (at == di_stream_units(s)) return;
        int64_t numel = s->run.base->entries[di_stream_unit_at(s, at).entry]->numel;
        if (__builtin_mul_overflow(numel, (int64_t)sizeof(float) * s->run.models, &bytes) ||
            bytes > later_bytes - sum)
            return;
        if (limit > 0 && atomic_load(&s->run.context->memory_used) + 2 * bytes > limit) return;
        if (make_whole(s, at) != DISTAC_OK) return;
        sum += bytes;
    }
}

distac_status distac_merge_stream_tau(distac_merge_stream *s, int32_t index, distac_tensor **out) {
    DI_REQUIRE(s, "stream is NULL");
    DI_REQUIRE(out, "out is NULL");
    *out = NULL;
    if (!s->waits)
        return di_fail(DISTAC_ESTATE, "no tensor is waited for; distac_merge_stream_next says which is");
    if (s->failed) return di_fail(DISTAC_ESTATE, "the merge has failed before");
    if (index < 0 || index >= s->run.models)
        return di_fail(DISTAC_EINVAL, "task vector %d of %d", (int)index, (int)s->run.models);
    int64_t entry = di_stream_unit_at(s, s->at).entry;
    if (s->asked != s->at) {
        s->failed = true; /* until this is done */
        while (s->whole_count && di_stream_whole_at(s, 0)->entry != entry) { /* nobody asked */
            DI_TRY(di_crew_whole(s, false));
            di_whole_drop(s);
        }
        if (!s->whole_count) DI_TRY(make_whole(s, s->at));
        DI_TRY(di_crew_whole(s, true));
        s->failed = false;
        s->asked = s->at;
        make_later(s);
    }
    *out = di_stream_whole_at(s, 0)->taus[index];
    di_tensor_retain(*out);
    return DISTAC_OK;
}
