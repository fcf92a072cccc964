/* Fake quantization to formats whose blocks run along a row, in one pass over a block that is in cache: the same bits
   as blocks.quantize. Must be compiled without contraction of products and sums (-ffp-contract=off). */

#include "keyed.h"

#define INFINITE 0x7F800000u
#define INLINE static inline __attribute__((always_inline))

enum { UNSCALED, POWER_OF_TWO, REAL, TWO_LEVEL, OUTER };
enum { NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC };

typedef struct {
    const int32_t *row_low, *row_high, *column_low, *column_high; /* read by stochastic rounding only */
    const float *outer;                                           /* one for all, or with outer_rows one per row */
    int64_t columns, block;
    float largest, largest_scale, smallest_scale, smallest_real; /* of the element; of E4M3; 2**-149 */
    int32_t mantissa_bits, smallest_exponent, largest_exponent;
    int32_t kind, rounding, outer_rows;
    uint32_t up_above; /* the exponent goes up where the mantissa of the largest magnitude is greater than this */
    float clipped_above; /* in units of the scale */
    int64_t *histogram;  /* of the relative errors, by the upper bits of their float32 pattern */
    double *sums;        /* SUMS per row */
} call_t;

enum { ZEROS, DEAD, SPOILED, SIGNAL, ERROR, PRODUCT, ENERGY, RELATIVE, SUMS };
#define DROPPED_BITS 12
#define PIECE 256 /* elements measured together */

/* Blocks handled together: their maxima, then their scales, then their elements, each a loop of vector code. */
#define TOGETHER 64

typedef struct {
    uint32_t magnitude[TOGETHER]; /* of the largest element, its bits; at least INFINITE where a block is bad */
    float in[TOGETHER];           /* elements are multiplied (REAL, OUTER: divided) by in, rounded, ... */
    float out[TOGETHER];          /* ... and multiplied by out */
} scales_t;

static inline float power_of_two(int32_t exponent)
{
    return float_of(exponent > -127 ? (uint32_t)(exponent + 127) << 23 : 1u << 22);
}

/* nearest even: adding a number whose unit in the last place is the step rounds to the step */
INLINE float rounded(float y, float largest, uint32_t least, int32_t mantissa_bits, int rounding, uint32_t bits)
{
    const float magnitude = float_of(bits_of(y) & 0x7FFFFFFFu), a = magnitude < largest ? magnitude : largest;
    const uint32_t exponent = bits_of(a) & INFINITE, binade = exponent > least ? exponent : least;
    const float shift = float_of(binade + ((uint32_t)(23 - mantissa_bits) << 23));
    float r = (a + shift) - shift;
    if (rounding != NEAREST_EVEN) {
        const float step = float_of(binade - ((uint32_t)mantissa_bits << 23));
        r = r > a ? r - step : r;
        if (rounding == STOCHASTIC) {
            const float draw = (float)(int32_t)(bits >> 8) * 0x1p-24f;
            r = draw < (a - r) / step ? r + step : r;
        }
    }
    return float_of(bits_of(r) | (bits_of(y) & 0x80000000u));
}

INLINE void powers_of_two(const call_t *call, scales_t *scales, int64_t blocks)
{
    const int32_t top = call->largest_exponent;
    const uint32_t up_above = call->up_above;
    _Pragma("omp simd") for (int64_t b = 0; b < blocks; b++)
    {
        const uint32_t magnitude = scales->magnitude[b];
        /* a subnormal is its bits times 2**-149 */
        const int small = magnitude < 0x00800000u;
        const uint32_t normal = small ? bits_of((float)(int32_t)magnitude) : magnitude;
        int32_t exponent = (int32_t)(normal >> 23) - (small ? 127 + 149 : 127) - top;
        exponent += (normal & 0x007FFFFFu) > up_above;
        exponent = exponent < -127 ? -127 : exponent > 127 ? 127 : exponent;
        scales->in[b] = power_of_two(-exponent);
        scales->out[b] = power_of_two(exponent);
    }
}

