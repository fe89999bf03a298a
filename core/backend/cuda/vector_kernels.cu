/* vector_kernels.cu: passes over flat vectors: sums in double, the pull to the anchor, the update, and what a step
 * decides in between. Sums are of pieces whose number depends on the length alone, added in a fixed order. */
#include "kernels.h"
#include "launch.h"

enum { THREADS = 256, PIECE = 8192 };

/* parts [pieces][2]. first: |theta - theta0|^2 if theta0 is given, then g += a (theta - theta0); second: |g|^2. Or,
 * with y in theta's place and no theta0, the product of g and theta. */
template <typename T>
__global__ void pieces(int64_t n, T a, const T *theta, const T *theta0, T *g, double *parts) {
    DI_SHARED(double, scratch, 33);
    int64_t start = (int64_t)blockIdx.x * PIECE, end = start + PIECE < n ? start + PIECE : n;
    double first = 0, second = 0;
    for (int64_t i = start + threadIdx.x; i < end; i += THREADS) {
        T value = g[i];
        if (theta0) {
            T difference = theta[i] - theta0[i];
            value += a * difference;
            g[i] = value;
            first += (double)difference * (double)difference;
        }
        second += (double)value * (double)(theta && !theta0 ? theta[i] : value);
    }
    first = di_block_sum(first, scratch);
    second = di_block_sum(second, scratch);
    if (threadIdx.x > 0) return;
    parts[2 * (int64_t)blockIdx.x] = first;
    parts[2 * (int64_t)blockIdx.x + 1] = second;
}

/* first [1] = factor times the sum of the pieces' first sums; second likewise, without a factor. NULL: not wanted. */
__global__ void add_pieces(int64_t count, const double *parts, double factor, double *first, double *second) {
    DI_SHARED(double, scratch, 33);
    double a = 0, b = 0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS) {
        a += parts[2 * i];
        b += parts[2 * i + 1];
    }
    a = di_block_sum(a, scratch);
    b = di_block_sum(b, scratch);
    if (threadIdx.x > 0) return;
    if (first) *first = factor * a;
    if (second) *second = b;
}

extern "C" int64_t di_cuda_vector_pieces(int64_t n) { return (n + PIECE - 1) / PIECE; }

extern "C" int di_cuda_launch_sum_pieces(int64_t n, const double *parts, double factor, double *first,
                                         double *second, cudaStream_t s) {
    return DI_LAUNCH(add_pieces, 1, THREADS, 0, s, di_cuda_vector_pieces(n), parts, factor, first, second);
}

/* ---- the numbers of a step ---- */

__global__ void step_begin(di_step start, di_step *step) { *step = start; }

__global__ void step_rows(int64_t rows, const di_row *results, di_step *step) {
    DI_SHARED(double, scratch, 33);
    di_row sum = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < rows; i += THREADS) {
        sum.loss += results[i].loss;
        sum.entropy += results[i].entropy;
        sum.correct += results[i].correct;
    }
    sum.loss = di_block_sum(sum.loss, scratch);
    sum.entropy = di_block_sum(sum.entropy, scratch);
    sum.correct = di_block_sum(sum.correct, scratch);
    if (threadIdx.x == 0) step->total = sum;
}

struct two_rules {
    di_adamw at[2];
};
__global__ void step_decide(int vectors, two_rules rules, di_step *step) { di_step_verdict(step, vectors, rules.at); }

extern "C" int di_cuda_launch_step_begin(const di_step *start, di_step *step, cudaStream_t s) {
    return DI_LAUNCH(step_begin, 1, 1, 0, s, *start, step);
}
extern "C" int di_cuda_launch_step_rows(int64_t rows, const di_row *results, di_step *step, cudaStream_t s) {
    return DI_LAUNCH(step_rows, 1, THREADS, 0, s, rows, results, step);
}
extern "C" int di_cuda_launch_step_decide(int vectors, const di_adamw *rules, di_step *step, cudaStream_t s) {
    two_rules both;
    both.at[0] = rules[0];
    both.at[1] = rules[vectors - 1];
    return DI_LAUNCH(step_decide, 1, 1, 0, s, vectors, both, step);
}

/* ---- the update ---- */

template <typename T> struct adamw_numbers {
    T beta1, beta2, rest1, rest2, step, eps, keep, add, grad_scale, correction;
};

template <typename T>
__host__ __device__ static adamw_numbers<T> numbers(const di_adamw &rule, int64_t update, double rate,
                                                    double factor) {
    double first = 1 - pow(rule.beta1, (double)update), second = 1 - pow(rule.beta2, (double)update);
    adamw_numbers<T> a;
    a.beta1 = (T)rule.beta1;
    a.beta2 = (T)rule.beta2;
    a.rest1 = (T)(1 - rule.beta1);
    a.rest2 = (T)(1 - rule.beta2);
    a.step = (T)(rate / first);
    a.eps = (T)rule.eps;
    a.keep = (T)(rule.coupled ? 1 : 1 - rate * rule.weight_decay);
    a.add = (T)(rule.coupled ? rule.weight_decay : 0);
    a.grad_scale = (T)factor;
    a.correction = (T)(1 / sqrt(second));
    return a;
}

