/* merges_kernels.cu: passes over task vectors: sums, elections and masks element by element, counts of magnitudes and of
 * votes. Products and sums are never fused: the bits are those of core/merge. */
#include "merges_launch.h"
#include "bits.h"

enum { THREADS = 256, EACH = 4, BLOCK = THREADS * EACH };

/* What blocks share: whole numbers, added up or the larger of two taken, which gives the same in any order. */
typedef unsigned long long word;

__device__ static inline void tell(word *bad) { atomicMax(bad, (word)1); }

/* ---- sums of two ---- */

__global__ void blend(int64_t n, double alpha, int32_t a_dtype, const void *a, double beta, int32_t b_dtype,
                      const void *b, int32_t dtype, void *out, word *bad) {
    bool fine = true;
    DI_EACH(i, n) {
        double x = __dmul_rn(alpha, di_double_at(a_dtype, a, i));
        if (b) x = __dadd_rn(x, __dmul_rn(beta, di_double_at(b_dtype, b, i)));
        if (dtype == DISTAC_F64) {
            ((double *)out)[i] = x;
            fine = fine && x - x == 0;
        } else {
            float value = di_double_to_float(x);
            ((float *)out)[i] = value;
            fine = fine && value - value == 0;
        }
    }
    if (!fine) tell(bad);
}

extern "C" int di_cuda_launch_blend(int64_t n, double alpha, int32_t a_dtype, const void *a, double beta,
                                    int32_t b_dtype, const void *b, int32_t dtype, void *out, uint64_t *bad,
                                    cudaStream_t s) {
    return DI_LAUNCH(blend, di_blocks(n, THREADS), THREADS, 0, s, n, alpha, a_dtype, a, beta, b_dtype, b, dtype, out,
                     (word *)bad);
}

/* ---- directions ---- */

/* What is known of an element. Both signs are added up at once, as only the last model tells which one counts. */
struct tally {
    double vote;       /* or the weighted sum */
    double up, down;   /* of what is kept above and below zero: the sum, or the largest */
    double ups, downs; /* the models' weights */
};

__device__ static inline void elect(const di_merge_rule &r, const di_merge_model &model, double x, tally &t) {
    double kept = fabs(x) >= model.least ? __dmul_rn(model.weight, x) : 0.0;
    bool above = kept > 0, below = kept < 0;
    t.vote = __dadd_rn(t.vote, r.counts ? (above ? 1.0 : 0.0) - (below ? 1.0 : 0.0) : kept);
    if (r.combine == 2) {
        if (above && kept > t.up) t.up = kept;
        if (below && kept < t.down) t.down = kept;
        return;
    }
    if (above) {
        t.up = __dadd_rn(t.up, kept);
        t.ups = __dadd_rn(t.ups, model.weight);
    }
    if (below) {
        t.down = __dadd_rn(t.down, kept);
        t.downs = __dadd_rn(t.downs, model.weight);
    }
}

__device__ static inline double elected(const di_merge_rule &r, const tally &t) {
    double side = t.vote == 0 ? r.tie : t.vote;
    double sum = side > 0 ? t.up : side < 0 ? t.down : 0.0, count = side > 0 ? t.ups : side < 0 ? t.downs : 0.0;
    return r.combine == 0 && count != 0 ? sum / count : sum;
}

/* Adds up EACH elements a thread, THREADS apart: their loads are under way together. */
template <typename T, bool ELECTS>
__device__ static inline void add_up(const di_merge_rule &r, int64_t first, int64_t n, tally *t, bool *fine) {
    DI_UNROLL for (int k = 0; k < EACH; k++) t[k] = tally{0, 0, 0, 0, 0};
    for (int32_t m = 0; m < r.models; m++) {
        const T *tau = (const T *)r.taus[m];
        const di_merge_model model = r.each[m];
        DI_UNROLL for (int k = 0; k < EACH; k++) {
            int64_t i = first + k * THREADS;
            double x = i < n ? (double)tau[i] : 0.0;
            *fine = *fine && x - x == 0;
            if (ELECTS) elect(r, model, x, t[k]);
            else t[k].vote = __dadd_rn(t[k].vote, __dmul_rn(model.weight, x));
        }
    }
}

