// Rotary embedding of heads (RoFormer, Su et al. 2021; halves paired as in Qwen2).
#pragma once

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {

// put(i, value) for every element of one rotated head.
template <class Put>
INLINE void rotate(const float* x, const float* cos, const float* sin, int64_t head_dim, Put put) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float first = x[i], second = x[half + i];
    put(i, first * cos[i] - second * sin[i]);
    put(half + i, second * cos[i] + first * sin[i]);
  }
}
INLINE void rotate_to(const float* x, const float* cos, const float* sin, int64_t head_dim, float* y) {
  rotate(x, cos, sin, head_dim, [&](int64_t i, float value) { y[i] = value; });
}

// Rows of a head, each turned by its row of the tables.
INLINE void rotate_rows(const float* x, int64_t stride, const float* cos, const float* sin, int64_t rows,
                        int64_t head_dim, float* y, int64_t y_stride) {
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < rows; ++r) rotate_to(x + r * stride, cos + r * half, sin + r * half, head_dim, y + r * y_stride);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
