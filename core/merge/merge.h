/* merge.h: the inside of merging. A run is one merge in progress: its inputs, matched and open, seen as task
 * vectors. An operator turns the task vectors' numbers into the direction D; adding one means a new file with a
 * di_method and one line in registry.c. */
#ifndef DISTAC_MERGE_H
#define DISTAC_MERGE_H

#include "../backend/merge_rule.h"
#include "../io/layout.h"
#include <string.h>

/* Elements an operator sees at a time: the numbers of eight models stay in the first cache. */
enum { DI_STEP = 256 };

typedef struct di_merge_run di_merge_run;

/* Where a run of elements stands: in which entry of run->base, at which element of it, in which of run->pieces;
 * and which lane looks at it. */
typedef struct di_at {
    int64_t entry, first, piece;
    int32_t lane;
} di_at;

/* Elements of all models as floats that lie in memory; base NULL: they are task vectors already. */
enum { DI_FLOATS = 64 };
typedef struct di_floats {
    const float *x[DI_FLOATS], *base;
} di_floats;
enum { DI_STRAIGHT = 64 };
/* What came of trying: rows: not for these parameters. */
enum { DI_DIRECT_ROWS, DI_DIRECT_DONE, DI_DIRECT_NONFINITE };

typedef struct di_merge_param {
    distac_merge_param info;
    bool whole; /* a whole number is wanted; always so for choices */
} di_merge_param;
/* Both ends of a range are included. A list takes one number or one per model. */
#define DI_NUMBER(name, text, value, least, most)     {{name, text, value, least, most, 0, NULL}, false}
#define DI_NUMBERS(name, text, value, least, most)    {{name, text, value, least, most, 1, NULL}, false}
#define DI_WHOLE(name, text, value, least, most)      {{name, text, value, least, most, 0, NULL}, true}
#define DI_CHOICE(name, text, value, count, choices)  {{name, text, value, 0, (count)-1, 0, choices}, true}

/* An operator. It has `chunk`, for tensors whose elements are merged one by one, and may have the others. */
typedef struct di_method {
    const char *name, *text;
    const di_merge_param *params; /* its own; lambda is everybody's and stands behind them */
    int32_t param_count;
    int32_t models; /* how many it takes, 0: any number */
    /* Looks at all task vectors before anything is merged; what it finds goes to run->state, freed with free(). */
    distac_status (*prepare)(di_merge_run *run);
    /* Changes n elements of all task vectors in place before chunk gets them; prepare sees them unchanged. */
    void (*edit)(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau);
    /* out[i] = D for n elements of all models: tau[t][i]. Behind the last model's stand the base's, in a merge of
     * whole models; the same goes for di_visit. */
    void (*chunk)(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau, double *out);
    /* The same straight from the models (direct.h), to be taken if di_run_floats says so; n is a multiple of
     * eight. base gets the base's elements, if there are any. */
    int (*direct)(const di_merge_run *run, const di_at *at, int64_t n, const di_floats *floats, double *base,
                   double *out);
    /* All the way, from floats to floats, without a row in between: out[i] = lambda D, plus
     * the base if there is one, the same bits as by chunk; n is a multiple of DI_STRAIGHT.
     * stream: past the caches, out is aligned to 64 bytes. False: not for these parameters,
     * or an input or a result is not finite; out is lost, and the others tell. */
    bool (*straight)(const di_merge_run *run, int64_t n, const di_floats *floats, double lambda, float *out,
                     bool stream);
    /* Called when everything was merged. True: the pieces that chunk has marked (di_run_marks) are merged again,
     * because what was learned meanwhile changes them. */
    bool (*settle)(di_merge_run *run);
    /* Whether `tensor` merges this entry of run->base instead of chunk. */
    bool (*takes)(const di_merge_run *run, const di_entry *entry);
    /* D of a whole tensor, row-major. May use di_parallel. */
    distac_status (*tensor)(di_merge_run *run, int64_t entry, double *out);
    /* Bytes that `tensor` holds beside D while it works. Enough
     * where the numbers need no longer way than usual. */
    int64_t (*need)(const di_merge_run *run, const di_entry *entry);
    /* The same as chunk for task vectors on a device (there.c), in numbers: of an entry's D, and
     * each model's, which are the same for all entries. They come as those of the plain sum. NULL:
     * such task vectors are merged on the host. */
    void (*rule)(const di_merge_run *run, int64_t entry, di_merge_rule *rule, di_merge_model *each);
    /* Whether that is so for a merge's parameters; NULL: for all. prepare looks
     * with di_select alone then (ties.c). */
    bool (*goes_there)(const distac_merge *merge);
    /* [new] As tensor: D on the device, dense. NULL although there is `takes`: merged on the host. */
    distac_status (*tensor_there)(di_merge_run *run, int64_t entry, distac_tensor **out);
} di_method;

