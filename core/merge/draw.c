/* draw.c: the random numbers of the methods that drop elements. */
#include "merge.h"

static uint64_t hash_name(const char *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return hash;
}

void di_draw(uint64_t seed, const char *name, int32_t model, int64_t first, int64_t n, uint32_t *out) {
    uint64_t stream = hash_name(name) + (uint64_t)(model + 1) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t four[4];
    for (int64_t i = 0; i < n;) {
        int64_t k = (first + i) % 4;
        di_philox(seed, stream, (uint64_t)(first + i) / 4, four);
        for (; k < 4 && i < n; k++) out[i++] = four[k];
    }
}
