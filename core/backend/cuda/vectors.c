/* vectors.c: the entries of the table for flat vectors and for the numbers of a training step, which stay on the
 * device. */
#include "entries.h"
#include "kernels.h"

#include <string.h>

#define LAUNCH(what, call) di_cuda_check(c, what, (call))

distac_status di_cuda_step_begin(distac_context *c, const di_step *start, di_step *step) {
    DI_CUDA_BEGIN(c, "step");
    return LAUNCH("step", di_cuda_launch_step_begin(start, step, cuda->stream));
}

distac_status di_cuda_step_rows(distac_context *c, int64_t rows, const di_row *results, di_step *step) {
    DI_CUDA_BEGIN(c, "step");
    return LAUNCH("step", di_cuda_launch_step_rows(rows, results, step, cuda->stream));
}

distac_status di_cuda_step_decide(distac_context *c, int32_t vectors, const di_adamw *rules, di_step *step) {
    DI_CUDA_BEGIN(c, "step");
    return LAUNCH("step", di_cuda_launch_step_decide(vectors, rules, step, cuda->stream));
}

/* Room for the sums of a vector's pieces. */
static distac_status parts_for(distac_context *c, int64_t n, double **out) {
    void *memory;
    DI_TRY(di_cuda_scratch(c, (size_t)di_cuda_vector_pieces(n) * 2 * sizeof(double), &memory));
    *out = memory;
    return DISTAC_OK;
}

/* The first index that nonfinite found lies in the first of the context's sums. */
static distac_status read_index(distac_context *c, int64_t n, int64_t *first) {
    double word;
    unsigned long long index;
    DI_TRY(di_cuda_read_sums(c, 1, &word));
    memcpy(&index, &word, sizeof index);
    *first = index < (unsigned long long)n ? (int64_t)index : -1;
    return DISTAC_OK;
}

/* The lists on the device, the pointers first. */
static distac_status put_lists(distac_context *c, int32_t models, const void *const *taus, const double *lambdas,
                               void **out) {
    size_t pointers = (size_t)models * sizeof *taus, numbers = (size_t)models * sizeof *lambdas;
    DI_TRY(di_cuda_scratch(c, pointers + numbers, out));
    DI_TRY(di_cuda_upload(c, *out, taus, pointers));
    return di_cuda_upload(c, (char *)*out + pointers, lambdas, numbers);
}

