/* general.h: the entries that are the same for every instruction set: bound by memory, or few numbers in double.
 * DI_CPU_GENERAL(suffix) fills them in. */
#ifndef DISTAC_CPU_GENERAL_H
#define DISTAC_CPU_GENERAL_H

#include "../backend.h"

#define DI_CPU_GENERAL(suffix)                                                                                     \
    .rows_first = di_cpu_rows_first_##suffix, .rows_first_backward = di_cpu_rows_first_backward_##suffix,          \
    .pixels = di_cpu_pixels_##suffix, .gather = di_cpu_gather_##suffix, .loss = di_cpu_loss_##suffix,              \
    .loss_kd = di_cpu_loss_kd_##suffix, .loss_entropy = di_cpu_loss_entropy_##suffix,                              \
    .project = di_cpu_project_##suffix, .project_backward = di_cpu_project_backward_##suffix,                      \
    .step_begin = di_cpu_step_begin, .step_rows = di_cpu_step_rows,                                                \
    .step_gradient = di_cpu_step_gradient_##suffix, .step_decide = di_cpu_step_decide,                             \
    .step_update = di_cpu_step_update_##suffix, .upload = di_cpu_copy, .download = di_cpu_copy,                    \
    .copy = di_cpu_copy, .nonfinite = di_cpu_nonfinite_##suffix, .square = di_cpu_square_##suffix,                 \
    .combine = di_cpu_combine_##suffix,

#define DI_CPU_TYPED(suffix)                                                                                       \
    distac_status di_cpu_rows_first_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W, const void *x,    \
                                             void *first);                                                         \
    distac_status di_cpu_rows_first_backward_##suffix(distac_context *c, int64_t B, int64_t N, int64_t W,          \
                                                      const void *dfirst, void *dx);                               \
    distac_status di_cpu_pixels_##suffix(distac_context *c, int64_t n, int64_t channels, int64_t plane,            \
                                         const uint8_t *bytes, const double *mean, const double *std, void *x);    \
    distac_status di_cpu_gather_##suffix(distac_context *c, int64_t n, int64_t C, const int64_t *list,             \
                                         const void *x, void *y);                                                  \
    distac_status di_cpu_project_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W, const void *x,       \
                                          const void *proj, void *y);                                              \
    distac_status di_cpu_project_backward_##suffix(distac_context *c, int64_t B, int64_t D, int64_t W,             \
                                                   const void *x, const void *proj, const void *dy, void *dx,      \
                                                   void *dproj);                                                   \
    distac_status di_cpu_loss_##suffix(distac_context *c, const distac_loss_desc *desc, int64_t rows,              \
                                       int64_t classes, const void *logits, const di_targets *targets,             \
                                       double scale, void *dlogits, di_row *results);                              \
    distac_status di_cpu_loss_kd_##suffix(distac_context *c, int64_t rows, int64_t classes, const void *teacher,   \
                                          const void *student, double t_teacher, double t_student, double scale,   \
                                          void *dstudent, di_row *results);                                        \
    distac_status di_cpu_loss_entropy_##suffix(distac_context *c, int64_t rows, int64_t classes,                   \
                                               const void *logits, double scale, void *dlogits, di_row *results);  \
    distac_status di_cpu_step_gradient_##suffix(distac_context *c, int32_t which, int64_t n, double beta,          \
                                                const void *theta, const void *theta0, void *g, di_step *step);    \
    distac_status di_cpu_step_update_##suffix(distac_context *c, int32_t which, int64_t n, const di_adamw *rule,   \
                                              const void *g, void *m, void *v, void *theta, const di_step *step);  \
    distac_status di_cpu_nonfinite_##suffix(distac_context *c, int64_t n, const void *x, int64_t *first);          \
    distac_status di_cpu_square_##suffix(distac_context *c, int64_t n, void *g, double *out);                      \
    distac_status di_cpu_combine_##suffix(distac_context *c, int64_t n, int32_t models, const void *const *taus,   \
                                          const double *lambdas, const void *base, void *out);
DI_CPU_TYPED(f32)
DI_CPU_TYPED(f64)
distac_status di_cpu_step_begin(distac_context *c, const di_step *start, di_step *step);
distac_status di_cpu_step_rows(distac_context *c, int64_t rows, const di_row *results, di_step *step);
distac_status di_cpu_step_decide(distac_context *c, int32_t vectors, const di_adamw *rules, di_step *step);
distac_status di_cpu_copy(distac_context *c, void *dst, const void *src, size_t bytes);

#endif
