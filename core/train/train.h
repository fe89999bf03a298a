/* train.h: the bodies of losses, optimizer and training steps. Private to core/. */
#ifndef DISTAC_TRAIN_H
#define DISTAC_TRAIN_H

#include "../nn/nn.h"

/* ---- losses (loss.c): rows of logits on the host, each row computed in double ---- */
typedef struct di_row {
    double loss, entropy, correct; /* of one row; correct is 0 or 1, between them under Mixup */
} di_row;
/* What a batch of rows is compared with: labels alone, or two sets of them mixed. */
typedef struct di_targets {
    const int64_t *labels;
    const int64_t *others; /* NULL: not mixed */
    double lambda;         /* weight of labels; 1 - lambda is the others' */
} di_targets;
distac_status di_loss_desc_check(const distac_loss_desc *desc);
distac_status di_labels_check(const distac_tensor *labels, int64_t rows, int64_t classes);
/* Fills results [rows]; dlogits, unless NULL, is overwritten with scale times the gradient of a row's loss. */
void di_loss_rows(distac_context *c, const distac_loss_desc *desc, int64_t rows, int64_t classes, int32_t dtype,
                  const void *logits, const di_targets *targets, double scale, void *dlogits, di_row *results);
void di_loss_kd_rows(distac_context *c, int64_t rows, int64_t classes, int32_t dtype, const void *teacher,
                     const void *student, double t_teacher, double t_student, double scale, void *dstudent,
                     di_row *results);
/* Entropy of the prediction (AdaMerging, Yang et al. 2024). */
void di_loss_entropy_rows(distac_context *c, int64_t rows, int64_t classes, int32_t dtype, const void *logits,
                          double scale, void *dlogits, di_row *results);
/* Sums of results, added in order. */
di_row di_rows_total(const di_row *results, int64_t rows);

/* ---- optimizer (optimizer.c) ---- */
struct distac_optimizer {
    atomic_int refs;
    distac_context *context; /* retained */
    const di_kernels *kernels;
    distac_adamw_desc desc; /* defaults filled in */
    int64_t n, steps;
    int32_t dtype;
    distac_tensor *moments[2]; /* [n] each */
};
void di_optimizer_retain(distac_optimizer *optimizer);
/* The rate to use: lr, or the default if lr < 0. Fails for NaN and infinity. */
distac_status di_optimizer_rate(const distac_optimizer *optimizer, double lr, double *out);
/* Fails with ENUMERIC if a gradient with this sum of squares must not be used. */
distac_status di_optimizer_check(const distac_optimizer *optimizer, double sumsq, const char *what);
/* The update itself, of a checked gradient. */
distac_status di_optimizer_update(distac_optimizer *optimizer, double lr, double sumsq, const void *grads,
                                  void *params);

/* ---- what both training steps share (learner.c): student, head, optimizer and memory for a batch ---- */
typedef struct di_learner {
    distac_context *context; /* the student's; kept alive by it */
    distac_vit *vit;         /* these three retained */
    distac_head *head;
    distac_optimizer *optimizer;
    distac_tensor *grads; /* [P] */
    int64_t micro;        /* as the caller asked */
    di_workspace memory;  /* the buffers below, for `slice` images (results: for a batch) */
    void *features, *unit, *norms, *logits, *dlogits, *dunit, *dfeatures, *teacher_logits;
    di_row *results;
} di_learner;
distac_status di_learner_make(di_learner *l, distac_vit *vit, distac_head *head, distac_optimizer *optimizer,
                              int64_t micro);
/* Exchanges the head; buffers are laid out for its classes at the next batch. */
distac_status di_learner_head(di_learner *l, distac_head *head);
void di_learner_free(di_learner *l);
/* Images at a time for a batch. */
int64_t di_learner_slice(const di_learner *l, int64_t batch);
/* Makes room for a batch and zeroes the gradients. */
distac_status di_learner_begin(di_learner *l, int64_t batch);
/* Student logits of a slice, keeping what di_learner_backward needs to add the gradient of dlogits. */
distac_status di_learner_forward(di_learner *l, int64_t slice, const void *images);
distac_status di_learner_backward(di_learner *l, int64_t slice, void *dweight);
/* ENUMERIC, naming the first bad parameter tensor, unless the gradient is fit for an update. */
distac_status di_learner_check(const di_learner *l, double sumsq);
/* ENUMERIC unless value is finite; what names it. */
distac_status di_finite(double value, const char *function, const char *what, int64_t step);

#endif
