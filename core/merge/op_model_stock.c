/* op_model_stock.c: Model Stock: per tensor, the mean of the models is drawn towards the
 * base by how wide apart the models stand, seen from it: t = N cos / (1 + (N-1) cos), D
 * = t * mean. The paper has one angle; of more than two models it is, as in mergekit,
 * the mean of the cosines of all pairs. filter_wise: every row has angles of its own. */
#include "rows.h"
#include <math.h>
#include <stdlib.h>

enum { FILTER_WISE };

static const di_merge_param params[] = {
    DI_CHOICE("filter_wise", "whether every row (the last dimension) has angles of its own, or the tensor", 0, 2,
              "no yes"),
};

static double share_of(int32_t models, const double *products) {
    double sum = 0, squares[3];
    int64_t pairs = 0;
    for (int32_t s = 0; s < models; s++) {
        const double *row = products; /* s*s, s*(s+1), … */
        squares[0] = row[0];
        products += models - s;
        const double *own = products;
        for (int32_t t = s + 1; t < models; t++) {
            squares[1] = own[0]; /* t*t: the first of its row */
            own += models - t;
            double norms = sqrt(squares[0]) * sqrt(squares[1]);
            squares[2] = row[t - s] / (norms > 1e-6 ? norms : 1e-6);
            sum += squares[2] > 1 ? 1 : squares[2] < -1 ? -1 : squares[2];
            pairs++;
        }
    }
    if (pairs == 0) return 1;
    double cosine = sum / (double)pairs, below = 1 + (models - 1) * cosine;
    return fabs(below) < 1e-6 ? 0 : models * cosine / below; /* opposite models: their mean tells nothing */
}

static distac_status prepare(di_merge_run *run) {
    if (di_run_param(run, FILTER_WISE, 0) != 0) return DISTAC_OK;
    double *products = NULL;
    int64_t width = (int64_t)run->models * (run->models + 1) / 2;
    distac_status status = di_run_gram(run, false, &products);
    double *shares = di_new((size_t)(run->base->count ? run->base->count : 1) * sizeof *shares);
    if (status == DISTAC_OK && !shares) status = DISTAC_ENOMEM;
    for (int64_t i = 0; status == DISTAC_OK && i < run->base->count; i++)
        shares[i] = share_of(run->models, products + i * width);
    free(products);
    run->state = shares;
    return status;
}

static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out) {
    double share = ((const double *)run->state)[at->entry];
    di_merge_average.chunk(run, at, n, tau, out);
    for (int64_t i = 0; i < n; i++) out[i] *= share;
}

/* ---- row by row ---- */

static bool takes(const di_merge_run *run, const di_entry *entry) {
    (void)entry;
    return di_run_param(run, FILTER_WISE, 0) != 0;
}

static void merge_row(const di_merge_run *run, int64_t n, const double *const *rows, double *products,
                      double *out) {
    double *product = products;
    for (int64_t i = 0; i < n; i++) out[i] = 0;
    for (int32_t s = 0; s < run->models; s++) {
        for (int32_t t = s; t < run->models; t++, product++) {
            *product = 0;
            for (int64_t i = 0; i < n; i++) *product += rows[s][i] * rows[t][i];
        }
        for (int64_t i = 0; i < n; i++) out[i] += rows[s][i];
    }
    double share = share_of(run->models, products) / run->models;
    for (int64_t i = 0; i < n; i++) out[i] *= share;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    return di_merge_whole_rows(run, entry, merge_row, out);
}

const di_method di_merge_model_stock = {
    .name = "model_stock",
    .text = "mean drawn to the base by the angles between the models (Jang et al. 2024, Model Stock)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .takes = takes,
    .tensor = tensor,
    .need = di_rows_bytes,
};
