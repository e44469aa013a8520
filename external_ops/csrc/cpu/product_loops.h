// The ways through a product y [m, n] = x [m, k] times the transpose of a weight [n, k]. A few rows of x: each weight is read
// once, in order. Many rows: they lie in the lanes of the vectors, so that weights need no reordering:
//   y^T [n x m] = weight [n x k] x^T [k x m].
// `Few` and `Many` know the weight and the arithmetic: RowMajor in linear.cc, products_bfloat16.h, products_int4.h and
// products_int4_many.h.
#pragma once

#include <type_traits>

#include "microkernel.h"

namespace qwenvl {
namespace QWENVL_ISA {

struct Operands {
  const float *x, *scales, *bias;
  int64_t m, k, n;
  float* y;

  template <class Number>
  INLINE Number finish(Number sum, int64_t j) const {
    return sum * (scales ? scales[j] : 1.0f) + (bias ? bias[j] : 0.0f);
  }
};

constexpr int STREAMS = 4;               // weight rows read side by side, far apart: memory is faster in several streams
constexpr int64_t PARTS = 8;             // of a product, for each thread at most: one that is held up takes fewer
constexpr int64_t LEAST_PART = 1 << 18;  // weights: shorter streams are read more slowly
constexpr int64_t ROWS_AT_ONCE = 1024;
constexpr int64_t LEAST_STRIPS = 2;      // for each thread, or strips are shared out by rows of x
constexpr int64_t LARGE_PANEL = 8192;    // floats; while a larger one is multiplied by, the next comes by itself

template <int NEARNESS = 3>  // 3: to the first cache, 2: to the second
INLINE void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)p + i, 0, NEARNESS);
}

// Calls f with the number of rows as a constant, `rows` of M at most.
template <int M, class F>
INLINE void with_rows(int64_t rows, F f) {
  if constexpr (M > 1)
    if (rows < M) return with_rows<M - 1>(rows, f);
  f(std::integral_constant<int, M>{});
}

// What a `Many` multiplies at a time: ROWS of the STRIP weight rows that are widened together. Each thread has a Thread
// meanwhile.
struct InRegisters {
  static constexpr int ROWS = MICRO_ROWS;
  static constexpr int64_t STRIP = 144;
  struct Thread {
    Thread() {}
  };
};

// For a `Few` that has nothing to do before the tiles of some outputs.
struct NothingBefore {
  template <int R>
  INLINE void start(int64_t, int64_t, int64_t, const float*, int64_t, vfloat*) const {}
};

// R outputs, `apart` from each other, from output j on, of all rows of x, and the same of the `count` - 1 outputs after j: as
// many sums as a vector has lanes are added up together.
template <int R, class Few>
void outputs(Few& few, const Operands& p, const float* x, int64_t j, int64_t count, int64_t apart) {
  const int64_t tiles = (p.m + Few::TILE - 1) / Few::TILE, width = (p.m + tiles - 1) / tiles;
  const int64_t depth = tiles == 1 ? p.k : Few::TILE_DEPTH;  // few enough numbers that the cache keeps them for the next tile
  vfloat sums[(R * Few::MOST + W - 1) / W * W];
  for (int64_t i = 0; i < (count * R * p.m + W - 1) / W * W; ++i) sums[i] = vfloat{};
  few.template start<R>(j, count, apart, x, p.m, sums);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t first = 0; first < p.k; first += depth)
      for (int64_t m = 0; m < p.m; m += width) {
        if (tiles > 1)  // what this tile's share of the next numbers is
          for (int r = 0; r < R; ++r) few.prefetch(j + i + r * apart, first + depth + m * depth / p.m, depth / tiles);
        with_rows<Few::TILE>(least(width, p.m - m), [&](auto rows) {
          few.template tile<R, rows>(j + i, apart, x, m, p.m, first, least(p.k, first + depth), sums + i * R * p.m + m);
        });
      }
  int64_t output = j, row = 0;
  for (int64_t i = 0; i < count * R * p.m; i += W) {
    const vfloat totals = qwenvl::QWENVL_ISA::sums(sums + i);
    for (int64_t l = 0; l < least(count * R * p.m - i, W); ++l) {
      p.y[row * p.n + output] = p.finish(totals[l], output);
      if (++row < p.m) continue;
      row = 0, output += apart;
      if (output >= j + R * apart) output = ++j;
    }
  }
}

template <class Few>
void few_rows(const Few& shared, const Operands& p) {
  Scratch x(p.m * shared.row_size(p.k));
  for (int64_t m = 0; m < p.m; ++m) shared.arrange(p.x + m * p.k, p.k, m, p.m, x.data);
  const int64_t together = STREAMS * p.m < W ? W / (STREAMS * p.m) : 1;
  const int64_t share = p.n * p.k / (LEAST_PART * qwenvl_threads());
  const int64_t parts = qwenvl_threads() * (share < 1 ? 1 : least(share, PARTS));
#pragma omp parallel num_threads(qwenvl_threads())
  {
    Few few = shared;  // which may hold weights that it has widened
#pragma omp for schedule(monotonic : dynamic)
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = p.n * part / parts, count = p.n * (part + 1) / parts - first, rows = count / STREAMS;
      for (int64_t j = 0; j < rows; j += together)
        outputs<STREAMS>(few, p, x.data, first + j, least(together, rows - j), rows);
      for (int64_t j = rows * STREAMS; j < count; ++j) outputs<1>(few, p, x.data, first + j, 1, 1);
    }
  }
}

