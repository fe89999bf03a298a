/* registry.c: the table of merging methods, and the operator object: a method with its parameters. */
#include "merge.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const di_method *const methods[] = {
    &di_merge_average, &di_merge_task_arithmetic, &di_merge_ties, &di_merge_consensus_ta, &di_merge_tsvm,
    &di_merge_iso_c, &di_merge_iso_cts, &di_merge_knots, &di_merge_wudi,
    &di_merge_tall_mask, &di_merge_dare, &di_merge_dare_ties, &di_merge_lines, &di_merge_slerp,
    &di_merge_nuslerp, &di_merge_model_stock, &di_merge_breadcrumbs, &di_merge_della, &di_merge_pcb,
};
enum { METHOD_COUNT = sizeof methods / sizeof methods[0] };

static const di_merge_param lambda = DI_NUMBER("lambda", "factor of the merged direction", 1, -1000, 1000);

static const di_merge_param *param_at(const di_method *method, int32_t index) {
    return index < method->param_count ? &method->params[index] : &lambda;
}

int32_t distac_merge_method_count(void) {
    return METHOD_COUNT;
}

const char *distac_merge_method_name(int32_t index) {
    return index < 0 || index >= METHOD_COUNT ? NULL : methods[index]->name;
}

const char *distac_merge_method_text(int32_t index) {
    return index < 0 || index >= METHOD_COUNT ? NULL : methods[index]->text;
}

int32_t distac_merge_param_count(int32_t method) {
    return method < 0 || method >= METHOD_COUNT ? 0 : methods[method]->param_count + 1;
}

distac_status distac_merge_param_info(int32_t method, int32_t index, distac_merge_param *out) {
    DI_REQUIRE(out, "out is NULL");
    if (method < 0 || method >= METHOD_COUNT)
        return di_fail(DISTAC_EINVAL, "method %d of %d", (int)method, (int)METHOD_COUNT);
    if (index < 0 || index > methods[method]->param_count)
        return di_fail(DISTAC_EINVAL, "parameter %d of %d of %s", (int)index,
                       (int)methods[method]->param_count + 1, methods[method]->name);
    *out = param_at(methods[method], index)->info;
    return DISTAC_OK;
}

static const di_method *find_method(const char *name) {
    const char *names[METHOD_COUNT];
    for (int i = 0; i < METHOD_COUNT; i++) {
        names[i] = methods[i]->name;
        if (strcmp(names[i], name) == 0) return methods[i];
    }
    const char *near = di_nearest(name, METHOD_COUNT, names);
    di_text all = {0};
    for (int i = 0; i < METHOD_COUNT; i++) di_text_add(&all, i ? ", %s" : "%s", names[i]);
    if (near)
        di_fail_at(DISTAC_ENOTFOUND, "distac_merge_create", "no method \"%s\"; did you mean \"%s\"? There are %s",
                   name, near, all.bytes ? all.bytes : "");
    else
        di_fail_at(DISTAC_ENOTFOUND, "distac_merge_create", "no method \"%s\"; there are %s", name,
                   all.bytes ? all.bytes : "");
    di_text_free(&all);
    return NULL;
}

static distac_status set_values(di_values *values, int32_t count, const double *from) {
    double *copy = di_new((size_t)count * sizeof *copy);
    if (!copy) return DISTAC_ENOMEM;
    memcpy(copy, from, (size_t)count * sizeof *copy);
    free(values->values);
    *values = (di_values){count, copy};
    return DISTAC_OK;
}

