// Products with weights as the Hub holds them, row-major [n, k], widened to float32 on the way. A few rows of x: each
// weight is read once, in order. Many rows: they lie in the lanes of the vectors, so that weights need no reordering:
//   y^T [n x m] = weight [n x k] x^T [k x m].
#include "products_bfloat16.h"
#include "products_float32.h"
#include "products_integer.h"

#include <type_traits>

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

template <class Format>
struct Product {
  typedef typename Format::Type Type;
  const float* x;
  const Type* weight;
  const float *scales, *bias;
  int64_t m, k, n;
  float* y;

  float finish(float sum, int64_t j) const { return sum * (scales ? scales[j] : 1.0f) + (bias ? bias[j] : 0.0f); }
};

constexpr int STREAMS = 4;             // weight rows read side by side, far apart: memory is faster in several streams
constexpr int TILE = W == 16 ? 6 : 3;  // rows of x for each: STREAMS x TILE of the registers accumulate
constexpr int64_t STRIP = 144;         // weight rows that are widened together: a multiple of every MICRO_ROWS
constexpr int64_t DEPTH = 512;         // numbers of a weight row that one tile after the other uses: whole blocks
constexpr int64_t ROWS_AT_ONCE = 1024;

// What multiplies a few rows, and what many.
template <class Format>
struct FewRows : Float32Products<Format> {};
template <class Format>
struct ManyRows : Float32Products<Format> {};
#ifdef QWENVL_INTEGER_PRODUCTS
template <>
struct FewRows<Int8> : IntegerProducts<Int8> {};
template <>
struct ManyRows<Int8> : IntegerProducts<Int8> {};
template <>
struct ManyRows<Float16> : IntegerProducts<Float16> {};
template <>
struct ManyRows<Bfloat16> : IntegerProducts<Bfloat16> {};
#endif

// Calls f with the number of rows as a constant, `rows` of TILE at most.
template <int M = TILE, class F>
INLINE void with_rows(int64_t rows, F f) {
  if constexpr (M > 1)
    if (rows < M) return with_rows<M - 1>(rows, f);
  f(std::integral_constant<int, M>{});
}

template <class Type>
INLINE void prefetch(const Type* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / (int64_t)sizeof(Type)) __builtin_prefetch(p + i);
}

// R outputs, `apart` from each other, from output j on, of all rows of x.
template <class Few, int R>
void outputs(const Product<typename Few::Format>& p, const float* x, int64_t j, int64_t apart) {
  const int64_t tiles = (p.m + TILE - 1) / TILE, width = (p.m + tiles - 1) / tiles;
  const int64_t depth = tiles == 1 ? p.k : DEPTH;  // few enough numbers that the cache keeps them for the next tile
  vfloat sums[(R * Few::MOST + W - 1) / W * W] = {};
  for (int64_t first = 0; first < p.k; first += depth)
    for (int64_t m = 0; m < p.m; m += width) {
      const auto* w = p.weight + j * p.k;
      if (tiles > 1)  // what this tile's share of the next numbers is
        for (int r = 0; r < R; ++r) prefetch(w + r * apart * p.k + first + depth + m * depth / p.m, depth / tiles);
      with_rows(least(width, p.m - m), [&](auto rows) {
        Few::template tile<R, rows>(w, apart * p.k, x, p.k, m, p.m, first, least(p.k, first + depth), sums + m);
      });
    }
  for (int64_t i = 0; i < R * p.m; i += W) {
    const vfloat totals = qwenvl::QWENVL_ISA::sums(sums + i);
    for (int64_t l = i; l < least(R * p.m, i + W); ++l) {
      const int64_t output = j + l / p.m * apart;
      p.y[l % p.m * p.n + output] = p.finish(totals[l - i], output);
    }
  }
}

template <class Few>
void few_rows(const Product<typename Few::Format>& p) {
  Scratch x(p.m * Few::row_size(p.k));
  for (int64_t m = 0; m < p.m; ++m) Few::arrange(p.x + m * p.k, p.k, m, p.m, x.data);
#pragma omp parallel num_threads(qwenvl_threads())
  {
    const int64_t threads = omp_get_num_threads(), first = p.n * thread_index() / threads;
    const int64_t count = p.n * (thread_index() + 1) / threads - first, rows = count / STREAMS;
    for (int64_t j = 0; j < rows; ++j) outputs<Few, STREAMS>(p, x.data, first + j, rows);
    for (int64_t j = rows * STREAMS; j < count; ++j) outputs<Few, 1>(p, x.data, first + j, 1);
  }
}