#define ENTRIES(suffix)                                                                                            \
    distac_status di_cuda_sumsq_##suffix(distac_context *c, int64_t n, const void *x, double *out) {               \
        return di_cuda_dot_##suffix(c, n, x, NULL, out);                                                           \
    }                                                                                                              \
    distac_status di_cuda_dot_##suffix(distac_context *c, int64_t n, const void *x, const void *y, double *out) {  \
        DI_CUDA_BEGIN(c, "dot");                                                                                   \
        double *parts;                                                                                             \
        *out = 0;                                                                                                  \
        if (n == 0) return DISTAC_OK;                                                                              \
        DI_TRY(parts_for(c, n, &parts));                                                                           \
        DI_TRY(LAUNCH("dot", di_cuda_launch_pieces_##suffix(n, 0, y, NULL, (void *)(uintptr_t)x, parts,            \
                                                            cuda->stream)));                                       \
        DI_TRY(LAUNCH("dot", di_cuda_launch_sum_pieces(n, parts, 1, NULL, cuda->sums, cuda->stream)));             \
        return di_cuda_read_sums(c, 1, out);                                                                       \
    }                                                                                                              \
    distac_status di_cuda_anchor_##suffix(distac_context *c, int64_t n, double beta, const void *theta,            \
                                          const void *theta0, void *g, double *anchor, double *sumsq) {            \
        DI_CUDA_BEGIN(c, "anchor");                                                                                \
        double *parts, both[2] = {0, 0};                                                                           \
        if (n > 0) {                                                                                               \
            DI_TRY(parts_for(c, n, &parts));                                                                       \
            DI_TRY(LAUNCH("anchor", di_cuda_launch_pieces_##suffix(n, 2 * beta, theta, theta0, g, parts,           \
                                                                   cuda->stream)));                                \
            DI_TRY(LAUNCH("anchor", di_cuda_launch_sum_pieces(n, parts, beta, cuda->sums, cuda->sums + 1,          \
                                                              cuda->stream)));                                     \
            DI_TRY(di_cuda_read_sums(c, 2, both));                                                                 \
        }                                                                                                          \
        if (anchor) *anchor = both[0];                                                                             \
        if (sumsq) *sumsq = both[1];                                                                               \
        return DISTAC_OK;                                                                                          \
    }                                                                                                              \
    distac_status di_cuda_step_gradient_##suffix(distac_context *c, int32_t which, int64_t n, double beta,         \
                                                 const void *theta, const void *theta0, void *g, di_step *step) {  \
        DI_CUDA_BEGIN(c, "step");                                                                                  \
        double *parts;                                                                                             \
        bool pull = beta > 0.0;                                                                                    \
        DI_TRY(parts_for(c, n, &parts));                                                                           \
        DI_TRY(LAUNCH("step", di_cuda_launch_pieces_##suffix(n, 2 * beta, pull ? theta : NULL,                     \
                                                             pull ? theta0 : NULL, g, parts, cuda->stream)));      \
        return LAUNCH("step", di_cuda_launch_sum_pieces(n, parts, beta, pull ? &step->anchor : NULL,               \
                                                        &step->sumsq[which], cuda->stream));                       \
    }                                                                                                              \
    distac_status di_cuda_step_update_##suffix(distac_context *c, int32_t which, int64_t n, const di_adamw *rule,  \
                                               const void *g, void *m, void *v, void *theta, void *copy,           \
                                               const di_step *step) {                                              \
        DI_CUDA_BEGIN(c, "step");                                                                                  \
        return LAUNCH("step", di_cuda_launch_step_update_##suffix(which, n, rule, g, m, v, theta, copy, step,      \
                                                                  cuda->stream));                                  \
    }                                                                                                              \
    distac_status di_cuda_adamw_##suffix(distac_context *c, int64_t n, int64_t t, double lr, double beta1,         \
                                         double beta2, double eps, double weight_decay, bool coupled,              \
                                         double grad_scale, const void *g, void *m, void *v, void *theta) {        \
        DI_CUDA_BEGIN(c, "adamw");                                                                                 \
        const di_adamw rule = {.beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = weight_decay,           \
                               .coupled = coupled};                                                                \
        if (n == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("adamw", di_cuda_launch_adamw_##suffix(n, t, lr, &rule, grad_scale, g, m, v, theta,          \
                                                             cuda->stream));                                       \
    }                                                                                                              \
    distac_status di_cuda_nonfinite_##suffix(distac_context *c, int64_t n, const void *x, int64_t *first) {        \
        DI_CUDA_BEGIN(c, "nonfinite");                                                                             \
        *first = -1;                                                                                               \
        if (n == 0) return DISTAC_OK;                                                                              \
        DI_CUDA_TRY(c, "nonfinite", cudaMemsetAsync(cuda->sums, 0xff, sizeof(double), cuda->stream));              \
        DI_TRY(LAUNCH("nonfinite", di_cuda_launch_nonfinite_##suffix(                                              \
                                       n, x, (unsigned long long *)(void *)cuda->sums, cuda->stream)));            \
        return read_index(c, n, first);                                                                            \
    }                                                                                                              \
    distac_status di_cuda_square_##suffix(distac_context *c, int64_t n, void *g, double *out) {                    \
        DI_CUDA_BEGIN(c, "square");                                                                                \
        if (n == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("square", di_cuda_launch_square_##suffix(n, g, out, cuda->stream));                          \
    }                                                                                                              \
    distac_status di_cuda_combine_##suffix(distac_context *c, int64_t n, int32_t models, const void *const *taus,  \
                                           const double *lambdas, const void *base, void *out) {                   \
        DI_CUDA_BEGIN(c, "combine");                                                                               \
        void *lists = NULL;                                                                                        \
        if (n == 0) return DISTAC_OK;                                                                              \
        if (models > 0) DI_TRY(put_lists(c, models, taus, lambdas, &lists));                                       \
        return LAUNCH("combine", di_cuda_launch_combine_##suffix(                                                  \
                                     n, models, lists, (const double *)((const void **)lists + models), base, out, \
                                     cuda->stream));                                                               \
    }                                                                                                              \
    distac_status di_cuda_project_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,      \
                                           const void *proj, void *y) {                                            \
        return di_cuda_of(c)->device.suffix->gemm(c, false, false, B, D, W, 1.0, x, W, proj, D, 0.0, y, D);        \
    }                                                                                                              \
    distac_status di_cuda_project_backward_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W,            \
                                                    const void *x, const void *proj, const void *dy, void *dx,     \
                                                    void *dproj) {                                                 \
        const di_kernels *k = di_cuda_of(c)->device.suffix;                                                        \
        DI_TRY(k->gemm(c, true, false, W, D, B, 1.0, x, W, dy, D, 1.0, dproj, D));                                 \
        return k->gemm(c, false, true, B, W, D, 1.0, dy, D, proj, D, 0.0, dx, W);                                  \
    }
ENTRIES(f32)
ENTRIES(f64)
