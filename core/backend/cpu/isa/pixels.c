/* pixels.c: resizing bytes by exact integer sums, and bytes to floats. */
#include "isa.h"

#include "../../pixels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

static uint8_t to_byte(int32_t sum) {
    int32_t value = sum >> DI_TAP_BITS; /* arithmetic: rounds towards minus infinity */
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

enum { HALF = 1 << (DI_TAP_BITS - 1) };

#if !defined(__AVX2__)

static void across(const di_taps *taps, int32_t channels, const uint8_t *row, uint8_t *dst, ptrdiff_t pixel,
                   ptrdiff_t plane) {
    for (int32_t x = 0; x < taps->outputs; x++, dst += pixel) {
        const int32_t *weight = taps->weight + (int64_t)x * taps->length;
        const uint8_t *from = row + (int64_t)taps->first[x] * channels;
        for (int32_t c = 0; c < channels; c++) {
            int32_t sum = HALF;
            for (int32_t k = 0; k < taps->count[x]; k++) sum += weight[k] * from[(int64_t)k * channels + c];
            dst[c * plane] = to_byte(sum);
        }
    }
}

#else

INLINE __m128i load16(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)p);
}

INLINE __m256i load_weights(const int32_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* A sum of grey pixels, eight at a time: weights behind the last are 0. */
INLINE int32_t sum_grey(const int32_t *weight, int32_t n, const uint8_t *from) {
    __m256i sums = _mm256_setzero_si256();
    for (int32_t k = 0; k < n; k += 8) {
        __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + k)));
        sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(bytes, load_weights(weight + k)));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

#if defined(__AVX512F__)

/* Sums of the three channels of RGB pixels, in lanes 0 to 2, five pixels at a time: lane i is sample i. */
INLINE __m128i sum_colour(const int32_t *weight, int32_t n, const uint8_t *from) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0);
    const __m512i upper = _mm512_setr_epi32(6, 7, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i third = _mm512_setr_epi32(12, 13, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512i sums = _mm512_setzero_si512();
    for (int32_t k = 0; k < n; k += 5) {
        __m512i w = _mm512_permutexvar_epi32(spread, _mm512_castsi256_si512(load_weights(weight + k)));
        sums = _mm512_add_epi32(sums, _mm512_mullo_epi32(_mm512_cvtepu8_epi32(load16(from + 3 * (int64_t)k)), w));
    }
    /* lanes: s0 s1 s2 s3 s4, three channels each */
    __m256i pairs = _mm256_add_epi32(_mm512_castsi512_si256(sums),
                                     _mm512_castsi512_si256(_mm512_permutexvar_epi32(upper, sums)));
    __m256i shifted = _mm256_permutevar8x32_epi32(pairs, _mm256_setr_epi32(3, 4, 5, 0, 0, 0, 0, 0));
    __m128i last = _mm512_castsi512_si128(_mm512_permutexvar_epi32(third, sums));
    return _mm_add_epi32(_mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_castsi256_si128(shifted)), last);
}

#else

/* The same, four pixels at a time: two vectors of two pixels with an unused fourth channel. */
INLINE __m128i sum_colour(const int32_t *weight, int32_t n, const uint8_t *from) {
    const __m128i widen = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const __m256i low = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1),
                  high = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    __m256i sums = _mm256_setzero_si256();
    for (int32_t k = 0; k < n; k += 4) {
        __m128i pixels = _mm_shuffle_epi8(load16(from + 3 * (int64_t)k), widen);
        __m256i four = _mm256_castsi128_si256(load16((const uint8_t *)(weight + k)));
        __m256i a = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(pixels), _mm256_permutevar8x32_epi32(four, low));
        __m256i b = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(pixels, 8)),
                                       _mm256_permutevar8x32_epi32(four, high));
        sums = _mm256_add_epi32(sums, _mm256_add_epi32(a, b));
    }
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

#endif

