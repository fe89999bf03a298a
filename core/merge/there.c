/* there.c: the merge in memory of task vectors that lie on a device: tensor by tensor, the bits of the host's.
 * What the numbers are multiplied and compared with stands in lists on the device; the host reads back counts and
 * one word that tells whether all was finite. */
#include "there.h"
#include "../backend/backend.h"
#include <stdlib.h>
#include <string.h>

/* run->there */
struct di_there {
    distac_tensor **taus; /* [base->count][models], dense; NULL: not merged */
    int32_t *dtypes;      /* [base->count] */
    bool wide;            /* one of them is F64 */
    di_merge_model *each; /* [models]; what the device's list holds if `sent` */
    bool sent;
    void *memory;         /* the device's, of so many bytes: */
    size_t bytes;
    const void **there_taus; /* [base->count][models] */
    di_merge_model *there_each;
    uint64_t *words; /* [WORDS] */
};
enum { BAD, LEAD, WORDS };

bool di_there_all(const distac_merge *merge, int32_t n_taus, distac_checkpoint *const *taus) {
    int64_t floats = 0;
    if (!merge->context->device || !taus) return false;
    for (int32_t t = 0; t < n_taus; t++)
        for (int64_t i = 0; taus[t] && i < taus[t]->count; i++) {
            if (!di_entry_is_float(taus[t]->entries[i])) continue;
            if (!di_entry_there(taus[t]->entries[i], merge->context)) return false;
            floats++;
        }
    return floats > 0;
}

bool di_there_goes(const distac_merge *merge) {
    const di_method *method = merge->method;
    if (!method->rule || (method->takes && !method->tensor_there)) return false;
    return !method->goes_there || method->goes_there(merge);
}

/* ---- the task vectors ---- */

/* One type for all models, F32 or F64; narrower ones are widened. */
static distac_status hold(di_merge_run *run, int64_t entry) {
    struct di_there *there = run->there;
    distac_tensor **taus = there->taus + entry * run->models;
    int32_t dtype = DISTAC_F32;
    for (int32_t t = 0; t < run->models; t++) {
        int64_t partner = run->partner[t * run->base->count + entry];
        DI_TRY(di_tensor_bring(run->inputs[t]->entries[partner]->tensor, true, &taus[t]));
        if (taus[t]->dtype != DISTAC_F32) dtype = DISTAC_F64;
    }
    for (int32_t t = 0; t < run->models; t++) {
        distac_tensor *wide;
        if (taus[t]->dtype == dtype) continue;
        DI_TRY(distac_tensor_cast(taus[t], dtype, &wide));
        distac_tensor_release(taus[t]);
        taus[t] = wide;
    }
    there->dtypes[entry] = dtype;
    there->wide = there->wide || dtype == DISTAC_F64;
    return DISTAC_OK;
}

static distac_status open(di_merge_run *run) {
    struct di_there *there = run->there;
    distac_context *context = run->context;
    size_t models = (size_t)run->models, count = (size_t)run->base->count;
    size_t lists = models * count * sizeof(void *), numbers = models * sizeof(di_merge_model);
    there->taus = di_new(models * count * sizeof *there->taus);
    there->dtypes = di_new(count * sizeof *there->dtypes);
    there->each = di_new(numbers);
    const void **pointers = di_new(lists);
    there->bytes = lists + numbers + WORDS * sizeof(uint64_t);
    distac_status status = there->taus && there->dtypes && there->each && pointers
                               ? context->device->alloc(context, there->bytes, &there->memory)
                               : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        there->there_taus = there->memory;
        there->there_each = (di_merge_model *)(void *)(there->there_taus + models * count);
        there->words = (uint64_t *)(void *)(there->there_each + models);
        status = context->device->zero(context, there->words, WORDS * sizeof(uint64_t));
    }
    for (int64_t i = 0; i < run->base->count && status == DISTAC_OK; i++) {
        if (!di_entry_is_float(run->base->entries[i]) || run->factors[i] == 0) continue;
        status = hold(run, i);
        for (int32_t t = 0; status == DISTAC_OK && t < run->models; t++)
            pointers[i * run->models + t] = there->taus[i * run->models + t]->data;
    }
    if (status == DISTAC_OK) status = context->device->upload(context, there->there_taus, pointers, lists);
    free(pointers);
    return status;
}

static void close_there(di_merge_run *run) {
    struct di_there *there = run->there;
    for (int64_t i = 0; there->taus && i < run->base->count * run->models; i++)
        distac_tensor_release(there->taus[i]);
    if (there->memory) run->context->device->free(run->context, there->memory, there->bytes);
    free(there->each);
    free(there->dtypes);
    free(there->taus);
}

const distac_tensor *di_there_tensor(const di_merge_run *run, int32_t t, int64_t entry) {
    return run->there->taus[entry * run->models + t];
}

static bool is_merged(const di_merge_run *run, int64_t entry) {
    const di_entry *at = run->base->entries[entry];
    return di_entry_is_float(at) && at->numel > 0 && run->factors[entry] != 0;
}

