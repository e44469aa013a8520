// Products with int4 weights, as product_loops.h asks for them. For AVX2 and AVX-512 in integers, as beside int8 weights: x is
// rounded to 15 bits in blocks, (q - zero) is an integer, sums of a block are exact and get the group's scale. Elsewhere in
// float32. x is in the weight's order.
#pragma once

#include "products_float32.h"
#include "products_integer.h"

namespace qwenvl {
namespace QWENVL_ISA {

constexpr int64_t PIECE = QWENVL_INT4_GROUPS_OF;  // inputs, of one group

// Where the numbers of a weight's rows lie.
struct Int4Rows {
  const QwenvlInt4Weight* weight;
  int64_t groups, bytes;  // of a row

  explicit Int4Rows(const QwenvlInt4Weight* w) : weight(w), groups(w->k / w->group), bytes(w->k / 2) {}

  const uint8_t* at(int64_t row, int64_t input) const { return weight->values + row * bytes + input / 2; }
  INLINE void prefetch(int64_t row, int64_t input, int64_t count) const {
    qwenvl::QWENVL_ISA::prefetch(at(row, input), count / 2);
  }
  float scale(int64_t row, int64_t group) const {
    const int64_t i = row * groups + group;
    if (weight->scale_dtype == QWENVL_FLOAT16) return from_float16(((const uint16_t*)weight->scales)[i]);
    if (weight->scale_dtype == QWENVL_BFLOAT16) return from_bfloat16(((const uint16_t*)weight->scales)[i]);
    return ((const float*)weight->scales)[i];
  }
  int zero(int64_t row, int64_t group) const { return weight->zeros ? weight->zeros[row * groups + group] : 8; }

  // Inputs first .. first + count of a row, whole pieces, in float32.
  void widen(int64_t row, int64_t first, int64_t count, float* to) const {
    for (int64_t i = first; i < first + count; i += PIECE, to += PIECE) {
      const float s = scale(row, i / weight->group), middle = zero(row, i / weight->group);
      const uint8_t* q = at(row, i);
      for (int64_t b = 0; b < PIECE / 2; ++b) {
        to[2 * b] = ((q[b] & 15) - middle) * s;
        to[2 * b + 1] = ((q[b] >> 4) - middle) * s;
      }
    }
  }
};

#if defined(__AVX2__)

INLINE vint widen_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (vint)_mm512_cvtepu8_epi32(load_as<__m128i>(p));
#else
  return (vint)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
#endif
}

// PIECE numbers less `zero`, in natural order.
INLINE void widen_piece(const uint8_t* q, int zero, int16_t* to) {
  const __m128i bytes = load_as<__m128i>(q), mask = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(bytes, mask), high = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
  const __m256i middle = _mm256_set1_epi16((int16_t)zero);
  const __m256i first = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(low, high));
  const __m256i second = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(low, high));
  _mm256_storeu_si256((__m256i*)to, _mm256_sub_epi16(first, middle));
  _mm256_storeu_si256((__m256i*)(to + PIECE / 2), _mm256_sub_epi16(second, middle));
}

// Few rows. A register holds UNIT inputs; its words hold four each, and four shifts give four vectors of integers: number j
// of vector t is input 4 j + t. The products that a lane adds up are of eight neighbours, which share a group; less the zero
// times the sum of these eight of x, of 19 bits, which is held in two numbers: 512 and 1 times them.
class Int4FewRows : Int4Rows {
 public:
  static constexpr int64_t MOST = QWENVL_FEW_ROWS;
  static constexpr int TILE = W == 16 ? 4 : 2;
  static constexpr int64_t TILE_DEPTH = 1024;

  explicit Int4FewRows(const QwenvlInt4Weight* w)
      : Int4Rows(w), slot_(w->group % UNIT == 0 ? w->group : w->group % (UNIT / 2) == 0 ? UNIT / 2 : PIECE) {}
  using Int4Rows::prefetch;

