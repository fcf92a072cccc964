/* What AQN does to a weight, row by row: keys of the draws, noise, a measurement of what it changed, and the way back. The
   noise has the bits of the eager code, which draws in float32, adds in float32 and rounds once. Must be compiled
   without contraction of products and sums (-ffp-contract=off). */

#include "keyed.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef struct {
    const int32_t *row_low, *row_high, *column_low, *column_high;
    int64_t *clean, *written; /* hashes of the rows of the clean and of the noisy weight, null for none */
    double *sums;             /* added to: sum and square of the clean values; changed, sum and square of the change */
    int64_t columns, bytes;   /* of a row */
    float asked;
} call_t;

#define PLACE 0x9E3779B1u

/* The wrapping sum over the 64-bit words w of a row of (low half ^ p) * high half + w, where p is PLACE * (i + 1) modulo
   2**32 for word i. */
static int64_t row_hash(const void *row, int64_t bytes)
{
    const int64_t n = bytes / 8;
    uint64_t total = 0;
    int64_t i = 0;
#ifdef __AVX2__
    const __m256i step = _mm256_set1_epi32((int32_t)(8 * PLACE)), half = _mm256_set1_epi32((int32_t)(4 * PLACE));
    __m256i p = _mm256_set_epi64x((uint32_t)(4 * PLACE), (uint32_t)(3 * PLACE), (uint32_t)(2 * PLACE), PLACE);
    __m256i q = _mm256_add_epi32(p, half), sum = _mm256_setzero_si256(), other = sum;
    for (; i + 8 <= n; i += 8) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)((const char *)row + 8 * i));
        const __m256i y = _mm256_loadu_si256((const __m256i *)((const char *)row + 8 * i + 32));
        const __m256i product = _mm256_mul_epu32(_mm256_xor_si256(x, p), _mm256_srli_epi64(x, 32));
        const __m256i second = _mm256_mul_epu32(_mm256_xor_si256(y, q), _mm256_srli_epi64(y, 32));
        sum = _mm256_add_epi64(sum, _mm256_add_epi64(x, product));
        other = _mm256_add_epi64(other, _mm256_add_epi64(y, second));
        p = _mm256_add_epi32(p, step);
        q = _mm256_add_epi32(q, step);
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, _mm256_add_epi64(sum, other));
    total = lanes[0] + lanes[1] + lanes[2] + lanes[3];
#endif
    for (; i < n; i++) {
        uint64_t word;
        memcpy(&word, (const char *)row + 8 * i, 8);
        total += word + (uint64_t)((uint32_t)word ^ PLACE * (uint32_t)(i + 1)) * (word >> 32);
    }
    return (int64_t)total;
}

/* The hashes of the rows of in, to out. */
void hash_rows(const call_t *call, const void *in, void *out, int64_t first, int64_t last)
{
    for (int64_t row = first; row < last; row++)
        ((int64_t *)out)[row] = row_hash((const char *)in + row * call->bytes, call->bytes);
}

/* Copies the rows of in to out, but for those that have the hash in clean already, which their counterparts in out then
   have too; with sums, all of them. clean holds the hashes afterwards. */
void take_rows(const call_t *call, const void *in, void *out, int64_t first, int64_t last)
{
    for (int64_t row = first; row < last; row++) {
        const char *here = (const char *)in + row * call->bytes;
        const int64_t found = row_hash(here, call->bytes);
        if (call->sums || found != call->clean[row])
            memcpy((char *)out + row * call->bytes, here, (size_t)call->bytes);
        call->clean[row] = found;
    }
}

/* Copies the rows of in whose counterparts in out still have the hash that was written, and counts the others in sums;
   clean then holds the hashes of what stands in out. */
void restore_rows(const call_t *call, const void *in, void *out, int64_t first, int64_t last)
{
    for (int64_t row = first; row < last; row++) {
        char *there = (char *)out + row * call->bytes;
        int64_t found = row_hash(there, call->bytes);
        if (found == call->written[row]) {
            memcpy(there, (const char *)in + row * call->bytes, (size_t)call->bytes);
            found = row_hash(there, call->bytes);
        } else
            call->sums[0] += 1;
        call->clean[row] = found;
    }
}

#ifdef __AVX2__
static inline __m256 normals_of_8(__m256i row_low, __m256i row_high, const int32_t *column_low, const int32_t *column_high)
{
    __m256i x = _mm256_xor_si256(row_low, _mm256_loadu_si256((const __m256i *)column_low));
    const __m256i other = _mm256_xor_si256(row_high, _mm256_loadu_si256((const __m256i *)column_high));
    x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 16)), _mm256_set1_epi32((int32_t)0x7FEB352Du));
    x = _mm256_add_epi32(x, other);
    x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 15)), _mm256_set1_epi32((int32_t)0x846CA68Bu));
    x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
    x = _mm256_madd_epi16(_mm256_maddubs_epi16(x, _mm256_set1_epi8(1)), _mm256_set1_epi16(1)); /* sums of four bytes */
    const __m256 total = _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_set1_epi32(MEAN_SUM)));
    const __m256 cubic = _mm256_add_ps(_mm256_mul_ps(total, total), _mm256_set1_ps(CUBIC));
    return _mm256_mul_ps(_mm256_mul_ps(total, cubic), _mm256_set1_ps(UNIT));
}

static inline __m256 load_f32(const float *x) { return _mm256_loadu_ps(x); }
static inline void store_f32(float *y, __m256 x) { _mm256_storeu_ps(y, x); }

