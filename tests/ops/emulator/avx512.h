// AVX-512 and AMX without a CPU that has them: what the kernels in external_ops/csrc/cpu call of these, in plain C++ and AVX2,
// after Intel's Intrinsics Guide. The compiler includes this before each of their files (`-include`).
#pragma once

#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <tuple>
#include <type_traits>

#define __asm__(...)  // hints that name registers of 64 bytes; nothing of the system comes after this

#define __AVX512F__ 1
#ifdef EMULATE_VNNI
#define __AVX512VNNI__ 1
#endif
#ifdef EMULATE_BF16
#define __AVX512BF16__ 1
#define __AVX512VBMI__ 1
#endif
#ifdef EMULATE_AMX
#define __AMX_BF16__ 1
#endif

namespace emulated {

template <class Number>
struct Lanes {
  static constexpr int COUNT = 64 / sizeof(Number);
  Number lane[COUNT];

  template <class Vector>
  static Lanes of(const Vector& v) {
    Lanes lanes{};
    memcpy(lanes.lane, &v, sizeof(v));
    return lanes;
  }
  template <class Vector>
  Vector as() const {
    Vector v;
    memcpy(&v, lane, sizeof(v));
    return v;
  }
};

// f(i) of each lane of the result.
template <class Vector, class Number, class F>
inline __attribute__((always_inline)) Vector lanes(F f) {
  Lanes<Number> y{};
  for (int i = 0; i < int(sizeof(Vector) / sizeof(Number)); ++i) y.lane[i] = f(i);
  return y.template as<Vector>();
}

template <class To, class From, class Vector>
inline __m512i widen(Vector x) {
  const auto from = Lanes<From>::of(x);
  return lanes<__m512i, To>([&](int i) { return To(from.lane[i]); });
}

inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if (x != x) return bits >> 16 | 0x40;
  if ((bits & 0x7f800000) == 0) return bits >> 16 & 0x8000;  // the instruction takes subnormal numbers for zeros
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float from_bfloat16(uint16_t x) {
  const uint32_t bits = uint32_t(x) << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}

inline __m512i cvtps_epi32(__m512 x) {
  const auto a = Lanes<float>::of(x);
  return lanes<__m512i, int32_t>([&](int i) { return int32_t(rintf(a.lane[i])); });
}
inline __m256i cvtepi32_epi16(__m512i x) {
  const auto a = Lanes<int32_t>::of(x);
  return lanes<__m256i, int16_t>([&](int i) { return int16_t(a.lane[i]); });
}
inline __m512 cvtph_ps(__m256i x) {
  __m256 halves[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1))};
  __m512 y;
  memcpy(&y, halves, sizeof(y));
  return y;
}
inline __m512i dpwssd(__m512i sums, __m512i x, __m512i y) {
  const auto s = Lanes<int32_t>::of(sums);
  const auto a = Lanes<int16_t>::of(x), b = Lanes<int16_t>::of(y);
  return lanes<__m512i, int32_t>([&](int i) {
    return int32_t(uint32_t(s.lane[i]) + uint32_t(a.lane[2 * i] * b.lane[2 * i]) +
                   uint32_t(a.lane[2 * i + 1] * b.lane[2 * i + 1]));
  });
}
inline __m512 dpbf16(__m512 sums, __m512bh x, __m512bh y) {
  const auto s = Lanes<float>::of(sums);
  const auto a = Lanes<uint16_t>::of(x), b = Lanes<uint16_t>::of(y);
  return lanes<__m512, float>([&](int i) {
    const float odd = s.lane[i] + from_bfloat16(a.lane[2 * i + 1]) * from_bfloat16(b.lane[2 * i + 1]);
    return odd + from_bfloat16(a.lane[2 * i]) * from_bfloat16(b.lane[2 * i]);
  });
}
inline __m256i cvtneps_pbh(__m512 x) {
  const auto a = Lanes<float>::of(x);
  return lanes<__m256i, uint16_t>([&](int i) { return to_bfloat16(a.lane[i]); });
}
inline __m512bh cvtne2ps_pbh(__m512 high, __m512 low) {
  const auto a = Lanes<float>::of(low), b = Lanes<float>::of(high);
  return lanes<__m512bh, uint16_t>([&](int i) { return to_bfloat16(i < 16 ? a.lane[i] : b.lane[i - 16]); });
}
template <class Number>
inline __m512i permute(__m512i index, __m512i x) {
  const auto at = Lanes<Number>::of(index), a = Lanes<Number>::of(x);
  return lanes<__m512i, Number>([&](int i) { return a.lane[at.lane[i] % (64 / sizeof(Number))]; });
}
// Where the mask has no bit, the index stays.
inline __m512i mask2_permutex2var_epi8(__m512i x, __m512i index, uint64_t mask, __m512i y) {
  const auto a = Lanes<uint8_t>::of(x), at = Lanes<uint8_t>::of(index), b = Lanes<uint8_t>::of(y);
  return lanes<__m512i, uint8_t>([&](int i) {
    const uint8_t from = at.lane[i] % 128;
    return mask >> i & 1 ? (from < 64 ? a.lane[from] : b.lane[from - 64]) : at.lane[i];
  });
}
inline uint32_t testn_epi8_mask(__m256i x, __m256i y) {
  return uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_and_si256(x, y), __m256i{})));
}
inline __m512i mask_mov_epi16(__m512i x, uint32_t mask, __m512i y) {
  const auto a = Lanes<uint16_t>::of(x), b = Lanes<uint16_t>::of(y);
  return lanes<__m512i, uint16_t>([&](int i) { return mask >> i & 1 ? b.lane[i] : a.lane[i]; });
}
template <class Number>
inline __m512i set1(Number x) {
  return lanes<__m512i, Number>([&](int) { return x; });
}
inline __m512i inserti64x4(__m512i x, __m256i y, int where) {
  memcpy((char*)&x + 32 * where, &y, 32);
  return x;
}
inline __m256i part(__m512i x, int where) {
  __m256i y;
  memcpy(&y, (char*)&x + 32 * where, 32);
  return y;
}