/* How many masks want an element of which D is d. */
template <typename T> __device__ static inline double masks(const di_merge_rule &r, int64_t i, double d) {
    double votes = 0;
    for (int32_t m = 0; m < r.models; m++) {
        double x = (double)((const T *)r.taus[m])[i], tall = r.each[m].tall;
        if (tall >= 0 && fabs(x) > __dmul_rn(tall, fabs(__dadd_rn(d, -x)))) votes += 1;
    }
    return votes;
}

template <typename T, bool ELECTS> __global__ void direction(int64_t n, di_merge_rule r, float *out, word *bad) {
    bool fine = true;
    for (int64_t start = (int64_t)blockIdx.x * BLOCK; start < n; start += (int64_t)gridDim.x * BLOCK) {
        int64_t first = start + threadIdx.x;
        tally t[EACH];
        add_up<T, ELECTS>(r, first, n, t, &fine);
        DI_UNROLL for (int k = 0; k < EACH; k++) {
            int64_t i = first + k * THREADS;
            if (i >= n) break;
            double d = ELECTS ? elected(r, t[k]) : r.divisor == 1 ? t[k].vote : t[k].vote / r.divisor;
            if (r.masked && !(masks<T>(r, i, d) >= r.votes)) d = 0;
            float value = (float)__dmul_rn(r.factor, __dmul_rn(r.scale, d));
            fine = fine && value - value == 0;
            out[i] = value;
        }
    }
    if (!fine) tell(bad);
}

extern "C" int di_cuda_launch_direction(int64_t n, const di_merge_rule *rule, float *out, uint64_t *bad,
                                        cudaStream_t s) {
    unsigned blocks = di_blocks(n, BLOCK);
    word *flag = (word *)bad;
    if (rule->dtype == DISTAC_F64)
        return rule->elects ? DI_LAUNCH((direction<double, true>), blocks, THREADS, 0, s, n, *rule, out, flag)
                            : DI_LAUNCH((direction<double, false>), blocks, THREADS, 0, s, n, *rule, out, flag);
    return rule->elects ? DI_LAUNCH((direction<float, true>), blocks, THREADS, 0, s, n, *rule, out, flag)
                        : DI_LAUNCH((direction<float, false>), blocks, THREADS, 0, s, n, *rule, out, flag);
}

/* ---- the looks at everything ---- */

template <typename T> __global__ void lead(int64_t n, di_merge_rule r, word *sum) {
    DI_SHARED(long long, scratch, 33);
    long long mine = 0;
    bool fine = true;
    for (int64_t start = (int64_t)blockIdx.x * BLOCK; start < n; start += (int64_t)gridDim.x * BLOCK) {
        tally t[EACH];
        add_up<T, true>(r, start + threadIdx.x, n, t, &fine); /* behind the end the votes are 0 */
        DI_UNROLL for (int k = 0; k < EACH; k++) mine += (t[k].vote > 0 ? 1 : 0) - (t[k].vote < 0 ? 1 : 0);
    }
    mine = di_block_sum(mine, scratch);
    if (threadIdx.x == 0 && mine) atomicAdd(sum, (word)mine);
}

extern "C" int di_cuda_launch_lead(int64_t n, const di_merge_rule *rule, uint64_t *sum, cudaStream_t s) {
    unsigned blocks = di_blocks(n, 4 * BLOCK);
    if (rule->dtype == DISTAC_F64) return DI_LAUNCH(lead<double>, blocks, THREADS, 0, s, n, *rule, (word *)sum);
    return DI_LAUNCH(lead<float>, blocks, THREADS, 0, s, n, *rule, (word *)sum);
}

/* One model per blockIdx.y. A block counts in its own memory first. */
template <typename T>
__global__ void digits(int64_t n, const void *const *taus, int shift, int bits, const uint64_t *prefixes, word *counts) {
    DI_SHARED(unsigned, mine, DI_MERGE_DIGITS);
    const T *tau = (const T *)taus[blockIdx.y];
    const uint64_t prefix = prefixes[blockIdx.y];
    word *own = counts + (int64_t)blockIdx.y * DI_MERGE_DIGITS;
    for (int k = (int)threadIdx.x; k < DI_MERGE_DIGITS; k += THREADS) mine[k] = 0;
    __syncthreads();
    DI_EACH(i, n) {
        uint64_t key = (uint64_t)__double_as_longlong(fabs((double)tau[i]));
        if (key >> shift >> bits == prefix) atomicAdd(&mine[key >> shift & (((uint64_t)1 << bits) - 1)], 1u);
    }
    __syncthreads();
    for (int k = (int)threadIdx.x; k < DI_MERGE_DIGITS; k += THREADS)
        if (mine[k]) atomicAdd(&own[k], (word)mine[k]);
}

