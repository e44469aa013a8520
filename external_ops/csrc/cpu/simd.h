// One source for every instruction set. Files that include this are compiled once for each: QWENVL_ISA names the
// namespace and the compiler's -m flags choose the width. They use GCC's vector extensions, so there is one text for
// SSE2, AVX2, AVX-512 and NEON, and no templates of the standard library, whose copies the linker would merge across
// instruction sets.
#pragma once

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define INLINE inline __attribute__((always_inline))

namespace qwenvl {
namespace QWENVL_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;            // floats in a vector
constexpr int MICRO_ROWS = 12;   // rows of the matrix micro-kernel: 2 x 12 of 32 registers accumulate
#if defined(__AVX512BF16__)
#define QWENVL_BFLOAT16_PRODUCTS  // bfloat16 weights: products_bfloat16.h
#endif
#if defined(__AMX_BF16__)
#define QWENVL_TILES  // many rows: products_tiles.h
#endif
#if defined(__AVX512VNNI__)
#define QWENVL_INTEGER_PRODUCTS  // other narrow weights: products_integer.h
#endif
#elif defined(__AVX2__)
constexpr int W = 8;
constexpr int MICRO_ROWS = 6;    // 2 x 6 of 16 registers
#define QWENVL_INTEGER_PRODUCTS
#else
constexpr int W = 4;
constexpr int MICRO_ROWS = 6;
#endif

typedef float vfloat __attribute__((vector_size(4 * W)));
typedef int32_t vint __attribute__((vector_size(4 * W)));
typedef uint32_t vuint __attribute__((vector_size(4 * W)));
typedef int16_t vshort __attribute__((vector_size(4 * W)));

INLINE vfloat splat(float x) { return x - vfloat{}; }

template <class V>
INLINE V load_as(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
INLINE vfloat load(const float* p) { return load_as<vfloat>(p); }
INLINE void store(float* p, vfloat v) { __builtin_memcpy(p, &v, sizeof(v)); }
INLINE vfloat as_float(vuint v) { return (vfloat)v; }
INLINE vfloat max(vfloat a, vfloat b) { return a > b ? a : b; }

// The first `count` (at most W) floats of p, the rest filled.
INLINE vfloat load_part(const float* p, int64_t count, float fill = 0) {
  float part[W];
  for (int i = 0; i < W; ++i) part[i] = i < count ? p[i] : fill;
  return load(part);
}
INLINE void store_part(float* p, vfloat v, int64_t count) {
  for (int i = 0; i < W; ++i)
    if (i < count) p[i] = v[i];
}

template <int STEP>
INLINE vint partner() {
  vint index;
  for (int i = 0; i < W; ++i) index[i] = i ^ STEP;
  return index;
}
INLINE float sum(vfloat v) {
#if defined(__AVX512F__)
  v += __builtin_shuffle(v, partner<8>());
#endif
#if defined(__AVX2__) || defined(__AVX512F__)
  v += __builtin_shuffle(v, partner<4>());
#endif
  v += __builtin_shuffle(v, partner<2>());
  v += __builtin_shuffle(v, partner<1>());
  return v[0];
}
INLINE float maximum(vfloat v) {
#if defined(__AVX512F__)
  v = max(v, __builtin_shuffle(v, partner<8>()));
#endif
#if defined(__AVX2__) || defined(__AVX512F__)
  v = max(v, __builtin_shuffle(v, partner<4>()));
#endif
  v = max(v, __builtin_shuffle(v, partner<2>()));
  return v[0] > v[1] ? v[0] : v[1];
}

// Rows to columns: lane l of vector i changes places with lane i of vector l.
template <int STEP>
INLINE void transpose_step(vfloat rows[W]) {
  vint low, high;
  for (int i = 0; i < W; ++i) {
    low[i] = i & STEP ? i - STEP + W : i;
    high[i] = i & STEP ? i + W : i + STEP;
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (!(i & STEP)) {
      const vfloat a = rows[i], b = rows[i + STEP];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + STEP] = __builtin_shuffle(a, b, high);
    }
}
INLINE void transpose(vfloat rows[W]) {
  transpose_step<1>(rows);
  transpose_step<2>(rows);
  if constexpr (W > 4) transpose_step<4>(rows);
  if constexpr (W > 8) transpose_step<8>(rows);
}

// Lane i of the result is the sum of vector i's lanes.
template <int STEP>
INLINE vfloat sum_pair(vfloat a, vfloat b) {
  vint low, high;
  for (int i = 0; i < W; ++i) {
    low[i] = i & STEP ? i - STEP + W : i;
    high[i] = i & STEP ? i + W : i + STEP;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}
template <int STEP = W / 2>
INLINE vfloat sums(const vfloat* v) {
  if constexpr (STEP == 0)
    return v[0];
  else
    return sum_pair<STEP>(sums<STEP / 2>(v), sums<STEP / 2>(v + STEP));
}

// 2^x for x <= 127, to 2 ulp; below -126 it is 0. The integer part goes into the exponent by adding 1.5 * 2^23, which
// leaves it in the low bits; the fraction, in [-0.5, 0.5], through the polynomial of Cephes' exp2f.
INLINE vfloat exp2(vfloat x) {
  const vfloat magic = splat(12582912.0f);
  vfloat clipped = max(x, splat(-126.0f));
  vfloat shifted = clipped + magic;
  vfloat f = clipped - (shifted - magic);
  vfloat p = splat(1.535336188e-4f);
  p = p * f + 1.339887440e-3f;
  p = p * f + 9.618437357e-3f;
  p = p * f + 5.550332471e-2f;
  p = p * f + 2.402264791e-1f;
  p = p * f + 6.931472029e-1f;
  p = p * f + 1.0f;
  vfloat y = (vfloat)(((vuint)shifted << 23) + (vuint)p);
  return x < splat(-126.0f) ? vfloat{} : y;
}
constexpr float LOG2E = 1.44269504f;
INLINE vfloat one_plus_exp_minus(vfloat x) {
  vfloat t = x * -LOG2E;
  return 1.0f + exp2(t < 126.0f ? t : splat(126.0f));
}
INLINE vfloat sigmoid(vfloat x) { return 1.0f / one_plus_exp_minus(x); }
INLINE vfloat silu(vfloat x) { return x / one_plus_exp_minus(x); }

// Loops that are dealt out dynamically have to say `monotonic`. Without it GCC 9 and newer call a function that Paddle's
// OpenMP has not got; found in another OpenMP library of the process, it lets every thread run the whole loop.
INLINE int thread_index() { return omp_get_thread_num(); }

// Memory that is freed at the end of its scope, aligned to a cache line.
struct Scratch {
  explicit Scratch(int64_t floats) : data((float*)aligned_alloc(64, (floats * 4 + 127) / 64 * 64)) {}
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
  float* const data;
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl
