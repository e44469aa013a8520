// Products of many rows of x with int4 weights, as product_loops.h asks for them: on tiles in bfloat16, in integers as in
// products_int4.h, elsewhere in float32.
#pragma once

#include "products_int4.h"
#include "products_tiles.h"

namespace qwenvl {
namespace QWENVL_ISA {

#if defined(QWENVL_TILES)

class Int4ManyRows : public Tiles, Int4Rows {
 public:
  explicit Int4ManyRows(const QwenvlInt4Weight* w) : Int4Rows(w) {}
  using Int4Rows::prefetch;

  static int64_t depth() { return DEPTH; }
  static int64_t panel_size() { return PANEL; }
  void load_row(int64_t row, int64_t first, int64_t depth, float* to) const { to_bfloat16(row, first, depth, (uint16_t*)to); }
};

#elif defined(__AVX2__)

// PIECE numbers less `zero`, in natural order.
INLINE void widen_piece(const uint8_t* q, int zero, int16_t* to) {
  for (int64_t i = 0; i < PIECE; i += GROUP) {
    const vint bytes = widen_bytes(q + i / 2);  // to the two words of each
    const vshort numbers = (vshort)((bytes | bytes << 12) & 0xf000f) - (int16_t)zero;
    memcpy(to + i, &numbers, sizeof(numbers));
  }
}

// Many rows, in blocks of whole groups, or in parts of a group. The integers of a group and the block's sums, to which they are
// added with the group's scale, are in registers together.
class Int4ManyRows : public IntegerProducts<Int8>, Int4Groups {
 public:
  static constexpr int64_t ROW = DEPTH / 2 + GROUP;  // numbers, then a scale for each segment

  explicit Int4ManyRows(const QwenvlInt4Weight* w) : Int4Groups(w), depth_(DEPTH) {
    while (depth_ % w->group && w->group % depth_) depth_ -= PIECE;
    segment_ = least(depth_, w->group);
  }
  using Int4Rows::prefetch;

  int64_t depth() const { return depth_; }
  int64_t panel_size() const { return MICRO_COLUMNS + depth_ * MICRO_COLUMNS / 2; }
  void load_row(int64_t row, int64_t first, int64_t depth, float* to) const {
    for (int64_t i = 0; i < depth / segment_; i += W)
      store(to + DEPTH / 2 + i, load_scales(row, first / weight->group + i));
    for (int64_t i = 0; i < depth; i += segment_) {
      const int middle = zero(row, (first + i) / weight->group);
      for (int64_t l = i; l < i + segment_; l += PIECE) widen_piece(at(row, first + l), middle, (int16_t*)to + l);
    }
  }

  template <int N>
  void multiply(int64_t rows, int64_t depth, const float* weights, const float* panel, float* sums,
                bool accumulate) const {
    for (int64_t r = 0; r < rows; r += TILE)
      with_rows<TILE>(least(TILE, rows - r), [&](auto count) {
        tile<count, N>(depth, weights + r * ROW, panel, sums + r * MICRO_COLUMNS, accumulate);
      });
  }

 private:
  static constexpr int TILE = 6;  // of AVX2's registers sums of integers take all; the totals go to memory
  int64_t depth_, segment_;  // a segment: inputs of a block that share a scale

  template <int R, int N>
  void tile(int64_t depth, const float* weights, const float* panel, float* sums, bool accumulate) const {
    vfloat totals[R][N] = {};
    const float *pairs = panel + MICRO_COLUMNS, *numbers = weights, *scales = weights + DEPTH / 2;
    for (const float* const last = scales + depth / segment_; scales < last; ++scales) {
      vint acc[R][N] = {};
      for (int64_t i = 0; i < segment_ / 2; ++i, pairs += MICRO_COLUMNS, ++numbers) {
        vshort columns[N];
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) columns[j] = load_as<vshort>(pairs + j * W);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
          const vshort pair = repeat(numbers + r * ROW);
#pragma GCC unroll 2
          for (int j = 0; j < N; ++j) acc[r][j] = add_products(acc[r][j], pair, columns[j]);
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) totals[r][j] += __builtin_convertvector(acc[r][j], vfloat) * scales[r * ROW];
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) {
        float* to = sums + r * MICRO_COLUMNS + j * W;
        const vfloat sum = totals[r][j] * load(panel + j * W);
        store(to, accumulate ? sum + load(to) : sum);
      }
  }
};

#else

class Int4ManyRows : public Float32Products<Float32>, Int4Rows {
 public:
  explicit Int4ManyRows(const QwenvlInt4Weight* w) : Int4Rows(w) {}
  using Int4Rows::prefetch;

  static int64_t depth() { return DEPTH; }
  static int64_t panel_size() { return PANEL; }
  void load_row(int64_t row, int64_t first, int64_t depth, float* to) const { widen(row, first, depth, to); }
};

#endif

}  // namespace QWENVL_ISA
}  // namespace qwenvl
