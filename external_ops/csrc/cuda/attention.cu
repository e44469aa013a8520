// Queries against the KV cache. Work is split over queries, kv heads and spans of slots, whose partial softmaxes are
// joined at the end (Flash-Decoding, Dao et al. 2023). Up to 8 heads that share a kv head are done together, so that the
// cache is read once for them.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int E = 8;          // numbers of a head that a lane holds
constexpr int THREADS = 128;  // of a block
constexpr int AHEAD = 4;      // slots that a lane has on the way at a time
constexpr int LEAST_SPAN = 64;
constexpr int MOST_SPLITS = 256;
constexpr float LOWEST = -1e30f;

template <class T>
struct Attention {
  const T *q, *k, *v;  // q [tokens, H, D], k and v [batch, Hkv, slots, D]
  const int32_t *lengths, *cu_q;  // cu_q is null where token t is the only one of row t
  int64_t batch, slots;
  int heads, kv_heads, head_dim, splits;
  float scale;
  bool aligned;
  float* parts;  // [tokens, H, splits, D + 2]: weighted sum of values, highest score, sum of weights
  T* out;

  // The row of a token and how many of its slots the token sees.
  __device__ int64_t locate(int64_t token, int& visible) const {
    int64_t row = token, later = 0;
    if (cu_q) {
      for (row = 0; row + 1 < batch && cu_q[row + 1] <= token;) ++row;
      later = cu_q[row + 1] - 1 - token;
    }
    const int64_t seen = lengths[row] - later;
    visible = (int)(seen < 0 ? 0 : seen > slots ? slots : seen);
    return row;
  }
  // How many slots a block does, a multiple of LEAST_SPAN.
  __device__ int span(int visible) const {
    return ((visible + splits - 1) / splits + LEAST_SPAN - 1) / LEAST_SPAN * LEAST_SPAN;
  }
  // Numbers d .. d + E of a row, zeros past the head's end.
  __device__ Pack<T, E> fetch(const T* row, int d) const {
    if (aligned && d < head_dim) return load<T, E>(row + d);
    Pack<T, E> some;
#pragma unroll
    for (int e = 0; e < E; ++e) some.at[e] = d + e < head_dim ? row[d + e] : narrow<T>(0.0f);
    return some;
  }
};

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
  const int64_t token = blockIdx.x;
  const int group = a.heads / a.kv_heads, chunks = (group + H - 1) / H;
  const int kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks;
  const int head = kv_head * group + chunk * H, count = group - chunk * H < H ? group - chunk * H : H;
  int visible;
  const int64_t row = a.locate(token, visible);
  const int start = blockIdx.z * a.span(visible), stop = start + a.span(visible);
  const int end = stop < visible ? stop : visible;
  if (start >= end && blockIdx.z > 0) return;

  const int lane = threadIdx.x % WARP, stream = threadIdx.x / L, d = threadIdx.x % L * E;
  float q[H][E], out[H][E] = {}, highest = LOWEST, total = 0;
#pragma unroll
  for (int h = 0; h < H; ++h) {
    const Pack<T, E> some = a.fetch(a.q + (token * a.heads + head + (h < count ? h : 0)) * a.head_dim, d);
#pragma unroll
    for (int e = 0; e < E; ++e) q[h][e] = widen(some.at[e]) * a.scale * LOG2E;
  }
  const int64_t cache = (row * a.kv_heads + kv_head) * a.slots * a.head_dim;
  for (int first = start; first < end; first += STREAMS * AHEAD) {
    Pack<T, E> keys[AHEAD], values[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
      const int slot = first + u * STREAMS + stream;
      const int64_t at = cache + (int64_t)slot * a.head_dim;
      keys[u] = a.fetch(a.k + at, slot < end ? d : a.head_dim);  // what lies past the end may be anything, so zeros
      values[u] = a.fetch(a.v + at, slot < end ? d : a.head_dim);
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
      if (first + u * STREAMS + stream >= end) scores[u] = -INFINITY;
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

  __shared__ float outs[STREAMS][H][L * E], tops[STREAMS][H], totals[STREAMS][H];
#pragma unroll
  for (int h = 0; h < H; ++h)
#pragma unroll
    for (int e = 0; e < E; ++e) outs[stream][h][d + e] = out[h][e];
  if (threadIdx.x % (L / H) == 0) {
    const int h = threadIdx.x % L / (L / H);
    tops[stream][h] = highest;
    totals[stream][h] = total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count * a.head_dim; i += THREADS) {
    const int h = i / a.head_dim, n = i % a.head_dim;
    float top = LOWEST, weights = 0, sum = 0;
    for (int s = 0; s < STREAMS; ++s) top = fmaxf(top, tops[s][h]);
    for (int s = 0; s < STREAMS; ++s) {
      const float weight = exp2f(tops[s][h] - top);
      weights += weight * totals[s][h];
      sum += weight * outs[s][h][n];
    }
    const int64_t at = token * a.heads + head + h;
    if (a.splits == 1) {
      a.out[at * a.head_dim + n] = narrow<T>(weights > 0 ? sum / weights : 0.0f);
      continue;
    }
    float* part = a.parts + (at * a.splits + blockIdx.z) * (a.head_dim + 2);
    part[n] = sum;
    if (n == 0) part[a.head_dim] = top, part[a.head_dim + 1] = weights;
  }
}

// A block joins the spans of one head of one token.
template <class T>
__global__ void join(Attention<T> a) {
  const int64_t at = blockIdx.x;
  const int stride = a.head_dim + 2;
  int visible;
  a.locate(at / a.heads, visible);
  const int span = a.span(visible), used = visible ? (visible + span - 1) / span : 0;
  const float* part = a.parts + at * a.splits * stride;
  float top = LOWEST;
  for (int s = 0; s < used; ++s) top = fmaxf(top, part[s * stride + a.head_dim]);
  for (int n = threadIdx.x; n < a.head_dim; n += blockDim.x) {
    float weights = 0, sum = 0;
    for (int s = 0; s < used; ++s) {
      const float weight = exp2f(part[s * stride + a.head_dim] - top);
      weights += weight * part[s * stride + a.head_dim + 1];
      sum += weight * part[s * stride + n];
    }
    a.out[at * a.head_dim + n] = narrow<T>(weights > 0 ? sum / weights : 0.0f);
  }
}

int heads_together(int64_t group) { return group > 4 ? 8 : group > 2 ? 4 : (int)group; }

// Into how many spans a row is split: blocks for every multiprocessor, but no span shorter than LEAST_SPAN.
int64_t splits_of(const QwenvlKvCache& cache, int64_t tokens, int64_t heads) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int64_t group = heads / cache.kv_heads, together = heads_together(group);
  const int64_t blocks = tokens * cache.kv_heads * ((group + together - 1) / together);
  const int64_t wanted = blocks ? 4 * processors / blocks : 1, most = (cache.slots + LEAST_SPAN - 1) / LEAST_SPAN;
  const int64_t splits = wanted < most ? wanted : most;
  return splits < 1 ? 1 : splits > MOST_SPLITS ? MOST_SPLITS : splits;
}

