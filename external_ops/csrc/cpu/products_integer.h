// Products with narrow weights in integers, for AVX2 and AVX-512, best with VNNI: an instruction that multiplies pairs of
// int16 and adds neighbours does twice the work of a multiply-add in float32. x and, unless they are int8, the weights are
// rounded to integers in blocks of DEPTH inputs with a scale of their own ("block floating point", Wilkinson 1963): to 12
// bits and a sign, x beside int8 weights to 15, where bfloat16 keeps 8 bits of a number. The sums of a block are exact.
#pragma once

#include "numbers.h"
#include "product_loops.h"

#if defined(__AVX2__)

namespace qwenvl {
namespace QWENVL_ISA {

// The largest integers of a weight and of x: DEPTH products of them fit into 32 bits.
template <class Format>
struct IntegerLimits {
  static constexpr float weight = 4095, x = 4095;
  static constexpr int64_t depth = 128;
};
template <>
struct IntegerLimits<Int8> {
  static constexpr float weight = 128, x = 32767;
  static constexpr int64_t depth = 512;
};

#if defined(__AVX512F__)
INLINE vint to_integers(vfloat x) { return (vint)_mm512_cvtps_epi32((__m512)x); }
INLINE vshort join(vint a, vint b) {  // of which the low halves count, in natural order
  const __m512i low = _mm512_castsi256_si512(_mm512_cvtepi32_epi16((__m512i)a));
  return (vshort)_mm512_inserti64x4(low, _mm512_cvtepi32_epi16((__m512i)b), 1);
}
INLINE vshort widen_integers(const int8_t* p) { return (vshort)_mm512_cvtepi8_epi16(load_as<__m256i>(p)); }
INLINE vint products(vshort a, vshort b) { return (vint)_mm512_madd_epi16((__m512i)a, (__m512i)b); }  // sums of neighbours'
INLINE vint add_products(vint sums, vshort a, vshort b) {
#if defined(__AVX512VNNI__)
  return (vint)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
#else
  return sums + products(a, b);
#endif
}
INLINE vshort repeat(const float* pair) { return (vshort)_mm512_set1_epi32(load_as<int32_t>(pair)); }
#else
INLINE vint to_integers(vfloat x) { return (vint)_mm256_cvtps_epi32((__m256)x); }
INLINE vshort join(vint a, vint b) {
  return (vshort)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)a, (__m256i)b), 0xd8);
}
INLINE vshort widen_integers(const int8_t* p) { return (vshort)_mm256_cvtepi8_epi16(load_as<__m128i>(p)); }
INLINE vint products(vshort a, vshort b) { return (vint)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
INLINE vint add_products(vint sums, vshort a, vshort b) { return sums + products(a, b); }
INLINE vshort repeat(const float* pair) { return (vshort)_mm256_set1_epi32(load_as<int32_t>(pair)); }
#endif

// `a` and `b` as Format widens them, rounded: GROUP int16 in natural order.
template <class Format>
INLINE vshort round_group(Format, vfloat a, vfloat b) {
  return join(to_integers(a), to_integers(b));
}
INLINE vshort round_group(Bfloat16, vfloat evens, vfloat odds) {
  return (vshort)((to_integers(evens) & 0xffff) | (vint)((vuint)to_integers(odds) << 16));
}

INLINE float maximum_magnitude(vint bits) {
  int32_t top = 0;
  for (int i = 0; i < W; ++i) top = bits[i] > top ? bits[i] : top;
  float y;
  memcpy(&y, &top, 4);
  return y;
}

// Rounds `size` numbers, and zeros up to a whole group, so that the largest becomes `limit`. Returns what a step is
// worth; infinite or not a number if one of the numbers is.
template <class Format>
INLINE float round_block(const typename Format::Type* x, int64_t size, float limit, int16_t* y) {
  const int64_t whole = size / GROUP * GROUP;
  typename Format::Type part[GROUP] = {};
  memcpy(part, x + whole, (size - whole) * sizeof(*x));
  vint top = {};  // of floats without their signs, which are in the order of their bits
  auto look = [&](const typename Format::Type* group) __attribute__((always_inline)) {
    vfloat a, b;
    Format::widen(group, a, b);
    const vint magnitudes = (vint)a & 0x7fffffff, others = (vint)b & 0x7fffffff;
    top = top > magnitudes ? top : magnitudes;
    top = top > others ? top : others;
  };
  for (int64_t i = 0; i < whole; i += GROUP) look(x + i);
  if (whole < size) look(part);
  const float largest = maximum_magnitude(top), inverse = largest > 1e-30f ? limit / largest : 0.0f;
  auto round = [&](const typename Format::Type* group, int16_t* to) __attribute__((always_inline)) {
    vfloat a, b;
    Format::widen(group, a, b);
    const vshort rounded = round_group(Format{}, a * inverse, b * inverse);
    memcpy(to, &rounded, sizeof(rounded));
  };
  for (int64_t i = 0; i < whole; i += GROUP) round(x + i, y + i);
  if (whole < size) round(part, y + whole);
  return largest / limit;
}

template <class Format>
INLINE float round_weights(Format, const typename Format::Type* w, int64_t size, int16_t* y) {
  return round_block<Format>(w, size, IntegerLimits<Format>::weight, y);
}
INLINE float round_weights(Int8, const int8_t* w, int64_t size, int16_t* y) {  // they are integers
  for (int64_t i = 0; i < size; i += GROUP) {
    int8_t part[GROUP] = {};
    if (size - i < GROUP) memcpy(part, w + i, size - i);
    const vshort group = widen_integers(size - i < GROUP ? part : w + i);
    memcpy(y + i, &group, sizeof(group));
  }
  return 1;
}

template <class WeightFormat>
struct IntegerProducts : InRegisters {
  typedef WeightFormat Format;
  typedef IntegerLimits<Format> Limits;
  static constexpr int64_t MOST = 32;  // rows of x that are few
  static constexpr int64_t DEPTH = Limits::depth;
  static constexpr int64_t PANEL = MICRO_COLUMNS + DEPTH * MICRO_COLUMNS / 2;  // scales, then pairs [depth / 2][columns]
  static constexpr int64_t ROW = DEPTH / 2 + 16;                               // numbers, then a scale
  static_assert(Limits::weight * Limits::x * DEPTH < 2147483648.0);

  // For a few rows of x, `total`: scales [block][total], then numbers [group][total][GROUP].
  static int64_t row_size(int64_t k) { return blocks(k) + whole_groups(k) / 2 + W; }
  static void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) {
    int16_t numbers[DEPTH];
    int16_t* groups = numbers_of(to, k, total) + m * GROUP;
    for (int64_t first = 0; first < k; first += DEPTH) {
      const int64_t depth = least(DEPTH, k - first);
      to[first / DEPTH * total + m] = round_block<Float32>(x + first, depth, Limits::x, numbers);
      for (int64_t i = 0; i < depth; i += GROUP)
        memcpy(groups + (first + i) * total, numbers + i, GROUP * sizeof(*numbers));
    }
  }

  // Adds to sums [R][total] what inputs first .. last, whole blocks but for the last one, give of R rows of int8
  // weights, `apart` from each other, and of M of the rows of x, from row m on.
  template <int R, int M>
  static INLINE void tile(const int8_t* w, int64_t apart, const float* x, int64_t k, int64_t m, int64_t total,
                          int64_t first, int64_t last, vfloat* sums) {
    const int16_t* groups = numbers_of((float*)x, k, total) + m * GROUP;
    constexpr int CHAINS = M == 1 ? 2 : 1;  // independent sums, to hide the latency of an addition
    for (int64_t block = first; block < last; block += DEPTH) {
      vint acc[CHAINS][R][M] = {};
      auto step = [&](int c, const int8_t* group, int64_t next, const int16_t* x) __attribute__((always_inline)) {
        vshort rows[M];
#pragma GCC unroll 6
        for (int i = 0; i < M; ++i) rows[i] = load_as<vshort>(x + i * GROUP);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const vshort weights = widen_integers(group + r * next);
#pragma GCC unroll 6
          for (int i = 0; i < M; ++i) acc[c][r][i] = add_products(acc[c][r][i], weights, rows[i]);
        }
      };
      const int64_t end = least(last, block + DEPTH);
      int64_t i = block;
      for (; i + CHAINS * GROUP <= end; i += CHAINS * GROUP) {
#pragma GCC unroll 2
        for (int c = 0; c < CHAINS; ++c) step(c, w + i + c * GROUP, apart, groups + (i + c * GROUP) * total);
        if (W == 8 && total == M)
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) ask_ahead(w + i + r * apart);
      }
      for (; i + GROUP <= end; i += GROUP) step(0, w + i, apart, groups + i * total);
      if (i < end) {
        int8_t part[R][GROUP] = {};
        for (int r = 0; r < R; ++r) memcpy(part[r], w + r * apart + i, end - i);
        step(0, part[0], GROUP, groups + i * total);
      }
      const float* scales = x + block / DEPTH * total + m;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 6
        for (int i = 0; i < M; ++i) {
          const vint all = CHAINS == 1 ? acc[0][r][i] : acc[0][r][i] + acc[CHAINS - 1][r][i];
          sums[r * total + i] += __builtin_convertvector(all, vfloat) * scales[i];
        }
    }
  }

  // For many rows: panels of them, and blocks of weight rows.
  static void load_rows(const float* x, int64_t stride, int64_t rows, int64_t depth, float* panel) {
    alignas(64) int16_t numbers[MICRO_COLUMNS][DEPTH] = {};
    for (int64_t r = 0; r < MICRO_COLUMNS; ++r)
      panel[r] = r < rows ? round_block<Float32>(x + r * stride, depth, Limits::x, numbers[r]) : 0.0f;
    store_pairs(numbers[0], DEPTH, depth, panel + MICRO_COLUMNS);
  }

  static void load_weights(const typename Format::Type* w, int64_t depth, float* row) {
    int16_t* numbers = (int16_t*)row;
    row[DEPTH / 2] = round_weights(Format{}, w, depth, numbers);
  }

  // sums [rows][MICRO_COLUMNS] (+)= `rows` weight rows, MICRO_ROWS at most, times a panel.
  template <int N, int R = MICRO_ROWS>
  static void multiply(int64_t rows, int64_t depth, const float* weights, const float* panel, float* sums,
                       bool accumulate) {
    if constexpr (R > 1)
      if (rows < R) return multiply<N, R - 1>(rows, depth, weights, panel, sums, accumulate);
    vint acc[R][N] = {};
    const float* pairs = panel + MICRO_COLUMNS;
    for (int64_t i = 0; i < (depth + 1) / 2; ++i) {
      vshort columns[N];
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) columns[j] = load_as<vshort>(pairs + i * MICRO_COLUMNS + j * W);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const vshort pair = repeat(weights + r * ROW + i);
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) acc[r][j] = add_products(acc[r][j], pair, columns[j]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) {
        float* to = sums + r * MICRO_COLUMNS + j * W;
        const vfloat scale = load(panel + j * W) * weights[r * ROW + DEPTH / 2];
        vfloat sum = __builtin_convertvector(acc[r][j], vfloat) * scale;
        store(to, accumulate ? sum + load(to) : sum);
      }
  }

 private:
  static int64_t blocks(int64_t k) { return (k + DEPTH - 1) / DEPTH; }
  static int16_t* numbers_of(float* arranged, int64_t k, int64_t total) {
    return (int16_t*)(arranged + (blocks(k) * total + W - 1) / W * W);
  }
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl

#endif
