// Queries against the KV cache, on the CUDA cores. Up to 8 heads that share a kv head are done together, so that the cache is
// read once for them. attention_mma.h has a faster kernel for what it takes.
#include "attention.h"
#include "attention_mma.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int E = 8;      // numbers of a head that a lane holds
constexpr int AHEAD = 4;  // slots that a lane has on the way at a time
constexpr int JOINERS = 512;

// Numbers d .. d + E of a row of D, zeros past its end.
template <class T>
__device__ inline Pack<T, E> fetch(const Attention<T>& a, const T* row, int d) {
  if (a.aligned && d < a.head_dim) return load<T, E>(row + d);
  Pack<T, E> some;
#pragma unroll
  for (int e = 0; e < E; ++e) some.at[e] = d + e < a.head_dim ? row[d + e] : narrow<T>(0.0f);
  return some;
}

// Sums x[0] .. x[N - 1] over the 2 STEP neighbouring lanes that differ from this one in the bits below; lane i gets the sum of
// number i / (2 STEP / N) of them.
template <int N, int STEP>
__device__ inline float transposed_sum(float* x, int lane) {
  if constexpr (N > 1) {
    const bool upper = lane & STEP;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const float kept = upper ? x[i + N / 2] : x[i], given = upper ? x[i] : x[i + N / 2];
      x[i] = kept + __shfl_xor_sync(FULL, given, STEP);
    }
    return transposed_sum<N / 2, STEP / 2>(x, lane);
  } else if constexpr (STEP > 0) {
    x[0] += __shfl_xor_sync(FULL, x[0], STEP);
    return transposed_sum<1, STEP / 2>(x, lane);
  } else {
    return x[0];
  }
}

// A block takes a token, up to H heads that share a kv head, and a span of slots. L lanes share a slot; each keeps its
// numbers of all H heads, and of the softmax the state of one head.
template <class T, int L, int H>
__global__ void __launch_bounds__(THREADS) attend(Attention<T> a) {
  constexpr int STREAMS = THREADS / L;  // slots that a block does at once
  const Block<T> block(a, H);
  if (block.idle()) return;
  const int lane = threadIdx.x % WARP, stream = threadIdx.x / L, d = threadIdx.x % L * E;
  alignas(16) __shared__ T turned[H * L * E];
  const T* given = queries(a, block, turned);
  float q[H][E], out[H][E] = {}, highest = LOWEST, total = 0;
#pragma unroll
  for (int h = 0; h < H; ++h) {
    const Pack<T, E> some = fetch(a, given + (h < block.count ? h : 0) * a.head_dim, d);
#pragma unroll
    for (int e = 0; e < E; ++e) q[h][e] = widen(some.at[e]) * a.scale * LOG2E;
  }
  for (int first = block.start; first < block.end; first += STREAMS * AHEAD) {
    Pack<T, E> keys[AHEAD], values[AHEAD];
    bool there[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
      const int place = block.place(a, first + u * STREAMS + stream);
      const int64_t at = (int64_t)place * a.head_dim;
      there[u] = place >= 0;
      keys[u] = fetch(a, a.k + at, there[u] ? d : a.head_dim);  // zeros where there is none
      values[u] = fetch(a, a.v + at, there[u] ? d : a.head_dim);
    }
    float scores[AHEAD], top = highest;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
      float dots[H] = {};
#pragma unroll
      for (int h = 0; h < H; ++h)
#pragma unroll
        for (int e = 0; e < E; ++e) dots[h] += q[h][e] * widen(keys[u].at[e]);
      scores[u] = transposed_sum<H, L / 2>(dots, lane);
      if (!there[u]) scores[u] = -INFINITY;
      top = fmaxf(top, scores[u]);
    }
    const float shrink = exp2f(highest - top);
    highest = top;
    total *= shrink;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) total += scores[u] = exp2f(scores[u] - top);
#pragma unroll
    for (int h = 0; h < H; ++h) {
      const int source = lane / L * L + h * (L / H);  // a lane that has this head's weights
      const float less = __shfl_sync(FULL, shrink, source);
#pragma unroll
      for (int e = 0; e < E; ++e) out[h][e] *= less;
#pragma unroll
      for (int u = 0; u < AHEAD; ++u) {
        const float weight = __shfl_sync(FULL, scores[u], source);
#pragma unroll
        for (int e = 0; e < E; ++e) out[h][e] += weight * widen(values[u].at[e]);
      }
    }
  }

  __shared__ Sums<STREAMS, H, L * E> sums;
#pragma unroll
  for (int h = 0; h < H; ++h)
#pragma unroll
    for (int e = 0; e < E; ++e) sums.outs[stream][h][d + e] = out[h][e];
  if (threadIdx.x % (L / H) == 0) {
    const int h = threadIdx.x % L / (L / H);
    sums.tops[stream][h] = highest;
    sums.totals[stream][h] = total;
  }
  finish(a, block, sums, [](int n) { return n; });
}

// A block joins the spans of one head of one token, a warp some of them.
template <class T>
__global__ void __launch_bounds__(JOINERS) join(Attention<T> a) {
  constexpr int WARPS = JOINERS / WARP, NUMBERS = QWENVL_LARGEST_CUDA_HEAD / WARP;
  __shared__ float shares[MOST_SPLITS], sums[WARPS][QWENVL_LARGEST_CUDA_HEAD];
  const int64_t at = blockIdx.x, first = at * a.splits;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int visible;
  a.locate(at / a.heads, visible);
  const int span = a.span(visible), used = visible ? (visible + span - 1) / span : 0;
  const Pack<float, 2> own =  // a thread has one span: MOST_SPLITS is no more than JOINERS
      (int)threadIdx.x < used ? load<float, 2>(a.softmax + (first + threadIdx.x) * 2) : Pack<float, 2>{{LOWEST, 0}};
  const float share = exp2f(own.at[0] - largest(own.at[0]));
  if ((int)threadIdx.x < used) shares[threadIdx.x] = share;
  float weights, sum[NUMBERS] = {};
  scan(share * own.at[1], weights);  // whose barriers let all see the shares
#pragma unroll 4
  for (int s = warp; s < used; s += WARPS)
#pragma unroll
    for (int i = 0; i < NUMBERS; ++i)
      if (i * WARP + lane < a.head_dim) sum[i] += shares[s] * a.parts[(first + s) * a.head_dim + i * WARP + lane];
#pragma unroll
  for (int i = 0; i < NUMBERS; ++i) sums[warp][i * WARP + lane] = sum[i];
  __syncthreads();
  if ((int)threadIdx.x >= a.head_dim) return;
  float whole = 0;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) whole += sums[w][threadIdx.x];
  a.out[at * a.head_dim + threadIdx.x] = narrow<T>(weights > 0 ? whole / weights : 0.0f);
}

int heads_together(int64_t group) { return group > 4 ? 8 : group > 2 ? 4 : (int)group; }

// Into how many spans a row is split: blocks for every multiprocessor, all at once, but no span shorter than LEAST_SPAN.
int64_t splits_of(const QwenvlKvCache& cache, const QwenvlRows& rows, int64_t tokens, int64_t heads) {
  const int64_t group = heads / cache.kv_heads, together = heads_together(group);
  const int64_t blocks = tokens * cache.kv_heads * ((group + together - 1) / together);
  const int64_t wanted = blocks ? 3 * attribute(cudaDevAttrMultiProcessorCount) / blocks : 1;
  const int64_t most = (rows.blocks * cache.block_size + LEAST_SPAN - 1) / LEAST_SPAN, splits = wanted < most ? wanted : most;
  return splits < 1 ? 1 : splits > MOST_SPLITS ? MOST_SPLITS : splits;
}

template <class T>
int run(void (*kernel)(Attention<T>), int together, const Attention<T>& a, int64_t tokens, void* stream) {
  const int group = a.heads / a.kv_heads;
  const dim3 grid((unsigned)tokens, (unsigned)(a.kv_heads * ((group + together - 1) / together)), (unsigned)a.splits);
  const int error = launch(kernel, grid, THREADS, stream, a);
  if (error || a.splits == 1) return error;
  return launch(join<T>, dim3((unsigned)(tokens * a.heads)), JOINERS, stream, a);
}

