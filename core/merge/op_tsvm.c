/* op_tsvm.c: TSV-M. Of each model's delta of a matrix the leading int(min(m,n)/T) singular triplets are kept; the
 * vectors of all models, side by side, are made orthonormal (polar factor), and the merged matrix is put together
 * from them and the singular values. Everything that is not a matrix is averaged.
 *
 * A matrix [m,n] by rows is the matrix [n,m] by columns, which is what LAPACK sees: "left" below is the side of n.
 * The method treats both sides alike, so nothing is turned.
 *
 * Triplets are found in double where that shows, and the vectors' polar factors begin in double; from there on it
 * is float, whose roundings are not multiplied by anything any more. precision = exact is double throughout.
 *
 * Memory for a matrix [m,n] with k = min(m,n), beside the 8 m n bytes of the result: 12 k (m + n) + 16 k^2 bytes
 * of vectors, and per thread at most 40 k^2 + 7000 k bytes; the models' own numbers are read in slices. Where
 * singular values reach too far for Gram matrices, and with precision = exact, a thread holds the matrix and its
 * decomposition instead: 8 (2 m n + 6 k^2) bytes and LAPACK's workspace. */
#include "spectral_room.h"
#include "there.h"
#include "tsvm.h"
#include "../tensor/lapack.h"
#include <string.h>

enum { BLOCK = 384 }; /* columns of the result per task: fixed, so the bits do not depend on the threads */
enum { FEW = 64 };    /* up to so many vectors all is done in double: there is no time to save */
static const double loose = 0.1;  /* least ratio of singular values that a Gram matrix in float is trusted with */
enum { PRECISION, DIALECT };

static const di_merge_param params[] = {
    DI_CHOICE("precision", "fast: by Gram matrices in double; exact: by singular value decompositions in double",
              0, 2, "fast exact"),
    DI_CHOICE("dialect", "authors: matrices named text_projection are averaged, too", 0, 2, "paper authors"),
};

/* The vectors of one side, [rows,T*r], then their polar factor. */
typedef struct side {
    int64_t rows;
    double *vectors;
    float *factor; /* NULL: it replaces the vectors */
} side;

typedef struct job {
    di_merge_run *run;
    int64_t entry, p, q, r; /* p = n, q = m; r triplets per model */
    int64_t columns;        /* triplets that are there */
    bool exact;
    side left, right;       /* of p and of q */
    side *near, *far;       /* the shorter and the longer of the two */
    double *values;         /* [T*r] */
    bool parted;            /* the far side is far.factor inverse(lowerT) turn: both go to the near one */
    double *lower;          /* [T*r,T*r] */
    float *turn;            /* the same */
    float *product;         /* [near,T*r] */
    double *out;
} job;

/* ---- a model's matrix, slice by slice along the longer side ---- */

typedef struct reader {
    const job *job;
    int32_t model;
} reader;

static bool load_run(const reader *r, int64_t first, int64_t n, double *out) {
    return di_whole_load(r->job->run, r->model, r->job->entry, first, n, out);
}

/* The tensor is q runs of p elements: whole runs are slices where q is the longer side, else parts of each. */
static bool load_slices(void *arg, int64_t first, int64_t count, double *out) {
    const reader *r = arg;
    int64_t p = r->job->p, q = r->job->q;
    if (p <= q) return load_run(r, first * p, count * p, out);
    for (int64_t i = 0; i < q; i++)
        if (!load_run(r, i * p + first, count, out + i * count)) return false;
    return true;
}

static distac_status decompose_model(void *arg, int32_t lane, int64_t t) {
    (void)lane;
    job *j = arg;
    reader r = {j, (int32_t)t};
    di_slices a = {j->near->rows, j->far->rows, j->p > j->q, load_slices, &r};
    bool finite;
    DI_TRY(di_triplets(j->run->context, &a, j->r, j->exact, j->near->vectors + t * j->r * a.near,
                       j->values + t * j->r, j->far->vectors + t * j->r * a.length, &finite));
    return finite ? DISTAC_OK : di_run_nonfinite(j->run, j->entry, 0);
}

/* Closes the gaps that empty triplets leave. */
static void compact(job *j) {
    int64_t kept = 0, all = j->r * j->run->models;
    for (int64_t i = 0; i < all; i++) {
        if (j->values[i] <= 0) continue;
        if (kept != i) {
            memcpy(j->left.vectors + kept * j->p, j->left.vectors + i * j->p, (size_t)j->p * sizeof(double));
            memcpy(j->right.vectors + kept * j->q, j->right.vectors + i * j->q, (size_t)j->q * sizeof(double));
            j->values[kept] = j->values[i];
        }
        kept++;
    }
    j->columns = kept;
}