static inline __m256 load_bf16(const uint16_t *x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)), 16));
}
static inline void store_bf16(uint16_t *y, __m256 x)
{
    const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i half = _mm256_srli_epi32(up, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 0x08);
    _mm_storeu_si128((__m128i *)y, _mm256_castsi256_si128(packed));
}

#ifdef __F16C__
static inline __m256 load_f16(const uint16_t *x) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)); }
static inline void store_f16(uint16_t *y, __m256 x) { _mm_storeu_si128((__m128i *)y, _mm256_cvtps_ph(x, 0)); }
#define EIGHT_f16 1
#else
#define load_f16 load_bf16
#define store_f16 store_bf16
#define EIGHT_f16 0
#endif
#define EIGHT_f32 1
#define EIGHT_bf16 1

#define BY_EIGHT(DTYPE)                                                                                               \
    if (EIGHT_##DTYPE) {                                                                                              \
        const __m256i lows = _mm256_set1_epi32((int32_t)low), highs = _mm256_set1_epi32((int32_t)high);               \
        const __m256 times = _mm256_set1_ps(asked);                                                                   \
        for (; i + 8 <= n; i += 8) {                                                                                  \
            const __m256 step = _mm256_mul_ps(normals_of_8(lows, highs, column_low + i, column_high + i), times);     \
            store_##DTYPE(y + i, _mm256_add_ps(load_##DTYPE(x + i), step));                                           \
        }                                                                                                             \
    }
#else
#define BY_EIGHT(DTYPE)
#endif

/* Writes x + asked * draw; what is not finite does not become finite by it. */
#define NOISE(DTYPE, TYPE)                                                                                            \
    void noise_##DTYPE(const call_t *call, const void *in, void *out, int64_t first, int64_t last)                    \
    {                                                                                                                 \
        const int64_t n = call->columns;                                                                              \
        const int32_t *column_low = call->column_low, *column_high = call->column_high;                               \
        const float asked = call->asked;                                                                              \
        for (int64_t row = first; row < last; row++) {                                                                \
            const TYPE *x = (const TYPE *)in + row * n;                                                               \
            TYPE *y = (TYPE *)out + row * n;                                                                          \
            const uint32_t low = (uint32_t)call->row_low[row], high = (uint32_t)call->row_high[row];                  \
            int64_t i = 0;                                                                                            \
            BY_EIGHT(DTYPE)                                                                                           \
            for (; i < n; i++) {                                                                                      \
                const float step = normal(low, high, (uint32_t)column_low[i], (uint32_t)column_high[i]) * asked;      \
                const float moved = widen_##DTYPE(x[i]) + step;                                                       \
                y[i] = narrow_##DTYPE(moved);                                                                         \
            }                                                                                                         \
        }                                                                                                             \
    }

/* Measures the clean weight in and the noisy one out. Blocks are summed in float. */
#define BLOCK 256
#define MEASURE(NAME, TYPE, WIDEN)                                                                                    \
    void NAME(const call_t *call, const void *in, void *out, int64_t first, int64_t last)                             \
    {                                                                                                                 \
        const int64_t n = call->columns;                                                                              \
        double *sums = call->sums;                                                                                    \
        for (int64_t row = first; row < last; row++) {                                                                \
            const TYPE *x = (const TYPE *)in + row * n, *y = (const TYPE *)out + row * n;                             \
            for (int64_t start = 0; start < n; start += BLOCK) {                                                      \
                const int64_t end = start + BLOCK < n ? start + BLOCK : n;                                            \
                float sum = 0, square = 0, total = 0, energy = 0;                                                     \
                int32_t changed = 0;                                                                                  \
                _Pragma("omp simd reduction(+ : sum, square, total, energy, changed)") for (int64_t i = start;        \
                                                                                            i < end; i++)             \
                {                                                                                                     \
                    const float before = WIDEN(x[i]), moved = WIDEN(y[i]) - before;                                   \
                    sum += before;                                                                                    \
                    square = __builtin_fmaf(before, before, square);                                                  \
                    changed += moved != 0.0f;                                                                         \
                    total += moved;                                                                                   \
                    energy = __builtin_fmaf(moved, moved, energy);                                                    \
                }                                                                                                     \
                sums[0] += sum;                                                                                       \
                sums[1] += square;                                                                                    \
                sums[2] += changed;                                                                                   \
                sums[3] += total;                                                                                     \
                sums[4] += energy;                                                                                    \
            }                                                                                                         \
            if (call->written)                                                                                        \
                call->written[row] = row_hash(y, call->bytes);                                                        \
        }                                                                                                             \
    }

NOISE(f32, float)
NOISE(bf16, uint16_t)
NOISE(f16, uint16_t)
MEASURE(measure_f32, float, widen_f32)
MEASURE(measure_bf16, uint16_t, widen_bf16)
MEASURE(measure_f16, uint16_t, widen_f16)

static inline uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The halves of counter_keys(in[0], counters first to last): low ones to out, high ones behind them. */
void counter_halves(const call_t *call, const void *in, void *out, int64_t first, int64_t last)
{
    const uint64_t key = *(const uint64_t *)in;
    int32_t *low = out, *high = low + (last - first);
    (void)call;
    for (int64_t at = first; at < last; at++) {
        const uint64_t found = mixed(key + ((uint64_t)at + 1) * 0x9E3779B97F4A7C15u);
        low[at - first] = (int32_t)(uint32_t)found;
        high[at - first] = (int32_t)(uint32_t)(found >> 32);
    }
}
