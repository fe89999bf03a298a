/* written.c: what a merge of files writes: the tensors of the output's layout, their order, the metadata. */
#include "merge.h"
#include <stdlib.h>
#include <string.h>

static distac_status check(const distac_merge_target *target) {
    if (target->shard < 0)
        return di_fail(DISTAC_EINVAL, "shard is %lld; wanted bytes, or 0 for one file", (long long)target->shard);
    int32_t dtype = target->dtype ? distac_dtype_from_name(target->dtype) : DISTAC_F32;
    if (!di_dtype_is_float(dtype))
        return di_fail(DISTAC_EINVAL, "dtype \"%s\"; wanted f32, f16, bf16 or f64", target->dtype);
    return DISTAC_OK;
}

const di_file_type *di_written_type(const distac_merge_target *target, const di_entry *entry) {
    return di_st_target(entry, target && target->dtype ? distac_dtype_from_name(target->dtype) : -1);
}

/* ---- inputs ---- */

distac_status di_inputs_open(const distac_merge_target *target, const distac_checkpoint *base, int32_t count,
                             distac_checkpoint *const *models, di_inputs *out) {
    bool canonical = target && target->layout && strcmp(target->layout, "plain") != 0;
    *out = (di_inputs){0};
    if (target) DI_TRY(check(target));
    if (count < 1 || !models) return di_fail(DISTAC_EINVAL, "no models; at least 1 is wanted");
    out->models = di_new((size_t)count * sizeof *out->models);
    if (!out->models) return DISTAC_ENOMEM;
    for (int32_t t = -1; t < count; t++) {
        const distac_checkpoint *from = t < 0 ? base : models[t];
        distac_checkpoint **to = t < 0 ? &out->base : &out->models[t];
        if (!from && t < 0) continue;
        if (!from) return di_fail(DISTAC_EINVAL, "input %d is NULL", (int)t + 1);
        if (canonical) {
            DI_TRY(di_canonical(from, to));
        } else {
            di_checkpoint_retain(from);
            *to = (distac_checkpoint *)(uintptr_t)from;
        }
        if (t >= 0) out->count++;
    }
    return DISTAC_OK;
}

void di_inputs_close(di_inputs *inputs) {
    distac_checkpoint_release(inputs->base);
    for (int32_t t = 0; t < inputs->count; t++) distac_checkpoint_release(inputs->models[t]);
    free(inputs->models);
    *inputs = (di_inputs){0};
}

/* ---- the output ---- */

/* A checkpoint with the metadata alone; transformers reads no file without "format". */
static distac_status notes_of(const char *layout, const distac_checkpoint *from, distac_checkpoint **out) {
    DI_TRY(di_checkpoint_new(from->context, "", out));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; status == DISTAC_OK && i < from->pair_count; i++)
        status = di_checkpoint_pair(*out, from->pairs[i].key, from->pairs[i].value);
    if (status == DISTAC_OK && layout && strcmp(layout, di_layout_hf.name) == 0)
        status = di_checkpoint_pair(*out, "format", "pt");
    return status;
}

distac_status di_written_open(const distac_checkpoint *base, const char *path, const distac_merge_target *target,
                              const distac_checkpoint *metadata, di_written *out) {
    static const distac_merge_target plain = {0};
    if (!target) target = &plain;
    *out = (di_written){0};
    DI_TRY(di_targets_open(base, target->layout, &out->targets));
    size_t room = (size_t)(out->targets.count ? out->targets.count : 1);
    out->items = di_new(room * sizeof *out->items);
    out->order = di_new(room * sizeof *out->order);
    out->item_of = di_new((size_t)(base->count ? base->count : 1) * sizeof *out->item_of);
    if (!out->items || !out->order || !out->item_of) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < base->count; i++) out->item_of[i] = -1;
    for (int64_t i = 0; i < out->targets.count; i++) {
        const di_target *at = &out->targets.list[i];
        const di_file_type *type = di_written_type(target, base->entries[at->entry]);
        int64_t part = at->numel ? at->first / at->numel : 0;
        if (at->first == 0) out->item_of[at->entry] = i;
        if (!di_entry_is_float(base->entries[at->entry]) && base->entries[at->entry]->lazy)
            return di_fail(DISTAC_EDTYPE, "%s: tensor \"%s\" is %s, which has no other layout", base->path,
                           at->name, base->entries[at->entry]->type->name);
        out->items[i] = (di_st_item){at->name, type, at->rank, at->shape, di_type_bytes(type, at->numel),
                                     at->entry * DI_LAZY_PARTS + part};
    }
    distac_checkpoint *notes = NULL;
    distac_status status = notes_of(target->layout, metadata ? metadata : base, &notes);
    if (status == DISTAC_OK) {
        const di_output_desc desc = {path,           target->shard > 0, target->shard,
                                     target->config, notes->pair_count, notes->pairs};
        status = di_output_open(&desc, out->targets.count, out->items, out->order, &out->output);
    }
    distac_checkpoint_release(notes);
    return status;
}

distac_status di_written_metadata(di_written *written, const char *layout, const distac_checkpoint *metadata) {
    distac_checkpoint *notes = NULL;
    distac_status status = notes_of(layout, metadata, &notes);
    if (status == DISTAC_OK) status = di_output_metadata(written->output, notes->pair_count, notes->pairs);
    distac_checkpoint_release(notes);
    return status;
}

void di_written_close(di_written *written) {
    di_output_abort(written->output);
    di_targets_close(&written->targets);
    free(written->items);
    free(written->order);
    free(written->item_of);
    *written = (di_written){0};
}

void di_turn(const uint8_t *in, int64_t rows, int64_t columns, size_t width, uint8_t *out) {
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++, out += width)
            memcpy(out, in + (size_t)(i * columns + j) * width, width);
}
