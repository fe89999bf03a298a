/* tsvm_there.c: TSV-M of one matrix on a device. Triplets come from the Gram matrices of all models, whose
 * eigenproblems are solved together, polar factors from Gram matrices too; all of it in double. Where singular
 * values reach too far for that, a singular value decomposition takes its place. Vectors stand in rows.
 *
 * Memory on the device for T models of [m,n] with k = min(m,n):
 * 8 T m n bytes, and about 8 (2 T k^2 + 4 k (m + n)). */
#include "spectral.h"
#include "there.h"
#include "tsvm.h"
#include <math.h>
#include <stdlib.h>

/* Least ratio of eigenvalues of a Gram matrix that is trusted, for triplets and for polar factors: beyond, what
 * double leaves of the small ones is not enough for the vectors that come from them. */
static const double trusted = 1e-9, trusted_polar = 1e-11;
static const double nothing = 1e-14; /* of the largest singular value: to working precision it is 0 */

typedef struct job {
    di_merge_run *run;
    int64_t entry, m, n, k, far, r; /* k the shorter side, far the longer; r triplets a model */
    distac_tensor **matrices;       /* [models] of [m,n] on the device */
    distac_tensor *grams, *squares; /* [models,k,k], then its eigenvectors; [models,k] ascending */
    double *values;                 /* [models*r] singular values; 0: left out */
    distac_tensor *near, *away;     /* [columns,k], [columns,far] */
    int64_t columns;
} job;

static distac_status new_there(const job *j, int32_t rank, int64_t a, int64_t b, int64_t c, distac_tensor **out) {
    int64_t shape[] = {a, b, c};
    return di_tensor_new_at(j->run->context, true, DISTAC_F64, rank, shape, out);
}

/* a or its transpose times b or its transpose */
static distac_status product(const distac_tensor *a, bool turn_a, const distac_tensor *b, bool turn_b,
                             distac_tensor **out) {
    distac_tensor *x = NULL, *y = NULL;
    *out = NULL;
    distac_status status = DISTAC_OK;
    if (turn_a) status = distac_tensor_transpose(a, 0, 1, &x);
    if (status == DISTAC_OK && turn_b) status = distac_tensor_transpose(b, 0, 1, &y);
    if (status == DISTAC_OK) status = distac_tensor_matmul(x ? x : a, y ? y : b, out);
    distac_tensor_release(y);
    distac_tensor_release(x);
    return status;
}

/* Row i times factor[i], in place of *t. */
static distac_status scale_rows(distac_tensor **t, const double *factor) {
    int64_t shape[] = {(*t)->shape[0], 1};
    distac_tensor *here, *there = NULL, *scaled = NULL;
    DI_TRY(di_tensor_new((*t)->context, DISTAC_F64, 2, shape, false, &here));
    distac_status status = distac_tensor_write(here, shape[0], factor);
    if (status == DISTAC_OK) status = di_tensor_bring(here, true, &there);
    if (status == DISTAC_OK) status = distac_tensor_binary(DISTAC_MUL, *t, there, &scaled);
    distac_tensor_release(there);
    distac_tensor_release(here);
    DI_TRY(status);
    distac_tensor_release(*t);
    *t = scaled;
    return DISTAC_OK;
}

/* ---- the models' matrices ---- */

typedef struct load_job {
    const job *j;
    int32_t model;
    double *out;
} load_job;
enum { PART = 1 << 16 };

static distac_status load_part(void *arg, int32_t lane, int64_t index) {
    const load_job *l = arg;
    int64_t first = index * PART, rest = l->j->m * l->j->n - first;
    (void)lane;
    if (di_whole_load(l->j->run, l->model, l->j->entry, first, rest < PART ? rest : PART, l->out + first))
        return DISTAC_OK;
    return di_run_nonfinite(l->j->run, l->j->entry, first);
}