template <typename T>
__device__ static void adamw_element(const adamw_numbers<T> &a, int64_t i, const T *g, T *m, T *v, T *theta) {
    T gi = g[i] * a.grad_scale + a.add * theta[i];
    T mi = a.beta1 * m[i] + a.rest1 * gi, vi = a.beta2 * v[i] + a.rest2 * (gi * gi);
    m[i] = mi;
    v[i] = vi;
    theta[i] = a.keep * theta[i] - a.step * mi / (di_sqrt(vi) * a.correction + a.eps);
}

template <typename T>
__global__ void adamw(int64_t n, adamw_numbers<T> a, const T *g, T *m, T *v, T *theta) {
    DI_EACH(i, n) adamw_element(a, i, g, m, v, theta);
}

template <typename T>
__global__ void step_update(int which, int64_t n, di_adamw rule, const T *g, T *m, T *v, T *theta,
                            __nv_bfloat16 *copy, const di_step *step) {
    DI_SHARED(adamw_numbers<T>, a, 1);
    if (step->refused) return;
    if (threadIdx.x == 0) *a = numbers<T>(rule, step->updates[which] + 1, step->rate[which], step->factor[which]);
    __syncthreads();
    DI_EACH(i, n) {
        adamw_element(*a, i, g, m, v, theta);
        if (copy) copy[i] = __float2bfloat16((float)theta[i]);
    }
}

/* ---- others ---- */

template <typename T> __global__ void nonfinite(int64_t n, const T *x, unsigned long long *first) {
    DI_EACH(i, n)
        if (!(x[i] - x[i] == 0)) {
            atomicMin(first, (unsigned long long)i);
            return;
        }
}

template <typename T> __global__ void square(int64_t n, T *g, double *out) {
    DI_EACH(i, n) {
        out[i] += (double)g[i] * (double)g[i];
        g[i] = 0;
    }
}

/* taus [models], lambdas [models] on the device. The bits of the host: no product and sum is fused. */
template <typename T>
__global__ void combine(int64_t n, int models, const void *const *taus, const double *lambdas, const T *base,
                        T *out) {
    DI_EACH(i, n) {
        double sum = (double)base[i];
        for (int t = 0; t < models; t++)
            if (!(lambdas[t] == 0)) sum = __dadd_rn(sum, __dmul_rn(lambdas[t], (double)((const T *)taus[t])[i]));
        out[i] = (T)sum;
    }
}

#define VECTORS(suffix, T)                                                                                         \
    extern "C" int di_cuda_launch_pieces_##suffix(int64_t n, double a, const void *theta, const void *theta0,      \
                                                  void *g, double *parts, cudaStream_t s) {                        \
        return DI_LAUNCH(pieces<T>, (unsigned)di_cuda_vector_pieces(n), THREADS, 0, s, n, (T)a, (const T *)theta,  \
                         (const T *)theta0, (T *)g, parts);                                                        \
    }                                                                                                              \
    extern "C" int di_cuda_launch_adamw_##suffix(int64_t n, int64_t update, double rate, const di_adamw *rule,     \
                                                 double factor, const void *g, void *m, void *v, void *theta,      \
                                                 cudaStream_t s) {                                                 \
        return DI_LAUNCH(adamw<T>, di_blocks(n, THREADS), THREADS, 0, s, n,                                        \
                         numbers<T>(*rule, update, rate, factor), (const T *)g, (T *)m, (T *)v, (T *)theta);       \
    }                                                                                                              \
    extern "C" int di_cuda_launch_step_update_##suffix(int which, int64_t n, const di_adamw *rule, const void *g,  \
                                                       void *m, void *v, void *theta, void *copy,                  \
                                                       const di_step *step, cudaStream_t s) {                    \
        return DI_LAUNCH(step_update<T>, di_blocks(n, 16 * THREADS), THREADS, 0, s, which, n, *rule,               \
                         (const T *)g, (T *)m, (T *)v, (T *)theta, (__nv_bfloat16 *)copy, step);                   \
    }                                                                                                              \
    extern "C" int di_cuda_launch_nonfinite_##suffix(int64_t n, const void *x, unsigned long long *first,          \
                                                     cudaStream_t s) {                                             \
        return DI_LAUNCH(nonfinite<T>, di_blocks(n, THREADS), THREADS, 0, s, n, (const T *)x, first);              \
    }                                                                                                              \
    extern "C" int di_cuda_launch_square_##suffix(int64_t n, void *g, double *out, cudaStream_t s) {               \
        return DI_LAUNCH(square<T>, di_blocks(n, THREADS), THREADS, 0, s, n, (T *)g, out);                         \
    }                                                                                                              \
    extern "C" int di_cuda_launch_combine_##suffix(int64_t n, int models, const void *const *taus,                 \
                                                   const double *lambdas, const void *base, void *out,             \
                                                   cudaStream_t s) {                                               \
        return DI_LAUNCH(combine<T>, di_blocks(n, THREADS), THREADS, 0, s, n, models, taus, lambdas,               \
                         (const T *)base, (T *)out);                                                               \
    }
VECTORS(f32, float)
VECTORS(f64, double)