extern const di_method di_merge_average, di_merge_task_arithmetic, di_merge_ties, di_merge_consensus_ta,
    di_merge_tsvm;
extern const di_method di_merge_iso_c, di_merge_iso_cts, di_merge_knots, di_merge_wudi;
extern const di_method di_merge_tall_mask, di_merge_dare, di_merge_dare_ties, di_merge_lines, di_merge_slerp,
    di_merge_nuslerp, di_merge_model_stock, di_merge_breadcrumbs, di_merge_della, di_merge_pcb;

/* The values of one parameter: one number, or one per model. */
typedef struct di_values {
    int32_t count;
    double *values;
} di_values;

/* Tensors whose name matches the pattern have lambda times this factor. */
typedef struct di_rule {
    char *pattern;
    double factor;
} di_rule;

struct distac_merge {
    atomic_int refs;
    distac_context *context;
    const di_method *method;
    di_values *params; /* param_count of them, then lambda */
    int32_t rule_count;
    di_rule *rules; /* the last that matches counts */
};

struct di_merge_run {
    distac_context *context;
    const distac_merge *merge;
    const char *function; /* for error texts */
    int32_t models;
    bool whole;                    /* inputs are models: tau = model - base; else they are task vectors */
    bool in_memory;                /* the results stay there: they are written past the caches */
    const distac_checkpoint *base; /* what is merged: its float tensors */
    distac_checkpoint *const *inputs;
    di_sources base_bytes, *input_bytes;
    int64_t *partner; /* [models][base->count]: where a tensor stands in an input */
    double *factors;  /* [base->count]: of lambda; 0: the tensor stays as the base has it and is not looked at */
    int64_t elements; /* of all float tensors that are merged */
    int64_t piece_count;
    di_piece *pieces;     /* of the tensors that are merged */
    int64_t *first_piece; /* [base->count]: an entry's first among them */
    int32_t lanes; /* parallel strands, each with its own scratch; results never depend on their number */
    double *scratch, **rows;
    uint8_t *marks; /* [piece_count]: pieces to be merged again; NULL: none ever */
    di_prints *prints; /* fingerprints that are taken as the bytes are met, NULL: none */
    atomic_llong bad_entry, bad_first; /* what di_run_nonfinite told last: entry + 1, element */
    /* The task vectors lie on the device (there.h): nothing is read here. NULL: they do not. */
    struct di_there *there;
    void *state;
};

/* ---- run.c ---- */
distac_status di_run_open(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                          const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs);
/* The same without the method's own looks: nothing is read yet. */
distac_status di_run_match(di_merge_run *run, const distac_merge *merge, const char *function, bool whole,
                           const distac_checkpoint *base, int32_t models, distac_checkpoint *const *inputs);
/* The same for task vectors on the device. */
struct di_there;
distac_status di_run_match_there(di_merge_run *run, const distac_merge *merge, const char *function,
                                 int32_t models, distac_checkpoint *const *inputs, struct di_there *there);
void di_run_close(di_merge_run *run);
/* Parameter `index` of the operator for a model. */
double di_run_param(const di_merge_run *run, int32_t index, int32_t model);
/* The parameter if it is a list of weights that are not all 1, else NULL. */
const di_values *di_run_weights(const di_merge_run *run, int32_t index);
/* The number that a list has for a model: its only one, or its own. */
static inline double di_value_of(const di_values *values, int32_t model) {
    return values->values[values->count == 1 ? 0 : model];
}
double di_run_lambda(const di_merge_run *run, int64_t entry);
/* The factor that a merge's rules give a tensor. */
double di_merge_factor(const distac_merge *merge, const char *name);
/* Room for a mark per piece, to be set by chunk at di_at.piece; all clear. */
distac_status di_run_marks(di_merge_run *run, uint8_t **out);
/* What an input is called in a text: its path or its number. t -1: the base. buffer: room for the number. */
const char *di_run_label(const di_merge_run *run, int32_t t, char *buffer, size_t bytes);

