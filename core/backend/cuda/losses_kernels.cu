/* losses_kernels.cu: losses of rows of logits and their gradients, in double, as core/backend/cpu/losses.c computes
 * them. A warp takes a row. */
#include "kernels.h"
#include "launch.h"

#include <math.h>

enum { WARPS = 4 };

/* A row of logits divided by a temperature, and what its log-softmax needs. */
template <typename T> struct row {
    const T *logits;
    int64_t classes, best;
    double inverse, top, low; /* low: logarithm of the sum */

    __device__ double log_p(int64_t j) const { return (double)logits[j] * inverse - top - low; }
};

template <typename T> __device__ static row<T> row_at(const T *logits, int64_t classes, double temperature) {
    int64_t lane = threadIdx.x % 32;
    row<T> r = {logits, classes, 0, 1.0 / temperature, 0.0, 0.0};
    r.top = (double)logits[0] * r.inverse;
    for (int64_t j = lane; j < classes; j += 32) {
        double z = (double)logits[j] * r.inverse;
        if (z > r.top) {
            r.top = z;
            r.best = j;
        }
    }
    for (int bits = 16; bits > 0; bits /= 2) { /* the first of equal ones */
        double z = __shfl_xor_sync(0xffffffffu, r.top, bits);
        int64_t j = __shfl_xor_sync(0xffffffffu, (long long)r.best, bits);
        if (z > r.top || (z == r.top && j < r.best)) {
            r.top = z;
            r.best = j;
        }
    }
    double sum = 0.0;
    for (int64_t j = lane; j < classes; j += 32) sum += exp((double)logits[j] * r.inverse - r.top);
    r.low = log(di_warp_sum(sum));
    return r;
}

template <typename T> __device__ static double entropy_of(const row<T> &r) {
    double sum = 0.0;
    for (int64_t j = threadIdx.x % 32; j < r.classes; j += 32) {
        double l = r.log_p(j), p = exp(l);
        if (!(p == 0.0)) sum -= p * l;
    }
    return di_warp_sum(sum);
}

/* -(1-p)^gamma log p; *slope is its derivative with respect to log p. */
__device__ static double focal(double l, double gamma, double *slope) {
    double q = -expm1(l), weight = pow(q, gamma); /* q = 1-p without cancellation */
    double inner = gamma > 0.0 && q > 0.0 ? gamma * exp(l) * pow(q, gamma - 1.0) * l : 0.0;
    *slope = inner - weight;
    return -weight * l;
}

/* slope: derivatives of the loss for one label with respect to log p of the label and of every class. */
template <typename T>
__device__ static double label_loss(const distac_loss_desc &desc, const row<T> &r, int64_t label, double slope[2]) {
    double l = r.log_p(label), alpha = desc.label_smoothing, sum = 0.0;
    slope[1] = 0.0;
    if (desc.kind == DISTAC_LOSS_FOCAL) return focal(l, desc.gamma, &slope[0]);
    slope[0] = alpha - 1.0;
    if (!(alpha > 0.0)) return -l;
    slope[1] = -alpha / (double)r.classes;
    for (int64_t j = threadIdx.x % 32; j < r.classes; j += 32) sum += r.log_p(j);
    return -(1.0 - alpha) * l + slope[1] * di_warp_sum(sum);
}

template <typename T>
__global__ void classify(distac_loss_desc desc, int64_t rows, int64_t classes, const T *logits,
                         const int64_t *labels, const int64_t *others, const double *share, double scale, T *gradient,
                         di_row *results) {
    int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (index >= rows) return;
    row<T> r = row_at(logits + index * classes, classes, 1.0);
    int64_t label = labels[index], other = others ? others[index] : -1;
    double slope[2], other_slope[2] = {0.0, 0.0};
    const double lambda = others ? *share : 1.0;
    di_row out;
    out.loss = lambda * label_loss(desc, r, label, slope);
    out.correct = r.best == label ? lambda : 0.0;
    if (others) {
        out.loss += (1.0 - lambda) * label_loss(desc, r, other, other_slope);
        out.correct += r.best == other ? 1.0 - lambda : 0.0;
    }
    out.entropy = entropy_of(r);
    if (lane == 0) results[index] = out;
    if (!gradient) return;
    double at_label = lambda * slope[0], at_other = (1.0 - lambda) * other_slope[0];
    double everywhere = lambda * slope[1] + (1.0 - lambda) * other_slope[1];
    double total = at_label + at_other + everywhere * (double)classes;
    for (int64_t k = lane; k < classes; k += 32) { /* d log p_i / d z_k = (i = k) - p_k */
        double g = everywhere - total * exp(r.log_p(k));
        if (k == label) g += at_label;
        if (k == other) g += at_other;
        gradient[index * classes + k] = (T)(scale * g);
    }
}