/* To float: the near side times the values. */
static void to_float(const side *s, int64_t columns, const double *values) {
    for (int64_t j = 0; j < columns; j++) {
        double factor = values ? values[j] : 1;
        for (int64_t i = j * s->rows; i < (j + 1) * s->rows; i++) s->factor[i] = (float)(factor * s->vectors[i]);
    }
}

static distac_status whiten_near(job *j) {
    distac_context *context = j->run->context;
    side *s = j->near;
    bool fine = false;
    if (s->factor) DI_TRY(di_polar_float(context, s->rows, j->columns, s->vectors, s->factor, &fine));
    if (!fine) DI_TRY(di_polar(context, s->rows, j->columns, s->vectors, j->exact));
    for (int64_t i = 0; i < j->columns; i++)
        if (fine) cblas_sscal((int)s->rows, (float)j->values[i], s->factor + i * s->rows, 1);
        else cblas_dscal((int)s->rows, j->values[i], s->vectors + i * s->rows, 1);
    if (s->factor && !fine) to_float(s, j->columns, NULL);
    return DISTAC_OK;
}

/* Whether the first two models' vectors of the far side are close to orthogonal to each other. A guess: what makes
 * use of it finds out. */
static bool looks_free(const job *j, float *products, float *panels) {
    int64_t n = j->r, rows = j->far->rows;
    double total = 0;
    if (j->columns != j->r * j->run->models || j->run->models < 2) return false;
    di_product_float(j->run->context, true, false, n, n, rows, 1, j->far->factor, rows, j->far->factor + n * rows,
                     rows, false, products, n, panels);
    for (int64_t i = 0; i < n * n; i++) total += (double)products[i] * (double)products[i];
    return total * (double)rows < 2.0 * (double)n * (double)n;
}

/* A side much longer than its vectors are many is as a rule close to orthogonal: what makes it so is found from
 * their Gram matrix, and multiplied into the shorter side. */
static distac_status whiten_long(job *j) {
    distac_context *context = j->run->context;
    side *s = j->far;
    int64_t n = j->columns;
    distac_status status = DISTAC_OK;
    size_t bytes = (size_t)(n * n + di_square_room(n)) * sizeof(double);
    double *gram = di_alloc(context, bytes), *panels = gram + n * n;
    float *halves = (float *)(void *)panels;
    if (!gram) return DISTAC_ENOMEM;
    to_float(s, n, NULL);
    if (looks_free(j, j->turn, halves)) {
        di_gram_float(context, s->rows, n, s->factor, j->turn, halves);
        for (int64_t i = 0; i < n * n; i++) gram[i] = (double)j->turn[i];
        status = di_polar_parts(context, n, gram, loose, j->lower, j->turn, &j->parted);
    }
    if (status == DISTAC_OK && !j->parted) {
        di_gram(context, s->rows, n, s->vectors, gram, panels);
        status = di_polar_parts(context, n, gram, 0, j->lower, j->turn, &j->parted);
    }
    di_free(context, gram, bytes);
    return status;
}

static distac_status whiten_far(job *j) {
    distac_context *context = j->run->context;
    side *s = j->far;
    bool fine = false;
    if (s->factor && s->rows >= 2 * j->columns) {
        DI_TRY(whiten_long(j));
        fine = j->parted;
    } else if (s->factor) {
        DI_TRY(di_polar_float(context, s->rows, j->columns, s->vectors, s->factor, &fine));
    }
    if (fine) return DISTAC_OK;
    DI_TRY(di_polar(context, s->rows, j->columns, s->vectors, j->exact));
    if (s->factor) to_float(s, j->columns, NULL);
    return DISTAC_OK;
}

static distac_status whiten_side(void *arg, int32_t lane, int64_t which) {
    (void)lane;
    return which == 0 ? whiten_near(arg) : whiten_far(arg);
}

/* Rows of the shorter side's factor, times what the longer one's lacks. */
static distac_status turn_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t rows = j->near->rows, first = index * BLOCK, n = rows - first < BLOCK ? rows - first : BLOCK;
    int64_t c = j->columns;
    size_t bytes = (size_t)(n * c + di_product_room(n, c)) * sizeof(double);
    double *part = di_alloc(j->run->context, bytes), *panels = part + n * c;
    if (!part) return DISTAC_ENOMEM;
    di_product_float(j->run->context, false, true, n, c, c, 1, j->near->factor + first, rows, j->turn, c, false,
                     j->product + first, rows, (float *)(void *)panels);
    for (int64_t k = 0; k < c; k++)
        for (int64_t i = 0; i < n; i++) part[k * n + i] = (double)j->product[k * rows + first + i];
    di_solve(j->run->context, false, n, c, j->lower, c, part, n, panels);
    for (int64_t k = 0; k < c; k++)
        for (int64_t i = 0; i < n; i++) j->product[k * rows + first + i] = (float)part[k * n + i];
    di_free(j->run->context, part, bytes);
    return DISTAC_OK;
}

