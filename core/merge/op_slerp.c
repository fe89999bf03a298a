/* op_slerp.c: spherical interpolation of two models, tensor by tensor: slerp between the models themselves,
 * nuslerp between their task vectors. The angle is that of the normalised tensors, the magnitudes stay. */
#include "rows.h"
#include <math.h>
#include <stdlib.h>

enum { T, OF };
enum { WEIGHTS, NU_OF, ANGLE };
enum { TENSOR, ROWS, COLUMNS };

/* Both as mergekit has them (methods slerp and nuslerp with a base model). */
static const di_merge_param slerp_params[] = {
    DI_NUMBER("t", "0: the first model, 1: the second", 0.5, 0, 1),
    DI_CHOICE("of", "what is interpolated: the models' weights, or their task vectors", 0, 2, "models vectors"),
};
static const di_merge_param nuslerp_params[] = {
    DI_NUMBERS("weights", "weight of each model; t is the second's share", 1, -1000, 1000),
    DI_CHOICE("of", "what is interpolated: the models' weights, or their task vectors", 1, 2, "models vectors"),
    DI_CHOICE("angle", "what has an angle of its own: the tensor, every row (last dimension) or column (first)", 0,
              3, "tensor row column"),
};

typedef struct factors {
    double first, second;
} factors;

static double cosine(double product, double square1, double square2, double least) {
    double norm1 = sqrt(square1), norm2 = sqrt(square2);
    double value = product / (norm1 > least ? norm1 : least) / (norm2 > least ? norm2 : least);
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

/* products: first*first, first*second, second*second. */
static factors slerp(double t, const double *products) {
    double c = cosine(products[1], products[0], products[2], 1e-8);
    if (fabs(c) > 0.9995) return (factors){1 - t, t};
    double angle = acos(c), sine = sin(angle);
    return (factors){sin((1 - t) * angle) / sine, sin(t * angle) / sine};
}

static factors nuslerp(double t, const double *products) {
    double c = cosine(products[1], products[0], products[2], 1e-7);
    double angle = acos(c), sine = sin(angle);
    if (fabs(sine) < 1e-8) return (factors){1 - t, t};
    return (factors){sin((1 - t) * angle) / sine, sin(t * angle) / sine};
}

static distac_status open_factors(di_merge_run *run, bool models, double t,
                                  factors (*find)(double t, const double *products)) {
    double *products = NULL;
    distac_status status = di_run_gram(run, models, &products);
    factors *state = di_new((size_t)(run->base->count ? run->base->count : 1) * sizeof *state);
    if (status == DISTAC_OK && !state) status = DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < run->base->count; i++) state[i] = find(t, products + 3 * i);
    free(products);
    run->state = state;
    return status;
}

static distac_status check_of(const di_merge_run *run, bool models) {
    if (!models || run->whole) return DISTAC_OK;
    return di_fail_at(DISTAC_EINVAL, run->function,
                      "%s: task vectors alone do not tell the models; merge files, or take of = vectors",
                      run->merge->method->name);
}

static distac_status prepare_slerp(di_merge_run *run) {
    bool models = di_run_param(run, OF, 0) == 0;
    DI_TRY(check_of(run, models));
    return open_factors(run, models, di_run_param(run, T, 0), slerp);
}

static double share_of(const di_merge_run *run) {
    double first = di_run_param(run, WEIGHTS, 0), second = di_run_param(run, WEIGHTS, 1), sum = first + second;
    return fabs(sum) < 1e-6 ? 0.5 : second / sum;
}

static distac_status prepare_nuslerp(di_merge_run *run) {
    bool models = di_run_param(run, NU_OF, 0) == 0;
    DI_TRY(check_of(run, models));
    return open_factors(run, models, share_of(run), nuslerp);
}

static void combine(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    factors f = ((const factors *)run->state)[at->entry];
    for (int64_t i = 0; i < n; i++) out[i] = f.first * tau[0][i] + f.second * tau[1][i];
}

/* The interpolated models less the base: the factors do not sum to one. */
static void less_base(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    factors f = ((const factors *)run->state)[at->entry];
    const double *base = tau[run->models];
    for (int64_t i = 0; i < n; i++) out[i] += (f.first + f.second - 1) * base[i];
}

static void chunk_slerp(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                        double *out) {
    combine(run, at, n, tau, out);
    if (di_run_param(run, OF, 0) == 0) less_base(run, at, n, tau, out);
}

static void chunk_nuslerp(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                          double *out) {
    combine(run, at, n, tau, out);
    if (di_run_param(run, NU_OF, 0) == 0) less_base(run, at, n, tau, out);
}