// What many rows give: y is the product, or [m, n / 2], silu of its first half times the second. Each strip has `count`
// columns of y, from column `strip` on, and WEIGHT_ROWS for each of them.
struct Whole {
  static constexpr int64_t WEIGHT_ROWS = 1;
  static int64_t columns(int64_t n) { return n; }
  static int64_t weight_row(int64_t strip, int64_t, int64_t, int64_t r) { return strip + r; }
  static INLINE vfloat finish(const Operands& p, const float* sums, int64_t strip, int64_t, int64_t j) {
    return p.finish(load(sums + j * MICRO_COLUMNS), strip + j);
  }
};
struct Gated {
  static constexpr int64_t WEIGHT_ROWS = 2;
  static int64_t columns(int64_t n) { return n / 2; }
  static int64_t weight_row(int64_t strip, int64_t count, int64_t n, int64_t r) {
    return r < count ? strip + r : n / 2 + strip + r - count;
  }
  static INLINE vfloat finish(const Operands& p, const float* sums, int64_t strip, int64_t count, int64_t j) {
    const vfloat up = p.finish(load(sums + (count + j) * MICRO_COLUMNS), p.n / 2 + strip + j);
    return silu(Whole::finish(p, sums, strip, count, j)) * up;
  }
};

// `columns` of y, from column `strip` on, for rows of x that lie in panels at `xt`; sums [panels][STRIP][MICRO_COLUMNS].
template <class Result, class Many>
void strip_of_many(const Many& many, const Operands& p, int64_t strip, int64_t columns, const float* xt, int64_t rows,
                   float* weights, float* sums) {
  const int64_t most = many.depth(), blocks = (p.k + most - 1) / most, count = columns * Result::WEIGHT_ROWS;
  auto row = [&](int64_t r) { return Result::weight_row(strip, columns, p.n, r); };
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * most, depth = least(most, p.k - first);
    for (int64_t r = 0; r < count; ++r) many.load_row(row(r), first, depth, weights + r * Many::ROW);
    for (int64_t i = 0; i * MICRO_COLUMNS < rows; ++i) {
      const float* panel = xt + (i * blocks + block) * many.panel_size();
      float* to = sums + i * Many::STRIP * MICRO_COLUMNS;
      for (int64_t r = 0; r < count; r += Many::ROWS) {
        const float* const next = panel + blocks * many.panel_size();  // too far away for the CPU to foresee
        if (many.panel_size() < LARGE_PANEL && (i + 1) * MICRO_COLUMNS < rows)
          prefetch<2>(next + many.panel_size() * r / count, many.panel_size() * Many::ROWS / count * sizeof(float));
        if (i == 0)  // what these rows give to the next block
          for (int64_t l = r; l < least(count, r + Many::ROWS); ++l) many.prefetch(row(l), first + depth, most);
        with_rows<2>(rows - i * MICRO_COLUMNS > W ? 2 : 1, [&](auto vectors) {
          many.template multiply<vectors>(least(Many::ROWS, count - r), depth, weights + r * Many::ROW, panel,
                                          to + r * MICRO_COLUMNS, first > 0);
        });
      }
    }
  }
}

template <class Result = Whole, class Many>
void many_rows(const Many& many, const Operands& p) {
  const int64_t columns = Result::columns(p.n);
  const int64_t parts = (p.m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, depth = many.depth();
  const int64_t most = (p.m + parts * MICRO_COLUMNS - 1) / (parts * MICRO_COLUMNS);  // panels at once
  const int64_t blocks = (p.k + depth - 1) / depth;
  const int64_t work_size = Many::STRIP * (Many::ROW + most * MICRO_COLUMNS), strip_columns = Many::STRIP / Result::WEIGHT_ROWS;
  const int64_t strips = (columns + strip_columns - 1) / strip_columns, enough = LEAST_STRIPS * qwenvl_threads();
  Scratch xt(most * blocks * many.panel_size()), work(qwenvl_threads() * work_size);
  for (int64_t start = 0; start < p.m; start += most * MICRO_COLUMNS) {
    const int64_t rows = least(most * MICRO_COLUMNS, p.m - start), panels = (rows + MICRO_COLUMNS - 1) / MICRO_COLUMNS;
    const int64_t shares = strips < enough ? least(panels, (enough + strips - 1) / strips) : 1;  // of the rows, for each strip
#pragma omp parallel num_threads(qwenvl_threads())
    {
      const typename Many::Thread thread;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < panels * blocks; ++i) {
        const int64_t row = i / blocks * MICRO_COLUMNS, first = i % blocks * depth;
        Many::load_rows(p.x + (start + row) * p.k + first, p.k, rows - row, least(depth, p.k - first),
                        xt.data + i * many.panel_size());
      }
      float *weights = work.data + thread_index() * work_size, *sums = weights + Many::STRIP * Many::ROW;
#pragma omp for schedule(monotonic : dynamic)
      for (int64_t task = 0; task < strips * shares; ++task) {
        const int64_t strip = task / shares * strip_columns, count = least(strip_columns, columns - strip);
        const int64_t first_panel = panels * (task % shares) / shares, last_panel = panels * (task % shares + 1) / shares;
        strip_of_many<Result>(many, p, strip, count, xt.data + first_panel * blocks * many.panel_size(),
                              least(rows, last_panel * MICRO_COLUMNS) - first_panel * MICRO_COLUMNS, weights, sums);
        for (int64_t i = first_panel; i < last_panel; ++i) {
          const float* const panel = sums + (i - first_panel) * Many::STRIP * MICRO_COLUMNS;
          store_panel(least(MICRO_COLUMNS, rows - i * MICRO_COLUMNS), count, columns,
                      p.y + (start + i * MICRO_COLUMNS) * columns + strip,
                      [&](int64_t j, int64_t first) { return Result::finish(p, panel + first, strip, count, j); });
        }
      }
    }
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