INLINE void real_scales(const call_t *call, scales_t *scales, int64_t blocks)
{
    _Pragma("omp simd") for (int64_t b = 0; b < blocks; b++)
    {
        const float wanted = float_of(scales->magnitude[b]) / call->largest;
        scales->in[b] = scales->out[b] = wanted > call->smallest_real ? wanted : call->smallest_real;
    }
}

INLINE void two_levels(const call_t *call, scales_t *scales, int64_t blocks, float outer)
{
    const float reciprocal = 1.0f / outer, least = call->smallest_scale, most = call->largest_scale;
    _Pragma("omp simd") for (int64_t b = 0; b < blocks; b++)
    {
        const float wanted = (float_of(scales->magnitude[b]) / call->largest) / outer;
        const float inner = rounded(wanted > least ? wanted : least, most, (127u - 6u) << 23, 3, NEAREST_EVEN, 0);
        scales->in[b] = reciprocal / inner;
        scales->out[b] = inner * outer;
    }
}

#define KERNEL(NAME, TYPE, BITS, SIGNLESS, WIDEN, NARROW, NAN_BITS)                                                   \
    INLINE void NAME##_elements(const call_t *call, const TYPE *x, TYPE *out, int64_t n, int64_t row, int64_t column, \
                                float in, float back, int rounding, int divide, int checked)                          \
    {                                                                                                                 \
        const float largest = call->largest;                                                                          \
        const uint32_t least = (uint32_t)(call->smallest_exponent + 127) << 23;                                       \
        const int32_t mantissa_bits = call->mantissa_bits;                                                            \
        const uint32_t low = rounding == STOCHASTIC ? (uint32_t)call->row_low[row] : 0;                               \
        const uint32_t high = rounding == STOCHASTIC ? (uint32_t)call->row_high[row] : 0;                             \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                             \
            const float wide = WIDEN(x[i]);                                                                           \
            const float y = divide ? wide / in : wide * in;                                                           \
            uint32_t bits = 0;                                                                                        \
            if (rounding == STOCHASTIC)                                                                               \
                bits = keyed_bits(low, high, (uint32_t)call->column_low[column + i],                                  \
                                  (uint32_t)call->column_high[column + i]);                                           \
            const float after = rounded(y, largest, least, mantissa_bits, rounding, bits) * back;                     \
            const TYPE kept = NARROW(after);                                                                          \
            out[i] = checked && (bits_of(wide) & INFINITE) == INFINITE ? (TYPE)NAN_BITS : kept;                       \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_general(const call_t *call, const TYPE *x, TYPE *out, int64_t n, int64_t row, int64_t column,  \
                               float in, float back)                                                                  \
    {                                                                                                                 \
        const int divide = call->kind == REAL || call->kind == OUTER;                                                 \
        if (call->rounding == NEAREST_EVEN && divide)                                                                 \
            NAME##_elements(call, x, out, n, row, column, in, back, NEAREST_EVEN, 1, 1);                              \
        else if (call->rounding == NEAREST_EVEN)                                                                      \
            NAME##_elements(call, x, out, n, row, column, in, back, NEAREST_EVEN, 0, 1);                              \
        else if (call->rounding == TOWARD_ZERO && divide)                                                             \
            NAME##_elements(call, x, out, n, row, column, in, back, TOWARD_ZERO, 1, 1);                               \
        else if (call->rounding == TOWARD_ZERO)                                                                       \
            NAME##_elements(call, x, out, n, row, column, in, back, TOWARD_ZERO, 0, 1);                               \
        else if (divide)                                                                                              \
            NAME##_elements(call, x, out, n, row, column, in, back, STOCHASTIC, 1, 1);                                \
        else                                                                                                          \
            NAME##_elements(call, x, out, n, row, column, in, back, STOCHASTIC, 0, 1);                                \
    }                                                                                                                 \
    INLINE uint32_t NAME##_largest_of(const TYPE *x, int64_t n)                                                       \
    {                                                                                                                 \
        BITS magnitude = 0;                                                                                           \
        _Pragma("omp simd reduction(max : magnitude)") for (int64_t i = 0; i < n; i++)                                \
        {                                                                                                             \
            BITS bits;                                                                                                \
            memcpy(&bits, x + i, sizeof bits);                                                                        \
            bits &= SIGNLESS;                                                                                         \
            magnitude = bits > magnitude ? bits : magnitude;                                                          \
        }                                                                                                             \
        TYPE largest;                                                                                                 \
        memcpy(&largest, &magnitude, sizeof largest);                                                                 \
        return bits_of(WIDEN(largest));                                                                               \
    }                                                                                                                 \
    /* constant trip counts make the loops of a block straight vector code */                                         \
    static void NAME##_scales(const call_t *call, const TYPE *x, int64_t blocks, int64_t n, float outer,              \
                              scales_t *scales)                                                                       \
    {                                                                                                                 \
        if (n == 32)                                                                                                  \
            for (int64_t b = 0; b < blocks; b++)                                                                      \
                scales->magnitude[b] = NAME##_largest_of(x + b * 32, 32);                                             \
        else if (n == 16)                                                                                             \
            for (int64_t b = 0; b < blocks; b++)                                                                      \
                scales->magnitude[b] = NAME##_largest_of(x + b * 16, 16);                                             \
        else                                                                                                          \
            for (int64_t b = 0; b < blocks; b++)                                                                      \
                scales->magnitude[b] = NAME##_largest_of(x + b * n, n);                                               \
        if (call->kind == POWER_OF_TWO)                                                                               \
            powers_of_two(call, scales, blocks);                                                                      \
        else if (call->kind == REAL)                                                                                  \
            real_scales(call, scales, blocks);                                                                        \
        else                                                                                                          \
            two_levels(call, scales, blocks, outer);                                                                  \
    }                                                                                                                 \
    static void NAME##_blocks(const call_t *call, const TYPE *x, TYPE *out, int64_t blocks, int64_t n, int64_t row,   \
                              int64_t column, float outer)                                                            \
    {                                                                                                                 \
        scales_t scales;                                                                                              \
        NAME##_scales(call, x, blocks, n, outer, &scales);                                                            \
        const int plain = call->rounding == NEAREST_EVEN && call->kind != REAL;                                       \
        for (int64_t b = 0; b < blocks; b++) {                                                                        \
            const int64_t at = b * n;                                                                                 \
            const float in = scales.in[b], back = scales.out[b];                                                      \
            if (scales.magnitude[b] >= INFINITE)                                                                      \
                for (int64_t i = 0; i < n; i++)                                                                       \
                    out[at + i] = (TYPE)NAN_BITS;                                                                     \
            else if (plain && n == 32)                                                                                \
                NAME##_elements(call, x + at, out + at, 32, row, column + at, in, back, NEAREST_EVEN, 0, 0);          \
            else if (plain && n == 16)                                                                                \
                NAME##_elements(call, x + at, out + at, 16, row, column + at, in, back, NEAREST_EVEN, 0, 0);          \
            else                                                                                                      \
                NAME##_general(call, x + at, out + at, n, row, column + at, in, back);                                \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_row(const call_t *call, const TYPE *x, TYPE *out, int64_t row)                                 \
    {                                                                                                                 \
        const int64_t columns = call->columns, block = call->block;                                                   \
        const float outer = call->outer ? call->outer[call->outer_rows ? row : 0] : 1.0f;                             \
        if (outer != outer) {                                                                                         \
            for (int64_t i = 0; i < columns; i++)                                                                     \
                out[i] = (TYPE)NAN_BITS;                                                                              \
            return;                                                                                                   \
        }                                                                                                             \
        if (call->kind == UNSCALED || call->kind == OUTER) {                                                          \
            NAME##_general(call, x, out, columns, row, 0, outer, outer);                                              \
            return;                                                                                                   \
        }                                                                                                             \
        int64_t start = 0;                                                                                            \
        while (columns - start >= block) {                                                                            \
            const int64_t whole = (columns - start) / block, blocks = whole < TOGETHER ? whole : TOGETHER;            \
            NAME##_blocks(call, x + start, out + start, blocks, block, row, start, outer);                            \
            start += blocks * block;                                                                                  \
        }                                                                                                             \
        if (start < columns)                                                                                          \
            NAME##_blocks(call, x + start, out + start, 1, columns - start, row, start, outer);                       \
    }                                                                                                                 \
    void NAME(const call_t *call, const void *x, void *out, int64_t first, int64_t last)                              \
    {                                                                                                                 \
        for (int64_t row = first; row < last; row++)                                                                  \
            NAME##_row(call, (const TYPE *)x + row * call->columns, (TYPE *)out + row * call->columns, row);          \
    }                                                                                                                 \
    /* out: two float32 per row, the largest finite magnitude and the number of elements that are not finite */       \
    void NAME##_largest(const call_t *call, const void *x, void *out, int64_t first, int64_t last)                    \
    {                                                                                                                 \
        for (int64_t row = first; row < last; row++) {                                                                \
            const TYPE *from = (const TYPE *)x + row * call->columns;                                                 \
            uint32_t magnitude = 0, bad = 0;                                                                          \
            _Pragma("omp simd reduction(max : magnitude) reduction(+ : bad)")                                         \
            for (int64_t i = 0; i < call->columns; i++)                                                               \
            {                                                                                                         \
                const uint32_t bits = bits_of(WIDEN(from[i])) & 0x7FFFFFFFu, finite = bits < INFINITE ? bits : 0;     \
                magnitude = finite > magnitude ? finite : magnitude;                                                  \
                bad += bits >= INFINITE;                                                                              \
            }                                                                                                         \
            ((float *)out)[2 * row] = float_of(magnitude);                                                            \
            ((float *)out)[2 * row + 1] = (float)bad;                                                                 \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_clipped(const call_t *call, const TYPE *x, int64_t blocks, int64_t n, float outer,             \
                               float *found)                                                                          \
    {                                                                                                                 \
        scales_t scales;                                                                                              \
        NAME##_scales(call, x, blocks, n, outer, &scales);                                                            \
        const float above = call->clipped_above;                                                                      \
        const int divide = call->kind == REAL;                                                                        \
        for (int64_t b = 0; b < blocks; b++) {                                                                        \
            const float in = scales.in[b];                                                                            \
            int32_t clipped = 0;                                                                                      \
            _Pragma("omp simd reduction(+ : clipped)") for (int64_t i = 0; i < n; i++)                                \
            {                                                                                                         \
                const float wide = WIDEN(x[b * n + i]), y = divide ? wide / in : wide * in;                           \
                clipped += float_of(bits_of(y) & 0x7FFFFFFFu) > above;                                                \
            }                                                                                                         \
            const int sound = scales.magnitude[b] < INFINITE;                                                         \
            found[0] += sound ? (float)clipped : 0.0f;                                                                \
            found[1] += sound ? 0.0f : 1.0f;                                                                          \
        }                                                                                                             \
    }                                                                                                                 \
    /* out: two float32 per row, the clipped elements and the blocks with NaN or infinity; where blocks have scales */\
    void NAME##_saturated(const call_t *call, const void *x, void *out, int64_t first, int64_t last)                  \
    {                                                                                                                 \
        for (int64_t row = first; row < last; row++) {                                                                \
            const int64_t columns = call->columns, block = call->block;                                               \
            const TYPE *from = (const TYPE *)x + row * columns;                                                       \
            const float outer = call->outer ? call->outer[call->outer_rows ? row : 0] : 1.0f;                         \
            float *found = (float *)out + 2 * row;                                                                    \
            found[0] = found[1] = 0.0f;                                                                               \
            int64_t start = 0;                                                                                        \
            while (columns - start >= block) {                                                                        \
                const int64_t whole = (columns - start) / block, blocks = whole < TOGETHER ? whole : TOGETHER;        \
                NAME##_clipped(call, from + start, blocks, block, outer, found);                                      \
                start += blocks * block;                                                                              \
            }                                                                                                         \
            if (start < columns)                                                                                      \
                NAME##_clipped(call, from + start, 1, columns - start, outer, found);                                 \
        }                                                                                                             \
    }                                                                                                                 \
    /* sums and histogram of what changed from x to out; one thread only, for the histogram */                        \
    void NAME##_measure(const call_t *call, const void *x, void *out, int64_t first, int64_t last)                    \
    {                                                                                                                 \
        for (int64_t row = first; row < last; row++) {                                                                \
            const TYPE *before = (const TYPE *)x + row * call->columns, *after = (TYPE *)out + row * call->columns;   \
            double signal = 0, error = 0, product = 0, energy = 0, relative = 0;                                      \
            int64_t zeros = 0, dead = 0, spoiled = 0;                                                                 \
            for (int64_t start = 0; start < call->columns; start += PIECE) {                                          \
                float ratios[PIECE]; /* -1 where there is none */                                                     \
                const int64_t left = call->columns - start, n = left < PIECE ? left : PIECE;                          \
                const TYPE *x0 = before + start, *x1 = after + start;                                                 \
                _Pragma("omp simd reduction(+ : signal, error, product, energy, relative, zeros, dead, spoiled)")     \
                for (int64_t i = 0; i < n; i++)                                                                       \
                {                                                                                                     \
                    const float changed = WIDEN(x1[i]);                                                               \
                    const int kept = (bits_of(changed) & 0x7FFFFFFFu) <= INFINITE;                                    \
                    const double y = kept ? WIDEN(x0[i]) : 0.0f, q = kept ? changed : 0.0f, apart = q - y;            \
                    const float ratio = (float)(__builtin_fabs(apart) / __builtin_fabs(y));                           \
                    signal += y * y;                                                                                  \
                    error += apart * apart;                                                                           \
                    product += y * q;                                                                                 \
                    energy += q * q;                                                                                  \
                    relative += y != 0 ? (double)ratio : 0.0;                                                         \
                    ratios[i] = y != 0 ? ratio : -1.0f;                                                               \
                    zeros += kept & (y == 0);                                                                         \
                    dead += (y != 0) & (q == 0);                                                                      \
                    spoiled += !kept;                                                                                 \
                }                                                                                                     \
                for (int64_t i = 0; i < n; i++)                                                                       \
                    if (ratios[i] >= 0)                                                                               \
                        call->histogram[bits_of(ratios[i]) >> DROPPED_BITS]++;                                        \
            }                                                                                                         \
            double *sums = call->sums + SUMS * row;                                                                   \
            sums[ZEROS] = (double)zeros, sums[DEAD] = (double)dead, sums[SPOILED] = (double)spoiled;                  \
            sums[SIGNAL] = signal, sums[ERROR] = error, sums[PRODUCT] = product, sums[ENERGY] = energy;               \
            sums[RELATIVE] = relative;                                                                                \
        }                                                                                                             \
    }

KERNEL(quantize_f32, float, uint32_t, 0x7FFFFFFFu, widen_f32, narrow_f32, __builtin_nanf(""))
KERNEL(quantize_bf16, uint16_t, uint16_t, 0x7FFFu, widen_bf16, narrow_bf16, 0x7FC0)
KERNEL(quantize_f16, uint16_t, uint16_t, 0x7FFFu, widen_f16, narrow_f16, 0x7E00)