template <typename T>
__global__ void distill(int64_t rows, int64_t classes, const T *teacher, const T *student, double t_teacher,
                        double t_student, double scale, T *gradient, di_row *results) {
    int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (index >= rows) return;
    row<T> t = row_at(teacher + index * classes, classes, t_teacher);
    row<T> s = row_at(student + index * classes, classes, t_student);
    row<T> plain = row_at(student + index * classes, classes, 1.0);
    double sum = 0.0, entropy = entropy_of(plain);
    for (int64_t k = lane; k < classes; k += 32) {
        double lt = t.log_p(k), ls = s.log_p(k), p = exp(lt);
        if (!(p == 0.0)) sum += p * (lt - ls);
        if (gradient) gradient[index * classes + k] = (T)(scale * t_teacher * (exp(ls) - p));
    }
    sum = di_warp_sum(sum);
    if (lane == 0) {
        di_row out = {t_teacher * t_student * sum, entropy, 0.0};
        results[index] = out;
    }
}

/* H = -sum p log p; dH / dz_k = -p_k (log p_k + H). */
template <typename T>
__global__ void entropic(int64_t rows, int64_t classes, const T *logits, double scale, T *gradient,
                         di_row *results) {
    int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (index >= rows) return;
    row<T> r = row_at(logits + index * classes, classes, 1.0);
    double entropy = entropy_of(r);
    if (lane == 0) {
        di_row out = {entropy, entropy, 0.0};
        results[index] = out;
    }
    for (int64_t k = lane; gradient && k < classes; k += 32) {
        double l = r.log_p(k), p = exp(l), g = p == 0.0 ? 0.0 : -p * (l + entropy); /* NaN stays */
        gradient[index * classes + k] = (T)(scale * g);
    }
}

#define BLOCKS (unsigned)((rows + WARPS - 1) / WARPS)
#define LOSSES(suffix, T)                                                                                          \
    extern "C" int di_cuda_launch_loss_##suffix(const distac_loss_desc *desc, int64_t rows, int64_t classes,       \
                                                const void *logits, const int64_t *labels, const int64_t *others,  \
                                                const double *lambda, double scale, void *gradient,                \
                                                di_row *results,                                                    \
                                                cudaStream_t s) {                                                  \
        return DI_LAUNCH(classify<T>, BLOCKS, WARPS * 32, 0, s, *desc, rows, classes, (const T *)logits, labels, others, lambda,       \
                         scale, (T *)gradient, results);                                                           \
    }                                                                                                              \
    extern "C" int di_cuda_launch_loss_kd_##suffix(int64_t rows, int64_t classes, const void *teacher,             \
                                                   const void *student, double t_teacher, double t_student,        \
                                                   double scale, void *gradient, di_row *results,                  \
                                                   cudaStream_t s) {                                               \
        return DI_LAUNCH(distill<T>, BLOCKS, WARPS * 32, 0, s, rows, classes, (const T *)teacher, (const T *)student, t_teacher,       \
                         t_student, scale, (T *)gradient, results);                                                \
    }                                                                                                              \
    extern "C" int di_cuda_launch_loss_entropy_##suffix(int64_t rows, int64_t classes, const void *logits,         \
                                                        double scale, void *gradient, di_row *results,             \
                                                        cudaStream_t s) {                                          \
        return DI_LAUNCH(entropic<T>, BLOCKS, WARPS * 32, 0, s, rows, classes, (const T *)logits, scale, (T *)gradient, results);      \
    }
LOSSES(f32, float)
LOSSES(f64, double)
