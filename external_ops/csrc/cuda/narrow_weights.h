// int4, int8 and fp8 weights as the CUDA kernels see them.
#pragma once

#include "device.h"

namespace qwenvl {
namespace cuda {

constexpr int N = 8;  // numbers of a weight that are taken at a time

struct Scales {
  const void* at;
  QwenvlDtype dtype;

  __device__ float operator[](int64_t i) const {
    switch (dtype) {
      case QWENVL_FLOAT16: return widen(((const __half*)at)[i]);
      case QWENVL_BFLOAT16: return widen(((const __nv_bfloat16*)at)[i]);
      default: return ((const float*)at)[i];
    }
  }
};

// [n, k]: (q - zero) * scale, in groups of inputs.
struct Int4 {
  const uint8_t *values, *zeros;
  Scales scales;
  int n, k;
  Divisor group;

  explicit Int4(const QwenvlInt4Weight& w)
      : values(w.values), zeros(w.zeros), scales{w.scales, w.scale_dtype}, n((int)w.n), k((int)w.k), group(w.group) {}
  __device__ const unsigned* words(int64_t row, int column) const {
    return (const unsigned*)(values + (row * k + column) / 2);
  }
  // Of all groups, the one that a number is of.
  __device__ int64_t group_of(int64_t row, int column) const {
    int rest;
    return row * (k / group.divisor) + group.divide(column, rest);
  }
  __device__ int zero(int64_t group) const { return zeros ? zeros[group] : 8; }
  // N numbers, by the scale that is returned.
  __device__ float numbers(int64_t row, int column, float (&x)[N]) const {
    const int64_t number = group_of(row, column);
    const unsigned word = *words(row, column);
    const int middle = zero(number);
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] = (float)((int)(word >> 4 * j & 15) - middle);
    return scales[number];
  }
};

// [n, k]: a byte a number, by a scale a row.
struct Bytes {
  const uint8_t* values;
  Scales scales;
  int n, k;

  __device__ const unsigned* words(int64_t row, int column) const {
    return (const unsigned*)(values + row * k + column);
  }
};

struct Int8 : Bytes {
  __device__ float numbers(int64_t row, int column, float (&x)[N]) const {
    const Pack<int8_t, N> some = load<int8_t, N>((const int8_t*)words(row, column));
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] = (float)some.at[j];
    return scales[row];
  }
};

// Bits of float8 e4m3.
struct Fp8 : Bytes {
  __device__ static float number(unsigned bits) {  // float32's exponent has a bias of 127, this one of 7
    const float magnitude = __uint_as_float((bits & 127) << 20) * 0x1p120f;
    return (bits & 127) == 127 ? NAN : bits & 128 ? -magnitude : magnitude;
  }
  __device__ float numbers(int64_t row, int column, float (&x)[N]) const {
    const Pack<unsigned, 2> both = load<unsigned, 2>(words(row, column));
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] = number(both.at[j / 4] >> j % 4 * 8);
    return scales[row];
  }
};

}  // namespace cuda
}  // namespace qwenvl
