// Products with weights as the Hub holds them, row-major [n, k], widened to float32 on the way. A few rows of x: each
// weight is read once, in order. Many rows: they lie in the lanes of the vectors, so that weights need no reordering:
//   y^T [n x m] = weight [n x k] x^T [k x m].
#include "products_float32.h"
#include "products_integer.h"

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

constexpr int STREAMS = 4;       // weight rows read side by side, far apart: memory is faster in several streams
constexpr int TILE = 3;          // rows of x for each: STREAMS x TILE of 16 registers accumulate
constexpr int64_t STRIP = 144;   // weight rows that are widened together: a multiple of every MICRO_ROWS
constexpr int64_t DEPTH = 256;   // numbers of a weight row that one tile after the other uses: whole blocks
constexpr int64_t ROWS_AT_ONCE = 1024;

// What multiplies a few rows, and what many.
#ifdef QWENVL_INTEGER_PRODUCTS
template <class Format>
struct FewRows : Float32Products<Format> {};
template <>
struct FewRows<Int8> : IntegerProducts<Int8> {};
template <class Format>
struct ManyRows : IntegerProducts<Format> {};
template <>
struct ManyRows<Float32> : Float32Products<Float32> {};
#else
template <class Format>
struct FewRows : Float32Products<Format> {};
template <class Format>
struct ManyRows : Float32Products<Format> {};
#endif

// R outputs, `apart` from each other, from output j on, of all M rows of x.
template <class Format, int R, int M>
void outputs(const Product<Format>& p, const float* x, int64_t j, int64_t apart) {
  typedef FewRows<Format> Few;
  constexpr int TILES = (M + TILE - 1) / TILE, WIDTH = (M + TILES - 1) / TILES;
  vfloat sums[R][M] = {};
  const int64_t depth = TILES == 1 ? p.k : DEPTH;  // few enough numbers that the cache keeps them for the next tile
  for (int64_t first = 0; first < p.k; first += depth) {
    const int64_t last = least(p.k, first + depth);
    const auto* w = p.weight + j * p.k;
    constexpr int REST = M % WIDTH, WHOLE = M - REST;
    for (int m = 0; m < WHOLE; m += WIDTH)
      Few::template tile<R, WIDTH>(w, apart * p.k, x, p.k, m, M, first, last, sums[0] + m);
    if constexpr (REST > 0)
      Few::template tile<R, REST>(w, apart * p.k, x, p.k, WHOLE, M, first, last, sums[0] + WHOLE);
  }
  for (int r = 0; r < R; ++r)
    for (int m = 0; m < M; ++m) p.y[m * p.n + j + r * apart] = p.finish(sum(sums[r][m]), j + r * apart);
}

template <class Format, int M>
void few_rows(const Product<Format>& p) {
  typedef FewRows<Format> Few;
  Scratch x(M * Few::row_size(p.k));
  for (int m = 0; m < M; ++m) Few::arrange(p.x + m * p.k, p.k, m, M, x.data);
#pragma omp parallel num_threads(qwenvl_threads())
  {
    const int64_t threads = omp_get_num_threads(), first = p.n * thread_index() / threads;
    const int64_t count = p.n * (thread_index() + 1) / threads - first, rows = count / STREAMS;
    for (int64_t j = 0; j < rows; ++j) outputs<Format, STREAMS, M>(p, x.data, first + j, rows);
    for (int64_t j = rows * STREAMS; j < count; ++j) outputs<Format, 1, M>(p, x.data, first + j, 1);
  }
}

template <class Type>
INLINE void prefetch(const Type* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / (int64_t)sizeof(Type)) __builtin_prefetch(p + i);
}

// One strip of y for rows of x that lie in `panels` panels at `xt`; sums [panels][STRIP][MICRO_COLUMNS].
template <class Many>
void strip_of_many(const Product<typename Many::Format>& p, int64_t strip, const float* xt, int64_t rows,
                   float* weights, float* sums) {
  const int64_t count = least(STRIP, p.n - strip), blocks = (p.k + Many::DEPTH - 1) / Many::DEPTH;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * Many::DEPTH, depth = least(Many::DEPTH, p.k - first);
    for (int64_t r = 0; r < count; ++r) {
      const auto* from = p.weight + (strip + r) * p.k + first;
      prefetch(from + depth, Many::DEPTH);  // what this row gives to the next block
      Many::load_weights(from, depth, weights + r * Many::ROW);
    }
    for (int64_t i = 0; i * MICRO_COLUMNS < rows; ++i) {
      const float* panel = xt + (i * blocks + block) * Many::PANEL;
      float* to = sums + i * STRIP * MICRO_COLUMNS;
      rows - i * MICRO_COLUMNS > W ? Many::template multiply<2>(count, depth, weights, panel, to, first > 0)
                                   : Many::template multiply<1>(count, depth, weights, panel, to, first > 0);
    }
  }
}

template <class Format>
void many_rows(const Product<Format>& p) {
  typedef ManyRows<Format> Many;
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

template <class Format, int M = QWENVL_FEW_ROWS>
void run(const Product<Format>& p) {
  if constexpr (M > 1)
    if (p.m < M) return run<Format, M - 1>(p);
  p.m > QWENVL_FEW_ROWS ? many_rows(p) : few_rows<Format, M>(p);
}

}  // namespace

void linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias, int64_t m,
            int64_t k, int64_t n, float* y) {
  if (m == 0) return;
  with_weight_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
    run(Product<Format>{x, (const typename Format::Type*)weight, scales, bias, m, k, n, y});
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
