/* fisher.c: the diagonal of a model's Fisher matrix, summed over images (Matena & Raffel 2022, Merging Models with
 * Fisher-Weighted Averaging): for each image the exact expectation over the model's own prediction p(y|x) of the
 * squared gradient of log p(y|x).
 *
 * With J the derivative of the C logits, that expectation is diag(Jt A J) where A = diag(p) - p pt is the Fisher
 * matrix of the logits. Any factors A = sum v vt give it as the sum of (Jt v)^2. The eigenvectors of A are the
 * shortest such sum: C - 1 backward passes instead of the C that the sum over classes takes, and those of the
 * largest eigenvalues come first, so that a stated share of A's trace can be had for fewer. */
#include "../tensor/lapack.h"
#include "../tensor/walk.h"
#include "train.h"

#include <math.h>

enum { ELEMENTS_PER_TASK = 1 << 15 };

typedef struct job {
    distac_context *context;
    distac_vit *vit;
    const distac_head *head;
    double share;
    int64_t together;            /* images of a pass */
    int64_t classes, directions; /* classes of the head; backward passes done */
    void *features, *unit, *norms, *logits, *dlogits, *dunit, *dfeatures, *gradient; /* of the images of a pass */
    double *vectors, *values; /* A, then its eigenvectors as rows; eigenvalues, ascending */
    void *z, *dz;             /* logits and dlogits on the host, where A is made of them */
    double *room; /* LAPACK's: LAPACKE would take its own, and print when there is none */
    lapack_int *integers, room_count, integer_count;
    double *out;
} job;

static double logit(const job *j, int64_t k) {
    return j->head->dtype == DISTAC_F64 ? ((const double *)j->z)[k] : (double)((const float *)j->z)[k];
}

/* A = diag(p) - p pt of the logits; returns its trace. */
static double logits_fisher(const job *j) {
    int64_t C = j->classes;
    double top = logit(j, 0), sum = 0.0, trace = 0.0, *p = j->values;
    for (int64_t k = 1; k < C; k++) top = fmax(top, logit(j, k));
    for (int64_t k = 0; k < C; k++) sum += p[k] = exp(logit(j, k) - top);
    for (int64_t k = 0; k < C; k++) p[k] /= sum;
    for (int64_t a = 0; a < C; a++) {
        double others = 0.0; /* 1 - p_a without cancellation: most of A is this small where the model is sure */
        for (int64_t b = 0; b < C; b++) {
            j->vectors[a * C + b] = -p[a] * p[b];
            if (b != a) others += p[b];
        }
        j->vectors[a * C + a] = p[a] * others;
        trace += p[a] * others;
    }
    return trace;
}

static void set_dlogit(const job *j, int64_t k, double value) {
    if (j->head->dtype == DISTAC_F64)
        ((double *)j->dz)[k] = value;
    else
        ((float *)j->dz)[k] = (float)value;
}

static size_t logits_bytes(const job *j, int64_t images) {
    return (size_t)(images * j->classes * distac_dtype_bytes(j->head->dtype));
}

/* The square of the gradient for dz of the images of the last forward pass. */
static distac_status backward(job *j, int64_t images) {
    DI_TRY(di_there_put(j->context, j->dlogits, j->dz, logits_bytes(j, images)));
    DI_TRY(di_head_backward(j->head, images, j->features, j->unit, j->norms, j->dlogits, j->dunit, NULL,
                            j->dfeatures));
    DI_TRY(di_vit_backward(j->vit, j->dfeatures, j->gradient));
    DI_TRY(j->vit->kernels->square(j->context, j->vit->flat->numel, j->gradient, j->out));
    j->directions++;
    return DISTAC_OK;
}

/* One backward pass with sqrt(eigenvalue) times eigenvector for the logits. */
static distac_status direction(job *j, int64_t index) {
    const double *v = j->vectors + index * j->classes, scale = sqrt(j->values[index]);
    for (int64_t k = 0; k < j->classes; k++) set_dlogit(j, k, scale * v[k]);
    return backward(j, 1);
}

static distac_status one_image(job *j, const void *image) {
    int64_t C = j->classes;
    DI_TRY(di_vit_forward(j->vit, 1, image, j->features));
    DI_TRY(di_head_forward(j->head, 1, j->features, j->unit, j->norms, j->logits));
    DI_TRY(di_there_get(j->context, j->z, j->logits, logits_bytes(j, 1)));
    double trace = logits_fisher(j);
    if (!isfinite(trace))
        return di_fail_at(DISTAC_ENUMERIC, "distac_fisher", "the logits of an image are not finite");
    if (!(trace > 0.0)) return DISTAC_OK; /* certain beyond what numbers can tell: no gradient at all */
    lapack_int info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)C, j->vectors, (lapack_int)C,
                                          j->values, j->room, j->room_count, j->integers, j->integer_count);
    if (info != 0)
        return di_fail_at(DISTAC_ENUMERIC, "distac_fisher", "no eigenvectors of the logits (dsyevd: %d)",
                          (int)info);
    double held = 0.0;
    for (int64_t k = C; k-- > 1;) { /* the smallest eigenvalue is 0: logits may all be shifted */
        if (!(j->values[k] > 1e-15 * trace) || held >= j->share * trace) break;
        held += j->values[k];
        DI_TRY(direction(j, k));
    }
    return DISTAC_OK;
}

