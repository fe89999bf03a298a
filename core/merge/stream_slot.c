/* stream_slot.c: the work on one slot of a stream (stream.h). */
#include "direct.h"
#include "stream.h"
#include <math.h>
#include <string.h>

static bool load_base(const distac_merge_stream *s, const di_slot *c, double *out) {
    if (s->run.whole) return di_run_base(&s->run, c->entry, c->first, c->count, out);
    int64_t index = distac_checkpoint_find(s->base, s->run.base->entries[c->entry]->name);
    di_entry_f64(s->base->entries[index], s->base_bytes.bytes[index], c->first, c->count, out);
    return true;
}

distac_status di_slot_load(distac_merge_stream *s, const di_slot *c) {
    int32_t models = s->run.models;
    bool fine = true;
    double *base = NULL;
    if (di_stream_has_base(s)) {
        fine = load_base(s, c, di_stream_row(s, c->rows, models));
        if (s->run.whole) base = di_stream_row(s, c->rows, models);
    }
    for (int32_t t = 0; t < models; t++)
        fine &= di_run_load(&s->run, t, c->entry, c->first, c->count, base, di_stream_row(s, c->rows, t));
    return fine ? DISTAC_OK : di_run_nonfinite(&s->run, c->entry, c->first);
}

/* base + lambda*D, or D, of n <= DI_STEP elements. */
static distac_status finish(const distac_merge_stream *s, int64_t entry, int64_t first, int64_t n,
                            const double *base, const double *d, int32_t dtype, uint8_t *out) {
    double values[DI_STEP];
    const char *name = s->run.base->entries[entry]->name;
    double lambda = s->run.whole ? di_run_lambda(&s->run, entry) : s->run.factors[entry];
    if (di_run_finish_f32(n, base, lambda, d, dtype, out)) return DISTAC_OK;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(d[i]))
            return di_fail_at(DISTAC_ENUMERIC, s->run.function, "the result for \"%s\", element %lld is %g", name,
                              (long long)(first + i), di_shown(d[i]));
    for (int64_t i = 0; i < n; i++) values[i] = base ? base[i] + lambda * d[i] : lambda * d[i];
    return di_narrow(s->run.function, name, first, dtype, values, out, n);
}

/* The same of floats that lie in memory. False if one is not finite. */
DI_CLONES static bool finish_floats(int64_t n, const float *restrict base, double lambda, const float *restrict d,
                                    uint8_t *restrict out) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        float value = (float)((double)base[i] + lambda * (double)d[i]);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        seen |= (bits & 0x7f800000u) + 0x00800000u;
        memcpy(out + i * (int64_t)sizeof value, &value, sizeof value);
    }
    return seen >> 31 == 0;
}

static bool given_floats(const distac_merge_stream *s, const di_slot *c, int32_t dtype, uint8_t *out) {
    const di_entry *entry = s->run.base->entries[c->entry];
    if (!s->run.whole || dtype != DISTAC_F32 || s->given->dtype != DISTAC_F32 || entry->type->dtype != DISTAC_F32)
        return false;
    const uint8_t *base = di_entry_run(entry, s->run.base_bytes.bytes[c->entry], c->first, c->count);
    if (!base || (uintptr_t)base % sizeof(float)) return false;
    return finish_floats(c->count, (const float *)(const void *)base, di_run_lambda(&s->run, c->entry),
                         (const float *)s->given->data + c->first, out);
}

/* Where the caller has no part: n <= DI_STEP elements. */
static distac_status step(distac_merge_stream *s, const di_slot *c, int64_t done, int64_t n, int32_t dtype,
                          uint8_t *out) {
    double base[DI_STEP], d[DI_STEP];
    int64_t first = c->first + done;
    bool fine = true;
    if (s->run.whole) fine = di_run_base(&s->run, c->entry, first, n, base);
    if (c->kind == DI_KEPT) /* whatever it is */
        return di_narrow(s->run.function, s->run.base->entries[c->entry]->name, first, dtype, base, out, n);
    if (!fine) return di_run_nonfinite(&s->run, c->entry, first);
    di_to_f64(s->given->dtype, (const uint8_t *)s->given->data + first * distac_dtype_bytes(s->given->dtype), d,
              n);
    return finish(s, c->entry, first, n, s->run.whole ? base : NULL, d, dtype, out);
}

