/* heads.c: the entries of the table around an encoder: images as floats, rows of features and logits, losses. */
#include "entries.h"
#include "kernels.h"

#define LAUNCH(what, call) di_cuda_check(c, what, (call))

#define ENTRIES(suffix)                                                                                            \
    distac_status di_cuda_pixels_##suffix(distac_context *c, int64_t n, int64_t channels, int64_t plane,           \
                                          const uint8_t *bytes, const int64_t *list, const double *mean,           \
                                          const double *std, void *x) {                                            \
        DI_CUDA_BEGIN(c, "pixels");                                                                                \
        if (channels > DI_CUDA_CHANNELS)                                                                           \
            return di_fail_at(DISTAC_EUNSUPPORTED, "pixels",                                                       \
                              "images have %lld channels, on a CUDA device the most is %d", (long long)channels,   \
                              (int)DI_CUDA_CHANNELS);                                                              \
        if (n * channels * plane == 0) return DISTAC_OK;                                                           \
        return LAUNCH("pixels",                                                                                    \
                      di_cuda_launch_pixels_##suffix(n, channels, plane, bytes, list, mean, std, x,                \
                                                     cuda->stream));                                               \
    }                                                                                                              \
    distac_status di_cuda_gather_##suffix(distac_context *c, int64_t n, int64_t C, const int64_t *list,            \
                                          const void *x, void *y) {                                                \
        DI_CUDA_BEGIN(c, "gather");                                                                                \
        if (n * C == 0) return DISTAC_OK;                                                                          \
        return LAUNCH("gather", di_cuda_launch_gather_##suffix(n, C, list, x, y, cuda->stream));                   \
    }                                                                                                              \
    distac_status di_cuda_normalize_##suffix(distac_context *c, int64_t M, int64_t C, const void *x, void *y,      \
                                             void *norms) {                                                        \
        DI_CUDA_BEGIN(c, "normalize");                                                                             \
        if (M == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("normalize", di_cuda_launch_normalize_##suffix(M, C, x, y, norms, cuda->stream));            \
    }                                                                                                              \
    distac_status di_cuda_normalize_backward_##suffix(distac_context *c, int64_t M, int64_t C, const void *y,      \
                                                      const void *norms, const void *dy, void *dx) {               \
        DI_CUDA_BEGIN(c, "normalize_backward");                                                                    \
        if (M == 0) return DISTAC_OK;                                                                              \
        return LAUNCH("normalize_backward",                                                                        \
                      di_cuda_launch_normalize_backward_##suffix(M, C, y, norms, dy, dx, cuda->stream));           \
    }                                                                                                              \
    distac_status di_cuda_softmax_##suffix(distac_context *c, int64_t M, int64_t C, double scale, bool log_space,  \
                                           const void *x, void *y) {                                               \
        DI_CUDA_BEGIN(c, "softmax");                                                                               \
        if (M * C == 0) return DISTAC_OK;                                                                          \
        return LAUNCH("softmax", di_cuda_launch_softmax_##suffix(M, C, scale, log_space, x, y, cuda->stream));     \
    }                                                                                                              \
    distac_status di_cuda_loss_##suffix(distac_context *c, const distac_loss_desc *desc, int64_t rows,             \
                                        int64_t classes, const void *logits, const di_targets *targets,            \
                                        double scale, void *dlogits, di_row *results) {                            \
        DI_CUDA_BEGIN(c, "loss");                                                                                  \
        if (rows == 0) return DISTAC_OK;                                                                           \
        return LAUNCH("loss", di_cuda_launch_loss_##suffix(desc, rows, classes, logits, targets->labels,           \
                                                           targets->others, targets->lambda, scale, dlogits,       \
                                                           results, cuda->stream));                                \
    }                                                                                                              \
    distac_status di_cuda_loss_kd_##suffix(distac_context *c, int64_t rows, int64_t classes, const void *teacher,  \
                                           const void *student, double t_teacher, double t_student, double scale,  \
                                           void *dstudent, di_row *results) {                                      \
        DI_CUDA_BEGIN(c, "loss_kd");                                                                               \
        if (rows == 0) return DISTAC_OK;                                                                           \
        return LAUNCH("loss_kd", di_cuda_launch_loss_kd_##suffix(rows, classes, teacher, student, t_teacher,       \
                                                                 t_student, scale, dstudent, results,              \
                                                                 cuda->stream));                                   \
    }                                                                                                              \
    distac_status di_cuda_loss_entropy_##suffix(distac_context *c, int64_t rows, int64_t classes,                  \
                                                const void *logits, double scale, void *dlogits,                   \
                                                di_row *results) {                                                 \
        DI_CUDA_BEGIN(c, "loss_entropy");                                                                          \
        if (rows == 0) return DISTAC_OK;                                                                           \
        return LAUNCH("loss_entropy", di_cuda_launch_loss_entropy_##suffix(rows, classes, logits, scale, dlogits,  \
                                                                           results, cuda->stream));                \
    }
ENTRIES(f32)
ENTRIES(f64)