/* What lies there already. NaN would go astray in the eigenproblems. */
static distac_status widen_models(job *j) {
    for (int32_t t = 0; t < j->run->models; t++) {
        const distac_tensor *tau = di_there_tensor(j->run, t, j->entry);
        int64_t first, count;
        DI_TRY(distac_tensor_nonfinite(tau, &first, &count));
        if (count)
            return di_fail_at(DISTAC_ENUMERIC, j->run->function, "task vector %d is not finite", (int)t + 1);
        DI_TRY(distac_tensor_cast(tau, DISTAC_F64, &j->matrices[t]));
    }
    return DISTAC_OK;
}

static distac_status load_models(job *j) {
    int64_t shape[] = {j->m, j->n};
    distac_tensor *here;
    if (j->run->there) return widen_models(j);
    DI_TRY(di_tensor_new(j->run->context, DISTAC_F64, 2, shape, false, &here));
    distac_status status = DISTAC_OK;
    for (int32_t t = 0; t < j->run->models && status == DISTAC_OK; t++) {
        load_job l = {j, t, here->data};
        status = di_run_lanes(j->run, (j->m * j->n + PART - 1) / PART, load_part, &l);
        if (status == DISTAC_OK) status = di_tensor_bring(here, true, &j->matrices[t]);
    }
    distac_tensor_release(here);
    return status;
}

/* ---- triplets ---- */

/* The Gram matrices of the shorter side and their eigenvalues and vectors. */
static distac_status eigenproblems(job *j, double *squares) {
    int64_t models = j->run->models;
    bool across = j->k == j->n; /* the vectors of the shorter side are like rows */
    DI_TRY(new_there(j, 3, models, j->k, j->k, &j->grams));
    DI_TRY(new_there(j, 2, models, j->k, 0, &j->squares));
    for (int64_t t = 0; t < models; t++) {
        distac_tensor *gram = NULL, *place = NULL;
        distac_status status = product(j->matrices[t], across, j->matrices[t], !across, &gram);
        if (status == DISTAC_OK) status = distac_tensor_select(j->grams, 0, t, &place);
        if (status == DISTAC_OK) status = distac_tensor_copy(place, gram);
        distac_tensor_release(place);
        distac_tensor_release(gram);
        DI_TRY(status);
    }
    DI_TRY(di_tensor_eigh_there(j->grams, j->squares));
    return distac_tensor_read(j->squares, models * j->k, squares);
}

/* By a decomposition of the matrix itself: rows of *near [r,k] and *away [r,far], largest values first. */
static distac_status decompose(job *j, int64_t t, double *values, distac_tensor **near, distac_tensor **away) {
    distac_tensor *u = NULL, *s = NULL, *vt = NULL, *turned = NULL, *some = NULL;
    distac_status status = new_there(j, 2, j->m, j->k, 0, &u);
    if (status == DISTAC_OK) status = new_there(j, 1, j->k, 0, 0, &s);
    if (status == DISTAC_OK) status = new_there(j, 2, j->k, j->n, 0, &vt);
    if (status == DISTAC_OK) status = distac_tensor_svd(j->matrices[t], u, s, vt);
    if (status == DISTAC_OK) status = distac_tensor_narrow(s, 0, 0, j->r, &some);
    if (status == DISTAC_OK) status = distac_tensor_read(some, j->r, values);
    if (status == DISTAC_OK) status = distac_tensor_transpose(u, 0, 1, &turned);
    if (status == DISTAC_OK) status = distac_tensor_narrow(turned, 0, 0, j->r, j->k == j->n ? away : near);
    if (status == DISTAC_OK) status = distac_tensor_narrow(vt, 0, 0, j->r, j->k == j->n ? near : away);
    distac_tensor_release(some);
    distac_tensor_release(turned);
    distac_tensor_release(vt);
    distac_tensor_release(s);
    distac_tensor_release(u);
    return status;
}