static void across(const di_taps *taps, int32_t channels, const uint8_t *row, uint8_t *dst, ptrdiff_t pixel,
                   ptrdiff_t plane) {
    for (int32_t x = 0; x < taps->outputs; x++, dst += pixel) {
        const int32_t *weight = taps->weight + (int64_t)x * taps->length;
        const uint8_t *from = row + (int64_t)taps->first[x] * channels;
        if (channels == 1) {
            dst[0] = to_byte(HALF + sum_grey(weight, taps->count[x], from));
            continue;
        }
        __m128i sums = _mm_add_epi32(sum_colour(weight, taps->count[x], from), _mm_set1_epi32(HALF));
        sums = _mm_srai_epi32(sums, DI_TAP_BITS);
        sums = _mm_packus_epi16(_mm_packs_epi32(sums, sums), sums);
        uint32_t bytes = (uint32_t)_mm_cvtsi128_si32(sums);
        dst[0] = (uint8_t)bytes;
        dst[plane] = (uint8_t)(bytes >> 8);
        dst[2 * plane] = (uint8_t)(bytes >> 16);
    }
}

#endif

#if defined(__AVX512F__)

/* Four vectors of 16 sums. */
INLINE void down64(const int32_t *weight, int32_t n, const uint8_t *src, ptrdiff_t stride, uint8_t *dst) {
    __m512i sums[4];
    UNROLL(4)
    for (int i = 0; i < 4; i++) sums[i] = _mm512_set1_epi32(HALF);
    for (int32_t k = 0; k < n; k++, src += stride) {
        __m512i w = _mm512_set1_epi32(weight[k]);
        UNROLL(4)
        for (int i = 0; i < 4; i++)
            sums[i] = _mm512_add_epi32(sums[i], _mm512_mullo_epi32(_mm512_cvtepu8_epi32(load16(src + 16 * i)), w));
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        __m512i bytes = _mm512_max_epi32(_mm512_srai_epi32(sums[i], DI_TAP_BITS), _mm512_setzero_si512());
        _mm_storeu_si128((__m128i *)(dst + 16 * i), _mm512_cvtusepi32_epi8(bytes));
    }
}

#elif defined(__AVX2__)

INLINE void down64(const int32_t *weight, int32_t n, const uint8_t *src, ptrdiff_t stride, uint8_t *dst) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i sums[8];
    UNROLL(8)
    for (int i = 0; i < 8; i++) sums[i] = _mm256_set1_epi32(HALF);
    for (int32_t k = 0; k < n; k++, src += stride) {
        __m256i w = _mm256_set1_epi32(weight[k]);
        UNROLL(8)
        for (int i = 0; i < 8; i++) {
            __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(src + 8 * i)));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_mullo_epi32(bytes, w));
        }
    }
    UNROLL(2)
    for (int i = 0; i < 8; i += 4) {
        __m256i a = _mm256_packs_epi32(_mm256_srai_epi32(sums[i], DI_TAP_BITS),
                                       _mm256_srai_epi32(sums[i + 1], DI_TAP_BITS));
        __m256i b = _mm256_packs_epi32(_mm256_srai_epi32(sums[i + 2], DI_TAP_BITS),
                                       _mm256_srai_epi32(sums[i + 3], DI_TAP_BITS));
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
        _mm256_storeu_si256((__m256i *)(dst + 8 * i), bytes);
    }
}

#endif

static void down(const int32_t *weight, int32_t n, const uint8_t *src, ptrdiff_t stride, int64_t bytes,
                 uint8_t *dst) {
    int64_t done = 0;
#if defined(__AVX2__)
    for (; done + 64 <= bytes; done += 64) down64(weight, n, src + done, stride, dst + done);
#endif
    while (done < bytes) {
        enum { STRETCH = 64 };
        int32_t sums[STRETCH];
        int64_t count = bytes - done < STRETCH ? bytes - done : STRETCH;
        for (int64_t i = 0; i < count; i++) sums[i] = HALF;
        for (int32_t k = 0; k < n; k++) {
            const uint8_t *from = src + k * stride + done;
            for (int64_t i = 0; i < count; i++) sums[i] += weight[k] * from[i];
        }
        for (int64_t i = 0; i < count; i++) dst[done + i] = to_byte(sums[i]);
        done += count;
    }
}

static void floats(const uint8_t *src, int64_t count, float mean, float std, float *dst) {
    SIMD for (int64_t i = 0; i < count; i++) dst[i] = ((float)src[i] / 255.0f - mean) / std;
}

#define TABLE_(isa) di_pixels_##isa
#define TABLE(isa)  TABLE_(isa)
const di_pixels TABLE(DI_ISA) = {.across = across, .down = down, .floats = floats};
