/* rng.c: random numbers that are a pure function of (seed, stream, index): Philox 4x32 with 10 rounds (Salmon et
 * al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011). The seed is the key; counter and stream are the block.
 *
 * Uniform, normal and bounded numbers use separate blocks (the top two bits of the counter), so that draws of
 * different kinds at neighbouring indices are independent. */
#include "base.h"

#include <math.h>
#include <stdlib.h>

void di_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    uint32_t a = (uint32_t)counter, b = (uint32_t)(counter >> 32);
    uint32_t c = (uint32_t)stream, d = (uint32_t)(stream >> 32);
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t first = (uint64_t)0xD2511F53u * a, second = (uint64_t)0xCD9E8D57u * c;
        a = (uint32_t)(second >> 32) ^ b ^ key0;
        b = (uint32_t)second;
        c = (uint32_t)(first >> 32) ^ d ^ key1;
        d = (uint32_t)first;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

#define KIND_NORMAL ((uint64_t)1 << 62)
#define KIND_BELOW ((uint64_t)2 << 62)

static uint64_t word(const uint32_t block[4], int half) {
    return (uint64_t)block[2 * half + 1] << 32 | block[2 * half];
}

double di_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t block[4];
    di_philox(seed, stream, index >> 1, block);
    return (double)(word(block, (int)(index & 1)) >> 11) * 0x1p-53;
}

double di_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t block[4];
    di_philox(seed, stream, KIND_NORMAL | index >> 1, block);
    /* Box and Muller: one block makes the pair of an even and an odd index. 1 - u is in (0,1]. */
    double radius = sqrt(-2.0 * log(1.0 - (double)(word(block, 0) >> 11) * 0x1p-53));
    double angle = 6.283185307179586476925 * ((double)(word(block, 1) >> 11) * 0x1p-53);
    return radius * (index & 1 ? sin(angle) : cos(angle));
}

uint64_t di_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound) {
    if (bound <= 1) return 0;
    /* The high half of word * bound is uniform once the low half is at least 2^64 mod bound (Lemire 2019). A
     * rejected index goes on with another key; at usual bounds that never happens. */
    uint64_t reject = -bound % bound;
    for (;;) {
        uint32_t block[4];
        di_philox(seed, stream, KIND_BELOW | index, block);
        for (int half = 0; half < 2; half++) {
            unsigned __int128 product = (unsigned __int128)word(block, half) * bound;
            if ((uint64_t)product >= reject) return (uint64_t)(product >> 64);
        }
        seed += 0x9E3779B97F4A7C15u;
    }
}

void di_permutation(uint64_t seed, uint64_t stream, int64_t n, int64_t *out) {
    for (int64_t i = 0; i < n; i++) {
        int64_t j = (int64_t)di_below(seed, stream, (uint64_t)i, (uint64_t)i + 1);
        out[i] = out[j];
        out[j] = i;
    }
}

/* ---- the generator object: an index that walks ---- */

struct distac_rng {
    uint64_t seed, stream, index;
};

distac_status distac_rng_create(uint64_t seed, uint64_t stream, distac_rng **out) {
    DI_REQUIRE(out, "out is NULL");
    *out = di_new(sizeof **out);
    if (!*out) return DISTAC_ENOMEM;
    **out = (distac_rng){seed, stream, 0};
    return DISTAC_OK;
}

void distac_rng_release(distac_rng *rng) { free(rng); }

double distac_rng_uniform(distac_rng *rng) { return rng ? di_uniform(rng->seed, rng->stream, rng->index++) : 0; }

double distac_rng_normal(distac_rng *rng) { return rng ? di_normal(rng->seed, rng->stream, rng->index++) : 0; }

int64_t distac_rng_below(distac_rng *rng, int64_t bound) {
    if (!rng) return 0;
    uint64_t index = rng->index++;
    return bound <= 1 ? 0 : (int64_t)di_below(rng->seed, rng->stream, index, (uint64_t)bound);
}
