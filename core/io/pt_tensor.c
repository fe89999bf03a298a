/* pt_tensor.c: tensors of a PyTorch file: views of storages by offset, size and stride. Dense ones stay in the
 * mapped file; others are copied, within a limit, since a view of one element can claim any size. */
#include "pt_read.h"
#include <stdlib.h>
#include <string.h>

typedef struct view {
    const di_pt_storage *storage;
    int64_t offset, numel;
    int32_t rank;
    int64_t shape[DI_MAX_RANK], stride[DI_MAX_RANK];
    bool dense;
} view;

/* ---- storages ---- */

const di_file_type *di_pt_storage_type(const di_pickle_value *name) {
    static const char *const names[][2] = {
        {"DoubleStorage", "F64"}, {"FloatStorage", "F32"}, {"HalfStorage", "F16"},  {"BFloat16Storage", "BF16"},
        {"LongStorage", "I64"},   {"IntStorage", "I32"},   {"ShortStorage", "I16"}, {"CharStorage", "I8"},
        {"ByteStorage", "U8"},    {"BoolStorage", "BOOL"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i][0]) == name->b && memcmp(name->u.text + name->a + 1, names[i][0], name->b) == 0)
            return di_file_type_named(names[i][1]);
    return NULL;
}

static int compare_text(const char *a, size_t n, const char *b, size_t m) {
    int order = memcmp(a, b, n < m ? n : m);
    return order ? order : n < m ? -1 : n > m;
}

static int compare_storages(const void *a, const void *b) {
    const di_pt_storage *x = a, *y = b;
    int order = compare_text(x->key->u.text, x->key->a, y->key->u.text, y->key->a);
    return order ? order : x->value < y->value ? -1 : x->value > y->value;
}

static bool is_number(const di_pickle_value *text) {
    for (uint32_t i = 0; i < text->a; i++)
        if (text->u.text[i] < '0' || text->u.text[i] > '9') return false;
    return text->a > 0 && text->a <= 20;
}

/* One entry per STORAGE value, then one per key. */
static distac_status merge_storages(di_pt *pt) {
    char shown[80];
    int64_t kept = 0;
    qsort(pt->storages, (size_t)pt->storage_count, sizeof *pt->storages, compare_storages);
    for (int64_t i = 0; i < pt->storage_count; i++) {
        const di_pt_storage *s = &pt->storages[i], *last = kept ? &pt->storages[kept - 1] : NULL;
        if (last && compare_text(last->key->u.text, last->key->a, s->key->u.text, s->key->a) == 0) {
            if (last->type != s->type)
                return di_pt_fail(pt->path, pt->pickle.values[s->value].at,
                                  "storage \"%s\" is used with two types, %s and %s",
                                  di_pt_shown(s->key->u.text, s->key->a, shown), last->type->name, s->type->name);
            if (last->count != s->count)
                return di_pt_fail(pt->path, pt->pickle.values[s->value].at,
                                  "storage \"%s\" is used with two sizes, %lld and %lld",
                                  di_pt_shown(s->key->u.text, s->key->a, shown), (long long)last->count,
                                  (long long)s->count);
        } else {
            pt->storages[kept++] = *s;
        }
        pt->pickle.values[s->value].c = (uint32_t)(kept - 1);
    }
    pt->storage_count = kept;
    return DISTAC_OK;
}

distac_status di_pt_storages(di_pt *pt) {
    di_pickle *p = &pt->pickle;
    char shown[80];
    int64_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) count += p->values[i].kind == DI_PICKLE_STORAGE;
    pt->storages = di_new((size_t)(count ? count : 1) * sizeof *pt->storages);
    if (!pt->storages) return DISTAC_ENOMEM;
    for (uint32_t i = 0; i < p->count; i++) {
        const di_pickle_value *v = &p->values[i];
        if (v->kind != DI_PICKLE_STORAGE) continue;
        const di_pickle_value *key = &p->values[v->b];
        if (!is_number(key))
            return di_pt_fail(pt->path, key->at, "a storage's key is \"%s\", wanted digits",
                              di_pt_shown(key->u.text, key->a, shown));
        const di_file_type *type = di_pt_storage_type(&p->values[v->a]);
        if (!type) return di_pt_fail(pt->path, v->at, "a storage of an unknown type");
        int64_t bytes;
        if (__builtin_mul_overflow(v->u.number, (int64_t)type->bits / 8, &bytes))
            return di_pt_fail(pt->path, v->at, "a storage of %lld elements", (long long)v->u.number);
        pt->storages[pt->storage_count++] = (di_pt_storage){
            key, type, v->u.number, v->has_state ? pt->data + v->at : NULL, i, false};
    }
    return merge_storages(pt);
}

