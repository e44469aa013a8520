// Rotary embedding and what surrounds it: splitting packed qkv and filling the KV cache.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int TOGETHER = 4;  // tokens of a block whose warps have one each

// Heads [D] of a token: where they come from and go to. Keys and values go to a cache if `places` has slots, and to
// [T, Hkv, D] otherwise; there may be no values.
template <class T>
struct Heads {
  const T *q, *k, *v;           // first heads of token 0
  int64_t q_stride, kv_stride;  // from token to token
  T *q_out, *k_out, *v_out;
  int heads, kv_heads, head_dim;
  Places places;
};

// A block takes a token, a thread N numbers of each half of a head: number i of a head turns with number i + D/2.
template <class T, int N>
__global__ void move_heads(Heads<T> all, const float* cos, const float* sin) {
  const int64_t token = blockIdx.x;
  const int half = all.head_dim / 2, packs = half / N, rotated = all.heads + all.kv_heads;
  const int count = rotated + (all.v ? all.kv_heads : 0);
  const bool cached = all.places.slots != nullptr, placed = !cached || all.places.hold(token);
  for (int item = threadIdx.x; item < count * packs; item += blockDim.x) {
    const int head = item / packs, i = item % packs * N;
    const bool query = head < all.heads, value = head >= rotated;
    const int h = query ? head : value ? head - rotated : head - all.heads;
    const T* from = query ? all.q + token * all.q_stride : (value ? all.v : all.k) + token * all.kv_stride;
    from += h * all.head_dim + i;
    Pack<T, N> first = load<T, N>(from), second = load<T, N>(from + half);
    if (!value) {
      const Pack<float, N> c = load<float, N>(cos + token * half + i), s = load<float, N>(sin + token * half + i);
#pragma unroll
      for (int j = 0; j < N; ++j) turn(first.at[j], second.at[j], c.at[j], s.at[j]);
    }
    if (!query && !placed) continue;
    const int64_t place = query    ? token * all.heads + h
                          : cached ? all.places.at(token, all.kv_heads, h)
                                   : token * all.kv_heads + h;
    T* to = (query ? all.q_out : value ? all.v_out : all.k_out) + place * all.head_dim + i;
    store(to, first);
    store(to + half, second);
  }
}

template <class T>
int move(const Heads<T>& all, const float* cos, const float* sin, int64_t tokens, void* stream) {
  constexpr int N = 16 / sizeof(T);
  const int64_t half = all.head_dim / 2, count = all.heads + 2 * all.kv_heads;
  if (all.head_dim % 2 || tokens > INT32_MAX || count * all.head_dim > INT32_MAX) return cudaErrorInvalidValue;
  auto run = [&](auto kernel, int64_t items) {
    return launch(kernel, dim3((unsigned)tokens), threads_for(items, 256), stream, all, cos, sin);
  };
  if (packs<T>(half, {all.q, all.k, all.v, all.q_out, all.k_out, all.v_out, cos, sin}))
    return run(move_heads<T, N>, count * half / N);
  return run(move_heads<T, 1>, count * half);
}

// Heads of packed qkv [T, (H + 2 Hkv) D].
template <class T>
Heads<T> packed(const void* qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, void* q, void* k, void* v,
                const Places& places) {
  const T *first = (const T*)qkv, *keys = first + heads * head_dim, *values = keys + kv_heads * head_dim;
  const int64_t width = (heads + 2 * kv_heads) * head_dim;
  return {first, keys, values, width, width, (T*)q, (T*)k, (T*)v, (int)heads, (int)kv_heads, (int)head_dim, places};
}

// A warp takes a token, a thread N numbers of a key and of a value at a time.
template <class T, int N>
__global__ void write_cache(const T* k, const T* v, T* k_cache, T* v_cache, int64_t tokens, int heads, int head_dim,
                            Places places) {
  const int64_t token = (int64_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (token >= tokens || !places.hold(token)) return;
  for (int at = threadIdx.x % WARP * N; at < heads * head_dim; at += WARP * N) {
    const int64_t from = token * heads * head_dim + at;
    const int64_t to = places.at(token, heads, at / head_dim) * head_dim + at % head_dim;
    store(k_cache + to, load<T, N>(k + from));
    store(v_cache + to, load<T, N>(v + from));
  }
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_rotary(const void* q, const void* k, const float* cos, const float* sin, QwenvlDtype dtype,
                       int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, void* q_out, void* k_out,
                       void* stream) {
  return with_type(dtype, [&](auto zero) {
    typedef decltype(zero) T;
    const Heads<T> all{(const T*)q, (const T*)k, nullptr, heads * head_dim, kv_heads * head_dim, (T*)q_out, (T*)k_out,
                       nullptr, (int)heads, (int)kv_heads, (int)head_dim, NOWHERE};
    return move(all, cos, sin, tokens, stream);
  });
}

int qwenvl_cuda_qkv_split(const void* qkv, const float* cos, const float* sin, QwenvlDtype dtype, int64_t tokens,
                          int64_t heads, int64_t kv_heads, int64_t head_dim, void* q, void* k, void* v, void* stream) {
  return with_type(dtype, [&](auto zero) {
    return move(packed<decltype(zero)>(qkv, heads, kv_heads, head_dim, q, k, v, NOWHERE), cos, sin, tokens, stream);
  });
}

int qwenvl_cuda_write_cache(const void* k, const void* v, const QwenvlKvCache* cache, const int32_t* slots,
                            int64_t tokens, void* stream) {
  const int64_t width = cache->kv_heads * cache->head_dim;
  if (tokens > INT32_MAX || width > INT32_MAX / 2 || cache->block_size < 1) return cudaErrorInvalidValue;
  return with_type(cache->dtype, [&](auto zero) {
    typedef decltype(zero) T;
    constexpr int N = 16 / sizeof(T);
    auto run = [&](auto kernel) {
      return launch(kernel, dim3((unsigned)((tokens + TOGETHER - 1) / TOGETHER)), TOGETHER * WARP, stream, (const T*)k,
                    (const T*)v, (T*)cache->k, (T*)cache->v, tokens, (int)cache->kv_heads, (int)cache->head_dim,
                    places_in(*cache, slots));
    };
    return packs<T>(cache->head_dim, {k, v, cache->k, cache->v}) ? run(write_cache<T, N>) : run(write_cache<T, 1>);
  });
}

int qwenvl_cuda_qkv_write_cache(const void* qkv, const float* cos, const float* sin, const QwenvlKvCache* cache,
                                const int32_t* slots, int64_t tokens, int64_t heads, void* q, void* stream) {
  if (cache->block_size < 1) return cudaErrorInvalidValue;
  return with_type(cache->dtype, [&](auto zero) {
    return move(packed<decltype(zero)>(qkv, heads, cache->kv_heads, cache->head_dim, q, cache->k, cache->v,
                                       places_in(*cache, slots)),
                cos, sin, tokens, stream);
  });
}