// One strip of y for rows of x that lie in `panels` panels at `xt`; sums [panels][STRIP][MICRO_COLUMNS].
template <class Many>
void strip_of_many(const Product<typename Many::Format>& p, int64_t strip, const float* xt, int64_t rows,
                   float* weights, float* sums) {
  const int64_t count = least(STRIP, p.n - strip), blocks = (p.k + Many::DEPTH - 1) / Many::DEPTH;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * Many::DEPTH, depth = least(Many::DEPTH, p.k - first);
    const auto* from = p.weight + strip * p.k + first;
    for (int64_t r = 0; r < count; ++r) Many::load_weights(from + r * p.k, depth, weights + r * Many::ROW);
    for (int64_t i = 0; i * MICRO_COLUMNS < rows; ++i) {
      const float* panel = xt + (i * blocks + block) * Many::PANEL;
      float* to = sums + i * STRIP * MICRO_COLUMNS;
      for (int64_t r = 0; r < count; r += MICRO_ROWS) {
        if (i == 0)  // what these rows give to the next block
          for (int64_t l = r; l < least(count, r + MICRO_ROWS); ++l) prefetch(from + l * p.k + depth, Many::DEPTH);
        const auto multiply = rows - i * MICRO_COLUMNS > W ? Many::template multiply<2> : Many::template multiply<1>;
        multiply(least(MICRO_ROWS, count - r), depth, weights + r * Many::ROW, panel, to + r * MICRO_COLUMNS, first > 0);
      }
    }
  }
}

template <class Many>
void many_rows(const Product<typename Many::Format>& p) {
  const int64_t parts = (p.m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const int64_t most = (p.m + parts * MICRO_COLUMNS - 1) / (parts * MICRO_COLUMNS);  // panels at once
  const int64_t blocks = (p.k + Many::DEPTH - 1) / Many::DEPTH;
  const int64_t work_size = STRIP * (Many::ROW + most * MICRO_COLUMNS);
  Scratch xt(most * blocks * Many::PANEL), work(qwenvl_threads() * work_size);
  for (int64_t start = 0; start < p.m; start += most * MICRO_COLUMNS) {
    const int64_t rows = least(most * MICRO_COLUMNS, p.m - start), panels = (rows + MICRO_COLUMNS - 1) / MICRO_COLUMNS;
#pragma omp parallel num_threads(qwenvl_threads())
    {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < panels * blocks; ++i) {
        const int64_t row = i / blocks * MICRO_COLUMNS, first = i % blocks * Many::DEPTH;
        Many::load_rows(p.x + (start + row) * p.k + first, p.k, rows - row, least(Many::DEPTH, p.k - first),
                        xt.data + i * Many::PANEL);
      }
      float *weights = work.data + thread_index() * work_size, *sums = weights + STRIP * Many::ROW;
#pragma omp for schedule(monotonic : dynamic)
      for (int64_t strip = 0; strip < p.n; strip += STRIP) {
        strip_of_many<Many>(p, strip, xt.data, rows, weights, sums);
        for (int64_t i = 0; i < panels; ++i)
          store_panel(sums + i * STRIP * MICRO_COLUMNS, least(MICRO_COLUMNS, rows - i * MICRO_COLUMNS),
                      least(STRIP, p.n - strip), p.n, p.y + (start + i * MICRO_COLUMNS) * p.n + strip,
                      [&](vfloat sum, int64_t j, int64_t) {
                        if (p.scales) sum *= p.scales[strip + j];
                        return p.bias ? sum + p.bias[strip + j] : sum;
                      });
      }
    }
  }
}

template <class Few, class Many>
void run(const Product<typename Few::Format>& p) {
  p.m > Few::MOST ? many_rows<Many>(p) : few_rows<Few>(p);
}

}  // namespace

void linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias, int64_t m,
            int64_t k, int64_t n, float* y) {
  if (m == 0) return;
  with_weight_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
    const Product<Format> product{x, (const typename Format::Type*)weight, scales, bias, m, k, n, y};
#ifdef QWENVL_BFLOAT16_PRODUCTS
    if constexpr (std::is_same_v<Format, Bfloat16>)
      if (m > 1) return run<Bfloat16Products, Bfloat16Products>(product);
#endif
    run<FewRows<Format>, ManyRows<Format>>(product);
  });
}

// Symmetric: the largest number of a row becomes 127.
void quantize(const void* weight, QwenvlDtype dtype, int64_t rows, int64_t size, int8_t* y, float* scales) {
  with_cache_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
    for (int64_t r = 0; r < rows; ++r) {
      const auto* row = (const typename Format::Type*)weight + r * size;
      float largest = 0;
      for (int64_t i = 0; i < size; ++i) largest = __builtin_fmaxf(largest, __builtin_fabsf(Format::widen_one(row[i])));
      const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
      scales[r] = largest / 127.0f;
      for (int64_t i = 0; i < size; ++i) y[r * size + i] = (int8_t)__builtin_rintf(Format::widen_one(row[i]) * inverse);
    }
  });
}

void to_float32(const void* x, QwenvlDtype dtype, int64_t size, float* y) {
  with_weight_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
    const auto* from = (const typename Format::Type*)x;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
    for (int64_t i = 0; i < whole_groups(size); i += GROUP) {
      vfloat a, b;
      const int64_t left = size - i;
      left >= GROUP ? Format::widen(from + i, a, b) : widen_part<Format>(from + i, left, a, b);
      Format::restore(a, b);
      left >= W ? store(y + i, a) : store_part(y + i, a, left);
      if (left > W) left >= GROUP ? store(y + i + W, b) : store_part(y + i + W, b, left - W);
    }
  });
}

void to_bfloat16(const float* x, int64_t size, uint16_t* y) {
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < size; ++i) y[i] = to_bfloat16(x[i]);
}

void int8_to_bfloat16(const int8_t* x, int64_t size, uint16_t* y) {
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < size; ++i) y[i] = to_bfloat16(x[i]);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
