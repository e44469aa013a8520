// Rotary embedding and what surrounds it: its tables, splitting packed qkv and filling the KV cache.
#include <math.h>

#include "numbers.h"
#include "rotation.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr int64_t WORTH_A_THREAD = 1 << 14;

INLINE void rotate_back_to(const float* x, const float* cos, const float* sin, int64_t head_dim, float* y) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float first = x[i], second = x[half + i];
    y[i] = first * cos[i] + second * sin[i];
    y[half + i] = second * cos[i] - first * sin[i];
  }
}

}  // namespace

void mrope_tables(const int64_t* positions, const float* frequencies, int64_t apart, const int64_t* sections, int64_t rows,
                  int64_t tokens, int64_t size, float* cos, float* sin) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * size > WORTH_A_THREAD)
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t r = 0, i = 0; r < rows; ++r)
      for (const int64_t end = i + sections[r]; i < end; ++i) {
        const float angle = (float)positions[r * tokens + t] * frequencies[t * apart + i];
        cos[t * size + i] = cosf(angle), sin[t * size + i] = sinf(angle);
      }
}

void rotary(const float* x, const float* cos, const float* sin, int64_t tokens, int64_t heads, int64_t head_dim,
            float* y) {
  const int64_t half = head_dim / 2;
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * heads * head_dim > WORTH_A_THREAD)
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = (t * heads + h) * head_dim;
      rotate_to(x + at, cos + t * half, sin + t * half, head_dim, y + at);
    }
}

void qkv_split(const float* qkv, const float* cos, const float* sin, int64_t tokens, int64_t heads, int64_t kv_heads,
               int64_t head_dim, float* q, float* k, float* v) {
  const int64_t half = head_dim / 2, width = (heads + 2 * kv_heads) * head_dim, kv_width = kv_heads * head_dim;
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * width > WORTH_A_THREAD)
  for (int64_t t = 0; t < tokens; ++t) {
    const float *in = qkv + t * width, *c = cos + t * half, *s = sin + t * half;
    for (int64_t h = 0; h < heads; ++h, in += head_dim) rotate_to(in, c, s, head_dim, q + (t * heads + h) * head_dim);
    for (int64_t h = 0; h < kv_heads; ++h, in += head_dim)
      rotate_to(in, c, s, head_dim, k + t * kv_width + h * head_dim);
    memcpy(v + t * kv_width, in, kv_width * sizeof(float));
  }
}

void qkv_split_gradient(const float* dq, const float* dk, const float* dv, const float* cos, const float* sin,
                        int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, float* d_qkv) {
  const int64_t half = head_dim / 2, width = (heads + 2 * kv_heads) * head_dim, kv_width = kv_heads * head_dim;
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * width > WORTH_A_THREAD)
  for (int64_t t = 0; t < tokens; ++t) {
    const float *c = cos + t * half, *s = sin + t * half;
    float* to = d_qkv + t * width;
    for (int64_t h = 0; h < heads; ++h, to += head_dim)
      rotate_back_to(dq + (t * heads + h) * head_dim, c, s, head_dim, to);
    for (int64_t h = 0; h < kv_heads; ++h, to += head_dim)
      rotate_back_to(dk + t * kv_width + h * head_dim, c, s, head_dim, to);
    memcpy(to, dv + t * kv_width, kv_width * sizeof(float));
  }
}

void write_cache(const float* k, const float* v, const QwenvlKvCache* cache, const int32_t* slots, int64_t tokens) {
  const int64_t heads = cache->kv_heads, head_dim = cache->head_dim, block_size = cache->block_size;
  with_cache_format(cache->dtype, [&](auto format) __attribute__((always_inline)) {
    typedef decltype(format) Format;
    typedef typename Format::Type Type;
    Type *k_cache = (Type*)cache->k, *v_cache = (Type*)cache->v;
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * heads * head_dim > WORTH_A_THREAD)
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t from = (t * heads + h) * head_dim;
        const int64_t to = place_in(*cache, slots[t] / block_size, h, slots[t] % block_size);
        for (int64_t i = 0; i < head_dim; ++i) k_cache[to + i] = Format::narrow(k[from + i]);
        for (int64_t i = 0; i < head_dim; ++i) v_cache[to + i] = Format::narrow(v[from + i]);
      }
  });
}

void qkv_write_cache(const float* qkv, const float* cos, const float* sin, const QwenvlKvCache* cache,
                     const int32_t* slots, int64_t tokens, int64_t heads, float* q) {
  const int64_t kv_heads = cache->kv_heads, head_dim = cache->head_dim, half = head_dim / 2;
  const int64_t block_size = cache->block_size, width = (heads + 2 * kv_heads) * head_dim;
  with_cache_format(cache->dtype, [&](auto format) __attribute__((always_inline)) {
    typedef decltype(format) Format;
    typedef typename Format::Type Type;
    Type *k_cache = (Type*)cache->k, *v_cache = (Type*)cache->v;
#pragma omp parallel for num_threads(qwenvl_threads()) if (tokens * width > WORTH_A_THREAD)
    for (int64_t t = 0; t < tokens; ++t) {
      const float *in = qkv + t * width, *c = cos + t * half, *s = sin + t * half;
      for (int64_t h = 0; h < heads; ++h, in += head_dim)
        rotate_to(in, c, s, head_dim, q + (t * heads + h) * head_dim);
      for (int64_t h = 0; h < kv_heads; ++h, in += head_dim) {
        const int64_t to = place_in(*cache, slots[t] / block_size, h, slots[t] % block_size);
        const float* value = in + kv_heads * head_dim;
        rotate(in, c, s, head_dim, [&](int64_t i, float x) { k_cache[to + i] = Format::narrow(x); });
        for (int64_t i = 0; i < head_dim; ++i) v_cache[to + i] = Format::narrow(value[i]);
      }
    }
  });
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
