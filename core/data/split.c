/* split.c: the validation split of the eight tasks. The published models' split is what PyTorch's CPU generator
 * makes of seed 0, so its generator (MT19937, Matsumoto and Nishimura 1998) and its way to permute are repeated
 * here to the bit. */
#include "sets.h"

enum { WORDS = 624, SHIFT = 397 };

typedef struct twister {
    uint32_t word[WORDS];
    int at;
} twister;

static void seed_with(twister *t, uint32_t seed) {
    t->word[0] = seed;
    for (uint32_t i = 1; i < WORDS; i++) t->word[i] = 1812433253u * (t->word[i - 1] ^ t->word[i - 1] >> 30) + i;
    t->at = WORDS;
}

static void renew(twister *t) {
    for (int i = 0; i < WORDS; i++) {
        uint32_t y = (t->word[i] & 0x80000000u) | (t->word[(i + 1) % WORDS] & 0x7fffffffu);
        t->word[i] = t->word[(i + SHIFT) % WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    t->at = 0;
}

static uint32_t next(twister *t) {
    if (t->at == WORDS) renew(t);
    uint32_t y = t->word[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void di_randperm(uint32_t seed, int64_t n, int64_t *out) {
    twister t;
    seed_with(&t, seed);
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = 0; i < n - 1; i++) {
        int64_t j = i + (int64_t)(next(&t) % (uint64_t)(n - i)), kept = out[i];
        out[i] = out[j];
        out[j] = kept;
    }
}

int64_t di_validation_count(int64_t n) {
    int64_t tenth = (int64_t)(0.1 * (double)n); /* the product in double is part of the definition */
    return tenth < 5000 ? tenth : 5000;
}

distac_status distac_randperm(distac_context *context, int64_t n, uint64_t seed, distac_tensor **out) {
    DI_REQUIRE(context && out, "context and out are needed");
    if (n < 0 || n > UINT32_MAX)
        return di_fail(DISTAC_EINVAL, "a permutation of %lld, wanted 0 to %lu", (long long)n,
                       (unsigned long)UINT32_MAX);
    if (seed > UINT32_MAX)
        return di_fail(DISTAC_EINVAL, "seed %llu, wanted 0 to %lu", (unsigned long long)seed,
                       (unsigned long)UINT32_MAX);
    DI_TRY(di_tensor_new(context, DISTAC_I64, 1, &n, false, out));
    di_randperm((uint32_t)seed, n, (*out)->data);
    return DISTAC_OK;
}
