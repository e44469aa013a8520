// One query a row against the KV cache. Work is split over rows, kv heads and spans of slots, whose partial softmaxes
// are merged at the end (Flash-Decoding, Dao et al. 2023). All heads that share a kv head are done together, so the
// cache is read once.
#include "numbers.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr int64_t SPAN = 128;  // slots of one task

// One kv head of one row: `group` queries against a span of its slots. Queries and `out` are [group][padded], arranged
// as the cache's format widens.
template <class Format>
struct Span {
  typedef typename Format::Type Type;
  const float* queries;
  const Type *k, *v;
  int64_t slots, head_dim, padded, group;
  float *scores, *out, *highest, *total;  // scores: [group][SPAN]

  INLINE void widen(const Type* row, int64_t d, vfloat& a, vfloat& b) const {
    d + GROUP <= head_dim ? Format::widen(row + d, a, b) : widen_part<Format>(row + d, head_dim - d, a, b);
  }

  // Scores of H heads and W / H slots from `slot` on; slots past the end repeat the last.
  template <int H>
  INLINE void score(int64_t head, int64_t slot) const {
    constexpr int S = W / H;
    vfloat acc[W] = {};
    const Type* rows[S];
    for (int s = 0; s < S; ++s) rows[s] = k + (slot + s < slots ? slot + s : slots - 1) * head_dim;
    for (int64_t d = 0; d < padded; d += GROUP)
#pragma GCC unroll 16
      for (int s = 0; s < S; ++s) {
        vfloat a, b;
        widen(rows[s], d, a, b);
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) {
          const float* q = queries + (head + h) * padded + d;
          acc[h * S + s] += a * load(q) + b * load(q + W);
        }
      }
    float both[W];
    store(both, sums(acc));
    for (int h = 0; h < H; ++h) memcpy(scores + (head + h) * SPAN + slot, both + h * S, S * sizeof(float));
  }

  // out = weights times values for H heads and D groups of numbers from d on.
  template <int H, int D>
  INLINE void weigh(int64_t head, int64_t d) const {
    vfloat acc[H][2 * D] = {};
    for (int64_t s = 0; s < slots; ++s)
#pragma GCC unroll 4
      for (int i = 0; i < D; ++i) {
        vfloat a, b;
        widen(v + s * head_dim, d + i * GROUP, a, b);
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h) {
          const float weight = scores[(head + h) * SPAN + s];
          acc[h][2 * i] += weight * a;
          acc[h][2 * i + 1] += weight * b;
        }
      }
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int i = 0; i < 2 * D; ++i) store(out + (head + h) * padded + d + i * W, acc[h][i]);
  }
  template <int H, int D>
  void weigh_heads(int64_t head) const {
    int64_t d = 0;
    for (; d + D * GROUP <= padded; d += D * GROUP) weigh<H, D>(head, d);
    for (; d < padded; d += GROUP) weigh<H, 1>(head, d);
  }

  void softmax(int64_t head) const {
    float* row = scores + head * SPAN;
    const int64_t end = (slots + W - 1) / W * W;
    for (int64_t s = slots; s < end; ++s) row[s] = -__builtin_inff();
    vfloat top = splat(-1e30f), sum_of{};
    for (int64_t s = 0; s < end; s += W) top = max(load(row + s), top);
    highest[head] = maximum(top);
    for (int64_t s = 0; s < end; s += W) {
      const vfloat weight = exp2(load(row + s) - highest[head]);
      sum_of += weight;
      store(row + s, weight);
    }
    total[head] = sum(sum_of);
  }

  void run() const {
    for (int64_t slot = 0; slot < slots; slot += W) {
      for (int64_t at = slot; at < slot + W && at < slots; ++at)
        for (int64_t i = 0; i < head_dim; i += 64 / (int64_t)sizeof(Type)) __builtin_prefetch(v + at * head_dim + i);
      int64_t head = 0;
      for (; head + 2 <= group; head += 2) score<2>(head, slot), score<2>(head, slot + W / 2);
      if (head < group) score<1>(head, slot);
    }
    for (int64_t head = 0; head < group; ++head) softmax(head);
    int64_t head = 0;
    for (; head + 4 <= group; head += 4) weigh_heads<4, 1>(head);
    for (; head + 2 <= group; head += 2) weigh_heads<2, 2>(head);
    if (head < group) weigh_heads<1, 4>(head);
  }
};

template <class Format>
void decode_as(const float* q, const QwenvlKvCache& cache, const int32_t* lengths, int64_t heads, float scale,
               float* y) {
  typedef typename Format::Type Type;
  const int64_t head_dim = cache.head_dim, group = heads / cache.kv_heads, pairs = cache.batch * cache.kv_heads;
  const int64_t padded = whole_groups(head_dim);
  int64_t spans = 0;
  for (int64_t b = 0; b < cache.batch; ++b)
    if ((lengths[b] + SPAN - 1) / SPAN > spans) spans = (lengths[b] + SPAN - 1) / SPAN;
  const int64_t part = group * (padded + 2);  // out, highest, total of one span
  Scratch queries(pairs * group * padded), parts(pairs * spans * part), scores(qwenvl_threads() * group * SPAN);
#pragma omp parallel num_threads(qwenvl_threads())
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < cache.batch * heads; ++i)
      arrange<Format>(q + i * head_dim, head_dim, scale * LOG2E, queries.data + i * padded);
#pragma omp for schedule(monotonic : dynamic)
    for (int64_t i = 0; i < pairs * spans; ++i) {
      const int64_t pair = i / spans, first = i % spans * SPAN, left = lengths[pair / cache.kv_heads] - first;
      if (left <= 0) continue;
      const int64_t offset = (pair * cache.slots + first) * head_dim;
      float* out = parts.data + i * part;
      Span<Format>{queries.data + pair * group * padded, (const Type*)cache.k + offset, (const Type*)cache.v + offset,
                   left < SPAN ? left : SPAN, head_dim, padded, group, scores.data + thread_index() * group * SPAN,
                   out, out + group * padded, out + group * padded + group}
          .run();
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < cache.batch * heads; ++i) {
      const int64_t pair = i / group, head = i % group;
      const int64_t used = (lengths[pair / cache.kv_heads] + SPAN - 1) / SPAN;
      const float* first = parts.data + pair * spans * part;
      float highest = -1e30f, total = 0;
      for (int64_t s = 0; s < used; ++s) {
        const float top = first[s * part + group * padded + head];
        if (top > highest) highest = top;
      }
      float merged[QWENVL_LARGEST_HEAD] = {};
      for (int64_t s = 0; s < used; ++s) {
        const float* span = first + s * part;
        const float weight = exp2(splat(span[group * padded + head] - highest))[0];
        total += weight * span[group * padded + group + head];
        for (int64_t d = 0; d < padded; d += W)
          store(merged + d, load(merged + d) + weight * load(span + head * padded + d));
      }
      for (int64_t d = 0; d < padded; d += GROUP) {
        vfloat a = load(merged + d) / total, b = load(merged + d + W) / total;
        Format::restore(a, b);
        store(merged + d, a), store(merged + d + W, b);
      }
      for (int64_t d = 0; d < head_dim; ++d) y[i * head_dim + d] = total > 0 ? merged[d] : 0.0f;
    }
  }
}

}  // namespace

void decode_attention(const float* q, const QwenvlKvCache* cache, const int32_t* lengths, int64_t heads, float scale,
                      float* out) {
  with_cache_format(cache->dtype, [&](auto format) { decode_as<decltype(format)>(q, *cache, lengths, heads, scale, out); });
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
