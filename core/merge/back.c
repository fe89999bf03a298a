/* back.c: from vectors of a tridiagonal matrix to those of the one that
 * LAPACK's dsytrd made it of: the reflections that it has left below the
 * diagonal, a block at a time, by products (Schreiber and Van Loan 1989). */
#include "spectral_room.h"
#include <string.h>

enum { MOST_BLOCK = 64, LEAST_BLOCK = 32 };

static int64_t block_of(int64_t n) { return n < MOST_BLOCK ? LEAST_BLOCK : MOST_BLOCK; }

/* t [b,b], upper triangle: the product of b reflections is I - v t vT. products: vT v, lower triangle. */
static void triangle(int64_t b, const double *products, const double *tau, double *t) {
    memset(t, 0, (size_t)(b * b) * sizeof *t);
    for (int64_t j = 0; j < b; j++) {
        t[j * b + j] = tau[j];
        for (int64_t i = 0; i < j; i++) {
            double sum = 0;
            for (int64_t k = i; k < j; k++) sum += t[k * b + i] * products[k * b + j];
            t[j * b + i] = -tau[j] * sum;
        }
    }
}

void di_back(distac_context *context, int64_t n, int64_t count, const double *a, const double *tau, double *z,
             double *memory, double *panels) {
    int64_t width = block_of(n), reflections = n - 1;
    double *v = memory, *w = v + n * width, *turned = w + count * width, *products = turned + count * width;
    double *t = products + width * width;
    for (int64_t end = reflections, first; end > 0; end = first) {
        first = (end - 1) / width * width;
        int64_t b = end - first, rows = n - first - 1; /* they change the rows behind the first */
        for (int64_t j = 0; j < b; j++) {
            double *x = v + j * rows;
            memset(x, 0, (size_t)j * sizeof *x);
            x[j] = 1;
            memcpy(x + j + 1, a + (first + j) * n + first + j + 2, (size_t)(rows - j - 1) * sizeof *x);
        }
        di_gram(context, rows, b, v, products, panels);
        triangle(b, products, tau + first, t);
        di_product(context, true, false, b, count, rows, 1, v, rows, z + first + 1, n, false, w, b, panels);
        di_product(context, false, false, b, count, b, 1, t, b, w, b, false, turned, b, panels);
        di_product(context, false, false, rows, count, b, -1, v, rows, turned, b, true, z + first + 1, n, panels);
    }
}
