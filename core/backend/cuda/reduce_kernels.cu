/* reduce_kernels.cu: sums, extremes and norms along one dimension of [outer, n, inner], and the search for what is not
 * finite. n is cut into parts whose number depends on the shape alone; each part is reduced by one block (inner 1) or by
 * one thread per column, in double and in a fixed order, and the parts are then joined in order. */
#include "arrays_launch.h"
#include "bits.h"

enum { THREADS = 256, RUN = 8192, COLUMN_RUN = 256, MOST_PARTS = 4096 };

struct best { /* a sum alone, or an extreme and where it is */
    double value;
    int64_t index;
};

__device__ static inline bool is_sum(int32_t op) { return op == DISTAC_SUM || op == DISTAC_MEAN || op == DISTAC_NORM; }

/* NaN beats numbers and is never beaten; of equals the first stays. */
__device__ static inline bool takes(int32_t op, best a, best b) {
    if (b.index < 0) return false;
    if (a.index < 0) return true;
    bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    if (nan_a || nan_b) return nan_b && (!nan_a || b.index < a.index);
    if (a.value == b.value) return b.index < a.index;
    return op == DISTAC_RMIN ? b.value < a.value : b.value > a.value;
}
__device__ static inline best joined(int32_t op, best a, best b) {
    if (!is_sum(op)) return takes(op, a, b) ? b : a;
    a.value += b.value;
    return a;
}
__device__ static inline best nothing(int32_t op) { return best{0.0, is_sum(op) ? 0 : -1}; }

/* What element x counts as. divide: for norms, by which numbers are divided first, so that their squares stay in range. */
__device__ static inline best counted(int32_t op, double x, double divide, int64_t index) {
    if (op == DISTAC_NORM) {
        x /= divide;
        return best{x * x, 0};
    }
    return best{x, is_sum(op) ? 0 : index};
}

__device__ static inline double divisor(const double *largest, int64_t slot) {
    double most = largest ? largest[slot] : 1.0;
    return most > 0.0 && most - most == 0.0 ? most : 1.0;
}

/* inner 1: block (part, row) */
template <typename T>
__global__ void parts_of_runs(int32_t op, int64_t n, int64_t parts, const T *src, const double *largest, bool absolute,
                              double *values, int64_t *indices) {
    DI_SHARED(double, value, THREADS);
    DI_SHARED(int64_t, index, THREADS);
    int64_t row = blockIdx.y + (int64_t)blockIdx.z * 65535, part = blockIdx.x, length = (n + parts - 1) / parts;
    int64_t first = part * length, end = first + length < n ? first + length : n;
    double divide = divisor(largest, row);
    best mine = nothing(op);
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        double x = (double)src[row * n + i];
        mine = joined(op, mine, counted(op, absolute ? fabs(x) : x, divide, i));
    }
    value[threadIdx.x] = mine.value;
    index[threadIdx.x] = mine.index;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) {
            best other = {value[threadIdx.x + half], index[threadIdx.x + half]};
            mine = joined(op, mine, other);
            value[threadIdx.x] = mine.value;
            index[threadIdx.x] = mine.index;
        }
    }
    if (threadIdx.x == 0) {
        values[row * parts + part] = mine.value;
        indices[row * parts + part] = mine.index;
    }
}

/* inner > 1: one thread for (row, part, column) */
template <typename T>
__global__ void parts_of_columns(int32_t op, int64_t outer, int64_t n, int64_t inner, int64_t parts, const T *src,
                                 const double *largest, bool absolute, double *values, int64_t *indices) {
    int64_t length = (n + parts - 1) / parts;
    DI_EACH(i, outer * parts * inner) {
        int64_t column = i % inner, part = i / inner % parts, row = i / inner / parts;
        int64_t first = part * length, end = first + length < n ? first + length : n;
        double divide = divisor(largest, row * inner + column);
        best mine = nothing(op);
        for (int64_t k = first; k < end; k++) {
            double x = (double)src[(row * n + k) * inner + column];
            mine = joined(op, mine, counted(op, absolute ? fabs(x) : x, divide, k));
        }
        values[i] = mine.value;
        indices[i] = mine.index;
    }
}

template <typename T>
__global__ void join(int32_t op, int64_t outer, int64_t n, int64_t inner, int64_t parts, const double *values,
                     const int64_t *indices, const double *largest, T *out, int64_t *where) {
    DI_EACH(i, outer * inner) {
        int64_t at = i / inner * parts * inner + i % inner;
        best all = {values[at], indices[at]};
        for (int64_t p = 1; p < parts; p++) {
            best other = {values[at + p * inner], indices[at + p * inner]};
            all = joined(op, all, other);
        }
        if (where) where[i] = all.index;
        if (!out) continue;
        double x = all.value;
        if (op == DISTAC_MEAN) x /= (double)n;
        if (op == DISTAC_NORM) x = divisor(largest, i) * sqrt(x);
        out[i] = (T)x;
    }
}

int64_t di_cuda_reduce_parts(int64_t outer, int64_t n, int64_t inner) {
    int64_t run = inner == 1 ? RUN : COLUMN_RUN, parts = (n + run - 1) / run;
    int64_t most = MOST_PARTS / outer > 1 ? MOST_PARTS / outer : 1; /* many rows keep the device busy by themselves */
    return parts < most ? parts : most;
}