/* From the eigenvectors: the last r, smallest first. */
static distac_status from_gram(job *j, int64_t t, const double *squares, double *values, distac_tensor **near,
                               distac_tensor **away) {
    int64_t shape[] = {j->r, j->k}, first = j->k - j->r;
    double *inverse = di_new((size_t)j->r * sizeof *inverse);
    if (!inverse) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < j->r; i++) {
        values[i] = sqrt(squares[first + i]);
        inverse[i] = 1 / values[i];
    }
    distac_status status = di_tensor_slice(j->grams, (t * j->k + first) * j->k, 2, shape, near);
    if (status == DISTAC_OK) status = product(*near, false, j->matrices[t], j->k == j->n, away);
    if (status == DISTAC_OK) status = scale_rows(away, inverse);
    free(inverse);
    return status;
}

/* Puts what counts of a model's triplets behind the others'. */
static distac_status keep(job *j, double *values, const distac_tensor *near, const distac_tensor *away) {
    double most = 0;
    for (int64_t i = 0; i < j->r; i++) most = fmax(most, values[i]);
    for (int64_t i = 0; i < j->r;) { /* runs of triplets that are not zero; as a rule one */
        int64_t end = i;
        while (end < j->r && values[end] > nothing * most) end++;
        if (end == i) {
            i++;
            continue;
        }
        const distac_tensor *from[] = {near, away};
        distac_tensor *to[] = {j->near, j->away};
        for (int side = 0; side < 2; side++) {
            distac_tensor *x = NULL, *y = NULL;
            distac_status status = distac_tensor_narrow(from[side], 0, i, end - i, &x);
            if (status == DISTAC_OK) status = distac_tensor_narrow(to[side], 0, j->columns, end - i, &y);
            if (status == DISTAC_OK) status = distac_tensor_copy(y, x);
            distac_tensor_release(y);
            distac_tensor_release(x);
            DI_TRY(status);
        }
        for (; i < end; i++) j->values[j->columns++] = values[i];
    }
    return DISTAC_OK;
}

static distac_status triplets(job *j, double *squares, double *values) {
    DI_TRY(load_models(j));
    DI_TRY(eigenproblems(j, squares));
    DI_TRY(new_there(j, 2, j->r * j->run->models, j->k, 0, &j->near));
    DI_TRY(new_there(j, 2, j->r * j->run->models, j->far, 0, &j->away));
    for (int64_t t = 0; t < j->run->models; t++) {
        const double *w = squares + t * j->k;
        distac_tensor *near = NULL, *away = NULL;
        DI_TRY(di_poll(j->run->context));
        bool fine = w[j->k - j->r] > trusted * w[j->k - 1]; /* false for a matrix of zeros */
        distac_status status = fine ? from_gram(j, t, w, values, &near, &away)
                                    : decompose(j, t, values, &near, &away);
        if (status == DISTAC_OK) status = keep(j, values, near, away);
        distac_tensor_release(away);
        distac_tensor_release(near);
        DI_TRY(status);
        distac_tensor_release(j->matrices[t]);
        j->matrices[t] = NULL;
    }
    return DISTAC_OK;
}

/* ---- polar factors ---- */

/* Of x [c,d] in place of *x, by a decomposition; directions that vanish are left out. */
static distac_status polar_decomposed(job *j, distac_tensor **x, double *values) {
    int64_t c = (*x)->shape[0], d = (*x)->shape[1];
    distac_tensor *u = NULL, *s = NULL, *vt = NULL, *factor = NULL;
    distac_status status = new_there(j, 2, c, c, 0, &u);
    if (status == DISTAC_OK) status = new_there(j, 1, c, 0, 0, &s);
    if (status == DISTAC_OK) status = new_there(j, 2, c, d, 0, &vt);
    if (status == DISTAC_OK) status = distac_tensor_svd(*x, u, s, vt);
    if (status == DISTAC_OK) status = distac_tensor_read(s, c, values);
    for (int64_t i = c - 1; status == DISTAC_OK && i >= 0; i--)
        values[i] = values[i] > nothing * values[0] ? 1 : 0;
    if (status == DISTAC_OK) status = scale_rows(&vt, values);
    if (status == DISTAC_OK) status = product(u, false, vt, false, &factor);
    distac_tensor_release(vt);
    distac_tensor_release(s);
    distac_tensor_release(u);
    DI_TRY(status);
    distac_tensor_release(*x);
    *x = factor;
    return DISTAC_OK;
}

