// float8 e4m3 (arXiv:2209.05433): no infinities; the largest magnitude, 127, is no number.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {

#if defined(__AVX512VBMI__)
struct Fp8Bytes {  // of each magnitude as bfloat16
  alignas(64) uint8_t low[128], high[128];
};
constexpr Fp8Bytes fp8_bytes() {
  const uint16_t subnormal[] = {0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60};
  Fp8Bytes bytes{};
  for (int x = 0; x < 128; ++x) {
    const uint16_t number = x == 127 ? 0x7fc0 : x < 8 ? subnormal[x] : 0x3c00 + (x << 4);
    bytes.low[x] = number & 255, bytes.high[x] = number >> 8;
  }
  return bytes;
}
constexpr Fp8Bytes FP8_BYTES = fp8_bytes();

INLINE vshort fp8_to_bfloat16(const uint8_t* p) {
  typedef uint8_t vbytes __attribute__((vector_size(64)));
  vbytes twice;
  for (int i = 0; i < 64; ++i) twice[i] = i / 2;
  constexpr uint64_t HIGH = 0xaaaaaaaaaaaaaaaa;
  const auto part = [](const uint8_t* p) __attribute__((always_inline)) { return load_as<__m512i>(p); };
  const __m512i bytes = _mm512_permutexvar_epi8((__m512i)twice, _mm512_castsi256_si512(load_as<__m256i>(p)));
  const __m512i high = _mm512_mask2_permutex2var_epi8(part(FP8_BYTES.high), bytes, HIGH, part(FP8_BYTES.high + 64));
  const __m512i both = _mm512_mask2_permutex2var_epi8(part(FP8_BYTES.low), high, ~HIGH, part(FP8_BYTES.low + 64));
  return (vshort)both | ((vshort)bytes & (int16_t)0x8000);
}
#elif defined(__AVX2__)
INLINE void widen_fp8(const uint8_t* p, vfloat& a, vfloat& b) {  // float16's bias is 8 more
#if defined(__AVX512F__)
  const __m256i bits = load_as<__m256i>(p);
  const __mmask32 none = _mm256_testn_epi8_mask(~bits, _mm256_set1_epi8(127));
  const vshort halves = (vshort)_mm512_cvtepi8_epi16(bits) << 7 & (int16_t)0xbfff;
  const __m512i numbers = _mm512_mask_mov_epi16((__m512i)halves, none, _mm512_set1_epi16(0x7e00));
  a = (vfloat)_mm512_cvtph_ps(_mm512_castsi512_si256(numbers)) * 256.0f;
  b = (vfloat)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(numbers, 1)) * 256.0f;
#else
  const vshort halves = (vshort)_mm256_cvtepi8_epi16(load_as<__m128i>(p)) << 7 & (int16_t)0xbfff;
  const __m256i numbers = (__m256i)(halves | (((halves & 0x3fff) == 0x3f80) & 0x7e00));
  a = (vfloat)_mm256_cvtph_ps(_mm256_castsi256_si128(numbers)) * 256.0f;
  b = (vfloat)_mm256_cvtph_ps(_mm256_extracti128_si256(numbers, 1)) * 256.0f;
#endif
}
#else
struct Fp8Numbers {
  float of[256];
};
constexpr Fp8Numbers fp8_numbers() {
  Fp8Numbers numbers{};
  for (int x = 0; x < 256; ++x) {
    const int exponent = x >> 3 & 15, fraction = x & 7;
    float step = x < 128 ? 0x1p-9f : -0x1p-9f;
    for (int i = 1; i < exponent; ++i) step *= 2;
    numbers.of[x] = (x & 127) == 127 ? __builtin_nanf("") : step * (exponent ? 8 + fraction : fraction);
  }
  return numbers;
}
constexpr Fp8Numbers FP8 = fp8_numbers();
INLINE void widen_fp8(const uint8_t* p, vfloat& a, vfloat& b) {
  a = vfloat{FP8.of[p[0]], FP8.of[p[1]], FP8.of[p[2]], FP8.of[p[3]]};
  b = vfloat{FP8.of[p[4]], FP8.of[p[5]], FP8.of[p[6]], FP8.of[p[7]]};
}
#endif

}  // namespace QWENVL_ISA
}  // namespace qwenvl