static distac_status all_images(job *j, const distac_tensor *images) {
    int64_t count = images->shape[0], bytes = images->numel / count * distac_dtype_bytes(images->dtype);
    DI_TRY(j->vit->kernels->axpby(j->context, j->vit->flat->numel, 0.0, NULL, 0.0, j->gradient)); /* zeros */
    for (int64_t i = 0; i < count; i++) DI_TRY(one_image(j, (const char *)images->data + i * bytes));
    return DISTAC_OK;
}

/* MergeLM's stand-in: for the whole batch the square of one gradient, that of the sum over images and classes of
 * sqrt(p) log p where sqrt(p) counts as given: sqrt(p) - p sum sqrt(p) for the logits. */
static distac_status whole_batch(job *j, const distac_tensor *images) {
    int64_t C = j->classes, count = images->shape[0];
    double *p = j->values;
    DI_TRY(j->vit->kernels->axpby(j->context, j->vit->flat->numel, 0.0, NULL, 0.0, j->gradient)); /* zeros */
    DI_TRY(di_vit_forward(j->vit, count, images->data, j->features));
    DI_TRY(di_head_forward(j->head, count, j->features, j->unit, j->norms, j->logits));
    DI_TRY(di_there_get(j->context, j->z, j->logits, logits_bytes(j, count)));
    for (int64_t i = 0; i < count; i++) {
        double top = logit(j, i * C), sum = 0.0, roots = 0.0;
        for (int64_t k = 1; k < C; k++) top = fmax(top, logit(j, i * C + k));
        for (int64_t k = 0; k < C; k++) sum += p[k] = exp(logit(j, i * C + k) - top);
        for (int64_t k = 0; k < C; k++) p[k] /= sum, roots += sqrt(p[k]);
        if (!isfinite(roots))
            return di_fail_at(DISTAC_ENUMERIC, "distac_fisher", "the logits of an image are not finite");
        for (int64_t k = 0; k < C; k++) set_dlogit(j, i * C + k, sqrt(p[k]) - p[k] * roots);
    }
    return backward(j, count);
}

static distac_status check(const distac_vit *vit, const distac_head *head, const distac_tensor *images,
                           double share, const distac_tensor *fisher) {
    const char *name = "distac_fisher";
    DI_TRY(di_vit_images_check(vit, images));
    DI_TRY(di_tensor_expect_anywhere(fisher, "fisher", DISTAC_F64, 1, &vit->flat->numel));
    if (distac_tensor_readonly(fisher)) return di_fail_at(DISTAC_ESTATE, name, "fisher is read-only");
    if (!(share >= 0.0 && share <= 1.0))
        return di_fail_at(DISTAC_EINVAL, name, "share is %g, it must be from 0 to 1", share);
    if (head->dim != vit->config.dim)
        return di_fail_at(DISTAC_ESHAPE, name, "the head takes features of size %lld, the encoder makes %d",
                          (long long)head->dim, (int)vit->config.dim);
    if (head->dtype != vit->dtype)
        return di_fail_at(DISTAC_EDTYPE, name, "the encoder is %s, the head %s", distac_dtype_name(vit->dtype),
                          distac_dtype_name(head->dtype));
    if (head->context != vit->context)
        return di_fail_at(DISTAC_EINVAL, name, "encoder and head belong to different contexts");
    if (head->classes > 1 << 14)
        return di_fail_at(DISTAC_EINVAL, name, "%lld classes, the most is %d", (long long)head->classes, 1 << 14);
    return DISTAC_OK;
}

/* The next `count` elements of the scratch; only counts while memory is NULL. */
static void *take(char *memory, size_t *used, int64_t count, size_t element) {
    void *out = memory ? memory + *used : NULL;
    *used += ((size_t)count * element + 63) & ~(size_t)63;
    return out;
}

/* Where the model computes. */
static size_t lay_out(job *j, char *memory) {
    size_t used = 0, element = (size_t)distac_dtype_bytes(j->vit->dtype);
    int64_t B = j->together, dim = j->head->dim, C = j->classes;
    j->features = take(memory, &used, B * dim, element);
    j->unit = take(memory, &used, B * dim, element);
    j->norms = take(memory, &used, B, element);
    j->dunit = take(memory, &used, B * dim, element);
    j->dfeatures = take(memory, &used, B * dim, element);
    j->logits = take(memory, &used, B * C, element);
    j->dlogits = take(memory, &used, B * C, element);
    j->gradient = take(memory, &used, j->vit->flat->numel, element);
    return used;
}

