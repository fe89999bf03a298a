/* square.c: Gram matrices X XT of slices, the lower triangle alone. Both factors are the same numbers, so they are packed
 * once, straight from doubles also where the products are float: panels of three registers of rows, [slices][rows]. A
 * block of the result has a panel's rows, kept in registers, and eight columns, whose numbers are spread over registers
 * one by one. Without AVX-512 it is BLAS. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_WIDE 1
#endif

enum { DEPTH = 192, COLUMNS = 8 }; /* slices at a time: a panel stays in the first-level cache */

int64_t di_square_room(int64_t k) {
    return (k + 48) * DEPTH;
}

#ifdef HAVE_WIDE
/* Slices first … first+depth-1 of block to panels of `width` rows, zeros behind the last row. */
#define PACK(name, T)                                                                                             \
    static void name(const di_slices *a, const double *block, int64_t count, int64_t first, int64_t depth,          \
                     int64_t width, T *out) {                                                                       \
        for (int64_t row = 0; row < a->near; row += width, out += depth * width) {                                  \
            int64_t n = a->near - row < width ? a->near - row : width;                                              \
            if (n < width) memset(out, 0, (size_t)(depth * width) * sizeof *out);                                   \
            if (a->turned)                                                                                          \
                for (int64_t i = 0; i < n; i++)                                                                     \
                    for (int64_t s = 0; s < depth; s++) out[s * width + i] = (T)block[(row + i) * count + first + s]; \
            else                                                                                                    \
                for (int64_t s = 0; s < depth; s++)                                                                 \
                    for (int64_t i = 0; i < n; i++) out[s * width + i] = (T)block[(first + s) * a->near + row + i]; \
        }                                                                                                           \
    }
PACK(pack_double, double)
PACK(pack_float, float)

/* g [3 registers, COLUMNS] = or += the products; rows: how many of them are there. */
#define MULTIPLY(name, T, V, ZERO, LOAD, STORE, SPREAD, FMA, ADD, LANES)                                             \
    __attribute__((target("avx512f"))) static void name(int64_t depth, const T *a, const T *b, int64_t width,          \
                                                        int64_t rows, int64_t columns, bool add, T *g, int64_t ld) {  \
        V sums[COLUMNS][3];                                                                                         \
        for (int j = 0; j < COLUMNS; j++) sums[j][0] = sums[j][1] = sums[j][2] = ZERO();                            \
        for (int64_t s = 0; s < depth; s++, a += width, b += width) {                                               \
            V x = LOAD(a), y = LOAD(a + LANES), z = LOAD(a + 2 * LANES);                                            \
            _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++) {                                             \
                V one = SPREAD(b[j]);                                                                               \
                sums[j][0] = FMA(x, one, sums[j][0]);                                                               \
                sums[j][1] = FMA(y, one, sums[j][1]);                                                               \
                sums[j][2] = FMA(z, one, sums[j][2]);                                                               \
            }                                                                                                       \
        }                                                                                                           \
        T part[3 * LANES];                                                                                          \
        for (int64_t j = 0; j < columns; j++, g += ld) {                                                            \
            if (rows == 3 * LANES) {                                                                                \
                for (int q = 0; q < 3; q++)                                                                         \
                    STORE(g + q * LANES, add ? ADD(sums[j][q], LOAD(g + q * LANES)) : sums[j][q]);                  \
                continue;                                                                                           \
            }                                                                                                       \
            for (int q = 0; q < 3; q++) STORE(part + q * LANES, sums[j][q]);                                        \
            for (int64_t i = 0; i < rows; i++) g[i] = add ? g[i] + part[i] : part[i];                               \
        }                                                                                                           \
    }
MULTIPLY(multiply_double, double, __m512d, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd,
         _mm512_fmadd_pd, _mm512_add_pd, 8)
MULTIPLY(multiply_float, float, __m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps,
         _mm512_fmadd_ps, _mm512_add_ps, 16)

#define SQUARE(name, T, pack, multiply, WIDTH)                                                                       \
    static void name(const di_slices *a, const double *block, int64_t count, bool add, T *g, T *panels) {             \
        int64_t k = a->near;                                                                                        \
        for (int64_t first = 0; first < count; first += DEPTH, add = true) {                                        \
            int64_t depth = count - first < DEPTH ? count - first : DEPTH;                                          \
            pack(a, block, count, first, depth, WIDTH, panels);                                                     \
            for (int64_t row = 0; row < k; row += WIDTH) {                                                          \
                int64_t rows = k - row < WIDTH ? k - row : WIDTH, end = row + rows;                                 \
                for (int64_t column = 0; column < end; column += COLUMNS)                                           \
                    multiply(depth, panels + row * depth,                                                           \
                             panels + column / WIDTH * WIDTH * depth + column % WIDTH, WIDTH, rows,                 \
                             end - column < COLUMNS ? end - column : COLUMNS, add, g + column * k + row, k);        \
            }                                                                                                       \
        }                                                                                                           \
    }
SQUARE(square_double, double, pack_double, multiply_double, 24)
SQUARE(square_float, float, pack_float, multiply_float, 48)
#endif

static bool is_wide(const distac_context *context) {
#ifdef HAVE_WIDE
    return context->isa && strcmp(context->isa, "avx512") == 0;
#else
    (void)context;
    return false;
#endif
}

void di_square(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add, double *g,
               double *panels) {
#ifdef HAVE_WIDE
    if (is_wide(context)) {
        square_double(a, block, count, add, g, panels);
        return;
    }
#endif
    (void)panels;
    cblas_dsyrk(CblasColMajor, CblasLower, a->turned ? CblasTrans : CblasNoTrans, (int)a->near, (int)count, 1, block,
                a->turned ? (int)count : (int)a->near, add, g, (int)a->near);
}

void di_square_float(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
                     float *g, float *panels) {
#ifdef HAVE_WIDE
    if (is_wide(context)) {
        square_float(a, block, count, add, g, panels);
        return;
    }
#endif
    for (int64_t first = 0; first < count; first += DEPTH, add = true) { /* packed as it lies */
        int64_t n = count - first < DEPTH ? count - first : DEPTH, k = a->near;
        for (int64_t i = 0; i < k * n; i++)
            panels[i] = (float)(a->turned ? block[i / n * count + first + i % n] : block[first * k + i]);
        cblas_ssyrk(CblasColMajor, CblasLower, a->turned ? CblasTrans : CblasNoTrans, (int)k, (int)n, 1, panels,
                    a->turned ? (int)n : (int)k, add, g, (int)k);
    }
}