template <typename T>
static int reduce(int32_t op, int64_t outer, int64_t n, int64_t inner, const T *src, double *values, int64_t *indices,
                  const double *largest, bool absolute, void *out, cudaStream_t s) {
    int64_t parts = di_cuda_reduce_parts(outer, n, inner);
    int error;
    if (inner == 1) {
        unsigned rows = (unsigned)(outer < 65535 ? outer : 65535), layers = (unsigned)((outer + 65534) / 65535);
        if (layers > 1) { /* rows of the last layer would jut out: one layer after the other */
            for (int64_t first = 0; first < outer; first += rows) {
                int64_t left = outer - first < rows ? outer - first : rows;
                error = DI_LAUNCH(parts_of_runs<T>, dim3((unsigned)parts, (unsigned)left), THREADS, 0, s, op, n, parts,
                                  src + first * n, largest ? largest + first : NULL, absolute, values + first * parts,
                                  indices + first * parts);
                if (error) return error;
            }
        } else {
            error = DI_LAUNCH(parts_of_runs<T>, dim3((unsigned)parts, rows), THREADS, 0, s, op, n, parts, src, largest,
                              absolute, values, indices);
            if (error) return error;
        }
    } else {
        error = DI_LAUNCH(parts_of_columns<T>, di_blocks(outer * parts * inner, THREADS), THREADS, 0, s, op, outer, n,
                          inner, parts, src, largest, absolute, values, indices);
        if (error) return error;
    }
    bool index = op == DISTAC_ARGMAX;
    return DI_LAUNCH(join<T>, di_blocks(outer * inner, THREADS), THREADS, 0, s, op, outer, n, inner, parts, values,
                     indices, largest, index ? (T *)NULL : (T *)out, index ? (int64_t *)out : (int64_t *)NULL);
}

int di_cuda_launch_reduce(int f64, int32_t op, int64_t outer, int64_t n, int64_t inner, const void *src,
                          double *values, int64_t *indices, double *largest, void *out, cudaStream_t s) {
    if (!f64) return reduce(op, outer, n, inner, (const float *)src, values, indices, NULL, false, out, s);
    const double *x = (const double *)src;
    if (op != DISTAC_NORM) return reduce(op, outer, n, inner, x, values, indices, NULL, false, out, s);
    int error = reduce(DISTAC_RMAX, outer, n, inner, x, values, indices, NULL, true, largest, s);
    return error ? error : reduce(op, outer, n, inner, x, values, indices, largest, false, out, s);
}

/* ---- what is not finite ---- */

/* An exponent of all ones is infinity or NaN; E4M3 has NaN alone, with all bits set. */
__device__ static inline bool bad(int32_t dtype, const void *data, int64_t i) {
    switch (dtype) {
    case DISTAC_F64: return (~((const uint64_t *)data)[i] & 0x7ff0000000000000u) == 0;
    case DISTAC_F32: return (~((const uint32_t *)data)[i] & 0x7f800000u) == 0;
    case DISTAC_F16: return (~(unsigned)((const uint16_t *)data)[i] & 0x7c00u) == 0;
    case DISTAC_BF16: return (~(unsigned)((const uint16_t *)data)[i] & 0x7f80u) == 0;
    case DISTAC_F8_E4M3: return (~(unsigned)((const uint8_t *)data)[i] & 0x7fu) == 0;
    case DISTAC_F8_E5M2: return (~(unsigned)((const uint8_t *)data)[i] & 0x7cu) == 0;
    default: return false;
    }
}

__global__ void bad_parts(int64_t n, int32_t dtype, const void *src, int64_t *firsts, int64_t *counts) {
    DI_SHARED(int64_t, first, THREADS);
    DI_SHARED(int64_t, count, THREADS);
    int64_t mine = n, many = 0;
    DI_EACH(i, n) {
        if (!bad(dtype, src, i)) continue;
        if (many++ == 0) mine = i;
    }
    first[threadIdx.x] = mine;
    count[threadIdx.x] = many;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int t = 1; t < THREADS; t++) {
        if (first[t] < mine) mine = first[t];
        many += count[t];
    }
    firsts[blockIdx.x] = mine;
    counts[blockIdx.x] = many;
}
__global__ void bad_all(int64_t parts, const int64_t *firsts, const int64_t *counts, int64_t *found) {
    int64_t first = firsts[0], count = counts[0];
    for (int64_t p = 1; p < parts; p++) {
        if (firsts[p] < first) first = firsts[p];
        count += counts[p];
    }
    found[0] = first;
    found[1] = count;
}

int di_cuda_launch_nonfinite(int64_t n, int32_t dtype, const void *src, int64_t *scratch, int64_t *found,
                             cudaStream_t s) {
    int64_t parts = di_cuda_reduce_parts(1, n, 1);
    int error = DI_LAUNCH(bad_parts, (unsigned)parts, THREADS, 0, s, n, dtype, src, scratch, scratch + parts);
    return error ? error : DI_LAUNCH(bad_all, 1, 1, 0, s, parts, scratch, scratch + parts, found);
}
