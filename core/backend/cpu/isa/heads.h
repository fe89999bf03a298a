/* heads.h: the attention of one head, forward, and its softmax. Included once per element type, hence no guard,
 * after functions.h, small.h and turn.h. */

#ifndef DI_ATTENTION_SIZES
#define DI_ATTENTION_SIZES
enum { STACK_BYTES = 65536, WHOLE = 64, ROW_BLOCK = 32 }; /* up to WHOLE tokens are one block */
#endif

typedef struct {
    distac_context *context;
    int64_t N, W, heads, size; /* size: columns of a head */
    int64_t ld, to;            /* elements from row to row of qkv and of out */
    int64_t group, groups;     /* heads of a tile, tiles of an image */
    int64_t rows, wide, deep;  /* rows of a block; N and size rounded up to whole registers */
    T scale;
    bool causal;    /* a token sees itself and those before it */
    size_t scratch; /* bytes */
    const T *qkv, *dout;
    const T *saved;
    T *probs, *out, *dqkv;
} NAME(attention_job);

/* to [n,width] = from [n,m] padded with zeros */
LOCAL void NAME(pad)(int64_t n, int64_t m, const T *from, int64_t ld, int64_t width, T *to) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * width, from + i * ld, (size_t)m * sizeof(T));
        for (int64_t q = m; q < width; q++) to[i * width + q] = 0;
    }
}
LOCAL void NAME(unpad)(int64_t n, int64_t m, const T *from, int64_t width, T *to, int64_t ld) {
    for (int64_t i = 0; i < n; i++) memcpy(to + i * ld, from + i * width, (size_t)m * sizeof(T));
}

/* Softmax of s [wide]; mask [wide] is 0, and -inf where s is only padding, which becomes 0. */
LOCAL void NAME(softmax_row)(int64_t wide, const T *mask, T *s) {
    V top = LOAD(s) + LOAD(mask), sum = SPLAT(0);
    for (int64_t i = 0; i < wide; i += VL) {
        V v = LOAD(s + i) + LOAD(mask + i);
        STORE(s + i, v);
        top = NAME(larger)(v, top);
    }
    T most = NAME(fold_max)(top);
    for (int64_t i = 0; i < wide; i += VL) {
        SIMD_FUNCTIONS for (int64_t l = 0; l < VL; l++) s[i + l] = NAME(exp)(s[i + l] - most);
        sum += LOAD(s + i);
    }
    T inverse = (T)1 / NAME(fold_one)(sum);
    for (int64_t i = 0; i < wide; i += VL) STORE(s + i, LOAD(s + i) * inverse);
}

LOCAL void NAME(head_forward)(const NAME(attention_job) *j, int64_t b, int64_t h, T *scratch) {
    int64_t N = j->N, W = j->W, size = j->size, wide = j->wide, deep = j->deep, ld = j->ld;
    const T *q = j->qkv + b * N * ld + h * size, *k = q + W, *v = k + W;
    T *out = j->out + b * N * j->to + h * size, *probs = j->probs ? j->probs + (b * j->heads + h) * N * N : NULL;
    T *turned = scratch, *scores = turned + size * wide, *values = scores + j->rows * wide;
    T *padded = values + N * deep,
      *masks = padded + j->rows * deep; /* N times 0, then -inf: a row's mask begins where
                                         * as many zeros are left as it sees tokens */
    bool direct = deep == size;
    int64_t vld = ld;
    for (int64_t i = 0; i < N + wide; i++) masks[i] = i < N ? 0 : (T)-INFINITY;
    NAME(turn)(N, size, k, ld, wide, turned);
    if (!direct || N > WHOLE) { /* rows of the big matrix lie on a page each: copy if they are used often */
        NAME(pad)(N, size, v, ld, deep, values);
        v = values;
        vld = deep;
    }
    for (int64_t r = 0; r < N; r += j->rows) {
        int64_t rows = di_cpu_min(j->rows, N - r);
        NAME(small)(rows, wide, size, q + r * ld, ld, 1, turned, wide, j->scale, false, scores, wide);
        for (int64_t i = 0; i < rows; i++)
            NAME(softmax_row)(wide, j->causal ? masks + N - 1 - r - i : masks, scores + i * wide);
        if (probs) NAME(unpad)(rows, N, scores, wide, probs + r * N, N);
        if (direct) {
            NAME(small)(rows, size, N, scores, wide, 1, v, vld, 1, false, out + r * j->to, j->to);
        } else {
            NAME(small)(rows, deep, N, scores, wide, 1, v, vld, 1, false, padded, deep);
            NAME(unpad)(rows, size, padded, deep, out + r * j->to, j->to);
        }
    }
}

/* What follows from N, W and heads. */
LOCAL void NAME(attention_sizes)(NAME(attention_job) *j) {
    int64_t N = j->N;
    j->size = j->W / j->heads;
    j->scale = (T)(1 / sqrt((double)j->size));
    j->rows = N <= WHOLE ? N : ROW_BLOCK;
    j->wide = di_cpu_ceil(N, VL) * VL;
    j->deep = di_cpu_ceil(j->size, VL) * VL;
    int64_t elements = (j->size + j->rows) * j->wide;
    elements +=
        j->dqkv ? (j->deep == j->size && N <= WHOLE ? 0 : 6 * N * j->deep) : (N + j->rows) * j->deep + N + j->wide;
    j->scratch = ((size_t)elements * sizeof(T) + 63) / 64 * 64;
}