distac_status di_slot_store(distac_merge_stream *s, di_slot *c, uint8_t *bytes) {
    c->bytes = 0;
    if (c->kind == DI_KEPT && !s->run.whole) return DISTAC_OK; /* made as zeros */
    int32_t dtype = DISTAC_F32;
    size_t width = sizeof(float);
    uint8_t *out;
    if (s->run.whole) {
        dtype = di_stream_type(s, c->entry)->dtype;
        width = c->kind == DI_BYTES ? 1 : (size_t)di_stream_type(s, c->entry)->bits / 8;
        if (!c->turned) c->bytes = (size_t)c->count * width;
        out = c->turned ? s->turning + s->turning_bytes / 2 + c->at : bytes;
    } else {
        out = (uint8_t *)((float *)s->results[c->entry]->data + c->first);
    }
    if (c->kind == DI_BYTES) {
        memcpy(out, s->run.base_bytes.bytes[c->entry] + c->first, (size_t)c->count);
        return DISTAC_OK;
    }
    if (c->kind == DI_GIVEN && given_floats(s, c, dtype, out)) return DISTAC_OK;
    const double *d = NULL, *base = NULL;
    if (c->kind == DI_SHOWN) d = di_stream_row(s, c->rows, s->run.models + 1);
    if (c->kind == DI_SHOWN && s->run.whole) base = di_stream_row(s, c->rows, s->run.models);
    for (int64_t done = 0; done < c->count; done += DI_STEP) {
        int64_t n = c->count - done < DI_STEP ? c->count - done : DI_STEP;
        uint8_t *to = out + (size_t)done * width;
        if (d) DI_TRY(finish(s, c->entry, c->first + done, n, base ? base + done : NULL, d + done, dtype, to));
        else DI_TRY(step(s, c, done, n, dtype, to));
    }
    return DISTAC_OK;
}

/* ---- task vectors of whole tensors ---- */

#ifdef DI_HAVE_WIDE
/* x - base of floats, past the caches: what rounding the
 * difference in double gives, too. False if one is not finite. */
DI_WIDE_TARGET static bool less_floats(const float *x, const float *base, int64_t n, float *out) {
    __m512i seen = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16) {
        _mm_prefetch((const char *)(x + i + DI_BLOCK_AHEAD), _MM_HINT_T0);
        __m512 value = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(base + i));
        __m512i bits = _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(0x7f800000));
        seen = _mm512_or_si512(seen, _mm512_add_epi32(bits, _mm512_set1_epi32(0x00800000)));
        _mm512_stream_ps(out + i, value);
    }
    return _mm512_movepi32_mask(seen) == 0;
}
#endif

/* Floats that lie in memory; false: not here. */
static bool direct(distac_merge_stream *s, const di_stream_whole *whole, int64_t at, int64_t n) {
#ifdef DI_HAVE_WIDE
    di_floats floats;
    if (n % 16 || !di_run_floats(&s->run, whole->entry, at, n, &floats) || !floats.base) return false;
    for (int32_t t = 0; t < s->run.models; t++) {
        float *out = (float *)whole->taus[t]->data + at;
        if (whole->taus[t]->dtype != DISTAC_F32 || (uintptr_t)out % 64 ||
            !less_floats(floats.x[t], floats.base, n, out))
            return false;
    }
    return true;
#else
    (void)s, (void)whole, (void)at, (void)n;
    return false;
#endif
}

/* Stores past the caches are seen by others only after this. */
static void settle(void) {
#ifdef DI_HAVE_WIDE
    _mm_sfence();
#endif
}

distac_status di_whole_piece(distac_merge_stream *s, int32_t lane, const di_stream_whole *whole, int64_t piece) {
    const di_entry *entry = s->run.base->entries[whole->entry];
    double *const *rows = di_run_rows(&s->run, lane);
    int64_t begin = piece * DI_PIECE, end = begin + DI_PIECE < entry->numel ? begin + DI_PIECE : entry->numel;
    for (int64_t at = begin; at < end; at += DI_STEP) {
        int64_t n = end - at < DI_STEP ? end - at : DI_STEP;
        if (direct(s, whole, at, n)) continue;
        if (!di_run_step(&s->run, whole->entry, at, n, rows)) return di_run_nonfinite(&s->run, whole->entry, at);
        for (int32_t t = 0; t < s->run.models; t++) {
            int32_t dtype = whole->taus[t]->dtype;
            uint8_t *out = (uint8_t *)whole->taus[t]->data + at * distac_dtype_bytes(dtype);
            if (!di_run_finish_f32(n, NULL, 1, rows[t], dtype, out))
                DI_TRY(di_narrow(s->run.function, entry->name, at, dtype, rows[t], out, n));
        }
    }
    settle();
    return DISTAC_OK;
}
