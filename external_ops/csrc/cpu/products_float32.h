// Products in float32: what many_rows in linear.cc asks of an arithmetic.
#pragma once

#include "microkernel.h"
#include "numbers.h"

namespace qwenvl {
namespace QWENVL_ISA {

template <class WeightFormat>
struct Float32Products {
  typedef WeightFormat Format;
  static constexpr int64_t DEPTH = 256;                      // inputs at a time
  static constexpr int64_t PANEL = DEPTH * MICRO_COLUMNS;    // floats that DEPTH inputs of MICRO_COLUMNS rows of x take
  static constexpr int64_t ROW = DEPTH;                      // floats that DEPTH inputs of a weight row take

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

  // sums [rows][MICRO_COLUMNS] (+)= `rows` weight rows times a panel.
  template <int N>
  static void multiply(int64_t rows, int64_t depth, const float* weights, const float* panel, float* sums,
                       bool accumulate) {
    for (int64_t r = 0; r < rows; r += MICRO_ROWS)
      micro<N, false>(least(MICRO_ROWS, rows - r), depth, weights + r * ROW, ROW, panel, sums + r * MICRO_COLUMNS,
                      accumulate);
  }
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl
