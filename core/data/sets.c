/* sets.c: the registry of the eight tasks' data sets, and what their readers share: labels of class folders,
 * samples of file lists and of arrays, the validation split. A data set more is one file and one line here. */
#include "sets.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const di_set *const sets[] = {&di_set_cars,  &di_set_dtd,      &di_set_eurosat, &di_set_gtsrb,
                                     &di_set_mnist, &di_set_resisc45, &di_set_sun397,  &di_set_svhn};
enum { SETS = sizeof sets / sizeof *sets };

static distac_status find_set(const char *function, const char *task, const di_set **out) {
    const char *names[SETS];
    for (int i = 0; i < SETS; i++) {
        names[i] = sets[i]->name;
        if (strcasecmp(task, sets[i]->name) == 0) {
            *out = sets[i];
            return DISTAC_OK;
        }
    }
    const char *near = di_nearest(task, SETS, names);
    return di_fail_at(DISTAC_ENOTFOUND, function, "no task '%s'%s%s%s", task, near ? "; did you mean '" : "",
                      near ? near : "; there is cars, dtd, eurosat, gtsrb, mnist, resisc45, sun397, svhn",
                      near ? "'?" : "");
}

/* ---- what readers share ---- */

const char *const di_set_digits[10] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

distac_status di_set_samples(distac_context *context, di_listing *list, int64_t classes, int32_t size,
                             di_samples **out) {
    di_samples *s;
    DI_TRY(di_samples_new(context, list->count, classes, 3, size, size, &s));
    s->files = list->files;
    s->labels = list->labels;
    *list = (di_listing){0};
    *out = s;
    return DISTAC_OK;
}

distac_status di_set_arrays(distac_context *context, distac_tensor *raw, int64_t *labels, int64_t classes,
                            int32_t size, di_samples **out) {
    di_samples *s;
    distac_status status = di_samples_new(context, raw->shape[0], classes, 3, size, size, &s);
    if (status != DISTAC_OK) {
        distac_tensor_release(raw);
        free(labels);
        return status;
    }
    s->raw = raw;
    s->labels = labels;
    *out = s;
    return DISTAC_OK;
}

int64_t di_set_label(const char *path, const char *name, int64_t classes, const char *const *known) {
    for (int64_t i = 0; i < classes; i++)
        if (strcasecmp(name, known[i]) == 0) return i;
    const char *near = di_nearest(name, classes, known);
    di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s: '%s' is none of the %lld classes%s%s%s", path, name,
               (long long)classes, near ? "; the nearest is '" : "", near ? near : "", near ? "'" : "");
    return -1;
}

distac_status di_set_walk(distac_context *context, const char *folder, int64_t classes, const char *const *known,
                          int32_t size, di_samples **out) {
    distac_strings *folders;
    di_listing list = {.count = 0};
    DI_TRY(di_subfolders(folder, &folders));
    distac_status status = DISTAC_OK;
    for (int64_t i = 0; i < distac_strings_count(folders) && status == DISTAC_OK; i++) {
        const char *name = distac_strings_get(folders, i);
        int64_t label = di_set_label(folder, name, classes, known);
        char *path = label < 0 ? NULL : di_join(folder, name);
        status = label < 0 ? DISTAC_EFORMAT : path ? di_listing_walk(&list, path, label) : DISTAC_ENOMEM;
        free(path);
    }
    distac_strings_release(folders);
    if (status == DISTAC_OK && list.count == 0)
        status =
            di_fail_at(DISTAC_EFORMAT, "distac_dataset_task", "%s holds no class folders with images", folder);
    if (status == DISTAC_OK) status = di_set_samples(context, &list, classes, size, out);
    di_listing_free(&list);
    return status;
}

/* ---- opening ---- */

/* The first home under root where the part's files are: a folder of the set's own name, else the root itself. */
static distac_status find_part(distac_context *context, const di_set *set, const char *root, int part,
                               int32_t size, di_samples **out) {
    *out = NULL;
    for (const char *const *name = set->folders;; name++) {
        char *home = *name ? di_find(root, *name, 2) : di_strdup(root);
        distac_status status = home ? set->open(context, home, part, size, out) : DISTAC_ENOTFOUND;
        free(home);
        if (status != DISTAC_ENOTFOUND) return status;
        if (!*name) break;
    }
    static const char *const parts[] = {"training", "validation", "test"};
    return di_fail_at(DISTAC_ENOTFOUND, "distac_dataset_task", "%s: no %s files under '%s'; looked for %s",
                      set->name, parts[part], root, set->layout);
}

