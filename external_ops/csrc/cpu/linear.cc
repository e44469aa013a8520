// Products with weights as the Hub holds them, row-major [n, k], widened to float32 on the way.
#include "product_loops.h"
#include "products_bfloat16.h"
#include "products_float32.h"
#include "products_integer.h"
#include "products_tiles.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

// What multiplies a few rows, and what many.
template <class Format>
struct FewRows : Float32Products<Format> {};
template <class Format>
struct ManyRows : Float32Products<Format> {};
#ifdef QWENVL_INTEGER_PRODUCTS
template <>
struct FewRows<Int8> : IntegerProducts<Int8> {};
template <>
struct ManyRows<Float16> : IntegerProducts<Float16> {};
#endif
#if defined(QWENVL_TILES)
template <>
struct ManyRows<Bfloat16> : TileProducts<Bfloat16> {};
template <>
struct ManyRows<Fp8> : TileProducts<Fp8> {};
template <>
struct ManyRows<Int8> : TileProducts<Int8> {};
#elif defined(QWENVL_BFLOAT16_PRODUCTS)
template <>
struct ManyRows<Bfloat16> : Bfloat16Products<Bfloat16> {};
template <>
struct ManyRows<Fp8> : Bfloat16Products<Fp8> {};
template <>
struct ManyRows<Int8> : IntegerProducts<Int8> {};
#elif defined(QWENVL_INTEGER_PRODUCTS)
template <>
struct ManyRows<Bfloat16> : IntegerProducts<Bfloat16> {};
template <>
struct ManyRows<Fp8> : IntegerProducts<Fp8> {};
template <>
struct ManyRows<Int8> : IntegerProducts<Int8> {};
#endif

// Products with the rows of such a weight.
template <class Products>
struct RowMajor : Products, NothingBefore {
  typedef typename Products::Format::Type Type;
  static constexpr int TILE = W == 16 ? 6 : 3;  // rows of x at a time: STREAMS x TILE of the registers accumulate
  static constexpr int64_t TILE_DEPTH = 512;    // numbers of a weight row that one tile after the other uses: whole blocks
  const Type* weight;
  int64_t k;

  RowMajor(const void* weight, int64_t k) : weight((const Type*)weight), k(k) {}

  const Type* at(int64_t row, int64_t column) const { return weight + row * k + column; }
  INLINE void prefetch(int64_t row, int64_t first, int64_t count) const {
    qwenvl::QWENVL_ISA::prefetch(at(row, first), count * sizeof(Type));
  }
  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) const {
    Products::template tile<R, M>(at(j, 0), apart * k, x, k, m, total, first, last, sums);
  }

  static int64_t depth() { return Products::DEPTH; }
  static int64_t panel_size() { return Products::PANEL; }
  INLINE void load_row(int64_t row, int64_t first, int64_t depth, float* to) const {
    Products::load_weights(at(row, first), depth, to);
  }
};

template <class Few, class Many>
void run(const Operands& p, const void* weight) {
  p.m > Few::MOST ? many_rows(RowMajor<Many>(weight, p.k), p) : few_rows(RowMajor<Few>(weight, p.k), p);
}

}  // namespace

void linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias, int64_t m,
            int64_t k, int64_t n, float* y) {
  if (m == 0) return;
  with_weight_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
    const Operands operands{x, scales, bias, m, k, n, y};
#ifdef QWENVL_BFLOAT16_PRODUCTS
    if constexpr (std::is_same_v<Format, Bfloat16>)
      if (m > 1) return run<Bfloat16Products<Format>, ManyRows<Format>>(operands, weight);
    if constexpr (std::is_same_v<Format, Fp8>) {
      if (m > Fp8FewRows::MOST) return many_rows(RowMajor<ManyRows<Format>>(weight, k), operands);
      if (m > 1) return few_rows(Fp8FewRows(weight, k), operands);
    }
#endif
    run<FewRows<Format>, ManyRows<Format>>(operands, weight);
  });
}

int64_t few_rows(QwenvlDtype dtype) {
  int64_t rows = 0;
  with_weight_format(dtype, [&](auto format) { rows = FewRows<decltype(format)>::MOST; });
  return rows;
}

void linear_swiglu(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                   int64_t m, int64_t k, int64_t n, float* y) {
  with_weight_format(dtype, [&](auto format) {
    typedef ManyRows<decltype(format)> Many;
    many_rows<Gated>(RowMajor<Many>(weight, k), {x, scales, bias, m, k, n, y});
  });
}

void embedding(const int64_t* ids, const void* weight, QwenvlDtype dtype, const float* scales, int64_t tokens, int64_t size,
               float* y) {
  with_weight_format(dtype, [&](auto format) {
    typedef decltype(format) Format;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads()) if (tokens > 1)
    for (int64_t t = 0; t < tokens; ++t) {
      const auto* const from = (const typename Format::Type*)weight + ids[t] * size;
      float* const row = y + t * size;
      for (int64_t i = 0; i < size; i += GROUP) widen_to_float32<Format>(from + i, size - i, row + i);
      for (int64_t i = 0; scales && i < size; ++i) row[i] *= scales[ids[t]];
    }
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
    for (int64_t i = 0; i < whole_groups(size); i += GROUP) widen_to_float32<Format>(from + i, size - i, y + i);
  });
}

void to_bfloat16(const float* x, int64_t size, uint16_t* y) {
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < size; ++i) y[i] = to_bfloat16(x[i]);
}

void widen_to_bfloat16(const void* x, QwenvlDtype dtype, int64_t size, uint16_t* y) {
  constexpr int64_t PART = 4096;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < size; i += PART)
    if (dtype == QWENVL_INT8)
      widen_to_bfloat16<Int8>((const int8_t*)x + i, least(PART, size - i), y + i);
    else
      widen_to_bfloat16<Fp8>((const uint8_t*)x + i, least(PART, size - i), y + i);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
