// Attention of packed sequences, by blocks with a running softmax (Dao et al. 2022): scores exist for one block of keys
// at a time. Queries lie in the lanes of the vectors, so keys and values are read as they are and the softmax never
// crosses lanes:
//   scores [keys x queries] = K [keys x D] Q^T [D x queries],  out^T [D x queries] += V^T [D x keys] scores.
#include "microkernel.h"
#include "numbers.h"
#include "products_bfloat16.h"
#include "rotation.h"

namespace qwenvl {
namespace QWENVL_ISA {

void decode(const float* q, const QwenvlKvCache& cache, const QwenvlRows& rows, const int32_t* cu_q, int64_t most,
            int64_t heads, float scale, float* out);

namespace {

constexpr int64_t PANEL = MICRO_COLUMNS;  // queries side by side
constexpr int64_t QUERIES = 288;          // of one task: its panels share each block of keys while that is in cache
constexpr int64_t PANELS = QUERIES / PANEL;
constexpr int64_t KEYS = 120;             // in a block

// Where the keys and values of segments are: packed tokens, or rows in a cache. Distances are in numbers.
struct Keys {
  const void *k, *v;
  int64_t stride, head_stride;
  const int32_t* cu;  // where packed segments begin, or null
  const QwenvlKvCache* cache;
  const QwenvlRows* rows;
  void (*load)(const void* x, int64_t first, int64_t stride, int64_t rows, int64_t size, int64_t to_stride, float* to);

  int64_t length(int64_t segment) const { return cu ? cu[segment + 1] - cu[segment] : rows->lengths[segment]; }
  // Where key i of a segment begins; it and those after it up to `run` follow each other.
  int64_t place(int64_t segment, int64_t head, int64_t i, int64_t& run) const {
    run = cu ? INT64_MAX : cache->block_size - i % cache->block_size;
    if (cu) return (cu[segment] + i) * stride + head * head_stride;
    const int32_t block = rows->block_tables[segment * rows->blocks + i / cache->block_size];
    return place_in(*cache, block, head, i % cache->block_size);
  }
  // `count` rows of `size` numbers of k or v, from key `first` on, to float32.
  void copy(const void* x, int64_t segment, int64_t head, int64_t first, int64_t count, int64_t size,
            int64_t to_stride, float* to) const {
    for (int64_t i = 0, run; i < count; i += run) {
      const int64_t from = place(segment, head, first + i, run);
      run = least(run, count - i);
      load(x, from, stride, run, size, to_stride, to + i * to_stride);
    }
  }
};

// Queries and keys that are still to be turned: the tables of packed tokens, null if they are turned already.
struct Turns {
  const float *cos, *sin;
};

struct Problem {
  const float* q;
  int64_t q_stride;
  const int32_t* cu_q;
  Keys keys;
  Turns turns;
  int64_t heads, kv_heads, head_dim;
  bool causal;
  float scale;
  float* out;
  int64_t fewest;  // queries of a segment; those with fewer are left out

