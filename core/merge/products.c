/* products.c: products of matrices by columns on the calling thread, in memory that follows from the shapes, where
 * BLAS takes up to twice the time: Gram matrices X XT, of which the lower triangle alone is computed, general
 * products, and triangular solves, which are products but for blocks around the diagonal.
 *
 * Both factors are packed into panels of three registers of rows, [depth][rows], a Gram matrix' numbers once for
 * both. A block of the result has a panel's rows, kept in registers, and eight columns, whose numbers are spread
 * over registers one by one. Without AVX-512 it is BLAS. */
#include "../tensor/lapack.h"
#include "spectral_room.h"
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_WIDE 1
#endif

enum { DEPTH = 192, COLUMNS = 8 }; /* at a time: a panel stays in the first-level cache */
enum { STRIP = 128 };              /* columns that are solved for before the others hear of them */

int64_t di_square_room(int64_t k) { return (k + 48) * DEPTH; }

int64_t di_product_room(int64_t m, int64_t n) { return (m + n + 96) * DEPTH; }

static bool wide(const distac_context *context) {
#ifdef HAVE_WIDE
    return context->isa && strcmp(context->isa, "avx512") == 0;
#else
    (void)context;
    return false;
#endif
}

#ifdef HAVE_WIDE
/* alpha op(x) [rows, first … first+depth-1] to panels of `width` rows, zeros behind the last row. across: x has a
 * row's numbers side by side. */
#define PACK(name, S, T)                                                                                          \
    static void name(const S *x, int64_t ld, bool across, int64_t rows, int64_t first, int64_t depth, T alpha,    \
                     int64_t width, T *out) {                                                                     \
        for (int64_t row = 0; row < rows; row += width, out += depth * width) {                                   \
            int64_t n = rows - row < width ? rows - row : width;                                                  \
            if (n < width) memset(out, 0, (size_t)(depth * width) * sizeof *out);                                 \
            if (across)                                                                                           \
                for (int64_t i = 0; i < n; i++)                                                                   \
                    for (int64_t s = 0; s < depth; s++)                                                           \
                        out[s * width + i] = alpha * (T)x[(row + i) * ld + first + s];                            \
            else                                                                                                  \
                for (int64_t s = 0; s < depth; s++)                                                               \
                    for (int64_t i = 0; i < n; i++)                                                               \
                        out[s * width + i] = alpha * (T)x[(first + s) * ld + row + i];                            \
        }                                                                                                         \
    }
PACK(pack_double, double, double)
PACK(pack_narrow, double, float)
PACK(pack_float, float, float)

/* g [3 registers, COLUMNS] = or += the products; rows: how many of them are there. */
#define MULTIPLY(name, T, V, ZERO, LOAD, STORE, SPREAD, FMA, ADD, LANES)                                          \
    __attribute__((target("avx512f"))) static void name(int64_t depth, const T *a, const T *b, int64_t width,     \
                                                        int64_t rows, int64_t columns, bool add, T *g,            \
                                                        int64_t ld) {                                             \
        V sums[COLUMNS][3];                                                                                       \
        for (int j = 0; j < COLUMNS; j++) sums[j][0] = sums[j][1] = sums[j][2] = ZERO();                          \
        for (int64_t s = 0; s < depth; s++, a += width, b += width) {                                             \
            V x = LOAD(a), y = LOAD(a + LANES), z = LOAD(a + 2 * LANES);                                          \
            _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++) {                                           \
                V one = SPREAD(b[j]);                                                                             \
                sums[j][0] = FMA(x, one, sums[j][0]);                                                             \
                sums[j][1] = FMA(y, one, sums[j][1]);                                                             \
                sums[j][2] = FMA(z, one, sums[j][2]);                                                             \
            }                                                                                                     \
        }                                                                                                         \
        T part[3 * LANES];                                                                                        \
        for (int64_t j = 0; j < columns; j++, g += ld) {                                                          \
            if (rows == 3 * LANES) {                                                                              \
                for (int q = 0; q < 3; q++)                                                                       \
                    STORE(g + q * LANES, add ? ADD(sums[j][q], LOAD(g + q * LANES)) : sums[j][q]);                \
                continue;                                                                                         \
            }                                                                                                     \
            for (int q = 0; q < 3; q++) STORE(part + q * LANES, sums[j][q]);                                      \
            for (int64_t i = 0; i < rows; i++) g[i] = add ? g[i] + part[i] : part[i];                             \
        }                                                                                                         \
    }