di_pt_storage *di_pt_storage_named(const di_pt *pt, const char *key, size_t bytes) {
    int64_t low = 0, high = pt->storage_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        di_pt_storage *s = &pt->storages[middle];
        int order = compare_text(s->key->u.text, s->key->a, key, bytes);
        if (order == 0) return s;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- views ---- */

/* The numbers of a tuple: each from 0 to 2^48-1. */
static distac_status read_sizes(const di_pt *pt, const di_pickle_value *tuple, const char *what, int64_t *out) {
    const di_pickle *p = &pt->pickle;
    int i = 0;
    if (tuple->c > DI_MAX_RANK)
        return di_pt_fail(pt->path, tuple->at, "a tensor has %u dimensions, at most %d are allowed", tuple->c,
                          DI_MAX_RANK);
    for (uint32_t cell = tuple->a; cell; cell = p->cells[cell].next) {
        const di_pickle_value *v = &p->values[p->cells[cell].value];
        if (v->kind != DI_PICKLE_INT)
            return di_pt_fail(pt->path, tuple->at, "a tensor's %s holds %s, wanted integers", what,
                              di_pickle_kind_name(p, p->cells[cell].value));
        if (v->u.number < 0 || v->u.number > DI_ST_MAX_SIZE)
            return di_pt_fail(pt->path, tuple->at, "a tensor's %s holds %lld, wanted 0 to 2^48-1", what,
                              (long long)v->u.number);
        out[i++] = v->u.number;
    }
    return DISTAC_OK;
}

/* The last element that the view reaches must lie in the storage. */
static distac_status check_reach(const di_pt *pt, const di_pickle_value *tensor, const view *v) {
    char shape[200], stride[200];
    int64_t last = v->offset, step;
    bool over = false;
    for (int32_t i = 0; i < v->rank && v->numel > 0; i++)
        over = over || __builtin_mul_overflow(v->shape[i] - 1, v->stride[i], &step) ||
               __builtin_add_overflow(last, step, &last);
    if (over || (v->numel > 0 ? last >= v->storage->count : v->offset > v->storage->count))
        return di_pt_fail(
            pt->path, tensor->at,
            "a tensor of size %s, stride %s and offset %lld reaches over its storage of %lld elements",
            di_shape_text(v->rank, v->shape, shape, sizeof shape),
            di_shape_text(v->rank, v->stride, stride, sizeof stride), (long long)v->offset,
            (long long)v->storage->count);
    return DISTAC_OK;
}

static distac_status read_view(const di_pt *pt, const di_pickle_value *tensor, view *out) {
    const di_pickle *p = &pt->pickle;
    uint32_t a[7];
    const uint32_t given = p->values[tensor->b].c;
    if (!di_pickle_tuple(p, tensor->b, given, a))
        return di_pt_fail(pt->path, tensor->at, "a tensor without parts");
    const di_pickle_value *size = &p->values[a[2]], *stride = &p->values[a[3]];
    *out = (view){.storage = &pt->storages[p->values[tensor->a].c], .offset = p->values[a[1]].u.number};
    DI_TRY(read_sizes(pt, size, "size", out->shape));
    DI_TRY(read_sizes(pt, stride, "stride", out->stride));
    if (size->c != stride->c)
        return di_pt_fail(pt->path, tensor->at, "a tensor has %u sizes and %u strides", size->c, stride->c);
    if (out->offset < 0)
        return di_pt_fail(pt->path, tensor->at, "a tensor begins at element %lld", (long long)out->offset);
    out->rank = (int32_t)size->c;
    int64_t product = 1, dense = 1;
    out->numel = 1;
    out->dense = true;
    for (int32_t i = out->rank - 1; i >= 0; i--) {
        if (out->shape[i] == 0) out->numel = 0;
        if (out->shape[i] > 1 && __builtin_mul_overflow(product, out->shape[i], &product))
            return di_pt_fail(pt->path, tensor->at, "the product of a tensor's sizes overflows");
        if (out->shape[i] > 1 && out->stride[i] != dense) out->dense = false;
        dense = product;
    }
    out->numel = out->numel ? product : 0;
    out->dense = out->dense || out->numel == 0;
    return check_reach(pt, tensor, out);
}

distac_status di_pt_check_tensors(const di_pt *pt) {
    view v;
    for (uint32_t i = 0; i < pt->pickle.count; i++)
        if (pt->pickle.values[i].kind == DI_PICKLE_TENSOR) DI_TRY(read_view(pt, &pt->pickle.values[i], &v));
    return DISTAC_OK;
}

/* ---- handing out ---- */

/* The view's elements in row-major order. */
static void gather(const view *v, uint8_t *out) {
    const size_t width = (size_t)v->storage->type->bits / 8;
    const int32_t last = v->rank - 1;
    int64_t index[DI_MAX_RANK] = {0}, at = v->offset;
    for (int64_t done = 0; done < v->numel; done += v->shape[last]) {
        const uint8_t *from = v->storage->data + (size_t)at * width;
        const size_t step = (size_t)v->stride[last] * width;
        for (int64_t i = 0; i < v->shape[last]; i++, from += i < v->shape[last] ? step : 0, out += width)
            memcpy(out, from, width);
        for (int32_t d = last - 1; d >= 0; d--) {
            at += v->stride[d];
            if (++index[d] < v->shape[d]) break;
            at -= v->stride[d] * v->shape[d];
            index[d] = 0;
        }
    }
}

static distac_status copy_view(di_pt *pt, di_pickle_value *tensor, const view *v) {
    if (pt->copy_count == pt->copy_capacity) {
        int64_t capacity = pt->copy_capacity ? 2 * pt->copy_capacity : 16;
        distac_tensor **copies = di_grow(pt->copies, (size_t)capacity * sizeof *copies);
        if (!copies) return DISTAC_ENOMEM;
        pt->copies = copies;
        pt->copy_capacity = capacity;
    }
    distac_tensor *copy;
    DI_TRY(di_tensor_new(pt->checkpoint->context, v->storage->type->dtype, v->rank, v->shape, false, &copy));
    gather(v, copy->data);
    copy->storage->readonly = true;
    pt->copies[pt->copy_count++] = copy;
    tensor->u.number = pt->copy_count;
    return DISTAC_OK;
}

/* Tensors that share bytes count each time: a small file must not become an endless checkpoint. */
static distac_status charge(di_pt *pt, const di_pickle_value *tensor, const view *v, int64_t *bytes) {
    const int64_t limit = (INT64_C(64) << 20) + 16 * (int64_t)pt->size;
    if (__builtin_mul_overflow(v->numel, (int64_t)v->storage->type->bits / 8, bytes) ||
        __builtin_add_overflow(pt->output, *bytes, &pt->output) || pt->output > limit)
        return di_pt_fail(pt->path, tensor->at,
                          "the tensors, views of shared storages written out, take more than %lld bytes, 64 MiB "
                          "and 16 times the file",
                          (long long)limit);
    return DISTAC_OK;
}

distac_status di_pt_add(di_pt *pt, const char *name, size_t name_bytes, uint32_t index) {
    di_pickle_value *tensor = &pt->pickle.values[index];
    view v;
    int64_t bytes;
    DI_TRY(read_view(pt, tensor, &v));
    DI_TRY(charge(pt, tensor, &v, &bytes));
    if (pt->checkpoint->count >= DI_ST_MAX_TENSORS)
        return di_pt_fail(pt->path, tensor->at, "more than %d tensors", DI_ST_MAX_TENSORS);
    if (!v.dense && tensor->u.number == 0) DI_TRY(copy_view(pt, tensor, &v));
    di_entry *entry = di_new(sizeof *entry);
    char *text = di_new(name_bytes + 1);
    if (!entry || !text) {
        free(entry);
        free(text);
        return DISTAC_ENOMEM;
    }
    memcpy(text, name, name_bytes);
    entry->name = text;
    entry->type = v.storage->type;
    entry->rank = v.rank;
    memcpy(entry->shape, v.shape, sizeof entry->shape);
    entry->numel = v.numel;
    entry->bytes = bytes;
    if (v.dense) {
        entry->data = v.storage->data + v.offset * (v.storage->type->bits / 8);
    } else {
        entry->tensor = pt->copies[tensor->u.number - 1];
        di_tensor_retain(entry->tensor);
    }
    distac_status status = di_checkpoint_append(pt->checkpoint, entry);
    if (status != DISTAC_OK) di_entry_free(entry);
    return status;
}
