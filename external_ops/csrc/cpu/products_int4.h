// Products with int4 weights, as product_loops.h asks for them. For AVX2 and AVX-512 in integers, as beside int8 weights: x is
// rounded to 15 bits in blocks, q or (q - zero) is an integer, sums of a block are exact and get the group's scale. Elsewhere
// in float32. x is in the weight's order.
#pragma once

#include "product_loops.h"
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

  // A group of a row, rounded: its 16 numbers are rounded once and looked up.
  void to_bfloat16(int64_t row, int64_t group, uint16_t* to) const {
    const float s = scale(row, group), middle = zero(row, group);
    uint16_t numbers[32];  // twice: five bits are looked at, of which the fifth is another's
    for (int i = 0; i < 32; ++i) numbers[i] = qwenvl::QWENVL_ISA::to_bfloat16((i % 16 - middle) * s);
    const uint8_t* q = at(row, group * weight->group);
    for (int64_t i = 0; i < weight->group; i += PIECE, q += PIECE / 2, to += PIECE) {
#if defined(__AVX512F__)
      const __m512i bytes = _mm512_cvtepu8_epi32(load_as<__m128i>(q));  // to the two words of each
      const __m512i words = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
      _mm512_storeu_si512(to, _mm512_permutexvar_epi16(words, load_as<__m512i>(numbers)));
#else
      for (int64_t b = 0; b < PIECE / 2; ++b) to[2 * b] = numbers[q[b] & 15], to[2 * b + 1] = numbers[q[b] >> 4];
#endif
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
  for (int64_t i = 0; i < PIECE; i += GROUP) {
    const vint bytes = widen_bytes(q + i / 2);  // to the two words of each
    const vshort numbers = (vshort)((bytes | bytes << 12) & 0xf000f) - (int16_t)zero;
    memcpy(to + i, &numbers, sizeof(numbers));
  }
}

// Numbers of a row's groups, many at a time.
struct Int4Groups : Int4Rows {
  using Int4Rows::Int4Rows;

  // `count` scales of groups from `first` on, and what fills up whole numbers of GROUP: the next row's, or zeros.
  INLINE void load_scales(int64_t row, int64_t first, int64_t count, float* scales) const {
    const int64_t start = row * groups + first, left = weight->n * groups - start;
    with_cache_format(weight->scale_dtype, [&](auto format) __attribute__((always_inline)) {
      typedef decltype(format) Format;
      const auto* from = (const typename Format::Type*)weight->scales + start;
      for (int64_t i = 0; i < count; i += GROUP) {
        vfloat a, b;
        left - i >= GROUP ? Format::widen(from + i, a, b) : widen_part<Format>(from + i, left - i, a, b);
        Format::restore(a, b);
        store(scales + i, a), store(scales + i + W, b);
      }
    });
  }

  INLINE void load_zeros(int64_t row, int64_t first, vfloat& a, vfloat& b) const {
    a = b = splat(8.0f);
    if (!weight->zeros) return;
    const int64_t start = row * groups + first, left = weight->n * groups - start;
    uint8_t part[GROUP] = {};
    if (left < GROUP) memcpy(part, weight->zeros + start, left);
    const uint8_t* from = left < GROUP ? part : weight->zeros + start;
    a = __builtin_convertvector(widen_bytes(from), vfloat), b = __builtin_convertvector(widen_bytes(from + W), vfloat);
  }
};

// Few rows. A register holds UNIT inputs; its words hold four each, and four shifts give four vectors of integers: number j
// of vector t is input 4 j + t. The products that a lane adds up are of eight neighbours, which share a group. What the zeros
// take off is, for each group, scale * zero times the sum of its x: a product of its own, with a lane for each group.
class Int4FewRows : Int4Groups {
 public:
  static constexpr int64_t MOST = 3;  // products_int4_lanes.h is faster with more
  static constexpr int TILE = W == 16 ? 3 : 2;
  static constexpr int64_t TILE_DEPTH = 2048;

  explicit Int4FewRows(const QwenvlInt4Weight* w)
      : Int4Groups(w), slot_(w->group % UNIT == 0 ? UNIT : w->group % (UNIT / 2) == 0 ? UNIT / 2 : PIECE) {}
  using Int4Rows::prefetch;

  // Of x: sums [group / GROUP][total][GROUP], steps [block][total], numbers [unit][total][UNIT].
  int64_t row_size(int64_t k) const { return whole_groups(groups) + blocks(k) + (k + UNIT - 1) / UNIT * (UNIT / 2) + W; }
  void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) const {
    float* sums = to + m * GROUP;
    for (int64_t g = 0; g < whole_groups(groups); ++g) sums[g / GROUP * total * GROUP + g % GROUP] = 0;
    for (int64_t first = 0; first < k; first += BLOCK) {
      int16_t numbers[BLOCK] = {};
      const int64_t size = least(BLOCK, k - first);
      const float step = round_block<Float32>(x + first, size, IntegerLimits<Int8>::x, numbers);
      steps_of(to, total)[first / BLOCK * total + m] = step;
      for (int64_t i = 0; i < size; i += PIECE) {
        const int64_t g = (first + i) / weight->group;
        int sum = 0;
        for (int64_t l = 0; l < PIECE; ++l) sum += numbers[i + l];
        sums[g / GROUP * total * GROUP + g % GROUP] += sum * step;
      }
      for (int64_t i = 0; i < size; i += UNIT) {
        int16_t* unit = numbers_of(to, k, total) + ((first + i) / UNIT * total + m) * UNIT;
        for (int64_t l = 0; l < UNIT / 4; ++l)
          for (int64_t t = 0; t < 4; ++t) unit[t * (UNIT / 4) + l] = numbers[i + 4 * l + t];
      }
    }
  }

  // As Float32Products' `tile`, of rows j, j + apart, ...
  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) const {
    if (first == 0) subtract_zeros<R, M>(j, apart, x, m, total, sums);
    if (slot_ == UNIT)
      blocks<1, R, M>(j, apart, x, m, total, first, last, sums);
    else if (UNIT / PIECE == 2 || slot_ > PIECE)
      blocks<2, R, M>(j, apart, x, m, total, first, last, sums);
    else
      blocks<UNIT / PIECE, R, M>(j, apart, x, m, total, first, last, sums);
  }

 private:
  typedef uint16_t vwords __attribute__((vector_size(4 * W)));
  static constexpr int64_t UNIT = 8 * W, BLOCK = IntegerLimits<Int8>::depth;
  static constexpr int64_t SPAN = TILE_DEPTH;  // inputs whose scales are loaded at a time
  static constexpr int64_t AHEAD = 2048;       // bytes: those of the rows to come where there is one tile
  const int64_t slot_;                         // inputs for which a register has one scale

  static int64_t blocks(int64_t k) { return (k + BLOCK - 1) / BLOCK; }
  float* steps_of(const float* arranged, int64_t total) const { return (float*)arranged + whole_groups(groups) * total; }
  int16_t* numbers_of(const float* arranged, int64_t k, int64_t total) const {
    return (int16_t*)(steps_of(arranged, total) + (blocks(k) * total + W - 1) / W * W);
  }

  // Scales of slots: of inputs first .. first + SPAN, and of what fills up the last register.
  INLINE void load_slots(int64_t row, int64_t first, int64_t last, float* scales) const {
    if (slot_ == weight->group) return load_scales(row, first / slot_, (last - first + slot_ - 1) / slot_, scales);
    int64_t slot = 0, input = first;
    for (int64_t g = first / weight->group; g < groups && input < last; ++g)
      for (const float s = scale(row, g); input < least(last, (g + 1) * weight->group); input += slot_) scales[slot++] = s;
    for (int64_t i = 0; i < UNIT / PIECE; ++i) scales[slot + i] = 0;
  }

  INLINE void prefetch_groups(int64_t row) const {
    const int64_t size = weight->scale_dtype == QWENVL_FLOAT32 ? 4 : 2;
    qwenvl::QWENVL_ISA::prefetch((const char*)weight->scales + row * groups * size, groups * size);
    if (weight->zeros) qwenvl::QWENVL_ISA::prefetch(weight->zeros + row * groups, groups);
  }

  template <int R, int M>
  INLINE void subtract_zeros(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, vfloat* sums) const {
    for (int r = 0; r < R; ++r) {
      prefetch_groups(j + r * apart + 4);
      for (int64_t g = 0; g < groups; g += GROUP) {
        float scales[GROUP];
        vfloat a, b;
        load_scales(j + r * apart, g, GROUP, scales);
        load_zeros(j + r * apart, g, a, b);
        a *= load(scales), b *= load(scales + W);
        const float* of_x = x + g * total + m * GROUP;
#pragma GCC unroll 6
        for (int l = 0; l < M; ++l)
          sums[r * total + l] -= a * load(of_x + l * GROUP) + b * load(of_x + l * GROUP + W);
      }
    }
  }

  // A vector of what G slots have, each as often as the next.
  template <int G>
  static INLINE vfloat spread(const float* slots) {
    vint index;
    for (int i = 0; i < W; ++i) index[i] = i * G / W;
    return G == 1 ? splat(*slots) : __builtin_shuffle(load(slots), index);
  }

  // `tile`, less the zeros, where a register holds G slots.
  template <int G, int R, int M>
  INLINE void blocks(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                     vfloat* sums) const {
    const int16_t* numbers = numbers_of(x, weight->k, total) + m * UNIT;
    const float* steps = steps_of(x, total) + m;
    float scales[R][SPAN / PIECE + GROUP];
    for (int64_t block = first; block < last; block += BLOCK) {
      if ((block - first) % SPAN == 0)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) load_slots(j + r * apart, block, least(last, block + SPAN), scales[r]);
      const int64_t loaded = (block - first) % SPAN / UNIT, whole = least(BLOCK, last - block) / UNIT;
      vfloat totals[R][M] = {};
      auto multiply = [&](int64_t u, const uint8_t* const* units) __attribute__((always_inline)) {
        const int16_t* unit = numbers + (block / UNIT + u) * total * UNIT;
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          __asm__("" : "+r"(unit));  // x is read again: the registers are for totals
          add_unit<M>(units[r], spread<G>(scales[r] + (loaded + u) * G), unit, totals[r]);
        }
      };
      const uint8_t* rows[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) rows[r] = at(j + r * apart, block);
      for (int64_t u = 0; u < whole; ++u) {
        multiply(u, rows);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          if (total == M) __builtin_prefetch(rows[r] + AHEAD);
          rows[r] += UNIT / 2;
        }
      }
      if (const int64_t left = least(BLOCK, last - block) % UNIT) {
        uint8_t parts[R][UNIT / 2] = {};
        for (int r = 0; r < R; ++r) rows[r] = (const uint8_t*)memcpy(parts[r], rows[r], left / 2);
        multiply(whole, rows);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 6
        for (int l = 0; l < M; ++l) sums[r * total + l] += totals[r][l] * steps[block / BLOCK * total + l];
    }
  }

  // Adds to totals [M] what a unit of a weight's row gives.
  template <int M>
  static INLINE void add_unit(const uint8_t* unit, vfloat scale, const int16_t* x, vfloat* totals) {
    vwords words = load_as<vwords>(unit);
    __asm__("" : "+v"(words));  // they are read once
    const vshort weights[4] = {(vshort)(words & 15), (vshort)(words >> 4 & 15), (vshort)(words >> 8 & 15), (vshort)(words >> 12)};
#pragma GCC unroll 6
    for (int l = 0; l < M; ++l) {
      vint sum = products(weights[0], load_as<vshort>(x + l * UNIT));
#pragma GCC unroll 3
      for (int t = 1; t < 4; ++t) sum = add_products(sum, weights[t], load_as<vshort>(x + l * UNIT + t * UNIT / 4));
      totals[l] += __builtin_convertvector(sum, vfloat) * scale;
    }
  }
};

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
    load_scales(row, first / weight->group, depth / segment_, to + DEPTH / 2);
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
  static constexpr int TILE = MICRO_ROWS / 2;
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
