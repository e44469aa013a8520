// What is compiled once: whether there are tiles, and products of many rows by the oneDNN that Paddle brings along, with
// arguments as in qwenvl_linear. False: this build has not got it, or these operands are not for it, and y holds nothing.
#pragma once

#include "kernels.h"

namespace qwenvl {

// Whether a CPU that has AMX's tiles lets this process use them, from now on.
bool may_use_tiles();

// Whether this build and this CPU multiply bfloat16 in hardware.
bool has_bfloat16_products();
bool bfloat16_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                   int64_t m, int64_t k, int64_t n, float* y);
bool float32_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                int64_t m, int64_t k, int64_t n, float* y);
// `linear_swiglu` in its place: y [m, n / 2].
bool bfloat16_linear_swiglu(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                            int64_t m, int64_t k, int64_t n, float* y);
// x is in the weight's order in the following two.
bool bfloat16_linear_int4_swiglu(const float* x, const QwenvlInt4Weight& weight, const float* bias, int64_t m, float* y);
bool bfloat16_linear_int4(const float* x, const QwenvlInt4Weight& weight, const float* bias, int64_t m, float* y);

// Columns first .. first + count of y [m, n]: times scales, plus bias, where they are not null.
inline void finish_columns(const float* scales, const float* bias, int64_t m, int64_t n, int64_t first, int64_t count,
                           float* y) {
  if (!scales && !bias) return;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = first; j < first + count; ++j)
      y[i * n + j] = y[i * n + j] * (scales ? scales[j] : 1.0f) + (bias ? bias[j] : 0.0f);
}

}  // namespace qwenvl
