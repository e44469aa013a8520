// Number formats of weights and caches, and the way from and to them.
#pragma once

#include "numbers_fp8.h"

namespace qwenvl {
namespace QWENVL_ISA {

INLINE uint16_t to_bfloat16(float x) {  // to nearest, ties to even
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

INLINE float from_bfloat16(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float y;
  __builtin_memcpy(&y, &bits, 4);
  return y;
}

INLINE uint16_t to_float16(float x) {  // to nearest, ties to even; what is too large becomes infinite
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds at the right place
    float shifted;
    __builtin_memcpy(&shifted, &magnitude, 4);
    shifted += 0.5f;
    __builtin_memcpy(&bits, &shifted, 4);
    return sign | (bits - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

INLINE float from_float16(uint16_t x) {  // the exponents' biases differ by 112
  uint32_t bits = (uint32_t)(x & 0x7fff) << 13;
  float y;
  __builtin_memcpy(&y, &bits, 4);
  y = (x & 0x7fff) < 0x7c00 ? y * 0x1p112f : y + __builtin_inff();
  return x & 0x8000 ? -y : y;
}

// GCC's generic conversion of short vectors is slow.
INLINE vfloat widen_int8(const int8_t* p) {
#if defined(__AVX512F__)
  const vint wide = (vint)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p));
#elif defined(__AVX2__)
  const vint wide = (vint)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
  const vint wide{p[0], p[1], p[2], p[3]};
#endif
  return __builtin_convertvector(wide, vfloat);
}
INLINE vfloat widen_float16(const uint16_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  return vfloat{from_float16(p[0]), from_float16(p[1]), from_float16(p[2]), from_float16(p[3])};
#endif
}

// Numbers are widened GROUP at a time, to two vectors. For bfloat16 the first holds the even ones and the second the
// odd ones, which saves a shuffle; `arrange` puts two vectors in natural order the same way, `restore` undoes it.
constexpr int64_t GROUP = 2 * W;

struct InOrder {
  static INLINE void arrange(vfloat&, vfloat&) {}
  static INLINE void restore(vfloat&, vfloat&) {}
};
struct InPairs {
  static INLINE void widen(vshort group, vfloat& a, vfloat& b) {  // of bfloat16
    const vuint pairs = (vuint)group;
    a = (vfloat)(pairs << 16), b = (vfloat)(pairs & 0xffff0000u);
  }
  static INLINE void arrange(vfloat& a, vfloat& b) {
    vint even, odd;
    for (int i = 0; i < W; ++i) even[i] = 2 * i, odd[i] = 2 * i + 1;
    const vfloat first = a, second = b;
    a = __builtin_shuffle(first, second, even), b = __builtin_shuffle(first, second, odd);
  }
  static INLINE void restore(vfloat& a, vfloat& b) {
    vint low, high;
    for (int i = 0; i < W; ++i) low[i] = i / 2 + i % 2 * W, high[i] = low[i] + W / 2;
    const vfloat evens = a, odds = b;
    a = __builtin_shuffle(evens, odds, low), b = __builtin_shuffle(evens, odds, high);
  }
};
struct Float32 : InOrder {
  typedef float Type;
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { a = load(p), b = load(p + W); }
  static INLINE float widen_one(Type x) { return x; }
  static INLINE Type narrow(float x) { return x; }
};
struct Float16 : InOrder {
  typedef uint16_t Type;
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { a = widen_float16(p), b = widen_float16(p + W); }
  static INLINE float widen_one(Type x) { return from_float16(x); }
  static INLINE Type narrow(float x) { return to_float16(x); }
};
struct Bfloat16 : InPairs {
  typedef uint16_t Type;
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { InPairs::widen(load_as<vshort>(p), a, b); }
  static INLINE float widen_one(Type x) { return from_bfloat16(x); }
  static INLINE Type narrow(float x) { return to_bfloat16(x); }
};
// bfloat16 holds every number of the following two: a group of them, in order.
INLINE vshort upper_halves(vfloat a, vfloat b) {
  vshort index;
  for (int i = 0; i < GROUP; ++i) index[i] = 2 * i + 1;
  return __builtin_shuffle((vshort)a, (vshort)b, index);
}
struct Int8 : InOrder {
  typedef int8_t Type;
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { a = widen_int8(p), b = widen_int8(p + W); }
  static INLINE vshort bfloat16(const Type* p) { return upper_halves(widen_int8(p), widen_int8(p + W)); }
};
#if defined(__AVX512VBMI__)
struct Fp8 : InPairs {
  typedef uint8_t Type;
  static INLINE vshort bfloat16(const Type* p) { return fp8_to_bfloat16(p); }
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { InPairs::widen(bfloat16(p), a, b); }
};
#else
struct Fp8 : InOrder {
  typedef uint8_t Type;
  static INLINE void widen(const Type* p, vfloat& a, vfloat& b) { widen_fp8(p, a, b); }
  static INLINE vshort bfloat16(const Type* p) {
    vfloat a, b;
    widen(p, a, b);
    return upper_halves(a, b);
  }
};
#endif

// The first `count` numbers of a group, the rest zeros.
template <class Format>
INLINE void widen_part(const typename Format::Type* p, int64_t count, vfloat& a, vfloat& b) {
  typename Format::Type part[GROUP] = {};
  memcpy(part, p, count * sizeof(*p));
  Format::widen(part, a, b);
}

// A group, or as much of it as is left, in natural order.
template <class Format>
INLINE void widen_to_float32(const typename Format::Type* p, int64_t left, float* y) {
  vfloat a, b;
  left >= GROUP ? Format::widen(p, a, b) : widen_part<Format>(p, left, a, b);
  Format::restore(a, b);
  left >= W ? store(y, a) : store_part(y, a, left);
  if (left > W) left >= GROUP ? store(y + W, b) : store_part(y + W, b, left - W);
}

// `size` numbers as bfloat16.
template <class Format>
INLINE void widen_to_bfloat16(const typename Format::Type* p, int64_t size, uint16_t* y) {
  int64_t i = 0;
  for (; i + GROUP <= size; i += GROUP) {
    const vshort group = Format::bfloat16(p + i);
    memcpy(y + i, &group, sizeof(group));
  }
  if (i == size) return;
  typename Format::Type part[GROUP] = {};
  memcpy(part, p + i, (size - i) * sizeof(*p));
  const vshort group = Format::bfloat16(part);
  memcpy(y + i, &group, (size - i) * sizeof(*y));
}

INLINE int64_t whole_groups(int64_t size) { return (size + GROUP - 1) / GROUP * GROUP; }

// x times `scale`, arranged as Format widens, zeros up to a whole number of groups, which go `apart` apart.
template <class Format>
INLINE void arrange(const float* x, int64_t size, float scale, float* y, int64_t apart = GROUP) {
  for (int64_t i = 0; i < size; i += GROUP, y += apart) {
    vfloat a = size - i >= W ? load(x + i) : load_part(x + i, size - i);
    vfloat b = size - i >= GROUP ? load(x + i + W) : size - i > W ? load_part(x + i + W, size - i - W) : vfloat{};
    Format::arrange(a, b);
    store(y, a * scale), store(y + W, b * scale);
  }
}

// Where the numbers of a kv head begin at an offset of a block.
INLINE int64_t place_in(const QwenvlKvCache& cache, int64_t block, int64_t head, int64_t offset) {
  return ((block * cache.kv_heads + head) * cache.block_size + offset) * cache.head_dim;
}

// f(Format{}) for a dtype; int8 and fp8 only where weights may have them.
template <class F>
INLINE void with_cache_format(QwenvlDtype dtype, F f) {
  if (dtype == QWENVL_BFLOAT16) return f(Bfloat16{});
  if (dtype == QWENVL_FLOAT16) return f(Float16{});
  f(Float32{});
}
template <class F>
INLINE void with_weight_format(QwenvlDtype dtype, F f) {
  if (dtype == QWENVL_INT8) return f(Int8{});
  if (dtype == QWENVL_FP8) return f(Fp8{});
  with_cache_format(dtype, f);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
