/* op_consensus_ta.c: the multi-task direction where at least k TALL masks agree that it matters. The mask of
 * task t is |tau_t| > tall * |direction - tau_t|. */
#include "direct.h"
#include "ties.h"
#include <math.h>

enum { TALL, K, MULTITASK, KEEP };

/* tall: the middle of the 0.2 … 0.6 that Wang et al. 2024 search per task; k: their section 4.3. */
static const di_merge_param params[] = {
    DI_NUMBERS("tall", "mask threshold: a task keeps an element if |tau| > tall * |sum - tau|", 0.4, 0, 1000),
    DI_WHOLE("k", "masks that must agree; 0: plain task arithmetic", 2, 0, 1000000),
    DI_CHOICE("multitask", "what is masked: the sum of the task vectors, or TIES with disjoint sum", 0, 2,
              "sum ties"),
    DI_NUMBER("keep", "share of the elements that multitask = ties keeps per model", 0.2, 0, 1),
    DI_CHOICE("dialect", "whose implementation; they agree", 0, 2, "paper authors"),
};

static distac_status prepare(di_merge_run *run) {
    return di_multitask_open(run, (int)di_run_param(run, MULTITASK, 0), di_run_param(run, KEEP, 0));
}

DI_CLONES static void chunk(const di_merge_run *run, const di_at *at, int64_t n, const double *const *tau,
                            double *out) {
    double sum[DI_STEP], votes[DI_STEP] = {0}, k = di_run_param(run, K, 0);
    di_multitask_chunk(run, at, n, tau, sum);
    for (int32_t t = 0; t < run->models; t++) {
        double tall = di_run_param(run, TALL, t);
        for (int64_t i = 0; i < n; i++) votes[i] += fabs(tau[t][i]) > tall * fabs(sum[i] - tau[t][i]) ? 1.0 : 0.0;
    }
    for (int64_t i = 0; i < n; i++) out[i] = votes[i] >= k ? sum[i] : 0.0;
}

#ifdef DI_HAVE_WIDE
typedef struct looks {
    double tall[DI_FLOATS], lambda;
    int64_t k;
} looks;

/* The models are converted twice: keeping what was converted costs more. */
DI_WIDE_INLINE void masked_block(const di_floats *f, int32_t models, const looks *l, int64_t i, bool has_base,
                                 float *out, bool stream, di_block_seen *seen) {
    __m512d less[DI_BLOCK], sum[DI_BLOCK];
    __m512i votes[DI_BLOCK];
    if (has_base) di_block_fetch(f->base + i);
    for (int v = 0; v < DI_BLOCK; v++) {
        sum[v] = _mm512_setzero_pd();
        votes[v] = _mm512_setzero_si512();
        less[v] = has_base ? di_block_load(f->base + i + v * DI_WIDE) : sum[v];
    }
    for (int32_t t = 0; t < models; t++) {
        const float *x = f->x[t] + i;
        di_block_fetch(x);
        for (int v = 0; v < DI_BLOCK; v++) {
            __m512d tau = di_block_load(x + v * DI_WIDE);
            sum[v] = _mm512_add_pd(sum[v], has_base ? _mm512_sub_pd(tau, less[v]) : tau);
        }
    }
    for (int32_t t = 0; t < models; t++) {
        const float *x = f->x[t] + i;
        for (int v = 0; v < DI_BLOCK; v++) {
            __m512d tau = di_block_load(x + v * DI_WIDE);
            if (has_base) tau = _mm512_sub_pd(tau, less[v]);
            __m512d rest = _mm512_mul_pd(_mm512_set1_pd(l->tall[t]), _mm512_abs_pd(_mm512_sub_pd(sum[v], tau)));
            __mmask8 voted = _mm512_cmp_pd_mask(_mm512_abs_pd(tau), rest, _CMP_GT_OQ);
            votes[v] = _mm512_mask_add_epi64(votes[v], voted, votes[v], _mm512_set1_epi64(1));
        }
    }
    for (int v = 0; v < DI_BLOCK; v++) {
        di_block_look(sum[v], seen);
        sum[v] = _mm512_maskz_mov_pd(_mm512_cmpge_epi64_mask(votes[v], _mm512_set1_epi64(l->k)), sum[v]);
    }
    di_block_put(sum, has_base ? less : NULL, l->lambda, out + i, stream, seen);
}

DI_WIDE_TARGET static bool masked_sum(const di_floats *f, int32_t models, const looks *l, int64_t n, float *out,
                                      bool stream) {
    di_block_seen seen = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (f->base)
        for (int64_t i = 0; i < n; i += DI_BLOCK_COUNT) masked_block(f, models, l, i, true, out, stream, &seen);
    else
        for (int64_t i = 0; i < n; i += DI_BLOCK_COUNT) masked_block(f, models, l, i, false, out, stream, &seen);
    return di_block_done(&seen);
}
#endif

static bool straight(const di_merge_run *run, int64_t n, const di_floats *f, double lambda, float *out,
                     bool stream) {
#ifdef DI_HAVE_WIDE
    looks l = {.k = (int64_t)di_run_param(run, K, 0), .lambda = lambda};
    if (run->state) return false;
    for (int32_t t = 0; t < run->models; t++) l.tall[t] = di_run_param(run, TALL, t);
    return masked_sum(f, run->models, &l, n, out, stream);
#else
    (void)run, (void)n, (void)f, (void)lambda, (void)out, (void)stream;
    return false;
#endif
}

static void rule(const di_merge_run *run, int64_t entry, di_merge_rule *out, di_merge_model *each) {
    (void)entry;
    di_multitask_rule(run, out, each);
    out->masked = true;
    out->votes = di_run_param(run, K, 0);
    for (int32_t t = 0; t < run->models; t++) each[t].tall = di_run_param(run, TALL, t);
}

const di_method di_merge_consensus_ta = {
    .name = "consensus_ta",
    .text = "sum where at least k TALL masks agree (Wang et al. 2024, Consensus TA)",
    .params = params,
    .param_count = sizeof params / sizeof params[0],
    .prepare = prepare,
    .chunk = chunk,
    .straight = straight,
    .rule = rule,
};