static distac_status multiply_block(void *arg, int32_t lane, int64_t index) {
    (void)lane;
    job *j = arg;
    int64_t first = index * BLOCK, n = j->q - first < BLOCK ? j->q - first : BLOCK;
    double *out = j->out + first * j->p;
    if (!j->near->factor) {
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)j->p, (int)n, (int)j->columns, 1,
                    j->left.vectors, (int)j->p, j->right.vectors + first, (int)j->q, 0, out, (int)j->p);
        return DISTAC_OK;
    }
    size_t bytes = (size_t)(n * j->p + di_product_room(j->p, n)) * sizeof(float);
    float *part = di_alloc(j->run->context, bytes);
    if (!part) return DISTAC_ENOMEM;
    di_product_float(j->run->context, false, true, j->p, n, j->columns, 1, j->left.factor, j->p,
                     j->right.factor + first, j->q, false, part, j->p, part + n * j->p);
    for (int64_t i = 0; i < n * j->p; i++) out[i] = (double)part[i];
    di_free(j->run->context, part, bytes);
    return DISTAC_OK;
}

static distac_status merge_matrix(job *j) {
    DI_TRY(di_run_lanes(j->run, j->run->models, decompose_model, j));
    compact(j);
    if (j->columns == 0) {
        memset(j->out, 0, (size_t)(j->p * j->q) * sizeof *j->out);
        return DISTAC_OK;
    }
    DI_TRY(di_run_lanes(j->run, 2, whiten_side, j));
    if (j->parted) {
        DI_TRY(di_run_lanes(j->run, (j->near->rows + BLOCK - 1) / BLOCK, turn_block, j));
        j->near->factor = j->product;
    }
    return di_run_lanes(j->run, (j->q + BLOCK - 1) / BLOCK, multiply_block, j);
}

static void warn_of_nothing(const di_merge_run *run, const di_entry *at) {
    char shape[64];
    di_warn(run->context, "tsvm: \"%s\" %s has a side smaller than the %d models and contributes nothing",
            at->name, di_shape_text(at->rank, at->shape, shape, sizeof shape), (int)run->models);
}

/* A matrix too small for the number of models: nothing is kept, but its inputs are still looked at. */
static distac_status nothing(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    double *const *rows = di_run_rows(run, 0);
    for (int64_t first = 0; first < at->numel; first += DI_STEP) {
        int64_t n = at->numel - first < DI_STEP ? at->numel - first : DI_STEP;
        if (!di_run_step(run, entry, first, n, rows)) return di_run_nonfinite(run, entry, first);
    }
    memset(out, 0, (size_t)at->numel * sizeof *out);
    warn_of_nothing(run, at);
    return DISTAC_OK;
}

