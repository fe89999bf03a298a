/* fuzz_mat.c: the reader of MATLAB 5 files on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_mat.c ...
 * it searches on its own; built without, main damages small files of every kind, the same way every time, before
 * or after their variables are deflated: fuzz_mat [ROUNDS] [SEED] */
#define NAME "fuzz_mat"
#include "fuzz.h"

#include "../c/mat_files.h"
#include "data/mat.h"

static volatile double sum;

/* Everything that the arrays promise can be read. */
static void use(const di_mat_variable *v) {
    for (size_t i = 0; i < v->used; i++) {
        const di_mat_array *a = &v->arrays[i];
        int64_t product = 1;
        for (int d = 0; d < a->rank; d++) product *= di_mat_dim(v, a, d);
        if (a->count < 0 || (a->rank > 0 && product != a->count))
            broken("a size that is not the number of elements");
        if (a->class_id == DI_MAT_CHAR) {
            char *text = NULL;
            if (di_mat_text(v, a, &text) == DISTAC_OK) sum += (double)strlen(text);
            free(text);
        } else if (a->class_id >= DI_MAT_DOUBLE) {
            for (int64_t k = 0; k < a->count; k++) sum += di_mat_number(v, a, k);
        } else if (a->class_id == DI_MAT_STRUCT && a->count > 0) {
            if (di_mat_field(v, a, a->count - 1, "fname") > v->arrays + v->used) broken("a field out of bounds");
        } else if (a->class_id == DI_MAT_CELL && a->count > 0) {
            if (di_mat_cell(v, a, a->count - 1) >= v->arrays + v->used) broken("a cell out of bounds");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static shelf hostile;
    distac_context *context = the_context();
    di_mat *m = NULL;
    di_mat_variable *v = NULL;
    put_on(&hostile, data, size);
    distac_status status = di_mat_open(context, hostile.path, &m);
    while (status == DISTAC_OK) {
        status = di_mat_next(m, NULL, &v);
        if (status != DISTAC_OK || !v) break;
        use(v);
        di_mat_variable_free(v);
    }
    di_mat_close(m);
    if (status == DISTAC_OK) {
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT && status != DISTAC_EUNSUPPORTED && status != DISTAC_ENOMEM)
            broken(distac_last_error());
        refused++;
    }
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

static void damage(mat_file *m, size_t from) {
    if (m->size <= from + 8) return;
    size_t at = from + below(m->size - from), word = at / 4 * 4;
    switch (below(6)) {
    case 0:
        m->bytes[at] = (uint8_t)below(256);
        break;
    case 1:
        m->bytes[at] ^= (uint8_t)(1 << below(8));
        break;
    case 2:
        mat_u32_at(m, word, below(2) ? (uint32_t)below(70) : 0xfffffff8u + (uint32_t)below(8));
        break;
    case 3:
        mat_u32_at(m, word, (uint32_t)below(20) | (uint32_t)below(6) << 16);
        break;
    case 4: /* a size that is off by a little */
        m->bytes[m->big ? word + 3 : word] = (uint8_t)(m->bytes[m->big ? word + 3 : word] + below(17) - 8);
        break;
    default:
        if (below(4) == 0) m->size = at;
    }
}

/* A variable of some kind; `hurt` times damaged, perhaps deflated. */
static void variable(mat_file *m, const char *name, int hurt) {
    static const int types[][2] = {{1, 1}, {2, 1}, {3, 2}, {4, 2}, {5, 4}, {6, 4}, {9, 8}, {12, 8}, {13, 8}};
    static const uint32_t letters[] = {1, 2, 4, 16, 17};
    size_t at = m->size;
    int values[8];
    const int *type = types[below(9)];
    for (int i = 0; i < 8; i++) values[i] = (int)below(100);
    switch (below(4)) {
    case 0:
        mat_array(m, 6 + (int)below(10), name, (uint32_t)type[0], type[1], 1 + (int)below(8), values);
        break;
    case 1:
        mat_names(m, name, letters[below(5)]);
        break;
    case 2:
        mat_rows(m, name, 1 + (int)below(4));
        break;
    default: { /* cells in cells */
        size_t open[20];
        int depth = 1 + (int)below(hurt ? 19 : 15);
        for (int i = 0; i < depth; i++) open[i] = mat_open(m, 1, 0, i ? "" : name, 1, 1);
        mat_array(m, 6, "", 9, 8, 2, values);
        for (int i = depth - 1; i >= 0; i--) mat_close(m, open[i]);
    }
    }
    for (int i = 0; i < hurt; i++) damage(m, at);
    if (below(2)) mat_deflate(m, at);
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 20000);
    static mat_file m;
    for (long i = 0; i < rounds; i++) {
        bool whole = i % 16 == 0, inside = below(2);
        long before = accepted;
        mat_start(&m, below(2));
        variable(&m, "first", !whole && inside ? 1 + (int)below(3) : 0);
        variable(&m, "second", !whole && inside ? (int)below(2) : 0);
        for (size_t k = whole || inside ? 0 : 1 + below(3); k > 0; k--) damage(&m, below(2) ? 124 : 0);
        try_copy(m.bytes, m.size);
        if (whole && accepted == before) broken(distac_last_error()); /* undamaged */
    }
    return finish(rounds);
}

#endif
