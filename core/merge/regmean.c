/* regmean.c: the arithmetic of RegMean (Jin et al. 2023, Dataless Knowledge Fusion by Merging Weights of Language
 * Models): for one linear layer the weight whose outputs are nearest to those of all models on their own inputs.
 * With Gram matrices G_t of the inputs, tau_t [N,K] of the weights: D (sum G_t) = sum tau_t G_t. */
#include "../backend/backend.h"
#include "../tensor/lapack.h"
#include "../tensor/walk.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static distac_status square(const distac_tensor *t, const char *name, int32_t dtype, int64_t size) {
    const int64_t shape[2] = {size, size};
    return di_tensor_expect(t, name, dtype, 2, shape);
}

typedef struct shrink {
    int64_t size;
    const double *gram;
    double scale, off, *out, *sum;
} shrink;

static void shrink_row(void *arg, int64_t row) {
    const shrink *s = arg;
    for (int64_t i = 0, at = row * s->size; i < s->size; i++, at++) {
        /* Both halves from the upper one: a symmetric matrix, whatever the product's rounding was. */
        double g = i >= row ? s->gram[at] : s->gram[i * s->size + row];
        double v = g * s->scale * (i == row ? 1.0 : s->off);
        s->out[at] = v;
        s->sum[at] += v;
    }
}

distac_status distac_regmean_add(const distac_tensor *gram, double scale, double off_diagonal,
                                 const distac_tensor *tau, distac_tensor *sum, distac_tensor *product) {
    DI_REQUIRE(gram && tau && sum && product, "gram, tau, sum and product are needed");
    const int64_t any[2] = {-1, -1};
    DI_TRY(di_tensor_expect(tau, "tau", tau->dtype, 2, any));
    const int64_t N = tau->shape[0], K = tau->shape[1];
    DI_TRY(square(gram, "gram", gram->dtype, K));
    DI_TRY(square(sum, "sum", DISTAC_F64, K));
    DI_TRY(di_tensor_expect(product, "product", DISTAC_F64, 2, tau->shape));
    if (!(isfinite(scale) && off_diagonal >= 0.0 && off_diagonal <= 1.0))
        return di_fail(DISTAC_EINVAL, "scale is %g and off_diagonal %g; it must be from 0 to 1", di_shown(scale),
                       di_shown(off_diagonal));
    distac_tensor *wide = NULL, *shrunk = NULL, *weights = NULL;
    distac_context *c = gram->context;
    distac_status status = distac_tensor_cast(gram, DISTAC_F64, &wide);
    if (status == DISTAC_OK) status = di_tensor_new(c, DISTAC_F64, 2, gram->shape, false, &shrunk);
    if (status == DISTAC_OK) status = distac_tensor_cast(tau, DISTAC_F64, &weights);
    if (status == DISTAC_OK) {
        shrink s = {K, wide->data, scale, off_diagonal, shrunk->data, sum->data};
        di_parallel(c, K, shrink_row, &s);
        status =
            di_kernels_for(c, DISTAC_F64)
                ->gemm(c, false, false, N, K, K, 1.0, weights->data, K, shrunk->data, K, 1.0, product->data, K);
    }
    distac_tensor_release(weights);
    distac_tensor_release(shrunk);
    distac_tensor_release(wide);
    return status;
}

/* Cholesky factor of `a` in place; false where it is singular to double precision. room: 3 K, integers: K. */
static bool factor(double *a, lapack_int K, double norm, double *room, lapack_int *integers) {
    double reciprocal = 0.0;
    if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', K, a, K) != 0) return false;
    return LAPACKE_dpocon_work(LAPACK_COL_MAJOR, 'U', K, a, K, norm, &reciprocal, room, integers) == 0 &&
           reciprocal > 1e-14;
}

/* Largest absolute row sum, and the mean of the diagonal. */
static double norm_of(const double *a, int64_t K, double *mean) {
    double most = 0.0, trace = 0.0;
    for (int64_t i = 0; i < K; i++) {
        double row = 0.0;
        for (int64_t k = 0; k < K; k++) row += fabs(a[i * K + k]);
        if (!(row <= most)) most = row;
        trace += a[i * K + i];
    }
    *mean = trace / (double)K;
    return most;
}

static distac_status solve(const distac_tensor *sum, const distac_tensor *total, int32_t models,
                           distac_tensor *product, double *work, double *out) {
    enum { TRIES = 12 };
    const int64_t K = sum->shape[0], N = product->shape[0];
    double mean, norm = norm_of(sum->data, K, &mean), epsilon = 0.0;
    if (!isfinite(norm)) return di_fail_at(DISTAC_ENUMERIC, "distac_regmean_solve", "sum is not finite");
    for (int32_t tries = 0; tries < TRIES; tries++) {
        memcpy(work, sum->data, (size_t)(K * K) * sizeof *work);
        for (int64_t i = 0; i < K; i++) work[i * K + i] += epsilon * models;
        if (factor(work, (lapack_int)K, norm + epsilon * models, work + K * K,
                   (lapack_int *)(work + K * K + 3 * K))) {
            double *d = product->data;
            const double *t = total->data;
            for (int64_t i = 0; epsilon > 0.0 && i < N * K; i++) d[i] += epsilon * t[i];
            lapack_int info = LAPACKE_dpotrs(LAPACK_COL_MAJOR, 'U', (lapack_int)K, (lapack_int)N, work,
                                             (lapack_int)K, d, (lapack_int)K); /* rows of d are LAPACK's columns */
            if (info != 0) break;
            *out = epsilon;
            return DISTAC_OK;
        }
        epsilon = epsilon > 0.0 ? 10.0 * epsilon : mean > 0.0 ? 1e-8 * mean / models : 1.0;
    }
    return di_fail_at(DISTAC_ENUMERIC, "distac_regmean_solve",
                      "sum is no sum of Gram matrices: it has no Cholesky factor"
                      " even with %g on its diagonal",
                      epsilon);
}

distac_status distac_regmean_solve(const distac_tensor *sum, const distac_tensor *total, int32_t models,
                                   distac_tensor *product, double *out) {
    DI_REQUIRE(sum && total && product && out, "sum, total, product and out are needed");
    const int64_t any[2] = {-1, -1};
    DI_TRY(di_tensor_expect(product, "product", DISTAC_F64, 2, any));
    DI_TRY(square(sum, "sum", DISTAC_F64, product->shape[1]));
    DI_TRY(di_tensor_expect(total, "total", DISTAC_F64, 2, product->shape));
    if (models < 1) return di_fail(DISTAC_EINVAL, "models is %d, it must be at least 1", (int)models);
    if (product->shape[1] > INT_MAX || product->shape[0] > INT_MAX || product->numel < 1)
        return di_fail(DISTAC_ESHAPE, "product is [%lld,%lld]", (long long)product->shape[0],
                       (long long)product->shape[1]);
    DI_TRY(di_lapack_ready());
    /* The factor, and what LAPACK works in: had it to be asked of the
     * system in between, a refusal would look like a singular matrix. */
    size_t bytes = (size_t)(sum->numel + 4 * sum->shape[0]) * sizeof(double);
    double *work = di_alloc(sum->context, bytes);
    if (!work) return DISTAC_ENOMEM;
    distac_status status = solve(sum, total, models, product, work, out);
    di_free(sum->context, work, bytes);
    return status;
}
