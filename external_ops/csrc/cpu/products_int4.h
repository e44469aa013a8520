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

  // The same, rounded: the 16 numbers of a group are rounded once and looked up.
  void to_bfloat16(int64_t row, int64_t first, int64_t count, uint16_t* to) const {
    const int64_t last = first + count;
    for (int64_t i = first; i < last;) {
      const int64_t group = i / weight->group, next = (group + 1) * weight->group, end = next < last ? next : last;
      const float s = scale(row, group), middle = zero(row, group);
      uint16_t numbers[32];  // twice: five bits are looked at, of which the fifth is another's
      for (int l = 0; l < 32; ++l) numbers[l] = qwenvl::QWENVL_ISA::to_bfloat16((l % 16 - middle) * s);
      const uint8_t* q = at(row, i);
      for (; i < end; i += PIECE, q += PIECE / 2, to += PIECE) {
#if defined(__AVX512F__)
        const __m512i bytes = _mm512_cvtepu8_epi32(load_as<__m128i>(q));  // to the two words of each
        const __m512i words = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
        _mm512_storeu_si512(to, _mm512_permutexvar_epi16(words, load_as<__m512i>(numbers)));
#else
        for (int64_t b = 0; b < PIECE / 2; ++b) to[2 * b] = numbers[q[b] & 15], to[2 * b + 1] = numbers[q[b] >> 4];
#endif
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
INLINE vint widen_words(const uint16_t* p) {
#if defined(__AVX512F__)
  return (vint)_mm512_cvtepu16_epi32(load_as<__m256i>(p));
#else
  return (vint)_mm256_cvtepu16_epi32(load_as<__m128i>(p));
#endif
}

// W scales.
template <QwenvlDtype DTYPE>
INLINE vfloat widen_scales(const void* scales, int64_t first) {
  if constexpr (DTYPE == QWENVL_FLOAT32) return load((const float*)scales + first);
  const uint16_t* const from = (const uint16_t*)scales + first;
  return DTYPE == QWENVL_FLOAT16 ? widen_float16(from) : (vfloat)(widen_words(from) << 16);
}

// Calls f with scale_dtype as a constant.
template <class F>
INLINE auto with_scales(QwenvlDtype dtype, F f) {
  if (dtype == QWENVL_FLOAT32) return f(std::integral_constant<QwenvlDtype, QWENVL_FLOAT32>{});
  if (dtype == QWENVL_FLOAT16) return f(std::integral_constant<QwenvlDtype, QWENVL_FLOAT16>{});
  return f(std::integral_constant<QwenvlDtype, QWENVL_BFLOAT16>{});
}

// Numbers of a row's groups, W at a time: from group `first` on, and after its last what comes next in memory, or zeros.
struct Int4Groups : Int4Rows {
  using Int4Rows::Int4Rows;

  // How many there are, of this row and the next ones.
  int64_t left(int64_t row, int64_t first) const { return (weight->n - row) * groups - first; }

  INLINE vfloat load_scales(int64_t row, int64_t first) const {
    return with_scales(weight->scale_dtype, [&](auto dtype) {
      constexpr int64_t SIZE = dtype == QWENVL_FLOAT32 ? 4 : 2;
      const void* from = (const char*)weight->scales + (row * groups + first) * SIZE;
      char part[4 * W] = {};
      if (left(row, first) < W) from = memcpy(part, from, left(row, first) * SIZE);
      return widen_scales<dtype>(from, 0);
    });
  }
  INLINE vfloat load_zeros(int64_t row, int64_t first) const {
    if (!weight->zeros) return splat(8.0f);
    const void* from = weight->zeros + row * groups + first;
    uint8_t part[W] = {};
    if (left(row, first) < W) from = memcpy(part, from, left(row, first));
    return __builtin_convertvector(widen_bytes((const uint8_t*)from), vfloat);
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
      : Int4Groups(w),
        slot_(slot_of(w->group)),
        of_group_(w->group / slot_),
        slots_((w->k / slot_ + W - 1) / W * W),
        scales_((W > STREAMS * MOST ? W : STREAMS * MOST) * slots_ + W) {
    for (int i = 0; i < W; ++i) group_of_slot_[i] = i * slot_ / w->group;
  }
  Int4FewRows(const Int4FewRows& other) : Int4FewRows(other.weight) {}
  using Int4Rows::prefetch;

  // Of x: steps and sums [slot / W][total][2][W], numbers [unit][total][UNIT].
  int64_t row_size(int64_t k) const { return 2 * slots_ + (k + UNIT - 1) / UNIT * (UNIT / 2); }
  void arrange(const float* x, int64_t k, int64_t m, int64_t total, float* to) const {
    for (int64_t slot = 0; slot < slots_; slot += W)
      for (int64_t i = 0; i < 2; ++i) store(of_slots(to, slot, m, total) + i * W, vfloat{});
    for (int64_t first = 0; first < k; first += BLOCK) {
      int16_t numbers[BLOCK] = {};
      const int64_t size = least(BLOCK, k - first);
      const float step = round_block<Float32>(x + first, size, IntegerLimits<Int8>::x, numbers);
      for (int64_t i = 0; i < size; i += slot_) {
        const int64_t slot = (first + i) / slot_;
        int sum = 0;
        for (int64_t l = 0; l < slot_; ++l) sum += numbers[i + l];
        float* const own = of_slots(to, slot, m, total) + slot % W;
        own[0] = step, own[W] = sum * step;
      }
      for (int64_t i = 0; i < size; i += UNIT) {
        int16_t* unit = numbers_of(to, total) + ((first + i) / UNIT * total + m) * UNIT;
        for (int64_t l = 0; l < UNIT / 4; ++l)
          for (int64_t t = 0; t < 4; ++t) unit[t * (UNIT / 4) + l] = numbers[i + 4 * l + t];
      }
    }
  }

  // Before the tiles of `count` times R rows, W at most: their scales times the steps of x, and what the zeros take off sums
  // [count][R][total]. The rows are many because one would wait for its scales.
  template <int R>
  INLINE void start(int64_t j, int64_t count, int64_t apart, const float* x, int64_t total, vfloat* sums) {
    first_ = j;
    for (int r = 0; r < R; ++r) prefetch_groups(j + count + r * apart, count);
    auto make = [&](auto load) __attribute__((always_inline)) {
      float* scales = scales_.data;
      for (int64_t i = j; i < j + count; ++i)
        for (int r = 0; r < R; ++r, sums += total, scales += total * slots_)
          for (int64_t slot = 0; slot < slots_; slot += W) {
            vfloat scale, zero;
            load(i + r * apart, slot, scale, zero);
            for (int64_t l = 0; l < total; ++l) {
              const float* const own = of_slots(x, slot, l, total);
              store(scales + l * slots_ + slot, scale * load_as<vfloat>(own));
              sums[l] -= scale * zero * load_as<vfloat>(own + W);
            }
          }
    };
    if (of_group_ > 1 || left(j + count - 1 + (R - 1) * apart, slots_) < 0)
      return make([&](int64_t row, int64_t slot, vfloat& scale, vfloat& zero) __attribute__((always_inline)) {
        load_slots(row, slot, scale, zero);
      });
    with_scales(weight->scale_dtype, [&](auto dtype) __attribute__((always_inline)) {
      const uint8_t* const zeros = weight->zeros;
      make([&](int64_t row, int64_t slot, vfloat& scale, vfloat& zero) __attribute__((always_inline)) {
        scale = widen_scales<dtype>(weight->scales, row * groups + slot);
        zero = zeros ? __builtin_convertvector(widen_bytes(zeros + row * groups + slot), vfloat) : splat(8.0f);
      });
    });
  }

  // As Float32Products' `tile`, of rows j, j + apart, ...
  template <int R, int M>
  INLINE void tile(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                   vfloat* sums) const {
    if (slot_ == LINE)
      slots<LINE / UNIT, 1, R, M>(j, apart, x, m, total, first, last, sums);
    else if (slot_ == UNIT)
      slots<1, 1, R, M>(j, apart, x, m, total, first, last, sums);
    else if (UNIT / PIECE == 2 || slot_ > PIECE)
      slots<1, 2, R, M>(j, apart, x, m, total, first, last, sums);
    else
      slots<1, UNIT / PIECE, R, M>(j, apart, x, m, total, first, last, sums);
  }

 private:
  typedef uint16_t vwords __attribute__((vector_size(4 * W)));
  static constexpr int64_t UNIT = 8 * W, LINE = 128, BLOCK = IntegerLimits<Int8>::depth;  // LINE: of a line of the cache
  const int64_t slot_;              // inputs for which registers have one scale: a group, or a part of one
  const int64_t of_group_, slots_;  // of a group, and of a row, whole vectors of them
  const Scratch scales_;            // [count][R][total][slots_] from row first_ on
  int64_t first_ = 0;
  vint group_of_slot_;              // in a vector of slots whose first group begins there

  static int64_t slot_of(int64_t group) {
    if (group % LINE == 0) return LINE;
    return group % UNIT == 0 ? UNIT : group % (UNIT / 2) == 0 ? UNIT / 2 : PIECE;
  }
  template <class Float>
  static INLINE Float* of_slots(Float* arranged, int64_t slot, int64_t m, int64_t total) {
    return arranged + (slot / W * total + m) * 2 * W;
  }
  int16_t* numbers_of(const float* arranged, int64_t total) const { return (int16_t*)(arranged + 2 * slots_ * total); }

  INLINE void prefetch_groups(int64_t row, int64_t rows) const {
    const int64_t size = weight->scale_dtype == QWENVL_FLOAT32 ? 4 : 2;
    qwenvl::QWENVL_ISA::prefetch<2>((const char*)weight->scales + row * groups * size, rows * groups * size);
    if (weight->zeros) qwenvl::QWENVL_ISA::prefetch<2>(weight->zeros + row * groups, rows * groups);
  }

  // Of W slots from `slot` on.
  INLINE void load_slots(int64_t row, int64_t slot, vfloat& scale, vfloat& zero) const {
    if (of_group_ == 1) {
      scale = load_scales(row, slot), zero = load_zeros(row, slot);
      return;
    }
    const int64_t group = slot / of_group_;
    if (W % of_group_ && of_group_ % W) {
      for (int64_t i = 0; i < W; ++i) {
        const int64_t own = least((slot + i) / of_group_, groups - 1);
        scale[i] = this->scale(row, own), zero[i] = this->zero(row, own);
      }
      return;
    }
    scale = __builtin_shuffle(load_scales(row, group), group_of_slot_);
    zero = __builtin_shuffle(load_zeros(row, group), group_of_slot_);
  }

  // A vector of what G slots have, each as often as the next.
  template <int G>
  static INLINE vfloat spread(const float* slots) {
    vint index;
    for (int i = 0; i < W; ++i) index[i] = i * G / W;
    return G == 1 ? splat(*slots) : __builtin_shuffle(load(slots), index);
  }

  // `tile`, where U registers together hold a slot, or each holds G.
  template <int U, int G, int R, int M>
  INLINE void slots(int64_t j, int64_t apart, const float* x, int64_t m, int64_t total, int64_t first, int64_t last,
                    vfloat* sums) const {
    const int16_t* numbers = numbers_of(x, total) + (first / UNIT * total + m) * UNIT;
    const float* slot = scales_.data + ((j - first_) * R * total + m) * slots_ + first / slot_;
    const uint8_t* row = at(j, first);
    const int64_t stride = apart * bytes;
    vfloat totals[R][M] = {};
    auto multiply = [&](const uint8_t* units, int64_t next) __attribute__((always_inline)) {
      constexpr int TURNS = W == 16 && M < 3 ? R : 1;
#pragma GCC unroll 4
      for (int r = 0; r < R; r += TURNS) {
        __asm__("" : "+r"(numbers));  // x is read again: the registers are for totals
        add_units<U, G, TURNS, M>(units + r * next, next, slot + r * total * slots_, total * slots_, numbers, total * UNIT,
                                  totals + r);
      }
      slot += G, numbers += total * U * UNIT;
    };
    for (const uint8_t* const end = row + (last - first) / UNIT * (UNIT / 2); row < end; row += U * UNIT / 2) {
      multiply(row, stride);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        if (total == M) ask_ahead(row + r * stride);
    }
    if constexpr (U == 1)  // two are never cut, as a group has both
      if (const int64_t left = (last - first) % UNIT) {
        uint8_t parts[R][UNIT / 2] = {};
        for (int r = 0; r < R; ++r) memcpy(parts[r], row + r * stride, left / 2);
        multiply(parts[0], UNIT / 2);
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int l = 0; l < M; ++l) sums[r * total + l] += totals[r][l];
  }

  // Adds to totals what U units of R of the weight's rows, `next` bytes apart, give; x is `apart` from a unit to the next. The
  // rows take turns: none waits for its sums.
  template <int U, int G, int R, int M>
  INLINE void add_units(const uint8_t* units, int64_t next, const float* slots, int64_t row_slots, const int16_t* x,
                        int64_t apart, vfloat (*totals)[M]) const {
    vint sums[R][M];
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u, units += UNIT / 2, x += apart) {
      vwords words[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        words[r] = load_as<vwords>(units + r * next);
        __asm__("" : "+v"(words[r]));  // they are read once
      }
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const vshort weights = (vshort)(t == 3 ? words[r] >> 12 : words[r] >> 4 * t & 15);
#pragma GCC unroll 3
          for (int l = 0; l < M; ++l) {
            const vshort numbers = load_as<vshort>(x + l * UNIT + t * UNIT / 4);
            sums[r][l] = u || t ? add_products(sums[r][l], weights, numbers) : products(weights, numbers);
          }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int l = 0; l < M; ++l)
        totals[r][l] += __builtin_convertvector(sums[r][l], vfloat) * spread<G>(slots + r * row_slots + l * slots_);
  }
};

#else

class Int4FewRows : public Float32Products<Float32>, Int4Rows, public NothingBefore {
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

#endif

}  // namespace QWENVL_ISA
}  // namespace qwenvl