/* inverse square root of x xT, times x; room [c] */
static distac_status polar(job *j, distac_tensor **x, double *room) {
    int64_t c = (*x)->shape[0];
    distac_tensor *gram = NULL, *w = NULL, *first = NULL, *second = NULL;
    distac_status status = product(*x, false, *x, true, &gram);
    if (status == DISTAC_OK) status = new_there(j, 1, c, 0, 0, &w);
    if (status == DISTAC_OK) status = di_tensor_eigh_there(gram, w);
    if (status == DISTAC_OK) status = distac_tensor_read(w, c, room);
    bool fine = status == DISTAC_OK && room[0] > trusted_polar * room[c - 1];
    for (int64_t i = 0; fine && i < c; i++) room[i] = 1 / sqrt(room[i]);
    if (fine) status = product(gram, false, *x, false, &first); /* eigenvectors stand in its rows */
    if (fine && status == DISTAC_OK) status = scale_rows(&first, room);
    if (fine && status == DISTAC_OK) status = product(gram, true, first, false, &second);
    distac_tensor_release(first);
    distac_tensor_release(w);
    distac_tensor_release(gram);
    DI_TRY(status);
    if (!fine) return polar_decomposed(j, x, room);
    distac_tensor_release(*x);
    *x = second;
    return DISTAC_OK;
}

/* ---- together ---- */

static distac_status cut(distac_tensor **t, int64_t rows) {
    distac_tensor *part;
    if ((*t)->shape[0] == rows) return DISTAC_OK;
    DI_TRY(distac_tensor_narrow(*t, 0, 0, rows, &part));
    distac_tensor_release(*t);
    *t = part;
    return DISTAC_OK;
}

/* *result NULL: D is nothing. */
static distac_status merge(job *j, double *room, distac_tensor **result) {
    int64_t all = j->r * j->run->models;
    DI_TRY(triplets(j, room, room + j->run->models * j->k));
    if (j->columns == 0) return DISTAC_OK;
    if (j->columns < all) {
        DI_TRY(cut(&j->near, j->columns));
        DI_TRY(cut(&j->away, j->columns));
    }
    DI_TRY(polar(j, &j->near, room));
    DI_TRY(polar(j, &j->away, room));
    DI_TRY(scale_rows(&j->near, j->values));
    bool across = j->k == j->n;
    return product(across ? j->away : j->near, true, across ? j->near : j->away, false, result);
}

distac_status di_tsvm_there(di_merge_run *run, int64_t entry, int64_t r, distac_tensor **out) {
    *out = NULL;
    const di_entry *at = run->base->entries[entry];
    job j = {.run = run, .entry = entry, .m = at->shape[0], .n = at->shape[1], .r = r};
    j.k = j.m < j.n ? j.m : j.n;
    j.far = j.m < j.n ? j.n : j.m;
    size_t models = (size_t)run->models;
    j.matrices = di_new(models * sizeof *j.matrices);
    j.values = di_new(models * (size_t)r * sizeof *j.values);
    double *room = di_new((models * (size_t)j.k + (size_t)j.k) * sizeof *room);
    distac_status status = j.matrices && j.values && room ? merge(&j, room, out) : DISTAC_ENOMEM;
    if (status == DISTAC_OK && !*out) {
        status = new_there(&j, 2, j.m, j.n, 0, out);
        if (status == DISTAC_OK) status = distac_tensor_fill(*out, 0);
    }
    for (size_t t = 0; j.matrices && t < models; t++) distac_tensor_release(j.matrices[t]);
    distac_tensor_release(j.grams);
    distac_tensor_release(j.squares);
    distac_tensor_release(j.near);
    distac_tensor_release(j.away);
    free(j.matrices);
    free(j.values);
    free(room);
    return status;
}
