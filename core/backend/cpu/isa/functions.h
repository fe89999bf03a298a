/* functions.h: exp, the two GELUs and their derivatives, written so that compilers vectorise loops over them.
 * float has its own: branch-free, exp to 1 ulp, both GELUs to 4e-7 at worst. double takes the mathematics library,
 * as it is the type that checks, not the one that trains. Included once per element type, hence no guard. */

#undef SIMD_FUNCTIONS /* for loops that call these */
#if DI_REAL == 32
#define SIMD_FUNCTIONS PRAGMA(omp simd)
#else
#define SIMD_FUNCTIONS
#endif

#if DI_REAL == 32

INLINE uint32_t NAME(bits)(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
INLINE float NAME(from_bits)(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp(x + low) for |x| < 87.3 and a small low; NaN stays. */
INLINE float NAME(exp_near)(float x, float low) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    /* ln 2 in two parts, the first short enough for n times it to be exact without a fused product */
    float r = (x - n * 0.693145751953125f) - n * 1.428606765330187e-06f;
    r += low;
    float p = 0.00138144712232f;
    p = p * r + 0.00836878068967f;
    p = p * r + 0.0416683941487f;
    p = p * r + 0.166665201048f;
    p = p * r + 0.499999934127f;
    p = p * (r * r) + r;
    float power = NAME(from_bits)((NAME(bits)(shifted) << 23) + 0x3f800000u);
    return power + power * p;
}
/* For x <= 0, 0 below -87.3. */
INLINE float NAME(exp)(float x) {
    float y = NAME(exp_near)(x < -87.3f ? -87.3f : x, 0.0f);
    return x < -87.3f ? 0.0f : y;
}

/* The normal distribution function and its density at x. With z = |x|, Phi(-z) = exp(-z^2/2) R(z), and R is
 * smooth with a tail like 0.4/z: R(z) (z + 4) is a polynomial in (z - 4)/(z + 4), a minimax fit over 0 … 14 with
 * relative error 8e-9. So the small side keeps its relative accuracy. */
INLINE void NAME(normal)(float x, float *below, float *density) {
    float z = fabsf(x);
    z = z > 13.2f ? 13.2f : z; /* where exp is still a normal number, 1e-38; the one branch compilers get to see */
    /* z^2 in two parts: its rounding error would be multiplied by z^2/2 */
#if defined(__FMA__)
    float square = z * z, low = __builtin_fmaf(z, z, -square);
#else
    float high = NAME(from_bits)(NAME(bits)(z) & 0xfffff000u);
    float square = high * high, low = (z - high) * (z + high);
#endif
    float e = NAME(exp_near)(-0.5f * square, -0.5f * low);
    float t = 1.0f / (z + 4.0f), s = (z - 4.0f) * t;
    float p = -0.0001295270682f;
    p = p * s + 0.0001846314304f;
    p = p * s + 0.001571857603f;
    p = p * s - 0.003514984002f;
    p = p * s - 0.007526726766f;
    p = p * s + 0.06040414389f;
    p = p * s - 0.1865232063f;
    p = p * s + 0.3871368898f;
    p = p * s - 0.6078965971f;
    p = p * s + 0.7552851355f;
    float tail = e * (p * t);
    *below = x < 0.0f ? tail : 1.0f - tail;
    *density = 0.398942280401432678f * e;
}

#else

INLINE double NAME(exp)(double x) {
    return exp(x);
}
INLINE void NAME(normal)(double x, double *below, double *density) {
    *below = 0.5 * erfc(-x * 0.707106781186547524);
    *density = 0.398942280401432678 * exp(-0.5 * x * x);
}

#endif

/* The logistic function of x and its derivative: nothing cancels, and far out nothing overflows. */
INLINE void NAME(logistic)(T x, T *value, T *slope) {
#if DI_REAL == 32
    float z = x > 87.0f ? 87.0f : x;
    float e = NAME(exp_near)(-(z < -87.0f ? -87.0f : z), 0.0f);
#else
    double e = exp(-(x < -708.0 ? -708.0 : x));
#endif
    *value = (T)1 / ((T)1 + e);
    *slope = e * *value * *value;
}
INLINE T NAME(gelu)(T x) {
    T below, density;
    NAME(normal)(x, &below, &density);
    return x * below;
}
INLINE T NAME(gelu_slope)(T x) {
    T below, density;
    NAME(normal)(x, &below, &density);
    return below + x * density;
}
INLINE T NAME(quick_gelu)(T x) {
    T value, slope;
    NAME(logistic)((T)1.702 * x, &value, &slope);
    return x * value;
}
INLINE T NAME(quick_gelu_slope)(T x) {
    T value, slope;
    NAME(logistic)((T)1.702 * x, &value, &slope);
    return value + (T)1.702 * x * slope;
}
