/* merges.c: what checkpoints on the device are added up and merged with. */
#include "merges_launch.h"
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

static distac_status blend(distac_context *c, int64_t n, double alpha, int32_t a_dtype, const void *a, double beta,
                           int32_t b_dtype, const void *b, int32_t dtype, void *out, uint64_t *bad) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_blend(n, alpha, a_dtype, a, beta, b_dtype, b, dtype, out, bad,
                                                          cuda->stream));
}

static distac_status direction(distac_context *c, int64_t n, const di_merge_rule *rule, float *out, uint64_t *bad) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_direction(n, rule, out, bad, cuda->stream));
}

static distac_status lead(distac_context *c, int64_t n, const di_merge_rule *rule, uint64_t *sum) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_lead(n, rule, sum, cuda->stream));
}

static distac_status digits(distac_context *c, int64_t n, const di_merge_rule *rule, int32_t shift, int32_t bits,
                            const uint64_t *prefixes, uint64_t *counts) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_digits(n, rule, shift, bits, prefixes, counts, cuda->stream));
}

static distac_status cut(distac_context *c, int64_t n, const di_merge_rule *rule) {
    DI_CUDA_BEGIN(c, "merge");
    return di_cuda_check(c, "merge", di_cuda_launch_cut(n, rule, cuda->stream));
}

/* What dots sends: the vectors, the pieces, and of each run the first piece. */
typedef struct dot_lists {
    size_t pieces, begin, bytes; /* where they begin, behind the vectors */
    int64_t count;               /* of pieces */
} dot_lists;

static dot_lists plan_dots(int32_t models, int64_t n_runs, const di_merge_span *runs) {
    dot_lists p = {0};
    for (int64_t r = 0; r < n_runs; r++) p.count += (runs[r].count + DI_DOT_PIECE - 1) / DI_DOT_PIECE;
    p.pieces = (size_t)models * sizeof(void *);
    p.begin = p.pieces + (size_t)p.count * sizeof(di_merge_span);
    p.bytes = p.begin + (size_t)(n_runs + 1) * sizeof(int64_t);
    return p;
}

static void fill_dots(const dot_lists *p, int32_t models, const void *const *taus, int64_t n_runs,
                      const di_merge_span *runs, char *out) {
    di_merge_span *pieces = (di_merge_span *)(void *)(out + p->pieces);
    int64_t *begin = (int64_t *)(void *)(out + p->begin), k = 0;
    memcpy(out, taus, (size_t)models * sizeof *taus);
    for (int64_t r = 0; r < n_runs; r++) {
        begin[r] = k;
        for (int64_t at = 0; at < runs[r].count; at += DI_DOT_PIECE) {
            int64_t left = runs[r].count - at;
            pieces[k++] = (di_merge_span){runs[r].first + at, left < DI_DOT_PIECE ? left : DI_DOT_PIECE};
        }
    }
    begin[n_runs] = k;
}

static distac_status dots(distac_context *c, int32_t models, const void *const *taus, int64_t n_runs,
                          const di_merge_span *runs, int32_t dtype, const void *x, double *out) {
    DI_CUDA_BEGIN(c, "dots");
    dot_lists p = plan_dots(models, n_runs, runs);
    size_t parts = (size_t)models * (size_t)p.count * sizeof *out, sums = (size_t)models * (size_t)n_runs * sizeof *out;
    char *there, *here;
    DI_TRY(di_cuda_scratch(c, p.bytes + parts + sums, (void **)&there));
    here = di_new(p.bytes);
    if (!here) return DISTAC_ENOMEM;
    fill_dots(&p, models, taus, n_runs, runs, here);
    distac_status status = di_cuda_upload(c, there, here, p.bytes);
    free(here);
    DI_TRY(status);
    double *found = (double *)(void *)(there + p.bytes + parts);
    DI_CUDA_TRY(c, "dots",
                di_cuda_launch_dots(models, (const void *const *)(void *)there, p.count,
                                    (const di_merge_span *)(void *)(there + p.pieces), n_runs,
                                    (const int64_t *)(void *)(there + p.begin), dtype, x,
                                    (double *)(void *)(there + p.bytes), found, cuda->stream));
    return di_cuda_download(c, out, found, sums);
}

const di_merges di_cuda_merges = {
    .blend = blend,
    .direction = direction,
    .lead = lead,
    .digits = digits,
    .cut = cut,
    .dots = dots,
};