MULTIPLY(multiply_double, double, __m512d, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd,
         _mm512_fmadd_pd, _mm512_add_pd, 8)
MULTIPLY(multiply_float, float, __m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps,
         _mm512_fmadd_ps, _mm512_add_ps, 16)

/* A triangle has k rows, of numbers that stand `across` or
 * not, `count` deep; a product's factors are packed each. */
#define PRODUCTS(square, product, S, T, pack, pack_own, multiply, WIDTH)                                          \
    static void square(const S *x, int64_t ld, bool across, int64_t k, int64_t count, bool add, T *g,             \
                       T *panels) {                                                                               \
        for (int64_t first = 0; first < count; first += DEPTH, add = true) {                                      \
            int64_t depth = count - first < DEPTH ? count - first : DEPTH;                                        \
            pack(x, ld, across, k, first, depth, 1, WIDTH, panels);                                               \
            for (int64_t row = 0; row < k; row += WIDTH) {                                                        \
                int64_t rows = k - row < WIDTH ? k - row : WIDTH, end = row + rows;                               \
                for (int64_t column = 0; column < end; column += COLUMNS)                                         \
                    multiply(depth, panels + row * depth,                                                         \
                             panels + column / WIDTH * WIDTH * depth + column % WIDTH, WIDTH, rows,               \
                             end - column < COLUMNS ? end - column : COLUMNS, add, g + column * k + row, k);      \
            }                                                                                                     \
        }                                                                                                         \
    }                                                                                                             \
    static void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T *a,         \
                        int64_t lda, const T *b, int64_t ldb, bool add, T *c, int64_t ldc, T *panels) {           \
        T *right = panels + (m + WIDTH) * DEPTH;                                                                  \
        for (int64_t first = 0; first < k; first += DEPTH, add = true) {                                          \
            int64_t depth = k - first < DEPTH ? k - first : DEPTH;                                                \
            pack_own(a, lda, trans_a, m, first, depth, 1, WIDTH, panels);                                         \
            pack_own(b, ldb, !trans_b, n, first, depth, alpha, WIDTH, right);                                     \
            for (int64_t row = 0; row < m; row += WIDTH)                                                          \
                for (int64_t column = 0; column < n; column += COLUMNS)                                           \
                    multiply(depth, panels + row * depth,                                                         \
                             right + column / WIDTH * WIDTH * depth + column % WIDTH, WIDTH,                      \
                             m - row < WIDTH ? m - row : WIDTH, n - column < COLUMNS ? n - column : COLUMNS, add, \
                             c + column * ldc + row, ldc);                                                        \
        }                                                                                                         \
    }
PRODUCTS(square_double, product_double, double, double, pack_double, pack_double, multiply_double, 24)
PRODUCTS(square_narrow, product_float, double, float, pack_narrow, pack_float, multiply_float, 48)

static void square_float(const float *x, int64_t ld, int64_t k, int64_t count, float *g, float *panels) {
    for (int64_t first = 0; first < count; first += DEPTH) {
        int64_t depth = count - first < DEPTH ? count - first : DEPTH;
        pack_float(x, ld, true, k, first, depth, 1, 48, panels);
        for (int64_t row = 0; row < k; row += 48) {
            int64_t rows = k - row < 48 ? k - row : 48, end = row + rows;
            for (int64_t column = 0; column < end; column += COLUMNS)
                multiply_float(depth, panels + row * depth, panels + column / 48 * 48 * depth + column % 48, 48,
                               rows, end - column < COLUMNS ? end - column : COLUMNS, first > 0,
                               g + column * k + row, k);
        }
    }
}
#endif

/* ---- Gram matrices ---- */