/* ---- read.c ---- */
/* Elements first … first+n-1 of model t's task vector; false if one of them is not finite. base: the base's
 * elements (NULL for task vectors). */
bool di_run_load(const di_merge_run *run, int32_t t, int64_t entry, int64_t first, int64_t n, const double *base,
                 double *out);
/* The base's elements in double; false if one of them is not finite. */
bool di_run_base(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *out);
/* A lane's numbers: models task vectors of DI_STEP elements, then the base, then the result. */
double *const *di_run_rows(const di_merge_run *run, int32_t lane);
/* Loads n <= DI_STEP elements of all models into a lane's rows; false if one is not finite. */
bool di_run_step(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, double *const *rows);
/* n elements of all models as they lie. False if that is not possible: then they are read into rows. */
bool di_run_floats(const di_merge_run *run, int64_t entry, int64_t first, int64_t n, di_floats *out);

/* ---- nonfinite.c ---- */
/* Fails with ENUMERIC and names the first non-finite element at or after `first` of an entry. */
distac_status di_run_nonfinite(di_merge_run *run, int64_t entry, int64_t first);
/* The same again for what was told last, with all other tensors that have such elements behind it. */
distac_status di_run_nonfinite_all(const di_merge_run *run);

/* ---- lanes.c ---- */
/* Calls work(arg, lane, i) for i in 0..count-1, each once, on all lanes; the lowest i that failed is called again
 * for its error. */
typedef distac_status (*di_lane_work)(void *arg, int32_t lane, int64_t index);
distac_status di_run_lanes(di_merge_run *run, int64_t count, di_lane_work work, void *arg);

/* ---- visit.c ---- */
/* Asks the system for elements of the base and all models that are read soon. */
enum { DI_AHEAD = 64 }; /* pieces */
void di_run_ahead(const di_merge_run *run, int64_t entry, int64_t first, int64_t n);
/* Takes what lies in these elements of the base and all models into the fingerprints, if some are wanted: to be
 * called just before they are read. */
void di_run_look(const di_merge_run *run, int64_t entry, int64_t first, int64_t n);
/* Shows all elements of all task vectors, step by step, to visit, on all lanes. */
typedef void (*di_visit)(void *arg, int32_t lane, const di_at *at, int64_t n, const double *const *tau);
distac_status di_run_visit(di_merge_run *run, di_visit visit, void *arg);
/* The same where it can be read as it lies (direct.h) by direct, which returns false if a number is not finite. */
typedef bool (*di_visit_direct)(void *arg, int32_t lane, const di_at *at, int64_t n, const di_floats *floats);
distac_status di_run_visit_direct(di_merge_run *run, di_visit visit, di_visit_direct direct, void *arg);

/* ---- execute.c ---- */
/* base + lambda*D, or D, of part of a tensor, rounded to dtype. whole: D of the whole tensor if it is there. */
distac_status di_run_result(di_merge_run *run, int32_t lane, const di_piece *piece, const double *whole,
                            int32_t dtype, uint8_t *out);
/* The same of n elements for floats: base + lambda*d, or d.
 * False if that is not possible, or one is not finite. */
bool di_run_finish_f32(int64_t n, const double *base, double lambda, const double *d, int32_t dtype, void *out);
/* Whether the operator wants this entry as a whole. */
bool di_run_takes(const di_merge_run *run, int64_t index);
/* D of a whole tensor, for operators that need it; di_free it with so many bytes. */
distac_status di_run_whole(di_merge_run *run, int64_t entry, double **out);
size_t di_run_whole_bytes(const di_entry *entry);
/* After everything was merged: the pieces that are merged again, into `out` (run->piece_count of room). */
int64_t di_run_marked(di_merge_run *run, di_piece *out);