  // A block of keys and values is copied with rows an odd number of cache lines apart: read down a column as they lie
  // in memory, they would compete for a few places in the cache and touch a page each.
  int64_t row() const { return whole_groups(head_dim) | 16; }
};

// Rows of `size` numbers, from number `first` of x on, to float32.
template <class Format>
void load_rows(const void* x, int64_t first, int64_t stride, int64_t rows, int64_t size, int64_t to_stride, float* to) {
  const auto* from = (const typename Format::Type*)x + first;
  for (int64_t r = 0; r < rows; ++r, from += stride, to += to_stride)
    for (int64_t i = 0; i < size; i += GROUP) {
      vfloat a, b;
      i + GROUP <= size ? Format::widen(from + i, a, b) : widen_part<Format>(from + i, size - i, a, b);
      Format::restore(a, b);
      store(to + i, a), store(to + i + W, b);
    }
}

// How the two products are computed: in float32.
struct InFloat32 {
  typedef Numbers Lanes;
  static int64_t lanes(int64_t size) { return size; }
  static void round_rows(const Problem&, int64_t, float*) {}
  static void pair_rows(float*, int64_t) {}
  static const float* pair_values(const Problem&, const float* values, int64_t, float*) { return values; }
};

#ifdef QWENVL_BFLOAT16_PRODUCTS
// Or in bfloat16: what is not in it already, weights among it, is rounded. Sums are float32.
struct InBfloat16 {
  typedef Pairs Lanes;
  static int64_t lanes(int64_t size) { return (size + 1) / 2; }
  static void pair_rows(float* panel, int64_t rows) { qwenvl::QWENVL_ISA::pair_rows(panel, rows); }
  static const float* pair_values(const Problem& p, const float* values, int64_t keys, float* pairs) {
    const __m256i none{};
    for (int64_t i = 0; i < keys; i += 2)
      for (int64_t d = 0; d < p.head_dim; d += W) {
        const uint16_t *row = (const uint16_t*)(values + i * p.row()) + d, *next = row + 2 * p.row();
        const vint both = join_pairs(load_as<__m256i>(row), i + 1 < keys ? load_as<__m256i>(next) : none);
        store(pairs + i / 2 * p.row() + d, (vfloat)both);
      }
    return pairs;
  }
  // Rows of float32 in their places, as copy_rows gives them.
  static void round_rows(const Problem& p, int64_t rows, float* x) {
    for (int64_t r = 0; r < rows; ++r, x += p.row()) round_to_bfloat16(x, p.head_dim, (uint16_t*)x);
  }
  // As load_rows, but to bfloat16.
  static void load_rounded(const void* x, int64_t first, int64_t stride, int64_t rows, int64_t size, int64_t to_stride,
                           float* to) {
    const float* from = (const float*)x + first;
    for (int64_t r = 0; r < rows; ++r, from += stride, to += to_stride) round_to_bfloat16(from, size, (uint16_t*)to);
  }
  static void copy_rows(const void* x, int64_t first, int64_t stride, int64_t rows, int64_t size, int64_t to_stride,
                        float* to) {
    for (int64_t r = 0; r < rows; ++r, to += to_stride) {
      memset(to + size / GROUP * W, 0, W * sizeof(*to));  // up to a whole group
      memcpy(to, (const uint16_t*)x + first + r * stride, size * sizeof(uint16_t));
    }
  }
};
#endif

struct Task {
  int32_t segment, first;  // a segment and the first of its queries to take
};

// One panel's queries and what is accumulated for them.
struct Panel {
  float *queries, *out;  // [D][PANEL] each
  float highest[PANEL], total[PANEL];
};

// Scores in base 2 become weights; what was accumulated before shrinks to the new maximum.
template <int N>
INLINE void softmax(float* scores, int64_t keys, int64_t head_dim, Panel& panel) {
  vfloat highest[N], total[N], shrink[N];
  for (int j = 0; j < N; ++j) highest[j] = load(panel.highest + j * W);
  for (int64_t i = 0; i < keys; ++i)
    for (int j = 0; j < N; ++j) highest[j] = max(load(scores + i * PANEL + j * W), highest[j]);
  for (int j = 0; j < N; ++j) {
    shrink[j] = exp2(load(panel.highest + j * W) - highest[j]);
    total[j] = load(panel.total + j * W) * shrink[j];
    store(panel.highest + j * W, highest[j]);
  }
  for (int64_t i = 0; i < keys; ++i)
    for (int j = 0; j < N; ++j) {
      const vfloat weight = exp2(load(scores + i * PANEL + j * W) - highest[j]);
      total[j] += weight;
      store(scores + i * PANEL + j * W, weight);
    }
  for (int j = 0; j < N; ++j) store(panel.total + j * W, total[j]);
  for (int64_t d = 0; d < head_dim; ++d)
    for (int j = 0; j < N; ++j)
      store(panel.out + d * PANEL + j * W, load(panel.out + d * PANEL + j * W) * shrink[j]);
}

// Key i of the block is hidden from queries below `first_seeing + i`.
INLINE void mask(float* scores, int64_t keys, int64_t first_seeing) {
  for (int64_t i = first_seeing < 0 ? -first_seeing : 0; i < keys; ++i)
    for (int64_t j = 0; j < PANEL && j < first_seeing + i; ++j) scores[i * PANEL + j] = -__builtin_inff();
}

template <class Products, int N>
void attend_block(const Problem& p, const float* k, const float* v, int64_t keys, bool masked, int64_t first_seeing,
                  float* scores, Panel& panel) {
  for (int64_t i = 0; i < keys; i += MICRO_ROWS)
    micro<N, false, typename Products::Lanes>(least(MICRO_ROWS, keys - i), Products::lanes(p.head_dim), k + i * p.row(),
                                              p.row(), panel.queries, scores + i * PANEL, false);
  if (masked) mask(scores, keys, first_seeing);
  softmax<N>(scores, keys, p.head_dim, panel);
  Products::pair_rows(scores, keys);
  for (int64_t d = 0; d < p.head_dim; d += MICRO_ROWS)
    micro<N, true, typename Products::Lanes>(least(MICRO_ROWS, p.head_dim - d), Products::lanes(keys), v + d, p.row(),
                                             scores, panel.out + d * PANEL, true);
}

int64_t work_size(const Problem& p) {  // floats a thread needs
  return 2 * QUERIES * p.head_dim + KEYS * (3 * p.row() + PANEL);
}

// Rows of a head, the first of which belongs to packed token `token`, turned and p.row() apart.
void turn(const Problem& p, const float* x, int64_t stride, int64_t token, int64_t rows, float* to) {
  const int64_t at = token * (p.head_dim / 2);
  rotate_rows(x, stride, p.turns.cos + at, p.turns.sin + at, rows, p.head_dim, to, p.row());
}

template <class Products>
void attend(const Problem& p, Task task, int64_t head, float* work) {
  const int64_t stride = p.heads * p.head_dim;
  const int64_t start_q = p.cu_q[task.segment], length_q = p.cu_q[task.segment + 1] - start_q;
  const int64_t kv_head = head / (p.heads / p.kv_heads), length_k = p.keys.length(task.segment);
  const int64_t count = least(QUERIES, length_q - task.first), panels = (count + PANEL - 1) / PANEL;
  const float* queries = p.q + (start_q + task.first) * p.q_stride + head * p.head_dim;
  const int64_t shift = task.first + length_k - length_q;  // query i of the task sees keys up to shift + i if causal
  const int64_t end = p.causal ? least(length_k, shift + count) : length_k;

  float *scores = work, *keys_block = scores + KEYS * PANEL, *values = keys_block + KEYS * p.row();
  float *pairs = values + KEYS * p.row(), *blocks = pairs + KEYS * p.row();
  Panel state[PANELS];
  for (int64_t i = 0; i < panels; ++i) {
    state[i].queries = blocks + 2 * i * PANEL * p.head_dim;
    state[i].out = state[i].queries + PANEL * p.head_dim;
    memset(state[i].out, 0, PANEL * p.head_dim * sizeof(float));
    for (int64_t j = 0; j < PANEL; ++j) state[i].highest[j] = -1e30f, state[i].total[j] = 0;
    const int64_t rows = least(PANEL, count - i * PANEL), row = start_q + task.first + i * PANEL;
    const float* from = queries + i * PANEL * p.q_stride;
    if (p.turns.cos) turn(p, from, p.q_stride, row, rows, keys_block);
    load_panel(p.turns.cos ? keys_block : from, p.turns.cos ? p.row() : p.q_stride, rows, p.head_dim, p.scale * LOG2E,
               state[i].queries);
    Products::pair_rows(state[i].queries, p.head_dim);
  }
  for (int64_t first = 0; first < end; first += KEYS) {
    const int64_t keys = least(KEYS, end - first);
    if (int64_t run; p.turns.cos) {
      turn(p, (const float*)p.keys.k + p.keys.place(task.segment, kv_head, first, run), p.keys.stride,
           p.keys.cu[task.segment] + first, keys, keys_block);
      Products::round_rows(p, keys, keys_block);
    } else
      p.keys.copy(p.keys.k, task.segment, kv_head, first, keys, p.head_dim, p.row(), keys_block);
    p.keys.copy(p.keys.v, task.segment, kv_head, first, keys, p.head_dim, p.row(), values);
    const float* const paired = Products::pair_values(p, values, keys, pairs);
    for (int64_t i = 0; i < panels; ++i) {
      const int64_t first_seeing = first - shift - i * PANEL, rows = least(PANEL, count - i * PANEL);
      if (p.causal && first_seeing >= rows) continue;
      const bool masked = p.causal && first_seeing + keys > 1;
      auto step = rows <= W ? attend_block<Products, 1> : attend_block<Products, 2>;
      step(p, keys_block, paired, keys, masked, first_seeing, scores, state[i]);
    }
  }
  for (int64_t i = 0; i < panels; ++i)
    store_panel(least(PANEL, count - i * PANEL), p.head_dim, stride,
                p.out + (start_q + task.first + i * PANEL) * stride + head * p.head_dim,
                [&](int64_t d, int64_t query) {
                  const vfloat total = load(state[i].total + query), sum = load(state[i].out + d * PANEL + query);
                  return total > 0.0f ? sum / total : vfloat{};  // a query that saw no key
                });
}

template <class Products = InFloat32>
void solve(const Problem& p, int64_t segments) {
  auto tasks_of = [&](int64_t s) {
    const int64_t queries = p.cu_q[s + 1] - p.cu_q[s];
    return queries < p.fewest ? 0 : (queries + QUERIES - 1) / QUERIES;
  };
  int64_t count = 0;
  for (int64_t s = 0; s < segments; ++s) count += tasks_of(s);
  if (!count) return;
  Scratch list(2 * count), work(qwenvl_threads() * work_size(p));
  Task* tasks = (Task*)list.data;
  for (int64_t s = 0, i = count; s < segments; ++s)  // last ones first: causal ones are the longest
    for (int64_t n = 0; n < tasks_of(s); ++n) tasks[--i] = {(int32_t)s, (int32_t)(n * QUERIES)};
#pragma omp parallel for schedule(monotonic : dynamic) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < count * p.heads; ++i)
    attend<Products>(p, tasks[i / p.heads], i % p.heads, work.data + thread_index() * work_size(p));
}

// Against a cache of this format.
template <class Format>
void solve_as(Format, Problem p, int64_t segments) {
  p.keys.load = load_rows<Format>;
  solve(p, segments);
}
#ifdef QWENVL_BFLOAT16_PRODUCTS
void solve_as(Bfloat16, Problem p, int64_t segments) {
  p.keys.load = InBfloat16::copy_rows;
  solve<InBfloat16>(p, segments);
}
#endif

}  // namespace

void varlen_attention(const float* q, const float* k, const float* v, const int32_t* cu_q, const int32_t* cu_k,
                      int64_t segments, int64_t heads, int64_t kv_heads, int64_t head_dim, int causal, float scale,
                      float* out) {
  const Keys keys{k, v, kv_heads * head_dim, head_dim, cu_k, nullptr, nullptr, load_rows<Float32>};
  solve({q, heads * head_dim, cu_q, keys, {}, heads, kv_heads, head_dim, causal != 0, scale, out, 1}, segments);
}

void qkv_attention(const float* qkv, const float* cos, const float* sin, const int32_t* cu, int64_t segments,
                   int64_t heads, int64_t kv_heads, int64_t head_dim, int causal, float scale, int narrow,
                   float* out) {
  const int64_t width = (heads + 2 * kv_heads) * head_dim;
  const float *k = qkv + heads * head_dim, *v = k + kv_heads * head_dim;
  const Keys keys{k, v, width, head_dim, cu, nullptr, nullptr, load_rows<Float32>};
  Problem p{qkv, width, cu, keys, {cos, sin}, heads, kv_heads, head_dim, causal != 0, scale, out, 1};
#ifdef QWENVL_BFLOAT16_PRODUCTS
  if (narrow) {
    p.keys.load = InBfloat16::load_rounded;
    return solve<InBfloat16>(p, segments);
  }
#endif
  solve(p, segments);
}

void cached_attention(const float* q, const QwenvlKvCache* cache, const QwenvlRows* rows, const int32_t* cu_q,
                      int64_t heads, float scale, float* out) {
  const int64_t kv_heads = cache->kv_heads, head_dim = cache->head_dim;
  const int64_t few = heads / kv_heads;  // each reads the cache once for all heads of a group, `solve` for each head
  decode(q, *cache, *rows, cu_q, few, heads, scale, out);
  const Keys keys{cache->k, cache->v, head_dim, 0, nullptr, cache, rows, nullptr};
  const Problem problem{q, heads * head_dim, cu_q, keys, {}, heads, kv_heads, head_dim, true, scale, out, few + 1};
  with_cache_format(cache->dtype, [&](auto format) { solve_as(format, problem, rows->count); });
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