template <class T, int L, int H>
int run(const Attention<T>& a, int64_t tokens, void* stream) {
  const int group = a.heads / a.kv_heads;
  const dim3 grid((unsigned)tokens, (unsigned)(a.kv_heads * ((group + H - 1) / H)), (unsigned)a.splits);
  const int error = launch(attend<T, L, H>, grid, THREADS, stream, a);
  if (error || a.splits == 1) return error;
  return launch(join<T>, dim3((unsigned)(tokens * a.heads)), threads_for(a.head_dim, 256), stream, a);
}

template <class T, int L>
int with_heads(const Attention<T>& a, int64_t tokens, void* stream) {
  switch (heads_together(a.heads / a.kv_heads)) {
    case 1: return run<T, L, 1>(a, tokens, stream);
    case 2: return run<T, L, 2>(a, tokens, stream);
    case 4: return run<T, L, 4>(a, tokens, stream);
    default: return run<T, L, 8>(a, tokens, stream);
  }
}

int attention(const void* q, const QwenvlKvCache& cache, const int32_t* cu_q, const int32_t* lengths, int64_t tokens,
              int64_t heads, float scale, void* scratch, void* out, void* stream) {
  if (cache.head_dim < 1 || cache.head_dim > QWENVL_LARGEST_CUDA_HEAD || cache.kv_heads < 1 || heads < 1 ||
      heads % cache.kv_heads || heads > UINT16_MAX || tokens * heads > INT32_MAX || cache.slots > INT32_MAX / 2)
    return cudaErrorInvalidValue;
  return with_type(cache.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    const Attention<T> a{(const T*)q,
                         (const T*)cache.k,
                         (const T*)cache.v,
                         lengths,
                         cu_q,
                         cache.batch,
                         cache.slots,
                         (int)heads,
                         (int)cache.kv_heads,
                         (int)cache.head_dim,
                         (int)splits_of(cache, tokens, heads),
                         scale,
                         cache.head_dim % E == 0 && packs<T>(cache.head_dim, {q, cache.k, cache.v}),
                         (float*)scratch,
                         (T*)out};
    if (a.head_dim <= 8 * E) return with_heads<T, 8>(a, tokens, stream);
    if (a.head_dim <= 16 * E) return with_heads<T, 16>(a, tokens, stream);
    return with_heads<T, 32>(a, tokens, stream);
  });
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int64_t qwenvl_cuda_attention_scratch(const QwenvlKvCache* cache, int64_t tokens, int64_t heads) {
  if (cache->kv_heads < 1 || heads < cache->kv_heads) return 0;
  const int64_t splits = splits_of(*cache, tokens, heads);
  return splits == 1 ? 0 : tokens * heads * splits * (cache->head_dim + 2) * (int64_t)sizeof(float);
}

int qwenvl_cuda_decode_attention(const void* q, const QwenvlKvCache* cache, const int32_t* lengths, int64_t heads,
                                 float scale, void* scratch, void* out, void* stream) {
  return attention(q, *cache, nullptr, lengths, cache->batch, heads, scale, scratch, out, stream);
}

int qwenvl_cuda_cached_attention(const void* q, const QwenvlKvCache* cache, const int32_t* cu_q,
                                 const int32_t* lengths, int64_t tokens, int64_t heads, float scale, void* scratch,
                                 void* out, void* stream) {
  return attention(q, *cache, cu_q, lengths, tokens, heads, scale, scratch, out, stream);
}
