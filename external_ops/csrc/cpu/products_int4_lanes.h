// Products of some rows of x with int4 weights, in integers as in products_int4.h, with rows of the weight in the lanes of the
// vectors: a block of their inputs is transposed once for all rows of x, of which a pair of numbers is repeated in every lane.
// Up to MOST that is faster than products_int4_many.h (one thread of a Zen 4).
#pragma once

#include "product_loops.h"
#include "products_int4.h"

#if defined(__AVX2__)

namespace qwenvl {
namespace QWENVL_ISA {

// A lane holds NUMBERS inputs: its two words hold half of them each, the first four bits the first.
class Int4Lanes : Int4Groups {
 public:
#if defined(__AVX512VNNI__) && !defined(QWENVL_TILES)
  static constexpr int64_t MOST = 256;
#else
  static constexpr int64_t MOST = 32;
#endif

  Int4Lanes(const QwenvlInt4Weight* w, const Operands& p)
      : Int4Groups(w),
        operands_(p),
        blocks_((p.k + BLOCK - 1) / BLOCK),
        segments_(groups + blocks_),
        x_(p.m * (blocks_ * BLOCK / 2 + blocks_ + segments_)),
        numbers_((int16_t*)x_.data),
        steps_(x_.data + p.m * blocks_ * BLOCK / 2),
        sums_(steps_ + p.m * blocks_) {}

  // Result as in product_loops.h: what is Gated has rows of the gate in the lanes of the first vector, of the other half in the
  // second's.
  template <class Result = Whole>
  void run() const {
    constexpr int64_t COLUMNS = ROWS / Result::WEIGHT_ROWS;
#pragma omp parallel num_threads(qwenvl_threads())
    {
#pragma omp for schedule(static)
      for (int64_t m = 0; m < operands_.m; ++m) arrange(m);
      const Scratch scales(2 * whole_groups(groups) * ROWS);
      const int64_t columns = Result::columns(operands_.n), parts = (columns + COLUMNS - 1) / COLUMNS;
      const int64_t threads = omp_get_num_threads(), last = parts * (thread_index() + 1) / threads;
      for (int64_t i = parts * thread_index() / threads; i < last; ++i) {
        vfloat totals[MOST][V];
        multiply<Result>(i * COLUMNS, least(COLUMNS, columns - i * COLUMNS), scales.data, totals);
        for (int64_t m = 0; m < operands_.m; ++m)
          finish(Result{}, totals[m], i * COLUMNS, least(COLUMNS, columns - i * COLUMNS), operands_.y + m * columns);
      }
    }
  }

 private:
  typedef uint16_t vwords __attribute__((vector_size(4 * W)));
  static constexpr int V = 2;                         // vectors of weight rows: x is repeated for both
  static constexpr int TILE = W == 16 ? 8 : 4;        // rows of x at a time
  static constexpr int64_t ROWS = V * W, NUMBERS = 8, BLOCK = IntegerLimits<Int8>::depth;
  typedef vint Column[V];

  const Operands operands_;
  const int64_t blocks_, segments_;  // a segment: inputs of a block that share a scale
  const Scratch x_;
  int16_t* const numbers_;           // [block][m][BLOCK], in the order of a lane's
  float *const steps_, *const sums_;  // [block][m], what a step is worth; [segment][m], sums of numbers

  int64_t segment_end(int64_t i, int64_t last) const { return least(last, (i / weight->group + 1) * weight->group); }

  void arrange(int64_t m) const {
    vshort order;  // what is multiplied together: input t of a lane's first word and of its second
    for (int i = 0; i < GROUP; ++i) order[i] = i / NUMBERS * NUMBERS + i % 2 * (NUMBERS / 2) + i % NUMBERS / 2;
    for (int64_t block = 0, segment = 0; block < blocks_; ++block) {
      int16_t rounded[BLOCK] = {};
      const int64_t first = block * BLOCK, size = least(BLOCK, operands_.k - first), place = block * operands_.m + m;
      steps_[place] = round_block<Float32>(operands_.x + m * operands_.k + first, size, IntegerLimits<Int8>::x, rounded);
      for (int64_t i = 0; i < BLOCK; i += GROUP) {
        const vshort ordered = __builtin_shuffle(load_as<vshort>(rounded + i), order);
        memcpy(numbers_ + place * BLOCK + i, &ordered, sizeof(ordered));
      }
      for (int64_t i = 0; i < size; ++segment) {
        int sum = 0;
        for (const int64_t end = segment_end(first + i, first + size) - first; i < end; i += PIECE)
          for (int64_t l = 0; l < PIECE; ++l) sum += rounded[i + l];
        sums_[segment * operands_.m + m] = sum;
      }
    }
  }

  // Columns first .. first + count of what all rows of x give, in lanes; `scales` is for load_groups.
  template <class Result>
  void multiply(int64_t first, int64_t count, float* scales, vfloat (*totals)[V]) const {
    const Operands& p = operands_;
    const int64_t tiles = (p.m + TILE - 1) / TILE, width = (p.m + tiles - 1) / tiles;
    int64_t rows[ROWS];
    for (int64_t i = 0; i < ROWS; ++i) rows[i] = weight_row(Result{}, first, count, i);
    load_groups(rows, scales);
    Column columns[BLOCK / NUMBERS];
    for (int64_t block = 0, segment = 0; block < blocks_; ++block) {
      load_columns(rows, block, columns);
      int64_t next = segment;
      for (int64_t m = 0; m < p.m; m += width)
        with_rows<TILE>(least(width, p.m - m), [&](auto count) {
          next = tile<count>(columns, scales, block, segment, m, totals + m);
        });
      segment = next;
    }
  }

