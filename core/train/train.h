/* train.h: the bodies of losses, optimizer and training steps. Private to core/. */
#ifndef DISTAC_TRAIN_H
#define DISTAC_TRAIN_H

#include "../nn/nn.h"

/* ---- losses (loss.c) ---- */
distac_status di_loss_desc_check(const distac_loss_desc *desc);
distac_status di_labels_check(const distac_tensor *labels, int64_t rows, int64_t classes);

/* ---- optimizer (optimizer.c) ---- */
struct distac_optimizer {
    atomic_int refs;
    distac_context *context; /* retained */
    const di_kernels *kernels;
    distac_adamw_desc desc; /* defaults filled in */
    int64_t n, steps;
    int32_t dtype;
    distac_tensor *moments[2]; /* [n] each */
    di_step *step;             /* on the device */
};
void di_optimizer_retain(distac_optimizer *optimizer);
/* The rate to use: lr, or the default if lr < 0. Fails for NaN and infinity. */
distac_status di_optimizer_rate(const distac_optimizer *optimizer, double lr, double *out);
/* The constants of its updates. */
di_adamw di_optimizer_rule(const distac_optimizer *optimizer);
/* The update itself, unless the step is refused; the number of updates is counted by di_optimizer_done. copy: as
 * step_update has it. */
distac_status di_optimizer_update(const distac_optimizer *optimizer, int32_t which, const di_step *step,
                                  const void *grads, void *params, void *copy);
/* Counts an update that was done; fails with ENUMERIC if a gradient with this sum of squares was refused. */
distac_status di_optimizer_check(const distac_optimizer *optimizer, double sumsq, const char *what);

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
    di_step *step; /* on the device */
} di_learner;
distac_status di_learner_make(di_learner *l, distac_vit *vit, distac_head *head, distac_optimizer *optimizer,
                              int64_t micro);
/* Exchanges the head; buffers are laid out for its classes at the next batch. */
distac_status di_learner_head(di_learner *l, distac_head *head);
void di_learner_free(di_learner *l);
/* Images at a time for a batch. */
int64_t di_learner_slice(const di_learner *l, int64_t batch);
/* Makes room for a batch and begins the step; head_optimizer may be NULL. */
distac_status di_learner_begin(di_learner *l, int64_t batch, double rate, double head_rate,
                               const distac_optimizer *head_optimizer);
/* The gradients before the first slice. */
distac_status di_learner_zero(di_learner *l);
/* Student logits of a slice, keeping what di_learner_backward needs to add the gradient of dlogits. */
distac_status di_learner_forward(di_learner *l, int64_t slice, const void *images);
distac_status di_learner_backward(di_learner *l, int64_t slice, void *dweight);
/* ENUMERIC, naming the first bad parameter tensor, unless the gradient was fit for an update. */
distac_status di_learner_check(const di_learner *l, double sumsq);
/* ENUMERIC unless value is finite; what names it. */
distac_status di_finite(double value, const char *function, const char *what, int64_t step);

/* ---- steps as recordings (record.c) ---- */
/* What the kernels of a step point to, and what else is fixed in them: words, unused ones 0. */
typedef struct di_recorder_key {
    uintptr_t word[10];
} di_recorder_key;
typedef struct di_recorder {
    di_recorder_key key; /* of the last step done piece by piece */
    bool known;          /* there was one */
    void *recording;     /* NULL: none */
} di_recorder;
/* body(arg), which asks for work and waits for none of it; where there is no device, or the key is not that of the
 * step before, piece by piece. Everything that changes from step to step lies in the memory that the key names. */
distac_status di_recorder_run(di_recorder *recorder, distac_vit *student, di_recorder_key (*key)(const void *arg),
                              distac_status (*body)(void *arg), void *arg);
void di_recorder_free(di_recorder *recorder, distac_context *context);

#endif
