/* run.c: opening a merge: its inputs matched with each other, its parameters and what it has room for. */
#include "merge.h"
#include <stdio.h>
#include <stdlib.h>

const char *di_run_label(const di_merge_run *run, int32_t t, char *buffer, size_t bytes) {
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
        di_match_add(&text, &status, di_run_label(run, -1, a, sizeof a), run->base,
                     di_run_label(run, t, b, sizeof b), run->inputs[t], merged, run->merge);
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
            return di_fail_at(DISTAC_ENOTFOUND, run->function,
                              "no tensor matches the pattern \"%s\"; the first is \"%s\"", merge->rules[r].pattern,
                              run->base->count ? run->base->entries[0]->name : "");
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
    if (!run->there) DI_TRY(di_sources_open(run->base, NULL, &run->base_bytes));
    for (int32_t t = 0; t < run->models; t++) {
        if (!run->there) DI_TRY(di_sources_open(run->inputs[t], NULL, &run->input_bytes[t]));
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

static di_merge_run new_run(const distac_merge *merge, const char *function, bool whole,
                            const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs) {
    int32_t threads = merge->context->threads;
    return (di_merge_run){.context = merge->context,
                          .merge = merge,
                          .function = function,
                          .models = models,
                          .whole = whole,
                          .base = base,
                          .inputs = inputs,
                          .lanes = threads < 1 ? 1 : threads};
}

static distac_status match(di_merge_run *run) {
    const distac_merge *merge = run->merge;
    const char *function = run->function;
    int32_t models = run->models;
    distac_checkpoint *const *inputs = run->inputs;
    if (models < 1) return di_fail_at(DISTAC_EINVAL, function, "%d models; at least 1 is wanted", (int)models);
    for (int32_t t = 0; t < models; t++)
        if (!inputs || !inputs[t]) return di_fail_at(DISTAC_EINVAL, function, "input %d is NULL", (int)t + 1);
    if (!run->whole) run->base = inputs[0];
    if (!run->base) return di_fail_at(DISTAC_EINVAL, function, "base is NULL");
    if (merge->method->models && models != merge->method->models)
        return di_fail_at(DISTAC_EINVAL, function, "%s: %d models; it takes %d", merge->method->name, (int)models,
                          (int)merge->method->models);
    DI_TRY(check_params(run));
    DI_TRY(find_factors(run));
    DI_TRY(match_inputs(run));
    return open_inputs(run);
}

distac_status di_run_match(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                           const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs) {
    *run = new_run(merge, function, whole, base, models, inputs);
    return match(run);
}

distac_status di_run_match_there(di_merge_run *run, const distac_merge *merge, const char *function,
                                 int32_t models, distac_checkpoint *const *inputs, struct di_there *there) {
    *run = new_run(merge, function, false, NULL, models, inputs);
    run->there = there;
    return match(run);
}

distac_status di_run_open(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                          const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs) {
    int64_t results = 0;
    DI_TRY(di_run_match(run, merge, function, whole, base, models, inputs));
    for (int64_t i = 0; !whole && i < run->base->count; i++) /* they stay in memory, in float */
        if (di_entry_is_float(run->base->entries[i]))
            results += run->base->entries[i]->numel * (int64_t)sizeof(float);
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
    return di_value_of(&run->merge->params[index], model);
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