template <class T, int L>
int with_heads(const Attention<T>& a, int64_t tokens, void* stream) {
  switch (heads_together(a.heads / a.kv_heads)) {
    case 1: return run(attend<T, L, 1>, 1, a, tokens, stream);
    case 2: return run(attend<T, L, 2>, 2, a, tokens, stream);
    case 4: return run(attend<T, L, 4>, 4, a, tokens, stream);
    default: return run(attend<T, L, 8>, 8, a, tokens, stream);
  }
}

// Of tokens that are not in the cache yet: their tables, and the slots they take.
struct Packed {
  const float *cos, *sin;
  const int32_t* slots;
};

int attention(const void* q, const Packed& packed, const QwenvlKvCache& cache, const QwenvlRows& rows,
              const int32_t* cu_q, int64_t tokens, int64_t heads, float scale, void* scratch, void* out, void* stream) {
  if (cache.head_dim < 1 || cache.head_dim > QWENVL_LARGEST_CUDA_HEAD || cache.kv_heads < 1 || heads < 1 ||
      heads % cache.kv_heads || (packed.cos && cache.head_dim % 2) || heads > UINT16_MAX || tokens * heads > INT32_MAX || cache.block_size < 1 ||
      cache.blocks * cache.kv_heads * cache.block_size > INT32_MAX || rows.blocks * cache.block_size > INT32_MAX / 2)
    return cudaErrorInvalidValue;
  return with_type(cache.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    const int64_t splits = splits_of(cache, rows, tokens, heads);
    const Attention<T> a{(const T*)q,
                         (T*)cache.k,
                         (T*)cache.v,
                         packed.cos,
                         packed.sin,
                         places_in(cache, packed.slots),
                         rows,
                         cu_q,
                         Divisor(cache.block_size),
                         (int)cache.blocks,
                         (int)heads,
                         (int)cache.kv_heads,
                         (int)cache.head_dim,
                         (int)splits,
                         scale,
                         cache.head_dim % E == 0 && packs<T>(cache.head_dim, {q, cache.k, cache.v}),
                         (float*)scratch,
                         (float*)scratch + tokens * heads * splits * cache.head_dim,
                         (T*)out};
    if constexpr (sizeof(T) == 2)
      if (a.head_dim == 128 && a.aligned && has_tensor_cores<T>())
        return run(attend_mma<T>, 8, a, tokens, stream);
    if (a.head_dim <= 8 * E) return with_heads<T, 8>(a, tokens, stream);
    if (a.head_dim <= 16 * E) return with_heads<T, 16>(a, tokens, stream);
    return with_heads<T, 32>(a, tokens, stream);
  });
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int64_t qwenvl_cuda_attention_scratch(const QwenvlKvCache* cache, const QwenvlRows* rows, int64_t tokens,
                                      int64_t heads) {
  if (cache->kv_heads < 1 || heads < cache->kv_heads) return 0;
  const int64_t splits = splits_of(*cache, *rows, tokens, heads);
  return splits == 1 ? 0 : tokens * heads * splits * (cache->head_dim + 2) * (int64_t)sizeof(float);
}

int qwenvl_cuda_decode_attention(const void* q, const QwenvlKvCache* cache, const QwenvlRows* rows, int64_t heads,
                                 float scale, void* scratch, void* out, void* stream) {
  return attention(q, {}, *cache, *rows, nullptr, rows->count, heads, scale, scratch, out, stream);
}

int qwenvl_cuda_qkv_decode_attention(const void* qkv, const float* cos, const float* sin, const QwenvlKvCache* cache,
                                     const int32_t* slots, const QwenvlRows* rows, int64_t heads, float scale,
                                     void* scratch, void* out, void* stream) {
  return attention(qkv, {cos, sin, slots}, *cache, *rows, nullptr, rows->count, heads, scale, scratch, out, stream);
}

int qwenvl_cuda_cached_attention(const void* q, const QwenvlKvCache* cache, const QwenvlRows* rows,
                                 const int32_t* cu_q, int64_t tokens, int64_t heads, float scale, void* scratch,
                                 void* out, void* stream) {
  return attention(q, {}, *cache, *rows, cu_q, tokens, heads, scale, scratch, out, stream);
}
