// Products with bfloat16 and fp8 weights for AVX512-BF16: x is rounded to bfloat16, sums are float32. The instruction takes
// pairs of neighbours, so that weights lie as they should.
#pragma once

#include "numbers.h"
#include "product_loops.h"

#ifdef QWENVL_BFLOAT16_PRODUCTS

namespace qwenvl {
namespace QWENVL_ISA {

INLINE vfloat add_products(vfloat sums, __m512bh a, __m512bh b) {  // of neighbours
  return (vfloat)_mm512_dpbf16_ps((__m512)sums, a, b);
}

// Lanes of the micro-kernel that hold two neighbours.
struct Pairs {
  typedef __m512bh Vector;
  static INLINE Vector repeat(const float* pair) { return (Vector)_mm512_set1_epi32(load_as<int32_t>(pair)); }
  static INLINE vfloat add(vfloat sums, Vector a, Vector b) { return add_products(sums, a, b); }
};

INLINE vint join_pairs(__m256i low, __m256i high) {
  return (vint)_mm512_cvtepu16_epi32(low) | (vint)((vuint)_mm512_cvtepu16_epi32(high) << 16);
}

// Rows 2 i and 2 i + 1 of a panel, rounded, become row i, in place.
INLINE void pair_rows(float* panel, int64_t rows) {
  for (int64_t i = 0; i < rows; i += 2)
    for (int64_t j = 0; j < MICRO_COLUMNS; j += W) {
      const vfloat a = load(panel + i * MICRO_COLUMNS + j);
      const vfloat b = i + 1 < rows ? load(panel + (i + 1) * MICRO_COLUMNS + j) : vfloat{};
      const vint pairs = join_pairs((__m256i)_mm512_cvtneps_pbh((__m512)a), (__m256i)_mm512_cvtneps_pbh((__m512)b));
      store(panel + i / 2 * MICRO_COLUMNS + j, (vfloat)pairs);
    }
}

INLINE void round_to_bfloat16(const float* x, int64_t size, uint16_t* y) {  // and zeros up to a whole group
  for (int64_t i = 0; i < size; i += GROUP) {
    const int64_t left = size - i;
    const vfloat a = left >= W ? load(x + i) : load_part(x + i, left);
    const vfloat b = left >= GROUP ? load(x + i + W) : left > W ? load_part(x + i + W, left - W) : vfloat{};
    const __m512bh group = _mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    memcpy(y + i, &group, sizeof(group));
  }
}

template <class WeightFormat>
struct Bfloat16Products : InRegisters {
  typedef WeightFormat Format;
  static constexpr int64_t MOST = 32;  // rows of x that are few
  static constexpr int64_t DEPTH = 256;
  static constexpr int64_t PANEL = DEPTH * MICRO_COLUMNS / 2;  // pairs [depth / 2][columns]
  static constexpr int64_t ROW = DEPTH / 2;

  // For a few rows of x, `total`: [group][total][GROUP].
  static int64_t row_size(int64_t k) { return whole_groups(k) / 2; }
  static void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) {
    uint16_t* groups = (uint16_t*)to + m * GROUP;
    for (int64_t i = 0; i < k; i += GROUP) round_to_bfloat16(x + i, least(GROUP, k - i), groups + i * total);
  }

  // As Float32Products' `tile`.
  template <int R, int M>
  static INLINE void tile(const uint16_t* w, int64_t apart, const float* x, int64_t, int64_t m, int64_t total,
                          int64_t first, int64_t last, vfloat* sums) {
    const uint16_t* groups = (const uint16_t*)x + m * GROUP;
    vfloat acc[R][M] = {};
    auto step = [&](const uint16_t* group, int64_t next, const uint16_t* x) __attribute__((always_inline)) {
      __m512bh rows[M];
#pragma GCC unroll 6
      for (int i = 0; i < M; ++i) rows[i] = load_as<__m512bh>(x + i * GROUP);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m512bh weights = load_as<__m512bh>(group + r * next);
#pragma GCC unroll 6
        for (int i = 0; i < M; ++i) acc[r][i] = add_products(acc[r][i], weights, rows[i]);
      }
    };
    int64_t i = first;
    for (; i + GROUP <= last; i += GROUP) step(w + i, apart, groups + i * total);
    if (i < last) {
      uint16_t part[R][GROUP] = {};
      for (int r = 0; r < R; ++r) memcpy(part[r], w + r * apart + i, (last - i) * sizeof(*w));
      step(part[0], GROUP, groups + i * total);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 6
      for (int i = 0; i < M; ++i) sums[r * total + i] += acc[r][i];
  }

  // For many rows: panels of them, and blocks of weight rows.
  static void load_rows(const float* x, int64_t stride, int64_t rows, int64_t depth, float* panel) {
    alignas(64) uint16_t numbers[MICRO_COLUMNS][DEPTH] = {};
    for (int64_t r = 0; r < least(MICRO_COLUMNS, rows); ++r) round_to_bfloat16(x + r * stride, depth, numbers[r]);
    store_pairs(numbers[0], DEPTH, depth, panel);
  }

  static void load_weights(const typename Format::Type* w, int64_t depth, float* row) {
    if (depth % 2) row[depth / 2] = 0;
    if constexpr (sizeof(*w) == 2)
      memcpy(row, w, depth * sizeof(*w));
    else
      widen_to_bfloat16<Format>(w, depth, (uint16_t*)row);
  }

  // sums [rows][MICRO_COLUMNS] (+)= `rows` weight rows, MICRO_ROWS at most, times a panel.
  template <int N>
  static void multiply(int64_t rows, int64_t depth, const float* weights, const float* panel, float* sums,
                       bool accumulate) {
    micro<N, false, Pairs>(rows, (depth + 1) / 2, weights, ROW, panel, sums, accumulate);
  }
};

// 2 to MOST rows with fp8 weights: each thread holds some inputs of a few weight rows in bfloat16 for one tile of x after the
// other.
class Fp8FewRows : public Bfloat16Products<Fp8>, public NothingBefore {
 public:
  static constexpr int TILE = 6;
  static constexpr int64_t TILE_DEPTH = 512;

  Fp8FewRows(const void* weight, int64_t k) : weight_((const uint8_t*)weight), k_(k) {}

  INLINE void prefetch(int64_t row, int64_t first, int64_t count) const {
    qwenvl::QWENVL_ISA::prefetch(weight_ + row * k_ + first, count);
  }
  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) {
    for (int64_t block = first; block < last; block += TILE_DEPTH) {
      const int64_t depth = least(TILE_DEPTH, last - block);
      if (m == 0)
        for (int r = 0; r < R; ++r) widen_to_bfloat16<Fp8>(weight_ + (j + r * apart) * k_ + block, depth, numbers_[r]);
      Bfloat16Products::tile<R, M>(numbers_[0], TILE_DEPTH, x + block / 2 * total, k_, m, total, 0, depth, sums);
    }
  }

 private:
  const uint8_t* const weight_;
  const int64_t k_;
  alignas(64) uint16_t numbers_[STREAMS][TILE_DEPTH];
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl

#endif