  // Of x: scales [block][total], then for each [unit][total] four vectors of numbers and one of sums, negated.
  static int64_t row_size(int64_t k) { return (k + BLOCK - 1) / BLOCK + (k + UNIT - 1) / UNIT * 5 * W + W; }
  static void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) {
    int16_t* units = numbers_of(to, k, total) + m * SIZE;
    for (int64_t first = 0; first < k; first += BLOCK) {
      int16_t numbers[BLOCK] = {};
      const int64_t size = least(BLOCK, k - first);
      to[first / BLOCK * total + m] = round_block<Float32>(x + first, size, IntegerLimits<Int8>::x, numbers);
      for (int64_t i = 0; i < size; i += UNIT) {
        int16_t* unit = units + (first + i) / UNIT * total * SIZE;
        for (int64_t l = 0; l < UNIT / 4; ++l)
          for (int64_t t = 0; t < 4; ++t) unit[t * (UNIT / 4) + l] = numbers[i + 4 * l + t];
        for (int64_t lane = 0; lane < W; ++lane) {
          int sum = 0;
          for (int64_t l = 0; l < 8; ++l) sum -= numbers[i + lane * 8 + l];
          unit[UNIT + 2 * lane] = sum >> 9, unit[UNIT + 2 * lane + 1] = sum & 511;
        }
      }
    }
  }

  // As Float32Products' `tile`, of rows j, j + apart, ...
  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) const {
    if (slot_ % UNIT == 0)
      slots<1, R, M>(j, apart, x, m, total, first, last, sums);
    else if (UNIT / PIECE == 2 || slot_ > PIECE)
      slots<2, R, M>(j, apart, x, m, total, first, last, sums);
    else
      slots<UNIT / PIECE, R, M>(j, apart, x, m, total, first, last, sums);
  }

 private:
  static constexpr int64_t UNIT = 8 * W, SIZE = UNIT + 2 * W, BLOCK = 128;
  static constexpr int64_t SLOTS = 64, ROOM = SLOTS + 2 * GROUP;  // at a time
  const int64_t slot_;                                            // inputs for which there is one scale

  static int16_t* numbers_of(const float* arranged, int64_t k, int64_t total) {
    return (int16_t*)(arranged + ((k + BLOCK - 1) / BLOCK * total + W - 1) / W * W);
  }

  // The scales of `count` slots and of those that fill up the last register, and their zeros, 512 times and once.
  INLINE void load_slots(int64_t row, int64_t first, int64_t count, float* scales, int32_t* zeros) const {
    if (slot_ == weight->group) {
      load_groups(row * groups + first, count, scales, zeros);
    } else {
      for (int64_t i = 0; i < count + UNIT / PIECE - 1; ++i) {
        const int64_t group = least((first + i) * slot_ / weight->group, groups - 1);
        scales[i] = scale(row, group), zeros[i] = zero(row, group) * (512 + 0x10000);
      }
    }
  }
  INLINE void load_groups(int64_t first, int64_t count, float* scales, int32_t* zeros) const {
    const int64_t all = weight->n * groups;  // what follows a row's are those of the next
    with_cache_format(weight->scale_dtype, [&](auto format) __attribute__((always_inline)) {
      typedef decltype(format) Format;
      const auto* from = (const typename Format::Type*)weight->scales + first;
      for (int64_t i = 0; i < count; i += GROUP) {
        vfloat a, b;
        first + i + GROUP <= all ? Format::widen(from + i, a, b) : widen_part<Format>(from + i, all - first - i, a, b);
        Format::restore(a, b);
        store(scales + i, a), store(scales + i + W, b);
      }
    });
    for (int64_t i = 0; i < count; i += W) {
      vint z = vint{} + 8;
      if (weight->zeros && first + i + W <= all) {
        z = widen_bytes(weight->zeros + first + i);
      } else if (weight->zeros) {
        uint8_t part[W] = {};
        memcpy(part, weight->zeros + first + i, all - first - i);
        z = widen_bytes(part);
      }
      z *= 512 + 0x10000;
      memcpy(zeros + i, &z, sizeof(z));
    }
  }

  // A vector of what G slots have, each as often as the next.
  template <int G, class Number>
  static INLINE vint spread(const Number* slots) {
    vint index;
    for (int i = 0; i < W; ++i) index[i] = i * G / W;
    return G == 1 ? vint{} + load_as<int32_t>(slots) : __builtin_shuffle(load_as<vint>(slots), index);
  }

  // `tile` where a register holds G slots, or 1 of one.
  template <int G, int R, int M>
  INLINE void slots(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                    vfloat* sums) const {
    const uint8_t* rows[R];
    float scales[R][ROOM];
    int32_t zeros[R][ROOM];
    vfloat totals[R][M] = {};
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) rows[r] = at(j + r * apart, 0);
    const int16_t* numbers = numbers_of(x, weight->k, total) + m * SIZE;
    const int64_t units = (last + UNIT - 1) / UNIT, each = G == 1 ? slot_ / UNIT : 1;  // units of a slot, or of G
    int64_t unit = first / UNIT, slot = first / slot_;
    for (int64_t end = G == 1 ? (slot + 1) * each : unit + 1; unit < units; slot += SLOTS) {
      const int64_t count = least(SLOTS, (last + slot_ - 1) / slot_ - slot);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) load_slots(j + r * apart, slot, count, scales[r], zeros[r]);
      for (int64_t s = 0; s < SLOTS && unit < units; s += G, end += each) {
        vfloat scale[R];
        vshort zero[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) scale[r] = (vfloat)spread<G>(scales[r] + s), zero[r] = (vshort)spread<G>(zeros[r] + s);
        for (; unit < least(end, units); ++unit) {
          const float* steps = x + unit * UNIT / BLOCK * total + m;
          multiply<R, M>(rows, unit, scale, zero, numbers + unit * total * SIZE, steps, totals[0]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int l = 0; l < M; ++l) sums[r * total + l] += totals[r][l];
  }

  // Adds to totals [R][M] what a unit gives.
  template <int R, int M>
  INLINE void multiply(const uint8_t* const* rows, int64_t unit, const vfloat* scale, const vshort* zero,
                       const int16_t* x, const float* steps, vfloat* totals) const {
    typedef uint16_t vwords __attribute__((vector_size(4 * W)));
    constexpr int64_t BYTES = UNIT / 2;
    vwords words[R];
    if ((unit + 1) * BYTES <= bytes) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) words[r] = load_as<vwords>(rows[r] + unit * BYTES);
    } else {
      for (int r = 0; r < R; ++r) {
        uint8_t part[BYTES] = {};
        memcpy(part, rows[r] + unit * BYTES, bytes - unit * BYTES);
        words[r] = load_as<vwords>(part);
      }
    }
    vint acc[R][M];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int l = 0; l < M; ++l) acc[r][l] = add_products(vint{}, zero[r], load_as<vshort>(x + l * SIZE + UNIT));
