/* spectral_float.c: singular triplets by the Gram matrix in float, where the spectrum is flat enough. */
#include "../tensor/lapack.h"
#include "spectral_room.h"

enum { GLANCE = 192 }; /* slices that tell whether a spectrum is flat */
/* A float Gram matrix costs σ1 / 2σr roundings of a vector where a decomposition in
 * float, as others do it, costs about ten: it is taken where the squared singular
 * values wanted differ less than this, and in float's comfortable range. */
static const double float_span = 100, float_least = 1e-18, float_most = 1e18;

/* Whether the leading r eigenvalues can be near each other, by the Gram matrix
 * of the first slices: (sum of the eigenvalues)^2 / sum of their squares counts
 * how many matter. A guess that saves time; what decides comes later. */
static bool looks_flat(int64_t k, int64_t r, const float *g) {
    double trace = 0, squares = 0;
    for (int64_t j = 0; j < k; j++) {
        trace += (double)g[j * k + j];
        squares += (double)g[j * k + j] * (double)g[j * k + j];
        for (int64_t i = j + 1; i < k; i++) squares += 2 * (double)g[j * k + i] * (double)g[j * k + i];
    }
    return trace > float_least && trace < float_most && trace * trace > 0.25 * (double)r * squares;
}

static bool load_float(const di_slices *a, int64_t first, int64_t count, double *block, float *out) {
    if (!a->load(a->arg, first, count, block)) return false;
    for (int64_t i = 0; i < count * a->near; i++) out[i] = (float)block[i];
    return true;
}

typedef struct float_room {
    float *gram, *block, *vectors, *tau, *work, *panels;
    double *wide, *d, *e, *e2, *all, *more;
} float_room;

enum { FLOAT_WORK = 80 };

static distac_status leading_float(distac_context *context, int64_t k, int64_t r, const float_room *m,
                                   lapack_int *list, bool *fine) {
    lapack_int n = (lapack_int)k, count = (lapack_int)r;
    lapack_int *block = list, *split = block + k, *more = split + k, *failed = more + k;
    float *d = m->tau + k, *e = d + k;
    *fine = LAPACKE_ssytrd_work(LAPACK_COL_MAJOR, 'L', n, m->gram, n, d, e, m->tau, m->work, FLOAT_WORK * n) == 0;
    for (int64_t i = 0; i < k; i++) {
        m->d[i] = (double)d[i];
        m->e[i] = i + 1 < k ? (double)e[i] : 0;
        block[i] = 1;
    }
    split[0] = n;
    *fine = *fine && di_connected(k, m->d, m->e);
    if (!*fine) return DISTAC_OK;
    di_bisect(k, r, m->d, m->e, m->e2, m->all);
    *fine = m->all[0] * float_span > m->all[r - 1];
    if (!*fine) return DISTAC_OK;
    DI_TRY(di_tridiagonal_vectors(context, k, r, m->d, m->e, m->all, m->wide, fine));
    *fine = *fine || LAPACKE_dstein_work(LAPACK_COL_MAJOR, n, m->d, m->e, count, m->all, block, split, m->wide, n,
                                         m->more, more, failed) == 0;
    if (!*fine) return DISTAC_OK;
    for (int64_t i = 0; i < k * r; i++) m->vectors[i] = (float)m->wide[i];
    *fine = LAPACKE_sormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, count, m->gram, n, m->tau, m->vectors, n,
                                m->work, FLOAT_WORK * n) == 0;
    return DISTAC_OK;
}

/* far = aT near, its columns' lengths are the values. */
static bool other_side_float(distac_context *context, const di_slices *a, int64_t r, const float_room *m,
                             double *values, double *far, float *product) {
    int64_t k = a->near;
    for (int64_t first = 0; first < a->length; first += SLICES) {
        int64_t count = a->length - first < SLICES ? a->length - first : SLICES;
        if (!load_float(a, first, count, m->wide, m->block)) return false;
        di_product_float(context, !a->turned, false, count, r, k, 1, m->block, a->turned ? count : k, m->vectors,
                         k, false, product, count, m->panels);
        for (int64_t j = 0; j < r; j++)
            for (int64_t i = 0; i < count; i++) far[j * a->length + first + i] = (double)product[j * count + i];
    }
    for (int64_t j = 0; j < r; j++) {
        values[j] = cblas_dnrm2((int)a->length, far + j * a->length, 1);
        cblas_dscal((int)a->length, 1 / values[j], far + j * a->length, 1);
    }
    return true;
}

int64_t di_triplets_float_room(int64_t k, int64_t r) {
    int64_t most = r > SLICES ? r : SLICES;
    return (k * k + k * SLICES + most * k + (3 + FLOAT_WORK) * k + di_product_room(SLICES, r)) / 2 + 1;
}

distac_status di_triplets_float(distac_context *context, const di_slices *a, int64_t r, double *near,
                                double *values, double *far, bool *finite, bool *fine) {
    int64_t k = a->near, most = r > SLICES ? r : SLICES;
    room all, floats, integers;
    *fine = false;
    DI_TRY(room_open(&all, context, k * most + 10 * k));
    distac_status status = room_open(&floats, context, di_triplets_float_room(k, r));
    if (status == DISTAC_OK) {
        status = room_open(&integers, context, 4 * k);
        if (status == DISTAC_OK) {
            float_room m = {
                .gram = (float *)(void *)floats.memory, .wide = all.memory, .d = all.memory + k * most};
            m.block = m.gram + k * k;
            m.vectors = m.block + k * SLICES;
            m.tau = m.vectors + most * k;
            m.work = m.tau + 3 * k;
            m.panels = m.work + FLOAT_WORK * k;
            m.e = m.d + k;
            m.e2 = m.e + k;
            m.all = m.e2 + k;
            m.more = m.all + k;
            bool flat = true;
            for (int64_t first = 0, count = GLANCE; first < a->length && *finite && flat;
                 first += count, count = SLICES) {
                if (count > a->length - first) count = a->length - first;
                *finite = a->load(a->arg, first, count, m.wide);
                if (!*finite) break;
                di_square_float(context, a, m.wide, count, first > 0, m.gram, m.block);
                if (first == 0) flat = looks_flat(k, r, m.gram);
            }
            if (*finite && flat)
                status = leading_float(context, k, r, &m, (lapack_int *)(void *)integers.memory, fine);
            if (status == DISTAC_OK && *fine) {
                *finite = other_side_float(context, a, r, &m, values, far, m.gram);
                for (int64_t i = 0; i < k * r; i++) near[i] = (double)m.vectors[i];
            }
            room_close(&integers);
        }
        room_close(&floats);
    }
    room_close(&all);
    return status;
}
