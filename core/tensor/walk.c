/* walk.c: strided iteration, see walk.h. */
#include "walk.h"

void di_walk_make(di_walk *walk, int32_t rank, const int64_t *shape, int32_t tensors,
                  const int64_t *const strides[]) {
    walk->tensors = tensors;
    walk->rank = 0;
    walk->numel = 1;
    for (int32_t i = 0; i < rank; i++)
        if (shape[i] == 0) walk->numel = 0;
    if (walk->numel == 0) return; /* nothing to walk over, and the other sizes may be anything */
    for (int32_t i = 0; i < rank; i++) {
        walk->numel *= shape[i]; /* sizes of an existing tensor: no overflow */
        if (shape[i] == 1) continue;
        int32_t last = walk->rank - 1;
        bool merge = last >= 0;
        for (int32_t t = 0; t < tensors && merge; t++)
            merge = walk->stride[t][last] == strides[t][i] * shape[i];
        if (!merge) last = walk->rank++;
        walk->shape[last] = merge ? walk->shape[last] * shape[i] : shape[i];
        for (int32_t t = 0; t < tensors; t++) walk->stride[t][last] = strides[t][i];
    }
    if (walk->rank == 0) { /* a scalar is a run of one */
        walk->rank = 1;
        walk->shape[0] = walk->numel;
        for (int32_t t = 0; t < tensors; t++) walk->stride[t][0] = 1;
    }
}

void di_walk_part(const di_walk *walk, int64_t first, int64_t count, di_run_task task, void *arg) {
    int64_t index[DI_MAX_RANK], rest = first;
    int32_t last = walk->rank - 1;
    if (count <= 0) return;
    for (int32_t i = last; i >= 0; i--) {
        index[i] = rest % walk->shape[i];
        rest /= walk->shape[i];
    }
    di_run run = {.first = first};
    for (int32_t t = 0; t < walk->tensors; t++) {
        run.stride[t] = walk->stride[t][last];
        for (int32_t i = 0; i <= last; i++) run.offset[t] += index[i] * walk->stride[t][i];
    }
    for (;;) {
        int64_t room = walk->shape[last] - index[last];
        run.n = room < count ? room : count;
        task(arg, &run);
        count -= run.n;
        if (count == 0) return;
        run.first += run.n;
        /* Back to the start of this row, then one step along the dimension before it, with carry. */
        for (int32_t t = 0; t < walk->tensors; t++) run.offset[t] -= index[last] * walk->stride[t][last];
        index[last] = 0;
        for (int32_t i = last - 1; i >= 0; i--) {
            bool carry = ++index[i] == walk->shape[i];
            for (int32_t t = 0; t < walk->tensors; t++)
                run.offset[t] += walk->stride[t][i] * (carry ? 1 - walk->shape[i] : 1);
            if (!carry) break;
            index[i] = 0;
        }
    }
}

typedef struct walk_job {
    const di_walk *walk;
    di_run_task task;
    void *arg;
} walk_job;

static void walk_block(void *arg, int64_t index) {
    const walk_job *job = arg;
    int64_t first = index * DI_WALK_BLOCK, rest = job->walk->numel - first;
    di_walk_part(job->walk, first, rest < DI_WALK_BLOCK ? rest : DI_WALK_BLOCK, job->task, job->arg);
}

void di_walk_all(distac_context *context, const di_walk *walk, di_run_task task, void *arg) {
    int64_t blocks = (walk->numel + DI_WALK_BLOCK - 1) / DI_WALK_BLOCK;
    walk_job job = {walk, task, arg};
    if (blocks == 1)
        di_walk_part(walk, 0, walk->numel, task, arg);
    else
        di_parallel(context, blocks, walk_block, &job);
}