/* A name that there was no memory for looks like one that is not there: another layout must not be taken for that.
 */
static distac_status open_part(distac_context *context, const di_set *set, const char *root, int part,
                               int32_t size, di_samples **out) {
    unsigned before = di_memory_error_count();
    distac_status status = find_part(context, set, root, part, size, out);
    if (di_memory_error_count() != before)
        status = di_fail_at(DISTAC_ENOMEM, "distac_dataset_task", "%s: no memory to look for its files under '%s'",
                            set->name, root);
    if (status != DISTAC_OK) {
        di_samples_release(*out);
        *out = NULL;
    }
    return status;
}

static distac_status name_classes(const di_set *set, di_samples *samples) {
    for (int64_t i = 0; set->names && i < set->classes; i++) DI_TRY(di_samples_name(samples, i, set->names[i]));
    return DISTAC_OK;
}

/* Keeps the part of the training files that the split says. Takes over the data set. */
static distac_status keep_split(distac_dataset *whole, int32_t split, distac_dataset **out) {
    int64_t n = whole->size, held = di_validation_count(n);
    int64_t *order = di_new((size_t)(n > 0 ? n : 1) * sizeof *order);
    distac_status status = order ? DISTAC_OK : DISTAC_ENOMEM;
    if (order) {
        di_randperm(0, n, order);
        status = split == DI_PART_TRAIN ? distac_dataset_subset(whole, n - held, order, out)
                                        : distac_dataset_subset(whole, held, order + (n - held), out);
    }
    free(order);
    distac_dataset_release(whole);
    return status;
}

distac_status distac_dataset_task(distac_context *context, const char *root, const char *task, int32_t split,
                                  int32_t size, distac_dataset **out) {
    DI_REQUIRE(context && root && task && out, "context, root, task and out are needed");
    if (split < 0 || split > 2)
        return di_fail(DISTAC_EINVAL, "split %d: 0 (train), 1 (validation) or 2 (test)", split);
    if (size < 1 || size > 4096) return di_fail(DISTAC_EINVAL, "size %d: 1 to 4096", size);
    const di_set *set = NULL;
    DI_TRY(find_set(__func__, task, &set));
    if (distac_path_kind(root) != 2) return di_fail(DISTAC_ENOTFOUND, "there is no folder '%s'", root);
    bool divided = set->validation == 0 && split != DI_PART_TEST;
    di_samples *samples;
    DI_TRY(open_part(context, set, root, divided ? DI_PART_TRAIN : split, size, &samples));
    distac_status status = name_classes(set, samples);
    if (status != DISTAC_OK) {
        di_samples_release(samples);
        return status;
    }
    distac_dataset *whole;
    DI_TRY(di_dataset_wrap(samples, &whole));
    if (divided) return keep_split(whole, split, out);
    *out = whole;
    return DISTAC_OK;
}

static distac_status make_list(int64_t n, const char *const *texts, distac_strings **out) {
    distac_strings *list = di_strings_new();
    distac_status status = list ? DISTAC_OK : DISTAC_ENOMEM;
    for (int64_t i = 0; i < n && status == DISTAC_OK; i++) status = di_strings_add(list, texts[i]);
    if (status != DISTAC_OK) {
        distac_strings_release(list);
        return status;
    }
    *out = list;
    return DISTAC_OK;
}

distac_status distac_dataset_tasks(distac_strings **out) {
    DI_REQUIRE(out, "out is needed");
    const char *names[SETS];
    for (int i = 0; i < SETS; i++) names[i] = sets[i]->name;
    return make_list(SETS, names, out);
}

distac_status distac_dataset_task_classes(const char *task, distac_strings **out) {
    DI_REQUIRE(task && out, "task and out are needed");
    const di_set *set = NULL;
    DI_TRY(find_set(__func__, task, &set));
    return make_list(set->names ? set->classes : 0, set->names, out);
}

distac_status distac_dataset_task_info(const char *task, distac_task_info *out) {
    DI_REQUIRE(task && out, "task and out are needed");
    const di_set *set = NULL;
    DI_TRY(find_set(__func__, task, &set));
    int64_t held = set->validation ? set->validation : di_validation_count(set->train);
    *out = (distac_task_info){.classes = set->classes,
                              .train = set->validation ? set->train : set->train - held,
                              .validation = held,
                              .test = set->test};
    return DISTAC_OK;
}
