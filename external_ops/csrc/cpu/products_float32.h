// Products in float32: what linear.cc asks of an arithmetic.
#pragma once

#include "numbers.h"
#include "product_loops.h"

namespace qwenvl {
namespace QWENVL_ISA {

// Rows of x that are few. With AVX2 rounding weights to integers takes longer than widening them for up to so many rows.
template <class WeightFormat>
constexpr int64_t FEW_ROWS = QWENVL_FEW_ROWS;
#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
constexpr int64_t FEW_ROWS<Bfloat16> = 24;
template <>
constexpr int64_t FEW_ROWS<Float16> = 24;
template <>
constexpr int64_t FEW_ROWS<Fp8> = 12;
#endif

template <class WeightFormat>
struct Float32Products : InRegisters {
  typedef WeightFormat Format;
  static constexpr int64_t MOST = FEW_ROWS<Format>;
  static constexpr int64_t DEPTH = 256;                      // inputs at a time
  static constexpr int64_t PANEL = DEPTH * MICRO_COLUMNS;    // floats that DEPTH inputs of MICRO_COLUMNS rows of x take
  static constexpr int64_t ROW = DEPTH;                      // floats that DEPTH inputs of a weight row take

  // For a few rows of x, `total`: they lie in groups, [group][total][GROUP].
  static int64_t row_size(int64_t k) { return whole_groups(k); }
  static void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) {
    qwenvl::QWENVL_ISA::arrange<Format>(x, k, 1.0f, to + m * GROUP, total * GROUP);
  }

  // Adds to sums [R][total] what inputs first .. last give of R weight rows, `apart` from each other, and of M of the
  // rows of x, from row m on.
  template <int R, int M>
  static INLINE void tile(const typename Format::Type* w, int64_t apart, const float* x, int64_t, int64_t m,
                          int64_t total, int64_t first, int64_t last, vfloat* sums) {
    constexpr int CHAINS = M == 1 ? 2 : 1;  // independent sums, to hide the latency of an addition
    vfloat acc[R][M][CHAINS] = {};
    auto step = [&](const typename Format::Type* group, int64_t next, const float* x) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        vfloat halves[2];
        Format::widen(group + r * next, halves[0], halves[1]);
#pragma GCC unroll 6
        for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
          for (int h = 0; h < 2; ++h) acc[r][i][h % CHAINS] += halves[h] * load(x + i * GROUP + h * W);
      }
    };
    x += m * GROUP;
    int64_t i = first;
    for (; i + GROUP <= last; i += GROUP) {
      step(w + i, apart, x + i * total);
      if (W == 8 && total == M)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) ask_ahead(w + i + r * apart);
    }
    if (i < last) {
      typename Format::Type part[R][GROUP] = {};
      for (int r = 0; r < R; ++r) memcpy(part[r], w + r * apart + i, (last - i) * sizeof(*w));
      step(part[0], GROUP, x + i * total);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 6
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int c = 0; c < CHAINS; ++c) sums[r * total + i] += acc[r][i][c];
  }

  // For many rows: panels of them, and blocks of weight rows.
  static void load_rows(const float* x, int64_t stride, int64_t rows, int64_t depth, float* panel) {
    load_panel(x, stride, rows, depth, 1.0f, panel);
  }

  static void load_weights(const typename Format::Type* w, int64_t depth, float* row) {
    for (int64_t i = 0; i < depth; i += GROUP) {
      vfloat a, b;
      if (i + GROUP <= depth)
        Format::widen(w + i, a, b);
      else
        widen_part<Format>(w + i, depth - i, a, b);
      Format::restore(a, b);
      store(row + i, a), store(row + i + W, b);
    }
  }

  // sums [rows][MICRO_COLUMNS] (+)= `rows` weight rows, MICRO_ROWS at most, times a panel.
  template <int N>
  static void multiply(int64_t rows, int64_t depth, const float* weights, const float* panel, float* sums,
                       bool accumulate) {
    micro<N, false>(rows, depth, weights, ROW, panel, sums, accumulate);
  }
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl
