/* What the kernels share: the keyed hash and the normal draws of keyed_random, and conversions between the floating formats. Must be
   compiled without contraction of products and sums (-ffp-contract=off). */

#include <stdint.h>
#include <string.h>

static inline uint32_t keyed_bits(uint32_t row_low, uint32_t row_high, uint32_t column_low, uint32_t column_high)
{
    uint32_t x = row_low ^ column_low;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = x + (row_high ^ column_high);
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

#define CUBIC 1112070.0f
#define UNIT 5.773953759558026e-09f
#define MEAN_SUM 510

static inline float normal(uint32_t row_low, uint32_t row_high, uint32_t column_low, uint32_t column_high)
{
    uint32_t x = keyed_bits(row_low, row_high, column_low, column_high);
    uint32_t pairs = (x & 0x00FF00FFu) + ((x >> 8) & 0x00FF00FFu);
    float total = (float)((int32_t)((pairs & 0xFFFFu) + (pairs >> 16)) - MEAN_SUM);
    return (total * (total * total + CUBIC)) * UNIT;
}

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float widen_f32(float x) { return x; }
static inline float narrow_f32(float x) { return x; }

static inline float widen_bf16(uint16_t x) { return float_of((uint32_t)x << 16); }
static inline uint16_t narrow_bf16(float x) /* nearest even; never called with NaN */
{
    uint32_t bits = bits_of(x);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static inline float widen_f16(uint16_t x)
{
    const uint32_t magnitude = (uint32_t)(x & 0x7FFFu) << 13, sign = (uint32_t)(x & 0x8000u) << 16;
    const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f); /* exact, subnormals too */
    return float_of(sign | ((x & 0x7C00u) == 0x7C00u ? magnitude | 0x7F800000u : finite));
}

static inline uint16_t narrow_f16(float x) /* nearest even; never called with NaN */
{
    const uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFFu, magic = 126u << 23; /* one half */
    const uint32_t subnormal = bits_of(float_of(magnitude) + float_of(magic)) - magic;
    const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t small = magnitude < (113u << 23) ? subnormal : normal;
    return (uint16_t)(((bits >> 16) & 0x8000u) | (magnitude >= (143u << 23) ? 0x7C00u : small));
}