/* ---- vectors of a tensor ---- */

/* A vector is a row and a column itself. */
static bool takes_nuslerp(const di_merge_run *run, const di_entry *entry) {
    return (int)di_run_param(run, ANGLE, 0) != TENSOR && entry->rank > 1;
}

/* products += those of n elements; base NULL: of the task vectors. */
static void add_products(int64_t n, const double *a, const double *b, const double *base, double *products) {
    for (int64_t i = 0; i < n; i++) {
        double x = a[i] + (base ? base[i] : 0), y = b[i] + (base ? base[i] : 0);
        products[0] += x * x;
        products[1] += x * y;
        products[2] += y * y;
    }
}

static void merge_row(const di_merge_run *run, int64_t n, const double *const *rows, double *products,
                      double *out) {
    const double *base = di_run_param(run, NU_OF, 0) == 0 ? rows[2] : NULL;
    products[0] = products[1] = products[2] = 0;
    add_products(n, rows[0], rows[1], base, products);
    factors f = nuslerp(share_of(run), products);
    for (int64_t i = 0; i < n; i++)
        out[i] = f.first * rows[0][i] + f.second * rows[1][i] + (base ? (f.first + f.second - 1) * base[i] : 0);
}

typedef struct columns_job {
    di_merge_run *run;
    int64_t entry, rows, width; /* of the tensor seen as [first dimension, all others] */
    double *out;
} columns_job;

/* DI_STEP columns, in two goes down the rows. */
static distac_status merge_columns(void *arg, int32_t lane, int64_t index) {
    const columns_job *j = arg;
    di_merge_run *run = j->run;
    int64_t from = index * DI_STEP, n = j->width - from < DI_STEP ? j->width - from : DI_STEP;
    double *const *rows = di_run_rows(run, lane), products[3 * DI_STEP] = {0};
    factors found[DI_STEP];
    bool models = di_run_param(run, NU_OF, 0) == 0;
    for (int64_t r = 0; r < j->rows; r++) {
        if (!di_run_step(run, j->entry, r * j->width + from, n, rows))
            return di_run_nonfinite(run, j->entry, r * j->width + from);
        for (int64_t i = 0; i < n; i++)
            add_products(1, rows[0] + i, rows[1] + i, models ? rows[2] + i : NULL, products + 3 * i);
    }
    for (int64_t i = 0; i < n; i++) found[i] = nuslerp(share_of(run), products + 3 * i);
    for (int64_t r = 0; r < j->rows; r++) {
        double *out = j->out + r * j->width + from;
        (void)di_run_step(run, j->entry, r * j->width + from, n, rows);
        for (int64_t i = 0; i < n; i++) {
            double less = models ? (found[i].first + found[i].second - 1) * rows[2][i] : 0;
            out[i] = found[i].first * rows[0][i] + found[i].second * rows[1][i] + less;
        }
    }
    return DISTAC_OK;
}

static distac_status tensor_nuslerp(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    if ((int)di_run_param(run, ANGLE, 0) == ROWS) return di_merge_whole_rows(run, entry, merge_row, out);
    if (at->numel == 0) return DISTAC_OK;
    columns_job j = {run, entry, at->shape[0], at->numel / at->shape[0], out};
    return di_run_lanes(run, (j.width + DI_STEP - 1) / DI_STEP, merge_columns, &j);
}

static int64_t need_nuslerp(const di_merge_run *run, const di_entry *entry) {
    return (int)di_run_param(run, ANGLE, 0) == ROWS ? di_rows_bytes(run, entry) : 0;
}

const di_method di_merge_slerp = {
    .name = "slerp",
    .text = "spherical interpolation of two models (Shoemake 1985; as in mergekit, Goddard et al. 2024)",
    .params = slerp_params,
    .param_count = sizeof slerp_params / sizeof slerp_params[0],
    .models = 2,
    .prepare = prepare_slerp,
    .chunk = chunk_slerp,
};

const di_method di_merge_nuslerp = {
    .name = "nuslerp",
    .text = "spherical interpolation of two task vectors by weights (as in mergekit, Goddard et al. 2024)",
    .params = nuslerp_params,
    .param_count = sizeof nuslerp_params / sizeof nuslerp_params[0],
    .models = 2,
    .prepare = prepare_nuslerp,
    .chunk = chunk_nuslerp,
    .takes = takes_nuslerp,
    .tensor = tensor_nuslerp,
    .need = need_nuslerp,
};
