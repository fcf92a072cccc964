/* Relative Gaussian noise and what it changed, in one pass: the same bits as error_models.relative_gaussian over
   keyed_random.normals. Must be compiled without contraction of products and sums (-ffp-contract=off).

   Rows are (batch, heads, tokens) flattened; plain matrices have one head. Row keys and masks are per (batch, token),
   column keys per (batch, head) or, with shared_columns, one row for all. */

#include "keyed.h"

typedef struct {
    const int32_t *row_low, *row_high, *column_low, *column_high;
    const uint8_t *real; /* one per row, or one per element of a row with masked != 0 */
    float *sums;         /* six per row: changed, nonzero, nonfinite, signal, error, relative */
    float scale;
    int64_t heads, tokens, columns;
    int32_t shared_columns, masked;
} call_t;

#define ROW(NAME, TYPE, WIDEN, NARROW, MASKED)                                                                        \
    static void NAME(const call_t *call, const TYPE *y, TYPE *out, int64_t row)                                       \
    {                                                                                                                 \
        const int64_t batch = row / (call->heads * call->tokens), token = row % call->tokens;                         \
        const int64_t owner = batch * call->tokens + token, head = row / call->tokens;                                \
        const int64_t n = call->columns;                                                                              \
        const uint32_t low = (uint32_t)call->row_low[owner], high = (uint32_t)call->row_high[owner];                  \
        const int32_t *column_low = call->column_low + (call->shared_columns ? 0 : head * n);                         \
        const int32_t *column_high = call->column_high + (call->shared_columns ? 0 : head * n);                       \
        const uint8_t *mask = MASKED ? call->real + owner * n : 0;                                                    \
        const float scale = call->scale;                                                                              \
        float signal = 0, energy = 0, relative = 0;                                                                   \
        int32_t changed = 0, nonzero = 0, nonfinite = 0;                                                              \
        _Pragma("omp simd reduction(+ : signal, energy, relative, changed, nonzero, nonfinite)") for (int64_t i = 0;  \
                                                                                                      i < n; i++)     \
        {                                                                                                             \
            const float wide = WIDEN(y[i]);                                                                           \
            const float draw = scale * normal(low, high, (uint32_t)column_low[i], (uint32_t)column_high[i]);          \
            const int finite = (bits_of(wide) & 0x7F800000u) != 0x7F800000u;                                          \
            const float step = wide * draw;                                                                           \
            const int touched = (step != 0.0f) & finite;                                                              \
            const float moved = wide + step;                                                                          \
            const TYPE after = touched ? NARROW(moved) : y[i];                                                        \
            out[i] = after;                                                                                           \
            const float error = WIDEN(after) - wide;                                                                  \
            const float fraction = error / (wide != 0.0f ? wide : 1.0f);                                              \
            const int seen = MASKED ? mask[i] : 1;                                                                    \
            const float shown = seen ? wide : 0.0f, lost = seen ? error : 0.0f, part = seen ? fraction : 0.0f;        \
            signal = __builtin_fmaf(shown, shown, signal);                                                            \
            energy = __builtin_fmaf(lost, lost, energy);                                                              \
            relative = __builtin_fmaf(part, part, relative);                                                          \
            changed += seen & (error != 0.0f);                                                                        \
            nonzero += seen & (wide != 0.0f);                                                                         \
            nonfinite += seen & ((error - error) != 0.0f);                                                            \
        }                                                                                                             \
        float *sums = call->sums + 6 * row;                                                                           \
        const int kept = MASKED || call->real[owner];                                                                 \
        sums[0] = kept ? (float)changed : 0.0f;                                                                       \
        sums[1] = kept ? (float)nonzero : 0.0f;                                                                       \
        sums[2] = kept ? (float)nonfinite : 0.0f;                                                                     \
        sums[3] = kept ? signal : 0.0f;                                                                               \
        sums[4] = kept ? energy : 0.0f;                                                                               \
        sums[5] = kept ? relative : 0.0f;                                                                             \
    }

#define FUNCTION(NAME, TYPE, WIDEN, NARROW)                                                                           \
    ROW(NAME##_row, TYPE, WIDEN, NARROW, 0)                                                                           \
    ROW(NAME##_masked, TYPE, WIDEN, NARROW, 1)                                                                        \
    void NAME(const call_t *call, const void *y, void *out, int64_t first, int64_t last)                              \
    {                                                                                                                 \
        for (int64_t row = first; row < last; row++)                                                                  \
            (call->masked ? NAME##_masked : NAME##_row)(                                                              \
                call, (const TYPE *)y + row * call->columns, (TYPE *)out + row * call->columns, row);                 \
    }

FUNCTION(perturb_f32, float, widen_f32, narrow_f32)
FUNCTION(perturb_bf16, uint16_t, widen_bf16, narrow_bf16)
FUNCTION(perturb_f16, uint16_t, widen_f16, narrow_f16)