static size_t lay_out_here(job *j, char *memory) {
    size_t used = 0, element = (size_t)distac_dtype_bytes(j->vit->dtype);
    int64_t B = j->together, C = j->classes;
    j->z = take(memory, &used, B * C, element);
    j->dz = take(memory, &used, B * C, element);
    j->vectors = take(memory, &used, C * C, sizeof(double));
    j->values = take(memory, &used, C, sizeof(double));
    j->room = take(memory, &used, j->room_count, sizeof(double));
    j->integers = take(memory, &used, j->integer_count, sizeof *j->integers);
    return used;
}

/* With images and fisher where the model computes. */
static distac_status run(job *j, const distac_tensor *images) {
    size_t bytes = lay_out(j, NULL), bytes_here = lay_out_here(j, NULL);
    char *memory = di_there_alloc(j->context, bytes), *here = di_alloc(j->context, bytes_here);
    distac_status status = memory && here ? DISTAC_OK : DISTAC_ENOMEM;
    if (status == DISTAC_OK) {
        lay_out(j, memory);
        lay_out_here(j, here);
        status = j->share > 0.0 ? all_images(j, images) : whole_batch(j, images);
    }
    di_there_free(j->context, memory, bytes);
    di_free(j->context, here, bytes_here);
    return status;
}

distac_status distac_fisher(distac_vit *vit, const distac_head *head, const distac_tensor *images, double share,
                            distac_tensor *fisher, int64_t *out) {
    DI_REQUIRE(vit && head && images && fisher && out, "vit, head, images, fisher and out are needed");
    DI_TRY(check(vit, head, images, share, fisher));
    DI_TRY(di_lapack_ready());
    job j = {.context = vit->context,
             .vit = vit,
             .head = head,
             .share = share,
             .classes = head->classes,
             .together = share > 0.0 ? 1 : images->shape[0]};
    if (share > 0.0) {
        double room = 0;
        lapack_int info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)j.classes, NULL,
                                              (lapack_int)j.classes, NULL, &room, -1, &j.integer_count, -1);
        if (info != 0) return di_fail(DISTAC_ESHAPE, "%lld classes are too many for LAPACK", (long long)j.classes);
        j.room_count = (lapack_int)room;
    }
    distac_tensor *there = NULL, *sums = NULL;
    distac_status status = di_bring_there(images, &there);
    if (status == DISTAC_OK) status = di_bring_there(fisher, &sums);
    if (status == DISTAC_OK) {
        j.out = sums->data;
        status = run(&j, there);
    }
    if (status == DISTAC_OK && sums != fisher) status = distac_tensor_copy(fisher, sums);
    distac_tensor_release(there);
    distac_tensor_release(sums);
    *out = j.directions;
    return status;
}

/* ---- the mean that the diagonals weigh ---- */

typedef struct weigh {
    int64_t n;
    int32_t dtype; /* of tau */
    const double *fisher;
    const char *tau;
    double scale, floor, coefficient, *over, *under;
} weigh;

static void weigh_block(void *arg, int64_t block) {
    enum { STEP = 256 };
    const weigh *w = arg;
    int64_t end = (block + 1) * ELEMENTS_PER_TASK;
    if (end > w->n) end = w->n;
    for (int64_t at = block * ELEMENTS_PER_TASK; at < end; at += STEP) {
        double tau[STEP];
        int64_t n = end - at < STEP ? end - at : STEP;
        di_to_f64(w->dtype, w->tau + at * distac_dtype_bytes(w->dtype), tau, n);
        for (int64_t i = 0; i < n; i++) {
            double weight = w->coefficient * (w->scale * w->fisher[at + i] + w->floor);
            w->over[at + i] += weight * tau[i];
            w->under[at + i] += weight;
        }
    }
}

distac_status distac_fisher_add(const distac_tensor *fisher, double scale, double floor, double coefficient,
                                const distac_tensor *tau, distac_tensor *over, distac_tensor *under) {
    DI_REQUIRE(fisher && tau && over && under, "fisher, tau, over and under are needed");
    const int64_t any = -1;
    DI_TRY(di_tensor_expect(fisher, "fisher", DISTAC_F64, 1, &any));
    DI_TRY(di_tensor_expect(tau, "tau", tau->dtype, 1, fisher->shape));
    DI_TRY(di_tensor_expect(over, "over", DISTAC_F64, 1, fisher->shape));
    DI_TRY(di_tensor_expect(under, "under", DISTAC_F64, 1, fisher->shape));
    if (!di_dtype_is_float(tau->dtype)) return di_fail(DISTAC_EDTYPE, "tau is %s", distac_dtype_name(tau->dtype));
    if (!(isfinite(scale) && isfinite(floor) && isfinite(coefficient)))
        return di_fail(DISTAC_EINVAL, "scale %g, floor %g and coefficient %g must be finite", di_shown(scale),
                       di_shown(floor), di_shown(coefficient));
    weigh w = {fisher->numel, tau->dtype,  fisher->data, tau->data,  scale,
               floor,         coefficient, over->data,   under->data};
    di_parallel(fisher->context, (w.n + ELEMENTS_PER_TASK - 1) / ELEMENTS_PER_TASK, weigh_block, &w);
    return DISTAC_OK;
}
