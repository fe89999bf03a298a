/* functions.h: the activations and their derivatives on the device, as the CPU computes them: float in float, GELU by
 * a fit whose small side keeps its relative accuracy, double by the mathematics library. */
#ifndef DISTAC_CUDA_FUNCTIONS_H
#define DISTAC_CUDA_FUNCTIONS_H

#include "../../distac.h"
#include "launch.h"

/* The normal distribution function and its density at x. With z = |x|, Phi(-z) = exp(-z^2/2) R(z), and R is smooth with
 * a tail like 0.4/z: R(z) (z + 4) is a polynomial in (z - 4)/(z + 4), a minimax fit over 0 … 14 with relative error
 * 8e-9. */
__device__ static inline void di_normal(float x, float *below, float *density) {
    float z = fabsf(x);
    z = z > 13.2f ? 13.2f : z;
    float square = z * z, low = fmaf(z, z, -square); /* its rounding error would be multiplied by z^2/2 */
    float e = expf(-0.5f * square);
    e = fmaf(e, -0.5f * low, e);
    float t = 1.0f / (z + 4.0f), s = (z - 4.0f) * t;
    float p = -0.0001295270682f;
    p = fmaf(p, s, 0.0001846314304f);
    p = fmaf(p, s, 0.001571857603f);
    p = fmaf(p, s, -0.003514984002f);
    p = fmaf(p, s, -0.007526726766f);
    p = fmaf(p, s, 0.06040414389f);
    p = fmaf(p, s, -0.1865232063f);
    p = fmaf(p, s, 0.3871368898f);
    p = fmaf(p, s, -0.6078965971f);
    p = fmaf(p, s, 0.7552851355f);
    float tail = e * (p * t);
    *below = x < 0.0f ? tail : 1.0f - tail;
    *density = 0.398942280401432678f * e;
    if (x != x) *below = *density = x;
}
__device__ static inline void di_normal(double x, double *below, double *density) {
    *below = 0.5 * erfc(-x * 0.707106781186547524);
    *density = 0.398942280401432678 * exp(-0.5 * x * x);
}

/* The logistic function and its derivative, from exp(-|x|): nothing overflows, nothing cancels. */
template <typename T> __device__ static inline void di_logistic(T x, T *value, T *slope) {
    T e = di_exp(x < T(0) ? x : -x);
    T large = T(1) / (T(1) + e), small = e * large;
    *value = x < T(0) ? small : large;
    *slope = large * small;
}

/* Any other number than the two activations is none. */
template <typename T> __device__ static inline T di_act(int act, T x) {
    T value, slope;
    if (act == DISTAC_ACT_GELU) {
        di_normal(x, &value, &slope);
        return x * value;
    }
    if (act == DISTAC_ACT_QUICK_GELU) {
        di_logistic(T(1.702) * x, &value, &slope);
        return x * value;
    }
    return x;
}
template <typename T> __device__ static inline T di_act_slope(int act, T x) {
    T value, slope;
    if (act == DISTAC_ACT_GELU) {
        di_normal(x, &value, &slope);
        return value + x * slope;
    }
    if (act == DISTAC_ACT_QUICK_GELU) {
        di_logistic(T(1.702) * x, &value, &slope);
        return value + T(1.702) * x * slope;
    }
    return T(1);
}

/* The same for elements stored as A. What is rounded to bfloat16 afterwards takes QuickGELU by the device's own quick
 * exponential and quotient, good to 21 bits: the exact ones take longer than the memory does. */
template <typename A> __device__ static inline typename di_real<A>::type di_act_as(int act, typename di_real<A>::type x) {
    return di_act(act, x);
}
template <typename A>
__device__ static inline typename di_real<A>::type di_act_slope_as(int act, typename di_real<A>::type x) {
    return di_act_slope(act, x);
}
__device__ static inline float di_logistic_quick(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
template <> __device__ inline float di_act_as<__nv_bfloat16>(int act, float x) {
    if (act == DISTAC_ACT_QUICK_GELU) return x * di_logistic_quick(1.702f * x);
    return di_act(act, x);
}
template <> __device__ inline float di_act_slope_as<__nv_bfloat16>(int act, float x) {
    if (act != DISTAC_ACT_QUICK_GELU) return di_act_slope(act, x);
    float z = 1.702f * x, value = di_logistic_quick(z);
    return value * fmaf(z, 1.0f - value, 1.0f);
}

#endif