/* Doubles that a matrix holds from its first step to its last. */
static int64_t held(int64_t p, int64_t q, int64_t columns, bool floats) {
    int64_t least = p < q ? p : q, doubles = (p + q + 1) * columns;
    if (floats) doubles += columns * columns + ((p + q + least + columns) * columns + 1) / 2;
    return doubles;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* What making a side's c vectors orthonormal holds. in_parts: where it is much longer than they are many. */
static int64_t side_bytes(int64_t rows, int64_t c, bool exact, bool floats, bool in_parts) {
    if (!floats) return di_polar_bytes(rows, c, exact);
    if (in_parts && rows >= 2 * c)
        return (c * c + di_square_room(c)) * (int64_t)sizeof(double) + di_polar_parts_bytes(c);
    return most(di_polar_float_bytes(rows, c), di_polar_bytes(rows, c, false));
}

static int64_t lanes_of(const di_merge_run *run, int64_t tasks) { return run->lanes < tasks ? run->lanes : tasks; }

static int64_t need(const di_merge_run *run, const di_entry *entry) {
    int64_t p = entry->shape[1], q = entry->shape[0], least = p < q ? p : q, longest = p < q ? q : p;
    int64_t r = least / run->models, c = r * run->models, lanes = lanes_of(run, run->models);
    bool exact = di_run_param(run, PRECISION, 0) == 1, floats = !exact && c > FEW;
    if (r == 0 || di_models_there(run->context)) return 0;
    int64_t near = side_bytes(least, c, exact, floats, false), far = side_bytes(longest, c, exact, floats, true);
    int64_t triplets = lanes * di_triplets_bytes(least, longest, r, exact);
    int64_t sides = run->lanes > 1 ? near + far : most(near, far);
    int64_t wide = q < BLOCK ? q : BLOCK, high = least < BLOCK ? least : BLOCK;
    int64_t last = (p * wide + di_product_room(p, wide)) * (int64_t)sizeof(float);
    int64_t turning = (high * c + di_product_room(high, c)) * (int64_t)sizeof(double);
    int64_t last_lanes = lanes_of(run, (q + BLOCK - 1) / BLOCK),
            turning_lanes = lanes_of(run, (least + BLOCK - 1) / BLOCK);
    int64_t blocks = floats ? most(last * last_lanes, longest >= 2 * c ? turning * turning_lanes : 0) : 0;
    return held(p, q, c, floats) * (int64_t)sizeof(double) + most(triplets, most(sides, blocks));
}

/* The authors' repository leaves the text tower's projection out. */
static bool takes(const di_merge_run *run, const di_entry *entry) {
    if (di_run_param(run, DIALECT, 0) == 1 && strstr(entry->name, "text_projection")) return false;
    return di_whole_takes(run, entry);
}

static distac_status from_there(di_merge_run *run, int64_t entry, int64_t r, double *out) {
    distac_tensor *result;
    distac_status status = di_tsvm_there(run, entry, r, &result);
    if (status == DISTAC_OK) status = distac_tensor_read(result, result->numel, out);
    distac_tensor_release(result);
    return status;
}

static distac_status tensor_there(di_merge_run *run, int64_t entry, distac_tensor **out) {
    const di_entry *at = run->base->entries[entry];
    int64_t least = at->shape[0] < at->shape[1] ? at->shape[0] : at->shape[1];
    if (least >= run->models) return di_tsvm_there(run, entry, least / run->models, out);
    warn_of_nothing(run, at);
    DI_TRY(di_tensor_new_at(run->context, true, DISTAC_F64, at->rank, at->shape, out));
    distac_status status = distac_tensor_fill(*out, 0);
    for (int32_t t = 0; status == DISTAC_OK && t < run->models; t++) {
        int64_t first, count;
        status = distac_tensor_nonfinite(di_there_tensor(run, t, entry), &first, &count);
        if (status == DISTAC_OK && count)
            status = di_fail_at(DISTAC_ENUMERIC, run->function, "task vector %d is not finite", (int)t + 1);
    }
    if (status == DISTAC_OK) return DISTAC_OK;
    distac_tensor_release(*out);
    *out = NULL;
    return status;
}

static distac_status tensor(di_merge_run *run, int64_t entry, double *out) {
    const di_entry *at = run->base->entries[entry];
    job j = {.run = run, .entry = entry, .p = at->shape[1], .q = at->shape[0], .out = out};
    int64_t least = j.p < j.q ? j.p : j.q;
    j.r = least / run->models;
    if (j.r == 0) return nothing(run, entry, out);
    if (di_models_there(run->context)) return from_there(run, entry, j.r, out);
    DI_TRY(di_lapack_ready());
    j.exact = di_run_param(run, PRECISION, 0) == 1;
    int64_t columns = j.r * run->models;
    bool floats = !j.exact && columns > FEW;
    size_t bytes = (size_t)held(j.p, j.q, columns, floats) * sizeof(double);
    double *memory = di_alloc(run->context, bytes);
    if (!memory) return DISTAC_ENOMEM;
    j.left = (side){j.p, memory, NULL};
    j.right = (side){j.q, memory + j.p * columns, NULL};
    j.near = j.p <= j.q ? &j.left : &j.right;
    j.far = j.p <= j.q ? &j.right : &j.left;
    j.values = j.right.vectors + j.q * columns;
    if (floats) {
        j.lower = j.values + columns;
        j.left.factor = (float *)(void *)(j.lower + columns * columns);
        j.right.factor = j.left.factor + j.p * columns;
        j.product = j.right.factor + j.q * columns;
        j.turn = j.product + least * columns;
    }
    distac_status status = merge_matrix(&j);
    di_free(run->context, memory, bytes);
    return status;
}

const di_method di_merge_tsvm = {
    .name = "tsvm",
    .text =
        "orthogonalised leading singular vectors of every matrix, mean of the rest (Gargiulo et al. 2025, TSV-M)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .chunk = di_whole_mean,
    .takes = takes,
    .tensor = tensor,
    .need = need,
    .rule = di_whole_mean_rule,
    .tensor_there = tensor_there,
};