void di_square(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
               double *g, double *panels) {
    int64_t ld = a->turned ? count : a->near;
#ifdef HAVE_WIDE
    if (wide(context)) {
        square_double(block, ld, a->turned, a->near, count, add, g, panels);
        return;
    }
#endif
    (void)context, (void)panels;
    cblas_dsyrk(CblasColMajor, CblasLower, a->turned ? CblasTrans : CblasNoTrans, (int)a->near, (int)count, 1,
                block, (int)ld, add, g, (int)a->near);
}

void di_square_float(distac_context *context, const di_slices *a, const double *block, int64_t count, bool add,
                     float *g, float *panels) {
#ifdef HAVE_WIDE
    if (wide(context)) {
        square_narrow(block, a->turned ? count : a->near, a->turned, a->near, count, add, g, panels);
        return;
    }
#endif
    (void)context;
    for (int64_t first = 0; first < count; first += DEPTH, add = true) { /* packed as it lies */
        int64_t n = count - first < DEPTH ? count - first : DEPTH, k = a->near;
        for (int64_t i = 0; i < k * n; i++)
            panels[i] = (float)(a->turned ? block[i / n * count + first + i % n] : block[first * k + i]);
        cblas_ssyrk(CblasColMajor, CblasLower, a->turned ? CblasTrans : CblasNoTrans, (int)k, (int)n, 1, panels,
                    a->turned ? (int)n : (int)k, add, g, (int)k);
    }
}

void di_gram(distac_context *context, int64_t rows, int64_t c, const double *x, double *g, double *panels) {
    const di_slices a = {.near = c, .length = rows, .turned = true};
    di_square(context, &a, x, rows, false, g, panels);
}

void di_gram_float(distac_context *context, int64_t rows, int64_t c, const float *x, float *g, float *panels) {
#ifdef HAVE_WIDE
    if (wide(context)) {
        square_float(x, rows, c, rows, g, panels);
        return;
    }
#endif
    (void)context, (void)panels;
    cblas_ssyrk(CblasColMajor, CblasLower, CblasTrans, (int)c, (int)rows, 1, x, (int)rows, 0, g, (int)c);
}

/* ---- products ---- */

void di_product(distac_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha,
                const double *a, int64_t lda, const double *b, int64_t ldb, bool add, double *c, int64_t ldc,
                double *panels) {
#ifdef HAVE_WIDE
    if (wide(context)) {
        product_double(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, add, c, ldc, panels);
        return;
    }
#endif
    (void)context, (void)panels;
    cblas_dgemm(CblasColMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, add, c, (int)ldc);
}

void di_product_float(distac_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                      float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, bool add, float *c,
                      int64_t ldc, float *panels) {
#ifdef HAVE_WIDE
    if (wide(context)) {
        product_float(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, add, c, ldc, panels);
        return;
    }
#endif
    (void)context, (void)panels;
    cblas_sgemm(CblasColMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, add, c, (int)ldc);
}

/* Transposed the first columns come first, else the last. */
#define SOLVE(name, T, product, trsm)                                                                             \
    void name(distac_context *context, bool transposed, int64_t rows, int64_t c, const T *lower, int64_t ldl,     \
              T *x, int64_t ldx, T *panels) {                                                                     \
        int64_t strip = wide(context) ? STRIP : c, strips = (c + strip - 1) / strip;                              \
        for (int64_t s = 0; s < strips; s++) {                                                                    \
            int64_t first = (transposed ? s : strips - 1 - s) * strip, n = c - first < strip ? c - first : strip; \
            int64_t from = transposed ? 0 : first + n, known = transposed ? first : c - from;                     \
            T *here = x + first * ldx;                                                                            \
            if (known > 0)                                                                                        \
                product(context, false, transposed, rows, n, known, -1, x + from * ldx, ldx,                      \
                        transposed ? lower + first : lower + first * ldl + from, ldl, true, here, ldx, panels);   \
            trsm(CblasColMajor, CblasRight, CblasLower, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit,     \
                 (int)rows, (int)n, 1, lower + first * ldl + first, (int)ldl, here, (int)ldx);                    \
        }                                                                                                         \
    }
SOLVE(di_solve, double, di_product, cblas_dtrsm)
SOLVE(di_solve_float, float, di_product_float, cblas_strsm)