extern "C" int di_cuda_launch_digits(int64_t n, const di_merge_rule *rule, int32_t shift, int32_t bits,
                                     const uint64_t *prefixes, uint64_t *counts, cudaStream_t s) {
    unsigned blocks = di_blocks(n, 64 * THREADS);
    dim3 grid(blocks < 1024 ? blocks : 1024, (unsigned)rule->models);
    if (rule->dtype == DISTAC_F64)
        return DI_LAUNCH(digits<double>, grid, THREADS, 0, s, n, rule->taus, shift, bits, prefixes, (word *)counts);
    return DI_LAUNCH(digits<float>, grid, THREADS, 0, s, n, rule->taus, shift, bits, prefixes, (word *)counts);
}

/* ---- the first two steps of TIES, in place ---- */

template <typename T> __global__ void cut(int64_t n, di_merge_rule r) {
    DI_EACH(i, n) {
        double sum = 0;
        for (int32_t m = 0; m < r.models; m++) {
            double x = (double)((const T *)r.taus[m])[i];
            if (fabs(x) >= r.each[m].least) sum = __dadd_rn(sum, x);
        }
        if (sum == 0) sum = r.tie;
        for (int32_t m = 0; m < r.models; m++) {
            T *tau = (T *)r.taus[m];
            double x = (double)tau[i];
            if (!(fabs(x) >= r.each[m].least && __dmul_rn(x, sum) > 0)) tau[i] = 0;
        }
    }
}

extern "C" int di_cuda_launch_cut(int64_t n, const di_merge_rule *rule, cudaStream_t s) {
    if (rule->dtype == DISTAC_F64) return DI_LAUNCH(cut<double>, di_blocks(n, THREADS), THREADS, 0, s, n, *rule);
    return DI_LAUNCH(cut<float>, di_blocks(n, THREADS), THREADS, 0, s, n, *rule);
}

/* ---- products of many vectors with one ---- */

template <typename T>
__global__ void dot_pieces(const void *const *taus, const di_merge_span *pieces, const T *x, double *parts) {
    DI_SHARED(double, scratch, 33);
    const di_merge_span piece = pieces[blockIdx.x];
    const T *tau = (const T *)taus[blockIdx.y];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < piece.count; i += THREADS)
        sum += (double)x[piece.first + i] * (double)tau[piece.first + i];
    sum = di_block_sum(sum, scratch);
    if (threadIdx.x == 0) parts[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

__global__ void add_dots(int64_t count, const int64_t *begin, const double *parts, double *out) {
    DI_SHARED(double, scratch, 33);
    double sum = 0;
    for (int64_t i = begin[blockIdx.x] + threadIdx.x; i < begin[blockIdx.x + 1]; i += THREADS)
        sum += parts[(int64_t)blockIdx.y * count + i];
    sum = di_block_sum(sum, scratch);
    if (threadIdx.x == 0) out[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

extern "C" int di_cuda_launch_dots(int32_t models, const void *const *taus, int64_t count, const di_merge_span *pieces,
                                   int64_t runs, const int64_t *begin, int32_t dtype, const void *x, double *parts,
                                   double *out, cudaStream_t s) {
    dim3 grid((unsigned)count, (unsigned)models), sums((unsigned)runs, (unsigned)models);
    int error = count == 0 ? 0
                : dtype == DISTAC_F64
                    ? DI_LAUNCH(dot_pieces<double>, grid, THREADS, 0, s, taus, pieces, (const double *)x, parts)
                    : DI_LAUNCH(dot_pieces<float>, grid, THREADS, 0, s, taus, pieces, (const float *)x, parts);
    return error ? error : DI_LAUNCH(add_dots, sums, THREADS, 0, s, count, begin, parts, out);
}
