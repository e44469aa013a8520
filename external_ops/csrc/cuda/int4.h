// int4 weights as the CUDA kernels see them.
#pragma once

#include "device.h"

namespace qwenvl {
namespace cuda {

constexpr int N = 8;  // numbers of a weight in a word, all of one group

// A weight [n, k].
struct Int4 {
  const uint8_t *values, *zeros;
  const void* scales;
  QwenvlDtype scale_dtype;
  int n, k;
  Divisor group;

  explicit Int4(const QwenvlInt4Weight& w)
      : values(w.values), zeros(w.zeros), scales(w.scales), scale_dtype(w.scale_dtype), n((int)w.n), k((int)w.k),
        group(w.group) {}
  const __device__ uint8_t* at(int64_t row, int column) const { return values + (row * k + column) / 2; }
  // Of all groups, the one that a number is of.
  __device__ int64_t group_of(int64_t row, int column) const {
    int rest;
    return row * (k / group.divisor) + group.divide(column, rest);
  }
  __device__ int zero(int64_t group) const { return zeros ? zeros[group] : 8; }
  __device__ float scale(int64_t group) const {
    switch (scale_dtype) {
      case QWENVL_FLOAT16: return widen(((const __half*)scales)[group]);
      case QWENVL_BFLOAT16: return widen(((const __nv_bfloat16*)scales)[group]);
      default: return ((const float*)scales)[group];
    }
  }
};

// Whether there are kernels for a weight.
inline bool holds(const QwenvlInt4Weight& w) {
  return w.n <= INT32_MAX && w.k <= INT32_MAX && w.group > 0 && w.group % QWENVL_INT4_GROUPS_OF == 0 &&
         w.k % w.group == 0 && w.scale_dtype <= QWENVL_FLOAT16 && packs<uint8_t>(w.k / 2, {w.values});
}

}  // namespace cuda
}  // namespace qwenvl