#pragma GCC unroll 4
    for (int t = 0; t < 4; ++t)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const vshort weights = (vshort)(t == 3 ? words[r] >> 12 : words[r] >> 4 * t & 15);
#pragma GCC unroll 4
        for (int l = 0; l < M; ++l)
          acc[r][l] = add_products(acc[r][l], weights, load_as<vshort>(x + l * SIZE + t * UNIT / 4));
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int l = 0; l < M; ++l)
        totals[r * M + l] += __builtin_convertvector(acc[r][l], vfloat) * (scale[r] * steps[l]);
  }
};

// Many rows, in blocks that have one scale.
class Int4ManyRows : public IntegerProducts<Int8>, Int4Rows {
 public:
  explicit Int4ManyRows(const QwenvlInt4Weight* w) : Int4Rows(w) {
    depth_ = DEPTH;
    while (w->group % depth_) depth_ -= PIECE;
  }
  using Int4Rows::prefetch;

  int64_t depth() const { return depth_; }
  int64_t panel_size() const { return MICRO_COLUMNS + depth_ * MICRO_COLUMNS / 2; }
  void load_row(int64_t row, int64_t first, int64_t depth, float* to) const {
    const int64_t group = first / weight->group;
    const int middle = zero(row, group);
    for (int64_t i = 0; i < depth; i += PIECE) widen_piece(at(row, first + i), middle, (int16_t*)to + i);
    to[DEPTH / 2] = scale(row, group);
  }

 private:
  int64_t depth_;
};

#else

class Int4FewRows : public Float32Products<Float32>, Int4Rows {
 public:
  static constexpr int TILE = 3;
  static constexpr int64_t TILE_DEPTH = 512;

  explicit Int4FewRows(const QwenvlInt4Weight* w) : Int4Rows(w) {}
  using Int4Rows::prefetch;

  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) const {
    for (int64_t i = first; i < last; i += PIECE) {
      float piece[R][PIECE];
      for (int r = 0; r < R; ++r) widen(j + r * apart, i, PIECE, piece[r]);
      Float32Products<Float32>::tile<R, M>(piece[0], PIECE, x + i * total, weight->k, m, total, 0, PIECE, sums);
    }
  }
};

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
