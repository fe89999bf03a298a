/* unpacked.h: products AT B of float matrices [K,M] and [K,N] where they lie. Gradients of weights are such:
 * packing costs more than it saves. If there are few tiles, K is cut into chunks, whose sums are kept in `parts`
 * and added up in their order afterwards; the cuts are functions of the shape alone. Part of packed.h, hence no
 * guard. */

static distac_status NAME(unpacked_tile)(void *arg, int64_t index) {
    const NAME(packed_job) *j = arg;
    int64_t chunk = index % j->chunks, at = index / j->chunks, down = at / j->across;
    int64_t first = NAME(piece)(j->pieces, di_cpu_ceil(j->pieces, j->rows), down);
    int64_t last = NAME(piece)(j->pieces, di_cpu_ceil(j->pieces, j->rows), down + 1);
    int64_t column = at % j->across * j->columns, end = di_cpu_min(j->N, column + j->columns);
    int64_t k = chunk * j->chunk, left = di_cpu_min(j->chunk, j->K - k), blocks = di_cpu_ceil(left, BARE);
    int64_t high = j->parts ? j->pieces : last - first;
    size_t bytes = (size_t)(high * (j->columns / NR) * MR * NR) * sizeof(T);
    T *own = j->parts ? NULL : di_alloc(j->context, bytes);
    if (!j->parts && !own) return DISTAC_ENOMEM;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = k + NAME(piece)(left, blocks, b), to = k + NAME(piece)(left, blocks, b + 1);
        for (int64_t c = column; c < end; c += NR) {
            const T *B = j->B + from * j->ldb + c;
            T *out = own ? own + (c - column) / NR * high * MR * NR
                         : j->parts + ((chunk * (j->N / NR) + c / NR) * high + first) * MR * NR;
            for (int64_t q = first; q < last; q++, out += MR * NR) {
                int64_t row = NAME(piece)(j->M, j->pieces, q), rows = NAME(piece)(j->M, j->pieces, q + 1) - row;
                if (own && b == blocks - 1) NAME(fetch)(j, row, rows, c);
                NAME(micro_unpacked)((int)rows, to - from, j->A + from * j->lda + row, j->lda, B, j->ldb,
                                     B + (c + NR < end ? NR + (q & 1) * VL : 0), b > 0, out);
                if (own && b == blocks - 1) j->finish(j->arg, row, rows, c, NR, out);
            }
        }
    }
    di_free(j->context, own, bytes);
    return DISTAC_OK;
}
static distac_status NAME(unpacked_end)(void *arg, int64_t index) {
    const NAME(packed_job) *j = arg;
    int64_t panels = j->N / NR, whole = panels * j->pieces * MR * NR;
    int64_t row = NAME(piece)(j->M, j->pieces, index), rows = NAME(piece)(j->M, j->pieces, index + 1) - row;
    for (int64_t p = 0; p < panels; p++) {
        T *sums = j->parts + (p * j->pieces + index) * MR * NR;
        for (int64_t chunk = 1; chunk < j->chunks; chunk++) {
            const T *more = sums + chunk * whole;
            for (int64_t i = 0; i < rows * NR; i += VL) STORE(sums + i, LOAD(sums + i) + LOAD(more + i));
        }
        j->finish(j->arg, row, rows, p * NR, NR, sums);
    }
    return DISTAC_OK;
}
static distac_status NAME(unpacked)(distac_context *c, const char *kernel, NAME(packed_job) *j) {
    j->pieces = di_cpu_ceil(j->M, MR);
    j->rows = BARE_ROWS;
    int64_t panels = j->N / NR, down = di_cpu_ceil(j->pieces, j->rows);
    j->columns = BARE_COLUMNS / NR * NR;
    j->across = di_cpu_ceil(j->N, j->columns);
    j->chunks = di_cpu_min(di_cpu_ceil(16, down * j->across), di_cpu_ceil(j->K, 192)); /* about 16 tiles */
    j->chunk = di_cpu_ceil(j->K, j->chunks);
    j->chunks = di_cpu_ceil(j->K, j->chunk);
    if (j->chunks == 1) return di_cpu_run(c, kernel, down * j->across, NAME(unpacked_tile), j);
    size_t bytes = (size_t)(j->chunks * panels * j->pieces * MR * NR) * sizeof(T);
    j->parts = di_alloc(c, bytes);
    if (!j->parts) return DISTAC_ENOMEM;
    distac_status status = di_cpu_run(c, kernel, down * j->across * j->chunks, NAME(unpacked_tile), j);
    if (status == DISTAC_OK) status = di_cpu_run(c, kernel, j->pieces, NAME(unpacked_end), j);
    di_free(c, j->parts, bytes);
    return status;
}
