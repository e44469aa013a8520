// Products of many rows on AMX's tiles: x is rounded to bfloat16, weights are widened to it, sums are float32. A tile has 16
// rows of 64 bytes; one instruction adds the products of 32 inputs to 16 x 16 sums. Of the weights it takes rows as they lie,
// of x the pairs that the panels of products_bfloat16.h hold. After Intel's Architecture Instruction Set Extensions, chapter 3.
#pragma once

#include "products_bfloat16.h"

#ifdef QWENVL_TILES

namespace qwenvl {
namespace QWENVL_ISA {

constexpr int TILE_ROWS = 16;    // of sums, for as many weight rows and rows of x
constexpr int TILE_INPUTS = 32;  // in a row of 64 bytes

struct alignas(64) TileShapes {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);
constexpr TileShapes TILE_SHAPES;  // in memory: the compiler takes the instruction to read eight bytes

struct Tiles : Bfloat16Products<Bfloat16> {
  static constexpr int ROWS = 2 * TILE_ROWS;   // of the weight at a time: with two tiles of x four of sums
  static constexpr int64_t STRIP = 8 * ROWS;   // a thread's second cache holds them, and what they give

  // While it lives its thread may use tiles.
  class Thread {
   public:
    Thread() { _tile_loadconfig(&TILE_SHAPES); }
    ~Thread() { _tile_release(); }
    Thread(const Thread&) = delete;
  };

  // As Bfloat16Products' `multiply`, of ROWS weight rows whatever `rows` are.
  template <int N>
  static void multiply(int64_t, int64_t depth, const float* weights, const float* panel, float* sums, bool accumulate) {
    constexpr int64_t APART = MICRO_COLUMNS * sizeof(float), NEXT = TILE_ROWS * ROW;
    float* const lower = sums + TILE_ROWS * MICRO_COLUMNS;
    asm volatile("" : : "r"(weights), "r"(panel), "r"(sums) : "memory");  // the compiler does not know that tiles read memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (accumulate) {
      _tile_loadd(0, sums, APART);
      _tile_loadd(2, lower, APART);
    }
    if (N > 1 && accumulate) {
      _tile_loadd(1, sums + TILE_ROWS, APART);
      _tile_loadd(3, lower + TILE_ROWS, APART);
    }
    for (int64_t i = 0; i < depth; i += TILE_INPUTS) {
      const float *row = weights + i / 2, *pairs = panel + i / 2 * MICRO_COLUMNS;
      _tile_loadd(4, row, ROW * sizeof(float));
      _tile_loadd(6, pairs, APART);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, row + NEXT, ROW * sizeof(float));
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (N > 1) {
        _tile_loadd(7, pairs + TILE_ROWS, APART);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, sums, APART);
    _tile_stored(2, lower, APART);
    if constexpr (N > 1) {
      _tile_stored(1, sums + TILE_ROWS, APART);
      _tile_stored(3, lower + TILE_ROWS, APART);
    }
    asm volatile("" : : : "memory");
  }
};

template <class WeightFormat>
struct TileProducts : Tiles {
  typedef WeightFormat Format;

  static void load_weights(const typename Format::Type* w, int64_t depth, float* row) {
    uint16_t* const numbers = (uint16_t*)row;
    Bfloat16Products<Format>::load_weights(w, depth, row);
    for (int64_t i = depth; i % TILE_INPUTS; ++i) numbers[i] = 0;
  }
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl

#endif
