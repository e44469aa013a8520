// The inner product of every matrix product here: C[R x N*W] (+)= A[R x k] B[k x N*W] held in registers (the scheme of
// Goto & van de Geijn 2008 and BLIS). B and C are panels: MICRO_COLUMNS columns side by side, [rows][MICRO_COLUMNS].
#pragma once

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {

constexpr int MICRO_COLUMNS = 2 * W;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Asks memory for what comes next in a stream of weights that is read once. With AVX2 past the second cache, which keeps what is
// used again (measured on a Zen 3); with AVX-512 into it, as the first has too few places for lines on their way (on a Zen 4).
INLINE void ask_ahead(const void* p) {
  constexpr int64_t BYTES = W == 16 ? 4096 : 1024;
  __builtin_prefetch((const char*)p + BYTES, 0, W == 16 ? 2 : 0);
}

// A vector's lanes are numbers; products_bfloat16.h has one whose lanes are pairs of numbers.
struct Numbers {
  typedef vfloat Vector;
  static INLINE Vector repeat(const float* x) { return splat(*x); }
  static INLINE vfloat add(vfloat sums, Vector a, Vector b) { return sums + a * b; }
};

// A's columns are lda apart and its rows adjacent if BY_COLUMNS, the other way round if not.
template <int R, int N, bool BY_COLUMNS, class Lanes>
INLINE void micro_rows(int64_t k, const float* a, int64_t lda, const float* b, float* c, bool accumulate) {
  vfloat acc[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) acc[r][j] = accumulate ? load(c + r * MICRO_COLUMNS + j * W) : vfloat{};
  for (int64_t i = 0; i < k; ++i) {
    typename Lanes::Vector columns[N];
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) columns[j] = load_as<typename Lanes::Vector>(b + i * MICRO_COLUMNS + j * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto x = Lanes::repeat(BY_COLUMNS ? a + i * lda + r : a + r * lda + i);
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) acc[r][j] = Lanes::add(acc[r][j], x, columns[j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) store(c + r * MICRO_COLUMNS + j * W, acc[r][j]);
}

// As many rows as there are, MICRO_ROWS at most; the first N vectors of the panels.
template <int N, bool BY_COLUMNS, class Lanes = Numbers, int R = MICRO_ROWS>
static void micro(int64_t rows, int64_t k, const float* a, int64_t lda, const float* b, float* c, bool accumulate) {
  if constexpr (R > 1)
    if (rows < R) return micro<N, BY_COLUMNS, Lanes, R - 1>(rows, k, a, lda, b, c, accumulate);
  micro_rows<R, N, BY_COLUMNS, Lanes>(k, a, lda, b, c, accumulate);
}

// `rows` (MICRO_COLUMNS at most) rows of `size` numbers, `stride` apart, times `scale`: to the columns of a panel.
static void load_panel(const float* x, int64_t stride, int64_t rows, int64_t size, float scale, float* panel) {
  for (int64_t first = 0; first < MICRO_COLUMNS; first += W)
    for (int64_t d = 0; d < size; d += W) {
      vfloat block[W];
      const int64_t columns = size - d;
      for (int64_t r = 0; r < W; ++r) {
        const float* from = x + (first + r) * stride + d;
        block[r] = first + r >= rows ? vfloat{} : (columns >= W ? load(from) : load_part(from, columns)) * scale;
      }
      transpose(block);
      for (int64_t i = 0; i < W && i < columns; ++i) store(panel + (d + i) * MICRO_COLUMNS + first, block[i]);
    }
}

// The same of rows of 16-bit numbers [MICRO_COLUMNS][stride]: pairs [depth / 2][MICRO_COLUMNS].
template <class Number>
INLINE void store_pairs(const Number* rows, int64_t stride, int64_t depth, float* pairs) {
  for (int64_t first = 0; first < MICRO_COLUMNS; first += W)
    for (int64_t d = 0; d < (depth + 1) / 2; d += W) {
      vfloat block[W];
      for (int64_t r = 0; r < W; ++r) block[r] = load_as<vfloat>(rows + (first + r) * stride + 2 * d);
      transpose(block);
      for (int64_t i = 0; i < W; ++i) store(pairs + (d + i) * MICRO_COLUMNS + first, block[i]);
    }
}

// The way back, of a panel whose row d gives read(d, first) from column `first` on.
template <class Read>
INLINE void store_panel(int64_t rows, int64_t size, int64_t stride, float* y, Read read) {
  for (int64_t first = 0; first < rows; first += W)
    for (int64_t d = 0; d < size; d += W) {
      vfloat block[W];
      const int64_t columns = size - d;
      for (int64_t i = 0; i < W; ++i)
        block[i] = i < columns ? read(d + i, first) : vfloat{};
      transpose(block);
      for (int64_t r = 0; r < W && first + r < rows; ++r) {
        float* to = y + (first + r) * stride + d;
        columns >= W ? store(to, block[r]) : store_part(to, block[r], columns);
      }
    }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