// AMX: the eight tiles of a thread, of the shape that the kernels ask for, and nothing without a configuration.
struct Tile {
  uint8_t row[16][64];
};
struct Tiles {
  bool are_configured = false;
  Tile tile[8];
};
inline Tile& tile(int number) {  // -1 configures them, -2 releases them
  static thread_local Tiles tiles;
  if (number < 0) tiles.are_configured = number == -1;
  if (!tiles.are_configured && number >= 0) abort();
  return tiles.tile[number < 0 ? 0 : number];
}
inline void configure(const void* shapes) {
  const uint8_t* const bytes = (const uint8_t*)shapes;
  bool is_whole = bytes[0] == 1 && !bytes[1];
  for (int i = 0; i < 8; ++i) is_whole = is_whole && bytes[16 + 2 * i] == 64 && !bytes[17 + 2 * i] && bytes[48 + i] == 16;
  for (int i = 8; i < 16; ++i) is_whole = is_whole && !bytes[16 + 2 * i] && !bytes[17 + 2 * i] && !bytes[48 + i];
  if (!is_whole) abort();
  tile(-1);
}
inline void load_tile(int to, const void* from, int64_t stride) {
  for (int i = 0; i < 16; ++i) memcpy(tile(to).row[i], (const char*)from + i * stride, 64);
}
inline void store_tile(int from, void* to, int64_t stride) {
  for (int i = 0; i < 16; ++i) memcpy((char*)to + i * stride, tile(from).row[i], 64);
}
inline void multiply_tiles(int sums, int left, int right) {
  for (int i = 0; i < 16; ++i) {
    auto row = Lanes<float>::of(tile(sums).row[i]);
    const auto pairs = Lanes<uint16_t>::of(tile(left).row[i]);
    for (int k = 0; k < 16; ++k) {
      const auto columns = Lanes<uint16_t>::of(tile(right).row[k]);
      for (int j = 0; j < 16; ++j)
        for (int half = 0; half < 2; ++half)
          row.lane[j] += from_bfloat16(pairs.lane[2 * k + half]) * from_bfloat16(columns.lane[2 * j + half]);
    }
    memcpy(tile(sums).row[i], row.lane, 64);
  }
}

// Every instruction set is there.
inline int cpuid(unsigned* a, unsigned* b, unsigned* c, unsigned* d) {
  *a = *b = *c = *d = ~0u;
  return 1;
}

}  // namespace emulated

#define __builtin_cpu_supports(name) 1
#define __get_cpuid_count(leaf, subleaf, a, b, c, d) emulated::cpuid(a, b, c, d)

#define _mm256_testn_epi8_mask emulated::testn_epi8_mask
#define _mm512_castsi256_si512(x) emulated::inserti64x4(__m512i{}, x, 0)
#define _mm512_castsi512_si256(x) emulated::part(x, 0)
#define _mm512_cvtepi32_epi16 emulated::cvtepi32_epi16
#define _mm512_cvtepi8_epi16 emulated::widen<int16_t, int8_t>
#define _mm512_cvtepi8_epi32 emulated::widen<int32_t, int8_t>
#define _mm512_cvtepu16_epi32 emulated::widen<int32_t, uint16_t>
#define _mm512_cvtepu8_epi32 emulated::widen<int32_t, uint8_t>
#define _mm512_cvtne2ps_pbh emulated::cvtne2ps_pbh
#define _mm512_cvtneps_pbh emulated::cvtneps_pbh
#define _mm512_cvtph_ps emulated::cvtph_ps
#define _mm512_cvtps_epi32 emulated::cvtps_epi32
#define _mm512_dpbf16_ps emulated::dpbf16
#define _mm512_dpwssd_epi32 emulated::dpwssd
#define _mm512_extracti64x4_epi64 emulated::part
#define _mm512_inserti64x4 emulated::inserti64x4
#define _mm512_madd_epi16(x, y) emulated::dpwssd(__m512i{}, x, y)
#define _mm512_mask2_permutex2var_epi8 emulated::mask2_permutex2var_epi8
#define _mm512_mask_mov_epi16 emulated::mask_mov_epi16
#define _mm512_or_si512(x, y) ((x) | (y))
#define _mm512_permutexvar_epi16 emulated::permute<uint16_t>
#define _mm512_permutexvar_epi8 emulated::permute<uint8_t>
#define _mm512_set1_epi16 emulated::set1<int16_t>
#define _mm512_set1_epi32 emulated::set1<int32_t>
#define _mm512_slli_epi32(x, count) ((__m512i)((__v16su)(x) << (count)))
#define _mm512_storeu_si512(to, x) memcpy(to, &(const __m512i&)(x), 64)

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated::configure
#define _tile_release() emulated::tile(-2)
#define _tile_loadd emulated::load_tile
#define _tile_stored emulated::store_tile
#define _tile_zero(number) (emulated::tile(number) = emulated::Tile())
#define _tile_dpbf16ps emulated::multiply_tiles