/* A rule that changes nothing, for an entry. */
static int64_t plain(const void *arg, int64_t entry, di_merge_rule *rule) {
    const di_merge_run *run = arg;
    if (!is_merged(run, entry)) return 0;
    *rule = (di_merge_rule){.models = run->models,
                            .dtype = run->there->dtypes[entry],
                            .taus = run->there->there_taus + entry * run->models,
                            .each = run->there->there_each,
                            .tie = 1,
                            .divisor = 1,
                            .scale = 1,
                            .factor = 1};
    return run->base->entries[entry]->numel;
}

static distac_status send(di_merge_run *run, const di_merge_model *each) {
    struct di_there *there = run->there;
    size_t bytes = (size_t)run->models * sizeof *each;
    if (there->sent && memcmp(there->each, each, bytes) == 0) return DISTAC_OK;
    memcpy(there->each, each, bytes);
    there->sent = true;
    return run->context->device->upload(run->context, there->there_each, each, bytes);
}

/* ---- looks at everything ---- */

distac_status di_there_select(di_merge_run *run, int64_t rank, double *thresholds) {
    return di_there_rank(run->context, run->models, rank, run->there->wide, run->base->count, plain, run,
                         thresholds);
}

distac_status di_there_lead(di_merge_run *run, bool counts, const di_merge_model *each, int64_t *lead) {
    const di_device *device = run->context->device;
    uint64_t *sum = run->there->words + LEAD, found;
    DI_TRY(send(run, each));
    DI_TRY(device->zero(run->context, sum, sizeof *sum));
    for (int64_t i = 0; i < run->base->count; i++) {
        di_merge_rule rule;
        int64_t n = plain(run, i, &rule);
        rule.counts = counts;
        if (n > 0) DI_TRY(device->merges->lead(run->context, n, &rule, sum));
    }
    DI_TRY(device->download(run->context, &found, sum, sizeof found));
    memcpy(lead, &found, sizeof found);
    return DISTAC_OK;
}

/* ---- merging ---- */

static distac_status merge_whole(di_merge_run *run, int64_t entry, distac_tensor *result) {
    distac_tensor *d = NULL;
    DI_TRY(di_poll(run->context));
    di_progress(run->context, "merging", entry, run->base->count);
    distac_status status = run->merge->method->tensor_there(run, entry, &d);
    if (status == DISTAC_OK)
        status = run->context->device->merges->blend(run->context, d->numel, run->factors[entry], d->dtype,
                                                     d->data, 0, 0, NULL, DISTAC_F32, result->data,
                                                     run->there->words + BAD);
    distac_tensor_release(d);
    return status == DISTAC_ENOMEM ? di_run_no_room(run, entry) : status;
}

static distac_status merge_entry(di_merge_run *run, int64_t entry, di_merge_model *each, distac_tensor *result) {
    const di_device *device = run->context->device;
    di_merge_rule rule;
    int64_t n = plain(run, entry, &rule);
    if (result->numel == 0) return DISTAC_OK;
    if (n == 0) return device->zero(run->context, result->data, (size_t)result->numel * sizeof(float));
    if (di_run_takes(run, entry)) return merge_whole(run, entry, result);
    for (int32_t t = 0; t < run->models; t++) each[t] = (di_merge_model){.weight = 1, .tall = -1};
    run->merge->method->rule(run, entry, &rule, each);
    rule.factor = run->factors[entry];
    DI_TRY(send(run, each));
    return device->merges->direction(run->context, n, &rule, result->data, run->there->words + BAD);
}

static distac_status merge_all(di_merge_run *run, di_merge_model *each, distac_checkpoint *out) {
    for (int64_t i = 0; i < run->base->count; i++) {
        const di_entry *entry = run->base->entries[i];
        distac_tensor *result;
        if (!di_entry_is_float(entry)) continue;
        DI_TRY(di_tensor_new_at(run->context, true, DISTAC_F32, entry->rank, entry->shape, &result));
        distac_status status = merge_entry(run, i, each, result);
        if (status == DISTAC_OK) status = distac_checkpoint_set(out, entry->name, result);
        distac_tensor_release(result);
        DI_TRY(status);
    }
    return DISTAC_OK;
}

distac_status di_there_delta(const distac_merge *merge, const char *function, int32_t n_taus,
                             distac_checkpoint *const *taus, bool *bad, distac_checkpoint **out) {
    di_merge_run run;
    struct di_there there = {0};
    uint64_t word = 0;
    distac_checkpoint *made = NULL;
    di_merge_model *each = di_new((size_t)(n_taus > 0 ? n_taus : 1) * sizeof *each);
    distac_status status = di_run_match_there(&run, merge, function, n_taus, taus, &there);
    if (status == DISTAC_OK) status = each ? open(&run) : DISTAC_ENOMEM;
    if (status == DISTAC_OK && merge->method->prepare) status = merge->method->prepare(&run);
    if (status == DISTAC_OK) status = distac_checkpoint_create(run.context, &made);
    if (status == DISTAC_OK) status = merge_all(&run, each, made);
    if (status == DISTAC_OK)
        status = run.context->device->download(run.context, &word, there.words + BAD, sizeof word);
    *bad = word != 0 || status == DISTAC_ENUMERIC;
    if (status == DISTAC_ENUMERIC) status = DISTAC_OK;
    close_there(&run);
    di_run_close(&run);
    free(each);
    if (status == DISTAC_OK && !*bad) *out = made;
    else distac_checkpoint_release(made);
    return status;
}
