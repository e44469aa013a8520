// One query a row, or a few, against the KV cache. Work is split over rows, kv heads and spans of slots, whose partial softmaxes
// are merged at the end (Flash-Decoding, Dao et al. 2023). All heads that share a kv head are done together, so the
// cache is read once.
#include "numbers.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr int64_t SPAN = 128;  // slots of one task

// One kv head of one row: `group` queries against a span of its slots. Queries and `out` are [group][padded], arranged
// as the cache's format widens. Slot s of the span begins at number places[s] of k and v; after the last it is repeated up
// to a whole number of vectors.
template <class Format>
struct Span {
  typedef typename Format::Type Type;
  const float* queries;
  const Type *k, *v;
  const int64_t* places;
  int64_t slots, head_dim, padded, group;
  float *scores, *out, *highest, *total;  // scores: [group][SPAN]

  INLINE void widen(const Type* row, int64_t d, vfloat& a, vfloat& b) const {
    d + GROUP <= head_dim ? Format::widen(row + d, a, b) : widen_part<Format>(row + d, head_dim - d, a, b);
  }

  // Scores of H heads and W / H slots from `slot` on.
  template <int H>
  INLINE void score(int64_t head, int64_t slot) const {
    constexpr int S = W / H;
    vfloat acc[W] = {};
    const Type* rows[S];
    for (int s = 0; s < S; ++s) rows[s] = k + places[slot + s];
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
        widen(v + places[s], d + i * GROUP, a, b);
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
        for (int64_t i = 0; i < head_dim; i += 64 / (int64_t)sizeof(Type)) __builtin_prefetch(v + places[at] + i);
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

// A query: its row, its number among all, how many tokens of the row it sees, and how many spans the queries before it have.
struct Query {
  int32_t row, token, length;
  int64_t spans_before;
};

int64_t spans_of(int64_t length) { return (length + SPAN - 1) / SPAN; }

template <class Format>
struct Decode {
  typedef typename Format::Type Type;
  const QwenvlKvCache& cache;
  const QwenvlRows& rows;
  const Query* list;
  int64_t heads, group, padded;
  float *queries, *parts;  // [query][H][padded]; [span][Hkv], each group * (padded + 2): out, highest, total

  int64_t part() const { return group * (padded + 2); }

  // Where `slots` slots of a row begin, from slot `first` on.
  void locate(int64_t row, int64_t first, int64_t slots, int64_t head, int64_t* places) const {
    const int32_t* table = rows.block_tables + row * rows.blocks;
    const uint32_t block_size = cache.block_size;  // of 32 bits, which are divided faster
    for (int64_t s = 0; s < slots;) {
      const uint32_t slot = first + s, offset = slot % block_size;
      int64_t place = place_in(cache, table[slot / block_size], head, offset);
      const int64_t end = s + block_size - offset;
      for (; s < end && s < slots; ++s, place += cache.head_dim) places[s] = place;
    }
    for (int64_t s = slots; s % W; ++s) places[s] = places[slots - 1];
  }

  void attend(int64_t query, int64_t span, int64_t head, float* scores) const {
    const int64_t row = list[query].row, first = span * SPAN, left = list[query].length - first;
    const int64_t slots = left < SPAN ? left : SPAN;
    int64_t places[SPAN];
    locate(row, first, slots, head, places);
    float* out = parts + ((list[query].spans_before + span) * cache.kv_heads + head) * part();
    Span<Format>{queries + (query * heads + head * group) * padded, (const Type*)cache.k, (const Type*)cache.v,
                 places, slots, cache.head_dim, padded, group, scores, out, out + group * padded,
                 out + group * padded + group}
        .run();
  }

  void merge(int64_t query, int64_t head, float* y) const {
    const int64_t spans = spans_of(list[query].length), kv_head = head / group, at = head % group;
    const float* first = parts + (list[query].spans_before * cache.kv_heads + kv_head) * part();
    const int64_t apart = cache.kv_heads * part();
    float highest = -1e30f, total = 0;
    for (int64_t s = 0; s < spans; ++s) {
      const float top = first[s * apart + group * padded + at];
      if (top > highest) highest = top;
    }
    float merged[QWENVL_LARGEST_HEAD] = {};
    for (int64_t s = 0; s < spans; ++s) {
      const float* span = first + s * apart;
      const float weight = exp2(splat(span[group * padded + at] - highest))[0];
      total += weight * span[group * padded + group + at];
      for (int64_t d = 0; d < padded; d += W)
        store(merged + d, load(merged + d) + weight * load(span + at * padded + d));
    }
    for (int64_t d = 0; d < padded; d += GROUP) {
      vfloat a = load(merged + d) / total, b = load(merged + d + W) / total;
      Format::restore(a, b);
      store(merged + d, a), store(merged + d + W, b);
    }
    for (int64_t d = 0; d < cache.head_dim; ++d) y[d] = total > 0 ? merged[d] : 0.0f;
  }
};

template <class Format>
void decode_as(const float* q, const QwenvlKvCache& cache, const QwenvlRows& rows, const Query* list, int64_t count,
               const int32_t* owners, int64_t spans, int64_t heads, float scale, float* y) {
  const int64_t head_dim = cache.head_dim, group = heads / cache.kv_heads, padded = whole_groups(head_dim);
  Decode<Format> all{cache, rows, list, heads, group, padded, nullptr, nullptr};
  Scratch queries(count * heads * padded), parts(spans * cache.kv_heads * all.part());
  Scratch scores(qwenvl_threads() * group * SPAN);
  all.queries = queries.data, all.parts = parts.data;
#pragma omp parallel num_threads(qwenvl_threads())
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count * heads; ++i)
      arrange<Format>(q + (list[i / heads].token * heads + i % heads) * head_dim, head_dim, scale * LOG2E,
                      queries.data + i * padded);
#pragma omp for schedule(monotonic : dynamic)
    for (int64_t i = 0; i < spans * cache.kv_heads; ++i) {
      const int64_t span = i / cache.kv_heads, query = owners[span];
      all.attend(query, span - list[query].spans_before, i % cache.kv_heads,
                 scores.data + thread_index() * group * SPAN);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count * heads; ++i)
      all.merge(i / heads, i % heads, y + (list[i / heads].token * heads + i % heads) * head_dim);
  }
}

}  // namespace