  // The weight's row in a lane; lanes after the last column repeat its row.
  int64_t weight_row(Whole, int64_t first, int64_t count, int64_t lane) const { return first + least(lane, count - 1); }
  int64_t weight_row(Gated, int64_t first, int64_t count, int64_t lane) const {
    return lane / W * (operands_.n / 2) + first + least(lane % W, count - 1);
  }

  void finish(Whole, const vfloat* totals, int64_t first, int64_t count, float* y) const {
    for (int64_t i = 0; i < count; ++i) y[first + i] = operands_.finish(totals[i / W][i % W], first + i);
  }
  void finish(Gated, const vfloat* totals, int64_t first, int64_t count, float* y) const {
    vfloat gate = totals[0], up = totals[1];
    for (int64_t i = 0; i < count; ++i) {
      gate[i] = operands_.finish(gate[i], first + i);
      up[i] = operands_.finish(up[i], operands_.n / 2 + first + i);
    }
    gate = silu(gate) * up;
    count == W ? store(y + first, gate) : store_part(y + first, gate, count);
  }

  // Scales [group][ROWS], then zeros.
  void load_groups(const int64_t* rows, float* scales) const {
    float* const zeros = scales + whole_groups(groups) * ROWS;
    for (int64_t g = 0; g < groups; g += W)
      for (int64_t first = 0; first < ROWS; first += W) {
        vfloat of_rows[2][W];
        for (int r = 0; r < W; ++r) {
          of_rows[0][r] = load_scales(rows[first + r], g);
          of_rows[1][r] = load_zeros(rows[first + r], g);
        }
        store_columns(of_rows[0], scales + g * ROWS + first);
        store_columns(of_rows[1], zeros + g * ROWS + first);
      }
  }
  static INLINE void store_columns(vfloat* rows, float* to) {
    transpose(rows);
    for (int r = 0; r < W; ++r) store(to + r * ROWS, rows[r]);
  }

  INLINE void load_columns(const int64_t* rows, int64_t block, Column* columns) const {
    const int64_t first = block * BLOCK, count = least(BLOCK, operands_.k - first) / NUMBERS;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      for (int64_t c = 0; c < count; c += W) {
        vfloat lanes[W];
#pragma GCC unroll 16
        for (int r = 0; r < W; ++r) {
          const float* const from = (const float*)at(rows[v * W + r], first + c * NUMBERS);
          lanes[r] = count - c < W ? load_part(from, count - c) : load(from);
          __builtin_prefetch((const char*)from + ROWS * bytes, 0, 2);  // for the outputs to come
        }
        transpose(lanes);
#pragma GCC unroll 16
        for (int r = 0; r < W; ++r) columns[c + r][v] = (vint)lanes[r];
      }
  }

  // Adds to sums [M] what a block gives of the rows of x from m on. Returns the segment that comes after.
  template <int M>
  INLINE int64_t tile(const Column* column, const float* scales, int64_t block, int64_t segment, int64_t m,
                      vfloat (*sums)[V]) const {
    const int64_t total = operands_.m, first = block * BLOCK, last = least(operands_.k, first + BLOCK);
    const int16_t* x = numbers_ + (block * total + m) * BLOCK;
    vfloat totals[M][V] = {};
    for (int64_t i = first; i < last; ++segment) {
      const float *const scale = scales + i / weight->group * ROWS, *const zero = scale + whole_groups(groups) * ROWS;
      const int64_t end = segment_end(i, last);
      vint acc[M][V] = {};
      for (; i < end; i += NUMBERS, x += NUMBERS) add_column<M>(*column++, x, acc);
#pragma GCC unroll 8
      for (int l = 0; l < M; ++l)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          const vfloat sum = __builtin_convertvector(acc[l][v], vfloat);
          totals[l][v] += (sum - load(zero + v * W) * sums_[segment * total + m + l]) * load(scale + v * W);
        }
    }
#pragma GCC unroll 8
    for (int l = 0; l < M; ++l)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const vfloat of_block = totals[l][v] * steps_[block * total + m + l];
        sums[l][v] = block ? sums[l][v] + of_block : of_block;
      }
    return segment;
  }

  template <int M>
  static INLINE void add_column(const Column& column, const int16_t* x, vint (*acc)[V]) {
#pragma GCC unroll 4
    for (int t = 0; t < NUMBERS / 2; ++t) {
      vshort words[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) words[v] = (vshort)(t == 3 ? (vwords)column[v] >> 12 : (vwords)column[v] >> 4 * t & 15);
#pragma GCC unroll 8
      for (int l = 0; l < M; ++l) {
        const vshort pair = repeat((const float*)(x + l * BLOCK + 2 * t));
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[l][v] = add_products(acc[l][v], words[v], pair);
      }
    }
  }
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl

#endif