distac_status distac_merge_create(distac_context *context, const char *method, distac_merge **out) {
    DI_REQUIRE(context, "context is NULL");
    DI_REQUIRE(method, "method is NULL");
    DI_REQUIRE(out, "out is NULL");
    const di_method *found = find_method(method);
    if (!found) return DISTAC_ENOTFOUND;
    distac_merge *merge = di_new(sizeof *merge);
    if (!merge) return DISTAC_ENOMEM;
    atomic_init(&merge->refs, 1);
    di_context_retain(context);
    merge->context = context;
    merge->method = found;
    merge->params = di_new((size_t)(found->param_count + 1) * sizeof *merge->params);
    distac_status status = merge->params ? DISTAC_OK : DISTAC_ENOMEM;
    for (int32_t i = 0; status == DISTAC_OK && i <= found->param_count; i++)
        status = set_values(&merge->params[i], 1, &param_at(found, i)->info.value);
    if (status != DISTAC_OK) {
        distac_merge_release(merge);
        return status;
    }
    *out = merge;
    return DISTAC_OK;
}

void distac_merge_release(distac_merge *merge) {
    if (!merge || atomic_fetch_sub(&merge->refs, 1) != 1) return;
    for (int32_t i = 0; merge->params && i <= merge->method->param_count; i++) free(merge->params[i].values);
    for (int32_t i = 0; i < merge->rule_count; i++) free(merge->rules[i].pattern);
    free(merge->rules);
    free(merge->params);
    distac_context_release(merge->context);
    free(merge);
}

/* Index of a parameter, -1 with the error set. */
static int32_t find_param(const di_method *method, const char *name) {
    const char *names[16] = {0};
    int32_t count = method->param_count + 1;
    for (int32_t i = 0; i < count; i++) {
        names[i] = param_at(method, i)->info.name;
        if (strcmp(names[i], name) == 0) return i;
    }
    const char *near = di_nearest(name, count, names);
    di_text all = {0};
    for (int32_t i = 0; i < count; i++) di_text_add(&all, i ? ", %s" : "%s", names[i]);
    di_fail_at(DISTAC_ENOTFOUND, "distac_merge_set", "%s has no parameter \"%s\"%s%s%s; it has %s", method->name,
               name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "",
               all.bytes ? all.bytes : "");
    di_text_free(&all);
    return -1;
}

distac_status distac_merge_set(distac_merge *merge, const char *param, int32_t n_values, const double *values) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(param, "param is NULL");
    DI_REQUIRE(values && n_values > 0, "no values");
    int32_t index = find_param(merge->method, param);
    if (index < 0) return DISTAC_ENOTFOUND;
    const di_merge_param *at = param_at(merge->method, index);
    if (n_values > 1 && !at->info.list)
        return di_fail(DISTAC_EINVAL, "%s: %s wants one number, %d were given", merge->method->name, param,
                       (int)n_values);
    for (int32_t i = 0; i < n_values; i++) {
        if (!(values[i] >= at->info.minimum && values[i] <= at->info.maximum))
            return di_fail(DISTAC_EINVAL, "%s: %s is %g; it must lie in %g to %g", merge->method->name, param,
                           values[i], at->info.minimum, at->info.maximum);
        if (at->whole && values[i] != floor(values[i]))
            return di_fail(DISTAC_EINVAL, "%s: %s is %g; it must be a whole number", merge->method->name, param,
                           values[i]);
    }
    return set_values(&merge->params[index], n_values, values);
}

distac_status distac_merge_scale(distac_merge *merge, const char *pattern, double factor) {
    DI_REQUIRE(merge, "merge is NULL");
    DI_REQUIRE(pattern, "pattern is NULL");
    if (!isfinite(factor)) return di_fail(DISTAC_EINVAL, "factor of \"%s\" is %g", pattern, di_shown(factor));
    di_rule *rules = di_grow(merge->rules, (size_t)(merge->rule_count + 1) * sizeof *rules);
    if (!rules) return DISTAC_ENOMEM;
    merge->rules = rules;
    char *copy = di_strdup(pattern);
    if (!copy) return DISTAC_ENOMEM;
    rules[merge->rule_count++] = (di_rule){copy, factor};
    return DISTAC_OK;
}

double di_merge_factor(const distac_merge *merge, const char *name) {
    for (int32_t i = merge->rule_count - 1; i >= 0; i--)
        if (di_glob(merge->rules[i].pattern, name)) return merge->rules[i].factor;
    return 1;
}