// The queries of rows that have `most` at most, each by itself: row b's are cu_q[b] .. cu_q[b + 1], or b if that is null.
void decode(const float* q, const QwenvlKvCache& cache, const QwenvlRows& rows, const int32_t* cu_q, int64_t most,
            int64_t heads, float scale, float* out) {
  auto start = [&](int64_t b) { return cu_q ? cu_q[b] : (int32_t)b; };
  auto queries_of = [&](int64_t b) { return start(b + 1) - start(b) > most ? 0 : start(b + 1) - start(b); };
  int64_t count = 0, spans = 0;
  for (int64_t b = 0; b < rows.count; ++b) count += queries_of(b);
  if (!count) return;
  Scratch list(count * sizeof(Query) / sizeof(float));
  Query *const queries = (Query*)list.data, *next = queries;
  for (int64_t b = 0; b < rows.count; ++b)
    for (int32_t i = 0, later = queries_of(b); later-- > 0; ++i) {
      const int32_t length = rows.lengths[b] > later ? rows.lengths[b] - later : 0;
      *next++ = {(int32_t)b, start(b) + i, length, spans};
      spans += spans_of(length);
    }
  Scratch owned(spans);
  int32_t* owners = (int32_t*)owned.data;  // the query of each span
  for (int64_t i = 0, span = 0; i < count; ++i)
    for (int64_t n = spans_of(queries[i].length); n > 0; --n) owners[span++] = i;
  with_cache_format(cache.dtype, [&](auto format) {
    decode_as<decltype(format)>(q, cache, rows, queries, count, owners, spans, heads, scale, out);
  });
}

void decode_attention(const float* q, const QwenvlKvCache* cache, const QwenvlRows* rows, int64_t heads, float scale,
                      float* out) {
  decode(q, *cache, *rows, nullptr, 1, heads, scale, out);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