/* ---- fits.c ---- */
/* Fails with ENOMEM and names the tensor unless a merge that holds `beside` bytes more than now and one tensor at
 * a time stays below the memory limit. */
distac_status di_run_fits(const di_merge_run *run, int64_t beside);
/* The tensor whose merging as a whole holds most, D included, -1: none is; returns the bytes. */
int64_t di_run_largest(const di_merge_run *run, int64_t *entry);
/* The same check for `bytes` more for a tensor; what: what else there is to say of them. */
distac_status di_run_room(const di_merge_run *run, int64_t entry, int64_t bytes, const char *what);
/* The last error, which is ENOMEM, becomes this tensor's. */
distac_status di_run_no_room(const di_merge_run *run, int64_t entry);

/* ---- files.c ---- */
/* What a merge of files holds whatever the method. */
enum { DI_FILES_BYTES = 2 * DI_AHEAD * DI_PIECE * (int)sizeof(double) };
/* What a merge writes: the tensors of the output's layout, and who takes their bytes. */
typedef struct di_written {
    di_target_list targets;
    di_st_item *items; /* one per target */
    int64_t *order;    /* in which the targets' bytes are put */
    int64_t *item_of;  /* [base->count]: the target that holds an entry's first element, -1: none */
    di_output *output;
} di_written;
/* base: canonical if a layout is wanted. di_written_close it, also on failure. */
distac_status di_written_open(const distac_checkpoint *base, const char *path, const distac_merge_target *target,
                              const distac_checkpoint *metadata, di_written *out);
/* The metadata of the output are now these: as long as those before. */
distac_status di_written_metadata(di_written *written, const char *layout, const distac_checkpoint *metadata);
void di_written_close(di_written *written);
/* The type that an entry of the base has in the output. */
const di_file_type *di_written_type(const distac_merge_target *target, const di_entry *entry);
/* The base and the models as a merge into this layout wants them. di_inputs_close it, also on failure. */
typedef struct di_inputs {
    distac_checkpoint *base, **models;
    int32_t count;
} di_inputs;
distac_status di_inputs_open(const distac_merge_target *target, const distac_checkpoint *base, int32_t count,
                             distac_checkpoint *const *models, di_inputs *out);
void di_inputs_close(di_inputs *inputs);
/* out[j][i] = in[i][j] of elements of `width` bytes. */
void di_turn(const uint8_t *in, int64_t rows, int64_t columns, size_t width, uint8_t *out);

/* ---- gram.c ---- */
/* Scalar products of the task vectors (or of the models themselves, in a merge of whole models), tensor by tensor:
 * [base->count][models*(models+1)/2], rows of the upper triangle one after the other. free() it. */
distac_status di_run_gram(di_merge_run *run, bool models, double **out);

/* ---- norms.c ---- */
/* What brings a tensor that `thin` has thinned out back to its sum of magnitudes, [base->count][models], into
 * factors; 1 where nothing is left. thin: as di_method.edit. */
distac_status di_run_norms(di_merge_run *run,
                           void (*thin)(const di_merge_run *run, const di_at *at, int64_t n, double *const *tau),
                           double *factors);

/* ---- draw.c ---- */
/* 32 random bits each for elements first … first+n-1 of a model's tensor, a pure function of all arguments. */
void di_draw(uint64_t seed, const char *name, int32_t model, int64_t first, int64_t n, uint32_t *out);

/* ---- select.c ---- */
/* At most this much memory, for any number of models and
 * elements (the sample, keys between the bounds, counters). */
#define DI_SELECT_BYTES ((int64_t)384 << 20)
/* thresholds[t] = the rank-th largest magnitude of task vector t over all tensors; rank >= 1. */
distac_status di_select(di_merge_run *run, int64_t rank, double *thresholds);
/* A magnitude as its bits, which order like the number: its key. */
static inline uint64_t di_key(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & (UINT64_MAX >> 1);
}
static inline double di_key_value(uint64_t key) {
    double value;
    memcpy(&value, &key, sizeof value);
    return value;
}
/* The rank-th largest of n keys, 1 <= rank <= n, in time that does
 * not depend on their order. The keys are shuffled and lost. */
uint64_t di_pick(uint64_t *keys, int64_t n, int64_t rank);

#endif
